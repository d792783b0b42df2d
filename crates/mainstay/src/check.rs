//! The redundancy audit: what a configuration survives, and the line to change where it does not.
//!
//! `audit` is a function of the configuration; `forecast` plays losses in virtual time; `probe`
//! asks the sites themselves. None of them changes anything.

pub mod finding;
pub mod scene;

pub mod audit;
pub mod fate;
pub mod survival;

pub mod rules;
pub mod secrets;
pub mod substitute;

pub mod forecast;
pub mod probe;
pub mod text;

use crate::command_line::{Check, WRONG};
use crate::config_file::problem::Problem;
use crate::config_file::source::Source;
use crate::environment::Environment;
use crate::stdout::say;
use audit::Audit;
use finding::Severity;
use forecast::Forecast;
use probe::Probed;
use scene::Scene;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

/// Everything that was found out.
#[derive(Debug)]
pub struct Report<'s, 'a> {
    /// What was looked at.
    pub scene: &'s Scene<'a>,
    /// The file's name, or what stands for it.
    pub name: &'s str,
    /// What was found.
    pub audit: Audit,
    /// What was played, unless it was left out.
    pub forecast: Option<Forecast>,
    /// What sites said, if they were asked.
    pub probed: Vec<Probed>,
}

impl Report<'_, '_> {
    /// Whether no single loss is certain to take a model down.
    pub fn holds(&self) -> bool {
        !self.audit.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}

/// Audits a configuration.
pub fn check(options: &Check) -> ExitCode {
    let environment = Environment::of_process();
    let overrides = environment.overrides();
    let text = match options.config.as_deref().map(std::fs::read_to_string).transpose() {
        Ok(text) => text.unwrap_or_default(),
        Err(error) => {
            let path = options.config.as_deref().unwrap_or(Path::new("")).display();
            eprintln!("mainstay: {path}: cannot be read: {error}; mend the path after --config");
            return ExitCode::from(WRONG);
        }
    };
    let file = options.config.as_ref().map(|path| path.display().to_string());
    let read = Source::parse(file.as_deref().unwrap_or_default(), &text, &overrides)
        .map_err(|problem| vec![problem]);
    let base = options.config.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    let source = match read {
        Ok(source) => source,
        Err(problems) => return refused(&problems),
    };
    let scene = match Scene::read(&source, &environment, base) {
        Ok(scene) => scene,
        Err(problems) => return refused(&problems),
    };
    let name = file.as_deref().unwrap_or("environment");
    let report = report(&scene, name, options);
    match options.json {
        true => say(&(text::json(&report) + "\n")),
        false => say(&text::text(&report, text::Paint::of_stdout())),
    }
    if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn refused(problems: &[Problem]) -> ExitCode {
    for problem in problems {
        eprintln!("mainstay: {problem}");
    }
    ExitCode::from(WRONG)
}

/// Finds out what the options ask for.
pub fn report<'s, 'a>(scene: &'s Scene<'a>, name: &'s str, options: &Check) -> Report<'s, 'a> {
    let is_watched = std::io::stderr().is_terminal() && !options.json;
    let mut audit = audit::audit(scene, options.config.as_deref());
    let mut probed = Vec::new();
    if options.probe {
        watch(is_watched, "asking the sites");
        probed = probe::probe(scene);
        audit.add(probe::findings(scene, &probed));
    }
    let forecast = (!options.no_forecast).then(|| {
        let progress = |done: usize, total: usize| {
            watch(is_watched, &format!("playing losses: {done} of {total} runs"));
        };
        forecast::play(scene, (&audit.losses, &audit.groups), &progress)
    });
    if is_watched {
        eprint!("\r{:40}\r", "");
    }
    if let Some(forecast) = &forecast {
        let found = forecast::findings(scene, (&audit.losses, &audit.groups), forecast);
        audit.add(found);
    }
    Report { scene, name, audit, forecast, probed }
}

/// What is under way, for who waits at a terminal.
fn watch(is_watched: bool, what: &str) {
    if is_watched {
        eprint!("\r{what:<40}");
        let _ = std::io::stderr().flush();
    }
}
