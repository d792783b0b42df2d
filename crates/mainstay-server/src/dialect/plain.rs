//! Reads a whole reply, the answer to a request that asked for no stream.
//!
//! Status 200 proves nothing: the body may be an error, a page, half an object, or an answer that
//! was cut. Only a finish reason of the success set in every choice makes it an answer.

use super::chat::{self, Ending, Parts};
use super::event::{Chunk, Delta, Endpoint, Finish, Usage};
use super::reader::poisoned;
use super::shape::{self, Head};
use super::{Dialect, Wire, messages, responses};
use bytes::Bytes;
use mainstay_core::names::{ErrorClass, Failure};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The largest whole body taken, after decompression.
pub const BODY_MAX: usize = 64 << 20;

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Plain {
    /// The reply in OpenAI's shape: as received where the wire is OpenAI's own.
    pub json: Bytes,
    /// The whole text of each choice, with its finish reason. Empty for embeddings.
    pub deltas: Vec<Delta>,
    /// Usage, if the reply carries it.
    pub usage: Option<Usage>,
}

/// Reads the body of a reply with status 200.
pub fn answer(dialect: &Dialect, endpoint: Endpoint, body: &[u8]) -> Result<Plain, Failure> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
    if body.len() > BODY_MAX {
        return Err(poisoned("the body is too big"));
    }
    if !matches!(body.first(), Some(b'{' | b'[')) {
        return Err(poisoned("the body is not JSON"));
    }
    let text = std::str::from_utf8(body).map_err(|_| poisoned("the body is not UTF-8"))?;
    match dialect.wire {
        Wire::Chat => chat_answer(dialect, endpoint, text),
        Wire::Messages | Wire::Responses => {
            let value: Value = parse(text)?;
            if let Some(failure) = dialect.error_in(&value) {
                return Err(failure);
            }
            let (head, delta, usage) = match dialect.wire {
                Wire::Responses => responses::whole(dialect, &value)?,
                Wire::Messages | Wire::Chat => messages::whole(dialect, &value)?,
            };
            Ok(translated(&head, delta, usage))
        }
    }
}

impl Plain {
    /// The answer as one event of a stream.
    pub fn into_chunk(self) -> Chunk {
        let json = joined(&self.to_chunks());
        Chunk { json, deltas: self.deltas, usage: self.usage }
    }

    /// The finish reasons, in the order of `deltas`.
    pub fn finishes(&self) -> impl Iterator<Item = Finish> + '_ {
        self.deltas.iter().filter_map(|delta| delta.finish)
    }

    /// The answer as OpenAI chunks for a client that asked for a stream: one for the text, one for
    /// the finish reasons and, if there is usage, one for that. Unknown fields survive.
    pub fn to_chunks(&self) -> Vec<Bytes> {
        let Ok(Value::Object(mut reply)) = serde_json::from_slice(&self.json) else {
            return Vec::new();
        };
        let usage = reply.shift_remove("usage").filter(|usage| !usage.is_null());
        let choices = match reply.shift_remove("choices") {
            Some(Value::Array(choices)) => choices,
            Some(_) | None => Vec::new(),
        };
        if reply.get("object").and_then(Value::as_str) == Some("chat.completion") {
            reply.insert("object".into(), "chat.completion.chunk".into());
        }
        let ends: Vec<Value> = choices.iter().map(end_of).collect();
        let texts = choices.into_iter().map(text_of).collect();
        let mut chunks = vec![chunk_with(&reply, texts, None), chunk_with(&reply, ends, None)];
        chunks.extend(usage.map(|usage| chunk_with(&reply, Vec::new(), Some(usage))));
        chunks
    }
}

fn chunk_with(head: &Map<String, Value>, choices: Vec<Value>, usage: Option<Value>) -> Bytes {
    let mut chunk = head.clone();
    chunk.insert("choices".into(), Value::Array(choices));
    if let Some(usage) = usage {
        chunk.insert("usage".into(), usage);
    }
    Bytes::from(Value::Object(chunk).to_string())
}

/// The last piece of a choice: its finish reason alone.
fn end_of(choice: &Value) -> Value {
    let index = choice.get("index").cloned().unwrap_or(json!(0));
    let finish = choice.get("finish_reason").cloned().unwrap_or_default();
    match choice.get("text") {
        Some(_) => json!({ "index": index, "text": "", "finish_reason": finish }),
        None => json!({ "index": index, "delta": {}, "finish_reason": finish }),
    }
}

/// A choice of a whole reply as a delta of everything but its end.
fn text_of(mut choice: Value) -> Value {
    let Some(fields) = choice.as_object_mut() else { return choice };
    fields.insert("finish_reason".into(), Value::Null);
    if let Some(mut message) = fields.shift_remove("message") {
        if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
            for (index, call) in calls.iter_mut().enumerate() {
                if let Some(call) = call.as_object_mut() {
                    call.entry("index").or_insert_with(|| json!(index));
                }
            }
        }
        fields.insert("delta".into(), message);
    }
    choice
}

/// One chunk that says all that `chunks` say.
fn joined(chunks: &[Bytes]) -> Bytes {
    let mut values = chunks.iter().filter_map(|chunk| serde_json::from_slice::<Value>(chunk).ok());
    let Some(mut whole) = values.next() else { return Bytes::new() };
    for value in values {
        if let Some(usage) = value.get("usage") {
            whole["usage"] = usage.clone();
        }
        for end in value["choices"].as_array().into_iter().flatten() {
            let choices = whole["choices"].as_array_mut().into_iter().flatten();
            for choice in choices.filter(|choice| choice.get("index") == end.get("index")) {
                choice["finish_reason"] = end["finish_reason"].clone();
            }
        }
    }
    Bytes::from(whole.to_string())
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| {
        let what = if error.is_data() { "the reply has a wrong type" } else { "half a reply" };
        poisoned(what)
    })
}

#[derive(Deserialize)]
struct RawReply {
    error: Option<serde::de::IgnoredAny>,
    choices: Option<Vec<RawChoice>>,
    data: Option<serde::de::IgnoredAny>,
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct RawChoice {
    #[serde(default)]
    index: Option<u32>,
    message: Option<Parts>,
    text: Option<String>,
    #[serde(default)]
    finish_reason: Ending,
}

fn chat_answer(dialect: &Dialect, endpoint: Endpoint, text: &str) -> Result<Plain, Failure> {
    let raw = match parse::<RawReply>(text) {
        Ok(raw) => raw,
        Err(failure) => return Err(reported(dialect, text).unwrap_or(failure)),
    };
    let embeddings = endpoint == Endpoint::Embeddings;
    let answered = if embeddings { raw.data.is_some() } else { raw.choices.is_some() };
    if raw.error.is_some() || !answered {
        let failure = reported(dialect, text);
        return Err(failure.unwrap_or_else(|| poisoned("the reply is no answer")));
    }
    let choices = raw.choices.filter(|_| !embeddings).unwrap_or_default();
    if choices.is_empty() && !embeddings {
        return Err(poisoned("the reply has no choice"));
    }
    let mut deltas = Vec::with_capacity(choices.len());
    for (position, choice) in choices.into_iter().enumerate() {
        deltas.push(whole_choice(dialect, position, choice)?);
    }
    let usage = raw.usage.as_ref().and_then(chat::usage_in);
    let usage = usage.or_else(|| chat::usage_elsewhere(dialect, text));
    Ok(Plain { json: Bytes::copy_from_slice(text.as_bytes()), deltas, usage })
}

fn reported(dialect: &Dialect, text: &str) -> Option<Failure> {
    dialect.error_in(&serde_json::from_str(text).ok()?)
}

fn whole_choice(dialect: &Dialect, position: usize, raw: RawChoice) -> Result<Delta, Failure> {
    let finish = match raw.finish_reason {
        Ending::Word(word) if !word.is_empty() => {
            Finish::from_word(&word).ok_or_else(|| dialect.failed_finish(&word))?
        }
        Ending::Word(_) | Ending::Null | Ending::Missing => {
            return Err(Failure::ours(ErrorClass::Transient, "the answer has no finish reason"));
        }
    };
    let parts = raw.message.unwrap_or_default();
    let tools = parts.tools.into_iter().enumerate();
    Ok(Delta {
        choice: raw.index.unwrap_or(position as u32),
        content: raw.text.unwrap_or(parts.content),
        reasoning: parts.reasoning,
        refusal: parts.refusal,
        tools: tools.map(|(index, tool)| tool.whole(index as u32)).collect(),
        finish: Some(finish),
    })
}

/// An answer of another wire as a chat completion.
fn translated(head: &Head, delta: Delta, usage: Option<Usage>) -> Plain {
    let mut message = json!({ "role": "assistant", "content": delta.content });
    if delta.content.is_empty() && !(delta.tools.is_empty() && delta.refusal.is_empty()) {
        message["content"] = Value::Null;
    }
    if !delta.reasoning.is_empty() {
        message["reasoning_content"] = delta.reasoning.as_str().into();
    }
    if !delta.refusal.is_empty() {
        message["refusal"] = delta.refusal.as_str().into();
    }
    if !delta.tools.is_empty() {
        let calls = delta.tools.iter().map(|tool| {
            let function = json!({ "name": tool.name, "arguments": tool.arguments });
            json!({ "id": tool.id, "type": "function", "function": function })
        });
        message["tool_calls"] = calls.collect();
    }
    let finish = delta.finish.map(Finish::word);
    let mut reply = json!({
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": [{ "index": 0, "message": message, "finish_reason": finish }],
    });
    if let Some(usage) = usage {
        reply["usage"] = shape::usage_json(usage);
    }
    Plain { json: Bytes::from(reply.to_string()), deltas: vec![delta], usage }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Plain, Failure> {
        answer(&Dialect::builtin("generic").unwrap(), Endpoint::Chat, body.as_bytes())
    }

    fn reply(choice: Value) -> String {
        json!({ "id": "c", "object": "chat.completion", "created": 1, "model": "m",
                "choices": [choice], "usage": { "prompt_tokens": 1, "completion_tokens": 2 } })
        .to_string()
    }

    #[test]
    fn an_answer_is_passed_on_as_it_came_but_for_blank_lines() {
        let message = json!({ "role": "assistant", "content": "海", "x": 1 });
        let body = reply(json!({ "index": 0, "message": message, "finish_reason": "stop" }));
        let answer = read(&format!("\n\n \r\n{body}\n")).unwrap();
        assert_eq!(answer.json, body.as_bytes());
        assert_eq!(answer.deltas[0].content, "海");
        assert_eq!(answer.usage.map(|usage| usage.completion), Some(2));
    }

    #[test]
    fn what_is_no_answer_is_a_failure_of_its_class() {
        let end = |reason: Value| {
            reply(json!({ "index": 0, "message": { "content": "x" }, "finish_reason": reason }))
        };
        for (body, class) in [
            ("<html>".to_owned(), ErrorClass::PoisonedStream),
            (String::new(), ErrorClass::PoisonedStream),
            (end("stop".into())[..40].to_owned(), ErrorClass::PoisonedStream),
            ("{}".to_owned(), ErrorClass::PoisonedStream),
            ("{\"choices\":[]}".to_owned(), ErrorClass::PoisonedStream),
            (end(Value::Null), ErrorClass::Transient),
            (end("abort".into()), ErrorClass::Overload),
            (end("tired".into()), ErrorClass::Transient),
            (end(7.into()), ErrorClass::PoisonedStream),
            ("{\"error\":{\"code\":\"server_error\"}}".to_owned(), ErrorClass::Transient),
        ] {
            assert_eq!(read(&body).map_err(|failure| failure.class), Err(class), "{body}");
        }
    }

    #[test]
    fn a_client_that_wants_a_stream_gets_text_end_and_usage() {
        let call = json!({ "id": "t", "type": "function",
                           "function": { "name": "f", "arguments": "{}" } });
        let message = json!({ "role": "assistant", "content": null, "tool_calls": [call] });
        let body = reply(json!({ "index": 0, "message": message, "finish_reason": "tool_calls" }));
        let chunks: Vec<Value> = read(&body)
            .unwrap()
            .to_chunks()
            .iter()
            .map(|chunk| serde_json::from_slice(chunk).unwrap())
            .collect();
        assert_eq!(chunks.len(), 3);
        let first = &chunks[0]["choices"][0];
        assert_eq!(first["delta"]["tool_calls"][0]["index"], 0);
        assert_eq!(first["finish_reason"], Value::Null);
        assert_eq!(chunks[1]["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!((&chunks[2]["choices"], chunks[2]["usage"].is_object()), (&json!([]), true));
        assert_eq!(chunks[0]["object"], "chat.completion.chunk");
    }

    #[test]
    fn embeddings_are_an_answer_without_choices() {
        let dialect = Dialect::builtin("generic").unwrap();
        let body = b"{\"object\":\"list\",\"data\":[{\"embedding\":[0.1]}],\"usage\":{\
                     \"prompt_tokens\":3,\"total_tokens\":3}}";
        let answer = answer(&dialect, Endpoint::Embeddings, body).unwrap();
        assert_eq!((answer.deltas.len(), answer.usage.map(|usage| usage.prompt)), (0, Some(3)));
    }
}
