//! Mangled model files: what is done to them, and what comes of loading and running them.
//!
//! What the loader says is a sign of how far a file came, as coverage is elsewhere: one that makes
//! it say something new is kept and mangled further.

use mainstay_engine::{Engine, Files, Precision, Settings, Work};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Panics seen in this process outside the tokenizer library (whose own are caught on purpose).
pub static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Far above what these tiny models need, far below what a lying header can ask for.
const ADDRESS_SPACE_MAX_KIB: u64 = 3 << 20;

/// A model as files.
#[derive(Clone)]
pub enum Model {
    Directory(Directory),
    Gguf(Vec<u8>),
}

/// The files of a model directory.
#[derive(Clone)]
pub struct Directory {
    config: Vec<u8>,
    weights: Vec<u8>,
    tokenizer: Vec<u8>,
    tokenizer_config: Vec<u8>,
}

/// Numbers that depend on a seed alone.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

/// Files to begin with, and those that led to something new.
pub struct Corpus {
    models: Vec<Model>,
    /// How many of them are whole.
    whole: usize,
    said: BTreeSet<String>,
    pub loaded: usize,
}

impl Corpus {
    /// The fixtures as GGUF files.
    pub fn gguf() -> Corpus {
        let names = ["deepseek-v3", "deepseek-v2", "qwen3", "qwen3-moe", "llama3", "qwen2"];
        Corpus::of(names.map(|name| Model::Gguf(fixture(name, "model.gguf"))).into())
    }

    /// The fixtures as directories.
    pub fn directories() -> Corpus {
        let names = ["deepseek-v3", "qwen3", "qwen3-moe", "llama3", "qwen2", "deepseek-v2"];
        let directory = |name| {
            Model::Directory(Directory {
                config: fixture(name, "config.json"),
                weights: fixture(name, "model.safetensors"),
                tokenizer: fixture("tokenizer", "tokenizer.json"),
                tokenizer_config: fixture("tokenizer", "tokenizer_config.json"),
            })
        };
        Corpus::of(names.map(directory).into())
    }

    fn of(models: Vec<Model>) -> Corpus {
        Corpus { whole: models.len(), models, said: BTreeSet::new(), loaded: 0 }
    }

    /// How many different things were said so far.
    pub fn said(&self) -> usize {
        self.said.len()
    }

    /// One round. Panics where a model did harm.
    pub fn round(&mut self, seed: u64) {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 7);
        // Every other one begins whole: what was mangled before seldom loads.
        let from = [self.whole, self.models.len()][random.below(2)];
        let mut model = self.models[random.below(from)].clone();
        let other = self.models[random.below(self.whole)].clone();
        for _ in 0..[1, 1, 2, 4][random.below(4)] {
            mangle(&mut model, &other, &mut random);
        }
        let said = match attempt(&model, &mut random) {
            Ok(tokens) => {
                self.loaded += 1;
                format!("{tokens} tokens")
            }
            Err(error) => error,
        };
        check_harmless(seed);
        // Numbers and names differ from file to file: what is left says where it ended.
        let plain = |c: &char| c.is_ascii_lowercase() || *c == ' ';
        let is_new = self.said.insert(said.chars().filter(plain).take(90).collect());
        if is_new && self.models.len() < CORPUS_MAX {
            self.models.push(model);
        }
    }
}

/// Each is a few hundred thousand bytes.
const CORPUS_MAX: usize = 600;

fn fixture(name: &str, file: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    std::fs::read(root.join(name).join(file)).expect("a fixture")
}

/// Loads the model and, if it loads, runs it for a few tokens, whose number it gives.
fn attempt(model: &Model, random: &mut Random) -> Result<usize, String> {
    let weights = [Precision::Stored, Precision::Q8, Precision::Q4][random.below(3)];
    let settings = Settings { cache_bytes: 4 << 20, threads: 1, weights, ..Settings::default() };
    let engine = match model {
        Model::Gguf(file) => Engine::from_gguf("mangled", file.clone().into(), settings),
        Model::Directory(model) => {
            let files = Files {
                name: "mangled",
                config: &model.config,
                weights: model.weights.clone().into(),
                tokenizer: &model.tokenizer,
                tokenizer_config: &model.tokenizer_config,
                ..Files::default()
            };
            Engine::from_files(files, settings)
        }
    };
    let mut engine = engine.map_err(|error| {
        let text = error.to_string();
        assert!(!text.is_empty());
        text
    })?;
    let _ = engine.render_chat(&json!([{"role": "user", "content": "hi"}]), None, true);
    let mut prompt = engine.tokenize("hello <user> [P1] \u{1f600}");
    prompt.push(0);
    let _ = engine.submit(Work { prompt, max_tokens: 3, ..Work::default() });
    let mut out = Vec::new();
    (0..6).for_each(|_| engine.step(&mut out));
    Ok(out.len())
}

fn mangle(model: &mut Model, other: &Model, random: &mut Random) {
    match model {
        Model::Gguf(file) => mangle_gguf(file, other, random),
        Model::Directory(model) => match random.below(8) {
            0 | 1 => change_document(&mut model.config, random),
            2 => flip_bytes(&mut model.config, usize::MAX, random),
            3 => change_header(&mut model.weights, random),
            4 => flip_bytes(&mut model.weights, 4096, random),
            5 => flip_bytes(&mut model.weights, usize::MAX, random),
            6 => change_document(&mut model.tokenizer, random),
            _ => flip_bytes(&mut model.tokenizer, usize::MAX, random),
        },
    }
}

fn mangle_gguf(file: &mut Vec<u8>, other: &Model, random: &mut Random) {
    match random.below(8) {
        0 => flip_bytes(file, usize::MAX, random),
        1 => flip_bytes(file, GGUF_HEAD, random),
        2 => splice(file, other, random),
        3 => copy_within(file, random),
        _ => (0..=random.below(2)).for_each(|_| change_number(file, random)),
    }
}

fn flip_bytes(bytes: &mut Vec<u8>, within: usize, random: &mut Random) {
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len().min(within));
        match random.below(4) {
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 if random.below(4) == 0 => bytes.truncate(at + 1),
            _ => bytes.insert(at, b"0919{}[]\",:-e"[random.below(13)]),
        }
    }
}

/// A beginning of one file, and the rest of another.
fn splice(file: &mut Vec<u8>, other: &Model, random: &mut Random) {
    let Model::Gguf(other) = other else { return };
    let at = random.below(file.len().min(GGUF_HEAD));
    let from = match random.below(2) {
        0 => at,
        _ => random.below(other.len().min(GGUF_HEAD)),
    };
    file.truncate(at);
    file.extend(other.get(from..).unwrap_or_default());
}

/// Some bytes of the head once more somewhere else in it: keys and tensors twice, other names.
fn copy_within(file: &mut [u8], random: &mut Random) {
    let head = file.len().min(GGUF_HEAD);
    let length = 1 + random.below(64.min(head.max(2) - 1));
    let (from, to) = (random.below(head - length.min(head)), random.below(head - length.min(head)));
    if from + length <= file.len() {
        file.copy_within(from..from + length, to);
    }
}

/// Changes a number somewhere before the tensors' bytes to a strange one.
fn change_number(file: &mut [u8], random: &mut Random) {
    let strange = [0, 1, 2, 8, 31, 255, 1 << 20, u64::from(u32::MAX), 1 << 60, 1 << 63, u64::MAX];
    let bytes = strange[random.below(strange.len())].to_le_bytes();
    let width = [1, 4, 8][random.below(3)];
    let at = random.below(GGUF_HEAD);
    if let Some(place) = file.get_mut(at..at + width) {
        place.copy_from_slice(&bytes[..width]);
    }
}

/// About where the fixtures' keys and names of tensors end.
const GGUF_HEAD: usize = 9000;

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
            let key = map.keys().nth(at).cloned().expect("it is one of them");
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

/// A document that is none any more stays as it is.
fn change_document(bytes: &mut Vec<u8>, random: &mut Random) {
    let Ok(mut document) = serde_json::from_slice::<Value>(bytes) else { return };
    (0..=random.below(2)).for_each(|_| change_value(&mut document, random));
    *bytes = serde_json::to_vec(&document).expect("a value is a document");
}

/// Changes the JSON header of a safetensors file, keeping its length field right.
fn change_header(bytes: &mut Vec<u8>, random: &mut Random) {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return };
    let length = u64::from_le_bytes(*length) as usize;
    let Some((header, data)) = rest.split_at_checked(length) else { return };
    let mut header = header.to_vec();
    change_document(&mut header, random);
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header);
    out.extend(data);
    *bytes = out;
}

/// The largest address space this process has had, where the system tells.
fn address_space_peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmPeak:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Counts panics from here on.
pub fn count_panics() {
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
