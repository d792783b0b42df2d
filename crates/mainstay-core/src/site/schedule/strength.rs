//! What all workers of a site's pool carry together: by calibration, by measure, and by what their
//! streams let through. Kept, because each attempt asks for it many times.

use super::limit::{Sample, TOLERANCE, Usual};
use super::profile::Profile;
use super::rated::{Calibration, Rated};
use super::streams::Streams;
use super::worker::{IN_HAND, Leg, Verdict, Worker};
use super::{ById, Life, Place, Scheduler};
use crate::cost::{CostRate, CostUnits};
use crate::names::{Work, WorkerId};
use crate::time::{Duration, Time};

/// A first token while none was measured.
const FIRST_TOKEN_GUESS: Duration = Duration::from_millis(300);

/// What the workers of a pool carry.
#[derive(Clone, Debug, Default)]
pub struct Strength {
    sums: Sums,
    usual: Usual,
    open: Streams,
    /// Work given out whose first token has not come.
    in_hand: CostUnits,
}

/// Over all that may have work.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    count: u16,
    /// Those that do not lose all that they are given.
    able: u16,
    streams: u32,
    calibrated: CostRate,
    /// Of that, where caches are empty.
    cold: CostRate,
    carries: f64,
    /// Capacities, each times how slow it is.
    slow: f64,
    /// What keeps each of them busy.
    busy: CostUnits,
}

impl Strength {
    /// Whether nobody is alive.
    pub fn is_empty(&self) -> bool {
        self.sums.count == 0
    }

    /// How many are alive.
    pub fn count(&self) -> u16 {
        self.sums.count
    }

    /// Whether somebody is alive who does not lose all that it is given.
    pub fn has_able(&self) -> bool {
        self.sums.able > 0
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
        CostRate(self.calibrated().0 / u64::from(self.sums.count).max(1))
    }

    /// What calibration says.
    pub fn calibrated(&self) -> CostRate {
        self.sums.calibrated
    }

    /// Whether more than half of what is alive has empty caches.
    pub fn are_cold(&self) -> bool {
        self.sums.cold.0 * 2 > self.calibrated().0
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
    pub fn service(&self) -> Duration {
        if self.usual.time().is_none() {
            return FIRST_TOKEN_GUESS;
        }
        let all = self.calibrated();
        let slow = (self.sums.slow / all.as_f64().max(0.001)).max(0.5);
        Duration::from_secs_f64(self.usual.expected(self.in_hand, all) * slow)
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
    pub fn in_hand(&self) -> CostUnits {
        self.in_hand
    }

    /// The most of it there may be: what keeps workers busy and, each, one request of this cost.
    pub fn in_hand_bound(&self, largest: CostUnits) -> CostUnits {
        self.sums.busy + CostUnits(largest.0.saturating_mul(self.sums.count.into()))
    }

    /// A leg was given out.
    pub(super) fn give(&mut self, now: Time, cost: CostUnits) {
        self.open.open(now);
        self.in_hand += cost;
    }

    /// Its first token came, or it was taken back before.
    pub(super) fn begin(&mut self, cost: CostUnits) {
        self.in_hand -= cost;
    }

    /// It ended, whether it had begun or not.
    pub(super) fn end(&mut self, now: Time, leg: &Leg) {
        self.open.close(now, leg.started, leg.reservation.cost);
        if !leg.has_first_token {
            self.begin(leg.reservation.cost);
        }
    }

    /// Whether what is counted of all is what each has (K3).
    pub(super) fn is_balanced(&self, workers: &ById<Worker>) -> bool {
        let rated = || workers.values().filter(|worker| worker.rated.is_some());
        let (mut open, mut since) = (0, 0);
        for (_, leg) in rated().flat_map(Worker::each_leg) {
            open += 1;
            since += u128::from(leg.started.as_micros());
        }
        let in_hand: CostUnits = rated().map(Worker::in_hand).sum();
        self.open.is(open, since) && self.in_hand == in_hand
    }
}

impl Scheduler {
    /// What its workers carry.
    pub fn strength(&self) -> &Strength {
        &self.strength
    }

    /// A worker is there or changed; true if it was not there before.
    pub fn up(&mut self, now: Time, id: WorkerId, told: Calibration) -> bool {
        let is_new = self.workers.get(&id).is_none();
        if is_new {
            let slot = self.index.begin(id);
            let mut worker = Worker::new(Profile::default(), (1, slot));
            worker.rated = Some(Rated::new(told, self.given.get(&id).copied()));
            self.workers.insert(id, worker);
            self.has_dried = true;
        }
        let worker = self.workers.get_mut(&id);
        if let Some(rated) = worker.and_then(|worker| worker.rated.as_mut()) {
            rated.told = told;
        }
        match self.given.get(&id).copied().filter(|_| self.profile.is_none()) {
            // Others of which nobody said are taken to be alike, until it is learned how they are.
            Some(given) => self.learned(now, given),
            None => self.rate_anew(now, id),
        }
        self.add_up();
        is_new
    }

    /// A worker gets nothing any more. The site takes from it what it has.
    pub fn stop(&mut self, now: Time, id: WorkerId) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else { return false };
        worker.verdict = Verdict::Down;
        self.add_up();
        self.refresh(now, id);
        true
    }

    /// The first token of an attempt came, so long after it was given out: true if it is the first
    /// time that this is told.
    pub fn begun(&mut self, now: Time, work: Work, measured: Duration) -> bool {
        let Some(Life { place: Place::At(id), .. }) = self.lives.get(&work) else { return false };
        let id = *id;
        let Some(worker) = self.workers.get_mut(&id) else { return false };
        let leg = worker.leg(work).filter(|leg| !leg.has_first_token);
        let Some((ahead, cost)) = leg.map(|leg| (leg.ahead, leg.reservation.cost)) else {
            return false;
        };
        if let Some(rated) = &mut worker.rated {
            let sample = Sample { measured, ahead, cost, capacity: rated.told.capacity };
            rated.first_token(sample, &mut self.strength.usual);
        }
        self.rate_anew(now, id);
        self.first_token(now, work, None);
        self.add_up();
        true
    }

    /// A worker lost a leg before its first token.
    pub(super) fn lost_early(&mut self, now: Time, id: WorkerId) {
        let worker = self.workers.get_mut(&id);
        let rated = worker.and_then(|worker| worker.rated.as_mut());
        if rated.is_some_and(Rated::lost) {
            self.rate_anew(now, id);
            self.add_up();
        }
    }

    /// All that there was room for was given out: whether each worker has all it may have, while
    /// more waits or nothing does.
    pub fn measure(&mut self, now: Time) {
        let is_waiting = !self.queue.is_empty();
        let mut is_changed = false;
        let (rooms, workers) = (&self.room_of, &mut self.workers);
        for (id, worker) in workers.iter_mut() {
            let has_room = rooms.get(&id).is_some_and(|at| *at <= now);
            // A worker out of streams is not busy with first tokens.
            let has_streams = worker.in_flight() < worker.streams_told();
            let is_full = is_waiting && has_streams && !has_room;
            if let Some(rated) = &mut worker.rated {
                is_changed |= rated.full(now, is_full);
            }
        }
        if is_changed {
            self.add_up();
        }
    }

    /// A second has passed.
    pub fn second(&mut self) {
        self.workers.iter_mut().filter_map(|(_, it)| it.rated.as_mut()).for_each(Rated::second);
        self.add_up();
        self.strength.open.second();
        self.strength.usual.second();
    }

    /// What is said or learned of a worker changed.
    pub(super) fn rate_anew(&mut self, now: Time, id: WorkerId) {
        let learned = self.profile;
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.rate_by(learned);
        }
        self.refresh(now, id);
    }

    /// Sums anew, after a change of who is there or of what somebody carries.
    pub(super) fn add_up(&mut self) {
        let mut sums = Sums::default();
        let works = |worker: &&Worker| worker.verdict != Verdict::Down;
        for rated in self.workers.values().filter(works).filter_map(|it| it.rated.as_ref()) {
            let capacity = rated.told.capacity;
            sums.count += 1;
            sums.able += u16::from(!rated.is_useless());
            sums.streams += rated.told.streams;
            sums.calibrated += capacity;
            sums.cold += if rated.told.cold { capacity } else { CostRate::ZERO };
            sums.carries += rated.carries();
            sums.slow += capacity.as_f64() * rated.residual();
            sums.busy += capacity.over(IN_HAND);
        }
        self.strength.sums = sums;
        self.rate.1 = 0.0;
    }
}
