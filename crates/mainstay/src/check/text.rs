//! What was found, for people and for machines.

use super::Report;
use super::fate::plain;
use super::finding::{Finding, Severity, listed};
use super::forecast::{Cell, SERVED};
use super::probe::Outcome;
use super::survival::{Group, Left};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::IsTerminal;

/// Text is as wide as a narrow terminal.
const WIDE: usize = 80;
/// Longest names in the first two columns of the table.
const NAME: usize = 20;
const BY: usize = 24;
/// More tiers than this do not fit beside them.
const TIERS: usize = 3;

/// Whether to write in colour.
#[derive(Clone, Copy, Debug)]
pub struct Paint(pub bool);

impl Paint {
    /// In colour on a terminal, unless `NO_COLOR` says no (no-color.org).
    pub fn of_stdout() -> Paint {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Paint(std::io::stdout().is_terminal() && !set("NO_COLOR") && !dumb)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    fn of(self, severity: Severity, text: &str) -> String {
        match severity {
            Severity::Error => self.with("1;31", text),
            Severity::Warning => self.with("33", text),
            Severity::Note => self.with("36", text),
        }
    }
}

/// The whole text.
pub fn text(report: &Report<'_, '_>, paint: Paint) -> String {
    let findings = &report.audit.findings;
    let mut text = head(report, paint);
    let (errors, rest): (Vec<&Finding>, Vec<&Finding>) =
        findings.iter().partition(|each| each.severity == Severity::Error);
    errors.iter().for_each(|finding| told(finding, paint, &mut text));
    if !errors.is_empty() {
        text.push('\n');
    }
    table(report, paint, &mut text);
    asked(report, paint, &mut text);
    if !rest.is_empty() {
        text.push('\n');
    }
    rest.iter().for_each(|finding| told(finding, paint, &mut text));
    let _ = writeln!(text, "\n{}", sum(findings));
    text
}

/// What was looked at, and the answer.
fn head(report: &Report<'_, '_>, paint: Paint) -> String {
    let scene = report.scene;
    let sites = scene.remote().len();
    let models: usize = report.audit.groups.iter().map(|group| group.models.len()).sum();
    let mut text = format!(
        "{}: {sites} {}, {models} {}\n",
        report.name,
        plural(sites, "site"),
        plural(models, "model")
    );
    if !scene.absent.is_empty() {
        let words = format!("not here, and presumed: {}", scene.absent.join(", "));
        let _ = writeln!(text, "{}", wrapped(&words, ""));
    }
    let is_short = report.audit.findings.iter().any(|each| ["MS201", "MS204"].contains(&each.id));
    let (certain, perhaps) = (down(report, false), down(report, true));
    let verdict = match (certain.as_slice(), perhaps.as_slice()) {
        ([], []) if report.holds() && is_short => {
            paint.with("1;33", "No single loss takes a model down, but at peak not all are served.")
        }
        ([], []) if report.holds() => paint.with("1;32", "No single loss takes a model down."),
        ([], []) => paint.with("1;31", "There is no provider that could answer."),
        ([], perhaps) => {
            let names: Vec<&str> = perhaps.iter().map(|(name, _)| name.as_str()).collect();
            let verb = if names.len() == 1 { "takes" } else { "each take" };
            let words = format!("Assumed, not certain: {} {verb} a model down.", listed(&names));
            paint.with("1;33", &wrapped(&words, ""))
        }
        ([(name, models)], _) => {
            let words = format!("The next outage of {name} takes {models} down.");
            paint.with("1;31", &wrapped(&words, ""))
        }
        (certain, _) => {
            let names: Vec<&str> = certain.iter().map(|(name, _)| name.as_str()).collect();
            let words = format!("Each of these alone takes a model down: {}.", listed(&names));
            paint.with("1;31", &wrapped(&words, ""))
        }
    };
    let _ = writeln!(text, "{verdict}\n");
    text
}

/// Losses that take a model down, and which: certainly, or if what is assumed holds.
fn down(report: &Report<'_, '_>, assumed: bool) -> Vec<(String, String)> {
    let kinds: &[&str] = match assumed {
        true => &["MS101", "MS102", "MS103"],
        false => &["MS101", "MS102", "MS103", "MS107", "MS201"],
    };
    let wanted = |finding: &&Finding| {
        let is_error = finding.severity == Severity::Error;
        kinds.contains(&finding.id) && is_error != assumed
    };
    let mut names: Vec<(String, String)> = Vec::new();
    for finding in report.audit.findings.iter().filter(wanted) {
        let name = match finding.loss.as_deref().unwrap_or_default() {
            "gateway" => String::from("the gateway"),
            name => plain(name),
        };
        let models = match finding.models.is_empty() {
            true => String::from("every model"),
            false => listed(&finding.models),
        };
        if !names.iter().any(|(other, _)| *other == name) {
            names.push((name, models));
        }
    }
    names
}

/// One finding. Of a note what happens is in the guide.
fn told(finding: &Finding, paint: Paint, text: &mut String) {
    let Finding { severity, id, title, happens, mend, place, .. } = finding;
    let head = format!("{:<7} {id}  ", severity.word());
    let rest = wrapped(&format!("{head}{title}"), "  ");
    let rest = rest.strip_prefix(&head).unwrap_or(&rest).to_string();
    let _ = writeln!(text, "{}{}", paint.of(*severity, &head), paint.with("1", &rest));
    if *severity != Severity::Note && !happens.is_empty() {
        let _ = writeln!(text, "{}", wrapped(&format!("  {happens}"), "  "));
    }
    let key = if place.key.is_empty() { String::new() } else { format!(" {}", place.key) };
    let words = format!("  {}{key}: {mend}", place.line);
    let words = words.trim_end_matches([' ', ':']);
    let _ = writeln!(text, "{}", paint.with("2", &wrapped(words, "    ")));
}

fn table(report: &Report<'_, '_>, paint: Paint, text: &mut String) {
    let tiers: Vec<(usize, &str)> = match &report.forecast {
        Some(forecast) if forecast.runs > 0 => {
            let names = forecast.tiers.iter().map(|(_, name)| name.as_str());
            names.enumerate().take(TIERS).collect()
        }
        Some(_) | None => Vec::new(),
    };
    let mut stars = false;
    for (at, group) in report.audit.groups.iter().enumerate() {
        let names = report.scene.names(&group.models);
        let mut head = format!("  {:<NAME$} {:<BY$}", "without", "answered by");
        for (_, name) in &tiers {
            let _ = write!(head, " {:>width$}", name, width = tier_width(name));
        }
        if !tiers.is_empty() {
            head.push_str("  recovery");
        }
        let _ = writeln!(text, "{}", paint.with("1", &listed(&names)));
        let _ = writeln!(text, "{}", paint.with("2", head.trim_end()));
        for (which, loss) in report.audit.losses.iter().enumerate() {
            let Some(left) = group.left[which] else { continue };
            let cell = report.forecast.as_ref().and_then(|all| all.cells[at][which].as_ref());
            let star = if loss.assumed { " *" } else { "" };
            stars |= loss.assumed;
            let name = format!("{}{star}", cut(&plain(&loss.name), NAME - star.len()));
            let mut line = format!("  {name:<NAME$} {:<BY$}", cut(&by(report, left), BY));
            if !tiers.is_empty() {
                line.push_str(&numbers(cell, &tiers));
            }
            let line = line.trim_end();
            let _ = writeln!(text, "{}", coloured(paint, line, (left, cell)));
        }
    }
    let gateways = report.scene.gateways().unwrap_or(1);
    let gateway = match gateways {
        1 => "nobody, until it is back",
        _ => "the other gateways",
    };
    let _ = writeln!(text, "{}", paint.with("1", "all models"));
    let _ = writeln!(
        text,
        "  {:<NAME$} {gateway}",
        if gateways == 1 { "the gateway" } else { "one gateway" }
    );
    let _ = writeln!(text, "  {:<NAME$} as before: none is asked while requests run", "any store");
    let mut remarks: Vec<&str> = Vec::new();
    if !tiers.is_empty() {
        remarks.push("share served at peak; seconds after its return until all is well");
    }
    if stars {
        remarks.push("* assumed to be one loss");
    }
    for remark in remarks {
        let _ = writeln!(text, "{}", paint.with("2", &format!("  {remark}")));
    }
}

/// What sites said when they were asked.
fn asked(report: &Report<'_, '_>, paint: Paint, text: &mut String) {
    if report.probed.is_empty() {
        return;
    }
    let _ = writeln!(text, "{}", paint.with("1", "asked just now"));
    for probed in &report.probed {
        let told = match probed.outcome {
            Outcome::Reachable => format!("{} models, {} ms", probed.models.len(), probed.took_ms),
            Outcome::Unlisted => format!("{}, {} ms", probed.why, probed.took_ms),
            Outcome::Refused | Outcome::Unreachable => probed.why.clone(),
            Outcome::Skipped => format!("not asked: {}", probed.why),
        };
        let limits: Vec<String> =
            probed.limits.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let limits =
            if limits.is_empty() { limits.join("") } else { format!("; {}", limits.join(", ")) };
        let line = wrapped(&format!("  {:<NAME$} {told}{limits}", cut(&probed.site, NAME)), "    ");
        let _ = match probed.outcome {
            Outcome::Refused | Outcome::Unreachable => {
                writeln!(text, "{}", paint.of(Severity::Warning, &line))
            }
            Outcome::Reachable | Outcome::Unlisted | Outcome::Skipped => writeln!(text, "{line}"),
        };
    }
}

fn tier_width(name: &str) -> usize {
    name.chars().count().max(5)
}

fn numbers(cell: Option<&Cell>, tiers: &[(usize, &str)]) -> String {
    let mut text = String::new();
    for (at, name) in tiers {
        let good = cell.and_then(|cell| cell.good.get(*at));
        // Cut, not rounded: 99.6 % is not all of it.
        let shown =
            good.map_or(String::from("–"), |good| format!("{:.0} %", (good * 100.0).floor()));
        let _ = write!(text, " {shown:>width$}", width = tier_width(name));
    }
    let recovery = match cell {
        Some(Cell { recovery: Some(seconds), .. }) => format!("{seconds:.0} s"),
        Some(Cell { left, .. }) if *left > 0.0 => String::from("late"),
        Some(_) | None => String::from("–"),
    };
    let _ = write!(text, "  {recovery:>8}");
    text
}

fn coloured(paint: Paint, line: &str, (left, cell): (Left, Option<&Cell>)) -> String {
    let low = cell.is_some_and(|cell| cell.good.iter().any(|good| *good < SERVED));
    match left {
        Left::Nothing | Left::Builtin(_) => paint.of(Severity::Error, line),
        _ if low => paint.of(Severity::Warning, line),
        Left::Engine(_) => paint.of(Severity::Warning, line),
        Left::Equal(_) | Left::Substitute(_) => line.to_string(),
    }
}

/// Who answers, in a word.
fn by(report: &Report<'_, '_>, left: Left) -> String {
    match left {
        Left::Equal(id) | Left::Substitute(id) | Left::Engine(id) => report.scene.shown(id),
        Left::Builtin(_) => String::from("the built-in model only"),
        Left::Nothing => String::from("nobody"),
    }
}

fn sum(findings: &[Finding]) -> String {
    let count = |severity: Severity| {
        let number = findings.iter().filter(|each| each.severity == severity).count();
        (number > 0).then(|| format!("{number} {}", plural(number, severity.word())))
    };
    let all = [Severity::Error, Severity::Warning, Severity::Note];
    let all: Vec<String> = all.into_iter().filter_map(count).collect();
    match all.is_empty() {
        true => String::from("nothing found"),
        false => format!("{}; docs/guide/check.md explains each", listed(&all)),
    }
}

fn plural(number: usize, word: &str) -> String {
    if number == 1 { word.to_string() } else { format!("{word}s") }
}

fn cut(text: &str, wide: usize) -> String {
    match text.chars().count() > wide {
        true => format!("{}…", text.chars().take(wide - 1).collect::<String>()),
        false => text.to_string(),
    }
}

/// `text` in lines of a narrow terminal; those after the first begin with `indent`.
fn wrapped(text: &str, indent: &str) -> String {
    let lead = text.len() - text.trim_start().len();
    let mut words: Vec<String> = Vec::new();
    for word in text[lead..].split(' ') {
        match words.last_mut() {
            // A number and its sign stay together.
            Some(last) if word.starts_with('%') => *last = format!("{last} {word}"),
            Some(_) | None => words.push(word.to_string()),
        }
    }
    let mut lines = vec![text[..lead].to_string()];
    for word in words {
        let line = lines.last_mut().expect("never empty");
        let is_first = line.trim().is_empty();
        let space = usize::from(!is_first);
        if !is_first && line.chars().count() + space + word.chars().count() > WIDE {
            lines.push(format!("{indent}{word}"));
            continue;
        }
        if !is_first {
            line.push(' ');
        }
        line.push_str(&word);
    }
    lines.join("\n")
}

/// One JSON document.
pub fn json(report: &Report<'_, '_>) -> String {
    let audit = &report.audit;
    let models: Vec<Value> =
        audit.groups.iter().enumerate().map(|(at, group)| group_json(report, at, group)).collect();
    let document = json!({
        "configuration": report.name,
        "survives_any_single_loss": report.holds(),
        "keys_absent": report.scene.absent,
        "models": models,
        "findings": audit.findings,
        "probed": report.probed,
    });
    // Numbers, texts and maps by name: nothing that JSON has no form for.
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

fn group_json(report: &Report<'_, '_>, at: usize, group: &Group) -> Value {
    let losses = report.audit.losses.iter().zip(&group.left).enumerate();
    let losses = losses.filter_map(|(which, (loss, left))| {
        let left = (*left)?;
        let word = match left {
            Left::Equal(_) => "equal",
            Left::Substitute(_) => "substitute",
            Left::Engine(_) => "engine",
            Left::Builtin(_) => "builtin",
            Left::Nothing => "nothing",
        };
        let answered_by = match left {
            Left::Equal(id) | Left::Substitute(id) | Left::Engine(id) | Left::Builtin(id) => {
                Some(report.scene.shown(id))
            }
            Left::Nothing => None,
        };
        let sites: Vec<&str> = loss.sites.iter().map(|at| report.scene.site(*at)).collect();
        let mut value = json!({
            "loss": loss.name,
            "sites": sites,
            "assumed": loss.assumed,
            "left": word,
            "answered_by": answered_by,
        });
        let cell =
            report.forecast.as_ref().and_then(|all| Some((all, all.cells[at][which].as_ref()?)));
        if let Some((forecast, cell)) = cell {
            let names = forecast.tiers.iter().map(|(_, name)| name.as_str());
            let served: BTreeMap<&str, f64> = names.zip(cell.good.iter().copied()).collect();
            value["served"] = json!(served);
            value["recovery_s"] = json!(cell.recovery);
            value["capacity_left_by_peak"] = json!(cell.left);
        }
        Some(value)
    });
    let losses: Vec<Value> = losses.collect();
    json!({ "names": report.scene.names(&group.models), "losses": losses })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_before_the_edge_of_a_narrow_terminal() {
        let text = wrapped(&format!("  {}", "word ".repeat(40).trim()), "    ");
        assert!(text.lines().all(|line| line.chars().count() <= WIDE), "{text}");
        assert!(text.starts_with("  word") && text.contains("\n    word"), "{text}");
    }

    #[test]
    fn without_colour_nothing_is_added() {
        assert_eq!(Paint(false).of(Severity::Error, "x"), "x");
        assert_eq!(Paint(true).of(Severity::Error, "x"), "\x1b[1;31mx\x1b[0m");
    }
}
