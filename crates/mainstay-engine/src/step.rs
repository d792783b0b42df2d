//! Who runs in a step, and with how many tokens.
//!
//! All decoding sequences take part in every step; what the chunk leaves is spent on the prompts of
//! the oldest others. Pages are taken as sequences grow. When none is left, the youngest sequence
//! gives its pages back and waits; it starts over later with its tokens kept, and because a token's
//! bits depend on nothing but its own sequence, its answer is the same. The oldest always goes on,
//! and every admitted sequence fits alone: so each one finishes.
//!
//! A sequence looks for pages of its beginning in the index when it is let in, and again before
//! each part of its prompt: of several that begin alike, the oldest computes, and the others find.

use crate::cache::Ledger;
use crate::sequence::{Sequence, SequenceId};
use std::collections::VecDeque;

/// All requests of an engine.
#[derive(Default)]
pub(crate) struct Line {
    /// Oldest first.
    pub running: Vec<Sequence>,
    pub waiting: VecDeque<Sequence>,
}

/// One sequence's part in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Index among the running.
    pub sequence: usize,
    /// Tokens to compute.
    pub tokens: usize,
}

impl Line {
    pub fn is_empty(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    pub fn find(&self, id: SequenceId) -> Option<&Sequence> {
        self.running.iter().chain(&self.waiting).find(|sequence| sequence.id == id)
    }

    /// Takes a request out, its pages given back.
    pub fn remove(&mut self, id: SequenceId, ledger: &mut Ledger) {
        self.waiting.retain(|sequence| sequence.id != id);
        if let Some(at) = self.running.iter().position(|sequence| sequence.id == id) {
            self.running.remove(at).release(ledger);
        }
    }

    /// Lets waiting sequences in while there is a place and room for all they hold so far, beside
    /// what the running ones still need for theirs. Pages that others hold anyway need no room.
    pub fn admit(&mut self, batch_max: usize, ledger: &mut Ledger) {
        let need = |sequence: &Sequence, ledger: &Ledger| {
            ledger.pages_for(sequence.tokens.len() + 1).saturating_sub(sequence.pages.len())
        };
        let promised: usize = self.running.iter().map(|sequence| need(sequence, ledger)).sum();
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

    /// Divides a step of `chunk` tokens, and gives each sequence in it the pages it needs.
    pub fn plan(&mut self, chunk: usize, ledger: &mut Ledger) -> Vec<Share> {
        let (decoding, prompts): (Vec<usize>, Vec<usize>) =
            (0..self.running.len()).partition(|index| self.running[*index].pending() == 1);
        let mut left = chunk.saturating_sub(decoding.len()).max(1);
        let mut shares: Vec<Share> = Vec::new();
        for sequence in decoding {
            self.join(Share { sequence, tokens: 1 }, &mut shares, ledger);
        }
        for sequence in prompts {
            let Some(running) = self.running.get_mut(sequence) else { break };
            running.adopt(ledger);
            let tokens = running.pending().min(left);
            if tokens > 0 && self.join(Share { sequence, tokens }, &mut shares, ledger) {
                left -= tokens;
            }
        }
        shares.sort_by_key(|share| share.sequence);
        shares
    }

    /// Adds a share once its pages are there; youngest sequences go out for it. False if it was
    /// itself the one to go.
    fn join(&mut self, share: Share, shares: &mut Vec<Share>, ledger: &mut Ledger) -> bool {
        let Some(sequence) = self.running.get(share.sequence) else { return false };
        let needed = ledger.pages_for(sequence.computed + share.tokens);
        while self.running.get(share.sequence).is_some_and(|one| one.pages.len() < needed) {
            match ledger.take() {
                Some(page) => self.running[share.sequence].pages.push(page),
                None => self.send_youngest_back(shares, ledger),
            }
        }
        let is_in = share.sequence < self.running.len();
        if is_in {
            shares.push(share);
        }
        is_in
    }

    fn send_youngest_back(&mut self, shares: &mut Vec<Share>, ledger: &mut Ledger) {
        let Some(mut youngest) = self.running.pop() else { return };
        youngest.release(ledger);
        self.waiting.push_front(youngest);
        shares.retain(|share| share.sequence < self.running.len());
    }
}
