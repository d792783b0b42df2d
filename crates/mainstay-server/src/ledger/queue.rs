//! Rows that wait to be written, in memory: by tier, and never more than a bound.

use super::row::Entry;
use std::collections::{BTreeMap, VecDeque};

/// Requests that wait at most: some 50 MB, and a minute of a busy gateway whose disk is full.
const MOST: usize = 50_000;

/// The queue.
#[derive(Default)]
pub(super) struct Queue {
    by_rank: BTreeMap<u8, VecDeque<Entry>>,
    len: usize,
}

impl Queue {
    /// Takes `entry` in. Returns how many had to go for it: the oldest of the lowest rank, which
    /// may be itself.
    pub(super) fn push(&mut self, entry: Entry) -> u64 {
        self.by_rank.entry(entry.rank()).or_default().push_back(entry);
        self.len += 1;
        if self.len <= MOST {
            return 0;
        }
        if let Some(mut lowest) = self.by_rank.last_entry() {
            lowest.get_mut().pop_front();
            if lowest.get().is_empty() {
                lowest.remove();
            }
        }
        self.len -= 1;
        1
    }

    /// Takes out up to `most`, the highest tier first.
    pub(super) fn take(&mut self, most: usize) -> Vec<Entry> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(mut highest) = self.by_rank.first_entry()
        {
            let rank = highest.get_mut();
            let count = rank.len().min(most - taken.len());
            taken.extend(rank.drain(..count));
            if rank.is_empty() {
                highest.remove();
            }
        }
        self.len -= taken.len();
        taken
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::row::{Attempt, Who};

    fn entry(id: u64, rank: u8) -> Entry {
        let who = Who { rank, ..Who::default() };
        Entry { id, who, attempts: vec![Attempt::default()], ..Entry::default() }
    }

    #[test]
    fn the_lowest_tier_goes_first_when_there_is_no_room_and_the_highest_is_written_first() {
        let mut queue = Queue::default();
        let half = MOST as u64 / 2;
        (0..half).for_each(|id| assert_eq!(queue.push(entry(id, 2)), 0));
        (half..2 * half).for_each(|id| assert_eq!(queue.push(entry(id, 0)), 0));
        assert_eq!(queue.push(entry(2 * half, 1)), 1);
        assert_eq!(queue.push(Entry { id: 7, ..Entry::default() }), 1);
        assert_eq!(queue.len(), MOST);
        let first = queue.take(2);
        assert_eq!(first.iter().map(|entry| entry.id).collect::<Vec<_>>(), [half, half + 1]);
        let rest = queue.take(MOST);
        assert_eq!((rest.len(), queue.len()), (MOST - 2, 0));
        // The oldest of the lowest rank is gone, and the refusal went before all of it.
        let ids: Vec<u64> = rest.iter().filter(|e| e.who.rank == 2).map(|e| e.id).collect();
        assert_eq!((ids[0], ids.len() as u64), (1, half - 1));
    }
}
