//! Plays many runs: seeds, policies, and the points of a sweep, on all cores. Results come in the
//! order of the asking, whatever order they were played in.

use crate::fleet::{Played, PolicyKind, play};
use crate::measure;
use crate::outcome::{Run, Timeline};
use crate::scenario::Scenario;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Every point of a sweep must be back within these seconds (`scenarios.md` §6).
const RECOVERY_MAX: f64 = 10.0;

/// One run to play.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// What.
    pub scenario: &'a Scenario,
    /// With which seed.
    pub seed: u64,
    /// Who decides.
    pub policy: PolicyKind,
    /// A point of a sweep: it must recover, and be metastable nowhere.
    pub is_point: bool,
    /// The timeline is wanted.
    pub is_told: bool,
}

/// A run that was played and judged.
#[derive(Clone, Debug)]
pub struct Done {
    /// What came of it.
    pub run: Run,
    /// Down although its load could have been carried for a minute.
    pub is_metastable: bool,
    /// What happened, if it was wanted.
    pub timeline: Option<Timeline>,
}

/// Plays one run, which judges itself; a point of a sweep must recover as well.
pub fn run(job: &Job<'_>) -> Done {
    let Played { mut run, timeline, .. } = play(job.scenario, job.seed, job.policy);
    let is_metastable = measure::is_metastable(job.scenario, &timeline);
    if job.is_point {
        let rule = String::from("sweep");
        let at_s = timeline.seconds.len() as f64;
        let late = run.recovery_s.is_none_or(|recovery| recovery > RECOVERY_MAX);
        let detail = match run.recovery_s {
            _ if is_metastable => String::from("metastable: down under a load it could carry"),
            Some(recovery) => format!("recovered after {recovery} s, at most {RECOVERY_MAX}"),
            None => String::from("never recovered"),
        };
        if is_metastable || late {
            run.violations.push(crate::outcome::Violation {
                at_s,
                rule,
                node: String::new(),
                detail,
            });
            run.passed = false;
        }
    }
    Done { run, is_metastable, timeline: job.is_told.then_some(timeline) }
}

/// Plays all `jobs` on so many threads, and tells after each how many are done.
pub fn run_all(jobs: &[Job<'_>], threads: usize, progress: &(dyn Fn(usize) + Sync)) -> Vec<Done> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(jobs.len()));
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(at) else { return };
            let result = run(job);
            let mut done = done.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            done.push((at, result));
            progress(done.len());
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.clamp(1, jobs.len().max(1)) {
            scope.spawn(work);
        }
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Of each point the run that went worst, where each was played with several seeds.
pub fn worst<'a>(points: usize, runs: &[&'a Done]) -> Vec<&'a Done> {
    let seeds = (runs.len() / points.max(1)).max(1);
    let key = |done: &&&Done| (done.is_metastable, !done.run.passed);
    // Of equal ones the first seed.
    let of_point = |seeds: &[&'a Done]| seeds.iter().rev().max_by_key(key).copied();
    runs.chunks(seeds).filter_map(of_point).collect()
}

/// What became of the points of a sweep, ours beside the baseline's: `.` passed, `x` failed, `M`
/// stayed down. A row holds the values of the last key.
pub fn map(points: &[Scenario], ours: &[&Done], baseline: &[&Done]) -> String {
    let mut text = String::new();
    let wide = points.first().map_or(1, row_length(points));
    let label = |id: &str| {
        let inside = id.split_once('[').map_or(id, |(_, rest)| rest.trim_end_matches(']'));
        inside.rsplit_once(' ').map_or("", |(head, _)| head).to_string()
    };
    let value = |id: &str| {
        let last = id.trim_end_matches(']').rsplit(['[', ' ']).next().unwrap_or_default();
        last.rsplit_once('=').map_or("", |(_, value)| value).to_string()
    };
    let key = points.first().map_or(String::new(), |point| {
        let last = point.id.trim_end_matches(']').rsplit(['[', ' ']).next().unwrap_or_default();
        last.rsplit_once('=').map_or("", |(key, _)| key).to_string()
    });
    let names = points.chunks(wide).map(|row| label(&row[0].id).chars().count());
    let margin = names.max().unwrap_or(0).max(3);
    let columns: Vec<String> = points.iter().take(wide).map(|point| value(&point.id)).collect();
    let cell = columns.iter().map(String::len).max().unwrap_or(1).max(1) + 1;
    let _ = writeln!(text, "{key}: {}", columns.join(", "));
    let block = (cell * wide).max(9);
    let second = if baseline.is_empty() { "" } else { "baseline" };
    let line = format!("{:margin$}  {:<block$}  {second}", "", "mainstay");
    let _ = writeln!(text, "{}", line.trim_end());
    for (at, row) in points.chunks(wide).enumerate() {
        let cells = |all: &[&Done]| {
            let row = all.iter().skip(at * wide).take(row.len());
            row.map(|done| format!("{:<cell$}", mark(done))).collect::<String>()
        };
        let line =
            format!("{:margin$}  {:<block$}  {}", label(&row[0].id), cells(ours), cells(baseline));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn mark(done: &Done) -> char {
    match (done.is_metastable, done.run.passed) {
        (true, _) => 'M',
        (false, true) => '.',
        (false, false) => 'x',
    }
}

/// How many points differ in the last key only.
fn row_length(points: &[Scenario]) -> impl Fn(&Scenario) -> usize + '_ {
    let head = |id: &str| id.trim_end_matches(']').rsplit_once('=').map(|(h, _)| h.to_string());
    move |first| points.iter().take_while(|point| head(&point.id) == head(&first.id)).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::read::File;

    fn scenario() -> Scenario {
        let text = "id = \"X\"\ntitle = \"x\"\nduration = \"7m\"\n[bench]\nscale = 100\n";
        File::parse("X.toml", text).unwrap().scenario(crate::scenario::read::With::Own).unwrap()
    }

    #[test]
    fn runs_come_back_in_the_order_they_were_asked_for_and_are_counted() {
        let scenario = scenario();
        let policy = PolicyKind::Mainstay;
        let job = |seed| Job { scenario: &scenario, seed, policy, is_point: false, is_told: false };
        let jobs: Vec<Job<'_>> = (1..=4).map(job).collect();
        let most = AtomicUsize::new(0);
        let told = |done: usize| {
            most.fetch_max(done, Ordering::Relaxed);
        };
        let done = run_all(&jobs, 3, &told);
        let seeds: Vec<u64> = done.iter().map(|done| done.run.seed).collect();
        assert_eq!((seeds, most.into_inner()), (vec![1, 2, 3, 4], 4));
    }

    #[test]
    fn of_a_point_with_several_seeds_the_worst_is_shown() {
        let scenario = scenario();
        let policy = PolicyKind::Mainstay;
        let job = Job { scenario: &scenario, seed: 1, policy, is_point: false, is_told: false };
        let done = run(&job);
        let of = |seed: u64, passed: bool, is_metastable: bool| {
            let run = Run { seed, passed, ..done.run.clone() };
            Done { run, is_metastable, timeline: None }
        };
        let all = [
            of(1, true, false),
            of(2, false, false),
            of(3, false, false),
            of(1, false, true),
            of(2, false, false),
            of(3, true, false),
        ];
        let all: Vec<&Done> = all.iter().collect();
        let seeds: Vec<u64> = worst(2, &all).iter().map(|done| done.run.seed).collect();
        assert_eq!(seeds, [2, 1]);
    }

    #[test]
    fn the_map_has_a_row_for_each_combination_of_the_other_keys() {
        let text = "id = \"X\"\ntitle = \"x\"\n[[fault]]\nkind = \"surge\"\nfactor = 2\n\
                    at = \"60s\"\nuntil = \"70s\"\n[sweep]\n\"clients.retries\" = [0, 2]\n\
                    \"fault.0.factor\" = [1, 2, 5]\n";
        let points = File::parse("X.toml", text).unwrap().points().unwrap();
        let policy = PolicyKind::Mainstay;
        let job = |scenario| Job { scenario, seed: 1, policy, is_point: true, is_told: false };
        let mut done: Vec<Done> = points
            .iter()
            .map(|scenario| Done {
                is_metastable: false,
                timeline: None,
                run: play(scenario, job(scenario).seed, policy).run,
            })
            .collect();
        done.iter_mut().for_each(|done| done.run.passed = true);
        done[4].is_metastable = true;
        let ours: Vec<&Done> = done.iter().collect();
        let map = map(&points, &ours, &[]);
        assert_eq!(
            map,
            "fault.0.factor: 1, 2, 5\n                   mainstay\n\
             clients.retries=0  . . .\nclients.retries=2  . M .\n"
        );
    }
}
