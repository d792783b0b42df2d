//! One component: what was counted of it in the last two minutes, what that says, and what is
//! shown.
//!
//! Two windows, one before the other, must agree before anything bad is shown; what is bad all of
//! the time is believed sooner, from two short looks that lie apart. What is shown gets better
//! slowly: under load that returns a service that was declared well falls again.

use super::crowd::Crowd;
use super::history::History;
use crate::fact::{Because, State};
use crate::message::{Count, FIRST_TOKEN_ENDS};
use crate::time::{Duration, Time};
use alloc::collections::VecDeque;

/// Windows in which requests are judged, in seconds: the first that holds enough of them.
const WINDOWS: [u64; 2] = [15, 60];
/// Between two windows that must agree, in seconds: a burst that is shorter is never in both.
const APART: u64 = 5;
/// Requests that a window needs: of fewer, one in twenty is not told from chance.
const ENOUGH: u64 = 50;
/// Two short looks, in seconds before now. They lie apart as well.
const LATELY: (u64, u64) = (0, 3);
const BEFORE: (u64, u64) = (5, 8);
/// Older counts are in no window.
const KEPT: u64 = 2 * WINDOWS[1] + APART;
/// Of a hundred, so many failures make each state.
const FAILING: [(u64, State); 3] = [(75, State::Major), (25, State::Partial), (5, State::Degraded)];
/// More than one in so many first tokens late: their 95th percentile is.
const LATE_ONE_IN: u64 = 20;
/// A first token is late after so many times what is promised.
const LATE: u32 = 3;
/// Nothing succeeds for so long, and at least so many fail: that is major whatever the traffic.
const DRY: (Duration, u64) = (Duration::from_secs(60), 3);
/// In the last seconds so many failures among few requests are a doubt.
const DOUBT: (u64, u64) = (0, 30);
const DOUBTFUL: u64 = 3;
/// What is less bad than shown must be so for this long before it is shown.
const CALM: Duration = Duration::from_secs(30);
/// Where nothing is seen any more, what was seen last holds for this long.
const HOLDS: Duration = Duration::from_secs(60);

/// What was counted in one second.
#[derive(Clone, Copy, Debug)]
struct Slice {
    second: u64,
    count: Count,
}

/// What speaks for a state, and why.
pub(super) type Sign = (State, Because);

/// One component.
#[derive(Clone, Debug, Default)]
pub(super) struct Component {
    slices: VecDeque<Slice>,
    /// Failures since the last success: how many, the first, the last.
    dry: Option<(u64, Time, Time)>,
    pub(super) shown: State,
    pub(super) since: Option<Time>,
    /// Why it is shown so.
    pub(super) because: Option<Because>,
    /// Since when it is less bad than shown, and the worst that it was in this time.
    milder: Option<(Time, State)>,
    /// Since when nothing is wrong.
    green: Option<Time>,
    /// When there last was something to judge.
    seen: Option<Time>,
    /// What users report of it, and how it was.
    pub(super) crowd: Crowd,
    pub(super) history: History,
}

impl Component {
    /// What a gateway counted since its last summary.
    pub(super) fn add(&mut self, now: Time, more: &Count) {
        if *more == Count::default() {
            return;
        }
        let second = second(now);
        match self.slices.back_mut().filter(|slice| slice.second == second) {
            Some(slice) => slice.count.add(more),
            None => self.slices.push_back(Slice { second, count: *more }),
        }
        self.dry = match (more.good, more.failed, self.dry) {
            (1.., ..) => None,
            (0, 0, dry) => dry,
            (0, failed, None) => Some((failed, now, now)),
            (0, failed, Some((all, first, _))) => Some((all + failed, first, now)),
        };
    }

    /// What its counts say; nothing if there are too few.
    pub(super) fn judge(&mut self, now: Time, promise: Duration) -> Option<Sign> {
        let oldest = second(now).saturating_sub(KEPT);
        while self.slices.front().is_some_and(|slice| slice.second < oldest) {
            self.slices.pop_front();
        }
        let dry = self.dry.filter(|(failed, first, last)| {
            *failed >= DRY.1 && now.since(*first) >= DRY.0 && now.since(*last) < DRY.0
        });
        if let Some((_, first, _)) = dry {
            return Some((State::Major, Because::NoSuccess { lasts: now.since(first) }));
        }
        let window = WINDOWS.into_iter().find(|width| self.count(now, (0, *width)).is_enough())?;
        let latest = self.count(now, (0, window));
        let one = latest.says(promise);
        let before = self.count(now, (window + APART, 2 * window + APART));
        let twice = if before.is_enough() { before.says(promise) } else { State::Operational };
        let short = || {
            let looks = [LATELY, BEFORE].map(|span| self.count(now, span).says(promise));
            looks.into_iter().min().unwrap_or_default()
        };
        let quick = if window == WINDOWS[0] { short() } else { State::Operational };
        let state = one.min(twice.max(quick));
        let because = match state {
            State::Operational => Because::Answers,
            _ if latest.failing() >= state => {
                Because::Failures { failed: latest.failed, of: latest.all() }
            }
            _ => Because::Late,
        };
        Some((state, because))
    }

    /// Whether anything speaks against it now, though it may be too little to be shown.
    pub(super) fn is_doubtful(&self, now: Time, promise: Duration) -> bool {
        let latest = self.count(now, DOUBT);
        latest.says(promise).is_impaired() && (latest.failed >= DOUBTFUL || latest.is_enough())
    }

    /// What was counted from so many to so many seconds before now.
    pub(super) fn count(&self, now: Time, (from, to): (u64, u64)) -> Count {
        let now = second(now);
        let is_in = |slice: &&Slice| (from..to).contains(&now.saturating_sub(slice.second));
        let mut sum = Count::default();
        self.slices.iter().filter(is_in).for_each(|slice| sum.add(&slice.count));
        sum
    }

    /// Takes in what is seen now; what is shown from now on, if that changes, and why.
    pub(super) fn settle(
        &mut self,
        now: Time,
        sign: Option<Sign>,
        green: Duration,
    ) -> Option<(State, Because)> {
        if sign.is_some() {
            self.seen = Some(now);
        }
        let is_fresh = self.seen.is_some_and(|seen| now.since(seen) < HOLDS);
        let (state, because) = match sign {
            Some(sign) => sign,
            None if is_fresh && !self.shown.is_impaired() => return None,
            None => (State::NoData, Because::Quiet),
        };
        if state.is_impaired() {
            self.green = None;
        }
        let (to, because) = match self.shown.is_impaired() {
            false => (state, because),
            true if state >= self.shown => {
                self.milder = None;
                (state, because)
            }
            true => self.recover(now, (state, because), green)?,
        };
        if to == self.shown {
            return None;
        }
        (self.shown, self.since, self.milder) = (to, Some(now), None);
        self.because = Some(because);
        Some((to, because))
    }

    /// It is less bad than shown: what is shown of that.
    fn recover(&mut self, now: Time, (state, because): Sign, green: Duration) -> Option<Sign> {
        let (since, worst) = self.milder.unwrap_or((now, State::Degraded));
        let worst = worst.max(state);
        self.milder = Some((since, worst));
        if !state.is_impaired() && now.since(*self.green.get_or_insert(now)) >= green {
            let because = if state == State::Operational { Because::Green } else { because };
            return Some((state, because));
        }
        let is_calm = worst < self.shown && now.since(since) >= CALM;
        is_calm.then_some((worst, Because::Milder))
    }

    /// Time passed in which nobody knew how it was: it is no time in which it was well.
    pub(super) fn forget_green(&mut self) {
        (self.milder, self.green) = (None, None);
    }
}

impl Count {
    pub(super) fn add(&mut self, more: &Count) {
        self.good = self.good.saturating_add(more.good);
        self.failed = self.failed.saturating_add(more.failed);
        for (sum, more) in self.first_tokens.iter_mut().zip(more.first_tokens) {
            *sum = sum.saturating_add(more);
        }
    }

    /// What was counted since `earlier`.
    pub(super) fn since(&self, earlier: &Count) -> Count {
        let mut first_tokens = self.first_tokens;
        for (now, then) in first_tokens.iter_mut().zip(earlier.first_tokens) {
            *now = now.saturating_sub(then);
        }
        Count {
            good: self.good.saturating_sub(earlier.good),
            failed: self.failed.saturating_sub(earlier.failed),
            first_tokens,
        }
    }

    fn all(&self) -> u64 {
        self.good.saturating_add(self.failed)
    }

    fn is_enough(&self) -> bool {
        self.all() >= ENOUGH
    }

    /// The state that these failures make.
    fn failing(&self) -> State {
        failing(self.failed, self.all())
    }

    /// The state that failures and late first tokens make.
    fn says(&self, promise: Duration) -> State {
        let tokens = sum(&self.first_tokens);
        let limit = u64::try_from((promise * LATE).as_millis()).unwrap_or(u64::MAX);
        // Classes that begin at the limit or later: of one that spans it, nobody knows.
        let begins = |at: usize| at.checked_sub(1).map_or(0, |before| FIRST_TOKEN_ENDS[before]);
        let late = self.first_tokens.iter().enumerate().filter(|(at, _)| begins(*at) >= limit);
        let late = late.fold(0u64, |sum, (_, count)| sum.saturating_add(*count));
        let is_late = tokens >= ENOUGH && late.saturating_mul(LATE_ONE_IN) > tokens;
        let late = if is_late { State::Degraded } else { State::Operational };
        self.failing().max(late)
    }

    /// The time within which 95 of 100 first tokens came, as the end of its class; `None` if there
    /// are too few, or it is in the class without end.
    pub(super) fn first_token_p95(&self) -> Option<Duration> {
        p95(&self.first_tokens, &FIRST_TOKEN_ENDS)
    }

    /// Of a thousand, how many were good; `None` if there are too few.
    pub(super) fn good_per_mille(&self) -> Option<u16> {
        let all = self.all();
        let share = u128::from(self.good) * 1000 / u128::from(all.max(1));
        self.is_enough().then(|| u16::try_from(share).unwrap_or(1000))
    }
}

/// The time within which 95 of 100 were, as the end of its class; classes end so, in milliseconds.
/// `None` if there are too few, or it is in the class without end.
pub(super) fn p95(classes: &[u64], ends: &[u64]) -> Option<Duration> {
    let all = sum(classes);
    if all < ENOUGH {
        return None;
    }
    let beyond = all / LATE_ONE_IN;
    let mut upto = 0u64;
    let found = classes.iter().zip(ends).find(|(count, _)| {
        upto = upto.saturating_add(**count);
        all - upto.min(all) <= beyond
    });
    found.map(|(_, end)| Duration::from_millis(*end))
}

/// The state that so many failures of so many make.
pub(super) fn failing(failed: u64, of: u64) -> State {
    let makes = |(percent, _): &&(u64, State)| {
        of > 0 && u128::from(failed) * 100 >= u128::from(*percent) * u128::from(of)
    };
    FAILING.iter().find(makes).map_or(State::Operational, |(_, state)| *state)
}

fn sum(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
}

fn second(now: Time) -> u64 {
    now.as_micros() / 1_000_000
}
