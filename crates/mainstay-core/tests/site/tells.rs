//! What a site answers to single events, in its own words: actions and facts.

use crate::bench::{COST, TARGET, at, config, open, up};
use mainstay_core::cost::{CostRate, CostUnits};
use mainstay_core::fact::SiteFact;
use mainstay_core::message::{Offer, Open, Order, OrderId, Reason, Report, TIERS_MAX, Verb};
use mainstay_core::mutant::Mutants;
use mainstay_core::names::{GatewayId, SiteId, TargetId, TierId, WorkerId};
use mainstay_core::site::{Action, Event, Site, WorkerState};
use mainstay_core::time::Duration;

/// What the machine does with one event.
pub fn tell(site: &mut Site, millis: u64, event: Event) -> Vec<Action> {
    let mut actions = Vec::new();
    site.handle(at(millis), event, &mut actions);
    // Without one of its rules it does what it must not.
    if site.config().credit.mutants == Mutants::NONE {
        assert_eq!(site.check(at(millis)), Ok(()));
    }
    actions
}

/// A worker is now so.
pub fn worker(id: u16, state: WorkerState) -> Event {
    Event::Worker { worker: WorkerId(id), state }
}

/// A site with one worker of 10 CU/s and so many streams.
fn one_worker(streams: u32) -> Site {
    let mut site = Site::first(config(6), 1);
    tell(&mut site, 1, worker(0, up(10, streams, false)));
    site
}

/// The decisions among them.
pub fn facts(actions: &[Action]) -> Vec<&SiteFact> {
    let mut facts = Vec::new();
    for action in actions {
        if let Action::Fact(fact) = action {
            facts.push(fact);
        }
    }
    facts
}

fn refusals(actions: &[Action]) -> Vec<Reason> {
    let reason = |action: &Action| match action {
        Action::Refuse { refuse, .. } => Some(refuse.reason),
        _ => None,
    };
    actions.iter().filter_map(reason).collect()
}

fn acks(actions: &[Action]) -> Vec<bool> {
    let queued = |action: &Action| match action {
        Action::Ack { ack, .. } => Some(ack.queued),
        _ => None,
    };
    actions.iter().filter_map(queued).collect()
}

/// Numbers of what was given out.
pub fn dispatched(actions: &[Action]) -> Vec<u64> {
    let number = |action: &Action| match action {
        Action::Dispatch { work, .. } => Some(work.attempt.request.0),
        _ => None,
    };
    actions.iter().filter_map(number).collect()
}

/// An operator's order of this number.
fn numbered(seq: u32, verb: Verb, site: u16) -> Order {
    Order {
        id: OrderId { author: 7, seq },
        authority: 1,
        verb,
        site: Some(SiteId(site)),
        reason: "a test".to_owned(),
        left: Duration::from_secs(600),
    }
}

fn order(seq: u32, verb: Verb) -> Event {
    Event::Orders(vec![numbered(seq, verb, 1)])
}

fn end(seq: u32) -> Event {
    order(100 + seq, Verb::End(OrderId { author: 7, seq }))
}

/// The first gateway wants so much.
pub fn report(nonce: u64, wanted: u64) -> Event {
    let mut demand = [CostRate::ZERO; TIERS_MAX];
    demand[1] = CostRate::whole(wanted);
    let elapsed = Duration::from_millis(500) * nonce as u32;
    let report = Report { target: TARGET, nonce, demand, total: demand, in_flight: 0, elapsed };
    Event::Report { from: GatewayId(0), report }
}

/// All that was granted.
pub fn granted(actions: &[Action]) -> CostRate {
    let sum = |action: &Action| match action {
        Action::Grant { grant, .. } => {
            Some(grant.rate.iter().copied().sum::<CostRate>() + grant.standby)
        }
        _ => None,
    };
    actions.iter().filter_map(sum).sum()
}

#[test]
fn work_is_given_out_while_a_stream_is_free_and_waits_otherwise() {
    let mut site = one_worker(2);
    assert_eq!(acks(&tell(&mut site, 10, Event::Open(open(1)))), [false]);
    assert_eq!(acks(&tell(&mut site, 11, Event::Open(open(2)))), [false]);
    assert_eq!(acks(&tell(&mut site, 12, Event::Open(open(3)))), [true]);
    let work = open(1).work;
    tell(&mut site, 300, Event::FirstToken { work, after: Duration::from_millis(290) });
    let done = tell(&mut site, 900, Event::Ended { work, cost: COST });
    assert_eq!(dispatched(&done), [3]);
}

#[test]
fn the_same_message_twice_is_answered_twice_and_done_once() {
    let mut site = one_worker(10);
    tell(&mut site, 10, Event::Open(open(1)));
    let again = tell(&mut site, 11, Event::Open(open(1)));
    assert_eq!((acks(&again), dispatched(&again)), (vec![false], vec![]));
    assert_eq!(tell(&mut site, 20, Event::Cancel(open(1).work)).len(), 1, "an abort");
    assert!(tell(&mut site, 21, Event::Cancel(open(1).work)).is_empty(), "idempotent");
}

#[test]
fn what_is_not_for_this_site_is_told_so() {
    let mut site = one_worker(10);
    let labelled = Open { labels: 0b100, ..open(1) };
    let refused = tell(&mut site, 10, Event::Open(labelled));
    let (work, tier, reason) = (labelled.work, TierId(0), Reason::NotMine);
    assert_eq!(facts(&refused), [&SiteFact::Refused { work, tier, reason }]);
    let elsewhere = Open { target: TargetId(9), ..open(2) };
    assert_eq!(refusals(&tell(&mut site, 11, Event::Open(elsewhere))), [Reason::NotMine]);
    let mut empty = Site::first(config(6), 1);
    assert_eq!(refusals(&tell(&mut empty, 10, Event::Open(open(1)))), [Reason::NoWorker]);
}

#[test]
fn with_credit_as_much_is_let_in_as_is_done_in_time_and_without_what_has_room() {
    let mut site = one_worker(1000);
    let mut taken = 0;
    for number in 0..200 {
        taken += acks(&tell(&mut site, 10, Event::Open(open(number)))).len();
    }
    assert!((46..=56).contains(&taken), "{taken}: ten a second for five seconds");
    let last = tell(&mut site, 11, Event::Open(Open { left: Duration::from_secs(1), ..open(900) }));
    assert_eq!(refusals(&last), [Reason::TooLate]);
    let free = Open { credited: false, ..open(901) };
    assert_eq!(refusals(&tell(&mut site, 12, Event::Open(free))), [Reason::Overloaded]);
    let mut idle = one_worker(1000);
    tell(&mut idle, 2000, Event::Tick);
    let offered = (0..20).map(|number| Open { credited: false, ..open(number) });
    let acks: usize =
        offered.map(|open| acks(&tell(&mut idle, 2000, Event::Open(open))).len()).sum();
    assert!((3..=5).contains(&acks), "{acks}: half a second of what is on offer");
}

#[test]
fn work_without_credit_goes_ahead_of_lower_tiers_that_wait_and_never_of_its_own() {
    let mut site = one_worker(2);
    for number in 0..6 {
        tell(&mut site, 10, Event::Open(Open { tier: TierId(2), ..open(number) }));
    }
    let higher = Open { credited: false, ..open(100) };
    assert_eq!(acks(&tell(&mut site, 11, Event::Open(higher))), [true]);
    let equal = Open { credited: false, tier: TierId(2), ..open(101) };
    assert_eq!(refusals(&tell(&mut site, 12, Event::Open(equal))), [Reason::Overloaded]);
    let done = tell(&mut site, 600, Event::Ended { work: open(0).work, cost: COST });
    assert_eq!(dispatched(&done), [100]);
}

#[test]
fn without_credit_a_higher_tier_waits_where_lower_ones_are_let_in_above_their_floors() {
    let mut site = one_worker(1000);
    let large = |number, tier| {
        let cost = CostUnits::whole(4);
        Open { credited: false, cost, tier: TierId(tier), ..open(number) }
    };
    for number in 0..6 {
        tell(&mut site, 10, Event::Open(Open { tier: TierId(2), ..open(number) }));
    }
    assert_eq!(refusals(&tell(&mut site, 11, Event::Open(large(100, 2)))), [Reason::Overloaded]);
    assert_eq!(acks(&tell(&mut site, 12, Event::Open(large(101, 0)))), [true]);
    // A fifth of six units less a floor of half a one gives way.
    assert_eq!(refusals(&tell(&mut site, 13, Event::Open(large(102, 0)))), [Reason::Overloaded]);
}

#[test]
fn an_answer_that_goes_on_waits_ahead_of_first_attempts_but_not_for_long() {
    let mut site = one_worker(1);
    for number in 0..10 {
        tell(&mut site, 10, Event::Open(open(number)));
    }
    let goes_on = |number| Open { credited: false, moving: true, ..open(number) };
    let taken: usize =
        (100..140).map(|n| acks(&tell(&mut site, 11, Event::Open(goes_on(n)))).len()).sum();
    assert!((14..=20).contains(&taken), "{taken}: ten a second for less than two seconds");
    let done = tell(&mut site, 600, Event::Ended { work: open(0).work, cost: COST });
    assert_eq!(dispatched(&done), [100]);
}

#[test]
fn what_has_waited_too_long_is_dropped_before_anything_is_given_out() {
    let mut site = one_worker(1);
    tell(&mut site, 10, Event::Open(open(1)));
    tell(&mut site, 10, Event::Open(Open { left: Duration::from_secs(2), ..open(2) }));
    tell(&mut site, 11, Event::Open(open(3)));
    let (when, why) = site.deadline().expect("something waits");
    assert!(when <= at(2010), "{why}");
    let late = tell(&mut site, 2500, Event::Ended { work: open(1).work, cost: COST });
    let (work, tier, waited) = (open(2).work, TierId(0), Duration::from_millis(2490));
    assert!(facts(&late).contains(&&SiteFact::Shed { work, tier, waited }), "{late:?}");
    assert_eq!((refusals(&late), dispatched(&late)), (vec![Reason::TooLate], vec![3]));
}

#[test]
fn an_attempt_goes_to_another_worker_twice_and_then_back_to_its_gateway() {
    let mut site = one_worker(10);
    tell(&mut site, 5, worker(1, up(10, 10, false)));
    tell(&mut site, 10, Event::Open(open(1)));
    let work = open(1).work;
    for millis in [20, 30] {
        let lost = tell(&mut site, millis, Event::Lost(work));
        assert!(matches!(facts(&lost)[..], [SiteFact::MovedInside { .. }]), "{lost:?}");
        assert_eq!(dispatched(&lost), [1]);
    }
    let lost = tell(&mut site, 40, Event::Lost(work));
    let (tier, reason) = (TierId(0), Reason::Overloaded);
    assert_eq!(facts(&lost), [&SiteFact::HandedBack { work, tier, reason }]);
    assert_eq!(site.standing(at(40), TARGET).map(|s| (s.running, s.queued)), Some((0, 0)));
}

#[test]
fn who_waited_for_a_worker_that_died_is_not_late_for_that() {
    let mut site = one_worker(10);
    tell(&mut site, 5, worker(1, up(10, 10, false)));
    let alone = Open { elsewhere: false, ..open(1) };
    assert_eq!(dispatched(&tell(&mut site, 10, Event::Open(alone))), [1]);
    // Longer than it may wait for its first token.
    let lost = tell(&mut site, 6_000, Event::Lost(alone.work));
    assert_eq!((dispatched(&lost), refusals(&lost)), (vec![1], vec![]));
    // Where others may have room they are asked instead.
    let other = Open { elsewhere: true, ..open(2) };
    assert_eq!(dispatched(&tell(&mut site, 6_010, Event::Open(other))), [2]);
    assert_eq!(refusals(&tell(&mut site, 12_000, Event::Lost(other.work))).len(), 1);
}

#[test]
fn who_moves_to_a_worker_that_goes_at_that_moment_does_not_stay_there() {
    let mut site = one_worker(10);
    let work = open(1).work;
    tell(&mut site, 10, Event::Open(open(1)));
    assert_eq!(dispatched(&tell(&mut site, 20, Event::Lost(work))), [1], "nobody else is there");
    assert_eq!(refusals(&tell(&mut site, 20, worker(0, WorkerState::Down))), [Reason::NoWorker]);
}

#[test]
fn an_answer_begun_ends_with_its_worker_and_what_has_not_moves_on() {
    let mut site = one_worker(10);
    tell(&mut site, 10, Event::Open(open(1)));
    tell(&mut site, 10, Event::Open(open(2)));
    let after = Duration::from_millis(300);
    tell(&mut site, 310, Event::FirstToken { work: open(1).work, after });
    tell(&mut site, 320, worker(1, up(10, 10, false)));
    let down = tell(&mut site, 330, worker(0, WorkerState::Down));
    assert_eq!((refusals(&down), dispatched(&down)), (vec![Reason::NoWorker], vec![2]));
    let again = tell(&mut site, 330, Event::Lost(open(2).work));
    assert!(again.is_empty(), "it has moved already");
    let last = tell(&mut site, 340, worker(1, WorkerState::Down));
    assert_eq!(refusals(&last), [Reason::NoWorker]);
}

#[test]
fn an_answer_begun_goes_on_at_another_worker_before_all_that_waits() {
    let mut site = one_worker(1);
    tell(&mut site, 10, Event::Open(open(1)));
    let after = Duration::from_millis(300);
    tell(&mut site, 310, Event::FirstToken { work: open(1).work, after });
    let waits = tell(&mut site, 320, Event::Open(open(2)));
    assert_eq!((dispatched(&waits), refusals(&waits)), (vec![], vec![]));
    let (work, worker) = (open(1).work, WorkerId(0));
    let lost = tell(&mut site, 330, Event::Moving { work, relayed: 7 });
    assert_eq!(facts(&lost), [&SiteFact::MovedInside { work, worker }]);
    assert_eq!(dispatched(&lost), [1]);
    tell(&mut site, 630, Event::FirstToken { work, after });
    let ended = tell(&mut site, 640, Event::Ended { work, cost: COST });
    assert_eq!((dispatched(&ended), refusals(&ended)), (vec![2], vec![]));
    assert_eq!(site.standing(at(640), TARGET).map(|s| s.running), Some(1));
}

#[test]
fn an_answer_begun_waits_for_another_worker_but_not_for_long() {
    let mut site = one_worker(1);
    tell(&mut site, 10, Event::Open(open(1)));
    let (work, after) = (open(1).work, Duration::from_millis(300));
    tell(&mut site, 310, Event::FirstToken { work, after });
    let full =
        WorkerState::Up { target: TARGET, capacity: CostRate::whole(10), streams: 0, cold: false };
    // Long after the time it had for its first token.
    tell(&mut site, 30_000, worker(0, full));
    let lost = tell(&mut site, 30_010, Event::Moving { work, relayed: 7 });
    assert_eq!((dispatched(&lost), refusals(&lost)), (vec![], vec![]));
    assert_eq!(refusals(&tell(&mut site, 39_000, Event::Tick)), []);
    assert_eq!(refusals(&tell(&mut site, 40_020, Event::Tick)).len(), 1);
}

#[test]
fn an_answer_begun_that_no_worker_takes_goes_back_to_its_gateway() {
    let mut site = one_worker(10);
    tell(&mut site, 10, Event::Open(open(1)));
    let after = Duration::from_millis(300);
    let work = open(1).work;
    tell(&mut site, 310, Event::FirstToken { work, after });
    let full =
        WorkerState::Up { target: TARGET, capacity: CostRate::whole(10), streams: 0, cold: false };
    tell(&mut site, 320, worker(0, full));
    let lost = tell(&mut site, 330, Event::Moving { work, relayed: 7 });
    assert_eq!((dispatched(&lost), refusals(&lost)), (vec![], vec![]), "it waits for room");
    let down = tell(&mut site, 340, worker(0, WorkerState::Down));
    assert_eq!(refusals(&down), [Reason::NoWorker]);
}

#[test]
fn a_drained_site_takes_nothing_new_and_hands_back_what_runs_after_the_grace() {
    let mut site = one_worker(10);
    tell(&mut site, 10, Event::Open(open(1)));
    let drained = tell(&mut site, 20, order(1, Verb::Drain));
    let (from, to) = (Offer::Open, Offer::Draining);
    assert_eq!(facts(&drained), [&SiteFact::Offered { from, to }]);
    assert_eq!(refusals(&drained), []);
    assert_eq!(refusals(&tell(&mut site, 30, Event::Open(open(2)))), [Reason::Draining]);
    assert_eq!(granted(&tell(&mut site, 40, report(1, 5))), CostRate::ZERO);
    let late = tell(&mut site, 121_000, Event::Tick);
    assert_eq!(refusals(&late), [Reason::Draining]);
}

#[test]
fn a_site_on_its_way_out_drains_whatever_orders_say() {
    let mut site = one_worker(10);
    tell(&mut site, 10, Event::Open(open(1)));
    let (from, to) = (Offer::Open, Offer::Draining);
    assert_eq!(facts(&tell(&mut site, 20, Event::Leave)), [&SiteFact::Offered { from, to }]);
    assert_eq!(refusals(&tell(&mut site, 30, Event::Open(open(2)))), [Reason::Draining]);
    assert_eq!(granted(&tell(&mut site, 40, report(1, 5))), CostRate::ZERO);
    tell(&mut site, 50, order(1, Verb::Drain));
    tell(&mut site, 60, end(1));
    assert_eq!(site.offer(), Offer::Draining, "no order opens it again");
}

#[test]
fn a_killed_site_hands_everything_back_and_returns_by_ramp() {
    let mut site = one_worker(1);
    tell(&mut site, 10, Event::Open(open(1)));
    tell(&mut site, 10, Event::Open(open(2)));
    let killed = tell(&mut site, 20, order(1, Verb::Kill));
    assert_eq!(refusals(&killed), [Reason::Draining; 2]);
    let back = tell(&mut site, 60_000, end(1));
    let moved = |fact: &&SiteFact| matches!(fact, SiteFact::RampMoved { from: 100, to: 1, .. });
    assert!(facts(&back).iter().any(moved), "{back:?}");
    let standing = site.standing(at(60_000), TARGET).expect("a pool");
    assert_eq!((standing.ramp, standing.running), (1, 0));
}

#[test]
fn a_cap_lowers_what_is_granted_and_a_freeze_keeps_the_ramp() {
    let mut site = one_worker(100);
    assert!(granted(&tell(&mut site, 10, report(1, 50))) >= CostRate::whole(10));
    tell(&mut site, 20, order(1, Verb::Cap(30)));
    assert_eq!(site.standing(at(20), TARGET).map(|s| s.capacity), Some(CostRate::whole(3)));
    tell(&mut site, 30, order(2, Verb::Kill));
    tell(&mut site, 40, end(2));
    tell(&mut site, 50, order(3, Verb::Freeze));
    (1..400).for_each(|s| drop(tell(&mut site, s * 1000, Event::Tick)));
    assert_eq!(site.standing(at(400_000), TARGET).map(|s| s.ramp), Some(1));
}

#[test]
fn a_site_obeys_of_what_all_gateways_tell_only_what_leaves_enough_in_service() {
    let mut site = one_worker(10);
    let mine = numbered(2, Verb::Drain, 1);
    let elsewhere = numbered(1, Verb::Kill, 0);
    tell(&mut site, 20, Event::Orders(vec![mine.clone()]));
    assert_eq!(site.offer(), Offer::Draining, "nobody told of another order yet");
    let told = tell(&mut site, 30, Event::Orders(vec![elsewhere]));
    assert_eq!(site.offer(), Offer::Open);
    let id = mine.id;
    assert!(facts(&told).contains(&&SiteFact::OrderIgnored { id }), "{told:?}");
    assert!(granted(&tell(&mut site, 40, report(1, 5))) >= CostRate::whole(5));
    let again = tell(&mut site, 50, Event::Orders(vec![mine]));
    assert!(facts(&again).is_empty(), "told once: {again:?}");
    tell(&mut site, 60, end(1));
    assert_eq!(site.offer(), Offer::Draining, "the other order has ended");
    tell(&mut site, 601_000, Event::Tick);
    assert_eq!(site.offer(), Offer::Open, "a life ends by itself");
}

#[test]
fn who_takes_over_is_silent_and_says_so() {
    let mut site = Site::new(config(6), at(1000), 4, 1);
    let up = tell(&mut site, 1000, worker(0, up(10, 10, false)));
    let wait = Duration::from_millis(2200);
    assert!(facts(&up).contains(&&SiteFact::Silent { epoch: 4, wait }), "{up:?}");
    assert_eq!(granted(&tell(&mut site, 3100, report(1, 5))), CostRate::ZERO);
    assert!(granted(&tell(&mut site, 3201, report(2, 5))) >= CostRate::whole(5));
}

#[test]
fn a_gateway_whose_clock_runs_apart_gets_no_credit_within_a_minute() {
    let mut site = one_worker(10);
    let mut told = None;
    for nonce in 1..140u64 {
        let actions = tell(&mut site, nonce * 525, report(nonce, 5));
        for fact in facts(&actions) {
            if let SiteFact::Drift { is_closed, .. } = fact {
                told = told.or(Some((nonce * 525, *is_closed)));
            }
        }
        if told.is_some() {
            assert_eq!(granted(&actions), CostRate::ZERO);
        }
    }
    assert!(told.is_some_and(|(after, closed)| after <= 60_000 && closed), "{told:?}");
}

#[test]
fn a_capacity_that_moved_by_a_tenth_is_told() {
    let mut site = one_worker(10);
    let told = tell(&mut site, 1500, Event::Tick);
    let both = tell(&mut site, 1600, worker(1, up(10, 10, false)));
    assert!(facts(&both).is_empty());
    let (target, to) = (TARGET, CostRate::whole(20));
    let moved = tell(&mut site, 3000, Event::Tick);
    let from = CostRate::whole(10);
    assert!(facts(&told).len() <= 1);
    assert_eq!(facts(&moved), [&SiteFact::CapacityMoved { target, from, to }]);
}

#[test]
fn no_grant_is_smaller_than_a_median_request_and_few_get_one_where_all_cannot() {
    let mut small = config(60);
    small.pools[0].median = CostUnits::whole(2);
    let mut site = Site::first(small, 1);
    tell(&mut site, 1, worker(0, up(50, 100, false)));
    let mut some = 0;
    for round in 1..5u64 {
        some = 0;
        for from in 0..60 {
            let Event::Report { report, .. } = report(round, 1) else { continue };
            let event = Event::Report { from: GatewayId(from), report };
            let got = granted(&tell(&mut site, round * 500 + u64::from(from), event));
            assert!(got == CostRate::ZERO || got >= CostRate::whole(2), "{got:?}");
            some += usize::from(got > CostRate::ZERO);
        }
    }
    assert!((3..=5).contains(&some), "{some}: a fifth of fifty, two each");
    let Event::Report { report, .. } = report(9, 5) else { return };
    let unlisted = Event::Report { from: GatewayId(60), report };
    assert!(tell(&mut site, 9000, unlisted).iter().all(|a| !matches!(a, Action::Grant { .. })));
}
