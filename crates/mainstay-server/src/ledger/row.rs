//! What the ledger knows of a request and of each of its attempts.

use mainstay_core::fact::Outcome;
use mainstay_core::money::{Money, Tokens};
use serde::{Deserialize, Serialize};

/// Who asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The key's name; empty where nobody has one.
    pub key: String,
    /// Whose key it is.
    pub tenant: String,
    /// The tier.
    pub tier: String,
    /// Its position: the highest tier is 0.
    pub rank: u8,
}

/// Tokens, as they stand in rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Of the prompt.
    pub prompt: u64,
    /// Of those, out of a cache.
    pub cached: u64,
    /// Of the answer.
    pub output: u64,
}

impl From<Tokens> for Counted {
    fn from(tokens: Tokens) -> Counted {
        Counted { prompt: tokens.prompt, cached: tokens.cached, output: tokens.output }
    }
}

/// One attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// 1 for the first.
    pub number: u8,
    /// When it began, in microseconds since 1970.
    pub at: u64,
    /// Where.
    pub site: String,
    /// The model's name there.
    pub target: String,
    /// `whole`, `left`, `lost`, or the class of its failure.
    pub outcome: String,
    /// What its provider counted, or we where it did not.
    pub tokens: Counted,
    /// Whether we counted.
    pub estimated: bool,
    /// What the provider wants for it, in millionths.
    pub cost: i64,
}

/// A request that is over, with its attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The request's id.
    pub id: u64,
    /// When it was over, in microseconds since 1970.
    pub at: u64,
    /// Whose it is.
    pub who: Who,
    /// The model that was asked for.
    pub model: String,
    /// Where the answer came from; empty if there was none.
    pub site: String,
    /// The model that gave it, as it is called there.
    pub target: String,
    /// How it ended, see [`word`].
    pub outcome: String,
    /// What is billed.
    pub tokens: Counted,
    /// What is to be paid, in millionths.
    pub price: i64,
    /// What the allowance paid.
    pub free: i64,
    /// Its attempts, in order.
    pub attempts: Vec<Attempt>,
}

impl Entry {
    /// Which rows stay the longest where not all can: those that somebody pays for or costs us
    /// something, by tier; then refusals.
    pub fn rank(&self) -> u8 {
        if self.attempts.is_empty() { u8::MAX } else { self.who.rank }
    }
}

/// An attempt that begins. All that is known of it, should this process end before it does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The request's id.
    pub id: u64,
    /// Whose it is.
    pub who: Who,
    /// The model that was asked for.
    pub model: String,
    /// The attempt as it will stand there if nothing more is heard of it: `lost`, with the prompt
    /// as we count it.
    pub attempt: Attempt,
}

impl Opening {
    /// The request with what is known of it, when nothing more can come.
    pub fn lost(self) -> Entry {
        let Opening { id, who, model, attempt } = self;
        let at = attempt.at;
        let outcome = "lost".to_string();
        Entry { id, at, who, model, outcome, attempts: vec![attempt], ..Entry::default() }
    }
}

/// The word of an outcome, in rows.
pub fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Refused => "refused",
        Outcome::Rejected => "rejected",
        Outcome::Failed => "failed",
        Outcome::Expired => "expired",
        Outcome::Gone => "gone",
    }
}

/// Money as it stands in rows.
pub fn millionths(money: Money) -> i64 {
    money.0
}
