//! The world of many gateways and many sites.

use crate::outcome::{Run, Timeline};
use crate::scenario::Scenario;

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    /// The machines of core.
    Mainstay,
    /// The usual set-up, which must fail where a pass is to mean something.
    Naive,
}

/// What came of a run.
#[derive(Debug)]
pub struct Played {
    /// Totals and what was violated.
    pub run: Run,
    /// Second by second.
    pub timeline: Timeline,
    /// Moments that happened, for whoever measures the simulator itself.
    pub moments: u64,
}

/// Plays the scenario with a seed.
pub fn play(scenario: &Scenario, seed: u64, policy: PolicyKind) -> Played {
    let policy = match policy {
        PolicyKind::Mainstay => "mainstay",
        PolicyKind::Naive => "naive",
    };
    let run = Run {
        scenario: scenario.id.clone(),
        seed,
        policy,
        passed: false,
        violations: Vec::new(),
        by_tier: Default::default(),
        sites: Default::default(),
        recovery_s: None,
        transitions: 0,
        attempts_per_request: 0.0,
        facts_digest: String::new(),
    };
    Played { run, timeline: Timeline::default(), moments: 0 }
}
