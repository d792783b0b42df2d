//! Operators' orders: which are in force, and how they spread without anybody in charge.
//!
//! The set only grows, by union, and shrinks by each order's own end; so gateways that have heard
//! the same orders hold the same set, whatever came first. Lives count down on each node's own
//! clock, and an order heard again never lives longer for it.

use crate::config::Service;
use crate::cost::CostRate;
use crate::fact::OrderRefusal;
use crate::message::{Order, OrderId, Verb, ruling};
use crate::names::{GatewayId, SiteId, fold};
use crate::time::{Duration, Time};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// The longest life of an order: what must last longer is policy.
pub const LIFE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Orders in force at once: more is a program running wild.
pub const ORDERS_MAX: usize = 64;

/// More of capacity than this, in hundredths, is taken out only with the confirm token: it is more
/// than one site of three.
pub const UNCONFIRMED_MAX: u8 = 34;

/// An `End` must outlive every copy of what it ends: clocks drift up to 2 %, each way.
const OUTLIVES: u32 = 25;

/// Names of lapsed orders are remembered for so long, that no slower clock brings them back: 2 %
/// of a day, each way.
const LAPSED_KEPT: Duration = Duration::from_secs(3600);

/// As many as can lapse at once, and once more.
const LAPSED_MAX: usize = 2 * ORDERS_MAX;

/// A peer's set that was asked for and did not come is asked for again after this time.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// The orders that this process knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Orders {
    /// In the order of their arrival; whoever ranks them does so by `Order::rank`.
    held: Vec<Held>,
    lapsed: Vec<(OrderId, Time)>,
    asked: BTreeMap<GatewayId, (u64, u64, Time)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Held {
    order: Order,
    until: Time,
}

impl Orders {
    /// Those that were on disk, as far as they may be in force: a disk may hold anything.
    pub fn boot(now: Time, orders: &[Order], later: Duration, service: &Service) -> Orders {
        let is_right = |order: &&Order| order.left > later && check(order, service).is_ok();
        let living = orders.iter().filter(is_right).take(ORDERS_MAX);
        let held =
            living.map(|order| Held { order: order.clone(), until: now + order.left - later });
        Orders { held: held.collect(), ..Orders::default() }
    }

    /// An operator gives an order here: besides what holds for every order, it must have a reason,
    /// and the token where it takes out much.
    pub fn command(
        &mut self,
        now: Time,
        (order, confirmed): (Order, bool),
        service: &Service,
    ) -> Result<bool, OrderRefusal> {
        check(&order, service)?;
        if order.reason.trim().is_empty() {
            return Err(OrderRefusal::NoReason);
        }
        let removed = self.removed_with(now, &order, &service.sites);
        if matches!(order.verb, Verb::Cap(_) | Verb::Drain | Verb::Kill)
            && removed > UNCONFIRMED_MAX
            && !confirmed
        {
            return Err(OrderRefusal::TooMuch { percent: removed });
        }
        self.take(now, order, service)
    }

    /// An order came from a peer; true if it was not known.
    pub fn take(
        &mut self,
        now: Time,
        order: Order,
        service: &Service,
    ) -> Result<bool, OrderRefusal> {
        check(&order, service)?;
        let until = now + order.left;
        if let Some(held) = self.held.iter_mut().find(|held| held.order.id == order.id) {
            if held.order.verb != order.verb || held.order.site != order.site {
                return Err(OrderRefusal::Twice);
            }
            let is_end = matches!(order.verb, Verb::End(_));
            held.until = if is_end { held.until.max(until) } else { held.until.min(until) };
            return Ok(false);
        }
        if self.lapsed.iter().any(|(id, _)| *id == order.id) {
            return Ok(false);
        }
        self.held.push(Held { order: order.clone(), until });
        self.bound();
        self.lengthen_ends(now);
        let has_place = self.held.iter().any(|held| held.order.id == order.id);
        if has_place { Ok(true) } else { Err(OrderRefusal::TooMany) }
    }

    /// Sites have other positions; an order about one that has none goes.
    pub fn renumber(&mut self, moved: &[Option<SiteId>]) {
        self.held.retain_mut(|held| {
            let Some(site) = held.order.site else { return true };
            held.order.site = moved.get(usize::from(site.0)).copied().flatten();
            held.order.site.is_some()
        });
    }

    /// Those whose life is over by now.
    pub fn lapse(&mut self, now: Time) -> Vec<OrderId> {
        let over = self.held.iter().filter(|held| held.until <= now);
        let over: Vec<OrderId> = over.map(|held| held.order.id).collect();
        self.held.retain(|held| held.until > now);
        self.lapsed.retain(|(_, until)| *until > now);
        self.lapsed.extend(over.iter().map(|id| (*id, now + LAPSED_KEPT)));
        let excess = self.lapsed.len().saturating_sub(LAPSED_MAX);
        self.lapsed.drain(..excess);
        over
    }

    /// What is in force: the set without those that an `End` names, and without the `End`s.
    pub fn in_force(&self, now: Time) -> Vec<Order> {
        let is_ended = |id: OrderId| self.held.iter().any(|h| h.order.verb == Verb::End(id));
        let rules = |order: &Order| !matches!(order.verb, Verb::End(_)) && !is_ended(order.id);
        self.set(now).into_iter().filter(rules).collect()
    }

    /// The whole set, with what is left of each life: for peers and for the disk.
    pub fn set(&self, now: Time) -> Vec<Order> {
        let left = |held: &Held| Order { left: held.until.since(now), ..held.order.clone() };
        self.held.iter().map(left).collect()
    }

    /// Of the set: the same wherever the same orders are known; nothing if there are none.
    pub fn hash(&self) -> u64 {
        if self.held.is_empty() {
            return 0;
        }
        let mut ids: Vec<OrderId> = self.held.iter().map(|held| held.order.id).collect();
        ids.sort();
        fold(ids.iter().flat_map(|id| [id.author, u64::from(id.seq)]))
    }

    /// A peer's hash came; true if its set is to be fetched.
    pub fn differs(&mut self, now: Time, peer: GatewayId, hash: u64) -> bool {
        let own = self.hash();
        if own == hash {
            self.asked.remove(&peer);
            return false;
        }
        let asked = self.asked.get(&peer);
        let is_waiting = |(theirs, ours, at): &(u64, u64, Time)| {
            *theirs == hash && *ours == own && now < *at + ASK_AGAIN
        };
        if asked.is_some_and(is_waiting) {
            return false;
        }
        self.asked.insert(peer, (hash, own, now));
        true
    }

    /// When the next life ends.
    pub fn deadline(&self) -> Option<Time> {
        self.held.iter().map(|held| held.until).min()
    }

    /// Keeps the first by rank, so that two full sets have one union.
    fn bound(&mut self) {
        while self.held.len() > ORDERS_MAX {
            let last = (0..self.held.len()).max_by_key(|at| self.held[*at].order.rank());
            let Some(last) = last else { return };
            self.held.remove(last);
        }
    }

    fn lengthen_ends(&mut self, now: Time) {
        let lives: Vec<(OrderId, Duration)> =
            self.held.iter().map(|held| (held.order.id, held.until.since(now))).collect();
        for held in &mut self.held {
            let Verb::End(ended) = held.order.verb else { continue };
            if let Some((_, left)) = lives.iter().find(|(id, _)| *id == ended) {
                held.until = held.until.max(now + *left + *left / OUTLIVES);
            }
        }
    }

    /// Hundredths of capacity that are out of service by orders, this one among them; rounded up.
    fn removed_with(&self, now: Time, order: &Order, sites: &[CostRate]) -> u8 {
        let mut orders = self.in_force(now);
        orders.push(order.clone());
        let is_unmeasured = sites.iter().all(|site| *site == CostRate::ZERO);
        let (mut removed, mut all) = (0u128, 0u128);
        for (at, site) in sites.iter().enumerate() {
            // Where nothing is known of capacities, sites count alike.
            let capacity = if is_unmeasured { 1 } else { u128::from(site.0) };
            all += capacity * 100;
            removed += capacity
                * match ruling(&orders, SiteId(at as u16)) {
                    Some(Verb::Drain | Verb::Kill) => 100,
                    Some(Verb::Cap(percent)) => 100 - u128::from(percent.min(100)),
                    Some(Verb::Freeze | Verb::End(_)) | None => 0,
                };
        }
        if all == 0 { 0 } else { (removed * 100).div_ceil(all) as u8 }
    }
}

/// What holds for every order, wherever it comes from.
fn check(order: &Order, service: &Service) -> Result<(), OrderRefusal> {
    // An `End` was lengthened so as to outlive what it ends.
    let is_end = matches!(order.verb, Verb::End(_));
    let longest = if is_end { LIFE_MAX + LIFE_MAX / OUTLIVES } else { LIFE_MAX };
    if order.left == Duration::ZERO || order.left > longest {
        return Err(OrderRefusal::Life);
    }
    match (order.verb, order.site) {
        (Verb::End(_), _) | (Verb::Freeze, None) => Ok(()),
        (_, None) => Err(OrderRefusal::Everywhere),
        (_, Some(site)) if usize::from(site.0) >= service.sites.len() => {
            Err(OrderRefusal::UnknownSite)
        }
        (Verb::Cap(percent), Some(_)) if percent > 100 => Err(OrderRefusal::Cap),
        (Verb::Freeze | Verb::Cap(_) | Verb::Drain | Verb::Kill, Some(_)) => Ok(()),
    }
}
