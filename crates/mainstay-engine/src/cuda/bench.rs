//! How fast the card is at a shape, with random weights.

use super::card::Card;
use super::model::{CardModel, Room};
use super::{attention, product};
use crate::attention::Slot;
use crate::cache::Page;
use crate::error::LoadError;
use crate::model::Batch;
use crate::shape::Shape;

/// Qwen3-0.6B.
pub const SHAPE_A: &str = r#"{"architectures":["Qwen3ForCausalLM"],"vocab_size":151936,
"hidden_size":1024,"intermediate_size":3072,"num_hidden_layers":28,"num_attention_heads":16,
"num_key_value_heads":8,"head_dim":128,"max_position_embeddings":40960,"rms_norm_eps":1e-6,
"rope_theta":1000000,"tie_word_embeddings":true}"#;
/// A small one of DeepSeek-V3's kind: 969 million parameters, 252 million of them active.
pub const SHAPE_B: &str = r#"{"architectures":["DeepseekV3ForCausalLM"],"vocab_size":32768,
"hidden_size":1024,"intermediate_size":4096,"moe_intermediate_size":256,"num_hidden_layers":16,
"num_attention_heads":16,"num_key_value_heads":16,"n_shared_experts":2,"n_routed_experts":64,
"routed_scaling_factor":2.5,"kv_lora_rank":512,"q_lora_rank":512,"qk_rope_head_dim":64,
"qk_nope_head_dim":128,"v_head_dim":128,"n_group":8,"topk_group":4,"num_experts_per_tok":6,
"first_k_dense_replace":1,"norm_topk_prob":true,"max_position_embeddings":65536,
"rms_norm_eps":1e-6,"rope_theta":10000,"tie_word_embeddings":false}"#;
/// DeepSeek-V2-Lite.
pub const SHAPE_LITE: &str = r#"{"architectures":["DeepseekV2ForCausalLM"],"vocab_size":102400,
"hidden_size":2048,"intermediate_size":10944,"moe_intermediate_size":1408,"num_hidden_layers":27,
"num_attention_heads":16,"num_key_value_heads":16,"n_shared_experts":2,"n_routed_experts":64,
"routed_scaling_factor":1.0,"kv_lora_rank":512,"q_lora_rank":null,"qk_rope_head_dim":64,
"qk_nope_head_dim":128,"v_head_dim":128,"topk_method":"greedy","num_experts_per_tok":6,
"first_k_dense_replace":1,"norm_topk_prob":false,"max_position_embeddings":65536,
"rms_norm_eps":1e-6,"rope_theta":10000,"tie_word_embeddings":false}"#;

/// Sequences that a check may have.
const SEQUENCES: usize = 64;
/// Tokens in a page.
const PAGE: usize = 32;
/// Products that are started one after another, so that what one start costs does not count.
const AGAIN: usize = 20;
/// Times that each thing is done; the median counts.
const TIMES: usize = 21;

/// So many tokens of a sequence, from this position on.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub sequence: usize,
    pub from: usize,
    pub tokens: usize,
    pub is_answer: bool,
}

impl Step {
    /// A single token behind others is of the answer.
    pub fn new(sequence: usize, from: usize, tokens: usize) -> Step {
        Step { sequence, from, tokens, is_answer: tokens == 1 && from > 0 }
    }
}

/// A model of random weights with so many layers (0: all), so many positions in its cache and so
/// many tokens to a pass.
pub fn model(
    config: &str,
    (layers, positions, prompt): (usize, usize, usize),
) -> Result<CardModel, LoadError> {
    let mut shape = Shape::read(config.as_bytes())?;
    if layers > 0 {
        shape.layers = layers;
    }
    let pages = positions.div_ceil(PAGE);
    let longest = positions.min(shape.context);
    let room = Room { pages, page_tokens: PAGE, positions: longest, prompt };
    CardModel::load(Card::open(0, false)?, None, &shape, room)
}

/// Runs a step of sequences that share the cache's pages; logits after each one's last token.
pub fn step(model: &mut CardModel, steps: &[Step]) -> Vec<f32> {
    let (slots, tables) = laid_out(steps, SEQUENCES);
    let tables: Vec<&[Page]> = tables.iter().map(Vec::as_slice).collect();
    let last = |table: usize| slots.iter().rposition(|slot: &Slot| slot.table == table);
    let wanted: Vec<usize> = (0..tables.len()).filter_map(last).collect();
    model.forward(&Batch { slots: &slots, tables: &tables, wanted: &wanted })
}

/// Slots, and pages: sequence `n` of `among` has every `among`th page.
fn laid_out(steps: &[Step], among: usize) -> (Vec<Slot>, Vec<Vec<Page>>) {
    let mut slots = Vec::new();
    let mut tables = Vec::new();
    for (table, step) in steps.iter().enumerate() {
        let positions = step.from..step.from + step.tokens;
        slots.extend(positions.clone().map(|position| Slot {
            token: (position * 7919 + step.sequence * 31 + 5) as u32 % 30_000,
            position,
            table,
            is_answer: step.is_answer,
        }));
        let pages = positions.end.div_ceil(PAGE);
        tables.push((0..pages).map(|page| (page * among + step.sequence) as Page).collect());
    }
    (slots, tables)
}

/// The median time of `work` on the card's clock, in milliseconds.
fn timed(card: &Card, mut work: impl FnMut()) -> f32 {
    work();
    let mut times: Vec<f32> = (0..TIMES)
        .map(|_| {
            let start = card.moment();
            work();
            card.between(&start, &card.moment())
        })
        .collect();
    times.sort_by(f32::total_cmp);
    times[TIMES / 2]
}

/// What a card reaches at most: bytes a second copied (read and written), in billions.
pub fn copy_rate(card: &Card) -> Result<f32, LoadError> {
    let bytes = 2usize << 30;
    let (from, mut to) = (card.zeros(bytes)?, card.zeros(bytes)?);
    let time = timed(card, || card.copy(&from, &mut to));
    Ok(2.0 * bytes as f32 / time / 1e6)
}

/// Decodes one token of each of `batch` sequences of this length: milliseconds of a step on the
/// card, and of one as the engine has it, logits on the host.
pub fn decode(model: &mut CardModel, batch: usize, length: usize) -> (f32, f32) {
    let one = |sequence| Step::new(sequence, length - 1, 1);
    let steps: Vec<Step> = (0..batch).map(one).collect();
    let (slots, tables) = laid_out(&steps, batch);
    let tables: Vec<&[Page]> = tables.iter().map(Vec::as_slice).collect();
    let wanted: Vec<usize> = (0..batch).collect();
    let batch = Batch { slots: &slots, tables: &tables, wanted: &wanted };
    let key = model.prepare(&batch, &wanted);
    let on_card = timed(model.card(), || model.again(key));
    let mut whole = Vec::new();
    for _ in 0..TIMES {
        let start = std::time::Instant::now();
        let logits = model.forward(&batch);
        whole.push(start.elapsed().as_secs_f32() * 1e3);
        assert!(logits.iter().all(|logit| logit.is_finite()), "a logit is no number");
    }
    whole.sort_by(f32::total_cmp);
    (on_card, whole[TIMES / 2])
}

/// Reads a prompt of this length in one pass: milliseconds.
pub fn prefill(model: &mut CardModel, length: usize) -> f32 {
    let steps = [Step::new(0, 0, length)];
    let (slots, tables) = laid_out(&steps, 1);
    let batch = Batch { slots: &slots, tables: &[&tables[0]], wanted: &[length - 1] };
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let start = model.card().moment();
        let logits = model.forward(&batch);
        times.push(model.card().between(&start, &model.card().moment()));
        assert!(logits.iter().all(|logit| logit.is_finite()), "a logit is no number");
    }
    times.sort_by(f32::total_cmp);
    times[TIMES / 2]
}

/// Latent attention alone: one layer, `batch` sequences of this length. Milliseconds.
pub fn attention(model: &mut CardModel, batch: usize, length: usize) -> f32 {
    let one = |sequence| Step::new(sequence, length - 1, 1);
    let steps: Vec<Step> = (0..batch).map(one).collect();
    let (slots, tables) = laid_out(&steps, batch);
    let tables: Vec<&[Page]> = tables.iter().map(Vec::as_slice).collect();
    let index: Vec<usize> = (0..batch).collect();
    let batch = Batch { slots: &slots, tables: &tables, wanted: &[] };
    let key = model.prepare(&batch, &index);
    let pass = model.single_pass(key);
    let Some(attention::Attention::Latent(latent)) = model.attention_of(0) else { return f32::NAN };
    timed(model.card(), || latent.attend(&pass))
}

/// Milliseconds of a product of `tokens` vectors with a matrix of this size, by either form.
pub fn product(tokens: usize, [rows, columns]: [usize; 2]) -> Result<f32, LoadError> {
    let card = Card::open(0, false)?;
    let loader = super::load::Loader::new(&card, None);
    let (w, x) =
        (loader.stacked(&[("", rows)], columns)?, loader.stacked(&[("", tokens)], columns)?);
    let y = card.zeros(tokens * rows * 2)?;
    let argument = super::arguments::Product {
        w: w.pointer(),
        element: 1,
        n: rows as i32,
        k: columns as i32,
        x: x.pointer(),
        x_row: columns as i32,
        y: y.pointer,
        y_row: rows as i32,
        tokens: tokens as i32,
        ..Default::default()
    };
    let form = if tokens <= product::FEW { product::Form::Few } else { product::Form::Many };
    let again = || (0..AGAIN).for_each(|_| product::start(&card, form, &argument, 1));
    Ok(timed(&card, again) / AGAIN as f32)
}
