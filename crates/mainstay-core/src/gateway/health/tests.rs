//! The automaton by its inputs.

use super::*;
use crate::rng::Rng;

fn at(millis: u64) -> Time {
    Time::from_micros(millis * 1000)
}

#[test]
fn three_strikes_at_one_moment_are_one_event() {
    let mut health = Health::default();
    for millis in [0, 10, 20] {
        assert_eq!(health.strike(at(millis), Views::ALONE), None);
    }
    assert!(health.strike(at(320), Views::ALONE).is_some());
    assert_eq!(health.verdict(), Verdict::Suspect);
}

#[test]
fn a_good_answer_in_between_keeps_a_target_up() {
    let mut health = Health::default();
    for n in 0..30 {
        health.strike(at(n * 1000), Views::ALONE);
        health.good(at(n * 1000 + 100));
        health.good(at(n * 1000 + 200));
    }
    assert_eq!(health.verdict(), Verdict::Up);
}

#[test]
fn a_dead_target_gets_a_trickle_then_nothing_then_returns_by_probation() {
    let mut health = Health::default();
    let mut now = 0;
    while health.verdict() != Verdict::Down {
        health.strike(at(now), Views::ALONE);
        now += 400;
        assert!(now < 10_000, "must be down within ten seconds");
    }
    assert!(!health.takes_trickle(at(now + 1000)), "nothing during the hold");
    now += 31_000;
    assert!(health.takes_trickle(at(now)));
    assert!(!health.takes_trickle(at(now + 10)), "a single try, not two");
    health.good(at(now + 200));
    assert_eq!(health.verdict(), Verdict::Probation);
    for n in 0..11 {
        health.good(at(now + 1000 + n * 1000));
    }
    assert_eq!(health.verdict(), Verdict::Up);
}

#[test]
fn a_suspect_at_a_hundred_requests_a_second_gets_one_of_them() {
    let mut health = Health::default();
    for millis in [0, 200, 400] {
        health.strike(at(millis), Views::ALONE);
    }
    let sent = (0..1000).filter(|n| health.takes_trickle(at(500 + n * 10))).count();
    assert!((9..=11).contains(&sent), "{sent} of 1000 in ten seconds");
}

#[test]
fn a_third_departure_latches_however_well_it_proved_itself_in_between() {
    let mut health = Health::default();
    let mut now = 0;
    for departure in 1..=3 {
        while health.verdict() == Verdict::Up {
            health.strike(at(now), Views::ALONE);
            now += 400;
        }
        assert_eq!(health.is_latched(), departure == 3);
        while health.verdict() != Verdict::Down {
            health.strike(at(now), Views::ALONE);
            now += 400;
        }
        now += 61_000;
        for _ in 0..13 {
            health.good(at(now));
            now += 1000;
        }
    }
    assert_eq!(health.verdict(), Verdict::Probation);
}

fn suspect() -> Health {
    let mut health = Health::default();
    for millis in [0, 200, 400] {
        health.strike(at(millis), Views::ALONE);
    }
    assert_eq!(health.verdict(), Verdict::Suspect);
    health
}

fn down() -> Health {
    let mut health = suspect();
    for millis in [500, 3500] {
        health.strike(at(millis), Views::ALONE);
    }
    assert_eq!(health.verdict(), Verdict::Down);
    health
}

#[test]
fn a_suspect_that_peers_can_use_stays_suspect_and_the_path_is_blamed() {
    let mut health = suspect();
    let up = Views { up: 3, not_up: 1, in_doubt: false };
    for n in 0..20 {
        assert_eq!(health.strike(at(500 + n * 500), up), None);
    }
    assert!(health.is_path_suspect());
    let gone = Views { up: 3, not_up: 2, in_doubt: false };
    assert!(health.strike(at(11_000), gone).is_some());
    assert_eq!((health.verdict(), health.is_path_suspect()), (Verdict::Down, false));
}

#[test]
fn a_gateway_in_doubt_calls_nothing_down() {
    let mut health = suspect();
    let doubting = Views { in_doubt: true, ..Views::ALONE };
    for n in 0..20 {
        assert_eq!(health.strike(at(500 + n * 500), doubting), None);
    }
    assert!(!health.is_path_suspect());
    assert!(health.strike(at(11_000), Views::ALONE).is_some());
}

#[test]
fn failed_probes_remove_an_idle_target_only_and_only_within_the_budget() {
    let mut health = Health::default();
    health.attempted(at(0));
    for n in 0..5 {
        assert_eq!(health.shallow(at(n * 900), false, true), None, "an attempt is recent");
    }
    assert_eq!(health.shallow(at(5000), false, false), None, "no budget");
    assert!(health.shallow(at(6000), false, true).is_some());
    assert!(health.is_indirect());
    for n in 0..5 {
        health.good(at(7000 + n));
    }
    assert_eq!(health.verdict(), Verdict::Up);
    assert_eq!(health.token(at(20_000), false, true), None);
    assert!(health.token(at(30_000), false, true).is_some(), "two tokens failed");
}

#[test]
fn a_good_token_ends_the_wait_after_the_hold_and_a_bad_one_does_not_prolong_it() {
    let mut health = down();
    assert_eq!(health.returns_at(), Some(at(3500 + 90_000)));
    assert_eq!(health.token(at(20_000), true, true), None, "the hold is not over");
    assert_eq!(health.returns_at(), Some(at(33_500)));
    assert!(health.pass(at(33_500)).is_some());

    let mut health = down();
    for n in 0..9 {
        health.token(at(4000 + n * 10_000), false, true);
    }
    assert_eq!(health.pass(at(93_499)), None);
    assert!(health.pass(at(93_500)).is_some());
    assert_eq!(health.verdict(), Verdict::Probation);
}

#[test]
fn a_token_probe_stands_in_for_a_trickle_that_gets_nothing() {
    let mut health = suspect();
    assert!(!health.lacks_trickle(at(2399)));
    assert!(health.lacks_trickle(at(2400)));
    assert_eq!(health.token(at(2500), false, true), None);
    let back = (0..5).filter_map(|n| health.token(at(3000 + n), true, true)).count();
    assert_eq!((back, health.verdict()), (1, Verdict::Up));
}

#[test]
fn no_sequence_flaps_more_than_six_times_in_ten_minutes() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let mut health = Health::default();
        let mut now = Time::ZERO;
        let mut moves: VecDeque<Time> = VecDeque::new();
        for _ in 0..4000 {
            now = now + rng.between(Duration::from_millis(1), Duration::from_secs(2));
            // Long runs of one outcome move the automaton further than coin flips do.
            let good = (rng.bits() >> 60).is_multiple_of(3)
                ^ ((now.as_micros() / 7_000_000).is_multiple_of(2));
            let change = if good { health.good(now) } else { health.strike(now, Views::ALONE) };
            let Some(change) = change else { continue };
            if (change.from == Verdict::Up) == (change.to == Verdict::Up) {
                continue;
            }
            moves.push_back(now);
            while moves.front().is_some_and(|t| now.since(*t) >= Timing::PUBLISHED.memory) {
                moves.pop_front();
            }
            assert!(moves.len() <= 6, "seed {seed}: {} moves", moves.len());
        }
    }
}

#[test]
fn a_stream_that_breaks_after_it_flowed_counts_once_as_a_strike() {
    let mut health = Health::default();
    for n in 0..10 {
        health.good(at(n * 100));
    }
    for n in 0..4 {
        health.take_back(at(1000 + n * 100), at(n * 100));
        assert_eq!(health.strike(at(1000 + n * 100), Views::ALONE), None);
        health.good(at(1050 + n * 100));
    }
    health.take_back(at(1400), at(1050));
    health.take_back(at(1400), at(1150));
    assert!(health.strike(at(1400), Views::ALONE).is_none(), "five of thirteen");
    health.take_back(at(1500), at(400));
    health.take_back(at(1500), at(500));
    assert!(health.strike(at(1500), Views::ALONE).is_some(), "six of twelve, not of eighteen");
}

#[test]
fn a_stream_that_flowed_too_long_ago_takes_back_the_latest_that_flows() {
    let fate = |is_told: bool| {
        let mut health = Health::default();
        for n in 0..20 {
            health.good(at(10_000 + n * 100));
        }
        let struck = (0..20).position(|n| {
            let now = at(12_000 + n * 100);
            health.good(at(11_950 + n * 100));
            if is_told {
                health.take_back(now, at(5000 + n * 100));
            }
            health.strike(now, Views::ALONE).is_some()
        });
        struck.map(|n| n + 1)
    };
    assert_eq!((fate(false), fate(true)), (Some(10), Some(7)), "of twenty outcomes");
}

#[test]
fn streams_that_a_lost_worker_takes_along_take_one_back() {
    let mut health = Health::default();
    for n in 0..20 {
        health.good(at(10_000 + n * 100));
    }
    for worker in 0..4 {
        let lost = 12_000 + worker * 500;
        for n in 0..10 {
            health.take_back(at(lost), at(5000 + worker * 1000 + n * 100));
            assert_eq!(health.strike(at(lost), Views::ALONE), None);
        }
        (1..5).for_each(|n| assert_eq!(health.good(at(lost + n * 100)), None));
    }
    assert_eq!(health.verdict(), Verdict::Up, "one of five moments, and one more taken back");
}

#[test]
fn answers_that_end_with_their_worker_are_one_event() {
    let mut health = Health::default();
    health.good(at(0));
    health.good(at(4000));
    for n in 0..60 {
        assert_eq!(health.strike(at(5000 + n / 2), Views::ALONE), None);
    }
    health.good(at(5040));
    assert_eq!(health.strike(at(5600), Views::ALONE), None, "the next in the queue of it");
    assert_eq!(health.verdict(), Verdict::Up);
}

#[test]
fn what_was_good_before_the_trouble_does_not_hide_it() {
    let mut health = Health::default();
    for n in 0..100 {
        health.good(at(n * 10));
    }
    let mut struck = 0;
    while health.verdict() == Verdict::Up {
        struck += 1;
        health.good(at(1000 + struck * 100));
        health.strike(at(1060 + struck * 100), Views::ALONE);
        assert!(struck <= 10, "ten of the last twenty");
    }
    assert_eq!(struck, 10);
}
