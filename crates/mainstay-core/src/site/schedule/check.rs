//! What must hold after every event, asked in tests and in the simulator.
//!
//! `Scheduler::check` looks at one machine and one moment. `Watch` stands beside it and knows what
//! it was told: that verdicts come from nowhere else, and that the same events have the same
//! consequences.

use super::preempt::FOR_EACH;
use super::settings::{Policy, Settings};
use super::worker::{Order, Verdict, Worker};
use super::{Action, Attempt, Event, Place, Scheduler, Why};
use crate::fact::ScheduleFact;
use crate::mutant::Mutant;
use crate::names::{TierId, Work, WorkerId};
use crate::site::schedule::profile::micros;
use crate::time::{Duration, Time};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// An attempt is over so soon after its client's time.
const OVER_AFTER: Duration = Duration::from_secs(1);

impl Scheduler {
    /// What is wrong, if anything is (K1 to K5, K8, K10).
    ///
    /// # Errors
    /// The invariant that does not hold.
    pub fn check(&self, now: Time) -> Result<(), &'static str> {
        for (id, worker) in self.workers.iter() {
            self.check_worker(now, id, worker)?;
        }
        if !self.strength.is_balanced(&self.workers) {
            return Err("K3: what workers have together is not the sum of their legs");
        }
        let legs: usize = self.workers.values().map(|worker| worker.in_flight() as usize).sum();
        if legs + self.queue.len() != self.lives.len() || !self.queue.is_sound() {
            return Err("K2: an attempt is not in exactly one place");
        }
        self.check_preemption()?;
        self.check_waits(now)?;
        self.check_idle(now)
    }

    fn check_worker(&self, now: Time, id: WorkerId, worker: &Worker) -> Result<(), &'static str> {
        if !worker.is_balanced() {
            return Err("K3: a worker's counters are not the sum of its legs");
        }
        // Others' policies send on arrival. A site's worker may have more in hand by what is saved.
        let is_late = matches!(self.settings.policy, Policy::Late | Policy::Site);
        let bound = worker.credit(self.settings.round_trip) + worker.largest() + worker.saved();
        if is_late && worker.outstanding(now) > bound + micros(1.0) {
            return Err("K1: a worker holds more than its credit and one request");
        }
        for (work, leg) in worker.legs() {
            if leg.incarnation != worker.incarnation {
                return Err("K5: a leg is of another life of its worker");
            }
            if self.lives.get(&work).is_none_or(|life| life.place != Place::At(id)) {
                return Err("K2: a leg's attempt is not where its leg is");
            }
        }
        let told = worker.report().and_then(|load| load.prefill);
        if told.is_none() && worker.foreign(now) != 0.0 {
            return Err("K4: a number was made up for a load that is not known");
        }
        Ok(())
    }

    /// What may give way is at a worker, before its first token, and did not give way before.
    fn check_preemption(&self) -> Result<(), &'static str> {
        let may = |(sent, work): (Time, Work)| {
            let life = self.lives.get(&work).filter(|it| !it.was_preempted && it.relayed == 0);
            let Some(Place::At(id)) = life.map(|life| life.place) else { return false };
            let leg = self.workers.get(&id).and_then(|worker| worker.leg(work));
            leg.is_some_and(|leg| leg.started == sent && !leg.has_first_token)
        };
        match self.preemption.open().all(may) {
            true => Ok(()),
            false => Err("K2: who may give way is not before its first token"),
        }
    }

    /// Every wait ends by itself.
    fn check_waits(&self, now: Time) -> Result<(), &'static str> {
        let deadline = self.deadline().map(|(at, _)| at);
        for (work, life) in self.lives.each() {
            // What a site gave out it watches itself.
            if life.taken.is_some() && life.place != Place::Queued {
                continue;
            }
            if now > life.expires + OVER_AFTER {
                return Err("K2: an attempt outlives its client's time");
            }
            if deadline.is_none_or(|at| at > life.expires) {
                return Err("K8: an attempt waits for nothing that will come");
            }
            let is_held = self.queue.is_held(work);
            if is_held && life.held.is_none_or(|until| until < now) {
                return Err("K8: an attempt is held for longer than was said");
            }
            let is_watched = self.settings.policy == Policy::Late
                && !self.settings.mutants.removes(Mutant::SilenceUnwatched);
            let leg = match life.place {
                Place::At(id) => self.workers.get(&id).and_then(|worker| worker.leg(work)),
                Place::Queued => None,
            };
            if is_watched && leg.is_some_and(|leg| !leg.has_first_token && leg.overdue < now) {
                return Err("K8: a first token is awaited for longer than was said");
            }
        }
        Ok(())
    }

    /// Whatever is not known, a worker that has nothing to do is given what waits.
    fn check_idle(&self, now: Time) -> Result<(), &'static str> {
        let is_idle = |worker: &Worker| {
            let may_have = worker.order == Order::Active && worker.profile.sequences > 0;
            worker.in_flight() == 0 && is_usable(worker) && may_have
        };
        if self.queue.is_empty() {
            return Ok(());
        }
        let idle: Vec<WorkerId> =
            self.workers.iter().filter(|(_, worker)| is_idle(worker)).map(|(id, _)| id).collect();
        if idle.is_empty() {
            return Ok(());
        }
        let waits = |work: Work| !self.queue.is_held(work);
        let mut waiting = self.lives.each().filter(|(work, life)| {
            let is_now = life.arrived < now;
            is_now && life.place == Place::Queued && waits(*work)
        });
        // Whom all that idle have lost already, somebody else must have.
        if waiting.any(|(_, life)| idle.iter().any(|id| !life.barred.contains(id))) {
            return Err("K10: an attempt waits beside a worker that has nothing to do");
        }
        Ok(())
    }
}

fn is_usable(worker: &Worker) -> bool {
    matches!(worker.verdict, Verdict::Up | Verdict::Probation)
}

/// Stands beside a machine, hears all that it hears, and knows what may follow (K7, K9).
#[derive(Debug)]
pub struct Watch {
    /// What each worker was said to be.
    verdicts: BTreeMap<WorkerId, Verdict>,
    /// Tiers, the highest first: whether they give way.
    preemptible: Vec<bool>,
    /// Of attempts: their tier, and whether they may still give way.
    may_give_way: BTreeMap<Work, (TierId, bool)>,
    /// Dispatches and legs that gave way.
    counts: (u64, u64),
    /// Another machine with the same settings.
    twin: Scheduler,
    did: Vec<Action>,
}

impl Watch {
    /// Beside a machine that has heard nothing so far.
    pub fn new(settings: Settings) -> Watch {
        Watch {
            verdicts: BTreeMap::new(),
            preemptible: settings.tiers.iter().map(|tier| tier.preemptible).collect(),
            may_give_way: BTreeMap::new(),
            counts: (0, 0),
            twin: Scheduler::new(settings),
            did: Vec::new(),
        }
    }

    /// The machine was told this, and did that.
    ///
    /// # Errors
    /// The invariant that does not hold.
    pub fn check(
        &mut self,
        (now, event): (Time, Event),
        actions: &[Action],
        machine: &Scheduler,
    ) -> Result<(), &'static str> {
        match event.clone() {
            Event::WorkerSeen { worker, .. } => {
                let is_known = self.verdicts.contains_key(&worker);
                let verdict = if is_known { Verdict::Probation } else { Verdict::Up };
                self.verdicts.insert(worker, verdict);
            }
            Event::Verdict { worker, verdict } => {
                self.verdicts.entry(worker).and_modify(|before| *before = verdict);
            }
            Event::Arrived(Attempt { work, tier, .. }) => {
                self.may_give_way.entry(work).or_insert((tier, true));
            }
            Event::FirstToken { work, .. } => {
                self.may_give_way.entry(work).and_modify(|(_, may)| *may = false);
            }
            _ => {}
        }
        self.check_preempted(actions)?;
        let is_other = |(id, worker): (WorkerId, &Worker)| {
            self.verdicts.get(&id).is_none_or(|verdict| *verdict != worker.verdict)
        };
        if machine.workers().any(is_other) {
            return Err("K7: load changed what is believed of a worker");
        }
        let is_any = machine.workers().any(|(_, worker)| is_usable(worker));
        let is_wrong = |action: &Action| match action {
            Action::HandBack { why: Why::NoWorker, .. } => is_any,
            Action::HandBack { why: Why::Overload, .. } | Action::Refuse { .. } => !is_any,
            _ => false,
        };
        if actions.iter().any(is_wrong) {
            return Err("K7: no worker was taken for no room, or no room for no worker");
        }
        self.did.clear();
        self.twin.handle(now, event, &mut self.did);
        if self.did != actions {
            return Err("K9: the same events had other consequences");
        }
        Ok(())
    }

    /// Only lower tiers that promise nothing give way, before their first token, once, and one for
    /// so many dispatches.
    fn check_preempted(&mut self, actions: &[Action]) -> Result<(), &'static str> {
        for action in actions {
            match action {
                Action::StartLeg { .. } => self.counts.0 += 1,
                Action::Fact(ScheduleFact::Preempted { work, tier, by, .. }) => {
                    self.counts.1 += 1;
                    let by = self.may_give_way.get(by).map(|(tier, _)| *tier);
                    let of = self.may_give_way.get_mut(work);
                    let may = of.is_some_and(|(_, may)| core::mem::take(may));
                    let is_preemptible = self.preemptible.get(usize::from(tier.0));
                    if !may || is_preemptible != Some(&true) || by.is_none_or(|by| by >= *tier) {
                        return Err("a leg gave way that may not");
                    }
                }
                _ => {}
            }
            if self.counts.1 * u64::from(FOR_EACH) > self.counts.0 {
                return Err("more legs gave way than one for so many dispatches");
            }
        }
        Ok(())
    }
}
