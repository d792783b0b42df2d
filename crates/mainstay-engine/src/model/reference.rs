//! Logits against those of the reference implementation, stored beside each fixture.

use super::{Batch, Model};
use crate::attention::Slot;
use crate::cache::{Cache, CacheShape, Page};
use crate::gguf::Gguf;
use crate::kernels::{Element, vector};
use crate::pool::Pool;
use crate::shape::Shape;
use crate::weights::{Precision, Source, Weights};
use safetensors::SafeTensors;
use std::path::Path;

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

/// The logits at the stored places.
fn logits(model: &Model, reference: &Reference, element: Element) -> Vec<f32> {
    let (layers, row) = (model.shape.layers, model.shape.attention.row());
    let (page_tokens, bytes_max, pages_max) = (16, 1 << 24, 64);
    let shape = CacheShape { element, layers, row, page_tokens, bytes_max, pages_max };
    let mut cache = Cache::new(&shape).unwrap();
    let pages = cache.pages_for(reference.ids.len());
    let table: Vec<Page> = (0..pages).map(|_| cache.take().unwrap()).collect();
    let slots: Vec<Slot> = (0..)
        .zip(&reference.ids)
        .map(|(position, token)| Slot { token: *token, position, table: 0 })
        .collect();
    let known = reference.logits.len() / model.shape.vocabulary;
    let wanted: Vec<usize> = (slots.len() - known..slots.len()).collect();
    let batch = Batch { slots: &slots, tables: &[&table], wanted: &wanted };
    let logits = model.forward(&batch, &mut cache);
    assert_eq!(logits.len(), reference.logits.len());
    logits
}

/// The largest difference between our logits and the reference's.
fn error(model: &Model, name: &str, element: Element) -> f32 {
    let reference = reference(name);
    let logits = logits(model, &reference, element);
    let differences =
        logits.iter().zip(&reference.logits).map(|(ours, theirs)| (ours - theirs).abs());
    differences.fold(0.0, f32::max)
}

/// The mean divergence (Kullback-Leibler, in nats) of our next-token distributions from the
/// reference's.
fn divergence(model: &Model, name: &str) -> f32 {
    let reference = reference(name);
    let mut ours = logits(model, &reference, Element::F32);
    let mut theirs = reference.logits;
    let mut sum = 0.0;
    let rows = ours.chunks_exact_mut(model.shape.vocabulary);
    let places = reference_rows(&mut theirs, model.shape.vocabulary);
    let count = places.len() as f32;
    for (ours, theirs) in rows.zip(places) {
        vector::softmax(ours);
        vector::softmax(theirs);
        let terms = theirs.iter().zip(ours.iter()).map(|(p, q)| p * (p / q).ln());
        sum += terms.sum::<f32>();
    }
    sum / count
}

fn reference_rows(logits: &mut [f32], vocabulary: usize) -> Vec<&mut [f32]> {
    logits.chunks_exact_mut(vocabulary).collect()
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

/// Random weights are the worst case: no number is redundant. Measured, with a factor of two.
#[test]
fn in_8_bits_the_next_token_hardly_changes() {
    for name in IN_GGUF {
        let divergence = divergence(&gguf_model(name, Precision::Q8), name);
        println!("{name}: divergence in 8 bits {divergence:.1e}");
        assert!(divergence < 1e-3, "{name}: {divergence}");
    }
}
