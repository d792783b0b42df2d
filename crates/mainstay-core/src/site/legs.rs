//! The way of an attempt through workers: given out, begun, ended, lost, given to another.
//!
//! A leg is one worker's try at an attempt. One that is lost before its first token is followed by
//! another, under a budget of its own. So is one that is lost after it, if whoever relays the
//! answer can go on with it at another worker; else the gateway resumes it, here or elsewhere.

use super::admission::waiting;
use super::pool::Pool;
use super::workers::{Asked, Calibration};
use super::{Action, Attempt, Site, State, WorkerState};
use crate::cost::CostUnits;
use crate::fact::SiteFact;
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
        let is_dropping = !self.removes(Mutant::NoDeadlineDrop);
        while let Some(work) = self.pools[position].queue.expired(now).filter(|_| is_dropping) {
            let Some(attempt) = self.attempts.get(&work).copied() else { break };
            self.leave(now, work, actions);
            let waited = now.since(attempt.arrived);
            let is_late = waited >= attempt.open.left;
            let reason = if is_late { Reason::TooLate } else { Reason::Overloaded };
            self.say_no(now, &attempt.open, reason, actions);
            let tier = attempt.open.tier;
            actions.push(Action::Fact(SiteFact::Shed { work, tier, waited }));
        }
        while let Some(anyone) = self.pools[position].workers.free() {
            let Some(work) = self.pools[position].queue.pop() else { break };
            let worker = self.choose(work).unwrap_or(anyone);
            self.dispatch(now, (work, worker), actions);
        }
        let pool = &mut self.pools[position];
        let is_waiting = !pool.queue.is_empty();
        pool.workers.measure(now, is_waiting);
    }

    /// The worker with room that is to have it.
    fn choose(&mut self, work: Work) -> Option<WorkerId> {
        let attempt = self.attempts.get(&work)?;
        let pool = &mut self.pools[attempt.pool];
        let Open { prompt, cost, .. } = attempt.open;
        let hits = pool.prefixes.hits(work);
        pool.workers.pick(&Asked { cost, prompt, hits, lost_by: attempt.lost_by })
    }

    pub(super) fn dispatch(
        &mut self,
        now: Time,
        (work, worker): (Work, WorkerId),
        actions: &mut Vec<Action>,
    ) {
        let Some(attempt) = self.attempts.get_mut(&work) else { return };
        let State::Queued { expires } = attempt.state else { return };
        let pool = &mut self.pools[attempt.pool];
        pool.wanted.given(now.since(attempt.arrived), pool.config.promise);
        pool.signal.given(attempt.open.tier, now.since(attempt.arrived));
        let Open { prompt, cost, .. } = attempt.open;
        let hits = pool.prefixes.hits(work);
        let leg = Asked { cost, prompt, hits, lost_by: None }.leg(worker, now);
        let ahead = pool.workers.give(leg);
        pool.prefixes.given(work, worker);
        attempt.state = State::Running { leg, ahead, has_first_token: false, expires };
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
        let State::Running { leg, ahead, has_first_token, .. } = &mut attempt.state else {
            return;
        };
        if core::mem::replace(has_first_token, true) {
            return;
        }
        let (leg, ahead) = (*leg, *ahead);
        let (position, arrived) = (attempt.pool, attempt.arrived);
        let pool = &mut self.pools[position];
        pool.workers.first_token(leg, (ahead, after));
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
        pool.prefixes.forget(work);
        match state {
            State::Queued { expires } => pool.queue.remove(&waiting(&open, expires)),
            State::Running { leg, has_first_token, .. } => {
                pool.workers.take(now, leg, has_first_token);
                pool.room.give_back(open.cost - cost);
                pool.queue.correct(open.tier, open.tenant, open.cost, cost);
            }
        }
        self.pump(now, position, actions);
    }

    /// Its worker says how many tokens of its prompt were cached.
    pub(super) fn cached(&mut self, work: Work, tokens: u32) {
        let Some(attempt) = self.attempts.get(&work) else { return };
        if let State::Running { leg, .. } = attempt.state {
            self.pools[attempt.pool].prefixes.told(work, leg.worker, tokens);
        }
    }

    /// A worker lost it, or refused it. With tokens relayed it goes on at another.
    pub(super) fn lost(&mut self, now: Time, work: Work, relayed: u32, actions: &mut Vec<Action>) {
        let Some(attempt) = self.attempts.get(&work).copied() else { return };
        let State::Running { leg, has_first_token, expires, .. } = attempt.state else {
            return;
        };
        let worker = leg.worker;
        if attempt.failed > 0 && leg.since == now {
            // A worker went and each of its legs is reported besides: this one has moved already.
            return;
        }
        let pool = &mut self.pools[attempt.pool];
        pool.workers.take(now, leg, has_first_token);
        if !has_first_token {
            pool.workers.lost(worker);
        }
        let failed = attempt.failed + 1;
        let is_free = !has_first_token || relayed > 0;
        let may_move = is_free && failed <= FAILED_MAX && pool.workers.has_able();
        if may_move && self.offer != Offer::Closed && self.legs.take(now) {
            let lost_by = Some(worker);
            let moved = match relayed {
                0 => Attempt { failed, lost_by, state: State::Queued { expires }, ..attempt },
                _ => Attempt { lost_by, ..begun(now, failed, &attempt) },
            };
            let State::Queued { expires } = moved.state else { return };
            self.attempts.insert(work, moved);
            self.pools[attempt.pool].queue.push(waiting(&moved.open, expires));
            actions.push(Action::Fact(SiteFact::MovedInside { work, worker }));
        } else {
            self.attempts.remove(&work);
            self.pools[attempt.pool].prefixes.forget(work);
            let no_worker = !is_free || !self.pools[attempt.pool].workers.has_able();
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
                let is_new = self.pools[position].workers.up(id, calibration);
                self.pools[position].prefixes.begin(id, streams);
                if is_new && cold && !self.is_first && self.pools[position].workers.are_cold() {
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
            if !self.pools[position].workers.down(id) {
                continue;
            }
            self.pools[position].prefixes.end(id);
            for work in self.at_worker(id) {
                self.lost(now, work, 0, actions);
            }
            if self.pools[position].workers.is_empty() {
                for work in self.pools[position].queue.works() {
                    let Some(attempt) = self.attempts.get(&work).copied() else { continue };
                    self.leave(now, work, actions);
                    self.hand_back(now, &attempt, Reason::NoWorker, actions);
                }
            }
        }
    }

    fn at_worker(&self, id: WorkerId) -> Vec<Work> {
        let here = |state| matches!(state, State::Running { leg, .. } if leg.worker == id);
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
        pool.prefixes.forget(work);
        match state {
            State::Queued { expires } => {
                pool.queue.remove(&waiting(&open, expires));
                pool.room.give_back(open.cost);
            }
            State::Running { leg, has_first_token, .. } => {
                // Once the prompt was worked through, what a pool is short of is spent.
                let before = if has_first_token { CostUnits::ZERO } else { open.cost };
                pool.workers.take(now, leg, has_first_token);
                pool.room.give_back(before);
                pool.queue.correct(open.tier, open.tenant, before, CostUnits::ZERO);
                actions.push(Action::Abort { work, worker: leg.worker });
            }
        }
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
    let state = State::Queued { expires: now + GAP };
    Attempt { open, arrived: now, failed, state, ..*attempt }
}
