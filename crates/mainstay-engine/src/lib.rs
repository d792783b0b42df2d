//! Computes tokens: weights, tokenizer, chat template, batched forward pass, sampling.
//!
//! It knows no tenants, no sites and no HTTP. One [`Engine`] is one loaded model with its cache and
//! its running requests. Its owner, one thread, hands requests in with [`Engine::submit`], calls
//! [`Engine::step`] while there is work, and passes on what each step reports.
//!
//! It computes on the processor, or with the feature `cuda` on an NVIDIA card.

pub mod bandwidth;
pub mod builtin;
pub mod describe;
pub mod engine;
pub mod error;
pub mod journal;

mod sequence;
mod step;

mod grammar;
pub mod sampler;
mod stop;
pub mod template;
pub mod tokenizer;

mod attention;
mod cache;
#[cfg(feature = "cuda")]
pub mod cuda;
mod gate;
mod gguf;
mod kernels;
mod model;
mod pool;
mod rope;
mod shape;
mod weights;

pub use engine::{
    Device, Drafted, Drafts, Engine, Files, KvPrecision, ModelCard, Pages, Settings, Twin,
};
pub use error::{LoadError, Refusal, TemplateError};
pub use grammar::{Form, Grammar};
pub use journal::Journal;
pub use kernels::{Width, limit_width};
pub use sampler::{Allowed, Sampling, Scores};
pub use sequence::{Finish, Progress, SequenceId, Work};
pub use tokenizer::Hide;
pub use weights::Precision;
