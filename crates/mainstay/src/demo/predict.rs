//! What the simulator says of the demo's fleet, beside what was measured.

use super::fleet::site_name;
use crate::command_line::Demo;
use crate::load::tally::{Outcome, Second};
use mainstay_sim::bench::{site, tiers};
use mainstay_sim::fleet::{PolicyKind, play};
use mainstay_sim::outcome::Run;
use mainstay_sim::scenario::Bench;
use mainstay_sim::scenario::Scenario;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// Seeds that are played: their mean is told.
const SEEDS: u64 = 5;
/// Round trips on one machine.
const NEAR: Duration = Duration::from_millis(1);
/// Goodput is back when it stays at this share of what is offered,
const BACK: f64 = 0.99;
/// for so many seconds.
const STAYS: usize = 10;

/// The fleet as a bench.
pub fn bench(options: &Demo) -> Bench {
    let sites = f64::from(options.sites.max(1));
    let per_second = f64::from(options.tokens_per_second) / f64::from(options.max_tokens.max(1));
    let made = |at: u8| {
        let mut made = site(&site_name(at), 1.0 / sites);
        made.capacity = per_second;
        made.streams = options.streams;
        made.workers = 1;
        made
    };
    let gateways = u16::from(options.gateways);
    Bench {
        name: String::from("demo"),
        sites: (0..options.sites).map(made).collect(),
        gateways,
        round_trip: vec![vec![NEAR; usize::from(options.sites)]; usize::from(gateways)],
        tiers: tiers(),
        scale: 1.0,
    }
}

/// What the simulator says.
pub struct Prediction {
    runs: Vec<Run>,
}

/// Plays `scenario`.
pub fn predict(scenario: &Scenario) -> Prediction {
    let run = |seed| play(scenario, seed, PolicyKind::Mainstay).run;
    Prediction { runs: (1..=SEEDS).map(run).collect() }
}

impl Prediction {
    /// Goodput of a tier, as the mean over all seeds.
    fn goodput(&self, tier: &str) -> Option<f64> {
        let all = self.runs.iter().filter_map(|run| Some(run.by_tier.get(tier)?.goodput_ratio));
        let (sum, count) = all.fold((0.0, 0), |(sum, count), one| (sum + one, count + 1));
        (count > 0).then(|| sum / f64::from(count))
    }

    fn recovery(&self) -> Option<f64> {
        let mut all: Vec<f64> = self.runs.iter().filter_map(|run| run.recovery_s).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied()
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let tiers = self.runs.first().into_iter().flat_map(|run| run.by_tier.keys());
        let tiers: serde_json::Map<String, Value> =
            tiers.map(|tier| (tier.clone(), json!(self.goodput(tier)))).collect();
        json!({ "goodput_ratio": tiers, "recovery_s": self.recovery(), "seeds": SEEDS })
    }

    /// For people: both in one table.
    pub fn beside(&self, measured: &Outcome, scenario: &Scenario) -> String {
        let mut text = format!("\n{:<22} {:>10} {:>10}\n", "", "predicted", "measured");
        let share = |share: Option<f64>| {
            share.map_or_else(|| "-".to_owned(), |share| format!("{:.2} %", 100.0 * share))
        };
        let seconds = |time: Option<f64>| {
            time.map_or_else(|| "never".to_owned(), |time| format!("{time:.0} s"))
        };
        for tier in &measured.tiers {
            let (predicted, real) = (self.goodput(&tier.name), Some(tier.goodput()));
            let _ = writeln!(
                text,
                "{:<22} {:>10} {:>10}",
                format!("good, {}", tier.name),
                share(predicted),
                share(real)
            );
        }
        let over = scenario.faults.iter().map(|fault| fault.until.unwrap_or(fault.at)).max();
        let real = recovery(&measured.seconds, over.unwrap_or_default());
        let _ = writeln!(
            text,
            "{:<22} {:>10} {:>10}",
            "recovery",
            seconds(self.recovery()),
            seconds(real)
        );
        text
    }
}

/// From `over` until goodput stays back.
fn recovery(seconds: &[Second], over: Duration) -> Option<f64> {
    let from = over.as_secs() as usize;
    let is_back = |at: &usize| {
        let next = seconds.iter().skip(*at).take(STAYS);
        let (offered, good) =
            next.fold((0, 0), |(offered, good), s| (offered + s.offered, good + s.good));
        f64::from(good) >= BACK * f64::from(offered)
    };
    (from..seconds.len()).find(is_back).map(|at| (at - from) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_counts_from_the_end_of_the_fault() {
        let second = |good| Second { offered: 10, good, shed: 0 };
        let mut seconds = vec![second(10); 5];
        seconds.extend(vec![second(2); 5]);
        seconds.extend(vec![second(10); 20]);
        assert_eq!(recovery(&seconds, Duration::from_secs(8)), Some(2.0));
        assert_eq!(recovery(&seconds, Duration::from_secs(12)), Some(0.0));
        assert_eq!(recovery(&vec![second(0); 20], Duration::from_secs(8)), None);
    }
}
