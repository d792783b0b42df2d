//! Who asks when, for how much: like requests by chance, or those of a published trace.
//!
//! A name leads to a file in the folder of `MAINSTAY_TRACES`, else to one of the small traces
//! inside the program; `traces/README.md` says where they come from. What a file holds is checked
//! line by line before anything is made of it.

mod cache;
mod draw;
mod servegen;
mod source;
mod trace;

pub use cache::Prefixes;
pub use servegen::aggregate;
pub use source::{Problem, Source, text};
pub use trace::Chained;

use mainstay_core::rng::Rng;
use std::time::Duration;

/// Tokens of a prompt for which one hash stands in a trace.
pub const BLOCK: u32 = 512;
/// What a like request is: one cost unit by the benches' own worker profile.
pub const ALIKE: (u32, u32) = (1000, 200);

/// Requests of a trace that are studied: more than any published hour has that knows prefixes.
pub const REQUESTS_MAX: usize = 20_000;

/// Speeds and rates that make sense; beyond them moments could not be told apart, or told at all.
const BOUNDS: std::ops::RangeInclusive<f64> = 1e-6..=1e6;

/// One request of one user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Since the start.
    pub at: Duration,
    /// Whose.
    pub tenant: u32,
    /// Hash of its session.
    pub session: u64,
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Of these, tokens expected in a prefix cache.
    pub cached: u32,
    /// Output tokens.
    pub output: u32,
}

/// How a trace is played.
#[derive(Clone, Debug)]
pub struct Options {
    /// Repeats the run.
    pub seed: u64,
    /// Where files are looked for first.
    pub source: Source,
    /// Arrivals that a trace rounds to 3 s are spread over them; else they come as bursts.
    pub spread: bool,
    /// The trace is played this many times as fast; models of clients ask as many times as often.
    pub speed: f64,
    /// Requests a second of what has lengths but no arrivals of its own.
    pub rate: f64,
    /// Tenants where the trace has none, and turns of one session.
    pub tenants: u32,
    /// See `tenants`.
    pub turns: u32,
    /// Blocks the prefix cache holds; `None` is without end.
    pub cache: Option<usize>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            seed: 1,
            source: Source::from_environment(),
            spread: true,
            speed: 1.0,
            rate: 1.0,
            tenants: 1000,
            turns: 10,
            cache: None,
        }
    }
}

/// Requests in the order of their times.
pub type Arrivals = Box<dyn Iterator<Item = Arrival>>;

/// The requests of a trace: `conversation`, `synthetic`, `azure-conv`, `azure-code`,
/// `servegen-MODEL`, `arxiv`, or the path of a file of the first two kinds or of Azure's.
///
/// # Errors
/// Names the file, its line and what is wrong there.
pub fn open(name: &str, options: &Options) -> Result<Arrivals, Problem> {
    if !BOUNDS.contains(&options.speed) || !BOUNDS.contains(&options.rate) {
        return Err(Problem::new(name, 0, "speed and rate must lie between 1e-6 and 1e6"));
    }
    let file = |file: &str| text(&options.source, file);
    match name {
        "conversation" | "synthetic" => {
            let name = format!("mooncake/{name}_trace.jsonl.zst");
            trace::mooncake(&name, &file(&name)?, options)
        }
        "azure-conv" | "azure-code" => {
            let name = format!("azure/AzureLLMInferenceTrace2023_{}.csv.zst", &name[6..]);
            trace::azure(&name, &file(&name)?, options)
        }
        "arxiv" => {
            let name = "vidur/arxiv_summarization_lengths.csv.zst";
            trace::lengths(name, &file(name)?, options)
        }
        _ => match name.strip_prefix("servegen-") {
            Some(model) => servegen::arrivals(model, options),
            None if name.contains(".jsonl") => trace::mooncake(name, &file(name)?, options),
            None if name.contains(".csv") => trace::azure(name, &file(name)?, options),
            None => Err(Problem::new(name, 0, "no such trace")),
        },
    }
}

/// The requests of a trace with the hashes of their prefixes, at the trace's own speed, and the
/// first `REQUESTS_MAX` of a long one. Traces but Mooncake's tell of no prefixes: none is shared.
///
/// # Errors
/// As `open`.
pub fn chained(name: &str, options: &Options) -> Result<Vec<Chained>, Problem> {
    let file = match name {
        "conversation" | "synthetic" => format!("mooncake/{name}_trace.jsonl.zst"),
        _ if name.contains(".jsonl") => name.to_string(),
        _ => {
            let alone = |one: Arrival| {
                let Arrival { at, prompt, output, .. } = one;
                Chained { at, prompt, output, chain: Vec::new() }
            };
            return Ok(open(name, options)?.take(REQUESTS_MAX).map(alone).collect());
        }
    };
    let mut found = trace::chained(&file, &text(&options.source, &file)?, options)?;
    if found.is_empty() {
        return Err(Problem::new(&file, 0, "holds no request"));
    }
    found.truncate(REQUESTS_MAX);
    Ok(found)
}

/// Reads whatever bytes as a trace of each kind: what a fuzzer calls. They may be refused, and
/// nothing else; what is taken comes in the order of its times.
pub fn any(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let options = Options { source: Source::default(), ..Options::default() };
    for read in [trace::mooncake, trace::azure, trace::lengths] {
        let Ok(arrivals) = read("any", &text, &options) else { continue };
        let arrivals: Vec<Arrival> = arrivals.collect();
        assert!(!arrivals.is_empty() && arrivals.is_sorted_by_key(|arrival| arrival.at));
        assert!(arrivals.iter().all(|arrival| arrival.cached <= arrival.prompt));
    }
}

/// Like requests by chance, `options.rate` a second, without end: each tenant has one session at a
/// time.
pub fn alike(options: &Options) -> impl Iterator<Item = Arrival> + use<> {
    let mut rng = Rng::new(options.seed);
    let (tenants, turns) = (options.tenants.max(1), options.turns.max(1));
    let rate = options.rate * options.speed;
    let mut sessions = vec![(0u64, 0u32); tenants as usize];
    let mut at = 0.0;
    std::iter::from_fn(move || {
        at += draw::exponential(&mut rng) / rate;
        let tenant = rng.below(u64::from(tenants)) as u32;
        let (session, turn) = &mut sessions[tenant as usize];
        if *turn % turns == 0 {
            *session = rng.bits();
        }
        *turn += 1;
        let (prompt, output) = ALIKE;
        let (at, session) = (Duration::try_from_secs_f64(at).ok()?, *session);
        // Its prompt counts as uncached: that is what makes it one cost unit.
        Some(Arrival { at, tenant, session, prompt, cached: 0, output })
    })
}
