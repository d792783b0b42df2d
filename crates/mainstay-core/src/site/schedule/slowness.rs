//! How slow a site is of late, as those find it who are answered there.
//!
//! What workers carry is judged worker by worker, so that each gets what it can do; it takes many
//! answers to know all of them, and of those that are slow few come. What a gateway wants to know
//! is another thing: how long a first token takes there now, of what was to be expected. All first
//! tokens of the pool tell that together, second by second. Without any it stays what it was: only
//! an answer tells that a site is well again.

use crate::message::SLOW_MAX;

/// First tokens of which one second tells all that one second can.
const ENOUGH: u32 = 4;
/// The most that one second counts: one bad second alone is no slow site.
const SECOND_MAX: f64 = 0.5;
/// One first token counts as at most so many times as long as was to be expected.
const LONGEST: f64 = 15.0;

/// How slow a pool is.
#[derive(Clone, Copy, Debug)]
pub struct Slowness {
    times: f64,
    measured: f64,
    expected: f64,
    count: u32,
}

impl Default for Slowness {
    fn default() -> Slowness {
        Slowness { times: 1.0, measured: 0.0, expected: 0.0, count: 0 }
    }
}

impl Slowness {
    /// A first token came after so many seconds, where so many were to be expected.
    pub fn first_token(&mut self, measured: f64, expected: f64) {
        let expected = expected.max(0.001);
        self.measured += measured.min(LONGEST * expected);
        self.expected += expected;
        self.count += 1;
    }

    /// A second has passed.
    pub fn second(&mut self) {
        let Slowness { times, measured, expected, count } = *self;
        if count == 0 {
            return;
        }
        let weight = SECOND_MAX * f64::from(count.min(ENOUGH)) / f64::from(ENOUGH);
        *self = Slowness::default();
        self.times = times + weight * (measured / expected - times);
    }

    /// How many times as long as usual first tokens take.
    pub fn times(&self) -> u8 {
        self.times.clamp(0.0, f64::from(SLOW_MAX)) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds in each of which so many first tokens take so many times as long.
    fn after(seconds: u32, count: u32, times: f64, slowness: &mut Slowness) -> u8 {
        for _ in 0..seconds {
            (0..count).for_each(|_| slowness.first_token(0.3 * times, 0.3));
            slowness.second();
        }
        slowness.times()
    }

    #[test]
    fn two_slow_seconds_tell_and_one_alone_is_soon_forgotten() {
        let mut slowness = Slowness::default();
        assert_eq!(after(60, 50, 1.0, &mut slowness), 1);
        assert_eq!(after(1, 50, 10.0, &mut slowness), 5);
        assert_eq!(after(1, 50, 1.0, &mut slowness), 3);
        assert_eq!(after(1, 50, 1.0, &mut slowness), 2);
        assert_eq!(after(2, 50, 10.0, &mut slowness), 8);
    }

    #[test]
    fn of_few_answers_it_takes_three_and_silence_tells_nothing() {
        let mut slowness = Slowness::default();
        assert_eq!(after(2, 1, 10.0, &mut slowness), 3);
        assert_eq!(after(3600, 0, 1.0, &mut slowness), 3);
        assert_eq!(after(10, 1, 1.0, &mut slowness), 1);
    }

    #[test]
    fn whatever_is_measured_it_stays_within_its_bounds() {
        let mut slowness = Slowness::default();
        for (measured, expected) in [(0.0, 0.0), (1e9, 0.0), (0.0, 1e9), (1e9, 1e-9)] {
            (0..20).for_each(|_| slowness.first_token(measured, expected));
            slowness.second();
            assert!(slowness.times() <= LONGEST as u8, "{measured} of {expected}");
        }
    }
}
