//! The way of an attempt through workers: given out, begun, ended, lost, given to another.
//!
//! A leg is one worker's try at an attempt. One that is lost before its first token is followed by
//! another, under a budget of its own. So is one that is lost after it, if whoever relays the
//! answer can go on with it at another worker; else the gateway resumes it, here or elsewhere.

use super::pool::Pool;
use super::schedule::inside::{Given, Inside};
use super::schedule::rated::Calibration;
use super::schedule::{Action as Placed, FAILED_MAX};
use super::{Action, Site, WorkerState};
use crate::cost::CostUnits;
use crate::fact::{ScheduleFact, SiteFact};
use crate::message::{Offer, Open, Reason};
use crate::mutant::Mutant;
use crate::names::{Work, WorkerId};
use crate::time::{Duration, Time};
use alloc::vec::Vec;

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
        self.carry_out(now, position, did, actions);
        self.pools[position].scheduler.measure(now);
    }

    /// What a scheduler wants done.
    pub(super) fn carry_out(
        &mut self,
        now: Time,
        position: usize,
        did: Vec<Placed>,
        actions: &mut Vec<Action>,
    ) {
        for each in did {
            match each {
                Placed::StartLeg { work, worker, .. } => {
                    self.dispatched(now, position, (work, worker), actions);
                }
                Placed::Shed(inside) => self.shed(now, position, &inside, actions),
                Placed::Fact(ScheduleFact::GivesWay { work, tier, after }) => {
                    actions.push(Action::Fact(SiteFact::GivesWay { work, tier, after }));
                }
                // Its attempt goes on waiting.
                Placed::AbortLeg { work, worker } => {
                    actions.push(Action::Abort { work, worker });
                }
                Placed::Fact(ScheduleFact::Preempted { work, tier, worker, by }) => {
                    actions.push(Action::Fact(SiteFact::Preempted { work, tier, worker, by }));
                }
                Placed::Fact(ScheduleFact::Late { work, tier, left }) => {
                    actions.push(Action::Fact(SiteFact::Late { work, tier, left }));
                }
                // Who comes and leaves is the site's to say.
                Placed::Refuse { .. } | Placed::HandBack { .. } => {}
                Placed::Fact(_) => {}
            }
        }
    }

    /// The scheduler let it go: its first token would come when it is not wanted any more.
    fn shed(&mut self, now: Time, position: usize, shed: &Inside, actions: &mut Vec<Action>) {
        let open = &shed.open;
        self.pools[position].room.give_back(open.cost);
        let waited = now.since(shed.arrived);
        let reason = if waited >= open.left { Reason::TooLate } else { Reason::Overloaded };
        self.say_no(now, (Some(position), open), reason, actions);
        let (work, tier) = (open.work, open.tier);
        actions.push(Action::Fact(SiteFact::Shed { work, tier, waited }));
    }

    fn dispatched(
        &mut self,
        now: Time,
        position: usize,
        (work, worker): (Work, WorkerId),
        actions: &mut Vec<Action>,
    ) {
        let pool = &mut self.pools[position];
        let Some(Inside { open, arrived, failed, .. }) = pool.scheduler.inside(work) else {
            return;
        };
        pool.wanted.given(now.since(arrived), pool.config.promise);
        pool.signal.given(open.tier, now.since(arrived));
        if failed == 0 {
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
        let Some((position, Inside { arrived, .. })) = self.find(work) else { return };
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
        let Some((position, Inside { open, given, .. })) = self.find(work) else { return };
        let pool = &mut self.pools[position];
        if given.is_some() {
            pool.room.give_back(open.cost - cost);
            pool.scheduler.settled(work, cost);
        }
        pool.scheduler.leave(now, work);
        self.pump(now, position, actions);
    }

    /// Its worker says how many tokens of its prompt were cached.
    pub(super) fn cached(&mut self, now: Time, work: Work, tokens: u32) {
        if let Some((position, _)) = self.find(work) {
            self.pools[position].scheduler.told(now, work, tokens);
        }
    }

    /// A worker lost it, or refused it. With tokens relayed it goes on at another.
    pub(super) fn lost(&mut self, now: Time, work: Work, relayed: u32, actions: &mut Vec<Action>) {
        let Some((_, inside)) = self.find(work) else { return };
        if inside.failed > 0 && inside.given.is_some_and(|given| given.since == now) {
            // A worker went and each of its legs is reported besides: this one has moved already.
            return;
        }
        self.lose(now, work, relayed, actions);
    }

    fn lose(&mut self, now: Time, work: Work, relayed: u32, actions: &mut Vec<Action>) {
        let Some((position, inside)) = self.find(work) else { return };
        let Some(Given { to: worker, has_begun, .. }) = inside.given else { return };
        let scheduler = &mut self.pools[position].scheduler;
        scheduler.lose(now, work);
        let has_able = scheduler.strength().has_able();
        let is_free = !has_begun || relayed > 0;
        let may_move = is_free && inside.failed < FAILED_MAX && has_able;
        if may_move && self.offer != Offer::Closed && self.legs.take(now) {
            let mut did = Vec::new();
            scheduler.go_on(now, work, (relayed, GAP), &mut did);
            self.carry_out(now, position, did, actions);
            actions.push(Action::Fact(SiteFact::MovedInside { work, worker }));
        } else {
            scheduler.leave(now, work);
            let no_worker = !is_free || !has_able;
            let reason = if no_worker { Reason::NoWorker } else { Reason::Overloaded };
            self.hand_back(now, (position, &inside.open), reason, actions);
        }
        self.pump(now, position, actions);
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
            for work in self.pools[position].scheduler.works_at(id) {
                self.lose(now, work, 0, actions);
            }
            self.pools[position].scheduler.gone(now, id);
            if self.pools[position].workers().is_empty() {
                for work in self.pools[position].scheduler.waiting_works() {
                    if let Some((position, open)) = self.leave(now, work, actions) {
                        self.hand_back(now, (position, &open), Reason::NoWorker, actions);
                    }
                }
            }
        }
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
    /// told. The position of its pool and what was asked for, if it was here.
    pub(super) fn leave(
        &mut self,
        now: Time,
        work: Work,
        actions: &mut Vec<Action>,
    ) -> Option<(usize, Open)> {
        let (position, Inside { open, given, .. }) = self.find(work)?;
        let pool = &mut self.pools[position];
        let has_begun = given.is_some_and(|given| given.has_begun);
        // Once the prompt was worked through, what a pool is short of is spent.
        if !has_begun {
            pool.room.give_back(open.cost);
        }
        if let Some(given) = given {
            if !has_begun {
                pool.scheduler.settled(work, CostUnits::ZERO);
            }
            actions.push(Action::Abort { work, worker: given.to });
        }
        pool.scheduler.leave(now, work);
        Some((position, open))
    }

    /// Tells the gateway that an attempt taken in is not here any more.
    fn hand_back(
        &mut self,
        now: Time,
        (position, open): (usize, &Open),
        reason: Reason,
        actions: &mut Vec<Action>,
    ) {
        self.say_no(now, (Some(position), open), reason, actions);
        let (work, tier) = (open.work, open.tier);
        actions.push(Action::Fact(SiteFact::HandedBack { work, tier, reason }));
    }

    /// Everything goes back, running or not.
    pub(super) fn hand_back_all(&mut self, now: Time, actions: &mut Vec<Action>) {
        let all: Vec<Work> = self.pools.iter().flat_map(|pool| pool.scheduler.works()).collect();
        for work in all {
            if let Some((position, open)) = self.leave(now, work, actions) {
                self.hand_back(now, (position, &open), Reason::Draining, actions);
            }
        }
    }
}
