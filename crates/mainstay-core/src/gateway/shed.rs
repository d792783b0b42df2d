//! Refuses the lowest levels first, early, when there is not room for all.
//!
//! Demand is counted over two seconds by level: a tier, and in it one of 128 buckets of tenants.
//! Where what will be taken is known and is below the demand, each tier gets its share, floors
//! first, then from the top; in a tier the buckets are let in from the first one on, and of the
//! one at the edge an even part. So whole tenants are let in or not, and an hour later others.

use crate::cost::{CostRate, CostUnits};
use crate::fact::{CreditFact, Fact};
use crate::gateway::credit::{Window, tiers};
use crate::gateway::nodes::tier_index;
use crate::gateway::ours::spread;
use crate::gateway::request::Ask;
use crate::gateway::{Action, Gateway};
use crate::message::{PerTier, TIERS_MAX};
use crate::mutant::Mutant;
use crate::names::{ModelId, TierId};
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// Demand below this many requests a second is never shed ahead: what room there is decides.
const DEMAND_MIN: f64 = 2.0;
/// What a provider will take is an estimate: this much more is let in, and what then finds no
/// room is refused at once. Letting in less would leave room unused.
const MORE: f64 = 1.15;
/// Of what sites of ours granted, less is an estimate: what is let in too much is held for a
/// moment, or tried unpaid.
const MORE_OURS: f64 = 1.05;
/// Buckets of tenants in a tier: enough that one is a small part of a tier, few enough to sum.
const BUCKETS: usize = 128;
/// Demand is counted over this time, in slots.
const WINDOW: Duration = Duration::from_secs(2);
const SLOTS: usize = 10;
/// A tier of which nothing was refused for this long is not being shed.
const CALM: Duration = Duration::from_secs(2);
/// What is refused comes back at no more than this share of capacity a second, in hundredths, of
/// each tier. Of three tiers it is a tenth at most: a load of nine tenths must be served again at
/// once while they return.
const RETURNING: u32 = 3;
/// The same of a tier that gets all it asks for: a burst refused it, which is soon over.
const RETURNING_SOON: u32 = 20;
/// Least and most time to come back that is told.
const BACK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// What is asked of one model, by level.
#[derive(Clone, Debug)]
pub(super) struct Shedding {
    levels: PerTier<Levels>,
    tiers: PerTier<u64>,
    since: PerTier<Time>,
    slot: u64,
    requests: Window,
    /// Error diffusion: a request is let in each time its tier's level passes one.
    level: PerTier<f64>,
    /// Whether more is asked than there is room for.
    pub(super) is_short: bool,
    /// Whether the tier gets less than it asks for.
    is_cut: PerTier<bool>,
    /// When a request of the tier was last refused, while that is told.
    shed: PerTier<Option<Time>>,
    asked: CostRate,
    /// When the last of those who were sent away is to come back, by tier.
    returns: PerTier<Time>,
}

/// The buckets of one tier. Nothing is kept of a tier that never asked: a gateway may know hundreds
/// of models.
#[derive(Clone, Debug, Default)]
struct Levels {
    /// Thousandths of a cost unit in each slot of each bucket, slot by slot.
    slots: Vec<u32>,
    /// By bucket, over all slots.
    sums: Vec<u64>,
}

impl Levels {
    /// Counts so much, and tells how much of it fits.
    fn add(&mut self, slot: u64, bucket: usize, cost: u64) -> u64 {
        if self.sums.is_empty() {
            self.slots = alloc::vec![0; SLOTS * BUCKETS];
            self.sums = alloc::vec![0; BUCKETS];
        }
        let known = &mut self.slots[(slot % SLOTS as u64) as usize * BUCKETS + bucket];
        let room = u64::from(u32::MAX - *known);
        *known += cost.min(room) as u32;
        self.sums[bucket] += cost.min(room);
        cost.min(room)
    }

    /// Forgets a slot, and tells how much was in it.
    fn forget(&mut self, slot: u64) -> u64 {
        if self.sums.is_empty() {
            return 0;
        }
        let at = (slot % SLOTS as u64) as usize * BUCKETS;
        let mut all = 0;
        for (known, sum) in self.slots[at..at + BUCKETS].iter_mut().zip(&mut self.sums) {
            let gone = u64::from(core::mem::take(known));
            *sum -= gone;
            all += gone;
        }
        all
    }
}

impl Shedding {
    fn new() -> Shedding {
        Shedding {
            levels: Default::default(),
            tiers: Default::default(),
            since: Default::default(),
            slot: 0,
            requests: Window::default(),
            level: [1.0; TIERS_MAX],
            is_short: false,
            is_cut: Default::default(),
            shed: Default::default(),
            asked: CostRate::ZERO,
            returns: [Time::ZERO; TIERS_MAX],
        }
    }

    /// What is asked for, by all tiers, as of the last request.
    pub(super) fn all(&self) -> CostRate {
        self.asked
    }

    /// About how many bytes it holds.
    pub(super) fn bytes(&self) -> usize {
        let levels = |levels: &Levels| {
            levels.slots.len() * size_of::<u32>() + levels.sums.len() * size_of::<u64>()
        };
        size_of::<Shedding>() + self.levels.iter().map(levels).sum::<usize>()
    }

    /// Whether lower tiers asked for something lately.
    pub(super) fn has_below(&self, rank: u8) -> bool {
        self.tiers.iter().skip(usize::from(rank) + 1).any(|sum| *sum > 0)
    }

    /// What is asked for, by tier.
    pub(super) fn by_tier(&mut self, now: Time) -> PerTier<CostRate> {
        self.roll(now);
        core::array::from_fn(|tier| CostRate(self.per_second(now, tier) as u64))
    }

    /// Tells of tiers that are not shed any more.
    pub(super) fn calm(&mut self, now: Time, model: ModelId, actions: &mut Vec<Action>) {
        for (tier, shed) in (0..).map(TierId).zip(&mut self.shed) {
            if shed.take_if(|at| now.since(*at) >= CALM).is_some() {
                let fact = CreditFact::SheddingEnded { model, tier };
                actions.push(Action::Fact(Fact::Credit(fact)));
            }
        }
    }

    fn add(&mut self, now: Time, (tier, bucket): (usize, usize), cost: u64) {
        self.roll(now);
        self.requests.add(now);
        if self.tiers[tier] == 0 {
            self.since[tier] = now;
        }
        self.tiers[tier] += self.levels[tier].add(self.slot, bucket, cost);
    }

    /// Thousandths of a cost unit a second of one tier, over the time since its first where that
    /// is shorter than the window.
    fn per_second(&self, now: Time, tier: usize) -> f64 {
        let age = now.since(self.since[tier]).min(WINDOW).max(WINDOW / SLOTS as u32);
        self.tiers[tier] as f64 / age.as_secs_f64()
    }

    /// Whether the level is let in where its tier gets `granted` of `wanted`.
    fn lets_in(&mut self, (tier, bucket): (usize, usize), granted: f64, wanted: f64) -> bool {
        let levels = &self.levels[tier].sums;
        let part = granted / wanted.max(0.1) * self.tiers[tier] as f64;
        let above = levels[..bucket].iter().sum::<u64>() as f64;
        let own = levels[bucket] as f64;
        let share = ((part - above) / own.max(1.0)).clamp(0.0, 1.0);
        let level = &mut self.level[tier];
        if share == 0.0 {
            return false;
        }
        *level += share;
        if *level >= 1.0 - 1e-9 {
            *level = (*level - 1.0).min(1.0);
            return true;
        }
        false
    }

    fn roll(&mut self, now: Time) {
        let slot = now.as_micros() / (WINDOW.as_micros() as u64 / SLOTS as u64);
        for passed in self.slot + 1..=slot.min(self.slot + SLOTS as u64) {
            for (levels, sum) in self.levels.iter_mut().zip(&mut self.tiers) {
                *sum -= levels.forget(passed);
            }
        }
        self.slot = self.slot.max(slot);
    }
}

impl Gateway {
    /// Counts a request as asked for; true if its level is beyond what there is room for and it
    /// must be refused.
    pub(super) fn sheds(&mut self, now: Time, ask: &Ask, actions: &mut Vec<Action>) -> bool {
        let model = &self.config.models[usize::from(ask.model.0)];
        let is_ours = model.served_by.iter().any(|id| self.targets.is_node(*id));
        let known = self.demand.entry(ask.model.0).or_insert_with(Shedding::new);
        known.is_short = false;
        known.is_cut = Default::default();
        let tiers_known = self.config.tiers.len().clamp(1, TIERS_MAX);
        let tier = tier_index(ask.tier).min(tiers_known - 1);
        let bucket = bucket(ask.tenant, self.hour);
        known.calm(now, ask.model, actions);
        // Providers are bounded by requests, so there each counts as one.
        let cost = if is_ours { ask.cost } else { CostUnits::whole(1) };
        known.add(now, (tier, bucket), cost.0);
        let mut demand = [0.0; TIERS_MAX];
        for (tier, demand) in demand.iter_mut().enumerate().take(tiers_known) {
            *demand = known.per_second(now, tier);
        }
        let asked: f64 = demand.iter().sum();
        known.asked = CostRate(asked as u64);
        let requests = known.requests.per_second(now);
        if requests < DEMAND_MIN {
            return false;
        }
        let groups = [&model.served_by[..], &model.substitutes[..]];
        let of_providers = self.targets.supply(&self.config, groups, (now, ask.tier.0));
        let of_nodes =
            self.targets.supply_of_nodes(&model.served_by, (now, self.config.fleet.gateways));
        let (Some(requests_taken), Some(of_nodes)) = (of_providers, of_nodes) else { return false };
        let supply = requests_taken * asked / requests.max(0.1) + of_nodes.0 as f64;
        if asked <= supply || supply <= 0.0 {
            return false;
        }
        known.is_short = true;
        let mut floors = [0.0; TIERS_MAX];
        if !self.config.fleet.credit.mutants.removes(Mutant::NoFloors) {
            for (floor, tier) in floors.iter_mut().zip(&self.config.tiers) {
                *floor = tier.floor;
            }
        }
        let mut granted = [0.0; TIERS_MAX];
        let more = if is_ours { MORE_OURS } else { MORE };
        tiers(&demand, &floors, supply * more, &mut granted);
        known.is_cut = core::array::from_fn(|tier| granted[tier] < demand[tier]);
        if known.lets_in((tier, bucket), granted[tier], demand[tier]) {
            return false;
        }
        // A burst that is over stands in the count for two seconds more. Credit that nobody uses
        // meanwhile says so.
        if self.targets.has_unused(&model.served_by, (now, tier)) {
            return false;
        }
        if known.shed[tier].replace(now).is_none() {
            let fact = CreditFact::SheddingBegan { model: ask.model, tier: ask.tier };
            actions.push(Action::Fact(Fact::Credit(fact)));
        }
        true
    }

    /// When a request that finds sites of ours full may come back: when what was sent away before
    /// it, of its tier and above, has returned, at a pace that leaves room for new work.
    pub(super) fn back_after(&mut self, now: Time, ask: (ModelId, TierId, CostUnits)) -> Duration {
        let (model, tier, cost) = ask;
        let group = &self.config.models[usize::from(model.0)].served_by;
        let gateways = u64::from(self.config.fleet.gateways.max(1));
        let offered = self.targets.offered(group, now);
        let Some(known) = self.demand.get_mut(&model.0) else { return BACK.0 };
        let tier = tier_index(tier);
        let share = if known.is_cut[tier] { RETURNING } else { RETURNING_SOON };
        let pace = CostRate(offered.0 / gateways).percent(share).0.max(1);
        let takes =
            Duration::from_micros((cost.0.saturating_mul(1_000_000) / pace).min(BACK_MICROS));
        let before = known.returns[..=tier].iter().copied().max().unwrap_or(now);
        let returns = (before.max(now + BACK.0) + takes).min(now + BACK.1);
        known.returns[tier] = returns;
        let drain = returns.since(now);
        let spread = self.rng.between(drain.mul_f64(0.8), drain.mul_f64(1.2));
        spread.clamp(BACK.0, BACK.1)
    }
}

/// See `BACK`.
const BACK_MICROS: u64 = BACK.1.as_micros() as u64;

fn bucket(tenant: u32, hour: u32) -> usize {
    let hash = spread(u64::from(tenant) << 32 | u64::from(hour));
    (hash % BUCKETS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn at(millis: u64) -> Time {
        Time::from_micros(1_000_000_000 + millis * 1000)
    }

    #[test]
    fn whatever_is_asked_the_count_is_that_of_the_last_two_seconds() {
        for seed in 0..100 {
            let (mut rng, mut shedding) = (Rng::new(seed), Shedding::new());
            let (mut millis, mut asked) = (0, Vec::new());
            for _ in 0..400 {
                let short = rng.below(10);
                millis += rng.below(1 << short);
                let level = (rng.below(TIERS_MAX as u64) as usize, rng.below(128) as usize);
                let cost = rng.below(1 << 20);
                shedding.add(at(millis), level, cost);
                asked.push((millis, level.0, cost));
                for tier in 0..TIERS_MAX {
                    let sum = |after: u64| -> u64 {
                        let of_it = asked.iter().filter(|(when, t, _)| *t == tier && *when > after);
                        of_it.map(|(_, _, cost)| cost).sum()
                    };
                    // A slot goes as a whole: a little less than the window counts.
                    let (most, least) =
                        (sum(millis.saturating_sub(2001)), sum(millis.saturating_sub(1799)));
                    let known = shedding.tiers[tier];
                    let levels = shedding.levels[tier].sums.iter().sum::<u64>();
                    assert_eq!(known, levels, "seed {seed}: a tier is the sum of its levels");
                    assert!(known <= most || millis < 2001, "seed {seed}: {known} of {most}");
                    assert!(known >= least || millis < 2001, "seed {seed}: {known} of {least}");
                }
            }
            shedding.roll(at(millis + 2000));
            assert_eq!(shedding.tiers, [0; TIERS_MAX], "seed {seed}: nothing is left");
        }
    }

    #[test]
    fn of_a_tier_that_gets_a_part_the_first_buckets_are_let_in_and_the_last_are_not() {
        for seed in 0..40 {
            let (mut rng, mut shedding) = (Rng::new(seed), Shedding::new());
            let granted = rng.below(100) as f64;
            let (mut asked, mut let_in) = ([0u32; BUCKETS], [0u32; BUCKETS]);
            for step in 0..20_000 {
                let bucket = rng.below(BUCKETS as u64) as usize;
                shedding.add(at(step), (2, bucket), 1000);
                let may = shedding.lets_in((2, bucket), granted, 100.0);
                if step > 4000 {
                    asked[bucket] += 1;
                    let_in[bucket] += u32::from(may);
                }
            }
            let share = let_in.iter().sum::<u32>() as f64 / asked.iter().sum::<u32>() as f64;
            assert!((share - granted / 100.0).abs() < 0.03, "seed {seed}: {share} of {granted}");
            let edge = (granted / 100.0 * BUCKETS as f64) as usize;
            let before = edge.saturating_sub(12);
            let after = (edge + 12).min(BUCKETS);
            assert_eq!(let_in[..before], asked[..before], "seed {seed}: the first wait for none");
            assert!(let_in[after..].iter().all(|count| *count == 0), "seed {seed}: beyond it none");
        }
    }
}
