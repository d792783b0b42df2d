//! What gateways counted, together: by tier, before, while it lasted, and after.

use super::gateways::Known;
use std::collections::BTreeMap;
use std::time::Duration;

/// What is under way when a site goes, and what gateways need to notice it, is told by itself: what
/// is compared with the forecast begins so long after, as in the forecast.
pub const SETTLED: Duration = crate::check::forecast::SETTLED;

/// Requests and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// All that came.
    pub asked: u64,
    /// Answered well,
    pub good: u64,
    /// refused with a time to come back,
    pub shed: u64,
    /// failed or late.
    pub failed: u64,
    /// What they were predicted to cost, in thousandths of a cost unit.
    pub cost: u64,
}

/// One tier.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Its name.
    pub name: String,
    /// Below this it stops.
    pub floor: u64,
    /// Before anything was broken,
    pub before: Sum,
    /// in the first seconds,
    pub onset: Sum,
    /// then until its end,
    pub during: Sum,
    /// and after it.
    pub after: Sum,
    /// Attempts while it lasted, those broken on purpose, those that the blast cap spared.
    pub attempts: u64,
    /// See `attempts`.
    pub broken: u64,
    /// See `attempts`.
    pub spared: u64,
    /// Time to first token in milliseconds at the worst gateway, median and 95th percentile:
    /// before, during, after.
    pub first_tokens: [[Option<f64>; 2]; 3],
}

impl Sum {
    fn add(&mut self, row: &[u64; 5]) {
        self.asked += row[0];
        self.good += row[1];
        self.shed += row[2];
        self.failed += row[3];
        self.cost += row[4];
    }

    /// Of what ended.
    pub fn share(&self) -> Option<f64> {
        let ended = self.good + self.shed + self.failed;
        (ended > 0).then(|| self.good as f64 / ended as f64)
    }
}

impl Figures {
    /// From its beginning to its end.
    pub fn all_during(&self) -> Sum {
        let (a, b) = (self.onset, self.during);
        Sum {
            asked: a.asked + b.asked,
            good: a.good + b.good,
            shed: a.shed + b.shed,
            failed: a.failed + b.failed,
            cost: a.cost + b.cost,
        }
    }
}

/// A share for people.
pub fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

/// The time after its beginning that is told by itself, and when it ended, in seconds.
pub fn bounds(known: &Known) -> (f64, f64, f64) {
    let state = &known.state;
    let end = state.ended.as_ref().map_or(state.before_s + state.for_s, |ended| ended.at_s);
    // Of a short one at least the second half is compared.
    let onset = SETTLED.as_secs_f64().min((end - state.before_s).max(0.0) / 2.0);
    // Counts are by the second: one belongs to where most of it lies.
    (state.before_s.round(), (state.before_s + onset).round(), end.round())
}

/// All tiers over all gateways, in the order of the configuration.
pub fn figures(gateways: &[Known]) -> Vec<Figures> {
    let mut all: Vec<Figures> = Vec::new();
    for known in gateways {
        let (from, settled, end) = bounds(known);
        for (at, (name, tier)) in known.state.tiers.iter().enumerate() {
            if all.len() <= at {
                all.push(Figures { name: name.clone(), ..Figures::default() });
            }
            let figures = &mut all[at];
            let count = |key: &str| tier[key].as_u64().unwrap_or(0);
            figures.floor = known.state.floors.get(name).and_then(|f| f.as_u64()).unwrap_or(0);
            figures.attempts += count("attempts");
            figures.broken += count("broken");
            figures.spared += count("spared");
            for (second, tiers) in known.state.seconds.rows.iter().enumerate() {
                let Some(row) = tiers.get(at) else { continue };
                let second = second as f64;
                let sum = match second {
                    _ if second + 1.0 <= from => &mut figures.before,
                    _ if second >= end => &mut figures.after,
                    _ if second < settled => &mut figures.onset,
                    _ => &mut figures.during,
                };
                sum.add(row);
            }
            for (at, phase) in ["before", "during", "after"].iter().enumerate() {
                for (which, key) in ["p50", "p95"].iter().enumerate() {
                    let worst = &mut figures.first_tokens[at][which];
                    let here = tier["ttft_ms"][phase][key].as_f64();
                    *worst = [*worst, here].into_iter().flatten().reduce(f64::max);
                }
            }
        }
    }
    all
}

/// Thousandths in a cost unit.
const UNIT: f64 = 1000.0;

/// Cost units of a request, on average while it lasted and had settled.
pub fn mean_cost(gateways: &[Known]) -> f64 {
    let all = figures(gateways);
    let sum = |of: fn(&Sum) -> u64| all.iter().map(|tier| of(&tier.during)).sum::<u64>() as f64;
    sum(|sum| sum.cost) / UNIT / sum(|sum| sum.asked).max(1.0)
}

/// Cost units a second that a tier asked for while it lasted and had settled.
pub fn demand(gateways: &[Known]) -> Vec<(String, f64)> {
    let lasted = gateways.iter().map(bounds).map(|(_, settled, end)| (end - settled).max(0.0));
    let lasted = lasted.fold(0.0, f64::max).max(1.0);
    let all = figures(gateways);
    all.into_iter().map(|tier| (tier.name, tier.during.cost as f64 / UNIT / lasted)).collect()
}

/// What the sites had, by many looks.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// Cost units a second that a site carries, the most that any gateway was told.
    pub capacity: BTreeMap<String, f64>,
    looks_before: f64,
    /// Attempts open at each site before anything was broken.
    open: BTreeMap<String, f64>,
}

impl Load {
    /// Takes a look in.
    pub fn look(&mut self, gateways: &[Known]) {
        let Some(first) = gateways.first() else { return };
        let phase = first.state.phase.as_str();
        if phase == "before" {
            self.looks_before += 1.0;
        }
        for known in gateways {
            let mut by_site: BTreeMap<&str, f64> = BTreeMap::new();
            for target in &known.view.targets {
                *by_site.entry(&target.site).or_default() += target.capacity;
                if phase == "before" {
                    *self.open.entry(target.site.clone()).or_default() += target.in_flight as f64;
                }
            }
            for (site, carries) in by_site {
                let most = self.capacity.entry(site.to_owned()).or_default();
                *most = most.max(carries);
            }
        }
    }

    /// Open attempts at a site before anything was broken.
    pub fn open(&self, site: &str) -> Option<f64> {
        let sum = self.open.get(site)?;
        (self.looks_before > 0.0).then(|| sum / self.looks_before)
    }
}

#[cfg(test)]
mod tests {
    use super::super::gateways::{Ended, State};
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_are_told_apart_by_when_they_came() {
        let mut state = State { before_s: 2.0, for_s: 30.0, ..State::default() };
        state.ended = Some(Ended { at_s: 32.0, ..Ended::default() });
        state.seconds.rows = (0..40).map(|at| vec![[10, at / 4, 1, 0, 20]]).collect();
        state.tiers.insert("pro".into(), json!({ "attempts": 7, "broken": 3 }));
        state.floors.insert("pro".into(), json!(95));
        let known = Known { state, ..Known::default() };
        let all = figures(&[known.clone(), known]);
        let asked = |sum: &Sum| sum.asked / 20;
        let pro = &all[0];
        assert_eq!([&pro.before, &pro.onset, &pro.during, &pro.after].map(asked), [2, 10, 20, 8]);
        assert_eq!((pro.attempts, pro.broken, pro.floor), (14, 6, 95));
        assert_eq!(pro.all_during().asked, 600);
    }
}
