//! Loads whatever calls itself a GGUF file, and runs it for a few tokens if it loads.

#![no_main]

use mainstay_engine::{Engine, Settings, Work};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let settings = Settings { cache_bytes: 4 << 20, threads: 1, ..Settings::default() };
    if let Ok(mut engine) = Engine::from_gguf("fuzz", bytes.to_vec().into(), settings) {
        let _ = engine.submit(Work { prompt: vec![0], max_tokens: 2, ..Work::default() });
        let mut out = Vec::new();
        (0..3).for_each(|_| engine.step(&mut out));
    }
});
