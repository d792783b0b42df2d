//! What servers elsewhere are told when the page tells something new.
//!
//! Each message has an id that is the same however often it is sent, and an incident or a window
//! stands in it as in the documents below `/api/v2/`.

use super::tell::moment;
use super::words::English;
use super::{View, json, kept, tell, works};
use crate::letters::{Hook, Letters, Post};
use crate::setup::Setup;
use mainstay_core::fact::{Component, StatusFact};
use mainstay_core::status::incident::{Cause, Incident, Stage};
use serde_json::{Value, json};
use std::sync::OnceLock;

/// Who is told, and by what thread.
#[derive(Default)]
pub(super) struct Alerts {
    hooks: Vec<Hook>,
    post: Option<Post>,
    /// Begun when the first of them is told.
    letters: OnceLock<Letters>,
}

impl Alerts {
    pub(super) fn adopt(&mut self, setup: &Setup) {
        (self.hooks, self.post) = (setup.status.webhooks.clone(), setup.status.mail.clone());
    }

    /// Whether anybody is told of this.
    pub(super) fn concern(&self, fact: &StatusFact) -> bool {
        let is_told = match fact {
            StatusFact::Surge { .. }
            | StatusFact::Incident { .. }
            | StatusFact::Maintenance { .. }
            | StatusFact::Lost { .. }
            | StatusFact::Found => true,
            StatusFact::Moved { .. } | StatusFact::Silent { .. } | StatusFact::Heard { .. } => {
                false
            }
        };
        is_told && !(self.hooks.is_empty() && self.post.is_none())
    }

    /// Tells it to everybody, as it stands in `view`.
    pub(super) fn tell(&self, fact: &StatusFact, view: &View) {
        let Some(message) = message(fact, view) else { return };
        let letters = self.letters.get_or_init(Letters::begin);
        self.hooks.iter().for_each(|hook| letters.tell(hook, &message));
        if let Some((post, (subject, text))) = self.post.as_ref().zip(letter(fact, view)) {
            letters.mail(post, message["id"].as_str().unwrap_or_default(), (&subject, &text));
        }
    }
}

/// What is told of a decision, if it is for others.
pub(super) fn message(fact: &StatusFact, view: &View) -> Option<Value> {
    let page_id = json::page_id(&view.names);
    let name = |component: Component| view.names.name(component).unwrap_or_default();
    let (kind, event, which, more) = match fact {
        StatusFact::Incident { id, stage, cause } => {
            let one = view.incidents.iter().find(|each| each.id == *id)?;
            let event = event(one, (*stage, *cause));
            let which = match one.published() {
                Some(report) => format!("{id}-report-{}", report.at),
                None => format!("{id}-{}", one.updates.len()),
            };
            ("incident", event, which, tell::json(one, view, &page_id))
        }
        StatusFact::Maintenance { id, step } => {
            let one = view.maintenances.iter().find(|each| each.id == *id)?;
            let which = format!("m{id}-{}", one.notes.len());
            ("maintenance", kept::word(&works::STEPS, step), which, works::one(one, view, &page_id))
        }
        StatusFact::Surge { component, reports, began } => {
            let event = if *began { "began" } else { "ended" };
            let id = json::id(&view.names, *component);
            let which = format!("{id}-{}", view.wall);
            let more = json!({ "component": name(*component), "id": id, "reports": reports });
            ("surge", event, which, more)
        }
        StatusFact::Lost { lasts } => {
            let more = json!({ "silent_seconds": lasts.as_secs() });
            ("data", "lost", view.wall.to_string(), more)
        }
        StatusFact::Found => ("data", "found", view.wall.to_string(), json!({})),
        StatusFact::Moved { .. } | StatusFact::Silent { .. } | StatusFact::Heard { .. } => {
            return None;
        }
    };
    let status = json::status(view);
    let mut message = json!({
        "id": format!("{page_id}-{kind}-{which}-{event}"),
        "kind": kind,
        "event": event,
        "at": view.wall,
        "page": {
            "id": page_id,
            "name": view.names.title,
            "url": view.names.url,
            "status_indicator": status["indicator"],
            "status_description": status["description"],
        },
    });
    message[kind] = more;
    Some(message)
}

/// What is written of a decision: a subject, and the text.
pub(super) fn letter(fact: &StatusFact, view: &View) -> Option<(String, String)> {
    let name = |component: Component| view.names.name(component).unwrap_or("a part of it");
    let base = view.names.url.as_deref().map(|url| url.trim_end_matches('/'));
    let (what, said, path) = match fact {
        StatusFact::Incident { id, stage, cause } => {
            let one = view.incidents.iter().find(|each| each.id == *id)?;
            let title = English.title(one, &view.names);
            let last = one.updates.last()?;
            let said = match one.published() {
                Some(report) => report.text.clone(),
                None => English.said(last, one, &view.names),
            };
            (format!("{}: {title}", event(one, (*stage, *cause))), said, format!("/incidents/{id}"))
        }
        StatusFact::Maintenance { id, step } => {
            let one = view.maintenances.iter().find(|each| each.id == *id)?;
            let step = kept::word(&works::STEPS, step).replace('_', " ");
            let span = format!("{} to {} UTC", moment(one.from), moment(one.until));
            let said = format!("{span}. {}", English.noted(one.notes.last()?));
            (format!("maintenance {step}: {}", one.title), said, format!("/maintenance/{id}"))
        }
        StatusFact::Surge { component, reports, began: true } => {
            let what = format!("users report problems with {}", name(*component));
            (what, format!("{reports} reports in half an hour."), "/".into())
        }
        StatusFact::Surge { component, .. } => {
            let what = format!("reports of {} are as usual again", name(*component));
            (what, String::new(), "/".into())
        }
        StatusFact::Lost { lasts } => {
            let said =
                format!("Fewer than half of the gateways are heard for {} s.", lasts.as_secs());
            ("no data".into(), said, "/".into())
        }
        StatusFact::Found => ("there are data again".into(), String::new(), "/".into()),
        StatusFact::Moved { .. } | StatusFact::Silent { .. } | StatusFact::Heard { .. } => {
            return None;
        }
    };
    let link = base.map_or_else(String::new, |base| format!("\n\n{base}{path}"));
    let at = moment(view.wall);
    let now = English.headline(view);
    let text = format!("{said}\n\nAt {at} UTC the page says: {now}.{link}\n");
    Some((format!("[{}] {what}", view.names.title), text))
}

/// What happened to an incident.
fn event(incident: &Incident, (stage, cause): (Stage, Cause)) -> &'static str {
    match (stage, cause) {
        _ if incident.published().is_some() => "postmortem",
        (_, Cause::Relapse) => "relapsed",
        (Stage::Resolved, _) => "resolved",
        _ if incident.updates.len() == 1 => "opened",
        _ => "updated",
    }
}
