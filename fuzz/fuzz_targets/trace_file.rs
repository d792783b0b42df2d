//! Reads whatever bytes as a trace of requests. It may refuse them, and nothing else.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mainstay_sim::workload::any(bytes));
