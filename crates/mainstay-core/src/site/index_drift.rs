//! Whether what a worker is thought to have cached is what it has: the alarm of the view of
//! prefixes.
//!
//! Two things go wrong without a word. What answers find cached differs from what was foreseen; or
//! events of the cache stop coming while prompts are computed, and the view grows old
//! (NVIDIA/TensorRT-LLM#14882). Trust in each worker corrects what is believed; here somebody is
//! told, so that the cause is looked for.

use crate::time::{Duration, Time};

/// Hits are compared over so many spans
const SPANS: usize = 10;
/// of this time each: five minutes.
const SPAN: Duration = Duration::from_secs(30);
/// They may differ by so much of what was foreseen, in hundredths.
const APART: u64 = 20;
/// Fewer answers say nothing.
const ANSWERS: u32 = 20;
/// So few tokens are no difference: blocks of engines and of ours do not end together.
const TOKENS: u64 = 4096;
/// Events that did not come for so long
const SILENCE: Duration = Duration::from_secs(60);
/// while so many prompts were computed, of which they should have told, do not come at all.
const UNTOLD: u32 = 5;

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Answers find other parts of their prompts cached than were foreseen.
    Apart {
        /// Tokens that were foreseen of late,
        foreseen: u64,
        /// and those that were found.
        found: u64,
    },
    /// The worker tells nothing of its cache any more.
    Silent,
    /// It agrees again, and tells again.
    Agrees,
}

impl Change {
    /// In a few words, for facts.
    pub const fn word(self) -> &'static str {
        match self {
            Change::Apart { .. } => "hits are not what was foreseen",
            Change::Silent => "events of its cache do not come",
            Change::Agrees => "it agrees again",
        }
    }
}

/// Foreseen and found of some answers.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    answers: u32,
    foreseen: u64,
    found: u64,
}

/// Of one worker's life.
#[derive(Clone, Copy, Debug, Default)]
pub struct IndexDrift {
    spans: [Seen; SPANS],
    at: usize,
    began: Time,
    /// When it told of its cache last, if it ever did.
    heard: Option<Time>,
    /// Prompts since then of which it should have told.
    untold: u32,
    is_apart: bool,
    is_silent: bool,
}

impl IndexDrift {
    /// An answer came: so many tokens of its prompt were thought to be cached, and so many were.
    pub fn measured(&mut self, now: Time, foreseen: u32, found: u32) -> Option<Change> {
        self.turn(now);
        let span = &mut self.spans[self.at];
        span.answers += 1;
        span.foreseen += u64::from(foreseen);
        span.found += u64::from(found);
        let sum = self.spans.iter().fold(Seen::default(), |sum, span| Seen {
            answers: sum.answers + span.answers,
            foreseen: sum.foreseen + span.foreseen,
            found: sum.found + span.found,
        });
        let Seen { answers, foreseen, found } = sum;
        let apart = foreseen.abs_diff(found);
        let is_apart = answers >= ANSWERS && apart > TOKENS && apart * 100 > foreseen * APART;
        let was = core::mem::replace(&mut self.is_apart, is_apart);
        match (was, is_apart) {
            (false, true) => Some(Change::Apart { foreseen, found }),
            (true, false) => self.agrees(),
            (true, true) | (false, false) => None,
        }
    }

    /// A prompt was computed, of which it should tell.
    pub fn computed(&mut self, now: Time) -> Option<Change> {
        let heard = self.heard?;
        self.untold = self.untold.saturating_add(1);
        let is_silent = self.untold >= UNTOLD && now.since(heard) >= SILENCE;
        let is_new = is_silent && !self.is_silent;
        self.is_silent |= is_silent;
        is_new.then_some(Change::Silent)
    }

    /// It told of its cache.
    pub fn heard(&mut self, now: Time) -> Option<Change> {
        (self.heard, self.untold) = (Some(now), 0);
        if core::mem::take(&mut self.is_silent) { self.agrees() } else { None }
    }

    /// Whether it tells of its cache, as far as there was something to tell.
    pub fn tells(&self) -> bool {
        self.heard.is_some() && self.untold < UNTOLD
    }

    fn agrees(&self) -> Option<Change> {
        (!self.is_apart && !self.is_silent).then_some(Change::Agrees)
    }

    fn turn(&mut self, now: Time) {
        let passed = (now.since(self.began).as_micros() / SPAN.as_micros()) as usize;
        for _ in 0..passed.min(SPANS) {
            self.at = (self.at + 1) % SPANS;
            self.spans[self.at] = Seen::default();
        }
        if passed > 0 {
            self.began = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn hits_that_differ_by_a_fifth_are_told_once_and_so_is_their_end() {
        let mut drift = IndexDrift::default();
        let mut told = Vec::new();
        for second in 0..1000u64 {
            let found = if (200..500).contains(&second) { 700 } else { 990 };
            told.extend(drift.measured(at(second), 1000, found).map(|change| (second, change)));
        }
        let [(from, Change::Apart { foreseen, found }), (to, Change::Agrees)] = told[..] else {
            panic!("{told:?}");
        };
        assert!((300..500).contains(&from) && (500..800).contains(&to), "{told:?}");
        assert!(found * 100 < foreseen * 80);
    }

    #[test]
    fn more_hits_than_were_foreseen_are_a_drift_too_and_a_few_answers_are_not() {
        let mut drift = IndexDrift::default();
        let told = (0..30).find_map(|second| Some((second, drift.measured(at(second), 0, 3000)?)));
        let change = Change::Apart { foreseen: 0, found: 60_000 };
        assert_eq!(told, Some((u64::from(ANSWERS) - 1, change)));
    }

    #[test]
    fn who_told_of_its_cache_and_does_not_while_it_computes_is_silent() {
        let mut drift = IndexDrift::default();
        assert_eq!(drift.computed(at(500)), None, "who never told has nothing to tell");
        drift.heard(at(500));
        let told = |drift: &mut IndexDrift, from: u64, to: u64| {
            (from..to).step_by(10).find_map(|second| Some((second, drift.computed(at(second))?)))
        };
        let (second, change) = told(&mut drift, 510, 900).expect("within five minutes");
        assert_eq!((second, change), (560, Change::Silent));
        assert_eq!(told(&mut drift, 900, 2000), None, "told once");
        assert_eq!(drift.heard(at(2000)), Some(Change::Agrees));
        // Idle, it has nothing to tell.
        assert_eq!(drift.computed(at(90_000)), None);
    }
}
