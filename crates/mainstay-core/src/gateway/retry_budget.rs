//! How many retries this gateway may make: a tenth of its first attempts.
//!
//! Five layers of three tries are 243 calls for one request; so there is one layer, and it is
//! rationed. Resumes finish work already begun and are not charged.

use crate::time::{Duration, Time};

/// Retries earned by each first attempt.
const EARNED: f64 = 0.1;
/// Retries earned by each second, so that a quiet gateway can still retry.
const EARNED_PER_SECOND: f64 = 1.0;
/// Least depth of the bucket.
const BURST: f64 = 10.0;
/// The bucket holds what this much time earns from first attempts.
const DEPTH: Duration = Duration::from_secs(60);

/// The bucket of one tier.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    level: f64,
    /// First attempts a second, averaged over `DEPTH`.
    pace: f64,
    filled: Time,
}

impl Default for RetryBudget {
    fn default() -> RetryBudget {
        RetryBudget { level: BURST, pace: 0.0, filled: Time::ZERO }
    }
}

impl RetryBudget {
    /// A first attempt was made.
    pub fn earn(&mut self, now: Time) {
        self.fill(now);
        self.pace += 1.0 / DEPTH.as_secs_f64();
        self.level = (self.level + EARNED).min(self.depth());
    }

    /// Takes one retry if there is one.
    pub fn spend(&mut self, now: Time) -> bool {
        self.fill(now);
        let has = self.level >= 1.0;
        if has {
            self.level -= 1.0;
        }
        has
    }

    /// How full the bucket is, 0 to 1.
    pub fn ratio(&self) -> f64 {
        (self.level / self.depth()).clamp(0.0, 1.0)
    }

    fn fill(&mut self, now: Time) {
        let gone = now.since(self.filled).as_secs_f64();
        self.filled = now;
        self.pace *= (1.0 - gone / DEPTH.as_secs_f64()).max(0.0);
        self.level = (self.level + gone * EARNED_PER_SECOND).min(self.depth());
    }

    fn depth(&self) -> f64 {
        (self.pace * EARNED * DEPTH.as_secs_f64()).max(BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn a_quiet_gateway_has_a_burst_of_ten_and_then_one_a_second() {
        let mut budget = RetryBudget::default();
        let now = Time::from_micros(5_000_000);
        let spent = (0..50).filter(|_| budget.spend(now)).count();
        assert_eq!(spent, 10);
        assert!(budget.spend(now + Duration::from_secs(1)));
        assert!(!budget.spend(now + Duration::from_secs(1)));
    }

    #[test]
    fn under_load_a_tenth_of_first_attempts_may_be_retried() {
        let mut budget = RetryBudget::default();
        let mut retries = 0;
        for n in 0..60_000u64 {
            let now = Time::from_micros(n * 1000);
            budget.earn(now);
            retries += u64::from(budget.spend(now));
        }
        // 6,000 earned by attempts, 60 by seconds, 10 to begin with.
        assert!((6_000..=6_080).contains(&retries), "{retries}");
    }

    #[test]
    fn whatever_is_asked_when_retries_stay_within_a_tenth_a_second_and_the_bucket() {
        for seed in 0..200 {
            let (mut rng, mut budget) = (Rng::new(seed), RetryBudget::default());
            let (mut micros, mut firsts, mut retries, mut deepest) = (1, 0u64, 0u64, BURST);
            for _ in 0..3000 {
                let pause = 10 + rng.below(12);
                micros += rng.below(1 << pause);
                let now = Time::from_micros(micros);
                if rng.below(3) == 0 {
                    retries += u64::from(budget.spend(now));
                } else {
                    budget.earn(now);
                    firsts += 1;
                }
                deepest = deepest.max(budget.depth());
                let seconds = micros as f64 / 1e6;
                let earned = firsts as f64 * EARNED + seconds * EARNED_PER_SECOND;
                assert!(retries as f64 <= earned + BURST, "seed {seed}: {retries} of {earned}");
                assert!((0.0..=1.0).contains(&budget.ratio()), "seed {seed}");
                assert!(budget.level <= deepest + 1e-9, "seed {seed}: more than the bucket holds");
            }
        }
    }
}
