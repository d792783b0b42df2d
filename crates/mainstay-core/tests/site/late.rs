//! What becomes of attempts that cannot be in time and are still wanted.

use crate::bench::{Bench, COST, at, config, open, up};
use crate::tells::{dispatched, facts, tell, worker};
use mainstay_core::config::SiteConfig;
use mainstay_core::fact::SiteFact;
use mainstay_core::message::{Open, Reason};
use mainstay_core::names::TierId;
use mainstay_core::site::{Action, Event, Site};
use mainstay_core::time::Duration;

/// Seconds of a minute's patience in which those who pay are in time.
const IN_TIME: u64 = 5;

/// Those who pay are wanted for a minute, the last tier for no longer than it is in time.
fn patient(in_time: u64) -> SiteConfig {
    let seconds = |all: [u64; 3]| all.map(Duration::from_secs).to_vec();
    SiteConfig {
        in_time: seconds([in_time, in_time, 5]),
        patience: seconds([60, 60, 5]),
        ..config(6)
    }
}

/// A site with one worker of 10 CU/s whose six seconds of work wait behind its only stream.
fn full() -> Site {
    let mut site = Site::first(patient(IN_TIME), 1);
    tell(&mut site, 1, worker(0, up(10, 1, false)));
    for number in 0..46 {
        assert_eq!(late(&tell(&mut site, 10, Event::Open(open(number)))), 0);
    }
    site
}

fn late(actions: &[Action]) -> usize {
    facts(actions).iter().filter(|fact| matches!(fact, SiteFact::Late { .. })).count()
}

fn refused(actions: &[Action]) -> Option<Reason> {
    actions.iter().find_map(|action| match action {
        Action::Refuse { refuse, .. } => Some(refuse.reason),
        _ => None,
    })
}

/// Whether it was taken in, to wait.
fn waits(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Ack { ack, .. } if ack.queued))
}

#[test]
fn who_cannot_be_in_time_waits_for_as_long_as_it_is_wanted_and_nobody_else_may_have_it() {
    let mut site = full();
    for number in 100..110 {
        tell(&mut site, 11, Event::Open(open(number)));
    }
    let told = tell(&mut site, 12, Event::Open(open(200)));
    let (work, tier, left) = (open(200).work, TierId(0), Duration::from_secs(60));
    assert!(waits(&told), "{told:?}");
    assert!(facts(&told).contains(&&SiteFact::Late { work, tier, left }), "{told:?}");
    // Another site may have room; the lowest tier is wanted no longer; its client leaves.
    let elsewhere = Open { elsewhere: true, ..open(201) };
    assert_eq!(refused(&tell(&mut site, 13, Event::Open(elsewhere))), Some(Reason::Overloaded));
    let hurried = Open { left: Duration::from_secs(5), ..open(203) };
    assert_eq!(refused(&tell(&mut site, 15, Event::Open(hurried))), Some(Reason::TooLate));
    // What goes on with an answer waits for no longer than a reader does.
    let goes_on = |number| Open { moving: true, ..open(number) };
    let all: Vec<_> =
        (300..340).map(|number| tell(&mut site, 16, Event::Open(goes_on(number)))).collect();
    assert!(all.iter().all(|told| late(told) == 0));
    assert!(all.iter().any(|told| refused(told) == Some(Reason::Overloaded)));
}

#[test]
fn the_late_lane_holds_no_more_than_can_come_while_it_is_wanted() {
    let mut site = full();
    let mut taken = 0;
    for number in 100..2_000 {
        taken += usize::from(waits(&tell(&mut site, 11, Event::Open(open(number)))));
    }
    assert!((500..=600).contains(&taken), "{taken}: ten a second for a minute, in all");
}

#[test]
fn late_ones_come_after_those_in_time_and_are_dropped_when_nobody_wants_them() {
    let mut site = full();
    let first = 100;
    tell(&mut site, 11, Event::Open(open(first)));
    let hurried = Open { left: Duration::from_secs(8), ..open(first + 1) };
    tell(&mut site, 11, Event::Open(hurried));
    // Nothing ends: what waited in line is late after five seconds, in the order in which it came.
    let mut told = Vec::new();
    for second in 1..9 {
        told.extend(tell(&mut site, second * 1000 + 12, Event::Tick));
    }
    assert!(late(&told) >= 40, "{}", late(&told));
    assert_eq!(refused(&told), Some(Reason::TooLate), "its client leaves");
    // Somebody comes who can be in time, and goes first.
    assert!(waits(&tell(&mut site, 8_100, Event::Open(open(500)))));
    let done = tell(&mut site, 8_110, Event::Ended { work: open(0).work, cost: COST });
    assert_eq!(dispatched(&done), [500]);
    let done = tell(&mut site, 8_120, Event::Ended { work: open(500).work, cost: COST });
    assert_eq!(dispatched(&done), [1], "then the first of those that are late");
    // A minute after they came nobody is here any more.
    let told: Vec<_> =
        (9..62).flat_map(|second| tell(&mut site, second * 1000, Event::Tick)).collect();
    let shed = |fact: &&&SiteFact| matches!(fact, SiteFact::Shed { .. });
    assert!(facts(&told).iter().filter(shed).count() >= 40);
    assert_eq!(site.standing(at(62_000), crate::bench::TARGET).map(|it| it.queued), Some(0));
}

#[test]
fn a_tier_that_is_late_keeps_its_turn_beside_lower_ones_that_are_not() {
    let mut site = full();
    tell(&mut site, 6_000, Event::Tick);
    // All who came before are late now. Of the last tier many come, who could be in time.
    for number in 500..520 {
        tell(&mut site, 6_000, Event::Open(Open { tier: TierId(2), ..open(number) }));
    }
    let mut given = Vec::new();
    let mut runs = open(0).work;
    for turn in 0..30 {
        let done = tell(&mut site, 6_010 + turn, Event::Ended { work: runs, cost: COST });
        let next = dispatched(&done);
        runs = open(next[0]).work;
        given.extend(next);
    }
    let lower = given.iter().filter(|number| **number >= 500).count();
    assert!((1..=6).contains(&lower), "{given:?}: they get their share and no more");
}

/// A site that is asked for twice what it carries, as much as that by those who pay, all but
/// stands for ten seconds. Of those who pay: good after that, and late.
fn after_a_stand(in_time: u64) -> (f64, usize) {
    let mut bench = Bench::new(Site::first(patient(in_time), 7), 230.0, 7);
    bench.workers_up(false);
    bench.play(20);
    bench.slow(40.0);
    bench.play(30);
    bench.slow(1.0);
    bench.play(160);
    let paid = bench.sum(20, 80);
    let good: u32 = paid[..2].iter().map(|count| count.good).sum();
    let offered: u32 = paid[..2].iter().map(|count| count.offered).sum();
    let late = bench.facts.iter().filter(|(_, fact)| matches!(fact, SiteFact::Late { .. }));
    (f64::from(good) / f64::from(offered), late.count())
}

#[test]
fn who_comes_after_a_stand_is_in_time_while_late_ones_still_wait() {
    let (lanes, one) = (after_a_stand(IN_TIME), after_a_stand(60));
    println!("paid, good and late: {lanes:.3?} with a late lane, {one:.3?} in one line");
    assert!(lanes.1 > 0 && one.1 == 0 && lanes.0 > one.0);
}
