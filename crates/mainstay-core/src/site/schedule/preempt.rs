//! Who gives way at a worker: a leg of a tier to which nothing was promised, before its first
//! token, if an attempt of a higher tier would be late everywhere else.
//!
//! Binding late leaves little to take back: a worker has one chunk in hand, and one long prompt at
//! most. It is that prompt which this is for. What was computed of it is lost but for what stays
//! cached, so it is bounded: once for an attempt, of the newest legs first, and one in twenty
//! dispatches. The attempt waits again as if it had never been sent: nobody has failed it.

use super::queue::{Lane, Waiting};
use super::survey::look_up;
use super::worker::{Verdict, Worker};
use super::{Action, Held, Life, Place, Scheduler};
use crate::fact::ScheduleFact;
use crate::mutant::Mutant;
use crate::names::{TierId, Work, WorkerId};
use crate::site::schedule::profile::{duration, millis};
use crate::time::Time;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// Dispatches for each leg that gives way, at least.
pub(super) const FOR_EACH: u32 = 20;
/// Legs that may give way one right after the other, where none did for long: a burst of requests
/// that are in a hurry, on as many workers.
const KEPT: u32 = 10;
/// Newest legs that are looked at: workers that have long prompts have one each.
const LOOKED_AT: usize = 16;

/// Legs that may give way, and how many more of them may.
#[derive(Debug, Default)]
pub(super) struct Preemption {
    /// Dispatches since, for which none did.
    earned: u32,
    /// Those before their first token, by when they were sent.
    open: BTreeSet<(Time, Work)>,
}

impl Preemption {
    /// A leg was sent; whether it may give way.
    pub(super) fn sent(&mut self, now: Time, work: Work, may: bool) {
        self.earned = (self.earned + 1).min(KEPT * FOR_EACH);
        if may {
            self.open.insert((now, work));
        }
    }

    /// It cannot any more: its first token came, or it is over.
    pub(super) fn closed(&mut self, sent: Time, work: Work) {
        self.open.remove(&(sent, work));
    }

    /// Legs that may.
    pub(super) fn open(&self) -> impl Iterator<Item = (Time, Work)> {
        self.open.iter().copied()
    }

    fn may(&self) -> bool {
        self.earned >= FOR_EACH && !self.open.is_empty()
    }
}

impl Scheduler {
    /// Whether its leg may give way. Who has tokens already, or gave way before, may not.
    pub(super) fn may_give_way(&self, life: &Life) -> bool {
        let tier = self.settings.tiers.get(usize::from(life.attempt.tier.0));
        tier.is_some_and(|tier| tier.preemptible) && !life.was_preempted && life.relayed == 0
    }

    /// The first in line of each tier may be late wherever it goes: a lower leg gives way to it.
    /// Whether one did.
    pub(super) fn relieve(&mut self, now: Time, actions: &mut Vec<Action>) -> bool {
        let before = self.preemption.earned;
        for tier in 0..self.settings.tiers.len() {
            while self.may_preempt()
                && let Some(one) = self.queue.first_in_line(TierId(tier as u8))
                && self.preempt_for(now, &one, actions)
            {}
        }
        self.preemption.earned != before
    }

    fn may_preempt(&self) -> bool {
        let removed = self.settings.mutants.removes(Mutant::NothingGivesWay);
        self.preemption.may() && self.is_known() && !removed
    }

    /// A leg gives way to this one, if that is what makes it in time; whether it was sent then.
    pub(super) fn preempt_for(
        &mut self,
        now: Time,
        one: &Waiting,
        actions: &mut Vec<Action>,
    ) -> bool {
        let work = one.work;
        let Some(life) = self.lives.get(&work).filter(|_| one.lane == Lane::Normal) else {
            return false;
        };
        if !self.may_preempt() {
            return false;
        }
        let keys = &life.attempt.keys;
        look_up(&self.index, (work, keys), (&mut self.matches, &mut self.matched));
        let Some((leg, worker)) = self.who_gives_way(now, life, one.key) else { return false };
        self.give_way(now, (leg, worker), work, actions);
        // Whoever costs least may be another with room, and late.
        let all = self.candidates(now, work);
        let to = all.into_iter().find(|each| each.id == worker && each.has_room);
        let Some(to) = to else { return false };
        self.queue.take(work);
        self.send(now, one, to, actions);
        true
    }

    /// Whether a leg could give way to one that comes now, and make it in time. What is cached of
    /// its prompt was looked up.
    pub(super) fn could_preempt(&self, now: Time, life: &Life) -> bool {
        self.may_preempt() && self.who_gives_way(now, life, self.place_in_line(life)).is_some()
    }

    /// The newest leg that would make room for one who is late everywhere else.
    fn who_gives_way(&self, now: Time, life: &Life, key: Time) -> Option<(Work, WorkerId)> {
        let until = self.promised(life);
        let is_in_time = |millis: f64| now + duration(millis) + self.settings.round_trip <= until;
        let (_, most) = self.lengths.expected(life.attempt.limit);
        let blocks = (life.asked.prompt + most).div_ceil(self.settings.block);
        let bounds = (self.settings.round_trip, self.step_max, blocks);
        let newest = self.preemption.open.iter().rev().take(LOOKED_AT);
        let found = newest.copied().find_map(|(_, leg)| {
            let theirs = self.lives.get(&leg).filter(|it| it.attempt.tier > life.attempt.tier)?;
            let Place::At(id) = theirs.place else { return None };
            let worker = self.workers.get(&id).filter(|_| self.may_give_way(theirs))?;
            let frees = worker.frees(now, leg, bounds)?;
            let first = self.first_token_at(now, (life, key), (id, worker))?;
            is_in_time(first - frees).then_some((leg, id))
        })?;
        let mut all = self.workers.iter();
        let is_late = all.all(|(id, worker)| {
            let first = self.first_token_at(now, (life, key), (id, worker));
            first.is_none_or(|first| !is_in_time(first))
        });
        is_late.then_some(found)
    }

    /// Until when its first token is promised. A site may keep one that is late for longer.
    fn promised(&self, life: &Life) -> Time {
        let tier = &self.settings.tiers[usize::from(life.attempt.tier.0)];
        let unloaded = duration(self.reference().unloaded(life.asked.prompt));
        let promise = tier.ttft_base + unloaded.mul_f64(tier.ttft_factor);
        life.deadline.min(life.arrived + promise)
    }

    /// When its first token would come from this worker, in milliseconds, behind all that it has
    /// and that is held for it. `None`: it cannot have it.
    fn first_token_at(
        &self,
        now: Time,
        (life, key): (&Life, Time),
        (id, worker): (WorkerId, &Worker),
    ) -> Option<f64> {
        let lost_by = life.taken.and_then(|taken| taken.lost_by);
        let is_usable = matches!(worker.verdict, Verdict::Up | Verdict::Probation);
        if !is_usable || life.barred.contains(&id) || lost_by == Some(id) {
            return None;
        }
        let matched = self.matched(&self.matches, (worker, life.block(&self.settings)));
        let hit = life.hit(worker, worker.believed(matched));
        let cost = life.asked.on(worker, now, hit, 0.0);
        Some(cost.ttft + millis(self.queue.held_before(id, key)))
    }

    /// A leg is taken from its worker for another's sake: its attempt waits again, in its old
    /// place.
    fn give_way(
        &mut self,
        now: Time,
        (work, worker): (Work, WorkerId),
        by: Work,
        actions: &mut Vec<Action>,
    ) {
        self.preemption.earned -= FOR_EACH;
        actions.push(Action::AbortLeg { work, worker });
        if let Some(leg) = self.take_leg(now, work, worker) {
            self.not_computed(work, worker, leg.forecast.matched);
        }
        let Some(life) = self.lives.get_mut(&work) else { return };
        (life.place, life.was_preempted, life.held) = (Place::Queued, true, None);
        let (tier, tenant) = (life.attempt.tier, life.attempt.tenant);
        let charged = core::mem::take(&mut life.charged);
        actions.push(Action::Fact(ScheduleFact::Preempted { work, tier, worker, by }));
        self.queue.unserved((tier, tenant), charged);
        self.queue_again(now, work);
    }

    /// Its worker holds no more of its prompt than before it was sent, for all that is known.
    fn not_computed(&mut self, work: Work, id: WorkerId, matched: u32) {
        let (Some(life), Some(worker)) = (self.lives.get(&work), self.workers.get_mut(&id)) else {
            return;
        };
        let kept = (matched / life.block(&self.settings).max(1)) as usize;
        let (keys, slot) = (&life.attempt.keys, worker.slot);
        match life.taken {
            Some(_) => worker.recent.cut((keys, kept), (&mut self.index, slot)),
            None => {
                let rest = keys.iter().skip(kept);
                rest.for_each(|key| self.index.remove(slot, *key, Held::Promised));
            }
        }
    }
}
