//! Every rule of the protocol that is taken away is missed: by a model, by a test of the machine,
//! or in a scenario. A mutant that nothing finds is a rule that nothing proves.

use super::played::{scenario, violations};
use mainstay_core::mutant::{Mutant, Mutants};
use mainstay_sim::fleet::{PolicyKind, play_with};
use mainstay_sim::scenario::{Direction, Fault, FaultKind, LinkEffect, Part, Scenario, Which};
use std::path::Path;
use std::time::Duration;

/// Where a rule's mutant is shown to fail: a file of the workspace, and a test in it.
type Proof = (Mutant, &'static str, &'static str);

const LEASE: &str = "mainstay-sim/tests/model_lease.rs";
const OFFICE: &str = "mainstay-sim/tests/model_office.rs";
const HEALTH: &str = "mainstay-sim/tests/model_health.rs";
const REQUEST: &str = "mainstay-sim/tests/model_request.rs";
const PUBLISHER: &str = "mainstay-sim/tests/model_policy/publisher.rs";
const ADOPTION: &str = "mainstay-sim/tests/model_policy/adoption.rs";
const ORDERS: &str = "mainstay-sim/tests/model_policy/orders.rs";
const EVIDENCE: &str = "mainstay-sim/tests/model_policy/evidence.rs";
const QUOTA: &str = "mainstay-core/src/gateway/quota/tests.rs";
const SITE: &str = "mainstay-core/tests/site/removed.rs";
const HERE: &str = "mainstay-sim/tests/catalogue/mutants.rs";

const EACH_OF_THE_LEASE: &str = "each_rule_of_the_lease_is_needed";
const EACH_OF_THE_VOTES: &str = "each_rule_of_the_votes_is_needed";
const EACH_OF_HEALTH: &str = "each_rule_taken_away_has_a_counter_example";
const RETRIES: &str = "retries_stay_within_a_tenth_and_the_bucket_only_because_they_are_rationed";

/// Every rule, and one or more places that miss it.
const PROOFS: [Proof; 55] = [
    (Mutant::LeaseFromReceipt, LEASE, EACH_OF_THE_LEASE),
    (Mutant::GrantWithoutNonce, LEASE, EACH_OF_THE_LEASE),
    (Mutant::NoSilenceAfterTakeover, LEASE, EACH_OF_THE_LEASE),
    (Mutant::RecordWithoutDrift, LEASE, EACH_OF_THE_LEASE),
    (Mutant::RecordIsLastGrant, LEASE, EACH_OF_THE_LEASE),
    (Mutant::DriftUnwatched, LEASE, EACH_OF_THE_LEASE),
    (
        Mutant::DriftUnwatched,
        SITE,
        "with_drift_unwatched_a_clock_that_runs_apart_would_still_get_credit",
    ),
    (Mutant::DriftUnwatched, HERE, "s36_unwatched_a_clock_that_runs_apart_keeps_its_credit"),
    (Mutant::RefusalRaisesCredit, LEASE, EACH_OF_THE_LEASE),
    (Mutant::WorkersIgnoreEpochs, OFFICE, EACH_OF_THE_VOTES),
    (Mutant::OneWayControllerLease, OFFICE, EACH_OF_THE_VOTES),
    (
        Mutant::OneWayControllerLease,
        FLEET,
        "a_controller_that_believes_in_votes_it_never_heard_grants_beside_the_other",
    ),
    (
        Mutant::PublishWithoutCompare,
        PUBLISHER,
        "a_publisher_that_does_not_compare_puts_an_old_plan_over_a_new_one",
    ),
    (Mutant::EmptySetPublished, PUBLISHER, "an_empty_set_published_as_it_is_empties_the_answers"),
    (Mutant::CollectByAge, PUBLISHER, "a_collector_that_goes_by_age_deletes_what_is_served"),
    (Mutant::GoodAtLoad, ADOPTION, "content_that_is_good_when_loaded_takes_the_place_of_what_was"),
    (Mutant::GoodAtLoad, HERE, "s12_content_that_killed_its_process_must_not_be_loaded_again"),
    (Mutant::CrashForgotten, HERE, "s12_content_that_killed_its_process_must_not_be_loaded_again"),
    (Mutant::CrashForgotten, ADOPTION, "content_whose_crash_is_forgotten_crashes_again"),
    (Mutant::InServiceBySender, ORDERS, "judged_by_the_sender_two_partial_drains_leave_too_little"),
    (Mutant::InServiceBySender, HERE, "s08_judged_by_the_sender_two_drains_leave_too_little"),
    (Mutant::OrdersByArrival, ORDERS, "in_the_order_of_arrival_two_gateways_keep_different_sites"),
    (Mutant::ProbesUncapped, EVIDENCE, "s05_uncapped_lying_probes_remove_more"),
    (Mutant::ProbesUncapped, HERE, "s05_uncapped_probes_remove_more_than_a_third"),
    (Mutant::LatchCountsOnlyDown, HEALTH, EACH_OF_HEALTH),
    (Mutant::LatchCountsOnlyDown, HERE, "s24_a_latch_for_down_alone_lets_a_suspect_flap"),
    (Mutant::NoLatch, HEALTH, EACH_OF_HEALTH),
    (Mutant::NoLatch, HERE, "s21_without_a_latch_gateways_change_their_minds_too_often"),
    (Mutant::OverloadIsStrike, HERE, "s01_overload_taken_for_death_breaks_i7"),
    (Mutant::ProbeVetoesReturn, HEALTH, EACH_OF_HEALTH),
    (Mutant::ProbeVetoesReturn, HERE, "s05_if_probes_could_veto_a_lost_site_would_stay_out"),
    (Mutant::NoSelfDoubt, HERE, "s13_without_self_doubt_sites_are_called_down"),
    (
        Mutant::PanicOpensAdmission,
        SITE,
        "if_panic_opened_admission_more_would_run_than_there_are_streams",
    ),
    (
        Mutant::PanicOpensAdmission,
        HERE,
        "s01_if_panic_opened_admission_a_site_would_run_more_than_it_can",
    ),
    (Mutant::NoRetryBudget, REQUEST, RETRIES),
    (
        Mutant::NoRetryBudget,
        HERE,
        "where_every_link_is_bad_retries_without_a_budget_are_more_than_a_tenth",
    ),
    (Mutant::OldAttemptUnfenced, REQUEST, "the_fence_and_the_one_outcome_are_needed"),
    (Mutant::OutcomeByBoth, REQUEST, "the_fence_and_the_one_outcome_are_needed"),
    (Mutant::NoRamp, HERE, "s01_without_a_ramp_cold_caches_get_more_than_they_can_do"),
    (
        Mutant::NoSelfDoubt,
        FLEET,
        "a_gateway_whose_loop_stands_still_doubts_itself_and_blames_no_site",
    ),
    (Mutant::NoRamp, SITE, "without_a_ramp_cold_workers_would_get_everything_at_once"),
    (Mutant::NoDeadlineDrop, SITE, "without_deadlines_work_nobody_waits_for_would_be_done"),
    (Mutant::NoDeadlineDrop, HERE, "s02_without_deadlines_a_flood_that_is_over_goes_on"),
    (Mutant::NoFloors, SITE, "without_floors_a_lower_tier_would_wait_for_all_of_a_higher_one"),
    (Mutant::NoFloors, HERE, "without_floors_a_flood_of_the_highest_tier_starves_the_others"),
    (Mutant::NewHomeGrants, QUOTA, "a_new_home_that_grants_at_once_breaks_the_bound"),
    (Mutant::RecordIsLastGrant, FLEET, A_RULE),
    (Mutant::NoSilenceAfterTakeover, FLEET, A_RULE),
    (Mutant::OverloadIsStrike, FLEET, A_RULE),
    (Mutant::WorkerCreditUnbounded, STUDY, "the_checks_find_a_rule_that_is_taken_away"),
    (Mutant::LivesMixed, STUDY, "a_worker_that_begins_again_has_no_leg_of_before"),
    (
        Mutant::TierFloorsIgnored,
        STUDY,
        "a_low_tier_gets_its_floor_and_without_the_rule_it_does_not",
    ),
    (Mutant::SilenceUnwatched, STUDY, "a_silent_worker_is_given_up"),
    (
        Mutant::NothingGivesWay,
        STUDY,
        "who_pays_is_in_time_behind_long_prompts_of_those_who_live_on_what_is_left",
    ),
    (
        Mutant::TenantsUncounted,
        "mainstay-sim/tests/bars.rs",
        "a_tenant_that_asks_a_hundred_times_as_often_does_not_spoil_what_others_get",
    ),
];
const STUDY: &str = "mainstay-sim/tests/study.rs";
const FLEET: &str = "mainstay-sim/tests/fleet.rs";
const A_RULE: &str = "a_rule_taken_away_is_missed";

/// Names of the variants of `Mutant`.
fn rules() -> Vec<String> {
    let source = include_str!("../../../mainstay-core/src/mutant.rs");
    let (_, rest) = source.split_once("pub enum Mutant {\n").expect("the rules");
    let (body, _) = rest.split_once("\n}").expect("their end");
    let names = body.lines().map(|line| line.trim().trim_end_matches(','));
    names
        .filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(Into::into)
        .collect()
}

#[test]
fn every_rules_mutant_is_found_by_a_test_that_exists() {
    let all = rules();
    assert!(all.len() >= 30, "{all:?}");
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for rule in &all {
        let mut proofs =
            PROOFS.iter().filter(|(each, _, _)| format!("{each:?}") == *rule).peekable();
        assert!(proofs.peek().is_some(), "nothing is said to miss {rule}");
        for (_, file, name) in proofs {
            let text = std::fs::read_to_string(crates.join(file)).expect(file);
            let head = format!("fn {name}()");
            let before = text.split_once(&head).unwrap_or_else(|| panic!("{file} has no {name}")).0;
            let lines: Vec<&str> = before.lines().rev().take(4).collect();
            assert!(lines.contains(&"#[test]"), "{file}: {name} is no test");
            assert!(text.contains(&format!("Mutant::{rule}")), "{file} does not take {rule} away");
        }
    }
}

/// Plays a scenario without a rule, and with it: only the first may break one of these.
#[track_caller]
fn breaks(scenario: &Scenario, rule: Mutant, broken: &[&str]) {
    let play = |mutants| violations(&play_with(scenario, 1, PolicyKind::Mainstay, mutants));
    let is_hit = |(rule, _): &&(String, String)| broken.contains(&rule.as_str());
    let (without, with) = (play(Mutants::without(rule)), play(Mutants::NONE));
    let Some((_, told)) = without.iter().find(is_hit) else {
        panic!("{} without {rule:?} breaks none of {broken:?}: {without:?}", scenario.id)
    };
    println!("  | {rule:?} | {} | {told} |", scenario.id);
    assert_eq!(with.iter().find(is_hit), None, "{} breaks it with the rule too", scenario.id);
}

/// S01 as far as its outage and the minutes after it.
fn s01() -> Scenario {
    let mut scenario = scenario("S01");
    scenario.duration = Duration::from_secs(300);
    scenario.expects.clear();
    scenario
}

#[test]
fn s01_overload_taken_for_death_breaks_i7() {
    breaks(&s01(), Mutant::OverloadIsStrike, &["I7"]);
}

#[test]
fn where_every_link_is_bad_retries_without_a_budget_are_more_than_a_tenth() {
    let mut scenario = s01();
    let effect = LinkEffect { loss: 0.85, ..LinkEffect::default() };
    scenario.faults = vec![Fault {
        at: Duration::from_secs(60),
        until: Some(Duration::from_secs(240)),
        kind: FaultKind::Link {
            gateways: Which::All,
            sites: Which::All,
            effect,
            direction: Direction::Both,
            part: Part::Data,
        },
        line: 0,
    }];
    breaks(&scenario, Mutant::NoRetryBudget, &["I9"]);
}

#[test]
fn s01_if_panic_opened_admission_a_site_would_run_more_than_it_can() {
    breaks(&s01(), Mutant::PanicOpensAdmission, &["I1"]);
}

#[test]
fn s01_without_a_ramp_cold_caches_get_more_than_they_can_do() {
    breaks(&s01(), Mutant::NoRamp, &["L3"]);
}

#[test]
fn s08_judged_by_the_sender_two_drains_leave_too_little() {
    let mut scenario = scenario("S08");
    scenario.duration = Duration::from_secs(425);
    scenario.expects.clear();
    breaks(&scenario, Mutant::InServiceBySender, &["I5"]);
}

#[test]
fn s36_unwatched_a_clock_that_runs_apart_keeps_its_credit() {
    let mut scenario = scenario("S36");
    scenario.duration = Duration::from_secs(240);
    scenario.expects.retain(|expect| expect.metric == "drift_closed_s");
    scenario.expects[0].until = None;
    scenario.faults.retain(|fault| fault.at >= Duration::from_secs(150));
    scenario.faults[0].until = Some(Duration::from_secs(235));
    breaks(&scenario, Mutant::DriftUnwatched, &["expect.0"]);
}

#[test]
fn s12_content_that_killed_its_process_must_not_be_loaded_again() {
    for rule in [Mutant::GoodAtLoad, Mutant::CrashForgotten] {
        breaks(&scenario("S12"), rule, &["I11"]);
    }
}

#[test]
fn s21_without_a_latch_gateways_change_their_minds_too_often() {
    let mut scenario = scenario("S21");
    scenario.duration = Duration::from_secs(440);
    scenario.faults.truncate(4);
    scenario.faults[3].until = Some(Duration::from_secs(435));
    scenario.expects.clear();
    breaks(&scenario, Mutant::NoLatch, &["I12"]);
}

#[test]
fn s24_a_latch_for_down_alone_lets_a_suspect_flap() {
    let mut scenario = scenario("S24");
    // The link is dead for a while, again and again: the others hold the site for up, so it is
    // never called down, and is back as soon as the link is.
    let FaultKind::Link { effect, .. } = &mut scenario.faults[0].kind else { panic!("no link") };
    effect.loss = 1.0;
    let link = scenario.faults[0].clone();
    let cut = |at| Fault {
        at: Duration::from_secs(at),
        until: Some(Duration::from_secs(at + 10)),
        ..link.clone()
    };
    scenario.faults = (1..=5).map(|turn| cut(60 * turn)).collect();
    scenario.duration = Duration::from_secs(330);
    scenario.expects.clear();
    breaks(&scenario, Mutant::LatchCountsOnlyDown, &["I12"]);
}

#[test]
fn s02_without_deadlines_a_flood_that_is_over_goes_on() {
    let mut scenario = scenario("S02");
    scenario.bench.scale = 5.0;
    breaks(&scenario, Mutant::NoDeadlineDrop, &["L3"]);
}

#[test]
fn s05_uncapped_probes_remove_more_than_a_third() {
    let mut scenario = scenario("S05");
    // The lies that flap are enough; a quarter of the requests tells as much.
    scenario.duration = Duration::from_secs(240);
    scenario.faults.truncate(1);
    scenario.bench.scale *= 4.0;
    scenario.expects.retain(|expect| expect.metric == "removed_of_capacity");
    scenario.expects[0].until = Some(Duration::from_secs(230));
    breaks(&scenario, Mutant::ProbesUncapped, &["expect.0"]);
    breaks(&scenario, Mutant::ProbesUncapped, &["I6"]);
}

#[test]
fn s05_if_probes_could_veto_a_lost_site_would_stay_out() {
    let mut scenario = scenario("S05");
    // Lies that flap are not needed for it.
    scenario.faults.remove(0);
    for (fault, (at, until)) in scenario.faults.iter_mut().zip([(60, 560), (70, 130)]) {
        fault.at = Duration::from_secs(at);
        fault.until = Some(Duration::from_secs(until));
    }
    scenario.duration = Duration::from_secs(440);
    scenario.expects.clear();
    breaks(&scenario, Mutant::ProbeVetoesReturn, &["L5"]);
}

#[test]
fn s13_without_self_doubt_sites_are_called_down() {
    let scenario = scenario("S13");
    assert_eq!(scenario.expects[0].metric, "downs");
    breaks(&scenario, Mutant::NoSelfDoubt, &["expect.0"]);
}

#[test]
fn without_floors_a_flood_of_the_highest_tier_starves_the_others() {
    let mut scenario = scenario("S02");
    scenario.duration = Duration::from_secs(180);
    for fault in &mut scenario.faults {
        if let FaultKind::Surge { tier, factor, .. } = &mut fault.kind {
            (*tier, *factor) = (Some(0), 30.0);
        }
    }
    // The second tier wants a fifth of the capacity all the time, and its floor is a quarter.
    let served = |mutants| {
        let played = play_with(&scenario, 1, PolicyKind::Mainstay, mutants);
        let seconds = &played.timeline.seconds[65..170];
        let (good, offered) = seconds.iter().fold((0, 0), |sum, second| {
            (sum.0 + second.tiers[1].good, sum.1 + second.tiers[1].offered)
        });
        let is_told = violations(&played).iter().any(|(rule, _)| rule == "I14");
        (f64::from(good) / f64::from(offered), is_told)
    };
    let (with, without) = (served(Mutants::NONE), served(Mutants::without(Mutant::NoFloors)));
    println!(
        "  | NoFloors | S02 with another tier | {:.3} of pro are good, not {:.3} |",
        without.0, with.0
    );
    assert!(with.0 >= 0.99 && !with.1, "{with:?} with floors");
    assert!(without.0 <= 0.5 && without.1, "{without:?} without");
}
