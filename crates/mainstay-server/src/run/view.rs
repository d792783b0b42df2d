//! How this gateway stands, as one JSON document: what `mainstay top` and the console show.

use crate::console::flow::Flow;
use crate::drive::Drive;
use crate::telemetry::Names;
use mainstay_core::fact::Verdict;
use mainstay_core::gateway::view::{TargetView, View};
use mainstay_core::message::Offer;
use serde_json::{Value, json};

/// The document.
pub fn view(drive: &Drive, flow: &Flow) -> Value {
    let now = drive.clock().now();
    let view = drive.read(|gateway| gateway.view(now));
    let telemetry = drive.telemetry();
    let names = &*telemetry.names();
    let facts: Vec<Value> = telemetry
        .recent()
        .into_iter()
        .map(|(at, kind, text)| {
            let age = now.since(at).as_secs_f64();
            json!({ "age_s": age, "fact": kind, "text": text })
        })
        .collect();
    let View { targets, demand, open, waiting, orders, in_doubt } = view;
    let demand: Vec<Value> = demand
        .into_iter()
        .map(|(model, tiers)| {
            let tiers: serde_json::Map<String, Value> = tiers
                .into_iter()
                .enumerate()
                .map(|(at, asked)| (names.tiers.get(at).cloned().unwrap_or_default(), json!(asked)))
                .collect();
            json!({ "model": names.model(model), "cu_per_second": tiers })
        })
        .collect();
    json!({
        "targets": targets.iter().map(|target| of_target(names, target)).collect::<Vec<_>>(),
        "tiers": names.tiers,
        "demand": demand,
        "flow": flow.told(),
        "open": open,
        "waiting": waiting,
        "orders": orders,
        "in_doubt": in_doubt,
        "facts": facts,
    })
}

fn of_target(names: &Names, view: &TargetView) -> Value {
    let (site, model) = names.target(view.target);
    json!({
        "site": site,
        "model": model,
        "state": state(view),
        "in_flight": view.in_flight,
        "held": view.held,
        "wanted": view.wanted,
        "capacity": view.capacity,
        "ramp": view.ramp,
        "first_token_ms": view.first_token.map(|time| time.as_secs_f64() * 1000.0),
    })
}

/// One word: an order first, then what the site says, then what is believed.
fn state(view: &TargetView) -> &'static str {
    match (view.offer, view.verdict) {
        _ if view.is_shut => "drained",
        _ if view.is_parked => "parked",
        (Offer::Draining | Offer::Closed, _) => "draining",
        (Offer::Open, Verdict::Up) => "up",
        (Offer::Open, Verdict::Suspect) => "suspect",
        (Offer::Open, Verdict::Down) => "down",
        (Offer::Open, Verdict::Probation) => "probation",
    }
}
