//! Gives whatever orders to a policy machine. It may refuse them, and nothing else.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mainstay_sim::outside::orders(bytes));
