//! Announced work, from the command line.

use super::{NO_PAGE, ask};
use crate::command_line::{AtPage, Maintenance, WRONG};
use crate::config_file::value::time;
use crate::orders::shown;
use crate::stdout::say;
use mainstay_server::status::operate::MaintenanceWish;
use serde_json::Value;
use std::fmt::Write;
use std::process::ExitCode;

/// Does what the command asks for.
pub fn maintenance(command: &Maintenance) -> ExitCode {
    let none = MaintenanceWish::default();
    match command {
        Maintenance::List { at } => list(at),
        Maintenance::Announce { title, component, from, until, lasts, text, at } => {
            let lasts_s = match lasts.as_ref().map(|text| (text, time(text))) {
                None => None,
                Some((_, Some(lasts))) => Some(lasts.as_secs()),
                Some((text, None)) => {
                    eprintln!("mainstay: --for {text}: write a time like 30m or 4h");
                    return ExitCode::from(WRONG);
                }
            };
            let wish = MaintenanceWish {
                verb: "announce".into(),
                title: Some(title.clone()),
                components: component.clone(),
                from: from.clone(),
                until: until.clone(),
                lasts_s,
                text: Some(text.clone()),
                ..none
            };
            give(&wish, at)
        }
        Maintenance::Say { id, text, at } => {
            let (verb, id, text) = ("say".into(), Some(*id), Some(text.clone()));
            give(&MaintenanceWish { verb, id, text, ..none }, at)
        }
        Maintenance::End { id, text, at } => {
            let (verb, id, text) = ("end".into(), Some(*id), Some(text.clone()));
            give(&MaintenanceWish { verb, id, text, ..none }, at)
        }
    }
}

fn give(wish: &MaintenanceWish, at: &AtPage) -> ExitCode {
    ask(("/-/maintenance", wish), at, |told| format!("maintenance {}\n", told["id"]))
}

fn list(at: &AtPage) -> ExitCode {
    let told = match shown((&at.admin, "/-/maintenances"), NO_PAGE, at.json) {
        Ok(told) => told,
        Err(code) => return code,
    };
    let mut text = String::new();
    for each in told["maintenances"].as_array().into_iter().flatten() {
        let word = |key: &str| each[key].as_str().unwrap_or_default().to_owned();
        let parts = each["components"].as_array().into_iter().flatten();
        let parts: Vec<&str> = parts.filter_map(Value::as_str).collect();
        let step = if each["is_cancelled"] == true { "cancelled".into() } else { word("step") };
        let _ = writeln!(
            text,
            "{:>3}  {} to {}  {step:11} {} ({})",
            each["id"],
            word("from"),
            word("until"),
            word("title"),
            parts.join(", "),
        );
    }
    say(if text.is_empty() { "no maintenance windows\n" } else { &text });
    ExitCode::SUCCESS
}
