//! Puts the page together: the index, and a section for each run.

use super::chart::{Axes, Chart, Curve, chart, round_up, stamp};
use super::style::{SCRIPT, STYLE};
use super::{View, escaped, lane, maps};
use crate::measure;
use crate::outcome::{Run, Second, Timeline, Violation};
use crate::sweep::Map;
use std::fmt::Write;

/// Heights of the plots.
const MAIN: f64 = 150.0;
const SITE: f64 = 72.0;
const SMALL: f64 = 34.0;
/// Violations and marks that are told one by one.
const ROWS_MAX: usize = 40;

/// The whole page.
pub fn page(views: &[View<'_>], maps: &[Map]) -> String {
    let title = match (views, maps) {
        ([view], []) => format!("{} · seed {}", view.scenario.id, view.run.seed),
        ([], [map]) => map.id.clone(),
        ([], [_, ..]) => String::from("Sweeps"),
        _ => String::from("Rehearsals"),
    };
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{} · Mainstay</title><style>{STYLE}</style></head><body><main>",
        escaped(&title)
    );
    maps::all(&mut html, maps);
    if views.len() > 1 || maps.is_empty() && views.is_empty() {
        index(&mut html, views);
    }
    for (at, view) in views.iter().enumerate() {
        run(&mut html, (at, view));
    }
    let _ = writeln!(
        html,
        "<footer>mainstay simulate · virtual time, the machines that serve; the same seed tells \
         the same story.</footer></main><script>{SCRIPT}</script></body></html>"
    );
    html
}

fn index(html: &mut String, views: &[View<'_>]) {
    let passed = views.iter().filter(|view| view.run.passed).count();
    let _ = write!(
        html,
        "<p class=\"eyebrow\">mainstay simulate</p><h1>{passed} of {} runs passed</h1>\
         <p>Line: asked. Area: answered well. Each picture leads to its run.</p>\
         <div class=\"stamps\">",
        views.len()
    );
    for (at, view) in views.iter().enumerate() {
        let (class, word) = verdict(view.run);
        let _ = write!(
            html,
            "<a href=\"#run-{at}\">{}<span><b>{}</b><em class=\"{}\">{word}</em></span>\
             <span>seed {}, {}</span></a>",
            stamp(&offered(view.timeline), &good(view.timeline)),
            escaped(&view.scenario.id),
            if class == "passed" { "well" } else { "bad" },
            view.run.seed,
            escaped(view.run.policy)
        );
    }
    html.push_str("</div>");
}

fn verdict(run: &Run) -> (&'static str, &'static str) {
    if run.passed { ("passed", "passed") } else { ("failed-word", "failed") }
}

fn run(html: &mut String, (at, view): (usize, &View<'_>)) {
    let (class, word) = verdict(view.run);
    let after = match view.scenario.after.is_empty() {
        true => String::new(),
        false => format!("<p>After {}.</p>", escaped(&view.scenario.after)),
    };
    let _ = write!(
        html,
        "<section class=\"run\" id=\"run-{at}\"><p class=\"eyebrow\">{} · bench {} · seed {} · \
         {}</p><h1>{}<span class=\"verdict-word {class}\">{word}</span></h1>{after}",
        escaped(&view.scenario.id),
        escaped(&view.scenario.bench.name),
        view.run.seed,
        escaped(view.run.policy),
        escaped(&view.scenario.title)
    );
    figures(html, view);
    let seconds = view.timeline.seconds.len() as f64;
    if !view.scenario.faults.is_empty() {
        let over =
            lane::over(view).map_or(String::new(), |at| format!(" The last is over at {at}."));
        let _ = write!(html, "<h2>What breaks</h2><p>Shaded below.{over}</p>");
        html.push_str(&lane::faults(view, seconds));
    }
    flows(html, view, seconds);
    places(html, view, seconds);
    let _ = write!(
        html,
        "<h2>What each gateway believes</h2>{}{}",
        key(&[
            ("up", "up", ""),
            ("suspect", "suspect", ""),
            ("down", "down", ""),
            ("probation", "probation", "")
        ]),
        lane::health(view, view.timeline, seconds)
    );
    let marks = lane::marks(view.timeline, seconds);
    if !marks.is_empty() {
        let _ = write!(html, "<h2>Decisions</h2>{marks}");
        list_of_marks(html, view.timeline);
    }
    verdicts(html, view);
    html.push_str("</section>");
}

/// The numbers that people ask for first.
fn figures(html: &mut String, view: &View<'_>) {
    html.push_str("<div class=\"figures\">");
    let percent = |run: &Run, tier: &str| {
        run.by_tier.get(tier).map(|tier| format!("{:.2} %", tier.goodput_ratio * 100.0))
    };
    for tier in &view.timeline.tiers {
        let beside = view.baseline.and_then(|(run, _)| percent(run, tier));
        let value = percent(view.run, tier).unwrap_or_default();
        figure(html, (&format!("{tier}, good"), &value), beside);
    }
    let seconds = |run: &Run| match run.recovery_s {
        Some(seconds) => format!("{seconds:.1} s"),
        None => String::from("never"),
    };
    if !view.scenario.faults.is_empty() {
        let beside = view.baseline.map(|(run, _)| seconds(run));
        figure(html, ("recovery", &seconds(view.run)), beside);
    }
    let count = |run: &Run| run.transitions.to_string();
    figure(html, ("health changes", &count(view.run)), view.baseline.map(|(run, _)| count(run)));
    let attempts = |run: &Run| format!("{:.3}", run.attempts_per_request);
    let beside = view.baseline.map(|(run, _)| attempts(run));
    figure(html, ("attempts per try", &attempts(view.run)), beside);
    html.push_str("</div>");
}

fn figure(html: &mut String, (name, value): (&str, &str), beside: Option<String>) {
    let beside = beside
        .map_or(String::new(), |value| format!("<small>baseline {}</small>", escaped(&value)));
    let _ = write!(
        html,
        "<div class=\"figure\"><span>{}</span><b>{}</b>{beside}</div>",
        escaped(name),
        escaped(value)
    );
}

/// Asked and answered, ours and the baseline's on the same axes.
fn flows(html: &mut String, view: &View<'_>, seconds: f64) {
    let bands = lane::bands(view, seconds);
    let room: Vec<f64> = view.timeline.seconds.iter().map(|second| second.on_offer).collect();
    let both = [Some(view.timeline), view.baseline.map(|(_, timeline)| timeline)];
    let most = both
        .iter()
        .flatten()
        .flat_map(|timeline| smoothed_max(&offered(timeline)))
        .chain(smoothed_max(&room))
        .fold(1.0, f64::max);
    let axes = Axes { seconds, top: round_up(most), height: MAIN };
    html.push_str("<h2>What is asked, and what becomes of it</h2>");
    html.push_str(&key(&[
        ("good-fill", "good", ""),
        ("shed", "shed", ""),
        ("failed", "failed", ""),
        ("offered", "asked, requests a second by their first try", "thin"),
        ("room", "capacity on offer, CU/s", "dash"),
    ]));
    for (timeline, name) in both.iter().zip([view.run.policy, "naive baseline"]) {
        let Some(timeline) = timeline else { continue };
        if view.baseline.is_some() {
            let _ = write!(html, "<h3>{}</h3>", escaped(name));
        }
        let curve = |name: &str, class, values| Curve { name: name.into(), class, values };
        let sum = |of: fn(&crate::outcome::TierSecond) -> u32| by_second(timeline, of);
        let stacked = [
            curve("good", "good", sum(|tier| tier.good)),
            curve("shed", "shed", sum(|tier| tier.shed)),
            curve("failed", "failed", sum(|tier| tier.failed)),
        ];
        let own_room = timeline.seconds.iter().map(|second| second.on_offer).collect();
        let lines =
            [curve("asked", "offered", offered(timeline)), curve("on offer", "room", own_room)];
        html.push_str(&chart(&Chart {
            label: "requests a second: good, shed, failed",
            axes,
            unit: "/s",
            stacked: &stacked,
            lines: &lines,
            bands: &bands,
        }));
    }
}

fn smoothed_max(values: &[f64]) -> Option<f64> {
    super::chart::smooth(values).into_iter().map(|(_, value)| value).max_by(f64::total_cmp)
}

fn by_second(timeline: &Timeline, of: fn(&crate::outcome::TierSecond) -> u32) -> Vec<f64> {
    let sum = |second: &Second| second.tiers.iter().map(of).map(f64::from).sum();
    timeline.seconds.iter().map(sum).collect()
}

fn offered(timeline: &Timeline) -> Vec<f64> {
    by_second(timeline, |tier| tier.offered)
}

fn good(timeline: &Timeline) -> Vec<f64> {
    by_second(timeline, |tier| tier.good)
}

/// Each site: what it lets in, what it could carry, what it offers.
fn places(html: &mut String, view: &View<'_>, seconds: f64) {
    let timeline = view.timeline;
    let bands = lane::bands(view, seconds);
    let classes = ["tier0", "tier1", "tier2", "tier3"];
    let mut keys: Vec<(&str, &str, &str)> = Vec::new();
    for (at, tier) in timeline.tiers.iter().enumerate() {
        keys.push((classes[at.min(3)], tier, ""));
    }
    keys.push(("room", "what it can carry", "dash"));
    keys.push(("good", "share on offer, %", "thin"));
    keys.push(("tier1", "credit out, % of what it can carry", "thin"));
    let _ = write!(html, "<h2>Where it goes</h2>{}", key(&keys));
    for (at, name) in timeline.sites.iter().enumerate() {
        let of = |value: &dyn Fn(&crate::outcome::SiteSecond) -> f64| -> Vec<f64> {
            timeline.seconds.iter().map(|s| s.sites.get(at).map_or(0.0, value)).collect()
        };
        let stacked: Vec<Curve> = timeline
            .tiers
            .iter()
            .enumerate()
            .map(|(tier, name)| Curve {
                name: name.clone(),
                class: classes[tier.min(3)],
                values: of(&|site| site.admitted_cu.get(tier).copied().unwrap_or(0.0)),
            })
            .collect();
        let capacity = of(&|site| site.capacity);
        let admitted = of(&|site| site.admitted_cu.iter().sum());
        let most = smoothed_max(&capacity).into_iter().chain(smoothed_max(&admitted));
        let room = Curve { name: "can carry".into(), class: "room", values: capacity };
        let axes = Axes { seconds, top: round_up(most.fold(1.0, f64::max)), height: SITE };
        let _ = write!(html, "<h3>{}</h3>", escaped(name));
        html.push_str(&chart(&Chart {
            label: &format!("work that {name} lets in, by tier"),
            axes,
            unit: "CU/s",
            stacked: &stacked,
            lines: &[room],
            bands: &bands,
        }));
        let ramp = of(&|site| f64::from(site.ramp));
        let credit = of(&|site| match site.capacity > 0.0 {
            true => site.granted / site.capacity * 100.0,
            false => 0.0,
        });
        let is_dull = ramp.iter().all(|ramp| *ramp >= 100.0) && credit.iter().all(|c| *c == 0.0);
        if !is_dull {
            let lines = [
                Curve { name: "credit out".into(), class: "credit", values: credit },
                Curve { name: "on offer".into(), class: "ramp", values: ramp },
            ];
            html.push_str(&chart(&Chart {
                label: &format!("share that {name} offers, and credit out"),
                axes: Axes { seconds, top: 100.0, height: SMALL },
                unit: "%",
                stacked: &[],
                lines: &lines,
                bands: &bands,
            }));
        }
    }
}

/// What the colours mean: variable, words, form.
fn key(all: &[(&str, &str, &str)]) -> String {
    let mut html = String::from("<div class=\"key\">");
    for (colour, words, form) in all {
        let style = match form.is_empty() {
            true => format!("background:var(--{colour})"),
            false => format!("border-color:var(--{colour})"),
        };
        let _ = write!(
            html,
            "<span><i class=\"{form}\" style=\"{style}\"></i>{}</span>",
            escaped(words)
        );
    }
    html + "</div>"
}

fn list_of_marks(html: &mut String, timeline: &Timeline) {
    let _ = write!(
        html,
        "<details><summary>The first {} of {} in words</summary><div class=\"wide\"><table>\
         <tr><th class=\"n\">s</th><th>where</th><th>what</th></tr>",
        timeline.marks.len().min(ROWS_MAX),
        timeline.marks.len()
    );
    for (at, node, what) in timeline.marks.iter().take(ROWS_MAX) {
        let _ = write!(
            html,
            "<tr><td class=\"n\">{at:.1}</td><td>{}</td><td>{}</td></tr>",
            escaped(node),
            escaped(what)
        );
    }
    html.push_str("</table></div></details>");
}

/// What was asked of the run, and what was measured; then what was violated.
fn verdicts(html: &mut String, view: &View<'_>) {
    html.push_str("<h2>Verdict</h2>");
    tiers(html, view.run);
    expects(html, view);
    let violations = &view.run.violations;
    if violations.is_empty() {
        html.push_str("<p class=\"well\">Nothing was violated.</p>");
        return;
    }
    let word = if violations.len() == 1 { "violation" } else { "violations" };
    let _ = write!(html, "<h3>{} {word}</h3>", violations.len());
    violated(html, violations);
    if let Some((run, _)) = view.baseline
        && !run.violations.is_empty()
    {
        let _ = write!(
            html,
            "<details><summary>{} violations by the baseline</summary>",
            run.violations.len()
        );
        violated(html, &run.violations);
        html.push_str("</details>");
    }
}

fn tiers(html: &mut String, run: &Run) {
    html.push_str(
        "<div class=\"wide\"><table><tr><th>tier</th><th class=\"n\">asked</th>\
         <th class=\"n\">good</th><th class=\"n\">shed</th><th class=\"n\">failed</th>\
         <th class=\"n\">good by asked</th></tr>",
    );
    for (name, tier) in &run.by_tier {
        let _ = write!(
            html,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{:.2} %</td></tr>",
            escaped(name),
            tier.offered,
            tier.good,
            tier.shed,
            tier.failed,
            tier.goodput_ratio * 100.0
        );
    }
    html.push_str("</table></div>");
}

fn expects(html: &mut String, view: &View<'_>) {
    if view.scenario.expects.is_empty() {
        return;
    }
    html.push_str(
        "<div class=\"wide\"><table><tr><th>must hold</th><th>of</th><th class=\"n\">from</th>\
         <th class=\"n\">until</th><th class=\"n\">bound</th><th class=\"n\">measured</th></tr>",
    );
    for expect in &view.scenario.expects {
        let bound = match (expect.min, expect.max) {
            (Some(min), Some(max)) => format!("{min} … {max}"),
            (Some(min), None) => format!("≥ {min}"),
            (None, Some(max)) => format!("≤ {max}"),
            (None, None) => String::new(),
        };
        let until = expect.until.unwrap_or(view.scenario.duration).as_secs();
        let recovery = view.run.recovery_s;
        for (node, value) in measure::measured(view.scenario, view.timeline, (expect, recovery)) {
            let is_met = value.is_some_and(|value| {
                expect.min.is_none_or(|min| value >= min)
                    && expect.max.is_none_or(|max| value <= max)
            });
            let value = value.map_or(String::from("nothing"), |value| format!("{value:.4}"));
            let _ = write!(
                html,
                "<tr><td>{}</td><td>{}</td><td class=\"n\">{} s</td><td class=\"n\">{until} s</td>\
                 <td class=\"n\">{bound}</td><td class=\"n {}\">{value}</td></tr>",
                escaped(&expect.metric),
                escaped(&node),
                expect.from.as_secs(),
                if is_met { "well" } else { "bad" }
            );
        }
    }
    html.push_str("</table></div>");
}

fn violated(html: &mut String, violations: &[Violation]) {
    html.push_str(
        "<div class=\"wide\"><table><tr><th class=\"n\">s</th><th>rule</th><th>where</th>\
         <th>what was seen</th></tr>",
    );
    for Violation { at_s, rule, node, detail } in violations.iter().take(ROWS_MAX) {
        let (first, rest) = detail.split_once('\n').unwrap_or((detail, ""));
        let facts = match rest.is_empty() {
            true => String::new(),
            false => {
                let lines: Vec<String> = rest.lines().map(escaped).collect();
                let lines = lines.join("\n");
                format!("<details><summary>facts before</summary><pre>{lines}</pre></details>")
            }
        };
        let _ = write!(
            html,
            "<tr><td class=\"n\">{at_s:.1}</td><td class=\"bad\">{}</td><td>{}</td>\
             <td>{}{facts}</td></tr>",
            escaped(rule),
            escaped(node),
            escaped(first)
        );
    }
    html.push_str("</table></div>");
    if violations.len() > ROWS_MAX {
        let _ = write!(html, "<p>and {} more</p>", violations.len() - ROWS_MAX);
    }
}
