//! How long a worker takes: step times of model × hardware, and two workers that play them.
//!
//! `Engine` computes every iteration, with its prefix cache, and `Worker` jumps from one first
//! token or end to the next. Both take all decodes and then chunks of prefill, share KV, and put
//! the newest off when it is full. Times come from a formula, or from measured operators: what a
//! scheduler predicts by must not be what it is judged by.

mod cache;
mod engine;
mod noise;
mod plan;
mod profile;
mod worker;

pub use engine::{Asked, Engine, Told};
pub use noise::Noise;
pub use profile::{LISTED, PROFILES, Profile, pairs, table};
pub use worker::Worker;

use mainstay_core::time::{Duration, Time};

/// What a worker is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Of these, found in the prefix cache.
    pub cached: u32,
    /// Output tokens; at least one comes.
    pub output: u32,
}

/// A sequence at its worker, in the order of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub u64);

/// What happened to a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Its first token came.
    FirstToken,
    /// Its last token came.
    Ended,
}

/// Something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Happened {
    /// To which.
    pub id: SequenceId,
    /// When.
    pub at: Time,
    /// What.
    pub what: What,
}

/// Milliseconds as a duration, to a microsecond.
pub(crate) fn millis(ms: f64) -> Duration {
    Duration::from_micros((ms.max(0.0) * 1000.0).round() as u64)
}
