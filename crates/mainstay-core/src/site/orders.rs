//! Operators' orders, as far as this site obeys them. The stricter one rules.

use super::{Action, Site};
use crate::fact::SiteFact;
use crate::message::{Offer, Order, Verb};
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// What still runs at a drained site is handed back after so long.
const GRACE: Duration = Duration::from_secs(120);

impl Site {
    /// The orders in force are these; those that are not named any more have ended.
    pub(super) fn orders(&mut self, now: Time, orders: &[Order], actions: &mut Vec<Action>) {
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
