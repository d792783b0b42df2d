//! What stays in service whatever operators order and probes say.
//!
//! Judged by each gateway at the point of use, over the sites one request could go to: so it holds
//! under partition, when two operators each take out a part without knowing of the other. Orders
//! are tried in an order that all gateways share; what would leave too little is ignored, and
//! said. To take out the last site an operator changes policy.

use crate::cost::CostRate;
use crate::message::{Order, Verb};
use crate::mutant::{Mutant, Mutants};
use crate::names::SiteId;
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// Sites and orders that are looked at; more stay in service, or are ignored. Twice the size that
/// placement is built for would still fit.
pub const CONSIDERED_MAX: usize = 64;

/// With so few eligible sites one is enough: two of two would leave nothing to order.
const FEW: usize = 2;

/// Hundredths of capacity that indirect evidence may remove within `INDIRECT_WITHIN`.
const INDIRECT_PERCENT: u64 = 34;

/// Long enough that a person looks before a lying checker has taken the rest.
const INDIRECT_WITHIN: Duration = Duration::from_secs(600);

/// What must stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Least {
    /// Sites, where more than two are eligible; of two or fewer, one.
    pub sites: u8,
    /// Share of the eligible capacity, in hundredths.
    pub capacity: u8,
    /// Rules taken away, in tests only.
    pub mutants: Mutants,
}

/// What stays, by position: bit i is the i-th of what was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InService {
    /// Eligible sites that stay.
    pub kept: u64,
    /// Orders that are ignored because too little would stay. Each is an alarm.
    pub ignored: u64,
    /// Sites that stay although indirect evidence speaks against them.
    pub spared: u64,
}

impl InService {
    /// Whether the eligible site at this position stays.
    pub fn keeps(&self, position: usize) -> bool {
        position >= CONSIDERED_MAX || self.kept & (1 << position) != 0
    }
}

/// What stays of `eligible` (each site once, with its capacity) under these orders, and with these
/// sites removed by indirect evidence, the longest ago first.
pub fn in_service(
    eligible: &[(SiteId, CostRate)],
    orders: &[Order],
    indirect: &[SiteId],
    least: Least,
) -> InService {
    let mut set = Candidates::new(eligible, least);
    let (mut ignored, mut spared) = (0, 0);
    let mut ranked = [0usize; CONSIDERED_MAX];
    let count = orders.len().min(CONSIDERED_MAX);
    for (place, at) in ranked.iter_mut().enumerate() {
        *at = place;
    }
    let ranked = &mut ranked[..count];
    if !least.mutants.removes(Mutant::OrdersByArrival) {
        ranked.sort_unstable_by_key(|at| orders[*at].rank());
    }
    for at in ranked {
        let order = &orders[*at];
        let site = match (order.verb, order.site) {
            (Verb::Drain | Verb::Kill, Some(site)) => site,
            _ => continue,
        };
        if least.mutants.removes(Mutant::InServiceBySender) {
            set.remove(site);
        } else if !set.try_remove(site) {
            ignored |= 1 << *at;
        }
    }
    for (at, site) in indirect.iter().enumerate().take(CONSIDERED_MAX) {
        if !set.try_remove(*site) {
            spared |= 1 << at;
        }
    }
    InService { kept: set.kept, ignored, spared }
}

/// The set while it shrinks.
struct Candidates<'a> {
    eligible: &'a [(SiteId, CostRate)],
    kept: u64,
    capacity: u64,
    least_sites: usize,
    least_capacity: u64,
}

impl Candidates<'_> {
    fn new(eligible: &[(SiteId, CostRate)], least: Least) -> Candidates<'_> {
        let eligible = &eligible[..eligible.len().min(CONSIDERED_MAX)];
        let capacity: CostRate = eligible.iter().map(|(_, capacity)| *capacity).sum();
        let few = if eligible.len() <= FEW { 1 } else { usize::from(least.sites) };
        // Rounded up: what stays is at least the share.
        let least_capacity = u128::from(capacity.0) * u128::from(least.capacity);
        Candidates {
            eligible,
            kept: (0..eligible.len()).fold(0, |kept, at| kept | 1 << at),
            capacity: capacity.0,
            least_sites: few.max(1),
            least_capacity: least_capacity.div_ceil(100) as u64,
        }
    }

    fn place(&self, site: SiteId) -> Option<usize> {
        let place = self.eligible.iter().position(|(each, _)| *each == site)?;
        (self.kept & (1 << place) != 0).then_some(place)
    }

    /// Removes a site if enough stays; true if it is not among the candidates any more.
    fn try_remove(&mut self, site: SiteId) -> bool {
        let Some(place) = self.place(site) else { return true };
        let sites = self.kept.count_ones() as usize - 1;
        let capacity = self.capacity - self.eligible[place].1.0;
        if sites < self.least_sites || capacity < self.least_capacity {
            return false;
        }
        self.remove(site);
        true
    }

    fn remove(&mut self, site: SiteId) {
        if let Some(place) = self.place(site) {
            self.kept &= !(1 << place);
            self.capacity -= self.eligible[place].1.0;
        }
    }
}

/// Whether probes can be believed that fail at these sites: where more of the capacity fails at
/// once than they may remove, the checker is likelier wrong than all of them.
pub fn is_believable(sites: &[(SiteId, CostRate)], failing: &[SiteId]) -> bool {
    let all: u128 = sites.iter().map(|(_, capacity)| u128::from(capacity.0)).sum();
    let failed = sites.iter().filter(|(site, _)| failing.contains(site));
    let failed: u128 = failed.map(|(_, capacity)| u128::from(capacity.0)).sum();
    failing.len() <= 1 || failed * 100 <= all * u128::from(INDIRECT_PERCENT)
}

/// What indirect evidence (probes, peers) may still remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Indirect {
    removed: Vec<(SiteId, Time)>,
}

impl Indirect {
    /// Whether `site` may be removed now on indirect evidence; if so that is remembered. Of
    /// `sites`, a third may be within ten minutes, or one if that is more.
    pub fn may_remove(
        &mut self,
        now: Time,
        site: SiteId,
        sites: &[(SiteId, CostRate)],
        mutants: Mutants,
    ) -> bool {
        self.removed.retain(|(each, at)| now.since(*at) < INDIRECT_WITHIN && *each != site);
        let capacity = |of: SiteId| {
            sites.iter().find(|(each, _)| *each == of).map_or(0, |(_, capacity)| capacity.0)
        };
        let all: CostRate = sites.iter().map(|(_, capacity)| *capacity).sum();
        let removed: u64 = self.removed.iter().map(|(each, _)| capacity(*each)).sum();
        let share = u128::from(removed + capacity(site)) * 100;
        let may = self.removed.is_empty()
            || (all.0 > 0 && share <= u128::from(all.0) * u128::from(INDIRECT_PERCENT))
            || mutants.removes(Mutant::ProbesUncapped);
        if may {
            self.removed.push((site, now));
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::OrderId;
    use alloc::string::String;

    const LEAST: Least = Least { sites: 2, capacity: 30, mutants: Mutants::NONE };

    fn sites(capacities: &[u64]) -> Vec<(SiteId, CostRate)> {
        let numbered = capacities.iter().enumerate();
        numbered.map(|(at, capacity)| (SiteId(at as u16), CostRate(*capacity))).collect()
    }

    fn order(site: u16, seq: u32) -> Order {
        Order {
            id: OrderId { author: 1, seq },
            authority: 1,
            verb: if seq.is_multiple_of(2) { Verb::Drain } else { Verb::Kill },
            site: Some(SiteId(site)),
            reason: String::new(),
            left: Duration::from_secs(60),
        }
    }

    fn is_enough(all: &[(SiteId, CostRate)], kept: u64) -> bool {
        let least = match all.len() {
            0 => 0,
            1 | 2 => 1,
            _ => 2,
        };
        let total: u64 = all.iter().map(|(_, capacity)| capacity.0).sum();
        let stays = all.iter().enumerate().filter(|(at, _)| kept & (1 << at) != 0);
        let stays: u64 = stays.map(|(_, (_, capacity))| capacity.0).sum();
        kept.count_ones() >= least && stays * 100 >= total * 30
    }

    /// Calls `visit` with every list of `length` digits below `base`.
    fn every(length: usize, base: u64, mut visit: impl FnMut(&[u64])) {
        for number in 0..base.pow(length as u32) {
            let digit = |place| number / base.pow(place as u32) % base;
            let digits: Vec<u64> = (0..length).map(digit).collect();
            visit(&digits);
        }
    }

    #[test]
    fn enough_stays_in_every_case_of_up_to_six_sites() {
        let mut cases = 0u32;
        for count in 0..=6 {
            // Each site: what it carries (0, 1 or 3), and whether it is ordered or probed out.
            every(count, 9, |digits| {
                let capacities: Vec<u64> =
                    digits.iter().map(|d| [0, 1, 3][*d as usize % 3]).collect();
                let out = |how| {
                    let sites = digits.iter().enumerate().filter(move |(_, d)| **d / 3 == how);
                    sites.map(|(at, _)| at as u16)
                };
                let eligible = sites(&capacities);
                // The youngest first, so that arrival and rank differ.
                let orders: Vec<Order> =
                    out(1).map(|site| order(site, 9 - u32::from(site))).collect();
                let indirect: Vec<SiteId> = out(2).map(SiteId).collect();
                let said = in_service(&eligible, &orders, &indirect, LEAST);
                assert!(is_enough(&eligible, said.kept), "{digits:?}: {said:?}");
                let mut turned = orders.clone();
                turned.reverse();
                let again = in_service(&eligible, &turned, &indirect, LEAST);
                assert_eq!(said.kept, again.kept, "arrival makes no difference: {digits:?}");
                // What is ignored was needed: without it too little would stay.
                for (at, order) in orders.iter().enumerate() {
                    let place = eligible.iter().position(|(site, _)| Some(*site) == order.site);
                    let bit = 1u64 << place.expect("eligible");
                    assert_eq!(said.ignored & (1 << at) != 0, said.kept & bit != 0, "{digits:?}");
                }
                cases += 1;
            });
        }
        assert_eq!(cases, (0..=6).map(|count| 9u32.pow(count)).sum::<u32>());
    }

    #[test]
    fn the_newest_order_of_the_lowest_authority_is_ignored_first() {
        let eligible = sites(&[10, 10, 10]);
        let high = Order { authority: 9, ..order(2, 7) };
        let orders = [order(0, 2), order(1, 1), high];
        let said = in_service(&eligible, &orders, &[], LEAST);
        assert_eq!((said.kept, said.ignored), (0b011, 0b011));
        assert!(said.keeps(0) && said.keeps(64) && !said.keeps(2));
    }

    #[test]
    fn orders_win_over_indirect_evidence_and_the_oldest_of_that_over_newer() {
        let eligible = sites(&[10, 10, 10, 10]);
        let indirect = [SiteId(1), SiteId(2), SiteId(3)];
        let said = in_service(&eligible, &[order(0, 1)], &indirect, LEAST);
        assert_eq!((said.kept, said.spared), (0b1100, 0b110));
    }

    #[test]
    fn a_sole_site_stays_whatever_is_ordered() {
        let said = in_service(&sites(&[10]), &[order(0, 1)], &[SiteId(0)], LEAST);
        assert_eq!((said.kept, said.ignored, said.spared), (1, 1, 1));
    }

    #[test]
    fn probes_that_fail_at_more_sites_than_they_may_remove_are_not_believed() {
        let all = sites(&[10, 10, 10]);
        assert!(is_believable(&all, &[SiteId(1)]));
        assert!(!is_believable(&all, &[SiteId(1), SiteId(2)]));
        assert!(is_believable(&sites(&[90, 10]), &[SiteId(0)]), "one site, however large");
        assert!(is_believable(&sites(&[10; 12]), &[SiteId(0), SiteId(1), SiteId(2), SiteId(3)]));
    }

    /// AWS, 19 October 2025: checks flapped on half-configured nodes.
    #[test]
    fn s05_lying_probes_remove_a_third_or_one_site_within_ten_minutes() {
        let all = sites(&[10; 12]);
        let (mut budget, mut removed) = (Indirect::default(), Vec::new());
        for second in 0..599 {
            let (now, site) = (Time::ZERO + Duration::from_secs(second), second % 8);
            let site = SiteId(site as u16);
            if budget.may_remove(now, site, &all, Mutants::NONE) && !removed.contains(&site) {
                removed.push(site);
            }
        }
        assert_eq!(removed.len(), 4, "33 % of 12 sites");
        let large = sites(&[90, 10]);
        let mut budget = Indirect::default();
        assert!(budget.may_remove(Time::ZERO, SiteId(0), &large, Mutants::NONE));
        assert!(!budget.may_remove(Time::ZERO, SiteId(1), &large, Mutants::NONE));
        let later = Time::ZERO + INDIRECT_WITHIN;
        assert!(budget.may_remove(later, SiteId(1), &large, Mutants::NONE));
    }
}
