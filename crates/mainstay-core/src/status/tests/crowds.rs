//! What users report: what is a surge and what is chance.

use super::super::crowd::Crowd;
use super::*;

/// Minutes since 1970 of some Thursday.
const BEGAN: u64 = WALL / 60;
const WEEK: u64 = 7 * 24 * 60;

/// As many as come by themselves where `mean` are usual (Knuth's product of uniform numbers).
fn poisson(rng: &mut Rng, mean: f64) -> u32 {
    let end = (-mean).exp();
    let (mut count, mut product) = (0, rng.unit());
    while product > end {
        count += 1;
        product *= rng.unit();
    }
    count
}

/// Lets minutes pass with so many reports each, all by different people; when surges began.
fn play(crowd: &mut Crowd, minutes: core::ops::Range<u64>, of: impl FnMut(u64) -> u32) -> Vec<u64> {
    let mut of = of;
    let mut began = Vec::new();
    for minute in minutes {
        for each in 0..of(minute) {
            crowd.report(minute, minute * 1000 + u64::from(each));
        }
        if crowd.judge(minute, false) == Some(true) {
            began.push(minute);
        }
    }
    began
}

#[test]
fn chance_alone_raises_an_alarm_less_than_once_in_a_year() {
    // Ten weeks each at three rates. In the first hour nothing is known of what is usual.
    let mut alarms = Vec::new();
    for mean in [0.2, 1.0, 6.0] {
        let (mut rng, mut crowd) = (Rng::new(1), Crowd::default());
        play(&mut crowd, BEGAN..BEGAN + 60, |_| poisson(&mut rng, mean));
        let all = BEGAN + 60..BEGAN + 10 * WEEK;
        let at = play(&mut crowd, all, |_| poisson(&mut rng, mean));
        alarms.extend(at.into_iter().map(|at| (mean, at - BEGAN)));
    }
    assert_eq!(alarms, []);
}

#[test]
fn a_surge_is_seen_in_the_minute_in_which_it_is_one() {
    let mut crowd = Crowd::default();
    assert_eq!(play(&mut crowd, BEGAN..BEGAN + 100, |_| 0), []);
    let now = BEGAN + 100;
    assert_eq!(play(&mut crowd, now..now + 1, |_| 8), [], "eight may be chance");
    assert_eq!(play(&mut crowd, now + 1..now + 20, |_| 4), [now + 1]);
    let shown = crowd.shown(now + 19);
    assert!(shown.is_surge && shown.lately == 8 + 19 * 4, "{shown:?}");
    assert_eq!(play(&mut crowd, now + 20..now + 40, |_| 0), []);
    assert!(!crowd.shown(now + 39).is_surge, "it ends ten minutes after it is usual again");
}

#[test]
fn the_same_hour_of_earlier_weeks_is_what_is_usual() {
    // Every Thursday it gets to twenty a minute within two hours, and back; else it is one.
    let busy = |minute: u64| 120u64.saturating_sub(((minute - BEGAN) % WEEK).abs_diff(120));
    let mut crowd = Crowd::default();
    let many = |minute| 1 + (busy(minute) * 19 / 120) as u32;
    let first = play(&mut crowd, BEGAN..BEGAN + 2 * WEEK, many);
    let later: Vec<u64> = first.into_iter().filter(|at| *at > BEGAN + WEEK + 15).collect();
    assert_eq!(later, [], "the third time it is known");
    let usual = crowd.shown(BEGAN + 2 * WEEK + 120).usual;
    assert!((500.0..600.0).contains(&usual), "{usual} in half an hour");
    // The same twenty on another day are a surge.
    let other = BEGAN + 2 * WEEK + 3 * 24 * 60;
    play(&mut crowd, BEGAN + 2 * WEEK..other, many);
    assert_eq!(play(&mut crowd, other..other + 2, |_| 20), [other]);
}

#[test]
fn a_slow_ramp_is_found_that_no_window_shows() {
    let mut crowd = Crowd::default();
    let one = |minute: u64| u32::from(minute.is_multiple_of(2));
    assert_eq!(play(&mut crowd, BEGAN..BEGAN + 2 * WEEK, one), []);
    // From one in two minutes to three: eight in a window at most, where fifteen are a surge.
    let from = BEGAN + 2 * WEEK;
    let found = play(&mut crowd, from..from + 600, |minute| 1 + one(minute));
    assert!(found.len() == 1 && found[0] < from + 120, "{found:?}");
}

#[test]
fn a_reporter_counts_once_in_half_an_hour_and_forgers_are_no_people() {
    let mut crowd = Crowd::default();
    assert!(crowd.report(BEGAN, 7) && !crowd.report(BEGAN + 29, 7) && crowd.report(BEGAN + 30, 7));
    for minute in BEGAN..BEGAN + 60 {
        for reporter in 0..4 {
            crowd.report(minute, reporter);
        }
        assert_ne!(crowd.judge(minute, false), Some(true), "four are not five");
    }
    let taken = (0..1_000_000).filter(|each| crowd.report(BEGAN + 61, 100 + each)).count();
    assert!(taken <= 4096, "{taken}: memory is bounded");
}

#[test]
fn what_was_reported_is_there_after_a_restart() {
    let mut crowd = Crowd::default();
    play(&mut crowd, BEGAN..BEGAN + WEEK, |_| 3);
    let (began, minutes) = crowd.kept();
    let mut again = Crowd::of(began, &minutes);
    let now = BEGAN + WEEK + 5;
    again.judge(now, false);
    assert_eq!(crowd.shown(now).usual, again.shown(now).usual);
    assert!((again.shown(now).usual - 90.0).abs() < 1.0);
}
