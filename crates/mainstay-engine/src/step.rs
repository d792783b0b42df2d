//! Who runs in a step, and with how many tokens.
//!
//! All decoding sequences take part in every step. A chunk of the prompts of the oldest others goes
//! through the layers beside them, some layers in each step (see `engine/entry.rs`). Pages are
//! taken as sequences grow.
//!
//! **Pressure.** First nobody new is let in. Then pages that nobody holds lose what they had for
//! later. When none is left, the youngest sequence is swapped out: it gives its pages back and
//! waits, its tokens kept. It comes back when there is room for it and for the next page of each
//! other, finds what is left of its pages in the index, and computes the rest anew. Because a
//! token's bits depend on nothing but its own sequence, its answer is the same. The oldest always
//! goes on, and every admitted sequence fits alone: so each one finishes. When the line of those
//! who wait is full, more are refused with a time.
//!
//! A sequence looks for pages of its beginning in the index when it is let in, and again before
//! each part of its prompt: of several that begin alike, the oldest computes, and the others find.

use crate::cache::Ledger;
use crate::sequence::{Sequence, SequenceId};
use std::collections::VecDeque;
use std::time::Duration;

/// All requests of an engine.
#[derive(Default)]
pub(crate) struct Line {
    /// Oldest first.
    pub running: Vec<Sequence>,
    pub waiting: VecDeque<Sequence>,
    /// How often one was swapped out.
    pub swaps: u64,
}

/// One sequence's part in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Index among the running.
    pub sequence: usize,
    /// Tokens to compute.
    pub tokens: usize,
    /// A guess of the token behind them, to be computed along.
    pub draft: Option<u32>,
}

/// What parts of steps take, learned from those that were. Which tokens share a step, and how far
/// they get in it, changes no bit of an answer, so a clock may decide it.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Of the answers' part.
    step: f64,
    /// Of one token of a prompt, for each layer it goes through.
    token: f64,
    /// From one request's end to the next, and since the last end.
    turn: f64,
    since: f64,
}

/// Part of a new figure in the learned one: of the last ten or so.
const NEW: f64 = 0.1;
/// Tokens of a prompt that go together while nothing is known of what they take.
const CHUNK_FIRST: usize = 8;

/// A prompt lengthens others' gaps to so many of those without it at most, unless that is too short
/// for anybody to notice. The promise is three, but a layer's time is only foreseen, and behind one
/// an answer's weights have left the processor's caches.
const GAPS: f64 = 2.0;
const UNNOTICED: Duration = Duration::from_millis(20);
/// The least time that whoever is refused is told: less would be asking again at once.
const SOON: Duration = Duration::from_secs(1);

impl Pace {
    /// As if each step had time for one layer of a hundred tokens, however long it takes: answers
    /// take less than no time, and layers more than there is.
    #[cfg(test)]
    pub fn hurried() -> Pace {
        Pace { step: -1000.0, token: 9.0, ..Pace::default() }
    }

    /// The time of a step beside others' answers, `time` at most.
    pub fn limit(&self, time: Duration) -> Duration {
        let gaps = Duration::try_from_secs_f64(self.step * GAPS).unwrap_or(time);
        time.min(gaps.max(UNNOTICED))
    }

    /// Tokens of a prompt that go together beside others' answers: so many that a layer of them
    /// takes what a step of about `time` leaves. The more go together, the less each takes.
    pub fn chunk(&self, time: Duration) -> usize {
        if self.token <= 0.0 {
            return CHUNK_FIRST;
        }
        // Negative is the least; what is too large for a count is the most.
        ((time.as_secs_f64() - self.step) / self.token).max(1.0) as usize
    }

    /// What a layer of so many tokens of prompts is likely to take.
    pub fn layer(&self, tokens: usize) -> Duration {
        Duration::try_from_secs_f64(self.token * tokens as f64).unwrap_or(Duration::MAX)
    }

    /// The answers' part of a step took so long.
    pub fn answered(&mut self, took: Duration) {
        learn(&mut self.step, took.as_secs_f64());
    }

    /// So many tokens of prompts went through so many layers.
    pub fn entered(&mut self, tokens: usize, layers: usize, took: Duration) {
        learn(&mut self.token, took.as_secs_f64() / (tokens * layers).max(1) as f64);
    }

    /// A step took so long, and so many requests ended with it.
    pub fn end(&mut self, took: Duration, ends: usize) {
        self.since += took.as_secs_f64();
        if ends > 0 {
            learn(&mut self.turn, self.since / ends as f64);
            self.since = 0.0;
        }
    }

    /// When the next request is likely to end, as far as that is known.
    pub fn next_end(&self) -> Duration {
        Duration::from_secs_f64((self.turn - self.since).max(0.0)).max(SOON)
    }
}

fn learn(known: &mut f64, seen: f64) {
    *known = if *known == 0.0 { seen } else { *known + NEW * (seen - *known) };
}

impl Line {
    pub fn is_empty(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    pub fn find(&self, id: SequenceId) -> Option<&Sequence> {
        self.running.iter().chain(&self.waiting).find(|sequence| sequence.id == id)
    }

    /// How many answers are being written.
    pub fn decoding(&self) -> usize {
        self.running.iter().filter(|sequence| sequence.is_decoding()).count()
    }

    /// Takes a request out, its pages given back.
    pub fn remove(&mut self, id: SequenceId, ledger: &mut Ledger) {
        self.waiting.retain(|sequence| sequence.id != id);
        if let Some(at) = self.running.iter().position(|sequence| sequence.id == id) {
            self.running.remove(at).release(ledger);
        }
    }

    /// Lets waiting sequences in while there is a place and room for all they hold so far, beside
    /// what the running ones still need for theirs and a page more for each: who is let in must
    /// not have to go out again at once. Pages that others hold anyway need no room.
    pub fn admit(&mut self, batch_max: usize, ledger: &mut Ledger) {
        let need = |sequence: &Sequence, ledger: &Ledger| {
            ledger.pages_for(sequence.tokens.len() + 1).saturating_sub(sequence.pages.len())
        };
        let promised = |sequence| need(sequence, ledger) + 1;
        let promised: usize = self.running.iter().map(promised).sum();
        let mut room = ledger.available().saturating_sub(promised);
        while self.running.len() < batch_max {
            let Some(first) = self.waiting.front() else { return };
            let known = first.known(ledger);
            let shared = known.iter().filter(|page| ledger.holders(**page) > 0).count();
            let missing = need(first, ledger).saturating_sub(shared);
            if missing > room && !self.running.is_empty() {
                return;
            }
            let Some(mut first) = self.waiting.pop_front() else { return };
            first.adopt(ledger);
            room = room.saturating_sub(missing);
            self.running.push(first);
        }
    }

    /// The parts of all whose answers are being written, each with the pages it needs. Drafts take
    /// part where pages are left for them.
    pub fn answers(&mut self, ledger: &mut Ledger) -> Vec<Share> {
        let mut shares = Vec::new();
        for sequence in self.those(Sequence::is_decoding) {
            let share = Share { sequence, tokens: 1, draft: None };
            self.join(share, &mut shares, ledger);
        }
        for share in &mut shares {
            let sequence = &mut self.running[share.sequence];
            let guess = sequence.draft.take();
            share.draft = guess.filter(|_| sequence.grow(sequence.computed + 2, ledger));
        }
        shares
    }

    /// Parts of the oldest prompts, or of what was computed before and is again, `chunk` tokens
    /// together, each with the pages it needs.
    pub fn prompts(&mut self, chunk: usize, ledger: &mut Ledger) -> Vec<Share> {
        let (mut left, mut shares) = (chunk.max(1), Vec::new());
        for sequence in self.those(|sequence| !sequence.is_decoding()) {
            let Some(running) = self.running.get_mut(sequence) else { break };
            running.adopt(ledger);
            let tokens = running.pending().min(left);
            let share = Share { sequence, tokens, draft: None };
            if tokens > 0 && self.join(share, &mut shares, ledger) {
                left -= tokens;
            }
        }
        shares
    }

    /// Where they are among the running.
    fn those(&self, which: impl Fn(&Sequence) -> bool) -> Vec<usize> {
        (0..self.running.len()).filter(|at| which(&self.running[*at])).collect()
    }

    /// Adds a share once its pages are there; youngest sequences go out for it. False if it was
    /// itself the one to go.
    fn join(&mut self, share: Share, shares: &mut Vec<Share>, ledger: &mut Ledger) -> bool {
        let Some(sequence) = self.running.get(share.sequence) else { return false };
        let needed = ledger.pages_for(sequence.computed + share.tokens);
        while self.running.get(share.sequence).is_some_and(|one| one.pages.len() < needed) {
            match ledger.take() {
                Some(page) => self.running[share.sequence].pages.push(page),
                None => self.swap_youngest_out(shares, ledger),
            }
        }
        let is_in = share.sequence < self.running.len();
        if is_in {
            let sequence = &mut self.running[share.sequence];
            sequence.step_from = sequence.computed;
            shares.push(share);
        }
        is_in
    }

    fn swap_youngest_out(&mut self, shares: &mut Vec<Share>, ledger: &mut Ledger) {
        let Some(mut youngest) = self.running.pop() else { return };
        self.swaps += 1;
        youngest.release(ledger);
        self.waiting.push_front(youngest);
        shares.retain(|share| share.sequence < self.running.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_get_what_the_others_leave_of_a_step() {
        let (mut pace, ms) = (Pace::default(), Duration::from_millis);
        assert_eq!(pace.chunk(ms(40)), CHUNK_FIRST);
        // 20 ms for the answers, 1 ms for a layer of each token of a prompt.
        for _ in 0..100 {
            pace.answered(ms(20));
            pace.entered(30, 4, ms(120));
        }
        assert_eq!(pace.chunk(ms(40)), 20);
        assert_eq!(pace.layer(20), ms(20));
        assert_eq!(pace.chunk(ms(10)), 1);
        assert!(pace.chunk(Duration::MAX) > 1 << 40);
        // No gap of others grows beyond two of its own, or 20 ms.
        assert_eq!(pace.limit(ms(40)), ms(40));
        pace.step = 0.015;
        assert_eq!(pace.limit(ms(40)), ms(30));
        pace.step = 0.001;
        assert_eq!((pace.limit(ms(40)), pace.limit(ms(10))), (ms(20), ms(10)));
    }

    #[test]
    fn who_is_refused_hears_when_the_next_request_is_likely_to_end() {
        let (mut pace, seconds) = (Pace::default(), Duration::from_secs);
        assert_eq!(pace.next_end(), SOON);
        for _ in 0..100 {
            pace.end(seconds(4), 0);
            pace.end(seconds(4), 2);
        }
        assert_eq!(pace.next_end(), seconds(4));
        pace.end(seconds(1), 0);
        assert_eq!(pace.next_end(), seconds(3));
        pace.end(seconds(60), 0);
        assert_eq!(pace.next_end(), SOON);
    }
}
