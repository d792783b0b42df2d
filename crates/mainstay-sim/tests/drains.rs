//! Two operators drain two of three sites at once, each at a gateway of theirs: one order stands,
//! the same everywhere, and the other is ignored, by gateways and sites alike.

use mainstay_core::mutant::{Mutant, Mutants};
use mainstay_sim::bench::t3;
use mainstay_sim::fleet::{Played, PolicyKind, play_with};
use mainstay_sim::scenario::{
    Baseline, Clients, Fault, FaultKind, Load, Scenario, Which, Workload,
};
use std::ops::Range;
use std::time::Duration;

/// Both orders are given at this second, and end with their life.
const DRAINED: Range<u64> = 40..140;
/// Ten seconds later what they move has moved.
const MOVED: Range<usize> = 50..140;

fn fault((at, until): (u64, Option<u64>), kind: FaultKind) -> Fault {
    Fault { at: Duration::from_secs(at), until: until.map(Duration::from_secs), kind, line: 0 }
}

/// A at the first gateway, B at the second.
fn two_drains() -> Scenario {
    let drain = |target: &str, gateway: u16| FaultKind::Override {
        verb: String::from("drain"),
        target: String::from(target),
        life: Duration::from_secs(DRAINED.end - DRAINED.start),
        gateway,
        percent: 100,
    };
    Scenario {
        id: String::from("two-drains"),
        title: String::from("Two drains at once"),
        after: String::from("none"),
        bench: t3(),
        duration: Duration::from_secs(200),
        seeds: 1,
        baseline: Baseline::Absent,
        // What two sites carry, and a little room.
        load: Load { level: 0.6, workload: Workload::Alike, tenants: 1000, turns: 10 },
        clients: Clients {
            patience: Duration::from_secs(5),
            retries: 2,
            pause: Duration::from_millis(500),
            retry_after_max: Duration::from_secs(60),
        },
        faults: vec![
            fault((DRAINED.start, None), drain("A", 0)),
            fault((DRAINED.start, None), drain("B", 1)),
        ],
        expects: Vec::new(),
        sweep: Default::default(),
    }
}

/// Good by offered in these seconds, of some tiers.
fn good(played: &Played, tiers: Range<usize>, seconds: Range<usize>) -> f64 {
    let all =
        played.timeline.seconds[seconds].iter().flat_map(|second| &second.tiers[tiers.clone()]);
    let (good, offered) = all.fold((0, 0), |sum, tier| (sum.0 + tier.good, sum.1 + tier.offered));
    f64::from(good) / f64::from(offered)
}

/// What a site took in, by all that sites of ours took in.
fn share(played: &Played, site: usize) -> f64 {
    let seconds = &played.timeline.seconds[MOVED];
    let of = |at: usize| -> f64 { seconds.iter().flat_map(|s| &s.sites[at].admitted_cu).sum() };
    of(site) / (0..3).map(of).sum::<f64>()
}

fn holds(scenario: &Scenario) {
    let played = play_with(scenario, 1, PolicyKind::Mainstay, Mutants::NONE);
    let all = DRAINED.start as usize..DRAINED.end as usize;
    let (paying, free) = (good(&played, 0..2, all), good(&played, 0..3, MOVED));
    let shares: Vec<String> = (0..3).map(|at| format!("{:.3}", share(&played, at))).collect();
    println!("good of enterprise and pro {paying:.4}, of all {free:.4}, shares {shares:?}");
    assert_eq!(played.run.violations, []);
    assert!(played.facts.contains("SiteFact::OrderIgnored"), "{:?}", played.facts);
    assert!(paying >= 0.99 && free >= 0.99, "{paying} of paying tiers, {free} of all");
    assert!(share(&played, 0) < 0.01, "A is drained");
    assert!(share(&played, 1) > 0.4, "B serves, whatever was ordered second");
}

#[test]
fn of_two_drains_by_two_gateways_one_stands_and_nobody_notices() {
    holds(&two_drains());
}

#[test]
fn the_same_where_no_gateway_hears_of_another_meanwhile() {
    let mut scenario = two_drains();
    let cut = FaultKind::PeersCut { gateways: Which::All, control: false };
    scenario.faults.insert(0, fault((DRAINED.start - 10, Some(DRAINED.end)), cut));
    holds(&scenario);
}

#[test]
fn obeyed_as_they_come_two_drains_leave_one_site_of_three() {
    let mutants = Mutants::without(Mutant::InServiceBySender);
    let played = play_with(&two_drains(), 1, PolicyKind::Mainstay, mutants);
    let free = good(&played, 0..3, MOVED);
    println!("good of all {free:.4} where each order is judged by who gave it");
    assert!(free < 0.7 && share(&played, 1) < 0.01, "{free}");
    let rules: Vec<&str> = played.run.violations.iter().map(|wrong| wrong.rule.as_str()).collect();
    assert!(rules.contains(&"I5"), "{rules:?}");
}
