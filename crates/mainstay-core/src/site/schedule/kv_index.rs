//! Which worker holds which prefixes: a table from keys of prefixes to the workers that have them.
//!
//! A key stands for a prompt's first n·512 tokens, so equal keys are equal prefixes, whatever the
//! block size of an engine. An entry has room for four holders in 16 bytes; what more workers hold
//! moves to a set of bits. A worker's life has a *slot*: a new life takes another slot, so that all
//! it held before is forgotten at once, and the old slot is swept when there is time.
//!
//! What we have just sent a worker counts as held before the worker says so: such *promised*
//! holders are marked, and lapse unless an event confirms them.

use crate::names::WorkerId;
use alloc::vec::Vec;

/// Holders in an entry itself.
const HOLDERS: usize = 4;
/// No holder.
const NONE: u16 = u16::MAX;
/// Bit of a holder that is only promised.
const PROMISED: u16 = 1 << 15;
/// In the first holder: the others are the position of a set of bits.
const WIDE: u16 = u16::MAX - 1;
/// A free place.
const FREE: u64 = 0;
/// Places of the first table.
const PLACES: usize = 64;

/// One life of one worker, in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

/// How a prefix is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The engine says so.
    Stored,
    /// We have sent it.
    Promised,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: u64,
    holders: [u16; HOLDERS],
}

const EMPTY: Entry = Entry { key: FREE, holders: [NONE; HOLDERS] };

/// Bits by slot.
type Bits = Vec<u64>;

/// Holders of a prefix that many have.
#[derive(Clone, Debug, Default)]
struct Wide {
    stored: Bits,
    promised: Bits,
}

/// Some slots.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Slots {
    Many(Bits),
    Few([u16; HOLDERS]),
}

impl Slots {
    fn has(&self, slot: usize) -> bool {
        match self {
            Slots::Many(bits) => has(bits, slot),
            Slots::Few(few) => few.iter().any(|each| *each != NONE && usize::from(*each) == slot),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Slots::Many(bits) => bits.iter().all(|bits| *bits == 0),
            Slots::Few(few) => few.iter().all(|slot| *slot == NONE),
        }
    }

    fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        let (bits, few): (&[u64], &[u16]) = match self {
            Slots::Many(bits) => (bits, &[]),
            Slots::Few(few) => (&[], few),
        };
        let of_word = |(word, bits): (usize, &u64)| {
            let bits = *bits;
            (0..64).filter(move |bit| bits & 1 << bit != 0).map(move |bit| (word * 64 + bit) as u16)
        };
        let many = bits.iter().enumerate().filter(|(_, bits)| **bits != 0).flat_map(of_word);
        many.chain(few.iter().copied().filter(|slot| *slot != NONE)).map(Slot)
    }
}

/// What a walk through the keys of a prompt found: those that hold at least so many of the leading
/// ones, fewest keys first. Each level is part of the one before.
#[derive(Clone, Debug, Default)]
pub struct Matches {
    levels: Vec<(u32, Slots)>,
}

impl Matches {
    /// Leading keys that this life holds.
    pub fn of(&self, slot: Slot) -> u32 {
        let is_in = |level: &&(u32, Slots)| level.1.has(usize::from(slot.0));
        self.levels.iter().rev().find(is_in).map_or(0, |(keys, _)| *keys)
    }

    /// The most that any holds.
    pub fn longest(&self) -> u32 {
        self.levels.last().map_or(0, |(keys, _)| *keys)
    }

    /// Who holds most, in the order of how much.
    pub fn holders(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..self.levels.len()).rev().flat_map(|at| {
            let longer = self.levels.get(at + 1);
            let is_new = move |slot: &Slot| {
                longer.is_none_or(|(_, longer)| !longer.has(usize::from(slot.0)))
            };
            self.levels[at].1.iter().filter(is_new)
        })
    }
}

/// The index.
#[derive(Clone, Debug)]
pub struct KvIndex {
    places: Vec<Entry>,
    /// Entries in use.
    used: usize,
    wide: Vec<Wide>,
    /// Sets of bits to use again.
    spare: Vec<u32>,
    /// The worker of each slot; none for one that is over.
    workers: Vec<Option<WorkerId>>,
    /// Slots of live workers.
    alive: Bits,
    /// Prefixes of each slot.
    held: Vec<u32>,
    changes: u64,
}

impl Default for KvIndex {
    fn default() -> KvIndex {
        KvIndex {
            places: alloc::vec![EMPTY; PLACES],
            used: 0,
            wide: Vec::new(),
            spare: Vec::new(),
            workers: Vec::new(),
            alive: Bits::new(),
            held: Vec::new(),
            changes: 0,
        }
    }
}

impl KvIndex {
    /// A worker begins a life, which holds nothing.
    pub fn begin(&mut self, worker: WorkerId) -> Slot {
        self.changes += 1;
        let over = |slot: &usize| self.workers[*slot].is_none() && self.held[*slot] == 0;
        let slot = (0..self.workers.len()).find(over).unwrap_or_else(|| {
            self.workers.push(None);
            self.held.push(0);
            self.workers.len() - 1
        });
        self.workers[slot] = Some(worker);
        set(&mut self.alive, slot);
        Slot(slot as u16)
    }

    /// A life is over: nothing of it counts any more.
    pub fn end(&mut self, slot: Slot) {
        self.changes += 1;
        self.workers[usize::from(slot.0)] = None;
        clear(&mut self.alive, usize::from(slot.0));
    }

    /// Prefixes that a life holds.
    pub fn held(&self, slot: Slot) -> u32 {
        self.held[usize::from(slot.0)]
    }

    /// A life holds this prefix.
    pub fn store(&mut self, slot: Slot, key: u64, how: Held) {
        self.changes += 1;
        let key = proper(key);
        if (self.used + 1) * 10 > self.places.len() * 7 {
            self.grow();
        }
        let place = self.place_of(key);
        if self.places[place].key == FREE {
            self.used += 1;
            self.places[place].key = key;
        }
        let mut holders = self.places[place].holders;
        if holders[0] == WIDE {
            self.store_wide(position(holders), slot, how);
            return;
        }
        let mark = if how == Held::Promised { PROMISED } else { 0 };
        if let Some(held) = holders.iter_mut().find(|held| is_of(**held, slot)) {
            // What is stored stays so, whatever is promised on top.
            *held &= slot.0 | mark;
        } else if let Some(free) = holders.iter_mut().find(|held| **held == NONE) {
            *free = slot.0 | mark;
            self.held[usize::from(slot.0)] += 1;
        } else {
            let at = self.widen(holders);
            holders = [WIDE, (at >> 16) as u16, at as u16, NONE];
            self.store_wide(at as usize, slot, how);
        }
        self.places[place].holders = holders;
    }

    /// A life holds it no more; or, if it was only promised, not after all.
    pub fn remove(&mut self, slot: Slot, key: u64, how: Held) {
        self.changes += 1;
        let Some(place) = self.find(proper(key)) else { return };
        let holders = &mut self.places[place].holders;
        if holders[0] == WIDE {
            let wide = &mut self.wide[position(*holders)];
            let bit = usize::from(slot.0);
            let was = has(&wide.stored, bit) || has(&wide.promised, bit);
            clear(&mut wide.promised, bit);
            if how == Held::Stored {
                clear(&mut wide.stored, bit);
            }
            self.held[bit] -= u32::from(was && !has(&wide.stored, bit));
            return;
        }
        let lapses =
            |held: &u16| is_of(*held, slot) && (how == Held::Stored || held & PROMISED != 0);
        let Some(at) = holders.iter().position(lapses) else { return };
        holders[at] = NONE;
        self.held[usize::from(slot.0)] -= 1;
        if holders.iter().all(|held| *held == NONE) {
            self.close_gap(place);
        }
    }

    /// How many leading keys each live worker holds.
    pub fn matches(&self, keys: &[u64], found: &mut Matches) {
        found.levels.clear();
        let mut stay: Option<Slots> = None;
        let mut walked = 0;
        for key in keys {
            let Some(place) = self.find(proper(*key)) else { break };
            let holders = self.places[place].holders;
            let left = match &stay {
                None => self.among_many(&self.alive, holders),
                Some(Slots::Many(bits)) => self.among_many(bits, holders),
                Some(Slots::Few(few)) => self.among_few(few, holders),
            };
            if let Some(before) = stay.filter(|before| *before != left) {
                found.levels.push((walked, before));
            }
            if left.is_empty() {
                return;
            }
            stay = Some(left);
            walked += 1;
        }
        if let Some(stay) = stay {
            found.levels.push((walked, stay));
        }
    }

    /// Grows with each change.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The worker of a slot, if its life is not over.
    pub fn worker(&self, slot: Slot) -> Option<WorkerId> {
        self.workers[usize::from(slot.0)]
    }

    /// Those of many slots that are among these holders.
    fn among_many(&self, slots: &Bits, holders: [u16; HOLDERS]) -> Slots {
        if holders[0] != WIDE {
            return keep(&holders, |slot| has(slots, slot));
        }
        let wide = &self.wide[position(holders)];
        let of = |bits: &Bits, word: usize| bits.get(word).copied().unwrap_or(0);
        let both = |(word, bits): (usize, &u64)| {
            bits & (of(&wide.stored, word) | of(&wide.promised, word))
        };
        Slots::Many(slots.iter().enumerate().map(both).collect())
    }

    /// Those of few slots that are among these holders.
    fn among_few(&self, slots: &[u16; HOLDERS], holders: [u16; HOLDERS]) -> Slots {
        if holders[0] != WIDE {
            let held = |slot| slots.iter().any(|each| *each != NONE && usize::from(*each) == slot);
            return keep(&holders, held);
        }
        let wide = &self.wide[position(holders)];
        keep(slots, |slot| has(&wide.stored, slot) || has(&wide.promised, slot))
    }

    /// Bytes it takes, and prefixes held, over all lives.
    pub fn size(&self) -> (usize, u64) {
        let bits = |wide: &Wide| (wide.stored.len() + wide.promised.len()) * 8;
        let wide: usize = self.wide.iter().map(bits).sum();
        let held = self.held.iter().map(|held| u64::from(*held)).sum();
        (self.places.len() * size_of::<Entry>() + wide, held)
    }

    fn store_wide(&mut self, at: usize, slot: Slot, how: Held) {
        let (wide, bit) = (&mut self.wide[at], usize::from(slot.0));
        let is_new = !has(&wide.stored, bit) && !has(&wide.promised, bit);
        self.held[bit] += u32::from(is_new);
        match how {
            Held::Stored => {
                set(&mut wide.stored, bit);
                clear(&mut wide.promised, bit);
            }
            Held::Promised if !has(&wide.stored, bit) => set(&mut wide.promised, bit),
            Held::Promised => {}
        }
    }

    /// Moves four holders to a set of bits; its position.
    fn widen(&mut self, holders: [u16; HOLDERS]) -> u32 {
        let at = self.spare.pop().unwrap_or_else(|| {
            self.wide.push(Wide::default());
            self.wide.len() as u32 - 1
        });
        let wide = &mut self.wide[at as usize];
        for held in holders {
            let bits = if held & PROMISED != 0 { &mut wide.promised } else { &mut wide.stored };
            set(bits, usize::from(held & !PROMISED));
        }
        at
    }

    fn find(&self, key: u64) -> Option<usize> {
        Some(self.place_of(key)).filter(|place| self.places[*place].key != FREE)
    }

    /// Where a key is, or would come.
    fn place_of(&self, key: u64) -> usize {
        let mut place = self.home(key);
        while self.places[place].key != FREE && self.places[place].key != key {
            place = self.after(place);
        }
        place
    }

    /// Frees a place; what was pushed on by what stood there moves back.
    fn close_gap(&mut self, mut gap: usize) {
        self.used -= 1;
        let mut place = gap;
        loop {
            self.places[gap] = EMPTY;
            loop {
                place = self.after(place);
                let key = self.places[place].key;
                if key == FREE {
                    return;
                }
                // It may move if its home is not behind the gap, going round.
                let from = self.distance(self.home(key), place);
                if from >= self.distance(gap, place) {
                    break;
                }
            }
            self.places[gap] = self.places[place];
            gap = place;
        }
    }

    /// Places from one to another, going round.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.places.len() - from }
    }

    /// Makes room, and sweeps the holders whose life is over.
    fn grow(&mut self) {
        let before = core::mem::take(&mut self.places);
        let mut left: Vec<Entry> = Vec::with_capacity(self.used);
        for mut entry in before.into_iter().filter(|entry| entry.key != FREE) {
            self.sweep(&mut entry);
            if entry.holders.iter().any(|held| *held != NONE) {
                left.push(entry);
            }
        }
        // By half, so that it is never filled by less than 47 %: 34 bytes an entry.
        let least = (left.len() * 10 / 7 + 1).max(PLACES);
        self.places = alloc::vec![EMPTY; least + least / 2];
        self.used = left.len();
        for entry in left {
            let place = self.place_of(entry.key);
            self.places[place] = entry;
        }
    }

    fn sweep(&mut self, entry: &mut Entry) {
        if entry.holders[0] == WIDE {
            let at = position(entry.holders);
            let wide = &mut self.wide[at];
            let over = |slot: &usize| self.workers[*slot].is_none();
            for slot in (0..self.workers.len()).filter(over) {
                let was = has(&wide.stored, slot) || has(&wide.promised, slot);
                self.held[slot] -= u32::from(was);
                clear(&mut wide.stored, slot);
                clear(&mut wide.promised, slot);
            }
            if wide.stored.iter().chain(&wide.promised).all(|bits| *bits == 0) {
                self.spare.push(at as u32);
                entry.holders = [NONE; HOLDERS];
            }
            return;
        }
        for held in entry.holders.iter_mut().filter(|held| **held != NONE) {
            let slot = usize::from(*held & !PROMISED);
            if self.workers[slot].is_none() {
                *held = NONE;
                self.held[slot] -= 1;
            }
        }
    }

    /// Keys are hashes already; those of tests are numbers in turn, which this spreads.
    fn home(&self, key: u64) -> usize {
        let spread = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((u128::from(spread) * self.places.len() as u128) >> 64) as usize
    }

    fn after(&self, place: usize) -> usize {
        if place + 1 == self.places.len() { 0 } else { place + 1 }
    }
}

/// Those of few slots of which that is so.
fn keep(slots: &[u16; HOLDERS], is: impl Fn(usize) -> bool) -> Slots {
    let (mut few, mut count) = ([NONE; HOLDERS], 0);
    for slot in slots.iter().filter(|slot| **slot != NONE).map(|slot| slot & !PROMISED) {
        if is(usize::from(slot)) {
            few[count] = slot;
            count += 1;
        }
    }
    Slots::Few(few)
}

/// One of all keys means something else here.
fn proper(key: u64) -> u64 {
    if key == FREE { 1 } else { key }
}

fn is_of(held: u16, slot: Slot) -> bool {
    held != NONE && held & !PROMISED == slot.0
}

fn position(holders: [u16; HOLDERS]) -> usize {
    usize::from(holders[1]) << 16 | usize::from(holders[2])
}

fn has(bits: &Bits, at: usize) -> bool {
    bits.get(at / 64).is_some_and(|word| word & 1 << (at % 64) != 0)
}

fn set(bits: &mut Bits, at: usize) {
    if bits.len() <= at / 64 {
        bits.resize(at / 64 + 1, 0);
    }
    bits[at / 64] |= 1 << (at % 64);
}

fn clear(bits: &mut Bits, at: usize) {
    if let Some(word) = bits.get_mut(at / 64) {
        *word &= !(1 << (at % 64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use alloc::collections::BTreeMap;

    fn found(index: &KvIndex, keys: &[u64]) -> BTreeMap<u16, u32> {
        let mut found = Matches::default();
        index.matches(keys, &mut found);
        let told: Vec<(u16, u32)> = found
            .holders()
            .filter_map(|slot| Some((index.worker(slot)?.0, found.of(slot))))
            .collect();
        assert!(told.is_sorted_by_key(|(_, many)| core::cmp::Reverse(*many)));
        assert_eq!(told.first().map_or(0, |(_, many)| *many), found.longest());
        let by_worker: BTreeMap<u16, u32> = told.iter().copied().collect();
        assert_eq!(by_worker.len(), told.len(), "each is told once");
        by_worker
    }

    /// What the index should say, kept as plainly as can be.
    #[derive(Default)]
    struct Plain(BTreeMap<(u16, u64), Held>);

    impl Plain {
        fn matches(&self, worker: u16, keys: &[u64]) -> u32 {
            keys.iter().take_while(|key| self.0.contains_key(&(worker, **key))).count() as u32
        }
    }

    #[test]
    fn it_says_what_a_plain_map_says() {
        let mut rng = Rng::new(7);
        let mut index = KvIndex::default();
        let mut slots: Vec<Slot> = (0..9).map(|at| index.begin(WorkerId(at))).collect();
        let mut plain = Plain::default();
        for step in 0..40_000 {
            let worker = rng.below(9) as u16;
            let (slot, key) = (slots[usize::from(worker)], 1 + rng.below(300));
            match rng.below(100) {
                0 if step % 7 == 0 => {
                    index.end(slot);
                    slots[usize::from(worker)] = index.begin(WorkerId(worker));
                    plain.0.retain(|(of, _), _| *of != worker);
                }
                0..=39 => {
                    index.store(slot, key, Held::Stored);
                    plain.0.insert((worker, key), Held::Stored);
                }
                40..=69 => {
                    index.store(slot, key, Held::Promised);
                    plain.0.entry((worker, key)).or_insert(Held::Promised);
                }
                70..=84 => {
                    index.remove(slot, key, Held::Stored);
                    plain.0.remove(&(worker, key));
                }
                _ => {
                    index.remove(slot, key, Held::Promised);
                    if plain.0.get(&(worker, key)) == Some(&Held::Promised) {
                        plain.0.remove(&(worker, key));
                    }
                }
            }
            let keys: Vec<u64> = (0..4).map(|_| 1 + rng.below(300)).collect();
            let there = found(&index, &keys);
            for worker in 0..9 {
                let expected = plain.matches(worker, &keys);
                assert_eq!(there.get(&worker).copied().unwrap_or(0), expected, "step {step}");
            }
        }
        let held: u32 = slots.iter().map(|slot| index.held(*slot)).sum();
        assert_eq!(held as usize, plain.0.len());
    }

    #[test]
    fn a_prefix_of_one_worker_takes_at_most_forty_bytes() {
        let mut index = KvIndex::default();
        let slots: Vec<Slot> = (0..64).map(|at| index.begin(WorkerId(at))).collect();
        for key in 1..200_000u64 {
            index.store(slots[(key % 64) as usize], key, Held::Stored);
            let (bytes, held) = index.size();
            let grown = key > 1_000;
            assert!(!grown || bytes as u64 <= 40 * held, "{bytes} bytes for {held}");
        }
    }
}
