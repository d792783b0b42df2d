//! Grouped-query attention (Llama, Qwen2, Qwen3): cached rows hold keys, then values, of all
//! key-value heads.

use super::Pass;
use super::attend::Heads;
use crate::error::LoadError;
use crate::kernels::{Input, vector};
use crate::model::{Linear, forward_all};
use crate::shape::{AttentionShape, Bias, Shape};
use crate::weights::Weights;

pub struct Grouped {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    /// Norm weights for each query head and each key head (Qwen3).
    norms: Option<(Vec<f32>, Vec<f32>)>,
    kv_heads: usize,
    head: usize,
    epsilon: f32,
}

impl Grouped {
    pub fn load(weights: &Weights, shape: &Shape, prefix: &str) -> Result<Grouped, LoadError> {
        let AttentionShape::Grouped { heads, kv_heads, head, bias, head_norm } = shape.attention
        else {
            unreachable!("called for grouped attention only")
        };
        let linear = |name: &str, rows, columns, with_bias| {
            Linear::load(weights, &format!("{prefix}.{name}"), [rows, columns], with_bias)
        };
        let norm = |name: &str| weights.vector(&format!("{prefix}.{name}.weight"), head);
        let (hidden, inputs) = (shape.hidden, bias != Bias::None);
        Ok(Grouped {
            query: linear("q_proj", heads * head, hidden, inputs)?,
            key: linear("k_proj", kv_heads * head, hidden, inputs)?,
            value: linear("v_proj", kv_heads * head, hidden, inputs)?,
            output: linear("o_proj", hidden, heads * head, bias == Bias::All)?,
            norms: match head_norm {
                true => Some((norm("q_norm")?, norm("k_norm")?)),
                false => None,
            },
            kv_heads,
            head,
            epsilon: shape.norm_epsilon,
        })
    }

    pub fn forward(&self, x: &Input<'_>, layer: usize, pass: &mut Pass<'_>) -> Vec<f32> {
        let [mut queries, mut keys, values] =
            forward_all([&self.query, &self.key, &self.value], x, pass.pool);
        if let Some((query, key)) = &self.norms {
            vector::rms_norm(&mut queries, query, self.epsilon);
            vector::rms_norm(&mut keys, key, self.epsilon);
        }
        let slots = pass.slots.len();
        let (query_width, key_width) = (queries.len() / slots, keys.len() / slots);
        for index in 0..slots {
            let query = &mut queries[index * query_width..][..query_width];
            let key = &mut keys[index * key_width..][..key_width];
            for head in query.chunks_exact_mut(self.head).chain(key.chunks_exact_mut(self.head)) {
                pass.angles.rotate(index, head);
            }
            let values = values[index * key_width..].chunks_exact(self.head);
            for (head, (key, value)) in key.chunks_exact(self.head).zip(values).enumerate() {
                pass.store([layer, head], index, &[key, value].concat());
            }
        }
        let heads = Heads {
            kv_heads: self.kv_heads,
            group: query_width / self.head / self.kv_heads,
            key: self.head,
            value: self.head,
            value_start: self.head,
            scale: 1.0 / (self.head as f32).sqrt(),
        };
        let mixed = pass.attend(layer, heads, queries);
        self.output.forward(&Input::new(&mixed, query_width), pass.pool)
    }
}
