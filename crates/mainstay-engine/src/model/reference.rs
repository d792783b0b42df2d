//! Logits against those of the reference implementation, stored beside each fixture.

use super::{Batch, Model};
use crate::attention::Slot;
use crate::cache::{Cache, CacheShape, Page};
use crate::kernels::Element;
use crate::shape::Shape;
use crate::weights::{Source, Weights};
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

/// The largest difference between our logits and the reference's.
fn error(name: &str, weights: &str, element: Element) -> f32 {
    let model = model(name, weights);
    let reference = reference(name);
    let (layers, row) = (model.shape.layers, model.shape.attention.row());
    let (page_tokens, bytes_max, pages_max) = (16, 1 << 24, 64);
    let shape = CacheShape { element, layers, row, page_tokens, bytes_max, pages_max };
    let mut cache = Cache::new(&shape).unwrap();
    let table: Vec<Page> = (0..cache.total()).collect();
    let slots: Vec<Slot> = (0..)
        .zip(&reference.ids)
        .map(|(position, token)| Slot { token: *token, position, table: 0 })
        .collect();
    let known = reference.logits.len() / model.shape.vocabulary;
    let wanted: Vec<usize> = (slots.len() - known..slots.len()).collect();
    let batch = Batch { slots: &slots, tables: &[&table], wanted: &wanted };
    let logits = model.forward(&batch, &mut cache, 1);
    assert_eq!(logits.len(), reference.logits.len());
    let differences =
        logits.iter().zip(&reference.logits).map(|(ours, theirs)| (ours - theirs).abs());
    differences.fold(0.0, f32::max)
}

#[test]
fn logits_are_those_of_the_reference() {
    for name in
        ["deepseek-v3", "deepseek-v3-yarn", "deepseek-v2", "llama3", "qwen2", "qwen3", "qwen3-moe"]
    {
        let weights = name.strip_suffix("-yarn").unwrap_or(name);
        let exact = error(name, weights, Element::F32);
        let half = error(name, weights, Element::F16);
        println!("{name}: largest logit error {exact:.1e}, with an f16 cache {half:.1e}");
        assert!(exact < TOLERANCE, "{name}: {exact}");
    }
}
