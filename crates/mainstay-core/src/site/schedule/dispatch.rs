//! Which worker gets what waits: whoever is next in the queue goes where it costs least among the
//! workers with room, or is held for a moment if a better one is about to have some.
//!
//! Delay scheduling (Zaharia et al., EuroSys 2010) with costs in milliseconds instead of a count of
//! passes.

use super::baseline::{Baseline, Seen};
use super::cost::Cost;
use super::queue::{Lane, Waiting};
use super::survey::look_up;
use super::timers::{Lapse, Timer};
use super::worker::{Forecast, Leg, Part, Reservation, Verdict};
use super::{Action, Life, Place, Scheduler};
use crate::cost::CostUnits;
use crate::mutant::Mutant;
use crate::names::{Work, WorkerId};
use crate::rng::mix;
use crate::site::schedule::kv_index::Held;
use crate::site::schedule::profile::{duration, micros, millis};
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// Requests looked at in one pass that no worker with room may have, or that are held.
const PARKED_MAX: usize = 32;
/// A worker is waited for that has this part of the prefill to do, compared with one that is free.
const WORTH: f64 = 0.75;
/// Whoever must begin within this time cannot wait for another worker.
const URGENT: Duration = Duration::from_millis(250);
/// A hold shorter than this is none.
const HOLD_LEAST: Duration = Duration::from_millis(1);
/// A first token is overdue after so many times what was forecast, and this.
const OVERDUE: (f64, f64) = (3.0, 2_000.0);
/// Prefixes sent to a worker count as held by it until so long after the first token: by then its
/// own events have come.
const CONFIRMED_AFTER: Duration = Duration::from_secs(2);

/// One worker that could take it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) id: WorkerId,
    pub(super) cost: Cost,
    /// Of that, milliseconds of those that are held for it.
    pub(super) held: f64,
    /// Tokens that match, and that are believed to.
    matched: u32,
    pub(super) believed: u32,
    /// Whether it may be given anything, and this,
    may: bool,
    /// and at once.
    pub(super) has_room: bool,
    /// Fewer legs first, then by seed.
    tie: (u32, u64),
}

/// What workers could do for an attempt at one moment, as long as nothing changes.
#[derive(Debug)]
pub(super) struct Offers {
    of: Work,
    at: Time,
    changes: (u64, u64),
    all: Vec<Candidate>,
}

/// What is best for one.
enum Choice {
    Send(Candidate),
    /// It is worth to wait for this one until then.
    Wait(Time, Candidate),
    /// With whoever has room it would be late.
    TooLate,
    /// No worker with room may have it.
    Nobody,
}

/// What is done with the next.
enum Placed {
    Sent,
    /// It waits for somebody better.
    Held,
    /// Nobody with room may have it.
    Parked,
}

impl Scheduler {
    /// Gives workers with room what waits, until one of both runs out and nobody who would be late
    /// could have what another gives up.
    pub(super) fn dispatch(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.fill(now, actions);
        if self.relieve(now, actions) {
            self.fill(now, actions);
        }
    }

    fn fill(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.serve_woken(now, actions);
        let mut parked: Vec<Waiting> = Vec::new();
        while self.has_any_room(now) && (parked.len() < PARKED_MAX || self.has_idle(now)) {
            let Some(one) = self.queue.next() else { break };
            let is_spare = self.is_spare(&one);
            match self.place(now, &one, actions) {
                Placed::Sent | Placed::Held => {}
                // Nobody has anything to spare; unless it is this one whom a worker lost before.
                Placed::Parked if is_spare && !self.is_barred(one.work) => break,
                Placed::Parked => parked.extend(self.queue.take(one.work)),
            }
        }
        parked.into_iter().for_each(|one| self.queue.put(one));
        self.feed_dry(now, actions);
    }

    /// Those held for workers that have room since the last look, or came to have it at that very
    /// moment.
    fn serve_woken(&mut self, now: Time, actions: &mut Vec<Action>) {
        let woken = (self.looked.min(now), WorkerId(0))..=(now, WorkerId(u16::MAX));
        let woken: Vec<WorkerId> = match self.queue.has_held() {
            true => self.rooms.range(woken).map(|(_, id)| *id).collect(),
            false => Vec::new(),
        };
        self.looked = now;
        woken.into_iter().for_each(|id| self.serve_held(now, id, actions));
    }

    /// Whether it gets only what nobody else wants.
    fn is_spare(&self, one: &Waiting) -> bool {
        match one.lane {
            Lane::Moving | Lane::Normal => false,
            Lane::Yielding => true,
            Lane::Late => !self.queue.is_lates_turn(),
        }
    }

    fn is_barred(&self, work: Work) -> bool {
        self.lives.get(&work).is_some_and(|life| !life.barred.is_empty())
    }

    pub(super) fn has_any_room(&self, now: Time) -> bool {
        self.rooms.first().is_some_and(|(at, _)| *at <= now)
    }

    /// Whether one of those with room has nothing to do. However many it has lost already stand
    /// before the next, that one is found.
    fn has_idle(&self, now: Time) -> bool {
        let free = self.rooms.iter().take_while(|(at, _)| *at <= now);
        let is_idle = |id: &WorkerId| self.workers.get(id).is_some_and(|w| w.in_flight() == 0);
        free.map(|(_, id)| id).any(is_idle)
    }

    /// A worker has room: those held for it come first, since they hold their place for its sake,
    /// unless the head of the queue cannot wait for another.
    fn serve_held(&mut self, now: Time, id: WorkerId, actions: &mut Vec<Action>) {
        for work in self.queue.held_for(id) {
            if !self.has_room(now, id) || self.is_head_urgent(now) {
                return;
            }
            self.queue.release(work);
            if let Some(one) = self.queue.get(work).copied() {
                self.place(now, &one, actions);
            }
        }
    }

    /// A worker that ran dry is looked at again for those held for another: what it would begin at
    /// once may come sooner from it than from where most of it is cached. Later on that only
    /// becomes less likely.
    fn feed_dry(&mut self, now: Time, actions: &mut Vec<Action>) {
        if !core::mem::take(&mut self.has_dried) || !self.queue.has_held() {
            return;
        }
        let free = self.rooms.iter().take_while(|(at, _)| *at <= now);
        let is_dry =
            |id: &WorkerId| self.workers.get(id).is_some_and(|worker| worker.undone_tokens() == 0);
        let mut dry = free.filter(|(_, id)| is_dry(id)).take(PARKED_MAX).count();
        for one in self.queue.first_held(PARKED_MAX) {
            if dry == 0 {
                return;
            }
            self.queue.release(one.work);
            dry -= usize::from(matches!(self.place(now, &one, actions), Placed::Sent));
        }
    }

    /// Whether what cannot be in time is set back.
    fn drops(&self) -> bool {
        self.is_known() && !self.settings.mutants.removes(Mutant::NoDeadlineDrop)
    }

    /// Sends it to whoever is through with it first, with room or without.
    pub(super) fn send_anyway(&mut self, now: Time, work: Work, actions: &mut Vec<Action>) {
        let all = self.candidates(now, work);
        let least = cheapest(&all, Duration::MAX, |each| each.may);
        if let (Some(to), Some(one)) = (least, self.queue.take(work)) {
            self.send(now, &one, to, actions);
        }
    }

    fn is_head_urgent(&mut self, now: Time) -> bool {
        let head = self.queue.next().filter(|one| one.lane.is_in_line());
        let life = head.and_then(|one| self.lives.get(&one.work));
        life.is_some_and(|life| now + life.least_prefill + URGENT > life.deadline)
    }

    fn place(&mut self, now: Time, one: &Waiting, actions: &mut Vec<Action>) -> Placed {
        match self.choose(now, one) {
            Choice::Nobody => return Placed::Parked,
            Choice::Wait(until, best) => {
                self.hold(one.work, until, &best);
                return Placed::Held;
            }
            // Work that would be late anyway makes others late.
            Choice::TooLate => {
                if !self.preempt_for(now, one, actions) {
                    self.overdue(now, one, actions);
                }
            }
            Choice::Send(to) => {
                self.queue.take(one.work);
                self.send(now, one, to, actions);
            }
        }
        Placed::Sent
    }

    /// One that came while nobody else wants a worker that has room goes there, without having
    /// waited. Whether it went.
    pub(super) fn send_at_once(
        &mut self,
        now: Time,
        one: &Waiting,
        actions: &mut Vec<Action>,
    ) -> bool {
        self.serve_woken(now, actions);
        if self.queue.has_next() || !self.has_any_room(now) {
            return false;
        }
        let Choice::Send(to) = self.choose(now, one) else { return false };
        self.send(now, one, to, actions);
        true
    }

    fn choose(&mut self, now: Time, one: &Waiting) -> Choice {
        let candidates = self.candidates(now, one.work);
        let Some(life) = self.lives.get(&one.work) else { return Choice::Nobody };
        let tpot = self.settings.tiers[usize::from(one.tier.0)].tpot;
        let best = cheapest(&candidates, tpot, |each| each.may);
        let free = cheapest(&candidates, tpot, |each| each.has_room);
        let (Some(best), Some(free)) = (best, free) else { return Choice::Nobody };
        let may_wait = best.id != free.id && one.lane.is_in_line() && self.is_known();
        let until = may_wait.then(|| self.wait_until(now, life, (&best, &free))).flatten();
        if let Some(until) = until {
            return Choice::Wait(until, best);
        }
        let is_in_time = now + duration(free.cost.ttft) + self.settings.round_trip <= life.deadline;
        if one.lane == Lane::Normal && !is_in_time && self.drops() {
            return Choice::TooLate;
        }
        Choice::Send(free)
    }

    fn hold(&mut self, work: Work, until: Time, best: &Candidate) {
        let Some(life) = self.lives.get_mut(&work) else { return };
        // Looked at again, it may be held on until the same time.
        if life.held.replace(until) != Some(until) {
            self.timers.set(until, Timer::HoldEnds(work));
        }
        self.changes += 1;
        self.queue.hold(work, (best.id, micros(best.cost.prefill)));
    }

    /// Until when it is worth to wait for the best worker, rather than to take one that is free.
    fn wait_until(&self, now: Time, life: &Life, of: (&Candidate, &Candidate)) -> Option<Time> {
        let (best, free) = of;
        let worker = self.workers.get(&best.id)?;
        let (uncached, _) = life.asked.uncached(best.cost.hit);
        let late = best.cost.ttft * worker.pace.quantiles(uncached).q90;
        let is_in_time = now + duration(late) <= life.deadline;
        // Only for work that is saved: to even out loads, whoever is next will do. One that is
        // short of streams has room when an answer ends, and nobody knows when that is.
        let is_worth = best.cost.prefill <= WORTH * free.cost.prefill
            && worker.in_flight() < worker.profile.sequences;
        let latest = life.deadline - duration(best.cost.prefill);
        let until = latest.min(life.held.unwrap_or(now + self.settings.hold_max));
        (is_in_time && is_worth && until > now + HOLD_LEAST).then_some(until)
    }

    pub(super) fn send(
        &mut self,
        now: Time,
        one: &Waiting,
        to: Candidate,
        actions: &mut Vec<Action>,
    ) {
        let Some(life) = self.lives.get_mut(&one.work) else { return };
        if let Some(wait) = life.start_wait.take() {
            self.timers.take_back(wait);
        }
        life.held = None;
        let taken = life.taken;
        let (arrived, expected) = (life.arrived, core::mem::take(&mut life.expected_wait));
        let (uncached, cached) = life.asked.uncached(to.cost.hit);
        let (asked, is_first) = (life.asked, life.failed == 0 && life.relayed == 0);
        let Some(worker) = self.workers.get(&to.id) else { return };
        let cost = match taken {
            Some(_) => one.cost,
            None => worker.profile.work((uncached, cached), asked.prompt, asked.output),
        };
        if let Some(life) = self.lives.get_mut(&one.work) {
            life.charged = cost;
        }
        self.queue.served(one, cost);
        if is_first {
            self.waited(now, one.tier, (arrived, expected));
        }
        self.start(now, one.work, to, actions);
    }

    /// Sends a leg.
    fn start(&mut self, now: Time, work: Work, to: Candidate, actions: &mut Vec<Action>) {
        let may_give_way = self.lives.get(&work).is_some_and(|life| self.may_give_way(life));
        let Some(life) = self.lives.get_mut(&work) else { return };
        let Some(worker) = self.workers.get_mut(&to.id) else { return };
        let (_, most) = self.lengths.expected(life.attempt.limit);
        let (uncached, _) = life.asked.uncached(to.cost.hit);
        let block = self.settings.block;
        let reservation = Reservation {
            prefill: worker.reserves(to.cost.prefill),
            tokens: u64::from(uncached),
            blocks: (life.asked.prompt + most).div_ceil(block),
            context: u64::from(life.asked.prompt + life.asked.output / 2),
            cost: life.taken.map_or(CostUnits::ZERO, |taken| taken.without(to.believed)),
        };
        let forecast = Forecast {
            ttft: to.cost.ttft,
            queue: to.cost.queue,
            matched: to.matched,
            hit: to.cost.hit,
            slowness: worker.slowness(),
        };
        let quantiles = worker.pace.quantiles(uncached);
        let incarnation = worker.incarnation;
        let overdue = now + duration(to.cost.ttft * quantiles.q90 * OVERDUE.0 + OVERDUE.1);
        if life.taken.is_some() {
            self.strength.give(now, reservation.cost);
        }
        let leg = Leg {
            part: Part::Whole,
            incarnation,
            reservation,
            started: now,
            forecast,
            overdue,
            has_first_token: false,
            seen: None,
            ahead: CostUnits::ZERO,
            is_sooner: false,
        };
        worker.add(now, work, leg);
        self.preemption.sent(now, work, may_give_way);
        life.place = Place::At(to.id);
        if life.taken.is_some() {
            // It does not tell what it holds; and who relays watches for silence.
            worker.recent.given(&life.attempt.keys, (&mut self.index, worker.slot));
        } else {
            self.timers.set(overdue, Timer::FirstToken(work, now));
            for key in life.attempt.keys.iter() {
                self.index.store(worker.slot, *key, Held::Promised);
            }
        }
        let relayed = life.relayed;
        self.refresh(now, to.id);
        actions.push(Action::StartLeg { work, worker: to.id, incarnation, relayed });
    }

    /// Its first token came: what it was sent with is confirmed by events soon.
    pub(super) fn lapse_later(&mut self, now: Time, work: Work, id: WorkerId) {
        let (Some(life), Some(worker)) = (self.lives.get(&work), self.workers.get(&id)) else {
            return;
        };
        if life.taken.is_some() {
            return;
        }
        let lapse = Lapse { slot: worker.slot, keys: life.attempt.keys.clone() };
        self.timers.set(now + CONFIRMED_AFTER, Timer::Lapse(lapse));
    }

    /// All workers that may have it, with what it would cost there.
    pub(super) fn candidates(&mut self, now: Time, work: Work) -> Vec<Candidate> {
        let waiting = self.queue.get(work).copied();
        // Some get what is unused: a worker that ran out of prefill, not one about to.
        let is_spare = waiting.is_some_and(|one| self.is_spare(&one));
        if let Some(offers) = self.offers.take()
            && (offers.of, offers.at, offers.changes) == (work, now, self.changes())
            && !is_spare
        {
            return offers.all;
        }
        let Some(life) = self.lives.get(&work) else { return Vec::new() };
        let key = waiting.map_or(Time::ZERO, |one| one.key);
        look_up(&self.index, (work, &life.attempt.keys), (&mut self.matches, &mut self.matched));
        self.offered(now, life, (key, is_spare))
    }

    /// Kept for a look at the same attempt at the same moment.
    pub(super) fn keep_offers(&mut self, now: Time, work: Work, all: Vec<Candidate>) {
        self.offers = Some(Offers { of: work, at: now, changes: self.changes(), all });
    }

    fn changes(&self) -> (u64, u64) {
        (self.changes, self.index.changes())
    }

    /// What an attempt would cost at each worker that is looked at, if it waits under this key and
    /// gets what others leave or not. What is cached of its prompt was looked up.
    pub(super) fn offered(
        &self,
        now: Time,
        life: &Life,
        (key, is_spare): (Time, bool),
    ) -> Vec<Candidate> {
        let (_, most) = self.lengths.expected(life.attempt.limit);
        let blocks = (life.asked.prompt + most).div_ceil(self.settings.block);
        let seed = mix(self.settings.seed, life.attempt.work.attempt.request.0);
        // Without a profile it is not known how far streams are delayed.
        let is_known = self.is_known();
        let weight = if is_known { self.settings.externality_weight } else { 0.0 };
        let lost_by = life.taken.and_then(|taken| taken.lost_by);
        let chosen = self.chosen(now, &self.matches, seed);
        let mut found = Vec::with_capacity(chosen.len());
        for id in chosen {
            let Some(worker) = self.workers.get(&id) else { continue };
            let is_usable = matches!(worker.verdict, Verdict::Up | Verdict::Probation);
            let matched = self.matched(&self.matches, (worker, life.block(&self.settings)));
            let believed = worker.believed(matched);
            let hit = life.hit(worker, believed);
            let mut cost = life.asked.on(worker, now, hit, weight);
            let held = millis(self.queue.held_before(id, key));
            cost.queue += held;
            cost.ttft += held;
            cost.total += held;
            let may = is_usable && !life.barred.contains(&id);
            let saved = if worker.is_known() { 0.0 } else { life.saves(worker, hit) };
            let has_room = self.has_room(now, id) || saved > 0.0 && worker.has_more_room(saved);
            let is_fit = worker.fits(blocks) && (!is_spare || worker.undone_tokens() == 0);
            let tie = if is_known { mix(seed, u64::from(id.0)) } else { 0 };
            found.push(Candidate {
                id,
                cost,
                held,
                matched,
                believed,
                may,
                has_room: may && has_room && is_fit,
                tie: (worker.in_flight(), tie),
            });
        }
        // Another than who lost it, if one has room.
        if found.iter().any(|each| each.has_room && Some(each.id) != lost_by) {
            found.retain(|each| Some(each.id) != lost_by);
        }
        found
    }

    /// Decides at once, as others do.
    pub(super) fn on_arrival(
        &mut self,
        now: Time,
        life: Life,
        baseline: Baseline,
        actions: &mut Vec<Action>,
    ) {
        let work = life.attempt.work;
        let asked = life.asked;
        let mut matches = core::mem::take(&mut self.matches);
        self.matched = None;
        self.index.matches(&life.attempt.keys, &mut matches);
        let usable = |verdict: Verdict| matches!(verdict, Verdict::Up | Verdict::Probation);
        let all: Vec<WorkerId> = self
            .workers
            .iter()
            .filter(|(id, worker)| usable(worker.verdict) && !life.barred.contains(id))
            .map(|(id, _)| id)
            .collect();
        let seen = all.iter().filter_map(|id| {
            let worker = self.workers.get(id)?;
            let (matched, tree) = match baseline.has_own_tree() {
                true => {
                    let (keys, tree) = self.routed.of(*id, &life.attempt.keys);
                    (keys.saturating_mul(self.settings.block), tree)
                }
                false => {
                    let matched = self.matched(&matches, (worker, self.settings.block));
                    (matched, self.index.held(worker.slot))
                }
            };
            Some(Seen::of(worker, now, &asked, (matched.min(asked.prompt), tree)))
        });
        let seen: Vec<Seen> = seen.collect();
        if seen.is_empty() {
            self.matches = matches;
            return self.give_back(work, super::Why::NoWorker, Duration::ZERO, actions);
        }
        let promise = millis(life.deadline.since(now).as_micros() as u64);
        let (at, takes) = baseline.choose(&seen, (self.turn, asked.prompt), promise);
        self.turn += 1;
        if !takes {
            self.matches = matches;
            actions.push(Action::Refuse { work, after: Duration::from_secs(1) });
            return;
        }
        let id = all[at];
        if baseline.has_own_tree() {
            self.routed.sent(now, id, &life.attempt.keys);
        }
        let Some(worker) = self.workers.get(&id) else { return };
        let matched = self.matched(&matches, (worker, self.settings.block));
        self.matches = matches;
        let believed = worker.believed(matched);
        let cost = asked.on(worker, now, believed, 0.0);
        let (may, tie) = (true, (0, 0));
        let held = 0.0;
        let to = Candidate { id, cost, held, matched, believed, may, has_room: may, tie };
        self.timers.set(life.expires, Timer::Expires(work));
        self.lives.insert(work, life);
        self.start(now, work, to, actions);
    }
}

/// The least cost among those that keep the promised time between tokens, or if none does of all.
fn cheapest(
    candidates: &[Candidate],
    tpot: Duration,
    may: impl Fn(&Candidate) -> bool,
) -> Option<Candidate> {
    let promised = millis(tpot.as_micros() as u64);
    let least = |is_kept: bool| {
        let of =
            candidates.iter().filter(|each| may(each) && (each.cost.tpot <= promised) == is_kept);
        of.min_by(|a, b| a.cost.total.total_cmp(&b.cost.total).then(a.tie.cmp(&b.tie))).copied()
    };
    least(true).or_else(|| least(false))
}
