//! The layer that drafts, against the formula in plain code: no library runs it for a reference.

use super::*;
use crate::cache::CacheShape;
use crate::kernels::Element;
use crate::weights::Source;
use half::bf16;
use safetensors::SafeTensors;
use std::collections::HashMap;
use std::path::Path;

fn read(file: &str) -> Vec<u8> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    std::fs::read(fixtures.join(file)).unwrap()
}

/// The model's weights with the layer's behind them.
fn all() -> Vec<u8> {
    let files = ["deepseek-v3/model.safetensors", "deepseek-v3-drafts/draft.safetensors"].map(read);
    let files = files.each_ref().map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    safetensors::serialize(files.iter().flat_map(SafeTensors::tensors), None).unwrap()
}

/// Tensors as plain numbers. Sizes are those of the fixture.
struct Plain(HashMap<String, Vec<f64>>);

const HIDDEN: usize = 64;
const LATENT: usize = 32;
const HEADS: [usize; 3] = [4, 32, 32];
const GROUP: usize = 4;

impl Plain {
    fn of(bytes: &[u8]) -> Plain {
        let number = |two: &[u8; 2]| f64::from(bf16::from_le_bytes(*two).to_f32());
        let number = &number;
        let tensors = SafeTensors::deserialize(bytes).unwrap().tensors();
        let halves = tensors.iter().map(|(name, view)| {
            let numbers = view.data().as_chunks::<2>().0.iter().map(number).collect();
            (name.clone(), numbers)
        });
        Plain(halves.collect())
    }

    fn get(&self, name: &str) -> &[f64] {
        &self.0[name]
    }

    fn layer(&self, name: &str) -> &[f64] {
        self.get(&format!("model.layers.3.{name}.weight"))
    }

    /// `down(silu(gate(x)) * up(x))`
    fn network(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let [gate, up, down] =
            ["gate", "up", "down"].map(|part| self.layer(&format!("mlp.{name}.{part}_proj")));
        let silu = |x: f64| x / (1.0 + (-x).exp());
        let pairs = times(gate, x).into_iter().zip(times(up, x));
        times(down, &pairs.map(|(gate, up)| silu(gate) * up).collect::<Vec<_>>())
    }

    /// Attention of the first token: it sees itself alone, so it mixes its own values.
    fn attention(&self, x: &[f64]) -> Vec<f64> {
        let down = times(self.layer("self_attn.kv_a_proj_with_mqa"), x);
        let latent = norm(&down[..LATENT], self.layer("self_attn.kv_a_layernorm"), 1e-6);
        let up = times(self.layer("self_attn.kv_b_proj"), &latent);
        let [_, nope, value] = HEADS;
        let values: Vec<f64> =
            up.chunks_exact(nope + value).flat_map(|head| &head[nope..]).copied().collect();
        times(self.layer("self_attn.o_proj"), &values)
    }

    fn experts(&self, x: &[f64]) -> Vec<f64> {
        let scores: Vec<f64> =
            times(self.layer("mlp.gate"), x).iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect();
        let bias = self.get("model.layers.3.mlp.gate.e_score_correction_bias");
        let choice: Vec<f64> = scores.iter().zip(bias).map(|(score, bias)| score + bias).collect();
        let best = |scores: &[f64], count: usize| {
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
            order.truncate(count);
            order
        };
        let two_best = |group: &[f64]| best(group, 2).iter().map(|at| group[*at]).sum();
        let groups: Vec<f64> = choice.chunks_exact(GROUP).map(two_best).collect();
        let kept = best(&groups, 2);
        let masked = choice.iter().enumerate();
        let masked =
            masked.map(|(at, x)| if kept.contains(&(at / GROUP)) { *x } else { f64::NEG_INFINITY });
        let chosen = best(&masked.collect::<Vec<f64>>(), 4);
        let sum: f64 = chosen.iter().map(|at| scores[*at]).sum();
        let mut out = self.network("shared_experts", x);
        for expert in chosen {
            let weight = 2.5 * scores[expert] / sum;
            let its = self.network(&format!("experts.{expert}"), x);
            out.iter_mut().zip(its).for_each(|(out, x)| *out += weight * x);
        }
        out
    }

    fn draft(&self, token: usize, state: &[f64]) -> Vec<f64> {
        let embedding = &self.get("model.embed_tokens.weight")[token * HIDDEN..][..HIDDEN];
        let before = norm(state, self.get("model.norm.weight"), 1e-6);
        let both =
            [norm(embedding, self.layer("enorm"), 1e-6), norm(&before, self.layer("hnorm"), 1e-6)];
        let mut x = times(self.layer("eh_proj"), &both.concat());
        let mixed = self.attention(&norm(&x, self.layer("input_layernorm"), 1e-6));
        x.iter_mut().zip(mixed).for_each(|(x, more)| *x += more);
        let fed = self.experts(&norm(&x, self.layer("post_attention_layernorm"), 1e-6));
        x.iter_mut().zip(fed).for_each(|(x, more)| *x += more);
        times(self.get("lm_head.weight"), &norm(&x, self.layer("shared_head.norm"), 1e-6))
    }
}

fn times(matrix: &[f64], x: &[f64]) -> Vec<f64> {
    let row = |row: &[f64]| row.iter().zip(x).map(|(a, b)| a * b).sum();
    matrix.chunks_exact(x.len()).map(row).collect()
}

fn norm(x: &[f64], weight: &[f64], epsilon: f64) -> Vec<f64> {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    x.iter().zip(weight).map(|(x, weight)| weight * x / (mean + epsilon).sqrt()).collect()
}

#[test]
fn drafts_are_those_of_the_formula() {
    let bytes = all();
    let plain = Plain::of(&bytes);
    let shape = Shape::read(&read("deepseek-v3-drafts/config.json")).unwrap();
    let weights = Weights::from_source(Source::Owned(bytes)).unwrap();
    let model = Model::load(&weights, shape).unwrap();
    let (layers, [heads, row]) = (model.shape.layers + 1, model.shape.attention.rows());
    let (page_tokens, pages_max, bytes_max) = (1, 2, 1 << 20);
    let (element, is_elsewhere) = (Element::F32, false);
    let shape =
        CacheShape { element, layers, heads, row, page_tokens, bytes_max, pages_max, is_elsewhere };
    let mut cache = Cache::new(&shape).unwrap();
    for token in [5u32, 77, 310] {
        let state: Vec<f32> =
            (0..HIDDEN).map(|at| ((at as f32 + 1.0) * token as f32).sin() * 0.7).collect();
        let slots = [Slot { token, position: 0, table: 0, is_answer: false }];
        let batch = DraftBatch { slots: &slots, tables: &[&[0]], states: &state, wanted: &[0] };
        let ours = model.draft(&batch, &mut cache, &Pool::new(1));
        let state: Vec<f64> = state.into_iter().map(f64::from).collect();
        let theirs = plain.draft(token as usize, &state);
        let differences = ours.iter().zip(&theirs).map(|(a, b)| (f64::from(*a) - b).abs());
        let largest = differences.fold(0.0, f64::max);
        assert!(ours.len() == 320 && largest < 1e-4, "token {token}: {largest}");
        assert!(theirs.iter().any(|logit| logit.abs() > 0.5));
    }
}
