//! The files of a model, from a directory or from memory, and what they say about text.

use crate::error::LoadError;
use crate::shape::{self, Shape};
use crate::template::ChatTemplate;
use crate::tokenizer::{ControlTokens, Hide, Vocabulary};
use crate::weights::Source;
use serde_json::Value;
use std::borrow::Cow;
use std::io;
use std::path::Path;

/// A model's files as bytes. The optional ones are empty where the model has none.
#[derive(Default)]
pub struct Files<'a> {
    /// Shown in the model card.
    pub name: &'a str,
    /// `config.json`
    pub config: &'a [u8],
    /// One safetensors file.
    pub weights: Cow<'static, [u8]>,
    /// `tokenizer.json`
    pub tokenizer: &'a [u8],
    /// `tokenizer_config.json`; optional.
    pub tokenizer_config: &'a [u8],
    /// `chat_template.jinja`; optional, goes before the one in `tokenizer_config.json`.
    pub chat_template: &'a [u8],
    /// `generation_config.json`; optional, its end tokens are added.
    pub generation_config: &'a [u8],
}

impl From<Cow<'static, [u8]>> for Source {
    fn from(bytes: Cow<'static, [u8]>) -> Source {
        match bytes {
            Cow::Borrowed(bytes) => Source::Static(bytes),
            Cow::Owned(bytes) => Source::Owned(bytes),
        }
    }
}

/// The small files of a model directory.
pub struct Directory {
    name: String,
    config: Vec<u8>,
    tokenizer: Vec<u8>,
    tokenizer_config: Vec<u8>,
    chat_template: Vec<u8>,
    generation_config: Vec<u8>,
}

/// No published file of these has more than about 30 MiB.
const SMALL_FILE_MAX: u64 = 256 << 20;

impl Directory {
    /// Of a model that is to be run.
    pub fn read(directory: &Path) -> Result<Directory, LoadError> {
        let tokenizer = required(&directory.join("tokenizer.json"))?;
        Ok(Directory { tokenizer, ..Directory::described(directory, None)? })
    }

    /// Of a model that is only to be described: `config.json`, or the file `config` in its place,
    /// and whatever else there is.
    pub fn described(directory: &Path, config: Option<&Path>) -> Result<Directory, LoadError> {
        let optional = |name: &str| match required(&directory.join(name)) {
            Err(LoadError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(Vec::new())
            }
            other => other,
        };
        // A directory given as `.` or `..` has a name only in full.
        let whole = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
        let name = whole.file_name().map(|name| name.to_string_lossy().into_owned());
        let config = config.map_or_else(|| directory.join("config.json"), Path::to_owned);
        Ok(Directory {
            name: name.unwrap_or_default(),
            config: required(&config)?,
            tokenizer: optional("tokenizer.json")?,
            tokenizer_config: optional("tokenizer_config.json")?,
            chat_template: optional("chat_template.jinja")?,
            generation_config: optional("generation_config.json")?,
        })
    }

    /// Without the weights, which stay in their files.
    pub fn files(&self) -> Files<'_> {
        Files {
            name: &self.name,
            config: &self.config,
            weights: Cow::Borrowed(&[]),
            tokenizer: &self.tokenizer,
            tokenizer_config: &self.tokenizer_config,
            chat_template: &self.chat_template,
            generation_config: &self.generation_config,
        }
    }
}

fn required(path: &Path) -> Result<Vec<u8>, LoadError> {
    let size = std::fs::metadata(path).map(|metadata| metadata.len());
    let bytes = match size {
        Ok(size) if size > SMALL_FILE_MAX => Err(io::ErrorKind::FileTooLarge.into()),
        _ => std::fs::read(path),
    };
    bytes.map_err(|source| LoadError::Read { path: path.to_owned(), source })
}

/// A GGUF file, mapped, and the `tokenizer.json` beside it, empty if there is none.
pub fn gguf(path: &Path) -> Result<(Source, Vec<u8>), LoadError> {
    let failed = |path: &Path, source| LoadError::Read { path: path.to_owned(), source };
    let file = Source::map(path).map_err(|source| failed(path, source))?;
    let beside = path.with_file_name("tokenizer.json");
    match std::fs::read(&beside) {
        Ok(tokenizer) => Ok((file, tokenizer)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((file, Vec::new())),
        Err(error) => Err(failed(&beside, error)),
    }
}

/// What turns conversations into tokens and tokens into text.
pub struct Text {
    pub vocabulary: Vocabulary,
    pub template: ChatTemplate,
    pub end_tokens: Vec<u32>,
}

pub fn read_text(files: &Files<'_>, shape: &Shape, hide: Hide) -> Result<Text, LoadError> {
    let tokenizer_config = optional_json(files.tokenizer_config, "tokenizer_config.json")?;
    let generation_config = optional_json(files.generation_config, "generation_config.json")?;
    let source = template_source(files.chat_template, &tokenizer_config)?;
    let special = special_tokens(&tokenizer_config);
    let mut end_tokens = shape.end_tokens.clone();
    end_tokens.extend(shape::token_ids(&generation_config, "eos_token_id"));
    let texts: Vec<String> =
        special.values().filter_map(Value::as_str).map(str::to_owned).collect();
    let template = source.clone().unwrap_or_default();
    let ids = [end_tokens.as_slice(), &shape.silent_tokens].concat();
    let control = ControlTokens { hide, ids: &ids, texts: &texts, template: &template };
    let vocabulary = Vocabulary::read(files.tokenizer, shape.vocabulary, &control)?;
    let eos = special.get("eos_token").and_then(Value::as_str);
    end_tokens.extend(eos.and_then(|eos| vocabulary.id(eos)));
    end_tokens.sort_unstable();
    end_tokens.dedup();
    Ok(Text { vocabulary, template: ChatTemplate::new(source, special)?, end_tokens })
}

pub fn optional_json(bytes: &[u8], name: &str) -> Result<Value, LoadError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(bytes)
        .map_err(|error| LoadError::Config(format!("{name} is no valid JSON ({error})")))
}

/// The template file, else the entry `chat_template`: a text, or a list of named ones.
pub fn template_source(file: &[u8], config: &Value) -> Result<Option<String>, LoadError> {
    if !file.is_empty() {
        let text = std::str::from_utf8(file)
            .map_err(|_| LoadError::Template("chat_template.jinja is not UTF-8".into()))?;
        return Ok(Some(text.to_owned()));
    }
    let entry = config.get("chat_template");
    if let Some(list) = entry.and_then(Value::as_array) {
        let is_default = |item: &&Value| item.get("name").is_some_and(|name| name == "default");
        let chosen = list.iter().find(is_default).or(list.first());
        let text = chosen.and_then(|item| item.get("template")).and_then(Value::as_str);
        return Ok(text.map(str::to_owned));
    }
    Ok(entry.and_then(Value::as_str).map(str::to_owned))
}

/// The texts of `bos_token`, `eos_token` and the like: plain, or in an object's `content`.
fn special_tokens(config: &Value) -> serde_json::Map<String, Value> {
    let mut special = serde_json::Map::new();
    for name in ["bos_token", "eos_token", "pad_token", "unk_token"] {
        let entry = config.get(name);
        let text = entry.and_then(|entry| entry.get("content").or(Some(entry)));
        if let Some(text) = text.and_then(Value::as_str) {
            special.insert(name.into(), text.into());
        }
    }
    special
}
