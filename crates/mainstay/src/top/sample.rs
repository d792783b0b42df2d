//! One look at a server, and how it changed since the one before.

use crate::admin_client::get;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Instant;

/// What `/view` says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct View {
    /// Models at sites.
    pub targets: Vec<Target>,
    /// What is asked for.
    pub demand: Vec<Demand>,
    /// Requests that have not ended.
    pub open: u64,
    /// Requests that wait for room.
    pub waiting: u64,
    /// Orders in force.
    pub orders: u64,
    /// The gateway doubts itself.
    pub in_doubt: bool,
    /// The latest decisions, the oldest first.
    pub facts: Vec<Fact>,
}

/// A model at a site.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Target {
    /// Where.
    pub site: String,
    /// Which.
    pub model: String,
    /// How it is, in a word.
    pub state: String,
    /// Attempts open there.
    pub in_flight: u64,
    /// Credit, demand and capacity in cost units a second; 0 where there is none.
    pub held: f64,
    /// See `held`.
    pub wanted: f64,
    /// See `held`.
    pub capacity: f64,
    /// Hundredths of the capacity on offer.
    pub ramp: u8,
    /// Expected time to first token.
    pub first_token_ms: Option<f64>,
}

/// What is asked of a model.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Demand {
    /// Which.
    pub model: String,
    /// By tier.
    pub cu_per_second: BTreeMap<String, f64>,
}

/// A decision.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Fact {
    /// How long ago.
    pub age_s: f64,
    /// Its kind.
    pub fact: String,
    /// In words.
    pub text: String,
}

/// One look.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// How it stands.
    pub view: View,
    /// Attempts ended at each site and model, all and those whole.
    pub attempts: BTreeMap<(String, String), [f64; 2]>,
    /// Requests closed by tier: all, answered, shed.
    pub requests: BTreeMap<String, [f64; 3]>,
}

/// The last two looks, and why there is no newer one.
#[derive(Clone, Debug, Default)]
pub struct Trend {
    /// The newest.
    pub now: Option<Sample>,
    /// The one before.
    pub before: Option<Sample>,
    /// What went wrong since, and since when.
    pub wrong: Option<(String, Instant)>,
}

impl Sample {
    /// Asks the server at `admin`.
    ///
    /// # Errors
    /// Words that say how to mend it.
    pub fn take(admin: &str) -> Result<Sample, String> {
        let ask = |path: &str, accept: &str| match get(admin, path, accept) {
            Ok((200, body)) => Ok(body),
            Ok((status, _)) => Err(format!("{admin}{path} answered {status}; is it a mainstay?")),
            Err(error) => Err(format!(
                "cannot ask {admin}: {error}; is it running, and is this its admin address \
                 (--admin)?"
            )),
        };
        let view = ask("/view", "application/json")?;
        let view = serde_json::from_str(&view).map_err(|error| format!("/view: {error}"))?;
        let metrics = ask("/metrics", "*/*")?;
        let mut sample = Sample {
            at: Instant::now(),
            view,
            attempts: BTreeMap::new(),
            requests: BTreeMap::new(),
        };
        metrics.lines().for_each(|line| sample.metric(line));
        Ok(sample)
    }

    fn metric(&mut self, line: &str) {
        let Some((name, rest)) = line.split_once('{') else { return };
        let Some((labels, value)) = rest.rsplit_once("} ") else { return };
        let Some(value) = value.split(' ').next().and_then(|v| v.parse::<f64>().ok()) else {
            return;
        };
        let label = |key: &str| {
            let start = labels.find(&format!("{key}=\""))? + key.len() + 2;
            labels.get(start..)?.split('"').next().map(str::to_owned)
        };
        match name {
            "mainstay_upstream_attempts_total" => {
                let (Some(site), Some(model)) = (label("site"), label("model")) else { return };
                let known = self.attempts.entry((site, model)).or_default();
                known[0] += value;
                known[1] += if label("result").as_deref() == Some("ok") { value } else { 0.0 };
            }
            "mainstay_requests_total" => {
                let (Some(tier), Some(outcome)) = (label("tier"), label("outcome")) else { return };
                let known = self.requests.entry(tier).or_default();
                known[0] += value;
                known[1] += if outcome == "ok" { value } else { 0.0 };
                known[2] += if outcome == "shed" { value } else { 0.0 };
            }
            _ => {}
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let attempts: Vec<Value> = self
            .attempts
            .iter()
            .map(|((site, model), [all, whole])| {
                json!({ "site": site, "model": model, "attempts": all, "whole": whole })
            })
            .collect();
        let tiers: serde_json::Map<String, Value> = self
            .requests
            .iter()
            .map(|(tier, [all, ok, shed])| {
                (tier.clone(), json!({ "closed": all, "answered": ok, "shed": shed }))
            })
            .collect();
        let targets: Vec<Value> = self
            .view
            .targets
            .iter()
            .map(|t| {
                json!({
                    "site": t.site, "model": t.model, "state": t.state,
                    "in_flight": t.in_flight, "held": t.held, "wanted": t.wanted,
                    "capacity": t.capacity, "ramp": t.ramp, "first_token_ms": t.first_token_ms,
                })
            })
            .collect();
        json!({
            "targets": targets, "attempts": attempts, "tiers": tiers, "open": self.view.open,
            "waiting": self.view.waiting, "orders": self.view.orders,
            "in_doubt": self.view.in_doubt,
        })
    }
}

impl Trend {
    /// Of one look.
    pub fn of(sample: Sample) -> Trend {
        Trend { now: Some(sample), ..Trend::default() }
    }

    /// Another look, or why there is none.
    pub fn add(&mut self, sample: Result<Sample, String>) {
        match sample {
            Ok(sample) => {
                self.before = self.now.replace(sample);
                self.wrong = None;
            }
            Err(why) => {
                let since = self.wrong.take().map_or_else(Instant::now, |(_, since)| since);
                self.wrong = Some((why, since));
            }
        }
    }

    /// Attempts a second at a target between the last two looks; `None` where there were not two.
    pub fn attempts(&self, site: &str, model: &str) -> Option<f64> {
        let key = (site.to_owned(), model.to_owned());
        let of = |sample: &Sample| sample.attempts.get(&key).map_or(0.0, |[all, _]| *all);
        self.rate(of)
    }

    /// Requests a second of a tier: closed, answered, shed.
    pub fn requests(&self, tier: &str) -> Option<[f64; 3]> {
        let of = |at: usize| {
            self.rate(|sample| sample.requests.get(tier).map_or(0.0, |counts| counts[at]))
        };
        Some([of(0)?, of(1)?, of(2)?])
    }

    fn rate(&self, of: impl Fn(&Sample) -> f64) -> Option<f64> {
        let (now, before) = (self.now.as_ref()?, self.before.as_ref()?);
        let seconds = now.at.duration_since(before.at).as_secs_f64();
        // A restarted server counts from nothing again.
        let grown = of(now) - of(before);
        (seconds > 0.0 && grown >= 0.0).then(|| grown / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn counters_become_rates() {
        let at = Instant::now();
        let sample = |at, line: &str| {
            let (attempts, requests) = Default::default();
            let mut sample = Sample { at, view: View::default(), attempts, requests };
            sample.metric(line);
            sample
        };
        let line = |count: u32| {
            format!(
                "mainstay_upstream_attempts_total{{site=\"a\",model=\"m\",result=\"ok\"}} {count}"
            )
        };
        let mut trend = Trend::of(sample(at, &line(10)));
        assert_eq!(trend.attempts("a", "m"), None);
        trend.add(Ok(sample(at + Duration::from_secs(2), &line(30))));
        assert_eq!(trend.attempts("a", "m"), Some(10.0));
        trend.add(Ok(sample(at + Duration::from_secs(3), &line(0))));
        assert_eq!(trend.attempts("a", "m"), None);
    }
}
