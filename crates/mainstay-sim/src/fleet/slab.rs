//! Things that come and go by the hundred thousand, each with a small name that is never reused.

/// Names one thing in a slab: its slot, and which thing of that slot it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Where.
    pub slot: u32,
    /// Counts the things that were there.
    pub turn: u32,
}

/// Holds things under keys; finding one is indexing an array.
#[derive(Debug)]
pub struct Slab<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Keeps `thing`.
    pub fn put(&mut self, thing: T) -> Key {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() as u32 - 1
        });
        let (turn, place) = &mut self.slots[slot as usize];
        *turn += 1;
        *place = Some(thing);
        Key { slot, turn: *turn }
    }

    /// What is kept under `key`, if it is still there.
    pub fn get(&self, key: Key) -> Option<&T> {
        let (turn, thing) = self.slots.get(key.slot as usize)?;
        thing.as_ref().filter(|_| *turn == key.turn)
    }

    /// See `get`.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (turn, thing) = self.slots.get_mut(key.slot as usize)?;
        thing.as_mut().filter(|_| *turn == key.turn)
    }

    /// Takes it out.
    pub fn take(&mut self, key: Key) -> Option<T> {
        let (turn, thing) = self.slots.get_mut(key.slot as usize)?;
        if *turn != key.turn {
            return None;
        }
        let taken = thing.take()?;
        self.free.push(key.slot);
        Some(taken)
    }

    /// Everything that is there, by slots.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().enumerate().filter_map(|(slot, (turn, thing))| {
            thing.as_ref().map(|thing| (Key { slot: slot as u32, turn: *turn }, thing))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_is_used_again_has_another_name() {
        let mut slab = Slab::default();
        let first = slab.put('a');
        assert_eq!(slab.take(first), Some('a'));
        let second = slab.put('b');
        assert_eq!((first.slot, slab.get(first)), (second.slot, None));
        assert_eq!((slab.get(second), slab.iter().count()), (Some(&'b'), 1));
    }
}
