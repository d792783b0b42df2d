//! Which configuration a process runs, and what an operator's order may and may not do.
//!
//! Nobody pushes: each process polls the whole snapshot, tastes new content where a crash costs
//! nothing, adopts it in its turn, and keeps what has proved itself for when all else is gone.

pub mod compare;
pub mod disk;
pub mod generation;
pub mod limits;
pub mod stage;

use crate::config::PolicyConfig;
use crate::fact::{OrderRefusal, PolicyFact};
use crate::message::{Digest, Order, Verb};
use crate::names::{GatewayId, SiteId, fold};
use crate::orders::Orders;
use crate::rng::Rng;
use crate::time::{Duration, Time};
use alloc::string::String;
use alloc::vec::Vec;
use disk::Disk;
use generation::Generations;
pub use generation::Waits;

/// Peers that are told of an order at first sight: enough that it reaches all in a few steps.
const FORWARD: usize = 3;

/// Most memory, in bytes, of a sacrificial process: a content of 4 MiB is held several times while
/// it is taken apart and compared, and the program itself is there too.
pub const TASTE_MEMORY: u64 = 1 << 30;

/// Most time of a sacrificial process. Loading and deciding a thousand requests takes well under a
/// second; a busy machine may need ten times as long.
pub const TASTE_TIME: Duration = Duration::from_secs(20);

/// The machine is told so often how its process does.
pub const PULSE: Duration = Duration::from_secs(1);

/// One generation of policy, as the machine knows it. What it says is the server's to read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// Its number.
    pub generation: u64,
    /// Hash of its content.
    pub content: u64,
    /// Hash of the generation before it, content and number.
    pub previous: u64,
    /// Who.
    pub author: String,
    /// Why.
    pub reason: String,
    /// Size of its content.
    pub bytes: u64,
    /// The author gave the confirm token.
    pub confirmed: bool,
}

impl Snapshot {
    /// What the next generation must name as its predecessor.
    pub fn hash(&self) -> u64 {
        fold([self.generation, self.content])
    }
}

/// What a sacrificial process found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taste {
    /// It can be loaded and answers like the present one.
    Good,
    /// It cannot be read, or is over a limit.
    Refused(String),
    /// The process died, or used more memory or time than it may.
    Crashed,
    /// It changes so much that a person must confirm it.
    Differs(String),
}

/// What the machine hears.
#[derive(Clone, Debug)]
pub enum Event {
    /// The source answered a poll.
    Snapshot(Snapshot),
    /// A sacrificial process is done.
    Tasted {
        /// With what.
        content: u64,
        /// What came of it.
        taste: Taste,
    },
    /// A peer's digest.
    Digest(Digest),
    /// Share of this process's requests of the last minute that were shed or failed, in
    /// thousandths, and whether the gateway doubts itself. Told every second.
    Pulse {
        /// The share.
        failing: u16,
        /// The doubt.
        in_doubt: bool,
    },
    /// A generation that was to be adopted cannot be run.
    Unfit {
        /// With what.
        content: u64,
    },
    /// An operator gives an order here.
    Command {
        /// What.
        order: Order,
        /// The operator gave the confirm token.
        confirmed: bool,
    },
    /// A peer tells of an order.
    Order(Order),
    /// A peer's whole set of orders.
    Orders(Vec<Order>),
    /// A deadline passed.
    Tick,
}

/// What the server must do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Ask the source for its snapshot, and tell it and the nodes of sites, which hear no digests
    /// otherwise, how this process stands with generations.
    Poll,
    /// Load this content in a sacrificial process.
    Taste(Snapshot),
    /// Run this generation from now on; it is on disk, and so is the journal of it.
    Adopt(Snapshot),
    /// Write the state to disk.
    Keep,
    /// Tell these gateways of an order.
    Forward {
        /// Whom.
        to: Vec<GatewayId>,
        /// What.
        order: Order,
    },
    /// Ask a peer for its set of orders.
    Fetch(GatewayId),
    /// These orders are in force now.
    InForce(Vec<Order>),
    /// Tell every site of ours this set, the orders that end others among it.
    TellSites(Vec<Order>),
    /// Tell of a decision.
    Fact(PolicyFact),
}

/// What of it goes into this process's digests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The generation in force.
    pub generation: u64,
    /// How long it has run clean.
    pub clean: Duration,
    /// Hash of the orders in force.
    pub orders: u64,
    /// Content in quarantine.
    pub quarantined: Vec<u64>,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Policy {
    config: PolicyConfig,
    generations: Generations,
    orders: Orders,
    next_poll: Time,
    rng: Rng,
}

/// What a process finds on disk when it starts.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// What was written last.
    pub disk: Disk,
    /// How long ago that was, by whatever clock this one machine has; nothing if in doubt.
    pub ago: Duration,
}

impl Policy {
    /// A process starts. The actions say what it runs, or that there is nothing to run.
    pub fn boot(
        config: PolicyConfig,
        saved: Saved,
        now: Time,
        seed: u64,
        actions: &mut Vec<Action>,
    ) -> Policy {
        let Saved { mut disk, ago } = saved;
        let mut facts = Vec::new();
        disk.start(ago, &config, &mut facts);
        let orders = Orders::boot(now, &core::mem::take(&mut disk.orders), ago, &config.service);
        let mut generations = Generations::boot(now, disk, actions);
        actions.extend(facts.into_iter().map(Action::Fact));
        let in_force = orders.in_force(now);
        generations.freeze(is_frozen(&in_force));
        actions.push(Action::InForce(in_force));
        let rng = Rng::new(seed);
        Policy { config, generations, orders, next_poll: now, rng }
    }

    /// Takes one event and says what follows.
    pub fn handle(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        let config = &self.config;
        match event {
            Event::Snapshot(snapshot) => self.generations.snapshot(now, snapshot, config, actions),
            Event::Tasted { content, taste } => {
                self.generations.tasted(now, (content, taste), config, actions);
            }
            Event::Digest(digest) => {
                self.generations.digest(now, &digest, config, actions);
                if digest.from != config.me && self.orders.differs(now, digest.from, digest.orders)
                {
                    actions.push(Action::Fetch(digest.from));
                }
            }
            Event::Unfit { content } => self.generations.unfit(now, content, actions),
            Event::Pulse { failing, in_doubt } => {
                self.generations.pulse(now, (failing, in_doubt), config, actions);
            }
            Event::Command { order, confirmed } => {
                let taken = self.orders.command(now, (order.clone(), confirmed), &config.service);
                self.ordered(now, (order, taken), actions);
            }
            Event::Order(order) => self.take(now, order, actions),
            Event::Orders(orders) => {
                for order in orders {
                    self.take(now, order, actions);
                }
            }
            Event::Tick => {}
        }
        self.pass(now, actions);
    }

    /// When to call again, and what for.
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        let poll = Some((self.next_poll, "the next poll for a snapshot"));
        let lapse = self.orders.deadline().map(|at| (at, "the end of an order"));
        let generation = self.generations.deadline(&self.config);
        let generation = generation.map(|at| (at, "a generation's taste, turn or proof"));
        [poll, lapse, generation].into_iter().flatten().min()
    }

    /// What goes into this process's digests.
    pub fn standing(&self, now: Time) -> Standing {
        Standing {
            generation: self.current().map_or(0, |current| current.generation),
            clean: self.generations.clean(now),
            orders: self.orders.hash(),
            quarantined: self.generations.quarantined().to_vec(),
        }
    }

    /// What must be on disk after `Action::Keep`, before anything that follows it.
    pub fn disk(&self, now: Time) -> Disk {
        Disk { orders: self.orders.set(now), ..self.generations.disk().clone() }
    }

    /// What to write when the process stops by itself: the next one must not take that for a
    /// crash.
    pub fn stopped(&self, now: Time) -> Disk {
        Disk { is_running: false, ..self.disk(now) }
    }

    /// The generation in force.
    pub fn current(&self) -> Option<&Snapshot> {
        self.generations.current()
    }

    /// What is known of generations.
    pub fn generations(&self) -> &Generations {
        &self.generations
    }

    /// How long a gateway of the stage before must have run a generation clean.
    pub fn canary_time(&self) -> Duration {
        self.config.canary
    }

    /// What a staged generation waits for.
    pub fn waits(&self, now: Time) -> Option<Waits> {
        self.generations.waits(now, &self.config)
    }

    /// The set of orders, for a peer that fetches it.
    pub fn orders(&self, now: Time) -> Vec<Order> {
        self.orders.set(now)
    }

    /// Those of them that are in force, for a gateway that starts.
    pub fn in_force(&self, now: Time) -> Vec<Order> {
        self.orders.in_force(now)
    }

    /// The generation in force lists other gateways or sites. `moved` tells where each site of
    /// before is now; an order about one that is gone goes with it.
    pub fn configure(
        &mut self,
        now: Time,
        config: PolicyConfig,
        moved: &[Option<SiteId>],
        actions: &mut Vec<Action>,
    ) {
        self.config = config;
        self.orders.renumber(moved);
        actions.push(Action::Keep);
        self.tell_orders(now, actions);
    }

    fn take(&mut self, now: Time, order: Order, actions: &mut Vec<Action>) {
        let taken = self.orders.take(now, order.clone(), &self.config.service);
        self.ordered(now, (order, taken), actions);
    }

    fn ordered(
        &mut self,
        now: Time,
        (order, taken): (Order, Result<bool, OrderRefusal>),
        actions: &mut Vec<Action>,
    ) {
        let Order { id, authority, verb, site, left, .. } = order;
        match taken {
            Ok(false) => return,
            Err(why) => {
                actions.push(Action::Fact(PolicyFact::OrderRefused { id, why }));
                return;
            }
            Ok(true) => {}
        }
        let reason = order.reason.clone();
        let fact = PolicyFact::OrderTaken { id, authority, verb, site, reason, left };
        actions.push(Action::Keep);
        let to = self.some_peers();
        if !to.is_empty() {
            actions.push(Action::Forward { to, order });
        }
        actions.push(Action::Fact(fact));
        self.tell_orders(now, actions);
    }

    fn pass(&mut self, now: Time, actions: &mut Vec<Action>) {
        let lapsed = self.orders.lapse(now);
        if !lapsed.is_empty() {
            actions.push(Action::Keep);
            let facts = lapsed.into_iter().map(|id| PolicyFact::OrderLapsed { id });
            actions.extend(facts.map(Action::Fact));
            self.tell_orders(now, actions);
        }
        self.generations.pass(now, &self.config, actions);
        if now >= self.next_poll {
            actions.push(Action::Poll);
            // Again and again, since a message may be lost and a controller start anew.
            self.tell_sites(now, actions);
            let fifth = self.config.poll / 5;
            let wait = self.rng.between(self.config.poll - fifth, self.config.poll + fifth);
            self.next_poll = now + wait;
        }
    }

    fn tell_orders(&mut self, now: Time, actions: &mut Vec<Action>) {
        let in_force = self.orders.in_force(now);
        self.generations.freeze(is_frozen(&in_force));
        actions.push(Action::InForce(in_force));
        self.tell_sites(now, actions);
    }

    fn tell_sites(&self, now: Time, actions: &mut Vec<Action>) {
        let set = self.orders.set(now);
        if !set.is_empty() {
            actions.push(Action::TellSites(set));
        }
    }

    /// A few gateways at random, this one not among them.
    fn some_peers(&mut self) -> Vec<GatewayId> {
        let me = self.config.me;
        let mut peers: Vec<_> =
            (0..self.config.gateways).map(GatewayId).filter(|peer| *peer != me).collect();
        let count = peers.len().min(FORWARD);
        for place in 0..count {
            let other = place + self.rng.below((peers.len() - place) as u64) as usize;
            peers.swap(place, other);
        }
        peers.truncate(count);
        peers
    }
}

/// A freeze of one site stops adoption too: a generation concerns every site.
fn is_frozen(in_force: &[Order]) -> bool {
    in_force.iter().any(|order| order.verb == Verb::Freeze)
}

#[cfg(test)]
mod tests;
