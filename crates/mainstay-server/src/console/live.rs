//! The part of the page that is kept up to date: how the sites are, what flows where, what is
//! wrong, what operators ordered, and the last decisions with their reasons.

use super::Documents;
use super::flow;
use super::html::{Cell, Html, amount, time};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// How a model at a site can be, the best first.
const STATES: [&str; 7] = ["up", "probation", "suspect", "draining", "down", "parked", "drained"];

/// Decisions on the page; what operators do comes below them.
const FACTS_MAX: usize = 20;

/// All of it.
pub(super) fn live(documents: &dyn Documents) -> Html {
    let view = documents.show("/view").unwrap_or_default();
    let mut html = Html::default();
    line(&view, documents, &mut html);
    incidents(documents.show("/-/incidents"), &mut html);
    html.raw("<h2>Sites</h2>\n");
    sites(&view, &mut html);
    html.raw("<h2>Traffic from tiers to sites</h2>\n");
    flow::draw(&view, &mut html);
    html.raw("<h2>Orders in force</h2>\n");
    orders(documents.show("/-/orders"), &mut html);
    drill(documents.show("/-/drill"), &mut html);
    html.raw("<h2>Last decisions</h2>\n");
    facts(&view, &mut html);
    html
}

/// How it is in one line.
fn line(view: &Value, documents: &dyn Documents, html: &mut Html) {
    let ready = documents.ready();
    html.raw("<p class=\"card\">").state(&ready).raw(" · ").number(number(&view["open"]));
    html.raw(" requests open, ").number(number(&view["waiting"])).raw(" wait for room");
    if view["in_doubt"] == true {
        html.raw(" · <span class=\"warn\">this gateway doubts itself</span>");
    }
    html.raw("</p>\n");
}

fn incidents(told: Option<Value>, html: &mut Html) {
    html.raw("<h2>Incidents</h2>\n");
    let Some(told) = told else {
        html.raw("<p class=\"soft\">This process shows no status page, so it knows none.</p>\n");
        return;
    };
    let open: Vec<&Value> =
        list(&told["incidents"]).iter().filter(|each| each["stage"] != "resolved").collect();
    let row = |each: &&Value| {
        let parts: Vec<&str> = list(&each["components"]).iter().map(text).collect();
        vec![
            Cell::Text(format!("{} {}", each["id"], text(&each["title"]))),
            Cell::State(text(&each["stage"]).into()),
            Cell::Text(text(&each["impact"]).into()),
            Cell::Text(parts.join(", ")),
            Cell::Text(text(&each["began"]).into()),
        ]
    };
    let none = ("Incidents that are not resolved", "None is open.");
    let heads = ["Incident", "Stage", "Impact", "Parts", "Began (UTC)"];
    html.table(none, &heads, open.iter().map(row));
}

/// One row for each site: its models are summed up.
fn sites(view: &Value, html: &mut Html) {
    let mut here: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for target in list(&view["targets"]) {
        here.entry(text(&target["site"])).or_default().push(target);
    }
    let named: Vec<(&str, &[&Value])> =
        site_names(view).into_iter().map(|site| (site, here[site].as_slice())).collect();
    let mut flows: BTreeMap<&str, f64> = BTreeMap::new();
    for flow in list(&view["flow"]) {
        *flows.entry(text(&flow["site"])).or_default() += number(&flow["per_second"]);
    }
    let all: f64 = flows.values().sum();
    let row = |(site, targets): &(&str, &[&Value])| {
        let sum = |key: &str| targets.iter().map(|target| number(&target[key])).sum::<f64>();
        let most = |key: &str| targets.iter().map(|t| number(&t[key])).fold(0.0, f64::max);
        let here = flows.get(site).copied().unwrap_or(0.0);
        let share = if all > 0.0 { format!("{:.0} %", here / all * 100.0) } else { "–".into() };
        let first = targets.iter().filter_map(|target| target["first_token_ms"].as_f64());
        let first = first.reduce(f64::min).map_or("–".into(), |ms| format!("{ms:.0} ms"));
        let capacity = most("capacity");
        let of_ours = |value: String| if capacity > 0.0 { value } else { "–".into() };
        vec![
            Cell::Text((*site).into()),
            Cell::State(state(targets)),
            Cell::Text(health(targets)),
            Cell::Number(amount(sum("in_flight"))),
            Cell::Number(share),
            Cell::Number(of_ours(amount(sum("held")))),
            Cell::Number(of_ours(amount(sum("wanted")))),
            Cell::Number(of_ours(format!("{} × {:.0} %", amount(capacity), most("ramp")))),
            Cell::Number(first),
        ]
    };
    let caption = "Credit, demand and capacity in cost units a second; share of the attempts of \
                   the last minute";
    let heads = [
        "Site",
        "State",
        "Models",
        "In flight",
        "Share",
        "Credit",
        "Demand",
        "Capacity × offered",
        "First token",
    ];
    html.table((caption, "No site is configured."), &heads, named.iter().map(row));
}

/// The sites, in the order of the configuration.
pub(super) fn site_names(view: &Value) -> Vec<&str> {
    let mut seen = BTreeSet::new();
    let all = list(&view["targets"]).iter().map(|target| text(&target["site"]));
    all.filter(|site| seen.insert(*site)).collect()
}

/// That of the best of its models.
fn state(targets: &[&Value]) -> String {
    let at = |target: &&&Value| STATES.iter().position(|state| target["state"] == **state);
    let best = targets.iter().filter_map(|target| at(&target)).min();
    best.map_or("unknown", |at| STATES[at]).into()
}

/// How many of its models are how.
fn health(targets: &[&Value]) -> String {
    let count = |state: &&str| targets.iter().filter(|target| target["state"] == **state).count();
    let counts = STATES.iter().filter(|state| count(state) > 0);
    let told: Vec<String> = counts.map(|state| format!("{} {state}", count(state))).collect();
    told.join(", ")
}

fn orders(told: Option<Value>, html: &mut Html) {
    let Some(told) = told else {
        html.raw("<p class=\"soft\">Orders are taken where this process is a node: give it a ");
        html.raw("name in <code>[node]</code>.</p>\n");
        return;
    };
    let row = |order: &Value| {
        vec![
            Cell::Text(text(&order["id"]).into()),
            Cell::State(order_words(order)),
            Cell::Text(order["site"].as_str().unwrap_or("everywhere").into()),
            Cell::Text(time(number(&order["left_ms"]) / 1000.0)),
            Cell::Text(text(&order["reason"]).into()),
        ]
    };
    let heads = ["Order", "What", "Site", "Ends in", "Why"];
    let none = ("Operators' orders", "None.");
    html.table(none, &heads, list(&told["orders"]).iter().map(row));
}

/// `drain`, or `cap 40 %`.
pub(super) fn order_words(order: &Value) -> String {
    match order["percent"].as_u64() {
        Some(percent) => format!("{} {percent} %", text(&order["verb"])),
        None => text(&order["verb"]).into(),
    }
}

/// Whether a drill is under way.
pub(super) fn is_drilling(drill: &Value) -> bool {
    ["before", "during", "after"].contains(&text(&drill["phase"])) && drill["ended"].is_null()
}

fn drill(told: Option<Value>, html: &mut Html) {
    let Some(drill) = told.filter(|drill| drill["phase"] != "none") else { return };
    html.raw("<h2>Drill</h2>\n<p class=\"card\">").text(text(&drill["how"])).raw(" at ");
    html.text(text(&drill["site"])).raw(", ").number(number(&drill["percent"]));
    html.raw(" % of the attempts: ");
    match drill["ended"]["text"].as_str() {
        Some(ended) => html.raw("ended, ").text(ended),
        None => html.raw("phase ").text(text(&drill["phase"])),
    };
    html.raw(" · ").number(number(&drill["broken"])).raw(" of ");
    html.number(number(&drill["attempts"])).raw(" attempts broken</p>\n");
}

fn facts(view: &Value, html: &mut Html) {
    let row = |fact: &Value| {
        vec![
            Cell::Text(format!("{} ago", time(number(&fact["age_s"])))),
            Cell::Text(text(&fact["fact"]).into()),
            Cell::Text(text(&fact["text"]).into()),
        ]
    };
    let newest: Vec<&Value> = list(&view["facts"]).iter().rev().take(FACTS_MAX).collect();
    let none = ("The newest first", "Nothing was decided that is worth a look.");
    html.table(none, &["When", "What", "Why"], newest.into_iter().map(row));
}

/// The elements of a list, if it is one.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text, or nothing.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A number, or nought.
pub(super) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}
