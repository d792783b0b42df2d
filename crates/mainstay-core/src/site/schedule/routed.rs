//! What a router of the cache-aware kind thinks that workers have cached: a tree of its own for
//! each, of the prompts that it sent there. It is cut to its size now and then, least recently used
//! first, and never hears what a worker in fact has.

use crate::names::WorkerId;
use crate::time::{Duration, Time};
use alloc::collections::{BTreeMap, BTreeSet};

/// Nodes of one worker's tree: a block of a prompt here, a branch of text in the published code.
const NODES: usize = 10_000;
/// Trees are cut this often.
const CUT_EVERY: Duration = Duration::from_secs(30);

/// All trees of a router.
#[derive(Debug, Default)]
pub struct Routed {
    trees: BTreeMap<WorkerId, Tree>,
    cut: Time,
    uses: u64,
}

/// One worker's: when each node was used last.
#[derive(Debug, Default)]
struct Tree {
    nodes: BTreeMap<u64, u64>,
    by_use: BTreeSet<(u64, u64)>,
}

impl Routed {
    /// Leading keys that a worker is thought to have, and how many it has in all.
    pub fn of(&self, worker: WorkerId, keys: &[u64]) -> (u32, u32) {
        let Some(tree) = self.trees.get(&worker) else { return (0, 0) };
        let matched = keys.iter().take_while(|key| tree.nodes.contains_key(key)).count();
        (matched as u32, tree.nodes.len() as u32)
    }

    /// A prompt is sent to a worker.
    pub fn sent(&mut self, now: Time, worker: WorkerId, keys: &[u64]) {
        let tree = self.trees.entry(worker).or_default();
        for key in keys {
            self.uses += 1;
            if let Some(before) = tree.nodes.insert(*key, self.uses) {
                tree.by_use.remove(&(before, *key));
            }
            tree.by_use.insert((self.uses, *key));
        }
        if now.since(self.cut) >= CUT_EVERY {
            self.cut = now;
            self.trees.values_mut().for_each(Tree::cut);
        }
    }

    /// A worker begins another life: its tree is empty.
    pub fn begins(&mut self, worker: WorkerId) {
        self.trees.remove(&worker);
    }
}

impl Tree {
    fn cut(&mut self) {
        while self.nodes.len() > NODES
            && let Some((_, key)) = self.by_use.pop_first()
        {
            self.nodes.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn a_tree_is_what_was_sent_cut_to_its_size_now_and_then() {
        let (mut routed, worker) = (Routed::default(), WorkerId(3));
        let at = |seconds: u64| Time::from_micros(seconds * 1_000_000);
        let keys: Vec<u64> = (1..=12_000).collect();
        routed.sent(at(1), worker, &keys);
        assert_eq!(routed.of(worker, &keys), (12_000, 12_000), "until it is cut");
        routed.sent(at(31), worker, &[1, 2]);
        assert_eq!(routed.of(worker, &keys), (2, 10_000), "the oldest are gone");
        assert_eq!(routed.of(WorkerId(4), &keys), (0, 0));
        routed.begins(worker);
        assert_eq!(routed.of(worker, &keys), (0, 0));
    }
}
