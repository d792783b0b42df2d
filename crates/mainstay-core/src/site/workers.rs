//! The workers of one pool: what each has in hand, and what it can carry by calibration and by
//! measure. Who gets the next work is for the scheduler to say.

use crate::cost::{CostRate, CostUnits};
use crate::names::WorkerId;
use crate::site::limit::{Limit, Sample, TOLERANCE, Usual};
use crate::site::schedule::inside::Strength;
use crate::site::schedule::worker::IN_HAND;
use crate::site::streams::Streams;
use crate::time::{Duration, Time};
use alloc::vec::Vec;

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
    /// What the worker has to compute of it.
    pub cost: CostUnits,
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

    /// What the scheduler is to take a worker for.
    pub fn strength(&self, id: WorkerId) -> Option<Strength> {
        let worker = &self.all[self.place(id).ok()?].1;
        let streams = if worker.is_useless() { worker.streams.min(1) } else { worker.streams };
        let slowness = worker.capacity.as_f64() / worker.carries.max(f64::MIN_POSITIVE);
        Some(Strength { capacity: worker.capacity, slowness, streams })
    }

    /// All of them.
    pub fn ids(&self) -> impl Iterator<Item = WorkerId> {
        self.all.iter().map(|(id, _)| *id)
    }

    /// A leg begins; what its worker has in hand with it.
    pub fn give(&mut self, leg: Leg) -> CostUnits {
        self.open.open(leg.since);
        let Some(worker) = self.get_mut(leg.worker) else { return leg.cost };
        worker.running += 1;
        worker.ahead += leg.cost;
        worker.ahead
    }

    /// The first token of a leg came, after so long and with so much in hand when it was given.
    pub fn first_token(&mut self, leg: Leg, seen: (CostUnits, Duration)) {
        let Ok(place) = self.place(leg.worker) else { return };
        let worker = &mut self.all[place].1;
        let cost = leg.cost;
        worker.ahead -= cost;
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
        }
    }

    /// Whether each worker has all it may have, while more waits or nothing does. True if that
    /// changed what some carry.
    pub fn measure(
        &mut self,
        now: Time,
        is_waiting: bool,
        has_room: impl Fn(WorkerId) -> bool,
    ) -> bool {
        let mut is_changed = false;
        for (id, worker) in &mut self.all {
            // A worker out of streams is not busy with first tokens.
            let is_full = is_waiting && worker.running < worker.streams && !has_room(*id);
            is_changed |= worker.limit.full(now, is_full, worker.capacity);
        }
        if is_changed {
            self.add_up();
        }
        is_changed
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
        let rate = self.reads();
        self.open.carry(now, self.streams()).map_or(rate, |open| rate.min(open))
    }

    /// The same, were there streams for all.
    pub fn reads(&self) -> CostRate {
        CostRate((self.sums.carries * 1000.0) as u64).min(self.calibrated())
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
