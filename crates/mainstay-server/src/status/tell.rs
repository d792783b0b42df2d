//! Incidents in words, for people and programs.

use super::dates::Date;
use super::html::escape;
use super::words::Language;
use super::{Names, View, draft, kept};
use mainstay_core::fact::{Component, State};
use mainstay_core::status::Overall;
use mainstay_core::status::incident::{Cause, Incident, Stage, Update};
use serde_json::{Value, json};
use std::fmt::Write;

/// Incidents on the first page after they are over, in seconds: a week.
const LATELY: u64 = 7 * 86_400;
/// What Statuspage calls an incident that has its report.
const POSTMORTEM: &str = "postmortem";
/// Parts that are named where an incident is told in a sentence.
const NAMED_MAX: usize = 8;
/// What is said of an incident beside others, at most.
const BESIDE: usize = 3;

impl Language {
    /// How far people are with an incident.
    pub(super) fn stage(self, stage: Stage) -> &'static str {
        match stage {
            Stage::Investigating => self.of("Investigating", "正在调查"),
            Stage::Identified => self.of("Identified", "已确认原因"),
            Stage::Monitoring => self.of("Monitoring", "持续观察"),
            Stage::Resolved => self.of("Resolved", "已恢复"),
        }
    }

    /// What an incident is called.
    pub(super) fn title(self, incident: &Incident, names: &Names) -> String {
        if !incident.title.is_empty() {
            return incident.title.clone();
        }
        let parts = self.parts(incident, names);
        match incident.worst() {
            worst if worst.is_impaired() => {
                let state = self.state(worst);
                self.of(format!("{state}: {parts}"), format!("{parts}：{state}"))
            }
            _ => {
                self.of(format!("Users report problems: {parts}"), format!("{parts}：用户反馈异常"))
            }
        }
    }

    fn parts(self, incident: &Incident, names: &Names) -> String {
        let named = incident.parts.iter().filter_map(|part| names.name(part.component));
        let named: Vec<&str> = named.collect();
        let (some, more) = named.split_at(named.len().min(NAMED_MAX));
        let some = some.join(self.of(", ", "、"));
        match (some.is_empty(), more.len()) {
            (true, _) => self.of("part of the service", "部分服务").into(),
            (false, 0) => some,
            (false, more) => {
                self.of(format!("{some} and {more} more"), format!("{some} 等另外 {more} 项"))
            }
        }
    }

    /// What was said: a person's words, or the sentence for what was seen.
    pub(super) fn said(self, update: &Update, incident: &Incident, names: &Names) -> String {
        let parts = self.parts(incident, names);
        let from = moment(incident.began());
        let to = moment(update.at);
        let own = match (update.cause, update.stage) {
            (Cause::Person, stage) if update.text.is_empty() => self.stage(stage).to_owned(),
            (Cause::Person, _) => String::new(),
            (Cause::Forced, _) => self.of(
                "Declared resolved by an operator while signals still showed failures.".into(),
                "操作员在监测信号仍显示异常时宣布已恢复。".into(),
            ),
            (Cause::Seen, _) => self.of(
                format!("We are investigating elevated errors on {parts}."),
                format!("我们正在调查 {parts} 错误率升高的问题。"),
            ),
            (Cause::Reports, _) => self.of(
                format!("Users report problems with {parts}. We are investigating."),
                format!("有用户反馈 {parts} 出现问题，我们正在调查。"),
            ),
            (Cause::Relapse, _) => self.of(
                format!("It is back after it seemed to be over. We are investigating {parts}."),
                format!("问题在看似恢复后再次出现，我们正在调查 {parts}。"),
            ),
            (Cause::Recovered, Stage::Resolved) => self.of("Resolved.".into(), "已恢复。".into()),
            (Cause::Recovered, _) => self.of(
                format!("Success rates are back to normal; impact {from} to {to} UTC."),
                format!("成功率已恢复正常；影响时段 {from} 至 {to}（UTC）。"),
            ),
        };
        match (own.is_empty(), update.text.is_empty()) {
            (true, _) => update.text.clone(),
            (false, true) => own,
            (false, false) => format!("{own} {}", update.text),
        }
    }

    /// What the report after an incident is called.
    pub(super) fn postmortem(self) -> &'static str {
        self.of("Report after the incident", "事件报告")
    }

    fn relapses(self, count: u32) -> String {
        let english = match count {
            1 => String::from("came back once"),
            _ => format!("came back {count} times"),
        };
        self.of(english, format!("复发 {count} 次"))
    }
}

/// A moment for people.
pub(super) fn moment(at: u64) -> String {
    let date = Date::at(at);
    format!("{} {}", date.day, &date.time[..date.time.len().min(5)])
}

/// When anything of an incident changed last, its report too.
pub(super) fn touched(incident: &Incident) -> u64 {
    incident.published().map_or(incident.told(), |report| report.at)
}

/// How bad an incident is or was, in Statuspage's words.
pub(super) fn impact(incident: &Incident) -> &'static str {
    let weighs = |part: &mainstay_core::status::incident::Part| match (part.component, part.worst) {
        (_, State::NoData | State::Maintenance | State::Operational) => Overall::Well,
        (Component::Api, State::Major) => Overall::Critical,
        (Component::Api, State::Partial) | (Component::Model(_), State::Major) => Overall::Major,
        (_, State::Degraded | State::Partial | State::Major) => Overall::Minor,
    };
    // What people or users say and nothing shows is not nothing.
    let worst = incident.parts.iter().map(weighs).max().unwrap_or(Overall::Minor);
    match worst {
        Overall::Well | Overall::Minor => "minor",
        Overall::Major => "major",
        Overall::Critical => "critical",
    }
}

/// Incidents for the first page: those that are open, and those of the last week.
pub(super) fn lately(view: &View) -> impl Iterator<Item = &Incident> {
    let is_late = |each: &&Incident| each.resolved().is_none_or(|at| at + LATELY > view.wall);
    view.incidents.iter().rev().filter(is_late)
}

/// A list of incidents as it stands on a page, the newest first, as long as there is room for them
/// in so many bytes.
pub(super) fn list<'a>(
    all: impl Iterator<Item = &'a Incident>,
    (view, language): (&View, Language),
    room: usize,
) -> String {
    let mut text = String::new();
    let mut left_out = 0;
    // On the page of all there is a heading above them.
    let level = if view.here.is_empty() { 3 } else { 2 };
    for each in all {
        let whole = article(each, (view, language), (level, BESIDE), room);
        // What there is no room for is told by its title at least.
        let fits = |piece: &String| text.len() + piece.len() <= room;
        let piece = Some(whole)
            .filter(fits)
            .or_else(|| Some(article(each, (view, language), (level, 0), room)).filter(fits));
        match piece {
            Some(piece) => text.push_str(&piece),
            None => left_out += 1,
        }
    }
    if left_out > 0 {
        let note = language.of(
            format!("{left_out} more have no room here;"),
            format!("另有 {left_out} 个事件未在此显示，"),
        );
        let _ = write!(
            text,
            "<p class=\"soft\">{note} <a href=\"/api/v2/incidents.json\">incidents.json</a></p>"
        );
    }
    text
}

/// One incident on a page of its own.
pub(super) fn whole(
    incident: &Incident,
    (view, language): (&View, Language),
    room: usize,
) -> String {
    article(incident, (view, language), (1, incident.updates.len()), room)
}

/// One incident, with a heading of this level and so much of what was said of it, the newest first.
fn article(
    incident: &Incident,
    (view, language): (&View, Language),
    (level, updates): (u8, usize),
    room: usize,
) -> String {
    let title = escape(&language.title(incident, &view.names));
    let (id, path) = (incident.id, language.path());
    let mut text = format!(
        "<article class=\"incident {}\"><h{level}><a href=\"{path}incidents/{id}\">{title}</a>\
         </h{level}>",
        impact(incident)
    );
    if incident.relapses > 0 {
        let _ = write!(text, "<p class=\"soft\">{}</p>", language.relapses(incident.relapses));
    }
    match (incident.published(), level) {
        (Some(report), 1) => {
            let told = draft::shown(&report.text, language, room / 2);
            let _ = write!(text, "<section class=\"told\">{told}</section>");
        }
        (Some(_), _) => {
            let _ = write!(
                text,
                "<p><a href=\"{path}incidents/{id}\">{}</a></p>",
                language.postmortem()
            );
        }
        (None, _) => {}
    }
    text.push_str("<ol>");
    for update in incident.updates.iter().rev().take(updates) {
        let item = format!(
            "<li><strong>{}</strong> <time datetime=\"{}\">{} UTC</time><p>{}</p></li>",
            language.stage(update.stage),
            Date::at(update.at).iso(),
            moment(update.at),
            escape(&language.said(update, incident, &view.names)),
        );
        if text.len() + item.len() > room {
            let rest = language.of("The rest is in incidents.json.", "其余内容见 incidents.json。");
            let _ = write!(text, "<li>{rest}</li>");
            break;
        }
        text.push_str(&item);
    }
    text.push_str("</ol></article>\n");
    text
}

/// An incident in the shape of Statuspage's API version 2.
pub(super) fn json(incident: &Incident, view: &View, page_id: &str) -> Value {
    let names = &view.names;
    let id = format!("{page_id}-{}", incident.id);
    let english = Language::English;
    let iso = |at: u64| Date::at(at).iso();
    let update = |(at, update): (usize, &Update)| {
        json!({
            "id": format!("{id}-{at}"),
            "incident_id": id,
            "status": kept::word(&kept::STAGES, &update.stage),
            "body": english.said(update, incident, names),
            "created_at": iso(update.at),
            "updated_at": iso(update.at),
            "display_at": iso(update.at),
            "affected_components": null,
        })
    };
    let report = incident.published();
    // Statuspage tells a report as the last update.
    let last = report.map(|report| {
        json!({
            "id": format!("{id}-report"),
            "incident_id": id,
            "status": POSTMORTEM,
            "body": report.text,
            "created_at": iso(report.at),
            "updated_at": iso(report.at),
            "display_at": iso(report.at),
            "affected_components": null,
        })
    });
    let updates = incident.updates.iter().enumerate().rev().map(update);
    let updates = last.into_iter().chain(updates).collect::<Vec<_>>();
    let stage = kept::word(&kept::STAGES, &incident.stage());
    let monitoring = incident.updates.iter().rfind(|update| update.stage == Stage::Monitoring);
    let base = names.url.as_deref().unwrap_or_default().trim_end_matches('/');
    let parts = incident.parts.iter().filter_map(|part| {
        let name = names.name(part.component)?;
        let id = super::json::id(names, part.component);
        let status = super::json::word(part.worst);
        Some(json!({ "id": id, "name": name, "status": status, "page_id": page_id }))
    });
    json!({
        "id": id,
        "name": english.title(incident, names),
        "status": if report.is_some() { POSTMORTEM } else { stage },
        "created_at": iso(incident.began()),
        "updated_at": iso(touched(incident)),
        "started_at": iso(incident.began()),
        "monitoring_at": monitoring.map(|update| iso(update.at)),
        "resolved_at": incident.resolved().map(iso),
        "impact": impact(incident),
        "shortlink": format!("{base}/incidents/{}", incident.id),
        "page_id": page_id,
        "relapses": incident.relapses,
        "postmortem_body": report.map(|report| &report.text),
        "postmortem_published_at": report.map(|report| iso(report.at)),
        "incident_updates": updates,
        "components": parts.collect::<Vec<_>>(),
    })
}
