//! Rehearses outages: finds the scenarios, plays them with their seeds, and tells what came of it
//! as a table, as JSON, and as a page. Traces of requests are played on the workers of one site.

mod bench;
mod catalogue;
mod progress;
mod table;
mod trace;

use crate::command_line::{Simulate, WRONG};
use crate::stdout::say;
use mainstay_sim::fleet::PolicyKind;
use mainstay_sim::outcome::Run;
use mainstay_sim::report;
use mainstay_sim::scenario::read::{File, With};
use mainstay_sim::scenario::{Baseline, Bench, Scenario, Workload};
use mainstay_sim::sweep::{self, Done, Job, Map};
use mainstay_sim::workload;
use progress::Progress;
use std::collections::BTreeSet;
use std::process::ExitCode;

/// A page of more runs than this takes long to load and is looked at by nobody.
const TOLD_MAX: usize = 60;

/// Seeds with which the baseline is played where it need not fail: it is there to be compared with,
/// and costs three times as much, because it works for clients that have left.
const BASELINE_SEEDS: usize = 3;

/// What is played as one: a scenario, or the points of its sweep.
#[derive(Debug)]
struct Story {
    /// Its id.
    id: String,
    /// One scenario, or all points.
    points: Vec<Scenario>,
    /// Whether they are points of a sweep.
    is_sweep: bool,
}

/// The runs of one story.
#[derive(Debug, Default)]
struct Told<'a> {
    ours: Vec<(&'a Scenario, &'a Done)>,
    baseline: Vec<(&'a Scenario, &'a Done)>,
}

/// Plays what is asked for.
pub fn simulate(options: &Simulate) -> ExitCode {
    if let Some(trace) = &options.trace {
        return trace::study(trace, options);
    }
    if options.scenarios.is_empty() && options.lose.is_none() {
        say(&catalogue::list());
        return ExitCode::SUCCESS;
    }
    match policy(options).and_then(|policy| Ok((stories(options)?, policy))) {
        Ok((stories, policy)) => play((&stories, policy), options),
        Err(lines) => {
            for line in lines {
                eprintln!("mainstay: {line}");
            }
            ExitCode::from(WRONG)
        }
    }
}

/// Who decides, if not both.
fn policy(options: &Simulate) -> Result<Option<PolicyKind>, Vec<String>> {
    match options.policy.as_deref() {
        None => Ok(None),
        Some("mainstay") => Ok(Some(PolicyKind::Mainstay)),
        Some("naive") => Ok(Some(PolicyKind::Naive)),
        Some(other) => Err(vec![format!(
            "--policy {other}: a scenario knows mainstay and naive; others schedule a --trace"
        )]),
    }
}

/// Everything that is to be played, or everything that is wrong.
fn stories(options: &Simulate) -> Result<Vec<Story>, Vec<String>> {
    let own = options.config.as_deref().map(bench::of_configuration).transpose()?;
    if let Some(site) = &options.lose {
        let bench = own.unwrap_or_else(mainstay_sim::bench::t3);
        let scenario = bench::loss(options, site, bench)?;
        let id = scenario.id.clone();
        return Ok(vec![Story { id, points: vec![scenario], is_sweep: false }]);
    }
    let mut stories = Vec::new();
    let mut wrong = Vec::new();
    for name in &options.scenarios {
        match catalogue::find(name) {
            Ok(found) => {
                for (shown, text, is_sweep) in found {
                    match read(&shown, &text, (is_sweep, own.as_ref())) {
                        Ok(story) => stories.push(story),
                        Err(lines) => wrong.extend(lines),
                    }
                }
            }
            Err(line) => wrong.push(line),
        }
    }
    if wrong.is_empty() { Ok(stories) } else { Err(wrong) }
}

fn read(
    shown: &str,
    text: &str,
    (is_sweep, own): (bool, Option<&Bench>),
) -> Result<Story, Vec<String>> {
    let lines = |problems: Vec<_>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    let file = File::parse(shown, text).map_err(lines)?;
    let scenario = file.scenario(own.map_or(With::Own, With::Other)).map_err(lines)?;
    let id = scenario.id.clone();
    if !is_sweep {
        let points = vec![scenario];
        traces(shown, &points)?;
        return Ok(Story { id, points, is_sweep });
    }
    if own.is_some() {
        return Err(vec![String::from("a sweep is played on its own bench; leave out --config")]);
    }
    let points = file.points().map_err(lines)?;
    if points.is_empty() {
        return Err(vec![format!("{shown}: has no sweep; add [sweep], or play {id} itself")]);
    }
    traces(shown, &points)?;
    Ok(Story { id: format!("{id}/sweep"), points, is_sweep })
}

/// Reads the traces that will be played: what is wrong with one is told before anything is.
fn traces(shown: &str, points: &[Scenario]) -> Result<(), Vec<String>> {
    let names = points.iter().filter_map(|point| match &point.load.workload {
        Workload::Trace(name) | Workload::Day { requests: name, .. } => Some(name.as_str()),
        Workload::Alike => None,
    });
    let names: BTreeSet<&str> = names.collect();
    let wrong = names.into_iter().filter_map(|name| {
        let problem = workload::open(name, &workload::Options::default()).err()?;
        Some(format!("{problem} ({shown} plays it)"))
    });
    let wrong: Vec<String> = wrong.collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

fn play((stories, policy): (&[Story], Option<PolicyKind>), options: &Simulate) -> ExitCode {
    let (jobs, of) = jobs((stories, policy), options);
    let threads = options
        .threads
        .map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    let progress = Progress::new(jobs.len());
    let done = sweep::run_all(&jobs, threads, &|done, share| progress.tell(done, share));
    progress.end();
    let mut told: Vec<Told<'_>> = stories.iter().map(|_| Told::default()).collect();
    for ((job, story), result) in jobs.iter().zip(of).zip(&done) {
        let told = &mut told[story];
        let list = match job.policy {
            PolicyKind::Mainstay => &mut told.ours,
            PolicyKind::Naive => &mut told.baseline,
        };
        list.push((job.scenario, result));
    }
    let passed = stories.iter().zip(&told).all(|(story, told)| has_passed(story, told));
    match options.json {
        true => say(&(json(passed, &done) + "\n")),
        false => say(&table::text(stories, &told, (policy.is_none(), passed))),
    }
    if let Some(path) = &options.report {
        let page = page(&told, &maps(stories, &told));
        if let Err(error) = std::fs::write(path, page) {
            eprintln!("mainstay: cannot write {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
        if !options.json {
            say(&format!("report: {}\n", path.display()));
        }
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// All runs in order, and the story of each.
fn jobs<'a>(
    (stories, policy): (&'a [Story], Option<PolicyKind>),
    options: &Simulate,
) -> (Vec<Job<'a>>, Vec<usize>) {
    let mut jobs = Vec::new();
    let mut of = Vec::new();
    for (at, story) in stories.iter().enumerate() {
        for scenario in &story.points {
            // A sweep has many points; seeds are for single ones.
            let own = if story.is_sweep { 1 } else { scenario.seeds };
            let seeds: Vec<u64> = match options.seed {
                Some(seed) => vec![seed],
                None => (1..=u64::from(options.seeds.unwrap_or(own))).collect(),
            };
            let both = scenario.baseline != Baseline::Absent;
            let policies: &[PolicyKind] = match policy {
                Some(PolicyKind::Mainstay) => &[PolicyKind::Mainstay],
                Some(PolicyKind::Naive) => &[PolicyKind::Naive],
                None if both => &[PolicyKind::Mainstay, PolicyKind::Naive],
                None => &[PolicyKind::Mainstay],
            };
            for (turn, seed) in seeds.into_iter().enumerate() {
                for policy in policies {
                    let is_beside = policies.len() > 1 && *policy == PolicyKind::Naive;
                    if is_beside && turn >= seeds_beside(story, scenario) {
                        continue;
                    }
                    let is_told =
                        options.report.is_some() && jobs.len() < TOLD_MAX && !story.is_sweep;
                    let is_point = story.is_sweep;
                    jobs.push(Job { scenario, seed, policy: *policy, is_point, is_told });
                    of.push(at);
                }
            }
        }
    }
    (jobs, of)
}

/// With how many seeds the baseline is played beside ours.
fn seeds_beside(story: &Story, scenario: &Scenario) -> usize {
    match scenario.baseline {
        // A map shows where it collapses by one.
        _ if story.is_sweep => 1,
        Baseline::MustFail => usize::MAX,
        Baseline::Reported | Baseline::Absent => BASELINE_SEEDS,
    }
}

/// The maps of all sweeps.
fn maps(stories: &[Story], told: &[Told<'_>]) -> Vec<Map> {
    let sweeps = stories.iter().zip(told).filter(|(story, _)| story.is_sweep);
    let map = |(story, told): (&Story, &Told<'_>)| {
        let ours: Vec<&Done> = told.ours.iter().map(|(_, done)| *done).collect();
        let baseline: Vec<&Done> = told.baseline.iter().map(|(_, done)| *done).collect();
        Map::new(&story.id, &story.points, &ours, &baseline)
    };
    sweeps.map(map).collect()
}

/// Ours pass, and a baseline that must fail does. Asked for the baseline alone, its own verdict
/// counts.
fn has_passed(story: &Story, told: &Told<'_>) -> bool {
    let all = |runs: &[(&Scenario, &Done)]| runs.iter().all(|(_, done)| done.run.passed);
    if told.ours.is_empty() {
        return all(&told.baseline);
    }
    let must_fail = |scenario: &Scenario| scenario.baseline == Baseline::MustFail;
    // A sweep also has points that are kind.
    let baseline_failed = story.is_sweep
        || told.baseline.iter().all(|(scenario, done)| !must_fail(scenario) || !done.run.passed);
    all(&told.ours) && baseline_failed
}

/// One run alone, or all of them.
fn json(passed: bool, done: &[Done]) -> String {
    let runs: Vec<&Run> = done.iter().map(|done| &done.run).collect();
    let text = match runs.as_slice() {
        [run] => serde_json::to_string(run),
        _ => serde_json::to_string(&serde_json::json!({ "passed": passed, "runs": runs })),
    };
    // Numbers, texts and maps by name: nothing that JSON has no form for.
    text.unwrap_or_default()
}

/// The page: runs of a scenario and seed beside each other.
fn page(told: &[Told<'_>], maps: &[Map]) -> String {
    let mut views = Vec::new();
    for told in told {
        let shown = if told.ours.is_empty() { &told.baseline } else { &told.ours };
        for (scenario, done) in shown {
            let Some(timeline) = &done.timeline else { continue };
            let beside = told.baseline.iter().find(|(other, beside)| {
                !told.ours.is_empty()
                    && other.id == scenario.id
                    && beside.run.seed == done.run.seed
                    && beside.timeline.is_some()
            });
            let baseline =
                beside.and_then(|(_, beside)| Some((&beside.run, beside.timeline.as_ref()?)));
            views.push(report::View { scenario, run: &done.run, timeline, baseline });
        }
    }
    report::page(&views, maps)
}
