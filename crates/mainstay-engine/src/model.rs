//! The decoder: embedding, layers of attention and feed-forward, norm, output.
//!
//! One family, written plainly. A pass takes any mix of tokens from any sequences and returns the
//! logits where they are wanted; each token's numbers depend on its own sequence only, bit for bit.

mod draft;
mod feed;
#[cfg(test)]
mod reference;

use crate::attention::{Grouped, Latent, Pass, Slot};
use crate::cache::{Cache, Page};
use crate::error::LoadError;
use crate::kernels::{self, Input, Task, vector};
use crate::pool::Pool;
use crate::rope::Rope;
use crate::shape::{AttentionShape, Shape};
use crate::weights::{Matrix, Weights};
use draft::Draft;
pub use draft::{DraftBatch, drafts};
use feed::Feed;
use std::sync::atomic::{AtomicU64, Ordering};

pub struct Model {
    pub shape: Shape,
    rope: Rope,
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    output: Matrix,
    /// The layer that guesses the token after the next, if the model has one.
    draft: Option<Draft>,
    /// Numbers in all matrices together.
    pub parameters: usize,
}

struct Layer {
    attention_norm: Vec<f32>,
    attention: Attention,
    feed_norm: Vec<f32>,
    feed: Feed,
}

enum Attention {
    Grouped(Grouped),
    Latent(Latent),
}

/// A matrix with an optional bias.
pub struct Linear {
    pub weight: Matrix,
    bias: Option<Vec<f32>>,
}

impl Linear {
    /// Reads `{name}.weight` of shape `[rows, columns]`, and `{name}.bias` if asked.
    pub fn load(
        weights: &Weights,
        name: &str,
        [rows, columns]: [usize; 2],
        with_bias: bool,
    ) -> Result<Linear, LoadError> {
        let weight = weights.matrix(&format!("{name}.weight"), rows, columns)?;
        let bias = match with_bias {
            true => Some(weights.vector(&format!("{name}.bias"), rows)?),
            false => None,
        };
        Ok(Linear { weight, bias })
    }

    pub fn forward(&self, input: &Input<'_>, pool: &Pool) -> Vec<f32> {
        let [out] = forward_all([self], input, pool);
        out
    }
}

/// What several give for the same vectors.
pub fn forward_all<const N: usize>(
    linears: [&Linear; N],
    input: &Input<'_>,
    pool: &Pool,
) -> [Vec<f32>; N] {
    let mut outs = linears.map(|linear| vec![0.0; linear.weight.height() * input.vectors()]);
    let pairs = linears.iter().zip(&mut outs);
    let tasks: Vec<Task<'_>> = pairs.map(|(linear, out)| linear.weight.task(input, out)).collect();
    kernels::multiply(tasks, pool);
    for (linear, out) in linears.iter().zip(&mut outs) {
        if let Some(bias) = &linear.bias {
            out.chunks_exact_mut(bias.len()).for_each(|out| vector::add(out, bias));
        }
    }
    outs
}

/// Where the tokens of a batch stand between two layers.
#[derive(Default)]
pub struct Passage {
    /// A vector for each slot.
    pub x: Vec<f32>,
    /// How many layers are behind them.
    pub layers: usize,
}

/// What came of a batch.
pub struct Passed {
    /// `vocabulary` logits for each wanted slot, one after another.
    pub logits: Vec<f32>,
    /// What left the last layer, for each slot; of a model that drafts nothing, nothing.
    pub states: Vec<f32>,
}

/// Tokens that go through the layers together, with the page table of each sequence among them.
pub struct Batch<'a> {
    pub slots: &'a [Slot],
    pub tables: &'a [&'a [Page]],
    /// Indices of the slots whose logits are wanted.
    pub wanted: &'a [usize],
}

impl Model {
    pub fn load(weights: &Weights, shape: Shape) -> Result<Model, LoadError> {
        let (vocabulary, hidden) = (shape.vocabulary, shape.hidden);
        let embedding = weights.matrix("model.embed_tokens.weight", vocabulary, hidden)?;
        let output = match shape.tied.unwrap_or(!weights.has("lm_head.weight")) {
            true => embedding.clone(),
            false => weights.matrix("lm_head.weight", vocabulary, hidden)?,
        };
        let mut layers = Vec::new();
        for index in 0..shape.layers {
            layers.push(Layer::load(weights, &shape, index)?);
        }
        Ok(Model {
            rope: Rope::new(&shape.rope),
            embedding,
            layers,
            norm: weights.vector("model.norm.weight", hidden)?,
            output,
            draft: Draft::load(weights, &shape)?,
            parameters: weights.parameters(),
            shape,
        })
    }

    /// Takes a batch on from where it stands, and gives what comes out behind the last layer; or
    /// nothing where `go_on`, which is asked between layers, holds it up before. Keys and values of
    /// all slots are in the cache for the layers behind it. The pulse counts layers.
    pub fn forward(
        &self,
        batch: &Batch<'_>,
        passage: &mut Passage,
        (cache, pool, pulse): (&mut Cache, &Pool, &AtomicU64),
        go_on: &mut dyn FnMut() -> bool,
    ) -> Option<Passed> {
        if passage.layers == 0 {
            passage.x = self.embed(batch.slots);
        }
        let angles = self.rope.angles(batch.slots.iter().map(|slot| slot.position));
        let (slots, tables) = (batch.slots, batch.tables);
        let mut pass = Pass { slots, tables, angles: &angles, cache, pool };
        let first = passage.layers;
        for (index, layer) in self.layers.iter().enumerate().skip(first) {
            if index > first && !go_on() {
                return None;
            }
            layer.forward(&mut passage.x, index, self.shape.norm_epsilon, &mut pass);
            passage.layers += 1;
            pulse.fetch_add(1, Ordering::Relaxed);
        }
        Some(self.leave(batch.wanted, std::mem::take(&mut passage.x), pool))
    }

    fn embed(&self, slots: &[Slot]) -> Vec<f32> {
        let hidden = self.shape.hidden;
        let mut x = vec![0.0; slots.len() * hidden];
        for (slot, x) in slots.iter().zip(x.chunks_exact_mut(hidden)) {
            self.embedding.row(slot.token as usize, x);
        }
        x
    }

    fn leave(&self, wanted: &[usize], x: Vec<f32>, pool: &Pool) -> Passed {
        let hidden = self.shape.hidden;
        let mut last: Vec<f32> =
            wanted.iter().flat_map(|slot| &x[slot * hidden..][..hidden]).copied().collect();
        vector::rms_norm(&mut last, &self.norm, self.shape.norm_epsilon);
        let logits = self.output.multiply(&Input::new(&last, hidden), pool);
        Passed { logits, states: if self.draft.is_some() { x } else { Vec::new() } }
    }
}

impl Layer {
    fn load(weights: &Weights, shape: &Shape, index: usize) -> Result<Layer, LoadError> {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let norm = |part: &str| weights.vector(&name(part), shape.hidden);
        let attention = match shape.attention {
            AttentionShape::Grouped { .. } => {
                Attention::Grouped(Grouped::load(weights, shape, &name("self_attn"))?)
            }
            AttentionShape::Latent { .. } => {
                Attention::Latent(Latent::load(weights, shape, &name("self_attn"))?)
            }
        };
        Ok(Layer {
            attention_norm: norm("input_layernorm.weight")?,
            attention,
            feed_norm: norm("post_attention_layernorm.weight")?,
            feed: Feed::load(weights, shape, index)?,
        })
    }

    fn forward(&self, x: &mut [f32], index: usize, epsilon: f32, pass: &mut Pass<'_>) {
        let mut normed = x.to_vec();
        vector::rms_norm(&mut normed, &self.attention_norm, epsilon);
        let input = Input::new(&normed, self.attention_norm.len());
        let mixed = match &self.attention {
            Attention::Grouped(attention) => attention.forward(&input, index, pass),
            Attention::Latent(attention) => attention.forward(&input, index, pass),
        };
        vector::add(x, &mixed);
        normed.copy_from_slice(x);
        vector::rms_norm(&mut normed, &self.feed_norm, epsilon);
        let input = Input::new(&normed, self.feed_norm.len());
        vector::add(x, &self.feed.forward(&input, pass.pool));
    }
}
