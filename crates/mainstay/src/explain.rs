//! Asks a running server how one request was answered.

use crate::admin_client::get;
use crate::command_line::{Explain, WRONG};
use crate::stdout::say;
use std::process::ExitCode;

/// Prints the story of a request.
pub fn explain(options: &Explain) -> ExitCode {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if options.request.is_empty() || !options.request.chars().all(plain) {
        eprintln!(
            "mainstay: `{}` is no request id; it is in the header x-mainstay-request-id",
            options.request
        );
        return ExitCode::from(WRONG);
    }
    let format = if options.json { "application/json" } else { "text/plain" };
    let path = format!("/explain/{}", options.request);
    match get(&options.admin, &path, format) {
        Ok((200, body)) => {
            say(&format!("{}\n", body.trim_end()));
            ExitCode::SUCCESS
        }
        Ok((404, _)) => {
            eprintln!(
                "mainstay: {} is not known there; the server keeps the latest requests only",
                options.request
            );
            ExitCode::FAILURE
        }
        Ok((status, body)) => {
            eprintln!("mainstay: {} answered {status}: {}", options.admin, body.trim_end());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!(
                "mainstay: cannot ask {}: {error}; is it running, and is this its admin address \
                 (--admin)?",
                options.admin
            );
            ExitCode::FAILURE
        }
    }
}
