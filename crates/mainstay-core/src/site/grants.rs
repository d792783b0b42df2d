//! Credit for one model at this site: what each gateway may send, by tier, and what it may use of
//! our spare when another site is lost.
//!
//! Rates follow demand; nothing is decided for gateways, they are told what there is. The lease
//! rules are `lease::Granter`'s. What waits in the queue is taken off what is granted, so that the
//! overcommitment cannot build a standing queue.

use crate::config::SiteConfig;
use crate::cost::{CostRate, CostUnits};
use crate::drift::{Drift, Drifted, Level};
use crate::lease::{Granter, Terms};
use crate::message::{Grant, Offer, PerTier, Report, TIERS_MAX};
use crate::mutant::Mutant;
use crate::names::{GatewayId, TargetId};
use crate::rng::Rng;
use crate::share::{thousandths, tiers};
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// What waits is to be gone in this time. Shorter, and credit would swing with every burst: it
/// must be a few times the half second in which gateways hear of it.
const DRAIN: u64 = 2;
/// If the least grants of all gateways exceed this much of capacity, in hundredths, only some of
/// them get any.
const LEAST_SHARE: u32 = 20;
/// Expected uncached share for a session new to the site. No worker tells of its cache, so none
/// of the prompt is assumed to be there.
const MISS: u8 = 100;

/// What there is to grant.
#[derive(Clone, Copy, Debug)]
pub struct Supply {
    /// What the pool can carry.
    pub capacity: CostRate,
    /// On offer of it, in hundredths.
    pub ramp: u8,
    /// What waits.
    pub queued: CostUnits,
    /// Whether new work is taken.
    pub offer: Offer,
    /// When a first token comes now.
    pub ttft: Duration,
    /// How many times as long as usual it takes.
    pub slow: u8,
}

/// The granter of one pool. Bounded by the gateways that policy lists.
#[derive(Clone, Debug)]
pub struct Grants {
    target: TargetId,
    least: CostRate,
    floors: Vec<u16>,
    granter: Granter<GatewayId>,
    /// By position of the gateway.
    seen: Vec<Option<Seen>>,
}

#[derive(Clone, Debug)]
struct Seen {
    id: GatewayId,
    /// Says who is served where not all can be; another site draws others.
    lot: u64,
    demand: PerTier<CostRate>,
    total: CostRate,
    at: Time,
    /// When it was first heard of: since then the grants to it count their time.
    began: Time,
    drift: Drift,
}

impl Grants {
    /// For the pool at this position; `granter` says whether it must be silent first.
    pub fn new(config: &SiteConfig, pool: usize, granter: Granter<GatewayId>) -> Grants {
        let (target, least, floors) = (TargetId(0), CostRate::ZERO, Vec::new());
        let mut grants = Grants { target, least, floors, granter, seen: Vec::new() };
        grants.adopt(config, pool);
        grants
    }

    /// Another policy is in force, in which this is the pool at this position. What was granted to
    /// a gateway that it does not list counts until it lapses.
    pub fn adopt(&mut self, config: &SiteConfig, pool: usize) {
        self.target = config.pools[pool].target;
        // A median request a second: what carries less is cheaper to ask for each time.
        self.least = CostRate(config.pools[pool].median.0);
        self.floors = config.tiers.iter().map(|tier| thousandths(tier.floor)).collect();
        if config.credit.mutants.removes(Mutant::NoFloors) {
            self.floors = Vec::new();
        }
        self.seen.truncate(usize::from(config.gateways.max(1)));
    }

    /// Answers a report; `None` if policy does not list its sender.
    pub fn answer(
        &mut self,
        now: Time,
        (from, report): (GatewayId, &Report),
        supply: &Supply,
        config: &SiteConfig,
    ) -> Option<(Grant, Option<Drifted>)> {
        if from.0 >= config.gateways.max(1) {
            return None;
        }
        let seen = self.hear(now, from, report, &config.credit);
        let drifted = seen.drift.heard(now, report.elapsed);
        let is_apart = seen.drift.level() == Level::NoCredit;
        let elapsed = now.since(seen.began);
        let mut grant = Grant {
            target: self.target,
            epoch: self.granter.epoch(),
            nonce: report.nonce,
            rate: [CostRate::ZERO; TIERS_MAX],
            standby: CostRate::ZERO,
            capacity: supply.capacity,
            ramp: supply.ramp,
            offer: supply.offer,
            ttft: supply.ttft,
            miss: MISS,
            elapsed,
            slow: supply.slow,
        };
        let is_silent = self.granter.is_silent(now, &config.credit);
        if supply.offer == Offer::Open && !is_apart && !is_silent {
            (grant.rate, grant.standby) = self.shares(now, from, supply, config);
            let sum = grant.rate.iter().copied().sum::<CostRate>() + grant.standby;
            self.granter.record(now, from, sum.0, &config.credit);
        }
        Some((grant, drifted))
    }

    /// What all gateways may be using.
    pub fn used(&self, now: Time, terms: &Terms) -> CostRate {
        CostRate(self.granter.used(now, terms))
    }

    /// Forgets what has lapsed.
    pub fn tidy(&mut self, now: Time) {
        self.granter.tidy(now);
    }

    fn hear(&mut self, now: Time, from: GatewayId, report: &Report, terms: &Terms) -> &mut Seen {
        let at = usize::from(from.0);
        if self.seen.len() <= at {
            self.seen.resize(at + 1, None);
        }
        let salt = u64::from(self.target.0) << 16;
        let fresh = || Seen {
            id: from,
            lot: Rng::new(salt | u64::from(from.0)).bits(),
            demand: [CostRate::ZERO; TIERS_MAX],
            total: CostRate::ZERO,
            at: now,
            began: now,
            drift: Drift::new(terms.mutants),
        };
        let seen = self.seen[at].get_or_insert_with(fresh);
        seen.demand = report.demand;
        seen.total = report.total.iter().copied().sum();
        seen.at = now;
        seen
    }

    fn shares(
        &self,
        now: Time,
        from: GatewayId,
        supply: &Supply,
        config: &SiteConfig,
    ) -> (PerTier<CostRate>, CostRate) {
        const NOTHING: (PerTier<CostRate>, CostRate) = ([CostRate::ZERO; TIERS_MAX], CostRate(0));
        let terms = &config.credit;
        let served = self.served(now, supply.capacity, terms);
        let Some(own) = served.iter().find(|seen| seen.id == from) else { return NOTHING };
        let mut demand = [CostRate::ZERO; TIERS_MAX];
        for (tier, sum) in demand.iter_mut().enumerate() {
            *sum = served.iter().map(|seen| seen.demand[tier]).sum();
        }
        let whole: CostRate = demand.iter().copied().sum();
        let total: CostRate = served.iter().map(|seen| seen.total).sum();
        let waiting = CostRate(supply.queued.0 / DRAIN);
        let on_offer = supply.capacity.percent(u32::from(supply.ramp)).less(waiting);
        let target = tiers(&demand, &self.floors, on_offer);
        let spare = on_offer.less(target.iter().copied().sum());
        let mut rate = [CostRate::ZERO; TIERS_MAX];
        for (tier, rate) in rate.iter_mut().enumerate() {
            let slack = own.demand[tier].percent(u32::from(config.slack));
            *rate = target[tier].share(own.demand[tier], demand[tier])
                + slack.min(spare.share(own.demand[tier], whole));
        }
        let left = spare.less(whole.percent(u32::from(config.slack)));
        let mut standby =
            own.total.percent(u32::from(config.standby)).min(left.share(own.total, total));
        let amount = supply.capacity.percent(100 + u32::from(config.overcommit));
        let amount = amount.percent(u32::from(supply.ramp)).less(waiting);
        let room = CostRate(self.granter.room(now, from, amount.0, terms));
        cut(&mut rate, &mut standby, room);
        self.at_least(own, (&mut rate, &mut standby), room);
        (rate, standby)
    }

    /// Gateways whose demand counts: heard of within a lease, and if their least grants would take
    /// too much, those that a hash picks. Another site picks others.
    fn served(&self, now: Time, capacity: CostRate, terms: &Terms) -> Vec<&Seen> {
        let fresh = |seen: &&Seen| now.since(seen.at) < terms.lease + terms.drift;
        let mut served: Vec<&Seen> = self.seen.iter().flatten().filter(fresh).collect();
        let most = capacity.percent(LEAST_SHARE).0 / self.least.0.max(1);
        let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
        if served.len() > most {
            let mut lots: Vec<u64> = served.iter().map(|seen| seen.lot).collect();
            let (_, last, _) = lots.select_nth_unstable(most - 1);
            served.retain(|seen| seen.lot <= *last);
        }
        served
    }

    /// No grant is below a median request: who wants something gets that much if there is room,
    /// or nothing.
    fn at_least(
        &self,
        own: &Seen,
        (rate, standby): (&mut PerTier<CostRate>, &mut CostRate),
        room: CostRate,
    ) {
        let sum = rate.iter().copied().sum::<CostRate>() + *standby;
        if sum >= self.least {
            return;
        }
        let wanted = own.demand.iter().position(|demand| *demand > CostRate::ZERO);
        match wanted.filter(|_| room >= self.least && sum > CostRate::ZERO) {
            Some(tier) => rate[tier] += self.least.less(sum),
            None => {
                *rate = [CostRate::ZERO; TIERS_MAX];
                *standby = CostRate::ZERO;
            }
        }
    }
}

/// Standby first, then from the lowest tier, until it fits.
fn cut(rate: &mut PerTier<CostRate>, standby: &mut CostRate, room: CostRate) {
    let sum = rate.iter().copied().sum::<CostRate>() + *standby;
    let mut excess = sum.less(room);
    for part in core::iter::once(standby).chain(rate.iter_mut().rev()) {
        let less = excess.min(*part);
        *part -= less;
        excess -= less;
    }
}
