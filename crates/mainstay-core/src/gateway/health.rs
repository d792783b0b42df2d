//! What this gateway believes of one target, from its own attempts alone.
//!
//! Three outcomes: *good* (a whole answer, or tokens flowing for a while), *strike* (refused,
//! reset, silent, cut, wrong) and *neutral*, which is never told to this automaton. Overload is
//! neutral: a 429 counted as success would wipe out real failures, counted as failure it would
//! turn overload into death. Every window is short and every return is slow, so that no sequence
//! of outcomes can move a target in and out of use more than six times in ten minutes.

use crate::fact::Verdict;
use crate::time::{Duration, Time};
use alloc::collections::VecDeque;

/// Strikes in a row that make a target suspect, if they span `STRIKE_SPAN`.
const STRIKES: u32 = 3;
/// Three attempts that were under way at one moment are one event, not three.
const STRIKE_SPAN: Duration = Duration::from_millis(300);
/// Good answers in a row that clear a suspect.
const CLEARING: u32 = 5;
/// How long a suspect must strike without a good answer to be called down.
const DOWN_AFTER: Duration = Duration::from_secs(3);
/// First hold of a target that is down, and the hold from its second departure on.
const HOLD: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(60)];
/// Good answers and time that end probation.
const PROVING: (u32, Duration) = (10, Duration::from_secs(10));
/// Departures within `MEMORY` that latch a target.
const LATCH: usize = 3;
/// How long departures are remembered, and how long a latched target must stay clean.
const MEMORY: Duration = Duration::from_secs(600);
/// Trickle while suspect or on fresh probation, and after five seconds of probation.
const TRICKLE: [f64; 2] = [0.01, 0.05];
/// When probation widens its trickle.
const TRICKLE_WIDENS: Duration = Duration::from_secs(5);
/// Least pace of a trickle.
const TRICKLE_PACE: Duration = Duration::from_secs(1);
/// Pace of single tries at a target that is down and whose hold is over.
const DOWN_PACE: Duration = Duration::from_secs(15);
/// Share of strikes that condemns, and the windows it is taken over with their least sizes.
const CONDEMNING: f64 = 0.5;
const WINDOWS: [(Duration, usize); 2] =
    [(Duration::from_secs(2), 20), (Duration::from_secs(30), 10)];
/// Outcomes kept; more in two seconds say nothing new.
const OUTCOMES: usize = 64;

/// The automaton of one target.
#[derive(Clone, Debug)]
pub struct Health {
    verdict: Verdict,
    since: Time,
    outcomes: VecDeque<(Time, bool)>,
    strikes: u32,
    first_strike: Time,
    good: u32,
    hold_until: Time,
    departures: VecDeque<Time>,
    latched: bool,
    last_trickle: Option<Time>,
    offered: f64,
}

/// A change of verdict, for the fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Before.
    pub from: Verdict,
    /// After.
    pub to: Verdict,
    /// The rule that did it.
    pub why: &'static str,
}

impl Default for Health {
    fn default() -> Health {
        Health {
            verdict: Verdict::Up,
            since: Time::ZERO,
            outcomes: VecDeque::new(),
            strikes: 0,
            first_strike: Time::ZERO,
            good: 0,
            hold_until: Time::ZERO,
            departures: VecDeque::new(),
            latched: false,
            last_trickle: None,
            offered: 0.0,
        }
    }
}

impl Health {
    /// The present belief.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Whether the target departed three times lately and must prove itself for ten minutes.
    pub fn is_latched(&self) -> bool {
        self.latched
    }

    /// While it is down: when it may be tried again.
    pub fn held_until(&self) -> Option<Time> {
        (self.verdict == Verdict::Down).then_some(self.hold_until)
    }

    /// A whole answer came, or tokens flowed for two seconds.
    pub fn good(&mut self, now: Time) -> Option<Change> {
        self.record(now, true);
        self.strikes = 0;
        self.good = self.good.saturating_add(1);
        match self.verdict {
            Verdict::Up => None,
            Verdict::Suspect if self.good < CLEARING => None,
            Verdict::Suspect if self.latched => {
                self.turn(now, Verdict::Probation, "five good in a row, latched")
            }
            Verdict::Suspect => self.turn(now, Verdict::Up, "five good in a row"),
            Verdict::Down if now < self.hold_until => None,
            Verdict::Down => self.turn(now, Verdict::Probation, "answered after its hold"),
            Verdict::Probation => self.prove(now),
        }
    }

    /// The target failed in a way that is its own.
    pub fn strike(&mut self, now: Time) -> Option<Change> {
        self.record(now, false);
        self.good = 0;
        if self.strikes == 0 {
            self.first_strike = now;
        }
        self.strikes = self.strikes.saturating_add(1);
        match self.verdict {
            Verdict::Up => {
                let why = self.condemned(now)?;
                self.depart(now);
                self.turn(now, Verdict::Suspect, why)
            }
            Verdict::Suspect => {
                let long = now.since(self.since.max(self.first_strike)) >= DOWN_AFTER;
                if !long {
                    return None;
                }
                self.hold_until = now + self.hold();
                self.turn(now, Verdict::Down, "strikes alone for three seconds")
            }
            Verdict::Down => {
                if now >= self.hold_until {
                    self.hold_until = now + HOLD[0];
                }
                None
            }
            Verdict::Probation => {
                self.hold_until = now + HOLD[0];
                self.turn(now, Verdict::Down, "a strike on probation")
            }
        }
    }

    /// Whether one request should be sent here although the target is not up. Asking counts the
    /// request as offered, so call it once per request that could go here.
    pub fn takes_trickle(&mut self, now: Time) -> bool {
        let share = match self.verdict {
            Verdict::Up => return false,
            Verdict::Suspect => TRICKLE[0],
            Verdict::Down => return self.takes_single(now),
            Verdict::Probation if now.since(self.since) < TRICKLE_WIDENS => TRICKLE[0],
            Verdict::Probation => TRICKLE[1],
        };
        self.offered += share;
        let is_due = self.last_trickle.is_none_or(|t| now.since(t) >= TRICKLE_PACE);
        if self.offered >= 1.0 || is_due {
            self.offered = (self.offered - 1.0).max(0.0);
            self.last_trickle = Some(now);
            return true;
        }
        false
    }

    fn takes_single(&mut self, now: Time) -> bool {
        let is_due = self.last_trickle.is_none_or(|t| now.since(t) >= DOWN_PACE);
        if now < self.hold_until || !is_due {
            return false;
        }
        self.last_trickle = Some(now);
        true
    }

    fn record(&mut self, now: Time, good: bool) {
        if self.outcomes.len() == OUTCOMES {
            self.outcomes.pop_front();
        }
        self.outcomes.push_back((now, good));
    }

    fn condemned(&self, now: Time) -> Option<&'static str> {
        if self.strikes >= STRIKES && now.since(self.first_strike) >= STRIKE_SPAN {
            return Some("three strikes in a row");
        }
        for (window, least) in WINDOWS {
            let recent = self.outcomes.iter().filter(|(at, _)| now.since(*at) <= window);
            let (mut all, mut bad) = (0usize, 0usize);
            for (_, good) in recent {
                all += 1;
                bad += usize::from(!good);
            }
            if all >= least && bad as f64 >= CONDEMNING * all as f64 {
                return Some("half of its recent answers were strikes");
            }
        }
        None
    }

    fn depart(&mut self, now: Time) {
        while self.departures.front().is_some_and(|at| now.since(*at) > MEMORY) {
            self.departures.pop_front();
        }
        self.departures.push_back(now);
        self.latched |= self.departures.len() >= LATCH;
        self.last_trickle = Some(now);
        self.offered = 0.0;
    }

    fn hold(&self) -> Duration {
        if self.departures.len() >= 2 { HOLD[1] } else { HOLD[0] }
    }

    fn prove(&mut self, now: Time) -> Option<Change> {
        let clean = if self.latched { MEMORY } else { PROVING.1 };
        if self.good < PROVING.0 || now.since(self.since) < clean {
            return None;
        }
        // Departures are not forgotten by it, or three proofs could make seven moves.
        self.latched = false;
        self.turn(now, Verdict::Up, "proved on probation")
    }

    fn turn(&mut self, now: Time, to: Verdict, why: &'static str) -> Option<Change> {
        let from = core::mem::replace(&mut self.verdict, to);
        self.since = now;
        self.strikes = 0;
        self.good = 0;
        self.outcomes.clear();
        Some(Change { from, to, why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn at(millis: u64) -> Time {
        Time::from_micros(millis * 1000)
    }

    #[test]
    fn three_strikes_at_one_moment_are_one_event() {
        let mut health = Health::default();
        for millis in [0, 10, 20] {
            assert_eq!(health.strike(at(millis)), None);
        }
        assert!(health.strike(at(320)).is_some());
        assert_eq!(health.verdict(), Verdict::Suspect);
    }

    #[test]
    fn a_good_answer_in_between_keeps_a_target_up() {
        let mut health = Health::default();
        for n in 0..30 {
            health.strike(at(n * 1000));
            health.good(at(n * 1000 + 100));
            health.good(at(n * 1000 + 200));
        }
        assert_eq!(health.verdict(), Verdict::Up);
    }

    #[test]
    fn a_dead_target_gets_a_trickle_then_nothing_then_returns_by_probation() {
        let mut health = Health::default();
        let mut now = 0;
        while health.verdict() != Verdict::Down {
            health.strike(at(now));
            now += 400;
            assert!(now < 10_000, "must be down within ten seconds");
        }
        assert!(!health.takes_trickle(at(now + 1000)), "nothing during the hold");
        now += 31_000;
        assert!(health.takes_trickle(at(now)));
        assert!(!health.takes_trickle(at(now + 10)), "a single try, not two");
        health.good(at(now + 200));
        assert_eq!(health.verdict(), Verdict::Probation);
        for n in 0..11 {
            health.good(at(now + 1000 + n * 1000));
        }
        assert_eq!(health.verdict(), Verdict::Up);
    }

    #[test]
    fn a_suspect_at_a_hundred_requests_a_second_gets_one_of_them() {
        let mut health = Health::default();
        for millis in [0, 200, 400] {
            health.strike(at(millis));
        }
        let sent = (0..1000).filter(|n| health.takes_trickle(at(500 + n * 10))).count();
        assert!((9..=11).contains(&sent), "{sent} of 1000 in ten seconds");
    }

    #[test]
    fn a_third_departure_latches_however_well_it_proved_itself_in_between() {
        let mut health = Health::default();
        let mut now = 0;
        for departure in 1..=3 {
            while health.verdict() == Verdict::Up {
                health.strike(at(now));
                now += 400;
            }
            assert_eq!(health.is_latched(), departure == 3);
            while health.verdict() != Verdict::Down {
                health.strike(at(now));
                now += 400;
            }
            now += 61_000;
            for _ in 0..13 {
                health.good(at(now));
                now += 1000;
            }
        }
        assert_eq!(health.verdict(), Verdict::Probation);
    }

    #[test]
    fn no_sequence_flaps_more_than_six_times_in_ten_minutes() {
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            let mut health = Health::default();
            let mut now = Time::ZERO;
            let mut moves: VecDeque<Time> = VecDeque::new();
            for _ in 0..4000 {
                now = now + rng.between(Duration::from_millis(1), Duration::from_secs(2));
                // Long runs of one outcome move the automaton further than coin flips do.
                let good = (rng.bits() >> 60).is_multiple_of(3)
                    ^ ((now.as_micros() / 7_000_000).is_multiple_of(2));
                let change = if good { health.good(now) } else { health.strike(now) };
                let Some(change) = change else { continue };
                if (change.from == Verdict::Up) == (change.to == Verdict::Up) {
                    continue;
                }
                moves.push_back(now);
                while moves.front().is_some_and(|t| now.since(*t) >= MEMORY) {
                    moves.pop_front();
                }
                assert!(moves.len() <= 6, "seed {seed}: {} moves", moves.len());
            }
        }
    }
}
