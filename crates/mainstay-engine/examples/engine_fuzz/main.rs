//! Loads and runs mangled model files for as long as asked, GGUF files and directories in turn:
//!
//! ```sh
//! cargo run -p mainstay-engine --example engine_fuzz -- 600 [SEED]
//! ```
//!
//! Not with `--release`: overflows are looked for, and the engine is optimised without it too. Ends
//! with an error at the first panic, and at the first file that makes it ask for absurd memory.

mod mangle;

use mangle::Corpus;
use std::time::{Duration, Instant};

fn main() {
    let number = |at| std::env::args().nth(at).and_then(|text| text.parse::<u64>().ok());
    let (seconds, seed) = (number(1).unwrap_or(20), number(2).unwrap_or(1));
    mangle::count_panics();
    let mut all = [("GGUF files", Corpus::gguf()), ("directories", Corpus::directories())];
    let (began, mut rounds) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(seconds) {
        for (_, corpus) in &mut all {
            corpus.round(seed.wrapping_mul(1 << 32) + rounds);
        }
        rounds += 1;
    }
    for (what, corpus) in &all {
        let (loaded, said) = (corpus.loaded, corpus.said());
        println!("{rounds} mangled {what}: {loaded} loaded and ran, {said} different outcomes");
    }
}
