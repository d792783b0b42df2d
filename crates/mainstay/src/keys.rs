//! Keys of those who may call: made here or at a gateway, shown once, kept as a hash.

use crate::admin_client::post;
use crate::command_line::{ChangeKey, CreateKey, Keys, WRONG};
use crate::config_file::value::time;
use crate::orders::{author, message, shown, silent};
use crate::stdout::say;
use mainstay_server::gateway::keyring::{NewKey, OldKey};
use mainstay_server::gateway::record::Secret;
pub use mainstay_server::gateway::record::hex;
use mainstay_server::setup::{Terms, date};
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write;
use std::process::ExitCode;

/// Does what `command` says.
pub fn keys(command: Keys) -> ExitCode {
    match command {
        Keys::Create(options) => create(&options),
        Keys::List { admin, json } => list(&admin, json),
        Keys::Revoke(change) => {
            let wish = OldKey {
                key: change.key.clone(),
                author: author(change.author.as_ref()),
                ..OldKey::default()
            };
            ask("/-/keys/revoke", &wish, (&change.admin, change.json), |told| {
                let (id, name) = (text(told, "id"), text(told, "name"));
                say(&format!("revoked {id} ({name}), at every gateway that can be reached\n"));
            })
        }
        Keys::Rotate { change, grace } => rotate(&change, &grace),
    }
}

/// A new key, and what a configuration file keeps of it.
///
/// # Errors
/// If the system gives no randomness.
pub fn make() -> Result<(String, String), String> {
    Secret::make().map(|made| (made.text, hex(&made.hash)))
}

/// Makes a key. Without a gateway, the `[[key]]` lines go to stdout, so that they can be appended
/// to a file, and the key itself to stderr, so that it does not end up there.
fn create(options: &CreateKey) -> ExitCode {
    let terms = match terms(options) {
        Ok(terms) => terms,
        Err(why) => return wrong(&why),
    };
    if let Some(admin) = &options.admin {
        let new = NewKey {
            name: options.name.clone(),
            tier: options.tier.clone(),
            author: author(options.author.as_ref()),
            terms,
        };
        return ask("/-/keys/create", &new, (admin, options.json), show_secret);
    }
    let made = match Secret::make() {
        Ok(made) => made,
        Err(why) => {
            eprintln!("mainstay: {why}");
            return ExitCode::FAILURE;
        }
    };
    eprintln!("key, shown this once; give it to the caller as api_key:");
    eprintln!("  {}", made.text);
    eprintln!("for the configuration file:");
    say(&lines(options, &made.hash));
    ExitCode::SUCCESS
}

fn rotate(change: &ChangeKey, grace: &str) -> ExitCode {
    let Some(grace) = time(grace) else {
        return wrong(&format!("--grace {grace}: write a time like 30m or 24h"));
    };
    let wish = OldKey {
        key: change.key.clone(),
        grace_s: grace.as_secs(),
        author: author(change.author.as_ref()),
    };
    ask("/-/keys/rotate", &wish, (&change.admin, change.json), |told| {
        show_secret(told);
        eprintln!("the one before is let in until {}", text(told, "old_until"));
    })
}

/// What the options say, or what is wrong with them.
fn terms(options: &CreateKey) -> Result<Terms, String> {
    let networks: Result<Vec<_>, String> =
        options.networks.iter().map(|network| network.parse()).collect();
    let expires = options.expires.as_deref().map(date).transpose();
    let terms = Terms {
        tenant: options.tenant.clone(),
        models: options.models.clone(),
        networks: networks.map_err(|why| format!("--network: {why}"))?,
        expires: expires.map_err(|why| format!("--expires: {why}"))?,
        requests_per_minute: options.requests_per_minute,
        tokens_per_minute: options.tokens_per_minute,
        cost_units_per_minute: options.cost_units_per_minute,
        concurrency: options.concurrency,
        budget_per_day: options.budget_per_day,
        budget_per_month: options.budget_per_month,
    };
    match terms.wrong() {
        Some((option, why)) => Err(format!("--{} {why}", option.replace('_', "-"))),
        None => Ok(terms),
    }
}

/// The lines of the configuration file for a key with this hash.
fn lines(options: &CreateKey, hash: &[u8; 32]) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_string()).to_string();
    let list = |texts: &[String]| {
        let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
        (!texts.is_empty()).then(|| format!("[{}]", texts.join(", ")))
    };
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let money = |money: Option<f64>| money.map(|money| format!("{money:?}"));
    let said = [
        ("name", Some(quoted(&options.name))),
        ("tier", Some(quoted(&options.tier))),
        ("tenant", options.tenant.as_deref().map(quoted)),
        ("models", list(&options.models)),
        ("networks", list(&options.networks)),
        ("expires", options.expires.as_deref().map(quoted)),
        ("requests_per_minute", number(options.requests_per_minute.map(u64::from))),
        ("tokens_per_minute", number(options.tokens_per_minute)),
        ("cost_units_per_minute", number(options.cost_units_per_minute)),
        ("concurrency", number(options.concurrency.map(u64::from))),
        ("budget_per_day", money(options.budget_per_day)),
        ("budget_per_month", money(options.budget_per_month)),
        ("hash", Some(quoted(&hex(hash)))),
    ];
    let mut text = String::from("\n[[key]]\n");
    for (key, value) in said {
        if let Some(value) = value {
            let _ = writeln!(text, "{key} = {value}");
        }
    }
    text
}

fn list(admin: &str, json: bool) -> ExitCode {
    let told = match shown((admin, "/-/keys"), "knows no keys; is it a gateway?", json) {
        Ok(told) => told,
        Err(code) => return code,
    };
    let keys = told["keys"].as_array().map_or(&[][..], Vec::as_slice);
    say(if keys.is_empty() { "no keys: anyone who reaches the API may call\n" } else { "" });
    let row = |key: &Value| {
        ["id", "name", "tier", "tenant", "prefix", "state", "expires", "source"]
            .map(|what| text(key, what).to_owned())
    };
    let mut rows =
        vec![["ID", "NAME", "TIER", "TENANT", "KEY", "STATE", "EXPIRES", "FROM"].map(String::from)];
    rows.extend(keys.iter().map(row));
    say(&table(if keys.is_empty() { &[] } else { &rows }));
    ExitCode::SUCCESS
}

/// Rows with their columns one below the other.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    rows.iter().fold(String::new(), |mut text, row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "{}", line.trim_end());
        text
    })
}

fn ask(
    path: &str,
    wish: &impl Serialize,
    (admin, json): (&str, bool),
    tell: impl Fn(&Value),
) -> ExitCode {
    match post(admin, path, &serde_json::to_string(wish).unwrap_or_default()) {
        Ok((200, body)) => {
            let told: Value = serde_json::from_str(&body).unwrap_or_default();
            match json {
                true => say(&format!("{told}\n")),
                false => tell(&told),
            }
            ExitCode::SUCCESS
        }
        Ok((404 | 405, _)) => {
            eprintln!("mainstay: {admin} keeps no keys; is it a gateway?");
            ExitCode::FAILURE
        }
        Ok((_, body)) => wrong(&message(&body)),
        Err(error) => silent(admin, &error),
    }
}

/// The secret alone goes to stdout.
fn show_secret(told: &Value) {
    let (id, name) = (text(told, "id"), text(told, "name"));
    eprintln!("{id} ({name}): the key, shown this once; give it to the caller as api_key:");
    say(&format!("{}\n", text(told, "key")));
}

fn text<'a>(told: &'a Value, key: &str) -> &'a str {
    told[key].as_str().unwrap_or("-")
}

fn wrong(why: &str) -> ExitCode {
    eprintln!("mainstay: {why}");
    ExitCode::from(WRONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_keeps_the_hash_and_what_the_key_is_for() {
        let options = CreateKey {
            name: "a \"b\"".into(),
            tier: "free".into(),
            networks: vec!["10.0.0.0/8".into()],
            expires: Some("2027-01-31".into()),
            budget_per_day: Some(2.0),
            concurrency: Some(3),
            ..CreateKey::default()
        };
        assert!(terms(&options).is_ok());
        let text = lines(&options, &[7; 32]);
        let file: crate::config_file::File = toml::from_str(&text).expect(&text);
        let key = &file.key[0];
        assert_eq!(key.name.as_deref(), Some("a \"b\""));
        assert_eq!(key.hash.as_deref(), Some("07".repeat(32).as_str()));
        assert_eq!((key.concurrency, key.budget_per_day), (Some(3), Some(2.0)));
        assert_eq!(key.networks, ["10.0.0.0/8"]);
        let (made, hash) = make().unwrap();
        assert!(made.starts_with("sk-mainstay-") && hash.len() == 64 && !hash.contains(&made));
    }

    #[test]
    fn a_wrong_option_is_named() {
        let said = |options: CreateKey| terms(&options).unwrap_err();
        let expires = CreateKey { expires: Some("soon".into()), ..CreateKey::default() };
        assert!(said(expires).starts_with("--expires: `soon` is no date"));
        let network = CreateKey { networks: vec!["x".into()], ..CreateKey::default() };
        assert!(said(network).starts_with("--network: `x` is no network"));
        let none = CreateKey { tokens_per_minute: Some(0), ..CreateKey::default() };
        assert!(said(none).starts_with("--tokens-per-minute must be more than 0"));
    }

    #[test]
    fn columns_stand_one_below_the_other() {
        let rows = [["A", "B"], ["long", "x"]].map(|row| row.map(String::from));
        assert_eq!(table(&rows), "A     B\nlong  x\n");
    }
}
