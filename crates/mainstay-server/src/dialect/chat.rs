//! Reads OpenAI's own wire: chunks of chat and text completions.
//!
//! Each event is parsed once, into only the fields a decision needs, and its text goes on as it
//! came. What an event says that it cannot say, an index that jumps or a number out of order,
//! means that something is missing, and then the stream is not believed any further.

use super::Dialect;
use super::event::{Chunk, Delta, Event, Finish, ToolDelta, Usage};
use super::reader::{Sequence, Step, is_object, poisoned};
use bytes::Bytes;
use mainstay_core::names::{ErrorClass, Failure};
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::fmt;

/// Where the other places for usage are, if a dialect names none.
const USAGE_ELSEWHERE: [&str; 2] = ["/choices/0/usage", "/x_groq/usage"];

/// What is known of a stream so far.
#[derive(Debug)]
pub(super) struct Stream {
    sequence: Sequence,
    choices: Vec<Choice>,
}

#[derive(Clone, Debug, Default)]
struct Choice {
    finished: bool,
    tools: u32,
}

impl Stream {
    pub(super) fn new(choices: u32) -> Stream {
        // The request's own check bounds it; this only keeps a mistake from reserving memory.
        let choices = choices.clamp(1, 1 << 16) as usize;
        Stream { sequence: Sequence::default(), choices: vec![Choice::default(); choices] }
    }

    /// Reads one event's data.
    pub(super) fn read(
        &mut self,
        dialect: &Dialect,
        name: &[u8],
        data: &Bytes,
        out: &mut VecDeque<Event>,
    ) -> Result<(), Failure> {
        if data.trim_ascii() == b"[DONE]" {
            out.push_back(Event::Done);
            return Ok(());
        }
        match name {
            b"" | b"message" => self.read_chunk(dialect, data, out),
            _ => Ok(()),
        }
    }

    fn read_chunk(
        &mut self,
        dialect: &Dialect,
        data: &Bytes,
        out: &mut VecDeque<Event>,
    ) -> Result<(), Failure> {
        if !is_object(data) {
            return Err(poisoned("an event is not an object"));
        }
        let text = std::str::from_utf8(data).map_err(|_| poisoned("an event is not UTF-8"))?;
        let raw: RawChunk<'_> =
            serde_json::from_str(text).map_err(|error| error_or_poisoned(dialect, text, &error))?;
        if let Some(failure) = failure_in(dialect, text, &raw) {
            return Err(failure);
        }
        let number = raw.sequence.or(raw.seq).or(raw.sequence_number);
        match self.sequence.step(number)? {
            Step::Next => {}
            Step::Repeated => return Ok(()),
        }
        let Some(choices) = raw.choices else {
            out.push_back(usage_alone(data, raw.usage));
            return Ok(());
        };
        let bare = choices.is_empty();
        let read = self.read_choices(dialect, choices)?;
        let finished = read.failed.is_some() || read.deltas.iter().any(|d| d.finish.is_some());
        let mut usage = raw.usage.and_then(usage_of);
        if usage.is_none() && (bare || finished) {
            usage = usage_elsewhere(dialect, text);
        }
        out.push_back(event(data, bare, usage, &read));
        match read.failed {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn read_choices(
        &mut self,
        dialect: &Dialect,
        choices: Vec<RawChoice<'_>>,
    ) -> Result<ChoicesRead, Failure> {
        let mut read = ChoicesRead::default();
        for (position, raw) in choices.into_iter().enumerate() {
            let mut parts = raw.delta.unwrap_or_default();
            if let Some(text) = raw.text {
                parts.content = text;
            }
            read.extra |= parts.extra || raw.logprobs.is_some();
            let choice = self
                .choices
                .get_mut(raw.index as usize)
                .ok_or_else(|| poisoned("a choice has an index that was not asked for"))?;
            let mut delta = Delta {
                choice: raw.index,
                content: parts.content,
                reasoning: parts.reasoning,
                refusal: parts.refusal,
                tools: tool_deltas(choice, parts.tools)?,
                finish: None,
            };
            if choice.finished && delta.tokens() > 0 {
                return Err(poisoned("text came after the finish reason"));
            }
            match raw.finish_reason {
                Ending::Null => {}
                Ending::Missing => read.mend.push(position),
                Ending::Word(word) => match Finish::from_word(&word) {
                    Some(finish) => {
                        delta.finish = Some(finish).filter(|_| !choice.finished);
                        choice.finished = true;
                    }
                    None => {
                        read.mend.push(position);
                        if !word.is_empty() {
                            read.failed = Some(dialect.failed_finish(&word));
                        }
                    }
                },
            }
            if delta.tokens() > 0 || delta.finish.is_some() {
                read.deltas.push(delta);
            }
        }
        Ok(read)
    }
}

#[derive(Default)]
struct ChoicesRead {
    deltas: Vec<Delta>,
    /// Something else than text is there that a client may want: log probabilities, audio.
    extra: bool,
    /// Positions of choices whose `finish_reason` must become null.
    mend: Vec<usize>,
    failed: Option<Failure>,
}

fn event(data: &Bytes, bare: bool, usage: Option<Usage>, read: &ChoicesRead) -> Event {
    if read.deltas.is_empty() && !read.extra {
        return match usage {
            // A running count that stands at zero comes with the role and says no more than it.
            Some(usage) if bare || usage.completion > 0 => Event::Chunk(Chunk {
                json: if bare { data.clone() } else { mended(data, Mend::NoChoices) },
                deltas: Vec::new(),
                usage: Some(usage),
            }),
            Some(_) | None => Event::Life,
        };
    }
    let json =
        if read.mend.is_empty() { data.clone() } else { mended(data, Mend::Finish(&read.mend)) };
    Event::Chunk(Chunk { json, deltas: read.deltas.clone(), usage })
}

fn usage_alone(data: &Bytes, usage: Option<&RawValue>) -> Event {
    match usage.and_then(usage_of) {
        Some(usage) => Event::Chunk(Chunk {
            json: mended(data, Mend::NoChoices),
            deltas: Vec::new(),
            usage: Some(usage),
        }),
        None => Event::Life,
    }
}

enum Mend<'a> {
    Finish(&'a [usize]),
    NoChoices,
}

/// The slow way round for the few events whose text cannot go on as it came.
fn mended(data: &Bytes, mend: Mend<'_>) -> Bytes {
    let Ok(mut value) = serde_json::from_slice::<Value>(data) else { return data.clone() };
    match mend {
        Mend::NoChoices => value["choices"] = Value::Array(Vec::new()),
        Mend::Finish(positions) => {
            for &position in positions {
                if let Some(choice) = value["choices"].get_mut(position) {
                    choice["finish_reason"] = Value::Null;
                }
            }
        }
    }
    serde_json::to_vec(&value).map_or_else(|_| data.clone(), Bytes::from)
}

/// Numbers the parts of tool calls, and sees one that is missing.
fn tool_deltas(choice: &mut Choice, parts: Vec<RawTool>) -> Result<Vec<ToolDelta>, Failure> {
    let mut deltas = Vec::with_capacity(parts.len());
    for part in parts {
        // Without an index, an id opens the next call and its absence continues the last.
        let opens = part.id.as_ref().is_some_and(|id| !id.is_empty());
        let guess = if opens { choice.tools } else { choice.tools.saturating_sub(1) };
        let index = part.index.unwrap_or(guess);
        if index > choice.tools {
            return Err(poisoned("the index of a tool call jumps"));
        }
        choice.tools = choice.tools.max(index + 1);
        deltas.push(part.whole(index));
    }
    Ok(deltas)
}

/// The failure an event reports, if it is one.
fn failure_in(dialect: &Dialect, text: &str, raw: &RawChunk<'_>) -> Option<Failure> {
    let errored = raw.error.is_some() || raw.object.is_some_and(|o| o.get() == "\"error\"");
    if errored || raw.choices.is_none() {
        let value: Value = serde_json::from_str(text).ok()?;
        let failure = dialect.error_in(&value);
        return failure.or_else(|| errored.then(unnamed_error));
    }
    let error = raw.choices.iter().flatten().find_map(|choice| choice.error)?;
    let error: Value = serde_json::from_str(error.get()).ok()?;
    let failure = dialect.error_in(&serde_json::json!({ "error": error }));
    Some(failure.unwrap_or_else(unnamed_error))
}

/// An event of the wrong shape may still be an error that says so.
fn error_or_poisoned(dialect: &Dialect, text: &str, error: &serde_json::Error) -> Failure {
    if !error.is_data() {
        return poisoned("an event is not JSON");
    }
    let value = serde_json::from_str::<Value>(text).ok().filter(|v| v.get("choices").is_none());
    value
        .and_then(|value| dialect.error_in(&value))
        .unwrap_or_else(|| poisoned("an event has a value of the wrong type"))
}

/// The failure in an event whose name is `error`.
pub(super) fn named_error(dialect: &Dialect, data: &[u8]) -> Failure {
    match serde_json::from_slice::<Value>(data) {
        Ok(value) => dialect
            .error_in(&value)
            .or_else(|| dialect.error_in(&serde_json::json!({ "error": value })))
            .unwrap_or_else(unnamed_error),
        Err(_) => unnamed_error(),
    }
}

pub(super) fn unnamed_error() -> Failure {
    Failure::ours(ErrorClass::Transient, "the stream reported an error")
}

/// Usage from a place of its own.
pub(super) fn usage_elsewhere(dialect: &Dialect, text: &str) -> Option<Usage> {
    let value: Value = serde_json::from_str(text).ok()?;
    let named = dialect.usage_at.iter().map(String::as_str);
    named.chain(USAGE_ELSEWHERE).find_map(|pointer| usage_in(value.pointer(pointer)?))
}

/// Reads a usage object in any of the spellings in use; `None` if it counts nothing.
pub(super) fn usage_in(value: &Value) -> Option<Usage> {
    RawUsage::deserialize(value).ok()?.usage()
}

fn usage_of(raw: &RawValue) -> Option<Usage> {
    serde_json::from_str::<RawUsage>(raw.get()).ok()?.usage()
}

#[derive(Deserialize)]
struct RawUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    total_tokens: Option<u64>,
    prompt_tokens_details: Option<RawDetails>,
    completion_tokens_details: Option<RawDetails>,
    /// DeepSeek.
    prompt_cache_hit_tokens: Option<u64>,
    /// Moonshot.
    cached_tokens: Option<u64>,
}

#[derive(Default, Deserialize)]
struct RawDetails {
    cached_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
}

impl RawUsage {
    fn usage(self) -> Option<Usage> {
        self.prompt_tokens.or(self.completion_tokens).or(self.total_tokens)?;
        let cached = self.prompt_tokens_details.and_then(|details| details.cached_tokens);
        let prompt = self.prompt_tokens.unwrap_or(0);
        let rest = self.total_tokens.map(|total| total.saturating_sub(prompt));
        let reasoning = self.completion_tokens_details.and_then(|details| details.reasoning_tokens);
        Some(Usage {
            prompt,
            cached: cached.or(self.prompt_cache_hit_tokens).or(self.cached_tokens),
            completion: self.completion_tokens.or(rest).unwrap_or(0),
            reasoning: reasoning.unwrap_or(0),
        })
    }
}

#[derive(Deserialize)]
struct RawChunk<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    choices: Option<Vec<RawChoice<'a>>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    sequence: Option<&'a RawValue>,
    #[serde(borrow, default)]
    seq: Option<&'a RawValue>,
    #[serde(borrow, default)]
    sequence_number: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawChoice<'a> {
    #[serde(default)]
    index: u32,
    #[serde(default)]
    delta: Option<Parts>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    finish_reason: Ending,
    #[serde(default)]
    logprobs: Option<IgnoredAny>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// A finish reason, where a missing key and a null differ.
#[derive(Debug, Default)]
pub(super) enum Ending {
    #[default]
    Missing,
    Null,
    Word(String),
}

impl<'de> Deserialize<'de> for Ending {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ending, D::Error> {
        let word = Option::<String>::deserialize(deserializer)?;
        Ok(word.map_or(Ending::Null, Ending::Word))
    }
}

/// What a delta or a message holds.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) content: String,
    pub(super) reasoning: String,
    pub(super) refusal: String,
    pub(super) tools: Vec<RawTool>,
    /// It has a key we do not know, and not null.
    pub(super) extra: bool,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct RawTool {
    index: Option<u32>,
    id: Option<String>,
    function: Option<RawFunction>,
}

impl RawTool {
    /// The call of a whole message, where the position is the index.
    pub(super) fn whole(self, index: u32) -> ToolDelta {
        let function = self.function.unwrap_or_default();
        ToolDelta {
            index,
            id: self.id.unwrap_or_default(),
            name: function.name.unwrap_or_default(),
            arguments: function.arguments.unwrap_or_default(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
struct RawFunction {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Part {
    Role,
    Content,
    ReasoningContent,
    Reasoning,
    ReasoningDetails,
    Refusal,
    ToolCalls,
    FunctionCall,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct RawDetail {
    text: Option<String>,
    summary: Option<String>,
}

impl<'de> Deserialize<'de> for Parts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Parts, D::Error> {
        deserializer.deserialize_map(PartsVisitor)
    }
}

struct PartsVisitor;

impl<'de> Visitor<'de> for PartsVisitor {
    type Value = Parts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a delta")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parts, A::Error> {
        let mut parts = Parts::default();
        let mut other_reasoning = String::new();
        let mut details = String::new();
        while let Some(key) = map.next_key::<Part>()? {
            match key {
                Part::Role => drop(map.next_value::<IgnoredAny>()?),
                Part::Content => parts.content = text(&mut map)?,
                Part::ReasoningContent => parts.reasoning = text(&mut map)?,
                Part::Reasoning => other_reasoning = text(&mut map)?,
                Part::ReasoningDetails => {
                    let list = map.next_value::<Option<Vec<RawDetail>>>()?.unwrap_or_default();
                    details.extend(list.into_iter().filter_map(|part| part.text.or(part.summary)));
                }
                Part::Refusal => parts.refusal = text(&mut map)?,
                Part::ToolCalls => {
                    parts.tools.extend(map.next_value::<Option<Vec<_>>>()?.unwrap_or_default());
                }
                Part::FunctionCall => {
                    let function = map.next_value::<Option<RawFunction>>()?;
                    parts.tools.extend(function.map(|function| RawTool {
                        index: Some(0),
                        id: None,
                        function: Some(function),
                    }));
                }
                Part::Other => parts.extra |= map.next_value::<Option<IgnoredAny>>()?.is_some(),
            }
        }
        // The same words often come under two names.
        for spare in [other_reasoning, details] {
            if parts.reasoning.is_empty() {
                parts.reasoning = spare;
            }
        }
        Ok(parts)
    }
}

fn text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<String, A::Error> {
    map.next_value::<Option<String>>()
        .map(Option::unwrap_or_default)
        .map_err(|_| A::Error::custom("text of the wrong type"))
}
