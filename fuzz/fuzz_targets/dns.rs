//! Answers whatever packet. A reply must be one, and small.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mainstay_server::gateway::dns::outside::any(bytes));
