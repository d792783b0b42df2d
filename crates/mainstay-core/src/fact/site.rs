//! Decisions of a site controller.

use crate::cost::CostRate;
use crate::message::{Offer, OrderId, Reason};
use crate::names::{GatewayId, TargetId, TierId, Work, WorkerId};
use crate::time::Duration;

/// One decision of a site controller. An attempt that is taken in and served has none: there are
/// too many of them, and its gateway tells of it.
#[derive(Clone, Debug, PartialEq)]
pub enum SiteFact {
    /// An order for this site is ignored: with what others take out, too little would stay.
    OrderIgnored {
        /// Which.
        id: OrderId,
    },
    /// After a takeover nothing is granted for so long: older grants may still be in use.
    Silent {
        /// The new controller's epoch.
        epoch: u32,
        /// How long.
        wait: Duration,
    },
    /// An attempt was not taken in.
    Refused {
        /// Which.
        work: Work,
        /// Its tier.
        tier: TierId,
        /// Why.
        reason: Reason,
    },
    /// An attempt that had been taken in went back to its gateway.
    HandedBack {
        /// Which.
        work: Work,
        /// Its tier.
        tier: TierId,
        /// Why.
        reason: Reason,
    },
    /// An attempt waited until its first token could not come while it was wanted, and was dropped.
    Shed {
        /// Which.
        work: Work,
        /// Its tier.
        tier: TierId,
        /// How long it had waited.
        waited: Duration,
    },
    /// Not all that wait can be in time, and this attempt is among those that get what is left.
    GivesWay {
        /// Which.
        work: Work,
        /// Its tier.
        tier: TierId,
        /// Its first token would have to come within this time.
        after: Duration,
    },
    /// Before its first token it gave way, at its worker, to an attempt of a higher tier that would
    /// have been late everywhere else. It waits again; nobody has failed it.
    Preempted {
        /// Which.
        work: Work,
        /// Its tier.
        tier: TierId,
        /// Who had it,
        worker: WorkerId,
        /// and who has its place.
        by: Work,
    },
    /// An attempt cannot have its first token in time. It waits behind those that can, since it is
    /// still wanted.
    Late {
        /// Which.
        work: Work,
        /// Its tier.
        tier: TierId,
        /// It is wanted for so long.
        left: Duration,
    },
    /// An attempt whose worker was lost goes to another.
    MovedInside {
        /// Which.
        work: Work,
        /// The worker that lost it.
        worker: WorkerId,
    },
    /// Another share of the capacity is on offer.
    RampMoved {
        /// Of which model.
        target: TargetId,
        /// Hundredths before.
        from: u8,
        /// Hundredths now.
        to: u8,
        /// Why.
        why: &'static str,
    },
    /// What the site can carry of a model changed by a tenth or more.
    CapacityMoved {
        /// Of which model.
        target: TargetId,
        /// As it was last told.
        from: CostRate,
        /// Now.
        to: CostRate,
    },
    /// A gateway's clock and this one's run apart, or no longer do.
    Drift {
        /// Whose.
        from: GatewayId,
        /// By how many thousandths.
        thousandths: u32,
        /// Whether it gets no credit for it.
        is_closed: bool,
    },
    /// Whether new work is taken changed, by an operator's order.
    Offered {
        /// Before.
        from: Offer,
        /// Now.
        to: Offer,
    },
}
