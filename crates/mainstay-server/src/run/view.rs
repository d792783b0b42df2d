//! How this gateway stands, as one JSON document: what `mainstay top` and the console show.

use crate::console::flow::Flow;
use crate::drive::Drive;
use crate::telemetry::Names;
use mainstay_core::fact::Verdict;
use mainstay_core::gateway::losses::Loss;
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

/// What each loss would leave now: whether nobody would be refused, and whom where somebody would.
pub fn capacity(drive: &Drive) -> Value {
    let now = drive.clock().now();
    let losses = drive.read(|gateway| gateway.losses(now));
    let names = &*drive.telemetry().names();
    let tier = |at: usize| names.tiers.get(at).cloned().unwrap_or_default();
    let of = |loss: &Loss| {
        let refused = loss.refused.iter().enumerate().filter(|(_, refused)| **refused > 0);
        let refused = refused.map(|(at, of)| (tier(at), json!(f64::from(*of) / 1000.0)));
        json!({
            "site": names.site(loss.site),
            "model": names.model(loss.model),
            "asked_cu_per_second": loss.asked,
            "left_cu_per_second": loss.left,
            "refused": refused.collect::<serde_json::Map<_, _>>(),
        })
    };
    json!({
        "holds": losses.iter().all(Loss::holds),
        "losses": losses.iter().map(of).collect::<Vec<_>>(),
    })
}

/// The worst loss as a number to watch, where anything is known.
pub fn headroom(drive: &Drive) -> String {
    let now = drive.clock().now();
    let losses = drive.read(|gateway| gateway.losses(now));
    let asked = losses.iter().filter(|loss| loss.asked > 0.0);
    let ratios = asked.filter_map(|loss| Some(loss.left? / loss.asked));
    let Some(worst) = ratios.reduce(f64::min) else { return String::new() };
    format!(
        "# TYPE mainstay_headroom_n1_ratio gauge\n# HELP mainstay_headroom_n1_ratio What the \
         worst loss of a site would leave, by what is asked.\nmainstay_headroom_n1_ratio {worst}\n"
    )
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
