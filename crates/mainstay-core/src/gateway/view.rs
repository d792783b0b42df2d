//! Numbers of this moment, for an operator's screen: each target, and what tiers ask for.
//!
//! Read from what is decided by anyway; asking changes nothing.

use crate::fact::Verdict;
use crate::gateway::Gateway;
use crate::message::Offer;
use crate::names::{ModelId, SiteId, TargetId};
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// Everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// By target.
    pub targets: Vec<TargetView>,
    /// What each tier asks of each model that is asked for, in cost units a second.
    pub demand: Vec<(ModelId, Vec<f64>)>,
    /// Requests that have not ended, and those of them that wait.
    pub open: usize,
    /// See `open`.
    pub waiting: usize,
    /// Orders in force.
    pub orders: usize,
    /// Whether this gateway doubts itself.
    pub in_doubt: bool,
}

/// One target.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetView {
    /// Which.
    pub target: TargetId,
    /// Where.
    pub site: SiteId,
    /// What is believed of it.
    pub verdict: Verdict,
    /// Whether it is not asked for its key, bill or name.
    pub is_parked: bool,
    /// Whether an order keeps new work from it.
    pub is_shut: bool,
    /// What a site of ours says of itself.
    pub offer: Offer,
    /// Attempts open there.
    pub in_flight: u32,
    /// Of a site of ours, in cost units a second: what this gateway may send, standby included,
    pub held: f64,
    /// what it wants to send,
    pub wanted: f64,
    /// what the whole site carries,
    pub capacity: f64,
    /// and how much of that it offers, in hundredths.
    pub ramp: u8,
    /// Expected time to first token, where a site of ours told one.
    pub first_token: Option<Duration>,
}

impl Gateway {
    /// How everything stands now.
    pub fn view(&mut self, now: Time) -> View {
        let targets =
            (0..self.config.targets.len()).map(|at| self.view_of(now, TargetId(at as u16)));
        let targets = targets.collect();
        let tiers = self.config.tiers.len();
        let demand = self.demand.iter_mut().map(|(model, known)| {
            let by_tier = known.by_tier(now);
            (ModelId(*model), by_tier.iter().take(tiers).map(|rate| rate.as_f64()).collect())
        });
        View {
            demand: demand.collect(),
            targets,
            open: self.lives.len(),
            waiting: self.held_back.len(),
            orders: self.orders.len(),
            in_doubt: self.hearsay.doubt.is_in_doubt(now),
        }
    }

    fn view_of(&self, now: Time, target: TargetId) -> TargetView {
        let known = self.targets.get(target);
        let held = &known.held;
        let (rates, standby) = held.rates(now).unwrap_or_default();
        let grant = held.latest();
        TargetView {
            target,
            site: self.config.targets[usize::from(target.0)].site,
            verdict: known.health.verdict(),
            is_parked: known.parked.is_some(),
            is_shut: known.shut,
            offer: held.offer(),
            in_flight: known.credit.in_flight(),
            held: (rates + standby).as_f64(),
            wanted: held.demand().iter().map(|rate| rate.as_f64()).sum(),
            capacity: held.capacity().as_f64(),
            ramp: grant.map_or(100, |grant| grant.ramp),
            first_token: grant.map(|_| held.first_token()),
        }
    }
}
