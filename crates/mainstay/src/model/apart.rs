//! The process that runs a model for the one that started it: `mainstay engine`.

use crate::command_line::{Engine, WRONG};
use mainstay_server::worker::apart::{inside, model};
use std::process::ExitCode;

/// Runs until standard input ends.
pub fn engine(options: &Engine) -> ExitCode {
    let Some(model) = model(&options.model, &options.weights, &options.device) else {
        eprintln!("mainstay: `mainstay engine` is started by the server; see docs/guide/engine.md");
        return ExitCode::from(WRONG);
    };
    match inside::run(&model) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mainstay: the engine's process: {error}");
            ExitCode::FAILURE
        }
    }
}
