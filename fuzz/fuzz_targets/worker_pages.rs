//! Reads whatever an inference server says of itself and of its prefix cache.

#![no_main]

use mainstay_server::site::engine::events::Batch;
use mainstay_server::site::engine::{Engine, Report};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for engine in Engine::WORDS.into_iter().filter_map(Engine::named) {
        for path in engine.paths().iter().copied().chain(engine.fixed_path()) {
            engine.read(path, bytes, &mut Report::default());
        }
    }
    let _ = Batch::read(bytes);
});
