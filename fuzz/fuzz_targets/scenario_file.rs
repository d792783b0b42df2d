//! Reads whatever bytes as a scenario file. It may refuse them, and nothing else.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mainstay_sim::scenario::read::any(bytes));
