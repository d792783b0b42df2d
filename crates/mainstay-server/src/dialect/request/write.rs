//! Writes a request for one upstream.
//!
//! On OpenAI's own wire the client's bytes are kept: only what the attempt must say otherwise is
//! replaced. Other wires get a translation.
//!
//! The address is the base URL followed by `Outgoing::path`, with nothing between; see `url`.

use super::super::event::Endpoint;
use super::super::object::{self, quoted};
use super::super::{ContinueForm, Dialect, Wire};
use super::{Call, to_messages, to_responses};
use bytes::Bytes;
use mainstay_core::names::{ClientFault, ErrorClass, Failure};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// What an attempt says otherwise than the client.
#[derive(Clone, Debug)]
pub struct Edit<'a> {
    /// The model's name there.
    pub model: &'a str,
    /// Ask for a stream.
    pub stream: bool,
    /// Ask for one choice, whatever the client wants: one choice is being resumed alone.
    pub only_choice: bool,
    /// The beginning of the answer, to be continued.
    pub relayed: Option<Relayed<'a>>,
    /// The site's base URL: a dialect's suffix for continuing is not added to one that has it.
    pub base: &'a str,
}

/// An answer's beginning that the client already has.
#[derive(Clone, Copy, Debug)]
pub struct Relayed<'a> {
    /// Its text, unchanged in every byte.
    pub text: &'a str,
    /// Its length in tokens.
    pub tokens: u32,
}

/// A request as it is sent. Authorization is the sender's to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// What follows the base URL, e.g. `/beta/chat/completions`.
    pub path: String,
    /// The body.
    pub body: Bytes,
    /// Headers, the dialect's own among them.
    pub headers: Vec<(String, String)>,
    /// Keys of the client's request that this wire cannot say.
    pub dropped: Vec<String>,
}

/// The address of `path` at `base`.
pub fn url(base: &str, path: &str) -> String {
    format!("{}{path}", base.trim_end_matches('/'))
}

/// Writes `call` for an upstream of `dialect`. The failure, if any, is `client_fault/unsupported`:
/// this upstream cannot be asked this.
pub fn write(call: &Call, dialect: &Dialect, edit: &Edit<'_>) -> Result<Outgoing, Failure> {
    let form = match edit.relayed {
        Some(_) if call.endpoint == Endpoint::Chat => Some(form_of(dialect)),
        Some(_) | None => None,
    };
    let mut dropped = Vec::new();
    let (body, path) = match dialect.wire {
        Wire::Chat => (chat_body(call, edit, form)?, chat_path(call.endpoint)),
        Wire::Messages => (to_messages::body(call, edit, form, &mut dropped)?, "/v1/messages"),
        Wire::Responses => (to_responses::body(call, edit, &mut dropped)?, "/responses"),
    };
    let suffix = form.and_then(|form| form.base_suffix.as_deref()).unwrap_or("");
    let suffix = suffix.trim_end_matches('/');
    let has_it = edit.base.trim_end_matches('/').ends_with(suffix);
    let path = if has_it { path.to_owned() } else { format!("{suffix}{path}") };
    let accept = if edit.stream { "text/event-stream" } else { "application/json" };
    let mut headers = vec![
        ("content-type".to_owned(), "application/json".to_owned()),
        ("accept".to_owned(), accept.to_owned()),
    ];
    headers.extend(dialect.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    Ok(Outgoing { path, body: Bytes::from(body), headers, dropped })
}

/// The dialect's form of continuing. Where it names none, whoever ordered this knows better, from
/// the operator or from a probe, and the plain form is sent: the text as the last message.
fn form_of(dialect: &Dialect) -> &ContinueForm {
    static PLAIN: LazyLock<ContinueForm> = LazyLock::new(ContinueForm::default);
    dialect.continuation.as_ref().unwrap_or(&PLAIN)
}

fn chat_path(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Chat => "/chat/completions",
        Endpoint::Completions => "/completions",
        Endpoint::Embeddings => "/embeddings",
    }
}

fn chat_body(
    call: &Call,
    edit: &Edit<'_>,
    form: Option<&ContinueForm>,
) -> Result<Vec<u8>, Failure> {
    let mut edits: Vec<(&str, Option<String>)> = vec![("model", Some(quoted(edit.model)))];
    if call.endpoint != Endpoint::Embeddings {
        if edit.stream {
            edits.push(("stream", Some("true".into())));
            edits.push(("stream_options", Some(stream_options(call))));
        } else {
            edits.push(("stream", call.value("stream").map(|_| "false".into())));
            edits.push(("stream_options", None));
        }
    }
    if edit.only_choice && call.n != 1 {
        edits.push(("n", Some("1".into())));
        edits.push(("best_of", None));
    }
    if let Some(relayed) = edit.relayed {
        for key in ["max_tokens", "max_completion_tokens"] {
            let limit = call.value(key).and_then(|value| value.parse::<u32>().ok());
            let left = limit.map(|limit| limit.saturating_sub(relayed.tokens).max(1));
            edits.extend(left.map(|left| (key, Some(left.to_string()))));
        }
        match form {
            Some(form) => {
                edits.push(("messages", Some(with_message(call, relayed.text, form)?)));
                let body = form.body.iter();
                edits.extend(body.map(|(key, value)| (key.as_str(), Some(value.to_string()))));
            }
            None => edits.push(("prompt", Some(longer_prompt(call, relayed.text)?))),
        }
    }
    Ok(object::edit(call.text(), &call.fields, &edits))
}

/// The client's stream options, with usage asked for: we always want to know, and take it away
/// again from a client that did not ask.
fn stream_options(call: &Call) -> String {
    let plain = || r#"{"include_usage":true}"#.to_owned();
    let Some(text) = call.value("stream_options") else { return plain() };
    let Ok(fields) = object::fields(text) else { return plain() };
    let edited = object::edit(text, &fields, &[("include_usage", Some("true".into()))]);
    String::from_utf8(edited).unwrap_or_else(|_| plain())
}

/// The client's messages, each byte for byte, and the answer's beginning behind them. If the last
/// one is already the beginning of an answer, it grows: two such messages are refused everywhere.
fn with_message(call: &Call, text: &str, form: &ContinueForm) -> Result<String, Failure> {
    let messages = call.value("messages").unwrap_or_default();
    let list: Vec<&RawValue> = serde_json::from_str(messages)
        .map_err(|_| unsupported("its messages cannot be continued"))?;
    let last = list.last().map_or("", |raw| raw.get());
    let before = messages.trim_end().trim_end_matches(']').trim_end();
    let Some(begun) = begun_answer(last)? else {
        let message = assistant_message(text, form);
        return Ok(format!("{before},{message}]"));
    };
    let before = before.strip_suffix(last).unwrap_or_default();
    let fields = object::fields(last).map_err(|_| unsupported("its last message is unreadable"))?;
    let mut edits = vec![("content", Some(quoted(&format!("{begun}{text}"))))];
    let extra = form.message.iter();
    edits.extend(extra.map(|(key, value)| (key.as_str(), Some(value.to_string()))));
    let message = String::from_utf8(object::edit(last, &fields, &edits));
    let message = message.map_err(|_| unsupported("its last message is unreadable"))?;
    Ok(format!("{before}{message}]"))
}

/// The text of a message by the assistant; `None` if it is by someone else.
fn begun_answer(message: &str) -> Result<Option<String>, Failure> {
    let value: Value = serde_json::from_str(message).unwrap_or_default();
    if value.get("role").and_then(Value::as_str) != Some("assistant") {
        return Ok(None);
    }
    match value.get("content") {
        Some(Value::String(text)) if value.get("tool_calls").is_none_or(Value::is_null) => {
            Ok(Some(text.clone()))
        }
        _ => Err(unsupported("its last message cannot be continued")),
    }
}

fn assistant_message(text: &str, form: &ContinueForm) -> String {
    let mut message = Map::new();
    message.insert("role".into(), "assistant".into());
    message.insert("content".into(), text.into());
    message.extend(form.message.clone());
    Value::Object(message).to_string()
}

/// A text completion continues by itself from a longer prompt.
fn longer_prompt(call: &Call, text: &str) -> Result<String, Failure> {
    let prompt = call.value("prompt").unwrap_or_default();
    let open = prompt.strip_suffix('"').filter(|_| prompt.starts_with('"') && !call.echo);
    let open = open.ok_or_else(|| unsupported("its prompt cannot be continued"))?;
    Ok(format!("{open}{}", &quoted(text)[1..]))
}

/// This upstream cannot be asked this.
pub(super) fn unsupported(what: &str) -> Failure {
    Failure::ours(ErrorClass::ClientFault(ClientFault::Unsupported), what)
}
