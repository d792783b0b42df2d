//! What the scheduler waits for, by time. A wait that lost its reason means nothing when it is
//! over; those that may be long are taken back.
//!
//! Most waits never end: an attempt is over long before its client's time is. So those far off lie
//! unsorted, by the second in which they end, and are sorted when that comes.

use super::kv_index::Slot;
use crate::names::Work;
use crate::time::Time;
use alloc::collections::{BTreeMap, BTreeSet, BinaryHeap};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// Bits of the microseconds in a span: about a second.
const SPAN: u32 = 20;

/// What a wait is for.
#[derive(Clone, Debug)]
pub enum Timer {
    /// A client's time is over.
    Expires(Work),
    /// From now on its first token would be late.
    LatestStart(Work),
    /// It was held long enough.
    HoldEnds(Work),
    /// The first token of the leg sent then should have come long ago.
    FirstToken(Work, Time),
    /// Prefixes that a worker was sent should be known from itself by now.
    Lapse(Lapse),
}

/// Prefixes of one leg.
#[derive(Clone, Debug)]
pub struct Lapse {
    /// The worker's life.
    pub slot: Slot,
    /// Their keys.
    pub keys: Arc<[u64]>,
}

/// The name of one wait.
#[derive(Clone, Copy, Debug)]
pub struct Wait(u64);

/// One wait: until when, the how manyth it is, and what for. The earliest is the greatest.
#[derive(Debug)]
struct Entry(Time, u64, Timer);

impl Entry {
    fn key(&self) -> (Time, u64) {
        (self.0, self.1)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> Ordering {
        other.key().cmp(&self.key())
    }
}

/// All waits.
#[derive(Debug, Default)]
pub struct Timers {
    near: BinaryHeap<Entry>,
    /// By span: the first of it, and all of it.
    far: BTreeMap<u64, ((Time, &'static str), Vec<Entry>)>,
    /// Those that were taken back and still lie there.
    gone: BTreeSet<u64>,
    /// The first span that is not near.
    next: u64,
    set: u64,
}

impl Timers {
    /// Waits until then.
    pub fn set(&mut self, at: Time, timer: Timer) -> Wait {
        self.set += 1;
        let span = at.as_micros() >> SPAN;
        let entry = Entry(at, self.set, timer);
        if span < self.next {
            self.near.push(entry);
            return Wait(self.set);
        }
        let fresh = || ((at, entry.2.word()), Vec::new());
        let (first, waits) = self.far.entry(span).or_insert_with(fresh);
        if at < first.0 {
            *first = (at, entry.2.word());
        }
        waits.push(entry);
        Wait(self.set)
    }

    /// Waits no more. What is far off is forgotten when its second comes; until then it may call
    /// once for nothing.
    pub fn take_back(&mut self, wait: Wait) {
        self.gone.insert(wait.0);
        self.forget();
    }

    /// Forgets the first ones that were taken back.
    fn forget(&mut self) {
        while let Some(Entry(_, number, _)) = self.near.peek()
            && self.gone.remove(number)
        {
            self.near.pop();
        }
    }

    /// The first that is over.
    pub fn pop(&mut self, now: Time) -> Option<Timer> {
        let here = now.as_micros() >> SPAN;
        while let Some(span) = self.far.first_entry().filter(|span| *span.key() <= here) {
            let (_, waits) = span.remove();
            self.near.extend(waits);
        }
        self.next = self.next.max(here + 1);
        self.forget();
        if self.near.peek()?.0 > now {
            return None;
        }
        let first = self.near.pop().map(|Entry(.., timer)| timer);
        self.forget();
        first
    }

    /// When the first is over, and what it is for.
    pub fn first(&self) -> Option<(Time, &'static str)> {
        if let Some(Entry(at, _, timer)) = self.near.peek() {
            return Some((*at, timer.word()));
        }
        self.far.first_key_value().map(|(_, (first, _))| *first)
    }
}

impl Timer {
    const fn word(&self) -> &'static str {
        match self {
            Timer::Expires(_) => "a client's time is over",
            Timer::LatestStart(_) => "a first token can no longer come in time",
            Timer::HoldEnds(_) => "an attempt was held long enough",
            Timer::FirstToken(..) => "a first token is overdue",
            Timer::Lapse(_) => "prefixes are not confirmed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{AttemptId, GatewayId, RequestId};
    use crate::rng::Rng;

    #[test]
    fn waits_end_in_the_order_of_their_times_and_of_equal_ones_as_they_were_set() {
        let mut rng = Rng::new(4);
        let (mut timers, mut plain) = (Timers::default(), BTreeMap::new());
        let mut now = 0;
        for number in 0..20_000u64 {
            let span = [10, 1 << SPAN, 600 << SPAN][rng.below(3) as usize];
            let at = now + rng.below(span);
            let attempt = AttemptId { request: RequestId(number), number: 1 };
            let work = Work { from: GatewayId(0), attempt };
            timers.set(Time::from_micros(at), Timer::Expires(work));
            plain.insert((at, number), work);
            now += rng.below(400_000);
            while let Some(timer) = timers.pop(Time::from_micros(now)) {
                let ((at, _), expected) = plain.pop_first().expect("one more");
                assert!(at <= now && matches!(timer, Timer::Expires(work) if work == expected));
            }
            let first = plain.first_key_value().map(|((at, _), _)| *at);
            assert!(first.is_none_or(|at| at > now));
            assert_eq!(timers.first().map(|(at, _)| at.as_micros()), first);
        }
    }
}
