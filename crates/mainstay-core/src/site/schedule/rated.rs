//! What a site knows of one of its workers: what it is said to carry, what of that it does, and
//! what an operator said that it is.

use super::limit::{Limit, Sample, Usual};
use super::profile::Profile;
use crate::cost::CostRate;
use crate::time::Time;

/// A worker that lost so many legs in a row before their first token does no work: its model may
/// not be loadable. One bad request is moved to another worker after its first loss, so it alone
/// cannot make three at one.
const USELESS: u8 = 3;
/// What such a worker is taken to carry: a trickle, else nothing would tell when it is well again.
const TRIED: f64 = 0.02;

/// How a worker is said to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// What it carries.
    pub capacity: CostRate,
    /// Answers at once.
    pub streams: u32,
    /// Whether its caches are empty.
    pub cold: bool,
}

/// How it is.
#[derive(Clone, Copy, Debug)]
pub struct Rated {
    /// What is said.
    pub told: Calibration,
    /// What an operator said that it is.
    pub given: Option<Profile>,
    /// Its profile was given or learned, and counts tokens. Until then it counts cost units.
    pub is_known: bool,
    limit: Limit,
    /// Legs lost since its last first token.
    lost: u8,
}

impl Rated {
    /// A worker that is believed.
    pub fn new(told: Calibration, given: Option<Profile>) -> Rated {
        Rated { told, given, is_known: given.is_some(), limit: Limit::new(), lost: 0 }
    }

    /// Whether it loses all that it is given.
    pub fn is_useless(&self) -> bool {
        self.lost >= USELESS
    }

    /// Answers that it may have open.
    pub fn streams(&self) -> u32 {
        if self.is_useless() { self.told.streams.min(1) } else { self.told.streams }
    }

    /// How many times as long as by what it should carry it takes.
    pub fn slowness(&self) -> f64 {
        1.0 / self.share()
    }

    /// Thousandths of a cost unit that it should carry in a millisecond.
    pub fn capacity(&self) -> f64 {
        // A cost rate is thousandths in a second.
        (self.told.capacity.0.max(1) as f64) / 1000.0
    }

    /// Cost units a second that it carries.
    pub fn carries(&self) -> f64 {
        self.told.capacity.as_f64() * self.share()
    }

    /// First tokens by what was expected of them, smoothed.
    pub fn residual(&self) -> f64 {
        self.limit.residual()
    }

    /// A first token came.
    pub fn first_token(&mut self, sample: Sample, usual: &mut Usual) {
        self.lost = 0;
        self.limit.first_token(sample, usual);
    }

    /// A leg was lost before its first token; true if that is one too many.
    pub fn lost(&mut self) -> bool {
        self.lost = self.lost.saturating_add(1);
        self.lost == USELESS
    }

    /// See `Limit::full`.
    pub fn full(&mut self, now: Time, is_full: bool) -> bool {
        self.limit.full(now, is_full, self.told.capacity)
    }

    /// A second has passed.
    pub fn second(&mut self) {
        self.limit.second();
    }

    fn share(&self) -> f64 {
        let most = if self.is_useless() { TRIED } else { 1.0 };
        self.limit.share().min(most)
    }
}
