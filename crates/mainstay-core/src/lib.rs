//! The decisions of Mainstay, and nothing else.
//!
//! No clock, no entropy, no threads, no files, no sockets: time and randomness come in with each
//! call, decisions go out as actions and facts. The server, the simulator and the model checker
//! run these same machines.
#![no_std]
extern crate alloc;

pub mod names;
pub mod time;

pub mod config;
pub mod cost;
pub mod drift;
pub mod drill;
pub mod fact;
pub mod in_service;
pub mod lease;
pub mod message;
pub mod money;
pub mod mutant;
pub mod office;
pub mod orders;
pub mod plan;
pub mod publish;
pub mod rng;
pub mod share;
pub mod table;

pub mod console;
pub mod gateway;
pub mod policy;
pub mod site;
pub mod status;
pub mod worker;
