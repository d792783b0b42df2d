//! What stands still without being gone: workers that take work and do nothing, and gateways whose
//! loop is late.
//!
//! A worker whose steps stand still with work in hand is given up after a while by what watches it;
//! its controller then hears the same as if it had gone. A loop that stands still reads nothing and
//! finds, each time it goes on, its timers before its messages: so all it waits for seems silent.

use super::World;
use super::moment::Moment;
use super::slab::Key;
use crate::scenario::Which;
use mainstay_core::gateway::Event;
use mainstay_core::names::GatewayId;
use mainstay_core::time::{Duration, Time};

/// Steps of a worker that stand still for so long, with work in hand, make it suspect.
const STILL: Duration = Duration::from_secs(2);

/// A loop that stands still again and again.
#[derive(Debug)]
pub struct Standstill {
    delay: Duration,
    /// What came since it went on last, unread,
    unread: Vec<Event>,
    /// and when that was.
    read: Time,
    /// It goes on at this very moment.
    goes_on: bool,
}

impl Standstill {
    /// Whether what comes now waits.
    pub fn stands(&self) -> bool {
        !self.goes_on
    }

    /// Something came that nobody reads yet.
    pub fn comes(&mut self, event: Event) {
        self.unread.push(event);
    }

    /// What came before this moment was read.
    pub fn read(&self) -> Time {
        self.read
    }

    /// The process died: nobody will read it.
    pub fn dies(&mut self) {
        self.unread.clear();
    }
}

impl World<'_> {
    /// A share of a site's workers stands still; they keep their connections.
    pub(super) fn workers_hang(&mut self, at: usize, share: f64) {
        let count = (self.sites[at].workers.each.len() as f64 * share).round() as usize;
        for worker in 0..count {
            self.sites[at].workers.each[worker].is_hung = true;
            for key in self.at_worker(at, worker) {
                self.silence(key);
            }
            let (site, worker) = (at as u16, worker as u16);
            self.calendar.put(self.now + STILL, Moment::WorkerStill { site, worker });
        }
    }

    /// A worker's steps have stood still for too long.
    pub(super) fn worker_still(&mut self, at: usize, worker: usize) {
        let seen = &self.sites[at].workers.each[worker];
        if seen.is_hung && seen.is_up {
            self.worker_goes(at, worker);
        }
    }

    /// They are restarted, their caches as they were.
    pub(super) fn workers_go_on(&mut self, at: usize) {
        for worker in 0..self.sites[at].workers.each.len() {
            if !self.sites[at].workers.each[worker].is_hung {
                continue;
            }
            if self.sites[at].workers.each[worker].is_up {
                self.worker_goes(at, worker);
            }
            self.sites[at].workers.each[worker].is_hung = false;
            self.sites[at].workers.start(self.now, worker);
        }
        self.announce_workers(at, false);
    }

    /// Attempts that a worker has.
    pub(super) fn at_worker(&self, at: usize, worker: usize) -> Vec<Key> {
        let of_it = self.attempts.iter().filter(|(_, attempt)| {
            usize::from(attempt.site) == at
                && attempt.place.is_some_and(|place| usize::from(place.worker) == worker)
        });
        of_it.map(|(key, _)| key).collect()
    }

    /// Whether the worker that has an attempt stands still.
    pub(super) fn is_hung(&self, key: Key) -> bool {
        let Some(attempt) = self.attempts.get(key) else { return false };
        let workers = &self.sites[usize::from(attempt.site)].workers.each;
        attempt.place.is_some_and(|place| workers[usize::from(place.worker)].is_hung)
    }

    /// An attempt is at a worker from now on: one that stands still says nothing, another does.
    pub(super) fn is_placed(&mut self, key: Key) {
        if self.is_hung(key) {
            return self.silence(key);
        }
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        let line = (usize::from(attempt.gateway), usize::from(attempt.site));
        if !self.network.is_cut(line.0, line.1) {
            attempt.quiet = None;
        }
    }

    /// The loops of gateways are late from now on.
    pub(super) fn loops_lag(&mut self, which: &Which, delay: Duration) {
        for at in self.gateways_of(which) {
            let (read, unread) = (self.now, Vec::new());
            let standstill = Standstill { delay, unread, read, goes_on: false };
            self.gateways[at].standstill = Some(standstill);
            self.calendar.put(self.now + delay, Moment::LoopGoesOn(at as u16));
        }
    }

    /// They are in time again.
    pub(super) fn loops_run(&mut self, which: &Which) {
        for at in self.gateways_of(which) {
            let Some(standstill) = &mut self.gateways[at].standstill else { continue };
            standstill.goes_on = true;
            for event in std::mem::take(&mut standstill.unread) {
                self.tell_gateway(at, event);
            }
            self.tell_gateway(at, Event::Tick);
            self.gateways[at].standstill = None;
            self.rearm_gateway(at);
            for key in self.waited_for(at) {
                self.calendar.put(self.now + Duration::from_micros(1), Moment::Watch(key));
            }
        }
    }

    /// A loop goes on: it sees how late it is, then its timers, then what came.
    pub(super) fn loop_goes_on(&mut self, at: usize) {
        let Some(standstill) = &mut self.gateways[at].standstill else { return };
        if self.now < standstill.read + standstill.delay {
            return;
        }
        standstill.goes_on = true;
        let late = standstill.delay;
        let unread = std::mem::take(&mut standstill.unread);
        self.tell_gateway(at, Event::Lag(late));
        for key in self.waited_for(at) {
            self.watch(key);
        }
        for event in unread {
            self.tell_gateway(at, event);
        }
        self.tell_gateway(at, Event::Tick);
        let now = self.now;
        if let Some(standstill) = &mut self.gateways[at].standstill {
            standstill.goes_on = false;
            standstill.read = now;
            self.calendar.put(now + late, Moment::LoopGoesOn(at as u16));
        }
    }

    /// Attempts that a gateway waits for.
    fn waited_for(&self, at: usize) -> Vec<Key> {
        let from = GatewayId(at as u16);
        let waits = self.attempts.iter().filter(|(_, a)| a.at_gateway && a.work.from == from);
        waits.map(|(key, _)| key).collect()
    }
}
