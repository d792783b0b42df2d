//! A gateway among peers that is told anything at all, from seeds: what it makes of hearsay, how it
//! says that sites stand, and whom it refuses.

use mainstay_core::config::{
    ALL_TIERS, Config, Continuation, Limits, Model, Needs, Site, SiteKind, Target, Tier,
};
use mainstay_core::cost::{CostRate, CostUnits};
use mainstay_core::fact::{CreditFact, Fact, Verdict, Why};
use mainstay_core::gateway::request::{Ask, Broken, Report as Left, Sent};
use mainstay_core::gateway::{Action, Close, Event, Gateway, Probe, Start};
use mainstay_core::message::{Digest, Grant, Offer, Reason, Refuse, Report};
use mainstay_core::names::{
    ErrorClass, Failure, GatewayId, ModelId, RequestId, Scope, SiteId, TargetId, TierId,
};
use mainstay_core::rng::Rng;
use mainstay_core::time::{Duration, Time};
use std::collections::{BTreeMap, BTreeSet};

const SITES: u16 = 6;
const GATEWAYS: u16 = 5;
const TIERS: u8 = 3;
const SECOND: Duration = Duration::from_secs(1);

fn config() -> Config {
    let site = |at: u16| Site {
        name: format!("site-{at}"),
        capacity: None,
        kind: if at + 1 == SITES { SiteKind::Provider } else { SiteKind::Node },
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
        home: 200,
        tiers: ALL_TIERS,
    };
    let model = |name: &str, served_by: std::ops::Range<u16>| Model {
        name: name.into(),
        served_by: served_by.map(TargetId).collect(),
        substitutes: vec![TargetId(0)],
        substitutes_may_finish: true,
    };
    let tier = |name: &str, floor| Tier { name: name.into(), floor };
    let mut config = Config {
        sites: (0..SITES).map(site).collect(),
        targets: (0..SITES).map(target).collect(),
        models: vec![
            model("chat", 0..SITES),
            model("other", 3..SITES),
            model("ours", 0..SITES - 1),
        ],
        families: Vec::new(),
        tiers: vec![tier("enterprise", 0.4), tier("pro", 0.25), tier("free", 0.05)],
        limits: Limits::default(),
        fleet: Default::default(),
    };
    config.fleet.gateways = GATEWAYS;
    config
}

/// A gateway, what is drawn for it, and what must be true of all that it says.
struct Bed {
    seed: u64,
    rng: Rng,
    gateway: Gateway,
    now: Time,
    began: Time,
    requests: u64,
    open: Vec<Start>,
    reports: BTreeMap<TargetId, Report>,
    digests: u64,
    ticks: u64,
    shed: BTreeSet<(ModelId, TierId)>,
    in_doubt: bool,
    /// When a site that nothing was tried at left UP.
    removed: Vec<(Time, TargetId)>,
}

impl Bed {
    fn new(seed: u64) -> Bed {
        let now = Time::from_micros(86_400_000_000);
        let mut bed = Bed {
            seed,
            rng: Rng::new(seed),
            gateway: Gateway::new(config(), seed),
            now,
            began: now,
            requests: 0,
            open: Vec::new(),
            reports: BTreeMap::new(),
            digests: 0,
            ticks: 0,
            shed: BTreeSet::new(),
            in_doubt: false,
            removed: Vec::new(),
        };
        bed.hear(Event::Tick);
        bed
    }

    fn hear(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.gateway.handle(self.now, event, &mut actions);
        for action in actions {
            self.said(action);
        }
    }

    #[track_caller]
    fn said(&mut self, action: Action) {
        let seed = self.seed;
        match action {
            Action::Start(start) => self.open.push(start),
            Action::Close { request, close } => {
                self.open.retain(|start| start.attempt.request != request);
                let Close::Error(refusal) = close else { return };
                let back = refusal.retry_after.unwrap_or(SECOND);
                assert!(back <= Duration::from_secs(450), "seed {seed}: back in {back:?}");
                assert!(![401, 402, 403].contains(&refusal.status), "seed {seed}: {refusal:?}");
            }
            Action::GiveUp { attempt } => self.open.retain(|start| start.attempt != attempt),
            Action::Report { report, .. } => {
                self.reports.insert(report.target, report);
            }
            Action::Digest { to, digest } => {
                self.digests += 1;
                assert!(to != digest.from && to.0 < GATEWAYS, "seed {seed}: a digest to {to:?}");
                assert!(digest.failing <= 1000, "seed {seed}: {digest:?}");
                assert!(digest.heard.len() <= usize::from(GATEWAYS), "seed {seed}: {digest:?}");
            }
            Action::Probe { target, .. } => {
                assert!(target.0 < SITES, "seed {seed}: a probe of {target:?}");
            }
            Action::Answers(set) => {
                assert!(set.iter().any(|(_, weight)| *weight > 0), "seed {seed}: names nobody");
            }
            Action::Fact(Fact::Credit(fact)) => self.told(&fact),
            Action::Fact(Fact::Health { target, from: Verdict::Up, why, .. }) => {
                if why.starts_with("probes") {
                    self.removed.push((self.now, target));
                }
            }
            Action::Fact(_) => {}
        }
    }

    /// What begins has not begun, and what ends had.
    #[track_caller]
    fn told(&mut self, fact: &CreditFact) {
        let seed = self.seed;
        match *fact {
            CreditFact::SheddingBegan { model, tier } => {
                assert!(self.shed.insert((model, tier)), "seed {seed}: begins twice: {fact:?}");
            }
            CreditFact::SheddingEnded { model, tier } => {
                assert!(self.shed.remove(&(model, tier)), "seed {seed}: never began: {fact:?}");
            }
            CreditFact::Doubt { is_in_doubt } => {
                assert_ne!(is_in_doubt, self.in_doubt, "seed {seed}: told twice");
                self.in_doubt = is_in_doubt;
            }
            _ => {}
        }
    }

    /// Time passes, and whatever is due is done.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((at, why)) = self.gateway.deadline().filter(|(at, _)| *at <= end) {
            let before = self.now;
            self.now = self.now.max(at);
            self.ticks = if self.now == before { self.ticks + 1 } else { 0 };
            assert!(self.ticks < 10, "seed {}: time stands still for {why}", self.seed);
            self.hear(Event::Tick);
        }
        self.now = end;
    }

    fn target(&mut self) -> TargetId {
        TargetId(self.rng.below(u64::from(SITES)) as u16)
    }

    fn asks(&mut self) {
        self.requests += 1;
        let ask = Ask {
            model: ModelId(self.rng.below(2) as u16),
            tier: TierId(self.rng.below(u64::from(TIERS)) as u8),
            prompt: 100,
            choices: 1,
            tenant: self.rng.below(50) as u32,
            session: Some(self.rng.bits()),
            cost: CostUnits(1 + self.rng.below(3000)),
            ..Ask::default()
        };
        self.hear(Event::Arrive { request: RequestId(self.requests), ask });
    }

    /// Something becomes of an attempt.
    fn goes_on(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let at = self.rng.below(self.open.len() as u64) as usize;
        let start = self.open.swap_remove(at);
        let attempt = start.attempt;
        let event = match self.rng.below(6) {
            0 | 1 => Event::Whole { attempt, report: Left::default() },
            2 if start.open.is_some() => Event::Refused(Refuse {
                attempt,
                reason: Reason::Overloaded,
                retry_after: Duration::from_millis(self.rng.below(400_000)),
                cut: self.rng.below(2) == 0,
            }),
            3 => Event::Gone { request: attempt.request, report: Left::default() },
            4 => {
                self.open.push(start);
                Event::FirstToken { attempt, after: Duration::from_millis(self.rng.below(3000)) }
            }
            _ => Event::Broken { attempt, broken: self.broken() },
        };
        self.hear(event);
    }

    fn broken(&mut self) -> Broken {
        let classes = [
            ErrorClass::Dead(Scope::Site),
            ErrorClass::Transient,
            ErrorClass::Overload,
            ErrorClass::ThrottleAccount,
            ErrorClass::OurAuth,
        ];
        Broken {
            failure: Failure::ours(classes[self.rng.below(5) as usize], "drawn"),
            why: Why::Reply,
            sent: if self.rng.below(2) == 0 { Sent::Nothing } else { Sent::Maybe },
            stale: self.rng.below(4) == 0,
            quiet: Duration::from_millis(self.rng.below(5000)),
            report: Left::default(),
        }
    }

    fn grants(&mut self) {
        let target = self.target();
        let Some(nonce) = self.reports.get(&target).map(|report| report.nonce) else { return };
        let mut grant = Grant {
            target,
            epoch: 1,
            nonce,
            rate: Default::default(),
            standby: CostRate::whole(self.rng.below(10)),
            capacity: CostRate::whole(100),
            ramp: 100,
            offer: Offer::Open,
            ttft: Duration::from_millis(self.rng.below(5000)),
            miss: 100,
            slow: 1,
            elapsed: self.now.since(self.began),
        };
        for rate in &mut grant.rate[..usize::from(TIERS)] {
            *rate = CostRate::whole(self.rng.below(10));
        }
        self.hear(Event::Grant(grant));
    }

    fn hearsay(&mut self) {
        let verdicts = [Verdict::Suspect, Verdict::Down, Verdict::Probation, Verdict::Up];
        let age = |rng: &mut Rng| Duration::from_millis(rng.below(20_000));
        let verdict = verdicts[self.rng.below(4) as usize];
        // Also of what nobody here knows.
        let stranger = TargetId(self.rng.below(u64::from(SITES) + 2) as u16);
        let digest = Digest {
            from: GatewayId(self.rng.below(u64::from(GATEWAYS) + 1) as u16),
            nonce: self.rng.below(1000),
            verdicts: vec![(stranger, verdict, age(&mut self.rng))],
            spare: CostRate(self.rng.below(100_000)),
            in_doubt: self.rng.below(4) == 0,
            path: self.rng.below(4) == 0,
            probed: vec![(stranger, self.rng.below(2) == 0, age(&mut self.rng))],
            generation: 1,
            clean: Duration::ZERO,
            quarantined: Vec::new(),
            failing: self.rng.below(2000) as u16,
            orders: 0,
            hour: self.rng.below(5) as u32,
            heard: (0..self.rng.below(9)).map(|at| at as u8 * 31).collect(),
            elapsed: age(&mut self.rng),
        };
        self.hear(Event::Digest(digest));
    }

    fn probed(&mut self, good: bool) {
        let probe = if self.rng.below(4) == 0 { Probe::Token } else { Probe::Shallow };
        let target = self.target();
        self.hear(Event::Probed { target, probe, good });
    }

    fn anything(&mut self) {
        match self.rng.below(12) {
            0..=3 => self.asks(),
            4..=6 => self.goes_on(),
            7 | 8 => self.grants(),
            9 => self.hearsay(),
            10 => {
                let good = self.rng.below(2) == 0;
                self.probed(good);
            }
            _ => {
                let late = Duration::from_millis(self.rng.below(300));
                self.hear(Event::Lag(late));
            }
        }
    }

    /// How sites stand is told whole, alike when asked again, and agrees with itself.
    #[track_caller]
    fn outlook(&self) {
        let (seed, now) = (self.seed, self.now);
        let told = self.gateway.outlook(now, "other");
        assert_eq!(told, self.gateway.outlook(now, "other"), "seed {seed}: asking changes it");
        let names: Vec<&str> = told.sites.iter().map(|site| site.name.as_str()).collect();
        let all: Vec<String> = (0..SITES).map(|at| format!("site-{at}")).collect();
        assert_eq!(names, all, "seed {seed}");
        assert_eq!(told.models[0].name, "other", "seed {seed}: what was asked for comes first");
        assert_eq!(told.models.len(), 3, "seed {seed}");
        let answers = told.sites.iter().any(|site| site.condition.answers());
        assert_eq!(told.retry.is_none(), answers, "seed {seed}: {told:?}");
        assert!(told.sites.iter().all(|site| site.again != Some(Duration::ZERO)), "seed {seed}");
        for model in &told.models {
            // One target is one site here: who can answer is a site that answers.
            let able = model.by.iter().all(|at| told.sites[*at].condition.answers());
            assert!(able, "seed {seed}: {told:?}");
        }
        assert!(told.waiting <= self.gateway.open_requests(), "seed {seed}: {told:?}");
    }
}

#[test]
fn whatever_it_is_told_a_gateway_keeps_its_word_and_forgets_what_ended() {
    for seed in 0..60 {
        let mut bed = Bed::new(seed);
        for _ in 0..1500 {
            bed.anything();
            bed.outlook();
            let short = bed.rng.below(10);
            let pause = Duration::from_millis(bed.rng.below(1 << short));
            bed.pass(pause);
        }
        // As many digests a second, whatever happened: constant work.
        let seconds = bed.now.since(bed.began).as_secs();
        let (interval, each) = bed.gateway.config().fleet.digest;
        let paces = bed.now.since(bed.began).as_millis() / interval.as_millis();
        let most = (paces as u64 + 1) * u64::from(each);
        assert!(bed.digests <= most, "seed {seed}: {} in {seconds} s", bed.digests);
        assert!(bed.digests * 10 >= most * 8, "seed {seed}: {} in {seconds} s", bed.digests);
        for request in 1..=bed.requests {
            let request = RequestId(request);
            bed.hear(Event::Gone { request, report: Left::default() });
        }
        assert_eq!(bed.gateway.open_requests(), 0, "seed {seed}: what ended is kept");
        assert!(bed.gateway.outlook(bed.now, "").waiting == 0, "seed {seed}");
    }
}

#[test]
fn probes_and_peers_remove_a_third_in_ten_minutes_whatever_they_say() {
    let mut most = 0;
    for seed in 0..40 {
        let mut bed = Bed::new(seed);
        // Each seed's probes fail another share of the time.
        let fails = seed % 10 + 1;
        for _ in 0..1200 {
            bed.grants();
            bed.hearsay();
            let good = bed.rng.below(10) >= fails;
            bed.probed(good);
            bed.pass(SECOND);
        }
        let window = Duration::from_secs(600);
        for (at, _) in &bed.removed {
            let recent = bed.removed.iter().filter(|(t, _)| t <= at && at.since(*t) < window);
            let gone: BTreeSet<TargetId> = recent.map(|(_, target)| *target).collect();
            most = most.max(gone.len());
            // A third of six sites.
            assert!(gone.len() <= 2, "seed {seed}: {gone:?} by probes alone");
        }
    }
    assert!(most > 0, "nothing was ever removed: nothing was tried");
}

#[test]
fn with_room_for_all_nobody_is_refused_and_without_any_the_highest_come_first() {
    for seed in 0..20 {
        for (rate, is_enough) in [(40, true), (4, false)] {
            let mut bed = Bed::new(seed);
            let (mut asked, mut started) = ([0u32; 3], [0u32; 3]);
            for step in 0..600 {
                if step % 10 == 0 {
                    for target in 0..SITES - 1 {
                        bed.grants_alike(TargetId(target), rate);
                    }
                }
                let tier = bed.rng.below(3) as usize;
                let before = bed.open.len();
                bed.asks_for(tier as u8);
                if step >= 100 {
                    asked[tier] += 1;
                    started[tier] += u32::from(bed.open.len() > before);
                }
                while let Some(start) = bed.open.pop() {
                    bed.hear(Event::Whole { attempt: start.attempt, report: Left::default() });
                }
                bed.pass(Duration::from_millis(20));
            }
            let share = |tier: usize| f64::from(started[tier]) / f64::from(asked[tier].max(1));
            let all = [share(0), share(1), share(2)];
            if is_enough {
                assert!(all.iter().all(|share| *share > 0.99), "seed {seed}: {all:?}");
            } else {
                assert!(all[0] > 0.9 && all[0] >= all[2], "seed {seed}: {all:?}");
                assert!(all[2] < 0.9, "seed {seed}: {all:?}");
            }
        }
    }
}

impl Bed {
    /// A site grants so much to each tier.
    fn grants_alike(&mut self, target: TargetId, rate: u64) {
        let Some(nonce) = self.reports.get(&target).map(|report| report.nonce) else { return };
        let mut grant = Grant {
            target,
            epoch: 1,
            nonce,
            rate: Default::default(),
            standby: CostRate::ZERO,
            capacity: CostRate::whole(rate),
            ramp: 100,
            offer: Offer::Open,
            ttft: Duration::from_millis(300),
            miss: 100,
            slow: 1,
            elapsed: self.now.since(self.began),
        };
        // Twice what the lowest gets for the highest, as a site would that cannot serve all.
        grant.rate[..3].copy_from_slice(&[
            CostRate::whole(rate),
            CostRate::whole(rate / 2),
            CostRate::whole(rate / 4),
        ]);
        self.hear(Event::Grant(grant));
    }

    fn asks_for(&mut self, tier: u8) {
        self.requests += 1;
        let ask = Ask {
            model: ModelId(2),
            tier: TierId(tier),
            prompt: 1000,
            choices: 1,
            tenant: self.rng.below(500) as u32,
            session: Some(self.rng.bits()),
            cost: CostUnits::whole(1),
            ..Ask::default()
        };
        self.hear(Event::Arrive { request: RequestId(self.requests), ask });
    }
}
