//! Studies of traces: every policy through every event with the invariants checked, and the order
//! in which they come.

use mainstay_core::mutant::{Mutant, Mutants};
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
