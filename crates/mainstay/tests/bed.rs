//! What tests of the whole are played on: a fault server in this process, a gateway in its own,
//! and a client that believes nothing.

// Each test file uses its own part of the bed.
#![allow(dead_code)]

#[path = "bed/client.rs"]
pub mod client;
