//! Incidents in words, for people and programs.

use super::dates::Date;
use super::html::escape;
use super::words::Language;
use super::{Names, View, kept};
use mainstay_core::fact::{Component, State};
use mainstay_core::status::Overall;
use mainstay_core::status::incident::{Cause, Incident, Stage, Update};
use serde_json::{Value, json};
use std::fmt::Write;

/// Incidents on the first page after they are over, in seconds: a week.
const LATELY: u64 = 7 * 86_400;

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
        match named.is_empty() {
            true => self.of("part of the service", "部分服务").into(),
            false => named.join(self.of(", ", "、")),
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

/// A list of incidents as it stands on a page, the newest first.
pub(super) fn list<'a>(
    all: impl Iterator<Item = &'a Incident>,
    (view, language): (&View, Language),
    text: &mut String,
) {
    for each in all {
        article(each, (view, language), false, text);
    }
}

/// One incident: what was said of it, the newest first.
pub(super) fn article(
    incident: &Incident,
    (view, language): (&View, Language),
    is_whole: bool,
    text: &mut String,
) {
    let title = escape(&language.title(incident, &view.names));
    let (id, path) = (incident.id, language.path());
    let level = match (is_whole, view.here.is_empty()) {
        (true, _) => 1,
        (false, true) => 3,
        (false, false) => 2,
    };
    let _ = write!(
        text,
        "<article class=\"incident {}\"><h{level}><a href=\"{path}incidents/{id}\">{title}</a>\
         </h{level}>",
        impact(incident)
    );
    if incident.relapses > 0 {
        let _ = write!(text, "<p class=\"soft\">{}</p>", language.relapses(incident.relapses));
    }
    text.push_str("<ol>");
    let shown = if is_whole { incident.updates.len() } else { 3 };
    for update in incident.updates.iter().rev().take(shown) {
        let _ = write!(
            text,
            "<li><strong>{}</strong> <time datetime=\"{}\">{} UTC</time><p>{}</p></li>",
            language.stage(update.stage),
            Date::at(update.at).iso(),
            moment(update.at),
            escape(&language.said(update, incident, &view.names)),
        );
    }
    text.push_str("</ol>");
    if let Some(report) = incident.report.as_ref().filter(|_| is_whole) {
        let heading = language.of("Report", "事件报告");
        let _ = write!(text, "<h2>{heading}</h2><pre>{}</pre>", lines(report));
    }
    text.push_str("</article>\n");
}

/// Several lines, each as safe as one.
fn lines(text: &str) -> String {
    text.lines().map(escape).collect::<Vec<_>>().join("\n")
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
    let updates = incident.updates.iter().enumerate().rev().map(update).collect::<Vec<_>>();
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
        "status": kept::word(&kept::STAGES, &incident.stage()),
        "created_at": iso(incident.began()),
        "updated_at": iso(incident.told()),
        "started_at": iso(incident.began()),
        "monitoring_at": monitoring.map(|update| iso(update.at)),
        "resolved_at": incident.resolved().map(iso),
        "impact": impact(incident),
        "shortlink": format!("{base}/incidents/{}", incident.id),
        "page_id": page_id,
        "relapses": incident.relapses,
        "incident_updates": updates,
        "components": parts.collect::<Vec<_>>(),
    })
}
