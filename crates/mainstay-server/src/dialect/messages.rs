//! Reads Anthropic's Messages wire and writes its answers in OpenAI's shape.
//!
//! Thinking is relayed as reasoning; its signature has no place in OpenAI's shape and is dropped.

use super::Dialect;
use super::chat::named_error;
use super::event::{Delta, Endpoint, Event, Finish, ToolDelta, Usage};
use super::reader::{is_object, poisoned};
use super::shape::{self, Head};
use bytes::Bytes;
use mainstay_core::names::Failure;
use serde::Deserialize;
use serde_json::Value;
use std::collections::VecDeque;

/// The most content blocks one answer may open: each is remembered until the stream ends.
const BLOCKS_MAX: usize = 4096;

/// What is known of a stream so far.
#[derive(Debug)]
pub(super) struct Stream {
    endpoint: Endpoint,
    head: Head,
    usage: Usage,
    /// For each content block, the tool call it is, if it is one.
    blocks: Vec<Option<u32>>,
    tools: u32,
    finished: bool,
}

impl Stream {
    pub(super) fn new(endpoint: Endpoint) -> Stream {
        Stream {
            endpoint,
            head: Head::default(),
            usage: Usage::default(),
            blocks: Vec::new(),
            tools: 0,
            finished: false,
        }
    }

    /// Reads one event's data.
    pub(super) fn read(
        &mut self,
        dialect: &Dialect,
        data: &Bytes,
        out: &mut VecDeque<Event>,
    ) -> Result<(), Failure> {
        match serde_json::from_slice::<Raw>(data) {
            Ok(raw) if raw.kind == "error" || raw.error.is_some() => {
                Err(named_error(dialect, data))
            }
            Ok(raw) if is_object(data) => self.read_event(dialect, raw, out),
            Ok(_) | Err(_) => Err(poisoned("an event is not of the wire's shape")),
        }
    }

    fn read_event(
        &mut self,
        dialect: &Dialect,
        raw: Raw,
        out: &mut VecDeque<Event>,
    ) -> Result<(), Failure> {
        match raw.kind.as_str() {
            "message_start" => {
                let message = raw.message.unwrap_or_default();
                self.head = message.head();
                self.usage = message.usage.unwrap_or_default().merge(self.usage);
            }
            "content_block_start" => {
                let delta = self.open(raw.index, raw.content_block.unwrap_or_default())?;
                self.say(delta, out)?;
            }
            "content_block_delta" => {
                let delta = self.delta(raw.index, raw.delta.unwrap_or_default())?;
                self.say(delta, out)?;
            }
            "message_delta" => {
                self.usage = raw.usage.unwrap_or_default().merge(self.usage);
                if let Some(reason) = raw.delta.and_then(|delta| delta.stop_reason) {
                    let finish = finish(&reason).ok_or_else(|| dialect.failed_finish(&reason))?;
                    self.end(finish, out);
                }
            }
            "message_stop" => out.push_back(Event::Done),
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, index: Option<usize>, block: Block) -> Result<Delta, Failure> {
        let index = index.unwrap_or(self.blocks.len());
        if index != self.blocks.len() || index >= BLOCKS_MAX {
            return Err(poisoned("the index of a content block jumps"));
        }
        if block.kind != "tool_use" {
            self.blocks.push(None);
            return Ok(Delta {
                content: block.text,
                reasoning: block.thinking,
                ..Delta::default()
            });
        }
        let tool = ToolDelta {
            index: self.tools,
            id: block.id,
            name: block.name,
            arguments: String::new(),
        };
        self.blocks.push(Some(self.tools));
        self.tools += 1;
        Ok(Delta { tools: vec![tool], ..Delta::default() })
    }

    fn delta(&self, index: Option<usize>, delta: RawDelta) -> Result<Delta, Failure> {
        let block = index.and_then(|index| self.blocks.get(index));
        let block = block.ok_or_else(|| poisoned("a delta belongs to no content block"))?;
        let mut said = Delta { content: delta.text, reasoning: delta.thinking, ..Delta::default() };
        if !delta.partial_json.is_empty() {
            let index = block.ok_or_else(|| poisoned("arguments belong to no tool call"))?;
            let arguments = delta.partial_json;
            said.tools.push(ToolDelta { index, arguments, ..ToolDelta::default() });
        }
        Ok(said)
    }

    fn say(&self, delta: Delta, out: &mut VecDeque<Event>) -> Result<(), Failure> {
        if delta.tokens() == 0 {
            return Ok(());
        }
        if self.finished {
            return Err(poisoned("text came after the stop reason"));
        }
        out.push_back(Event::Chunk(shape::chunk(self.endpoint, &self.head, vec![delta], None)));
        Ok(())
    }

    fn end(&mut self, finish: Finish, out: &mut VecDeque<Event>) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let delta = Delta { finish: Some(finish), ..Delta::default() };
        let usage = Some(self.usage).filter(|usage| *usage != Usage::default());
        out.push_back(Event::Chunk(shape::chunk(self.endpoint, &self.head, vec![delta], None)));
        if usage.is_some() {
            out.push_back(Event::Chunk(shape::chunk(self.endpoint, &self.head, Vec::new(), usage)));
        }
    }
}

/// Reads a whole reply.
pub(super) fn whole(
    dialect: &Dialect,
    value: &Value,
) -> Result<(Head, Delta, Option<Usage>), Failure> {
    let message = Message::deserialize(value)
        .map_err(|_| poisoned("the reply is not of the wire's shape"))?;
    let reason = message.stop_reason.as_deref().unwrap_or_default();
    let finish = finish(reason).ok_or_else(|| dialect.failed_finish(reason))?;
    let head = message.head();
    let usage = message.usage.map(|usage| usage.merge(Usage::default()));
    let mut delta = Delta { finish: Some(finish), ..Delta::default() };
    for block in message.content {
        delta.content.push_str(&block.text);
        delta.reasoning.push_str(&block.thinking);
        if block.kind == "tool_use" {
            delta.tools.push(ToolDelta {
                index: delta.tools.len() as u32,
                id: block.id,
                name: block.name,
                arguments: block.input.unwrap_or_default().to_string(),
            });
        }
    }
    Ok((head, delta, usage))
}

fn finish(reason: &str) -> Option<Finish> {
    Some(match reason {
        "end_turn" | "stop_sequence" => Finish::Stop,
        "max_tokens" | "model_context_window_exceeded" => Finish::Length,
        "tool_use" => Finish::ToolCalls,
        "refusal" => Finish::ContentFilter,
        _ => return None,
    })
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "type", default)]
    kind: String,
    index: Option<usize>,
    message: Option<Message>,
    content_block: Option<Block>,
    delta: Option<RawDelta>,
    usage: Option<RawUsage>,
    error: Option<serde::de::IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Message {
    id: String,
    model: String,
    content: Vec<Block>,
    stop_reason: Option<String>,
    usage: Option<RawUsage>,
}

impl Message {
    fn head(&self) -> Head {
        Head { id: self.id.clone(), created: shape::now(), model: self.model.clone() }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Block {
    #[serde(rename = "type")]
    kind: String,
    text: String,
    thinking: String,
    id: String,
    name: String,
    input: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawDelta {
    text: String,
    thinking: String,
    partial_json: String,
    stop_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct RawUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
}

impl RawUsage {
    /// Input is counted at the start and output, cumulatively, at the end; tokens read from or
    /// written to the cache are not within `input_tokens`.
    fn merge(self, before: Usage) -> Usage {
        let cached = self.cache_read_input_tokens;
        let read = cached.unwrap_or(0);
        let written = self.cache_creation_input_tokens.unwrap_or(0);
        let prompt = self.input_tokens.map(|i| i.saturating_add(read).saturating_add(written));
        Usage {
            prompt: prompt.filter(|prompt| *prompt > 0).unwrap_or(before.prompt),
            cached: cached.max(before.cached),
            completion: self.output_tokens.unwrap_or(before.completion),
            reasoning: before.reasoning,
        }
    }
}
