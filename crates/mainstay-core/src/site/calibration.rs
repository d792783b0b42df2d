//! What a worker is taken to carry before it has carried anything: what it wrote in a few short
//! trials when it started.
//!
//! A guess in a file is wrong on every other machine, and too low a one is never found out: the
//! site grants by it, so that more is never tried. What was measured is corrected downwards while
//! it serves (`schedule/limit`).

use crate::cost::{CostRate, Price};
use crate::time::Duration;

/// So many trials are made: what else runs on the machine can only make one slower.
pub const TRIALS: usize = 3;
/// Each lasts so long: hundreds of steps of a small model, some of a large one.
pub const TRIAL: Duration = Duration::from_millis(150);
/// Of what a trial wrote a site promises so much, in hundredths: prompts are read, connections
/// served and answers of many lengths begun beside it, none of which a trial has.
const PROMISED: u64 = 70;

/// Tokens a second that are taken for granted until a trial is done, or where none can be made.
pub const GUESS: u32 = 200;

/// One trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Tokens written, of all answers together.
    pub tokens: u64,
    /// In this time.
    pub took: Duration,
}

/// What a worker carries by its best trial; `None` if none wrote anything.
pub fn carries(trials: &[Trial], price: &Price) -> Option<CostRate> {
    let rate = |trial: &Trial| {
        let micros = u64::try_from(trial.took.as_micros()).unwrap_or(u64::MAX).max(1);
        trial.tokens.saturating_mul(1_000_000) / micros
    };
    let best = trials.iter().map(rate).max().filter(|best| *best > 0)?;
    Some(CostRate(price.output.0.saturating_mul(best).saturating_mul(PROMISED) / 100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_trial_counts_less_what_a_trial_does_not_have() {
        let trial = |tokens, millis| Trial { tokens, took: Duration::from_millis(millis) };
        let trials = [trial(10, 150), trial(300, 150), trial(120, 900)];
        // 2000 tokens a second, of ten thousandths each.
        assert_eq!(carries(&trials, &Price::default()), Some(CostRate(14_000)));
        assert_eq!(carries(&[trial(0, 150)], &Price::default()), None);
        assert_eq!(carries(&[], &Price::default()), None);
        assert!(carries(&[trial(5, 0)], &Price::default()).is_some());
    }
}
