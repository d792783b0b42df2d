//! What becomes of legs: first tokens, ends, losses, and workers that come and go.

use super::cost::Asked;
use super::profile::Profile;
use super::queue::Lane;
use super::worker::{Leg, Order, Verdict, Worker};
use super::{Action, End, FAILED_MAX, Life, Place, Scheduler, Why};
use crate::fact::ScheduleFact;
use crate::mutant::Mutant;
use crate::names::{Work, WorkerId};
use crate::site::index_drift::Change;
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// What is to be told of a worker's cache.
pub(super) fn drifts(worker: WorkerId, change: Option<Change>) -> Option<Action> {
    let fact = ScheduleFact::IndexDrift { worker, why: change?.word() };
    Some(Action::Fact(fact))
}

impl Scheduler {
    pub(super) fn first_token(&mut self, now: Time, work: Work, cached: Option<u32>) {
        let Some(Life { place: Place::At(id), relayed, .. }) = self.lives.get(&work) else {
            return;
        };
        let (id, relayed) = (*id, *relayed);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let is_rated = worker.rated.is_some();
        let Some(leg) = worker.first_token(now, work) else { return };
        if is_rated {
            self.strength.begin(leg.reservation.cost);
        }
        self.preemption.closed(leg.started, work);
        self.has_dried |= worker.undone_tokens() == 0;
        if let Some(cached) = cached {
            self.cached(now, work, cached);
        }
        self.progress(work, relayed + 1);
        self.lapse_later(now, work, id);
        self.refresh(now, id);
    }

    /// What its first token tells of whether its worker's cache is what it is thought to be.
    pub(super) fn drifted(&mut self, now: Time, work: Work, cached: u32, to: &mut Vec<Action>) {
        let Some(Life { place: Place::At(id), asked, .. }) = self.lives.get(&work) else { return };
        let Some(worker) = self.workers.get_mut(id) else { return };
        let Some(leg) = worker.leg(work).filter(|leg| !leg.has_first_token) else { return };
        let matched = leg.forecast.matched.min(asked.prompt);
        to.extend(drifts(*id, worker.drift.measured(now, matched, cached)));
        if asked.prompt.saturating_sub(cached) >= 2 * self.settings.block {
            to.extend(drifts(*id, worker.drift.computed(now)));
        }
    }

    /// So many tokens of its prompt were cached: what its worker holds, and what it in fact took.
    pub(super) fn cached(&mut self, now: Time, work: Work, cached: u32) {
        let Some(life) = self.lives.get(&work) else { return };
        let Place::At(id) = life.place else { return };
        let prompt = life.attempt.prompt + life.relayed;
        let is_moved = life.taken.is_some_and(|taken| taken.open.moving);
        let is_plain = life.relayed == 0 && life.failed == 0 && !is_moved && !life.was_preempted;
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Some(leg) = worker.leg(work) else { return };
        let (forecast, seen, is_sooner) = (leg.forecast, leg.seen, leg.is_sooner);
        worker.measured(forecast.matched.min(prompt), cached);
        let Some(seen) = seen.filter(|_| is_plain) else { return };
        // What it should have taken, with what in fact was cached.
        let asked = Asked { prompt, output: 0 };
        let (uncached, hit) = asked.uncached(cached);
        // Who was behind one that was taken back came sooner than it could be foreseen.
        if worker.is_known() && !is_sooner {
            let prefill = worker.profile.prefill(uncached, hit, seen.batch);
            let expected = forecast.queue + forecast.slowness * prefill;
            worker.pace.observe(uncached, expected, seen.ttft);
        }
        if worker.is_unnamed()
            && let Some(took) = seen.head
            && let Some(profile) = self.learner.observe(uncached, took)
        {
            self.learned(now, profile);
        }
    }

    pub(super) fn progress(&mut self, work: Work, tokens: u32) {
        if let Some(life) = self.lives.get_mut(&work) {
            life.reached = life.reached.max(tokens);
        }
    }

    pub(super) fn leg_ended(&mut self, now: Time, work: Work, end: End, actions: &mut Vec<Action>) {
        let Some(Life { place: Place::At(id), .. }) = self.lives.get(&work) else { return };
        let id = *id;
        self.drop_leg(now, work, id);
        match end {
            End::Done { output } => {
                let Some(life) = self.lives.remove(&work) else { return };
                self.lengths.observe(output);
                self.settle(&life, id, output);
            }
            End::Lost { relayed } => self.lost(now, (work, id), relayed, actions),
        }
    }

    /// Charges what it cost in the end.
    fn settle(&mut self, life: &Life, id: WorkerId, output: u32) {
        let Some(worker) = self.workers.get(&id) else { return };
        let asked = life.asked;
        let work = |output| worker.profile.work((1, 0), asked.prompt, output);
        let difference = work(output) as i64 - work(asked.output) as i64;
        self.queue.settle((life.attempt.tier, life.attempt.tenant), difference);
    }

    /// Takes a leg from its worker, wherever the attempt goes then.
    pub(super) fn drop_leg(&mut self, now: Time, work: Work, id: WorkerId) {
        let leg = self.take_leg(now, work, id);
        if leg.is_some_and(|leg| !leg.has_first_token) {
            self.lapse_later(now, work, id);
        }
    }

    /// The same, without a word of what its worker holds of it.
    pub(super) fn take_leg(&mut self, now: Time, work: Work, id: WorkerId) -> Option<Leg> {
        let worker = self.workers.get_mut(&id)?;
        let leg = worker.take(now, work);
        if let Some(leg) = &leg {
            if worker.rated.is_some() {
                self.strength.end(now, leg);
            }
            if !leg.has_first_token {
                self.preemption.closed(leg.started, work);
                self.has_dried |= worker.undone_tokens() == 0;
            }
        }
        self.refresh(now, id);
        leg
    }

    /// A leg is lost: the attempt waits again, first in line if its client has tokens already.
    fn lost(&mut self, now: Time, of: (Work, WorkerId), relayed: u32, actions: &mut Vec<Action>) {
        let (work, id) = of;
        let Some(life) = self.lives.get_mut(&work) else { return };
        life.failed += 1;
        life.barred.push(id);
        life.place = Place::Queued;
        if life.failed > FAILED_MAX {
            self.lives.remove(&work);
            return self.give_back(work, Why::Failed, Duration::ZERO, actions);
        }
        // Whoever relays knows best; a worker that is gone tells nothing.
        life.reached = life.reached.max(relayed);
        life.relayed = life.reached;
        life.asked.prompt = life.attempt.prompt + life.relayed;
        if life.relayed > 0 {
            let moved = ScheduleFact::Moved { work, from: id, relayed: life.relayed };
            actions.push(Action::Fact(moved));
        }
        self.queue_again(now, work);
    }

    pub(super) fn queue_again(&mut self, now: Time, work: Work) {
        let Some(mut life) = self.lives.remove(&work) else { return };
        let survey = self.survey(now, &life);
        life.least_prefill = survey.prefill;
        let one = self.waiting(&life, &survey);
        self.lives.insert(work, life);
        if one.lane == Lane::Normal {
            self.watch_start(now, work);
        }
        self.queue.put(one);
    }

    /// No first token came from the leg sent then.
    pub(super) fn silent(&mut self, now: Time, work: Work, sent: Time, actions: &mut Vec<Action>) {
        let Some(Life { place: Place::At(id), .. }) = self.lives.get(&work) else { return };
        let id = *id;
        let leg = self.workers.get(&id).and_then(|worker| worker.leg(work));
        if leg.is_none_or(|leg| leg.has_first_token || leg.started != sent) {
            return;
        }
        // Others' policies have no such deadline.
        let is_unwatched = self.settings.mutants.removes(Mutant::SilenceUnwatched);
        if self.settings.policy != super::settings::Policy::Late || is_unwatched {
            return;
        }
        actions.push(Action::AbortLeg { work, worker: id });
        self.drop_leg(now, work, id);
        self.lost(now, (work, id), 0, actions);
    }

    pub(super) fn cancelled(&mut self, now: Time, work: Work, actions: &mut Vec<Action>) {
        let Some(life) = self.lives.get(&work) else { return };
        match life.place {
            Place::Queued => {
                self.queue.take(work);
            }
            Place::At(id) => {
                actions.push(Action::AbortLeg { work, worker: id });
                self.drop_leg(now, work, id);
            }
        }
        if let Some(mut life) = self.lives.remove(&work) {
            self.unwatch_start(&mut life);
        }
    }

    pub(super) fn expired(&mut self, now: Time, work: Work, actions: &mut Vec<Action>) {
        if self.lives.get(&work).is_some_and(|life| life.expires <= now) {
            self.cancelled(now, work, actions);
            self.give_back(work, Why::Expired, Duration::ZERO, actions);
        }
    }

    pub(super) fn worker_seen(
        &mut self,
        now: Time,
        id: WorkerId,
        profile: Profile,
        actions: &mut Vec<Action>,
    ) {
        let slot = self.index.begin(id);
        let before = self.workers.get(&id).map(|worker| (worker.slot, worker.incarnation));
        let incarnation = before.map_or(1, |(_, incarnation)| incarnation.wrapping_add(1));
        if let Some((old, _)) = before {
            if !self.settings.mutants.removes(Mutant::LivesMixed) {
                self.lose_legs(now, id, actions);
            }
            self.index.end(old);
            self.routed.begins(id);
            let fact = ScheduleFact::Incarnation { worker: id, incarnation };
            actions.push(Action::Fact(fact));
        }
        let mut worker = Worker::new(profile, (incarnation, slot));
        worker.verdict = if before.is_some() { Verdict::Probation } else { Verdict::Up };
        self.workers.insert(id, worker);
        (self.has_dried, self.rate) = (true, (now, 0.0));
        self.refresh(now, id);
    }

    pub(super) fn verdict(
        &mut self,
        now: Time,
        id: WorkerId,
        verdict: Verdict,
        actions: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.verdict == verdict {
            return;
        }
        worker.verdict = verdict;
        (self.has_dried, self.rate) = (true, (now, 0.0));
        let is_used = matches!(verdict, Verdict::Up | Verdict::Probation);
        actions.push(Action::Fact(ScheduleFact::WorkerVerdict { worker: id, is_used }));
        if verdict == Verdict::Down {
            self.lose_legs(now, id, actions);
        }
        self.refresh(now, id);
    }

    pub(super) fn order(&mut self, now: Time, id: WorkerId, order: Order) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.order = order;
        }
        (self.has_dried, self.rate) = (true, (now, 0.0));
        self.refresh(now, id);
    }

    /// All legs of a life that is over: they wait again, and go on from what their clients are
    /// known to have. Whoever relays has the last word, since it starts the next leg.
    fn lose_legs(&mut self, now: Time, id: WorkerId, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get(&id) else { return };
        let lost: Vec<Work> = worker.legs().map(|(work, _)| work).collect();
        for work in lost {
            actions.push(Action::AbortLeg { work, worker: id });
            self.drop_leg(now, work, id);
            self.lost(now, (work, id), 0, actions);
        }
    }
}
