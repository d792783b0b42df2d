//! How much work the open answers of a pool let through, where streams rather than prompts are
//! what it is short of.
//!
//! By Little's law that is streams by the time one is held. That time is known late: answers that
//! ended were begun long ago. So the age of those still open counts too, which sees slowness as
//! it happens, and what ends now, which sees its end.

use crate::cost::{CostRate, CostUnits};
use crate::time::{Duration, Time};

/// Weight of one answer in the time a stream is held, and in the cost of one.
const STEP: f64 = 1.0 / 64.0;
/// Answers before anything is concluded; the first to end are the short ones.
const LEARN: u32 = 64;
/// Weight of a second in the rate at which answers end.
const RATE_STEP: f64 = 0.4;
/// Free streams may be filled within so many seconds.
const FILL: f64 = 5.0;

/// The open answers of a pool.
#[derive(Clone, Copy, Debug, Default)]
pub struct Streams {
    open: u32,
    /// Sum of the moments at which they were given out, in microseconds.
    since: u128,
    ended: u32,
    /// Ends a second.
    rate: f64,
    /// Seconds one is held.
    time: f64,
    /// Cost units of one.
    cost: f64,
    samples: u32,
}

impl Streams {
    /// One is given out.
    pub fn open(&mut self, now: Time) {
        self.open += 1;
        self.since += u128::from(now.as_micros());
    }

    /// One given out at `since` is free again.
    pub fn close(&mut self, now: Time, since: Time, cost: CostUnits) {
        self.open = self.open.saturating_sub(1);
        self.since = self.since.saturating_sub(u128::from(since.as_micros()));
        self.ended += 1;
        self.samples = self.samples.saturating_add(1);
        let step = (1.0 / f64::from(self.samples)).max(STEP);
        self.time += step * (now.since(since).as_secs_f64() - self.time);
        self.cost += step * (cost.as_f64() - self.cost);
    }

    /// A second has passed.
    pub fn second(&mut self) {
        let ended = f64::from(core::mem::take(&mut self.ended));
        self.rate += RATE_STEP * (ended - self.rate);
    }

    /// What so many streams let through, if enough is known.
    pub fn carry(&self, now: Time, streams: u32) -> Option<CostRate> {
        if self.samples < LEARN {
            return None;
        }
        let free = streams.saturating_sub(self.open);
        let by_ends = self.rate + f64::from(free) / FILL;
        let held = self.time.max(2.0 * self.mean_age(now).as_secs_f64()).max(0.001);
        let by_time = f64::from(streams) / held;
        Some(CostRate((by_ends.max(by_time) * self.cost * 1000.0) as u64))
    }

    /// Answers under way.
    pub fn count(&self) -> u32 {
        self.open
    }

    /// Whether so many are open, given out at moments with this sum (K3).
    pub fn is(&self, open: u32, since: u128) -> bool {
        (self.open, self.since) == (open, since)
    }

    fn mean_age(&self, now: Time) -> Duration {
        let mean = self.since.checked_div(u128::from(self.open));
        mean.map_or(Duration::ZERO, |mean| now.since(Time::from_micros(mean as u64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_micros(millis * 1000)
    }

    /// Ten begin each second for a minute, each held for so many seconds; then what 100 carry.
    fn carried(held: u64) -> f64 {
        let mut streams = Streams::default();
        for tick in 0..600 {
            let now = at(tick * 100);
            streams.open(now);
            if let Some(begun) = tick.checked_sub(held * 10) {
                streams.close(now, at(begun * 100), CostUnits::whole(2));
            }
            if tick % 10 == 0 {
                streams.second();
            }
        }
        streams.carry(at(60_000), 100).map_or(0.0, CostRate::as_f64)
    }

    #[test]
    fn streams_carry_their_number_by_the_time_one_is_held() {
        let short = carried(2);
        assert!((95.0..=105.0).contains(&short), "{short}: fifty a second of two units");
        let long = carried(10);
        assert!((19.0..=22.0).contains(&long), "{long}: ten a second");
    }

    #[test]
    fn answers_that_do_not_end_are_seen_before_they_do() {
        let mut streams = Streams::default();
        for tick in 0..100 {
            streams.open(at(tick * 10));
            streams.close(at(tick * 10 + 1000), at(tick * 10), CostUnits::whole(1));
        }
        (0..100).for_each(|_| streams.open(at(5000)));
        for _ in 0..20 {
            streams.second();
        }
        assert!(streams.carry(at(5000), 100).is_some_and(|all| all >= CostRate::whole(99)));
        assert!(streams.carry(at(25_000), 100).is_some_and(|all| all <= CostRate::whole(3)));
    }
}
