//! What a worker holds that does not tell: what it was given last, as many prompts as it has
//! answers open at once.
//!
//! Engines keep what they computed last. Whether that holds is seen from what answers say was
//! cached; where it does not, it is not believed any more, until it does (`site/trust`).

use super::kv_index::{Held, KvIndex, Slot};
use alloc::collections::VecDeque;
use alloc::sync::Arc;

/// Prompts remembered of one worker, however many answers it has open.
const PROMPTS_MAX: usize = 1024;

/// The prompts of one worker, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    prompts: VecDeque<Arc<[u64]>>,
    most: usize,
}

impl Recent {
    /// It has so many answers open at once. With few at once it holds what it held.
    pub fn streams(&mut self, streams: u32) {
        self.most = self.most.max((streams as usize).clamp(1, PROMPTS_MAX));
    }

    /// It is given a prompt with these keys, and will hold all of it.
    pub fn given(&mut self, keys: &Arc<[u64]>, (index, slot): (&mut KvIndex, Slot)) {
        if keys.is_empty() {
            return;
        }
        // What goes on with a prompt takes its place.
        self.prompts.retain(|before| common(before, keys) < before.len());
        for key in keys.iter() {
            index.store(slot, *key, Held::Stored);
        }
        self.prompts.push_back(keys.clone());
        while self.prompts.len() > self.most {
            let Some(oldest) = self.prompts.pop_front() else { break };
            self.forget(&oldest, 0, (index, slot));
        }
    }

    /// What it was given with these keys it does not hold after all, but for so many of them.
    pub fn cut(&mut self, of: (&Arc<[u64]>, usize), (index, slot): (&mut KvIndex, Slot)) {
        let (keys, kept) = (of.0, of.1.min(of.0.len()));
        let Some(at) = self.prompts.iter().rposition(|prompt| prompt == keys) else { return };
        self.prompts.remove(at);
        self.forget(keys, kept, (index, slot));
        if kept > 0 {
            self.prompts.insert(at, keys[..kept].into());
        }
    }

    /// Keys of a prompt that is not here any more, behind the first ones and what others have too.
    fn forget(&self, prompt: &[u64], kept: usize, (index, slot): (&mut KvIndex, Slot)) {
        let shared = self.prompts.iter().map(|other| common(other, prompt)).max();
        for key in &prompt[shared.unwrap_or(0).max(kept)..] {
            index.remove(slot, *key, Held::Stored);
        }
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
    use super::super::kv_index::Matches;
    use super::*;
    use crate::names::WorkerId;
    use crate::rng::{Rng, mix};
    use alloc::vec::Vec;

    /// So many blocks of one conversation, which begins with `system` blocks that all have.
    fn turn(conversation: u64, system: u64, blocks: u64) -> Arc<[u64]> {
        let mut key = 1;
        let next = |at| {
            key = mix(key, if at < system { 7 } else { conversation });
            key
        };
        (0..blocks).map(next).collect()
    }

    struct Known {
        index: KvIndex,
        slot: Slot,
        recent: Recent,
    }

    impl Known {
        fn new(streams: u32) -> Known {
            let mut index = KvIndex::default();
            let slot = index.begin(WorkerId(0));
            let mut recent = Recent::default();
            recent.streams(streams);
            Known { index, slot, recent }
        }

        fn give(&mut self, keys: &Arc<[u64]>) {
            self.recent.given(keys, (&mut self.index, self.slot));
        }

        fn holds(&mut self, keys: &[u64]) -> u32 {
            let mut matches = Matches::default();
            self.index.matches(keys, &mut matches);
            matches.of(self.slot)
        }
    }

    #[test]
    fn only_as_many_prompts_count_as_a_worker_has_answers_and_what_they_share_stays() {
        let mut known = Known::new(2);
        (1..=3).for_each(|conversation| known.give(&turn(conversation, 2, 5)));
        assert_eq!(known.holds(&turn(1, 2, 5)), 2, "the first is gone");
        assert_eq!(known.holds(&turn(2, 2, 5)), 5);
        // A longer turn takes the place of the shorter one, not of another conversation.
        known.give(&turn(3, 2, 9));
        assert_eq!(known.holds(&turn(2, 2, 5)), 5);
        assert_eq!(known.holds(&turn(3, 2, 9)), 9);
    }

    #[test]
    fn the_view_holds_what_was_given_last_whatever_came_before() {
        for seed in 0..30 {
            let (mut rng, mut known) = (Rng::new(seed), Known::new(3));
            let mut lasts: Vec<Arc<[u64]>> = Vec::new();
            for number in 1..400 {
                let keys = turn(rng.below(8), rng.below(3), 1 + rng.below(9));
                known.give(&keys);
                lasts.retain(|old| !keys.starts_with(old));
                lasts.push(keys);
                if lasts.len() > 3 {
                    lasts.remove(0);
                }
                let probe = turn(rng.below(8), rng.below(3), 1 + rng.below(9));
                let longest = lasts.iter().map(|old| common(old, &probe)).max().unwrap_or(0);
                assert_eq!(known.holds(&probe), longest as u32, "seed {seed}, prompt {number}");
            }
        }
    }
}
