//! What a fault cost: how long new requests were held up, what became of those that had not begun
//! and of the answers under way, and whether any reader was given less than they were told.

use super::script::{Act, Step};
use crate::load::tally::{Outcome, Record, Verdict};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// New requests are answered as before when so many of a hundred are.
const AS_BEFORE: usize = 99;
/// Answered as before: its first token took at most so many times as long as the slowest of a
/// hundred did before the fault,
const SLOWER: u32 = 2;
/// or less than this. Of all that come, about one a second and gateway tries a site that is
/// suspected, and pays three quarters of a second for it; that is no outage.
const NOTHING: Duration = Duration::from_secs(1);
/// An answer goes on within this time, or its reader has noticed.
const RESUMED: Duration = Duration::from_secs(2);

/// A fault that was done.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What.
    pub step: Step,
    /// When it was really done, since the load began,
    pub at: Duration,
    /// and when it was over, or the load was.
    pub until: Duration,
    /// Sites that gateways which were not broken themselves held for dead just before that.
    pub down: Vec<String>,
}

/// What one fault cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Requests that came while it lasted.
    pub asked: usize,
    /// Of these, not answered as before,
    pub held_up: usize,
    /// which would have been within this time.
    pub limit: Duration,
    /// From the fault until new requests were answered as before; `None`: not while it lasted.
    pub back: Option<Duration>,
    /// Requests that failed without a token.
    pub lost: usize,
    /// Requests that were shed.
    pub shed: usize,
    /// Answers that were under way where it struck.
    pub open: usize,
    /// Of these, whole and without a pause longer than two seconds,
    pub resumed: usize,
    /// and ended by an error or a cut, for all to see.
    pub broken: usize,
    /// The longest pause of those that are whole.
    pub pause: Duration,
    /// By gateway: what its clients got while it lasted.
    pub doors: Vec<(String, Door)>,
    /// Sites that gateways which were not broken themselves held for dead just before it was over.
    pub down_at_others: Vec<String>,
    /// Those that were held up, the first asked first.
    pub late: Vec<Late>,
}

/// A request that was held up, with what its reader knows of the way it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Late {
    /// Since the fault.
    pub asked: Duration,
    /// Until its first token, if one came.
    pub waited: Option<Duration>,
    /// In one word.
    pub verdict: &'static str,
    /// Times its library asked again,
    pub retries: u32,
    /// and attempts of the gateway when the answer began.
    pub attempts: u32,
    /// The gateway it asked last,
    pub gateway: Option<String>,
    /// and the site whose answer began.
    pub site: Option<String>,
}

/// What the clients of one gateway got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Door {
    /// Requests whose last try was here,
    pub asked: usize,
    /// and good ones.
    pub good: usize,
    /// The most by which the share of a site in its answers moved from what it was before, in
    /// thousandths.
    pub moved: Option<u64>,
}

/// What a run cost.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its faults, in words, and their costs.
    pub faults: Vec<(String, Cost)>,
    /// Answers that were whole by their own words, and had a token missing or doubled.
    pub silent: u64,
    /// Requests that failed at any time without a token.
    pub lost: usize,
    /// All requests.
    pub asked: usize,
}

/// A step that was done: when, and which sites whom it did not concern held for dead before it.
#[derive(Clone, Debug)]
pub struct Done {
    /// What.
    pub step: Step,
    /// When.
    pub at: Duration,
    /// Sites that are down for gateways that the step does not name.
    pub down: Vec<String>,
}

/// The faults among `steps`; the load lasted so long.
pub fn faults(steps: &[Done], lasts: Duration) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (at, Done { step, at: done, .. }) in steps.iter().enumerate() {
        if matches!(step.act, Act::Start | Act::Go | Act::Join) {
            continue;
        }
        let after = steps[at + 1..].iter().find(|other| other.step.nodes == step.nodes);
        let until = after.map_or(lasts, |after| after.at);
        let down = after.map(|after| after.down.clone()).unwrap_or_default();
        faults.push(Fault { step: step.clone(), at: *done, until, down });
    }
    faults
}

impl Run {
    /// What `faults` cost by `outcome`; `gateways` are the names behind the doors.
    pub fn of(outcome: &Outcome, faults: &[Fault], gateways: &[String]) -> Run {
        let records = &outcome.records;
        let cost = |fault: &Fault| (fault.step.words(), cost(records, fault, gateways));
        Run {
            faults: faults.iter().map(cost).collect(),
            silent: outcome.tiers.iter().map(|tier| tier.differing).sum(),
            lost: records.iter().filter(|record| is_lost(record)).count() + outcome.unfinished,
            asked: records.len(),
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let faults: Vec<Value> = self.faults.iter().map(|(words, cost)| cost.json(words)).collect();
        json!({
            "requests": self.asked,
            "lost": self.lost,
            "silent_losses": self.silent,
            "faults": faults,
        })
    }
}

impl Cost {
    fn json(&self, words: &str) -> Value {
        let door = |(name, door): &(String, Door)| {
            let moved = door.moved.map(|moved| moved as f64 / 1000.0);
            let told = json!({ "requests": door.asked, "good": door.good, "share_moved": moved });
            (name.clone(), told)
        };
        let doors: serde_json::Map<String, Value> = self.doors.iter().map(door).collect();
        json!({
            "fault": words,
            "requests": self.asked,
            "held_up": self.held_up,
            "held_up_above_s": self.limit.as_secs_f64(),
            "back_s": self.back.map(|back| back.as_secs_f64()),
            "lost": self.lost,
            "shed": self.shed,
            "streams": self.open,
            "resumed_within_2_s": self.resumed,
            "broken": self.broken,
            "pause_max_s": self.pause.as_secs_f64(),
            "by_gateway": doors,
            "down_at_others": self.down_at_others,
            "late": self.late.iter().map(Late::json).collect::<Vec<_>>(),
        })
    }
}

impl Late {
    fn of(record: &Record, fault: &Fault, gateways: &[String]) -> Late {
        Late {
            asked: record.asked.at - fault.at,
            waited: record.times.waited,
            verdict: record.verdict.word(),
            retries: record.times.retries,
            attempts: record.times.attempts,
            gateway: gateways.get(record.times.door).cloned(),
            site: record.times.site.clone(),
        }
    }

    fn json(&self) -> Value {
        json!({
            "asked_s": self.asked.as_secs_f64(),
            "waited_s": self.waited.map(|waited| waited.as_secs_f64()),
            "outcome": self.verdict,
            "retries": self.retries,
            "attempts": self.attempts,
            "gateway": self.gateway,
            "site": self.site,
        })
    }
}

fn cost(records: &[Record], fault: &Fault, gateways: &[String]) -> Cost {
    let mut before: Vec<Duration> = records
        .iter()
        .filter(|record| record.asked.at < fault.at && record.verdict == Verdict::Good)
        .filter_map(|record| record.times.waited)
        .collect();
    before.sort_unstable();
    let usual = before.get((before.len() * AS_BEFORE / 100).min(before.len().max(1) - 1));
    let limit = usual.map_or(NOTHING, |usual| (*usual * SLOWER).max(NOTHING));
    let during = |record: &&Record| (fault.at..fault.until).contains(&record.asked.at);
    let during: Vec<&Record> = records.iter().filter(during).collect();
    let mut late: Vec<Duration> =
        during.iter().filter_map(|record| held_up(record, limit)).collect();
    late.sort_unstable();
    let mut cost = Cost { asked: during.len(), held_up: late.len(), limit, ..Cost::default() };
    cost.back = back(&during, &late, fault);
    cost.lost = during.iter().filter(|record| is_lost(record)).count();
    cost.shed = during.iter().filter(|record| record.verdict == Verdict::Shed).count();
    cost.down_at_others = fault.down.clone();
    let is_late = |record: &&&Record| held_up(record, limit).is_some();
    let late = during.iter().filter(is_late).map(|record| Late::of(record, fault, gateways));
    cost.late = late.collect();
    cost.late.sort_by_key(|late| late.asked);
    for (at, gateway) in gateways.iter().enumerate() {
        let here: Vec<&Record> = records.iter().filter(|r| r.times.door == at).collect();
        cost.doors.push((gateway.clone(), door(&here, fault)));
    }
    for record in records.iter().filter(|record| was_open(record, fault, gateways)) {
        cost.open += 1;
        match record.verdict {
            Verdict::Good if record.times.gap_max <= RESUMED => cost.resumed += 1,
            Verdict::Good | Verdict::Left => {}
            _ => cost.broken += 1,
        }
        if record.verdict == Verdict::Good {
            cost.pause = cost.pause.max(record.times.gap_max);
        }
    }
    cost
}

fn door(here: &[&Record], fault: &Fault) -> Door {
    let span = fault.at..fault.until;
    let during: Vec<&&Record> = here.iter().filter(|r| span.contains(&r.asked.at)).collect();
    let is_good = |record: &&&&Record| record.verdict == Verdict::Good;
    let good = during.iter().filter(is_good).count();
    let before: Vec<&&Record> = here.iter().filter(|r| r.asked.at < fault.at).collect();
    Door { asked: during.len(), good, moved: moved(&before, &during) }
}

/// By how many thousandths the share of the site moved that moved most.
fn moved(before: &[&&Record], during: &[&&Record]) -> Option<u64> {
    let sites = |all: &[&&Record]| {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for site in all.iter().filter_map(|record| record.times.site.clone()) {
            *counts.entry(site).or_default() += 1;
        }
        counts
    };
    let (before, during) = (sites(before), sites(during));
    let share = |counts: &BTreeMap<String, u64>, site: &String| {
        let all: u64 = counts.values().sum();
        counts.get(site).copied().unwrap_or_default() * 1000 / all.max(1)
    };
    let apart = |site: &String| share(&before, site).abs_diff(share(&during, site));
    before.keys().chain(during.keys()).map(apart).max()
}

/// When a request that was not answered as before had its first token, or its end without one.
fn held_up(record: &Record, limit: Duration) -> Option<Duration> {
    let first = record.times.waited.filter(|_| record.verdict == Verdict::Good);
    match first {
        Some(waited) if waited <= limit => None,
        Some(waited) => Some(record.asked.at + waited),
        None if record.verdict == Verdict::Left => None,
        None => Some(record.asked.ended),
    }
}

/// From when on all but one in a hundred of those that came were answered as before. Late ones are
/// waited for: back is when the last of them has its first token.
fn back(during: &[&Record], late: &[Duration], fault: &Fault) -> Option<Duration> {
    for (at, from) in [fault.at].iter().chain(late).enumerate() {
        let rest = during.iter().filter(|record| record.asked.at >= *from).count();
        if (late.len() - at) * 100 <= rest * (100 - AS_BEFORE) {
            return (*from < fault.until).then(|| from.saturating_sub(fault.at));
        }
    }
    // The last of all came late, and after it nobody asked.
    None
}

/// It failed, and had not begun.
fn is_lost(record: &Record) -> bool {
    let fine = [Verdict::Good, Verdict::Shed, Verdict::Left];
    !fine.contains(&record.verdict) && record.times.waited.is_none()
}

/// Whether its answer was under way where the fault struck.
fn was_open(record: &Record, fault: &Fault, gateways: &[String]) -> bool {
    let Some(waited) = record.times.waited else { return false };
    let open = record.asked.at + waited..record.asked.ended;
    let place = record.times.site.as_ref();
    let door = gateways.get(record.times.door);
    let is_there = |node: &String| Some(node) == place || Some(node) == door;
    open.contains(&fault.at) && fault.step.nodes.iter().any(is_there)
}

/// All runs in one table.
pub fn table(runs: &[Run]) -> String {
    let mut text = format!(
        "{:<32} {:>5} {:>8} {:>8} {:>9} {:>6} {:>6} {:>8} {:>10} {:>7}\n",
        "fault",
        "runs",
        "back p50",
        "p99",
        "requests",
        "lost",
        "shed",
        "streams",
        "within 2 s",
        "broken"
    );
    let count = runs.iter().map(|run| run.faults.len()).max().unwrap_or_default();
    for at in 0..count {
        let all: Vec<&(String, Cost)> = runs.iter().filter_map(|run| run.faults.get(at)).collect();
        let Some((words, _)) = all.first() else { continue };
        let mut backs: Vec<Option<Duration>> = all.iter().map(|(_, cost)| cost.back).collect();
        backs.sort_by_key(|back| back.unwrap_or(Duration::MAX));
        let quantile = |share: f64| {
            let rank = (share * backs.len() as f64).ceil() as usize;
            let back = backs.get(rank.max(1) - 1).copied().flatten();
            back.map_or_else(|| "never".to_owned(), |back| format!("{:.2} s", back.as_secs_f64()))
        };
        let sum = |of: fn(&Cost) -> usize| all.iter().map(|(_, cost)| of(cost)).sum::<usize>();
        let open = sum(|cost| cost.open);
        let _ = writeln!(
            text,
            "{:<32} {:>5} {:>8} {:>8} {:>9} {:>6} {:>6} {:>8} {:>9.2}% {:>7}",
            words,
            all.len(),
            quantile(0.5),
            quantile(0.99),
            sum(|cost| cost.asked),
            sum(|cost| cost.lost),
            sum(|cost| cost.shed),
            open,
            100.0 * sum(|cost| cost.resumed) as f64 / open.max(1) as f64,
            sum(|cost| cost.broken),
        );
    }
    let silent: u64 = runs.iter().map(|run| run.silent).sum();
    let lost: usize = runs.iter().map(|run| run.lost).sum();
    let asked: usize = runs.iter().map(|run| run.asked).sum();
    let _ = writeln!(
        text,
        "{asked} requests in all: {lost} lost before they began, {silent} answers whole by their \
         own words with a token missing or doubled"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tally::{Asked, Times};

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Asked at `at`, first token after `waited`, over two seconds later.
    fn record(at: u64, waited: Option<u64>, verdict: Verdict) -> Record {
        let times = Times {
            waited: waited.map(ms),
            site: Some("A".into()),
            gap_max: ms(100),
            ..Times::default()
        };
        let ended = ms(at + waited.unwrap_or(10) + 2000);
        Record { asked: Asked { class: 0, at: ms(at), ended }, verdict, times }
    }

    fn fault() -> Fault {
        let step = Step { at: ms(10_000), act: Act::Kill, nodes: vec!["A".into()] };
        Fault { step, at: ms(10_000), until: ms(30_000), down: Vec::new() }
    }

    fn steady() -> Vec<Record> {
        (0..300).map(|at| record(at * 100, Some(120), Verdict::Good)).collect()
    }

    #[test]
    fn a_fault_that_holds_nobody_up_is_over_at_once() {
        let cost = cost(&steady(), &fault(), &[]);
        assert_eq!((cost.asked, cost.held_up, cost.back), (200, 0, Some(ms(0))));
        assert_eq!((cost.open, cost.resumed, cost.broken), (20, 20, 0));
    }

    #[test]
    fn the_outage_ends_with_the_first_token_of_the_last_that_was_held_up() {
        let mut records = steady();
        for record in &mut records[100..110] {
            record.times.waited = Some(ms(1900));
        }
        let told = cost(&records, &fault(), &[]);
        assert_eq!(told.back, Some(ms(8 * 100 + 1900)));
        assert_eq!((told.late.len(), told.late[8].asked), (told.held_up, ms(800)));
        // One in a hundred later is no outage.
        records[250].times.waited = Some(ms(1900));
        assert_eq!(cost(&records, &fault(), &[]).back, Some(ms(9 * 100 + 1900)));
        // Half of all, to the end, is one that does not end.
        for record in records[100..300].iter_mut().step_by(2) {
            record.times.waited = Some(ms(5000));
        }
        assert_eq!(cost(&records, &fault(), &[]).back, None);
    }

    #[test]
    fn what_failed_without_a_token_is_lost_and_with_some_broken() {
        let mut records = steady();
        records[120] = record(12_000, None, Verdict::Unreachable);
        records[99] = record(9_900, Some(50), Verdict::Cut);
        let cost = cost(&records, &fault(), &[]);
        assert_eq!((cost.lost, cost.broken, cost.open - cost.resumed), (1, 1, 1));
        let gateways = [String::from("gw-1")];
        let with = super::cost(&records, &fault(), &gateways);
        assert_eq!((with.lost, with.broken), (1, 1));
        let [(_, door)] = with.doors.as_slice() else { panic!("one gateway") };
        assert_eq!((door.asked, door.good, door.moved), (200, 199, Some(0)));
    }

    #[test]
    fn faults_last_until_they_are_undone() {
        let step = |act, at| {
            let step = Step { at: ms(at), act, nodes: vec!["A".into()] };
            Done { step, at: ms(at), down: Vec::new() }
        };
        let faults =
            faults(&[step(Act::Kill, 5), step(Act::Start, 9), step(Act::Stop, 12)], ms(20));
        let spans: Vec<_> = faults.iter().map(|fault| (fault.at, fault.until)).collect();
        assert_eq!(spans, [(ms(5), ms(9)), (ms(12), ms(20))]);
    }
}
