//! How far two nodes' clocks run apart, from what messages say of their sender's clock.
//!
//! Each message carries `elapsed`, the time since its sender's first message to us, by the sender's
//! clock. What the receiver counted less that is an offset: it holds the message's delay and what
//! the clocks have run apart. Of every few seconds the fastest message counts, since delays vary
//! and the fastest little. Clocks that run apart shift the offset in both halves of a minute alike;
//! a delay that came to stay shifts it once, in one half, and is not taken for drift. Nothing is
//! counted from message to message, so loss and reordering cost nothing. An offset that jumps by
//! more than any delay is a restart or a long silence: the measure begins anew.
//!
//! Both ends watch: a site the reports, a gateway the grants.

use crate::mutant::{Mutant, Mutants};
use crate::time::{Duration, Time};
use alloc::collections::VecDeque;

/// The fastest message of so long counts: ten reports.
const BLOCK: Duration = Duration::from_secs(5);
/// A minute, begin and end included.
const BLOCKS_MAX: usize = 13;
/// Half a minute: then a strong drift stands out of what delays vary by.
const BLOCKS_MIN: usize = 7;
/// The fastest messages of two blocks may differ by this much with no drift at all, in
/// microseconds.
const JITTER: i64 = 100_000;
/// An offset further from the one before, in microseconds: no credit outlives such a delay.
const JUMP: u64 = 2_000_000;
/// Above this, in thousandths, an operator must know.
const ALARM: i64 = 10;
/// Above this the lease rules do not hold, and nothing is lent.
const APART: i64 = 20;

/// What the difference means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Within one in a hundred, or not known.
    #[default]
    Fine,
    /// Above: tell an operator.
    Alarm,
    /// Above two in a hundred: no credit with this peer until it is back.
    NoCredit,
}

/// What was found changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drifted {
    /// How far the clocks run apart.
    pub thousandths: u32,
    /// What that means.
    pub level: Level,
}

/// One peer's clock beside ours.
#[derive(Clone, Debug, Default)]
pub struct Drift {
    last: i64,
    /// The fastest message of each block, the present one last: when it came, and its offset.
    blocks: VecDeque<(Time, i64)>,
    began: Time,
    level: Level,
    mutants: Mutants,
}

impl Drift {
    /// A peer of which nothing is known, with these rules taken away.
    pub fn new(mutants: Mutants) -> Drift {
        Drift { mutants, ..Drift::default() }
    }

    /// A message came that was sent so long after its sender's first; tells a change of level.
    pub fn heard(&mut self, now: Time, elapsed: Duration) -> Option<Drifted> {
        if self.mutants.removes(Mutant::DriftUnwatched) {
            return None;
        }
        let ours = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        let theirs = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        let offset = ours.saturating_sub(theirs);
        if offset.abs_diff(core::mem::replace(&mut self.last, offset)) > JUMP {
            self.blocks.clear();
        }
        match self.blocks.back_mut() {
            Some(fastest) if now.since(self.began) < BLOCK => {
                if offset < fastest.1 {
                    *fastest = (now, offset);
                }
                None
            }
            _ => {
                let drifted = self.judge();
                self.began = now;
                if self.blocks.len() == BLOCKS_MAX {
                    self.blocks.pop_front();
                }
                self.blocks.push_back((now, offset));
                drifted
            }
        }
    }

    /// What was found last.
    pub fn level(&self) -> Level {
        self.level
    }

    fn judge(&mut self) -> Option<Drifted> {
        if self.blocks.len() < BLOCKS_MIN {
            return None;
        }
        let (first, last) = (self.blocks.front()?, self.blocks.back()?);
        let middle = self.blocks.get(self.blocks.len() / 2)?;
        let halves = (pace(first, middle), pace(middle, last));
        let apart = match halves.0.signum() == halves.1.signum() {
            true => halves.0.abs().min(halves.1.abs()),
            false => 0,
        };
        let level = match apart {
            apart if apart > APART => Level::NoCredit,
            apart if apart > ALARM => Level::Alarm,
            _ => Level::Fine,
        };
        let thousandths = u32::try_from(apart).unwrap_or(u32::MAX);
        let before = core::mem::replace(&mut self.level, level);
        (before != level).then_some(Drifted { thousandths, level })
    }
}

/// How far the offset shifts from one message to another, in thousandths, less what delays do.
fn pace(from: &(Time, i64), to: &(Time, i64)) -> i64 {
    let span = i64::try_from(to.0.since(from.0).as_micros()).unwrap_or(i64::MAX).max(1);
    let shift = to.1.saturating_sub(from.1);
    let beyond = shift.saturating_abs().saturating_sub(JITTER).max(0);
    beyond.saturating_mul(1000) / span * shift.signum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use alloc::vec::Vec;

    /// A network and a sender that reports every half second.
    struct Bench {
        drift: Drift,
        rng: Rng,
        /// How fast the sender's clock is, in thousandths.
        fast: i64,
        /// Shares of messages lost, in hundredths.
        loss: u64,
        /// Delays in microseconds, from and to.
        delay: (u64, u64),
        /// When the sender began, in seconds.
        began: u64,
    }

    impl Bench {
        fn new(fast: i64) -> Bench {
            let (drift, rng) = (Drift::default(), Rng::new(7));
            Bench { drift, rng, fast, loss: 0, delay: (20_000, 80_000), began: 0 }
        }

        /// From one second to another; the first change of level and when it was told.
        fn run(&mut self, from: u64, to: u64) -> Option<(u64, Level)> {
            let mut arrivals = Vec::new();
            for n in from * 2..to * 2 {
                let sent = n * 500_000;
                if self.rng.below(100) >= self.loss {
                    let (least, most) = self.delay;
                    let theirs = (sent - self.began * 1_000_000) * (1000 + self.fast) as u64 / 1000;
                    arrivals.push((sent + least + self.rng.below(most - least), theirs));
                }
            }
            arrivals.sort_unstable();
            let mut told = None;
            for (at, theirs) in arrivals {
                let now = Time::from_micros(at);
                let drifted = self.drift.heard(now, Duration::from_micros(theirs));
                told = told.or(drifted.map(|drifted| (at / 1_000_000, drifted.level)));
            }
            told
        }
    }

    #[test]
    fn a_clock_five_in_a_hundred_off_gets_no_credit_within_a_minute_until_it_is_back() {
        for fast in [50, -48] {
            let mut bench = Bench { loss: 30, ..Bench::new(fast) };
            let told = bench.run(0, 60);
            assert!(told.is_some_and(|(_, level)| level == Level::NoCredit), "{told:?}");
            bench.fast = 0;
            assert!(bench.run(60, 130).is_some());
            assert_eq!(bench.drift.level(), Level::Fine);
        }
    }

    #[test]
    fn between_one_and_two_in_a_hundred_an_operator_is_told() {
        assert!(Bench::new(17).run(0, 120).is_some_and(|(_, level)| level == Level::Alarm));
        assert_eq!(Bench::new(9).run(0, 600), None);
    }

    #[test]
    fn losses_and_delays_that_differ_or_come_to_stay_are_not_drift() {
        assert_eq!(Bench { loss: 60, ..Bench::new(0) }.run(0, 1200), None);
        assert_eq!(Bench { loss: 30, delay: (0, 1_000_000), ..Bench::new(0) }.run(0, 1200), None);
        let mut later = Bench::new(0);
        assert_eq!(later.run(0, 100), None);
        later.delay = (1_500_000, 1_900_000);
        assert_eq!(later.run(100, 300), None);
        later.delay = (20_000, 80_000);
        assert_eq!(later.run(300, 600), None);
    }

    #[test]
    fn a_peer_that_restarts_at_any_age_is_measured_anew() {
        for (age, silent) in [(1, 1), (7, 5), (60, 5), (60, 300), (600, 5)] {
            let mut bench = Bench { loss: 30, ..Bench::new(0) };
            assert_eq!(bench.run(0, age), None);
            bench.began = age + silent;
            assert_eq!(bench.run(age + silent, age + silent + 200), None, "{age} {silent}");
            bench.fast = 50;
            bench.began = 2000;
            let told = bench.run(2000, 2060);
            assert!(told.is_some_and(|(_, level)| level == Level::NoCredit), "{told:?}");
        }
    }

    #[test]
    fn a_peer_that_says_anything_at_all_breaks_nothing() {
        let mut drift = Drift::default();
        for (at, elapsed) in [(0, u64::MAX), (u64::MAX, 0), (5, 9), (u64::MAX, u64::MAX)] {
            drift.heard(Time::from_micros(at), Duration::from_micros(elapsed));
            drift.heard(Time::from_micros(at), Duration::MAX);
        }
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn unwatched_a_fast_clock_keeps_its_credit() {
        let mut bench = Bench::new(50);
        bench.drift = Drift::new(Mutants::without(Mutant::DriftUnwatched));
        bench.run(0, 60);
        assert_eq!(bench.drift.level(), Level::Fine);
    }
}
