//! The one queue of moments: earliest first, and of equal ones the first put in.
//!
//! A calendar queue (Brown, "Calendar Queues", CACM 1988): near moments lie in a ring of days,
//! unordered until their day begins; the day under way is a heap, and so is what lies beyond the
//! ring. So most moments are put down once and ordered among a few.

use mainstay_core::time::Time;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A day's length in microseconds, as a power of two: about four milliseconds, in which a busy run
/// has some dozens of moments.
const DAY: u32 = 12;
/// Days in the ring, a power of two: seventeen seconds, longer than most waits.
const DAYS: u64 = 4096;

/// What is still to happen.
#[derive(Debug)]
pub struct Calendar<M> {
    /// The day under way, and what was put in for days that are over.
    heap: BinaryHeap<Entry<M>>,
    day: u64,
    ring: Vec<Vec<Entry<M>>>,
    /// Moments in the ring.
    near: usize,
    far: BinaryHeap<Entry<M>>,
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
        Calendar {
            heap: BinaryHeap::new(),
            day: 0,
            ring: (0..DAYS).map(|_| Vec::new()).collect(),
            near: 0,
            far: BinaryHeap::new(),
            put: 0,
        }
    }
}

impl<M> Calendar<M> {
    /// Lets `moment` happen at `at`.
    pub fn put(&mut self, at: Time, moment: M) {
        self.put += 1;
        let entry = Entry { at, order: self.put, moment };
        let day = day(at);
        if day <= self.day {
            self.heap.push(entry);
        } else if day - self.day < DAYS {
            self.ring[(day % DAYS) as usize].push(entry);
            self.near += 1;
        } else {
            self.far.push(entry);
        }
    }

    /// Takes out what happens next.
    pub fn take(&mut self) -> Option<(Time, M)> {
        while self.heap.is_empty() {
            self.next_day()?;
        }
        self.heap.pop().map(|entry| (entry.at, entry.moment))
    }

    /// The next day that has something begins.
    fn next_day(&mut self) -> Option<()> {
        let far = self.far.peek().map(|entry| day(entry.at));
        // With an empty ring nothing is passed over.
        self.day = if self.near == 0 { far? } else { self.day + 1 };
        let today = &mut self.ring[(self.day % DAYS) as usize];
        self.near -= today.len();
        self.heap.extend(today.drain(..));
        while self.far.peek().is_some_and(|entry| day(entry.at) <= self.day) {
            self.heap.extend(self.far.pop());
        }
        Some(())
    }
}

fn day(at: Time) -> u64 {
    at.as_micros() >> DAY
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
    fn moments_near_and_far_happen_in_order() {
        let mut rng = mainstay_core::rng::Rng::new(1);
        let mut calendar = Calendar::default();
        let (mut now, mut left) = (Time::ZERO, Vec::new());
        for step in 0..3_000u64 {
            let span = [1, 5_000, 3_000_000, 90_000_000][rng.below(4) as usize];
            let at = Time::from_micros(now.as_micros() + rng.below(span));
            calendar.put(at, step);
            left.push((at, step));
            if rng.below(3) > 0 {
                let first = left.iter().copied().min();
                assert_eq!(calendar.take(), first);
                left.retain(|one| Some(*one) != first);
                now = first.map_or(now, |(at, _)| at);
            }
        }
        left.sort_unstable();
        let rest: Vec<(Time, u64)> = std::iter::from_fn(|| calendar.take()).collect();
        assert_eq!(rest, left);
    }

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
