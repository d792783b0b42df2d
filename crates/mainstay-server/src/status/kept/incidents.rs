//! An incident as it is kept.

use super::{CAUSES, STAGES, cause, component, list, meant, number, path, small, word};
use crate::status::json::word as state_word;
use mainstay_core::fact::{Because, State};
use mainstay_core::status::Config;
use mainstay_core::status::incident::{Incident, Move, Part, Postmortem, Update};
use serde_json::{Value, json};
use std::time::Duration;

/// As it is written.
pub(super) fn write(each: &Incident, config: &Config) -> Value {
    let part = |part: &Part| {
        let [worst, now] = [part.worst, part.now].map(state_word);
        json!([path(part.component, config), worst, now, part.good, part.failed])
    };
    let step = |each: &Move| {
        let to = state_word(each.to);
        json!([each.at, path(each.component, config), to, reason(each.because)])
    };
    let report = |report: &Postmortem| json!([report.at, report.text]);
    let update = |update: &Update| {
        let stage = word(&STAGES, &update.stage);
        json!([update.at, stage, cause(update.cause), update.text])
    };
    json!({
        "id": each.id,
        "title": each.title,
        "parts": each.parts.iter().map(part).collect::<Vec<_>>(),
        "updates": each.updates.iter().map(update).collect::<Vec<_>>(),
        "relapses": each.relapses,
        "is_led": each.is_led,
        "is_forced": each.is_forced,
        "moves": each.moves.iter().map(step).collect::<Vec<_>>(),
        "report": each.report.as_ref().map(report),
    })
}

/// What can be understood of it.
pub(super) fn read(value: &Value, config: &Config) -> Incident {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let state = |value: &Value| {
        let is_it = |state: &State| Some(state_word(*state)) == value.as_str();
        State::ALL.into_iter().find(is_it)
    };
    let part = |value: &Value| {
        let component = component(value[0].as_str()?, config)?;
        let (worst, now) = (state(&value[1])?, state(&value[2]).unwrap_or_default());
        Some(Part { component, worst, now, good: number(&value[3]), failed: number(&value[4]) })
    };
    let step = |value: &Value| {
        let component = component(value[1].as_str()?, config)?;
        let (to, because) = (state(&value[2])?, because(&value[3])?);
        Some(Move { at: number(&value[0]), component, to, because })
    };
    let update = |value: &Value| {
        let stage = meant(&STAGES, value[1].as_str()?)?;
        let cause = meant(&CAUSES, value[2].as_str()?)?;
        Some(Update { at: number(&value[0]), stage, cause, text: text(&value[3]) })
    };
    Incident {
        id: small(&value["id"]),
        title: text(&value["title"]),
        parts: list(&value["parts"]).iter().filter_map(part).collect(),
        updates: list(&value["updates"]).iter().filter_map(update).collect(),
        relapses: small(&value["relapses"]),
        is_led: value["is_led"] == true,
        is_forced: value["is_forced"] == true,
        moves: list(&value["moves"]).iter().filter_map(step).collect(),
        report: value["report"].as_array().map(|report| Postmortem {
            at: report.first().map_or(0, number),
            text: report.get(1).map_or_else(String::new, text),
        }),
        well: None,
    }
}

/// Why a component is shown so: a word, and up to two numbers.
fn reason(of: Because) -> Value {
    match of {
        Because::Failures { failed, of } => json!(["failures", failed, of]),
        Because::Late => json!(["late"]),
        Because::NoSuccess { lasts } => json!(["no_success", lasts.as_secs()]),
        Because::Down { gateways, of } => json!(["down", gateways, of]),
        Because::Shut => json!(["shut"]),
        Because::Answers => json!(["answers"]),
        Because::Green => json!(["green"]),
        Because::Milder => json!(["milder"]),
        Because::Quiet => json!(["quiet"]),
    }
}

fn because(value: &Value) -> Option<Because> {
    let number = |at: usize| value[at].as_u64().unwrap_or_default();
    let small = |at: usize| u16::try_from(number(at)).unwrap_or(u16::MAX);
    Some(match value[0].as_str()? {
        "failures" => Because::Failures { failed: number(1), of: number(2) },
        "late" => Because::Late,
        "no_success" => Because::NoSuccess { lasts: Duration::from_secs(number(1)) },
        "down" => Because::Down { gateways: small(1), of: small(2) },
        "shut" => Because::Shut,
        "answers" => Because::Answers,
        "green" => Because::Green,
        "milder" => Because::Milder,
        "quiet" => Because::Quiet,
        _ => return None,
    })
}
