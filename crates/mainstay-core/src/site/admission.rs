//! What is let in, told in the same call: an acknowledgement or a refusal.
//!
//! The scheduler foresees what would become of an attempt (`schedule/admission`). The site says
//! what it has to know for that, and what it alone knows: who has credit, and whether there is room
//! for who has none.
//!
//! With credit an attempt is let in if it is in time, or late and still wanted. Without, only into
//! room that is there now, ahead of lower tiers that wait, or in place of lower tiers that are let
//! in above their floors. Work that goes on with an answer begun elsewhere waits ahead of first
//! attempts of its tier, with credit or without, but for a short time only: a reader waits in the
//! middle of a sentence. Health may fail open, this never does.

use super::{Action, Site};
use crate::fact::SiteFact;
use crate::message::{Ack, Offer, Open, Reason, Refuse};
use crate::mutant::Mutant;
use crate::names::{TierId, Work};
use crate::site::prefixes::Prefix;
use crate::site::schedule::admission::{Asks, Outcome};
use crate::site::schedule::inside::Taken;
use crate::time::{Duration, Time};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Attempts that may wait in one pool, whatever their cost: some hundred bytes each. Time bounds
/// the queue long before this.
pub const QUEUE_MAX: usize = 65_536;

/// So much of what is on offer may wait without credit, to be handed over from one end to the next
/// start: a pool that is short of streams has an end each hundredth of a second.
const HANDED_OVER: Duration = Duration::from_millis(50);

/// An answer goes on within this time after it broke elsewhere, or its reader has a broken answer.
const MOVES: Duration = Duration::from_secs(2);

impl Site {
    pub(super) fn open(&mut self, now: Time, open: Open, actions: &mut Vec<Action>) {
        if let Some((position, inside)) = self.find(open.work) {
            // The same message twice: the same answer twice.
            let ttft = self.pools[position].workers().service();
            return acknowledge(open.work, inside.given.is_none(), ttft, actions);
        }
        let (position, asks) = match self.judge(now, &open) {
            Ok(asks) => asks,
            Err(reason) => return self.refuse(now, &open, reason, actions),
        };
        let ttft = asks.ttft();
        let pool = &mut self.pools[position];
        pool.admitted(now, (open.tier, open.cost), self.cap);
        let mut did = Vec::new();
        let scheduler = &mut pool.scheduler;
        scheduler.take_in(now, asks, &mut did);
        if !open.credited && self.config.credit.mutants.removes(Mutant::PanicOpensAdmission) {
            scheduler.force(now, open.work, &mut did);
        }
        self.carry_out(now, position, did, actions);
        self.pump(now, position, actions);
        if let Some(inside) = self.pools[position].scheduler.inside(open.work) {
            acknowledge(open.work, inside.given.is_none(), ttft, actions);
        }
    }

    /// Where it goes, and what its pool's scheduler foresees for it.
    fn judge(&mut self, now: Time, open: &Open) -> Result<(usize, Asks), Reason> {
        let found = self.pools.iter().position(|pool| pool.config.target == open.target);
        let position = found.ok_or(Reason::NotMine)?;
        let offer = self.offer;
        let pool = &self.pools[position];
        if open.labels & !pool.config.labels != 0 {
            return Err(Reason::NotMine);
        }
        if offer != Offer::Open {
            return Err(Reason::Draining);
        }
        if pool.workers().is_empty() {
            return Err(Reason::NoWorker);
        }
        if pool.scheduler.queued() >= QUEUE_MAX {
            return Err(Reason::Overloaded);
        }
        let (taken, keys) = self.taken(now, position, open);
        let asks = self.pools[position].scheduler.ask(now, taken, keys);
        match asks.outcome {
            Outcome::InTime | Outcome::Late => {}
            Outcome::HandBack | Outcome::Refuse => {
                let is_too_late = asks.expected > open.left;
                return Err(if is_too_late { Reason::TooLate } else { Reason::Overloaded });
            }
        }
        let is_lax =
            self.removes(Mutant::PanicOpensAdmission) || self.removes(Mutant::NoDeadlineDrop);
        let is_free = open.credited || open.moving || is_lax;
        if is_free || self.has_room_for(now, position, open) {
            return Ok((position, asks));
        }
        Err(Reason::Overloaded)
    }

    /// Whether one without credit may come in.
    fn has_room_for(&mut self, now: Time, position: usize, open: &Open) -> bool {
        let (cap, pool) = (self.cap, &mut self.pools[position]);
        let on_offer = pool.on_offer(now, cap);
        // A little may wait for the next workers that are through, so that none is idle
        // meanwhile: that is no queue. Nor is one request for each worker, however few and
        // large they are.
        let little = on_offer.over(HANDED_OVER);
        let queue = &pool.scheduler;
        let is_next = queue.queued_cost() + open.cost <= little
            || queue.queued() < usize::from(pool.workers().count());
        let has_worker = is_next || queue.has_room_now(now);
        let before = queue.cost_at_or_above(open.tier);
        let is_ahead = queue.queued_cost() - before >= open.cost;
        let is_first = is_next || !queue.has_at_or_above(open.tier);
        let is_free = has_worker && pool.has_room(now, open.cost, cap);
        let may = is_first && (is_free || is_ahead);
        // Of few requests of a tier bursts exceed its credit while lower ones have theirs.
        let gives_way = pool.gives_way(open.tier, on_offer);
        may || before < gives_way
    }

    /// What its scheduler is told of it: until when it is in time, and until when it is wanted.
    fn taken(&mut self, now: Time, position: usize, open: &Open) -> (Taken, Arc<[u64]>) {
        let pool = &self.pools[position];
        let patience = of_tier(&self.config.patience, open.tier);
        let in_time = of_tier(&self.config.in_time, open.tier).min(patience);
        let (deadline, until) = match (open.moving, open.elsewhere) {
            (true, _) => (patience.min(MOVES), patience.min(MOVES)),
            (false, true) => (patience.min(pool.config.promise), patience.min(pool.config.promise)),
            (false, false) => (in_time, patience),
        };
        let longer = pool.longer(open.cost);
        let within = |time: Duration| (time + longer).min(open.left);
        let prefix = self.coming.take_if(|(work, _)| *work == open.work);
        let prefix = prefix.map_or_else(Prefix::default, |(_, prefix)| prefix);
        let taken = Taken {
            open: *open,
            token: prefix.token,
            block: prefix.block,
            deadline: now + within(deadline),
            until: now + within(until),
            in_line: now + in_time + longer,
            lost_by: None,
        };
        (taken, prefix.keys)
    }

    fn refuse(&mut self, now: Time, open: &Open, reason: Reason, actions: &mut Vec<Action>) {
        let (work, tier) = (open.work, open.tier);
        let position = self.pools.iter().position(|pool| pool.config.target == open.target);
        self.say_no(now, (position, open), reason, actions);
        actions.push(Action::Fact(SiteFact::Refused { work, tier, reason }));
    }

    /// The message itself; the attempt is not, or no longer, here.
    pub(super) fn say_no(
        &mut self,
        now: Time,
        (position, open): (Option<usize>, &Open),
        reason: Reason,
        actions: &mut Vec<Action>,
    ) {
        let pool = position.and_then(|position| self.pools.get(position));
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
        let Some((position, _)) = self.leave(now, work, actions) else { return };
        self.pump(now, position, actions);
    }
}

/// What is said of a tier; a gateway may know tiers that this site does not: they are its lowest.
fn of_tier(all: &[Duration], tier: TierId) -> Duration {
    all.get(usize::from(tier.0)).or(all.last()).copied().unwrap_or(PATIENCE)
}

/// Where the configuration names none.
const PATIENCE: Duration = Duration::from_secs(5);

fn acknowledge(work: Work, queued: bool, ttft: Duration, actions: &mut Vec<Action>) {
    actions.push(Action::Ack { to: work.from, ack: Ack { attempt: work.attempt, queued, ttft } });
}
