//! What a model is and what it takes, told from its description alone: no weights are needed.
//!
//! Parameters are counted as the family is built, without what only training or drafting uses.

use crate::engine::files::{self, Directory};
use crate::engine::{Files, KvPrecision};
use crate::error::LoadError;
use crate::gguf::Gguf;
use crate::shape::{AttentionShape, Bias, ExpertsShape, Shape};
use crate::tokenizer::{ControlTokens, Hide, Vocabulary};
use serde_json::Value;
use std::path::Path;

/// A model, described.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    pub name: String,
    /// As in `config.json`, for example `DeepseekV3ForCausalLM`.
    pub architecture: String,
    pub layers: usize,
    pub hidden: usize,
    /// Tokens that a sequence may hold.
    pub context: usize,
    /// Rows of the embedding.
    pub vocabulary: usize,
    pub attention: Attention,
    pub experts: Option<Experts>,
    /// Numbers in all matrices and vectors that a token may pass.
    pub parameters: u64,
    /// Of those, the ones that one token does pass: all but the experts it does not use.
    pub active: u64,
    /// Bytes of the weights' files, if there are any.
    pub weights: Option<u64>,
    /// How the published weights are stored, if they are quantised.
    pub quantised: Option<String>,
    pub tokenizer: Option<Tokens>,
    /// Bytes of the chat template, if there is one.
    pub template: Option<usize>,
    /// Whether the template shows the model tools to call.
    pub tools: bool,
}

/// How a model attends.
#[derive(Clone, Debug, PartialEq)]
pub enum Attention {
    /// Keys and values of `kv_heads` heads are cached.
    Grouped { heads: usize, kv_heads: usize, head: usize },
    /// One latent vector and one rotated key are cached for all heads.
    Latent { heads: usize, latent: usize, rope: usize },
}

/// Experts of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Experts {
    /// In each layer that has any.
    pub count: usize,
    /// Those that a token uses, the shared ones not among them.
    pub used: usize,
    pub layers: usize,
}

/// A tokenizer.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokens {
    /// As `tokenizer.json` calls it, for example `BPE`.
    pub kind: String,
    /// Tokens it knows.
    pub count: usize,
}

impl Description {
    /// Describes a model directory, a GGUF file, or a `config.json` of whatever name.
    pub fn read(path: &Path) -> Result<Description, LoadError> {
        if !path.is_file() {
            let files = Directory::described(path, None)?;
            let description = Description::of_files(&files.files())?;
            return Ok(Description { weights: weights_in(path), ..description });
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        if path.extension().is_none_or(|extension| extension != "json") {
            return Description::of_gguf(path, &stem);
        }
        let directory = path.parent().unwrap_or(Path::new(""));
        let files = Directory::described(directory, Some(path))?;
        let description = Description::of_files(&files.files())?;
        let name = if stem == "config" { description.name } else { stem.into_owned() };
        Ok(Description { name, weights: weights_in(directory), ..description })
    }

    /// Describes a GGUF file without a look at its tokenizer, which takes the longest.
    pub fn outline(path: &Path) -> Result<Description, LoadError> {
        let (gguf, bytes) = gguf(path)?;
        let description = Description::of_files(&gguf_files("", &gguf))?;
        Ok(Description { weights: Some(bytes), ..description })
    }

    fn of_gguf(path: &Path, name: &str) -> Result<Description, LoadError> {
        let (gguf, bytes) = gguf(path)?;
        let files = Files { tokenizer: &gguf.tokenizer, ..gguf_files(name, &gguf) };
        Ok(Description { weights: Some(bytes), ..Description::of_files(&files)? })
    }

    /// Describes a model whose files are in memory.
    pub fn of_files(files: &Files<'_>) -> Result<Description, LoadError> {
        let shape = Shape::describe(files.config)?;
        let config = files::optional_json(files.config, "config.json")?;
        let tokenizer_config =
            files::optional_json(files.tokenizer_config, "tokenizer_config.json")?;
        let template = files::template_source(files.chat_template, &tokenizer_config)?;
        let quantised = config.get("quantization_config").map(|entry| {
            let method = entry.get("quant_method").and_then(Value::as_str);
            method.unwrap_or("quantised").to_owned()
        });
        let size = files.weights.len() as u64;
        Ok(Description {
            weights: (size > 0).then_some(size),
            quantised,
            tokenizer: tokens(files.tokenizer, &shape)?,
            tools: template.as_ref().is_some_and(|template| template.contains("tools")),
            template: template.map(|template| template.len()),
            ..Description::of(files.name, &shape)
        })
    }

    fn of(name: &str, shape: &Shape) -> Description {
        let attention = match shape.attention {
            AttentionShape::Grouped { heads, kv_heads, head, .. } => {
                Attention::Grouped { heads, kv_heads, head }
            }
            AttentionShape::Latent { heads, kv_lora, rope, .. } => {
                Attention::Latent { heads, latent: kv_lora, rope }
            }
        };
        let experts = shape.experts.as_ref().map(|experts| Experts {
            count: experts.experts,
            used: experts.gate.top,
            layers: experts.sparse.iter().filter(|sparse| **sparse).count(),
        });
        Description {
            name: name.to_owned(),
            architecture: shape.architecture.clone(),
            layers: shape.layers,
            hidden: shape.hidden,
            context: shape.context,
            vocabulary: shape.vocabulary,
            attention,
            experts,
            parameters: parameters(shape, |experts| experts.experts),
            active: parameters(shape, |experts| experts.gate.top),
            weights: None,
            quantised: None,
            tokenizer: None,
            template: None,
            tools: false,
        }
    }

    /// Bytes that one token takes in the cache.
    pub fn kv_bytes_per_token(&self, kv: KvPrecision) -> u64 {
        let numbers = match self.attention {
            Attention::Grouped { kv_heads, head, .. } => 2 * kv_heads * head,
            Attention::Latent { latent, rope, .. } => latent + rope,
        };
        (self.layers * numbers * kv.bytes()) as u64
    }

    /// Bytes of the cache for so many sequences of so many tokens, in whole pages.
    pub fn kv_bytes(&self, kv: KvPrecision, batch: usize, tokens: usize, page: usize) -> u64 {
        let pages = (tokens.div_ceil(page.max(1)) * batch) as u64;
        pages * page.max(1) as u64 * self.kv_bytes_per_token(kv)
    }

    /// Bytes of the weights: of their files, or else of so many parameters at two bytes each.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.unwrap_or(self.parameters * 2)
    }
}

/// What a GGUF file says, and its size.
fn gguf(path: &Path) -> Result<(Gguf, u64), LoadError> {
    let (file, tokenizer) = files::gguf(path)?;
    let bytes = file.bytes().len() as u64;
    Ok((Gguf::read(file, &tokenizer, &path.display().to_string())?, bytes))
}

/// Its description, without weights and tokenizer.
fn gguf_files<'a>(name: &'a str, gguf: &'a Gguf) -> Files<'a> {
    let (config, tokenizer_config) = (&gguf.config[..], &gguf.tokenizer_config[..]);
    Files { name, config, tokenizer_config, ..Files::default() }
}

/// The tokenizer's kind and size. One that is there must be sound.
fn tokens(json: &[u8], shape: &Shape) -> Result<Option<Tokens>, LoadError> {
    if json.is_empty() {
        return Ok(None);
    }
    let control = ControlTokens { hide: Hide::Nothing, ids: &[], texts: &[], template: "" };
    let vocabulary = Vocabulary::read(json, shape.vocabulary, &control)?;
    let read: Value = serde_json::from_slice(json).unwrap_or_default();
    let kind = read["model"]["type"].as_str().unwrap_or("unnamed").to_owned();
    Ok(Some(Tokens { kind, count: vocabulary.count() }))
}

/// Bytes of all weights in a directory; nothing if it has none.
fn weights_in(directory: &Path) -> Option<u64> {
    let entries = std::fs::read_dir(directory).ok()?.flatten();
    let files = entries.filter(|entry| {
        entry.path().extension().is_some_and(|extension| extension == "safetensors")
    });
    let bytes: u64 = files.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
    (bytes > 0).then_some(bytes)
}

/// Numbers in a model of this shape, with so many experts in each layer that has any.
fn parameters(shape: &Shape, experts: impl Fn(&ExpertsShape) -> usize) -> u64 {
    let hidden = shape.hidden;
    let mut sum = matrix(shape.vocabulary, hidden) + hidden as u64;
    if !shape.tied.unwrap_or(false) {
        sum += matrix(shape.vocabulary, hidden);
    }
    for layer in 0..shape.layers {
        sum += 2 * hidden as u64 + attention(shape);
        sum += match shape.experts.as_ref().filter(|experts| experts.sparse[layer]) {
            None => 3 * matrix(hidden, shape.dense_hidden),
            Some(all) => {
                let gate = matrix(all.experts, hidden);
                let bias = if all.gate.bias { all.experts as u64 } else { 0 };
                let shared = 3 * matrix(hidden, all.shared_hidden);
                gate + bias + shared + experts(all) as u64 * 3 * matrix(hidden, all.hidden)
            }
        };
    }
    sum
}

fn attention(shape: &Shape) -> u64 {
    let hidden = shape.hidden;
    match shape.attention {
        AttentionShape::Grouped { heads, kv_heads, head, bias, head_norm } => {
            let (query, key) = (heads * head, kv_heads * head);
            let inputs = if bias == Bias::None { 0 } else { query + 2 * key };
            let output = if bias == Bias::All { hidden } else { 0 };
            let norms = if head_norm { 2 * head } else { 0 };
            2 * matrix(query, hidden) + 2 * matrix(key, hidden) + (inputs + output + norms) as u64
        }
        AttentionShape::Latent { heads, q_lora, kv_lora, rope, nope, value } => {
            let width = heads * (nope + rope);
            let query = match q_lora {
                None => matrix(width, hidden),
                Some(rank) => matrix(rank, hidden) + rank as u64 + matrix(width, rank),
            };
            let down = matrix(kv_lora + rope, hidden) + kv_lora as u64;
            let up = matrix(heads * (nope + value), kv_lora);
            query + down + up + matrix(hidden, heads * value)
        }
    }
}

fn matrix(rows: usize, columns: usize) -> u64 {
    rows as u64 * columns as u64
}
