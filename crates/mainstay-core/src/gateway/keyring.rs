//! Which word on a key is the last: what gateways tell each other of keys that operators make,
//! change and revoke while everything runs.
//!
//! Any gateway takes a change. Of two words on one key the one with the higher version holds, and
//! whatever else is said, a key that anybody revoked stays revoked. So it does not matter in which
//! order words come, how often, or by which way: gateways that have heard the same agree.
//!
//! To find out what another has not heard, the keys are divided into 256 parts, each with a number
//! that stands for all it holds. Gateways tell each other those numbers, and send parts that
//! differ.

use crate::rng::mix;
use crate::time::Duration;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Gateways tell each other so often what they have heard: with what is sent at once, a change
/// that was lost on its way is made good within seconds.
pub const PULSE: Duration = Duration::from_secs(1);
/// To so many others each time, in turn.
pub const TOLD: usize = 3;
/// Parts of a keyring.
pub const PARTS: usize = 256;
/// Keys of one ring. More would be a customer database; and a gateway that starts with nothing
/// must have them all within seconds.
pub const KEYS_MAX: usize = 100_000;

/// The last word on one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The key's number: the beginning of the hash of its first secret.
    pub id: u64,
    /// Higher with each change.
    pub version: u64,
    /// Never let in again.
    pub is_revoked: bool,
    /// What else is said, which only the shell reads.
    pub body: Vec<u8>,
}

impl Entry {
    /// The part it belongs to.
    pub fn part(&self) -> usize {
        part(self.id)
    }

    /// A number that stands for what it says.
    fn mark(&self) -> u64 {
        let start = mix(mix(self.id, self.version), u64::from(self.is_revoked));
        self.body.chunks(8).fold(start, |mark, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            mix(mark, u64::from_le_bytes(word))
        })
    }
}

/// All keys that a gateway has heard of.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    entries: BTreeMap<u64, Entry>,
}

impl Keyring {
    /// Takes a word in; whether it says something new. One more than there may be does not.
    pub fn take(&mut self, mut entry: Entry) -> bool {
        let Some(known) = self.entries.get_mut(&entry.id) else {
            let has_room = self.entries.len() < KEYS_MAX;
            if has_room {
                self.entries.insert(entry.id, entry);
            }
            return has_room;
        };
        let is_newer = (entry.version, &entry.body) > (known.version, &known.body);
        let is_revoked = known.is_revoked || entry.is_revoked;
        if is_newer {
            entry.is_revoked = is_revoked;
            *known = entry;
            return true;
        }
        let is_news = known.is_revoked != is_revoked;
        known.is_revoked = is_revoked;
        is_news
    }

    /// The last word on a key.
    pub fn get(&self, id: u64) -> Option<&Entry> {
        self.entries.get(&id)
    }

    /// All of them, by number.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Those of one part.
    pub fn of_part(&self, part: usize) -> impl Iterator<Item = &Entry> {
        let first = (part as u64) << 56;
        let last = first | (u64::MAX >> 8);
        self.entries.range(first..=last).map(|(_, entry)| entry)
    }

    /// Whether nobody ever made a key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// For each part a number that stands for what it holds.
    pub fn marks(&self) -> Vec<u64> {
        let mut marks = alloc::vec![0; PARTS];
        for entry in self.entries.values() {
            marks[entry.part()] ^= entry.mark();
        }
        marks
    }

    /// The parts that differ from those of a gateway with these marks.
    pub fn differing(&self, marks: &[u64]) -> Vec<usize> {
        let mine = self.marks();
        let theirs = marks.iter().copied().chain(core::iter::repeat(0));
        mine.into_iter()
            .zip(theirs)
            .enumerate()
            .filter(|(_, (mine, theirs))| mine != theirs)
            .map(|(part, _)| part)
            .collect()
    }
}

fn part(id: u64) -> usize {
    usize::from(id.to_be_bytes()[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn entry(id: u64, version: u64, is_revoked: bool, body: &str) -> Entry {
        Entry { id, version, is_revoked, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn whatever_the_order_of_words_all_agree_and_who_was_revoked_stays_so() {
        let words = [
            entry(7, 1, false, "made"),
            entry(7, 2, true, "revoked"),
            entry(7, 3, false, "rotated elsewhere meanwhile"),
            entry(7, 3, false, "changed elsewhere meanwhile"),
            entry(1 << 60, 1, false, "another"),
        ];
        let mut marks = Vec::new();
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let mut ring = Keyring::default();
            for _ in 0..40 {
                ring.take(words[rng.below(5) as usize].clone());
            }
            for word in &words {
                ring.take(word.clone());
            }
            let last = ring.get(7).unwrap();
            assert!(last.is_revoked, "seed {seed}");
            assert_eq!(last.body, b"rotated elsewhere meanwhile");
            marks.push(ring.marks());
        }
        assert!(marks.windows(2).all(|two| two[0] == two[1]));
    }

    #[test]
    fn what_another_has_not_heard_is_found_by_its_part() {
        let (mut one, mut other) = (Keyring::default(), Keyring::default());
        for n in 0..2000u64 {
            one.take(entry(mix(n, 1), 1, false, "x"));
            other.take(entry(mix(n, 1), 1, false, "x"));
        }
        assert!(one.differing(&other.marks()).is_empty());
        let id = mix(3, 1);
        assert!(one.take(entry(id, 1, true, "x")));
        assert!(!one.take(entry(id, 1, true, "x")), "said already");
        let differing = other.differing(&one.marks());
        assert_eq!(differing, [part(id)]);
        for entry in one.of_part(differing[0]) {
            other.take(entry.clone());
        }
        assert_eq!(one.marks(), other.marks());
        assert!(other.get(id).unwrap().is_revoked);
        assert_eq!((0..PARTS).map(|part| one.of_part(part).count()).sum::<usize>(), 2000);
    }
}
