//! What flows from tiers to sites: looked at every few seconds, told as a mean over the last
//! minute, drawn as bands, and written as a table for who does not see the picture.

use super::html::{Cell, Html, amount};
use super::live::{list, site_names, text};
use crate::telemetry::{Names, Telemetry};
use mainstay_core::console::FLOW_LOOKS;
use mainstay_core::time::Time;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Nodes of the picture on each side; what is beyond that flows into the last.
const NODES_MAX: usize = 12;
/// A colour for each tier, as the style sheet has them.
const COLOURS: [&str; 6] = ["f0", "f1", "f2", "f3", "f4", "f5"];
/// The picture's width, in its own units, which are pixels of a phone.
const WIDTH: usize = 340;
/// From one node to the next.
const STEP: usize = 34;
/// The widest band.
const BAND: usize = 22;
/// Letters of a name beside a node.
const LETTERS: usize = 15;

/// The last looks, the oldest first.
#[derive(Default)]
pub struct Flow(Mutex<VecDeque<Look>>);

/// When, what things were called, and what had been counted.
type Look = (Time, Arc<Names>, Vec<u64>);

impl Flow {
    /// Looks now.
    pub fn look(&self, now: Time, telemetry: &Telemetry) {
        let (names, counts) = telemetry.flows();
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Under other names it is counted anew.
        looks.retain(|(_, known, _)| Arc::ptr_eq(known, &names));
        if looks.len() >= FLOW_LOOKS {
            looks.pop_front();
        }
        looks.push_back((now, names, counts));
    }

    /// Attempts a second of each tier at each site where there are any, the most first.
    pub fn told(&self) -> Value {
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some((since, _, first)), Some((now, names, last))) = (looks.front(), looks.back())
        else {
            return json!([]);
        };
        let seconds = now.since(*since).as_secs_f64();
        let sites = last.len().checked_div(names.tiers.len()).unwrap_or(0);
        let mut flows: Vec<(f64, usize, usize)> = Vec::new();
        for (at, (first, last)) in first.iter().zip(last).enumerate() {
            let count = last.saturating_sub(*first) as f64;
            if count > 0.0 && seconds > 0.0 {
                flows.push((count / seconds, at / sites, at % sites));
            }
        }
        flows.sort_by(|one, other| other.0.total_cmp(&one.0));
        let told = flows.into_iter().map(|(rate, tier, site)| {
            let (tier, site) = (names.tiers.get(tier), names.sites.get(site));
            json!({ "tier": tier, "site": site, "per_second": rate })
        });
        told.collect()
    }
}

/// The picture and its table.
pub(super) fn draw(view: &Value, html: &mut Html) {
    let flows: Vec<(&str, &str, f64)> = list(&view["flow"])
        .iter()
        .filter_map(|flow| {
            let rate = flow["per_second"].as_f64()?;
            Some((flow["tier"].as_str()?, flow["site"].as_str()?, rate))
        })
        .collect();
    if flows.is_empty() {
        html.raw("<p class=\"soft\">Nothing was sent to any site within the last minute.</p>\n");
        return;
    }
    let tiers: Vec<&str> = list(&view["tiers"]).iter().map(text).collect();
    picture(&flows, (&tiers, &site_names(view)), html);
    let row = |(tier, site, rate): &(&str, &str, f64)| {
        let cell = |text: &str| Cell::Text(text.into());
        vec![cell(tier), cell(site), Cell::Number(amount(*rate))]
    };
    html.raw("<details><summary>The same as a table</summary>\n");
    let caption = ("Attempts a second, mean of the last minute", "none");
    html.table(caption, &["Tier", "Site", "Attempts/s"], flows.iter().map(row));
    html.raw("</details>\n");
}

fn picture(flows: &[(&str, &str, f64)], (tiers, sites): (&[&str], &[&str]), html: &mut Html) {
    let tiers = nodes(flows.iter().map(|(tier, _, rate)| (*tier, *rate)), tiers);
    let sites = nodes(flows.iter().map(|(_, site, rate)| (*site, *rate)), sites);
    let most = flows.iter().map(|flow| flow.2).fold(f64::MIN_POSITIVE, f64::max);
    let height = STEP * tiers.len().max(sites.len()) + STEP / 2;
    let place = |nodes: &[(&str, f64)], name: &str| {
        let last = nodes.len().saturating_sub(1);
        let at = nodes.iter().position(|(node, _)| *node == name).unwrap_or(last);
        // The shorter column stands in the middle of the longer one.
        at * STEP + STEP / 2 + (height - STEP / 2 - nodes.len() * STEP) / 2
    };
    html.raw("<svg class=\"flow\" role=\"img\" aria-label=\"");
    html.text(&words(flows)).raw("\" viewBox=\"0 0 ").number(WIDTH as f64).raw(" ");
    html.number(height as f64).raw("\">");
    for (tier, site, rate) in flows.iter().take(NODES_MAX * NODES_MAX) {
        let (from, to) = (place(&tiers, tier) as f64 + 4.0, place(&sites, site) as f64 + 4.0);
        let colour = tiers.iter().position(|(node, _)| node == tier).unwrap_or(0);
        html.raw("<path class=\"").raw(COLOURS[colour % COLOURS.len()]);
        html.raw("\" stroke-width=\"").number((rate / most * BAND as f64).max(1.0));
        html.raw("\" d=\"M110 ").number(from).raw("C165 ").number(from).raw(" 175 ").number(to);
        html.raw(" 230 ").number(to).raw("\"/>");
    }
    for (nodes, x, anchor) in [(&tiers, "106", "end"), (&sites, "234", "start")] {
        for (name, rate) in nodes {
            let y = place(nodes, name);
            let shown: String = name.chars().take(LETTERS).collect();
            html.raw("<text x=\"").raw(x).raw("\" y=\"").number(y as f64 + 4.0);
            html.raw("\" text-anchor=\"").raw(anchor).raw("\">").text(&shown).raw("</text>");
            html.raw("<text class=\"rate\" x=\"").raw(x).raw("\" y=\"").number(y as f64 + 16.0);
            html.raw("\" text-anchor=\"").raw(anchor).raw("\">").text(&amount(*rate));
            html.raw("/s</text>");
        }
    }
    html.raw("</svg>\n");
}

/// What flows through each of these, in this order, so that nothing jumps about; the last one
/// stands for all beyond the bound.
fn nodes<'a>(parts: impl Iterator<Item = (&'a str, f64)>, order: &[&str]) -> Vec<(&'a str, f64)> {
    let mut nodes: Vec<(&str, f64)> = Vec::new();
    for (name, rate) in parts {
        match nodes.iter().position(|(node, _)| *node == name) {
            Some(at) => nodes[at].1 += rate,
            None if nodes.len() + 1 < NODES_MAX => nodes.push((name, rate)),
            None if nodes.len() < NODES_MAX => nodes.push(("others", rate)),
            None => nodes[NODES_MAX - 1].1 += rate,
        }
    }
    nodes.sort_by_key(|(name, _)| order.iter().position(|each| each == name).unwrap_or(usize::MAX));
    nodes
}

/// The picture for who hears it read.
fn words(flows: &[(&str, &str, f64)]) -> String {
    let all: f64 = flows.iter().map(|flow| flow.2).sum();
    let most = flows.iter().take(3).map(|(tier, site, rate)| {
        let percent = rate / all * 100.0;
        format!("{percent:.0} % is {tier} to {site}")
    });
    let most: Vec<String> = most.collect();
    format!("{} attempts a second from tiers to sites: {}", amount(all), most.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(flows: &Value) -> String {
        let mut html = Html::default();
        let targets = [json!({ "site": "<b>" }), json!({ "site": "a" })];
        draw(&json!({ "flow": flows, "tiers": ["pro", "free"], "targets": targets }), &mut html);
        html.into_string()
    }

    #[test]
    fn the_picture_has_every_flow_and_says_it_in_words() {
        let flows = json!([
            { "tier": "pro", "site": "a", "per_second": 8.0 },
            { "tier": "free", "site": "a", "per_second": 1.0 },
            { "tier": "free", "site": "<b>", "per_second": 1.0 },
        ]);
        let text = drawn(&flows);
        assert_eq!(text.matches("<path").count(), 3);
        assert!(
            text.contains("10 attempts a second") && text.contains("80 % is pro to a"),
            "{text}"
        );
        assert!(text.contains("&lt;b&gt;") && !text.contains("<b>"), "{text}");
        assert!(text.find(">&lt;b&gt;</text>") < text.find(">a</text>"), "as configured: {text}");
        assert!(drawn(&json!([])).contains("Nothing was sent"));
    }

    #[test]
    fn a_thousand_sites_are_a_dozen_nodes() {
        let flow = |n: usize| json!({ "tier": "t", "site": format!("s{n}"), "per_second": 1 });
        let flows: Value = (0..1000).map(flow).collect();
        let text = drawn(&flows);
        assert!(text.contains(">others<") && text.contains(">989/s<"), "{text}");
        assert!(text.contains("and 950 more") && text.len() < 40_000, "{}", text.len());
    }

    #[test]
    fn rates_are_a_mean_of_looks_under_the_same_names() {
        use mainstay_core::fact::{Fact, How};
        use mainstay_core::names::{AttemptId, ModelId, RequestId, SiteId, TargetId, TierId};
        use std::time::Duration;
        let names = Names {
            sites: vec!["a".into()],
            models: vec!["m".into()],
            targets: vec![(SiteId(0), "m".into())],
            tiers: vec!["pro".into()],
        };
        let (telemetry, flow) = (Telemetry::new(names.clone()), Flow::default());
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        flow.look(at(0), &telemetry);
        assert_eq!(flow.told(), json!([]));
        for n in 0..10 {
            let (request, model, tier) = (RequestId(n), ModelId(0), TierId(0));
            telemetry.fact(at(1), &Fact::Arrived { request, model, tier });
            let attempt = AttemptId { request, number: 1 };
            let (target, how, relayed) = (TargetId(0), How::First, 0);
            telemetry.fact(at(1), &Fact::AttemptStarted { attempt, target, how, relayed });
        }
        flow.look(at(5), &telemetry);
        assert_eq!(flow.told(), json!([{ "tier": "pro", "site": "a", "per_second": 2.0 }]));
        telemetry.rename(Names { sites: vec!["b".into()], ..names });
        flow.look(at(10), &telemetry);
        assert_eq!(flow.told(), json!([]), "counted anew");
    }
}
