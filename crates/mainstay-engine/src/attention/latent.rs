//! Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434) in its absorbed form.
//!
//! The cache keeps one latent vector per token and layer, normed, with the rotated part of the key
//! behind it. Keys and values are never expanded: the key's up-projection is multiplied into the
//! query, the value's is applied to the mixed latent. The result is that of the expanded form.
//!
//! The expanded form is cheaper for long prompts, but only from chunks of about 170 tokens on (it
//! expands the whole context once a chunk), and a token's bits must not depend on the chunk. So it
//! can be added only as the form of *all* prompt positions; it is left out for now.

use super::Pass;
use crate::error::LoadError;
use crate::kernels::vector;
use crate::model::Linear;
use crate::shape::{AttentionShape, Shape};
use crate::weights::{Matrix, Weights};

/// The reference norms the latents with this, whatever `rms_norm_eps` says.
const LATENT_EPSILON: f32 = 1e-6;

pub struct Latent {
    query: Query,
    /// To the latent, and the key part that carries the position.
    down: Linear,
    norm: Vec<f32>,
    heads: Vec<Head>,
    output: Linear,
    rope: usize,
    nope: usize,
    value: usize,
    scale: f32,
}

enum Query {
    Direct(Linear),
    Low { down: Linear, norm: Vec<f32>, up: Linear },
}

/// One head's halves of `kv_b_proj`.
struct Head {
    /// From a query without position to the latent: the key's up-projection, transposed.
    absorb: Matrix,
    /// From the latent to the value.
    value: Matrix,
}

impl Latent {
    pub fn load(weights: &Weights, shape: &Shape, prefix: &str) -> Result<Latent, LoadError> {
        let AttentionShape::Latent { heads, q_lora, kv_lora, rope, nope, value } = shape.attention
        else {
            unreachable!("called for latent attention only")
        };
        let linear = |name: &str, rows, columns| {
            Linear::load(weights, &format!("{prefix}.{name}"), [rows, columns], false)
        };
        let norm = |name: &str, size| weights.vector(&format!("{prefix}.{name}.weight"), size);
        let query_width = heads * (nope + rope);
        let query = match q_lora {
            None => Query::Direct(linear("q_proj", query_width, shape.hidden)?),
            Some(rank) => Query::Low {
                down: linear("q_a_proj", rank, shape.hidden)?,
                norm: norm("q_a_layernorm", rank)?,
                up: linear("q_b_proj", query_width, rank)?,
            },
        };
        let up = linear("kv_b_proj", heads * (nope + value), kv_lora)?.weight;
        let head = |index: usize| {
            let start = index * (nope + value);
            Head {
                absorb: up.part(start..start + nope).transposed(),
                value: up.part(start + nope..start + nope + value),
            }
        };
        Ok(Latent {
            query,
            down: linear("kv_a_proj_with_mqa", kv_lora + rope, shape.hidden)?,
            norm: norm("kv_a_layernorm", kv_lora)?,
            heads: (0..heads).map(head).collect(),
            output: linear("o_proj", shape.hidden, heads * value)?,
            rope,
            nope,
            value,
            scale: shape.rope.softmax_scale() / ((nope + rope) as f32).sqrt(),
        })
    }

    pub fn forward(&self, x: &[f32], layer: usize, pass: &mut Pass<'_>) -> Vec<f32> {
        let latent = self.norm.len();
        let row_width = latent + self.rope;
        let mut rows = self.down.forward(x, pass.threads);
        for (index, row) in rows.chunks_exact_mut(row_width).enumerate() {
            vector::rms_norm(&mut row[..latent], &self.norm, LATENT_EPSILON);
            pass.angles.rotate(index, &mut row[latent..]);
            pass.store(layer, index, row);
        }
        let queries = self.absorbed_queries(x, pass);
        let query_width = self.heads.len() * row_width;
        let mut mixed = Vec::with_capacity(pass.slots.len() * self.heads.len() * latent);
        for (index, queries) in queries.chunks_exact(query_width).enumerate() {
            let view = pass.view(layer, index, 0..row_width, 0..latent);
            mixed.extend(view.attend(queries, self.scale));
        }
        self.output.forward(&self.values(&mixed, pass), pass.threads)
    }

    /// The query of each slot and head, in the space of the cached rows.
    fn absorbed_queries(&self, x: &[f32], pass: &Pass<'_>) -> Vec<f32> {
        let (slots, heads) = (pass.slots.len(), self.heads.len());
        let mut plain = self.query.forward(x, pass.threads);
        let (size, latent) = (self.nope + self.rope, self.norm.len());
        let row_width = latent + self.rope;
        let mut out = vec![0.0; slots * heads * row_width];
        for (index, head) in self.heads.iter().enumerate() {
            let place = |slot: usize| (slot * heads + index) * size;
            let nopes: Vec<f32> =
                (0..slots).flat_map(|slot| &plain[place(slot)..][..self.nope]).copied().collect();
            let absorbed = head.absorb.multiply(&nopes, pass.threads);
            for slot in 0..slots {
                let rope = &mut plain[place(slot) + self.nope..][..self.rope];
                pass.angles.rotate(slot, rope);
                let out = &mut out[(slot * heads + index) * row_width..][..row_width];
                out[..latent].copy_from_slice(&absorbed[slot * latent..][..latent]);
                out[latent..].copy_from_slice(rope);
            }
        }
        out
    }

    /// From each slot's and head's mixed latent to its value.
    fn values(&self, mixed: &[f32], pass: &Pass<'_>) -> Vec<f32> {
        let (slots, heads, latent) = (pass.slots.len(), self.heads.len(), self.norm.len());
        let mut out = vec![0.0; slots * heads * self.value];
        for (index, head) in self.heads.iter().enumerate() {
            let place = |slot: usize| slot * heads + index;
            let latents: Vec<f32> = (0..slots)
                .flat_map(|slot| &mixed[place(slot) * latent..][..latent])
                .copied()
                .collect();
            let values = head.value.multiply(&latents, pass.threads);
            for (slot, value) in values.chunks_exact(self.value).enumerate() {
                out[place(slot) * self.value..][..self.value].copy_from_slice(value);
            }
        }
        out
    }
}

impl Query {
    fn forward(&self, x: &[f32], threads: usize) -> Vec<f32> {
        match self {
            Query::Direct(query) => query.forward(x, threads),
            Query::Low { down, norm, up } => {
                let mut low = down.forward(x, threads);
                vector::rms_norm(&mut low, norm, LATENT_EPSILON);
                up.forward(&low, threads)
            }
        }
    }
}
