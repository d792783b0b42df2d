//! Plays many runs: seeds, policies, and the points of a sweep, on all cores. Results come in the
//! order of the asking, whatever order they were played in.

mod map;

pub use map::{Cell, Map, Row};

use crate::fleet::{Played, PolicyKind, play, play_point};
use crate::measure;
use crate::outcome::{Run, Timeline, Violation};
use crate::scenario::Scenario;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Every point of a sweep must be back within these seconds (`scenarios.md` §6).
const RECOVERY_MAX: f64 = 10.0;
/// What a second of the baseline costs by one of ours: it does work that nobody waits for.
const NAIVE_COST: f64 = 3.0;
/// Of the six minutes after the last fault a point mostly plays so much less: see
/// `measure::is_settled`.
const POINT_SAVES: f64 = 210.0;

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

impl Job<'_> {
    /// About how long it takes, by others.
    fn weight(&self) -> f64 {
        let saved = if self.is_point { POINT_SAVES } else { 0.0 };
        let seconds = (self.scenario.duration.as_secs_f64() - saved).max(1.0);
        let cost = if self.policy == PolicyKind::Naive { NAIVE_COST } else { 1.0 };
        seconds * self.scenario.load.level * cost / self.scenario.bench.scale.max(1.0)
    }
}

/// What became of a run, the worse the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing was violated.
    Passed,
    /// The same, but more was asked to the end than could be carried: there was no state to come
    /// back to.
    Overloaded,
    /// Something was violated.
    Failed,
    /// Down although its load could have been carried for a minute.
    Metastable,
}

impl Verdict {
    /// All, the best first.
    pub const ALL: [Verdict; 4] =
        [Verdict::Passed, Verdict::Overloaded, Verdict::Failed, Verdict::Metastable];

    /// Its sign in a map.
    pub fn sign(self) -> char {
        match self {
            Verdict::Passed => '.',
            Verdict::Overloaded => 'o',
            Verdict::Failed => 'x',
            Verdict::Metastable => 'M',
        }
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Overloaded => "asked for more than there was to the end",
            Verdict::Failed => "failed",
            Verdict::Metastable => "stayed down",
        }
    }
}

/// A run that was played and judged.
#[derive(Clone, Debug)]
pub struct Done {
    /// What came of it.
    pub run: Run,
    /// In a word.
    pub verdict: Verdict,
    /// What happened, if it was wanted.
    pub timeline: Option<Timeline>,
}

/// Plays one run, which judges itself; a point of a sweep must recover as well.
pub fn run(job: &Job<'_>) -> Done {
    let play = if job.is_point { play_point } else { play };
    let Played { mut run, timeline, .. } = play(job.scenario, job.seed, job.policy);
    let is_metastable = measure::is_metastable(job.scenario, &timeline);
    let could_recover = measure::could_recover(job.scenario, &timeline);
    if job.is_point {
        let missed = missed(run.recovery_s, (is_metastable, could_recover));
        if let Some(detail) = missed {
            let at_s = timeline.seconds.len() as f64;
            let (rule, node) = (String::from("sweep"), String::new());
            run.violations.push(Violation { at_s, rule, node, detail });
            run.passed = false;
        }
    }
    let verdict = match (is_metastable, run.passed) {
        (true, _) => Verdict::Metastable,
        (false, false) => Verdict::Failed,
        (false, true) if job.is_point && !could_recover => Verdict::Overloaded,
        (false, true) => Verdict::Passed,
    };
    Done { run, verdict, timeline: job.is_told.then_some(timeline) }
}

/// Why a point did not come back as it must.
fn missed(recovery: Option<f64>, (metastable, could_recover): (bool, bool)) -> Option<String> {
    match recovery {
        _ if metastable => Some(String::from("metastable: down under a load it could carry")),
        Some(recovery) if recovery > RECOVERY_MAX => {
            Some(format!("recovered after {recovery} s, at most {RECOVERY_MAX}"))
        }
        None if could_recover => Some(String::from("not recovered as long as it was played")),
        Some(_) | None => None,
    }
}

/// Plays all `jobs` on so many threads. Tells after each how many are done, and what share of the
/// work that is.
pub fn run_all(
    jobs: &[Job<'_>],
    threads: usize,
    progress: &(dyn Fn(usize, f64) + Sync),
) -> Vec<Done> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new((0.0, Vec::with_capacity(jobs.len())));
    let all: f64 = jobs.iter().map(Job::weight).sum();
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(at) else { return };
            let result = run(job);
            let mut done = done.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            done.0 += job.weight();
            done.1.push((at, result));
            progress(done.1.len(), done.0 / all);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.clamp(1, jobs.len().max(1)) {
            scope.spawn(work);
        }
        work();
    });
    let (_, mut done) = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
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
        let told = |done: usize, share: f64| {
            assert!(share > 0.0 && share < 1.0 + 1e-9, "{share}");
            most.fetch_max(done, Ordering::Relaxed);
        };
        let done = run_all(&jobs, 3, &told);
        let seeds: Vec<u64> = done.iter().map(|done| done.run.seed).collect();
        assert_eq!((seeds, most.into_inner()), (vec![1, 2, 3, 4], 4));
    }

    #[test]
    fn a_point_that_was_never_asked_for_less_than_there_is_has_nothing_to_recover_to() {
        assert_eq!(missed(None, (false, false)), None);
        assert_eq!(missed(Some(10.0), (false, true)), None);
        assert!(missed(Some(11.0), (false, true)).is_some());
        assert!(missed(None, (false, true)).is_some(), "it could have, and did not");
        assert!(missed(Some(0.0), (true, true)).is_some());
    }

    #[test]
    fn a_point_ends_when_its_verdict_is_in() {
        let text = "id = \"X\"\ntitle = \"x\"\n[bench]\nscale = 20\n[load]\nlevel = 0.5\n\
                    [[fault]]\nkind = \"surge\"\nfactor = 2\nat = \"60s\"\nuntil = \"70s\"\n";
        let file = File::parse("X.toml", text).unwrap();
        let scenario = file.scenario(crate::scenario::read::With::Own).unwrap();
        let length = |is_point| {
            let policy = PolicyKind::Mainstay;
            let job = Job { scenario: &scenario, seed: 1, policy, is_point, is_told: true };
            let done = run(&job);
            let counted: u64 = done.run.by_tier.values().map(|tier| tier.offered).sum();
            (done.timeline.map_or(0, |timeline| timeline.seconds.len()), counted)
        };
        let ((short, few), (whole, many)) = (length(true), length(false));
        assert!((150..200).contains(&short) && whole == 430, "{short} and {whole} s");
        assert!(few < many);
    }
}
