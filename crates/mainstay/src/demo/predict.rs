//! What the simulator says of the demo's fleet, beside what was measured.

use super::fleet::site_name;
use crate::command_line::Demo;
use crate::load::tally::{Outcome, Second};
use mainstay_sim::bench::{site, tiers};
use mainstay_sim::fleet::{PolicyKind, play};
use mainstay_sim::scenario::Bench;
use mainstay_sim::scenario::Scenario;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// Tokens a second that a site is taken to write where nobody said: a small model on a busy
/// machine.
const TOKENS: u32 = 300;
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
    let per_second = f64::from(tokens(options)) / f64::from(options.max_tokens.max(1));
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

/// Tokens a second of a site, as far as was told.
pub fn tokens(options: &Demo) -> u32 {
    options.tokens_per_second.unwrap_or(TOKENS)
}

/// Requests a second that are asked; of answers that are kept open as many as end.
pub fn rate(options: &Demo) -> f64 {
    if options.keep == 0 {
        return options.rate;
    }
    // A site writes each answer at the same pace, as the rehearsal model does.
    let pace = f64::from(tokens(options)) / f64::from(options.streams.max(1));
    f64::from(options.keep) * pace / f64::from(options.max_tokens.max(1))
}

/// What the simulator says.
pub struct Prediction {
    /// Names of the tiers.
    tiers: Vec<String>,
    /// By tier over all seeds: offered, good.
    counts: Vec<[f64; 2]>,
    /// Of each seed; `None` where goodput never came back.
    recoveries: Vec<Option<f64>>,
}

/// Plays `scenario`, and counts what is offered within `lasts`.
pub fn predict(scenario: &Scenario, lasts: Duration) -> Prediction {
    let mut told = Prediction { tiers: Vec::new(), counts: Vec::new(), recoveries: Vec::new() };
    for seed in 1..=SEEDS {
        let timeline = play(scenario, seed, PolicyKind::Mainstay).timeline;
        told.counts.resize(timeline.tiers.len(), [0.0; 2]);
        let within = timeline.seconds.iter().take(lasts.as_secs() as usize);
        let mut seconds = Vec::new();
        for second in within {
            let mut sum = Second::default();
            for (tier, [offered, good]) in second.tiers.iter().zip(&mut told.counts) {
                *offered += f64::from(tier.offered);
                *good += f64::from(tier.good);
                sum.offered += tier.offered;
                sum.good += tier.good;
            }
            seconds.push(sum);
        }
        told.recoveries.push(recovery(&seconds, over(scenario)));
        told.tiers = timeline.tiers;
    }
    told
}

/// When the last fault is over.
fn over(scenario: &Scenario) -> Duration {
    let ends = scenario.faults.iter().map(|fault| fault.until.unwrap_or(fault.at));
    ends.max().unwrap_or_default()
}

impl Prediction {
    /// Share of a tier's requests that are answered well.
    fn goodput(&self, tier: &str) -> Option<f64> {
        let at = self.tiers.iter().position(|name| name == tier)?;
        let [offered, good] = self.counts[at];
        (offered > 0.0).then(|| good / offered)
    }

    /// The middle one; never counts as the longest.
    fn recovery(&self) -> Option<f64> {
        let mut all = self.recoveries.clone();
        all.sort_by(|a, b| a.unwrap_or(f64::INFINITY).total_cmp(&b.unwrap_or(f64::INFINITY)));
        all.get(all.len() / 2).copied().flatten()
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let tiers: serde_json::Map<String, Value> =
            self.tiers.iter().map(|tier| (tier.clone(), json!(self.goodput(tier)))).collect();
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
        let real = recovery(&measured.seconds, over(scenario));
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
