//! What the scheduler waits for, by time. A wait that lost its reason stays until it is over, and
//! means nothing then.

use super::kv_index::Slot;
use crate::names::Work;
use crate::time::Time;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;

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

/// All waits.
#[derive(Debug, Default)]
pub struct Timers {
    waits: BTreeMap<(Time, u64), Timer>,
    set: u64,
}

impl Timers {
    /// Waits until then.
    pub fn set(&mut self, at: Time, timer: Timer) {
        self.set += 1;
        self.waits.insert((at, self.set), timer);
    }

    /// The first that is over.
    pub fn pop(&mut self, now: Time) -> Option<Timer> {
        let first = self.waits.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }

    /// When the first is over, and what it is for.
    pub fn first(&self) -> Option<(Time, &'static str)> {
        let ((at, _), timer) = self.waits.first_key_value()?;
        let what = match timer {
            Timer::Expires(_) => "a client's time is over",
            Timer::LatestStart(_) => "a first token can no longer come in time",
            Timer::HoldEnds(_) => "an attempt was held long enough",
            Timer::FirstToken(..) => "a first token is overdue",
            Timer::Lapse(_) => "prefixes are not confirmed",
        };
        Some((*at, what))
    }
}
