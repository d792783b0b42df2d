//! What a worker was sent and never told of: as long as it tells nothing, what it was sent last is
//! all that is known of its cache, as much as there is room for.
//!
//! The least recently sent goes first, and of one prompt the end before the beginning, as engines
//! evict.

use crate::table::Table;
use alloc::collections::VecDeque;

/// The line is gone through when it is this many times as long as what is kept.
const STALE: usize = 4;

/// Prefixes of one worker's life.
#[derive(Debug, Default)]
pub struct Unconfirmed {
    /// When each was sent last, as a number.
    last: Table<u64, u64>,
    /// In the order in which they were sent; of one that was sent again the earlier place is stale.
    line: VecDeque<(u64, u64)>,
    sent: u64,
}

impl Unconfirmed {
    /// One more prompt; `over` hears of each prefix that has no room any more, of which there are
    /// at most `most`.
    pub fn keep(&mut self, keys: &[u64], most: usize, mut over: impl FnMut(u64)) {
        for key in keys.iter().rev() {
            self.sent += 1;
            self.last.insert(*key, self.sent);
            self.line.push_back((self.sent, *key));
        }
        while self.last.len() > most
            && let Some((sent, key)) = self.line.pop_front()
        {
            if self.last.get(&key) == Some(&sent) {
                self.last.remove(&key);
                over(key);
            }
        }
        if self.line.len() > STALE * self.last.len().max(keys.len()) {
            self.line.retain(|(sent, key)| self.last.get(key) == Some(sent));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use alloc::vec::Vec;

    #[test]
    fn what_was_sent_least_recently_goes_first_and_the_end_before_the_beginning() {
        let mut unconfirmed = Unconfirmed::default();
        let mut gone = Vec::new();
        unconfirmed.keep(&[1, 2, 3], 4, |key| gone.push(key));
        unconfirmed.keep(&[1, 7], 4, |key| gone.push(key));
        assert_eq!(gone, []);
        unconfirmed.keep(&[9, 10], 4, |key| gone.push(key));
        assert_eq!(gone, [3, 2], "the first block was sent again");
        let mut rng = Rng::new(1);
        for _ in 0..5_000 {
            let keys: Vec<u64> = (0..1 + rng.below(6)).map(|_| rng.below(40)).collect();
            unconfirmed.keep(&keys, 12, |_| {});
            assert!(unconfirmed.last.len() <= 12 && unconfirmed.line.len() <= 60);
        }
    }
}
