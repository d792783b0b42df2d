//! The usual set-up must fall where ours stands; else the bench is too kind.

use super::played::scenario;
use mainstay_sim::fleet::{Played, PolicyKind, play};
use std::ops::Range;

/// The outage of S01, and the fourth minute after the return, in seconds.
const OUTAGE: Range<usize> = 60..180;
const FOURTH_MINUTE: Range<usize> = 360..420;

/// Share of what was offered in these seconds that became good.
fn good(played: &Played, seconds: Range<usize>) -> f64 {
    let counts = played.timeline.seconds[seconds].iter().flat_map(|second| &second.tiers);
    let (good, offered) = counts.fold((0, 0), |(good, offered), tier| {
        (good + u64::from(tier.good), offered + u64::from(tier.offered))
    });
    good as f64 / offered.max(1) as f64
}

#[test]
fn the_baseline_falls_in_s01_and_is_not_back_in_the_fourth_minute_after_the_return() {
    let naive = play(&scenario("S01"), 1, PolicyKind::Naive);
    let (outage, after) = (good(&naive, OUTAGE), good(&naive, FOURTH_MINUTE));
    println!(
        "baseline, S01, seed 1: good {outage:.3} in the outage, {after:.3} in the fourth minute"
    );
    assert!(outage < 0.30, "good {outage} in the outage: the bench is too kind");
    assert!(after < 0.10, "good {after} in the fourth minute: the bench is too kind");
    for rule in ["I7", "L3"] {
        assert!(naive.run.violations.iter().any(|v| v.rule == rule), "it keeps {rule}");
    }
    assert!(!naive.run.passed);
}
