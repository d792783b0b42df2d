//! A bounded queue in which a newer value takes the place of an older one for the same thing.

use std::collections::BTreeMap;

/// Values by what they are about, in the order in which those began to wait.
#[derive(Debug)]
pub(super) struct Newest<K, V> {
    values: BTreeMap<K, (u64, V)>,
    order: BTreeMap<u64, K>,
    next: u64,
    bound: usize,
}

/// What became of a value that was put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It waits.
    Waits,
    /// It waits where an older one about the same did.
    Replaced,
    /// It waits, and what had waited longest is gone.
    Crowded,
}

impl<K: Ord + Clone, V> Newest<K, V> {
    pub(super) fn new(bound: usize) -> Newest<K, V> {
        Newest { values: BTreeMap::new(), order: BTreeMap::new(), next: 0, bound: bound.max(1) }
    }

    /// Puts `value` in, in the place of an older one about the same.
    pub(super) fn put(&mut self, key: K, value: V) -> Put {
        if let Some((_, waiting)) = self.values.get_mut(&key) {
            *waiting = value;
            return Put::Replaced;
        }
        let crowded = self.values.len() >= self.bound && self.take().is_some();
        self.order.insert(self.next, key.clone());
        self.values.insert(key, (self.next, value));
        self.next += 1;
        if crowded { Put::Crowded } else { Put::Waits }
    }

    /// What has waited longest.
    pub(super) fn take(&mut self) -> Option<(K, V)> {
        let (_, key) = self.order.pop_first()?;
        self.values.remove(&key).map(|(_, value)| (key, value))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn clear(&mut self) {
        self.values.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_value_takes_the_place_of_the_older_one() {
        let mut queue = Newest::new(8);
        assert_eq!(queue.put("a", 1), Put::Waits);
        assert_eq!(queue.put("b", 2), Put::Waits);
        assert_eq!(queue.put("a", 3), Put::Replaced);
        assert_eq!(queue.len(), 2);
        assert_eq!(
            [queue.take(), queue.take(), queue.take()],
            [Some(("a", 3)), Some(("b", 2)), None]
        );
    }

    #[test]
    fn beyond_its_bound_what_waited_longest_goes() {
        let mut queue = Newest::new(2);
        queue.put("a", 1);
        queue.put("b", 2);
        assert_eq!(queue.put("c", 3), Put::Crowded);
        assert_eq!(
            [queue.take(), queue.take(), queue.take()],
            [Some(("b", 2)), Some(("c", 3)), None]
        );
        queue.put("d", 4);
        queue.clear();
        assert!(queue.is_empty());
    }
}
