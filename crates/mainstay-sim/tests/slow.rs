//! A site becomes ten times slower and carries its own sessions all the same: they leave it within
//! ten seconds (Q3), stay away for as long as it is slow, and come back when it is well.

use mainstay_sim::bench::t3;
use mainstay_sim::fleet::{Played, PolicyKind, play};
use mainstay_sim::scenario::{
    Baseline, Clients, Fault, FaultKind, Load, Scenario, Which, Workload,
};
use std::ops::Range;
use std::time::Duration;

/// It is slow in these seconds.
const SLOW: Range<u64> = 40..100;
/// By then its sessions have left.
const MOVED: Range<usize> = 50..99;
/// By then they are back. Of the few that stay half a dozen must have been answered as usual, and
/// token probes, which tell it sooner, have no worker here.
const BACK: Range<usize> = 200..240;

fn slow(level: f64) -> Played {
    let kind = FaultKind::Slow { sites: Which::These(vec![0]), share: 1.0, factor: 10.0 };
    let (at, until) = (Duration::from_secs(SLOW.start), Some(Duration::from_secs(SLOW.end)));
    let scenario = Scenario {
        id: String::from("slow-home"),
        title: String::from("A site becomes ten times slower"),
        after: String::from("none"),
        bench: t3(),
        duration: Duration::from_secs(240),
        seeds: 1,
        baseline: Baseline::Absent,
        load: Load { level, workload: Workload::Alike, tenants: 1000, turns: 10 },
        clients: Clients {
            patience: Duration::from_secs(5),
            retries: 2,
            pause: Duration::from_millis(500),
            retry_after_max: Duration::from_secs(60),
        },
        faults: vec![Fault { at, until, kind, line: 0 }],
        expects: Vec::new(),
        sweep: Default::default(),
    };
    play(&scenario, 1, PolicyKind::Mainstay)
}

/// What the first site took in, by all that sites of ours took in.
fn share(played: &Played, seconds: Range<usize>) -> f64 {
    let seconds = &played.timeline.seconds[seconds];
    let of = |at: usize| -> f64 { seconds.iter().flat_map(|s| &s.sites[at].admitted_cu).sum() };
    of(0) / (0..3).map(of).sum::<f64>()
}

#[test]
fn a_site_ten_times_slower_is_left_within_ten_seconds_and_taken_back_when_it_is_well() {
    for level in [0.3, 0.5] {
        let played = slow(level);
        let [before, moved, back] =
            [20..SLOW.start as usize, MOVED, BACK].map(|seconds| share(&played, seconds));
        assert!((0.35..0.45).contains(&before), "load {level}: {before}");
        // The 1 % that tell whether it is well again, of 40 % that are at home there.
        assert!(moved <= 0.015, "load {level}: {moved}");
        assert!((0.35..0.45).contains(&back), "load {level}: {back}");
        assert!(played.timeline.health.is_empty(), "{:?}", played.timeline.health);
        let failed: u64 = played.run.by_tier.values().map(|tier| tier.failed + tier.shed).sum();
        assert_eq!(failed, 0, "load {level}");
    }
}
