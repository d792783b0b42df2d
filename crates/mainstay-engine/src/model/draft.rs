//! Drafts: DeepSeek-V3's layer for the token after the next (arXiv:2412.19437, section 2.2).
//!
//! It joins what the model knew before a token with the token itself, passes one more decoder
//! layer, and reads the model's own output matrix: a guess of the token that follows. A guess
//! changes no answer: it is only computed along in the next step, and counts where the model, asked
//! there, says the same.
//!
//! The layer attends over rows of its own, one for each token, in the cache behind those of the
//! other layers. The row of a token lies at the token's own position (published code keeps it one
//! before; only distances matter to a rotation): so it depends on this token and what stands before
//! it, as every other row does, and pages can be shared. The first token has nothing before it.

#[cfg(test)]
mod tests;

use super::{Layer, Model};
use crate::attention::{Pass, Slot};
use crate::cache::{Cache, Page};
use crate::error::LoadError;
use crate::kernels::{Input, vector};
use crate::pool::Pool;
use crate::shape::Shape;
use crate::weights::{Matrix, Weights};

/// The layer that drafts.
pub struct Draft {
    /// Of a token's embedding, and of what the model knew before it.
    token_norm: Vec<f32>,
    state_norm: Vec<f32>,
    /// From both, one behind the other.
    join: Matrix,
    layer: Layer,
    norm: Vec<f32>,
}

/// Tokens to take in, and to draft behind.
pub struct DraftBatch<'a> {
    pub slots: &'a [Slot],
    pub tables: &'a [&'a [Page]],
    /// What left the model's last layer before each slot's token.
    pub states: &'a [f32],
    /// Indices of the slots behind which a draft is wanted.
    pub wanted: &'a [usize],
}

/// Whether this model drafts: its description says so, and the layer is there. Many who publish
/// weights leave it out.
pub fn drafts(weights: &Weights, shape: &Shape) -> bool {
    shape.draft_layers > 0 && weights.has(&format!("model.layers.{}.eh_proj.weight", shape.layers))
}

impl Draft {
    pub fn load(weights: &Weights, shape: &Shape) -> Result<Option<Draft>, LoadError> {
        if !drafts(weights, shape) {
            return Ok(None);
        }
        let (index, hidden) = (shape.layers, shape.hidden);
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let norm = |part: &str| weights.vector(&name(part), hidden);
        let mut shape = shape.clone();
        if let Some(experts) = &mut shape.experts {
            experts.sparse.push(true);
        }
        Ok(Some(Draft {
            token_norm: norm("enorm.weight")?,
            state_norm: norm("hnorm.weight")?,
            join: weights.matrix(&name("eh_proj.weight"), hidden, 2 * hidden)?,
            layer: Layer::load(weights, &shape, index)?,
            norm: norm("shared_head.norm.weight")?,
        }))
    }
}

impl Model {
    /// Takes tokens in and returns `vocabulary` logits for each wanted draft, one after another. Of
    /// a model that drafts nothing, none.
    pub fn draft(&self, batch: &DraftBatch<'_>, cache: &mut Cache, pool: &Pool) -> Vec<f32> {
        let Some(draft) = &self.draft else { return Vec::new() };
        let (hidden, epsilon) = (self.shape.hidden, self.shape.norm_epsilon);
        let mut tokens = vec![0.0; batch.slots.len() * hidden];
        for (slot, token) in batch.slots.iter().zip(tokens.chunks_exact_mut(hidden)) {
            self.embedding.row(slot.token as usize, token);
        }
        vector::rms_norm(&mut tokens, &draft.token_norm, epsilon);
        let mut states = batch.states.to_vec();
        vector::rms_norm(&mut states, &self.norm, epsilon);
        vector::rms_norm(&mut states, &draft.state_norm, epsilon);
        let pairs = tokens.chunks_exact(hidden).zip(states.chunks_exact(hidden));
        let joined: Vec<f32> = pairs.flat_map(|(token, state)| [token, state].concat()).collect();
        let mut x = draft.join.multiply(&Input::new(&joined, 2 * hidden), pool);
        let angles = self.rope.angles(batch.slots.iter().map(|slot| slot.position));
        let (slots, tables) = (batch.slots, batch.tables);
        let mut pass = Pass { slots, tables, angles: &angles, cache, pool };
        draft.layer.forward(&mut x, self.layers.len(), epsilon, &mut pass);
        let mut last: Vec<f32> =
            batch.wanted.iter().flat_map(|slot| &x[slot * hidden..][..hidden]).copied().collect();
        if last.is_empty() {
            return Vec::new();
        }
        vector::rms_norm(&mut last, &draft.norm, epsilon);
        self.output.multiply(&Input::new(&last, hidden), pool)
    }
}
