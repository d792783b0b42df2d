//! What a gateway decides about sites of ours, their credit and what is refused for want of it.

use crate::message::{OrderId, PerTier};
use crate::names::{ModelId, SiteId, TargetId, TierId};

/// One decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreditFact {
    /// A site has not answered reports for so long that its credit lapsed.
    Lapsed {
        /// Where.
        target: TargetId,
    },
    /// It grants credit again.
    Regained {
        /// Where.
        target: TargetId,
    },
    /// A site's clock runs at another pace than ours, or no more: no credit while it does.
    Drift {
        /// Where.
        target: TargetId,
        /// Whether it does.
        is_off: bool,
    },
    /// A site said that requests with these labels are not for it: none go there until the next
    /// policy.
    PairingDropped {
        /// Where.
        target: TargetId,
        /// The labels.
        labels: u64,
    },
    /// What is held at the sites that are up does not suffice: those that are not are tried.
    PanicBegan {
        /// For which model.
        model: ModelId,
    },
    /// It suffices again.
    PanicEnded {
        /// For which model.
        model: ModelId,
    },
    /// Requests of a tier are refused before they are tried: more is asked than there is room for.
    SheddingBegan {
        /// For which model.
        model: ModelId,
        /// Of which tier.
        tier: TierId,
    },
    /// There is room for the tier again.
    SheddingEnded {
        /// For which model.
        model: ModelId,
        /// Of which tier.
        tier: TierId,
    },
    /// This gateway doubts itself rather than the sites, or no more.
    Doubt {
        /// Whether it does.
        is_in_doubt: bool,
    },
    /// An order is not followed here: too little would stay in service.
    OrderIgnored {
        /// Which.
        id: OrderId,
        /// Where.
        site: Option<SiteId>,
    },
    /// What would survive the loss of one site.
    Readiness {
        /// Of which model.
        model: ModelId,
        /// Without which of its targets.
        lost: TargetId,
        /// By tier, in hundredths of what it asks for now.
        survives: PerTier<u8>,
    },
    /// A site is slow, as it says itself, and others are faster: its own sessions go to them. Or no
    /// more.
    Slow {
        /// Which.
        target: TargetId,
        /// Whether it is.
        is_slow: bool,
        /// How many times as long as usual there its first tokens take.
        slow: u8,
    },
    /// So much of a site's own sessions go elsewhere now.
    Spilled {
        /// Whose.
        target: TargetId,
        /// In hundredths.
        percent: u8,
    },
}
