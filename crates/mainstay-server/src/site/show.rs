//! How the workers of a site stand, for the operator: a page, and metrics.

use super::Node;
use super::worker::Stands;
use mainstay_core::site::schedule::worker::Verdict;
use serde_json::{Value, json};
use std::fmt::Write;

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
    out
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Up => "up",
        Verdict::Suspect => "suspect",
        Verdict::Down => "down",
        Verdict::Probation => "probation",
    }
}
