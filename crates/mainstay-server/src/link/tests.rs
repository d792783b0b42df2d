//! Nodes that are joined by real sockets, and peers that do what no peer should.

mod bench;
mod codec;
mod hostile;
mod joined;
mod requests;
