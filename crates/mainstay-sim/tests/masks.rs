//! Every way in which six gateways can be cut from what they hear of others: peers, policy source,
//! and the sites' reports and grants.
//!
//! Who hears nothing of others knows nothing bad of them either: no verdict may change, and no
//! gateway's answer to names may be empty. Such faults show with five nodes or fewer (Nifty,
//! OSDI'20), so all patterns of six are enough.

use mainstay_sim::fleet::{PolicyKind, play};
use mainstay_sim::scenario::catalogue::CATALOGUE;
use mainstay_sim::scenario::{FaultKind, Scenario, Which, read};
use std::time::Duration;

const GATEWAYS: u16 = 6;
/// A twentieth of the requests: still ten a second, so that no site is idle for long.
const SCALE: f64 = 20.0;
/// Long enough that credit lapses, verdicts of peers age out, and both come back.
const CUT: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(45));
const PLAYED: Duration = Duration::from_secs(60);

/// S37, small and short, with these gateways cut.
fn cut(mask: u16) -> Scenario {
    let (id, text) = CATALOGUE.iter().find(|(id, _)| *id == "S37").expect("in the catalogue");
    let mut scenario = read::scenario(id, text).expect("a right scenario");
    scenario.bench.scale = SCALE;
    scenario.duration = PLAYED;
    scenario.expects.clear();
    for fault in &mut scenario.faults {
        (fault.at, fault.until) = (CUT.0, Some(CUT.1));
        let these = (0..GATEWAYS).filter(|gateway| mask & (1 << gateway) != 0).collect();
        if let FaultKind::PeersCut { gateways, .. } = &mut fault.kind {
            *gateways = Which::These(these);
        }
    }
    scenario
}

#[test]
fn no_set_of_gateways_that_is_cut_off_makes_anybody_leave_or_any_answer_empty() {
    let (mut offered, mut good, mut least) = (0, 0, 1.0f64);
    for mask in 0..1 << GATEWAYS {
        let played = play(&cut(mask), u64::from(mask) + 1, PolicyKind::Mainstay);
        let marks = &played.timeline.marks;
        assert_eq!(played.run.transitions, 0, "mask {mask:06b}: {marks:?}");
        let broken = played.run.violations.iter().find(|v| v.rule.starts_with(['I', 'l', 'm']));
        assert!(broken.is_none(), "mask {mask:06b}: {broken:?}");
        let tiers = played.run.by_tier.values();
        let counts = tiers.fold((0, 0), |sum, tier| (sum.0 + tier.offered, sum.1 + tier.good));
        offered += counts.0;
        good += counts.1;
        least = least.min(counts.1 as f64 / counts.0 as f64);
    }
    let share = good as f64 / offered as f64;
    println!("64 patterns: {good} of {offered} requests good ({share:.4}, at worst {least:.4})");
    assert!(share >= 0.99, "{share}");
}
