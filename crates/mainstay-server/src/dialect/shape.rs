//! Writes OpenAI-shaped chunks, for wires that are not OpenAI's and for text the relay cuts itself.
//!
//! Every choice carries `finish_reason`, null until its end: clients in the field fail on a
//! missing key.

use super::event::{Chunk, Delta, Endpoint, Usage};
use bytes::Bytes;
use serde::Serialize;

/// What all chunks of one answer share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The answer's id.
    pub id: String,
    /// When it began, in seconds since 1970.
    pub created: u64,
    /// The model that writes it.
    pub model: String,
}

/// One chunk with `deltas`, which may be empty if there is `usage`.
pub fn chunk(endpoint: Endpoint, head: &Head, deltas: Vec<Delta>, usage: Option<Usage>) -> Chunk {
    let text = endpoint == Endpoint::Completions;
    let written = ChunkForm {
        id: &head.id,
        object: if text { "text_completion" } else { "chat.completion.chunk" },
        created: head.created,
        model: &head.model,
        choices: deltas.iter().map(|delta| ChoiceForm::new(delta, text)).collect(),
        usage: usage.map(UsageForm::from),
    };
    // Strings and integers only: nothing here can fail to serialise.
    let json = Bytes::from(serde_json::to_vec(&written).unwrap_or_default());
    Chunk { json, deltas, usage }
}

/// Seconds since 1970, for wires that do not say when an answer began. Shown, never decided by.
pub fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Usage as OpenAI writes it.
pub fn usage_json(usage: Usage) -> serde_json::Value {
    serde_json::to_value(UsageForm::from(usage)).unwrap_or_default()
}

#[derive(Serialize)]
struct ChunkForm<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<ChoiceForm<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageForm>,
}

#[derive(Serialize)]
struct ChoiceForm<'a> {
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<DeltaForm<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    finish_reason: Option<&'static str>,
}

impl<'a> ChoiceForm<'a> {
    fn new(delta: &'a Delta, text: bool) -> ChoiceForm<'a> {
        ChoiceForm {
            index: delta.choice,
            delta: (!text).then(|| DeltaForm::new(delta)),
            text: text.then_some(&delta.content),
            finish_reason: delta.finish.map(|finish| finish.word()),
        }
    }
}

#[derive(Serialize)]
struct DeltaForm<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    content: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reasoning_content: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    refusal: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolForm<'a>>,
}

impl<'a> DeltaForm<'a> {
    fn new(delta: &'a Delta) -> DeltaForm<'a> {
        let tool_calls = delta.tools.iter().map(|tool| ToolForm {
            index: tool.index,
            id: &tool.id,
            kind: if tool.id.is_empty() { "" } else { "function" },
            function: FunctionForm { name: &tool.name, arguments: &tool.arguments },
        });
        DeltaForm {
            content: &delta.content,
            reasoning_content: &delta.reasoning,
            refusal: &delta.refusal,
            tool_calls: tool_calls.collect(),
        }
    }
}

#[derive(Serialize)]
struct ToolForm<'a> {
    index: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(rename = "type", skip_serializing_if = "str::is_empty")]
    kind: &'static str,
    function: FunctionForm<'a>,
}

#[derive(Serialize)]
struct FunctionForm<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
struct UsageForm {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptForm,
    completion_tokens_details: CompletionForm,
}

#[derive(Serialize)]
struct PromptForm {
    cached_tokens: u64,
}

#[derive(Serialize)]
struct CompletionForm {
    reasoning_tokens: u64,
}

impl From<Usage> for UsageForm {
    fn from(usage: Usage) -> UsageForm {
        UsageForm {
            prompt_tokens: usage.prompt,
            completion_tokens: usage.completion,
            total_tokens: usage.prompt.saturating_add(usage.completion),
            prompt_tokens_details: PromptForm { cached_tokens: usage.cached.unwrap_or(0) },
            completion_tokens_details: CompletionForm { reasoning_tokens: usage.reasoning },
        }
    }
}
