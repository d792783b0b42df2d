//! The world of many gateways and sites, played short.

use mainstay_sim::bench::t3;
use mainstay_sim::fleet::{Played, PolicyKind, play};
use mainstay_sim::scenario::{
    Baseline, Clients, Fault, FaultKind, Load, Loss, Scenario, Which, Workload,
};
use std::time::{Duration, Instant};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn scenario(level: f64, length: u64, faults: Vec<Fault>) -> Scenario {
    Scenario {
        id: String::from("test"),
        title: String::from("A test"),
        after: String::from("none"),
        bench: t3(),
        duration: secs(length),
        seeds: 1,
        baseline: Baseline::Absent,
        load: Load { level, workload: Workload::Alike, tenants: 1000, turns: 10 },
        clients: Clients {
            patience: secs(5),
            retries: 2,
            pause: Duration::from_millis(500),
            retry_after_max: secs(60),
        },
        faults,
        expects: Vec::new(),
        sweep: Default::default(),
    }
}

fn fault(at: u64, until: u64, kind: FaultKind) -> Fault {
    Fault { at: secs(at), until: Some(secs(until)), kind, line: 0 }
}

fn tell(played: &Played, began: Instant) {
    let took = began.elapsed().as_secs_f64();
    let run = &played.run;
    println!("{} moments in {took:.2} s, {:.0}/s", played.moments, played.moments as f64 / took);
    println!(
        "{:?}\ntransitions {} attempts {:.3}",
        run.by_tier, run.transitions, run.attempts_per_request
    );
    println!("{:?}", run.sites);
    for (at, second) in played.timeline.seconds.iter().enumerate().filter(|(at, _)| at % 5 == 0) {
        let tiers: Vec<String> = second
            .tiers
            .iter()
            .map(|t| {
                format!(
                    "{}/{}/{}/{} {:.0}ms",
                    t.offered,
                    t.good,
                    t.shed,
                    t.failed,
                    t.ttft_ms.0 / f64::from(t.ttft_ms.1.max(1))
                )
            })
            .collect();
        let sites: Vec<String> = second
            .sites
            .iter()
            .map(|s| {
                format!(
                    "{:.0}>{:.0} -{} q{} r{} c{:.0} g{:.0} {}% up{}",
                    s.offered_cu,
                    s.admitted_cu.iter().sum::<f64>(),
                    s.refused,
                    s.queued,
                    s.running,
                    s.capacity,
                    s.granted,
                    s.ramp,
                    s.up
                )
            })
            .collect();
        println!("{at:4} {} | {}", tiers.join(" "), sites.join(" | "));
    }
    for violation in run.violations.iter().take(6) {
        println!(
            "{:.3} {} {} {}",
            violation.at_s,
            violation.rule,
            violation.node,
            violation.detail.lines().take(60).collect::<Vec<_>>().join("\n")
        );
    }
    println!("{} violations", run.violations.len());
}

#[test]
fn nothing_happens_at_two_thirds() {
    let began = Instant::now();
    let played = play(&scenario(0.65, 180, Vec::new()), 1, PolicyKind::Mainstay);
    tell(&played, began);
}

#[test]
fn a_site_is_lost() {
    let began = Instant::now();
    let kind = FaultKind::SiteDown { sites: Which::These(vec![0]), how: Loss::Refuse, cold: true };
    let played = play(&scenario(0.65, 500, vec![fault(60, 180, kind)]), 1, PolicyKind::Mainstay);
    tell(&played, began);
}
