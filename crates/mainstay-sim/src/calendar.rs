//! The one queue of moments: earliest first, and of equal ones the first put in.

use mainstay_core::time::Time;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// What is still to happen.
#[derive(Debug)]
pub struct Calendar<M> {
    heap: BinaryHeap<Entry<M>>,
    put: u64,
}

#[derive(Debug)]
struct Entry<M> {
    at: Time,
    order: u64,
    moment: M,
}

impl<M> Default for Calendar<M> {
    fn default() -> Calendar<M> {
        Calendar { heap: BinaryHeap::new(), put: 0 }
    }
}

impl<M> Calendar<M> {
    /// Lets `moment` happen at `at`.
    pub fn put(&mut self, at: Time, moment: M) {
        self.put += 1;
        self.heap.push(Entry { at, order: self.put, moment });
    }

    /// Takes out what happens next.
    pub fn take(&mut self) -> Option<(Time, M)> {
        self.heap.pop().map(|entry| (entry.at, entry.moment))
    }
}

impl<M> PartialEq for Entry<M> {
    fn eq(&self, other: &Entry<M>) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<M> Eq for Entry<M> {}

impl<M> PartialOrd for Entry<M> {
    fn partial_cmp(&self, other: &Entry<M>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<M> Ord for Entry<M> {
    /// Turned round, because the heap gives out its greatest.
    fn cmp(&self, other: &Entry<M>) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_moments_happen_in_the_order_they_were_put() {
        let mut calendar = Calendar::default();
        let at = Time::from_micros;
        for (when, what) in [(5, "c"), (1, "a"), (5, "d"), (1, "b")] {
            calendar.put(at(when), what);
        }
        let order: String = std::iter::from_fn(|| calendar.take()).map(|(_, what)| what).collect();
        assert_eq!(order, "abcd");
    }
}
