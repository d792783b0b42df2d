//! Operators' orders: runs this process's policy machine as far as orders go, keeps them on disk,
//! and writes down who gave which.
//!
//! Nothing central is needed: an order given at any gateway reaches the others over the link, each
//! keeps it with what is left of its life, and each judges by itself what may be taken out of
//! service.

pub mod store;

use crate::drive::{Clock, at_deadlines};
use mainstay_core::config::PolicyConfig;
use mainstay_core::fact::{OrderRefusal, PolicyFact};
use mainstay_core::message::{Digest, Order, OrderId, Verb};
use mainstay_core::names::{GatewayId, SiteId};
use mainstay_core::policy::disk::Disk;
use mainstay_core::policy::{Action, Event, Policy, Saved};
use mainstay_core::time::Time;
use sha2::{Digest as _, Sha256};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use store::Store;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What the machine says to others.
#[derive(Clone, Debug)]
pub enum Outside {
    /// To a peer: an order.
    Forward(GatewayId, Order),
    /// To a peer: give me your set, whose hash differs from mine.
    Fetch(GatewayId),
    /// To the gateway of this process: what is in force.
    InForce(Vec<Order>),
    /// To every site of ours: the whole set.
    Sites(Vec<Order>),
}

/// Where that goes. It must not wait.
pub type Carrier = Box<dyn Fn(Outside) + Send + Sync>;

/// An order as an operator gives it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Who.
    pub author: String,
    /// What.
    pub verb: Verb,
    /// Where; `None` is everywhere.
    pub site: Option<SiteId>,
    /// Why.
    pub reason: String,
    /// For how long.
    pub life: Duration,
    /// The confirm token was given.
    pub confirmed: bool,
}

/// The machine and where its orders are kept.
pub struct Desk {
    clock: Clock,
    shared: Mutex<Shared>,
    wake: Notify,
    carrier: Carrier,
}

struct Shared {
    machine: Policy,
    store: Option<Store>,
    /// The last number given to an order here.
    seq: u32,
    /// The node at which they are given: two may count alike.
    node: String,
    alarm: Option<Time>,
}

impl Desk {
    /// A desk that takes up what `store` has kept. What follows goes to `carrier` at once.
    ///
    /// # Errors
    /// What is wrong with what was kept, and how to mend it.
    pub fn open(
        config: PolicyConfig,
        (clock, store, node): (Clock, Option<Store>, String),
        carrier: Carrier,
    ) -> Result<Desk, String> {
        let (orders, ago) = match &store {
            Some(store) => store.read()?,
            None => Default::default(),
        };
        // Above any that was kept: a process may start anew within the second.
        let kept = orders.iter().map(|order: &Order| order.id.seq).max().unwrap_or(0);
        let seq = unix_seconds().max(kept);
        let disk = Disk { orders, ..Disk::default() };
        let seed = RandomState::new().hash_one("policy");
        let mut actions = Vec::new();
        let machine = Policy::boot(config, Saved { disk, ago }, clock.now(), seed, &mut actions);
        let shared = Shared { machine, store, seq, node, alarm: None };
        let desk = Desk { clock, shared: Mutex::new(shared), wake: Notify::new(), carrier };
        desk.carry(actions);
        Ok(desk)
    }

    /// An operator gives an order here. The error says why it is not taken.
    ///
    /// # Errors
    /// See there.
    pub fn command(&self, wanted: Wanted) -> Result<OrderId, String> {
        let Wanted { author, verb, site, reason, life, confirmed } = wanted;
        let id = {
            let mut shared = self.lock();
            shared.seq = unix_seconds().max(shared.seq.saturating_add(1));
            OrderId { author: hash(&format!("{author}@{}", shared.node)), seq: shared.seq }
        };
        let order = Order { id, authority: 0, verb, site, reason, left: life };
        let facts = self.tell(Event::Command { order, confirmed });
        let refused = facts.into_iter().find_map(|fact| match fact {
            PolicyFact::OrderRefused { id: refused, why } if refused == id => Some(why),
            _ => None,
        });
        match refused {
            Some(why) => Err(words(&why)),
            None => Ok(id),
        }
    }

    /// Something happened. The decisions that followed are returned as well.
    pub fn tell(&self, event: Event) -> Vec<PolicyFact> {
        let mut actions = Vec::new();
        let mut shared = self.lock();
        shared.machine.handle(self.clock.now(), event, &mut actions);
        let next = shared.machine.deadline().map(|(at, _)| at);
        let is_sooner = next.is_some_and(|at| shared.alarm.is_none_or(|alarm| at < alarm));
        drop(shared);
        if is_sooner {
            self.wake.notify_one();
        }
        self.carry(actions)
    }

    /// The whole set, with what is left of each life.
    pub fn orders(&self) -> Vec<Order> {
        self.lock().machine.orders(self.clock.now())
    }

    /// Those in force.
    pub fn in_force(&self) -> Vec<Order> {
        self.lock().machine.in_force(self.clock.now())
    }

    /// Fills in what a digest says of policy.
    pub fn complete(&self, digest: Digest) -> Digest {
        let standing = self.lock().machine.standing(self.clock.now());
        Digest {
            generation: standing.generation,
            clean: standing.clean,
            orders: standing.orders,
            quarantined: standing.quarantined,
            ..digest
        }
    }

    /// Calls the machine at its deadlines until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let next = || {
            let mut shared = self.lock();
            shared.alarm = shared.machine.deadline().map(|(at, _)| at);
            shared.alarm
        };
        let tick = || drop(self.tell(Event::Tick));
        at_deadlines((self.clock, &self.wake), next, tick, shutdown).await;
    }

    fn carry(&self, actions: Vec<Action>) -> Vec<PolicyFact> {
        let mut facts = Vec::new();
        for action in actions {
            match action {
                Action::Keep => self.keep(),
                Action::Forward { to, order } => {
                    let each = to.into_iter().map(|to| Outside::Forward(to, order.clone()));
                    each.for_each(&self.carrier);
                }
                Action::Fetch(from) => (self.carrier)(Outside::Fetch(from)),
                Action::InForce(orders) => (self.carrier)(Outside::InForce(orders)),
                Action::TellSites(orders) => (self.carrier)(Outside::Sites(orders)),
                Action::Fact(fact) => {
                    tracing::info!(fact = "policy", "{fact:?}");
                    facts.push(fact);
                }
                // Generations do not travel yet.
                Action::Poll | Action::Taste(_) | Action::Adopt(_) => {}
            }
        }
        self.note(&facts);
        facts
    }

    /// What cannot be kept is said, and in force all the same.
    fn keep(&self) {
        let shared = self.lock();
        let orders = shared.machine.disk(self.clock.now()).orders;
        if let Some(Err(why)) = shared.store.as_ref().map(|store| store.write(&orders)) {
            tracing::warn!("orders are not kept: {why}");
        }
    }

    fn note(&self, facts: &[PolicyFact]) {
        let mut shared = self.lock();
        let Some(store) = &mut shared.store else { return };
        let told = facts.iter().filter(|fact| {
            matches!(
                fact,
                PolicyFact::OrderTaken { .. }
                    | PolicyFact::OrderRefused { .. }
                    | PolicyFact::OrderLapsed { .. }
            )
        });
        for fact in told {
            if let Err(why) = store.note(&format!("{fact:?}")) {
                tracing::warn!("an order is not written down: {why}");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // As in `Drive`: orders that work are better than none from then on.
        self.shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The name of an order for people.
pub fn format_order(id: OrderId) -> String {
    format!("{:016x}-{}", id.author, id.seq)
}

/// The order that `text` names.
pub fn parse_order(text: &str) -> Option<OrderId> {
    let (author, seq) = text.trim().split_once('-')?;
    let author = u64::from_str_radix(author, 16).ok()?;
    Some(OrderId { author, seq: seq.parse().ok()? })
}

fn hash(name: &str) -> u64 {
    let digest: [u8; 32] = Sha256::digest(name.as_bytes()).into();
    u64::from_be_bytes(digest[..8].try_into().unwrap_or_default())
}

fn unix_seconds() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

fn words(why: &OrderRefusal) -> String {
    match why {
        OrderRefusal::Everywhere => "name a site; only a freeze may be everywhere".into(),
        OrderRefusal::UnknownSite => "no such site".into(),
        OrderRefusal::NoReason => "say why; --reason \"…\"".into(),
        OrderRefusal::Life => "give it an end within a day; --for 1h".into(),
        OrderRefusal::Cap => "a cap is from 0 to 100 %".into(),
        OrderRefusal::TooMuch { percent } => format!(
            "{percent} % of the capacity would be out of service; --confirm if that is meant"
        ),
        OrderRefusal::TooMany => "too many orders are in force; end some first".into(),
        OrderRefusal::Twice => "another order bears this name; try again".into(),
    }
}

#[cfg(test)]
mod tests;
