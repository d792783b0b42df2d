//! The front door: takes a client's request, carries attempts, relays the answer.

pub mod dialect;
pub mod upstream;
