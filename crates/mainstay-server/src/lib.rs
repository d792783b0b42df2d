//! Acts: sockets, clocks, files and tasks around the machines of `mainstay-core`.

pub mod gateway;
pub mod setup;
