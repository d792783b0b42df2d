//! What the status role keeps over a restart, in a file of the node's directory: incidents,
//! maintenance windows, ninety days of each component, and what users reported. Components are
//! kept by name.

mod incidents;
mod maintenances;

use crate::replace::replace;
use mainstay_core::fact::Component;
use mainstay_core::message::Count;
use mainstay_core::names::{ModelId, SiteId};
use mainstay_core::status::crowd::Minute;
use mainstay_core::status::history::{Day, History, Slot};
use mainstay_core::status::incident::{Cause, Incident, Stage};
use mainstay_core::status::{Config, Kept, KeptComponent};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// In the node's directory.
const FILE: &str = "status.json";

/// Where it is kept, if anywhere.
pub(super) struct Store(Option<PathBuf>);

impl Store {
    /// In this directory.
    pub(super) fn of(directory: Option<&Path>) -> Store {
        Store(directory.map(|directory| directory.join(FILE)))
    }

    /// What was kept; nothing if there is no such file. A file that cannot be read is put aside, so
    /// that nothing is lost and the page stands.
    pub(super) fn read(&self, config: &Config) -> Kept {
        let Some(path) = &self.0 else { return Kept::default() };
        let read = match std::fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| error.to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Kept::default(),
            Err(error) => Err(error.to_string()),
        };
        read.map(|value: Value| kept(&value, config)).unwrap_or_else(|why| {
            let aside = path.with_extension("unreadable");
            let moved = std::fs::rename(path, &aside);
            let (path, aside) = (path.display(), aside.display());
            let done = if moved.is_ok() { "it is now" } else { "it should be moved to" };
            tracing::warn!("{path}: {why}; {done} {aside}, and history begins anew");
            Kept::default()
        })
    }

    /// Keeps this.
    pub(super) fn write(&self, of: &Kept, config: &Config) {
        let Some(path) = &self.0 else { return };
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(error) = made.and_then(|()| replace(path, text(of, config).as_bytes())) {
            tracing::warn!("cannot keep what the status page shows in {}: {error}", path.display());
        }
    }
}

/// A component's kind and name, as programs write it: `api`, `model/NAME`, `site/NAME`.
pub(super) fn path(component: Component, config: &Config) -> String {
    let at = |names: &[String], at: u16| names.get(usize::from(at)).cloned().unwrap_or_default();
    match component {
        Component::Api => "api".into(),
        Component::Model(model) => format!("model/{}", at(&config.models, model.0)),
        Component::Site(site) => format!("site/{}", at(&config.sites, site.0)),
    }
}

/// The component of such a path.
pub(super) fn component(path: &str, config: &Config) -> Option<Component> {
    let at = |names: &[String], name: &str| {
        let at = names.iter().position(|each| each == name)?;
        u16::try_from(at).ok()
    };
    match path.split_once('/') {
        None if path == "api" => Some(Component::Api),
        Some(("model", name)) => at(&config.models, name).map(|at| Component::Model(ModelId(at))),
        Some(("site", name)) => at(&config.sites, name).map(|at| Component::Site(SiteId(at))),
        _ => None,
    }
}

/// Stages by the words of Statuspage.
pub(super) const STAGES: [(Stage, &str); 4] = [
    (Stage::Investigating, "investigating"),
    (Stage::Identified, "identified"),
    (Stage::Monitoring, "monitoring"),
    (Stage::Resolved, "resolved"),
];
const CAUSES: [(Cause, &str); 6] = [
    (Cause::Person, "person"),
    (Cause::Seen, "seen"),
    (Cause::Reports, "reports"),
    (Cause::Recovered, "recovered"),
    (Cause::Relapse, "relapse"),
    (Cause::Forced, "forced"),
];

/// The word for one of these.
pub(super) fn word<T: PartialEq>(all: &[(T, &'static str)], of: &T) -> &'static str {
    all.iter().find(|(each, _)| each == of).map_or("", |(_, word)| *word)
}

/// What a word stands for.
pub(super) fn meant<T: Copy>(all: &[(T, &'static str)], word: &str) -> Option<T> {
    all.iter().find(|(_, each)| *each == word).map(|(of, _)| *of)
}

/// Why something was said, for programs.
pub(super) fn cause(of: Cause) -> &'static str {
    word(&CAUSES, &of)
}

fn text(kept: &Kept, config: &Config) -> String {
    let incident = |each: &Incident| incidents::write(each, config);
    let component = |each: &KeptComponent| {
        let minute = |each: &Minute| json!([each.minute, each.reports, each.is_out]);
        let day = |day: &Day| json!([day.day, day.seconds, day.good, day.failed]);
        let slot = |slot: &Slot| {
            json!([slot.slot, slot.count.good, slot.count.failed, slot.count.first_tokens])
        };
        json!({
            "component": path(each.component, config),
            "began": each.began,
            "reports": each.reports.iter().map(minute).collect::<Vec<_>>(),
            "days": each.history.days.iter().map(day).collect::<Vec<_>>(),
            "slots": each.history.slots.iter().map(slot).collect::<Vec<_>>(),
            "gaps": each.history.gaps,
        })
    };
    let incidents: Vec<Value> = kept.incidents.iter().map(incident).collect();
    let works = kept.maintenances.iter().map(|each| maintenances::write(each, config));
    let works: Vec<Value> = works.collect();
    let components: Vec<Value> = kept.components.iter().map(component).collect();
    json!({ "incidents": incidents, "maintenances": works, "components": components }).to_string()
}

/// What can be understood of a kept document.
fn kept(value: &Value, config: &Config) -> Kept {
    let incident = |value: &Value| incidents::read(value, config);
    let minute = |value: &Value| Minute {
        minute: number(&value[0]),
        reports: small(&value[1]),
        is_out: value[2] == true,
    };
    let day = |value: &Value| {
        let mut day = Day { day: number(&value[0]), ..Day::default() };
        for (at, seconds) in list(&value[1]).iter().take(day.seconds.len()).enumerate() {
            day.seconds[at] = small(seconds);
        }
        (day.good, day.failed) = (number(&value[2]), number(&value[3]));
        day
    };
    let slot = |value: &Value| {
        let mut count = Count { good: number(&value[1]), ..Count::default() };
        count.failed = number(&value[2]);
        for (to, from) in count.first_tokens.iter_mut().zip(list(&value[3])) {
            *to = number(&from);
        }
        Slot { slot: number(&value[0]), count }
    };
    let of = |value: &Value| {
        let days = list(&value["days"]).iter().map(day).collect();
        let slots = list(&value["slots"]).iter().map(slot).collect();
        let gaps = serde_json::from_value(value["gaps"].clone()).unwrap_or_default();
        Some(KeptComponent {
            component: component(value["component"].as_str()?, config)?,
            history: History { days, slots, gaps },
            began: value["began"].as_u64(),
            reports: list(&value["reports"]).iter().map(minute).collect(),
        })
    };
    Kept {
        incidents: list(&value["incidents"]).iter().map(incident).collect(),
        maintenances: list(&value["maintenances"])
            .iter()
            .map(|each| maintenances::read(each, config))
            .collect(),
        components: list(&value["components"]).iter().filter_map(of).collect(),
    }
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn small(value: &Value) -> u32 {
    u32::try_from(number(value)).unwrap_or(u32::MAX)
}
