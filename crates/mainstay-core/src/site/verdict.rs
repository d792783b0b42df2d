//! What is believed of one worker that is a server of its own, by how it answers.
//!
//! A worker that refuses connections is gone; one that is silent is doubted first, for it may only
//! be busy, and while tokens of it come it is not even doubted. One that is full is no sick one. A
//! worker that comes back is given a little, and more with each first token that it gives.
//!
//! Whoever looks at workers tells of each look and of each leg, and asks how many legs one may
//! have.

use super::calibration::GUESS;
use super::schedule::worker::Verdict;
use crate::cost::{CostRate, CostUnits};
use crate::time::{Duration, Time};

/// Workers are looked at this often, give or take a fifth, so that many are not looked at together.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A look that takes longer has found silence.
pub const LOOK_MAX: Duration = Duration::from_secs(1);
/// Places where workers are looked for are asked this often: names in DNS live about as long, and a
/// worker that is new is late by no more.
pub const FIND_EVERY: Duration = Duration::from_secs(10);
/// How long the answers of a worker that is to leave may go on there.
pub const GRACE: Duration = Duration::from_secs(120);
/// Silent looks after which a worker is taken for gone. With the first it is doubted already.
const SILENT_MAX: u8 = 3;
/// First tokens that a worker which came back must give to be as good as any other.
const CLEAN: u32 = 10;
/// A worker that was full is given one leg more this often: what filled it may be over.
const MORE_EVERY: Duration = Duration::from_secs(10);
/// A worker carries at least as much as it did within this time.
const WINDOW: Duration = Duration::from_secs(1);

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It answers, and has its model.
    Ready,
    /// It answers that it cannot work: it loads, or sleeps, or its engine is dead.
    NotReady,
    /// It refuses connections.
    Refused,
    /// Nothing came.
    Silent,
}

/// One worker.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    verdict: Verdict,
    /// It may be gone: nothing new until it answers.
    doubted: bool,
    /// It never worked: then it has nothing to prove.
    is_new: bool,
    /// It is to be empty.
    leaves: bool,
    silent: u8,
    clean: u32,
    /// It said that it was full with so many legs, then.
    full: Option<(u32, Time)>,
    /// Answers of others there, by its last two reports.
    foreign: [u32; 2],
    carried: Carried,
}

/// What it is seen to carry.
#[derive(Clone, Copy, Debug)]
struct Carried {
    since: Time,
    work: CostUnits,
    /// The most of any window.
    best: CostRate,
}

impl Standing {
    /// Whether it is to be empty.
    pub fn leaves(&self) -> bool {
        self.leaves
    }

    /// A worker of which nothing is known; it has no work before it answers.
    pub fn new(now: Time) -> Standing {
        let carried = Carried { since: now, work: CostUnits::ZERO, best: CostRate::ZERO };
        Standing {
            verdict: Verdict::Down,
            doubted: false,
            is_new: true,
            leaves: false,
            silent: 0,
            clean: 0,
            full: None,
            foreign: [0; 2],
            carried,
        }
    }

    /// What is believed of it.
    pub fn verdict(&self) -> Verdict {
        match self.verdict {
            Verdict::Up | Verdict::Probation if self.doubted => Verdict::Suspect,
            verdict => verdict,
        }
    }

    /// Somebody looked; `flows` says whether a token of it came since the last look.
    pub fn looked(&mut self, look: Look, flows: bool) {
        match look {
            Look::Ready => self.ready(),
            Look::Refused | Look::NotReady => self.down(),
            Look::Silent if flows => self.silent = 0,
            Look::Silent => {
                self.silent = self.silent.saturating_add(1);
                if self.silent >= SILENT_MAX {
                    self.down();
                } else {
                    self.doubted = true;
                }
            }
        }
    }

    /// A leg's connection was refused.
    pub fn refused(&mut self) {
        self.down();
    }

    /// A leg's connection broke. Whether that was the worker's end the next look tells; until then
    /// it gets nothing, so that no answer moves from it to it.
    pub fn broke(&mut self) {
        self.doubted = true;
    }

    /// A leg gave its first token.
    pub fn first_token(&mut self) {
        self.clean = self.clean.saturating_add(1);
        if self.verdict == Verdict::Probation && self.clean >= CLEAN {
            self.verdict = Verdict::Up;
        }
    }

    /// It refused a leg because it is full, while it had so many beside: that is how many it takes,
    /// and says nothing of its health.
    pub fn full(&mut self, now: Time, legs: u32) {
        self.full = Some((legs.max(1), now));
    }

    /// It says that it has so many answers in hand, of which so many are ours; or it does not say,
    /// and then what we gave it is all that is known.
    pub fn reported(&mut self, in_hand: Option<u32>, ours: u32) {
        let foreign = in_hand.map_or(0, |in_hand| in_hand.saturating_sub(ours));
        self.foreign = [self.foreign[1], foreign];
    }

    /// It is another life than before, with empty caches, as its counters say.
    pub fn began_again(&mut self) {
        if self.verdict == Verdict::Up {
            (self.verdict, self.clean) = (Verdict::Probation, 0);
        }
    }

    /// It is to be empty, for it goes; or not any more.
    pub fn leave(&mut self, leaves: bool) {
        self.leaves = leaves;
    }

    /// Of `streams` legs at once that it can have, how many it may have now.
    pub fn may_have(&self, now: Time, streams: u32) -> u32 {
        let learned = self.full.map(|(legs, since)| {
            let more = now.since(since).as_micros() / MORE_EVERY.as_micros();
            legs.saturating_add(u32::try_from(more).unwrap_or(u32::MAX))
        });
        let streams = learned.map_or(streams, |learned| streams.min(learned));
        // The smaller of two: one report may be older than what ended or began meanwhile. One leg
        // it has always, for others never leave what nobody competes for.
        let foreign = self.foreign[0].min(self.foreign[1]);
        let streams = streams.saturating_sub(foreign).max(1).min(streams);
        match self.verdict() {
            _ if self.leaves => 0,
            Verdict::Up => streams,
            // An answer takes minutes: to wait for ten whole ones, one after another, would leave
            // a sound worker idle for an hour.
            Verdict::Probation => streams.min(1 + self.clean),
            Verdict::Suspect | Verdict::Down => 0,
        }
    }

    /// So much work was done there.
    pub fn did(&mut self, now: Time, work: CostUnits) {
        let Carried { since, work: before, best } = &mut self.carried;
        *before += work;
        let took = now.since(*since);
        if took >= WINDOW {
            let rate = before.0 * 1000 / (took.as_millis() as u64).max(1);
            *best = (*best).max(CostRate(rate));
            (*since, *before) = (now, CostUnits::ZERO);
        }
    }

    /// What it is taken to carry where nobody said: twice the most that it was seen to do, so that
    /// what it can do is found out within seconds of need; `token` is what one token costs. That it
    /// can do less is found out by its first tokens (`schedule/limit`).
    pub fn carries(&self, token: CostUnits) -> CostRate {
        let guess = CostRate(token.0 * u64::from(GUESS));
        guess.max(CostRate(self.carried.best.0 * 2))
    }

    fn ready(&mut self) {
        (self.silent, self.doubted) = (0, false);
        match self.verdict {
            Verdict::Up | Verdict::Suspect | Verdict::Probation => {}
            Verdict::Down if self.is_new => self.verdict = Verdict::Up,
            Verdict::Down => (self.verdict, self.clean) = (Verdict::Probation, 0),
        }
        self.is_new = false;
    }

    fn down(&mut self) {
        self.verdict = Verdict::Down;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up() -> Standing {
        let mut standing = Standing::new(Time::ZERO);
        assert_eq!(standing.may_have(Time::ZERO, 8), 0, "nothing before it answers");
        standing.looked(Look::Ready, false);
        assert_eq!((standing.verdict(), standing.may_have(Time::ZERO, 8)), (Verdict::Up, 8));
        standing
    }

    #[test]
    fn a_refused_connection_is_the_end_at_once() {
        let mut standing = up();
        standing.refused();
        assert_eq!((standing.verdict(), standing.may_have(Time::ZERO, 8)), (Verdict::Down, 0));
        let mut standing = up();
        standing.looked(Look::Refused, true);
        assert_eq!(standing.verdict(), Verdict::Down);
    }

    #[test]
    fn a_broken_connection_is_doubted_until_it_answers_and_proves_nothing_anew() {
        let mut standing = up();
        standing.broke();
        assert_eq!((standing.verdict(), standing.may_have(Time::ZERO, 8)), (Verdict::Suspect, 0));
        standing.looked(Look::Ready, false);
        assert_eq!((standing.verdict(), standing.may_have(Time::ZERO, 8)), (Verdict::Up, 8));
        standing.refused();
        standing.looked(Look::Ready, false);
        standing.broke();
        standing.looked(Look::Ready, false);
        assert_eq!(standing.verdict(), Verdict::Probation);
    }

    #[test]
    fn silence_is_doubted_and_then_believed_unless_tokens_come() {
        let mut standing = up();
        for _ in 0..10 {
            standing.looked(Look::Silent, true);
        }
        assert_eq!(standing.verdict(), Verdict::Up, "it is only busy");
        standing.looked(Look::Silent, false);
        assert_eq!((standing.verdict(), standing.may_have(Time::ZERO, 8)), (Verdict::Suspect, 0));
        standing.looked(Look::Ready, false);
        assert_eq!(standing.verdict(), Verdict::Up);
        for _ in 0..SILENT_MAX {
            standing.looked(Look::Silent, false);
        }
        assert_eq!(standing.verdict(), Verdict::Down);
    }

    #[test]
    fn who_comes_back_gets_one_leg_and_one_more_with_each_first_token() {
        let mut standing = up();
        standing.refused();
        standing.looked(Look::Ready, false);
        assert_eq!((standing.verdict(), standing.may_have(Time::ZERO, 8)), (Verdict::Probation, 1));
        standing.first_token();
        standing.first_token();
        assert_eq!((standing.may_have(Time::ZERO, 8), standing.may_have(Time::ZERO, 2)), (3, 2));
        for _ in 0..CLEAN {
            standing.first_token();
        }
        assert_eq!((standing.verdict(), standing.may_have(Time::ZERO, 64)), (Verdict::Up, 64));
    }

    #[test]
    fn who_is_to_leave_gets_nothing_however_well_it_is() {
        let mut standing = up();
        standing.leave(true);
        assert_eq!((standing.verdict(), standing.may_have(Time::ZERO, 8)), (Verdict::Up, 0));
        standing.leave(false);
        assert_eq!(standing.may_have(Time::ZERO, 8), 8);
    }

    #[test]
    fn a_full_worker_is_not_sick_and_its_limit_is_learned() {
        let mut standing = up();
        standing.full(Time::ZERO, 3);
        assert_eq!((standing.verdict(), standing.may_have(Time::ZERO, 8)), (Verdict::Up, 3));
        let later = Time::ZERO + Duration::from_secs(25);
        assert_eq!((standing.may_have(later, 8), standing.may_have(later, 4)), (5, 4));
        standing.full(later, 0);
        assert_eq!(standing.may_have(later, 8), 1, "else nothing would tell when it has room");
    }

    #[test]
    fn what_others_do_there_is_taken_off_once_it_was_told_twice() {
        let mut standing = up();
        standing.reported(Some(7), 2);
        assert_eq!(standing.may_have(Time::ZERO, 8), 8, "an answer may just have ended");
        standing.reported(Some(6), 2);
        assert_eq!(standing.may_have(Time::ZERO, 8), 4);
        standing.reported(Some(60), 2);
        standing.reported(Some(60), 2);
        assert_eq!(standing.may_have(Time::ZERO, 8), 1);
        standing.reported(None, 2);
        assert_eq!(standing.may_have(Time::ZERO, 8), 8, "unknown is not full");
    }

    #[test]
    fn what_a_worker_carries_is_found_out_by_giving_it_more() {
        let mut standing = up();
        let token = CostUnits(10);
        let guess = CostRate(10 * u64::from(GUESS));
        assert_eq!(standing.carries(token), guess);
        standing.did(Time::ZERO + Duration::from_millis(500), CostUnits(4000));
        standing.did(Time::ZERO + Duration::from_secs(2), CostUnits(4000));
        assert_eq!(standing.carries(token), CostRate(8000));
        standing.did(Time::ZERO + Duration::from_secs(9), CostUnits(10));
        assert_eq!(standing.carries(token), CostRate(8000), "an idle hour makes nobody weaker");
    }
}
