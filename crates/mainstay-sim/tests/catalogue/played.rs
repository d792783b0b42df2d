//! Plays scenarios of the catalogue, each once for all tests of this process.
//!
//! Every scenario is played two times in full, on its own bench, and both outcomes are compared as
//! the JSON that is printed, byte by byte.

use mainstay_sim::fleet::{Played, PolicyKind, play};
use mainstay_sim::scenario::catalogue::CATALOGUE;
use mainstay_sim::scenario::{Scenario, read};
use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Instant;

/// What came of a scenario.
pub struct Told {
    /// What was broken: the rule, and a line that tells of it.
    pub violations: Vec<(String, String)>,
    /// Whether a second run printed the same.
    pub is_repeated: bool,
    /// Kinds of decisions.
    pub facts: BTreeSet<String>,
}

static TOLD: [OnceLock<Told>; CATALOGUE.len()] = [const { OnceLock::new() }; CATALOGUE.len()];

/// Plays the scenario at this position, unless that is done.
pub fn told(at: usize) -> &'static Told {
    TOLD[at].get_or_init(|| {
        let begun = Instant::now();
        let scenario = scenario(CATALOGUE[at].0);
        let first = play(&scenario, 1, PolicyKind::Mainstay);
        let again = play(&scenario, 1, PolicyKind::Mainstay);
        let took = begun.elapsed().as_secs_f64();
        println!("{}: {} moments, played twice in {took:.1} s", scenario.id, first.moments);
        Told {
            violations: violations(&first),
            is_repeated: json(&first) == json(&again),
            facts: first.facts,
        }
    })
}

/// The same by its id.
pub fn told_of(id: &str) -> &'static Told {
    told(CATALOGUE.iter().position(|(each, _)| *each == id).expect("a scenario"))
}

/// What a run broke: the rule, and a line that tells of it.
pub fn violations(played: &Played) -> Vec<(String, String)> {
    let line = |text: &str| text.lines().next().unwrap_or_default().to_string();
    let all = played.run.violations.iter().map(|wrong| {
        let told =
            format!("{} s {} {}: {}", wrong.at_s, wrong.rule, wrong.node, line(&wrong.detail));
        (wrong.rule.clone(), told)
    });
    all.collect()
}

/// The scenario of this id.
pub fn scenario(id: &str) -> Scenario {
    let (_, text) = CATALOGUE.iter().find(|(each, _)| *each == id).expect("a scenario");
    read::scenario(id, text).expect("a right file")
}

/// What a run is printed as.
fn json(played: &Played) -> String {
    serde_json::to_string(&played.run).expect("JSON")
}
