//! Studies of traces: every policy through every event with the invariants checked, and the order
//! in which they come.

use mainstay_core::mutant::{Mutant, Mutants};
use mainstay_core::names::{AttemptId, GatewayId, RequestId, TierId, Work, WorkerId};
use mainstay_core::site::schedule::settings::{Settings, TierSettings};
use mainstay_core::site::schedule::{Action, Attempt, Event, Scheduler};
use mainstay_core::time::{Duration, Time};
use mainstay_sim::service::PROFILES;
use mainstay_sim::study::{POLICIES, Setup, Summary, coefficients, play, setup};
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
    let mut trace = trace();
    trace.truncate(700);
    for (policy, _) in POLICIES {
        let setup = Setup { speed: 5.0, is_checked: true, ..setup(policy, 5).expect("a policy") };
        let told = play(&trace, &setup).unwrap_or_else(|broken| panic!("{policy}: {broken}"));
        let good = told.summary().good;
        assert!((0.0..=1.0).contains(&good), "{policy}: {good}");
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

/// A worker that has one request, a millisecond after it came, and the machine that sent it.
fn sent(rule: Option<Mutant>) -> (Scheduler, WorkerId) {
    let mutants = rule.map_or(Mutants::NONE, Mutants::without);
    let settings = Settings { mutants, ..setup("late", 1).expect("a policy").settings };
    let (mut scheduler, worker) = (Scheduler::new(settings), WorkerId(0));
    let attempt = Attempt {
        work: Work { from: GatewayId(0), attempt: AttemptId { request: RequestId(1), number: 1 } },
        tier: TierId(0),
        tenant: 0,
        prompt: 1000,
        keys: [1].into(),
        limit: 100,
        expires: Duration::from_secs(600),
        elsewhere: false,
    };
    let profile = coefficients(&PROFILES[0]);
    let mut did = Vec::new();
    scheduler.handle(Time::ZERO, Event::WorkerSeen { worker, profile }, &mut did);
    scheduler.handle(Time::from_micros(1000), Event::Arrived(attempt), &mut did);
    assert!(did.iter().any(|action| matches!(action, Action::StartLeg { .. })));
    (scheduler, worker)
}

#[test]
fn a_worker_that_begins_again_has_no_leg_of_before() {
    let again = |rule| {
        let ((mut scheduler, worker), now) = (sent(rule), Time::from_micros(2000));
        let seen = Event::WorkerSeen { worker, profile: coefficients(&PROFILES[0]) };
        scheduler.handle(now, seen, &mut Vec::new());
        scheduler.check(now)
    };
    assert_eq!(again(None), Ok(()));
    assert!(again(Some(Mutant::LivesMixed)).is_err());
}

#[test]
fn a_silent_worker_is_given_up() {
    let is_given_up = |rule| {
        let ((mut scheduler, _), mut did) = (sent(rule), Vec::new());
        while let Some((at, _)) = scheduler.deadline().filter(|(at, _)| at.as_micros() < 30_000_000)
        {
            scheduler.handle(at, Event::Tick, &mut did);
        }
        did.iter().any(|action| matches!(action, Action::AbortLeg { .. }))
    };
    assert!(is_given_up(None));
    assert!(!is_given_up(Some(Mutant::SilenceUnwatched)));
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

/// Short answers of the low tier, and then now and then a prompt of nine seconds of it, with a
/// short one of the high tier right behind; whose each is.
fn behind_long_ones() -> (Vec<Chained>, Vec<u32>) {
    let one = |millis: u64, prompt: u32, number: u64| Chained {
        at: std::time::Duration::from_millis(millis),
        prompt,
        output: 1,
        chain: (0..u64::from(prompt / 512)).map(|block| number * 1_000 + block).collect(),
    };
    let mut all: Vec<(Chained, u32)> = Vec::new();
    all.extend((0..200).map(|number| (one(number * 200, 600, number), 1)));
    for number in 0..8 {
        let at = 50_000 + number * 25_000;
        all.push((one(at, 100_000, 300 + number), 1));
        all.push((one(at + 300, 800, 400 + number), 0));
    }
    all.into_iter().unzip()
}

#[test]
fn who_pays_is_in_time_behind_long_prompts_of_those_who_live_on_what_is_left() {
    let (trace, tenants) = behind_long_ones();
    let played = |mutants: Mutants| {
        let mut setup = Setup { is_checked: true, ..setup("late", 1).expect("a policy") };
        let low = TierSettings { preemptible: true, ..tier(0.0, 1.0) };
        setup.settings.tiers =
            vec![tier(0.2, 64.0), TierSettings { ttft_base: Duration::from_secs(600), ..low }];
        (setup.tiers, setup.set_apart) = (vec![1.0, 0.0], Some(1));
        (setup.tenants, setup.settings.mutants) = (tenants.clone(), mutants);
        play(&trace, &setup).unwrap_or_else(|broken| panic!("{broken}")).summary()
    };
    let (gives_way, stays) =
        (played(Mutants::NONE), played(Mutants::without(Mutant::NothingGivesWay)));
    println!("{} gave way: {:?}; else {:?}", gives_way.preempted, gives_way.by_tier, stays.by_tier);
    assert_eq!((gives_way.by_tier[0], gives_way.by_tier[1]), (1.0, 1.0));
    assert_eq!((gives_way.preempted, stays.preempted), (8, 0));
    assert!(stays.by_tier[0] <= 0.01, "{:?}", stays.by_tier);
}

/// Forecasts of first tokens as they are made from five minutes after the start on, whether the
/// scheduler was told right or wrong: off by a tenth at most in the median, and what nine of ten
/// should keep within kept by a part that is the same. It is a little more than nine of ten: at
/// most .92 would be the goal.
#[test]
fn a_profile_that_is_wrong_by_two_is_mended_within_five_minutes() {
    let mut trace = chained("conversation", &Options::default()).expect("it is in the repository");
    trace.truncate(7_000);
    let mut right = None;
    for misjudged in [1.0, 2.0, 0.5] {
        let setup = Setup { speed: 4.0, misjudged, ..setup("late", 8).expect("a policy") };
        let tally = play(&trace, &setup).expect("it holds");
        let (first, _) = tally.forecasts(Time::ZERO);
        let (off, covered) = tally.forecasts(Time::from_micros(300_000_000));
        println!("told {misjudged}: {first:.3} off in all, {off:.3} then, {covered:.3} within p90");
        let right = *right.get_or_insert(covered);
        assert!(off <= 0.10 && covered >= 0.88, "{misjudged}: {off} {covered}");
        assert!((covered - right).abs() <= 0.01 && covered <= 0.935, "{covered} for {right}");
    }
}
