//! The workers of one pool: what each has in hand, what it can carry, and who gets the next work.
//!
//! Late binding: a worker is given only what keeps it busy; the rest waits in the queue, where it
//! can still be overtaken, dropped or sent elsewhere. Running work never exceeds the streams of
//! live workers.

use crate::cost::{CostRate, CostUnits};
use crate::names::WorkerId;
use crate::site::limit::{Limit, Sample, TOLERANCE, Usual};
use crate::site::prefixes::Hits;
use crate::site::streams::Streams;
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// Work without its first token that keeps a worker busy: a little more than it does while one
/// first token is under way. A slow worker needs no more: it does less, for longer.
const IN_HAND: Duration = Duration::from_millis(350);

/// An answer under way delays a first token there like so many tokens of a prompt. On traces it is
/// the same with none and with 128; some are needed where prompts tell nothing apart.
const ANSWER: f64 = 32.0;

/// A worker that lost so many legs in a row before their first token does no work: its model may
/// not be loadable. One bad request is moved to another worker after its first loss, so it alone
/// cannot make three at one.
const USELESS: u8 = 3;
/// What such a worker is taken to carry: a trickle, else nothing would tell when it is well again.
const TRIED: f64 = 0.02;

/// One worker.
#[derive(Clone, Copy, Debug)]
struct Worker {
    capacity: CostRate,
    streams: u32,
    cold: bool,
    running: u32,
    /// Work in hand whose first token has not come.
    ahead: CostUnits,
    /// The same in tokens of prompts, cached ones left out.
    undone: u64,
    limit: Limit,
    /// Legs lost since its last first token.
    lost: u8,
    /// What it carries by its calibration, its limit and what it lost, in cost units a second.
    carries: f64,
}

/// How a worker is.
#[derive(Clone, Copy, Debug)]
pub struct Calibration {
    /// What it carries.
    pub capacity: CostRate,
    /// Answers at once.
    pub streams: u32,
    /// Whether its caches are empty.
    pub cold: bool,
}

/// One worker's try at an attempt.
#[derive(Clone, Copy, Debug)]
pub struct Leg {
    /// Whose.
    pub worker: WorkerId,
    /// Since when.
    pub since: Time,
    /// What the attempt costs.
    pub cost: CostUnits,
    /// Tokens of its prompt that the worker had to compute.
    pub undone: u32,
}

/// What has to be computed for an attempt before its first token.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// What all of it costs,
    pub cost: CostUnits,
    /// the tokens of its prompt,
    pub prompt: u32,
    /// and what is known of them.
    pub hits: Hits<'a>,
    /// Who lost it already.
    pub lost_by: Option<WorkerId>,
}

impl Asked<'_> {
    /// A try of it at this worker.
    pub fn leg(&self, worker: WorkerId, since: Time) -> Leg {
        let held = self.hits.of(worker);
        let cost = self.cost - self.hits.saves(held);
        Leg { worker, since, cost: cost.max(CostUnits(1)), undone: self.undone(held) }
    }

    /// Tokens to compute where so many are held: the last of a prompt at least.
    fn undone(&self, held: u32) -> u32 {
        self.prompt.saturating_sub(held).max(1)
    }
}

/// The live workers of a pool.
#[derive(Clone, Debug, Default)]
pub struct Workers {
    /// In the order of their ids.
    all: Vec<(WorkerId, Worker)>,
    sums: Sums,
    usual: Usual,
    open: Streams,
}

/// Over all workers, kept because each attempt asks for them many times.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    calibrated: CostRate,
    streams: u32,
    carries: f64,
    /// Capacities, each times how slow it is.
    slow: f64,
}

impl Worker {
    fn is_useless(&self) -> bool {
        self.lost >= USELESS
    }

    fn has_room(&self) -> bool {
        self.has_room_for(CostUnits::ZERO)
    }

    /// Whether it has room for work of which this much is done already: with it, it has no more in
    /// hand than others would have with all of it.
    fn has_room_for(&self, saved: CostUnits) -> bool {
        let most = if self.is_useless() { 1 } else { self.streams };
        let busy = self.capacity.over(IN_HAND).max(CostUnits(1));
        self.running < most && self.ahead < busy + saved
    }

    /// How long what it has in hand takes, for comparison; idle ones by what they carry.
    fn load(&self) -> f64 {
        (self.ahead.as_f64() + f64::from(self.running) * 0.001 + 0.001) / self.carries.max(0.001)
    }

    /// How long it takes for the first token of one more that has so much to compute, for
    /// comparison: what is before it is computed first, and steps are longer for each answer there.
    fn until_token(&self, undone: u32) -> f64 {
        let tokens = self.undone as f64 + f64::from(undone);
        (tokens + f64::from(self.running) * ANSWER) / self.carries.max(0.001)
    }
}

impl Workers {
    /// A worker is there or changed; true if it was not there before.
    pub fn up(&mut self, id: WorkerId, calibration: Calibration) -> bool {
        let Calibration { capacity, streams, cold } = calibration;
        if let Some(worker) = self.get_mut(id) {
            *worker = Worker { capacity, streams, cold, ..*worker };
            self.add_up();
            return false;
        }
        let fresh = Worker {
            capacity,
            streams,
            cold,
            running: 0,
            ahead: CostUnits::ZERO,
            undone: 0,
            limit: Limit::new(),
            lost: 0,
            carries: 0.0,
        };
        let place = self.place(id).unwrap_or_else(|place| place);
        self.all.insert(place, (id, fresh));
        self.add_up();
        true
    }

    /// A worker is gone; true if it was there.
    pub fn down(&mut self, id: WorkerId) -> bool {
        let Ok(place) = self.place(id) else { return false };
        self.all.remove(place);
        self.add_up();
        true
    }

    /// Whether nobody is alive.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many are alive.
    pub fn count(&self) -> u16 {
        self.all.len() as u16
    }

    /// Whether somebody is alive who does not lose all that it is given.
    pub fn has_able(&self) -> bool {
        self.all.iter().any(|(_, worker)| !worker.is_useless())
    }

    /// Work was lost by this worker before its first token.
    pub fn lost(&mut self, id: WorkerId) {
        let Ok(place) = self.place(id) else { return };
        let worker = &mut self.all[place].1;
        worker.lost = worker.lost.saturating_add(1);
        if worker.lost == USELESS {
            self.add_up();
        }
    }

    /// Somebody who has room.
    pub fn free(&self) -> Option<WorkerId> {
        self.all.iter().find(|(_, worker)| worker.has_room()).map(|(id, _)| *id)
    }

    /// Who gets this: of those with room, another than who lost it, if there is one. Where it is
    /// known what some hold of its prompt, the one with the least to compute for it; where not, the
    /// one that is through with its own first. The two are never compared.
    pub fn pick(&self, asked: &Asked) -> Option<WorkerId> {
        let price = |id: WorkerId, worker: &Worker| match asked.hits.are_none() {
            true => worker.load(),
            false => worker.until_token(asked.undone(asked.hits.of(id))),
        };
        let all = |id, worker: &Worker| {
            worker.has_room_for(asked.hits.saves(asked.hits.of(id)).min(asked.cost))
        };
        let others = |id, worker: &Worker| Some(id) != asked.lost_by && all(id, worker);
        self.least(others, price).or_else(|| self.least(all, price))
    }

    /// Whoever is through with its own first, whether it has room or not.
    pub fn pick_anyway(&self) -> Option<WorkerId> {
        self.least(|_, _| true, |_, worker| worker.load())
    }

    fn least(
        &self,
        may: impl Fn(WorkerId, &Worker) -> bool,
        price: impl Fn(WorkerId, &Worker) -> f64,
    ) -> Option<WorkerId> {
        let able = self.all.iter().filter(|(id, worker)| may(*id, worker));
        let prices = able.map(|(id, worker)| (*id, price(*id, worker)));
        prices.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(id, _)| id)
    }

    /// A leg begins; what its worker has in hand with it.
    pub fn give(&mut self, leg: Leg) -> CostUnits {
        self.open.open(leg.since);
        let Some(worker) = self.get_mut(leg.worker) else { return leg.cost };
        worker.running += 1;
        worker.ahead += leg.cost;
        worker.undone += u64::from(leg.undone);
        worker.ahead
    }

    /// The first token of a leg came, after so long and with so much in hand when it was given.
    pub fn first_token(&mut self, leg: Leg, seen: (CostUnits, Duration)) {
        let Ok(place) = self.place(leg.worker) else { return };
        let worker = &mut self.all[place].1;
        let cost = leg.cost;
        worker.ahead -= cost;
        worker.undone = worker.undone.saturating_sub(u64::from(leg.undone));
        worker.lost = 0;
        let (ahead, measured) = seen;
        let sample = Sample { measured, ahead, cost, capacity: worker.capacity };
        worker.limit.first_token(sample, &mut self.usual);
        self.add_up();
    }

    /// Work left the worker, with its first token or before it.
    pub fn take(&mut self, now: Time, leg: Leg, has_first_token: bool) {
        self.open.close(now, leg.since, leg.cost);
        let Some(worker) = self.get_mut(leg.worker) else { return };
        worker.running = worker.running.saturating_sub(1);
        if !has_first_token {
            worker.ahead -= leg.cost;
            worker.undone = worker.undone.saturating_sub(u64::from(leg.undone));
        }
    }

    /// Whether each worker has all it may have, while more waits or nothing does.
    pub fn measure(&mut self, now: Time, is_waiting: bool) {
        let mut is_changed = false;
        for (_, worker) in &mut self.all {
            // A worker out of streams is not busy with first tokens.
            let is_full = is_waiting && !worker.has_room() && worker.running < worker.streams;
            is_changed |= worker.limit.full(now, is_full, worker.capacity);
        }
        if is_changed {
            self.add_up();
        }
    }

    /// A second has passed.
    pub fn second(&mut self) {
        self.all.iter_mut().for_each(|(_, worker)| worker.limit.second());
        self.add_up();
        self.open.second();
        self.usual.second();
    }

    /// What they can carry now: the smaller of what was measured and what calibration says, and not
    /// more than their streams let through.
    pub fn carries(&self, now: Time) -> CostRate {
        let rate = CostRate((self.sums.carries * 1000.0) as u64).min(self.calibrated());
        self.open.carry(now, self.streams()).map_or(rate, |open| rate.min(open))
    }

    /// What one of them carries, by calibration: the mean.
    pub fn one(&self) -> CostRate {
        CostRate(self.calibrated().0 / (self.all.len() as u64).max(1))
    }

    /// What calibration says.
    pub fn calibrated(&self) -> CostRate {
        self.sums.calibrated
    }

    /// Whether more than half of what is alive has empty caches.
    pub fn are_cold(&self) -> bool {
        let cold = self.all.iter().filter(|(_, worker)| worker.cold);
        let cold: CostRate = cold.map(|(_, worker)| worker.capacity).sum();
        cold.0 * 2 > self.calibrated().0
    }

    /// Whether they are slower than usual, weighed by what they should carry.
    pub fn are_slow(&self) -> bool {
        self.sums.slow > TOLERANCE * self.calibrated().as_f64()
    }

    /// How many times as long as usual first tokens take.
    pub fn slowness(&self) -> u8 {
        self.usual.slowness()
    }

    /// First tokens without a queue: usual ones with what the workers have in hand, times how slow
    /// they are now.
    pub fn service(&self) -> Option<Duration> {
        self.usual.time()?;
        let all = self.calibrated();
        let slow = (self.sums.slow / all.as_f64().max(0.001)).max(0.5);
        Some(Duration::from_secs_f64(self.usual.expected(self.ahead(), all) * slow))
    }

    /// Answers under way.
    pub fn running(&self) -> u32 {
        self.open.count()
    }

    /// Answers that may be under way at once.
    pub fn streams(&self) -> u32 {
        self.sums.streams
    }

    /// Work given out whose first token has not come.
    pub fn ahead(&self) -> CostUnits {
        self.all.iter().map(|(_, worker)| worker.ahead).sum()
    }

    /// The most of it there may be: what keeps workers busy and, each, one request of this cost.
    pub fn ahead_bound(&self, largest: CostUnits) -> CostUnits {
        self.all.iter().map(|(_, worker)| worker.capacity.over(IN_HAND) + largest).sum()
    }

    fn place(&self, id: WorkerId) -> Result<usize, usize> {
        self.all.binary_search_by_key(&id, |(known, _)| *known)
    }

    fn get_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        let place = self.place(id).ok()?;
        self.all.get_mut(place).map(|(_, worker)| worker)
    }

    /// Sums anew, after a change of who is there or of what somebody carries.
    fn add_up(&mut self) {
        let mut sums = Sums::default();
        for (_, worker) in &mut self.all {
            let capacity = worker.capacity.as_f64();
            let most = if worker.is_useless() { TRIED } else { 1.0 };
            worker.carries = capacity * worker.limit.share().min(most);
            sums.calibrated += worker.capacity;
            sums.streams += worker.streams;
            sums.carries += worker.carries;
            sums.slow += capacity * worker.limit.residual();
        }
        self.sums = sums;
    }
}
