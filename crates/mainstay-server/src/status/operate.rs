//! What operators say of incidents, over the admin listener.

use super::reports::KINDS;
use super::tell::{impact, moment};
use super::words::English;
use super::{Desk, kept};
use bytes::Bytes;
use mainstay_core::status::incident::{Incident, TEXT, Unwilling, Wish};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt::Write;

/// What is asked for.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct IncidentWish {
    /// `open`, `update` or `report`.
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

impl Desk {
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
                "has_report": each.report.is_some(),
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
        let wish = self.meant(asked)?;
        let id = self.wish(wish).map_err(|why| self.why(&why))?;
        Ok(json!({ "id": id }))
    }

    fn meant(&self, asked: IncidentWish) -> Result<Wish, String> {
        let config = self.lock().config.clone();
        let text = asked.text.unwrap_or_default();
        let id = asked.id.ok_or("which one? give its number, from `mainstay incident list`");
        Ok(match asked.verb.as_str() {
            "open" => {
                let known = |path: &String| {
                    kept::component(path, &config).ok_or_else(|| {
                        let models = config.models.iter().map(|name| format!("model/{name}"));
                        let sites = config.sites.iter().map(|name| format!("site/{name}"));
                        let all: Vec<String> = models.chain(sites).collect();
                        format!("no component `{path}`; there are api, {}", all.join(", "))
                    })
                };
                let components = asked.components.iter().map(known).collect::<Result<_, _>>()?;
                let title = asked.title.unwrap_or_default();
                if title.trim().is_empty() {
                    return Err("what is it called? give a title".into());
                }
                Wish::Open { title, components, text }
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
            "report" => Wish::Report { id: id?, text: Some(text).filter(|text| !text.is_empty()) },
            verb => return Err(format!("no verb `{verb}`; there are open, update, report")),
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
            Unwilling::TooLong => format!("the text is too long; at most {TEXT} letters"),
            Unwilling::NotResolved => "it is not resolved yet; a report comes after that".into(),
        }
    }
}
