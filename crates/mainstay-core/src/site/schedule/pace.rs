//! How a worker in fact keeps to its profile: `s_w`, and the quantiles of what forecasts miss.
//!
//! A multiplicative correction of small steps, and quantile counters that move by the two sides'
//! odds (Robbins and Monro, 1951): no history is kept.

/// Step of the correction: a lasting error is half gone after some dozen legs.
const GAIN: f64 = 0.05;
/// One leg says at most that the worker is twice as fast or slow; more is chance, or a stall.
const ERROR: (f64, f64) = (0.5, 2.0);
/// Beyond these a profile is of another machine.
const SLOWNESS: (f64, f64) = (0.25, 4.0);
/// Steps of a 90 % quantile: up when exceeded, down when not; nine to one.
const UP: f64 = 0.018;
const DOWN: f64 = 0.002;
/// Upper ends of the length buckets, in uncached tokens.
const BUCKETS: [u32; 3] = [1_024, 4_096, 16_384];
/// Where the quantiles begin: what steps' noise alone makes of a forecast.
const FIRST: Quantiles = Quantiles { q10: 0.9, q90: 1.25 };
/// Milliseconds of which the mean of steps is made, roughly: shorter than most answers, so that
/// none of them is slow as a whole.
const STEPS_KEPT: f64 = 5_000.0;
/// Legs of an incarnation that teach nothing: kernels are compiled, caches are empty.
const COLD: u32 = 20;

/// What observations came to, as multiples of their forecasts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantiles {
    /// A tenth is below.
    pub q10: f64,
    /// A tenth is above.
    pub q90: f64,
}

/// How long steps took of late in the mean, those with prefill and those without. It is what the
/// streams of a worker feel, whatever its next leg is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Steps {
    millis: f64,
    steps: f64,
}

impl Steps {
    /// So many milliseconds were so many steps.
    pub fn add(&mut self, millis: f64, steps: f64) {
        let kept = STEPS_KEPT / (STEPS_KEPT + millis);
        self.millis = self.millis * kept + millis;
        self.steps = self.steps * kept + steps;
    }

    /// Milliseconds of one.
    pub fn mean(&self) -> f64 {
        self.millis / self.steps.max(1.0)
    }
}

/// One worker's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    slowness: f64,
    seen: u32,
    quantiles: [Quantiles; BUCKETS.len() + 1],
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { slowness: 1.0, seen: 0, quantiles: [FIRST; BUCKETS.len() + 1] }
    }
}

impl Pace {
    /// `s_w`.
    pub fn slowness(&self) -> f64 {
        self.slowness
    }

    /// For a prefill of so many uncached tokens.
    pub fn quantiles(&self, uncached: u32) -> Quantiles {
        self.quantiles[bucket(uncached)]
    }

    /// A forecast, made with the present slowness, and what came of it, both in milliseconds.
    pub fn observe(&mut self, uncached: u32, expected: f64, seen: f64) {
        self.seen = self.seen.saturating_add(1);
        if self.seen <= COLD || expected <= 0.0 {
            return;
        }
        let ratio = seen / expected;
        let error = ratio.clamp(ERROR.0, ERROR.1) - 1.0;
        self.slowness = (self.slowness * (1.0 + GAIN * error)).clamp(SLOWNESS.0, SLOWNESS.1);
        let quantiles = &mut self.quantiles[bucket(uncached)];
        quantiles.q90 = (quantiles.q90 + if ratio > quantiles.q90 { UP } else { -DOWN }).max(0.0);
        quantiles.q10 = (quantiles.q10 + if ratio > quantiles.q10 { DOWN } else { -UP }).max(0.0);
    }
}

fn bucket(uncached: u32) -> usize {
    BUCKETS.partition_point(|most| *most < uncached)
}

/// Lengths of answers: their median and 90 % quantile, by the same counters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lengths {
    half: f64,
    most: f64,
}

impl Default for Lengths {
    /// What chat answers are like before any was seen.
    fn default() -> Lengths {
        Lengths { half: 350.0, most: 1000.0 }
    }
}

impl Lengths {
    /// Tokens by which a quantile moves at most.
    const STEP: f64 = 20.0;

    /// Median and 90 % quantile, at most what the request allows.
    pub fn expected(&self, limit: u32) -> (u32, u32) {
        ((self.half as u32).clamp(1, limit.max(1)), (self.most as u32).clamp(1, limit.max(1)))
    }

    /// An answer ended after so many tokens.
    pub fn observe(&mut self, tokens: u32) {
        let tokens = f64::from(tokens);
        self.half += Lengths::STEP * if tokens > self.half { 0.5 } else { -0.5 };
        self.most += Lengths::STEP * if tokens > self.most { 0.9 } else { -0.1 };
        self.half = self.half.max(1.0);
        self.most = self.most.max(self.half);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn a_profile_wrong_by_two_is_mended() {
        let mut pace = Pace::default();
        let mut rng = Rng::new(3);
        let mut covered = 0;
        for turn in 0..2_000 {
            let truth = 2.0 * (0.9 + 0.2 * rng.unit());
            let expected = pace.slowness();
            covered += u32::from(turn >= 1_000 && truth <= expected * pace.quantiles(500).q90);
            pace.observe(500, expected, truth);
        }
        assert!((pace.slowness() - 2.0).abs() < 0.1, "{}", pace.slowness());
        assert!((860..=940).contains(&covered), "{covered} of 1000 below the 90 % quantile");
    }

    #[test]
    fn the_first_legs_of_an_incarnation_teach_nothing() {
        let mut pace = Pace::default();
        (0..COLD).for_each(|_| pace.observe(500, 1.0, 10.0));
        assert_eq!(pace, Pace { seen: COLD, ..Pace::default() });
    }

    #[test]
    fn lengths_follow_their_quantiles() {
        let mut lengths = Lengths::default();
        let mut rng = Rng::new(5);
        (0..5_000).for_each(|_| lengths.observe(rng.below(2_000) as u32));
        let (half, most) = lengths.expected(u32::MAX);
        assert!((850..1_150).contains(&half) && (1_650..1_950).contains(&most), "{half} {most}");
        assert_eq!(lengths.expected(100), (100, 100));
    }
}
