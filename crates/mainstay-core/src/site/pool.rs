//! One model at this site: its queue, its workers, its credit and its ramp, and the two small
//! measures they share: how much room there is for work without credit, and whether first tokens
//! come as promised.

use crate::config::{Pool as PoolConfig, SiteConfig};
use crate::cost::{CostRate, CostUnits};
use crate::lease::Granter;
use crate::message::{Offer, Open, PerTier, TIERS_MAX};
use crate::names::{GatewayId, TierId};
use crate::rng::Rng;
use crate::share::thousandths;
use crate::site::grants::{Grants, Supply};
use crate::site::ramp::{Ramp, Step};
use crate::site::schedule::Scheduler;
use crate::site::schedule::settings::{Policy, Settings, TierSettings};
use crate::site::schedule::strength::Strength;
use crate::site::signal::Signal;
use crate::site::wanted::{Seen, Wanted};
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// Work without credit leaves room for this much of a second's work free, in hundredths: what has
/// credit comes first. A reserve and not a rate: else that much would never be used.
const KEPT_FREE: u32 = 5;
/// See `KEPT_FREE`.
const KEPT_TIME: Duration = Duration::from_secs(1);
/// Unused room for work without credit is kept for so long: a burst within it is ordinary.
const ROOM_DEPTH: Duration = Duration::from_millis(500);
/// And work with credit takes at most so much of it ahead.
const ROOM_DEBT: Duration = Duration::from_secs(1);
/// By how much longer a prompt takes to read than a median one, its first token may take so many
/// times that longer.
const LONGER: u32 = 3;
/// And no longer than this counts.
const LONGER_MAX: Duration = Duration::from_secs(60);
/// Shortest and longest time after which a refused attempt may come back.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// Those times are spread by so much either way, so that what was refused together does not come
/// back together.
const AGAIN_SPREAD: f64 = 0.2;
/// Whoever may wait so long has everybody of its tier before it.
const LONGEST: Duration = Duration::from_secs(86_400);
/// Each tier weighs this much more than the one below it.
const WEIGHT: f64 = 4.0;
/// Lower tiers give way for so much of what they are let in. Enough for what overdrew its credit;
/// with two seconds, after a crash at nine tenths of capacity, they were shed for longer.
const GIVES_WAY: Duration = Duration::from_millis(200);
/// Seconds over which first tokens are judged,
const JUDGED: usize = 5;
/// of which so many must have late ones: then it has lasted,
const JUDGED_LATE: usize = 3;
/// and so many, in hundredths, may be late.
const LATE: u32 = 10;
/// Weight of a second in what is in use of a ramp's step.
const USED_STEP: f64 = 0.1;
/// A change of capacity by this much, in hundredths, is worth telling.
const TOLD: u64 = 10;

/// One pool.
#[derive(Debug)]
pub struct Pool {
    /// What policy says of it.
    pub config: PoolConfig,
    /// Credit.
    pub grants: Grants,
    /// What waits, what works, and who gets what.
    pub scheduler: Scheduler,
    /// What is on offer.
    pub ramp: Ramp,
    /// Room for work without credit.
    pub room: Room,
    /// Whether first tokens are in time.
    pub promise: Promise,
    /// How many workers would be the right number.
    pub wanted: Wanted,
    /// How long work waits, and how much more could be carried.
    pub signal: Signal,
    /// The largest request taken in so far.
    pub largest: CostUnits,
    let_in: LetIn,
    /// Floors of tiers, in thousandths.
    floors: Vec<u16>,
    used: f64,
    told: CostRate,
}

impl Pool {
    /// The pool at this position.
    pub fn new(
        config: &SiteConfig,
        position: usize,
        granter: Granter<GatewayId>,
        seed: u64,
    ) -> Pool {
        let floors: Vec<u16> = config.tiers.iter().map(|tier| thousandths(tier.floor)).collect();
        let mutants = config.credit.mutants;
        let (policy, tiers) = (Policy::Site, tiers(&floors));
        // Until times are learned: with a quarter, scenario S21 lost a thousandth of its free tier.
        let window = 1.0;
        let settings = Settings { policy, tiers, seed, mutants, window, ..Settings::default() };
        Pool {
            config: config.pools[position],
            grants: Grants::new(config, position, granter),
            scheduler: Scheduler::new(settings),
            ramp: Ramp::whole(),
            room: Room::default(),
            promise: Promise::default(),
            wanted: Wanted::default(),
            signal: Signal::default(),
            largest: config.pools[position].median,
            let_in: LetIn::default(),
            floors,
            used: 0.0,
            told: CostRate::ZERO,
        }
    }

    /// Another policy is in force, in which this is the pool at this position.
    pub fn adopt(&mut self, config: &SiteConfig, position: usize) {
        self.config = config.pools[position];
        self.floors = config.tiers.iter().map(|tier| thousandths(tier.floor)).collect();
        self.scheduler.weigh(tiers(&self.floors));
        self.grants.adopt(config, position);
    }

    /// What there is to grant, of which an operator's order leaves `cap` hundredths.
    pub fn supply(&self, now: Time, cap: u8, offer: Offer) -> Supply {
        let (carries, queued) = (self.workers().carries(now), self.scheduler.cost_in_line());
        Supply {
            capacity: carries.percent(u32::from(cap.min(100))),
            ramp: self.ramp.percent(),
            queued,
            offer,
            ttft: self.workers().service() + carries.time_for(queued),
            slow: self.workers().slowness(),
        }
    }

    /// What its workers carry.
    pub fn workers(&self) -> &Strength {
        self.scheduler.strength()
    }

    /// How much longer a first token may take than that of a median request: times of tiers are
    /// made for those, and a long prompt would be refused for its length by every site.
    pub fn longer(&self, cost: CostUnits) -> Duration {
        self.workers().one().time_for(cost - self.config.median).min(LONGER_MAX) * LONGER
    }

    /// When a refused attempt may come back: when what is before it will be gone.
    pub fn again(&self, now: Time, open: &Open, rng: &mut Rng) -> Duration {
        let rate = self.workers().carries(now).percent(u32::from(self.ramp.percent()));
        let before = self.scheduler.ahead(now, (open.tier, open.tenant), now + LONGEST);
        let drain = rate.time_for(before + open.cost).min(AGAIN.1);
        let (low, high) = (drain.mul_f64(1.0 - AGAIN_SPREAD), drain.mul_f64(1.0 + AGAIN_SPREAD));
        rng.between(low, high).clamp(AGAIN.0, AGAIN.1)
    }

    /// Work that may wait at this tier and above without credit, since lower ones give way to it:
    /// what they are let in above their floors while credit moves.
    pub fn gives_way(&self, tier: TierId, on_offer: CostRate) -> CostUnits {
        let mut sum = CostRate::ZERO;
        for lower in usize::from(tier.0) + 1..TIERS_MAX {
            let floor = CostRate(self.floors.get(lower).copied().unwrap_or(0).into());
            sum += self.let_in.rate(lower).less(on_offer.share(floor, CostRate(1000)));
        }
        sum.over(GIVES_WAY)
    }

    /// Work was taken in.
    pub fn admitted(&mut self, now: Time, (tier, cost): (TierId, CostUnits), cap: u8) {
        self.largest = self.largest.max(cost);
        self.let_in.now[usize::from(tier.0).min(TIERS_MAX - 1)] += cost;
        let offer = (self.reads(cap), self.config.median);
        self.room.take(now, cost, offer);
    }

    /// Whether work without credit has room. Streams are not counted in it: who needs one has to
    /// find it free. Few answers are a rate of few, which a burst would exceed though most streams
    /// are free.
    pub fn has_room(&mut self, now: Time, cost: CostUnits, cap: u8) -> bool {
        let offer = (self.reads(cap), self.config.median);
        self.room.may(now, cost, offer)
    }

    /// What workers would read of prompts, of what an order and the ramp leave.
    fn reads(&self, cap: u8) -> CostRate {
        let capacity = self.workers().reads().percent(u32::from(cap.min(100)));
        capacity.percent(u32::from(self.ramp.percent()))
    }

    /// A second has passed: the ramp's step, if it takes one.
    pub fn second(&mut self, now: Time, on_offer: CostRate, is_frozen: bool) -> Option<Step> {
        self.grants.tidy(now);
        self.scheduler.second();
        let admitted = self.let_in.second().as_f64();
        self.used += USED_STEP * (admitted - self.used);
        let is_late = self.promise.second();
        self.wanted.second(now, self.seen());
        self.signal.leaves(on_offer.less(CostRate((self.used * 1000.0) as u64)));
        if is_frozen || self.workers().is_empty() {
            return None;
        }
        let used = self.used / on_offer.as_f64().max(0.001) * 100.0;
        self.ramp.second(now, used as u64, is_late || self.workers().are_slow())
    }

    /// What this second shows of whether its workers are the right number.
    fn seen(&self) -> Seen {
        let work = self.used / self.workers().calibrated().as_f64().max(0.001) * 100.0;
        let open = u64::from(self.workers().running()) * 100;
        let streams = u64::from(self.workers().streams()).max(1);
        Seen {
            workers: self.workers().count(),
            used: (work as u64).max(open / streams),
            late: self.signal.long(),
            returning: self.ramp.percent() < 100,
        }
    }

    /// On offer now, of what an order leaves.
    pub fn on_offer(&self, now: Time, cap: u8) -> CostRate {
        let supply = self.supply(now, cap, Offer::Open);
        supply.capacity.percent(u32::from(supply.ramp))
    }

    /// The capacity as it was told and as it is, if that is worth telling.
    pub fn capacity_moved(&mut self, now_is: CostRate) -> Option<(CostRate, CostRate)> {
        let apart = self.told.0.abs_diff(now_is.0);
        if apart == 0 || apart * 100 < self.told.0.max(now_is.0) * TOLD {
            return None;
        }
        Some((core::mem::replace(&mut self.told, now_is), now_is))
    }
}

/// What each tier gets of the pool, the highest first. Its times the site says of each attempt.
/// Who has no floor lives on what others leave, and gives way to them at workers too.
fn tiers(floors: &[u16]) -> Vec<TierSettings> {
    let mut weight = 1.0;
    let mut tiers: Vec<TierSettings> = Vec::new();
    for floor in floors.iter().rev().take(TIERS_MAX) {
        let floor = f64::from(*floor) / 1000.0;
        let preemptible = floor == 0.0;
        tiers.push(TierSettings { floor, weight, preemptible, ..TierSettings::default() });
        weight *= WEIGHT;
    }
    tiers.reverse();
    tiers
}

/// Room for work that has no credit: what is on offer less what was taken in, as a bucket.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Thousandths of a cost unit.
    level: i64,
    at: Time,
}

impl Default for Room {
    /// Nothing was taken in yet, so all that it may hold is there.
    fn default() -> Room {
        Room { level: i64::MAX, at: Time::ZERO }
    }
}

impl Room {
    /// Whether work of this cost has room; a request larger than the whole bucket needs all of it.
    pub fn may(&mut self, now: Time, cost: CostUnits, offer: (CostRate, CostUnits)) -> bool {
        let depth = self.fill(now, offer);
        let kept = offer.0.percent(KEPT_FREE).over(KEPT_TIME);
        self.level >= depth.min((cost + kept).0 as i64)
    }

    /// Work unused or not done after all.
    pub fn give_back(&mut self, cost: CostUnits) {
        self.level = self.level.saturating_add(cost.0 as i64);
    }

    fn take(&mut self, now: Time, cost: CostUnits, offer: (CostRate, CostUnits)) {
        self.fill(now, offer);
        let debt = offer.0.over(ROOM_DEBT).max(offer.1).0 as i64;
        self.level = self.level.saturating_sub(cost.0 as i64).max(-debt);
    }

    /// Fills it from what is on offer; its depth, at least one median request.
    fn fill(&mut self, now: Time, (on_offer, median): (CostRate, CostUnits)) -> i64 {
        let depth = on_offer.over(ROOM_DEPTH).max(median).0 as i64;
        let more = on_offer.over(now.since(self.at));
        // Less than a thousandth has no effect yet: the time is kept until it has.
        if more > CostUnits::ZERO || on_offer == CostRate::ZERO {
            self.at = now;
        }
        self.level = self.level.saturating_add(more.0 as i64).min(depth);
        depth
    }
}

/// Work that was taken in, by tier: in the second under way and in the one before.
#[derive(Clone, Copy, Debug, Default)]
struct LetIn {
    now: PerTier<CostUnits>,
    before: PerTier<CostUnits>,
}

impl LetIn {
    /// What a tier was let in of late, a second.
    fn rate(&self, tier: usize) -> CostRate {
        CostRate(self.now[tier].max(self.before[tier]).0)
    }

    /// A second has passed: what was taken in meanwhile.
    fn second(&mut self) -> CostUnits {
        self.before = core::mem::take(&mut self.now);
        self.before.iter().copied().sum()
    }
}

/// Whether first tokens come as promised, over some seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Promise {
    slots: [(u32, u32); JUDGED],
    now: (u32, u32),
    next: usize,
}

impl Promise {
    /// A first token came; late or not.
    pub fn first_token(&mut self, is_late: bool) {
        self.now.0 += 1;
        self.now.1 += u32::from(is_late);
    }

    /// A second has passed: whether too many are late, and not for a moment only.
    fn second(&mut self) -> bool {
        self.slots[self.next] = core::mem::take(&mut self.now);
        self.next = (self.next + 1) % JUDGED;
        let (all, late) = self.slots.iter().fold((0, 0), |sum, s| (sum.0 + s.0, sum.1 + s.1));
        let lasted = self.slots.iter().filter(|slot| slot.1 > 0).count() >= JUDGED_LATE;
        lasted && late * 100 > all * LATE
    }
}
