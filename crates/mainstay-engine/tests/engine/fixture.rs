//! Loads the stored models and runs requests on them.

use mainstay_engine::{
    Engine, Files, Finish, KvPrecision, Progress, Sampling, SequenceId, Settings, Work,
};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Every stored model.
pub const ALL: [&str; 7] =
    ["deepseek-v3", "deepseek-v3-yarn", "deepseek-v2", "llama3", "qwen2", "qwen3", "qwen3-moe"];

/// The weights of deepseek-v3, and a layer that drafts behind them.
pub const DRAFTS: &str = "deepseek-v3-drafts";

/// One of each kind of attention and feed-forward.
pub const KINDS: [&str; 3] = ["deepseek-v3", "qwen3", "qwen3-moe"];

pub fn path(name: &str, file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).join(file)
}

pub fn read(name: &str, file: &str) -> Vec<u8> {
    let path = path(name, file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

/// Small and exact: several steps for each prompt, several pages for each sequence.
pub fn settings() -> Settings {
    Settings {
        cache_bytes: 8 << 20,
        kv: KvPrecision::F32,
        page_tokens: 8,
        prefill_chunk: 16,
        // Steps are the same however slow the machine is.
        step_time: Duration::MAX,
        threads: 1,
        ..Settings::default()
    }
}

pub fn engine(name: &str, settings: Settings) -> Engine {
    let weights = match name {
        "deepseek-v3-yarn" => "deepseek-v3",
        other => other,
    };
    let weights = match name {
        "deepseek-v3-drafts" => with_drafts(),
        _ => read(weights, "model.safetensors"),
    };
    let files = Files {
        name,
        config: &read(name, "config.json"),
        weights: weights.into(),
        tokenizer: &read("tokenizer", "tokenizer.json"),
        tokenizer_config: &read("tokenizer", "tokenizer_config.json"),
        ..Files::default()
    };
    Engine::from_files(files, settings).unwrap_or_else(|error| panic!("load {name}: {error}"))
}

/// The weights of deepseek-v3 with the layer that drafts behind them.
pub fn with_drafts() -> Vec<u8> {
    let files = [read("deepseek-v3", "model.safetensors"), read(DRAFTS, "draft.safetensors")];
    let files = files.each_ref().map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    safetensors::serialize(files.iter().flat_map(SafeTensors::tensors), None).unwrap()
}

/// The stored prompt and its greedy continuation.
pub fn greedy(name: &str) -> (Vec<u32>, Vec<u32>) {
    let bytes = read(name, "reference.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let ids = |name: &str| {
        let numbers = file.tensor(name).unwrap().data().as_chunks::<4>().0;
        numbers.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()
    };
    (ids("ids"), ids("greedy"))
}

/// A request that wanders: another seed gives another answer.
pub fn work(prompt: &[u32], seed: u64, max_tokens: usize) -> Work {
    Work {
        prompt: prompt.to_vec(),
        sampling: Sampling { temperature: 0.9, seed: Some(seed), ..Sampling::default() },
        max_tokens,
        ..Work::default()
    }
}

/// A prompt of `length` ordinary tokens, different for each `salt`.
pub fn prompt(length: usize, salt: u64) -> Vec<u32> {
    (0..length as u64).map(|index| 10 + ((index + 1) * (salt * 37 + 11) % 300) as u32).collect()
}

/// Everything reported for one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub tokens: Vec<u32>,
    pub text: String,
    pub finish: Option<Finish>,
    pub cached: usize,
}

impl Answer {
    pub fn take(&mut self, progress: &Progress) {
        self.tokens.push(progress.token);
        self.text.push_str(&progress.text);
        assert_eq!(self.finish, None, "a report after the last one");
        self.finish = progress.finish;
        self.cached = progress.cached;
    }

    /// What came after all this.
    pub fn append(&mut self, rest: Answer) {
        self.tokens.extend(rest.tokens);
        self.text.push_str(&rest.text);
        self.finish = rest.finish.or(self.finish);
        self.cached = self.cached.max(rest.cached);
    }
}

/// Knuth's linear congruential generator.
pub fn random_after(number: u64) -> u64 {
    number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
}

/// Steps until nothing is left; the answers in the order of `ids`.
pub fn finish(engine: &mut Engine, ids: &[SequenceId]) -> Vec<Answer> {
    let mut answers = vec![Answer::default(); ids.len()];
    let mut out = Vec::new();
    for _ in 0..10_000 {
        if engine.is_idle() {
            return answers;
        }
        out.clear();
        engine.step(&mut out);
        for progress in &out {
            if let Some(at) = ids.iter().position(|id| *id == progress.id) {
                answers[at].take(progress);
            }
        }
    }
    panic!("the engine does not come to an end");
}

/// Runs requests together.
pub fn run(engine: &mut Engine, works: Vec<Work>) -> Vec<Answer> {
    let ids: Vec<SequenceId> = works.into_iter().map(|work| engine.submit(work).unwrap()).collect();
    finish(engine, &ids)
}
