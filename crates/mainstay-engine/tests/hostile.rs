//! Mangled model files give errors: no panic, no absurd allocation, whatever the mangling.
//!
//! Files that still load are run for a few steps, because a lie in them may bite only then.

use mainstay_engine::{Engine, Files, Precision, Settings, Work};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Panics seen in this process outside the tokenizer library (whose own are caught on purpose).
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Far above what these tiny models need, far below what a lying header can ask for.
const ADDRESS_SPACE_MAX_KIB: u64 = 3 << 20;

#[derive(Clone)]
struct Model {
    config: Vec<u8>,
    weights: Vec<u8>,
    tokenizer: Vec<u8>,
    tokenizer_config: Vec<u8>,
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

fn model(name: &str) -> Model {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let read = |name: &str, file: &str| std::fs::read(root.join(name).join(file)).unwrap();
    Model {
        config: read(name, "config.json"),
        weights: read(name, "model.safetensors"),
        tokenizer: read("tokenizer", "tokenizer.json"),
        tokenizer_config: read("tokenizer", "tokenizer_config.json"),
    }
}

/// Loads the model and, if it loads, runs it. True if it loaded.
fn attempt(model: &Model) -> bool {
    let files = Files {
        name: "mangled",
        config: &model.config,
        weights: model.weights.clone().into(),
        tokenizer: &model.tokenizer,
        tokenizer_config: &model.tokenizer_config,
        ..Files::default()
    };
    let settings = Settings { cache_bytes: 4 << 20, threads: 1, ..Settings::default() };
    match Engine::from_files(files, settings) {
        Ok(mut engine) => {
            let _ = engine.render_chat(&json!([{"role": "user", "content": "hi"}]), None, true);
            let prompt = engine.tokenize("hello <user> [P1] \u{1f600}");
            let prompt = if prompt.is_empty() { vec![0] } else { prompt };
            let _ = engine.submit(Work { prompt, max_tokens: 3, ..Work::default() });
            let mut out = Vec::new();
            (0..6).for_each(|_| engine.step(&mut out));
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

fn flip_bytes(bytes: &mut Vec<u8>, within: usize, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len().min(within));
        match random.below(4) {
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes.truncate(at + 1),
            _ => bytes.insert(at, b"0919{}[]\",:-e"[random.below(13)]),
        }
    }
}

/// Replaces or removes one random value somewhere in the document.
fn change_value(value: &mut Value, random: &mut Random) {
    let strange = [
        json!(0),
        json!(1),
        json!(-1),
        json!(3),
        json!(7),
        json!(64),
        json!(4096),
        json!(4_294_967_295u64),
        json!(u64::MAX),
        json!(1e300),
        json!(1e-300),
        json!(0.5),
        json!(null),
        json!(true),
        json!(false),
        json!(""),
        json!("yarn"),
        json!([]),
        json!({}),
        json!([[[1]]]),
        json!("\u{0}\u{fffd}"),
    ];
    match value {
        Value::Object(map) if !map.is_empty() => {
            let at = random.below(map.len());
            let key = map.keys().nth(at).cloned().unwrap();
            match random.below(8) {
                0 => {
                    map.remove(&key);
                }
                _ => change_value(&mut map[&key], random),
            }
        }
        Value::Array(list) if !list.is_empty() && random.below(4) > 0 => {
            let at = random.below(list.len());
            change_value(&mut list[at], random);
        }
        other => *other = strange[random.below(strange.len())].clone(),
    }
}

fn change_document(bytes: &mut Vec<u8>, random: &mut Random) {
    let mut document: Value = serde_json::from_slice(bytes).unwrap();
    (0..=random.below(2)).for_each(|_| change_value(&mut document, random));
    *bytes = serde_json::to_vec(&document).unwrap();
}

/// Changes the JSON header of a safetensors file, keeping its length field right.
fn change_header(bytes: &mut Vec<u8>, random: &mut Random) {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header = bytes[8..8 + length].to_vec();
    change_document(&mut header, random);
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header);
    out.extend(&bytes[8 + length..]);
    *bytes = out;
}

fn mangle(model: &mut Model, random: &mut Random) {
    match random.below(8) {
        0 | 1 => change_document(&mut model.config, random),
        2 => flip_bytes(&mut model.config, usize::MAX, random),
        3 => change_header(&mut model.weights, random),
        4 => flip_bytes(&mut model.weights, 4096, random),
        5 => flip_bytes(&mut model.weights, usize::MAX, random),
        6 => change_document(&mut model.tokenizer, random),
        _ => flip_bytes(&mut model.tokenizer, usize::MAX, random),
    }
}

/// Loads a GGUF file and, if it loads, runs it. True if it loaded.
fn attempt_gguf(file: Vec<u8>, random: &mut Random) -> bool {
    let weights = [Precision::Stored, Precision::Q8, Precision::Q4][random.below(3)];
    let settings = Settings { cache_bytes: 4 << 20, threads: 1, weights, ..Settings::default() };
    match Engine::from_gguf("mangled", file.into(), settings) {
        Ok(mut engine) => {
            let _ = engine.render_chat(&json!([{"role": "user", "content": "hi"}]), None, true);
            let _ = engine.submit(Work { prompt: vec![0, 5], max_tokens: 3, ..Work::default() });
            let mut out = Vec::new();
            (0..6).for_each(|_| engine.step(&mut out));
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

/// Changes a number somewhere before the tensors' bytes to a strange one.
fn change_number(file: &mut [u8], random: &mut Random) {
    let strange = [0, 1, 2, 31, 1 << 20, u64::from(u32::MAX), 1 << 60, u64::MAX];
    let bytes = strange[random.below(strange.len())].to_le_bytes();
    let width = [1, 4, 8][random.below(3)];
    let at = random.below(GGUF_HEAD);
    file[at..at + width].copy_from_slice(&bytes[..width]);
}

/// About where the fixtures' keys and names of tensors end.
const GGUF_HEAD: usize = 9000;

/// The largest address space this process has had, where the system tells.
fn address_space_peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmPeak:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn count_panics() {
    std::panic::set_hook(Box::new(|info| {
        let at = info.location().map(|at| at.to_string()).unwrap_or_default();
        if !at.contains("tokenizers-") {
            eprintln!("panic: {info}");
            PANICS.fetch_add(1, Ordering::SeqCst);
        }
    }));
}

fn check_harmless(seed: u64) {
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "seed {seed}");
    let peak = address_space_peak_kib();
    assert!(peak < ADDRESS_SPACE_MAX_KIB, "seed {seed}: {peak} KiB of address space");
}

#[test]
fn mangled_gguf_files_never_panic_and_never_ask_for_absurd_memory() {
    count_panics();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let files: Vec<Vec<u8>> = ["deepseek-v3", "qwen3", "qwen3-moe", "llama3", "qwen2"]
        .iter()
        .map(|name| std::fs::read(root.join(name).join("model.gguf")).unwrap())
        .collect();
    let mut loaded = 0;
    const ROUNDS: u64 = 900;
    for seed in 0..ROUNDS {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 7);
        let mut file = files[random.below(files.len())].clone();
        match random.below(4) {
            0 => flip_bytes(&mut file, usize::MAX, &mut random),
            1 => flip_bytes(&mut file, GGUF_HEAD, &mut random),
            _ => (0..=random.below(2)).for_each(|_| change_number(&mut file, &mut random)),
        }
        loaded += usize::from(attempt_gguf(file, &mut random));
        check_harmless(seed);
    }
    println!("{loaded} of {ROUNDS} mangled GGUF files still loaded and ran");
    assert!(loaded > 0 && loaded < ROUNDS as usize);
}

#[test]
fn mangled_files_never_panic_and_never_ask_for_absurd_memory() {
    count_panics();
    let mut loaded = 0;
    const ROUNDS: u64 = 900;
    for seed in 0..ROUNDS {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1);
        let names = ["deepseek-v3", "qwen3", "qwen3-moe", "llama3", "qwen2", "deepseek-v2"];
        let mut model = model(names[random.below(names.len())]);
        mangle(&mut model, &mut random);
        loaded += usize::from(attempt(&model));
        check_harmless(seed);
    }
    println!("{loaded} of {ROUNDS} mangled models still loaded and ran");
    assert!(loaded > 0 && loaded < ROUNDS as usize);
}
