//! What one decision of a large gateway takes: a hundred models, each at 64 sites of ours, a
//! thousand requests a second. `cargo run --release -p mainstay-sim --example placement_speed`.

use mainstay_core::config::{
    ALL_TIERS, Config, Continuation, Fleet, Limits, Model, Needs, Site, SiteKind, Target, Tier,
};
use mainstay_core::cost::{CostRate, CostUnits};
use mainstay_core::gateway::request::{Ask, Report};
use mainstay_core::gateway::{Action, Event, Gateway};
use mainstay_core::message::{Grant, Offer};
use mainstay_core::names::{AttemptId, ModelId, RequestId, SiteId, TargetId, TierId};
use mainstay_core::rng::Rng;
use mainstay_core::time::{Duration, Time};
use std::time::Instant;

const SITES: u16 = 64;
const MODELS: u16 = 100;
const REQUESTS: u64 = 20_000;
/// Between two requests; an answer takes a hundred of them.
const EVERY: Duration = Duration::from_millis(1);
/// See `EVERY`.
const OPEN: u64 = 100;

fn main() {
    let mut gateway = Gateway::new(config(), 1);
    let mut rng = Rng::new(2);
    let mut now = Time::from_micros(1_000_000_000);
    let mut actions = Vec::new();
    let mut times = Vec::new();
    let mut rounds = Vec::new();
    for number in 1..=REQUESTS {
        now = now + EVERY;
        let began = Instant::now();
        gateway.handle(now, Event::Tick, &mut actions);
        let grants: Vec<Grant> = actions.drain(..).filter_map(grant).collect();
        if !grants.is_empty() {
            grants.into_iter().for_each(|one| gateway.handle(now, Event::Grant(one), &mut actions));
            rounds.push(began.elapsed());
        }
        let ask = Ask {
            model: ModelId(rng.below(u64::from(MODELS)) as u16),
            tier: TierId(rng.below(3) as u8),
            prompt: 1000,
            max_tokens: Some(200),
            choices: 1,
            tenant: rng.below(1000) as u32,
            session: Some(rng.bits()),
            cost: CostUnits::whole(1),
            ..Ask::default()
        };
        let began = Instant::now();
        gateway.handle(now, Event::Arrive { request: RequestId(number), ask }, &mut actions);
        times.push(began.elapsed());
        let is_placed = actions.drain(..).any(|action| matches!(action, Action::Start(_)));
        assert!(is_placed, "request {number} was not placed");
        if let Some(old) = number.checked_sub(OPEN).filter(|old| *old > 0) {
            let attempt = AttemptId { request: RequestId(old), number: 1 };
            let whole = Event::Whole { attempt, report: Report::default() };
            gateway.handle(now, whole, &mut actions);
            actions.clear();
        }
    }
    times.sort_unstable();
    let mean = times.iter().sum::<std::time::Duration>() / times.len() as u32;
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!(
        "{SITES} sites x {MODELS} models: a request is placed in {mean:.1?} on average, \
         p50 {:.1?}, p99 {:.1?}",
        at(50),
        at(99)
    );
    let round = rounds.iter().sum::<std::time::Duration>() / rounds.len().max(1) as u32;
    let targets = u32::from(SITES) * u32::from(MODELS);
    println!("{targets} reports and grants, each half second: {round:.1?}");
}

fn grant(action: Action) -> Option<Grant> {
    let Action::Report { site: _, report } = action else { return None };
    Some(Grant {
        target: report.target,
        epoch: 1,
        nonce: report.nonce,
        rate: [CostRate::whole(10); 8],
        standby: CostRate::whole(1),
        capacity: CostRate::whole(100),
        ramp: 100,
        offer: Offer::Open,
        ttft: Duration::from_millis(300),
        miss: 100,
        slow: 1,
        elapsed: Duration::from_millis(500),
    })
}

fn config() -> Config {
    let site = |at: u16| Site {
        name: format!("S{at}"),
        capacity: None,
        kind: SiteKind::Node,
        auth_strikes: 1,
    };
    let target = |at: u16| Target {
        site: SiteId(at % SITES),
        model: "model".into(),
        window: None,
        output_max: None,
        offers: Needs::all(),
        continuation: Continuation::Native,
        labels: 0,
        home: 1,
        tiers: ALL_TIERS,
    };
    let model = |at: u16| Model {
        name: format!("model {at}"),
        served_by: (0..SITES).map(|site| TargetId(at * SITES + site)).collect(),
        substitutes: Vec::new(),
        substitutes_may_finish: true,
    };
    let tier = |(name, floor): (&str, f64)| Tier { name: name.into(), floor };
    Config {
        sites: (0..SITES).map(site).collect(),
        targets: (0..SITES * MODELS).map(target).collect(),
        models: (0..MODELS).map(model).collect(),
        families: Vec::new(),
        tiers: [("enterprise", 0.4), ("pro", 0.25), ("free", 0.05)].map(tier).to_vec(),
        limits: Limits::default(),
        fleet: Fleet::default(),
    }
}
