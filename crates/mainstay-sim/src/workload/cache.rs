//! What a prefix cache would hold: blocks named by hashes that include all before them.

use std::collections::{BTreeMap, HashMap};

/// A prefix cache of whole blocks, the least recently used one leaving first.
#[derive(Clone, Debug, Default)]
pub struct Prefixes {
    room: Option<usize>,
    used: HashMap<u64, u64>,
    order: BTreeMap<u64, u64>,
    clock: u64,
}

impl Prefixes {
    /// An empty cache for so many blocks; `None` is without end.
    pub fn new(room: Option<usize>) -> Prefixes {
        Prefixes { room, ..Prefixes::default() }
    }

    /// How many leading blocks of `chain` it holds; then it holds all of them.
    pub fn ask(&mut self, chain: &[u64]) -> usize {
        let hits = chain.iter().take_while(|block| self.used.contains_key(block)).count();
        // Last block first: a chain leaves from its leaf.
        for block in chain.iter().rev() {
            self.clock += 1;
            if let Some(before) = self.used.insert(*block, self.clock) {
                self.order.remove(&before);
            }
            self.order.insert(self.clock, *block);
        }
        while self.room.is_some_and(|room| self.used.len() > room)
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.used.remove(&oldest);
        }
        hits
    }

    /// Blocks it holds.
    pub fn len(&self) -> usize {
        self.used.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_leaf_leaves_first() {
        let mut cache = Prefixes::new(Some(3));
        assert_eq!(cache.ask(&[1, 2]), 0);
        assert_eq!(cache.ask(&[1, 3]), 1);
        assert_eq!(cache.ask(&[4]), 0);
        assert_eq!(cache.len(), 3);
        assert_eq!(cache.ask(&[1, 3]), 2, "2 has left");
    }
}
