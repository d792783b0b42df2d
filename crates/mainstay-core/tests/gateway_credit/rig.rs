//! A gateway in front of sites of ours, with its clock and all that it said.

use super::*;
use mainstay_core::rng::mix;

/// A gateway with its clock, three sites of ours and all that was said.
pub struct Rig {
    pub gateway: Gateway,
    pub now: Time,
    pub requests: u64,
    /// What each costs.
    pub cost: CostUnits,
    pub facts: Vec<Fact>,
    pub starts: Vec<Start>,
    pub ends: Vec<Close>,
    pub reports: BTreeMap<TargetId, Report>,
}

pub fn config() -> Config {
    let site = |at: u16| Site {
        name: format!("site-{at}"),
        capacity: None,
        kind: SiteKind::Node,
        auth_strikes: 1,
    };
    let target = |at: u16, home: u16| Target {
        site: SiteId(at),
        model: "m".into(),
        window: None,
        output_max: None,
        offers: Needs::all(),
        continuation: Continuation::Native,
        labels: 0b11,
        home,
        tiers: ALL_TIERS,
    };
    let model = Model {
        name: "chat".into(),
        served_by: (0..3).map(TargetId).collect(),
        substitutes: Vec::new(),
        substitutes_may_finish: true,
    };
    let tier = |name: &str, floor| Tier { name: name.into(), floor };
    Config {
        sites: (0..3).map(site).collect(),
        targets: vec![target(0, 400), target(1, 350), target(2, 250)],
        models: vec![model],
        families: Vec::new(),
        tiers: vec![tier("enterprise", 0.4), tier("pro", 0.25), tier("free", 0.05)],
        limits: Limits::default(),
        fleet: Default::default(),
    }
}

impl Rig {
    pub fn new() -> Rig {
        Rig::with(config())
    }

    pub fn with(config: Config) -> Rig {
        let gateway = Gateway::new(config, 7);
        let (facts, starts, ends, reports) = Default::default();
        let now = Time::from_micros(86_400_000_000);
        let cost = CostUnits::whole(1);
        let mut rig = Rig { gateway, now, requests: 0, cost, facts, starts, ends, reports };
        rig.hear(Event::Tick);
        rig
    }

    pub fn hear(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.gateway.handle(self.now, event, &mut actions);
        for action in actions {
            match action {
                Action::Fact(fact) => self.facts.push(fact),
                Action::Start(start) => self.starts.push(start),
                Action::Close { close, .. } => self.ends.push(close),
                Action::Report { report, .. } => {
                    self.reports.insert(report.target, report);
                }
                Action::GiveUp { .. }
                | Action::Digest { .. }
                | Action::Probe { .. }
                | Action::Answers(_) => {}
            }
        }
    }

    /// Time passes, and whatever is due is done.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((at, _)) = self.gateway.deadline().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            self.hear(Event::Tick);
        }
        self.now = end;
    }

    /// A site answers its last report.
    pub fn grants(&mut self, target: u16, rate: PerTier<u64>, standby: u64) {
        let target = TargetId(target);
        let grant = Grant {
            nonce: self.reports[&target].nonce,
            rate: rate.map(CostRate::whole),
            standby: CostRate::whole(standby),
            elapsed: self.now.since(Time::ZERO),
            ..no_credit(target)
        };
        self.hear(Event::Grant(grant));
    }

    /// The same, and says how many times as slow as usual it is and when a first token comes.
    pub fn says(&mut self, target: u16, rate: PerTier<u64>, (slow, ttft): (u8, Duration)) {
        let target = TargetId(target);
        let grant = Grant {
            nonce: self.reports[&target].nonce,
            rate: rate.map(CostRate::whole),
            elapsed: self.now.since(Time::ZERO),
            slow,
            ttft,
            ..no_credit(target)
        };
        self.hear(Event::Grant(grant));
    }

    /// All three sites answer, and enough time passes that some of it can be spent.
    pub fn all_grant(&mut self, rate: PerTier<u64>, standby: u64) {
        self.pass(REPORT);
        for target in 0..3 {
            self.grants(target, rate, standby);
        }
        self.pass(Duration::from_millis(100));
    }

    pub fn asks(&mut self, tier: u8, session: u64) {
        self.requests += 1;
        let ask = Ask {
            model: ModelId(0),
            tier: TierId(tier),
            prompt: 1000,
            choices: 1,
            tenant: session as u32,
            session: Some(session),
            labels: 0b01,
            cost: self.cost,
            ..Ask::default()
        };
        self.hear(Event::Arrive { request: RequestId(mix(self.requests, 1)), ask });
    }

    /// A client asks; the attempt that is started for it, and what the site is told.
    #[track_caller]
    pub fn arrive(&mut self, tier: u8, session: u64) -> (Start, Open) {
        let before = self.starts.len();
        self.asks(tier, session);
        assert_eq!(self.starts.len(), before + 1, "one attempt: {:#?}", self.ends);
        self.latest()
    }

    #[track_caller]
    pub fn latest(&self) -> (Start, Open) {
        let start = self.starts.last().expect("an attempt").clone();
        let open = start.open.expect("told to a site of ours");
        (start, open)
    }

    pub fn refuses(&mut self, start: &Start, reason: Reason, cut: bool) {
        let retry_after = Duration::from_secs(1);
        let refuse = Refuse { attempt: start.attempt, reason, retry_after, cut };
        self.hear(Event::Refused(refuse));
    }

    pub fn breaks(&mut self, start: &Start, tokens: u32) {
        let standing = Standing {
            relayed: tokens > 0,
            answered: tokens > 0,
            tokens,
            open: vec![0],
            ..Standing::default()
        };
        let broken = Broken {
            failure: Failure::ours(ErrorClass::Dead(Scope::Site), "refused"),
            why: Why::Reply,
            sent: Sent::Maybe,
            stale: false,
            quiet: Duration::ZERO,
            report: Left { tokens, standing, ..Left::default() },
        };
        self.hear(Event::Broken { attempt: start.attempt, broken });
    }

    pub fn whole(&mut self, start: &Start) {
        self.hear(Event::Whole { attempt: start.attempt, report: Left::default() });
    }

    /// Makes a site leave UP by its own failures.
    pub fn fails(&mut self, target: u16) {
        for session in 0..10_000 {
            if self.verdict(target) != Verdict::Up {
                return;
            }
            let before = self.starts.len();
            self.asks(ENTERPRISE, session << 40);
            let Some(start) = self.starts.get(before).cloned() else { continue };
            if start.target == TargetId(target) {
                self.breaks(&start, 0);
            }
            let last = self.starts.last().expect("an attempt").clone();
            self.whole(&last);
            self.pass(Duration::from_millis(20));
        }
        panic!("it must leave UP");
    }

    pub fn verdict(&self, target: u16) -> Verdict {
        self.gateway.targets().get(TargetId(target)).health.verdict()
    }

    #[track_caller]
    pub fn told(&self, what: &str, is: impl Fn(&CreditFact) -> bool) {
        let is_it = |fact: &Fact| matches!(fact, Fact::Credit(credit) if is(credit));
        assert!(self.facts.iter().any(is_it), "{what} is not among {:#?}", self.facts);
    }
}
