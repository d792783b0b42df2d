//! What is before an attempt in its queue: a Fenwick tree over keys (Fenwick, 1994).
//!
//! Keys fall into buckets of a tenth of a second; the sum of all work in buckets before a key costs
//! a dozen additions, however many wait.

use crate::time::Time;
use alloc::vec::Vec;

/// Width of a bucket in microseconds: finer than any promise.
const BUCKET: u64 = 100_000;
/// Buckets, a power of two: 27 minutes of keys. What lies further goes to the last.
const BUCKETS: usize = 1 << 14;

/// Work by key, for one tier.
#[derive(Clone, Debug)]
pub struct Backlog {
    sums: Vec<u64>,
    /// The ring's first bucket. Keys before it count as in it.
    first: u64,
    work: Vec<u64>,
}

impl Default for Backlog {
    fn default() -> Backlog {
        Backlog { sums: alloc::vec![0; BUCKETS + 1], first: 0, work: alloc::vec![0; BUCKETS] }
    }
}

impl Backlog {
    /// Work with this key waits.
    pub fn add(&mut self, key: Time, cost: u64) {
        let at = self.bucket(key);
        self.work[at] += cost;
        self.change(at, |sum| *sum += cost);
    }

    /// It waits no more.
    pub fn take(&mut self, key: Time, cost: u64) {
        let at = self.bucket(key);
        let cost = cost.min(self.work[at]);
        self.work[at] -= cost;
        self.change(at, |sum| *sum -= cost);
    }

    /// Work that goes before this key, and all that has about this key: what waits already came
    /// first.
    pub fn up_to(&self, key: Time) -> u64 {
        self.first(self.bucket(key) + 1)
    }

    fn first(&self, buckets: usize) -> u64 {
        let (mut at, mut sum) = (buckets, 0);
        while at > 0 {
            sum += self.sums[at];
            at &= at - 1;
        }
        sum
    }

    /// Time has passed, and buckets of keys long gone may hold new ones: half of the ring at once.
    pub fn turn(&mut self, now: Time) {
        let here = now.as_micros() / BUCKET;
        let half = BUCKETS as u64 / 2;
        if here < self.first + half + half / 2 {
            return;
        }
        let kept = here - half / 2;
        let moved = (kept - self.first) as usize;
        let before: u64 = self.work[..moved.min(BUCKETS)].iter().sum();
        let mut work: Vec<u64> = self.work.get(moved..).unwrap_or_default().to_vec();
        work.resize(BUCKETS, 0);
        work[0] += before;
        self.first = kept;
        self.sums = alloc::vec![0; BUCKETS + 1];
        for (at, cost) in work.iter().enumerate() {
            self.change(at, |sum| *sum += cost);
        }
        self.work = work;
    }

    fn bucket(&self, key: Time) -> usize {
        let at = (key.as_micros() / BUCKET).saturating_sub(self.first);
        (at as usize).min(BUCKETS - 1)
    }

    fn change(&mut self, bucket: usize, change: impl Fn(&mut u64)) {
        let mut at = bucket + 1;
        while at <= BUCKETS {
            change(&mut self.sums[at]);
            at += at & at.wrapping_neg();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn what_is_before_a_key_is_the_sum_of_what_waits() {
        let mut rng = Rng::new(1);
        let mut backlog = Backlog::default();
        let mut waiting: Vec<(u64, u64)> = Vec::new();
        for second in 0..6_000u64 {
            backlog.turn(Time::from_micros(second * 1_000_000));
            let (at, cost) = (second * 10 + rng.below(900), 1 + rng.below(1_000));
            backlog.add(Time::from_micros(at * BUCKET), cost);
            waiting.push((at, cost));
            if waiting.len() > 50 {
                let (at, cost) = waiting.swap_remove(rng.below(50) as usize);
                backlog.take(Time::from_micros(at * BUCKET), cost);
            }
            // Keys far behind are in the first bucket, wherever they were.
            waiting.retain(|(at, cost)| {
                let is_old = *at + 1_000 < second * 10;
                if is_old {
                    backlog.take(Time::from_micros(at * BUCKET), *cost);
                }
                !is_old
            });
            let key = second * 10 + rng.below(900);
            let sum: u64 = waiting.iter().filter(|(at, _)| *at <= key).map(|(_, cost)| cost).sum();
            assert_eq!(backlog.up_to(Time::from_micros(key * BUCKET)), sum, "{second}");
        }
    }
}
