//! How prompts enter beside answers that are being written.
//!
//! A step has little time for prompts: the gap between the tokens of others must stay short. If a
//! few tokens went through all layers in that time, each of them would have the weights read for it
//! almost alone. So many go together, and through a few layers only; in the next step they go on
//! from there, behind the answers. Weights are read as often as the prompt has such parts, and a
//! part is as large as one layer of it fits the time.

use super::Engine;
use crate::model::Passage;
use crate::sequence::{Progress, SequenceId};
use crate::step::Share;
use std::time::{Duration, Instant};

/// Parts of prompts between two layers.
pub(super) struct Entry {
    /// Whose they are, and how many tokens of each.
    pub(super) parts: Vec<(SequenceId, usize)>,
    passage: Passage,
}

impl Engine {
    /// The prompts' part of a step that began then.
    pub(super) fn enter(&mut self, began: Instant, is_on: bool, out: &mut Vec<Progress>) {
        let settings = &self.shared.settings;
        let limit = match self.line.decoding() {
            0 => None,
            _ => Some(self.pace.limit(settings.step_time)),
        };
        let chunk = limit.map_or(usize::MAX, |limit| self.pace.chunk(limit));
        let chunk = chunk.min(settings.prefill_chunk);
        let (shares, mut passage) = self
            .resumed()
            .unwrap_or_else(|| (self.line.prompts(chunk, &mut self.ledger), Passage::default()));
        if shares.is_empty() {
            return;
        }
        let (from, start) = (passage.layers, Instant::now());
        let tokens = shares.iter().map(|share| share.tokens).sum();
        let layer = self.pace.layer(tokens);
        let is_time = |limit: Duration| began.elapsed().saturating_add(layer) <= limit;
        let passed = self.try_compute(&shares, &mut passage, &mut || limit.is_none_or(is_time));
        let layers = match passed {
            Some(None) => passage.layers,
            _ => self.computer.layers(),
        };
        self.pace.entered(tokens, layers - from, start.elapsed());
        match passed {
            Some(None) => self.entry = Some(self.held_up(&shares, passage)),
            passed => self.take_in(&shares, passed.flatten(), (is_on, out)),
        }
    }

    fn held_up(&mut self, shares: &[Share], passage: Passage) -> Entry {
        let part = |share: &Share| {
            let sequence = &mut self.line.running[share.sequence];
            sequence.is_entering = true;
            (sequence.id, share.tokens)
        };
        Entry { parts: shares.iter().map(part).collect(), passage }
    }

    /// The parts that are under way, without those whose request has ended or was swapped out.
    fn resumed(&mut self) -> Option<(Vec<Share>, Passage)> {
        let Entry { parts, passage } = self.entry.take()?;
        let width = passage.x.len() / parts.iter().map(|(_, tokens)| tokens).sum::<usize>().max(1);
        let (mut shares, mut x, mut rows) = (Vec::new(), Vec::new(), passage.x.as_slice());
        for (id, tokens) in parts {
            let (own, others) = rows.split_at(tokens * width);
            rows = others;
            let mut running = self.line.running.iter();
            if let Some(sequence) = running.position(|one| one.id == id && one.is_entering) {
                shares.push(Share { sequence, tokens, draft: None });
                x.extend_from_slice(own);
            }
        }
        (!shares.is_empty()).then_some((shares, Passage { x, layers: passage.layers }))
    }
}
