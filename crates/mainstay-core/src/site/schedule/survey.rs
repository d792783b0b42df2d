//! What the workers could do for an attempt, before it is one's turn: how much of it is cached
//! somewhere, the shortest prefill, the earliest first token, and how fast all of them work.

use super::kv_index::{KvIndex, Matches};
use super::profile::{Profile, duration, millis};
use super::settings::Policy;
use super::worker::{Order, Verdict, Worker};
use super::{Life, Scheduler};
use crate::names::{Work, WorkerId};
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// No prefill takes longer, in milliseconds: a number where no worker is left.
const PREFILL_MAX: f64 = 1e9;
/// How fast all workers are is summed up so often: paces change by little with each leg.
const RATE_EVERY: Duration = Duration::from_millis(100);

/// Who holds the beginning of a prompt. Nothing is looked for twice.
pub(super) fn look_up(
    index: &KvIndex,
    (work, keys): (Work, &[u64]),
    (matches, matched): (&mut Matches, &mut Option<(Work, u64)>),
) {
    let when = Some((work, index.changes()));
    if *matched != when {
        index.matches(keys, matches);
        *matched = when;
    }
}

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
        let (work, keys) = (life.attempt.work, &life.attempt.keys);
        look_up(&self.index, (work, keys), (&mut self.matches, &mut self.matched));
        let longest = self.matches.longest().saturating_mul(life.block(&self.settings));
        let all = self.offered(now, life, (self.place_in_line(life), false));
        let mut survey = Survey {
            matched: longest,
            believed: 0,
            prefill: duration(PREFILL_MAX),
            ttft: f64::MAX,
            ttft_10: f64::MAX,
        };
        let mut prefill = PREFILL_MAX;
        for each in &all {
            let Some(worker) = self.workers.get(&each.id) else { continue };
            let ttft = each.cost.ttft - each.held;
            survey.believed = survey.believed.max(each.believed);
            prefill = prefill.min(each.cost.prefill);
            survey.ttft = survey.ttft.min(ttft);
            survey.ttft_10 = survey.ttft_10.min(ttft * worker.pace.quantiles(0).q10);
        }
        survey.prefill = duration(prefill);
        self.keep_offers(now, work, all);
        survey
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
        if self.settings.policy == Policy::Site {
            // Thousandths a second.
            return millis(self.strength.carries(now).0);
        }
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
