//! The front door: takes a client's request, carries attempts, relays the answer.

pub mod attempt;
pub mod auth;
pub mod dialect;
pub mod dns;
pub mod embedded;
pub mod openai;
pub mod roster;
pub mod stream;
pub mod upstream;
