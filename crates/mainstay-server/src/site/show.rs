//! How the workers of a site stand, for the operator: a page, and metrics.

use super::Node;
use super::worker::Stands;
use mainstay_core::names::TierId;
use mainstay_core::site::schedule::worker::Verdict;
use serde_json::{Value, json};
use std::fmt::Write;

/// Names of what is told to whoever buys machines.
const DELAY: &str = "mainstay_queue_delay_seconds";
const HEADROOM: &str = "mainstay_headroom_cost_units_per_second";
const WANTED: &str = "mainstay_workers_wanted";

/// The workers that are servers of their own. One that left and is empty is not among them.
pub fn page(node: &Node) -> Value {
    let worker = |stands: &Stands| {
        let levels = stands.report.fullest();
        json!({
            "address": stands.address,
            "engine": stands.engine,
            "model": stands.model,
            "verdict": word(stands.verdict),
            "leaves": stands.leaves,
            "answers": stands.answers,
            "running": levels.running,
            "waiting": levels.waiting,
            "kv_use": levels.kv_use,
            "slots": stands.report.slots,
            "context": stands.report.context,
        })
    };
    json!({ "workers": node.crew.stands().iter().map(worker).collect::<Vec<_>>() })
}

/// The same as metrics. What a worker does not say has no line.
pub fn exposition(node: &Node) -> String {
    let all = node.crew.stands();
    let mut out = String::new();
    let mut family = |name: &str, help: &str, value: &dyn Fn(&Stands) -> Option<f64>| {
        let lines = all.iter().filter_map(|stands| Some((stands, value(stands)?)));
        for (at, (stands, value)) in lines.enumerate() {
            if at == 0 {
                // Writing to a string cannot fail.
                let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
            }
            let (model, address) = (&stands.model, &stands.address);
            let _ = writeln!(out, "{name}{{model={model:?},address={address:?}}} {value}");
        }
    };
    let takes = |stands: &Stands| matches!(stands.verdict, Verdict::Up | Verdict::Probation);
    family("mainstay_worker_up", "Whether the worker takes answers.", &|stands| {
        Some(f64::from(u8::from(takes(stands))))
    });
    family("mainstay_worker_answers", "Answers of ours at the worker.", &|stands| {
        Some(f64::from(stands.answers))
    });
    family("mainstay_worker_running", "Answers that the worker says it computes.", &|stands| {
        stands.report.fullest().running.map(f64::from)
    });
    family("mainstay_worker_waiting", "Answers that the worker says wait there.", &|stands| {
        stands.report.fullest().waiting.map(f64::from)
    });
    family("mainstay_worker_kv_use", "Share of its KV cache in use, 0 to 1.", &|stands| {
        stands.report.fullest().kv_use
    });
    out + &signals(node)
}

/// What whoever buys machines goes by, of each model. A tier for which nothing waited of late has
/// no wait.
fn signals(node: &Node) -> String {
    let now = node.controller.clock().now();
    let (mut delays, mut headrooms, mut wanted) = (String::new(), String::new(), String::new());
    node.controller.read(|site| {
        for (pool, model) in site.config().pools.iter().zip(&node.models) {
            let (name, target) = (&model.name, pool.target);
            let Some(signal) = site.signal(target) else { continue };
            // Writing to a string cannot fail.
            for (at, tier) in (0..).zip(&node.tiers) {
                let Some((p50, p95)) = signal.delays(TierId(at)) else { continue };
                for (quantile, delay) in [("0.5", p50), ("0.95", p95)] {
                    let delay = delay.as_secs_f64();
                    let _ = writeln!(
                        delays,
                        "{DELAY}{{model={name:?},tier={tier:?},quantile=\"{quantile}\"}} {delay}"
                    );
                }
            }
            let headroom = signal.headroom().as_f64();
            let _ = writeln!(headrooms, "{HEADROOM}{{model={name:?}}} {headroom}");
            let count = site.standing(now, target).map(|standing| standing.wanted);
            // None is known before the first second.
            if let Some(count) = count.filter(|count| *count > 0) {
                let _ = writeln!(wanted, "{WANTED}{{model={name:?},role=\"both\"}} {count}");
            }
        }
    });
    let family = |name: &str, help: &str, lines: &str| match lines {
        "" => String::new(),
        lines => format!("# HELP {name} {help}\n# TYPE {name} gauge\n{lines}"),
    };
    family(DELAY, "How long work waits for a worker.", &delays)
        + &family(HEADROOM, "What could be let in beyond what is, in cost units.", &headrooms)
        + &family(WANTED, "How many workers would be the right number.", &wanted)
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Up => "up",
        Verdict::Suspect => "suspect",
        Verdict::Down => "down",
        Verdict::Probation => "probation",
    }
}
