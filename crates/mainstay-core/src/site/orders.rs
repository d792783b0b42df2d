//! Operators' orders, as far as this site obeys them. The stricter one rules.
//!
//! Gateways tell what they have heard, and the site keeps the union, as they do among themselves.
//! It judges it as they do, too: a site that obeyed an order which the gateways ignore would turn
//! away what they send, and so two operators could take out more than may be.

use super::{Action, Site};
use crate::fact::SiteFact;
use crate::in_service::judge;
use crate::message::{Offer, Order, Verb};
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// What still runs at a drained site is handed back after so long.
const GRACE: Duration = Duration::from_secs(120);

impl Site {
    /// A gateway tells all orders it knows. What cannot be taken was refused where it was given.
    pub(super) fn hear_orders(&mut self, now: Time, set: Vec<Order>, actions: &mut Vec<Action>) {
        for order in set {
            let _ = self.orders.take(now, order, &self.config.service);
        }
        self.obey(now, actions);
    }

    /// Orders whose life is over end by themselves.
    pub(super) fn lapse_orders(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.orders.deadline().is_some_and(|at| at <= now) {
            self.orders.lapse(now);
            self.obey(now, actions);
        }
    }

    pub(super) fn obey(&mut self, now: Time, actions: &mut Vec<Action>) {
        let in_force = self.orders.in_force(now);
        let judged = judge(in_force, &self.config.service, self.config.credit.mutants);
        let is_here = |order: &&Order| order.site == Some(self.config.site);
        let ignored = judged.ignored.iter().filter(is_here).map(|order| order.id).collect();
        let before = core::mem::replace(&mut self.ignored, ignored);
        for id in self.ignored.iter().filter(|id| !before.contains(id)) {
            actions.push(Action::Fact(SiteFact::OrderIgnored { id: *id }));
        }
        self.follow(now, &judged.stand, actions);
    }

    /// These orders stand; those that are not named any more have ended.
    fn follow(&mut self, now: Time, orders: &[Order], actions: &mut Vec<Action>) {
        let (mut offer, mut cap, mut is_frozen) = (Offer::Open, 100, false);
        for order in orders {
            let is_here = order.site == Some(self.config.site);
            match order.verb {
                Verb::Kill if is_here => offer = Offer::Closed,
                Verb::Drain if is_here && offer == Offer::Open => offer = Offer::Draining,
                Verb::Cap(percent) if is_here => cap = cap.min(percent),
                Verb::Freeze if is_here || order.site.is_none() => is_frozen = true,
                Verb::Kill | Verb::Drain | Verb::Cap(_) | Verb::Freeze | Verb::End(_) => {}
            }
        }
        (self.cap, self.is_frozen) = (cap, is_frozen);
        let from = core::mem::replace(&mut self.offer, offer);
        if from == offer {
            return;
        }
        actions.push(Action::Fact(SiteFact::Offered { from, to: offer }));
        self.grace = (offer == Offer::Draining).then_some(now + GRACE);
        if offer == Offer::Closed {
            self.hand_back_all(now, actions);
        }
        if from == Offer::Closed {
            for position in 0..self.pools.len() {
                self.restart_ramp(now, position, "it returns after a kill", actions);
            }
        }
    }
}
