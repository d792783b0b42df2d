//! What is let in, told in the same call: an acknowledgement or a refusal.
//!
//! With credit an attempt is let in if its first token is predicted to be in time. Without, only
//! into room that is there now, ahead of lower tiers that wait, or in place of lower tiers that are
//! let in above their floors. Work that goes on with an answer
//! begun elsewhere waits ahead of first attempts of its tier, with credit or without, but for a
//! short time only: a reader waits in the middle of a sentence. Health may fail open, this never
//! does. Load is judged by the prediction for the start of the work, never by present load, which
//! would swing (Mooncake, arXiv 2407.00079).

use super::{Action, Attempt, Site, State};
use crate::fact::SiteFact;
use crate::message::{Ack, Offer, Open, Reason, Refuse};
use crate::mutant::Mutant;
use crate::names::{TierId, Work};
use crate::site::queue::Waiting;
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// Attempts that may wait in one pool, whatever their cost: some hundred bytes each. Time bounds
/// the queue long before this.
pub const QUEUE_MAX: usize = 65_536;

/// So much of what is on offer may wait without credit, to be handed over from one end to the next
/// start: a pool that is short of streams has an end each hundredth of a second.
const HANDED_OVER: Duration = Duration::from_millis(50);

/// However slow the workers are, this share of the time an attempt has is theirs at most: with
/// nothing before it an attempt is always tried, else nothing would tell when they are well again.
const SERVICE_MAX: f64 = 0.8;

/// An answer goes on within this time after it broke elsewhere, or its reader has a broken answer.
const MOVES: Duration = Duration::from_secs(2);

impl Site {
    pub(super) fn open(&mut self, now: Time, open: Open, actions: &mut Vec<Action>) {
        if let Some(attempt) = self.attempts.get(&open.work) {
            // The same message twice: the same answer twice.
            let queued = matches!(attempt.state, State::Queued { .. });
            let ttft = self.pools[attempt.pool].service();
            return acknowledge(open.work, queued, ttft, actions);
        }
        let judged = self.judge(now, &open);
        let (position, ttft, limit) = match judged {
            Ok(taken) => taken,
            Err(reason) => return self.refuse(now, &open, reason, actions),
        };
        let pool = &mut self.pools[position];
        let on_offer = pool.on_offer(now, self.cap);
        pool.admitted(now, (open.tier, open.cost), on_offer);
        let service = pool.service().min(limit.mul_f64(SERVICE_MAX));
        let expires = now + limit - service;
        let waiting = waiting(&open, expires);
        let attempt = Attempt {
            open,
            pool: position,
            arrived: now,
            failed: 0,
            lost_by: None,
            state: State::Queued { expires },
        };
        self.attempts.insert(open.work, attempt);
        if let Some((_, prefix)) = self.coming.take_if(|(work, _)| *work == open.work) {
            self.pools[position].prefixes.ask(open.work, prefix);
        }
        if !open.credited && self.removes(Mutant::PanicOpensAdmission) {
            let anyone = self.pools[position].workers.pick_anyway();
            if let Some(worker) = anyone {
                self.dispatch(now, (open.work, worker), actions);
            }
        } else {
            self.pools[position].queue.push(waiting);
            self.pump(now, position, actions);
        }
        let state = self.attempts.get(&open.work).map(|attempt| attempt.state);
        let queued = matches!(state, Some(State::Queued { .. }));
        if state.is_some() {
            acknowledge(open.work, queued, ttft, actions);
        }
    }

    /// Where it goes, when its first token is expected and until when it may come.
    fn judge(&mut self, now: Time, open: &Open) -> Result<(usize, Duration, Duration), Reason> {
        let found = self.pools.iter().position(|pool| pool.config.target == open.target);
        let position = found.ok_or(Reason::NotMine)?;
        let removes_deadlines = self.removes(Mutant::NoDeadlineDrop);
        let removes_room = self.removes(Mutant::PanicOpensAdmission);
        let patience = self.patience(open.tier);
        let (offer, cap) = (self.offer, self.cap);
        let pool = &mut self.pools[position];
        if open.labels & !pool.config.labels != 0 {
            return Err(Reason::NotMine);
        }
        if offer != Offer::Open {
            return Err(Reason::Draining);
        }
        if pool.workers.is_empty() {
            return Err(Reason::NoWorker);
        }
        if pool.queue.len() >= QUEUE_MAX {
            return Err(Reason::Overloaded);
        }
        let patience = match (open.moving, open.elsewhere) {
            (true, _) => patience.min(MOVES),
            (false, true) => patience.min(pool.config.promise),
            (false, false) => patience,
        };
        let limit = (patience + pool.longer(open.cost)).min(open.left);
        let service = pool.service();
        let wait = pool.wait(now, open, limit);
        let ttft = wait + service;
        if removes_deadlines {
            return Ok((position, ttft, limit));
        }
        let predicted = wait + service.min(limit.mul_f64(SERVICE_MAX));
        if predicted > open.left {
            return Err(Reason::TooLate);
        }
        if predicted > limit {
            return Err(Reason::Overloaded);
        }
        if !open.credited && !open.moving && !removes_room {
            let offer = (pool.on_offer(now, cap), pool.config.median);
            // A little may wait for the next workers that are through, so that none is idle
            // meanwhile: that is no queue.
            let little = offer.0.over(HANDED_OVER).max(open.cost);
            let is_next = pool.queue.cost() + open.cost <= little;
            let has_worker = is_next || pool.workers.free().is_some();
            let is_free = has_worker && pool.room.may(now, open.cost, offer);
            let is_first = is_next || !pool.queue.has_at_or_above(open.tier);
            let is_ahead = pool.queue.cost_below(open.tier) >= open.cost;
            let may = is_first && (is_free || is_ahead);
            // Of few requests of a tier bursts exceed its credit while lower ones have theirs.
            let gives_way = pool.gives_way(open.tier, offer.0);
            if !may && pool.queue.cost_at_or_above(open.tier) >= gives_way {
                return Err(Reason::Overloaded);
            }
        }
        Ok((position, ttft, limit))
    }

    fn refuse(&mut self, now: Time, open: &Open, reason: Reason, actions: &mut Vec<Action>) {
        let (work, tier) = (open.work, open.tier);
        self.say_no(now, open, reason, actions);
        actions.push(Action::Fact(SiteFact::Refused { work, tier, reason }));
    }

    /// The message itself; the attempt is not, or no longer, here.
    pub(super) fn say_no(
        &mut self,
        now: Time,
        open: &Open,
        reason: Reason,
        actions: &mut Vec<Action>,
    ) {
        let pool = self.pools.iter().find(|pool| pool.config.target == open.target);
        let again = pool.map(|pool| pool.again(now, open, &mut self.rng));
        let cut = open.credited && matches!(reason, Reason::Overloaded | Reason::TooLate);
        let refuse = Refuse {
            attempt: open.work.attempt,
            reason,
            retry_after: again.unwrap_or(Duration::ZERO),
            cut,
        };
        actions.push(Action::Refuse { to: open.work.from, refuse });
    }

    /// It is not wanted any more. Unknown ones have ended already.
    pub(super) fn cancel(&mut self, now: Time, work: Work, actions: &mut Vec<Action>) {
        let Some(position) = self.leave(now, work, actions) else { return };
        self.pump(now, position, actions);
    }

    fn patience(&self, tier: TierId) -> Duration {
        let all = &self.config.patience;
        all.get(usize::from(tier.0)).or(all.last()).copied().unwrap_or(PATIENCE)
    }
}

/// Where the configuration names none.
const PATIENCE: Duration = Duration::from_secs(5);

/// The queue's view of an attempt.
pub(super) fn waiting(open: &Open, expires: Time) -> Waiting {
    let Open { work, tier, tenant, cost, moving, .. } = *open;
    Waiting { work, tier, tenant, cost, expires, moving }
}

fn acknowledge(work: Work, queued: bool, ttft: Duration, actions: &mut Vec<Action>) {
    actions.push(Action::Ack { to: work.from, ack: Ack { attempt: work.attempt, queued, ttft } });
}
