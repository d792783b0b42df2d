//! The naive site: first in, first out, 15 s long, and nobody is taken out who has left.

use super::{QUEUE_BAD, QUEUE_MAX};
use mainstay_core::config::SiteConfig;
use mainstay_core::cost::{CostRate, CostUnits};
use mainstay_core::message::{Ack, Open, Reason, Refuse};
use mainstay_core::names::{TargetId, Work, WorkerId};
use mainstay_core::site::{Action, Event, WorkerState};
use mainstay_core::time::{Duration, Time};
use std::collections::{BTreeMap, VecDeque};

/// What is told with a refusal; its clients have their own pause.
const RETRY_AFTER: Duration = Duration::from_millis(500);

#[derive(Clone, Debug)]
struct Worker {
    id: WorkerId,
    target: TargetId,
    capacity: CostRate,
    streams: u32,
    running: u32,
    /// It is given its next work then: what it was given fills its capacity up to here.
    free: Time,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    work: Work,
    cost: CostUnits,
}

#[derive(Clone, Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    cost: CostUnits,
}

/// The machine, in place of `core::site::Site`.
#[derive(Clone, Debug)]
pub struct NaiveSite {
    config: SiteConfig,
    workers: BTreeMap<WorkerId, Worker>,
    queues: BTreeMap<TargetId, Queue>,
    running: BTreeMap<Work, WorkerId>,
}

impl NaiveSite {
    /// A controller that starts now. It has no use for epoch and seed: it grants nothing and
    /// chooses nothing by chance.
    pub fn new(config: SiteConfig, _now: Time, _epoch: u32, _seed: u64) -> NaiveSite {
        NaiveSite {
            config,
            workers: BTreeMap::new(),
            queues: BTreeMap::new(),
            running: BTreeMap::new(),
        }
    }

    /// Takes one event and says what follows.
    pub fn handle(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Open(open) => self.open(&open, actions),
            Event::Ended { work, .. } => self.free(&work),
            Event::Lost(work) | Event::Moving { work, .. } => {
                if self.running.contains_key(&work) {
                    self.free(&work);
                    actions.push(refuse(work, Reason::NoWorker));
                }
            }
            Event::Worker { worker, state } => self.worker(now, worker, state, actions),
            // Work of a client that left is done all the same; it grants nothing, obeys nobody.
            Event::Cancel(_)
            | Event::Report { .. }
            | Event::FirstToken { .. }
            | Event::Prefix { .. }
            | Event::Cached { .. }
            | Event::Emptied(_)
            | Event::Described { .. }
            | Event::Orders(_)
            | Event::Leave
            | Event::Adopt { .. }
            | Event::Tick => {}
        }
        self.dispatch(now, actions);
    }

    /// When to call again, and what for.
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        let has_work = |worker: &&Worker| {
            worker.running < worker.streams
                && self.queues.get(&worker.target).is_some_and(|queue| !queue.waiting.is_empty())
        };
        let free = self.workers.values().filter(has_work).map(|worker| worker.free).min();
        free.map(|at| (at, "a worker takes its next"))
    }

    /// What it decides by.
    pub fn config(&self) -> &SiteConfig {
        &self.config
    }

    /// What its health endpoint says now: bad without workers, and bad when the work that waits
    /// takes long.
    pub fn is_healthy(&self, _now: Time) -> bool {
        !self.workers.is_empty()
            && self.queues.keys().all(|target| self.queue_time(*target) <= QUEUE_BAD)
    }

    /// Attempts that wait, of all models.
    pub fn queued(&self) -> usize {
        self.queues.values().map(|queue| queue.waiting.len()).sum()
    }

    fn open(&mut self, open: &Open, actions: &mut Vec<Action>) {
        let capacity = self.capacity(open.target);
        if capacity == CostRate::ZERO {
            return actions.push(refuse(open.work, Reason::NoWorker));
        }
        let ttft = self.queue_time(open.target);
        let queue = self.queues.entry(open.target).or_default();
        if queue.cost + open.cost > capacity.over(QUEUE_MAX) {
            return actions.push(refuse(open.work, Reason::Overloaded));
        }
        queue.cost += open.cost;
        queue.waiting.push_back(Waiting { work: open.work, cost: open.cost });
        let (attempt, queued) = (open.work.attempt, queue.waiting.len() > 1);
        let ack = Ack { attempt, queued, ttft };
        actions.push(Action::Ack { to: open.work.from, ack });
    }

    fn dispatch(&mut self, now: Time, actions: &mut Vec<Action>) {
        for (target, queue) in &mut self.queues {
            while let Some(next) = queue.waiting.front() {
                let has_room = |worker: &&mut Worker| {
                    worker.target == *target
                        && worker.free <= now
                        && worker.running < worker.streams
                };
                let idlest = |worker: &&mut Worker| (worker.running, worker.free);
                let free = self.workers.values_mut().filter(has_room).min_by_key(idlest);
                let Some(worker) = free else { break };
                worker.running += 1;
                worker.free = worker.free.max(now) + taken(next.cost, worker.capacity);
                self.running.insert(next.work, worker.id);
                actions.push(Action::Dispatch { work: next.work, worker: worker.id });
                queue.cost -= next.cost;
                queue.waiting.pop_front();
            }
        }
    }

    fn worker(&mut self, now: Time, id: WorkerId, state: WorkerState, actions: &mut Vec<Action>) {
        match state {
            WorkerState::Up { target, capacity, streams, .. } => {
                let (free, running) = (now, 0);
                let new = Worker { id, target, capacity, streams, running, free };
                let worker = self.workers.entry(id).or_insert(new);
                (worker.target, worker.capacity, worker.streams) = (target, capacity, streams);
            }
            WorkerState::Down => {
                self.workers.remove(&id);
                let lost: Vec<Work> = self
                    .running
                    .iter()
                    .filter(|(_, at)| **at == id)
                    .map(|(work, _)| *work)
                    .collect();
                for work in lost {
                    self.running.remove(&work);
                    actions.push(refuse(work, Reason::NoWorker));
                }
            }
        }
    }

    fn free(&mut self, work: &Work) {
        if let Some(id) = self.running.remove(work)
            && let Some(worker) = self.workers.get_mut(&id)
        {
            worker.running = worker.running.saturating_sub(1);
        }
    }

    fn capacity(&self, target: TargetId) -> CostRate {
        let of = self.workers.values().filter(|worker| worker.target == target);
        of.map(|worker| worker.capacity).sum()
    }

    /// How long a newcomer would wait, by the work before it.
    fn queue_time(&self, target: TargetId) -> Duration {
        let Some(queue) = self.queues.get(&target) else { return Duration::ZERO };
        taken(queue.cost, self.capacity(target))
    }
}

/// How long this much work takes.
fn taken(cost: CostUnits, capacity: CostRate) -> Duration {
    if capacity == CostRate::ZERO {
        return QUEUE_MAX;
    }
    Duration::from_micros(cost.0.saturating_mul(1_000_000) / capacity.0)
}

fn refuse(work: Work, reason: Reason) -> Action {
    let attempt = work.attempt;
    let refuse = Refuse { attempt, reason, retry_after: RETRY_AFTER, cut: false };
    Action::Refuse { to: work.from, refuse }
}
