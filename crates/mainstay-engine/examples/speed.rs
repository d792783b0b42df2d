//! Measures the engine on one model file, one measurement for each line it reads.
//!
//! ```text
//! cargo run --release -p mainstay-engine --example speed -- FILE [THREADS [scalar|avx2|avx512]]
//! prefill TOKENS          tokens a second of one prompt
//! deep DEPTH TOKENS       the same, of the tokens behind DEPTH others
//! decode STREAMS STEPS    tokens a second of all streams together
//! deepdecode DEPTH STEPS  tokens a second of one stream behind DEPTH tokens
//! bandwidth               bytes a second that all threads together read from memory
//! ```
//!
//! Each answer is one number on one line. `bench/engine/compare.py` asks for them in turn with
//! another engine.

use mainstay_engine::{Engine, Progress, Sampling, Settings, Width, Work, limit_width};
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

/// Tokens of one step: the largest that anybody is asked for at once.
const CHUNK: usize = 512;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let file = arguments.get(1).expect("the first argument is a GGUF file or a model directory");
    let threads = arguments.get(2).map_or(2, |threads| threads.parse().expect("a count"));
    match arguments.get(3).map(String::as_str) {
        Some("scalar") => limit_width(Width::Scalar),
        Some("avx2") => limit_width(Width::Avx2),
        _ => {}
    }
    let settings =
        Settings { threads, prefill_chunk: CHUNK, cache_bytes: 2 << 30, ..Settings::default() };
    let start = Instant::now();
    let mut engine = Engine::load(Path::new(file), settings).unwrap_or_else(|error| {
        eprintln!("{error}");
        std::process::exit(1)
    });
    eprintln!("loaded in {:.2} s", start.elapsed().as_secs_f64());
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("standard input is text");
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(1);
        let answer = match words.first().copied() {
            Some("prefill") => deep(&mut engine, 0, number(1)),
            Some("deep") => deep(&mut engine, number(1), number(2)),
            Some("decode") => decode(&mut engine, number(1), 4, number(2)),
            Some("deepdecode") => decode(&mut engine, 1, number(1), number(2)),
            Some("bandwidth") => bandwidth(threads),
            _ => continue,
        };
        println!("{answer:.2}");
        let _ = std::io::stdout().flush();
    }
}

fn work(tokens: usize, salt: usize, max_tokens: usize) -> Work {
    let token = |at: usize| 300 + ((at + salt * 977) * 7919 % 20_000) as u32;
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    Work { prompt: (0..tokens).map(token).collect(), sampling, max_tokens, ..Work::default() }
}

/// Tokens a second of the last `tokens` of a prompt. `depth` is a multiple of a step.
fn deep(engine: &mut Engine, depth: usize, tokens: usize) -> f64 {
    let salt = salt();
    engine.submit(work(depth + tokens, salt, 1)).expect("the cache is large enough");
    let mut out = Vec::new();
    for _ in 0..depth / CHUNK {
        engine.step(&mut out);
    }
    let start = Instant::now();
    while out.is_empty() {
        engine.step(&mut out);
    }
    tokens as f64 / start.elapsed().as_secs_f64()
}

/// Tokens a second of some streams, each behind `depth` tokens.
fn decode(engine: &mut Engine, streams: usize, depth: usize, steps: usize) -> f64 {
    let salt = salt();
    for stream in 0..streams {
        engine.submit(work(depth, salt + stream, steps + 64)).expect("there is room");
    }
    let mut out: Vec<Progress> = Vec::new();
    while out.len() < streams {
        out.clear();
        engine.step(&mut out);
    }
    out.clear();
    let start = Instant::now();
    (0..steps).for_each(|_| engine.step(&mut out));
    let rate = out.len() as f64 / start.elapsed().as_secs_f64();
    let ids: Vec<_> = out.iter().map(|progress| progress.id).collect();
    ids.into_iter().for_each(|id| engine.cancel(id));
    rate
}

/// Another prompt each time, so that nothing is found in a cache.
fn salt() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    NEXT.fetch_add(100, Ordering::Relaxed)
}

/// Far more than any cache of the processor holds.
const BANDWIDTH_BYTES: usize = 256 << 20;

fn bandwidth(threads: usize) -> f64 {
    let numbers = vec![1u64; BANDWIDTH_BYTES / 8];
    let share = numbers.len() / threads;
    let start = Instant::now();
    let rounds = 4;
    for _ in 0..rounds {
        std::thread::scope(|scope| {
            for part in numbers.chunks(share) {
                scope.spawn(move || std::hint::black_box(part.iter().sum::<u64>()));
            }
        });
    }
    (rounds * BANDWIDTH_BYTES) as f64 / start.elapsed().as_secs_f64()
}
