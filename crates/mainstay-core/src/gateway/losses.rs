//! What the loss of a site would leave, by the numbers of this moment: whom of those who ask now
//! would be refused then.
//!
//! What is left goes to the highest tier first, as sites grant it. Every gateway is taken to be
//! asked as much as this one. What a provider's account carries nobody knows: where one is left,
//! nothing is told of how much there would be.

use super::Gateway;
use super::view::TargetView;
use crate::fact::Verdict;
use crate::message::{Offer, Short};
use crate::names::{ModelId, SiteId, TierId};
use crate::time::Time;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// One site lost, as one model would feel it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// The site.
    pub site: SiteId,
    /// The model.
    pub model: ModelId,
    /// What is asked of the model now, in cost units a second.
    pub asked: f64,
    /// What the others carry; none if that is not known.
    pub left: Option<f64>,
    /// By tier, the highest first: of a thousand requests how many would be refused.
    pub refused: Vec<u16>,
}

impl Loss {
    /// Whether nobody would be refused, as far as is known.
    pub fn holds(&self) -> bool {
        self.refused.iter().all(|refused| *refused == 0)
    }
}

impl Gateway {
    /// Every site that serves a model that is asked for, as if it were lost now.
    pub fn losses(&mut self, now: Time) -> Vec<Loss> {
        let view = self.view(now);
        let gateways = f64::from(self.config.fleet.gateways.max(1));
        let mut losses = Vec::new();
        for (model, asked) in &view.demand {
            let Some(known) = self.config.models.get(usize::from(model.0)) else { continue };
            let targets = known.served_by.iter();
            let targets = targets.filter_map(|target| view.targets.get(usize::from(target.0)));
            let stand: Vec<&TargetView> = targets.filter(|target| stands(target)).collect();
            let asked: Vec<f64> = asked.iter().map(|rate| rate * gateways).collect();
            let sites: BTreeSet<SiteId> = stand.iter().map(|target| target.site).collect();
            losses.extend(sites.into_iter().map(|site| {
                let rest = stand.iter().filter(|target| target.site != site);
                let left = rest.map(|target| carries(target)).sum::<Option<f64>>();
                let refused = refused(&asked, left);
                Loss { site, model: *model, asked: asked.iter().sum(), left, refused }
            }));
        }
        losses
    }
}

/// Where the loss of a site would leave somebody refused, for the model that it is worst for.
pub fn short(losses: &[Loss]) -> Vec<Short> {
    let mut worst: BTreeMap<(SiteId, TierId), u16> = BTreeMap::new();
    for loss in losses {
        for (tier, refused) in (0..).map(TierId).zip(&loss.refused).filter(|(_, of)| **of > 0) {
            let known = worst.entry((loss.site, tier)).or_default();
            *known = (*known).max(*refused);
        }
    }
    worst.into_iter().map(|((site, tier), refused)| Short { site, tier, refused }).collect()
}

/// Whether it can be sent anything.
fn stands(target: &TargetView) -> bool {
    let is_open = target.offer == Offer::Open && !target.is_shut && !target.is_parked;
    is_open && target.verdict != Verdict::Down
}

/// What it offers of what it carries, in cost units a second; none if nobody knows.
fn carries(target: &TargetView) -> Option<f64> {
    // Only sites of ours tell when a first token is to be expected, and how much they carry.
    let is_known = target.first_token.is_some() && target.capacity > 0.0;
    is_known.then(|| target.capacity * f64::from(target.ramp) / 100.0)
}

/// Of a thousand requests of each tier how many find nothing left, the highest served first.
fn refused(asked: &[f64], left: Option<f64>) -> Vec<u16> {
    let mut left = left.unwrap_or(f64::MAX);
    let each = asked.iter().map(|asked| {
        let served = asked.min(left);
        left -= served;
        let share = if *asked > 0.0 { (asked - served) / asked } else { 0.0 };
        // A share is between nought and one.
        (share * 1000.0) as u16
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_tiers_keep_what_is_left() {
        assert_eq!(refused(&[10.0, 20.0, 30.0], Some(40.0)), [0, 0, 666]);
        assert_eq!(refused(&[10.0, 20.0, 30.0], Some(5.0)), [500, 1000, 1000]);
        assert_eq!(refused(&[10.0, 0.0], Some(0.0)), [1000, 0]);
        assert_eq!(refused(&[10.0], Some(10.0)), [0]);
        assert_eq!(refused(&[10.0], None), [0], "nobody knows");
    }

    #[test]
    fn of_several_models_the_worst_is_told() {
        let loss = |model: u16, refused: [u16; 2]| Loss {
            site: SiteId(3),
            model: ModelId(model),
            asked: 1.0,
            left: Some(0.5),
            refused: refused.to_vec(),
        };
        let told = short(&[loss(0, [0, 200]), loss(1, [0, 700]), loss(2, [0, 0])]);
        assert_eq!(told, [Short { site: SiteId(3), tier: TierId(1), refused: 700 }]);
    }
}
