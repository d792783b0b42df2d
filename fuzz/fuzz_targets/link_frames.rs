//! Gives whatever bytes to the reader of a node-to-node connection. It may cut the peer off, and
//! nothing else.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mainstay_server::link::outside::frames(bytes));
