//! Plays a trace of requests on the workers of one site, with our scheduler and others' formulas.

use super::progress::Progress;
use crate::command_line::{Simulate, WRONG};
use crate::stdout::say;
use mainstay_core::gateway::catalog::nearest;
use mainstay_sim::study::{self, POLICIES, Plan};
use mainstay_sim::workload::{self, Chained};
use std::process::ExitCode;

/// Policies that are compared where none are named: what is usual, the best that others have, and
/// ours.
const USUAL: [&str; 5] = ["rr", "least", "lmetric_refuse", "cost", "late"];

/// Plays it and tells.
pub fn study(name: &str, options: &Simulate) -> ExitCode {
    let (plan, trace) = match plan(options).and_then(|plan| Ok((plan, requests(name)?))) {
        Ok(found) => found,
        Err(line) => {
            eprintln!("mainstay: {line}");
            return ExitCode::from(WRONG);
        }
    };
    let progress = Progress::new(plan.policies.len() * plan.seeds as usize);
    let told = |done: usize, of: usize| progress.tell(done, done as f64 / of.max(1) as f64);
    let compared = study::compare((name, &trace), &plan, &told);
    progress.end();
    let compared = match compared {
        Ok(compared) => compared,
        Err(broken) => {
            eprintln!("mainstay: an invariant of the scheduler does not hold: {broken}");
            return ExitCode::FAILURE;
        }
    };
    match options.json {
        // Numbers and names: nothing that JSON has no form for.
        true => say(&(serde_json::to_string(&compared).unwrap_or_default() + "\n")),
        false => say(&compared.text()),
    }
    let Some(path) = &options.report else { return ExitCode::SUCCESS };
    let is_picture = path.extension().is_some_and(|extension| extension == "svg");
    let page = if is_picture { study::picture(&compared) } else { study::page(&compared) };
    if let Err(error) = std::fs::write(path, page) {
        eprintln!("mainstay: cannot write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    if !options.json {
        say(&format!("report: {}\n", path.display()));
    }
    ExitCode::SUCCESS
}

fn plan(options: &Simulate) -> Result<Plan, String> {
    if options.seed.is_some() {
        return Err("--seed: a trace is played with the first --seeds".into());
    }
    let speeds: Result<Vec<f64>, String> = options.speeds.split(',').map(speed).collect();
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Plan {
        policies: policies(options.policy.as_deref())?,
        workers: options.workers,
        seeds: u64::from(options.seeds.unwrap_or(1)),
        speeds: speeds?,
        threads: options.threads.map_or_else(cores, usize::from),
    })
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.trim().parse::<f64>().ok().filter(|speed| (0.01..=1000.0).contains(speed));
    speed.ok_or_else(|| format!("--speeds {text}: numbers from 0.01 to 1000, as in 2,4,8"))
}

fn policies(asked: Option<&str>) -> Result<Vec<&'static str>, String> {
    let known = || POLICIES.iter().map(|(name, _)| *name);
    let Some(asked) = asked else { return Ok(USUAL.to_vec()) };
    if asked == "all" {
        return Ok(known().collect());
    }
    let one = |name: &str| {
        known().find(|known| *known == name).ok_or_else(|| {
            let near = nearest(name, known()).map(|near| format!("; did you mean {near}?"));
            let all: Vec<&str> = known().collect();
            format!(
                "--policy {name}: not known{}\n  all, or some of {}",
                near.unwrap_or_default(),
                all.join(" ")
            )
        })
    };
    asked.split(',').map(|name| one(name.trim())).collect()
}

fn requests(name: &str) -> Result<Vec<Chained>, String> {
    workload::chained(name, &workload::Options::default()).map_err(|problem| {
        format!(
            "{problem}\n  conversation, synthetic, azure-code and servegen-deepseek-r1 are in the \
             program; other published\n  traces are read from the folder that MAINSTAY_TRACES \
             names, laid out as docs/guide/scheduling.md\n  tells; a file may be given by its path"
        )
    })
}
