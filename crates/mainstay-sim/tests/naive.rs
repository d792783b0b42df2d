//! The naive baseline collapses where real systems did, and stays down; without that, passing a
//! scenario would mean little.
//!
//! A toy world: three sites of 100 like requests a second, one gateway, no network delay; a worker
//! answers at once what its site hands to it. A site is gone from 60 s to 180 s.

use mainstay_core::config::{
    Config, Continuation, Fleet, Limits, Model, Needs, Pool, Service, Site, SiteConfig, SiteKind,
    Target, Tier,
};
use mainstay_core::cost::{CostRate, CostUnits};
use mainstay_core::fact::{Fact, Why};
use mainstay_core::gateway::request::{Ask, Broken, Report, Sent};
use mainstay_core::gateway::{Action, Close, Event, Probe, Start};
use mainstay_core::lease::Terms;
use mainstay_core::names::{
    ErrorClass, Failure, RequestId, Scope, SiteId, TargetId, Work, WorkerId,
};
use mainstay_core::rng::Rng;
use mainstay_core::site;
use mainstay_core::time::{Duration, Time};
use mainstay_sim::calendar::Calendar;
use mainstay_sim::naive::{NaiveGateway, NaiveSite};

const SITE_RATE: u64 = 100;
const GONE: std::ops::Range<u64> = 60..180;
const END: u64 = 420;
const WORKER: WorkerId = WorkerId(0);

fn gateway_config() -> Config {
    let site = |name: &str| Site {
        name: name.into(),
        capacity: None,
        kind: SiteKind::Node,
        auth_strikes: 1,
    };
    let target = |number: u16, home| Target {
        site: SiteId(number),
        model: "m".into(),
        window: None,
        output_max: None,
        offers: Needs::default(),
        continuation: Continuation::None,
        tiers: mainstay_core::config::ALL_TIERS,
        labels: 0,
        home,
    };
    Config {
        sites: vec![site("A"), site("B"), site("C")],
        targets: vec![target(0, 400), target(1, 350), target(2, 250)],
        models: vec![Model {
            name: "m".into(),
            served_by: vec![TargetId(0), TargetId(1), TargetId(2)],
            substitutes: Vec::new(),
            substitutes_may_finish: false,
        }],
        families: Vec::new(),
        tiers: vec![Tier { name: "all".into(), floor: 0.0 }],
        limits: Limits::default(),
        fleet: Fleet::default(),
    }
}

fn site_config(number: u16) -> SiteConfig {
    SiteConfig {
        site: SiteId(number),
        pools: vec![Pool {
            target: TargetId(number),
            labels: 0,
            median: CostUnits::whole(1),
            promise: Duration::from_secs(2),
        }],
        tiers: gateway_config().tiers,
        in_time: vec![Duration::from_secs(5)],
        patience: vec![Duration::from_secs(5)],
        gateways: 1,
        service: Service::default(),
        credit: Terms::CREDIT,
        overcommit: 5,
        slack: 25,
        standby: 10,
    }
}

fn new_site(now: Time, number: u16) -> NaiveSite {
    let mut site = NaiveSite::new(site_config(number), now, 1, 1);
    let state = site::WorkerState::Up {
        target: TargetId(number),
        capacity: CostRate::whole(SITE_RATE),
        streams: 800,
        cold: false,
    };
    site.handle(now, site::Event::Worker { worker: WORKER, state }, &mut Vec::new());
    site
}

/// What happens in the toy world.
enum Moment {
    Arrive,
    Gateway,
    Site(usize),
    Gone,
    Back,
}

/// The world, with what came of the requests of each second.
struct Toy {
    gateway: NaiveGateway,
    sites: [Option<NaiveSite>; 3],
    calendar: Calendar<Moment>,
    offered: Vec<u32>,
    good: Vec<u32>,
    arrived: Vec<u64>,
    attempts: u32,
    flips: u32,
    now: Time,
    /// When the machines are called again.
    gateway_next: Option<Time>,
    site_next: [Option<Time>; 3],
}

impl Toy {
    fn play(load: f64, surge: f64, seed: u64) -> Toy {
        let start = Time::from_micros(86_400_000_000);
        let mut toy = Toy {
            gateway: NaiveGateway::new(gateway_config(), seed),
            sites: [0, 1, 2].map(|number| Some(new_site(start, number))),
            calendar: Calendar::default(),
            offered: vec![0; END as usize],
            good: vec![0; END as usize],
            arrived: Vec::new(),
            attempts: 0,
            flips: 0,
            now: start,
            gateway_next: None,
            site_next: [None; 3],
        };
        toy.calendar.put(start, Moment::Arrive);
        toy.calendar.put(start + Duration::from_secs(GONE.start), Moment::Gone);
        toy.calendar.put(start + Duration::from_secs(GONE.end), Moment::Back);
        let mut rng = Rng::new(seed);
        while let Some((at, moment)) = toy.calendar.take() {
            toy.now = at;
            let second = at.since(start).as_secs();
            if second >= END {
                break;
            }
            match moment {
                Moment::Arrive => {
                    let surge = if GONE.contains(&second) { surge } else { 1.0 };
                    let rate = 3.0 * SITE_RATE as f64 * load * surge;
                    let pause = Duration::from_secs_f64(-(1.0 - rng.unit()).ln() / rate);
                    toy.calendar.put(at + pause, Moment::Arrive);
                    toy.arrive(second, &mut rng);
                }
                Moment::Gateway if toy.gateway_next == Some(at) => toy.tell(Event::Tick),
                Moment::Site(number) if toy.site_next[number] == Some(at) => {
                    toy.tell_site(number, site::Event::Tick);
                }
                Moment::Gateway | Moment::Site(_) => {}
                Moment::Gone => toy.sites[0] = None,
                Moment::Back => toy.sites[0] = Some(new_site(at, 0)),
            }
        }
        toy
    }

    fn arrive(&mut self, second: u64, rng: &mut Rng) {
        let request = RequestId(self.arrived.len() as u64);
        self.arrived.push(second);
        self.offered[second as usize] += 1;
        let cost = CostUnits::whole(1);
        let ask = Ask { session: Some(rng.bits()), prompt: 1000, cost, ..Ask::default() };
        self.tell(Event::Arrive { request, ask });
    }

    fn tell(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.gateway.handle(self.now, event, &mut actions);
        for action in actions {
            match action {
                Action::Start(start) => self.start(start),
                Action::Probe { target, probe: Probe::Shallow } => {
                    let site = &self.sites[usize::from(target.0)];
                    let good = site.as_ref().is_some_and(|site| site.is_healthy(self.now));
                    self.tell(Event::Probed { target, probe: Probe::Shallow, good });
                }
                Action::Fact(Fact::Health { .. }) => self.flips += 1,
                Action::Close { request, close: Close::Done } => {
                    self.good[self.arrived[request.0 as usize] as usize] += 1;
                }
                _ => {}
            }
        }
        let next = self.gateway.deadline().map(|(at, _)| at);
        if let Some(at) = next
            && self.gateway_next.is_none_or(|planned| at < planned || planned <= self.now)
        {
            self.gateway_next = Some(at);
            self.calendar.put(at, Moment::Gateway);
        }
    }

    fn start(&mut self, start: Start) {
        self.attempts += 1;
        let number = usize::from(start.site.0);
        match start.open {
            Some(open) if self.sites[number].is_some() => {
                self.tell_site(number, site::Event::Open(open));
            }
            _ => {
                let failure = Failure::ours(ErrorClass::Dead(Scope::Site), "");
                let why = Why::Reply;
                let (sent, quiet) = (Sent::Nothing, Duration::ZERO);
                let report = Report::default();
                let broken = Broken { failure, why, sent, stale: false, quiet, report };
                self.tell(Event::Broken { attempt: start.attempt, broken });
            }
        }
    }

    fn tell_site(&mut self, number: usize, event: site::Event) {
        let Some(site) = &mut self.sites[number] else { return };
        let mut actions = Vec::new();
        site.handle(self.now, event, &mut actions);
        let mut next = site.deadline().map(|(at, _)| at);
        for action in actions {
            match action {
                site::Action::Dispatch { work, .. } => {
                    next = self.answer(number, work);
                }
                site::Action::Refuse { refuse, .. } => self.tell(Event::Refused(refuse)),
                _ => {}
            }
        }
        let planned = &mut self.site_next[number];
        if let Some(at) = next
            && planned.is_none_or(|planned| at < planned || planned <= self.now)
        {
            *planned = Some(at);
            self.calendar.put(at, Moment::Site(number));
        }
    }

    /// The worker answers at once; to attempts given up nobody listens.
    fn answer(&mut self, number: usize, work: Work) -> Option<Time> {
        let Work { attempt, .. } = work;
        let after = Duration::from_millis(1);
        self.tell(Event::FirstToken { attempt, after });
        self.tell(Event::Whole { attempt, report: Report::default() });
        let site = self.sites[number].as_mut()?;
        let cost = CostUnits::whole(1);
        site.handle(self.now, site::Event::Ended { work, cost }, &mut Vec::new());
        site.deadline().map(|(at, _)| at)
    }

    fn good(&self, seconds: std::ops::Range<u64>) -> f64 {
        let range = seconds.start as usize..seconds.end as usize;
        let good: u32 = self.good[range.clone()].iter().sum();
        f64::from(good) / f64::from(self.offered[range].iter().sum::<u32>())
    }

    /// Good in the outage, in the first and in the fourth minute after the return.
    fn story(load: f64, surge: f64) -> [f64; 3] {
        let toy = Toy::play(load, surge, 7);
        let story = [toy.good(GONE), toy.good(180..240), toy.good(360..420)];
        let attempts = f64::from(toy.attempts) / toy.arrived.len() as f64;
        println!(
            "{load} x {surge}: good {story:.3?}, attempts x{attempts:.2}, {} flips",
            toy.flips
        );
        story
    }
}

#[test]
fn the_naive_baseline_survives_the_loss_of_a_site_when_the_others_can_carry_it() {
    let [outage, first, fourth] = Toy::story(0.65, 1.0);
    assert!(outage > 0.97, "{outage}");
    assert!(first > 0.98 && fourth > 0.98, "{first} {fourth}");
}

#[test]
fn the_naive_baseline_collapses_in_a_surge_and_stays_down_when_the_site_is_back() {
    for (load, surge) in [(0.65, 1.3), (0.8, 1.3)] {
        let [outage, _, fourth] = Toy::story(load, surge);
        assert!(outage < 0.3, "{load} x {surge}: {outage} in the outage");
        assert!(fourth < 0.1, "{load} x {surge}: {fourth} in the fourth minute after it");
    }
}
