//! A maintenance window as it is kept.

use super::{component, list, meant, number, path, small, word};
use crate::status::works::STEPS;
use mainstay_core::status::Config;
use mainstay_core::status::maintenance::{Maintenance, Note, Reason};
use serde_json::{Value, json};

const REASONS: [(Reason, &str); 4] = [
    (Reason::Person, "person"),
    (Reason::Time, "time"),
    (Reason::Well, "well"),
    (Reason::Cancelled, "cancelled"),
];

/// As it is written.
pub(super) fn write(each: &Maintenance, config: &Config) -> Value {
    let note = |note: &Note| {
        json!([note.at, word(&STEPS, &note.step), word(&REASONS, &note.reason), note.text])
    };
    json!({
        "id": each.id,
        "title": each.title,
        "components": each.components.iter().map(|of| path(*of, config)).collect::<Vec<_>>(),
        "from": each.from,
        "until": each.until,
        "notes": each.notes.iter().map(note).collect::<Vec<_>>(),
    })
}

/// What can be understood of it.
pub(super) fn read(value: &Value, config: &Config) -> Maintenance {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |value: &Value| component(value.as_str()?, config);
    let note = |value: &Value| {
        let step = meant(&STEPS, value[1].as_str()?)?;
        let reason = meant(&REASONS, value[2].as_str()?)?;
        Some(Note { at: number(&value[0]), step, reason, text: text(&value[3]) })
    };
    Maintenance {
        id: small(&value["id"]),
        title: text(&value["title"]),
        components: list(&value["components"]).iter().filter_map(of).collect(),
        from: number(&value["from"]),
        until: number(&value["until"]),
        notes: list(&value["notes"]).iter().filter_map(note).collect(),
        well: None,
    }
}
