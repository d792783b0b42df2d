//! What came of the runs, as a table for people.

use super::{Story, Told, has_passed, maps};
use mainstay_sim::outcome::{Run, Violation};
use mainstay_sim::scenario::{Baseline, Scenario};
use mainstay_sim::sweep::Done;
use std::fmt::Write;

type Runs<'a> = [(&'a Scenario, &'a Done)];

/// One line of the table.
type Row = [String; COLUMNS];

const COLUMNS: usize = 10;

/// The table, the maps of sweeps, and the sum. `is_compared`: the baseline stands beside ours
/// wherever it can.
pub fn text(stories: &[Story], told: &[Told<'_>], (is_compared, passed): (bool, bool)) -> String {
    let tiers = tiers(told);
    let mut rows = vec![header(&tiers)];
    for (story, told) in stories.iter().zip(told) {
        let verdict = if has_passed(story, told) { "passed" } else { "FAILED" };
        if !told.ours.is_empty() {
            rows.push(row((&story.id, verdict), &told.ours, &tiers));
        }
        if !told.baseline.is_empty() {
            let (name, verdict) = match told.ours.is_empty() {
                true => (story.id.as_str(), verdict),
                false => ("  baseline", beside(told)),
            };
            rows.push(row((name, verdict), &told.baseline, &tiers));
        } else if is_compared && !story.is_sweep {
            let mut row = Row::default();
            row[0] = String::from("  baseline");
            row[COLUMNS - 1] = String::from("no counterpart");
            rows.push(row);
        }
    }
    let mut text = aligned(&rows);
    for map in maps(stories, told) {
        text.push_str(&map.text());
    }
    let runs: usize = told.iter().map(|told| told.ours.len() + told.baseline.len()).sum();
    let failed = stories.iter().zip(told).filter(|(story, told)| !has_passed(story, told)).count();
    let sum = match passed {
        true => String::from("all passed"),
        false => format!("{failed} of {} failed", stories.len()),
    };
    let _ = writeln!(text, "{runs} {}, {sum}", if runs == 1 { "run" } else { "runs" });
    if is_compared && stories.len() > 1 {
        text.push_str(&compared(stories, told));
    }
    text
}

/// What became of a baseline that stands beside ours.
fn beside(told: &Told<'_>) -> &'static str {
    match told.baseline.iter().all(|(_, done)| done.run.passed) {
        true => "passes",
        false => "fails",
    }
}

/// Which stories the usual set-up does not survive.
fn compared(stories: &[Story], told: &[Told<'_>]) -> String {
    let those = |which: &dyn Fn(&Story, &Told<'_>) -> bool| {
        let of = stories.iter().zip(told).filter(|(story, told)| which(story, told));
        of.map(|(story, _)| story.id.as_str()).collect::<Vec<_>>()
    };
    let absent = |story: &Story| story.points.iter().all(|p| p.baseline == Baseline::Absent);
    let mut text = String::new();
    for (words, ids) in [
        ("fails", those(&|_, told| !told.baseline.is_empty() && beside(told) == "fails")),
        ("passes", those(&|_, told| !told.baseline.is_empty() && beside(told) == "passes")),
        ("has no counterpart", those(&|story, _| absent(story))),
    ] {
        if !ids.is_empty() {
            let _ = writeln!(text, "the baseline {words} in {}: {}", ids.len(), ids.join(" "));
        }
    }
    text
}

/// Up to three tiers: those that every standard bench has, or the first of another.
fn tiers(told: &[Told<'_>]) -> Vec<String> {
    let all = told.iter().flat_map(|told| told.ours.iter().chain(&told.baseline));
    let first = all.map(|(scenario, _)| &scenario.bench.tiers).next();
    first.into_iter().flatten().take(3).map(|tier| tier.name.clone()).collect()
}

fn header(tiers: &[String]) -> Row {
    let tier = |at: usize| tiers.get(at).map_or(String::new(), |name| format!("{name} good"));
    let word = |text: &str| text.to_string();
    [
        word("scenario"),
        word("verdict"),
        word("seeds"),
        tier(0),
        tier(1),
        tier(2),
        word("during"),
        word("after"),
        word("recovery"),
        word("first of the worst violations"),
    ]
}

fn row((name, verdict): (&str, &str), runs: &Runs<'_>, tiers: &[String]) -> Row {
    let passed = runs.iter().filter(|(_, done)| done.run.passed).count();
    let good = |at: usize| tiers.get(at).map_or(String::new(), |tier| good(runs, tier));
    [
        name.to_string(),
        verdict.to_string(),
        format!("{passed}/{}", runs.len()),
        good(0),
        good(1),
        good(2),
        around(runs, |run| run.good_during),
        around(runs, |run| run.good_after),
        recovery(runs),
        worst(runs),
    ]
}

/// Good by offered over all runs.
fn good(runs: &Runs<'_>, tier: &str) -> String {
    let tiers = runs.iter().filter_map(|(_, done)| done.run.by_tier.get(tier));
    let (good, offered) =
        tiers.fold((0, 0), |(good, all), tier| (good + tier.good, all + tier.offered));
    match offered {
        0 => String::from("–"),
        _ => percent(good as f64 / offered as f64),
    }
}

/// Good by offered at some time of each run: the mean of the runs that have it.
fn around(runs: &Runs<'_>, of: fn(&Run) -> Option<f64>) -> String {
    let each: Vec<f64> = runs.iter().filter_map(|(_, done)| of(&done.run)).collect();
    match each.is_empty() {
        true => String::from("–"),
        false => percent(each.iter().sum::<f64>() / each.len() as f64),
    }
}

/// Cut, not rounded: 99.996 % is not all of it.
fn percent(share: f64) -> String {
    format!("{:.2} %", (share * 1e4).floor() / 100.0)
}

/// The slowest.
fn recovery(runs: &Runs<'_>) -> String {
    let is_broken = |scenario: &Scenario| !scenario.faults.is_empty();
    if !runs.iter().any(|(scenario, _)| is_broken(scenario)) {
        return String::from("–");
    }
    let each = runs.iter().map(|(_, done)| done.run.recovery_s);
    let slowest = each.reduce(|a, b| Some(a?.max(b?))).flatten();
    slowest.map_or(String::from("never"), |seconds| format!("{seconds:.1} s"))
}

/// The worst violation of all runs: safety before counts before liveness before what a scenario
/// expects; then the earliest.
fn worst(runs: &Runs<'_>) -> String {
    let all = runs.iter().flat_map(|(_, done)| {
        done.run.violations.iter().map(|violation| (done.run.seed, violation))
    });
    let key = |(seed, violation): &(u64, &Violation)| (rank(&violation.rule), *seed);
    let Some((seed, worst)) = all.min_by(|a, b| {
        let by_time = a.1.at_s.total_cmp(&b.1.at_s);
        rank(&a.1.rule).cmp(&rank(&b.1.rule)).then(by_time).then(key(a).cmp(&key(b)))
    }) else {
        return String::new();
    };
    let node = if worst.node.is_empty() { "" } else { " at " };
    let line = format!(
        "{}{node}{}, seed {seed}, {:.0} s: {}",
        worst.rule, worst.node, worst.at_s, worst.detail
    );
    shortened(&line)
}

fn rank(rule: &str) -> u8 {
    match rule.as_bytes().first() {
        Some(b'I') => 0,
        Some(b'l') => 1,
        Some(b'L') => 2,
        Some(b'Q') => 3,
        Some(_) | None => 4,
    }
}

/// What fits beside the other columns; the page and the JSON have the whole of it.
fn shortened(line: &str) -> String {
    const WIDE: usize = 110;
    let line = line.lines().next().unwrap_or_default();
    match line.chars().count() > WIDE {
        true => format!("{}…", line.chars().take(WIDE).collect::<String>()),
        false => line.to_string(),
    }
}

/// Columns as wide as their widest cell; numbers stand at the right.
fn aligned(rows: &[Row]) -> String {
    let wide =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS).map(wide).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let _ = match (2..COLUMNS - 1).contains(&column) {
                true => write!(line, "{cell:>width$}  "),
                false => write!(line, "{cell:<width$}  "),
            };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}
