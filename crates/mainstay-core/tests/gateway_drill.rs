//! A drill at a gateway: what is broken and told, what it must not take out, and what stops it.

use mainstay_core::config::{
    Config, Continuation, Limits, Model, Needs, Service, Site, SiteKind, Target, Tier,
};
use mainstay_core::cost::CostRate;
use mainstay_core::drill::{BLAST_CAP, Breakage, End, LASTS_MAX, Plan, Refusal};
use mainstay_core::fact::{DrillFact, Fact, Why};
use mainstay_core::gateway::drill::Phase;
use mainstay_core::gateway::request::{Ask, Broken, Report, Sent};
use mainstay_core::gateway::{Action, Event, Gateway, Start};
use mainstay_core::message::{Order, OrderId, Verb};
use mainstay_core::names::{
    ErrorClass, Failure, ModelId, RequestId, Scope, SiteId, TargetId, TierId,
};
use mainstay_core::time::{Duration, Time};

/// A gateway with its clock and all that it said of drills.
struct Rig {
    gateway: Gateway,
    now: Time,
    requests: u64,
    facts: Vec<DrillFact>,
    starts: Vec<Start>,
}

fn site(at: u16, kind: SiteKind) -> Site {
    Site { name: format!("site-{at}"), capacity: None, kind, auth_strikes: 1 }
}

impl Rig {
    /// In front of equals at so many providers, which carry this by plan.
    fn with(carries: &[u64]) -> Rig {
        let count = carries.len() as u16;
        let target = |at: u16| Target {
            site: SiteId(at),
            model: "m".into(),
            window: None,
            output_max: None,
            offers: Needs::all(),
            continuation: Continuation::Native,
            labels: 0,
            home: 0,
            tiers: 0xff,
        };
        let model = Model {
            name: "chat".into(),
            served_by: (0..count).map(TargetId).collect(),
            substitutes: Vec::new(),
            substitutes_may_finish: true,
        };
        let mut config = Config {
            sites: (0..count).map(|at| site(at, SiteKind::Provider)).collect(),
            targets: (0..count).map(target).collect(),
            models: vec![model],
            families: Vec::new(),
            tiers: vec![
                Tier { name: "pro".into(), floor: 0.25 },
                Tier { name: "batch".into(), floor: 0.0 },
            ],
            limits: Limits::default(),
            fleet: Default::default(),
        };
        // Two gateways, so that orders and doubt count.
        config.fleet.gateways = 2;
        let sites = carries.iter().map(|units| CostRate::whole(*units)).collect();
        config.fleet.service = Service { sites, ..Service::default() };
        let now = Time::from_micros(1_000_000_000);
        let (facts, starts) = Default::default();
        Rig { gateway: Gateway::new(config, 7), now, requests: 0, facts, starts }
    }

    fn hear(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.gateway.handle(self.now, event, &mut actions);
        for action in actions {
            match action {
                Action::Fact(Fact::Drill(fact)) => self.facts.push(fact),
                Action::Start(start) => self.starts.push(start),
                _ => {}
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.hear(Event::Tick);
    }

    /// A client of this tier asks; the attempt that is started for it.
    fn arrive(&mut self, tier: u8) -> Start {
        self.requests += 1;
        let ask = Ask { tier: TierId(tier), choices: 1, ..Ask::default() };
        self.hear(Event::Arrive { request: RequestId(self.requests), ask });
        self.starts.last().expect("an attempt was started").clone()
    }

    fn breaks(&mut self, start: &Start) {
        let broken = Broken {
            failure: Failure::ours(ErrorClass::Dead(Scope::Site), "refused"),
            why: Why::Reply,
            sent: Sent::Nothing,
            stale: false,
            quiet: Duration::ZERO,
            report: Report::default(),
        };
        self.hear(Event::Broken { attempt: start.attempt, broken });
    }

    /// Answers a request well, whatever a drill does to its attempts.
    fn serve(&mut self, mut start: Start) {
        while start.broken.is_some() {
            self.breaks(&start);
            start = self.starts.last().expect("it goes on elsewhere").clone();
        }
        let after = Duration::from_millis(50);
        self.hear(Event::FirstToken { attempt: start.attempt, after });
        self.hear(Event::Whole { attempt: start.attempt, report: Report::default() });
    }

    fn refusal(&self, plan: &Plan) -> Option<Refusal> {
        self.gateway.drill_refusal(self.now, plan)
    }

    fn ended(&self) -> Option<End> {
        self.gateway.drill().and_then(|drill| drill.ended()).map(|(_, why)| why)
    }
}

fn plan() -> Plan {
    Plan {
        id: 1,
        site: SiteId(0),
        breakage: Breakage::Down,
        percent: 100,
        before: Duration::from_secs(2),
        lasts: Duration::from_secs(60),
        blast_cap: BLAST_CAP,
        floors: vec![95, 0],
    }
}

#[test]
fn it_is_told_when_it_is_accepted_begins_breaks_and_ends() {
    let mut rig = Rig::with(&[10, 10, 10]);
    rig.hear(Event::Drill(plan()));
    let start = rig.arrive(0);
    assert_eq!(start.broken, None, "not yet");
    rig.serve(start);
    rig.pass(Duration::from_secs(2));
    for _ in 0..10 {
        let start = rig.arrive(0);
        assert_eq!(start.broken.is_some(), start.site == SiteId(0), "{start:?}");
        rig.serve(start);
    }
    rig.pass(Duration::from_secs(60));
    let told = |wanted: &dyn Fn(&DrillFact) -> bool| rig.facts.iter().any(wanted);
    let (site, why) = (SiteId(0), End::Time);
    assert!(told(&|fact| matches!(fact, DrillFact::Accepted { percent: 100, .. })));
    assert!(told(&|fact| matches!(fact, DrillFact::Began { .. })));
    assert!(told(&|fact| matches!(fact, DrillFact::Broke { target: TargetId(0), .. })));
    assert_eq!(rig.facts.last(), Some(&DrillFact::Ended { site, why }));
    assert_eq!(rig.gateway.drill().map(|drill| drill.phase(rig.now)), Some(Phase::After));
    let start = rig.arrive(0);
    assert_eq!(start.broken, None, "it is over");
}

#[test]
fn a_drill_has_bounds_and_there_is_one_at_a_time() {
    let mut rig = Rig::with(&[10, 10, 10]);
    let long = LASTS_MAX + Duration::from_secs(1);
    let wrong = [
        (Plan { site: SiteId(3), ..plan() }, Refusal::UnknownSite),
        (Plan { percent: 0, ..plan() }, Refusal::Share),
        (Plan { blast_cap: 101, ..plan() }, Refusal::Share),
        (Plan { lasts: Duration::ZERO, ..plan() }, Refusal::Time),
        (Plan { lasts: long, ..plan() }, Refusal::Time),
        (Plan { before: long, ..plan() }, Refusal::Time),
        (Plan { blast_cap: 33, ..plan() }, Refusal::BlastCap(34)),
    ];
    for (plan, why) in wrong {
        assert_eq!(rig.refusal(&plan), Some(why), "{plan:?}");
    }
    rig.hear(Event::Drill(plan()));
    rig.hear(Event::Drill(Plan { id: 2, ..plan() }));
    let (site, why) = (SiteId(0), Refusal::Running);
    assert_eq!(rig.facts.last(), Some(&DrillFact::Refused { site, why }));
    rig.hear(Event::StopDrill(2));
    assert_eq!(rig.ended(), None, "that is another one");
    rig.hear(Event::StopDrill(1));
    assert_eq!(rig.ended(), Some(End::Stopped));
    assert_eq!(rig.refusal(&plan()), None);
}

#[test]
fn the_last_site_and_more_than_may_go_are_not_taken_out() {
    assert_eq!(Rig::with(&[10]).refusal(&plan()), Some(Refusal::LastSite(ModelId(0))));
    let all = Plan { blast_cap: 100, ..plan() };
    assert_eq!(Rig::with(&[10, 10]).refusal(&all), None);
    assert_eq!(Rig::with(&[90, 10]).refusal(&all), Some(Refusal::TooLittle(ModelId(0))));
    let mut rig = Rig::with(&[10, 10, 10]);
    let drained = Order {
        id: OrderId { author: 1, seq: 1 },
        authority: 0,
        verb: Verb::Drain,
        site: Some(SiteId(1)),
        reason: "a test".into(),
        left: Duration::from_secs(600),
    };
    rig.hear(Event::Orders(vec![drained]));
    assert_eq!(rig.refusal(&all), Some(Refusal::TooLittle(ModelId(0))), "two of three");
}

#[test]
fn an_engine_in_this_process_is_no_other_site() {
    let mut rig = Rig::with(&[0, 0]);
    let mut config = rig.gateway.config().clone();
    config.sites[1].kind = SiteKind::Embedded;
    rig.hear(Event::Adopt(Box::new(config)));
    let all = Plan { blast_cap: 100, ..plan() };
    assert_eq!(rig.refusal(&all), Some(Refusal::LastSite(ModelId(0))));
    let engine = Plan { site: SiteId(1), ..all };
    assert_eq!(rig.refusal(&engine), None, "the engine itself may be broken");
}

#[test]
fn it_stops_when_a_tier_falls_below_its_floor() {
    let mut rig = Rig::with(&[10, 10, 10]);
    rig.hear(Event::Drill(Plan { before: Duration::ZERO, ..plan() }));
    for _ in 0..40 {
        let mut start = rig.arrive(0);
        // Nobody else answers either, without being at fault.
        for _ in 0..3 {
            let failure = Failure::ours(ErrorClass::Overload, "full");
            let (why, sent) = (Why::Reply, Sent::Maybe);
            let (quiet, report) = Default::default();
            let broken = Broken { failure, why, sent, stale: false, quiet, report };
            rig.hear(Event::Broken { attempt: start.attempt, broken });
            start = rig.starts.last().expect("started").clone();
        }
        rig.pass(Duration::from_millis(100));
        if rig.ended().is_some() {
            break;
        }
    }
    assert!(matches!(rig.ended(), Some(End::Floor(TierId(0), share)) if share < 95));
}

#[test]
fn it_stops_when_another_site_goes_out_and_does_not_begin_before_it_is_back() {
    let mut rig = Rig::with(&[10, 10, 10]);
    rig.hear(Event::Drill(Plan { before: Duration::ZERO, ..plan() }));
    for _ in 0..40 {
        let start = rig.arrive(1);
        match start.site {
            SiteId(1) => rig.breaks(&start),
            _ => rig.serve(start),
        }
        let last = rig.starts.last().expect("started").clone();
        rig.serve(last);
        rig.pass(Duration::from_millis(400));
        if rig.ended().is_some() {
            break;
        }
    }
    assert_eq!(rig.ended(), Some(End::Gone(SiteId(1))));
    assert_eq!(rig.refusal(&plan()), Some(Refusal::Gone(SiteId(1))));
}

#[test]
fn it_stops_when_the_gateway_doubts_itself_or_gets_another_policy() {
    let mut rig = Rig::with(&[10, 10, 10]);
    rig.hear(Event::Drill(plan()));
    rig.hear(Event::Lag(Duration::from_secs(2)));
    assert_eq!(rig.ended(), Some(End::Doubt));
    assert_eq!(rig.refusal(&plan()), Some(Refusal::Doubt));
    let mut rig = Rig::with(&[10, 10, 10]);
    rig.hear(Event::Drill(plan()));
    let config = rig.gateway.config().clone();
    rig.hear(Event::Adopt(Box::new(config)));
    assert_eq!(rig.ended(), Some(End::Policy));
}

#[test]
fn what_the_blast_cap_spares_is_told_once() {
    let mut rig = Rig::with(&[0, 0, 0]);
    let wide = Plan { percent: 2, blast_cap: 1, before: Duration::ZERO, ..plan() };
    assert_eq!(rig.refusal(&wide), None, "by plan it breaks less");
    rig.hear(Event::Drill(wide));
    // Of three sites the first gets the most: more is asked there than by plan.
    for _ in 0..20_000 {
        let start = rig.arrive(0);
        rig.serve(start);
        rig.now = rig.now + Duration::from_millis(2);
    }
    let capped = rig.facts.iter().filter(|fact| matches!(fact, DrillFact::Capped { .. }));
    assert_eq!(capped.count(), 1);
    let (attempts, broken) = rig.gateway.drill().expect("a drill").blast();
    assert!(broken <= (attempts / 100).max(20), "{broken} of {attempts}");
}
