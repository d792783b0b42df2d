//! What a gateway decides about drills.

use crate::drill::{Breakage, End, Refusal};
use crate::names::{AttemptId, SiteId, TargetId};
use crate::time::Duration;

/// One decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrillFact {
    /// It is not begun.
    Refused {
        /// Where it should have been.
        site: SiteId,
        /// Why not.
        why: Refusal,
    },
    /// From now on it is counted how things are.
    Accepted {
        /// Where it will be.
        site: SiteId,
        /// How.
        breakage: Breakage,
        /// Share of the requests sent there, in hundredths.
        percent: u8,
        /// When it begins.
        before: Duration,
    },
    /// From now on attempts are broken.
    Began {
        /// Where.
        site: SiteId,
        /// For so long.
        lasts: Duration,
    },
    /// An attempt is broken on purpose.
    Broke {
        /// Which.
        attempt: AttemptId,
        /// Where.
        target: TargetId,
        /// How.
        breakage: Breakage,
    },
    /// The blast cap is reached: some are spared. Told once.
    Capped {
        /// Where.
        site: SiteId,
    },
    /// It is over; nothing is broken from now on.
    Ended {
        /// Where it was.
        site: SiteId,
        /// Why.
        why: End,
    },
}
