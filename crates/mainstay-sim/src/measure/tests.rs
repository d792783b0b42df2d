//! Judging, on timelines made by hand.

use super::*;
use crate::outcome::{Second, SiteSecond, TierSecond};
use crate::scenario::read;
use std::collections::BTreeMap;

const STORY: &str = r#"
id = "X"
title = "A is lost"
duration = "10m"
[load]
level = 0.8
[[fault]]
kind = "site-down"
site = "A"
at = "60s"
until = "120s"
"#;

/// All is well: each tier gets what it asks, each site carries a third.
fn calm(scenario: &Scenario) -> Timeline {
    let tier = |offered: u32| TierSecond {
        offered,
        good: offered,
        completed: offered,
        offered_cu: f64::from(offered),
        completed_cu: f64::from(offered),
        ttft_ms: (400.0 * f64::from(offered), offered),
        ..TierSecond::default()
    };
    let site = |capacity: f64| SiteSecond {
        carries: capacity,
        offered_cu: 0.8 * capacity,
        credited_cu: 0.8 * capacity,
        admitted_cu: vec![0.08 * capacity, 0.24 * capacity, 0.48 * capacity],
        capacity,
        ramp: 100,
        granted: capacity,
        up: 6,
        ..SiteSecond::default()
    };
    let second = Second {
        tiers: vec![tier(24), tier(72), tier(144)],
        sites: vec![site(100.0), site(100.0), site(100.0), site(0.0)],
        attempts: 240,
        tries: 240,
        broken: 0,
        resumed: 0,
        offered_cu: 240.0,
        put_off_cu: 0.0,
        on_offer: 300.0,
    };
    let word = |text: &&str| (*text).to_string();
    Timeline {
        tiers: ["enterprise", "pro", "free"].iter().map(word).collect(),
        sites: ["A", "B", "C", "P"].iter().map(word).collect(),
        seconds: vec![second; scenario.duration.as_secs() as usize],
        ..Timeline::default()
    }
}

fn judged(scenario: &Scenario, timeline: &Timeline) -> Run {
    let mut run = Run {
        scenario: scenario.id.clone(),
        seed: 1,
        policy: "mainstay",
        passed: false,
        violations: Vec::new(),
        by_tier: BTreeMap::new(),
        sites: BTreeMap::new(),
        recovery_s: None,
        good_during: None,
        good_after: None,
        transitions: 0,
        attempts_per_request: 0.0,
        facts_digest: String::new(),
    };
    judge(scenario, timeline, &mut run);
    run
}

fn rules(run: &Run) -> Vec<&str> {
    run.violations.iter().map(|violation| violation.rule.as_str()).collect()
}

fn story(more: &str) -> Scenario {
    read::scenario("X.toml", &format!("{STORY}{more}")).unwrap_or_else(|p| panic!("{p:?}"))
}

#[test]
fn a_calm_run_passes_and_recovers_at_once() {
    let scenario = story("[[expect]]\nmetric = \"good_ratio\"\nmin = 0.99\n");
    let run = judged(&scenario, &calm(&scenario));
    assert_eq!(run.violations, []);
    assert!(run.passed);
    assert_eq!(run.recovery_s, Some(0.0));
    assert_eq!(run.by_tier["free"].offered, 144 * 600);
    assert!((run.sites["A"].utilisation_p99 - 0.8).abs() < 1e-9);
}

#[test]
fn an_expectation_without_anything_to_measure_is_a_violation() {
    let scenario = story("[[expect]]\nmetric = \"share\"\nsite = \"A\"\nmax = 1.0\n");
    let mut timeline = calm(&scenario);
    for second in &mut timeline.seconds {
        second.sites.iter_mut().for_each(|site| site.admitted_cu.clear());
    }
    let run = judged(&scenario, &timeline);
    assert!(rules(&run).contains(&"expect.0"), "{:?}", run.violations);
}

#[test]
fn who_stays_down_under_a_load_that_could_be_carried_breaks_l3_and_is_metastable() {
    let scenario = story("");
    let mut timeline = calm(&scenario);
    for second in &mut timeline.seconds[60..] {
        for tier in &mut second.tiers {
            (tier.good, tier.failed, tier.completed) = (0, tier.offered, 0);
            tier.completed_cu = 0.0;
        }
        second.attempts = 700;
    }
    let run = judged(&scenario, &timeline);
    assert!(rules(&run).contains(&"L3"), "{:?}", run.violations);
    assert!(rules(&run).contains(&"tier") && rules(&run).contains(&"attempts"));
    assert_eq!(run.recovery_s, None);
    assert!(is_metastable(&scenario, &timeline));
}

#[test]
fn a_dip_of_ten_seconds_breaks_l3_and_is_not_metastable() {
    let scenario = story("");
    let mut timeline = calm(&scenario);
    for second in &mut timeline.seconds[170..190] {
        for tier in &mut second.tiers {
            tier.failed = tier.good / 50;
            tier.good -= tier.failed;
        }
    }
    let run = judged(&scenario, &timeline);
    assert!(rules(&run).contains(&"L3"), "{:?}", run.violations);
    assert!(!is_metastable(&scenario, &timeline));
}

#[test]
fn recovery_counts_from_the_moment_the_load_could_be_carried() {
    let scenario = story("");
    let mut timeline = calm(&scenario);
    for (at, second) in timeline.seconds.iter_mut().enumerate().skip(60) {
        // Until 150 s too little is on offer; from then on it takes four seconds.
        if at < 150 {
            second.on_offer = 200.0;
        }
        if at < 154 {
            second.tiers[2].good = 100;
            second.tiers[2].shed = 44;
        }
    }
    let run = judged(&scenario, &timeline);
    let recovery = run.recovery_s.expect("it recovers");
    assert!((3.0..=14.0).contains(&recovery), "{recovery}");
    assert!(!is_metastable(&scenario, &timeline));
    assert_eq!(rules(&run), Vec::<&str>::new(), "{:?}", run.violations);
}

#[test]
fn a_site_that_is_not_at_full_share_in_time_breaks_l5() {
    let scenario = story("");
    let mut timeline = calm(&scenario);
    timeline.seconds[120..].iter_mut().for_each(|second| second.sites[0].ramp = 25);
    let run = judged(&scenario, &timeline);
    assert_eq!(rules(&run), ["L5"], "{:?}", run.violations);
    assert_eq!(run.violations[0].node, "A");
}

#[test]
fn credited_arrivals_above_capacity_may_last_a_second() {
    let scenario = story("");
    let mut timeline = calm(&scenario);
    timeline.seconds[200].sites[1].credited_cu = 108.0;
    assert_eq!(judged(&scenario, &timeline).violations, []);
    timeline.seconds[201].sites[1].credited_cu = 108.0;
    let run = judged(&scenario, &timeline);
    assert_eq!(rules(&run), ["Q5"], "{:?}", run.violations);
    assert!((run.sites["B"].overshoot_max - 0.08).abs() < 1e-9);
}

#[test]
fn a_burst_may_spend_half_a_second_of_credit_more_and_nothing_beyond() {
    let scenario = story("[[expect]]\nmetric = \"beyond_credit\"\nmax = 0.0\n");
    let mut timeline = calm(&scenario);
    timeline.seconds[200].sites[1].credited_cu = 150.0;
    assert_eq!(judged(&scenario, &timeline).violations, []);
    timeline.seconds[200].sites[1].credited_cu = 156.0;
    assert_eq!(rules(&judged(&scenario, &timeline)), ["expect.0"]);
}

#[test]
fn shares_that_swing_at_rest_break_q6() {
    let scenario = story("");
    let mut timeline = calm(&scenario);
    for (at, second) in timeline.seconds.iter_mut().enumerate() {
        let is_high = at / 60 % 2 == 0;
        second.sites[0].admitted_cu = vec![if is_high { 90.0 } else { 60.0 }];
    }
    let run = judged(&scenario, &timeline);
    assert!(rules(&run).contains(&"Q6"), "{:?}", run.violations);
}

#[test]
fn overload_may_cost_little_of_the_peak() {
    let more = "[[fault]]\nkind = \"surge\"\nfactor = 5.0\nat = \"130s\"\nuntil = \"400s\"\n";
    let scenario = story(more);
    let mut timeline = calm(&scenario);
    for second in &mut timeline.seconds[130..400] {
        second.offered_cu = 1600.0;
        for tier in &mut second.tiers {
            tier.offered *= 7;
            tier.shed = tier.offered - tier.good;
        }
        second.tiers[2].completed = 60;
        second.tiers[2].completed_cu = 60.0;
    }
    let run = judged(&scenario, &timeline);
    assert!(rules(&run).contains(&"overload"), "{:?}", run.violations);
}

#[test]
fn transitions_are_changes_between_up_and_not_up() {
    let scenario = story("[[expect]]\nmetric = \"transitions\"\nsite = \"B\"\nmax = 0\n");
    let mut timeline = calm(&scenario);
    timeline.health = vec![
        (61.0, 0, 0, "Suspect"),
        (64.0, 0, 0, "Down"),
        (130.0, 0, 0, "Probation"),
        (150.0, 0, 0, "Up"),
        (90.0, 2, 1, "Suspect"),
    ];
    let run = judged(&scenario, &timeline);
    assert_eq!(run.sites["A"].transitions, 2);
    assert_eq!(run.transitions, 3);
    assert_eq!(rules(&run), ["expect.0"], "{:?}", run.violations);
}

#[test]
fn a_request_without_an_outcome_breaks_the_ledger() {
    let scenario = story("");
    let mut timeline = calm(&scenario);
    timeline.seconds[300].tiers[2].good -= 1;
    let run = judged(&scenario, &timeline);
    assert_eq!(rules(&run), ["ledger"], "{:?}", run.violations);
}

#[test]
fn a_share_that_goes_a_tenth_beyond_its_new_place_after_a_step_breaks_q6() {
    let scenario = read::scenario("X", STORY).expect("a right file");
    // From 120 s on A carries three tenths, after some seconds of more than that.
    let returning = |most: f64| {
        let mut timeline = calm(&scenario);
        for (at, second) in timeline.seconds.iter_mut().enumerate().skip(60) {
            let share = match at {
                60..120 => 0.0,
                125..140 => most,
                _ => 0.3,
            };
            for (site, part) in [share, (1.0 - share) / 2.0, (1.0 - share) / 2.0].iter().enumerate()
            {
                second.sites[site].admitted_cu = vec![240.0 * part];
            }
        }
        judged(&scenario, &timeline)
    };
    let told = |most: f64| {
        let run = returning(most);
        let beyond = run.violations.iter().filter(|wrong| wrong.detail.contains("overshoots"));
        beyond.map(|wrong| (wrong.rule.clone(), wrong.node.clone())).collect::<Vec<_>>()
    };
    assert_eq!(told(0.38), []);
    assert_eq!(told(0.45), [(String::from("Q6"), String::from("A"))]);
}

#[test]
fn the_share_of_the_last_requests_before_nothing_is_let_in_is_no_overshoot() {
    let lost = "kind = \"site-down\"\nsite = \"A\"\nat = \"60s\"\nuntil = \"120s\"";
    let crash = "kind = \"crash-all\"\nwhat = \"gateways\"\nat = \"60s\"\nrestart = \"60s\"";
    let scenario = read::scenario("X", &STORY.replace(lost, crash)).expect("a right file");
    let mut timeline = calm(&scenario);
    for second in &mut timeline.seconds[60..120] {
        second.sites.iter_mut().for_each(|site| site.admitted_cu = vec![0.0]);
    }
    timeline.seconds[60].sites[2].admitted_cu = vec![3.0];
    timeline.seconds[100].sites[2].admitted_cu = vec![3.0];
    for second in &mut timeline.seconds[120..] {
        second.sites.iter_mut().zip([0.3, 0.3, 0.4]).for_each(|(site, share)| {
            site.admitted_cu = vec![240.0 * share];
        });
    }
    let run = judged(&scenario, &timeline);
    assert!(!rules(&run).contains(&"Q6"), "{:?}", run.violations);
}

#[test]
fn what_a_fault_put_off_is_load_when_it_comes() {
    let scenario = story("");
    let mut timeline = calm(&scenario);
    // For half a minute a quarter fails, while as much comes again.
    for second in &mut timeline.seconds[120..150] {
        second.put_off_cu = 60.0;
        for tier in &mut second.tiers {
            (tier.good, tier.shed) = (tier.offered * 3 / 4, tier.offered - tier.offered * 3 / 4);
        }
    }
    let run = judged(&scenario, &timeline);
    assert!(!rules(&run).contains(&"L3"), "{:?}", run.violations);
    assert!(run.recovery_s.is_some_and(|recovery| recovery < 10.0), "{:?}", run.recovery_s);
    timeline.seconds.iter_mut().for_each(|second| second.put_off_cu = 0.0);
    assert!(rules(&judged(&scenario, &timeline)).contains(&"L3"));
}

#[test]
fn a_point_is_judged_once_its_load_has_been_servable_for_long_enough() {
    let scenario = story("");
    let mut timeline = calm(&scenario);
    assert!(!is_settled(&scenario, &timeline, 199) && is_settled(&scenario, &timeline, 200));
    assert!(could_recover(&scenario, &timeline));
    timeline.seconds[150].offered_cu = 3000.0;
    assert!(!is_settled(&scenario, &timeline, 200) && is_settled(&scenario, &timeline, 231));
    timeline.seconds.iter_mut().for_each(|second| second.offered_cu = 280.0);
    assert!(!is_settled(&scenario, &timeline, 600), "never servable");
    assert!(!could_recover(&scenario, &timeline));
}
