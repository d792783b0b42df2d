//! How long a target usually takes, and so how long is too long.
//!
//! First tokens: the last hundred or so, exactly. Gaps between tokens and token rates: histograms
//! with steps of a quarter, halved now and then so that the past fades.

use crate::config::Limits;
use crate::time::Duration;
use alloc::vec::Vec;

/// Recent first-token times kept.
const SAMPLES: usize = 128;
/// Fewer say nothing about a p99.
const SAMPLES_MIN: usize = 20;
/// A wait for the first token of this many p99 is too long.
const FIRST_TOKEN_FACTOR: u32 = 2;
/// After so many first tokens in a row that did not come in time, the samples are forgotten: the
/// target has become slower than its past, and a limit made from that past would give up all that
/// it still has to say.
const OVERDUE: u32 = 2;
/// A gap of this many p99 gaps is a stall.
const STALL_FACTOR: u32 = 10;
/// Histogram steps of a quarter from 0.1 ms up reach beyond ten minutes.
const STEPS: usize = 72;
const STEP: f64 = 1.25;
const LEAST: f64 = 0.000_1;
/// A histogram is halved at this many samples.
const FADE_AT: u32 = 20_000;

/// A histogram with steps of a quarter. It has as many as its largest value needs, since most of
/// those that travel with an attempt's end hold little or nothing.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: Vec<u32>,
    total: u32,
}

impl Histogram {
    /// Counts one value (seconds, or anything else positive).
    pub fn add(&mut self, value: f64) {
        // Whoever fills it calls this for each token, so no logarithm: a walk of at most 72 steps,
        // for usual gaps of 5 to 50 ms about 20.
        let mut bound = LEAST;
        let mut step = 0;
        while value > bound && step < STEPS - 1 {
            bound *= STEP;
            step += 1;
        }
        self.reach(step + 1);
        self.counts[step] += 1;
        self.total += 1;
    }

    /// Takes another's counts in, and fades.
    pub fn merge(&mut self, other: &Histogram) {
        self.reach(other.counts.len());
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
        self.total = self.total.saturating_add(other.total);
        if self.total > FADE_AT {
            self.counts.iter_mut().for_each(|c| *c /= 2);
            self.total = self.counts.iter().sum();
        }
    }

    /// How many values it holds.
    pub fn len(&self) -> u32 {
        self.total
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The value that `share` of all values do not exceed, to a quarter; 0 if it is empty.
    pub fn quantile(&self, share: f64) -> f64 {
        let wanted = share * f64::from(self.total);
        let (mut seen, mut bound) = (0.0, LEAST);
        for count in &self.counts {
            seen += f64::from(*count);
            if seen >= wanted && seen > 0.0 {
                return bound;
            }
            bound *= STEP;
        }
        0.0
    }

    fn reach(&mut self, steps: usize) {
        if self.counts.len() < steps {
            self.counts.resize(steps, 0);
        }
    }
}

/// What is usual at one target.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    first_tokens: Vec<Duration>,
    next: usize,
    gaps: Histogram,
    rates: Histogram,
    p50: Duration,
    p99: Duration,
    stale: u32,
    /// Attempts given up for want of a first token since the last one came.
    overdue: u32,
}

/// How long one attempt may take to show progress.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patience {
    /// DNS, TCP and TLS together.
    pub connect: Duration,
    /// From sending to the first token.
    pub first_token: Duration,
    /// Between two tokens.
    pub stall: Duration,
    /// Over this time, fewer than `drip_rate` tokens a second are too few.
    pub drip: Duration,
    /// See `drip`.
    pub drip_rate: f64,
}

impl Patience {
    /// Of who is not judged.
    pub const NONE: Patience = Patience {
        connect: Duration::MAX,
        first_token: Duration::MAX,
        stall: Duration::MAX,
        drip: Duration::MAX,
        drip_rate: 0.0,
    };
}

impl Latency {
    /// A first token took this long.
    pub fn first_token(&mut self, took: Duration) {
        self.overdue = 0;
        if self.first_tokens.len() < SAMPLES {
            self.first_tokens.push(took);
        } else {
            self.first_tokens[self.next] = took;
            self.next = (self.next + 1) % SAMPLES;
        }
        self.stale += 1;
        // Sorting 128 values for each token would be waste; a p99 of 128 moves slowly.
        if self.stale >= 8 || self.first_tokens.len() <= 2 * SAMPLES_MIN {
            self.stale = 0;
            let mut sorted = self.first_tokens.clone();
            sorted.sort_unstable();
            self.p50 = sorted[(sorted.len() - 1) / 2];
            self.p99 = sorted[(sorted.len() - 1) * 99 / 100];
        }
    }

    /// An attempt was given up before its first token.
    pub fn no_first_token(&mut self) {
        self.overdue = self.overdue.saturating_add(1);
        if self.overdue >= OVERDUE {
            self.first_tokens.clear();
            self.next = 0;
        }
    }

    /// An answer ended whose tokens came with these gaps, and at this rate if it was long enough
    /// to have one.
    pub fn flow(&mut self, gaps: &Histogram, rate: Option<f64>) {
        self.gaps.merge(gaps);
        if let Some(rate) = rate {
            self.rates.add(rate);
        }
    }

    /// The usual first-token time; zero while unknown.
    pub fn first_token_usual(&self) -> Duration {
        self.p50
    }

    /// The patience an attempt here gets.
    pub fn patience(&self, limits: &Limits) -> Patience {
        let first_token = if self.first_tokens.len() < SAMPLES_MIN {
            limits.first_token_unmeasured
        } else {
            (self.p99 * FIRST_TOKEN_FACTOR).clamp(limits.first_token.0, limits.first_token.1)
        };
        let stall = if self.gaps.is_empty() {
            limits.stall_unmeasured
        } else {
            let usual = Duration::from_secs_f64(self.gaps.quantile(0.99));
            (usual * STALL_FACTOR).clamp(limits.stall.0, limits.stall.1)
        };
        let median = if self.rates.len() < 5 { 0.0 } else { self.rates.quantile(0.5) / STEP };
        Patience {
            connect: limits.connect,
            first_token,
            stall,
            drip: limits.drip,
            drip_rate: (median * limits.drip_share).max(limits.drip_rate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn few_samples_give_the_unmeasured_patience() {
        let limits = Limits::default();
        let mut latency = Latency::default();
        for _ in 0..SAMPLES_MIN - 1 {
            latency.first_token(Duration::from_millis(100));
        }
        assert_eq!(latency.patience(&limits).first_token, limits.first_token_unmeasured);
        latency.first_token(Duration::from_millis(1300));
        assert_eq!(latency.patience(&limits).first_token, Duration::from_secs(1));
    }

    #[test]
    fn a_target_slower_than_its_past_is_measured_anew() {
        let limits = Limits::default();
        let mut latency = Latency::default();
        (0..100).for_each(|_| latency.first_token(Duration::from_millis(700)));
        let usual = Duration::from_millis(1400);
        latency.no_first_token();
        assert_eq!(latency.patience(&limits).first_token, usual);
        latency.no_first_token();
        assert_eq!(latency.patience(&limits).first_token, limits.first_token_unmeasured);
        for _ in 0..SAMPLES_MIN - 1 {
            latency.first_token(Duration::from_millis(3500));
            assert_eq!(latency.patience(&limits).first_token, limits.first_token_unmeasured);
        }
        latency.first_token(Duration::from_millis(3500));
        assert_eq!(latency.patience(&limits).first_token, Duration::from_secs(7));
    }

    #[test]
    fn a_stall_is_ten_usual_gaps_within_bounds() {
        let limits = Limits::default();
        let mut latency = Latency::default();
        let mut gaps = Histogram::default();
        (0..100).for_each(|_| gaps.add(0.5));
        latency.flow(&gaps, None);
        let stall = latency.patience(&limits).stall;
        assert!(
            (Duration::from_secs(5)..Duration::from_millis(6_300)).contains(&stall),
            "{stall:?}"
        );
    }

    #[test]
    fn quantiles_are_right_to_a_quarter() {
        let mut h = Histogram::default();
        (1..=100).for_each(|n| h.add(f64::from(n) / 100.0));
        let p50 = h.quantile(0.5);
        assert!((0.5..0.63).contains(&p50), "{p50}");
    }

    #[test]
    fn whatever_was_measured_every_wait_stays_within_its_bounds() {
        for seed in 0..100 {
            let (mut rng, mut latency) = (Rng::new(seed), Latency::default());
            let limits = Limits::default();
            for _ in 0..300 {
                let most = rng.below(40);
                let took = Duration::from_micros(rng.below(1 << most));
                match rng.below(4) {
                    0 => latency.no_first_token(),
                    _ => latency.first_token(took),
                }
                let patience = latency.patience(&limits);
                let (least, most) = limits.first_token;
                let first = patience.first_token;
                let unmeasured = limits.first_token_unmeasured;
                assert!((least..=most).contains(&first) || first == unmeasured, "seed {seed}");
                let (least, most) = limits.stall;
                let is_usual = patience.stall == limits.stall_unmeasured;
                assert!((least..=most).contains(&patience.stall) || is_usual, "seed {seed}");
            }
        }
    }
}
