//! A small site, by what a configuration file makes of it.

use mainstay_core::config::{
    ALL_TIERS, Config, Continuation, Limits, Model, Needs, Site as Place, SiteConfig, SiteKind,
    Target, Tier,
};
use mainstay_core::cost::CostRate;
use mainstay_core::message::{Report, TIERS_MAX};
use mainstay_core::names::{GatewayId, SiteId, TargetId, WorkerId};
use mainstay_core::site::{Action, Event, Site, WorkerState};
use mainstay_core::time::{Duration, Time};

fn config() -> Config {
    let place = Place { name: "A".into(), capacity: None, kind: SiteKind::Node, auth_strikes: 1 };
    let target = Target {
        site: SiteId(0),
        model: "m".into(),
        window: None,
        output_max: None,
        offers: Needs::all(),
        continuation: Continuation::Native,
        labels: 0,
        home: 1000,
        tiers: ALL_TIERS,
    };
    let model = Model {
        name: "chat".into(),
        served_by: vec![TargetId(0)],
        substitutes: Vec::new(),
        substitutes_may_finish: true,
    };
    Config {
        sites: vec![place],
        targets: vec![target],
        models: vec![model],
        families: Vec::new(),
        tiers: vec![Tier { name: "pro".into(), floor: 0.25 }],
        limits: Limits::default(),
        fleet: Default::default(),
    }
}

#[test]
fn a_site_of_a_thousand_tokens_a_second_has_credit_for_two_gateways() {
    let mut site =
        Site::first(SiteConfig { gateways: 2, ..SiteConfig::of(&config(), SiteId(0)) }, 1);
    let now = Time::ZERO + Duration::from_secs(10);
    let (target, capacity) = (TargetId(0), CostRate::whole(10));
    let state = WorkerState::Up { target, capacity, streams: 32, cold: false };
    let mut actions = Vec::new();
    site.handle(now, Event::Worker { worker: WorkerId(0), state }, &mut actions);
    // The second round knows of both gateways.
    for nonce in 1..=2 {
        actions.clear();
        for from in [GatewayId(0), GatewayId(1)] {
            let mut demand = [CostRate::ZERO; TIERS_MAX];
            demand[0] = CostRate::whole(2);
            let elapsed = Duration::from_millis(500 * nonce);
            let report = Report { target, nonce, demand, total: demand, in_flight: 0, elapsed };
            let now = now + Duration::from_millis(500 * nonce);
            site.handle(now, Event::Report { from, report }, &mut actions);
        }
    }
    let grants = actions.iter().filter_map(|action| match action {
        Action::Grant { grant, .. } => Some(grant.rate.iter().copied().sum::<CostRate>()),
        _ => None,
    });
    let granted: Vec<CostRate> = grants.collect();
    assert_eq!(granted.len(), 2);
    assert!(granted.iter().all(|rate| *rate >= CostRate::whole(2)), "{granted:?}");
}
