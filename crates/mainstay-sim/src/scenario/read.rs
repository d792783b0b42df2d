//! From the text of a scenario file to a scenario: every name resolved, every time in order, all
//! that is wrong found in one pass.

use super::cast::{self, Cast};
use super::fault::fault;
use super::part::{Desk, Part};
use super::problem::{Problem, hint};
use super::tree::{self, Node, Value};
use super::{
    Baseline, Bench, Clients, Expect, Fault, FaultKind, Load, Scenario, Setting, Workload,
};
use crate::measure::METRICS;
use std::collections::BTreeMap;
use std::time::Duration;

/// A run goes on so long after its last fault, whatever the file or a sweep says: what comes
/// later than six minutes is not recovery.
const AFTER: Duration = Duration::from_secs(360);
/// Faults, or expectations, of one story.
const MANY: usize = 256;
/// Points of one sweep: more take days.
const POINTS_MAX: usize = 100_000;

/// A scenario file, taken apart.
#[derive(Clone, Debug)]
pub struct File {
    name: String,
    text: String,
    root: Node,
}

/// Whom it is played with.
#[derive(Clone, Copy, Debug)]
pub enum With<'a> {
    /// The bench that it names.
    Own,
    /// Another, whose sites play its sites in order.
    Other(&'a Bench),
}

/// Reads a scenario.
///
/// # Errors
/// Everything that is wrong, in the order of the text; never empty.
pub fn scenario(name: &str, text: &str) -> Result<Scenario, Vec<Problem>> {
    File::parse(name, text)?.scenario(With::Own)
}

/// Reads whatever bytes: what a fuzzer calls. It may refuse them, and nothing else.
pub fn any(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(file) = File::parse("any.toml", &text) else { return };
    let Ok(scenario) = file.scenario(With::Own) else { return };
    let points = scenario.sweep.values().map(Vec::len).product::<usize>();
    // What a person may ask for in a sweep takes longer than a fuzzer should wait.
    if points <= 64 {
        let _ = file.points();
    }
}

impl File {
    /// Takes `text` apart; `name` is the file's name in messages.
    ///
    /// # Errors
    /// What makes it no TOML.
    pub fn parse(name: &str, text: &str) -> Result<File, Vec<Problem>> {
        let root = tree::parse(name, text).map_err(|problem| vec![problem])?;
        Ok(File { name: name.into(), text: text.into(), root })
    }

    /// The scenario as it is written.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the text; never empty.
    pub fn scenario(&self, with: With<'_>) -> Result<Scenario, Vec<Problem>> {
        let desk = self.desk();
        let read = read(&desk, &self.root, (with, true));
        let mut problems = desk.problems.into_inner();
        if let Some(scenario) = &read {
            // Each value alone, so that a wrong one is told before hours of runs.
            for (path, values) in &scenario.sweep {
                for value in values {
                    problems.extend(self.with(&[(path, value)]).err().unwrap_or_default());
                }
            }
        }
        told(read, problems)
    }

    /// The scenario's sweep: every combination of its values, in order. What the file expects of
    /// its own script does not hold for another one: points keep only the rules that always hold.
    ///
    /// # Errors
    /// What is wrong with the file, or with a combination.
    pub fn points(&self) -> Result<Vec<Scenario>, Vec<Problem>> {
        let base = self.scenario(With::Own)?;
        let total = base.sweep.values().map(Vec::len).product::<usize>();
        let mut points = Vec::new();
        for at in 0..if base.sweep.is_empty() { 0 } else { total } {
            let mut left = at;
            let mut set = Vec::new();
            // The last key turns fastest, as in a table.
            for (path, values) in base.sweep.iter().rev() {
                set.push((path.as_str(), &values[left % values.len()]));
                left /= values.len();
            }
            set.reverse();
            let mut point = self.with(&set)?;
            let words: Vec<String> =
                set.iter().map(|(path, value)| format!("{path}={value}")).collect();
            point.id = format!("{}[{}]", base.id, words.join(" "));
            points.push(point);
        }
        Ok(points)
    }

    /// The scenario with values set.
    fn with(&self, set: &[(&str, &Setting)]) -> Result<Scenario, Vec<Problem>> {
        let desk = self.desk();
        let mut root = self.root.clone();
        for (path, value) in set {
            let at = self.place_of_sweep(path);
            let value = match value {
                Setting::Number(number) => Value::Number(*number, number.fract() == 0.0),
                Setting::Text(text) => Value::Text(text.clone()),
            };
            if let Err(what) = tree::set(&mut root, path, Node { at, value }) {
                desk.wrong(at, &format!("sweep.\"{path}\""), what);
            }
        }
        let read = read(&desk, &root, (With::Own, false));
        told(read, desk.problems.into_inner()).map(|mut scenario| {
            scenario.expects.clear();
            scenario.sweep.clear();
            scenario
        })
    }

    fn place_of_sweep(&self, path: &str) -> usize {
        let Value::Table(root) = &self.root.value else { return 0 };
        let Some((_, at, sweep)) = root.iter().find(|(key, ..)| key == "sweep") else { return 0 };
        let Value::Table(entries) = &sweep.value else { return *at };
        entries.iter().find(|(key, ..)| key == path).map_or(*at, |(_, at, _)| *at)
    }

    fn desk(&self) -> Desk<'_> {
        Desk { name: &self.name, text: &self.text, problems: Default::default() }
    }
}

fn told(read: Option<Scenario>, mut problems: Vec<Problem>) -> Result<Scenario, Vec<Problem>> {
    problems.sort_by_key(|problem| problem.offset);
    problems.dedup();
    match read {
        Some(scenario) if problems.is_empty() => Ok(scenario),
        Some(_) | None => Err(problems),
    }
}

/// Reads everything. `strict`: times must fit the written duration; else the run is prolonged.
fn read(desk: &Desk<'_>, root: &Node, (with, strict): (With<'_>, bool)) -> Option<Scenario> {
    let mut file = Part::of(desk, "", root)?;
    file.missing("id", "id = \"S01\"");
    file.missing("title", "title = \"A site is lost\"");
    let id = file.text("id").unwrap_or_default();
    if file.has("id") && !is_plain(&id) {
        file.wrong("id", "is used in file names; letters, digits, - and _ only");
    }
    let title = file.text("title");
    let after = file.text("after").unwrap_or_default();
    let own = cast::bench(&mut file);
    let (bench, mut cast) = match with {
        With::Own => own.as_ref().map(|bench| (bench.clone(), Cast::of(bench)))?,
        With::Other(bench) => (bench.clone(), Cast::playing(bench)),
    };
    let seeds = file.whole("seeds", 1, 10_000).unwrap_or(20);
    let baseline = [
        ("absent", Baseline::Absent),
        ("reported", Baseline::Reported),
        ("must-fail", Baseline::MustFail),
    ];
    let baseline = file.word("baseline", &baseline).unwrap_or_default();
    let written = file.time("duration");
    let load = load(&mut file);
    let clients = clients(&mut file);
    let tables = file.parts("fault", MANY);
    cast.gateways = tables.iter().filter_map(scaled).fold(cast.gateways, u16::max);
    let faults: Vec<Fault> = tables.into_iter().filter_map(|part| fault(part, &cast)).collect();
    let expects = file
        .parts("expect", MANY)
        .into_iter()
        .filter_map(|part| expect(part, &cast))
        .collect::<Vec<_>>();
    let sweep = sweep(&mut file);
    let duration = duration(&file, written, &faults);
    if strict {
        times(desk, (&faults, &expects), (written, duration));
    }
    file.finish();
    let mut scenario = Scenario {
        id,
        title: title?,
        after,
        bench,
        duration,
        seeds,
        baseline,
        load,
        clients,
        faults,
        expects,
        sweep,
    };
    make_room(&mut scenario);
    Some(scenario)
}

fn is_plain(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !id.is_empty() && id.len() <= 64 && id.chars().all(plain)
}

/// Gateways that a fault brings in.
fn scaled(part: &Part<'_>) -> Option<u16> {
    let value = |key| part.entries().iter().find(|(name, ..)| name == key).map(|e| &e.2.value);
    match (value("kind"), value("to")) {
        (Some(Value::Text(kind)), Some(Value::Number(to, true))) if kind == "scale" => {
            (1.0..=f64::from(cast::GATEWAYS_MAX)).contains(to).then_some(*to as u16)
        }
        _ => None,
    }
}

/// Trips from gateways that come later: as if they had been there.
fn make_room(scenario: &mut Scenario) {
    let to = |fault: &Fault| match fault.kind {
        FaultKind::Scale { to, .. } => Some(to),
        _ => None,
    };
    let most = scenario.faults.iter().filter_map(to).max().unwrap_or(0);
    let rows = &mut scenario.bench.round_trip;
    let had = rows.len();
    while rows.len() < usize::from(most) && had > 0 {
        rows.push(rows[rows.len() % had].clone());
    }
}

fn load(file: &mut Part<'_>) -> Load {
    let mut load = Load { level: 0.65, workload: Workload::Alike, tenants: 1000, turns: 10 };
    let Some(mut part) = file.part("load") else { return load };
    load.level = part.number("level", 0.0, 100.0).unwrap_or(load.level);
    load.tenants = part.whole("tenants", 1, 1_000_000).unwrap_or(load.tenants);
    load.turns = part.whole("turns", 1, 1000).unwrap_or(load.turns);
    match part.text("workload").as_deref() {
        None | Some("alike") => {}
        Some("trace") => load.workload = Workload::Trace(String::from("conversation")),
        Some(name) => load.workload = Workload::Trace(name.to_string()),
    }
    part.finish();
    load
}

fn clients(file: &mut Part<'_>) -> Clients {
    let mut clients = Clients {
        patience: Duration::from_secs(5),
        retries: 2,
        pause: Duration::from_millis(500),
        retry_after_max: Duration::from_secs(60),
    };
    let Some(mut part) = file.part("clients") else { return clients };
    clients.patience = part.time("patience").unwrap_or(clients.patience);
    clients.retries = part.whole("retries", 0, 100).unwrap_or(clients.retries);
    clients.pause = part.time("pause").unwrap_or(clients.pause);
    clients.retry_after_max = part.time("retry_after_max").unwrap_or(clients.retry_after_max);
    part.finish();
    clients
}

fn expect(mut part: Part<'_>, cast: &Cast) -> Option<Expect> {
    let line = part.line();
    part.missing("metric", "metric = \"good_ratio\" or another");
    let metric = part.text("metric");
    let tiers = cast.tiers(&mut part, "tier").unwrap_or_default();
    let sites = match cast.sites(&mut part, "site") {
        Some(super::Which::These(sites)) => sites,
        Some(super::Which::All) | None => Vec::new(),
    };
    let from = part.time("from").unwrap_or_default();
    let until = part.time("until");
    let bound = super::part::NUMBER_MAX;
    let min = part.number("min", -bound, bound);
    let max = part.number("max", -bound, bound);
    if !part.has("min") && !part.has("max") {
        part.wrong("", "asks for nothing; add min or max");
    }
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        part.wrong("min", "is above max");
    }
    if until.is_some_and(|until| until <= from) {
        part.wrong("until", "is not after from");
    }
    let metric = metric?;
    let Some(known) = METRICS.iter().find(|known| known.name == metric) else {
        let names: Vec<&str> = METRICS.iter().map(|known| known.name).collect();
        part.wrong("metric", format!("no metric `{metric}`; {}", hint(&metric, &names)));
        return None;
    };
    for (key, is_of) in [("tier", known.is_of_tiers()), ("site", known.is_of_sites())] {
        if part.has(key) && !is_of {
            part.wrong(key, format!("{metric} is not measured by {key}; leave it out"));
        }
    }
    part.finish();
    Some(Expect { metric, tiers, sites, from, until, min, max, line })
}

fn sweep(file: &mut Part<'_>) -> BTreeMap<String, Vec<Setting>> {
    let mut sweep = BTreeMap::new();
    let Some(part) = file.part("sweep") else { return sweep };
    for (path, at, node) in part.entries() {
        let key = format!("sweep.\"{path}\"");
        let values = match &node.value {
            Value::List(values) if !values.is_empty() => values,
            _ => {
                part.desk.wrong(*at, &key, "needs a list of values, such as [1.0, 2.0]");
                continue;
            }
        };
        let setting = |node: &Node| match &node.value {
            Value::Number(number, _) => Some(Setting::Number(*number)),
            Value::Text(text) => Some(Setting::Text(text.clone())),
            _ => None,
        };
        let settings: Vec<Setting> = values.iter().filter_map(setting).collect();
        if settings.len() < values.len() {
            part.desk.wrong(*at, &key, "takes numbers and texts only");
        }
        sweep.insert(path.clone(), settings);
    }
    let points = sweep.values().try_fold(1usize, |all, values| all.checked_mul(values.len()));
    if points.is_none_or(|points| points > POINTS_MAX) {
        part.wrong("", format!("has more than {POINTS_MAX} points; take values away"));
        sweep.clear();
    }
    sweep
}

/// How long it is played: as written, but never less than six minutes after the last fault.
fn duration(file: &Part<'_>, written: Option<Duration>, faults: &[Fault]) -> Duration {
    if written == Some(Duration::ZERO) {
        file.wrong("duration", "is no time at all");
    }
    let last = faults.iter().map(|fault| fault.until.unwrap_or(fault.at)).max();
    let least = last.unwrap_or(Duration::from_secs(60)) + AFTER;
    written.unwrap_or(least).max(least)
}

/// Nothing begins after the end that was written, and nothing is expected after the end.
fn times(
    desk: &Desk<'_>,
    (faults, expects): (&[Fault], &[Expect]),
    (written, duration): (Option<Duration>, Duration),
) {
    let offset = |line: u32| {
        let lines = desk.text.split_inclusive('\n').take(line.saturating_sub(1) as usize);
        lines.map(str::len).sum::<usize>()
    };
    for fault in faults {
        if written.is_some_and(|written| fault.at >= written) {
            desk.wrong(offset(fault.line), "fault.at", "is after the end; raise duration");
        }
    }
    for expect in expects {
        let seconds = duration.as_secs();
        if expect.from >= duration || expect.until.is_some_and(|until| until > duration) {
            let what = format!("asks for a time after the end, {seconds} s");
            desk.wrong(offset(expect.line), "expect", what);
        }
    }
}
