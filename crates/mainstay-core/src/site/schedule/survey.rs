//! What the workers could do for an attempt, before it is one's turn: how much of it is cached
//! somewhere, the shortest prefill, the earliest first token, and how fast all of them work.

use super::kv_index::Matches;
use super::profile::{Profile, duration};
use super::worker::{Order, Verdict, Worker};
use super::{Life, Scheduler};
use crate::names::{Work, WorkerId};
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// No prefill takes longer, in milliseconds: a number where no worker is left.
const PREFILL_MAX: f64 = 1e9;
/// How fast all workers are is summed up so often: paces change by little with each leg.
const RATE_EVERY: Duration = Duration::from_millis(100);

/// What there is for one attempt.
#[derive(Clone, Copy, Debug)]
pub struct Survey {
    /// Tokens of the longest match anywhere,
    pub matched: u32,
    /// and of the longest that is believed.
    pub believed: u32,
    /// The shortest prefill that any worker gives,
    pub prefill: Duration,
    /// the earliest first token in milliseconds, likely,
    pub ttft: f64,
    /// and optimistic.
    pub ttft_10: f64,
}

impl Scheduler {
    pub(super) fn survey(&mut self, now: Time, life: &Life) -> Survey {
        self.look_up(life.attempt.work, &life.attempt.keys);
        let matches = &self.matches;
        let block = life.block(&self.settings);
        let matched = matches.longest().saturating_mul(block);
        let (mut prefill, mut ttft, mut ttft_10) = (PREFILL_MAX, f64::MAX, f64::MAX);
        let mut most = 0;
        for id in self.chosen(now, matches, life.attempt.work.attempt.request.0) {
            let Some(worker) = self.workers.get(&id) else { continue };
            let believed = worker.believed(matches.of(worker.slot).saturating_mul(block));
            most = most.max(believed);
            let cost = life.asked.on(worker, now, life.hit(worker, believed), 0.0);
            prefill = prefill.min(cost.prefill);
            ttft = ttft.min(cost.ttft);
            ttft_10 = ttft_10.min(cost.ttft * worker.pace.quantiles(0).q10);
        }
        Survey { matched, believed: most, prefill: duration(prefill), ttft, ttft_10 }
    }

    /// Who holds the beginning of a prompt.
    pub(super) fn look_up(&mut self, work: Work, keys: &[u64]) {
        let when = Some((work, self.index.changes()));
        if self.matched != when {
            self.index.matches(keys, &mut self.matches);
            self.matched = when;
        }
    }

    /// Few of many: those with the longest prefixes, those with room, one by chance.
    pub(super) fn chosen(&self, now: Time, matches: &Matches, seed: u64) -> Vec<WorkerId> {
        let few = self.settings.candidates;
        if self.workers.len() <= 4 * few {
            return self.workers.keys().collect();
        }
        let mut chosen: Vec<WorkerId> = Vec::with_capacity(2 * few + 1);
        chosen.extend(matches.holders().filter_map(|slot| self.index.worker(slot)).take(few));
        let free = self.rooms.iter().take_while(|(at, _)| *at <= now).take(few);
        chosen.extend(free.map(|(_, worker)| *worker));
        // Names are given in turn: one drawn among them is there, or the next.
        let last = self.workers.last().map_or(0, |id| u64::from(id.0));
        let drawn = WorkerId((seed % (last + 1)) as u16);
        chosen.extend(self.workers.range(drawn..).next().map(|(id, _)| id));
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }

    /// Tokens of its prompt that a worker holds.
    pub(super) fn matched(&self, matches: &Matches, of: (&Worker, u32)) -> u32 {
        matches.of(of.0.slot).saturating_mul(of.1)
    }

    /// What work is counted in: the first worker's coefficients.
    pub(super) fn reference(&self) -> Profile {
        let first = self.workers.values().next().map(|worker| worker.profile);
        // Callers have seen a worker.
        first.unwrap_or_default()
    }

    /// What all of them get done in a millisecond, in the units of what waits.
    pub(super) fn rate_of_all(&mut self, now: Time) -> f64 {
        let (at, rate) = self.rate;
        if rate > 0.0 && now.since(at) < RATE_EVERY {
            return rate;
        }
        let usable = self
            .workers
            .values()
            .filter(|worker| worker.order == Order::Active && worker.verdict == Verdict::Up);
        let rate: f64 = usable.map(Worker::rate).sum();
        self.rate = (now, rate);
        rate
    }
}
