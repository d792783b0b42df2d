//! A fleet on this machine: sites and gateways as processes of their own, a steady load, and
//! things to kill. What a newcomer tries after the first request.
//!
//! With a script, a scenario of the simulator, the same faults are done to real processes, and what
//! the simulator predicted stands beside what happened.

pub mod fleet;
mod judge;
pub mod predict;
pub mod script;
mod show;
mod space;

use crate::command_line::{Demo, WRONG};
use crate::config_file::value::time;
use crate::load::plan::{Class, Manners, Plan, Source, Surge};
use crate::load::tally::Outcome;
use crate::stdout::say;
use fleet::{Fleet, Role};
use script::{Act, Script, Step};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A machine that is busy starts six processes within this time.
const START: Duration = Duration::from_secs(60);
/// Different questions: few, so that soon each answer can be compared with one before it.
const PROMPTS: u32 = 4;
/// The load goes on for so long after the last step of a script.
const AFTER: Duration = Duration::from_secs(30);
/// Clients at once, most of whom wait in a surge to ask again.
const OPEN_MAX: usize = 10_000;
/// Tiers and their parts of all requests, as on the standard bench.
const TIERS: [(&str, f64); 3] = [("enterprise", 10.0), ("pro", 30.0), ("free", 60.0)];

/// Starts the fleet and breaks it.
pub fn demo(options: &Demo) -> ExitCode {
    if options.namespaces && !space::is_inside() {
        return space::enter().unwrap_or_else(|why| {
            eprintln!("mainstay: {why}");
            ExitCode::from(WRONG)
        });
    }
    let story = match Story::of(options) {
        Ok(story) => story,
        Err(lines) => {
            lines.iter().for_each(|line| eprintln!("mainstay: {line}"));
            return ExitCode::from(WRONG);
        }
    };
    let done = match options.runs {
        Some(runs) => repeat(options, &story, runs),
        None => play(options, &story),
    };
    match done {
        Ok(code) => code,
        Err(why) => {
            eprintln!("mainstay: {why}");
            ExitCode::FAILURE
        }
    }
}

/// What is to happen.
#[derive(Default)]
struct Story {
    steps: Vec<Step>,
    surges: Vec<Surge>,
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
            return Ok(Story { lasts, ..Story::default() });
        };
        let bench = predict::bench(options);
        let Script { mut scenario, steps, surges } = script::read(path, &bench)?;
        // As much as is really asked, whatever the file says.
        scenario.load.level = predict::rate(options) / bench.capacity();
        let last = steps.last().map_or(Duration::ZERO, |step| step.at);
        let ends = surges.iter().map(|surge| surge.until.unwrap_or(surge.from + surge.ramp));
        let last = ends.max().unwrap_or_default().max(last);
        let lasts = lasts.or(Some(last + AFTER));
        Ok(Story { steps, surges, scenario: Some(scenario), lasts })
    }
}

/// Plays the story so often, and judges each run.
fn repeat(options: &Demo, story: &Story, runs: u16) -> Result<ExitCode, String> {
    let mut all = Vec::new();
    for number in 1..=runs {
        let fleet = start(options)?;
        let runtime = runtime()?;
        let began = Instant::now();
        let load = runtime.spawn(crate::load::run(
            Plan { records: true, seed: number.into(), ..plan(options, &fleet, story) },
            began.into(),
            false,
        ));
        let done = script(&fleet, story, began)?;
        let outcome = runtime.block_on(load).map_err(|error| format!("the load broke: {error}"));
        let outcome = outcome??;
        let faults = judge::faults(&done, story.lasts.unwrap_or_default());
        let gateways = fleet.of(Role::Gateway);
        let gateways: Vec<String> = gateways.map(|node| node.name.clone()).collect();
        let run = judge::Run::of(&outcome, &faults, &gateways);
        eprintln!("run {number}: {}", run.json());
        all.push(run);
    }
    match options.json {
        true => {
            let runs: Vec<_> = all.iter().map(judge::Run::json).collect();
            say(&format!("{}\n", serde_json::json!({ "runs": runs })));
        }
        false => say(&judge::table(&all)),
    }
    let is_sound = all.iter().all(|run| run.lost == 0 && run.silent == 0);
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A fleet that takes requests.
fn start(options: &Demo) -> Result<Fleet, String> {
    let fleet = Fleet::lay_out(options)?;
    eprintln!("starting {} processes; their files are in {}", fleet.len(), fleet.directory());
    fleet.start_all()?;
    fleet.wait_ready(START)?;
    Ok(fleet)
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().build().map_err(|error| format!("cannot start: {error}"))
}

/// Does the steps at their times.
fn script(fleet: &Fleet, story: &Story, began: Instant) -> Result<Vec<judge::Done>, String> {
    let mut done = Vec::new();
    for step in &story.steps {
        std::thread::sleep(step.at.saturating_sub(began.elapsed()));
        let down = fleet.down_at_others(&step.nodes);
        let at = began.elapsed();
        eprintln!("{:>6.1} s  {}", at.as_secs_f64(), step.words());
        act(fleet, step)?;
        done.push(judge::Done { step: step.clone(), at, down });
    }
    Ok(done)
}

fn play(options: &Demo, story: &Story) -> Result<ExitCode, String> {
    let fleet = start(options)?;
    eprint!("{}", fleet.greeting());
    let runtime = runtime()?;
    let plan = plan(options, &fleet, story);
    let began = Instant::now();
    let load = runtime.spawn(crate::load::run(plan, began.into(), false));
    let is_watched = story.scenario.is_none()
        && !options.json
        && std::io::stdout().is_terminal()
        && std::io::stdin().is_terminal();
    if is_watched {
        show::watch(&fleet, story.lasts)
            .map_err(|error| format!("the terminal failed: {error}"))?;
        load.abort();
        return Ok(ExitCode::SUCCESS);
    }
    script(&fleet, story, began)?;
    let outcome = runtime.block_on(load).map_err(|error| format!("the load broke: {error}"))??;
    tell(options, story, &outcome);
    Ok(if outcome.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Does what a step says.
pub fn act(fleet: &Fleet, step: &Step) -> Result<(), String> {
    if let (Act::Deafen | Act::Join, [name, other]) = (step.act, step.nodes.as_slice()) {
        return fleet.deafen((name, other), step.act == Act::Deafen);
    }
    for node in &step.nodes {
        match step.act {
            Act::Kill => fleet.kill(node)?,
            Act::Start => fleet.start(node)?,
            Act::Stop => fleet.pause(node)?,
            Act::Go => fleet.resume(node)?,
            Act::Slow(factor) => fleet.slow(node, factor)?,
            Act::Cut | Act::Deafen => fleet.cut(node, true)?,
            Act::Join => fleet.cut(node, false)?,
        }
    }
    Ok(())
}

fn plan(options: &Demo, fleet: &Fleet, story: &Story) -> Plan {
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
        source: Source::made_up(
            options.keep,
            options.rate,
            (options.prompt_tokens, options.max_tokens),
        ),
        lasts: story.lasts.unwrap_or(DAY),
        manners: Manners {
            patience: Duration::from_secs(10),
            gap: Duration::from_secs(5),
            retries: 2,
            slow: 0.0,
            hang_up: 0.0,
            stream: true,
        },
        stop: None,
        prompts: PROMPTS,
        open_max: OPEN_MAX,
        seed: 1,
        records: false,
        surges: story.surges.clone(),
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
