//! Measures the engine on one model file, one measurement for each line it reads.
//!
//! ```text
//! cargo run --release -p mainstay-engine --example speed -- FILE [THREADS [scalar|avx2|avx512]]
//! prefill TOKENS          tokens a second of one prompt
//! deep DEPTH TOKENS       the same, of the tokens behind DEPTH others
//! decode STREAMS STEPS    tokens a second of all streams together
//! deepdecode DEPTH STEPS  tokens a second of one stream behind DEPTH tokens
//! cached DEPTH            time to the first token of a cached prompt, as a share of the cold one's
//! gap TOKENS              99th percentile of a stream's gaps while so long a prompt enters, each
//!                         in gaps without it
//! enter TOKENS            tokens a second of so long a prompt beside that stream
//! bandwidth               bytes a second that all threads together read from memory
//! ```
//!
//! FILE may be `builtin`. Each answer is one number on one line. `bench/engine/compare.py` asks for
//! them in turn with another engine.

use mainstay_engine::{Engine, Progress, Sampling, Settings, Width, Work, builtin, limit_width};
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

/// As in the program: of what a step takes and gives back, nothing goes to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    let engine = match file.as_str() {
        "builtin" => Engine::from_files(builtin::files(), settings),
        file => Engine::load(Path::new(file), settings),
    };
    let mut engine = engine.unwrap_or_else(|error| {
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
            Some("cached") => cached(&mut engine, number(1)),
            Some("gap") => beside(&mut engine, number(1)).0,
            Some("enter") => beside(&mut engine, number(1)).1,
            Some("bandwidth") => bandwidth(threads),
            _ => continue,
        };
        println!("{answer:.4}");
        let _ = std::io::stdout().flush();
    }
}

fn work(tokens: usize, salt: usize, max_tokens: usize) -> Work {
    // Of the built-in model's few words, or of the first of a large vocabulary.
    let is_small = std::env::args().nth(1).is_some_and(|file| file == "builtin");
    let words = if is_small { 1000 } else { 20_000 };
    let token = |at: usize| 300 + ((at + salt * 977) * 7919 % words) as u32;
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

/// What the first token of a prompt takes when all of it was computed before, as a share of what it
/// took then.
fn cached(engine: &mut Engine, depth: usize) -> f64 {
    let salt = salt();
    let [cold, warm] = [(); 2].map(|()| {
        engine.submit(work(depth, salt, 1)).expect("the cache is large enough");
        let start = Instant::now();
        let mut out = Vec::new();
        while out.is_empty() {
            engine.step(&mut out);
        }
        start.elapsed().as_secs_f64()
    });
    warm / cold
}

/// A prompt of `tokens` enters beside a stream: the 99th percentile of the gaps between the
/// stream's tokens, each in gaps without a prompt; and the prompt's tokens a second. It grows
/// meanwhile, so its gaps without one are measured before and after, and lie on the line between.
fn beside(engine: &mut Engine, tokens: usize) -> (f64, f64) {
    let salt = salt();
    engine.submit(work(4, salt, 8000)).expect("there is room");
    let mut out: Vec<Progress> = Vec::new();
    while out.is_empty() {
        engine.step(&mut out);
    }
    let stream = out[0].id;
    let idle = |engine: &mut Engine, out: &mut Vec<Progress>| {
        let mut gaps: Vec<f64> = (0..IDLE_STEPS).map(|_| timed(engine, out)).collect();
        gaps.sort_by(f64::total_cmp);
        gaps[gaps.len() / 2]
    };
    let before = idle(engine, &mut out);
    engine.submit(work(tokens, salt + 1, 1)).expect("there is room");
    let mut busy = Vec::new();
    while out.iter().all(|progress| progress.id == stream) {
        busy.push(timed(engine, &mut out));
    }
    let after = idle(engine, &mut out);
    engine.cancel(stream);
    let rate = tokens as f64 / busy.iter().sum::<f64>();
    let steps = busy.len() as f64;
    let alone = |step: usize| before + (after - before) * step as f64 / steps;
    let mut gaps: Vec<f64> = busy.iter().enumerate().map(|(at, gap)| gap / alone(at)).collect();
    gaps.sort_by(f64::total_cmp);
    (gaps[(gaps.len() - 1) * 99 / 100], rate)
}

/// The seconds of a step, whose reports are left in `out`.
fn timed(engine: &mut Engine, out: &mut Vec<Progress>) -> f64 {
    out.clear();
    let start = Instant::now();
    engine.step(out);
    start.elapsed().as_secs_f64()
}

/// Gaps whose median counts as that without a prompt beside them.
const IDLE_STEPS: usize = 32;

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
