//! What the `mainstay` binary is made of, so that its tests can start the parts in-process.

pub mod admin_client;
pub mod catalog;
pub mod check;
pub mod command_line;
pub mod config_file;
pub mod demo;
pub mod drill;
pub mod environment;
pub mod explain;
pub mod faults;
pub mod incident;
pub mod keys;
pub mod load;
pub mod model;
pub mod node;
pub mod orders;
pub mod policy;
pub mod ports;
pub mod simulate;
pub mod snapshot;
pub mod start;
pub mod stdout;
pub mod top;
pub mod usage;
