//! Nodes that are joined by real sockets, one that speaks to itself, and peers that do what no peer
//! should.

mod bench;
mod bystander;
mod codec;
mod hostile;
mod joined;
mod myself;
mod requests;
