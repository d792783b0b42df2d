//! Who controls a site that has a stand-by controller: whoever holds leases of a majority of its
//! workers.
//!
//! Each worker lends itself to one controller at a time by the rules of `lease`, so two majorities
//! cannot exist at once: they would share a worker. A controller counts what workers answered, not
//! what it asked, so a link that works one way only makes nobody a controller. Every term has an
//! epoch of its own; a worker refuses work of an epoch below the highest it has lent itself to or
//! taken work of. When a stand-by should ask is for the caller to say; nothing here depends on it.

use crate::lease::{Granter, Holder, Terms};
use crate::mutant::Mutant;
use crate::time::Time;
use alloc::vec::Vec;

/// A controller to a worker: lend yourself to me.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ask {
    /// Which ask; its answer echoes it.
    pub nonce: u64,
    /// The epoch of the term it is for; 0 asks only what the worker has seen.
    pub epoch: u32,
}

/// A worker's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Answer {
    /// The ask it answers.
    pub nonce: u64,
    /// The epoch it lent itself to; `None` if it did not, 0 if it was not asked to.
    pub lent: Option<u32>,
    /// The highest epoch it knows of.
    pub seen: u32,
}

/// The controller's side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Office {
    place: u32,
    controllers: u32,
    /// 0 until it is known which epochs were used.
    epoch: u32,
    /// Highest epoch that a worker told.
    highest: u32,
    workers: Vec<Holder<u32>>,
}

impl Office {
    /// A controller that starts: the one at `place` of so many `controllers`, for so many
    /// `workers`.
    ///
    /// `last` is the epoch its file tells, 0 if the file is lost: then it asks for nothing until
    /// a majority of the workers has told what they have seen. `nonce` is above any that an
    /// earlier life used, see `Holder::starting_after`.
    pub fn new((place, controllers): (u32, u32), workers: u16, last: u32, nonce: u64) -> Office {
        let holder = Holder::starting_after(nonce);
        let workers = core::iter::repeat_n(holder, usize::from(workers)).collect();
        let mut office =
            Office { place, controllers: controllers.max(1), epoch: 0, highest: 0, workers };
        if last > 0 {
            office.rise(last);
        }
        office
    }

    /// Asks worker number `worker`, which must be one of them.
    pub fn ask(&mut self, now: Time, worker: usize, terms: &Terms) -> Ask {
        let holder = &mut self.workers[worker];
        let nonce = holder.report(now);
        if terms.mutants.removes(Mutant::OneWayControllerLease) {
            holder.grant(now, (0, nonce), self.epoch, terms);
        }
        Ask { nonce, epoch: self.epoch }
    }

    /// Hears a worker's answer. The epoch may have risen after it: it belongs on disk before the
    /// next ask.
    pub fn answer(&mut self, now: Time, worker: usize, answer: Answer, terms: &Terms) {
        let Some(holder) = self.workers.get_mut(worker) else { return };
        self.highest = self.highest.max(answer.seen);
        if let Some(lent) = answer.lent {
            holder.grant(now, (0, answer.nonce), lent, terms);
        }
        if self.epoch == 0 && self.has_majority(now) {
            self.rise(self.highest);
        }
        // A term goes on as it began; a worker that knows of a later one is done without.
        if answer.seen > self.epoch && self.epoch > 0 && self.term(now).is_none() {
            self.rise(answer.seen);
        }
    }

    /// The epoch under which it may grant and dispatch now; `None` if it is not the controller.
    /// Who has not granted under this epoch before has taken over.
    pub fn term(&self, now: Time) -> Option<u32> {
        (self.epoch > 0 && self.has_majority(now)).then_some(self.epoch)
    }

    /// The epoch it asks for.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    fn has_majority(&self, now: Time) -> bool {
        let lent = self.workers.iter().filter(|one| one.held(now) == Some(&self.epoch)).count();
        lent * 2 > self.workers.len()
    }

    /// To the next epoch after `seen` that no other controller uses: they take turns.
    fn rise(&mut self, seen: u32) {
        let next = seen.saturating_add(1);
        let turn = next % self.controllers;
        let wait = (self.place + self.controllers - turn) % self.controllers;
        self.epoch = next.saturating_add(wait);
    }
}

/// The worker's side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Vote {
    seen: u32,
    lease: Granter<u32>,
}

impl Vote {
    /// A worker that never lent itself to anybody.
    pub fn first() -> Vote {
        Vote { seen: 0, lease: Granter::first(0) }
    }

    /// A worker that starts again: it lends itself to nobody until what it may have lent has
    /// lapsed. `seen` was on its disk.
    pub fn again(now: Time, seen: u32) -> Vote {
        Vote { seen, lease: Granter::new(now, 0) }
    }

    /// Answers the controller at place `from`. What it has seen may have risen: it belongs on
    /// disk before the answer is sent.
    pub fn ask(&mut self, now: Time, from: u32, ask: Ask, terms: &Terms) -> Answer {
        if ask.epoch == 0 {
            return Answer { nonce: ask.nonce, lent: Some(0), seen: self.seen };
        }
        let is_free = self.lease.room(now, from, 1, terms) == 1;
        let lent = (is_free && ask.epoch >= self.seen).then_some(ask.epoch);
        if let Some(epoch) = lent {
            self.lease.record(now, from, 1, terms);
            self.seen = epoch;
        }
        Answer { nonce: ask.nonce, lent, seen: self.seen }
    }

    /// Whether it takes work stamped with `epoch`.
    pub fn takes(&mut self, epoch: u32, terms: &Terms) -> bool {
        if epoch < self.seen && !terms.mutants.removes(Mutant::WorkersIgnoreEpochs) {
            return false;
        }
        self.seen = self.seen.max(epoch);
        true
    }

    /// The highest epoch it knows of.
    pub fn seen(&self) -> u32 {
        self.seen
    }
}

/// For the model checker, see `Holder::moved`.
#[cfg(feature = "mutants")]
impl Office {
    /// The same office with `now` moved to `base`.
    pub fn moved(mut self, now: Time, base: Time, terms: &Terms) -> Office {
        let workers = self.workers.into_iter();
        self.workers = workers.map(|one| one.moved(now, base, terms)).collect();
        self
    }
}

#[cfg(feature = "mutants")]
impl Vote {
    /// The same vote with `now` moved to `base`.
    pub fn moved(mut self, now: Time, base: Time, terms: &Terms) -> Vote {
        self.lease = self.lease.moved(now, base, terms);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms::CREDIT;

    fn at(millis: u64) -> Time {
        Time::from_micros(1_000_000_000 + millis * 1000)
    }

    /// Asks one worker and hears its answer at once.
    fn ask(office: &mut Office, now: Time, worker: usize, vote: &mut Vote) -> Answer {
        let asked = office.ask(now, worker, &TERMS);
        let answer = vote.ask(now, office.place, asked, &TERMS);
        office.answer(now, worker, answer, &TERMS);
        answer
    }

    #[test]
    fn a_majority_makes_a_controller_and_no_majority_is_left_for_another() {
        let (mut one, mut two) = (Office::new((0, 2), 3, 1, 0), Office::new((1, 2), 3, 2, 0));
        let mut votes = [Vote::first(), Vote::first(), Vote::first()];
        ask(&mut one, at(0), 0, &mut votes[0]);
        assert_eq!(one.term(at(0)), None);
        ask(&mut one, at(0), 1, &mut votes[1]);
        assert_eq!(one.term(at(0)), Some(2));
        for (worker, vote) in votes.iter_mut().enumerate() {
            ask(&mut two, at(100), worker, vote);
        }
        assert_eq!(two.term(at(100)), None);
        assert_eq!(one.term(at(2000)), None, "not asked again");
    }

    #[test]
    fn a_successor_has_a_higher_epoch_and_the_workers_refuse_older_work() {
        let (mut one, mut two) = (Office::new((0, 2), 1, 1, 0), Office::new((1, 2), 1, 0, 0));
        let mut vote = Vote::first();
        ask(&mut one, at(0), 0, &mut vote);
        assert!(vote.takes(2, &TERMS));
        assert_eq!(ask(&mut two, at(2200), 0, &mut vote).lent, Some(0), "its file is lost");
        ask(&mut two, at(2300), 0, &mut vote);
        assert_eq!(two.term(at(2300)), Some(3));
        assert!(!vote.takes(2, &TERMS));
    }

    #[test]
    fn a_worker_that_starts_again_lends_itself_to_nobody_at_first() {
        let mut office = Office::new((0, 1), 1, 5, 0);
        let mut vote = Vote::again(at(0), 5);
        assert_eq!(ask(&mut office, at(2199), 0, &mut vote).lent, None);
        assert_eq!(ask(&mut office, at(2200), 0, &mut vote).lent, Some(6));
    }
}
