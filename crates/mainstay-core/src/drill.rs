//! Drills in words: what is broken on purpose, where, how much and for how long.
//!
//! A drill is no order: it never leaves the gateway it was given to, and a gateway that restarts
//! has none. What a gateway makes of it is in `gateway::drill`.

use crate::config::Tier;
use crate::names::{ModelId, SiteId, TierId};
use crate::time::Duration;
use alloc::vec::Vec;

/// The longest drill. Whoever wants to know more does another; what must last longer is an order.
pub const LASTS_MAX: Duration = Duration::from_secs(600);
/// The longest time for which a gateway only counts before it breaks anything.
pub const BEFORE_MAX: Duration = Duration::from_secs(120);
/// More of all attempts than this share, in hundredths, is broken only where it was said: it is
/// more than one site of three, as with orders.
pub const BLAST_CAP: u8 = crate::orders::UNCONFIRMED_MAX;
/// How many times as slow, unless it is said: what the protocol promises to notice within 10 s.
pub const SLOW_FACTOR: u32 = 10;
/// Tokens after which a stream is cut, unless it is said: an answer that has begun, and is short
/// of its end.
pub const CUT_TOKENS: u32 = 5;

/// How an attempt is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breakage {
    /// The connection is refused.
    Down,
    /// It is accepted, and nothing ever comes.
    Blackhole,
    /// All that comes takes so many times as long.
    Slow(u32),
    /// A 503 without a word.
    Errors,
    /// The stream is cut after so many tokens.
    Cut(u32),
}

impl Breakage {
    /// Whether an endpoint that only tells of life does not answer any more either.
    pub fn is_lifeless(self) -> bool {
        matches!(self, Breakage::Down | Breakage::Blackhole | Breakage::Errors)
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Names it; the same at every gateway that takes part.
    pub id: u64,
    /// Where.
    pub site: SiteId,
    /// How.
    pub breakage: Breakage,
    /// Share of the requests sent there that find it broken, in hundredths.
    pub percent: u8,
    /// For so long it is only counted how things are,
    pub before: Duration,
    /// and for so long it is broken.
    pub lasts: Duration,
    /// Not more of all attempts than this share is broken, in hundredths.
    pub blast_cap: u8,
    /// By tier, in hundredths: if less than this share of its requests is answered well, it stops.
    pub floors: Vec<u8>,
}

/// Why a drill is not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such site.
    UnknownSite,
    /// A share must be from 1 to 100 hundredths.
    Share,
    /// It must last, and not longer than `LASTS_MAX`; before it, `BEFORE_MAX`.
    Time,
    /// Another is under way.
    Running,
    /// About this share of all attempts would break, in hundredths.
    BlastCap(u8),
    /// Nobody else answers this model.
    LastSite(ModelId),
    /// Of this model less would stay in service than must.
    TooLittle(ModelId),
    /// This other site is out already.
    Gone(SiteId),
    /// This gateway doubts itself.
    Doubt,
}

/// Why a drill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its time was over.
    Time,
    /// Somebody stopped it.
    Stopped,
    /// Of this tier only this share was answered well, in hundredths.
    Floor(TierId, u8),
    /// This other site went out.
    Gone(SiteId),
    /// This gateway doubts itself.
    Doubt,
    /// Another policy is in force.
    Policy,
}

/// Below which share of good answers a drill stops unless it is said, in hundredths: by what the
/// tier was promised, as with its patience.
pub fn floor(tier: &Tier) -> u8 {
    /// Of what was promised much, little may be missing; of what has a floor at all, half; what
    /// fills what others leave may be gone.
    const FLOORS: [u8; 3] = [95, 50, 0];
    /// From this share of capacity on much was promised.
    const PROMISED: f64 = 0.2;
    match tier.floor {
        share if share >= PROMISED => FLOORS[0],
        share if share > 0.0 => FLOORS[1],
        _ => FLOORS[2],
    }
}
