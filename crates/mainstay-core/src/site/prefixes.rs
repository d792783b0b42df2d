//! What each worker of a pool holds of the prompts that come: a conversation's next turn begins
//! with all that was said before, and who has that computed already need not do it again.
//!
//! Engines keep what they computed last. Most of them do not tell, so what counts is what each was
//! given last: as many prompts as it has answers open at once. Whether that holds is seen from
//! what answers say was cached; where it does not, it is not believed any more, until it does.

use crate::cost::CostUnits;
use crate::names::{Work, WorkerId};
use crate::site::schedule::kv_index::{Held, KvIndex, Matches, Slot};
use crate::site::trust::Trust;
use crate::table::Table;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Prompts remembered of one worker, however many answers it has open.
const PROMPTS_MAX: usize = 1024;
/// Blocks of a prompt that are looked at: beyond them it is not worth more to be right.
const BLOCKS_MAX: usize = 4096;

/// What a prompt begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// A key for each of its blocks, which stands for all of the prompt up to there: equal keys,
    /// equal beginnings.
    pub keys: Arc<[u64]>,
    /// Tokens of a block,
    pub block: u32,
    /// and what one of them costs.
    pub token: CostUnits,
}

/// What workers hold of one prompt, as far as that is believed.
#[derive(Clone, Copy, Debug)]
pub struct Hits<'a> {
    tokens: &'a [(WorkerId, u32)],
    token: CostUnits,
}

impl Hits<'_> {
    /// Whether nobody holds any, or nothing is known.
    pub fn are_none(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Tokens that this worker holds.
    pub fn of(&self, worker: WorkerId) -> u32 {
        self.tokens.iter().find(|(id, _)| *id == worker).map_or(0, |(_, held)| *held)
    }

    /// What so many of them would have cost.
    pub fn saves(&self, tokens: u32) -> CostUnits {
        CostUnits(self.token.0.saturating_mul(tokens.into()))
    }
}

/// The view.
#[derive(Clone, Debug, Default)]
pub struct Prefixes {
    index: KvIndex,
    holders: BTreeMap<WorkerId, Holder>,
    /// Of the attempts that are here.
    asked: Table<Work, Prefix>,
    /// Kept for its memory.
    matches: Matches,
    hits: Vec<(WorkerId, u32)>,
}

/// What one worker was given.
#[derive(Clone, Debug)]
struct Holder {
    slot: Slot,
    trust: Trust,
    /// Its prompts, the oldest first.
    recent: VecDeque<Given>,
    /// So many of them.
    most: usize,
}

#[derive(Clone, Debug)]
struct Given {
    keys: Arc<[u64]>,
    work: Work,
    /// Tokens that it held of it before, believed or not.
    matched: u32,
}

impl Prefixes {
    /// A worker is there that has so many answers open at once; what it holds is not known.
    pub fn begin(&mut self, worker: WorkerId, streams: u32) {
        let most = (streams as usize).clamp(1, PROMPTS_MAX);
        if let Some(known) = self.holders.get_mut(&worker) {
            // With few legs at once it holds what it held.
            known.most = known.most.max(most);
            return;
        }
        let slot = self.index.begin(worker);
        let trust = Trust::default();
        self.holders.insert(worker, Holder { slot, trust, recent: VecDeque::new(), most });
    }

    /// It goes on, with empty caches.
    pub fn emptied(&mut self, worker: WorkerId) {
        let Some(most) = self.holders.get(&worker).map(|holder| holder.most) else { return };
        self.end(worker);
        self.begin(worker, most as u32);
    }

    /// It is gone, and its caches with it.
    pub fn end(&mut self, worker: WorkerId) {
        if let Some(holder) = self.holders.remove(&worker) {
            self.index.end(holder.slot);
        }
    }

    /// An attempt is here whose prompt begins like this.
    pub fn ask(&mut self, work: Work, mut prefix: Prefix) {
        if prefix.keys.len() > BLOCKS_MAX {
            prefix.keys = prefix.keys.iter().take(BLOCKS_MAX).copied().collect();
        }
        if !prefix.keys.is_empty() {
            self.asked.insert(work, prefix);
        }
    }

    /// It is not here any more.
    pub fn forget(&mut self, work: Work) {
        self.asked.remove(&work);
    }

    /// What workers hold of its prompt.
    pub fn hits(&mut self, work: Work) -> Hits<'_> {
        self.hits.clear();
        let Some(prefix) = self.asked.get(&work) else {
            return Hits { tokens: &[], token: CostUnits::ZERO };
        };
        self.index.matches(&prefix.keys, &mut self.matches);
        for (worker, holder) in &self.holders {
            let blocks = self.matches.of(holder.slot);
            let tokens = holder.trust.believed(blocks.saturating_mul(prefix.block));
            if tokens > 0 {
                self.hits.push((*worker, tokens));
            }
        }
        Hits { tokens: &self.hits, token: prefix.token }
    }

    /// A worker was given it: it will hold all of it.
    pub fn given(&mut self, work: Work, worker: WorkerId) {
        let Some(prefix) = self.asked.get(&work) else { return };
        let Some(holder) = self.holders.get_mut(&worker) else { return };
        self.index.matches(&prefix.keys, &mut self.matches);
        let matched = self.matches.of(holder.slot).saturating_mul(prefix.block);
        let keys = prefix.keys.clone();
        // What goes on with a prompt takes its place.
        holder.recent.retain(|before| common(&before.keys, &keys) < before.keys.len());
        for key in keys.iter() {
            self.index.store(holder.slot, *key, Held::Stored);
        }
        holder.recent.push_back(Given { keys, work, matched });
        while holder.recent.len() > holder.most {
            let Some(oldest) = holder.recent.pop_front() else { break };
            let kept = holder.recent.iter().map(|other| common(&other.keys, &oldest.keys));
            let kept = kept.max().unwrap_or(0);
            for key in &oldest.keys[kept..] {
                self.index.remove(holder.slot, *key, Held::Stored);
            }
        }
    }

    /// The worker's answer says that so many tokens of the prompt were cached.
    pub fn told(&mut self, work: Work, worker: WorkerId, cached: u32) {
        let Some(holder) = self.holders.get_mut(&worker) else { return };
        if let Some(given) = holder.recent.iter().rev().find(|given| given.work == work) {
            holder.trust.measured(given.matched, cached);
        }
    }

    /// Bytes of the index, and prefixes held in it.
    pub fn size(&self) -> (usize, u64) {
        self.index.size()
    }
}

/// Leading keys that two prompts have in common: where one is equal, all before it are.
fn common(a: &[u64], b: &[u64]) -> usize {
    let all = a.len().min(b.len());
    let (mut low, mut high) = (0, all);
    while low < high {
        let middle = low + (high - low) / 2;
        if a[middle] == b[middle] { low = middle + 1 } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{AttemptId, GatewayId, RequestId};
    use crate::rng::{Rng, mix};

    const BLOCK: u32 = 500;

    fn work(number: u64) -> Work {
        let attempt = AttemptId { request: RequestId(number), number: 1 };
        Work { from: GatewayId(0), attempt }
    }

    /// So many blocks of one conversation, which begins with `system` blocks that all have.
    fn turn(conversation: u64, system: u64, blocks: u64) -> Prefix {
        let mut key = 1;
        let next = |at| {
            key = mix(key, if at < system { 7 } else { conversation });
            key
        };
        Prefix { keys: (0..blocks).map(next).collect(), block: BLOCK, token: CostUnits(1) }
    }

    fn with_workers(count: u16, streams: u32) -> Prefixes {
        let mut prefixes = Prefixes::default();
        (0..count).for_each(|id| prefixes.begin(WorkerId(id), streams));
        prefixes
    }

    fn give(prefixes: &mut Prefixes, number: u64, prefix: Prefix, worker: u16) {
        prefixes.ask(work(number), prefix);
        prefixes.given(work(number), WorkerId(worker));
        prefixes.forget(work(number));
    }

    fn hits(prefixes: &mut Prefixes, prefix: Prefix) -> Vec<(u16, u32)> {
        prefixes.ask(work(0), prefix);
        let found =
            prefixes.hits(work(0)).tokens.iter().map(|(worker, held)| (worker.0, *held)).collect();
        prefixes.forget(work(0));
        found
    }

    #[test]
    fn a_next_turn_is_found_where_the_one_before_was_answered() {
        let mut prefixes = with_workers(3, 4);
        give(&mut prefixes, 1, turn(10, 2, 6), 1);
        give(&mut prefixes, 2, turn(11, 2, 3), 2);
        let found = hits(&mut prefixes, turn(10, 2, 8));
        assert_eq!(found, [(1, 6 * BLOCK), (2, 2 * BLOCK)], "the common beginning, and all of it");
        assert_eq!(hits(&mut prefixes, turn(12, 0, 5)), []);
    }

    #[test]
    fn a_worker_that_went_holds_nothing_when_it_is_back() {
        let mut prefixes = with_workers(2, 4);
        give(&mut prefixes, 1, turn(10, 0, 6), 1);
        prefixes.end(WorkerId(1));
        assert_eq!(hits(&mut prefixes, turn(10, 0, 6)), []);
        prefixes.begin(WorkerId(1), 4);
        assert_eq!(hits(&mut prefixes, turn(10, 0, 6)), []);
        // A word of before changes nothing.
        prefixes.told(work(1), WorkerId(1), 500);
        give(&mut prefixes, 2, turn(10, 0, 6), 1);
        prefixes.emptied(WorkerId(1));
        assert_eq!(hits(&mut prefixes, turn(10, 0, 6)), []);
    }

    #[test]
    fn who_says_that_nothing_was_cached_is_not_believed_until_something_was() {
        let mut prefixes = with_workers(1, 4);
        for number in 1..30 {
            give(&mut prefixes, number, turn(10, 0, number + 1), 0);
            prefixes.told(work(number), WorkerId(0), 0);
        }
        assert_eq!(hits(&mut prefixes, turn(10, 0, 40)), []);
        for number in 30..60 {
            give(&mut prefixes, number, turn(10, 0, number + 1), 0);
            prefixes.told(work(number), WorkerId(0), number as u32 * BLOCK);
        }
        let found = hits(&mut prefixes, turn(10, 0, 70));
        assert!(found.len() == 1 && found[0].1 > 50 * BLOCK, "{found:?}");
    }

    #[test]
    fn only_as_many_prompts_count_as_a_worker_has_answers_and_what_they_share_stays() {
        let mut prefixes = with_workers(1, 2);
        for conversation in 1..=3 {
            give(&mut prefixes, conversation, turn(conversation, 2, 5), 0);
        }
        assert_eq!(hits(&mut prefixes, turn(1, 2, 5)), [(0, 2 * BLOCK)], "the first is gone");
        assert_eq!(hits(&mut prefixes, turn(2, 2, 5)), [(0, 5 * BLOCK)]);
        // A longer turn takes the place of the shorter one, not of another conversation.
        give(&mut prefixes, 4, turn(3, 2, 9), 0);
        assert_eq!(hits(&mut prefixes, turn(2, 2, 5)), [(0, 5 * BLOCK)]);
        assert_eq!(hits(&mut prefixes, turn(3, 2, 9)), [(0, 9 * BLOCK)]);
    }

    #[test]
    fn the_view_holds_what_was_given_last_whatever_came_before() {
        for seed in 0..30 {
            let (mut rng, mut prefixes) = (Rng::new(seed), with_workers(2, 3));
            let mut lasts: Vec<Vec<Prefix>> = alloc::vec![Vec::new(); 2];
            for number in 1..400 {
                let prefix = turn(rng.below(8), rng.below(3), 1 + rng.below(9));
                let worker = rng.below(2) as usize;
                give(&mut prefixes, number, prefix.clone(), worker as u16);
                let is_prefix = |old: &Prefix| prefix.keys.starts_with(&old.keys);
                lasts[worker].retain(|old| !is_prefix(old));
                lasts[worker].push(prefix);
                if lasts[worker].len() > 3 {
                    lasts[worker].remove(0);
                }
                let probe = turn(rng.below(8), rng.below(3), 1 + rng.below(9));
                let mut found = hits(&mut prefixes, probe.clone());
                found.sort_unstable();
                let longest = |lasts: &Vec<Prefix>| {
                    lasts.iter().map(|old| common(&old.keys, &probe.keys)).max().unwrap_or(0)
                };
                let wanted = lasts.iter().enumerate().map(|(at, all)| (at as u16, longest(all)));
                let wanted: Vec<_> = wanted
                    .filter(|(_, blocks)| *blocks > 0)
                    .map(|(at, blocks)| (at, blocks as u32 * BLOCK))
                    .collect();
                assert_eq!(found, wanted, "seed {seed}, prompt {number}");
            }
        }
    }
}
