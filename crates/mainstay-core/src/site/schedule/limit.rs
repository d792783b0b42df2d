//! What a worker really carries, against what its calibration says.
//!
//! Two things tell. The *residual*: measured first-token time by predicted, never the raw time,
//! which varies a hundredfold with the prompt (the idea of Netflix concurrency-limits' Gradient2,
//! there with latency). And the *throughput* of a worker that always had more to do, which is its
//! capacity by definition. The residual is quick and coarse, the throughput slow and exact; the
//! smaller counts. Neither can feed on itself: the residual maps to a share directly instead of
//! shrinking what it shrank before, and a throughput counts only while work was waiting.

use super::slowness::Slowness;
use crate::cost::{CostRate, CostUnits};
use crate::time::{Duration, Time};

/// A residual up to this is ordinary noise of batches and of cost estimates.
pub const TOLERANCE: f64 = 1.5;
/// Weight of one sample in a worker's residual: a slow worker is seen in about a dozen.
const RESIDUAL_STEP: f64 = 1.0 / 12.0;
/// Without samples for a second the residual fades by this much towards one.
const RESIDUAL_FADE: f64 = 0.05;
/// Samples before anything is concluded from residuals; until then they are averaged.
const LEARN: u32 = 32;
/// Weight of a sample in the usual first token while all is well,
const USUAL_STEP: f64 = 1.0 / 64.0;
/// where it is faster than usual,
const USUAL_DOWN: f64 = 1.0 / 16.0;
/// and while a worker is slow: a change for good is learned in some minutes, a fault is not.
const USUAL_SLOW: f64 = 1.0 / 16_384.0;
/// From so many times as long as usual on, a pool is slow.
const SLOW: u8 = 2;
/// A throughput is measured over at least so long,
const MEASURE: Duration = Duration::from_secs(1);
/// and over so many first tokens, or three times as long.
const MEASURE_COUNT: u32 = 8;
/// Weight of a new measure,
const MEASURE_STEP: f64 = 0.5;
/// unless it is below this share of the old one: that is no noise, and counts at once.
const MEASURE_FELL: f64 = 0.6;
/// A measured share grows so much a second while the worker is not full: from a tenth to the whole
/// within six seconds, so that a site that recovered says so.
const GROWTH: f64 = 1.5;
/// Something always goes to a live worker, else nothing would tell when it is well again.
const LEAST: f64 = 0.02;

/// What first tokens of a pool usually take without a queue, and how they do of late.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usual {
    seconds: f64,
    samples: u32,
    slowness: Slowness,
}

impl Usual {
    /// What is expected with so much work before and including it at a worker of this capacity.
    pub fn expected(&self, ahead: CostUnits, capacity: CostRate) -> f64 {
        (ahead.as_f64() / capacity.as_f64().max(0.001)).max(self.seconds)
    }

    /// The usual time, if anything was measured.
    pub fn time(&self) -> Option<Duration> {
        (self.samples > 0).then(|| Duration::from_secs_f64(self.seconds))
    }

    /// A second has passed.
    pub fn second(&mut self) {
        self.slowness.second();
    }

    /// How many times as long as usual they take of late.
    pub fn slowness(&self) -> u8 {
        self.slowness.times()
    }

    /// Whether enough was measured that something can be concluded from it.
    fn is_known(&self) -> bool {
        self.samples >= LEARN
    }

    fn learn(&mut self, measured: f64, residual: f64, is_slow: bool) {
        self.samples = self.samples.saturating_add(1);
        let step = if self.samples <= LEARN {
            1.0 / f64::from(self.samples)
        } else if is_slow {
            USUAL_SLOW
        } else if residual < 1.0 {
            USUAL_DOWN
        } else {
            USUAL_STEP
        };
        self.seconds += step * (measured - self.seconds);
    }
}

/// What one worker carries of its calibration.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    residual: f64,
    is_sampled: bool,
    measured: f64,
    full_since: Option<Time>,
    served: CostUnits,
    count: u32,
}

impl Limit {
    /// A worker that is believed.
    pub fn new() -> Limit {
        Limit {
            residual: 1.0,
            is_sampled: false,
            measured: 1.0,
            full_since: None,
            served: CostUnits::ZERO,
            count: 0,
        }
    }

    /// The share of its calibration that counts, above 0 and at most 1.
    pub fn share(&self) -> f64 {
        self.measured.min(TOLERANCE / self.residual.max(TOLERANCE)).clamp(LEAST, 1.0)
    }

    /// Measured first tokens by expected ones, smoothed; above `TOLERANCE` the worker is slow.
    pub fn residual(&self) -> f64 {
        self.residual
    }

    /// A first token came after `measured`, where `expected` seconds were expected.
    pub fn first_token(&mut self, sample: Sample, usual: &mut Usual) {
        let measured = sample.measured.as_secs_f64();
        let expected = usual.expected(sample.ahead, sample.capacity).max(0.001);
        let residual = (measured / expected).min(10.0 * TOLERANCE);
        if usual.is_known() {
            self.residual += RESIDUAL_STEP * (residual - self.residual);
            usual.slowness.first_token(measured, expected);
        }
        self.is_sampled = true;
        self.served += sample.cost;
        self.count += 1;
        // A worker that gets little forgets that it is slow; the pool does not.
        let is_slow = self.residual > TOLERANCE || usual.slowness() >= SLOW;
        usual.learn(measured, residual, is_slow);
    }

    /// Whether the worker has all it may have while more waits, after everything that could be
    /// dispatched was. True if that changed what it is measured to carry.
    pub fn full(&mut self, now: Time, is_full: bool, capacity: CostRate) -> bool {
        let Some(since) = self.full_since.filter(|_| is_full) else {
            self.full_since = is_full.then_some(now);
            self.served = CostUnits::ZERO;
            self.count = 0;
            return false;
        };
        let passed = now.since(since);
        let enough = self.count >= MEASURE_COUNT || passed >= MEASURE * 3;
        if passed < MEASURE || !enough {
            return false;
        }
        let rate = self.served.as_f64() / passed.as_secs_f64();
        let share = (rate / capacity.as_f64().max(0.001)).clamp(LEAST, 1.0);
        let step = if share < MEASURE_FELL * self.measured { 1.0 } else { MEASURE_STEP };
        self.measured += step * (share - self.measured);
        self.full_since = Some(now);
        self.served = CostUnits::ZERO;
        self.count = 0;
        true
    }

    /// A second has passed.
    pub fn second(&mut self) {
        if !self.is_sampled {
            self.residual += RESIDUAL_FADE * (1.0 - self.residual);
        }
        self.is_sampled = false;
        if self.full_since.is_none() {
            self.measured = (self.measured * GROWTH).min(1.0);
        }
    }
}

/// One first token.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// How long it took from dispatch.
    pub measured: Duration,
    /// Work without first token at the worker when it was dispatched, itself included.
    pub ahead: CostUnits,
    /// What it cost.
    pub cost: CostUnits,
    /// The worker's calibration.
    pub capacity: CostRate,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn at(millis: u64) -> Time {
        Time::from_micros(millis * 1000)
    }

    #[test]
    fn whatever_is_measured_a_worker_keeps_a_share_above_nothing_and_recovers_it() {
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            let (mut limit, mut usual) = (Limit::new(), Usual::default());
            let capacity = CostRate(rng.below(20_000));
            for step in 0..600u64 {
                let (short, small) = (rng.below(36), rng.below(24));
                let sample = Sample {
                    measured: Duration::from_micros(rng.below(1 << short)),
                    ahead: CostUnits(rng.below(1 << small)),
                    cost: CostUnits(rng.below(3000)),
                    capacity,
                };
                match rng.below(3) {
                    0 => {
                        limit.full(at(step * 200), rng.below(2) == 0, capacity);
                    }
                    1 => limit.second(),
                    _ => limit.first_token(sample, &mut usual),
                }
                assert!((LEAST..=1.0).contains(&limit.share()), "seed {seed}: {}", limit.share());
                assert!(limit.residual().is_finite() && limit.residual() >= 0.0, "seed {seed}");
            }
            // Idle for two minutes, nothing is held against it any more.
            limit.full(at(200_000), false, capacity);
            (0..120).for_each(|_| limit.second());
            assert!(limit.share() >= 0.99, "seed {seed}: {}", limit.share());
        }
    }
}
