//! How much waits, and what of it goes before one more: by its place in line, by what its tenant
//! was served, and by the shares of tiers.

use super::{Queue, Tier};
use crate::mutant::Mutant;
use crate::names::{TierId, Work};
use crate::time::Time;
use alloc::vec::Vec;

/// Tenants that are looked at for a forecast: with more of them none has much of all.
const TENANTS_MAX: usize = 256;

impl Queue {
    /// Work that waits, of all tiers.
    pub fn cost(&self) -> u64 {
        self.tiers.iter().map(|tier| tier.all).sum()
    }

    /// Of it, that of those in line.
    pub fn cost_in_line(&self) -> u64 {
        self.tiers.iter().map(|tier| tier.backlog).sum()
    }

    /// All work that waits in a tier, and what other tiers get meanwhile by their shares.
    pub fn ahead_of_late(&self, tier: TierId) -> u64 {
        let all = self.tiers[usize::from(tier.0)].all as f64;
        ((all / self.share(tier)) as u64).min(self.cost())
    }

    /// Whether work of this tier or a higher one waits,
    pub fn has_at_or_above(&self, tier: TierId) -> bool {
        self.down_to(tier).any(|tier| tier.count > 0)
    }

    /// and how much.
    pub fn cost_at_or_above(&self, tier: TierId) -> u64 {
        self.down_to(tier).map(|tier| tier.all).sum()
    }

    /// Work that is served before one more of this tier and tenant with this key, at most: what
    /// goes before it there, and what other tiers get meanwhile by their shares.
    pub fn ahead(&self, (tier, tenant): (TierId, Option<u32>), key: Time) -> u64 {
        if self.mutants.removes(Mutant::NoFloors) {
            return self.cost_at_or_above(tier);
        }
        let own = &self.tiers[usize::from(tier.0)];
        let by_tenant = tenant.map_or(u64::MAX, |tenant| own.before_tenant(tenant));
        let before = own.keys.up_to(key).min(by_tenant) as f64;
        ((before / self.share(tier)) as u64).min(self.cost())
    }

    /// The same for one more that goes on with an answer: what does so too, in its tier or a
    /// higher one, and what higher ones get meanwhile by their shares.
    pub fn ahead_of_moving(&self, tier: TierId) -> u64 {
        let at = usize::from(tier.0);
        let cost = |work: &Work| self.waiting.get(work).map_or(0, |one| one.cost);
        let moving = |tier: &Tier| -> u64 { tier.moving.iter().map(|(_, work)| cost(work)).sum() };
        let mine = moving(&self.tiers[at]);
        let before = (0..at).map(|higher| {
            let sums = self.sums([higher, at].into_iter());
            let part = self.part(higher, sums) / self.part(at, sums);
            let tier = &self.tiers[higher];
            tier.all.min((mine as f64 * part) as u64).max(moving(tier))
        });
        mine + before.sum::<u64>()
    }

    /// All that wait.
    pub fn works(&self) -> Vec<Work> {
        self.waiting.sorted().into_iter().map(|(work, _)| work).collect()
    }

    fn down_to(&self, tier: TierId) -> impl Iterator<Item = &Tier> {
        self.tiers.iter().take(usize::from(tier.0) + 1)
    }
}

impl Tier {
    /// Work that goes before one more of a tenant whatever the keys are: others' until they were
    /// served as much. A tenant with little to do does not wait for all of one with much.
    fn before_tenant(&self, tenant: u32) -> u64 {
        let line = self.by_counter.first().map_or(self.line, |(counter, _)| *counter);
        let own = self.tenants.get(&tenant);
        let (counter, cost) = own.map_or((line, 0), |own| (own.counter.max(line), own.cost));
        let until = counter + cost + (self.window * self.largest as f64) as u64;
        let mut sum = 0;
        for (at, (counter, other)) in self.by_counter.range(..=(until, u32::MAX)).enumerate() {
            if at == TENANTS_MAX {
                return self.all;
            }
            let waits = self.tenants.get(other).map_or(0, |other| other.cost);
            // The last of them is served whole.
            sum += waits.min(until - counter + self.largest);
        }
        sum
    }
}
