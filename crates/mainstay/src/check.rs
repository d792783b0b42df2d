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
use forecast::{Forecast, Load};
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
    let looked = with_scene(options.config.as_deref(), |scene, name| {
        let report = report(scene, name, options);
        match options.json {
            true => say(&(text::json(&report) + "\n")),
            false => say(&text::text(&report, text::Paint::of_stdout())),
        }
        report.holds()
    });
    match looked {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(lines) => {
            lines.iter().for_each(|line| eprintln!("mainstay: {line}"));
            ExitCode::from(WRONG)
        }
    }
}

/// Lets `look` look at a configuration, or at what the environment makes one of, and at its name.
///
/// # Errors
/// Everything that is wrong with it.
pub fn with_scene<R>(
    config: Option<&Path>,
    look: impl FnOnce(&Scene<'_>, &str) -> R,
) -> Result<R, Vec<String>> {
    let environment = Environment::of_process();
    let overrides = environment.overrides();
    let file = config.map(|path| path.display().to_string());
    let text = config.map(std::fs::read_to_string).transpose().map_err(|error| {
        let path = file.as_deref().unwrap_or_default();
        vec![format!("{path}: cannot be read: {error}; mend the path after --config")]
    })?;
    let text = text.unwrap_or_default();
    let lines = |problems: Vec<Problem>| -> Vec<String> {
        problems.iter().map(ToString::to_string).collect()
    };
    let source = Source::parse(file.as_deref().unwrap_or_default(), &text, &overrides)
        .map_err(|problem| vec![problem.to_string()])?;
    let base = config.and_then(Path::parent).unwrap_or(Path::new(""));
    let scene = Scene::read(&source, &environment, base).map_err(lines)?;
    Ok(look(&scene, file.as_deref().unwrap_or("environment")))
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
        forecast::play(scene, (&audit.losses, &audit.groups), &Load::of(scene), &progress)
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
