//! Rehearses: the core machines in virtual time, with faults.
//!
//! One queue of moments, one seed, no clock: ten minutes cost as much as their events. The gateway
//! machine is the real one, driven as the server drives it; upstreams, clients and the network are
//! played. Checks run at every event, so that a scenario says only what is special about it.

pub mod calendar;
pub mod words;

pub mod script;
pub mod upstream;

pub mod load;
pub mod relay;

pub mod checks;
pub mod setup;
pub mod world;

pub mod fleet;
pub mod naive;
pub mod service;
pub mod study;
pub mod workload;

pub mod outside;

pub mod bench;
pub mod scenario;

pub mod measure;
pub mod outcome;
pub mod report;
pub mod sweep;
