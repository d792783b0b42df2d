//! The way of an attempt through workers: given out, begun, ended, lost, given to another.
//!
//! A leg is one worker's try at an attempt. One that is lost before its first token is followed by
//! another, under a budget of its own. So is one that is lost after it, if whoever relays the
//! answer can go on with it at another worker; else the gateway resumes it, here or elsewhere.

use super::pool::Pool;
use super::schedule::Action as Placed;
use super::schedule::inside::Taken;
use super::schedule::rated::Calibration;
use super::{Action, Attempt, Site, State, WorkerState};
use crate::cost::CostUnits;
use crate::fact::{ScheduleFact, SiteFact};
use crate::message::{Offer, Open, Reason};
use crate::mutant::Mutant;
use crate::names::{Work, WorkerId};
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// Legs of one attempt that may fail before it is handed back.
const FAILED_MAX: u8 = 2;
/// Thousandths of a further leg that each first leg earns: a tenth.
const EARNED: u64 = 100;
/// Thousandths of a leg earned each second, so that a quiet site can move its few.
const EARNED_SECOND: u64 = 1000;
/// How long an answer that lost its worker waits for another: longer than a worker takes for a
/// first token, and not longer than a reader waits in the middle of a sentence.
const GAP: Duration = Duration::from_secs(10);
/// Legs kept, in thousandths: a minute of what a quiet site earns.
const KEPT: u64 = 60_000;
/// One leg, in thousandths.
const LEG: u64 = 1000;

/// The budget for further legs.
#[derive(Clone, Copy, Debug)]
pub struct Legs {
    level: u64,
    at: Time,
}

impl Default for Legs {
    fn default() -> Legs {
        Legs { level: KEPT, at: Time::ZERO }
    }
}

impl Legs {
    fn first(&mut self) {
        self.level = (self.level + EARNED).min(KEPT);
    }

    fn take(&mut self, now: Time) -> bool {
        let earned = now.since(self.at).as_millis() as u64 * EARNED_SECOND / 1000;
        self.level = (self.level + earned).min(KEPT);
        self.at = now;
        let may = self.level >= LEG;
        self.level = self.level.saturating_sub(if may { LEG } else { 0 });
        may
    }
}

impl Site {
    /// Drops what has waited too long and gives out what there is room for.
    pub(super) fn pump(&mut self, now: Time, position: usize, actions: &mut Vec<Action>) {
        let mut did = Vec::new();
        let scheduler = &mut self.pools[position].scheduler;
        scheduler.pass(now, &mut did);
        scheduler.give_out(now, &mut did);
        self.carry_out(now, did, actions);
        self.pools[position].scheduler.measure(now);
    }

    /// What a scheduler wants done.
    pub(super) fn carry_out(&mut self, now: Time, did: Vec<Placed>, actions: &mut Vec<Action>) {
        for each in did {
            match each {
                Placed::StartLeg { work, worker, .. } => {
                    self.dispatched(now, (work, worker), actions);
                }
                Placed::Refuse { work, .. } | Placed::HandBack { work, .. } => {
                    self.shed(now, work, actions);
                }
                Placed::Fact(ScheduleFact::Late { work, tier, after }) => {
                    actions.push(Action::Fact(SiteFact::GivesWay { work, tier, after }));
                }
                // Who leaves is told of here, and workers are the site's.
                Placed::Fact(_) | Placed::AbortLeg { .. } => {}
            }
        }
    }

    /// The scheduler let it go: its first token would be late.
    fn shed(&mut self, now: Time, work: Work, actions: &mut Vec<Action>) {
        let Some(attempt) = self.attempts.remove(&work) else { return };
        self.pools[attempt.pool].room.give_back(attempt.open.cost);
        let waited = now.since(attempt.arrived);
        let is_late = waited >= attempt.open.left;
        let reason = if is_late { Reason::TooLate } else { Reason::Overloaded };
        self.say_no(now, &attempt.open, reason, actions);
        let tier = attempt.open.tier;
        actions.push(Action::Fact(SiteFact::Shed { work, tier, waited }));
    }

    fn dispatched(
        &mut self,
        now: Time,
        (work, worker): (Work, WorkerId),
        actions: &mut Vec<Action>,
    ) {
        let Some(attempt) = self.attempts.get_mut(&work) else { return };
        let pool = &mut self.pools[attempt.pool];
        pool.wanted.given(now.since(attempt.arrived), pool.config.promise);
        pool.signal.given(attempt.open.tier, now.since(attempt.arrived));
        attempt.state = State::Running { worker, since: now, has_first_token: false };
        if attempt.failed == 0 {
            self.legs.first();
        }
        actions.push(Action::Dispatch { work, worker });
    }

    pub(super) fn first_token(
        &mut self,
        now: Time,
        work: Work,
        after: Duration,
        actions: &mut Vec<Action>,
    ) {
        let Some(attempt) = self.attempts.get_mut(&work) else { return };
        let State::Running { has_first_token, .. } = &mut attempt.state else { return };
        *has_first_token = true;
        let (position, arrived) = (attempt.pool, attempt.arrived);
        let pool = &mut self.pools[position];
        if !pool.scheduler.begun(now, work, after) {
            return;
        }
        pool.promise.first_token(now.since(arrived) > pool.config.promise);
        self.pump(now, position, actions);
    }

    pub(super) fn ended(
        &mut self,
        now: Time,
        work: Work,
        cost: CostUnits,
        actions: &mut Vec<Action>,
    ) {
        let Some(attempt) = self.attempts.remove(&work) else { return };
        let Attempt { open, pool: position, state, .. } = attempt;
        let pool = &mut self.pools[position];
        if matches!(state, State::Running { .. }) {
            pool.room.give_back(open.cost - cost);
            pool.scheduler.settled(work, cost);
        }
        pool.scheduler.leave(now, work);
        self.pump(now, position, actions);
    }

    /// Its worker says how many tokens of its prompt were cached.
    pub(super) fn cached(&mut self, now: Time, work: Work, tokens: u32) {
        if let Some(attempt) = self.attempts.get(&work) {
            self.pools[attempt.pool].scheduler.told(now, work, tokens);
        }
    }

    /// A worker lost it, or refused it. With tokens relayed it goes on at another.
    pub(super) fn lost(&mut self, now: Time, work: Work, relayed: u32, actions: &mut Vec<Action>) {
        let Some(attempt) = self.attempts.get(&work).copied() else { return };
        let State::Running { worker, since, has_first_token } = attempt.state else {
            return;
        };
        if attempt.failed > 0 && since == now {
            // A worker went and each of its legs is reported besides: this one has moved already.
            return;
        }
        let pool = &mut self.pools[attempt.pool];
        let before = pool.scheduler.leave(now, work);
        if !has_first_token {
            pool.scheduler.lost_early(now, worker);
        }
        let failed = attempt.failed + 1;
        let is_free = !has_first_token || relayed > 0;
        let may_move = is_free && failed <= FAILED_MAX && pool.workers().has_able();
        let may_move = may_move && self.offer != Offer::Closed && self.legs.take(now);
        if let Some((asked, taken)) = before.filter(|_| may_move) {
            let moved = match relayed {
                0 => Attempt { failed, state: State::Queued, ..attempt },
                _ => begun(now, failed, &attempt),
            };
            let taken = Taken { lost_by: Some(worker), ..taken };
            let taken = match relayed {
                0 => taken,
                _ => Taken { times: (now, now + GAP), latest: now + GAP, is_moving: true, ..taken },
            };
            self.attempts.insert(work, moved);
            let mut did = Vec::new();
            self.pools[attempt.pool].scheduler.take_in(now, asked, taken, &mut did);
            self.carry_out(now, did, actions);
            actions.push(Action::Fact(SiteFact::MovedInside { work, worker }));
        } else {
            self.attempts.remove(&work);
            let no_worker = !is_free || !self.pools[attempt.pool].workers().has_able();
            let reason = if no_worker { Reason::NoWorker } else { Reason::Overloaded };
            self.hand_back(now, &attempt, reason, actions);
        }
        self.pump(now, attempt.pool, actions);
    }

    /// A worker is there, changed, or gone.
    pub(super) fn worker(
        &mut self,
        now: Time,
        id: WorkerId,
        state: WorkerState,
        actions: &mut Vec<Action>,
    ) {
        match state {
            WorkerState::Up { target, capacity, streams, cold } => {
                let found = self.pools.iter().position(|pool| pool.config.target == target);
                let Some(position) = found else { return };
                let calibration = Calibration { capacity, streams, cold };
                let pool = &mut self.pools[position];
                let is_new = pool.scheduler.up(now, id, calibration);
                if is_new && cold && !self.is_first && pool.workers().are_cold() {
                    self.restart_ramp(now, position, "its workers' caches are empty", actions);
                }
                self.pump(now, position, actions);
            }
            WorkerState::Down => self.worker_down(now, id, actions),
        }
    }

    fn worker_down(&mut self, now: Time, id: WorkerId, actions: &mut Vec<Action>) {
        self.is_first = false;
        for position in 0..self.pools.len() {
            if !self.pools[position].scheduler.stop(now, id) {
                continue;
            }
            for work in self.at_worker(id) {
                self.lost(now, work, 0, actions);
            }
            self.pools[position].scheduler.gone(now, id);
            if self.pools[position].workers().is_empty() {
                for work in self.pools[position].scheduler.waiting_works() {
                    let Some(attempt) = self.attempts.get(&work).copied() else { continue };
                    self.leave(now, work, actions);
                    self.hand_back(now, &attempt, Reason::NoWorker, actions);
                }
            }
        }
    }

    fn at_worker(&self, id: WorkerId) -> Vec<Work> {
        let here = |state| matches!(state, State::Running { worker, .. } if worker == id);
        let all = self.attempts.sorted().into_iter();
        all.filter(|(_, attempt)| here(attempt.state)).map(|(work, _)| work).collect()
    }

    pub(super) fn restart_ramp(
        &mut self,
        now: Time,
        position: usize,
        why: &'static str,
        actions: &mut Vec<Action>,
    ) {
        if self.removes(Mutant::NoRamp) || self.is_frozen {
            return;
        }
        let pool: &mut Pool = &mut self.pools[position];
        let target = pool.config.target;
        if let Some((from, to, why)) = pool.ramp.restart(now, why) {
            actions.push(Action::Fact(SiteFact::RampMoved { target, from, to, why }));
        }
    }

    /// An attempt leaves before its end: what it holds is free again, and a worker that has it is
    /// told. The position of its pool, if it was here.
    pub(super) fn leave(
        &mut self,
        now: Time,
        work: Work,
        actions: &mut Vec<Action>,
    ) -> Option<usize> {
        let Attempt { open, pool: position, state, .. } = self.attempts.remove(&work)?;
        let pool = &mut self.pools[position];
        match state {
            State::Queued => pool.room.give_back(open.cost),
            State::Running { worker, has_first_token, .. } => {
                // Once the prompt was worked through, what a pool is short of is spent.
                let before = if has_first_token { CostUnits::ZERO } else { open.cost };
                pool.room.give_back(before);
                if !has_first_token {
                    pool.scheduler.settled(work, CostUnits::ZERO);
                }
                actions.push(Action::Abort { work, worker });
            }
        }
        pool.scheduler.leave(now, work);
        Some(position)
    }

    /// Tells the gateway that an attempt taken in is not here any more.
    pub(super) fn hand_back(
        &mut self,
        now: Time,
        attempt: &Attempt,
        reason: Reason,
        actions: &mut Vec<Action>,
    ) {
        self.say_no(now, &attempt.open, reason, actions);
        let (work, tier) = (attempt.open.work, attempt.open.tier);
        actions.push(Action::Fact(SiteFact::HandedBack { work, tier, reason }));
    }

    /// Everything goes back, running or not.
    pub(super) fn hand_back_all(&mut self, now: Time, actions: &mut Vec<Action>) {
        let all = self.attempts.sorted().into_iter();
        let all: Vec<Attempt> = all.map(|(_, attempt)| *attempt).collect();
        for attempt in all {
            self.leave(now, attempt.open.work, actions);
            self.hand_back(now, &attempt, Reason::Draining, actions);
        }
    }
}

/// An answer that goes on at another worker: before all that has not begun, and timed from here.
fn begun(now: Time, failed: u8, attempt: &Attempt) -> Attempt {
    let open = Open { moving: true, ..attempt.open };
    Attempt { open, arrived: now, failed, state: State::Queued, ..*attempt }
}
