//! What must hold on a card. Run where there is one: `cargo test --features cuda cuda::`.

use super::bench::{self, Step};
use super::{Card, CardModel, Room};
use crate::attention::Slot;
use crate::cache::Page;
use crate::model::Batch;
use crate::shape::Shape;
use crate::weights::{Source, Weights};
use safetensors::SafeTensors;
use std::path::Path;

const ALL: [&str; 7] =
    ["deepseek-v3", "deepseek-v3-yarn", "deepseek-v2", "llama3", "qwen2", "qwen3", "qwen3-moe"];
/// All f32.
const EXACT: f32 = 1e-4;
/// All bf16, of eight significant bits: what a dozen roundings in a row come to, relative to the
/// logits' own size.
const ROUNDED: f32 = 0.03;

fn read(name: &str, file: &str) -> Vec<u8> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    std::fs::read(fixtures.join(name).join(file)).unwrap()
}

/// The stored ids, the logits after the last of them, and the model on the card.
fn fixture(name: &str, is_exact: bool) -> (Vec<u32>, Vec<f32>, CardModel) {
    let bytes = read(name, "reference.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let words = |name: &str| file.tensor(name).unwrap().data().as_chunks::<4>().0.to_vec();
    let ids = words("ids").into_iter().map(u32::from_le_bytes).collect();
    let logits = words("logits").into_iter().map(f32::from_le_bytes).collect();
    let weights = name.strip_suffix("-yarn").unwrap_or(name);
    let weights = Weights::from_source(Source::Owned(read(weights, "model.safetensors"))).unwrap();
    let shape = Shape::read(&read(name, "config.json")).unwrap();
    let room = Room { pages: 16, page_tokens: 8, positions: 128, prompt: 64 };
    let card = Card::open(0, is_exact).unwrap();
    (ids, logits, CardModel::load(card, Some(&weights), &shape, room).unwrap())
}

/// Logits after each of the last tokens; the prompt is taken in pieces of this size, as an answer
/// if they are single.
fn logits(model: &mut CardModel, ids: &[u32], (piece, known): (usize, usize)) -> Vec<f32> {
    let table: Vec<Page> = (0..16).rev().collect();
    let mut all = Vec::new();
    let slots: Vec<Slot> = (0..)
        .zip(ids)
        .map(|(position, token)| Slot { token: *token, position, table: 0, is_answer: piece == 1 })
        .collect();
    for piece in slots.chunks(piece) {
        let is_wanted = |at: &usize| piece[*at].position >= ids.len() - known;
        let wanted: Vec<usize> = (0..piece.len()).filter(is_wanted).collect();
        let batch = Batch { slots: piece, tables: &[&table], wanted: &wanted };
        all.extend(model.forward(&batch));
    }
    all
}

fn largest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |most, x| if x > most || x.is_nan() { x } else { most })
}

/// How far `a` is from `b`, relative to `b`.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let square = |x: f32| f64::from(x) * f64::from(x);
    let off: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    (off / b.iter().map(|b| square(*b)).sum::<f64>()).sqrt() as f32
}

#[test]
fn logits_are_those_of_the_reference() {
    for name in ALL {
        let (ids, reference, mut model) = fixture(name, true);
        let known = reference.len() / 320;
        for piece in [64, 16, 1] {
            let error = largest(&logits(&mut model, &ids, (piece, known)), &reference);
            println!("{name}, f32, pieces of {piece}: largest logit error {error:.1e}");
            assert!(error < EXACT, "{name}: {error}");
        }
    }
}

#[test]
fn bf16_stays_near_the_reference() {
    for name in ALL {
        let (ids, reference, mut model) = fixture(name, false);
        let known = reference.len() / 320;
        for piece in [64, 16, 1] {
            let logits = logits(&mut model, &ids, (piece, known));
            let rows = logits.chunks_exact(320).zip(reference.chunks_exact(320));
            let mut off: Vec<f32> = rows.map(|(ours, theirs)| apart(ours, theirs)).collect();
            off.sort_by(f32::total_cmp);
            println!("{name}, bf16, pieces of {piece}: {off:.4?} apart");
            // The middle one: see below.
            assert!(off[off.len() / 2] < ROUNDED, "{name}: {off:?}");
        }
    }
}

/// A sequence's own tokens in its own pages.
fn step(model: &mut CardModel, steps: &[Step]) -> Vec<f32> {
    bench::step(model, steps)
}

/// Prompts, then eight single tokens of two sequences each: how far the fast kernels are from the
/// plain ones after each step. Where two experts score nearly the same, rounding chooses between
/// them and a step is far off: so the middle one counts.
#[test]
fn fast_kernels_give_what_plain_ones_do() {
    for (name, config) in [("B", bench::SHAPE_B), ("A", bench::SHAPE_A)] {
        let mut model = bench::model(config, (3, 262_144, 1024)).unwrap();
        let of = Step::new;
        let mut runs = Vec::new();
        for is_plain in [true, false] {
            model.only_plain(is_plain);
            let mut logits = Vec::new();
            for (from, tokens) in [(0, 300), (300, 1), (301, 700), (1001, 1000), (2001, 600)] {
                logits.push(step(&mut model, &[of(0, from, tokens)]));
            }
            step(&mut model, &[of(1, 0, 200)]);
            for turn in 0..8 {
                logits.push(step(&mut model, &[of(0, 2601 + turn, 1), of(1, 200 + turn, 1)]));
            }
            runs.push(logits);
        }
        let mut all: Vec<f32> =
            runs[1].iter().zip(&runs[0]).map(|(fast, plain)| apart(fast, plain)).collect();
        println!("{name}: fast and plain {all:.4?} apart");
        all.sort_by(f32::total_cmp);
        assert!(all[all.len() / 2] < ROUNDED, "{name}: {all:?}");
    }
}

#[test]
fn batch_mates_and_chunks_change_no_bit() {
    for config in [bench::SHAPE_B, bench::SHAPE_A] {
        let mut model = bench::model(config, (3, 65_536, 512)).unwrap();
        let sequence = Step::new;
        let whole = step(&mut model, &[sequence(0, 0, 400)]);
        let alone = step(&mut model, &[sequence(0, 400, 1)]);
        step(&mut model, &[sequence(0, 0, 250)]);
        step(&mut model, &[Step { is_answer: false, ..sequence(0, 250, 1) }]);
        let mut rest = vec![sequence(0, 251, 149)];
        rest.extend((1..64).map(|other| sequence(other, 0, 17 + other)));
        let parted = step(&mut model, &rest);
        let vocabulary = whole.len();
        assert!(whole == parted[..vocabulary], "chunks changed a bit");
        for others in [1, 7, 8, 30, 63] {
            let mut steps = vec![sequence(0, 400, 1)];
            steps.extend((1..=others).map(|other| sequence(other, 17 + other, 1)));
            let together = step(&mut model, &steps);
            assert!(alone == together[..vocabulary], "{others} batch mates changed a bit");
        }
    }
}
