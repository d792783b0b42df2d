//! Acts: sockets, clocks, files and tasks around the machines of `mainstay-core`.

pub mod admin;
pub mod gateway;
pub mod http;
pub mod setup;
pub mod tasks;
pub mod telemetry;
