//! What stays in service whatever operators order and probes say.
//!
//! Orders that would leave too little are ignored, and that is said. Which ones is a function of
//! the orders and of what policy says the sites carry, of nothing else: gateways and sites that
//! have heard of the same orders agree on it without asking each other. Each judges for itself, so
//! it holds under partition, when two operators each take out a part without knowing of the other.
//! A gateway judges once more for each request, over the sites that this one could go to. To take
//! out the last site an operator changes policy.

use crate::config::Service;
use crate::cost::CostRate;
use crate::message::{Order, Verb};
use crate::mutant::{Mutant, Mutants};
use crate::names::SiteId;
use alloc::vec::Vec;

/// Sites and orders that are looked at; more stay in service, or are ignored. Twice the size that
/// placement is built for would still fit.
pub const CONSIDERED_MAX: usize = 64;

/// With so few eligible sites one is enough: two of two would leave nothing to order.
const FEW: u32 = 2;

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

/// Orders, judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Those to obey.
    pub stand: Vec<Order>,
    /// Those that would leave too little in service.
    pub ignored: Vec<Order>,
}

/// Judges orders in force over all sites that policy lists.
pub fn judge(orders: Vec<Order>, service: &Service, mutants: Mutants) -> Judged {
    let all = service.sites.iter().take(CONSIDERED_MAX).enumerate();
    let all: Vec<_> = all.map(|(at, carries)| (SiteId(at as u16), *carries)).collect();
    let ignored = in_service(&all, &orders, &Evidence::default(), service.least(mutants)).ignored;
    let mut judged = Judged::default();
    for (at, order) in orders.into_iter().enumerate() {
        let is_ignored = at < CONSIDERED_MAX && ignored & (1 << at) != 0;
        if is_ignored { &mut judged.ignored } else { &mut judged.stand }.push(order);
    }
    judged
}

/// What speaks against sites besides orders.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence<'a> {
    /// Sites that say themselves that they take no new work: an order that this node has not heard
    /// of yet stands there.
    pub closed: &'a [SiteId],
    /// Sites removed by indirect evidence, the longest ago first.
    pub indirect: &'a [SiteId],
}

/// What stays of `eligible` (each site once, with its capacity) under these orders, and with this
/// evidence.
pub fn in_service(
    eligible: &[(SiteId, CostRate)],
    orders: &[Order],
    evidence: &Evidence<'_>,
    least: Least,
) -> InService {
    let mut set = Candidates::new(eligible, least);
    evidence.closed.iter().for_each(|site| set.remove(*site));
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
    for (at, site) in evidence.indirect.iter().enumerate().take(CONSIDERED_MAX) {
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
    /// Those that count, see `Service::sites`.
    counted: u64,
    capacity: u64,
    least_sites: u32,
    least_capacity: u64,
}

impl Candidates<'_> {
    fn new(eligible: &[(SiteId, CostRate)], least: Least) -> Candidates<'_> {
        let eligible = &eligible[..eligible.len().min(CONSIDERED_MAX)];
        let capacity: CostRate = eligible.iter().map(|(_, capacity)| *capacity).sum();
        let counts = |carries: CostRate| capacity == CostRate::ZERO || carries > CostRate::ZERO;
        let counted = eligible.iter().enumerate().filter(|(_, (_, carries))| counts(*carries));
        let counted = counted.fold(0u64, |counted, (at, _)| counted | 1 << at);
        let few = if counted.count_ones() <= FEW { 1 } else { u32::from(least.sites) };
        // Rounded up: what stays is at least the share.
        let least_capacity = u128::from(capacity.0) * u128::from(least.capacity);
        Candidates {
            eligible,
            kept: (0..eligible.len()).fold(0, |kept, at| kept | 1 << at),
            counted,
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
        let sites = (self.kept & self.counted & !(1 << place)).count_ones();
        let capacity = self.capacity - self.eligible[place].1.0;
        let counts = self.counted & (1 << place) != 0;
        if !counts {
            self.remove(site);
            return true;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::OrderId;
    use crate::time::Duration;
    use alloc::collections::BTreeSet;
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

    fn probed(indirect: &[SiteId]) -> Evidence<'_> {
        Evidence { indirect, ..Evidence::default() }
    }

    fn is_enough(all: &[(SiteId, CostRate)], kept: u64) -> bool {
        let total: u64 = all.iter().map(|(_, capacity)| capacity.0).sum();
        let counts = |capacity: CostRate| total == 0 || capacity.0 > 0;
        let counted = all.iter().enumerate().filter(|(_, (_, capacity))| counts(*capacity));
        let counted = counted.fold(0u64, |counted, (at, _)| counted | 1 << at);
        let least = match counted.count_ones() {
            0 => 0,
            1 | 2 => 1,
            _ => 2,
        };
        let stays = all.iter().enumerate().filter(|(at, _)| kept & (1 << at) != 0);
        let stays: u64 = stays.map(|(_, (_, capacity))| capacity.0).sum();
        (kept & counted).count_ones() >= least && stays * 100 >= total * 30
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
                let said = in_service(&eligible, &orders, &probed(&indirect), LEAST);
                assert!(is_enough(&eligible, said.kept), "{digits:?}: {said:?}");
                let mut turned = orders.clone();
                turned.reverse();
                let again = in_service(&eligible, &turned, &probed(&indirect), LEAST);
                assert_eq!(said.kept, again.kept, "arrival makes no difference: {digits:?}");
                assert!(judge_all(&eligible, &orders) == judge_all(&eligible, &turned));
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

    /// The names of the orders that stand.
    fn judge_all(all: &[(SiteId, CostRate)], orders: &[Order]) -> BTreeSet<OrderId> {
        let sites = all.iter().map(|(_, carries)| *carries).collect();
        let service = Service { sites, ..Service::default() };
        let judged = judge(orders.to_vec(), &service, Mutants::NONE);
        assert_eq!(judged.stand.len() + judged.ignored.len(), orders.len());
        judged.stand.iter().map(|order| order.id).collect()
    }

    #[test]
    fn of_two_drains_of_three_equal_sites_the_newer_is_ignored_and_other_orders_stand() {
        let cap = Order { verb: Verb::Cap(10), ..order(2, 3) };
        let all = sites(&[10, 10, 10, 0]);
        let stand = judge_all(&all, &[order(1, 2), order(0, 1), cap, order(3, 4)]);
        let seqs: Vec<u32> = stand.iter().map(|id| id.seq).collect();
        assert_eq!(seqs, [1, 3, 4], "a site that carries nothing by plan does not count");
    }

    #[test]
    fn a_site_that_says_it_takes_no_work_counts_as_gone_whatever_was_heard() {
        let all = sites(&[10, 10, 10]);
        let closed = Evidence { closed: &[SiteId(0)], ..Evidence::default() };
        let said = in_service(&all, &[order(1, 1)], &closed, LEAST);
        assert_eq!((said.kept, said.ignored), (0b110, 1));
    }

    #[test]
    fn the_newest_order_of_the_lowest_authority_is_ignored_first() {
        let eligible = sites(&[10, 10, 10]);
        let high = Order { authority: 9, ..order(2, 7) };
        let orders = [order(0, 2), order(1, 1), high];
        let said = in_service(&eligible, &orders, &Evidence::default(), LEAST);
        assert_eq!((said.kept, said.ignored), (0b011, 0b011));
        assert!(said.keeps(0) && said.keeps(64) && !said.keeps(2));
    }

    #[test]
    fn orders_win_over_indirect_evidence_and_the_oldest_of_that_over_newer() {
        let eligible = sites(&[10, 10, 10, 10]);
        let indirect = [SiteId(1), SiteId(2), SiteId(3)];
        let said = in_service(&eligible, &[order(0, 1)], &probed(&indirect), LEAST);
        assert_eq!((said.kept, said.spared), (0b1100, 0b110));
    }

    #[test]
    fn a_sole_site_stays_whatever_is_ordered() {
        let said = in_service(&sites(&[10]), &[order(0, 1)], &probed(&[SiteId(0)]), LEAST);
        assert_eq!((said.kept, said.ignored, said.spared), (1, 1, 1));
    }
}
