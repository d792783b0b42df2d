//! What can go wrong, in words that say how to mend it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a model could not be loaded. Always the fault of the files or the settings.
#[derive(Debug)]
pub enum LoadError {
    /// A file could not be read.
    Read { path: PathBuf, source: io::Error },
    /// `config.json` is broken or describes a model this engine does not run.
    Config(String),
    /// The weights are broken, incomplete, or do not match `config.json`.
    Weights(String),
    /// `tokenizer.json` is broken or does not match the model.
    Tokenizer(String),
    /// The chat template is too large or no valid template.
    Template(String),
    /// The settings leave no room for one page of the cache, or the memory is not there.
    Memory(String),
    /// There is no card that can compute this, or something is missing to use it.
    Card(String),
}

impl fmt::Display for LoadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Read { path, source } => write!(out, "read {}: {source}", path.display()),
            LoadError::Config(text) => write!(out, "config.json: {text}"),
            LoadError::Weights(text) => write!(out, "weights: {text}"),
            LoadError::Tokenizer(text) => write!(out, "tokenizer: {text}"),
            LoadError::Template(text) => write!(out, "chat template: {text}"),
            LoadError::Memory(text) => write!(out, "memory: {text}"),
            LoadError::Card(text) => write!(out, "card: {text}"),
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LoadError::Read { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Why a conversation could not be turned into a prompt.
#[derive(Debug)]
pub enum TemplateError {
    /// The model brought no chat template.
    Missing,
    /// The template itself refused the messages (`raise_exception`): the caller's fault.
    Refused(String),
    /// The template failed, looped beyond its allowance, or wrote too much.
    Failed(String),
}

impl fmt::Display for TemplateError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TemplateError::Missing => write!(out, "the model has no chat template"),
            TemplateError::Refused(text) => write!(out, "the model's template refuses: {text}"),
            TemplateError::Failed(text) => write!(out, "the model's template failed: {text}"),
        }
    }
}

impl std::error::Error for TemplateError {}

/// Why a request was not taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The waiting line is full; `waiting` stand in it. Its next place is likely to be free after
    /// the time `again`.
    Busy {
        waiting: usize,
        again: Duration,
    },
    /// The prompt alone, or prompt and answer together, exceed what the model or the cache holds.
    TooLong {
        tokens: usize,
        limit: usize,
    },
    EmptyPrompt,
    /// A prompt or journal token the model does not know.
    UnknownToken(u32),
    /// A sampling number out of range, or a stop string that cannot be used.
    BadSetting(&'static str),
    /// The answer cannot be held to its grammar, for this reason.
    BadGrammar(String),
    /// The journal already holds as many tokens as the request allows.
    AlreadyFinished,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Busy { waiting, again } => write!(
                out,
                "{waiting} requests are waiting already; try again in {} s",
                again.as_secs_f64().ceil()
            ),
            Refusal::TooLong { tokens, limit } => {
                write!(out, "{tokens} tokens are needed, {limit} is the limit")
            }
            Refusal::EmptyPrompt => write!(out, "the prompt is empty"),
            Refusal::UnknownToken(id) => write!(out, "token {id} is not in the vocabulary"),
            Refusal::BadSetting(text) => write!(out, "{text}"),
            Refusal::BadGrammar(text) => write!(out, "{text}"),
            Refusal::AlreadyFinished => write!(out, "the journal is already complete"),
        }
    }
}

impl std::error::Error for Refusal {}
