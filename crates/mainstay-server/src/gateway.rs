//! The front door: takes a client's request, carries attempts, relays the answer.

pub mod auth;
pub mod dns;
pub mod openai;
pub mod stream;
