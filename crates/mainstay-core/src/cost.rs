//! Cost units: what a request costs a site, and what a site can carry in a second.
//!
//! Whole thousandths, not floating point: sums of credit must never exceed a capacity by rounding,
//! and the model checker compares states for equality.

use crate::time::Duration;
use core::iter::Sum;
use core::ops::{Add, AddAssign, Sub, SubAssign};

/// Thousandths in one cost unit.
const UNIT: u64 = 1000;

/// An amount of work, in thousandths of a cost unit (CU).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CostUnits(pub u64);

/// Work in a second, in thousandths of a cost unit a second (CU/s).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CostRate(pub u64);

/// What tokens cost: the work of a request, before a worker has told what it really was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// A token of the prompt that no cache holds.
    pub prompt: CostUnits,
    /// A token of the answer.
    pub output: CostUnits,
    /// Tokens of an answer whose length nobody limits, at their 90th percentile.
    pub output_usual: u32,
}

impl Default for Price {
    /// An answer's token is ten of its prompt's, as it is on most hardware; a hundred of them are
    /// one unit. Nine of ten answers are below a thousand tokens.
    fn default() -> Price {
        Price { prompt: CostUnits(1), output: CostUnits(10), output_usual: 1000 }
    }
}

impl Price {
    /// What so many tokens come to.
    pub fn of(&self, prompt: u64, output: u64) -> CostUnits {
        let prompt = self.prompt.0.saturating_mul(prompt);
        CostUnits(prompt.saturating_add(self.output.0.saturating_mul(output)))
    }

    /// What a request is predicted to cost that has this prompt and this limit.
    pub fn predicted(&self, prompt: u32, limit: Option<u32>) -> CostUnits {
        let output = limit.unwrap_or(u32::MAX).min(self.output_usual);
        self.of(prompt.into(), output.into())
    }
}

impl CostUnits {
    /// No work.
    pub const ZERO: CostUnits = CostUnits(0);

    /// So many whole cost units.
    pub const fn whole(units: u64) -> CostUnits {
        CostUnits(units * UNIT)
    }

    /// In cost units, for people.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / UNIT as f64
    }
}

impl CostRate {
    /// Nothing.
    pub const ZERO: CostRate = CostRate(0);

    /// So many whole cost units a second.
    pub const fn whole(units: u64) -> CostRate {
        CostRate(units * UNIT)
    }

    /// In cost units a second, for people.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / UNIT as f64
    }

    /// What it comes to over `time`, rounded down.
    pub fn over(self, time: Duration) -> CostUnits {
        CostUnits(scale(self.0, time.as_micros() as u64, 1_000_000))
    }

    /// How long `work` takes at this rate; a day at most, also if nothing moves.
    pub fn time_for(self, work: CostUnits) -> Duration {
        /// Long enough to be too late for everybody, and no overflow.
        const NEVER: u64 = 86_400_000_000;
        let micros = u128::from(work.0) * 1_000_000 / u128::from(self.0.max(1));
        Duration::from_micros(u64::try_from(micros).unwrap_or(NEVER).min(NEVER))
    }

    /// This share of it in hundredths, rounded down.
    pub fn percent(self, percent: u32) -> CostRate {
        CostRate(scale(self.0, u64::from(percent), 100))
    }

    /// `part / whole` of it, rounded down; nothing if `whole` is nothing.
    pub fn share(self, part: CostRate, whole: CostRate) -> CostRate {
        CostRate(scale(self.0, part.0, whole.0))
    }

    /// The difference, or nothing.
    pub fn less(self, other: CostRate) -> CostRate {
        CostRate(self.0.saturating_sub(other.0))
    }
}

fn scale(amount: u64, part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 0;
    }
    let scaled = u128::from(amount) * u128::from(part) / u128::from(whole);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

macro_rules! arithmetic {
    ($kind:ident) => {
        impl Add for $kind {
            type Output = $kind;
            fn add(self, other: $kind) -> $kind {
                $kind(self.0.saturating_add(other.0))
            }
        }
        impl AddAssign for $kind {
            fn add_assign(&mut self, other: $kind) {
                *self = *self + other;
            }
        }
        impl Sub for $kind {
            type Output = $kind;
            fn sub(self, other: $kind) -> $kind {
                $kind(self.0.saturating_sub(other.0))
            }
        }
        impl SubAssign for $kind {
            fn sub_assign(&mut self, other: $kind) {
                *self = *self - other;
            }
        }
        impl Sum for $kind {
            fn sum<I: Iterator<Item = $kind>>(all: I) -> $kind {
                all.fold($kind(0), Add::add)
            }
        }
    };
}

arithmetic!(CostUnits);
arithmetic!(CostRate);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_rate_never_sum_to_more_than_it() {
        let all = CostRate(1000);
        let parts = [CostRate(333), CostRate(334), CostRate(334)];
        let sum: CostRate = parts.iter().map(|p| all.share(*p, CostRate(1001))).sum();
        assert!(sum <= all);
        assert_eq!(all.share(CostRate(1), CostRate::ZERO), CostRate::ZERO);
    }

    #[test]
    fn a_rate_over_half_a_second_is_half_of_it() {
        let half = CostRate::whole(100).over(Duration::from_millis(500));
        assert_eq!(half, CostUnits::whole(50));
    }
}
