//! Reads OpenAI's Responses wire and writes its answers in the shape of chat completions.

use super::Dialect;
use super::chat::{named_error, unnamed_error};
use super::event::{Delta, Endpoint, Event, Finish, ToolDelta, Usage};
use super::reader::{Sequence, Step, is_object, poisoned};
use super::shape::{self, Head};
use bytes::Bytes;
use mainstay_core::names::Failure;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// The most tool calls one answer may open: each is remembered until the stream ends.
const TOOLS_MAX: usize = 4096;

/// What is known of a stream so far.
#[derive(Debug)]
pub(super) struct Stream {
    endpoint: Endpoint,
    head: Head,
    sequence: Sequence,
    /// Output positions of the tool calls opened so far.
    tools: Vec<u64>,
}

impl Stream {
    pub(super) fn new(endpoint: Endpoint) -> Stream {
        let sequence = Sequence::default();
        Stream { endpoint, head: Head::default(), sequence, tools: Vec::new() }
    }

    /// Reads one event's data.
    pub(super) fn read(
        &mut self,
        dialect: &Dialect,
        data: &Bytes,
        out: &mut VecDeque<Event>,
    ) -> Result<(), Failure> {
        if data.trim_ascii() == b"[DONE]" {
            out.push_back(Event::Done);
            return Ok(());
        }
        match std::str::from_utf8(data).map(serde_json::from_str::<Raw<'_>>) {
            Ok(Ok(raw)) if raw.kind == "error" || (raw.kind.is_empty() && raw.error.is_some()) => {
                Err(named_error(dialect, data))
            }
            Ok(Ok(raw)) if is_object(data) => self.read_event(dialect, raw, out),
            Ok(Ok(_) | Err(_)) | Err(_) => Err(poisoned("an event is not of the wire's shape")),
        }
    }

    fn read_event(
        &mut self,
        dialect: &Dialect,
        raw: Raw<'_>,
        out: &mut VecDeque<Event>,
    ) -> Result<(), Failure> {
        if self.sequence.step(raw.sequence_number)? == Step::Repeated {
            return Ok(());
        }
        let delta = match raw.kind.as_str() {
            "response.created" | "response.in_progress" | "response.queued" => {
                if let Some(response) = raw.response {
                    self.head = response.head();
                }
                return Ok(());
            }
            "response.output_text.delta" => Delta { content: text(raw.delta)?, ..Delta::default() },
            "response.refusal.delta" => Delta { refusal: text(raw.delta)?, ..Delta::default() },
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                Delta { reasoning: text(raw.delta)?, ..Delta::default() }
            }
            "response.output_item.added" => match raw.item {
                Some(item) if item.kind == "function_call" => self.open(raw.output_index, item)?,
                Some(_) | None => return Ok(()),
            },
            "response.function_call_arguments.delta" => {
                self.arguments(raw.output_index, text(raw.delta)?)?
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                let mut response = raw.response.unwrap_or_default();
                let said = raw.kind.trim_start_matches("response.");
                response.status.get_or_insert_with(|| said.to_owned());
                return self.end(dialect, response, out);
            }
            _ => return Ok(()),
        };
        if delta.tokens() > 0 {
            out.push_back(Event::Chunk(shape::chunk(self.endpoint, &self.head, vec![delta], None)));
        }
        Ok(())
    }

    fn open(&mut self, position: Option<u64>, item: Item) -> Result<Delta, Failure> {
        let position = position.unwrap_or(self.tools.len() as u64);
        if self.tools.contains(&position) || self.tools.len() >= TOOLS_MAX {
            return Err(poisoned("a tool call is opened twice"));
        }
        let tool = ToolDelta {
            index: self.tools.len() as u32,
            id: item.call_id.or(item.id).unwrap_or_default(),
            name: item.name.unwrap_or_default(),
            arguments: item.arguments.unwrap_or_default(),
        };
        self.tools.push(position);
        Ok(Delta { tools: vec![tool], ..Delta::default() })
    }

    fn arguments(&self, position: Option<u64>, arguments: String) -> Result<Delta, Failure> {
        let index = match position {
            Some(position) => self.tools.iter().position(|tool| *tool == position),
            None => self.tools.len().checked_sub(1),
        };
        let index = index.ok_or_else(|| poisoned("arguments belong to no tool call"))? as u32;
        let tool = ToolDelta { index, arguments, ..ToolDelta::default() };
        Ok(Delta { tools: vec![tool], ..Delta::default() })
    }

    fn end(
        &self,
        dialect: &Dialect,
        response: Response,
        out: &mut VecDeque<Event>,
    ) -> Result<(), Failure> {
        let finish = response.finish(dialect, !self.tools.is_empty())?;
        let delta = Delta { finish: Some(finish), ..Delta::default() };
        out.push_back(Event::Chunk(shape::chunk(self.endpoint, &self.head, vec![delta], None)));
        if let Some(usage) = response.usage {
            let usage = Some(usage.usage());
            let chunk = shape::chunk(self.endpoint, &self.head, Vec::new(), usage);
            out.push_back(Event::Chunk(chunk));
        }
        out.push_back(Event::Done);
        Ok(())
    }
}

/// Reads a whole reply.
pub(super) fn whole(
    dialect: &Dialect,
    value: &Value,
) -> Result<(Head, Delta, Option<Usage>), Failure> {
    let response = Response::deserialize(value)
        .map_err(|_| poisoned("the reply is not of the wire's shape"))?;
    let mut delta = Delta::default();
    for item in &response.output {
        let parts = item.content.iter().chain(&item.summary);
        for part in parts {
            match part.kind.as_str() {
                "output_text" => delta.content.push_str(&part.text),
                "refusal" => delta.refusal.push_str(&part.refusal),
                "summary_text" | "reasoning_text" => delta.reasoning.push_str(&part.text),
                _ => {}
            }
        }
        if item.kind == "function_call" {
            delta.tools.push(ToolDelta {
                index: delta.tools.len() as u32,
                id: item.call_id.clone().or_else(|| item.id.clone()).unwrap_or_default(),
                name: item.name.clone().unwrap_or_default(),
                arguments: item.arguments.clone().unwrap_or_default(),
            });
        }
    }
    delta.finish = Some(response.finish(dialect, !delta.tools.is_empty())?);
    Ok((response.head(), delta, response.usage.map(|usage| usage.usage())))
}

fn text(raw: Option<&RawValue>) -> Result<String, Failure> {
    let raw = raw.map_or("null", RawValue::get);
    serde_json::from_str(raw).map_err(|_| poisoned("text of the wrong type"))
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(borrow, default)]
    sequence_number: Option<&'a RawValue>,
    output_index: Option<u64>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    item: Option<Item>,
    response: Option<Response>,
    error: Option<serde::de::IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Item {
    #[serde(rename = "type")]
    kind: String,
    id: Option<String>,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
    content: Vec<Part>,
    summary: Vec<Part>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: String,
    refusal: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Response {
    id: String,
    model: String,
    created_at: f64,
    status: Option<String>,
    error: Option<Value>,
    incomplete_details: Option<Incomplete>,
    output: Vec<Item>,
    usage: Option<RawUsage>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Incomplete {
    reason: String,
}

impl Response {
    fn head(&self) -> Head {
        let created = if self.created_at > 0.0 { self.created_at as u64 } else { shape::now() };
        Head { id: self.id.clone(), created, model: self.model.clone() }
    }

    /// What its end means: a success of some kind, or the failure it names.
    fn finish(&self, dialect: &Dialect, tools: bool) -> Result<Finish, Failure> {
        if let Some(error) = &self.error {
            let failure = dialect.error_in(&json!({ "error": error }));
            return Err(failure.unwrap_or_else(unnamed_error));
        }
        match self.status.as_deref() {
            Some("completed") if tools => Ok(Finish::ToolCalls),
            Some("completed") => Ok(Finish::Stop),
            Some("incomplete") => {
                let reason = self.incomplete_details.as_ref().map_or("", |details| &details.reason);
                match reason {
                    "max_output_tokens" => Ok(Finish::Length),
                    "content_filter" => Ok(Finish::ContentFilter),
                    _ => Err(dialect.failed_finish(reason)),
                }
            }
            Some(_) | None => Err(unnamed_error()),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawUsage {
    input_tokens: u64,
    output_tokens: u64,
    input_tokens_details: RawDetails,
    output_tokens_details: RawDetails,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawDetails {
    cached_tokens: Option<u64>,
    reasoning_tokens: u64,
}

impl RawUsage {
    fn usage(&self) -> Usage {
        Usage {
            prompt: self.input_tokens,
            cached: self.input_tokens_details.cached_tokens,
            completion: self.output_tokens,
            reasoning: self.output_tokens_details.reasoning_tokens,
        }
    }
}
