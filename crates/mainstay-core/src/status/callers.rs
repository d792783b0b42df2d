//! Whose requests fail: what a gateway counted for each key in the last ten minutes.
//!
//! A key is a number made of what lists show of it, so that nobody who reads this learns one. So
//! many keys are counted in a minute and no more, and of those that had failures so many are told:
//! what is not told reads like a key without failures.

use crate::message::{FAILING_MAX, Failing};
use crate::time::Time;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::cmp::Reverse;

/// Minutes that are told together.
const MINUTES: u64 = 10;
/// Keys counted in one minute: ten of these are a megabyte.
const KEYS_MAX: usize = 2048;
/// It is added up so often, in seconds: that takes a while where many fail.
const EVERY: u64 = 2;

/// By key: requests, and how many of them failed.
type Keys = BTreeMap<u64, (u32, u32)>;

/// What was counted, by minute.
#[derive(Clone, Debug, Default)]
pub struct Callers {
    minutes: VecDeque<(u64, Keys)>,
    /// The second in which it was added up, and to what.
    told: Option<(u64, Vec<Failing>)>,
}

impl Callers {
    /// A request of this key was answered, or failed.
    pub fn count(&mut self, now: Time, key: u64, is_good: bool) {
        let minute = seconds(now) / 60;
        self.forget(minute);
        if self.minutes.back().is_none_or(|(last, _)| *last < minute) {
            self.minutes.push_back((minute, BTreeMap::new()));
        }
        let Some((_, keys)) = self.minutes.back_mut() else { return };
        if keys.len() >= KEYS_MAX && !keys.contains_key(&key) {
            return;
        }
        let (all, failed) = keys.entry(key).or_default();
        *all = all.saturating_add(1);
        *failed = failed.saturating_add(u32::from(!is_good));
    }

    /// The keys that had failures, the most first.
    pub fn failing(&mut self, now: Time) -> Vec<Failing> {
        let second = seconds(now);
        if let Some((at, told)) = self.told.as_ref().filter(|(at, _)| second < at + EVERY) {
            debug_assert!(*at <= second, "time goes forward");
            return told.clone();
        }
        self.forget(second / 60);
        let counted = || self.minutes.iter().flat_map(|(_, keys)| keys);
        let mut sums: Keys = counted()
            .filter(|(_, (_, failed))| *failed > 0)
            .map(|(key, _)| (*key, (0, 0)))
            .collect();
        for (key, (all, failed)) in counted() {
            if let Some(sum) = sums.get_mut(key) {
                *sum = (sum.0.saturating_add(*all), sum.1.saturating_add(*failed));
            }
        }
        let told = |(key, (all, failed))| Failing { key, all, failed };
        let mut told: Vec<Failing> = sums.into_iter().map(told).collect();
        told.sort_by_key(|each| (Reverse(each.failed), each.key));
        told.truncate(FAILING_MAX);
        self.told = Some((second, told.clone()));
        told
    }

    fn forget(&mut self, minute: u64) {
        while self.minutes.front().is_some_and(|(first, _)| first + MINUTES <= minute) {
            self.minutes.pop_front();
        }
    }
}

fn seconds(now: Time) -> u64 {
    now.as_micros() / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn ten_minutes_of_keys_with_failures_are_told() {
        let mut callers = Callers::default();
        (0..40).for_each(|each| callers.count(at(each), 7, each >= 12));
        callers.count(at(3), 8, true);
        assert_eq!(callers.failing(at(40)), [Failing { key: 7, failed: 12, all: 40 }]);
        callers.count(at(600), 7, true);
        assert_eq!(callers.failing(at(600)), [], "the minute of the failures is over");
    }

    #[test]
    fn however_many_keys_there_are_memory_and_what_is_told_have_a_bound() {
        let mut callers = Callers::default();
        for minute in 0..20 {
            (0..5000).for_each(|key| callers.count(at(minute * 60), key, false));
        }
        let kept: usize = callers.minutes.iter().map(|(_, keys)| keys.len()).sum();
        assert_eq!(kept, 10 * KEYS_MAX);
        let told = callers.failing(at(1200));
        assert_eq!((told.len(), told[0].all), (FAILING_MAX, 9));
        callers.count(at(1201), 1, false);
        assert_eq!(callers.failing(at(1201)), told, "added up every two seconds");
    }
}
