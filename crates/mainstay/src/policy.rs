//! Generations of policy from the command line: published at the source, looked at anywhere.

mod replay;
pub mod taste;

use crate::admin_client::{get, post};
use crate::command_line::{Policy, Publish, WRONG};
use crate::orders::{author, message, silent};
use crate::stdout::say;
use serde_json::{Value, json};
use std::fmt::Write;
use std::process::ExitCode;

/// Publishes, shows, goes back.
pub fn policy(command: &Policy) -> ExitCode {
    match command {
        Policy::Publish(options) => publish(options),
        Policy::Show { admin, json } => show(admin, *json),
        Policy::Rollback { generation, by } => {
            let wish = json!({
                "back": true, "generation": generation, "reason": by.reason,
                "author": author(by.author.as_ref()),
            });
            ask(&by.admin, &wish, by.json)
        }
    }
}

fn publish(options: &Publish) -> ExitCode {
    let Publish { file, by, confirm, force } = options;
    let content = match std::fs::read_to_string(file) {
        Ok(content) => content,
        Err(error) => {
            eprintln!("mainstay: cannot read {}: {error}; mend the path", file.display());
            return ExitCode::from(WRONG);
        }
    };
    let wish = json!({
        "content": content, "reason": by.reason, "author": author(by.author.as_ref()),
        "confirm": confirm, "force": force,
    });
    ask(&by.admin, &wish, by.json)
}

fn ask(admin: &str, wish: &Value, json: bool) -> ExitCode {
    match post(admin, "/-/policy", &wish.to_string()) {
        Ok((200, body)) => {
            let told: Value = serde_json::from_str(&body).unwrap_or_default();
            let generation = &told["generation"];
            let content = generation["content"].as_str().unwrap_or_default();
            match json {
                true => say(&format!("{told}\n")),
                false => say(&format!(
                    "generation {} (content {content}); mainstay policy show tells how far it is\n",
                    generation["generation"]
                )),
            }
            ExitCode::SUCCESS
        }
        Ok((404, _)) => {
            eprintln!("mainstay: {admin} is no node of several; [node] and [policy] make it one");
            ExitCode::FAILURE
        }
        Ok((_, body)) => {
            eprintln!("mainstay: not published: {}", message(&body));
            ExitCode::FAILURE
        }
        Err(error) => silent(admin, &error),
    }
}

fn show(admin: &str, json: bool) -> ExitCode {
    let body = match get(admin, "/-/policy", "application/json") {
        Ok((200, body)) => body,
        Ok((status, _)) => {
            eprintln!("mainstay: {admin} knows no policy ({status}); is it one of several nodes?");
            return ExitCode::FAILURE;
        }
        Err(error) => return silent(admin, &error),
    };
    if json {
        say(&format!("{}\n", body.trim_end()));
        return ExitCode::SUCCESS;
    }
    say(&text(&serde_json::from_str(&body).unwrap_or_default()));
    ExitCode::SUCCESS
}

/// The page for people.
fn text(told: &Value) -> String {
    let mut text = String::new();
    let in_force = &told["in_force"];
    let clean = in_force["clean_s"].as_u64().unwrap_or(0);
    let good = if in_force["is_good"] == true { ", good" } else { "" };
    let _ = writeln!(text, "in force    {}, clean for {clean} s{good}", line(in_force));
    let staged = &told["staged"];
    if staged.is_object() {
        let _ = writeln!(text, "staged      {}", line(staged));
        if let Some(changes) = staged["changes"].as_str() {
            let _ = writeln!(text, "            changes: {changes}");
        }
        if let Some(waits) = staged["waits"].as_str() {
            let _ = writeln!(text, "            waits {waits}");
        }
    }
    for good in told["good"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "good        {}", line(good));
    }
    for content in told["quarantine"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "quarantine  content {}", content.as_str().unwrap_or_default());
    }
    if let Some(refused) = told["refused"].as_str() {
        let _ = writeln!(text, "refused     {refused}");
    }
    let heard = match (told["source"].as_str(), told["source_heard_s"].as_u64()) {
        (None, _) => String::from("none; this node's own file is all there is"),
        (Some(source), None) => format!("{source}, not heard yet"),
        (Some(source), Some(age)) => format!("{source}, heard {age} s ago"),
    };
    let _ = writeln!(text, "source      {heard}");
    for published in told["published"].as_array().into_iter().flatten().rev() {
        let _ = writeln!(text, "published   {}", line(published));
    }
    text
}

fn line(generation: &Value) -> String {
    let author = generation["author"].as_str().unwrap_or_default();
    let reason = generation["reason"].as_str().unwrap_or_default();
    match generation["generation"].as_u64() {
        None => String::from("nothing"),
        Some(0) => String::from("this node's own file"),
        Some(number) => {
            let content = generation["content"].as_str().unwrap_or_default();
            format!("generation {number} (content {content}) of {author}: {reason}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_is_in_force_and_what_the_next_one_waits_for() {
        let told = json!({
            "in_force": { "generation": 0, "clean_s": 5, "is_good": true },
            "staged": {
                "generation": 1, "content": "ab", "author": "ann", "reason": "more",
                "changes": "site A is gone", "waits": "for its author",
            },
            "good": [], "quarantine": ["cd"], "source": "p", "source_heard_s": 3,
        });
        assert_eq!(
            text(&told),
            "in force    this node's own file, clean for 5 s, good\n\
             staged      generation 1 (content ab) of ann: more\n            \
             changes: site A is gone\n            waits for its author\n\
             quarantine  content cd\nsource      p, heard 3 s ago\n"
        );
    }
}
