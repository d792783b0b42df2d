//! Operators' orders from the command line: given at any node's admin listener, with all else dead.

use crate::admin_client::{get, post};
use crate::command_line::{Given, WRONG};
use crate::config_file::value::time;
use crate::stdout::say;
use mainstay_server::policy::ask::OrderWish;
use serde_json::Value;
use std::fmt::Write;
use std::process::ExitCode;

/// What is ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// No new work at this site; what runs is finished, or moves.
    Drain(String),
    /// No new work at this site; what runs moves at once.
    Kill(String),
    /// Not more than this much of the site.
    Cap(String, u8),
    /// Nothing changes by itself at this site, or anywhere.
    Freeze(Option<String>),
    /// Ends an order.
    Undrain(String),
}

/// Gives an order.
pub fn give(what: &What, given: &Given) -> ExitCode {
    let Some(life) = time(&given.lasts) else {
        eprintln!("mainstay: --for {}: write a time like 30m or 1h", given.lasts);
        return ExitCode::from(WRONG);
    };
    let (verb, site, percent, ends) = match what {
        What::Drain(site) => ("drain", Some(site), None, None),
        What::Kill(site) => ("kill", Some(site), None, None),
        What::Cap(site, percent) => ("cap", Some(site), Some(*percent), None),
        What::Freeze(site) => ("freeze", site.as_ref(), None, None),
        What::Undrain(id) => ("undrain", None, None, Some(id)),
    };
    let wish = OrderWish {
        verb: verb.into(),
        site: site.cloned(),
        percent,
        ends: ends.cloned(),
        reason: given.reason.clone(),
        life_s: life.as_secs(),
        author: author(given.author.as_ref()),
        confirm: given.confirm,
    };
    let order = serde_json::to_string(&wish).unwrap_or_default();
    match post(&given.admin, "/-/order", &order) {
        Ok((200, body)) => {
            let told: Value = serde_json::from_str(&body).unwrap_or_default();
            let id = told["id"].as_str().unwrap_or_default();
            match given.json {
                true => say(&format!("{told}\n")),
                false => say(&format!("order {id}; mainstay undrain {id} ends it\n")),
            }
            ExitCode::SUCCESS
        }
        Ok((_, body)) => {
            eprintln!("mainstay: not taken: {}", message(&body));
            ExitCode::FAILURE
        }
        Err(error) => silent(&given.admin, &error),
    }
}

/// Lists the orders in force.
pub fn list(admin: &str, json: bool) -> ExitCode {
    let unknown = "knows no orders; is it one of several nodes?";
    let told = match shown((admin, "/-/orders"), unknown, json) {
        Ok(told) => told,
        Err(code) => return code,
    };
    let mut text = String::new();
    for order in told["orders"].as_array().into_iter().flatten() {
        let left = order["left_ms"].as_u64().unwrap_or(0) / 60_000;
        let percent = order["percent"].as_u64().map_or(String::new(), |p| format!(" {p} %"));
        let _ = writeln!(
            text,
            "{}  {}{percent} {}  {left} min left  {}",
            order["id"].as_str().unwrap_or_default(),
            order["verb"].as_str().unwrap_or_default(),
            order["site"].as_str().unwrap_or("everywhere"),
            order["reason"].as_str().unwrap_or_default(),
        );
    }
    say(if text.is_empty() { "no orders\n" } else { &text });
    ExitCode::SUCCESS
}

/// What an admin listener shows at a path; what it says of one that it does not have is `unknown`.
///
/// # Errors
/// With how the command ends: nobody answers, it has no such page, or, asked for JSON, all is said.
pub(crate) fn shown(
    (admin, path): (&str, &str),
    unknown: &str,
    json: bool,
) -> Result<Value, ExitCode> {
    match get(admin, path, "application/json") {
        Ok((200, body)) if json => {
            say(&format!("{}\n", body.trim_end()));
            Err(ExitCode::SUCCESS)
        }
        Ok((200, body)) => Ok(serde_json::from_str(&body).unwrap_or_default()),
        Ok(_) => {
            eprintln!("mainstay: {admin} {unknown}");
            Err(ExitCode::FAILURE)
        }
        Err(error) => Err(silent(admin, &error)),
    }
}

/// Who gives an order or publishes: whom the option names, or whom the system does.
pub(crate) fn author(named: Option<&String>) -> String {
    let user = || std::env::var("USER").ok().filter(|user| !user.is_empty());
    named.cloned().or_else(user).unwrap_or_else(|| String::from("operator"))
}

/// What an admin listener says is wrong.
pub fn message(body: &str) -> String {
    let told: Value = serde_json::from_str(body).unwrap_or_default();
    let found = told["error"]["message"].as_str().or_else(|| told["error"].as_str());
    found.map_or_else(|| body.trim().to_owned(), str::to_owned)
}

/// Nobody answers.
pub(crate) fn silent(admin: &str, error: &std::io::Error) -> ExitCode {
    let hint = match error.kind() {
        std::io::ErrorKind::PermissionDenied => "",
        _ => "; is it running, and is this its admin address (--admin)?",
    };
    eprintln!("mainstay: cannot ask {admin}: {error}{hint}");
    ExitCode::FAILURE
}
