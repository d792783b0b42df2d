//! How many workers a model wants, for whoever buys machines. Told, never acted on.
//!
//! One more while work waits too long for a worker; one fewer only where the others have carried
//! everything with ease for ten minutes. An answer that waits for a slow network holds its stream:
//! what waits is not idle, and looking idle for a moment takes nothing away.

use crate::time::{Duration, Time};

/// Waits are judged over so many seconds.
const JUDGED: usize = 10;
/// This much of what is given out may wait long, in hundredths: the 95th percentile.
const LONG: u32 = 5;
/// With one fewer, the others may be used so far, in hundredths.
const EASE: u64 = 80;
/// For so long, before one fewer is enough.
const LASTS: Duration = Duration::from_secs(600);

/// The signal of one pool.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Given out, and of it after a long wait, second by second.
    slots: [(u32, u32); JUDGED],
    now: (u32, u32),
    next: usize,
    eased: Option<Time>,
    count: u16,
}

/// What a second showed.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Workers that are there.
    pub workers: u16,
    /// Hundredths of what they carry, or of their streams, in use: the larger.
    pub used: u64,
    /// Those that wait for longer than half of their promise, and wait still.
    pub late: u32,
    /// Nothing is known of them yet: they came back a short while ago.
    pub returning: bool,
}

impl Wanted {
    /// Work was given to a worker after it had waited; `base` is when first tokens are promised.
    pub fn given(&mut self, waited: Duration, base: Duration) {
        self.now.0 += 1;
        self.now.1 += u32::from(waited * 2 > base);
    }

    /// A second has passed.
    pub fn second(&mut self, now: Time, seen: Seen) {
        self.slots[self.next] = core::mem::take(&mut self.now);
        self.next = (self.next + 1) % JUDGED;
        let start = (seen.late, seen.late);
        let (all, long) = self.slots.iter().fold(start, |sum, s| (sum.0 + s.0, sum.1 + s.1));
        let workers = u64::from(seen.workers);
        let left = workers.saturating_sub(1);
        let eases = left > 0 && seen.used * workers < EASE * left && !seen.returning;
        self.eased = eases.then(|| self.eased.unwrap_or(now));
        let lasted = self.eased.is_some_and(|since| now.since(since) >= LASTS);
        if seen.workers == 0 {
            // Nobody is there to be seen: as many as before are wanted back.
            return;
        }
        self.count = match (long * 100 > all * LONG && !seen.returning, lasted) {
            (true, _) => seen.workers.saturating_add(1),
            (false, true) => seen.workers - 1,
            (false, false) => seen.workers,
        };
    }

    /// How many are wanted; 0 before the first second.
    pub fn count(&self) -> u16 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    const BASE: Duration = Duration::from_secs(2);

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    fn seen(used: u64) -> Seen {
        Seen { workers: 10, used, late: 0, returning: false }
    }

    #[test]
    fn one_more_is_wanted_as_long_as_work_waits_for_half_of_its_time() {
        let mut wanted = Wanted::default();
        for second in 0..30 {
            let waited = Duration::from_millis(if (5..15).contains(&second) { 1100 } else { 100 });
            (0..20).for_each(|_| wanted.given(waited, BASE));
            wanted.second(at(second), seen(99));
            let is_late = (5..24).contains(&second);
            assert_eq!(wanted.count(), if is_late { 11 } else { 10 }, "second {second}");
        }
    }

    #[test]
    fn one_fewer_is_wanted_after_ten_minutes_of_ease_and_not_by_a_dip() {
        let mut wanted = Wanted::default();
        for second in 0..=600 {
            wanted.second(at(second), seen(71));
            assert_eq!(wanted.count(), if second == 600 { 9 } else { 10 }, "second {second}");
        }
        let mut dipped = Wanted::default();
        for second in 0..=3000 {
            // Nine minutes without anything, and then work again for a moment.
            dipped.second(at(second), seen(if second % 540 == 0 { 75 } else { 0 }));
            assert_eq!(dipped.count(), 10, "second {second}");
        }
    }

    #[test]
    fn who_returns_is_not_judged_and_who_is_gone_is_wanted_back() {
        let mut wanted = Wanted::default();
        for second in 0..2000 {
            wanted.given(BASE, BASE);
            let returning = second < 1000;
            let workers = if second < 1000 { 10 } else { 0 };
            wanted.second(at(second), Seen { workers, used: 0, late: 0, returning });
            assert_eq!(wanted.count(), 10);
        }
    }

    #[test]
    fn whatever_is_seen_it_is_one_more_or_less_than_there_are() {
        for seed in 0..200 {
            let (mut rng, mut wanted) = (Rng::new(seed), Wanted::default());
            for second in 0..1500 {
                let waited = Duration::from_millis(rng.below(1500));
                (0..rng.below(5)).for_each(|_| wanted.given(waited, BASE));
                let workers = 1 + rng.below(4) as u16;
                let (used, late) = (rng.below(seed + 1), rng.below(3) as u32);
                let seen = Seen { workers, used, late, returning: rng.below(900) == 0 };
                wanted.second(at(second), seen);
                assert!(wanted.count().abs_diff(workers) <= 1, "seed {seed}: {wanted:?}");
                assert!(workers > 1 || wanted.count() >= 1, "seed {seed}: the last one is kept");
            }
        }
    }
}
