//! Drafts in a step: when they are worth it, and how they are made and judged.
//!
//! A draft costs a token more in the next step for each answer, which is next to nothing while the
//! weights are read for one or two, and as much as a whole answer more where many share a step. So
//! steps of both kinds are timed, for each number of answers, and the kind that writes more tokens
//! in its time is taken; from time to time the other is tried. The clock decides only which tokens
//! share a step, and that changes no bit.

use super::Engine;
use crate::attention::Slot;
use crate::cache::Page;
use crate::model::DraftBatch;
use crate::sequence::{Progress, SequenceId};
use crate::step::Share;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// When drafts are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drafts {
    /// Where they are seen to save time.
    #[default]
    Measured,
    /// Wherever the model can.
    Always,
}

/// How many drafts were computed along, and how many of them the model then said itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drafted {
    pub made: u64,
    pub kept: u64,
}

/// What drafting brought so far.
#[derive(Debug, Default)]
pub(super) struct Drafting {
    pub seen: Drafted,
    /// Part of the drafts that were kept lately.
    share: f64,
    /// Of steps with so many answers, without and with drafts: seconds.
    times: Vec<[f64; 2]>,
    steps: u32,
}

/// Part of a new figure in the learned ones.
const NEW: f64 = 0.1;
/// Of so many steps the last few are of the other kind, to see whether it has become the better.
const TRY: [u32; 2] = [128, 4];

impl Drafting {
    /// Whether drafts are worth it beside so many answers.
    pub fn is_worth(&mut self, drafts: Drafts, answers: usize) -> bool {
        self.steps = (self.steps + 1) % TRY[0];
        if drafts == Drafts::Always {
            return true;
        }
        let [without, with] = self.times.get(answers).copied().unwrap_or_default();
        if without == 0.0 || with == 0.0 {
            return without > 0.0;
        }
        let is_better = (1.0 + self.share) * without > with;
        is_better != (self.steps < TRY[1])
    }

    /// A step's answers took so long; there were drafts for all of them, or none.
    pub fn learn(&mut self, shares: &[Share], (is_on, took): (bool, Duration)) {
        let drafts = shares.iter().filter(|share| share.draft.is_some()).count();
        if (is_on && drafts < shares.len()) || (!is_on && drafts > 0) {
            return;
        }
        if self.times.len() <= shares.len() {
            self.times.resize(shares.len() + 1, [0.0; 2]);
        }
        let (known, took) = (&mut self.times[shares.len()][usize::from(is_on)], took.as_secs_f64());
        *known = if *known == 0.0 { took } else { *known + NEW * (took - *known) };
    }

    /// The model said what was drafted, or something else.
    pub fn judge(&mut self, is_kept: bool) {
        self.seen.made += 1;
        self.seen.kept += u64::from(is_kept);
        self.share += NEW * (f64::from(u8::from(is_kept)) - self.share);
    }
}

impl Engine {
    /// The drafting layer takes in what the step computed and what was chosen behind it; where
    /// `is_on`, it drafts the next token of each answer that `told` does not end. `states` are
    /// those of the step's slots.
    pub(super) fn draft(
        &mut self,
        shares: &[Share],
        states: &[f32],
        (is_on, told): (bool, &[Progress]),
    ) {
        if !self.shared.drafts {
            return;
        }
        let ended = |id| told.iter().any(|one| one.id == id && one.finish.is_some());
        // A panic here costs drafts, and no answer.
        let drawn = AssertUnwindSafe(|| self.try_draft(shares, states, (is_on, &ended)));
        let drawn = catch_unwind(drawn);
        if drawn.is_err() {
            self.line.running.iter_mut().for_each(|sequence| sequence.draft = None);
        }
    }

    fn try_draft(
        &mut self,
        shares: &[Share],
        states: &[f32],
        (is_on, ended): (bool, &dyn Fn(SequenceId) -> bool),
    ) {
        let width = self.shared.hidden;
        let (mut slots, mut before, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
        let mut first = 0;
        for (table, share) in shares.iter().enumerate() {
            let sequence = &mut self.line.running[share.sequence];
            let its = share.tokens + usize::from(share.draft.is_some());
            let states = &states[first * width..][..its * width];
            first += its;
            if ended(sequence.id) {
                continue;
            }
            let from = sequence.step_from;
            let end = match sequence.pending() {
                1 if sequence.grow(sequence.computed + 1, &mut self.ledger) => {
                    sequence.computed + 1
                }
                _ => sequence.computed,
            };
            for position in sequence.drafted.max(from)..end {
                slots.push(Slot {
                    token: sequence.tokens[position],
                    position,
                    table,
                    is_answer: position >= sequence.prompt(),
                });
                match position.checked_sub(from + 1) {
                    Some(at) => before.extend_from_slice(&states[at * width..][..width]),
                    None if sequence.state.len() == width => before.extend(&sequence.state),
                    None => before.resize(before.len() + width, 0.0),
                }
            }
            sequence.drafted = sequence.drafted.max(end);
            let last = sequence.computed - from;
            if last > 0 {
                sequence.state.clear();
                sequence.state.extend_from_slice(&states[(last - 1) * width..][..width]);
            }
            // Two more must fit: the one that is drafted, and the one that is chosen behind it.
            if is_on && end > sequence.computed && sequence.has_room(2) {
                wanted.push((slots.len() - 1, share.sequence));
            }
        }
        if slots.is_empty() {
            return;
        }
        let page_table = |share: &Share| self.line.running[share.sequence].pages.as_slice();
        let tables: Vec<&[Page]> = shares.iter().map(page_table).collect();
        let places: Vec<usize> = wanted.iter().map(|(slot, _)| *slot).collect();
        let (slots, states) = (slots.as_slice(), before.as_slice());
        let batch = DraftBatch { slots, tables: &tables, states, wanted: &places };
        let mut logits = self.computer.draft(&batch, &mut self.cache);
        let rows = logits.chunks_exact_mut(self.shared.card.vocabulary);
        for ((_, sequence), logits) in wanted.iter().zip(rows) {
            let sequence = &mut self.line.running[*sequence];
            sequence.draft = sequence.guess(logits);
        }
    }
}
