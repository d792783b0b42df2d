//! Plays a setup over seeds, and reads what came of it in the table's terms.

use mainstay_core::names::{ErrorClass, Failure, TargetId};
use mainstay_core::time::Time;
use mainstay_sim::setup::{Setup, WEIGHTS};
use mainstay_sim::upstream::Upstream;
use mainstay_sim::world::{Ended, Outcome, START, run};
use std::time::Duration;

/// Each fault is played with this many seeds.
pub const SEEDS: u64 = 5;

/// Worlds of many requests are played with so many.
const FEW: u64 = 2;

/// Plays `setup` with every seed; no check may have found anything, and `judge` must agree.
#[track_caller]
pub fn play(setup: &Setup, judge: impl Fn(&Outcome)) {
    over(SEEDS, setup, judge);
}

/// The same with few seeds.
#[track_caller]
pub fn play_few(setup: &Setup, judge: impl Fn(&Outcome)) {
    over(FEW, setup, judge);
}

#[track_caller]
fn over(seeds: u64, setup: &Setup, judge: impl Fn(&Outcome)) {
    for seed in 0..seeds {
        let out = run(seed, setup.clone());
        println!("seed {seed}");
        assert_eq!(out.checks.violations, Vec::<String>::new(), "seed {seed}");
        judge(&out);
    }
}

/// A primary with the weights that clients ask for.
pub fn primary() -> Upstream {
    Upstream::new(WEIGHTS[0])
}

pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub fn at(after: Duration) -> Time {
    START + after
}

/// A failure of this class, with the time to come back if the upstream names one.
pub fn failure(class: ErrorClass, retry_after: Option<Duration>) -> Failure {
    Failure { retry_after, ..Failure::ours(class, "played") }
}

/// Attempts of one request at each of the first two targets: 2p/1f is `(2, 1)`.
pub fn split(ended: &Ended) -> (usize, usize) {
    let count = |target| ended.tried.iter().filter(|tried| tried.target == target).count();
    (count(TargetId(0)), count(TargetId(1)))
}

/// The only request there was.
pub fn only(out: &Outcome) -> &Ended {
    assert_eq!(out.ended.len(), 1);
    &out.ended[0]
}

/// The only request is whole, was split so, and took at most this long.
#[track_caller]
pub fn whole(out: &Outcome, wanted: (usize, usize), most: Duration) {
    let ended = only(out);
    assert!(ended.is_whole(), "{:?}", ended.close);
    assert_eq!(split(ended), wanted);
    assert!(ended.took() <= most, "{:?}", ended.took());
}

/// Time between the first two attempts.
pub fn pause(ended: &Ended) -> Duration {
    ended.tried[1].at.since(ended.tried[0].at)
}

/// Requests that were not whole, as their ends.
pub fn broken(out: &Outcome) -> Vec<String> {
    let bad = out.ended.iter().filter(|ended| !ended.is_whole());
    bad.map(|e| format!("{:?} {:?} {:?}", e.arrived.since(START), e.close, e.tried)).collect()
}

/// How often the target went out of use or came back.
pub fn moves(out: &Outcome, target: u16) -> usize {
    out.checks.moves.get(&TargetId(target)).map_or(0, Vec::len)
}

/// How often a fact of this name was told.
pub fn told(out: &Outcome, fact: &str) -> u32 {
    out.checks.facts.get(fact).copied().unwrap_or(0)
}
