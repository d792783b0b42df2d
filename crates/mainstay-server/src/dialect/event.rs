//! The few events every upstream's stream is turned into, whatever its wire format.

use bytes::Bytes;
use mainstay_core::names::Failure;

/// Which endpoint of the OpenAI-compatible API a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /v1/chat/completions`
    Chat,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/embeddings`
    Embeddings,
}

impl Endpoint {
    /// The endpoint at `path`, if it is one.
    pub fn at(path: &str) -> Option<Endpoint> {
        Some(match path {
            "/v1/chat/completions" => Endpoint::Chat,
            "/v1/completions" => Endpoint::Completions,
            "/v1/embeddings" => Endpoint::Embeddings,
            _ => return None,
        })
    }
}

/// One thing a stream said.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It lives, and no token came: a comment, a ping, a blank line, a role-only or empty delta, an
    /// event with an unknown name.
    Life,
    /// Part of the answer, in the shape of an OpenAI chunk.
    Chunk(Chunk),
    /// An error in the stream, or something that cannot be trusted. Nothing follows.
    Failed(Failure),
    /// The sentinel. A finish reason, not this, makes an answer whole.
    Done,
}

/// Part of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chunk {
    /// The event's JSON text as an OpenAI chunk: as received where the wire is OpenAI's own, so
    /// that nothing is encoded twice and unknown fields survive.
    pub json: Bytes,
    /// What it adds to each choice.
    pub deltas: Vec<Delta>,
    /// Usage, where the event carries it.
    pub usage: Option<Usage>,
}

/// What a chunk adds to one choice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// Index of the choice.
    pub choice: u32,
    /// Text of the answer.
    pub content: String,
    /// Text of the reasoning, under whichever name it came.
    pub reasoning: String,
    /// Text of a refusal by the model, which takes the place of an answer.
    pub refusal: String,
    /// Parts of tool calls.
    pub tools: Vec<ToolDelta>,
    /// Why the choice ended, if it did.
    pub finish: Option<Finish>,
}

impl Delta {
    /// Output tokens this delta stands for, at least: one if it adds anything. Providers that put
    /// several tokens into one event are undercounted, never overcounted.
    pub fn tokens(&self) -> u32 {
        let some = !self.content.is_empty()
            || !self.reasoning.is_empty()
            || !self.refusal.is_empty()
            || self.tools.iter().any(|t| !t.arguments.is_empty() || !t.name.is_empty());
        u32::from(some)
    }
}

/// Part of one tool call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolDelta {
    /// Index of the call within its choice.
    pub index: u32,
    /// Its id, in the part that opens it.
    pub id: String,
    /// Its function's name, in the part that opens it.
    pub name: String,
    /// A piece of its arguments.
    pub arguments: String,
}

/// The success set of finish reasons; anything else is a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It ended by itself or at a stop string.
    Stop,
    /// It reached the token limit.
    Length,
    /// It calls tools (`tool_calls` or the older `function_call`).
    ToolCalls,
    /// The provider's filter ended it.
    ContentFilter,
}

impl Finish {
    /// The finish reason that `word` names, if it is in the success set.
    pub fn from_word(word: &str) -> Option<Finish> {
        Some(match word {
            "stop" => Finish::Stop,
            "length" => Finish::Length,
            "tool_calls" | "function_call" => Finish::ToolCalls,
            "content_filter" => Finish::ContentFilter,
            _ => return None,
        })
    }

    /// Its word on OpenAI's wire.
    pub const fn word(self) -> &'static str {
        match self {
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::ToolCalls => "tool_calls",
            Finish::ContentFilter => "content_filter",
        }
    }
}

/// Tokens as the provider counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Of those, read from a cache, where that is said.
    pub cached: Option<u64>,
    /// Tokens of the answer, reasoning included.
    pub completion: u64,
    /// Of those, reasoning.
    pub reasoning: u64,
}
