//! How much of the capacity probes and peers may take out of use.
//!
//! What a gateway did not see fail itself it believes up to a third of the capacity in ten minutes:
//! beyond that the checker is likelier wrong than the sites, and somebody must look.

use crate::cost::CostRate;
use crate::mutant::{Mutant, Mutants};
use crate::names::SiteId;
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// Hundredths of capacity that indirect evidence may remove within `INDIRECT_WITHIN`.
const INDIRECT_PERCENT: u64 = 34;

/// Long enough that a person looks before a lying checker has taken the rest.
const INDIRECT_WITHIN: Duration = Duration::from_secs(600);

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

    fn sites(capacities: &[u64]) -> Vec<(SiteId, CostRate)> {
        let numbered = capacities.iter().enumerate();
        numbered.map(|(at, capacity)| (SiteId(at as u16), CostRate(*capacity))).collect()
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
