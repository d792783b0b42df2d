//! The report after an incident: a draft from what was recorded, for an operator to finish, and
//! what readers see of a finished one.
//!
//! A draft says only what was counted and told. What nobody counted, such as the cause, is left as
//! a gap that a person fills; a report with a gap left in it is not made public.

use super::dates::Date;
use super::html::escape;
use super::tell::moment;
use super::words::{English, Language};
use super::{View, why};
use mainstay_core::fact::Component;
use mainstay_core::status::history::Day;
use mainstay_core::status::incident::{Cause, Incident, Part, Stage};
use std::fmt::Write;

/// What a person has to fill in begins so.
pub(super) const GAP: &str = "(fill in:";

/// The sections, and their headings in Chinese.
const SECTIONS: [(&str, &str); 6] = [
    ("TL;DR", "摘要"),
    ("What changed", "发生了什么"),
    ("Why it matters", "影响"),
    ("What to do next", "后续措施"),
    ("Key takeaways", "要点"),
    ("Timeline", "时间线"),
];

/// A draft of the report after an incident.
pub(super) fn draft(incident: &Incident, view: &View) -> String {
    let mut text = String::new();
    let sections = [summary, changed, matters, next, takeaways, timeline];
    for ((heading, _), write) in SECTIONS.iter().zip(sections) {
        let _ = write!(text, "## {heading}\n\n");
        write(incident, view, &mut text);
        text.push('\n');
    }
    text.trim_end().to_owned() + "\n"
}

fn summary(incident: &Incident, view: &View, text: &mut String) {
    let (from, to) = (moment(incident.began()), moment(incident.told()));
    let title = English.title(incident, &view.names);
    let _ = write!(text, "{title}. From {from} to {to} UTC ({})", lasting(length(incident)));
    let _ = match whole(incident).filter(|part| part.good + part.failed > 0) {
        Some(part) => write!(text, ": {} failed", share(part)),
        None => write!(text, ": no failed requests were counted"),
    };
    let _ = match incident.relapses {
        0 => writeln!(text, "."),
        1 => writeln!(text, "; it came back once after it seemed to be over."),
        many => writeln!(text, "; it came back {many} times after it seemed to be over."),
    };
}

fn changed(incident: &Incident, view: &View, text: &mut String) {
    for (name, part) in named(incident, view) {
        let worst = match part.worst.is_impaired() {
            true => format!("at worst {}", English.state(part.worst).to_lowercase()),
            false => "no state of its own was shown".into(),
        };
        let _ = match part.good + part.failed {
            0 => writeln!(text, "- {name}: {worst}; too few requests were counted to tell more."),
            _ => writeln!(text, "- {name}: {worst}; {} failed.", share(part)),
        };
    }
    let first = incident.moves.iter().find(|each| each.to.is_impaired());
    if let Some(first) = first {
        let _ = writeln!(text, "- The first sign: {}.", why(first.because));
    }
    let _ = writeln!(text, "- Cause: {GAP} what changed, where, and how it came to this)");
}

fn matters(incident: &Incident, view: &View, text: &mut String) {
    if let Some(part) = whole(incident).filter(|part| part.failed > 0) {
        let _ = writeln!(text, "- {} of that time failed.", share(part));
    }
    let api = view.days.first().map(Vec::as_slice).unwrap_or_default();
    if let Some(up) = Day::uptime(api.iter().flatten().copied()) {
        let (whole, part) = (up / 1000, up % 1000);
        let known = api.iter().flatten().count();
        let _ = writeln!(
            text,
            "- The API was up {whole}.{part:03} % of the time that is known of the last 90 days \
             ({known} of them)."
        );
    }
    let _ = writeln!(text, "- For users: {GAP} what they saw, and who was not affected)");
}

fn next(incident: &Incident, _: &View, text: &mut String) {
    let is_of = |cause: Cause| incident.updates.iter().any(|update| update.cause == cause);
    if incident.relapses > 0 {
        let _ = writeln!(text, "- Find out why it seemed to be over before it was.");
    }
    if incident.updates.first().is_some_and(|first| first.cause == Cause::Reports) {
        let _ = writeln!(text, "- Users saw it before it showed in counts: find out why.");
    }
    if is_of(Cause::Forced) {
        let _ = writeln!(
            text,
            "- It was called resolved against its signals: see whether they \
                                were wrong, and mend them."
        );
    }
    if incident.parts.iter().any(|part| matches!(part.component, Component::Site(_))) {
        let _ = writeln!(text, "- See what is left when this site is lost again.");
    }
    let _ = writeln!(text, "- {GAP} what is done so that it does not happen again, by when)");
}

fn takeaways(incident: &Incident, view: &View, text: &mut String) {
    let first = incident.moves.iter().find(|each| each.to.is_impaired());
    let noticed = match incident.updates.first().map(|first| first.cause) {
        Some(Cause::Reports) => "Users reported it first",
        Some(Cause::Person) => "A person opened it",
        _ => "It showed in counts",
    };
    let _ = match first.map(|first| incident.began().saturating_sub(first.at)) {
        Some(late) => {
            writeln!(text, "- {noticed}; it was told here {} after it showed.", lasting(late))
        }
        None => writeln!(text, "- {noticed}."),
    };
    let is_over = |stage: Stage| incident.updates.iter().find(|update| update.stage == stage);
    if let Some(identified) = is_over(Stage::Identified) {
        let took = identified.at.saturating_sub(incident.began());
        let _ = writeln!(text, "- The cause was known after {}.", lasting(took));
    }
    for each in incident.earlier(&view.incidents) {
        let Some(name) = view.names.name(each.component) else { continue };
        let _ = match (each.incidents, each.relapses) {
            (0, _) => writeln!(text, "- {name} failed in no other incident in 90 days."),
            (many, relapses) => writeln!(
                text,
                "- {name} failed in {many} other {} in the 90 days before, {} in all{}.",
                if many == 1 { "incident" } else { "incidents" },
                lasting(each.lasted),
                if relapses > 0 { format!("; relapses: {relapses}") } else { String::new() },
            ),
        };
    }
}

fn timeline(incident: &Incident, view: &View, text: &mut String) {
    let mut lines: Vec<(u64, String)> = Vec::new();
    for each in &incident.moves {
        let Some(name) = view.names.name(each.component) else { continue };
        let state = English.state(each.to).to_lowercase();
        lines.push((each.at, format!("{name} is {state}: {}", why(each.because))));
    }
    for update in &incident.updates {
        let stage = English.stage(update.stage);
        let said = English.said(update, incident, &view.names);
        lines.push((update.at, format!("{stage}: {}", said.replace(['\n', '\r'], " "))));
    }
    // What happened in the same second stands in the order above.
    lines.sort_by_key(|(at, _)| *at);
    for (at, said) in lines {
        let date = Date::at(at);
        let _ = writeln!(text, "- {} {} UTC: {said}", date.day, date.time);
    }
}

/// The part that stands for all requests.
fn whole(incident: &Incident) -> Option<&Part> {
    incident.parts.iter().find(|part| part.component == Component::Api)
}

fn named<'a>(incident: &'a Incident, view: &'a View) -> impl Iterator<Item = (&'a str, &'a Part)> {
    let parts = incident.parts.iter();
    parts.filter_map(|part| Some((view.names.name(part.component)?, part)))
}

fn share(part: &Part) -> String {
    let all = part.good + part.failed;
    let of = (u128::from(part.failed) * 1000 / u128::from(all.max(1))) as u64;
    format!("{} of {all} requests ({}.{} %)", part.failed, of / 10, of % 10)
}

fn length(incident: &Incident) -> u64 {
    incident.told().saturating_sub(incident.began())
}

/// A time for people.
fn lasting(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Where a report has a gap that a person has to fill.
pub(super) fn gap(text: &str) -> Option<&str> {
    text.lines().find(|line| line.contains(GAP))
}

/// A finished report as it stands on a page: headings, lists and paragraphs, as long as there is
/// room. Nothing else of it is read as markup.
pub(super) fn shown(report: &str, language: Language, room: usize) -> String {
    let mut text = String::new();
    let mut is_list = false;
    for line in report.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (open, body, close) = match (line.strip_prefix("- "), line.trim_start_matches('#')) {
            (Some(item), _) => ("<li>", item, "</li>"),
            (None, heading) if heading.len() < line.len() => {
                ("<h2>", localised(heading.trim(), language), "</h2>")
            }
            (None, line) => ("<p>", line, "</p>"),
        };
        let body = escape(body);
        if text.len() + body.len() > room {
            text.push_str(if is_list { "</ul>" } else { "" });
            let rest = language.of("The rest is in incidents.json.", "其余内容见 incidents.json。");
            let _ = write!(text, "<p class=\"soft\">{rest}</p>");
            return text;
        }
        match (is_list, open == "<li>") {
            (false, true) => text.push_str("<ul>"),
            (true, false) => text.push_str("</ul>"),
            (true, true) | (false, false) => {}
        }
        is_list = open == "<li>";
        let _ = write!(text, "{open}{body}{close}");
    }
    text.push_str(if is_list { "</ul>" } else { "" });
    text
}

/// A heading of ours in the reader's language; any other as it is.
fn localised(heading: &str, language: Language) -> &str {
    let known = SECTIONS.iter().find(|(english, _)| english.eq_ignore_ascii_case(heading));
    known.map_or(heading, |(english, chinese)| language.of(english, chinese))
}
