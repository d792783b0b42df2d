//! The decisions of Mainstay, and nothing else.
//!
//! No clock, no entropy, no threads, no files, no sockets: time and randomness come in with each
//! call, decisions go out as actions and facts. The server, the simulator and the model checker
//! run these same machines.
#![no_std]
extern crate alloc;

pub mod config;
pub mod fact;
pub mod gateway;
pub mod names;
pub mod rng;
pub mod time;
pub mod worker;
