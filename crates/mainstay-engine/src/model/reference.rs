//! Logits against those of the reference implementation, stored beside each fixture.

use super::{Batch, Model, Passage};
use crate::attention::Slot;
use crate::cache::{Cache, CacheShape, Page};
use crate::gguf::Gguf;
use crate::kernels::{Element, vector};
use crate::pool::Pool;
use crate::shape::Shape;
use crate::weights::{Precision, Source, Weights};
use safetensors::SafeTensors;
use std::path::Path;
use std::sync::atomic::AtomicU64;

const TOLERANCE: f32 = 1e-4;

struct Reference {
    ids: Vec<u32>,
    /// Logits after each of the last tokens, one after another.
    logits: Vec<f32>,
}

fn read(name: &str, file: &str) -> Vec<u8> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    std::fs::read(fixtures.join(name).join(file)).unwrap()
}

fn reference(name: &str) -> Reference {
    let bytes = read(name, "reference.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let words = |name: &str| file.tensor(name).unwrap().data().as_chunks::<4>().0.to_vec();
    Reference {
        ids: words("ids").into_iter().map(u32::from_le_bytes).collect(),
        logits: words("logits").into_iter().map(f32::from_le_bytes).collect(),
    }
}

fn model(name: &str, weights: &str) -> Model {
    let weights = Source::Owned(read(weights, "model.safetensors"));
    let shape = Shape::read(&read(name, "config.json")).unwrap();
    Model::load(&Weights::from_source(weights).unwrap(), shape).unwrap()
}

fn gguf_model(name: &str, precision: Precision) -> Model {
    let gguf = Gguf::read(Source::Owned(read(name, "model.gguf")), &[], name).unwrap();
    let weights = gguf.weights.prepared(precision, Pool::new(2));
    Model::load(&weights, Shape::read(&gguf.config).unwrap()).unwrap()
}

/// The logits after the last `known` of these tokens.
fn logits(model: &Model, ids: &[u32], known: usize, element: Element) -> Vec<f32> {
    let (layers, [heads, row]) = (model.shape.layers, model.shape.attention.rows());
    let (page_tokens, bytes_max, pages_max) = (16, 1 << 24, 64);
    let is_elsewhere = false;
    let shape =
        CacheShape { element, layers, heads, row, page_tokens, bytes_max, pages_max, is_elsewhere };
    let mut cache = Cache::new(&shape).unwrap();
    let table: Vec<Page> = (0..cache.total()).collect();
    let slots: Vec<Slot> = (0..)
        .zip(ids)
        .map(|(position, token)| Slot { token: *token, position, table: 0, is_answer: false })
        .collect();
    let wanted: Vec<usize> = (slots.len() - known..slots.len()).collect();
    let batch = Batch { slots: &slots, tables: &[&table], wanted: &wanted };
    let with = (&mut cache, &Pool::new(2), &AtomicU64::new(0));
    model.forward(&batch, &mut Passage::default(), with, &mut || true).unwrap().logits
}

/// The largest difference between our logits and the reference's.
fn error(model: &Model, name: &str, element: Element) -> f32 {
    let reference = reference(name);
    let known = reference.logits.len() / model.shape.vocabulary;
    let logits = logits(model, &reference.ids, known, element);
    assert_eq!(logits.len(), reference.logits.len());
    let differences =
        logits.iter().zip(&reference.logits).map(|(ours, theirs)| (ours - theirs).abs());
    differences.fold(0.0, f32::max)
}

/// The mean divergence (Kullback-Leibler, in nats) of the next-token distributions `ours` from
/// `theirs`.
fn divergence(mut ours: Vec<f32>, mut theirs: Vec<f32>, vocabulary: usize) -> f32 {
    let count = (theirs.len() / vocabulary) as f32;
    let rows = ours.chunks_exact_mut(vocabulary).zip(theirs.chunks_exact_mut(vocabulary));
    let each = rows.map(|(ours, theirs)| {
        vector::softmax(ours);
        vector::softmax(theirs);
        theirs.iter().zip(ours.iter()).map(|(p, q)| p * (p / q).ln()).sum::<f32>()
    });
    each.sum::<f32>() / count
}

#[test]
fn logits_are_those_of_the_reference() {
    for name in
        ["deepseek-v3", "deepseek-v3-yarn", "deepseek-v2", "llama3", "qwen2", "qwen3", "qwen3-moe"]
    {
        let weights = name.strip_suffix("-yarn").unwrap_or(name);
        let model = model(name, weights);
        let exact = error(&model, name, Element::F32);
        let half = error(&model, name, Element::F16);
        println!("{name}: largest logit error {exact:.1e}, with an f16 cache {half:.1e}");
        assert!(exact < TOLERANCE, "{name}: {exact}");
    }
}

const IN_GGUF: [&str; 6] = ["deepseek-v3", "deepseek-v2", "llama3", "qwen2", "qwen3", "qwen3-moe"];

#[test]
fn the_same_model_from_a_gguf_file_has_the_same_logits() {
    for name in IN_GGUF {
        let model = gguf_model(name, Precision::Stored);
        let exact = error(&model, name, Element::F32);
        println!("{name}: largest logit error from GGUF {exact:.1e}");
        assert!(exact < TOLERANCE, "{name}: {exact}");
    }
}

/// Random weights are the worst case: no number is redundant, and a gate whose scores are nearly
/// equal chooses another expert.
#[test]
fn in_8_bits_a_random_model_says_nearly_the_same() {
    for name in IN_GGUF {
        let reference = reference(name);
        let model = gguf_model(name, Precision::Q8);
        let known = reference.logits.len() / model.shape.vocabulary;
        let ours = logits(&model, &reference.ids, known, Element::F32);
        let divergence = divergence(ours, reference.logits, model.shape.vocabulary);
        println!("{name}: divergence in 8 bits {divergence:.1e}");
        assert!(divergence < 2e-2, "{name}: {divergence}");
    }
}

/// The ids of a conversation with the built-in model, and how many of them its prompt has.
fn conversations() -> Vec<(Vec<u32>, usize)> {
    let stored = include_bytes!("../../builtin/reference.json");
    let stored: serde_json::Value = serde_json::from_slice(stored).unwrap();
    let ids = |prompt: &serde_json::Value, key: &str| -> Vec<u32> {
        prompt[key].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let each = stored["prompts"].as_array().unwrap().iter().map(|prompt| {
        let (mut all, answer) = (ids(prompt, "prompt_ids"), ids(prompt, "greedy_ids"));
        let prompt = all.len();
        all.extend(answer);
        (all, prompt)
    });
    each.collect()
}

/// Whatever model is built in: mean divergence over its answers' tokens, which are what it was
/// trained to say, and over its prompts', of which it was never asked to foresee one. The bounds
/// are the guide's.
#[test]
fn quantised_a_trained_model_says_the_same_within_the_stated_bounds() {
    let files = crate::builtin::files();
    let model = |precision| {
        let weights = Weights::from_source(files.weights.clone().into()).unwrap();
        let shape = Shape::read(files.config).unwrap();
        Model::load(&weights.prepared(precision, Pool::new(2)), shape).unwrap()
    };
    let exact = model(Precision::Stored);
    let conversations = conversations();
    let all = |model: &Model, element| -> Vec<Vec<f32>> {
        conversations.iter().map(|(ids, _)| logits(model, ids, ids.len(), element)).collect()
    };
    let theirs = all(&exact, Element::F32);
    let size = exact.shape.vocabulary;
    for (what, precision, element) in [
        ("weights in 8 bits", Precision::Q8, Element::F32),
        ("weights in 4 bits", Precision::Q4, Element::F32),
        ("a cache in f16", Precision::Stored, Element::F16),
        ("a cache in bf16", Precision::Stored, Element::Bf16),
    ] {
        let ours = all(&model(precision), element);
        let mut sums = [(0.0, 0); 2];
        for ((ids, prompt), (ours, theirs)) in conversations.iter().zip(ours.iter().zip(&theirs)) {
            let (first, last) = ((prompt - 1) * size, (ids.len() - 1) * size);
            for (sum, part) in sums.iter_mut().zip([first..last, 0..first]) {
                let count = part.len() / size;
                let moved = divergence(ours[part.clone()].to_vec(), theirs[part].to_vec(), size);
                *sum = (sum.0 + moved * count as f32, sum.1 + count);
            }
        }
        let [answers, prompts] = sums.map(|(sum, count)| sum / count as f32);
        println!("the built-in model, {what}: answers {answers:.1e}, prompts {prompts:.1e}");
        assert!(answers < 1e-3 && prompts < 5e-3, "{what}: {answers}, {prompts}");
    }
}
