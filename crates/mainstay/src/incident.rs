//! What operators say of incidents, from the command line.

pub mod work;

use crate::admin_client::post;
use crate::command_line::{AtPage, Incident, WRONG};
use crate::orders::{message, shown, silent};
use crate::stdout::say;
use mainstay_server::status::operate::IncidentWish;
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write;
use std::process::ExitCode;

/// What is said where no page is shown.
const NO_PAGE: &str = "shows no status page; give --admin of a node with the role `status`";

/// Does what the command asks for.
pub fn incident(command: &Incident) -> ExitCode {
    match command {
        Incident::List { at } => list(at),
        Incident::Open { title, component, text, at } => give(
            IncidentWish {
                verb: "open".into(),
                title: Some(title.clone()),
                components: component.clone(),
                text: Some(text.clone()),
                ..IncidentWish::default()
            },
            at,
        ),
        Incident::Update { id, stage, text, force, at } => give(
            IncidentWish {
                verb: "update".into(),
                id: Some(*id),
                stage: Some(stage.clone()),
                text: Some(text.clone()),
                force: *force,
                ..IncidentWish::default()
            },
            at,
        ),
        Incident::Report { id, file: None, at } => report(*id, at),
        Incident::Report { id, file: Some(file), at } => {
            let text = match std::fs::read_to_string(file) {
                Ok(text) => text.trim().to_owned(),
                Err(error) => {
                    eprintln!("mainstay: cannot read {}: {error}", file.display());
                    return ExitCode::from(WRONG);
                }
            };
            let (verb, id) = ("report".into(), Some(*id));
            give(IncidentWish { verb, id, text: Some(text), ..IncidentWish::default() }, at)
        }
    }
}

fn give(wish: IncidentWish, at: &AtPage) -> ExitCode {
    ask(("/-/incident", &wish), at, |told| format!("incident {}\n", told["id"]))
}

/// Prints the report after an incident, a draft if it has none yet.
fn report(id: u32, at: &AtPage) -> ExitCode {
    let wish = IncidentWish { verb: "draft".into(), id: Some(id), ..IncidentWish::default() };
    ask(("/-/incident", &wish), at, |told| {
        if told["is_public"] == false {
            eprintln!(
                "mainstay: a draft; fill in what nobody could count, then make it public with \
                 mainstay incident report {id} --file FILE"
            );
        }
        told["text"].as_str().unwrap_or_default().to_owned()
    })
}

fn ask(
    (path, wish): (&str, &impl Serialize),
    at: &AtPage,
    shown: impl Fn(&Value) -> String,
) -> ExitCode {
    let body = serde_json::to_string(wish).unwrap_or_default();
    match post(&at.admin, path, &body) {
        Ok((200, body)) => {
            let told: Value = serde_json::from_str(&body).unwrap_or_default();
            match at.json {
                true => say(&format!("{told}\n")),
                false => say(&shown(&told)),
            }
            ExitCode::SUCCESS
        }
        Ok((404, _)) => {
            eprintln!("mainstay: {} {NO_PAGE}", at.admin);
            ExitCode::FAILURE
        }
        Ok((_, body)) => {
            eprintln!("mainstay: not taken: {}", message(&body));
            ExitCode::FAILURE
        }
        Err(error) => silent(&at.admin, &error),
    }
}

fn list(at: &AtPage) -> ExitCode {
    let told = match shown((&at.admin, "/-/incidents"), NO_PAGE, at.json) {
        Ok(told) => told,
        Err(code) => return code,
    };
    let mut text = String::new();
    for each in told["incidents"].as_array().into_iter().flatten() {
        let word = |key: &str| each[key].as_str().unwrap_or_default().to_owned();
        let relapses = each["relapses"].as_u64().filter(|count| *count > 0);
        let relapses = relapses.map_or(String::new(), |count| format!(", came back {count} times"));
        let _ = writeln!(
            text,
            "{:>3}  {}  {:13} {:8} {}{relapses}",
            each["id"],
            word("began"),
            word("stage"),
            word("impact"),
            word("title"),
        );
    }
    say(if text.is_empty() { "no incidents\n" } else { &text });
    ExitCode::SUCCESS
}
