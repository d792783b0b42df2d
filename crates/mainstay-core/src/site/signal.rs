//! How long work of each tier waits for a worker, and how much more could be carried: what, with
//! the number of workers wanted, whoever buys machines goes by. Told, never acted on.
//!
//! The wait is what grows first when workers are too few; the time that they take for an answer
//! says nothing of it (ai-dynamo/dynamo#10528). Who still waits counts with what it has waited so
//! far: else a pool that gives out nothing at all would look like one where nobody waits.

use super::Site;
use crate::cost::CostRate;
use crate::message::{PerTier, TIERS_MAX};
use crate::names::{TargetId, TierId};
use crate::time::{Duration, Time};

/// Waits are kept for so many spans
const SPANS: usize = 6;
/// of so many seconds each: half a minute, about as often as metrics are collected.
const SPAN: u32 = 5;
/// Buckets of waits: four for each doubling of milliseconds, up to two minutes.
const BUCKETS: usize = 68;
/// Which of all waits are told, in hundredths.
const TOLD: (u32, u32) = (50, 95);

/// Waits, by length.
#[derive(Clone, Copy, Debug)]
struct Waits([u32; BUCKETS]);

impl Waits {
    const NONE: Waits = Waits([0; BUCKETS]);

    fn add(&mut self, waited: Duration) {
        self.0[bucket(waited)] += 1;
    }
}

/// One pool's.
#[derive(Clone, Debug)]
pub struct Signal {
    spans: PerTier<[Waits; SPANS]>,
    span: usize,
    seconds: u32,
    delays: PerTier<Option<(Duration, Duration)>>,
    headroom: CostRate,
    /// Who waits for longer than half of its promise.
    long: u32,
}

impl Default for Signal {
    fn default() -> Signal {
        Signal {
            spans: [[Waits::NONE; SPANS]; TIERS_MAX],
            span: 0,
            seconds: 0,
            delays: [None; TIERS_MAX],
            headroom: CostRate::ZERO,
            long: 0,
        }
    }
}

impl Signal {
    /// Work of this tier was given to a worker after it had waited.
    pub fn given(&mut self, tier: TierId, waited: Duration) {
        self.spans[usize::from(tier.0).min(TIERS_MAX - 1)][self.span].add(waited);
    }

    /// How long work of a tier waits for a worker: the median and the 95th percentile of the last
    /// half minute. `None` where there was none.
    pub fn delays(&self, tier: TierId) -> Option<(Duration, Duration)> {
        *self.delays.get(usize::from(tier.0))?
    }

    /// What could be let in beyond what is.
    pub fn headroom(&self) -> CostRate {
        self.headroom
    }

    /// How many wait for longer than half of their promise.
    pub(super) fn long(&self) -> u32 {
        self.long
    }

    /// What could be let in beyond what is.
    pub(super) fn leaves(&mut self, headroom: CostRate) {
        self.headroom = headroom;
    }

    /// A second has passed, in which so many of each tier waited so long and wait still.
    fn second(&mut self, waiting: &PerTier<Waits>, long: u32) {
        self.long = long;
        for (tier, waiting) in waiting.iter().enumerate() {
            let mut all = *waiting;
            for span in &self.spans[tier] {
                all.0.iter_mut().zip(span.0).for_each(|(sum, count)| *sum += count);
            }
            self.delays[tier] = quantile(&all, TOLD.0).zip(quantile(&all, TOLD.1));
        }
        self.seconds += 1;
        if self.seconds.is_multiple_of(SPAN) {
            self.span = (self.span + 1) % SPANS;
            self.spans.iter_mut().for_each(|spans| spans[self.span] = Waits::NONE);
        }
    }
}

impl Site {
    /// What one model tells to whoever buys machines for it.
    pub fn signal(&self, target: TargetId) -> Option<&Signal> {
        let pool = self.pools.iter().find(|pool| pool.config.target == target)?;
        Some(&pool.signal)
    }

    /// A second has passed for the pool at this position.
    pub(super) fn count_waits(&mut self, now: Time, position: usize) {
        let base = self.pools[position].config.promise;
        let (mut waiting, mut long) = ([Waits::NONE; TIERS_MAX], 0);
        for (tier, since) in self.pools[position].scheduler.waits() {
            let waited = now.since(since);
            waiting[usize::from(tier.0).min(TIERS_MAX - 1)].add(waited);
            long += u32::from(waited * 2 > base);
        }
        self.pools[position].signal.second(&waiting, long);
    }
}

fn bucket(waited: Duration) -> usize {
    let millis = waited.as_millis() as u64;
    if millis < 4 {
        return millis as usize;
    }
    let log = millis.ilog2();
    let quarter = (millis >> (log - 2)) & 3;
    ((4 * (log as usize - 1)) + quarter as usize).min(BUCKETS - 1)
}

/// The longest wait that belongs to a bucket, nearly.
fn upper(bucket: usize) -> Duration {
    let millis = match bucket {
        0..=3 => bucket as u64,
        _ => (5 + bucket as u64 % 4) << (bucket / 4 - 1),
    };
    Duration::from_millis(millis)
}

fn quantile(waits: &Waits, hundredths: u32) -> Option<Duration> {
    let all: u32 = waits.0.iter().sum();
    let rank = (u64::from(all) * u64::from(hundredths)).div_ceil(100);
    let mut below = 0u64;
    let found = waits.0.iter().position(|count| {
        below += u64::from(*count);
        all > 0 && below >= rank
    });
    found.map(upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_the_waits_within_a_quarter() {
        for millis in [0, 1, 3, 4, 7, 8, 100, 999, 1000, 5_000, 60_000] {
            let mut waits = Waits::NONE;
            waits.add(Duration::from_millis(millis));
            let told = quantile(&waits, 50).expect("one").as_millis() as u64;
            assert!(told >= millis && told <= millis + millis / 4 + 1, "{told} for {millis}");
        }
        assert_eq!(bucket(Duration::MAX.min(Duration::from_secs(1 << 40))), BUCKETS - 1);
        assert_eq!(quantile(&Waits::NONE, 95), None);
    }

    #[test]
    fn each_tier_has_its_own_and_they_are_forgotten_after_half_a_minute() {
        let mut signal = Signal::default();
        for (tier, millis) in [(0, 10), (2, 3_000)] {
            for _ in 0..20 {
                signal.given(TierId(tier), Duration::from_millis(millis));
            }
        }
        let nobody = [Waits::NONE; TIERS_MAX];
        signal.second(&nobody, 0);
        let p95 = |signal: &Signal, tier| signal.delays(TierId(tier)).map(|(_, p95)| p95);
        assert!(p95(&signal, 0).expect("some") < Duration::from_millis(14));
        assert!(p95(&signal, 2).expect("some") >= Duration::from_secs(3));
        assert_eq!(p95(&signal, 1), None, "no number is made up");
        (0..SPAN * SPANS as u32).for_each(|_| signal.second(&nobody, 0));
        assert_eq!(p95(&signal, 0), None);
    }
}
