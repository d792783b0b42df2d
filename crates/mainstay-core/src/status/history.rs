//! How one component was: ninety days in short, and one day closely.
//!
//! What nobody saw is a gap, never filled: seconds in which this role did not run, or in which too
//! few gateways were heard, belong to no state.

use super::component::p95;
use crate::fact::State;
use crate::message::{Count, GAP_ENDS, Gaps};
use crate::time::Duration;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Days kept.
pub const DAYS: usize = 90;
/// A day is also kept in slots of this many seconds.
pub const SLOT: u64 = 300;
const SLOTS: usize = 288;
/// Seconds of a day.
pub const DAY: u64 = 86_400;

/// One day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Day {
    /// Days since 1970.
    pub day: u64,
    /// Seconds in each state, as they are ordered.
    pub seconds: [u32; State::ALL.len()],
    /// Requests answered, and failed.
    pub good: u64,
    /// Failed.
    pub failed: u64,
}

/// Five minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Slots since 1970.
    pub slot: u64,
    /// What was counted.
    pub count: Count,
}

/// One slot of the last day as it is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drawn {
    /// Of a thousand requests, how many failed; none if there were too few.
    pub failed: Option<u16>,
    /// Within this time 95 of 100 first tokens came.
    pub first_token: Option<Duration>,
    /// Within this time 95 of 100 requests had token after token.
    pub gap: Option<Duration>,
}

/// How one component was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The last days of which anything is known, in order.
    pub days: VecDeque<Day>,
    /// The last slots in which anything was counted, in order.
    pub slots: VecDeque<Slot>,
    /// In slots since 1970, in order: requests by class of the time between their tokens. Only the
    /// API has them.
    pub gaps: VecDeque<(u64, Gaps)>,
}

impl Day {
    /// Seconds in this state.
    pub fn of(&self, state: State) -> u32 {
        State::ALL.iter().zip(self.seconds).find(|(each, _)| **each == state).map_or(0, |s| s.1)
    }

    /// Seconds in which its state was known.
    pub fn known(&self) -> u32 {
        let all = self.seconds.iter().fold(0, |sum: u32, each| sum.saturating_add(*each));
        all - self.of(State::NoData)
    }

    /// Of a hundred thousand known seconds, how many it was up: a major outage is down, a partial
    /// one to three tenths, less than that is up; maintenance that was announced is neither.
    pub fn uptime(days: impl Iterator<Item = Day>) -> Option<u32> {
        let (mut known, mut down) = (0u64, 0u64);
        for day in days {
            known += u64::from(day.known() - day.of(State::Maintenance)) * 10;
            down += u64::from(day.of(State::Major)) * 10 + u64::from(day.of(State::Partial)) * 3;
        }
        let up = known.saturating_sub(down) * 100_000;
        up.checked_div(known).and_then(|share| u32::try_from(share).ok())
    }

    /// The worst state that lasted a minute in all, or half of what is known where that is less;
    /// none if nothing is known.
    pub fn worst(&self) -> Option<State> {
        let enough = (self.known() / 2).clamp(1, 60);
        let mut states = State::ALL.iter().rev().filter(|state| **state != State::NoData);
        states.find(|state| self.of(**state) >= enough).copied()
    }
}

impl History {
    /// A second passed in this state; `at` is in seconds since 1970.
    pub(super) fn lasted(&mut self, at: u64, state: State) {
        let day = self.day(at / DAY);
        if let Some(known) = State::ALL.iter().position(|each| *each == state) {
            day.seconds[known] = day.seconds[known].saturating_add(1);
        }
    }

    /// This was counted.
    pub(super) fn counted(&mut self, at: u64, more: &Count) {
        if *more == Count::default() {
            return;
        }
        let day = self.day(at / DAY);
        day.good = day.good.saturating_add(more.good);
        day.failed = day.failed.saturating_add(more.failed);
        let slot = at / SLOT;
        if self.slots.back().is_none_or(|last| last.slot < slot) {
            self.slots.push_back(Slot { slot, count: Count::default() });
        }
        if let Some(last) = self.slots.back_mut() {
            last.count.add(more);
        }
        while self.slots.front().is_some_and(|first| first.slot + SLOTS as u64 <= slot) {
            self.slots.pop_front();
        }
    }

    /// So many requests had their tokens so far apart.
    pub(super) fn flowed(&mut self, at: u64, more: &Gaps) {
        if more.iter().all(|count| *count == 0) {
            return;
        }
        let slot = at / SLOT;
        if self.gaps.back().is_none_or(|(last, _)| *last < slot) {
            self.gaps.push_back((slot, Gaps::default()));
        }
        if let Some((_, last)) = self.gaps.back_mut() {
            last.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(*more));
        }
        while self.gaps.front().is_some_and(|(first, _)| first + SLOTS as u64 <= slot) {
            self.gaps.pop_front();
        }
    }

    /// The day that it is; a clock that was set back goes on in the last day.
    fn day(&mut self, day: u64) -> &mut Day {
        if self.days.back().is_none_or(|last| last.day < day) {
            self.days.push_back(Day { day, ..Day::default() });
            while self.days.len() > DAYS {
                self.days.pop_front();
            }
        }
        let last = self.days.len() - 1;
        &mut self.days[last]
    }

    /// The last ninety days, the oldest first; none where nothing is known.
    pub fn bars(&self, at: u64) -> Vec<Option<Day>> {
        let today = at / DAY;
        let days = (0..DAYS as u64).rev().map(|ago| today.checked_sub(ago));
        let find = |day: u64| self.days.iter().find(|each| each.day == day).copied();
        days.map(|day| day.and_then(find).filter(|day| day.known() > 0)).collect()
    }

    /// The slots of the last day, the oldest first.
    pub fn drawn(&self, at: u64) -> Vec<Drawn> {
        let slot = at / SLOT;
        let all = (0..SLOTS as u64).rev().map(|ago| slot.checked_sub(ago));
        let drawn = |slot: u64| {
            let count = self.slots.iter().find(|each| each.slot == slot).map(|each| each.count);
            let gaps = self.gaps.iter().find(|(each, _)| *each == slot);
            Drawn {
                failed: count.and_then(|of| of.good_per_mille()).map(|good| 1000 - good),
                first_token: count.and_then(|of| of.first_token_p95()),
                gap: gaps.and_then(|(_, gaps)| p95(gaps, &GAP_ENDS)),
            }
        };
        all.map(|slot| slot.map_or_else(Drawn::default, drawn)).collect()
    }
}
