//! What operators say of incidents, over the admin listener.

use super::reports::KINDS;
use super::tell::{impact, moment};
use super::words::English;
use super::{Desk, dates, draft, kept, works};
use crate::setup::date;
use bytes::Bytes;
use mainstay_core::fact::Component;
use mainstay_core::status::Config;
use mainstay_core::status::incident::{Incident, REPORT, TEXT, TITLE, Unwilling, Wish};
use mainstay_core::status::maintenance::{Maintenance, Plan, Untold};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt::Write;

/// What is asked for.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct IncidentWish {
    /// `open`, `update`, `report`, or `draft`, which only shows one.
    pub verb: String,
    /// Which, if it is there already.
    pub id: Option<u32>,
    /// What it is called.
    pub title: Option<String>,
    /// What fails: `api`, `model/NAME`, `site/NAME`.
    pub components: Vec<String>,
    /// How far it is: investigating, identified, monitoring or resolved.
    pub stage: Option<String>,
    /// What is said.
    pub text: Option<String>,
    /// It may be resolved though its parts still fail.
    pub force: bool,
}

/// What is asked for of a maintenance window.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaintenanceWish {
    /// `announce`, `say` or `end`.
    pub verb: String,
    /// Which, if it is there already.
    pub id: Option<u32>,
    /// What is done.
    pub title: Option<String>,
    /// What it takes out: `api`, `model/NAME`, `site/NAME`.
    pub components: Vec<String>,
    /// When it begins, as a date. None: now.
    pub from: Option<String>,
    /// When it ends, as a date;
    pub until: Option<String>,
    /// or after how many seconds.
    pub lasts_s: Option<u64>,
    /// What is said.
    pub text: Option<String>,
}

impl Desk {
    /// All maintenance windows, the newest first, as operators see them.
    pub fn maintenances(&self) -> Value {
        let view = self.view();
        let config = self.lock().config.clone();
        let shown = |each: &Maintenance| {
            let parts = each.components.iter().map(|part| kept::path(*part, &config));
            json!({
                "id": each.id,
                "title": each.title,
                "step": kept::word(&works::STEPS, &each.step()),
                "is_cancelled": each.is_cancelled(),
                "from": moment(each.from),
                "until": moment(each.until),
                "components": parts.collect::<Vec<_>>(),
            })
        };
        json!({ "maintenances": view.maintenances.iter().rev().map(shown).collect::<Vec<_>>() })
    }

    /// Does what an operator wants of a maintenance window.
    ///
    /// # Errors
    /// What is wrong with it, and how to mend it.
    pub fn maintenance(&self, body: &Bytes) -> Result<Value, String> {
        let asked: MaintenanceWish = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        let config = self.lock().config.clone();
        let text = asked.text.unwrap_or_default();
        let id = asked.id.ok_or("which one? give its number, from `mainstay maintenance list`");
        let plan = match asked.verb.as_str() {
            "announce" => {
                let from = asked.from.as_deref().map_or(Ok(dates::now()), date)?;
                let until = match (asked.until.as_deref(), asked.lasts_s) {
                    (Some(until), None) => date(until)?,
                    (None, Some(lasts)) => from.saturating_add(lasts),
                    _ => return Err("when does it end? give --until or --for".into()),
                };
                let title = titled(asked.title)?;
                let components = known(&asked.components, &config)?;
                Plan::Announce { title, components, span: (from, until), text }
            }
            "say" if text.trim().is_empty() => return Err("what is said? give --text".into()),
            "say" => Plan::Say { id: id?, text },
            "end" => Plan::End { id: id?, text },
            verb => return Err(format!("no verb `{verb}`; there are announce, say, end")),
        };
        let id = self.plan(plan).map_err(untold)?;
        Ok(json!({ "id": id }))
    }

    /// All incidents, the newest first, as operators see them.
    pub fn incidents(&self) -> Value {
        let view = self.view();
        let config = self.lock().config.clone();
        let shown = |each: &Incident| {
            let parts = each.parts.iter().map(|part| kept::path(part.component, &config));
            json!({
                "id": each.id,
                "title": English.title(each, &view.names),
                "stage": kept::word(&kept::STAGES, &each.stage()),
                "impact": impact(each),
                "began": moment(each.began()),
                "told": moment(each.told()),
                "relapses": each.relapses,
                "components": parts.collect::<Vec<_>>(),
                "has_report": each.published().is_some(),
            })
        };
        json!({ "incidents": view.incidents.iter().rev().map(shown).collect::<Vec<_>>() })
    }

    /// Metrics, in the exposition format.
    pub fn lines(&self) -> String {
        let shared = self.lock();
        let mut text = String::from("# TYPE mainstay_user_reports counter\n");
        for (kind, count) in KINDS.iter().zip(shared.gate.counts) {
            let _ = writeln!(text, "mainstay_user_reports_total{{category=\"{kind}\"}} {count}");
        }
        let refused = shared.gate.refused;
        text + &format!(
            "# TYPE mainstay_user_reports_refused counter\nmainstay_user_reports_refused_total \
             {refused}\n"
        )
    }

    /// Does what an operator wants of an incident.
    ///
    /// # Errors
    /// What is wrong with it, and how to mend it.
    pub fn incident(&self, body: &Bytes) -> Result<Value, String> {
        let asked: IncidentWish = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        if asked.verb == "draft" {
            return self.draft(asked.id);
        }
        let wish = self.meant(asked)?;
        let id = self.wish(wish).map_err(|why| self.why(&why))?;
        Ok(json!({ "id": id }))
    }

    /// The report after an incident: as it is public, or else a draft.
    fn draft(&self, id: Option<u32>) -> Result<Value, String> {
        let view = self.view();
        let one = view.incidents.iter().find(|each| Some(each.id) == id);
        let one = one.ok_or_else(|| self.why(&Unwilling::Unknown))?;
        if one.resolved().is_none() {
            return Err(self.why(&Unwilling::NotResolved));
        }
        let public = one.published().map(|report| report.text.clone());
        let is_public = public.is_some();
        let text = public.unwrap_or_else(|| draft::draft(one, &view));
        Ok(json!({ "id": one.id, "is_public": is_public, "text": text }))
    }

    fn meant(&self, asked: IncidentWish) -> Result<Wish, String> {
        let config = self.lock().config.clone();
        let text = asked.text.unwrap_or_default();
        let id = asked.id.ok_or("which one? give its number, from `mainstay incident list`");
        Ok(match asked.verb.as_str() {
            "open" => {
                let components = known(&asked.components, &config)?;
                Wish::Open { title: titled(asked.title)?, components, text }
            }
            "update" => {
                let word = asked.stage.unwrap_or_default();
                let stage = kept::meant(&kept::STAGES, &word).ok_or_else(|| {
                    format!(
                        "no stage `{word}`; there are investigating, identified, monitoring, \
                         resolved"
                    )
                })?;
                Wish::Update { id: id?, stage, text, force: asked.force }
            }
            "report" => {
                if let Some(line) = draft::gap(&text) {
                    return Err(format!("there is a gap to fill yet: `{}`", line.trim()));
                }
                Wish::Report { id: id?, text: Some(text).filter(|text| !text.is_empty()) }
            }
            verb => return Err(format!("no verb `{verb}`; there are open, update, report, draft")),
        })
    }

    fn why(&self, why: &Unwilling) -> String {
        match why {
            Unwilling::Unknown => "there is no such incident; see `mainstay incident list`".into(),
            Unwilling::StillFailing(parts) => {
                let config = self.lock().config.clone();
                let parts: Vec<String> =
                    parts.iter().map(|part| kept::path(*part, &config)).collect();
                format!(
                    "{} still fails, so it is not resolved; wait, or use --force and say why",
                    parts.join(", ")
                )
            }
            Unwilling::NoWord => "--force needs a word why (--text)".into(),
            Unwilling::Full => "it has as many updates as one can have; open another".into(),
            Unwilling::TooLong => format!(
                "it is too long; at most {TITLE} letters for a title, {TEXT} for a text, {REPORT} \
                 for a report"
            ),
            Unwilling::NotResolved => "it is not resolved yet; a report comes after that".into(),
        }
    }
}

/// The components of these paths.
fn known(paths: &[String], config: &Config) -> Result<Vec<Component>, String> {
    let known = |path: &String| {
        kept::component(path, config).ok_or_else(|| {
            let models = config.models.iter().map(|name| format!("model/{name}"));
            let sites = config.sites.iter().map(|name| format!("site/{name}"));
            let all: Vec<String> = models.chain(sites).collect();
            format!("no component `{path}`; there are api, {}", all.join(", "))
        })
    };
    paths.iter().map(known).collect()
}

fn titled(title: Option<String>) -> Result<String, String> {
    let title = title.unwrap_or_default();
    if title.trim().is_empty() { Err("what is it called? give a title".into()) } else { Ok(title) }
}

fn untold(why: Untold) -> String {
    match why {
        Untold::Unknown => "there is no such window; see `mainstay maintenance list`".into(),
        Untold::Over => "it is over already; announce another".into(),
        Untold::Backwards => "it must end later than it begins, and later than now".into(),
        Untold::TooFar => "it may last thirty days and begin within a year; mend the dates".into(),
        Untold::Nothing => "it takes nothing out; give --component".into(),
        Untold::Full => "as many as can be kept; end one, or say less of this one".into(),
        Untold::TooLong => {
            format!("it is too long; at most {TITLE} letters for a title, {TEXT} for a text")
        }
    }
}
