//! How far two nodes' clocks run apart, from what messages say of the time between them.
//!
//! Each message carries `elapsed`, the sender's time since its message before, and the receiver
//! compares sums over a minute with its own. A lost message takes its `elapsed` with it: so the
//! receiver adds up only pairs of messages that followed each other, told by a gap that is about
//! as long as the message says. Delays of single messages cancel in the sums; a gap that a loss, a
//! doubled message, a long delay or a restart has made is left out on both sides.
//!
//! Call `heard` for each report, grant or digest of a peer, ask `level` before credit is given or
//! used. Both ends watch, so one is enough where messages go one way.

use crate::mutant::{Mutant, Mutants};
use crate::time::{Duration, Time};

/// Sums are judged at the end of each half of the minute, over both halves.
const HALF: Duration = Duration::from_secs(30);
/// Less than this was compared: nothing can be said.
const LEAST: Duration = Duration::from_secs(10);
/// A gap further from what the message says than this share of it, in hundredths, is not a pair.
const PAIR: u32 = 25;
/// Above this, in thousandths, an operator must know; above the second nothing is lent.
const BOUNDS: [u128; 2] = [10, 20];

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

/// One peer's clock beside ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Drift {
    last: Option<Time>,
    began: Option<Time>,
    /// Ours and theirs, of the half before and of this one.
    sums: [(Duration, Duration); 2],
    level: Level,
    mutants: Mutants,
}

impl Drift {
    /// A peer of which nothing is known, with these rules taken away.
    pub fn new(mutants: Mutants) -> Drift {
        Drift { mutants, ..Drift::default() }
    }

    /// A message came that was sent so long after the one before it.
    pub fn heard(&mut self, now: Time, elapsed: Duration) -> Level {
        let began = *self.began.get_or_insert(now);
        if let Some(last) = self.last.replace(now) {
            let gap = now.since(last);
            if gap.abs_diff(elapsed) * 100 <= elapsed * PAIR && elapsed > Duration::ZERO {
                self.sums[1].0 += gap;
                self.sums[1].1 += elapsed;
            }
        }
        if now.since(began) >= HALF {
            self.began = Some(now);
            self.judge();
            self.sums = [self.sums[1], (Duration::ZERO, Duration::ZERO)];
        }
        self.level()
    }

    /// What was found last.
    pub fn level(&self) -> Level {
        if self.mutants.removes(Mutant::DriftUnwatched) { Level::Fine } else { self.level }
    }

    fn judge(&mut self) {
        let ours = self.sums[0].0 + self.sums[1].0;
        let theirs = self.sums[0].1 + self.sums[1].1;
        if ours < LEAST {
            return;
        }
        let apart = ours.abs_diff(theirs).as_micros() * 1000;
        let [alarm, most] = BOUNDS.map(|bound| bound * ours.as_micros());
        self.level = match apart {
            apart if apart > most => Level::NoCredit,
            apart if apart > alarm => Level::Alarm,
            _ => Level::Fine,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// Reports every half second of a sender whose clock is so many thousandths fast.
    fn run(drift: &mut Drift, thousandths: i64, loss: u64, (from, seconds): (u64, u64)) -> Level {
        let mut rng = Rng::new(7);
        for n in 0..seconds * 2 {
            let delay = rng.below(20_000);
            if rng.below(100) < loss {
                continue;
            }
            let at = Time::from_micros((from * 1_000_000) + n * 500_000 + delay);
            let theirs = 500_000 + 500 * thousandths;
            drift.heard(at, Duration::from_micros(theirs as u64));
        }
        drift.level()
    }

    #[test]
    fn a_clock_five_in_a_hundred_fast_gets_no_credit_within_a_minute_until_it_is_back() {
        let mut drift = Drift::default();
        assert_eq!(run(&mut drift, 50, 0, (0, 60)), Level::NoCredit);
        assert_eq!(run(&mut drift, 0, 0, (60, 90)), Level::Fine);
        assert_eq!(run(&mut Drift::default(), -50, 0, (0, 60)), Level::NoCredit);
    }

    #[test]
    fn between_one_and_two_in_a_hundred_an_operator_is_told() {
        assert_eq!(run(&mut Drift::default(), 15, 0, (0, 120)), Level::Alarm);
        assert_eq!(run(&mut Drift::default(), 5, 0, (0, 120)), Level::Fine);
    }

    #[test]
    fn lost_messages_and_restarts_are_not_drift() {
        let mut drift = Drift::default();
        assert_eq!(run(&mut drift, 0, 30, (0, 120)), Level::Fine);
        drift.heard(Time::from_micros(180_000_000), Duration::ZERO);
        assert_eq!(run(&mut drift, 0, 30, (181, 120)), Level::Fine);
        assert_eq!(run(&mut drift, 50, 30, (301, 90)), Level::NoCredit);
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn unwatched_a_fast_clock_keeps_its_credit() {
        let mut drift = Drift::new(Mutants::without(Mutant::DriftUnwatched));
        assert_eq!(run(&mut drift, 50, 0, (0, 60)), Level::Fine);
    }
}
