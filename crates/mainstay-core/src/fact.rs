//! Decisions with their reasons: what feeds logs, metrics, `explain`, status and the timeline of a
//! simulation.

mod credit;
mod drill;
mod policy;
mod schedule;
mod site;
mod status;

pub use credit::CreditFact;
pub use drill::DrillFact;
pub use policy::{BootWhy, Harm, NotTaken, OrderRefusal, PolicyFact, Turn};
pub use schedule::ScheduleFact;
pub use site::SiteFact;
pub use status::{Because, Component, State, StatusFact};

use crate::names::{AttemptId, ErrorClass, ModelId, RequestId, TargetId, TierId};
use crate::time::Duration;

/// One decision, with what an operator would ask about it. Names are resolved by whoever prints.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// A request came in.
    Arrived { request: RequestId, model: ModelId, tier: TierId },
    /// An attempt was sent out.
    AttemptStarted { attempt: AttemptId, target: TargetId, how: How, relayed: u32 },
    /// Its first token came.
    FirstToken { attempt: AttemptId, target: TargetId, after: Duration },
    /// It ended whole.
    AttemptWhole { attempt: AttemptId, target: TargetId, after: Duration, tokens: u32 },
    /// It gave more pieces of text than its provider counts tokens: one may have come twice.
    Miscounted { attempt: AttemptId, target: TargetId, tokens: u32, counted: u32 },
    /// It ended otherwise, or was given up.
    AttemptFailed {
        attempt: AttemptId,
        target: TargetId,
        after: Duration,
        tokens: u32,
        class: ErrorClass,
        why: Why,
    },
    /// It was given up because its client had left.
    AttemptLeft { attempt: AttemptId, target: TargetId, after: Duration, tokens: u32 },
    /// Nothing better to do than to wait for the same site once.
    Waiting { request: RequestId, target: TargetId, wait: Duration },
    /// The request is closed.
    Closed { request: RequestId, outcome: Outcome, attempts: u8, resumes: u8, after: Duration },
    /// What this gateway believes of a target changed.
    Health { target: TargetId, from: Verdict, to: Verdict, why: &'static str },
    /// A target takes nothing for a while.
    Paused { target: TargetId, class: ErrorClass, wait: Duration },
    /// A target's concurrency or rate limit changed.
    Limited { target: TargetId, concurrency: Option<u32>, per_second: Option<f64> },
    /// A target is not asked until its key, bill or name is mended. An operator must know.
    Parked { target: TargetId, class: ErrorClass, wait: Duration },
    /// It works again.
    Unparked { target: TargetId },
    /// A limit of a target was learned from a refusal.
    Learned { target: TargetId, window: Option<u64>, body: Option<u64> },
    /// A target that should continue a prefix did not.
    ContinuationOff { target: TargetId },
    /// Retries are used up for this tier.
    RetriesExhausted { request: RequestId, tier: TierId },
    /// Something about sites of ours and their credit.
    Credit(CreditFact),
    /// Something about a drill.
    Drill(DrillFact),
}

/// What an attempt is to its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The first.
    First,
    /// Another, before any token was relayed.
    Retry,
    /// Another, going on from tokens already relayed.
    Resume(Rung),
}

/// How a broken answer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// From our engine's token journal.
    Journal,
    /// By the dialect's own form of continuation.
    Native,
    /// Anew, hidden until everything already relayed has been repeated exactly.
    Regenerate,
}

/// What was seen when an attempt was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The reply or the connection said so.
    Reply,
    /// No byte came within the first-token limit.
    Silent,
    /// Bytes came, but no token within the first-token limit.
    NoFirstToken,
    /// Tokens stopped.
    Stalled,
    /// Tokens came too slowly.
    Dripped,
    /// The stream ended without a finish reason.
    Cut,
    /// A whole answer with nothing in it.
    Empty,
    /// A continuation did not fit what was already relayed.
    Mismatch,
}

/// How a request ended. Each ends exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A whole answer.
    Done,
    /// Refused for lack of capacity or of a usable site.
    Refused,
    /// The client's own fault, or the provider's content policy.
    Rejected,
    /// Every attempt failed.
    Failed,
    /// The deadline passed.
    Expired,
    /// The client left.
    Gone,
}

/// What a gateway believes of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Use it.
    #[default]
    Up,
    /// It fails; a trickle only.
    Suspect,
    /// It is dead; nothing until a hold is over.
    Down,
    /// It came back; a trickle until proved.
    Probation,
}
