//! A client's request: read no deeper than decisions need, and written anew for an upstream from
//! the client's own bytes.
//!
//! Prompts are long, and nobody here has to understand them: they are looked through once, to see
//! how long they are and whether they hold pictures, and are copied once, into what is sent. Keys
//! we do not know go on untouched, for the upstream may.

mod conversation;
mod read;
mod scan;
mod to_messages;
mod to_responses;
mod write;

use super::event::Endpoint;
use super::object::{self, Field};
use bytes::Bytes;

pub use read::Invalid;
pub use scan::{Media, text_tokens};
pub use write::{Edit, Outgoing, Relayed, url, write};

/// A request as far as we read it.
#[derive(Clone, Debug)]
pub struct Call {
    /// What it is for.
    pub endpoint: Endpoint,
    /// Its body as it came, checked to be a JSON object without a repeated key.
    pub body: Bytes,
    /// The object's keys and where their values stand in `body`.
    pub fields: Vec<Field>,
    /// The model it asks for.
    pub model: String,
    /// It wants a stream.
    pub stream: bool,
    /// It wants usage at the end of the stream.
    pub include_usage: bool,
    /// Choices per prompt.
    pub n: u32,
    /// Prompts: 1, or the length of a text completion's list of prompts.
    pub prompts: u32,
    /// Its limit of output tokens, under either name.
    pub max_tokens: Option<u32>,
    /// Its temperature.
    pub temperature: Option<f64>,
    /// Its seed.
    pub seed: Option<i64>,
    /// Its stop strings.
    pub stop: Vec<String>,
    /// It offers tools (or the older functions).
    pub tools: bool,
    /// It says how tools are to be chosen.
    pub tool_choice: bool,
    /// The form its answer must have.
    pub format: Format,
    /// It wants log probabilities.
    pub logprobs: bool,
    /// It wants its prompt repeated (text completions).
    pub echo: bool,
    /// Answers to draw for each that is shown (text completions).
    pub best_of: Option<u32>,
    /// What its messages hold besides text.
    pub media: Media,
    /// About how many tokens its prompt and its tools are.
    pub prompt_tokens: u64,
}

/// The form an answer must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Any text.
    #[default]
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON under a schema or another grammar.
    JsonSchema,
}

impl Call {
    /// Reads the body of a request to `endpoint`.
    pub fn parse(endpoint: Endpoint, body: Bytes) -> Result<Call, Invalid> {
        read::call(endpoint, body)
    }

    /// How many choices its answer has.
    pub fn choices(&self) -> u32 {
        self.n.saturating_mul(self.prompts.max(1))
    }

    /// The text of `key`'s value, unless that is missing or null.
    pub fn value(&self, key: &str) -> Option<&str> {
        let field = self.fields.iter().find(|field| field.key == key)?;
        let value = std::str::from_utf8(self.body.get(field.value.clone())?).ok()?;
        (value != "null").then_some(value)
    }

    /// The same without these keys.
    pub fn without(self, keys: &[&str]) -> Call {
        if !self.fields.iter().any(|field| keys.contains(&field.key.as_str())) {
            return self;
        }
        let edits: Vec<(&str, Option<String>)> = keys.iter().map(|key| (*key, None)).collect();
        let body = Bytes::from(object::edit(self.text(), &self.fields, &edits));
        let fields = std::str::from_utf8(&body).ok().and_then(|text| object::fields(text).ok());
        // What was an object is one with fewer keys.
        Call { fields: fields.unwrap_or_default(), body, ..self }
    }

    /// The body as text; `parse` has checked it.
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_default()
    }
}
