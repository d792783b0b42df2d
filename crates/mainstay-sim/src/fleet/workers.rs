//! The bench's own workers: how long each piece of work takes.
//!
//! A worker reads prompts one after another, at its share of the site's capacity; answers then
//! flow at a fixed rate, however many there are, up to the streams it has. The profile is simple
//! on purpose: what is tried here is traffic, not kernels.

use mainstay_core::cost::CostUnits;
use mainstay_core::time::{Duration, Time};
use std::collections::HashSet;

/// First token of a request of one cost unit at a worker without other work.
pub const FIRST_TOKEN: Duration = Duration::from_millis(300);
/// Between two tokens: 25 a second.
pub const TOKEN: Duration = Duration::from_millis(40);

/// One worker.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Whether it is there.
    pub is_up: bool,
    /// It takes work and does nothing.
    pub is_hung: bool,
    /// Service takes this many times longer.
    pub slow: f64,
    /// What it carries, in CU a second.
    pub capacity: f64,
    /// Answers it can have open at once.
    pub streams: u32,
    /// Answers it has open.
    pub open: u32,
    /// When all prompts it was given are read.
    free_at: Time,
}

/// What a worker will do with a piece of work.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// When its first token comes.
    pub first: Time,
    /// Between two tokens.
    pub token: Duration,
    /// When its prompt begins to be read, and how long that takes.
    pub read: (Time, Duration),
}

/// The workers of one site.
#[derive(Clone, Debug)]
pub struct Workers {
    /// Each of them.
    pub each: Vec<Worker>,
    /// While set: sessions begun before that moment and not seen since cost that much more.
    cold: Option<(Time, f64)>,
    warm: HashSet<u64>,
}

impl Workers {
    /// So many, with equal shares of the site.
    pub fn new(count: u16, capacity: f64, streams: u32) -> Workers {
        let count = u32::from(count.max(1));
        let worker = Worker {
            is_up: true,
            is_hung: false,
            slow: 1.0,
            capacity: capacity / f64::from(count),
            streams: streams / count,
            open: 0,
            free_at: Time::ZERO,
        };
        Workers { each: vec![worker; count as usize], cold: None, warm: HashSet::new() }
    }

    /// What they carry together, in CU a second.
    pub fn capacity(&self) -> f64 {
        self.each.iter().filter(|w| w.is_up).map(|w| w.capacity / w.slow).sum()
    }

    /// What they carry of the bench's own requests, each of which keeps a stream for so long, in CU
    /// a second: the eight hundred streams of a site do not reach its hundred CU a second.
    pub fn carries(&self, answer: Duration) -> f64 {
        let each = |w: &Worker| {
            let by_streams = f64::from(w.streams) / answer.as_secs_f64();
            w.capacity.min(by_streams) / w.slow
        };
        self.each.iter().filter(|w| w.is_up).map(each).sum()
    }

    /// Streams they can have open.
    pub fn streams(&self) -> u32 {
        self.each.iter().filter(|w| w.is_up).map(|w| w.streams).sum()
    }

    /// Streams they have open.
    pub fn open(&self) -> u32 {
        self.each.iter().map(|w| w.open).sum()
    }

    /// Caches are empty from now on; reading takes so many times longer until they have refilled.
    pub fn chill(&mut self, now: Time, factor: f64) {
        self.cold = Some((now, factor));
        self.warm.clear();
    }

    /// Takes work in. `session` is its session's hash and when it began.
    pub fn serve(
        &mut self,
        now: Time,
        worker: usize,
        cost: CostUnits,
        session: (u64, Time),
    ) -> Option<Served> {
        let cold = match self.cold {
            Some((since, factor)) if session.1 < since && self.warm.insert(session.0) => factor,
            Some(_) | None => 1.0,
        };
        let worker = self.each.get_mut(worker).filter(|worker| worker.is_up)?;
        let read = Duration::from_secs_f64(cost.as_f64() * cold * worker.slow / worker.capacity);
        let base = FIRST_TOKEN.saturating_sub(Duration::from_secs_f64(1.0 / worker.capacity));
        let begins = worker.free_at.max(now);
        worker.free_at = begins + read;
        worker.open += 1;
        Some(Served {
            first: worker.free_at + base.mul_f64(worker.slow),
            token: TOKEN.mul_f64(worker.slow),
            read: (begins, read),
        })
    }

    /// Work ends, whole or not. What of its prompt is still to be read need not be.
    pub fn release(&mut self, now: Time, worker: usize, read: (Time, Duration)) {
        let Some(worker) = self.each.get_mut(worker) else { return };
        worker.open = worker.open.saturating_sub(1);
        let ends = read.0 + read.1;
        if ends > now && worker.is_up {
            worker.free_at = worker.free_at - ends.since(now.max(read.0));
        }
    }

    /// A worker goes, with all it had.
    pub fn lose(&mut self, worker: usize) {
        if let Some(worker) = self.each.get_mut(worker) {
            worker.is_up = false;
        }
    }

    /// A worker starts, with nothing to do.
    pub fn start(&mut self, now: Time, worker: usize) {
        if let Some(worker) = self.each.get_mut(worker) {
            worker.is_up = true;
            worker.open = 0;
            worker.free_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_micros(1_000_000_000 + millis * 1000)
    }

    #[test]
    fn an_idle_worker_needs_300_ms_and_a_busy_one_takes_prompts_in_turn() {
        let mut workers = Workers::new(10, 100.0, 800);
        let one = CostUnits::whole(1);
        let first = workers.serve(at(0), 0, one, (1, at(0))).map(|s| s.first);
        assert_eq!(first, Some(at(300)));
        let second = workers.serve(at(0), 0, one, (1, at(0))).map(|s| s.first);
        assert_eq!(second, Some(at(400)));
        assert_eq!((workers.open(), workers.streams()), (2, 800));
    }

    #[test]
    fn a_cold_cache_costs_an_old_session_once_and_a_new_one_nothing() {
        let mut workers = Workers::new(1, 10.0, 80);
        workers.chill(at(1000), 3.0);
        let one = CostUnits::whole(1);
        let mut read = |now, began| {
            workers.serve(at(now), 0, one, (began, at(began))).map(|s| s.read.1.as_millis())
        };
        assert_eq!(read(2000, 500), Some(300));
        assert_eq!(read(5000, 500), Some(100));
        assert_eq!(read(6000, 1500), Some(100));
    }
}
