//! Workers that compute as `service` has it: first tokens and ends come when the batch lets them.
//!
//! A site with a profile has one of these beside each of its simple workers, which then only says
//! whether it is there and how slow it is. A token's pace is that of its answer's first; when the
//! last one comes the batch says.

use super::World;
use super::attempts::Attempt;
use super::moment::Moment;
use super::slab::Key;
use super::workers::Served;
use crate::service::{Happened, Noise, Profile, Sequence, SequenceId, What, Worker};
use mainstay_core::time::{Duration, Time};
use std::collections::BTreeMap;

/// What an answer's first token is waited for at most; it only stands for "not yet".
const NOT_YET: Duration = Duration::from_secs(3600);

/// One worker's engine.
#[derive(Clone, Debug)]
pub struct Engine {
    worker: Worker,
    slow: f64,
    /// Of which attempt, and on which of its legs, each sequence is.
    running: BTreeMap<SequenceId, (Key, u8)>,
    /// What happened before this moment and was not told yet.
    due: Vec<Happened>,
    tick: Option<Time>,
}

impl Engine {
    /// So many idle ones of a profile with measured step times; none if there is no such profile.
    pub fn all(profile: Option<&str>, count: usize, seed: u64) -> Vec<Engine> {
        let Some(profile) = profile.and_then(Profile::named).map(Profile::measured) else {
            return Vec::new();
        };
        let engine = |at: usize| Engine {
            worker: Worker::with_noise(profile.clone(), Noise::USUAL, seed ^ at as u64),
            slow: 1.0,
            running: BTreeMap::new(),
            due: Vec::new(),
            tick: None,
        };
        (0..count).map(engine).collect()
    }
}

impl World<'_> {
    /// Gives an attempt to the engine of a worker.
    pub(super) fn compute(
        &mut self,
        (at, worker): (usize, usize),
        (key, leg): (Key, u8),
        sequence: Sequence,
    ) -> SequenceId {
        let now = self.now;
        let slow = self.sites[at].workers.each[worker].slow;
        let engine = &mut self.sites[at].engines[worker];
        engine.worker.advance(now, &mut engine.due);
        if (slow - engine.slow).abs() > 1e-9 {
            engine.slow = slow;
            engine.worker.slow(now, slow);
        }
        let id = engine.worker.admit(now, sequence);
        engine.running.insert(id, (key, leg));
        self.rearm_engine(at, worker);
        id
    }

    /// An attempt is not wanted there any more.
    pub(super) fn stop_computing(&mut self, (at, worker): (usize, usize), id: SequenceId) {
        let now = self.now;
        let engine = &mut self.sites[at].engines[worker];
        if engine.running.remove(&id).is_some() {
            engine.worker.advance(now, &mut engine.due);
            engine.worker.abort(now, id);
            self.rearm_engine(at, worker);
        }
    }

    /// Something may have happened at an engine.
    pub(super) fn engine_tick(&mut self, at: usize, worker: usize) {
        let now = self.now;
        let engine = &mut self.sites[at].engines[worker];
        if engine.tick != Some(now) {
            return;
        }
        engine.tick = None;
        engine.worker.advance(now, &mut engine.due);
        let happened = std::mem::take(&mut engine.due);
        for one in &happened {
            self.computed(at, worker, *one);
        }
        let engine = &mut self.sites[at].engines[worker];
        if engine.due.is_empty() {
            // Its room is kept for the next time.
            engine.due = happened;
            engine.due.clear();
        }
        self.rearm_engine(at, worker);
    }

    fn computed(&mut self, at: usize, worker: usize, one: Happened) {
        let engine = &mut self.sites[at].engines[worker];
        let is_end = one.what == What::Ended;
        let found = match is_end {
            true => engine.running.remove(&one.id),
            false => engine.running.get(&one.id).copied(),
        };
        let Some((key, leg)) = found else { return };
        if is_end {
            return self.ended(key, leg);
        }
        let token = engine.worker.pace();
        if let Some(place) =
            self.attempts.get_mut(key).and_then(|one: &mut Attempt| one.place.as_mut())
        {
            place.served = Served { first: one.at, token, ..place.served };
        }
        self.worked(key, leg);
    }

    fn rearm_engine(&mut self, at: usize, worker: usize) {
        let engine = &mut self.sites[at].engines[worker];
        let due = if engine.due.is_empty() { engine.worker.next() } else { Some(self.now) };
        let Some(due) = due.map(|due| due.max(self.now)) else { return };
        if engine.tick.is_none_or(|tick| due < tick) {
            engine.tick = Some(due);
            let (site, worker) = (at as u16, worker as u16);
            self.calendar.put(due, Moment::EngineTick { site, worker });
        }
    }
}

/// What is known of an answer that an engine computes before its first token.
pub fn not_yet(now: Time) -> Served {
    Served { first: now + NOT_YET, token: super::workers::TOKEN, read: (now, Duration::ZERO) }
}
