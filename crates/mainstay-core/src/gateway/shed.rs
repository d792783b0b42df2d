//! Refuses the lowest tiers first, early, when there is not room for all.
//!
//! Demand is counted by tier over two seconds. Where the targets of a model are bounded and the
//! bound is below the demand, each tier gets its share of the supply, floors first, then from the
//! top; of a tier that gets less than it wants, an even part of the requests is let in.

use crate::gateway::Gateway;
use crate::gateway::credit::{Window, tiers};
use crate::gateway::request::Ask;
use crate::time::Time;
use alloc::vec::Vec;

/// Demand below this many requests a second is never shed ahead: what room there is decides.
const DEMAND_MIN: f64 = 2.0;

/// A supply is an estimate: this much more is let in, and what then finds no room is refused at
/// once. Letting in less would leave room unused.
const MORE: f64 = 1.15;

/// What is asked of one model, by tier.
#[derive(Clone, Debug)]
pub(super) struct Shedding {
    demand: Vec<Window>,
    /// Error diffusion: a request is let in each time its tier's level passes one.
    level: Vec<f64>,
    /// Whether more is asked than there is room for.
    pub(super) is_short: bool,
}

impl Gateway {
    /// Counts a request as asked for; true if its tier's share is spent and it must be refused.
    pub(super) fn sheds(&mut self, now: Time, ask: &Ask) -> bool {
        let tiers_known = self.config.tiers.len();
        let shedding = self.demand.entry(ask.model.0).or_insert_with(|| Shedding {
            demand: alloc::vec![Window::default(); tiers_known],
            level: alloc::vec![1.0; tiers_known],
            is_short: false,
        });
        shedding.is_short = false;
        let tier = usize::from(ask.tier.0).min(tiers_known.saturating_sub(1));
        shedding.demand[tier].add(now);
        let model = &self.config.models[usize::from(ask.model.0)];
        let group = [&model.served_by[..], &model.substitutes[..]].concat();
        let Some(supply) = self.targets.supply(&self.config, &group, now) else { return false };
        let demand: Vec<f64> = shedding.demand.iter_mut().map(|w| w.per_second(now)).collect();
        let asked: f64 = demand.iter().sum();
        if asked < DEMAND_MIN || asked <= supply || supply <= 0.0 {
            return false;
        }
        shedding.is_short = true;
        let floors: Vec<f64> = self.config.tiers.iter().map(|t| t.floor).collect();
        let mut granted = alloc::vec![0.0; tiers_known];
        tiers(&demand, &floors, supply * MORE, &mut granted);
        shedding.level[tier] += granted[tier] / demand[tier].max(0.1);
        if shedding.level[tier] >= 1.0 - 1e-9 {
            shedding.level[tier] = (shedding.level[tier] - 1.0).min(1.0);
            return false;
        }
        true
    }
}
