//! The front door: takes a client's request, carries attempts, relays the answer.

pub mod auth;
pub mod dns;
pub mod keyring;
pub mod limiter;
pub mod meter;
pub mod openai;
pub mod record;
pub mod stream;
