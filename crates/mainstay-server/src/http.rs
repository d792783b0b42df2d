//! Listens, and serves HTTP/1.1 and HTTP/2 within bounds.
//!
//! One client's trouble stays with that client: each connection is a task, a panic in a request is
//! one 500, a slow or silent peer runs into its own limit. What the requests mean is decided by
//! the service that is handed in.

mod body;
mod bounds;
mod connection;
mod form;
mod listener;
mod markup;
mod origin;
mod tls;

pub use body::{BodySender, Cut, Left, ResponseBody, channel, json};
pub use bounds::{BodyError, read_body};
pub use connection::Peer;
pub use form::{decoded, form};
pub use listener::{Arrivals, Counters, Front, Known, serve};
pub use markup::escape;
pub use origin::{is_foreign, is_rebound};
pub use tls::server_config;

#[cfg(test)]
mod tests;
