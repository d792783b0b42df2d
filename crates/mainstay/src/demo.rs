//! A fleet on this machine: sites and gateways as processes of their own, a steady load, and
//! things to kill. What a newcomer tries after the first request.
//!
//! With a script, a scenario of the simulator, the same faults are done to real processes, and what
//! the simulator predicted stands beside what happened.

pub mod fleet;
pub mod predict;
pub mod script;
mod show;

use crate::command_line::{Demo, WRONG};
use crate::config_file::value::time;
use crate::load::plan::{Class, Manners, Plan, Source};
use crate::load::tally::Outcome;
use crate::stdout::say;
use fleet::Fleet;
use script::{Act, Step};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A machine that is busy starts five processes within this time.
const START: Duration = Duration::from_secs(60);
/// The load goes on for so long after the last step of a script.
const AFTER: Duration = Duration::from_secs(30);
/// Tiers and their parts of all requests, as on the standard bench.
const TIERS: [(&str, f64); 3] = [("enterprise", 10.0), ("pro", 30.0), ("free", 60.0)];

/// Starts the fleet and breaks it.
pub fn demo(options: &Demo) -> ExitCode {
    let story = match Story::of(options) {
        Ok(story) => story,
        Err(lines) => {
            lines.iter().for_each(|line| eprintln!("mainstay: {line}"));
            return ExitCode::from(WRONG);
        }
    };
    match play(options, &story) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("mainstay: {why}");
            ExitCode::FAILURE
        }
    }
}

/// What is to happen.
struct Story {
    steps: Vec<Step>,
    scenario: Option<mainstay_sim::scenario::Scenario>,
    lasts: Option<Duration>,
}

impl Story {
    fn of(options: &Demo) -> Result<Story, Vec<String>> {
        let mut lasts = None;
        if let Some(text) = &options.lasts {
            let wrong = || vec![format!("--for {text}: write a time like 500ms, 30s or 2m")];
            lasts = Some(time(text).filter(|time| !time.is_zero()).ok_or_else(wrong)?);
        }
        if !(options.rate > 0.0 && options.rate <= 1000.0) {
            return Err(vec![format!(
                "--rate {}: give requests a second, up to 1000",
                options.rate
            )]);
        }
        let Some(path) = &options.script else {
            return Ok(Story { steps: Vec::new(), scenario: None, lasts });
        };
        let bench = predict::bench(options);
        let (mut scenario, steps) = script::read(path, &bench)?;
        // As much as is really asked, whatever the file says.
        scenario.load.level = options.rate / bench.capacity();
        let last = steps.last().map_or(Duration::ZERO, |step| step.at);
        let lasts = lasts.or(Some(last + AFTER));
        Ok(Story { steps, scenario: Some(scenario), lasts })
    }
}

fn play(options: &Demo, story: &Story) -> Result<ExitCode, String> {
    let fleet = Fleet::lay_out(options)?;
    eprintln!("starting {} processes; their files are in {}", fleet.len(), fleet.directory());
    fleet.start_all()?;
    fleet.wait_ready(START)?;
    eprint!("{}", fleet.greeting());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let plan = plan(options, &fleet, story.lasts);
    let load = runtime.spawn(crate::load::run(plan, false));
    let is_watched = story.steps.is_empty()
        && !options.json
        && std::io::stdout().is_terminal()
        && std::io::stdin().is_terminal();
    if is_watched {
        show::watch(&fleet, story.lasts)
            .map_err(|error| format!("the terminal failed: {error}"))?;
        load.abort();
        return Ok(ExitCode::SUCCESS);
    }
    let began = Instant::now();
    for step in &story.steps {
        std::thread::sleep(step.at.saturating_sub(began.elapsed()));
        eprintln!("{:>6.1} s  {}", began.elapsed().as_secs_f64(), step.words());
        act(&fleet, step)?;
    }
    let outcome = runtime.block_on(load).map_err(|error| format!("the load broke: {error}"))??;
    tell(options, story, &outcome);
    Ok(if outcome.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Does what a step says.
pub fn act(fleet: &Fleet, step: &Step) -> Result<(), String> {
    for node in &step.nodes {
        match step.act {
            Act::Kill => fleet.kill(node)?,
            Act::Start => fleet.start(node)?,
            Act::Stop => fleet.pause(node)?,
            Act::Go => fleet.resume(node)?,
            Act::Slow(factor) => fleet.slow(node, factor)?,
        }
    }
    Ok(())
}

fn plan(options: &Demo, fleet: &Fleet, lasts: Option<Duration>) -> Plan {
    /// Without an end the load goes on for as long as anybody would watch.
    const DAY: Duration = Duration::from_secs(86_400);
    let class = |(name, key): &(String, String)| Class {
        name: name.clone(),
        key: Some(key.clone()),
        share: TIERS.iter().find(|(tier, _)| tier == name).map_or(1.0, |(_, share)| *share),
    };
    Plan {
        urls: fleet.addresses(),
        ca_file: None,
        model: String::from("chat"),
        classes: fleet.keys().iter().map(class).collect(),
        source: Source::Chance {
            rate: options.rate,
            prompt: options.prompt_tokens,
            output: options.max_tokens,
        },
        lasts: lasts.unwrap_or(DAY),
        manners: Manners {
            patience: Duration::from_secs(10),
            gap: Duration::from_secs(5),
            retries: 2,
            slow: 0.0,
            hang_up: 0.0,
            stream: true,
        },
        stop: None,
        prompts: 16,
        open_max: 500,
        seed: 1,
    }
}

fn tell(options: &Demo, story: &Story, outcome: &Outcome) {
    let lasts = story.lasts.unwrap_or_default();
    let predicted = story.scenario.as_ref().map(|scenario| predict::predict(scenario, lasts));
    if options.json {
        let json = serde_json::json!({
            "measured": outcome.json(),
            "predicted": predicted.as_ref().map(predict::Prediction::json),
        });
        return say(&format!("{json}\n"));
    }
    say(&outcome.table());
    if let (Some(predicted), Some(scenario)) = (&predicted, &story.scenario) {
        say(&predicted.beside(outcome, scenario));
    }
}
