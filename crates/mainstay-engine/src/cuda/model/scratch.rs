//! Memory for what lies between the kernels of a pass, taken once.

use super::Room;
use crate::cuda::attention;
use crate::cuda::card::{Buffer, Card};
use crate::cuda::product::FEW;
use crate::error::LoadError;
use crate::shape::{AttentionShape, Shape};

/// Each is as large as the largest pass needs.
pub struct Scratch {
    /// The residual, f32.
    pub x: Buffer,
    pub normed: Buffer,
    /// Scales of a norm that is not finished.
    pub scales: Buffer,
    /// The first product of attention, f32.
    pub first: Buffer,
    pub q: Buffer,
    /// Queries in the latent's space.
    pub absorbed: Buffer,
    /// Mixed latents.
    pub mixed: Buffer,
    /// Mixed values.
    pub values: Buffer,
    /// Parts of `decode`.
    pub parts: Buffer,
    pub most_sum: Buffer,
    /// Gates with their counterparts, before they are joined.
    pub wide: Buffer,
    pub inner: Buffer,
    /// Each choice's part of the result.
    pub outer: Buffer,
    pub scores: Buffer,
    pub choice: Buffer,
    pub share: Buffer,
    pub slot: Buffer,
    pub token_of: Buffer,
    pub ends: Buffer,
    pub tiles: Buffer,
    pub tile_count: Buffer,
    /// Normed rows whose logits are wanted.
    pub last: Buffer,
    pub logits: Buffer,
}

/// Numbers of one token.
struct Widths {
    first: usize,
    q: usize,
    absorbed: usize,
    mixed: usize,
    values: usize,
    low: usize,
    heads: usize,
}

fn widths(shape: &Shape) -> Widths {
    match shape.attention {
        AttentionShape::Latent { heads, q_lora, kv_lora, rope, nope, value } => Widths {
            first: q_lora.unwrap_or(0) + kv_lora + rope,
            q: heads * (nope + rope),
            absorbed: heads * (kv_lora + rope),
            mixed: heads * kv_lora,
            values: heads * value,
            low: q_lora.unwrap_or(0),
            heads,
        },
        AttentionShape::Grouped { heads, kv_heads, head, .. } => Widths {
            first: (heads + 2 * kv_heads) * head,
            q: heads * head,
            absorbed: 0,
            mixed: 0,
            values: heads * head,
            low: 0,
            heads,
        },
    }
}

impl Scratch {
    pub fn new(card: &Card, shape: &Shape, room: &Room) -> Result<Scratch, LoadError> {
        let widths = widths(shape);
        let tokens = room.prompt.max(FEW);
        let wide = |numbers: usize| card.zeros(numbers * 4);
        let narrow = |numbers: usize| card.zeros(numbers * card.width());
        let (experts, choices, expert) = match &shape.experts {
            Some(experts) => {
                let shared = experts.shared_hidden / experts.hidden;
                (experts.experts + shared, experts.gate.top + shared, experts.hidden)
            }
            None => (0, 0, 0),
        };
        let inner = tokens * shape.dense_hidden.max(choices * expert);
        let parts = FEW * widths.heads * attention::parts(room.positions.next_power_of_two());
        let value = match shape.attention {
            AttentionShape::Latent { kv_lora, .. } => kv_lora,
            AttentionShape::Grouped { head, .. } => head,
        };
        Ok(Scratch {
            x: wide(tokens * shape.hidden)?,
            normed: narrow(tokens * shape.hidden.max(widths.low))?,
            scales: wide(FEW)?,
            first: wide(tokens * widths.first)?,
            q: narrow(tokens * widths.q)?,
            absorbed: narrow(tokens * widths.absorbed)?,
            mixed: narrow(tokens * widths.mixed)?,
            values: narrow(tokens * widths.values)?,
            parts: wide(parts * value)?,
            most_sum: wide(parts * 2)?,
            wide: narrow(if card.is_exact || cfg!(test) { 2 * inner } else { 0 })?,
            inner: narrow(inner)?,
            outer: narrow(tokens * choices * shape.hidden)?,
            scores: wide(tokens * experts)?,
            choice: wide(tokens * choices)?,
            share: wide(tokens * choices)?,
            slot: wide(tokens * choices)?,
            token_of: wide(tokens * choices)?,
            ends: wide(experts)?,
            // Exact: a tile for each.
            tiles: wide(2 * (tokens * choices + experts))?,
            tile_count: wide(1)?,
            last: narrow(FEW * shape.hidden)?,
            logits: wide(FEW * shape.vocabulary)?,
        })
    }
}
