//! Judges a run: what was measured second by second against what must hold.
//!
//! What the machines do at each step is checked while the world is played; here is what only the
//! whole timeline shows: ratios, recovery, swings. A rule whose time never came is left out; an
//! expectation without anything to measure is a violation, because silence is no proof.

mod bars;
mod metric;
mod rules;
mod span;
mod step;

pub use metric::{METRICS, Metric, Per};
pub use span::last_fault_end;

use crate::outcome::{Run, Timeline, Violation};
use crate::scenario::{Expect, Scenario};
use span::Look;
use std::time::Duration;

/// Judges `run` by its timeline: fills its counts, appends what was violated, sets `passed`.
pub fn judge(scenario: &Scenario, timeline: &Timeline, run: &mut Run) {
    let look = Look { scenario, timeline };
    rules::counts(&look, run);
    rules::ledger(&look, run);
    rules::liveness(&look, run);
    rules::bounds(&look, run);
    step::overshoot(&look, run);
    bars::overload(&look, run);
    bars::tiers(&look, run);
    bars::attempts(&look, run);
    run.recovery_s = rules::recovery(&look);
    (run.good_during, run.good_after) = rules::around_faults(&look);
    for (at, expect) in scenario.expects.iter().enumerate() {
        expected(&look, (at, expect), run);
    }
    // By time; those of one time in the order of their rules.
    run.violations.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    run.passed = run.violations.is_empty();
}

/// Evaluates one expectation.
fn expected(look: &Look<'_>, (at, expect): (usize, &Expect), run: &mut Run) {
    let from = expect.from.as_secs() as usize;
    let until = expect.until.unwrap_or(look.scenario.duration).as_secs() as usize;
    let rule = format!("expect.{at}");
    let Some(metric) = METRICS.iter().find(|metric| metric.name == expect.metric) else {
        let detail = format!("no metric {}", expect.metric);
        return run.violations.push(violation((from, &rule), "", detail));
    };
    let recovery = run.recovery_s;
    for (node, value) in metric::measure(metric, look, (expect, recovery), from..until) {
        let name = &metric.name;
        let detail = match value {
            None => format!("{name}: nothing to measure from {from} s to {until} s"),
            Some(value) if expect.min.is_some_and(|min| value < min) => {
                format!("{name} {}, at least {}", short(value), expect.min.unwrap_or(0.0))
            }
            Some(value) if expect.max.is_some_and(|max| value > max) => {
                format!("{name} {}, at most {}", short(value), expect.max.unwrap_or(0.0))
            }
            Some(_) => continue,
        };
        run.violations.push(violation((from, &rule), &node, detail));
    }
}

/// Whether a run stayed down although its load could have been carried for a minute.
pub fn is_metastable(scenario: &Scenario, timeline: &Timeline) -> bool {
    rules::is_metastable(&Look { scenario, timeline })
}

/// Whether a point of a sweep is judged after so many seconds: its load has been servable for as
/// long as recovery may take and has to last, and as a metastable state takes to show.
pub fn is_settled(scenario: &Scenario, timeline: &Timeline, played: usize) -> bool {
    rules::is_settled(&Look { scenario, timeline }, played)
}

/// Whether there was something to recover to: after the last fault what was asked could have been
/// carried for a minute by the sites that were there, whatever share of them was on offer.
pub fn could_recover(scenario: &Scenario, timeline: &Timeline) -> bool {
    rules::could_recover(&Look { scenario, timeline })
}

/// What an expectation measured, for people: node, value.
pub fn measured(
    scenario: &Scenario,
    timeline: &Timeline,
    (expect, recovery): (&Expect, Option<f64>),
) -> Vec<(String, Option<f64>)> {
    let from = expect.from.as_secs() as usize;
    let until = expect.until.unwrap_or(scenario.duration).as_secs() as usize;
    let Some(metric) = METRICS.iter().find(|metric| metric.name == expect.metric) else {
        return Vec::new();
    };
    let look = Look { scenario, timeline };
    metric::measure(metric, &look, (expect, recovery), from..until)
}

/// A violation at a second.
fn violation((at, rule): (usize, &str), node: &str, detail: String) -> Violation {
    Violation { at_s: at as f64, rule: rule.into(), node: node.into(), detail }
}

/// Four digits at most: what a reader compares.
fn short(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// Whole seconds.
fn seconds(time: Duration) -> usize {
    time.as_secs_f64().ceil() as usize
}

#[cfg(test)]
mod tests;
