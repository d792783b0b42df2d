//! What a site does without one of its rules: each of them is there for something.

use crate::bench::{COST, TARGET, at, config, open, up};
use crate::tells::{dispatched, facts, granted, report, tell, worker};
use mainstay_core::fact::SiteFact;
use mainstay_core::message::Open;
use mainstay_core::mutant::{Mutant, Mutants};
use mainstay_core::names::TierId;
use mainstay_core::site::{Event, Site};
use mainstay_core::time::Duration;

/// A site with one worker of 10 CU/s that does without this rule.
fn without(rule: Mutant, streams: u32) -> Site {
    let cold = rule == Mutant::NoRamp;
    let mut config = config(6);
    config.credit.mutants = Mutants::without(rule);
    let mut site = Site::new(config, at(1), 2, 1);
    tell(&mut site, 1, worker(0, up(10, streams, cold)));
    site
}

#[test]
fn if_panic_opened_admission_more_would_run_than_there_are_streams() {
    let mut site = without(Mutant::PanicOpensAdmission, 2);
    for number in 0..9 {
        tell(&mut site, 10, Event::Open(Open { credited: false, ..open(number) }));
    }
    let standing = site.standing(at(10), TARGET).expect("a pool");
    assert!(standing.running > standing.streams, "{standing:?}");
}

#[test]
fn without_a_ramp_cold_workers_would_get_everything_at_once() {
    let site = without(Mutant::NoRamp, 10);
    assert_eq!(site.standing(at(2), TARGET).map(|s| s.ramp), Some(100));
}

#[test]
fn without_deadlines_work_nobody_waits_for_would_be_done() {
    let mut site = without(Mutant::NoDeadlineDrop, 1);
    tell(&mut site, 10, Event::Open(open(1)));
    tell(&mut site, 10, Event::Open(Open { left: Duration::from_secs(1), ..open(2) }));
    let late = tell(&mut site, 9000, Event::Ended { work: open(1).work, cost: COST });
    assert_eq!(dispatched(&late), [2]);
}

#[test]
fn without_floors_a_lower_tier_would_wait_for_all_of_a_higher_one() {
    let mut site = without(Mutant::NoFloors, 1);
    for number in 0..30 {
        let tier = TierId(if number < 25 { 0 } else { 1 });
        tell(&mut site, 10, Event::Open(Open { tier, ..open(number) }));
    }
    for number in 0..20 {
        let done =
            tell(&mut site, 20 + number, Event::Ended { work: open(number).work, cost: COST });
        assert!(dispatched(&done)[0] < 25);
    }
}

#[test]
fn with_drift_unwatched_a_clock_that_runs_apart_would_still_get_credit() {
    let mut site = without(Mutant::DriftUnwatched, 10);
    for nonce in 1..200u64 {
        let actions = tell(&mut site, nonce * 525, report(nonce, 5));
        let told = facts(&actions).iter().any(|fact| matches!(fact, SiteFact::Drift { .. }));
        assert!(!told && (nonce < 10 || granted(&actions).0 > 0));
    }
}
