//! A chat request decoded in full, for wires that need a translation.

use super::super::event::Endpoint;
use super::Call;
use super::write::{Edit, unsupported};
use mainstay_core::names::Failure;
use serde::Deserialize;
use serde_json::{Map, Value};

/// A chat request's keys and messages.
pub(super) struct Conversation {
    /// Its messages in order.
    pub(super) messages: Vec<Message>,
    /// All other keys.
    pub(super) rest: Map<String, Value>,
}

/// One message.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    pub(super) role: String,
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    tool_calls: Option<Vec<ToolCall>>,
    #[serde(default)]
    pub(super) tool_call_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<RawPart>),
}

#[derive(Debug, Deserialize)]
struct RawPart {
    #[serde(default)]
    r#type: String,
    text: Option<String>,
    refusal: Option<String>,
    image_url: Option<ImageUrl>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ImageUrl {
    Object { url: String, detail: Option<String> },
    Text(String),
}

/// A part of a message that other wires can say too.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Image { url: String, detail: Option<String> },
}

/// A call of a tool in the assistant's message.
#[derive(Debug, Deserialize)]
pub(super) struct ToolCall {
    pub(super) id: String,
    pub(super) function: Function,
}

#[derive(Debug, Deserialize)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) arguments: String,
}

impl Conversation {
    /// Decodes `call`, if it is one that a wire with a single choice can be asked.
    pub(super) fn of(call: &Call, edit: &Edit<'_>) -> Result<Conversation, Failure> {
        if call.endpoint != Endpoint::Chat {
            return Err(unsupported("it offers chat only"));
        }
        if call.n > 1 && !edit.only_choice {
            return Err(unsupported("it gives one choice only"));
        }
        if call.logprobs {
            return Err(unsupported("it gives no log probabilities"));
        }
        let unreadable = || unsupported("the request cannot be translated");
        let mut rest: Map<String, Value> =
            serde_json::from_slice(&call.body).map_err(|_| unreadable())?;
        rest.retain(|_, value| !value.is_null());
        let messages = rest.shift_remove("messages").unwrap_or_default();
        let messages = serde_json::from_value(messages).map_err(|_| unreadable())?;
        for key in ["model", "stream", "stream_options", "n", "max_tokens"] {
            rest.shift_remove(key);
        }
        rest.shift_remove("max_completion_tokens");
        rest.shift_remove("stop");
        Ok(Conversation { messages, rest })
    }

    /// Takes a key out.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.rest.shift_remove(key)
    }

    /// Moves keys that have the same meaning there.
    pub(super) fn pass(&mut self, keys: &[&str], body: &mut Map<String, Value>) {
        for key in keys {
            if let Some(value) = self.take(key) {
                body.insert((*key).into(), value);
            }
        }
    }
}

impl Message {
    /// Its parts; empty texts are left out, for other wires refuse them.
    pub(super) fn parts(&mut self) -> Result<Vec<Part>, Failure> {
        let parts = match self.content.take() {
            None => Vec::new(),
            Some(Content::Text(text)) => vec![Part::Text(text)],
            Some(Content::Parts(parts)) => {
                parts.into_iter().map(part).collect::<Result<Vec<_>, _>>()?
            }
        };
        Ok(parts.into_iter().filter(|part| *part != Part::Text(String::new())).collect())
    }

    /// Its tool calls.
    pub(super) fn calls(&mut self) -> Vec<ToolCall> {
        self.tool_calls.take().unwrap_or_default()
    }
}

fn part(raw: RawPart) -> Result<Part, Failure> {
    match (raw.r#type.as_str(), raw.image_url) {
        ("text", _) => Ok(Part::Text(raw.text.unwrap_or_default())),
        ("refusal", _) => Ok(Part::Text(raw.refusal.unwrap_or_default())),
        ("image_url", Some(ImageUrl::Text(url))) => Ok(Part::Image { url, detail: None }),
        ("image_url", Some(ImageUrl::Object { url, detail })) => Ok(Part::Image { url, detail }),
        _ => Err(unsupported("it takes text and pictures only")),
    }
}

/// The limit of output tokens left after what was relayed.
pub(super) fn tokens_left(call: &Call, edit: &Edit<'_>) -> Option<u32> {
    let relayed = edit.relayed.map_or(0, |relayed| relayed.tokens);
    call.max_tokens.map(|limit| limit.saturating_sub(relayed).max(1))
}
