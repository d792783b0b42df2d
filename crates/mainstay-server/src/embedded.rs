//! What the front door and the embedded engine say to each other.
//!
//! An order goes in through a bounded door; what becomes of it comes out of its own bounded
//! channel. Dropping that channel's end cancels the work within a step. An engine in a process of
//! its own is told the same words, as JSON.

use mainstay_core::names::{ErrorClass, Failure};
use mainstay_core::worker::{ORDERS_MAX, PIECES};
pub use mainstay_engine::Form;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use tokio::sync::mpsc;

/// A request as the engine takes it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Order {
    /// What is to be answered.
    pub prompt: Prompt,
    /// Size of the request, to refuse the hopelessly long without reading it.
    pub bytes: usize,
    /// Answers to each prompt.
    pub n: u32,
    /// Only this one of all choices is wanted.
    pub only_choice: Option<u32>,
    /// The client's limit of tokens, those of `prefix` not included.
    pub max_tokens: Option<u32>,
    /// How tokens are chosen.
    pub taste: Taste,
    /// Strings that end the answer.
    pub stop: Vec<String>,
    /// Tools that it may call: OpenAI's list.
    pub tools: Option<Value>,
    /// Whether it may.
    pub tool_choice: ToolChoice,
    /// Whether an answer may call several at once, where the client said so.
    pub parallel: Option<bool>,
    /// What the answer is held to.
    pub form: Option<Form>,
    /// Tell what the model thought of each token, and of so many of the likeliest others.
    pub scores: Option<usize>,
    /// Text of the answer that another attempt began: goes on exactly behind it.
    pub prefix: Option<String>,
    /// Whose it is: what was computed for one tenant serves no other.
    pub tenant: u32,
    /// The model that the client named.
    pub asked: String,
    /// Whether the engine answers in place of that model.
    pub stands_in: bool,
}

impl Order {
    /// How many choices its answer has.
    pub fn choices(&self) -> u32 {
        let prompts = match &self.prompt {
            Prompt::Chat(_) => 1,
            Prompt::Raw(prompts) => u32::try_from(prompts.len()).unwrap_or(u32::MAX),
        };
        if self.only_choice.is_some() { 1 } else { self.n.saturating_mul(prompts) }
    }
}

/// What is to be answered.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub enum Prompt {
    /// A conversation: OpenAI's list of messages.
    Chat(Value),
    /// Texts to go on with.
    Raw(Vec<Raw>),
}

/// A text to go on with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Raw {
    /// As text.
    Text(String),
    /// As the model's own tokens.
    Tokens(Vec<u32>),
}

/// How tokens are chosen; OpenAI's parameters and three that others added.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Taste {
    /// `temperature`
    pub temperature: Option<f32>,
    /// `top_p`
    pub top_p: Option<f32>,
    /// `top_k`
    pub top_k: Option<u32>,
    /// `min_p`
    pub min_p: Option<f32>,
    /// `presence_penalty`
    pub presence_penalty: Option<f32>,
    /// `frequency_penalty`
    pub frequency_penalty: Option<f32>,
    /// `repetition_penalty`
    pub repetition_penalty: Option<f32>,
    /// `logit_bias`
    pub bias: Vec<(u32, f32)>,
    /// `seed`
    pub seed: Option<i64>,
}

/// Whether an answer may call tools.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum ToolChoice {
    /// As the model likes.
    #[default]
    May,
    /// No.
    Never,
    /// It must be a call, of this tool or of any.
    Must(Option<String>),
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Called {
    /// Which tool.
    pub name: String,
    /// Its arguments: a JSON object as text.
    pub arguments: String,
}

/// A token of an answer with what the model thought of it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Scored {
    /// The token itself.
    pub token: Word,
    /// The likeliest tokens in its place, the likeliest first.
    pub top: Vec<Word>,
}

/// A token.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Word {
    /// As it stands in a text; not every token is whole characters.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability.
    #[serde(with = "bits")]
    pub logprob: f32,
}

/// One thing the engine says of an order.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub enum Said {
    /// It is at work.
    Beat,
    /// Who writes what follows.
    By(String),
    /// Text of a choice.
    Text(u32, String),
    /// The same where scores are wanted, with the tokens it is made of.
    Scored(u32, String, Vec<Scored>),
    /// A choice calls a tool.
    Call(u32, Called),
    /// The end of a choice; with the last one comes the count of everything.
    End(u32, Finish, Option<Counted>),
    /// No answer, or no more of it.
    Failed(#[serde(with = "failure")] Failure),
}

/// Why a choice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Finish {
    /// By itself or at a stop string.
    Stop,
    /// At a limit of tokens.
    Length,
    /// By itself, and it calls tools.
    Calls,
}

/// Tokens, counted by the engine itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Counted {
    /// Of the prompts.
    pub prompt: u64,
    /// Of those, found in the cache.
    pub cached: u64,
    /// Of all answers.
    pub completion: u64,
}

/// An order with the way back.
pub struct Job {
    /// What is wanted.
    pub order: Order,
    /// Who waits for it.
    pub reply: mpsc::Sender<Said>,
}

/// What reaches the engine's thread.
pub enum Message {
    /// Work.
    Order(Box<Job>),
    /// The end.
    Stop,
}

/// The engine's door. Cheap to clone.
#[derive(Clone)]
pub struct Desk(SyncSender<Message>);

impl Desk {
    /// A door and what stands behind it.
    pub fn open() -> (Desk, Receiver<Message>) {
        let (sender, receiver) = sync_channel(ORDERS_MAX);
        (Desk(sender), receiver)
    }

    /// Hands an order in. What is said of it comes out of the returned channel.
    pub fn place(&self, order: Order) -> Result<mpsc::Receiver<Said>, Failure> {
        let (reply, said) = mpsc::channel(PIECES);
        let message = Message::Order(Box::new(Job { order, reply }));
        self.0.try_send(message).map(|()| said).map_err(|error| match error {
            TrySendError::Full(_) => full(),
            TrySendError::Disconnected(_) => {
                Failure::ours(ErrorClass::Transient, "the embedded engine has stopped")
            }
        })
    }

    /// Asks the thread to end. It also looks for itself whether it should.
    pub fn stop(&self) {
        let _ = self.0.try_send(Message::Stop);
    }
}

/// Too many orders wait already.
pub fn full() -> Failure {
    Failure::ours(ErrorClass::Overload, "the embedded engine's line is full")
}

/// A logarithm may be infinite, which JSON has no number for.
mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(number: &f32, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(number.to_bits())
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<f32, D::Error> {
        u32::deserialize(from).map(f32::from_bits)
    }
}

/// A failure of ours; what only a provider says is not part of it.
mod failure {
    use mainstay_core::names::{ErrorClass, Failure};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
    use std::time::Duration;

    #[derive(Deserialize, Serialize)]
    struct Written {
        class: String,
        message: String,
        code: Option<String>,
        param: Option<String>,
        retry_after: Option<Duration>,
        limit: Option<u64>,
    }

    pub fn serialize<S: Serializer>(failure: &Failure, to: S) -> Result<S::Ok, S::Error> {
        let Failure { class, code, param, message, retry_after, limit, .. } = failure.clone();
        let class = class.word().to_owned();
        Written { class, message, code, param, retry_after, limit }.serialize(to)
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Failure, D::Error> {
        let Written { class, message, code, param, retry_after, limit } =
            Written::deserialize(from)?;
        let class = ErrorClass::from_word(&class)
            .ok_or_else(|| de::Error::custom("a class of errors that nobody knows"))?;
        Ok(Failure { code, param, retry_after, limit, ..Failure::ours(class, message) })
    }
}
