//! Trace studies: a published trace on some workers, with the site's scheduler or another's formula
//! between them, and how much of it can be carried.

mod chart;
mod compare;
pub mod play;
pub mod site;
pub mod tally;

pub use chart::{page, picture};
pub use compare::{Compared, Plan, Point, Row, compare};
pub use play::{Setup, coefficients, play};
pub use tally::{Summary, Weight};

use crate::service::PROFILES;
use crate::workload::Chained;
use mainstay_core::site::schedule::baseline::Baseline;
use mainstay_core::site::schedule::settings::{Policy, Settings, TierSettings};
use mainstay_core::time::Duration;

/// Part of the requests that must be good.
const GOOD: f64 = 0.95;
/// How close a capacity is looked for.
const CLOSE: f64 = 0.1;
/// Beyond this speed-up nothing is looked for: 64 means 64 or more.
const SPEED_MAX: f64 = 100.0;

/// All policies by name, and ours last.
pub const POLICIES: [(&str, Policy); 15] = [
    ("rr", Policy::OnArrival(Baseline::RoundRobin)),
    ("least", Policy::OnArrival(Baseline::Least)),
    ("cache_aware", Policy::OnArrival(Baseline::CacheAware { smallest_tree: false })),
    ("cache_aware_tree", Policy::OnArrival(Baseline::CacheAware { smallest_tree: true })),
    ("aibrix", Policy::OnArrival(Baseline::Aibrix)),
    ("weighted", Policy::OnArrival(Baseline::Weighted)),
    ("dynamo", Policy::OnArrival(Baseline::Dynamo)),
    ("lmetric", Policy::OnArrival(Baseline::Lmetric { refuse: None })),
    ("lmetric_refuse", Policy::OnArrival(Baseline::Lmetric { refuse: Some(0.95) })),
    ("mooncake", Policy::OnArrival(Baseline::Mooncake { refuse: None })),
    ("mooncake_refuse", Policy::OnArrival(Baseline::Mooncake { refuse: Some(0.6) })),
    ("cost", Policy::OnArrival(Baseline::Cost { refuse: Some(0.95) })),
    ("late_lane", Policy::Late),
    ("site", Policy::Site),
    ("late", Policy::Late),
];

/// How a study is set up that compares policies: one tier, 8×H100 with a 70B model, reports 50 ms
/// old. `late` refuses what cannot be in time, `late_lane` serves it later.
pub fn setup(policy: &str, workers: u16) -> Option<Setup> {
    let (name, policy) = POLICIES.into_iter().find(|(name, _)| *name == policy)?;
    let patience = if name == "late" { Duration::ZERO } else { TierSettings::default().patience };
    let tier = TierSettings { patience, ..TierSettings::default() };
    Some(Setup {
        settings: Settings { policy, tiers: vec![tier], ..Settings::default() },
        workers,
        profile: PROFILES[0].clone(),
        misjudged: 1.0,
        speed: 1.0,
        seed: 1,
        report_age: Some(Duration::from_millis(50)),
        tiers: vec![1.0],
        tenants: Vec::new(),
        set_apart: None,
        is_checked: false,
        bad_max: None,
    })
}

/// The largest speed-up with which enough of all is good, by bisection.
///
/// # Errors
/// The invariant that did not hold.
pub fn capacity(trace: &[Chained], setup: &Setup, weight: Weight) -> Result<f64, String> {
    let is_good = |speed: f64| {
        let bad_max = Some((weight, 1.0 - GOOD));
        let setup = Setup { speed, bad_max, ..setup.clone() };
        play(trace, &setup).map(|tally| tally.bad(weight) <= 1.0 - GOOD)
    };
    let (mut low, mut high) = (0.0, 1.0);
    while is_good(high)? {
        (low, high) = (high, high * 2.0);
        if high > SPEED_MAX {
            return Ok(low);
        }
    }
    while high - low > CLOSE {
        let middle = f64::midpoint(low, high);
        if is_good(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
