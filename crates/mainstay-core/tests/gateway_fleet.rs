//! A gateway among peers and under orders: what it tells, what it believes of hearsay, and what a
//! new policy leaves as it was.

use mainstay_core::config::{
    ALL_TIERS, Config, Continuation, Limits, Model, Needs, Site, SiteKind, Target, Tier,
};
use mainstay_core::cost::{CostRate, CostUnits};
use mainstay_core::fact::{CreditFact, Fact, Verdict, Why};
use mainstay_core::gateway::request::{Ask, Broken, Report as Left, Sent};
use mainstay_core::gateway::{Action, Close, Event, Gateway, Probe, Start};
use mainstay_core::message::{Digest, Order, OrderId, Verb};
use mainstay_core::names::{
    ErrorClass, Failure, GatewayId, ModelId, RequestId, Scope, SiteId, TargetId, TierId,
};
use mainstay_core::time::{Duration, Time};

const SECOND: Duration = Duration::from_secs(1);

/// A gateway of four, with its clock, its sites and all that was said.
struct Rig {
    gateway: Gateway,
    now: Time,
    requests: u64,
    said: Vec<Action>,
    starts: Vec<Start>,
}

fn config(sites: u16) -> Config {
    let site = |at: u16| Site {
        name: format!("site-{at}"),
        capacity: None,
        kind: SiteKind::Node,
        auth_strikes: 1,
    };
    let target = |at: u16| Target {
        site: SiteId(at),
        model: "m".into(),
        window: None,
        output_max: None,
        offers: Needs::all(),
        continuation: Continuation::Native,
        labels: 0,
        home: 100,
        tiers: ALL_TIERS,
    };
    let model = Model {
        name: "chat".into(),
        served_by: (0..sites).map(TargetId).collect(),
        substitutes: Vec::new(),
        substitutes_may_finish: true,
    };
    let mut config = Config {
        sites: (0..sites).map(site).collect(),
        targets: (0..sites).map(target).collect(),
        models: vec![model],
        families: Vec::new(),
        tiers: vec![Tier { name: "pro".into(), floor: 0.0 }],
        limits: Limits::default(),
        fleet: Default::default(),
    };
    config.fleet.gateways = 4;
    config
}

impl Rig {
    fn new(sites: u16) -> Rig {
        let gateway = Gateway::new(config(sites), 7);
        let now = Time::from_micros(86_400_000_000);
        let mut rig = Rig { gateway, now, requests: 0, said: vec![], starts: vec![] };
        rig.hear(Event::Tick);
        rig
    }

    fn hear(&mut self, event: Event) {
        let before = self.said.len();
        self.gateway.handle(self.now, event, &mut self.said);
        for action in &self.said[before..] {
            if let Action::Start(start) = action {
                self.starts.push(start.clone());
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((at, _)) = self.gateway.deadline().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            self.hear(Event::Tick);
        }
        self.now = end;
    }

    fn arrive(&mut self, session: u64) -> Option<Start> {
        self.requests += 1;
        let before = self.starts.len();
        let ask = Ask {
            model: ModelId(0),
            tier: TierId(0),
            prompt: 100,
            choices: 1,
            session: Some(session),
            cost: CostUnits::whole(1),
            ..Ask::default()
        };
        self.hear(Event::Arrive { request: RequestId(self.requests), ask });
        self.starts.get(before).cloned()
    }

    fn whole(&mut self, start: &Start) {
        self.hear(Event::Whole { attempt: start.attempt, report: Left::default() });
    }

    fn breaks(&mut self, start: &Start) {
        let broken = Broken {
            failure: Failure::ours(ErrorClass::Dead(Scope::Site), "refused"),
            why: Why::Reply,
            sent: Sent::Nothing,
            stale: false,
            quiet: Duration::ZERO,
            report: Left::default(),
        };
        self.hear(Event::Broken { attempt: start.attempt, broken });
    }

    /// Asks for so long; attempts at these sites fail.
    fn play(&mut self, steps: u64, broken: &[u16]) {
        for session in 0..steps {
            let mut before = self.starts.len();
            self.arrive(session << 44);
            while let Some(start) = self.starts.get(before).cloned() {
                before += 1;
                match broken.contains(&start.target.0) {
                    true => self.breaks(&start),
                    false => self.whole(&start),
                }
            }
            self.pass(Duration::from_millis(20));
        }
    }

    fn orders(&mut self, orders: &[(Verb, u16)]) {
        let order = |(seq, (verb, site)): (usize, &(Verb, u16))| Order {
            id: OrderId { author: 1, seq: seq as u32 },
            authority: 1,
            verb: *verb,
            site: Some(SiteId(*site)),
            reason: "a test".into(),
            left: Duration::from_secs(3600),
        };
        self.hear(Event::Orders(orders.iter().enumerate().map(order).collect()));
    }

    fn verdict(&self, target: u16) -> Verdict {
        self.gateway.targets().get(TargetId(target)).health.verdict()
    }

    /// The sites that get more of sixty requests than a trickle.
    fn used(&mut self) -> Vec<u16> {
        let mut counts = [0; 4];
        for session in 0..60u64 {
            if let Some(start) = self.arrive(session << 58) {
                self.whole(&start);
                counts[usize::from(start.target.0)] += 1;
            }
        }
        (0..4).filter(|at| counts[usize::from(*at)] > 2).collect()
    }

    #[track_caller]
    fn told(&self, what: &str, is: impl Fn(&CreditFact) -> bool) {
        let is_it =
            |said: &Action| matches!(said, Action::Fact(Fact::Credit(credit)) if is(credit));
        assert!(self.said.iter().any(is_it), "{what} was not told");
    }
}

#[test]
fn what_runs_at_a_site_that_is_killed_is_given_up_at_once_unless_too_little_would_be_left() {
    let mut rig = Rig::new(4);
    rig.pass(3 * SECOND);
    let start = rig.arrive(0).expect("a site takes it");
    let given_up = |rig: &Rig| {
        let attempts = rig.said.iter().filter_map(|said| match said {
            Action::GiveUp { attempt } => Some(*attempt),
            _ => None,
        });
        attempts.collect::<Vec<_>>()
    };
    rig.orders(&[(Verb::Drain, start.target.0)]);
    assert_eq!(given_up(&rig), [], "a drain lets it finish");
    rig.orders(&[(Verb::Kill, start.target.0)]);
    assert_eq!(given_up(&rig), [start.attempt]);
    let mut rig = Rig::new(4);
    rig.pass(3 * SECOND);
    let start = rig.arrive(0).expect("a site takes it");
    let others = (0..4).filter(|site| *site != start.target.0);
    let mut all: Vec<(Verb, u16)> = others.map(|site| (Verb::Kill, site)).collect();
    all.push((Verb::Kill, start.target.0));
    rig.orders(&all);
    assert_eq!(given_up(&rig), [], "the newest of too many orders is ignored");
}

#[test]
fn every_second_three_peers_are_told_how_things_stand_and_names_are_answered() {
    let mut rig = Rig::new(3);
    rig.pass(10 * SECOND);
    let digests = rig.said.iter().filter(|said| matches!(said, Action::Digest { .. })).count();
    assert!((30..=33).contains(&digests), "{digests}");
    let mut answers = rig.said.iter().filter_map(|said| match said {
        Action::Answers(set) => Some(set),
        _ => None,
    });
    assert!(answers.next().is_some());
    assert!(answers.all(|set| !set.is_empty()));
}

#[test]
fn sites_of_ours_are_probed_every_second_and_by_a_token_every_ten() {
    let mut rig = Rig::new(3);
    rig.pass(20 * SECOND);
    let count = |wanted: Probe| {
        let is_it =
            |said: &&Action| matches!(said, Action::Probe { probe, .. } if *probe == wanted);
        rig.said.iter().filter(is_it).count()
    };
    assert!((55..=63).contains(&count(Probe::Shallow)), "{}", count(Probe::Shallow));
    assert!((3..=9).contains(&count(Probe::Token)), "{}", count(Probe::Token));
}

#[test]
fn a_suspect_that_peers_can_use_is_not_called_down() {
    for (peers_see, verdict) in [(false, Verdict::Down), (true, Verdict::Suspect)] {
        let mut rig = Rig::new(4);
        for nonce in 1..20 {
            for peer in 1..=3 {
                let from = GatewayId(peer);
                let age = 2 * SECOND;
                let out = [(TargetId(0), Verdict::Suspect, age)];
                let verdicts = if peers_see { vec![] } else { out.to_vec() };
                rig.hear(Event::Digest(Digest { from, nonce, verdicts, ..Digest::default() }));
            }
            rig.play(50, &[0]);
        }
        assert_eq!(rig.verdict(0), verdict);
    }
}

#[test]
fn failed_probes_take_an_idle_site_out_within_the_budget() {
    let mut rig = Rig::new(4);
    rig.pass(6 * SECOND);
    for _ in 0..5 {
        for target in (0..4).map(TargetId) {
            rig.hear(Event::Probed { target, probe: Probe::Shallow, good: false });
        }
        rig.pass(SECOND);
    }
    let gone = (0..4).filter(|target| rig.verdict(*target) != Verdict::Up).count();
    assert_eq!(gone, 1);
    assert_eq!(rig.used().len(), 3);
}

#[test]
fn when_most_fails_at_once_the_gateway_doubts_itself_and_calls_nothing_down() {
    let mut rig = Rig::new(3);
    rig.play(100, &[]);
    rig.play(600, &[0, 1, 2]);
    rig.told("doubt", |fact| matches!(fact, CreditFact::Doubt { is_in_doubt: true }));
    for target in 0..3 {
        assert_eq!(rig.verdict(target), Verdict::Suspect);
    }
    rig.play(1500, &[]);
    rig.told("its end", |fact| matches!(fact, CreditFact::Doubt { is_in_doubt: false }));
}

#[test]
fn a_drained_site_gets_nothing_new_and_the_last_ones_stay_whatever_is_ordered() {
    let mut rig = Rig::new(3);
    rig.pass(SECOND);
    assert_eq!(rig.used(), [0, 1, 2]);
    rig.orders(&[(Verb::Drain, 1)]);
    assert_eq!(rig.used(), [0, 2]);
    rig.orders(&[(Verb::Drain, 1), (Verb::Kill, 0), (Verb::Kill, 2)]);
    assert_eq!(rig.used(), [0, 2], "two of three stay");
    rig.told("the orders ignored", |fact| matches!(fact, CreditFact::OrderIgnored { .. }));
    rig.orders(&[]);
    assert_eq!(rig.used(), [0, 1, 2]);
}

#[test]
fn a_capped_site_gets_no_unpaid_work_while_others_may() {
    let mut rig = Rig::new(3);
    rig.orders(&[(Verb::Cap(10), 0)]);
    assert_eq!(rig.used(), [1, 2]);
}

#[test]
fn a_new_policy_keeps_what_is_known_of_targets_that_stay() {
    let mut rig = Rig::new(3);
    rig.play(400, &[2]);
    assert_ne!(rig.verdict(2), Verdict::Up);
    let running = rig.arrive(1).expect("an attempt");
    let mut next = config(4);
    // The same sites by name, in another order, and one more.
    next.sites.rotate_left(1);
    for (at, target) in next.targets.iter_mut().enumerate() {
        target.site = SiteId(at as u16);
    }
    rig.hear(Event::Adopt(next.into()));
    assert_ne!(rig.verdict(1), Verdict::Up, "site-2 is the second now");
    assert_eq!(rig.verdict(2), Verdict::Up);
    rig.whole(&running);
    assert!(matches!(rig.said.last(), Some(Action::Close { close: Close::Done, .. })));
    assert_eq!(rig.gateway.open_requests(), 0);
}

#[test]
fn a_request_at_a_site_that_a_new_policy_does_not_know_runs_to_its_end() {
    let mut rig = Rig::new(3);
    let starts: Vec<Start> = (0..30).filter_map(|session| rig.arrive(session << 58)).collect();
    assert!(starts.iter().any(|start| start.site == SiteId(2)));
    rig.hear(Event::Adopt(config(2).into()));
    assert_eq!(rig.gateway.open_requests(), 30);
    // And once more: what was kept is kept again.
    rig.hear(Event::Adopt(config(2).into()));
    for start in &starts {
        rig.whole(start);
    }
    let is_whole = |said: &&Action| matches!(said, Action::Close { close: Close::Done, .. });
    assert_eq!(rig.said.iter().filter(is_whole).count(), 30);
    assert_eq!(rig.gateway.open_requests(), 0);
    for session in 0..30 {
        let start = rig.arrive(session << 58).expect("an attempt");
        assert_ne!(start.site, SiteId(2), "nothing new goes there");
    }
    rig.hear(Event::Adopt(config(2).into()));
    assert_eq!(rig.gateway.config().sites.len(), 2, "nothing runs there any more");
}

#[test]
fn an_order_keeps_its_site_by_name() {
    let mut rig = Rig::new(4);
    rig.orders(&[(Verb::Drain, 3)]);
    assert_eq!(rig.used(), [0, 1, 2]);
    let mut next = config(4);
    next.sites.rotate_left(1);
    rig.hear(Event::Adopt(next.into()));
    assert_eq!(rig.used(), [0, 1, 3], "site-3 is the third now");
}

#[test]
fn a_running_answer_outlives_its_model_and_what_breaks_there_goes_nowhere() {
    let mut rig = Rig::new(2);
    let (one, other) = (rig.arrive(1).expect("one"), rig.arrive(2).expect("another"));
    let mut next = config(2);
    next.models[0].name = "other".into();
    rig.hear(Event::Adopt(next.into()));
    assert_eq!(rig.gateway.find_model("chat"), None);
    assert_eq!(rig.gateway.find_model(""), None);
    rig.whole(&one);
    assert!(matches!(rig.said.last(), Some(Action::Close { close: Close::Done, .. })));
    rig.breaks(&other);
    assert!(matches!(rig.said.last(), Some(Action::Close { close: Close::Error(_), .. })));
    assert_eq!(rig.gateway.open_requests(), 0);
}

#[test]
fn a_request_keeps_its_tier_by_name() {
    let mut rig = Rig::new(2);
    let start = rig.arrive(1).expect("an attempt");
    let mut next = config(2);
    next.tiers.insert(0, Tier { name: "vip".into(), floor: 0.1 });
    rig.hear(Event::Adopt(next.into()));
    rig.breaks(&start);
    let again = rig.starts.last().expect("another attempt");
    assert_eq!(again.open.map(|open| open.tier), Some(TierId(1)));
}

#[test]
fn capacity_and_rates_are_bounded_by_an_operators_cap() {
    let mut rig = Rig::new(3);
    rig.orders(&[(Verb::Cap(10), 0)]);
    let nonce = rig.said.iter().rev().find_map(|said| match said {
        Action::Report { report, .. } if report.target == TargetId(0) => Some(report.nonce),
        _ => None,
    });
    let grant = mainstay_core::message::Grant {
        target: TargetId(0),
        epoch: 1,
        nonce: nonce.expect("a report"),
        rate: [CostRate::whole(10); 8],
        standby: CostRate::whole(5),
        capacity: CostRate::whole(100),
        ramp: 100,
        offer: Default::default(),
        ttft: Duration::ZERO,
        miss: 0,
        slow: 1,
        elapsed: Duration::ZERO,
    };
    rig.hear(Event::Grant(grant));
    let held = rig.gateway.targets().get(TargetId(0)).held.rates(rig.now);
    assert_eq!(held, Some((CostRate::whole(8), CostRate::ZERO)));
}
