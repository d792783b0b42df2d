//! 64 streams of mixed lengths on the built-in model, some of which leave or break, for as long as
//! asked:
//!
//! ```sh
//! cargo run --release -p mainstay-engine --example engine_load -- 300
//! ```
//!
//! Prints times to first tokens and between tokens, and checks after every step that no page is
//! lost and nobody starves. It ends with an error where one of these does not hold.

mod streams;

use mainstay_engine::{Engine, Settings, Work, builtin};
use std::time::{Duration, Instant};
use streams::{Load, Streams};

const STREAMS: usize = 64;

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(20);
    // What breaks on purpose need not be told each time.
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload_as_str().unwrap_or_default();
        if !text.contains("on purpose") {
            eprintln!("{panic}");
        }
    }));
    let settings = Settings {
        batch_max: 32,
        waiting_max: STREAMS,
        // Less than a third of what 32 full windows take: sequences must make room for each other.
        cache_bytes: 8 << 20,
        ..Settings::default()
    };
    let mut engine = Engine::from_files(builtin::files(), settings).expect("the built-in model");
    let window = engine.model().context;
    let load = Load {
        streams: STREAMS,
        seed: 1,
        prompt_max: window / 2,
        answer_max: window / 3,
        ids: (300, engine.model().vocabulary as u32),
        leaves: 5,
        breaks: 40,
    };
    let mut streams = Streams::new(load);
    let (began, all) = (Instant::now(), Duration::from_secs(seconds));
    let mut memory = Vec::new();
    while began.elapsed() < all {
        streams.step(&mut engine);
        if began.elapsed().as_secs() as usize * 20 / seconds.max(1) as usize > memory.len() {
            memory.push(resident());
        }
    }
    let took = began.elapsed();
    streams.drain(&mut engine);
    report(&streams, took, &memory);
    for (work, answer) in std::mem::take(&mut streams.kept) {
        let id = engine.submit(Work { salt: 1, ..work }).expect("room for one");
        let mut reports = Vec::new();
        while !engine.is_idle() {
            engine.step(&mut reports);
        }
        let alone: Vec<u32> = reports.iter().filter(|r| r.id == id).map(|r| r.token).collect();
        assert_eq!(alone, answer, "an answer depends on its batch mates");
    }
    println!("answers compared with the same request alone: identical");
    println!("pages after the last stream: {:?}", engine.pages());
}

fn report(streams: &Streams, took: Duration, memory: &[u64]) {
    let seen = &streams.seen;
    let seconds = took.as_secs_f64();
    println!("{} streams for {seconds:.0} s, {} steps", STREAMS, seen.steps);
    println!("  whole {}, left by their clients {}, broken {}", seen.whole, seen.left, seen.broken);
    println!("  {:.0} tokens a second", seen.tokens as f64 / seconds);
    println!("  {} prompt tokens, {} of them cached", seen.prompts, seen.cached);
    for (name, times) in [("first token", &seen.ttft), ("between tokens", &seen.itl)] {
        let mut times = times.clone();
        times.sort_unstable();
        let at = |share: f64| {
            let index = (times.len() as f64 * share) as usize;
            times.get(index.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        println!(
            "  {name}: p50 {:.1?}, p90 {:.1?}, p99 {:.1?}, most {:.1?}",
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0)
        );
    }
    println!(
        "  most steps in the line for a first token: {}, {:.0} % of what those before take at most",
        seen.line_max,
        seen.line_share_max * 100.0
    );
    println!("  most steps between two tokens of a stream: {}", seen.wait_max);
    println!("  {:.1} answers written in a step", seen.tokens as f64 / seen.steps as f64);
    if let (Some(first), Some(last)) = (memory.get(memory.len() / 4), memory.last()) {
        println!("  memory after a quarter of the time {} MiB, at its end {} MiB", first, last);
    }
}

/// Resident memory in MiB, where the system tells.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
