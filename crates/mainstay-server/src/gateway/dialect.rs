//! What upstreams say and what it means: one data file per provider, read by the same few rules.

pub mod event;

/// One upstream dialect.
#[derive(Debug)]
pub struct Dialect {}
