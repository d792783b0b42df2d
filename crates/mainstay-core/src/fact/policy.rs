//! Decisions about configuration and orders.

/// One decision about configuration or orders.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyFact {}
