//! Builds a whole reply from chunks, for a client that asked for no stream.
//!
//! Deltas are merged by one rule, so that fields we do not know survive: strings are appended,
//! lists are merged by `index` where their parts have one and appended where not, objects are
//! merged key by key, and anything else is replaced.

use super::event::{Chunk, Endpoint};
use super::reader::poisoned;
use bytes::Bytes;
use mainstay_core::names::Failure;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The largest reply built: as much as is taken of a whole body.
const REPLY_MAX: usize = super::plain::BODY_MAX;

/// A reply under way.
#[derive(Debug)]
pub struct Assembly {
    endpoint: Endpoint,
    /// Keys of the chunks themselves: the first value counts, but for usage.
    head: Map<String, Value>,
    choices: BTreeMap<u64, Map<String, Value>>,
    size: usize,
    /// What the last chunk was but for its text.
    frame: Option<Frame>,
}

/// A chunk that only adds text to a choice, without that text. Most chunks of an answer differ in
/// nothing else, and such a one need not be merged key by key.
#[derive(Debug)]
struct Frame {
    before: Bytes,
    after: Bytes,
    choice: u64,
}

impl Assembly {
    /// An empty reply.
    pub fn new(endpoint: Endpoint) -> Assembly {
        Assembly { endpoint, head: Map::new(), choices: BTreeMap::new(), size: 0, frame: None }
    }

    /// Adds a chunk. An error means that the reply has become too big, or that the chunk is not
    /// what the reader makes.
    pub fn push(&mut self, chunk: &Chunk) -> Result<(), Failure> {
        self.size += chunk.json.len();
        if self.size > REPLY_MAX {
            return Err(poisoned("the answer is too big"));
        }
        if self.push_text(&chunk.json) {
            return Ok(());
        }
        let Ok(Value::Object(fields)) = serde_json::from_slice(&chunk.json) else {
            return Err(poisoned("a chunk is not an object"));
        };
        for (key, value) in fields {
            match (key.as_str(), value) {
                ("choices", Value::Array(choices)) => {
                    choices.into_iter().for_each(|choice| self.add(choice));
                }
                ("usage" | "model" | "system_fingerprint", value) if !value.is_null() => {
                    self.head.insert(key, value);
                }
                (_, value) => {
                    self.head.entry(key).or_insert(value);
                }
            }
        }
        Ok(())
    }

    /// The reply under `id`, by `model`.
    pub fn finish(self, id: &str, model: &str) -> Vec<u8> {
        let text = self.endpoint == Endpoint::Completions;
        let mut head = self.head;
        let usage = head.shift_remove("usage").filter(|usage| !usage.is_null());
        let created = head.shift_remove("created").unwrap_or(json!(super::shape::now()));
        let mut reply = Map::new();
        reply.insert("id".into(), id.into());
        let object = if text { "text_completion" } else { "chat.completion" };
        reply.insert("object".into(), object.into());
        reply.insert("created".into(), created);
        reply.insert("model".into(), model.into());
        let choices = self.choices.into_iter().map(|(index, choice)| finished(index, choice, text));
        reply.insert("choices".into(), choices.collect());
        for (key, value) in head {
            reply.entry(key).or_insert(value);
        }
        if let Some(usage) = usage {
            reply.insert("usage".into(), usage);
        }
        // A value always serialises.
        serde_json::to_vec(&reply).unwrap_or_default()
    }

    /// Appends the chunk's text if that is all in which it differs from the last one.
    fn push_text(&mut self, json: &Bytes) -> bool {
        let Some((start, end, text)) = sole_text(json) else {
            self.frame = None;
            return false;
        };
        if let Some(frame) = &self.frame
            && frame.before == json[..start]
            && frame.after == json[end..]
            && let Some(Value::Object(delta)) =
                self.choices.get_mut(&frame.choice).and_then(|choice| choice.get_mut("delta"))
            && let Some(Value::String(content)) = delta.get_mut("content")
        {
            content.push_str(&text);
            return true;
        }
        // The first of its kind is merged in full; its like will be appended.
        self.frame = choice_of(&json[end..], &json[..start]).map(|choice| Frame {
            before: json.slice(..start),
            after: json.slice(end..),
            choice,
        });
        false
    }

    fn add(&mut self, choice: Value) {
        let Value::Object(fields) = choice else { return };
        let index = fields.get("index").and_then(Value::as_u64).unwrap_or(0);
        let whole = self.choices.entry(index).or_default();
        for (key, value) in fields {
            match key.as_str() {
                "index" => {}
                "finish_reason" if value.is_null() => {}
                "finish_reason" => {
                    whole.insert(key, value);
                }
                _ => merge_key(whole, key, value),
            }
        }
    }
}

/// Where the text of a delta that is text alone begins and ends, and what it says.
fn sole_text(json: &[u8]) -> Option<(usize, usize, Cow<'_, str>)> {
    const BEFORE: &[u8] = b"\"delta\":{\"content\":";
    let start = memchr::memmem::find(json, BEFORE)? + BEFORE.len();
    let mut rest = serde_json::Deserializer::from_slice(&json[start..]).into_iter::<Text<'_>>();
    let text = rest.next()?.ok()?.0;
    let end = start + rest.byte_offset();
    (json.get(end) == Some(&b'}')).then_some((start, end, text))
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The index of the only choice of a chunk, whose JSON stands before and after its text, if nothing
/// in that choice is a list or an object that would have to be merged, such as log probabilities.
fn choice_of(after: &[u8], before: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Chunk {
        choices: [Indexed; 1],
    }
    #[derive(Deserialize)]
    struct Indexed {
        index: u64,
    }
    const OPEN: &[u8] = b"\"choices\":[{";
    let inside = &before[memchr::memmem::find(before, OPEN)? + OPEN.len()..];
    let nested = |text: &[u8]| text.iter().filter(|b| matches!(b, b'{' | b'[')).count();
    if nested(inside) != 1 || nested(after) != 0 {
        return None;
    }
    let whole = [before, b"\"\"", after].concat();
    let chunk: Chunk = serde_json::from_slice(&whole).ok()?;
    let [Indexed { index }] = chunk.choices;
    Some(index)
}

/// A choice as it stands in a whole reply.
fn finished(index: u64, mut choice: Map<String, Value>, text: bool) -> Value {
    let finish = choice.shift_remove("finish_reason").unwrap_or_default();
    let logprobs = choice.shift_remove("logprobs").unwrap_or_default();
    let mut whole = Map::new();
    whole.insert("index".into(), index.into());
    if text {
        let written = choice.shift_remove("text").unwrap_or_else(|| "".into());
        whole.insert("text".into(), written);
    } else {
        let delta = choice.shift_remove("delta").unwrap_or_default();
        whole.insert("message".into(), message(delta));
    }
    whole.insert("logprobs".into(), logprobs);
    whole.extend(choice);
    whole.insert("finish_reason".into(), finish);
    Value::Object(whole)
}

/// A merged delta as a message.
fn message(delta: Value) -> Value {
    let mut delta = match delta {
        Value::Object(delta) => delta,
        _ => Map::new(),
    };
    let mut message = Map::new();
    let role = delta.shift_remove("role").filter(|role| !role.is_null());
    message.insert("role".into(), role.unwrap_or_else(|| "assistant".into()));
    let content = delta.shift_remove("content").unwrap_or_default();
    let empty = content.as_str().is_none_or(str::is_empty);
    let instead = ["tool_calls", "function_call", "refusal"];
    let replaced = instead.iter().any(|key| delta.get(*key).is_some_and(|v| !v.is_null()));
    message.insert(
        "content".into(),
        match (empty, replaced) {
            (true, true) => Value::Null,
            (true, false) => "".into(),
            (false, _) => content,
        },
    );
    if let Some(Value::Array(calls)) = delta.get_mut("tool_calls") {
        for call in calls.iter_mut().filter_map(Value::as_object_mut) {
            call.shift_remove("index");
        }
    }
    message.extend(delta);
    Value::Object(message)
}

fn merge_key(whole: &mut Map<String, Value>, key: String, value: Value) {
    // These name something once; a second time they say the same.
    let named = matches!(key.as_str(), "role" | "id" | "type" | "index" | "name");
    match whole.get_mut(&key) {
        None => {
            whole.insert(key, fresh(value));
        }
        Some(_) if value.is_null() => {}
        Some(old) if named && !empty(old) => {}
        Some(old) => merge(old, value),
    }
}

fn empty(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

fn merge(old: &mut Value, value: Value) {
    match (old, value) {
        (Value::String(old), Value::String(more)) => old.push_str(&more),
        (Value::Array(old), Value::Array(more)) => {
            more.into_iter().for_each(|part| merge_part(old, part));
        }
        (Value::Object(old), Value::Object(more)) => {
            more.into_iter().for_each(|(key, value)| merge_key(old, key, value));
        }
        (old, value) => *old = value,
    }
}

/// A first value: its lists may already hold several parts of one index.
fn fresh(value: Value) -> Value {
    match value {
        Value::Array(parts) => {
            let mut merged = Vec::with_capacity(parts.len());
            parts.into_iter().for_each(|part| merge_part(&mut merged, part));
            Value::Array(merged)
        }
        value => value,
    }
}

fn merge_part(list: &mut Vec<Value>, part: Value) {
    let index = part.get("index").and_then(Value::as_u64);
    let same = |old: &&mut Value| index.is_some() && old["index"].as_u64() == index;
    match list.iter_mut().find(same) {
        Some(old) => merge(old, part),
        None => list.push(part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn assembled(endpoint: Endpoint, chunks: &[Value]) -> Value {
        let mut assembly = Assembly::new(endpoint);
        for chunk in chunks {
            let json = Bytes::from(chunk.to_string());
            assembly.push(&Chunk { json, ..Chunk::default() }).unwrap();
        }
        serde_json::from_slice(&assembly.finish("id-1", "m")).unwrap()
    }

    fn delta(delta: Value) -> Value {
        json!({ "id": "x", "object": "chat.completion.chunk", "created": 7, "model": "other",
                "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] })
    }

    fn end(reason: &str) -> Value {
        json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] })
    }

    #[test]
    fn a_run_of_like_chunks_is_put_together_as_if_each_were_merged() {
        let text = |text: &str| delta(json!({ "content": text }));
        let mut chunks = vec![delta(json!({ "role": "assistant", "content": "" }))];
        chunks.extend(["a \"b\"", "海", "海", "\n", ""].map(text));
        chunks.push(delta(json!({ "content": "c", "x": "1" })));
        chunks.push(text("d"));
        chunks.push(end("stop"));
        let whole = assembled(Endpoint::Chat, &chunks);
        assert_eq!(whole["choices"][0]["message"]["content"], "a \"b\"海海\ncd");
        assert_eq!(whole["choices"][0]["message"]["x"], "1");
    }

    #[test]
    fn equal_log_probabilities_are_each_kept() {
        let mut chunk = delta(json!({ "content": "a" }));
        chunk["choices"][0]["logprobs"] = json!({ "content": [{ "token": "a", "logprob": -1 }] });
        let whole = assembled(Endpoint::Chat, &[chunk.clone(), chunk.clone(), chunk, end("stop")]);
        assert_eq!(whole["choices"][0]["message"]["content"], "aaa");
        assert_eq!(whole["choices"][0]["logprobs"]["content"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn text_reasoning_usage_and_unknown_fields_are_put_together() {
        let logprobs = |token: &str| json!({ "content": [{ "token": token }] });
        let mut first = delta(json!({ "role": "assistant", "content": "", "x": "1" }));
        first["system_fingerprint"] = "fp".into();
        let mut second = delta(json!({ "role": "assistant", "content": "海" }));
        second["choices"][0]["logprobs"] = logprobs("海");
        let mut third = delta(json!({ "content": "b", "reasoning_content": "r", "x": "2" }));
        third["choices"][0]["logprobs"] = logprobs("b");
        let usage = json!({ "choices": [], "usage": { "total_tokens": 3 } });
        let whole = assembled(Endpoint::Chat, &[first, second, third, end("stop"), usage]);
        let expected = json!({
            "id": "id-1", "object": "chat.completion", "created": 7, "model": "m",
            "choices": [{
                "index": 0,
                "message": { "role": "assistant", "content": "海b", "x": "12",
                             "reasoning_content": "r" },
                "logprobs": { "content": [{ "token": "海" }, { "token": "b" }] },
                "finish_reason": "stop",
            }],
            "system_fingerprint": "fp",
            "usage": { "total_tokens": 3 },
        });
        assert_eq!(whole, expected);
    }

    #[test]
    fn parts_of_tool_calls_are_joined_by_index_and_content_is_null() {
        let call = |index: u32, id: &str, arguments: &str| {
            let function = json!({ "name": if id.is_empty() { "" } else { "f" },
                                   "arguments": arguments });
            json!({ "index": index, "id": id, "type": "function", "function": function })
        };
        let whole = assembled(
            Endpoint::Chat,
            &[
                delta(json!({ "tool_calls": [call(0, "a", "{\"x\"")] })),
                delta(json!({ "tool_calls": [call(0, "", ":1}"), call(1, "b", "{")] })),
                delta(json!({ "tool_calls": [call(1, "b", "}")] })),
                end("tool_calls"),
            ],
        );
        let message = &whole["choices"][0]["message"];
        assert_eq!(message["content"], Value::Null);
        let made = |id: &str, arguments: &str| {
            json!({ "id": id, "type": "function",
                    "function": { "name": "f", "arguments": arguments } })
        };
        assert_eq!(message["tool_calls"], json!([made("a", "{\"x\":1}"), made("b", "{}")]));
    }

    #[test]
    fn choices_stay_apart_and_text_completions_have_text() {
        let text = |index: u32, text: &str| {
            let choice = json!({ "index": index, "text": text, "finish_reason": null });
            json!({ "choices": [choice] })
        };
        let whole = assembled(Endpoint::Completions, &[text(1, "b"), text(0, "a"), text(1, "c")]);
        let texts: Vec<&str> =
            (0..2).map(|choice| whole["choices"][choice]["text"].as_str().unwrap()).collect();
        assert_eq!(texts, ["a", "bc"]);
        assert_eq!(whole["object"], "text_completion");
    }

    #[test]
    fn a_reply_over_the_bound_is_refused() {
        let json = Bytes::from(delta(json!({ "content": "x".repeat(1 << 20) })).to_string());
        let chunk = Chunk { json, ..Chunk::default() };
        let mut assembly = Assembly::new(Endpoint::Chat);
        let refused = (0..70).position(|_| assembly.push(&chunk).is_err());
        assert_eq!(refused, Some(63));
    }
}
