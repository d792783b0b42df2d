//! The world of many gateways and sites, played short.

use mainstay_sim::bench::t3;
use mainstay_sim::fleet::{Played, PolicyKind, play};
use mainstay_sim::scenario::{
    Baseline, Clients, Content, Direction, Fault, FaultKind, Lie, LinkEffect, Load, Loss, Part,
    Process, Scenario, Trouble, Which, Workload,
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
    for (name, site) in &run.sites {
        println!("{name} {site:?}");
    }
    if std::env::var("HEALTH").is_ok() {
        for h in &played.timeline.health {
            println!("H {h:?}");
        }
        for m in &played.timeline.marks {
            println!("M {m:?}");
        }
    }
    println!("recovery {:?}", run.recovery_s);
    let step: usize = std::env::var("STEP").ok().and_then(|s| s.parse().ok()).unwrap_or(20);
    for (at, second) in played.timeline.seconds.iter().enumerate().filter(|(at, _)| at % step == 0)
    {
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

fn run(name: &str, scenario: &Scenario) {
    for policy in [PolicyKind::Mainstay, PolicyKind::Naive] {
        if policy == PolicyKind::Naive && std::env::var("NAIVE").is_err() {
            continue;
        }
        let began = Instant::now();
        println!("=== {name} {policy:?}");
        tell(&play(scenario, 1, policy), began);
    }
}
fn down(sites: Vec<u16>, how: Loss) -> FaultKind {
    FaultKind::SiteDown { sites: Which::These(sites), how, cold: true }
}
fn link(gateways: Which, sites: Which, effect: LinkEffect, part: Part) -> FaultKind {
    FaultKind::Link { gateways, sites, effect, direction: Direction::Both, part }
}
fn at_site(site: u16) -> Which {
    Which::These(vec![site])
}

#[test]
fn explore() {
    let wanted = std::env::var("CASE").unwrap_or_default();
    let surge =
        |k, a, b| fault(a, b, FaultKind::Surge { factor: k, tier: None, ramp: Duration::ZERO });
    let once = |at, kind| Fault { at: secs(at), until: None, kind, line: 0 };
    let cases: Vec<(&str, Scenario)> = vec![
        ("calm", scenario(0.65, 180, vec![])),
        ("refuse", scenario(0.65, 540, vec![fault(60, 180, down(vec![0], Loss::Refuse))])),
        (
            "s01",
            scenario(
                0.8,
                540,
                vec![fault(60, 180, down(vec![0], Loss::Refuse)), surge(1.3, 60, 180)],
            ),
        ),
        ("hole", scenario(0.55, 240, vec![fault(60, 120, down(vec![0], Loss::Blackhole))])),
        ("surge2", scenario(0.65, 180, vec![surge(3.0, 60, 120)])),
        ("surge10", scenario(1.0, 180, vec![surge(10.0, 60, 120)])),
        (
            "s02",
            scenario(
                0.65,
                240,
                vec![
                    fault(
                        60,
                        180,
                        FaultKind::Surge { factor: 10.0, tier: Some(2), ramp: secs(60) },
                    ),
                    fault(60, 180, FaultKind::Patience { patience: secs(600) }),
                ],
            ),
        ),
        (
            "controller",
            scenario(
                0.6,
                400,
                vec![fault(60, 120, FaultKind::ControllerDown { sites: at_site(1) })],
            ),
        ),
        (
            "workers",
            scenario(
                0.65,
                400,
                vec![fault(60, 240, FaultKind::WorkersLost { sites: Which::All, share: 0.35 })],
            ),
        ),
        (
            "slow",
            scenario(
                0.55,
                240,
                vec![fault(
                    60,
                    120,
                    FaultKind::Slow { sites: at_site(1), share: 1.0, factor: 10.0 },
                )],
            ),
        ),
        (
            "cold",
            scenario(
                0.65,
                300,
                vec![
                    once(60, FaultKind::MoveSessions { share: 0.4, to: 2 }),
                    once(60, FaultKind::ColdCache { sites: at_site(2), factor: 3.0 }),
                ],
            ),
        ),
        (
            "loss",
            scenario(
                0.65,
                180,
                vec![fault(
                    60,
                    120,
                    link(
                        Which::These(vec![0]),
                        at_site(1),
                        LinkEffect { loss: 0.3, ..Default::default() },
                        Part::All,
                    ),
                )],
            ),
        ),
        (
            "delay",
            scenario(
                0.65,
                180,
                vec![fault(
                    60,
                    120,
                    link(
                        Which::All,
                        at_site(1),
                        LinkEffect { delay: secs(2), ..Default::default() },
                        Part::Data,
                    ),
                )],
            ),
        ),
        (
            "control",
            scenario(
                0.65,
                180,
                vec![fault(
                    60,
                    120,
                    link(
                        Which::All,
                        Which::All,
                        LinkEffect { loss: 1.0, ..Default::default() },
                        Part::Control,
                    ),
                )],
            ),
        ),
        (
            "alone",
            scenario(
                0.65,
                180,
                vec![fault(
                    60,
                    120,
                    FaultKind::Partition {
                        groups: vec![((0..6).collect(), vec![]), (vec![], vec![0, 1, 2, 3])],
                    },
                )],
            ),
        ),
        (
            "cut43",
            scenario(
                0.6,
                400,
                vec![
                    fault(
                        60,
                        103,
                        FaultKind::Partition {
                            groups: vec![((0..6).collect(), vec![1, 2, 3]), (vec![], vec![0])],
                        },
                    ),
                    fault(
                        180,
                        223,
                        FaultKind::Partition {
                            groups: vec![((0..6).collect(), vec![1, 2, 3]), (vec![], vec![0])],
                        },
                    ),
                ],
            ),
        ),
        (
            "peers",
            scenario(
                0.65,
                180,
                vec![fault(60, 120, FaultKind::PeersCut { gateways: Which::All, control: true })],
            ),
        ),
        (
            "lie",
            scenario(
                0.65,
                300,
                vec![fault(
                    60,
                    240,
                    FaultKind::LyingHealth { sites: at_site(1), pattern: Lie::Down },
                )],
            ),
        ),
        ("label", scenario(0.65, 180, vec![fault(60, 120, FaultKind::WrongLabel { site: 1 })])),
        (
            "crash",
            scenario(
                0.65,
                240,
                vec![once(60, FaultKind::CrashAll { what: Process::Gateways, restart: secs(5) })],
            ),
        ),
        (
            "s31",
            scenario(
                0.9,
                240,
                vec![once(60, FaultKind::CrashAll { what: Process::Gateways, restart: secs(5) })],
            ),
        ),
        (
            "workersall",
            scenario(
                0.65,
                500,
                vec![once(60, FaultKind::CrashAll { what: Process::Workers, restart: secs(60) })],
            ),
        ),
        (
            "gateway",
            scenario(
                0.65,
                180,
                vec![once(
                    60,
                    FaultKind::GatewayCrash { gateways: Which::These(vec![2]), restart: secs(30) },
                )],
            ),
        ),
        (
            "release",
            scenario(
                0.65,
                240,
                vec![once(60, FaultKind::Release { requests: 27_000, within: secs(1) })],
            ),
        ),
        (
            "tenant",
            scenario(
                0.65,
                180,
                vec![fault(60, 120, FaultKind::Tenant { tenant: 500, factor: 100.0 })],
            ),
        ),
        (
            "clock",
            scenario(
                0.65,
                240,
                vec![once(
                    60,
                    FaultKind::Clock {
                        gateways: Which::These(vec![0]),
                        jump_seconds: 0.0,
                        drift: 0.05,
                    },
                )],
            ),
        ),
        (
            "drain",
            scenario(
                0.55,
                240,
                vec![once(
                    60,
                    FaultKind::Override {
                        verb: "drain".into(),
                        target: "A".into(),
                        life: secs(3600),
                        gateway: 0,
                        percent: 0,
                    },
                )],
            ),
        ),
        (
            "kill",
            scenario(
                0.55,
                240,
                vec![once(
                    60,
                    FaultKind::Override {
                        verb: "kill".into(),
                        target: "A".into(),
                        life: secs(3600),
                        gateway: 0,
                        percent: 0,
                    },
                )],
            ),
        ),
        (
            "push",
            scenario(
                0.65,
                300,
                vec![once(
                    60,
                    FaultKind::PolicyPush {
                        content: Content::MissingField,
                        author: "x".into(),
                        force: false,
                        validator: false,
                    },
                )],
            ),
        ),
        (
            "throttle",
            scenario(
                0.9,
                240,
                vec![
                    surge(1.4, 60, 120),
                    fault(
                        60,
                        120,
                        FaultKind::Provider { site: 3, how: Trouble::Throttle { above: 2.0 } },
                    ),
                ],
            ),
        ),
        ("scale", scenario(0.65, 180, vec![once(60, FaultKind::Scale { from: 6, to: 20 })])),
        ("long", scenario(0.65, 720, vec![])),
    ];
    for (name, scenario) in &cases {
        if wanted.split(',').any(|w| w == *name) || wanted == "all" {
            run(name, scenario);
        }
    }
}
