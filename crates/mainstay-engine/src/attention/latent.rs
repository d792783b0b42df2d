//! Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434) in its absorbed form.
//!
//! The cache keeps one latent vector per token and layer, normed, with the rotated part of the key
//! behind it. Keys and values are never expanded: the key's up-projection is multiplied into the
//! query, the value's is applied to the mixed latent. The result is that of the expanded form.
//!
//! The expanded form is cheaper for long prompts, but a token's bits must depend neither on the
//! chunk nor on whether it was prompt or answer (an answer's cached rows serve the next prompt that
//! contains it): see docs/decisions/0041.

use super::Pass;
use super::attend::Heads;
use crate::error::LoadError;
use crate::kernels::{self, Input, paired, vector};
use crate::model::{Linear, forward_all};
use crate::pool::Pool;
use crate::shape::{AttentionShape, Shape};
use crate::weights::{Matrix, Weights};
use std::ops::Range;

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
        Ok(Latent {
            query,
            down: linear("kv_a_proj_with_mqa", kv_lora + rope, shape.hidden)?,
            norm: norm("kv_a_layernorm", kv_lora)?,
            heads: Head::load_all(weights, [heads, nope, value, kv_lora], prefix)?,
            output: linear("o_proj", shape.hidden, heads * value)?,
            rope,
            nope,
            value,
            scale: shape.rope.softmax_scale() / ((nope + rope) as f32).sqrt(),
        })
    }

    pub fn forward(&self, x: &Input<'_>, layer: usize, pass: &mut Pass<'_>) -> Vec<f32> {
        let latent = self.norm.len();
        let row_width = latent + self.rope;
        let [mut rows, queries] = match &self.query {
            Query::Direct(query) => forward_all([&self.down, query], x, pass.pool),
            Query::Low { down, norm, up } => {
                let [rows, mut low] = forward_all([&self.down, down], x, pass.pool);
                vector::rms_norm(&mut low, norm, LATENT_EPSILON);
                [rows, up.forward(&Input::new(&low, norm.len()), pass.pool)]
            }
        };
        let heads = Heads {
            kv_heads: 1,
            group: self.heads.len(),
            key: row_width,
            value: latent,
            value_start: 0,
            scale: self.scale,
        };
        let is_paired = heads.is_paired(pass.cache.element());
        for (index, row) in rows.chunks_exact_mut(row_width).enumerate() {
            vector::rms_norm(&mut row[..latent], &self.norm, LATENT_EPSILON);
            pass.angles.rotate(index, &mut row[latent..]);
            if is_paired {
                paired::clean(row);
            }
            pass.store([layer, 0], index, row);
        }
        let queries = self.absorbed(queries, pass);
        let mixed = pass.attend(layer, heads, queries);
        let values = self.for_each_head(&mixed, latent, 0..latent, |head| &head.value, pass.pool);
        let mut out = vec![0.0; pass.slots.len() * self.heads.len() * self.value];
        self.interleave(&values, &mut out, self.value, self.value);
        self.output.forward(&Input::new(&out, self.heads.len() * self.value), pass.pool)
    }

    /// The query of each slot and head, in the space of the cached rows.
    fn absorbed(&self, mut queries: Vec<f32>, pass: &Pass<'_>) -> Vec<f32> {
        let (size, latent) = (self.nope + self.rope, self.norm.len());
        let row_width = latent + self.rope;
        let absorbed =
            self.for_each_head(&queries, size, 0..self.nope, |head| &head.absorb, pass.pool);
        let mut out = vec![0.0; pass.slots.len() * self.heads.len() * row_width];
        self.interleave(&absorbed, &mut out, latent, row_width);
        let places = queries.chunks_exact_mut(size).zip(out.chunks_exact_mut(row_width));
        for (at, (query, out)) in places.enumerate() {
            let rope = &mut query[self.nope..];
            pass.angles.rotate(at / self.heads.len(), rope);
            out[latent..].copy_from_slice(rope);
        }
        out
    }

    /// Each head's matrix times the stretch `part` of that head's vectors, which are `size` long
    /// and lie slot by slot, head by head. Gives, for each head, one vector for each slot.
    fn for_each_head<'a>(
        &'a self,
        x: &[f32],
        size: usize,
        part: Range<usize>,
        matrix: impl Fn(&'a Head) -> &'a Matrix,
        pool: &Pool,
    ) -> Vec<Vec<f32>> {
        let slots = x.len() / size / self.heads.len();
        let gathered: Vec<Vec<f32>> = (0..self.heads.len())
            .map(|head| {
                let mut own = Vec::with_capacity(slots * part.len());
                let vectors = x.chunks_exact(size).skip(head).step_by(self.heads.len());
                vectors.for_each(|vector| own.extend_from_slice(&vector[part.clone()]));
                own
            })
            .collect();
        let inputs: Vec<Input<'_>> =
            gathered.iter().map(|gathered| Input::new(gathered, part.len())).collect();
        let room = |head| vec![0.0; matrix(head).height() * slots];
        let mut outs: Vec<Vec<f32>> = self.heads.iter().map(room).collect();
        let places = self.heads.iter().zip(&inputs).zip(&mut outs);
        let tasks = places.map(|((head, input), out)| matrix(head).task(input, out)).collect();
        kernels::multiply(tasks, pool);
        outs
    }

    /// Writes vectors of `size`, given head by head, slot by slot, head by head; each has `width`
    /// numbers of room.
    fn interleave(&self, by_head: &[Vec<f32>], out: &mut [f32], size: usize, width: usize) {
        for (at, out) in out.chunks_exact_mut(width).enumerate() {
            let (slot, head) = (at / self.heads.len(), at % self.heads.len());
            out[..size].copy_from_slice(&by_head[head][slot * size..][..size]);
        }
    }
}

impl Head {
    /// Reads the halves from `kv_b_proj`, or, as GGUF files have them, already apart.
    fn load_all(
        weights: &Weights,
        [heads, nope, value, latent]: [usize; 4],
        prefix: &str,
    ) -> Result<Vec<Head>, LoadError> {
        let apart = |part: &str, head: usize| format!("{prefix}.{part}.{head}.weight");
        if weights.has(&apart("k_b_proj", 0)) {
            let head = |head: usize| {
                Ok(Head {
                    absorb: weights.matrix(&apart("k_b_proj", head), latent, nope)?,
                    value: weights.matrix(&apart("v_b_proj", head), value, latent)?,
                })
            };
            return (0..heads).map(head).collect();
        }
        let up =
            weights.exact(&format!("{prefix}.kv_b_proj.weight"), heads * (nope + value), latent)?;
        let head = |index: usize| {
            let start = index * (nope + value);
            Head {
                absorb: weights.keep(up.part(start..start + nope).transposed()),
                value: weights.keep(up.part(start + nope..start + nope + value)),
            }
        };
        Ok((0..heads).map(head).collect())
    }
}
