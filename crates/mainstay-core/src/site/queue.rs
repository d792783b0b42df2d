//! Work that waits for a worker of one pool: which of it goes next, and which has waited too long.
//!
//! Tiers share by weight (weighted fair queueing): each has its floor, and of what is left a
//! higher tier gets four times the next one. Inside a tier, work that goes on with an answer begun
//! elsewhere is first, and it does not wait for lower tiers; then the tenant who was served least
//! (Virtual Token Counter, arXiv 2401.00588), and of one tenant what expires first. A tenant who
//! comes back starts where those who waited stand, so that nobody saves up. How much may wait is
//! for admission to say, by time.

use crate::cost::CostUnits;
use crate::message::TIERS_MAX;
use crate::names::{TierId, Work};
use crate::time::{Duration, Time};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// Each tier weighs this much more than the one below it.
const WEIGHT: u64 = 4;
/// Tenants without waiting work whose debt to others is remembered, for each tier. Beyond it the
/// smallest debt is forgiven.
const DEBTS_MAX: usize = 1024;
/// Waiting attempts of a tenant that are looked at for one more of it.
const LOOKED_AT: usize = 256;
/// Shares of tiers are thousandths, and none is less than one.
const WHOLE: u64 = 1000;

/// One attempt that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which.
    pub work: Work,
    /// In which tier.
    pub tier: TierId,
    /// Whose.
    pub tenant: u32,
    /// What it costs.
    pub cost: CostUnits,
    /// From here on its first token would be too late.
    pub expires: Time,
    /// Whether it goes on with an answer begun elsewhere.
    pub moving: bool,
}

/// The queue of one pool.
#[derive(Clone, Debug)]
pub struct Queue {
    lanes: Vec<Lane>,
    expiry: BTreeSet<(Time, Work)>,
    /// Where the lane that was served last stood: a lane that comes back starts there.
    virtual_time: u64,
    is_strict: bool,
}

#[derive(Clone, Debug)]
struct Lane {
    /// Thousandths of the pool while all lanes have work.
    share: u64,
    /// Work served by share; the lane with the least is next.
    pass: u64,
    cost: CostUnits,
    count: usize,
    moving: BTreeMap<(Time, Work), (u32, CostUnits)>,
    tenants: BTreeMap<u32, Tenant>,
    /// Tenants with waiting work, by what they were served.
    heads: BTreeSet<(u64, u32)>,
    /// Tenants without, whose counter is above the line.
    debts: BTreeSet<(u64, u32)>,
    /// Counter of the tenant served last.
    line: u64,
}

#[derive(Clone, Debug, Default)]
struct Tenant {
    counter: u64,
    waiting: BTreeMap<(Time, Work), CostUnits>,
}

impl Queue {
    /// An empty queue for tiers with these floors, in thousandths; `is_strict` takes the floors
    /// away and serves the highest tier first, always.
    pub fn new(floors: &[u16], is_strict: bool) -> Queue {
        let lanes = shares(floors).into_iter().map(Lane::new).collect();
        Queue { lanes, expiry: BTreeSet::new(), virtual_time: 0, is_strict }
    }

    /// The floors of the same tiers are others from now on.
    pub fn weigh(&mut self, floors: &[u16]) {
        for (lane, share) in self.lanes.iter_mut().zip(shares(floors)) {
            lane.share = share;
        }
    }

    /// Lets it wait.
    pub fn push(&mut self, waiting: Waiting) {
        let virtual_time = self.virtual_time;
        let lane = self.lane(waiting.tier);
        if lane.count == 0 {
            lane.pass = lane.pass.max(virtual_time);
        }
        lane.push(waiting);
        self.expiry.insert((waiting.expires, waiting.work));
    }

    /// Takes it out, served or not.
    pub fn remove(&mut self, waiting: &Waiting) {
        if self.expiry.remove(&(waiting.expires, waiting.work)) {
            self.lane(waiting.tier).remove(waiting);
        }
    }

    /// What goes next; it and its tenant are charged.
    pub fn pop(&mut self) -> Option<Work> {
        let waiting = self.lanes.iter().enumerate().filter(|(_, lane)| lane.count > 0);
        let next = if self.is_strict {
            waiting.map(|(tier, _)| tier).next()
        } else {
            waiting.min_by_key(|(tier, lane)| (lane.pass, *tier)).map(|(tier, _)| tier)
        }?;
        // An answer that goes on does not wait for a lower tier: its lane pays later.
        let goes_on = self.lanes[..next].iter().position(|lane| !lane.moving.is_empty());
        let lane = self.lanes.get_mut(goes_on.unwrap_or(next))?;
        let (expires, work, cost) = lane.pop()?;
        self.virtual_time = self.virtual_time.max(lane.pass);
        lane.pass = lane.pass.saturating_add(cost.0 * WHOLE / lane.share);
        self.expiry.remove(&(expires, work));
        Some(work)
    }

    /// What has waited too long, one at a time.
    pub fn expired(&self, now: Time) -> Option<Work> {
        self.expiry.first().filter(|(at, _)| *at <= now).map(|(_, work)| *work)
    }

    /// When the next one will have.
    pub fn deadline(&self) -> Option<Time> {
        self.expiry.first().map(|(at, _)| *at)
    }

    /// The tenant's work cost so much more or less than it was charged.
    pub fn correct(&mut self, tier: TierId, tenant: u32, charged: CostUnits, real: CostUnits) {
        if charged != real {
            self.lane(tier).correct(tenant, charged.0, real.0);
        }
    }

    /// Attempts that wait.
    pub fn len(&self) -> usize {
        self.expiry.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.expiry.is_empty()
    }

    /// Work that waits.
    pub fn cost(&self) -> CostUnits {
        self.lanes.iter().map(|lane| lane.cost).sum()
    }

    /// Whether work of this tier or a higher one waits.
    pub fn has_at_or_above(&self, tier: TierId) -> bool {
        self.lanes.iter().take(usize::from(tier.0) + 1).any(|lane| lane.count > 0)
    }

    /// Work of this tier and of higher ones that waits.
    pub fn cost_at_or_above(&self, tier: TierId) -> CostUnits {
        self.lanes.iter().take(usize::from(tier.0) + 1).map(|lane| lane.cost).sum()
    }

    /// Work of lower tiers that waits.
    pub fn cost_below(&self, tier: TierId) -> CostUnits {
        self.lanes.iter().skip(usize::from(tier.0) + 1).map(|lane| lane.cost).sum()
    }

    /// Work that is served before one more of this tier, at most: all there is, or its own lane
    /// and what the others get meanwhile by their shares.
    pub fn ahead(&self, tier: TierId) -> CostUnits {
        let Some(own) = self.lanes.get(self.position(tier)) else { return CostUnits::ZERO };
        let all = self.cost();
        if self.is_strict {
            return all - self.cost_below(tier);
        }
        let active = |lane: &&Lane| lane.count > 0;
        let shares: u64 = self.lanes.iter().filter(active).map(|lane| lane.share).sum();
        let by_share = own.cost.0.saturating_mul(shares.max(own.share)) / own.share;
        CostUnits(by_share).min(all)
    }

    /// The same for one more of this tenant with this expiry: what the tenant has waiting that
    /// expires later is not before it. The last of those are looked at.
    pub fn ahead_of(&self, (tier, tenant): (TierId, u32), expires: Time) -> CostUnits {
        let ahead = self.ahead(tier);
        let lane = self.lanes.get(self.position(tier));
        let Some(own) = lane.and_then(|lane| lane.tenants.get(&tenant)) else { return ahead };
        let last = own.waiting.iter().rev().take(LOOKED_AT);
        let later = last.take_while(|((at, _), _)| *at > expires);
        ahead - later.map(|(_, cost)| *cost).sum()
    }

    /// Work that is served before one more of this tier that goes on with an answer: what does the
    /// same in its lane or a higher one, and what higher ones get meanwhile by their shares.
    pub fn ahead_of_moving(&self, tier: TierId) -> CostUnits {
        let position = self.position(tier);
        let Some(own) = self.lanes.get(position) else { return CostUnits::ZERO };
        let moving = |lane: &Lane| lane.moving.values().map(|(_, cost)| *cost).sum::<CostUnits>();
        let mine = moving(own);
        let by_share = |lane: &Lane| CostUnits(mine.0.saturating_mul(lane.share) / own.share);
        let before = self.lanes[..position].iter().map(|lane| match self.is_strict {
            true => lane.cost,
            false => lane.cost.min(by_share(lane)).max(moving(lane)),
        });
        mine + before.sum()
    }

    /// Everything that waits, in order of expiry.
    pub fn works(&self) -> Vec<Work> {
        self.expiry.iter().map(|(_, work)| *work).collect()
    }

    fn position(&self, tier: TierId) -> usize {
        usize::from(tier.0).min(self.lanes.len() - 1)
    }

    fn lane(&mut self, tier: TierId) -> &mut Lane {
        let position = self.position(tier);
        &mut self.lanes[position]
    }
}

impl Lane {
    fn new(share: u64) -> Lane {
        Lane {
            share,
            pass: 0,
            cost: CostUnits::ZERO,
            count: 0,
            moving: BTreeMap::new(),
            tenants: BTreeMap::new(),
            heads: BTreeSet::new(),
            debts: BTreeSet::new(),
            line: 0,
        }
    }

    fn push(&mut self, waiting: Waiting) {
        self.cost += waiting.cost;
        self.count += 1;
        let key = (waiting.expires, waiting.work);
        if waiting.moving {
            self.moving.insert(key, (waiting.tenant, waiting.cost));
            return;
        }
        let line = self.line;
        let tenant = self.tenants.entry(waiting.tenant).or_default();
        if tenant.waiting.is_empty() {
            self.debts.remove(&(tenant.counter, waiting.tenant));
            tenant.counter = tenant.counter.max(line);
            self.heads.insert((tenant.counter, waiting.tenant));
        }
        tenant.waiting.insert(key, waiting.cost);
    }

    fn remove(&mut self, waiting: &Waiting) {
        let key = (waiting.expires, waiting.work);
        self.cost -= waiting.cost;
        self.count -= 1;
        if self.moving.remove(&key).is_some() {
            return;
        }
        let Some(tenant) = self.tenants.get_mut(&waiting.tenant) else { return };
        tenant.waiting.remove(&key);
        if tenant.waiting.is_empty() {
            self.heads.remove(&(tenant.counter, waiting.tenant));
            self.rest(waiting.tenant);
        }
    }

    fn pop(&mut self) -> Option<(Time, Work, CostUnits)> {
        if let Some(((expires, work), (tenant, cost))) = self.moving.pop_first() {
            self.cost -= cost;
            self.count -= 1;
            self.correct(tenant, 0, cost.0);
            return Some((expires, work, cost));
        }
        let (counter, id) = self.heads.pop_first()?;
        self.line = self.line.max(counter);
        let tenant = self.tenants.get_mut(&id)?;
        let ((expires, work), cost) = tenant.waiting.pop_first()?;
        self.cost -= cost;
        self.count -= 1;
        tenant.counter += cost.0;
        if tenant.waiting.is_empty() {
            self.rest(id);
        } else {
            self.heads.insert((tenant.counter, id));
        }
        Some((expires, work, cost))
    }

    fn correct(&mut self, id: u32, charged: u64, real: u64) {
        // Who is not remembered stands at the line: only a debt is worth remembering.
        let line = self.line;
        let fresh = || Tenant { counter: line, waiting: BTreeMap::new() };
        let tenant = self.tenants.entry(id).or_insert_with(fresh);
        let before = (tenant.counter, id);
        tenant.counter = tenant.counter.saturating_add(real).saturating_sub(charged);
        if !tenant.waiting.is_empty() {
            self.heads.remove(&before);
            self.heads.insert((tenant.counter, id));
            return;
        }
        self.debts.remove(&before);
        self.rest(id);
    }

    /// The tenant has nothing more to wait for: what it was served beyond others is kept.
    fn rest(&mut self, id: u32) {
        let Some(tenant) = self.tenants.get(&id) else { return };
        self.debts.insert((tenant.counter, id));
        while let Some(&(counter, least)) = self.debts.first() {
            if counter > self.line && self.debts.len() <= DEBTS_MAX {
                return;
            }
            self.debts.pop_first();
            self.tenants.remove(&least);
        }
    }
}

/// How long `work` takes at `rate`, in cost units a second; a day if nothing moves.
pub fn time_for(work: CostUnits, rate: crate::cost::CostRate) -> Duration {
    /// Long enough to be too late for everybody, and no overflow.
    const NEVER: u64 = 86_400_000_000;
    let micros = u128::from(work.0) * 1_000_000 / u128::from(rate.0.max(1));
    Duration::from_micros(u64::try_from(micros).unwrap_or(NEVER).min(NEVER))
}

/// What each tier gets of the pool while all wait, in thousandths.
fn shares(floors: &[u16]) -> Vec<u64> {
    let tiers = floors.len().clamp(1, TIERS_MAX);
    let weights = |tier: usize| WEIGHT.pow((tiers - 1 - tier) as u32);
    let sum: u64 = (0..tiers).map(weights).sum();
    let floor = |tier: usize| u64::from(floors.get(tier).copied().unwrap_or(0));
    let rest = WHOLE.saturating_sub((0..tiers).map(floor).sum());
    (0..tiers).map(|tier| (floor(tier) + rest * weights(tier) / sum).max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{AttemptId, GatewayId, RequestId};
    use crate::rng::Rng;

    fn waiting(number: u64, tier: u8, tenant: u32, cost: u64) -> Waiting {
        let attempt = AttemptId { request: RequestId(number), number: 1 };
        Waiting {
            work: Work { from: GatewayId(0), attempt },
            tier: TierId(tier),
            tenant,
            cost: CostUnits(cost),
            expires: Time::from_micros(1_000_000 + number),
            moving: false,
        }
    }

    #[test]
    fn tenants_with_work_waiting_are_served_alike_within_two_of_the_largest_requests() {
        for seed in 0..50 {
            let (mut queue, mut rng) = (Queue::new(&[0], false), Rng::new(seed));
            let (mut number, mut served, mut at) = (0, [0u64; 4], BTreeMap::new());
            for _ in 0..3000 {
                for tenant in 0..4 {
                    // The first asks a hundred times as often, none runs out of work.
                    for _ in 0..if tenant == 0 { 10 } else { 1 } {
                        number += 1;
                        let new = waiting(number, 0, tenant, 1 + rng.below(1000));
                        at.insert(new.work, new);
                        queue.push(new);
                    }
                }
                let work = queue.pop().expect("work");
                let Waiting { tenant, cost, .. } = at[&work];
                served[tenant as usize] += cost.0;
                let (most, least) = (served.iter().max(), served.iter().min());
                let gap = most.zip(least).map_or(0, |(most, least)| most - least);
                assert!(gap <= 2 * 1000, "seed {seed}: {served:?}");
            }
        }
    }

    #[test]
    fn backlogged_tiers_get_their_floors_and_no_tier_starves() {
        let mut queue = Queue::new(&[400, 250, 50, 0], false);
        let mut served = [0u64; 4];
        for number in 0..4000u64 {
            (0..4).for_each(|tier| queue.push(waiting(number * 4 + tier, tier as u8, 1, 1000)));
            let work = queue.pop().expect("work");
            served[(work.attempt.request.0 % 4) as usize] += 1;
        }
        assert!(served[0] >= 1600 && served[1] >= 1000 && served[2] >= 200, "{served:?}");
        assert!(served[3] > 0 && served[0] > 2 * served[1], "{served:?}");
    }

    #[test]
    fn what_goes_after_it_is_not_before_it() {
        let mut queue = Queue::new(&[0], false);
        // Every other one of one tenant, each later than the one before.
        (0..10).for_each(|number| queue.push(waiting(number, 0, (number % 2) as u32, 100)));
        let ahead = |tenant, number: u64| {
            queue.ahead_of((TierId(0), tenant), Time::from_micros(1_000_000 + number)).0
        };
        assert_eq!(ahead(0, 20), 1000, "the last of all");
        assert_eq!(ahead(0, 4), 800, "two of its own go after it");
        assert_eq!(ahead(1, 0), 500, "all of its own; of others it is not known");
        assert_eq!(ahead(7, 0), 1000, "a tenant without any");
    }

    #[test]
    fn without_floors_the_highest_tier_takes_everything() {
        let mut queue = Queue::new(&[400, 250], true);
        for number in 0..100 {
            queue.push(waiting(number * 2, 0, 1, 1000));
            queue.push(waiting(number * 2 + 1, 1, 1, 1000));
        }
        let first: Vec<_> = (0..100).filter_map(|_| queue.pop()).collect();
        assert!(first.iter().all(|work| work.attempt.request.0 % 2 == 0));
    }

    #[test]
    fn moving_work_is_first_in_its_tier_and_expired_work_is_found() {
        let mut queue = Queue::new(&[0], false);
        queue.push(waiting(1, 0, 1, 10));
        queue.push(Waiting { moving: true, ..waiting(2, 0, 2, 10) });
        assert_eq!(queue.expired(Time::from_micros(1_000_000)), None);
        assert_eq!(queue.expired(Time::from_micros(1_000_001)), Some(waiting(1, 0, 1, 10).work));
        assert_eq!(queue.pop(), Some(waiting(2, 0, 2, 10).work));
        assert_eq!((queue.len(), queue.cost()), (1, CostUnits(10)));
    }

    #[test]
    fn moving_work_waits_for_no_lower_tier_and_its_own_pays_later() {
        let mut queue = Queue::new(&[500, 500], false);
        for number in 0..40 {
            queue.push(Waiting { moving: number < 10, ..waiting(number, 0, 1, 10) });
            queue.push(waiting(100 + number, 1, 1, 10));
        }
        assert_eq!(queue.ahead_of_moving(TierId(0)), CostUnits(100));
        let order: Vec<u64> =
            (0..18).filter_map(|_| queue.pop()).map(|work| work.attempt.request.0).collect();
        assert!(order[..10].iter().all(|number| *number < 10), "{order:?}");
        assert!(order[10..].iter().all(|number| *number >= 100), "what others are owed: {order:?}");
    }

    #[test]
    fn a_queue_is_empty_after_any_order_of_pushes_pops_and_removals() {
        for seed in 0..200 {
            let (mut queue, mut rng) = (Queue::new(&[300, 0], false), Rng::new(seed));
            let mut there: BTreeMap<Work, Waiting> = BTreeMap::new();
            for number in 0..300 {
                let tier = rng.below(2) as u8;
                let new = Waiting {
                    moving: rng.below(5) == 0,
                    ..waiting(number, tier, rng.below(9) as u32, 1 + rng.below(99))
                };
                there.insert(new.work, new);
                queue.push(new);
                let popped = (rng.below(2) == 0).then(|| queue.pop()).flatten();
                let gone = popped.map(|work| there.remove(&work).expect("waits once"));
                if let Some(gone) = gone.filter(|_| rng.below(2) == 0) {
                    queue.correct(gone.tier, gone.tenant, gone.cost, CostUnits(rng.below(150)));
                }
                if rng.below(4) == 0 {
                    let (_, gone) = there.pop_first().unwrap_or((new.work, new));
                    queue.remove(&gone);
                }
                let cost: CostUnits = there.values().map(|waiting| waiting.cost).sum();
                assert_eq!((queue.len(), queue.cost()), (there.len(), cost), "seed {seed}");
            }
            while let Some(work) = queue.pop() {
                there.remove(&work);
            }
            assert!(there.is_empty() && queue.is_empty(), "seed {seed}");
        }
    }

    #[test]
    fn debts_of_absent_tenants_are_bounded() {
        let mut queue = Queue::new(&[0], false);
        for number in 0..20_000u64 {
            queue.push(waiting(number, 0, number as u32, 1 + number % 977));
            queue.pop();
        }
        assert!(queue.lanes[0].tenants.len() <= DEBTS_MAX + 1);
        assert!(queue.lanes[0].debts.len() <= DEBTS_MAX);
    }
}
