//! Two, five and ten times what the standard bench carries, with no site lost: what is carried
//! stays near its peak, those who were promised keep it, and it is over when the load is.

use mainstay_sim::bench::t3;
use mainstay_sim::fleet::{Played, PolicyKind, play};
use mainstay_sim::outcome::Second;
use mainstay_sim::scenario::{Baseline, Clients, Fault, FaultKind, Load, Scenario, Workload};
use std::ops::Range;
use std::time::Duration;

/// The load before and after, as a share of capacity.
const LEVEL: f64 = 0.65;
/// When the surge begins and ends, in seconds.
const SURGE: Range<u64> = 40..100;
/// An answer takes eight seconds, and some of what was let in before the surge ends in it.
const STEADY: Range<usize> = 55..100;
/// Over how many seconds the peak is looked for.
const WINDOW: usize = 30;

/// The bench at its level, with a surge to so many times its capacity.
fn surged(times: f64) -> Scenario {
    let surge = FaultKind::Surge { factor: times / LEVEL, tier: None, ramp: Duration::ZERO };
    let (at, until) = (Duration::from_secs(SURGE.start), Duration::from_secs(SURGE.end));
    Scenario {
        id: format!("overload-{times}"),
        title: String::from("Overload"),
        after: String::from("none"),
        bench: t3(),
        duration: Duration::from_secs(240),
        seeds: 1,
        baseline: Baseline::Absent,
        load: Load { level: LEVEL, workload: Workload::Alike, tenants: 1000, turns: 10 },
        clients: Clients {
            patience: Duration::from_secs(5),
            retries: 2,
            pause: Duration::from_millis(500),
            retry_after_max: Duration::from_secs(60),
        },
        faults: vec![Fault { at, until: Some(until), kind: surge, line: 0 }],
        expects: Vec::new(),
        sweep: Default::default(),
    }
}

/// Work of good answers at the three sites, in CU a second.
fn goodput(seconds: &[Second]) -> f64 {
    let good: u32 = seconds.iter().flat_map(|s| &s.tiers).map(|tier| tier.completed).sum();
    let elsewhere: f64 = seconds.iter().flat_map(|s| &s.sites[3].admitted_cu).sum();
    (f64::from(good) - elsewhere) / seconds.len() as f64
}

/// Good by offered, of requests of a tier that came in the surge.
fn good_ratio(played: &Played, tier: usize) -> f64 {
    let span = &played.timeline.seconds[SURGE.start as usize..SURGE.end as usize];
    let sum = |of: fn(&mainstay_sim::outcome::TierSecond) -> u32| -> f64 {
        span.iter().map(|second| f64::from(of(&second.tiers[tier]))).sum()
    };
    sum(|tier| tier.good) / sum(|tier| tier.offered)
}

fn holds(times: f64, kept: f64, promised: &[(usize, f64)]) {
    let played = play(&surged(times), 1, PolicyKind::Mainstay);
    let seconds = &played.timeline.seconds;
    let peak = seconds.windows(WINDOW).map(goodput).fold(0.0, f64::max);
    let steady = goodput(&seconds[STEADY]);
    let overshoot = played.run.sites.values().map(|site| site.overshoot_max).fold(0.0, f64::max);
    let tiers: Vec<String> =
        (0..3).map(|tier| format!("{:.4}", good_ratio(&played, tier))).collect();
    println!(
        "{times} times: {steady:.1} of {peak:.1} CU/s ({:.3} of its peak), enterprise, pro, free \
         {}, overshoot {overshoot:.3} in the worst second, attempts by try {:.3}, recovery {:?} s",
        steady / peak,
        tiers.join(", "),
        played.run.attempts_per_request,
        played.run.recovery_s
    );
    assert_eq!(played.run.violations, [], "{times} times");
    assert!(steady >= kept * peak, "{steady} of {peak} CU/s");
    for (tier, least) in promised {
        let good = good_ratio(&played, *tier);
        assert!(good >= *least, "tier {tier}: {good}, at least {least}");
    }
    assert!(played.run.recovery_s.is_some_and(|seconds| seconds <= 10.0));
}

#[test]
fn at_twice_the_capacity_goodput_stays_and_the_higher_tiers_do_not_notice() {
    holds(2.0, 0.95, &[(0, 0.999), (1, 0.99)]);
}

#[test]
fn at_five_times_the_capacity_goodput_stays_and_the_first_tier_does_not_notice() {
    holds(5.0, 0.93, &[(0, 0.999)]);
}

#[test]
fn at_ten_times_the_capacity_goodput_stays() {
    holds(10.0, 0.90, &[]);
}
