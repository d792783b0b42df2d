//! KV blocks of one engine: those its sequences use, and those kept for their prefixes.
//!
//! As in vLLM: a block that nobody uses stays until its room is needed; the least recently used
//! leaves first, and of one prompt the last block before the first.

use std::collections::{BTreeMap, HashMap};

/// One block that has a key.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// Sequences that use it.
    users: u32,
    /// When it was left last, in an order of its own; its place in `idle`.
    left: u64,
}

/// The blocks.
#[derive(Debug)]
pub struct Cache {
    room: u32,
    keyed: HashMap<u64, Block>,
    /// Keyed blocks that nobody uses, by when they were left.
    idle: BTreeMap<u64, u64>,
    /// Blocks in use that have no key: of answers, of unfinished prompts, and copies.
    own: u32,
    clock: u64,
    /// Keys that came and went since this was asked last.
    stored: Vec<u64>,
    removed: Vec<u64>,
}

impl Cache {
    /// Empty, for so many blocks.
    pub fn new(room: u32) -> Cache {
        Cache {
            room,
            keyed: HashMap::new(),
            idle: BTreeMap::new(),
            own: 0,
            clock: 0,
            stored: Vec::new(),
            removed: Vec::new(),
        }
    }

    /// How many leading keys it holds.
    pub fn matches(&self, keys: &[u64]) -> usize {
        keys.iter().take_while(|key| self.keyed.contains_key(key)).count()
    }

    /// Blocks that are in use.
    pub fn used(&self) -> u32 {
        self.own + (self.keyed.len() - self.idle.len()) as u32
    }

    /// Uses these blocks, which it holds.
    pub fn pin(&mut self, keys: &[u64]) {
        for key in keys {
            if let Some(block) = self.keyed.get_mut(key) {
                if block.users == 0 {
                    self.idle.remove(&block.left);
                }
                block.users += 1;
            }
        }
    }

    /// Leaves them; they stay as long as there is room.
    pub fn unpin(&mut self, keys: &[u64]) {
        // Last block first: a chain leaves from its leaf.
        for key in keys.iter().rev() {
            let Some(block) = self.keyed.get_mut(key) else { continue };
            block.users -= 1;
            if block.users == 0 {
                self.clock += 1;
                block.left = self.clock;
                self.idle.insert(self.clock, *key);
            }
        }
    }

    /// Takes so many blocks without a key, from those that nobody uses if need be; `false`, and
    /// nothing is taken, if there are not so many.
    pub fn take(&mut self, blocks: u32) -> bool {
        if self.used() + blocks > self.room {
            return false;
        }
        self.own += blocks;
        while self.own + self.keyed.len() as u32 > self.room
            && let Some((_, key)) = self.idle.pop_first()
        {
            self.keyed.remove(&key);
            self.removed.push(key);
        }
        true
    }

    /// Gives blocks without a key back.
    pub fn give(&mut self, blocks: u32) {
        self.own -= blocks;
    }

    /// One of a sequence's own blocks is computed and gets a key, which others find from now on;
    /// `false` if it is there already, and the sequence's remains its own.
    pub fn publish(&mut self, key: u64) -> bool {
        if self.keyed.contains_key(&key) {
            return false;
        }
        self.keyed.insert(key, Block { users: 1, left: 0 });
        self.own -= 1;
        self.stored.push(key);
        true
    }

    /// Keys that came, and that went, since this was asked last.
    pub fn news(&mut self) -> (Vec<u64>, Vec<u64>) {
        // A key that came and went, or went and came, is told as it is now.
        let stored: Vec<u64> = std::mem::take(&mut self.stored);
        let removed: Vec<u64> = std::mem::take(&mut self.removed);
        let is_there = |key: &u64| self.keyed.contains_key(key);
        (
            stored.into_iter().filter(is_there).collect(),
            removed.into_iter().filter(|key| !is_there(key)).collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Cache {
        /// Blocks in all, used and kept: never more than there is room for.
        pub fn held(&self) -> u32 {
            self.own + self.keyed.len() as u32
        }
    }

    #[test]
    fn what_nobody_uses_stays_until_its_room_is_needed_and_leaves_leaf_first() {
        let mut cache = Cache::new(4);
        assert!(cache.take(3));
        for key in [1, 2, 3] {
            assert!(cache.publish(key));
        }
        cache.unpin(&[1, 2, 3]);
        assert_eq!((cache.used(), cache.held(), cache.matches(&[1, 2, 3])), (0, 3, 3));
        assert!(cache.take(2));
        assert_eq!(cache.matches(&[1, 2, 3]), 2, "3 has left");
        assert_eq!(cache.news(), (vec![1, 2], vec![3]));
        cache.pin(&[1, 2]);
        assert!(!cache.take(1), "two are used, and two are taken");
        cache.give(2);
        assert!(cache.take(2));
    }
}
