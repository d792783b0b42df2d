//! The site controller's decisions: what it grants to whom, what it lets in, queues or refuses,
//! and which worker gets it.
//!
//! The receiver law: the site alone decides, at one point, what it admits. Gateways may disagree
//! about it, lose its messages or hold credit of a dead controller, and it still never runs more
//! than it can carry.

mod admission;
mod adopt;
pub mod calibration;
mod grants;
mod index_drift;
mod legs;
mod orders;
mod pool;
pub mod prefixes;
mod ramp;
pub mod schedule;
pub mod signal;
mod trust;
pub mod verdict;
mod wanted;

use crate::config::SiteConfig;
use crate::cost::{CostRate, CostUnits};
use crate::drift::Level;
use crate::fact::SiteFact;
use crate::lease::Granter;
use crate::message::{Ack, Grant, Offer, Open, Order, OrderId, Refuse, Report};
use crate::mutant::Mutant;
use crate::names::{GatewayId, SiteId, TargetId, Work, WorkerId};
use crate::orders::Orders;
use crate::rng::Rng;
use crate::time::{Duration, Time};
use alloc::vec::Vec;
use legs::Legs;
use pool::Pool;
use prefixes::Prefix;
use schedule::inside::Inside;
use schedule::profile::Profile;

/// What the controller hears.
#[derive(Clone, Debug)]
pub enum Event {
    /// A gateway tells what it wants.
    Report {
        /// Who.
        from: GatewayId,
        /// What.
        report: Report,
    },
    /// What the prompt of an attempt begins with that comes in next. Who does not say it is served
    /// all the same.
    Prefix {
        /// Of what.
        work: Work,
        /// With what.
        prefix: Prefix,
    },
    /// An attempt comes in.
    Open(Open),
    /// An attempt is not wanted any more.
    Cancel(Work),
    /// The worker gave its first token, this long after it got the work.
    FirstToken {
        /// Of what.
        work: Work,
        /// How long it took.
        after: Duration,
    },
    /// The worker says how many tokens of its prompt it had cached.
    Cached {
        /// Of what.
        work: Work,
        /// How many.
        tokens: u32,
    },
    /// The worker ended it; what it really cost.
    Ended {
        /// What.
        work: Work,
        /// Its cost.
        cost: CostUnits,
    },
    /// The worker lost it, or refused it.
    Lost(Work),
    /// The worker lost it after its first token, and whoever relays it can go on at another.
    Moving {
        /// What.
        work: Work,
        /// Tokens of its answer that the client has, over all legs.
        relayed: u32,
    },
    /// A worker is there, changed, or gone.
    Worker {
        /// Which.
        worker: WorkerId,
        /// How it stands.
        state: WorkerState,
    },
    /// An operator has said what a worker is that is about to come: what prompts take there need
    /// not be learned.
    Described {
        /// Which.
        worker: WorkerId,
        /// What its steps take.
        profile: Profile,
    },
    /// A worker goes on, and its caches are empty.
    Emptied(WorkerId),
    /// All orders that a gateway knows, those that end others among them.
    Orders(Vec<Order>),
    /// The controller's process is on its way out: it drains, whatever orders say.
    Leave,
    /// Another policy is in force, which `Site::may_adopt` lets in.
    Adopt {
        /// What it says; its pools stand in the order of those before.
        config: SiteConfig,
        /// Where each site of the policy before is now.
        sites: Vec<Option<SiteId>>,
    },
    /// A deadline passed.
    Tick,
}

/// How a worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// It takes work.
    Up {
        /// For which model.
        target: TargetId,
        /// What it can carry, by its calibration.
        capacity: CostRate,
        /// Answers it can have open at once.
        streams: u32,
        /// Whether its caches are empty.
        cold: bool,
    },
    /// It does not.
    Down,
}

/// What the server must do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Answer a report.
    Grant {
        /// To whom.
        to: GatewayId,
        /// With what.
        grant: Grant,
    },
    /// Tell the gateway that its attempt is in.
    Ack {
        /// To whom.
        to: GatewayId,
        /// What.
        ack: Ack,
    },
    /// Tell the gateway that its attempt is not, or no longer, in.
    Refuse {
        /// To whom.
        to: GatewayId,
        /// What.
        refuse: Refuse,
    },
    /// Give work to a worker.
    Dispatch {
        /// What.
        work: Work,
        /// To which.
        worker: WorkerId,
    },
    /// Take work back from a worker.
    Abort {
        /// What.
        work: Work,
        /// From which.
        worker: WorkerId,
    },
    /// Tell of a decision.
    Fact(SiteFact),
}

/// Capacity, ramps and promises are looked at this often.
const LOOK: Duration = Duration::from_secs(1);
/// The epoch of a site's very first controller.
const FIRST_EPOCH: u32 = 1;

/// The machine. What it holds is bounded: attempts by the streams of live workers and by
/// `admission::QUEUE_MAX` for each pool, all else by what policy lists.
#[derive(Debug)]
pub struct Site {
    config: SiteConfig,
    epoch: u32,
    pools: Vec<Pool>,
    /// What was said of the prompt of an attempt that has not come yet.
    coming: Option<(Work, Prefix)>,
    legs: Legs,
    rng: Rng,
    /// What gateways told of orders.
    orders: Orders,
    /// Orders told as ignored.
    ignored: Vec<OrderId>,
    offer: Offer,
    /// The process is on its way out.
    leaves: bool,
    /// Hundredths of the capacity that orders leave.
    cap: u8,
    is_frozen: bool,
    /// When what still runs of a drained site is handed back.
    grace: Option<Time>,
    /// No worker was lost yet at a site's very first start: empty caches are nothing to fear.
    is_first: bool,
    /// Whether silence after a takeover is still to be told.
    is_untold: bool,
    look: Time,
}

impl Site {
    /// A controller that takes over now with this epoch, one above any before it: it grants nothing
    /// until older grants have lapsed. If workers come with empty caches, the ramp starts low.
    pub fn new(config: SiteConfig, now: Time, epoch: u32, seed: u64) -> Site {
        Site::with(config, Granter::new(now, epoch), seed)
    }

    /// The very first controller of a site: nobody granted before it, and everything is on offer at
    /// once.
    pub fn first(config: SiteConfig, seed: u64) -> Site {
        let mut site = Site::with(config, Granter::first(FIRST_EPOCH), seed);
        site.is_first = true;
        site.is_untold = false;
        site
    }

    fn with(config: SiteConfig, granter: Granter<GatewayId>, seed: u64) -> Site {
        let positions = 0..config.pools.len();
        let pool = |at| Pool::new(&config, at, granter.clone(), seed);
        let pools = positions.map(pool).collect();
        Site {
            config,
            epoch: granter.epoch(),
            pools,
            coming: None,
            legs: Legs::default(),
            rng: Rng::new(seed),
            orders: Orders::default(),
            ignored: Vec::new(),
            offer: Offer::Open,
            leaves: false,
            cap: 100,
            is_frozen: false,
            grace: None,
            is_first: false,
            is_untold: true,
            look: Time::ZERO,
        }
    }

    /// Takes one event and says what follows.
    pub fn handle(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        if self.is_untold {
            self.is_untold = false;
            let wait = self.config.credit.lease + self.config.credit.drift;
            actions.push(Action::Fact(SiteFact::Silent { epoch: self.epoch, wait }));
        }
        self.pass_deadlines(now, actions);
        match event {
            Event::Report { from, report } => self.report(now, from, &report, actions),
            Event::Prefix { work, prefix } => self.coming = Some((work, prefix.bounded())),
            Event::Open(open) => self.open(now, open, actions),
            Event::Cancel(work) => self.cancel(now, work, actions),
            Event::FirstToken { work, after } => self.first_token(now, work, after, actions),
            Event::Cached { work, tokens } => self.cached(now, work, tokens),
            Event::Ended { work, cost } => self.ended(now, work, cost, actions),
            Event::Lost(work) => self.lost(now, work, 0, actions),
            Event::Moving { work, relayed } => self.lost(now, work, relayed, actions),
            Event::Worker { worker, state } => self.worker(now, worker, state, actions),
            Event::Described { worker, profile } => {
                self.pools.iter_mut().for_each(|pool| pool.scheduler.describe(worker, profile));
            }
            Event::Emptied(worker) => {
                self.pools.iter_mut().for_each(|pool| pool.scheduler.emptied(worker));
            }
            Event::Orders(set) => self.hear_orders(now, set, actions),
            Event::Leave => self.depart(now, actions),
            Event::Adopt { config, sites } => self.adopt(now, config, &sites, actions),
            Event::Tick => {}
        }
    }

    /// When to call again, and what for.
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        let waits = self.pools.iter().filter_map(|pool| pool.scheduler.deadline()).min();
        let grace = self.grace.map(|at| (at, "the grace of a drain ends"));
        let look = Some((self.look, "capacity, ramp and promise are looked at"));
        let order = self.orders.deadline().map(|at| (at, "the end of an order"));
        [waits, grace, order, look].into_iter().flatten().min()
    }

    /// What is wrong, if anything is: see `Scheduler::check`.
    ///
    /// # Errors
    /// The invariant that does not hold.
    pub fn check(&self, now: Time) -> Result<(), &'static str> {
        self.pools.iter().try_for_each(|pool| pool.scheduler.check(now))
    }

    /// The position of the pool that has an attempt, and how that stands.
    fn find(&self, work: Work) -> Option<(usize, Inside)> {
        let mut pools = self.pools.iter().enumerate();
        pools.find_map(|(at, pool)| Some((at, pool.scheduler.inside(work)?)))
    }

    /// What it decides by.
    pub fn config(&self) -> &SiteConfig {
        &self.config
    }

    /// Its epoch.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether it takes new work.
    pub fn offer(&self) -> Offer {
        self.offer
    }

    /// How one model stands here, for checks and status.
    pub fn standing(&self, now: Time, target: TargetId) -> Option<Standing> {
        let pool = self.pools.iter().find(|pool| pool.config.target == target)?;
        let supply = pool.supply(now, self.cap, self.offer);
        let workers = pool.scheduler.strength();
        let longest = self.config.patience.iter().max().copied().unwrap_or_default();
        Some(Standing {
            capacity: supply.capacity,
            ramp: supply.ramp,
            granted: pool.grants.used(now, &self.config.credit),
            running: workers.running(),
            streams: workers.streams(),
            ahead: workers.in_hand(),
            ahead_bound: workers.in_hand_bound(pool.largest),
            queued: pool.scheduler.queued(),
            queued_cost: pool.scheduler.queued_cost(),
            queued_bound: workers.calibrated().over(longest + pool.longer(pool.largest))
                + pool.largest,
            wanted: pool.wanted.count(),
        })
    }

    fn report(&mut self, now: Time, from: GatewayId, report: &Report, actions: &mut Vec<Action>) {
        let (cap, offer) = (self.cap, self.offer);
        let mut pools = self.pools.iter_mut();
        let Some(pool) = pools.find(|pool| pool.config.target == report.target) else { return };
        let supply = pool.supply(now, cap, offer);
        let Some((grant, drifted)) = pool.grants.answer(now, (from, report), &supply, &self.config)
        else {
            return;
        };
        if let Some(found) = drifted {
            let thousandths = found.thousandths;
            let is_closed = found.level == Level::NoCredit;
            actions.push(Action::Fact(SiteFact::Drift { from, thousandths, is_closed }));
        }
        actions.push(Action::Grant { to: from, grant });
    }

    fn pass_deadlines(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.grace.is_some_and(|at| at <= now) {
            self.grace = None;
            self.hand_back_all(now, actions);
        }
        self.lapse_orders(now, actions);
        if self.look <= now {
            self.look = now + LOOK;
            for position in 0..self.pools.len() {
                self.look_at(now, position, actions);
                self.pump(now, position, actions);
            }
        }
        for position in 0..self.pools.len() {
            if self.pools[position].scheduler.deadline().is_some_and(|(at, _)| at <= now) {
                self.pump(now, position, actions);
            }
        }
    }

    fn look_at(&mut self, now: Time, position: usize, actions: &mut Vec<Action>) {
        self.count_waits(now, position);
        let (is_frozen, cap, offer) = (self.is_frozen, self.cap, self.offer);
        let pool = &mut self.pools[position];
        let target = pool.config.target;
        let on_offer = pool.on_offer(now, cap);
        if let Some((from, to, why)) = pool.second(now, on_offer, is_frozen) {
            actions.push(Action::Fact(SiteFact::RampMoved { target, from, to, why }));
        }
        let capacity = pool.supply(now, cap, offer).capacity;
        if let Some((from, to)) = pool.capacity_moved(capacity) {
            actions.push(Action::Fact(SiteFact::CapacityMoved { target, from, to }));
        }
    }

    fn removes(&self, rule: Mutant) -> bool {
        self.config.credit.mutants.removes(rule)
    }
}

/// How one model stands at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What it can carry, by measure, calibration and orders.
    pub capacity: CostRate,
    /// On offer of it, in hundredths.
    pub ramp: u8,
    /// Credit that may be in use, over all gateways.
    pub granted: CostRate,
    /// Answers under way.
    pub running: u32,
    /// Answers that live workers can have open.
    pub streams: u32,
    /// Work at workers whose first token has not come.
    pub ahead: CostUnits,
    /// The most of it there may be.
    pub ahead_bound: CostUnits,
    /// Attempts that wait.
    pub queued: usize,
    /// Their work.
    pub queued_cost: CostUnits,
    /// The most of it there may be: what is done within the longest patience.
    pub queued_bound: CostUnits,
    /// Workers that would be the right number: for whoever buys machines, nobody here acts on it.
    pub wanted: u16,
}
