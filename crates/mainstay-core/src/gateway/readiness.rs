//! What would survive the loss of each single site, by tier. Whether a standby site is fit to
//! stand in is to be known before it must.
//!
//! Counted is what this gateway asks for, against its even part of what the other sites that are
//! up offer: work beyond that would be shed, the lowest tiers first.

use crate::cost::CostRate;
use crate::fact::{CreditFact, Fact, Verdict};
use crate::gateway::{Action, Gateway};
use crate::message::{Offer, TIERS_MAX};
use crate::names::{ModelId, TargetId};
use crate::share::{thousandths, tiers};
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// A standby that breaks must be known within half a minute.
const EVERY: Duration = Duration::from_secs(30);

impl Gateway {
    /// Tells for each model and each of its sites what would be left without that one.
    pub(super) fn tell_readiness(&mut self, now: Time, actions: &mut Vec<Action>) {
        if now < self.next_readiness {
            return;
        }
        self.next_readiness = now + EVERY;
        let mut floors = [0; TIERS_MAX];
        for (floor, tier) in floors.iter_mut().zip(&self.config.tiers) {
            *floor = thousandths(tier.floor);
        }
        let models: Vec<u16> = self.demand.keys().copied().collect();
        for model in models {
            let Some(known) = self.demand.get_mut(&model) else { continue };
            let demand = known.by_tier(now);
            let group = &self.config.models[usize::from(model)].served_by;
            for lost in group.iter().copied().filter(|id| self.targets.is_node(*id)) {
                let supply =
                    group.iter().filter(|id| **id != lost).map(|id| self.offers(*id)).sum();
                let kept = tiers(&demand, &floors, supply);
                let survives = core::array::from_fn(|tier| share(kept[tier], demand[tier]));
                let fact = CreditFact::Readiness { model: ModelId(model), lost, survives };
                actions.push(Action::Fact(Fact::Credit(fact)));
            }
        }
    }

    /// This gateway's part of what a site that is up takes.
    fn offers(&self, id: TargetId) -> CostRate {
        let known = self.targets.get(id);
        let is_up = known.health.verdict() == Verdict::Up && !known.shut;
        match self.targets.is_node(id) && is_up && known.held.offer() == Offer::Open {
            true => known.held.part(self.config.fleet.gateways),
            false => CostRate::ZERO,
        }
    }
}

/// In hundredths; all of nothing.
fn share(part: CostRate, whole: CostRate) -> u8 {
    (part.0 * 100).checked_div(whole.0).map_or(100, |share| share.min(100) as u8)
}
