//! How much of its capacity a returning site offers: little at first, more while it keeps its
//! promise. One integrator at the receiver, small steps up, a whole step down; senders follow.
//!
//! A site that has returned is done with it: slowness at full load is for the limit to see, and a
//! ramp that reacted to it would halve a site because it is busy.

use crate::time::{Duration, Time};

/// The steps, in hundredths.
pub const STEPS: [u8; 6] = [1, 5, 10, 25, 50, 100];
/// Up after this long with at least half of the step in use.
const UP_USED: Duration = Duration::from_secs(30);
/// Up after this long however little is used: five such steps are the five minutes within which a
/// sound site is back.
const UP_UNUSED: Duration = Duration::from_secs(60);
/// A breach for this long takes one step back.
const BREACH: Duration = Duration::from_secs(5);
/// After a step back nothing moves for this long.
const HOLD: Duration = Duration::from_secs(30);
/// This much of a step in use, in hundredths, makes it count as tried.
const USED: u64 = 50;

/// The ramp of one pool. Looked at once a second.
#[derive(Clone, Copy, Debug)]
pub struct Ramp {
    step: usize,
    /// It was whole for the time of a step, and kept its promise.
    is_done: bool,
    since: Time,
    used_since: Option<Time>,
    breach_since: Option<Time>,
    held_until: Time,
}

/// A step, and why it was taken.
pub type Step = (u8, u8, &'static str);

impl Ramp {
    /// Everything is on offer.
    pub fn whole() -> Ramp {
        Ramp {
            step: STEPS.len() - 1,
            is_done: true,
            since: Time::ZERO,
            used_since: None,
            breach_since: None,
            held_until: Time::ZERO,
        }
    }

    /// On offer now, in hundredths.
    pub fn percent(&self) -> u8 {
        STEPS[self.step]
    }

    /// The site returns: from the first step.
    pub fn restart(&mut self, now: Time, why: &'static str) -> Option<Step> {
        let from = self.percent();
        *self = Ramp { step: 0, is_done: false, since: now, ..Ramp::whole() };
        (from != self.percent()).then_some((from, self.percent(), why))
    }

    /// A second has passed; `used` hundredths of the step are in use, and the promise is broken or
    /// kept.
    pub fn second(&mut self, now: Time, used: u64, is_breach: bool) -> Option<Step> {
        if self.is_done {
            return None;
        }
        self.breach_since = is_breach.then(|| self.breach_since.unwrap_or(now));
        let is_used = used >= USED && !is_breach;
        self.used_since = is_used.then(|| self.used_since.unwrap_or(now));
        if self.breach_since.is_some_and(|since| now.since(since) >= BREACH) {
            self.breach_since = None;
            self.held_until = now + HOLD;
            return self.to(now, self.step.saturating_sub(1), "first tokens came too late");
        }
        if is_breach || now < self.held_until {
            return None;
        }
        let tried = self.used_since.is_some_and(|since| now.since(since) >= UP_USED);
        if tried {
            return self.up(now, "half of it was in use and the promise kept");
        }
        if now.since(self.since.max(self.held_until)) >= UP_UNUSED {
            return self.up(now, "a minute without a breach");
        }
        None
    }

    fn up(&mut self, now: Time, why: &'static str) -> Option<Step> {
        if self.step + 1 == STEPS.len() {
            self.is_done = true;
            return None;
        }
        self.to(now, self.step + 1, why)
    }

    fn to(&mut self, now: Time, step: usize, why: &'static str) -> Option<Step> {
        let from = self.percent();
        self.step = step;
        self.since = now;
        self.used_since = None;
        (from != self.percent()).then_some((from, self.percent(), why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    /// Seconds until everything is on offer.
    fn climb(used: u64) -> u64 {
        let mut ramp = Ramp::whole();
        assert_eq!(ramp.restart(at(0), "it returned"), Some((100, 1, "it returned")));
        (1..).find(|s| ramp.second(at(*s), used, false).is_some_and(|to| to.1 == 100)).unwrap_or(0)
    }

    #[test]
    fn a_returning_site_is_whole_within_five_minutes_and_not_before_two_and_a_half() {
        assert!((150..=160).contains(&climb(80)), "{}", climb(80));
        assert_eq!(climb(0), 300);
    }

    #[test]
    fn a_breach_of_five_seconds_takes_one_step_back_and_then_it_holds() {
        let mut ramp = Ramp::whole();
        ramp.restart(at(0), "it returned");
        let steps: alloc::vec::Vec<_> =
            (1..190).filter_map(|s| ramp.second(at(s), 90, (70..=75).contains(&s))).collect();
        let to: alloc::vec::Vec<u8> = steps.iter().map(|step| step.1).collect();
        assert_eq!(to, [5, 10, 5, 10, 25, 50]);
    }

    #[test]
    fn a_short_breach_moves_nothing_and_a_whole_site_is_not_stepped_down() {
        let mut ramp = Ramp::whole();
        assert_eq!((1..100).find_map(|s| ramp.second(at(s), 100, true)), None);
        ramp.restart(at(100), "it returned");
        assert_eq!((101..105).find_map(|s| ramp.second(at(s), 100, true)), None);
    }

    #[test]
    fn whatever_happens_one_step_is_taken_at_a_time_and_none_sooner_than_it_may() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let mut ramp = Ramp::whole();
            let (mut moved, mut fell) = (at(0), None);
            let mut is_returning = false;
            for second in 1..2000 {
                let (now, before) = (at(second), ramp.percent());
                if rng.below(500) == 0 {
                    ramp.restart(now, "it returned");
                    (moved, fell, is_returning) = (now, None, true);
                    assert_eq!(ramp.percent(), STEPS[0], "seed {seed}");
                    continue;
                }
                let is_breach = rng.below(100) < seed % 100;
                let Some((from, to, _)) = ramp.second(now, rng.below(101), is_breach) else {
                    assert_eq!(ramp.percent(), before, "seed {seed}: a step is told");
                    continue;
                };
                let place = |step: u8| STEPS.iter().position(|each| *each == step);
                let (from_at, to_at) = (place(from), place(to));
                assert!(is_returning && (from, to) == (before, ramp.percent()), "seed {seed}");
                if to > from {
                    assert_eq!(to_at, from_at.map(|at| at + 1), "seed {seed}");
                    let since = fell.unwrap_or(moved);
                    assert!(now.since(since) >= UP_USED.min(HOLD), "seed {seed}: too soon");
                    fell = None;
                } else {
                    assert_eq!(to_at, from_at.map(|at| at - 1), "seed {seed}");
                    fell = Some(now);
                }
                moved = now;
            }
        }
    }

    #[test]
    fn without_a_breach_it_is_whole_in_five_minutes_however_much_is_used() {
        for seed in 0..200 {
            let (mut rng, mut ramp) = (Rng::new(seed), Ramp::whole());
            ramp.restart(at(0), "it returned");
            for second in 1..=300 {
                ramp.second(at(second), rng.below(201), false);
            }
            assert_eq!(ramp.percent(), 100, "seed {seed}");
        }
    }
}
