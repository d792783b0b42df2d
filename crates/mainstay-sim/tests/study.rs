//! Studies of traces: every policy through every event with the invariants checked, and the order
//! in which they come.

use mainstay_core::mutant::{Mutant, Mutants};
use mainstay_core::site::schedule::settings::TierSettings;
use mainstay_core::time::Duration;
use mainstay_sim::study::{POLICIES, Setup, Summary, play, setup};
use mainstay_sim::workload::{Chained, Options, chained};

/// The first minutes of the conversation trace.
fn trace() -> Vec<Chained> {
    let mut trace = chained("conversation", &Options::default()).expect("it is in the repository");
    trace.truncate(2500);
    trace
}

fn played(policy: &str, change: impl FnOnce(&mut Setup)) -> Summary {
    let mut setup = Setup { speed: 4.0, ..setup(policy, 8).expect("a policy") };
    change(&mut setup);
    play(&trace(), &setup).unwrap_or_else(|broken| panic!("{policy}: {broken}")).summary()
}

#[test]
fn no_policy_breaks_an_invariant_at_any_event() {
    for (policy, _) in POLICIES {
        let told = played(policy, |setup| setup.is_checked = true);
        assert!((0.0..=1.0).contains(&told.good), "{policy}: {}", told.good);
    }
}

#[test]
fn the_same_seed_tells_the_same_and_another_one_does_not() {
    let told = |seed: u64| format!("{:?}", played("late", |setup| setup.seed = seed));
    assert_eq!(told(1), told(1));
    assert_ne!(told(1), told(2));
}

#[test]
fn who_binds_late_carries_more_than_who_takes_turns_and_least_in_flight() {
    let good = |policy: &str| played(policy, |_| ()).good;
    let (turns, least, late) = (good("rr"), good("least"), good("late"));
    println!("good: rr {turns:.3}, least {least:.3}, late {late:.3}");
    assert!(late > least && least > turns, "late {late}, least {least}, rr {turns}");
}

#[test]
fn without_any_report_of_load_it_goes_on() {
    let told = |age: Option<Duration>| played("late", |setup| setup.report_age = age).good;
    let (fresh, none) = (told(Some(Duration::from_millis(50))), told(None));
    println!("good: {fresh:.3} with reports, {none:.3} without");
    assert!(none >= fresh - 0.05, "{none} for {fresh}");
}

/// Each rule that can be taken away is needed: the checks after every event find that it is gone.
#[test]
fn the_checks_find_a_rule_that_is_taken_away() {
    let mut setup = Setup { speed: 8.0, is_checked: true, ..setup("late", 4).expect("a policy") };
    let mut trace = trace();
    trace.truncate(600);
    setup.settings.mutants = Mutants::without(Mutant::WorkerCreditUnbounded);
    let broken =
        play(&trace, &setup).map(|_| ()).expect_err("nothing bounds what a worker is sent");
    assert!(broken.starts_with("K1"), "{broken}");
}

fn tier(floor: f64, weight: f64) -> TierSettings {
    TierSettings { floor, weight, patience: Duration::ZERO, ..TierSettings::default() }
}

#[test]
fn a_low_tier_gets_its_floor_and_without_the_rule_it_does_not() {
    let good = |mutants: Mutants| {
        let told = played("late", |setup| {
            setup.speed = 9.0;
            setup.tiers = vec![0.7, 0.3];
            setup.settings.tiers = vec![tier(0.0, 64.0), tier(0.3, 1.0)];
            setup.settings.mutants = mutants;
        });
        told.by_tier[1]
    };
    let (kept, ignored) = (good(Mutants::NONE), good(Mutants::without(Mutant::TierFloorsIgnored)));
    println!("good of the low tier: {kept:.3} with its floor, {ignored:.3} without");
    assert!(kept > ignored + 0.2, "{kept} and {ignored}");
}

/// Those who are late are served while others wait, and nobody waits for longer than its patience.
#[test]
fn with_too_much_to_do_nobody_waits_beyond_patience() {
    let patience = Duration::from_secs(5);
    let mut setup = Setup { speed: 12.0, ..setup("late_lane", 8).expect("a policy") };
    setup.settings.tiers[0].patience = patience;
    let tally = play(&trace(), &setup).expect("it holds");
    let longest = tally.longest_wait();
    println!("sent at most {:.2} s after its promise", longest.as_secs_f64());
    assert!(longest > Duration::ZERO && longest <= patience + Duration::from_secs(1));
}

/// llm-d/llm-d-router#2408, #2547: with one worker there is nothing to choose, fresh or not.
#[test]
fn one_worker_serves_as_fast_with_reports_of_ten_seconds_ago() {
    let told = |age: Duration| {
        let mut setup = Setup { speed: 0.5, ..setup("late", 1).expect("a policy") };
        setup.report_age = Some(age);
        let tally = play(&trace(), &setup).expect("it holds").summary();
        (tally.ttft_p50, tally.ttft_p95)
    };
    let (fresh, old) = (told(Duration::from_millis(50)), told(Duration::from_secs(10)));
    println!("TTFT p50 and p95: {fresh:.3?} fresh, {old:.3?} old");
    assert!(old.0 <= 1.05 * fresh.0 && old.1 <= 1.05 * fresh.1);
}
