//! A map for what comes and goes by the thousand and is looked up many times for each event:
//! requests at a gateway, attempts at a site. Finding one costs the same however many there are.
//!
//! Open addressing with linear probing (Knuth, volume 3, section 6.4). Whoever goes through it
//! does so in the order of keys, never in that of hashes, so that a run repeats itself.

use alloc::vec::Vec;
use core::fmt;
use core::hash::{Hash, Hasher};

/// Places of the first table.
const PLACES: usize = 16;

/// The map.
#[derive(Clone)]
pub struct Table<K, V> {
    /// Positions in `slots`, and one more; 0 is a free place. A power of two of them, at most half
    /// of which are taken.
    places: Vec<u32>,
    slots: Vec<Option<(K, V)>>,
    free: Vec<u32>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Table<K, V> {
        Table { places: alloc::vec![0; PLACES], slots: Vec::new(), free: Vec::new() }
    }
}

impl<K: Copy + Ord + Hash, V> Table<K, V> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The one under this key.
    pub fn get(&self, key: &K) -> Option<&V> {
        let slot = self.places[self.find(key)?] - 1;
        self.slots[slot as usize].as_ref().map(|(_, value)| value)
    }

    /// See `get`.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let slot = self.places[self.find(key)?] - 1;
        self.slots[slot as usize].as_mut().map(|(_, value)| value)
    }

    /// Keeps it, in place of one before under this key.
    pub fn insert(&mut self, key: K, value: V) {
        if let Some(known) = self.get_mut(&key) {
            *known = value;
            return;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize] = Some((key, value));
        if self.len() * 2 > self.places.len() {
            self.grow();
        } else {
            self.place(&key, slot);
        }
    }

    /// Takes it out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.find(key)?;
        let slot = self.places[place] - 1;
        self.close_gap(place);
        self.free.push(slot);
        self.slots[slot as usize].take().map(|(_, value)| value)
    }

    /// All of them, for questions that do not depend on an order.
    pub fn each(&self) -> impl Iterator<Item = (K, &V)> {
        self.slots.iter().flatten().map(|(key, value)| (*key, value))
    }

    /// All of them, in the order of their keys.
    pub fn sorted(&self) -> Vec<(K, &V)> {
        let there = self.slots.iter().flatten();
        let mut all: Vec<(K, &V)> = there.map(|(key, value)| (*key, value)).collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all
    }

    fn find(&self, key: &K) -> Option<usize> {
        let mut place = self.home(key);
        while let slot @ 1.. = self.places[place] {
            let known = self.slots[slot as usize - 1].as_ref();
            if known.is_some_and(|(known, _)| known == key) {
                return Some(place);
            }
            place = self.after(place);
        }
        None
    }

    fn place(&mut self, key: &K, slot: u32) {
        let mut place = self.home(key);
        while self.places[place] != 0 {
            place = self.after(place);
        }
        self.places[place] = slot + 1;
    }

    fn grow(&mut self) {
        self.places = alloc::vec![0; self.places.len() * 2];
        for slot in 0..self.slots.len() {
            if let Some((key, _)) = &self.slots[slot] {
                let key = *key;
                self.place(&key, slot as u32);
            }
        }
    }

    /// Frees a place; what was pushed on by what stood there moves back.
    fn close_gap(&mut self, mut gap: usize) {
        let mut place = gap;
        loop {
            self.places[gap] = 0;
            place = self.after(place);
            let Some(slot) = self.places[place].checked_sub(1) else { return };
            let Some((key, _)) = &self.slots[slot as usize] else { return };
            let home = self.home(key);
            let mask = self.places.len() - 1;
            // It may move if its home is not behind the gap, going round.
            if place.wrapping_sub(home) & mask >= place.wrapping_sub(gap) & mask {
                self.places[gap] = slot + 1;
                gap = place;
            }
        }
    }

    fn home(&self, key: &K) -> usize {
        let mut mix = Mix(0);
        key.hash(&mut mix);
        // The high bits of a product depend on all bits of what was multiplied.
        (mix.0 >> 32) as usize & (self.places.len() - 1)
    }

    fn after(&self, place: usize) -> usize {
        (place + 1) & (self.places.len() - 1)
    }
}

impl<K: Copy + Ord + Hash + fmt::Debug, V: fmt::Debug> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.sorted()).finish()
    }
}

/// A hasher for keys that are numbers of our own, the same on every machine.
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u64(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        // As the hasher of Firefox and of the Rust compiler does it.
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::RequestId;
    use crate::rng::Rng;
    use alloc::collections::BTreeMap;

    #[test]
    fn it_holds_what_an_ordered_map_holds_after_any_order_of_changes() {
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let (mut table, mut map) = (Table::default(), BTreeMap::new());
            for step in 0..2000u64 {
                let key = RequestId(rng.below(200) << rng.below(3));
                match rng.below(3) {
                    0 => assert_eq!(table.remove(&key), map.remove(&key), "seed {seed}"),
                    _ => {
                        table.insert(key, step);
                        map.insert(key, step);
                    }
                }
                let other = RequestId(rng.below(800));
                assert_eq!(table.get(&other), map.get(&other), "seed {seed}");
            }
            let all: Vec<_> = map.iter().map(|(key, value)| (*key, value)).collect();
            assert_eq!((table.sorted(), table.len()), (all, map.len()), "seed {seed}");
        }
    }
}
