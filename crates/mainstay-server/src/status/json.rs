//! The page for programs, in the shape of Statuspage's API version 2, which many tools read.
//!
//! That API has no word for *no data*. Where too few gateways are heard, trouble is to be assumed,
//! so components are then `degraded_performance`; a component with few requests is `operational`
//! and its description says that nothing is known.

use super::dates::Date;
use super::words::English;
use super::works::{self, Which};
use super::{Names, View, tell};
use mainstay_core::fact::{Component, State};
use mainstay_core::status::{Data, Overall, Row};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// Incidents in a document, as Statuspage has them.
const INCIDENTS_MAX: usize = 50;

/// The document at this path below `/api/v2/`, if there is one. `began` is how long ago this
/// process began.
pub(super) fn document(view: &View, path: &str, began: Duration) -> Option<Value> {
    let page = page(view);
    Some(match path {
        "status.json" => json!({ "page": page, "status": status(view) }),
        "summary.json" => json!({
            "page": page,
            "status": status(view),
            "components": components(view, began),
            "incidents": incidents(view, true),
            "scheduled_maintenances": works::json(view, Which::Open, &page_id(&view.names)),
        }),
        "components.json" => json!({ "page": page, "components": components(view, began) }),
        "incidents.json" => json!({ "page": page, "incidents": incidents(view, false) }),
        "incidents/unresolved.json" => json!({ "page": page, "incidents": incidents(view, true) }),
        _ => {
            let which = match path {
                "scheduled-maintenances.json" => Which::All,
                "scheduled-maintenances/upcoming.json" => Which::Upcoming,
                "scheduled-maintenances/active.json" => Which::Active,
                _ => return None,
            };
            let works = works::json(view, which, &page_id(&view.names));
            json!({ "page": page, "scheduled_maintenances": works })
        }
    })
}

/// A state as Statuspage has it, and two more.
pub(super) fn word(state: State) -> &'static str {
    match state {
        State::NoData => "no_data",
        State::Maintenance => "under_maintenance",
        State::Operational => "operational",
        State::Degraded => "degraded_performance",
        State::Partial => "partial_outage",
        State::Major => "major_outage",
    }
}

/// What a component is called by programs: the same as long as its name is.
pub(super) fn id(names: &Names, component: Component) -> String {
    let kind = match component {
        Component::Api => "api",
        Component::Model(_) => "model",
        Component::Site(_) => "site",
    };
    short(&[kind, names.name(component).unwrap_or_default()])
}

fn short(parts: &[&str]) -> String {
    let hash = Sha256::digest(parts.join("\0"));
    hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// The newest incidents, the newest first; those that are not over, if only they are wanted.
fn incidents(view: &View, is_open: bool) -> Vec<Value> {
    let page_id = page_id(&view.names);
    let all = view.incidents.iter().rev();
    let wanted = all.filter(|each| !is_open || each.resolved().is_none());
    wanted.take(INCIDENTS_MAX).map(|each| tell::json(each, view, &page_id)).collect()
}

pub(super) fn page_id(names: &Names) -> String {
    short(&["page", &names.title])
}

fn page(view: &View) -> Value {
    json!({
        "id": page_id(&view.names),
        "name": view.names.title,
        // Nobody said where it is; for whoever reads this it is where this came from.
        "url": view.names.url.as_deref().unwrap_or("/"),
        "time_zone": "Etc/UTC",
        "updated_at": Date::ago(view.page.changed).iso(),
    })
}

pub(super) fn status(view: &View) -> Value {
    let indicator = match view.page.overall {
        Overall::Well => "none",
        Overall::Minor => "minor",
        Overall::Major => "major",
        Overall::Critical => "critical",
    };
    json!({ "indicator": indicator, "description": English.headline(view) })
}

fn components(view: &View, began: Duration) -> Vec<Value> {
    let created = Date::ago(began).iso();
    let group = |component| match component {
        Component::Api => None,
        Component::Model(_) => Some("Models"),
        Component::Site(_) => Some("Sites"),
    };
    let mut all: Vec<Value> = Vec::new();
    let mut last = None;
    for (name, row) in view.rows() {
        let of = group(row.component);
        if let Some(title) = of.filter(|_| of != last) {
            let members = view.rows().filter(|(_, row)| group(row.component) == of);
            all.push(group_of(view, (title, &created), members.map(|(_, row)| row)));
        }
        last = of;
        all.push(json!({
            "id": id(&view.names, row.component),
            "name": name,
            "status": told(view, row.state),
            "description": (row.state == State::NoData).then_some("no data"),
            "created_at": created,
            "updated_at": Date::ago(row.lasts).iso(),
            "position": null,
            "page_id": page_id(&view.names),
            "group": false,
            "group_id": of.map(|title| short(&["group", title])),
            "showcase": true,
            "start_date": null,
            "only_show_if_degraded": false,
        }));
    }
    for (at, each) in (1..).zip(&mut all) {
        each["position"] = json!(at);
    }
    all
}

fn group_of<'a>(
    view: &View,
    (title, created): (&str, &str),
    members: impl Iterator<Item = &'a Row>,
) -> Value {
    let members: Vec<&Row> = members.collect();
    let worst = members.iter().map(|row| row.state).max().unwrap_or_default();
    let changed = members.iter().map(|row| row.lasts).min().unwrap_or_default();
    let ids: Vec<String> = members.iter().map(|row| id(&view.names, row.component)).collect();
    json!({
        "id": short(&["group", title]),
        "name": title,
        "status": told(view, worst),
        "description": null,
        "created_at": created,
        "updated_at": Date::ago(changed).iso(),
        "position": null,
        "page_id": page_id(&view.names),
        "group": true,
        "group_id": null,
        "components": ids,
        "showcase": true,
        "start_date": null,
        "only_show_if_degraded": false,
    })
}

/// A state in Statuspage's words alone.
fn told(view: &View, state: State) -> &'static str {
    match (state, view.page.data) {
        (State::NoData, Data::Lost(_) | Data::Stale(_)) => word(State::Degraded),
        (State::NoData, Data::None(_) | Data::Fresh(_)) => word(State::Operational),
        (state, _) => word(state),
    }
}
