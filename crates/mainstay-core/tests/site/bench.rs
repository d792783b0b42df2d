//! A site with workers that take time, and gateways that send to it by its credit: the machine's
//! real inputs, in virtual time. After every event its bounds are checked.

use mainstay_core::config::{Pool, Service, SiteConfig, Tier};
use mainstay_core::cost::{CostRate, CostUnits};
use mainstay_core::fact::SiteFact;
use mainstay_core::lease::{Holder, Terms};
use mainstay_core::message::{Grant, Open, Report, TIERS_MAX};
use mainstay_core::names::{AttemptId, GatewayId, RequestId, SiteId, TargetId, TierId};
use mainstay_core::names::{Work, WorkerId};
use mainstay_core::rng::Rng;
use mainstay_core::site::{Action, Event, Site, Standing, WorkerState};
use mainstay_core::time::{Duration, Time};
use std::collections::{BTreeMap, BTreeSet};

/// The model served.
pub const TARGET: TargetId = TargetId(3);
/// A request.
pub const COST: CostUnits = CostUnits::whole(1);
/// Between two reports.
const REPORT: Duration = Duration::from_millis(500);

/// One site with a hundred cost units a second, as in the standard bench.
pub fn config(gateways: u16) -> SiteConfig {
    let tier = |name: &str, floor| Tier { name: name.to_owned(), floor };
    SiteConfig {
        site: SiteId(1),
        pools: vec![Pool {
            target: TARGET,
            labels: 0b11,
            median: COST,
            promise: Duration::from_secs(5),
        }],
        tiers: vec![tier("enterprise", 0.4), tier("pro", 0.25), tier("free", 0.05)],
        in_time: vec![Duration::from_secs(5); 3],
        patience: vec![Duration::from_secs(5); 3],
        gateways,
        // Two more of the same, so that this one may be drained.
        service: Service { sites: vec![CostRate::whole(100); 3], ..Service::default() },
        credit: Terms::CREDIT,
        overcommit: 5,
        slack: 25,
        standby: 10,
    }
}

/// A worker's state, up.
pub fn up(capacity: u64, streams: u32, cold: bool) -> WorkerState {
    WorkerState::Up { target: TARGET, capacity: CostRate::whole(capacity), streams, cold }
}

/// A request of the highest tier that nobody paid for.
pub fn open(number: u64) -> Open {
    let attempt = AttemptId { request: RequestId(number), number: 1 };
    Open {
        work: Work { from: GatewayId(0), attempt },
        target: TARGET,
        tier: TierId(0),
        cost: COST,
        credited: true,
        moving: false,
        left: Duration::from_secs(60),
        tenant: number as u32,
        session: number,
        labels: 0b01,
        prompt: 1000,
        output: 200,
        elsewhere: false,
    }
}

/// Milliseconds after the start.
pub fn at(millis: u64) -> Time {
    Time::from_micros(millis * 1000)
}

/// What is to happen.
#[derive(Clone, Copy, Debug)]
enum Next {
    Arrival,
    Report(u16),
    Grant(u16, Grant),
    FirstToken(Work, WorkerId),
    Ended(Work),
    Tick,
}

/// What became of the requests of one tier in one second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// Arrived.
    pub offered: u32,
    /// First token within five seconds.
    pub good: u32,
    /// First token later.
    pub late: u32,
    /// Told no, or handed back.
    pub refused: u32,
}

struct Machine {
    free: Time,
    slow: f64,
    is_up: bool,
}

struct Sender {
    holder: Holder<Grant>,
    level: f64,
    filled: Time,
    demand: [f64; TIERS_MAX],
}

/// The bench.
pub struct Bench {
    /// The machine under test.
    pub site: Site,
    /// Now.
    pub now: Time,
    /// Offered, in cost units a second.
    pub load: f64,
    /// Share of control messages lost, each way.
    pub loss: f64,
    /// By second and tier.
    pub counts: Vec<[Count; 3]>,
    /// Facts so far.
    pub facts: Vec<(Time, SiteFact)>,
    /// How many times as slow as usual it said last that it is.
    pub slow: u8,
    calendar: BTreeMap<(Time, u64), Next>,
    sequence: u64,
    machines: BTreeMap<WorkerId, Machine>,
    live: BTreeMap<Work, (Time, u8, u64)>,
    answered: BTreeSet<Work>,
    senders: Vec<Sender>,
    rng: Rng,
    numbers: u64,
    capacity: (Time, CostRate),
}

impl Bench {
    /// A site of four workers of 25 CU/s and 200 streams, and six gateways.
    pub fn new(site: Site, load: f64, seed: u64) -> Bench {
        let fresh = || Sender {
            holder: Holder::default(),
            level: 0.0,
            filled: at(0),
            demand: [0.0; TIERS_MAX],
        };
        let mut bench = Bench {
            site,
            now: at(0),
            load,
            loss: 0.0,
            counts: Vec::new(),
            facts: Vec::new(),
            slow: 0,
            calendar: BTreeMap::new(),
            sequence: 0,
            machines: BTreeMap::new(),
            live: BTreeMap::new(),
            answered: BTreeSet::new(),
            senders: (0..6).map(|_| fresh()).collect(),
            rng: Rng::new(seed),
            numbers: 0,
            capacity: (at(0), CostRate::ZERO),
        };
        (0..6).for_each(|g| bench.plan(at(1 + 83 * u64::from(g)), Next::Report(g)));
        bench.plan(at(1), Next::Arrival);
        bench.plan(at(1), Next::Tick);
        bench
    }

    /// Workers come.
    pub fn workers_up(&mut self, cold: bool) {
        for id in 0..4 {
            let machine = Machine { free: self.now, slow: 1.0, is_up: true };
            self.machines.insert(WorkerId(id), machine);
            self.event(Event::Worker { worker: WorkerId(id), state: up(25, 200, cold) });
        }
    }

    /// A worker dies.
    pub fn worker_down(&mut self, id: u16) {
        if let Some(machine) = self.machines.get_mut(&WorkerId(id)) {
            machine.is_up = false;
        }
        self.event(Event::Worker { worker: WorkerId(id), state: WorkerState::Down });
    }

    /// One worker takes so many times as long, with what it is given from now on.
    pub fn slow_one(&mut self, id: u16, factor: f64) {
        self.machines.get_mut(&WorkerId(id)).expect("a worker that is there").slow = factor;
    }

    /// All workers take so many times as long.
    pub fn slow(&mut self, factor: f64) {
        let before = self.machines.values().next().map_or(1.0, |machine| machine.slow);
        self.machines.values_mut().for_each(|machine| machine.slow = factor);
        // Whatever is under way takes the more or less.
        for ((when, sequence), next) in std::mem::take(&mut self.calendar) {
            let is_work = matches!(next, Next::Ended(_) | Next::FirstToken(..));
            let scale = if is_work { factor / before } else { 1.0 };
            let left = when.since(self.now).mul_f64(scale);
            self.calendar.insert((self.now + left, sequence), next);
        }
        for machine in self.machines.values_mut() {
            machine.free = self.now + machine.free.since(self.now).mul_f64(factor / before);
        }
    }

    /// How the model stands.
    pub fn standing(&self) -> Standing {
        self.site.standing(self.now, TARGET).expect("a pool")
    }

    /// Sums of the seconds from `from` up to `until`, by tier.
    pub fn sum(&self, from: usize, until: usize) -> [Count; 3] {
        let mut sum = [Count::default(); 3];
        for second in self.counts.iter().take(until).skip(from) {
            for (sum, count) in sum.iter_mut().zip(second) {
                sum.offered += count.offered;
                sum.good += count.good;
                sum.late += count.late;
                sum.refused += count.refused;
            }
        }
        sum
    }

    /// Good answers a second over those seconds, all tiers.
    pub fn goodput(&self, from: usize, until: usize) -> f64 {
        let good: u32 = self.sum(from, until).iter().map(|count| count.good).sum();
        f64::from(good) / (until - from) as f64
    }

    /// Plays on until so many seconds after the start.
    pub fn play(&mut self, until: u64) {
        while let Some(((when, _), next)) = self.calendar.pop_first() {
            if when > at(until * 1000) {
                self.plan(when, next);
                self.now = at(until * 1000);
                return;
            }
            self.now = when;
            self.step(next);
        }
    }

    fn step(&mut self, next: Next) {
        match next {
            Next::Arrival => {
                let gap = -(1.0 - self.rng.unit()).ln() / self.load;
                self.plan(self.now + Duration::from_secs_f64(gap), Next::Arrival);
                self.arrive();
            }
            Next::Report(gateway) => {
                self.plan(self.now + REPORT, Next::Report(gateway));
                self.report(gateway);
            }
            Next::Grant(gateway, grant) => {
                let sender = &mut self.senders[usize::from(gateway)];
                let from = (grant.epoch, grant.nonce);
                sender.holder.grant(self.now, from, grant, &Terms::CREDIT);
            }
            Next::FirstToken(work, worker) => {
                if !self.machines[&worker].is_up || !self.live.contains_key(&work) {
                    return;
                }
                let (given, tier, _) = self.live[&work];
                let after = self.now.since(given);
                self.event(Event::FirstToken { work, after });
                let arrived = self.live[&work].2;
                let waited = self.now.as_micros() / 1000 - arrived;
                let count = self.count(arrived, tier);
                if waited <= 5000 {
                    count.good += 1;
                } else {
                    count.late += 1;
                }
                let decode = Duration::from_millis(7600).mul_f64(self.machines[&worker].slow);
                self.plan(self.now + decode, Next::Ended(work));
            }
            Next::Ended(work) => {
                if self.live.remove(&work).is_some() {
                    self.event(Event::Ended { work, cost: COST });
                }
            }
            Next::Tick => {
                self.plan(self.now + Duration::from_millis(50), Next::Tick);
                self.event(Event::Tick);
                assert_eq!(self.site.check(self.now), Ok(()));
            }
        }
    }

    fn arrive(&mut self) {
        self.numbers += 1;
        let gateway = self.rng.below(6) as u16;
        let tier = match self.rng.below(10) {
            0 => 0,
            1..=3 => 1,
            _ => 2,
        };
        let mut asked = open(self.numbers);
        asked.work.from = GatewayId(gateway);
        asked.tier = TierId(tier);
        asked.tenant = self.rng.below(1000) as u32;
        asked.left = Duration::from_secs(600);
        asked.credited = self.spend(gateway, tier);
        let arrived = self.now.as_micros() / 1000;
        self.count(arrived, tier).offered += 1;
        self.live.insert(asked.work, (self.now, tier, arrived));
        self.event(Event::Open(asked));
    }

    /// One level for all tiers is enough here: tiers are the site's own test.
    fn spend(&mut self, gateway: u16, tier: u8) -> bool {
        let sender = &mut self.senders[usize::from(gateway)];
        sender.demand[usize::from(tier)] += 1.0;
        let Some(held) = sender.holder.held(self.now) else { return false };
        let rate = held.rate.iter().copied().sum::<CostRate>().as_f64();
        let passed = self.now.since(sender.filled).as_secs_f64();
        sender.filled = self.now;
        sender.level = (sender.level + rate * passed).min(rate * 0.5);
        if sender.level <= 0.0 {
            return false;
        }
        sender.level -= 1.0;
        true
    }

    fn report(&mut self, gateway: u16) {
        let sender = &mut self.senders[usize::from(gateway)];
        let nonce = sender.holder.report(self.now);
        let per_second = 1.0 / REPORT.as_secs_f64();
        let demand = sender.demand.map(|d| CostRate((d * per_second * 1000.0) as u64));
        sender.demand = [0.0; TIERS_MAX];
        let elapsed = self.now.since(Time::ZERO);
        let report = Report { target: TARGET, nonce, demand, total: demand, in_flight: 0, elapsed };
        if self.rng.unit() >= self.loss {
            self.event(Event::Report { from: GatewayId(gateway), report });
        }
    }

    fn count(&mut self, arrived_millis: u64, tier: u8) -> &mut Count {
        let second = (arrived_millis / 1000) as usize;
        if self.counts.len() <= second {
            self.counts.resize(second + 1, Default::default());
        }
        &mut self.counts[second][usize::from(tier)]
    }

    fn plan(&mut self, when: Time, next: Next) {
        self.sequence += 1;
        self.calendar.insert((when, self.sequence), next);
    }

    /// Hands the machine an event, does what it says, and checks its bounds.
    pub fn event(&mut self, event: Event) {
        let mut actions = Vec::new();
        let opened = match &event {
            Event::Open(open) => Some(open.work),
            _ => None,
        };
        self.site.handle(self.now, event, &mut actions);
        for action in actions {
            self.act(action);
        }
        assert!(opened.is_none_or(|work| self.answered.remove(&work)), "an answer at once");
        self.answered.clear();
        self.check();
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Grant { to, grant } => {
                self.slow = grant.slow;
                let back = self.now + Duration::from_millis(40);
                if self.rng.unit() >= self.loss {
                    self.plan(back, Next::Grant(to.0, grant));
                }
            }
            Action::Ack { to, ack } => {
                self.answered.insert(Work { from: to, attempt: ack.attempt });
            }
            Action::Refuse { to, refuse } => {
                let work = Work { from: to, attempt: refuse.attempt };
                self.answered.insert(work);
                assert!(refuse.retry_after <= Duration::from_secs(300));
                if let Some((_, tier, arrived)) = self.live.remove(&work) {
                    self.count(arrived, tier).refused += 1;
                }
            }
            Action::Dispatch { work, worker } => {
                let machine = self.machines.get_mut(&worker).expect("a worker that is there");
                assert!(machine.is_up, "no work for the dead");
                let served = Duration::from_millis(40).mul_f64(machine.slow);
                machine.free = machine.free.max(self.now) + served;
                let first = machine.free + Duration::from_millis(260).mul_f64(machine.slow);
                self.live.get_mut(&work).expect("an open attempt").0 = self.now;
                self.plan(first, Next::FirstToken(work, worker));
            }
            Action::Abort { .. } => {}
            Action::Fact(fact) => self.facts.push((self.now, fact)),
        }
    }

    fn check(&mut self) {
        let standing = self.standing();
        assert!(standing.running <= standing.streams, "{standing:?}");
        assert!(standing.ahead <= standing.ahead_bound, "{standing:?}");
        // When capacity falls the sum is back below it within lease and drift.
        if standing.capacity < self.capacity.1 {
            self.capacity.0 = self.now + Duration::from_millis(2200);
        }
        self.capacity.1 = standing.capacity;
        let percent = u32::from(standing.ramp);
        let most = standing.capacity.percent(105).percent(percent);
        let is_settled = self.now >= self.capacity.0;
        assert!(!is_settled || standing.granted <= most, "{standing:?}");
    }
}
