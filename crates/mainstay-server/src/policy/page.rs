//! How this node stands with generations, for people and programs: one JSON document and a few
//! metrics.

use super::Desk;
use super::kept::{Hash, Kept};
use super::words::waits;
use mainstay_core::policy::{Snapshot, Waits};
use serde_json::{Value, json};
use std::fmt::Write;

impl Desk {
    /// In force, staged and what it waits for, good, quarantine; at the source what was published.
    pub fn page(&self) -> Value {
        let published = self.source.as_ref().map(|source| {
            let source = source.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            source.list().to_vec()
        });
        let now = self.clock.now();
        let shared = self.lock();
        let generations = shared.machine.generations();
        let canary = shared.machine.canary_time();
        let staged = generations.staged().map(|staged| {
            let waiting = shared.machine.waits(now);
            let change = shared.told.change.as_ref();
            let change = change.filter(|(generation, _)| {
                *generation == staged.generation && waiting == Some(Waits::Token)
            });
            let mut told = of(staged);
            told["waits"] = json!(waiting.map(|each| waits(&shared.names, each, canary)));
            told["changes"] = json!(change.map(|(_, change)| change));
            told
        });
        let in_force = generations.current().map(|current| {
            let mut told = of(current);
            told["clean_s"] = json!(generations.clean(now).as_secs());
            told["is_good"] = json!(generations.disk().is_good(current.content));
            told
        });
        let disk = generations.disk();
        let quarantine: Vec<Hash> = disk.quarantine.iter().copied().map(Hash).collect();
        json!({
            "in_force": in_force,
            "staged": staged,
            "good": disk.good.iter().map(of).collect::<Vec<_>>(),
            "quarantine": quarantine,
            "refused": shared.told.refused,
            "source": self.around.source_name,
            "source_heard_s": shared.told.heard.map(|at| now.since(at).as_secs()),
            "published": published,
        })
    }

    /// Lines for the metrics, in the exposition format.
    pub fn exposition(&self) -> String {
        let shared = self.lock();
        let generations = shared.machine.generations();
        let number = |snapshot: Option<&Snapshot>| snapshot.map_or(0, |each| each.generation);
        let gauges = [
            (
                "generation",
                "The generation of policy in force; 0 is the node's own file.",
                number(generations.current()),
            ),
            (
                "staged_generation",
                "The generation that waits to be in force; 0 if none does.",
                number(generations.staged()),
            ),
            (
                "quarantined",
                "Contents that are not loaded again.",
                generations.disk().quarantine.len() as u64,
            ),
        ];
        let mut text = String::new();
        for (name, what, value) in gauges {
            let name = format!("mainstay_policy_{name}");
            let _ = write!(text, "# HELP {name} {what}\n# TYPE {name} gauge\n{name} {value}\n");
        }
        let counters = [
            (
                "rollbacks",
                "Generations that were left for one that proved itself.",
                shared.told.rolled_back,
            ),
            ("refusals", "Generations that were not taken in.", shared.told.refusals),
        ];
        for (name, what, value) in counters {
            let name = format!("mainstay_policy_{name}");
            let _ = write!(text, "# HELP {name} {what}\n# TYPE {name} counter\n");
            let _ = writeln!(text, "{name}_total {value}");
        }
        text
    }
}

fn of(snapshot: &Snapshot) -> Value {
    serde_json::to_value(Kept::from(snapshot)).unwrap_or_default()
}
