//! `mainstay model bench`: prompts and answers side by side for a few seconds each, and how fast
//! this machine's memory can be read at all, which bounds what one answer alone can reach.

use super::{describe, is_builtin};
use crate::command_line::BenchModel;
use mainstay_engine::{
    Engine, LoadError, Precision, Progress, Sampling, Settings, Work, bandwidth, builtin,
};
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Sequences side by side.
const BATCHES: [usize; 3] = [1, 4, 8];
/// Tokens of a prompt, unless the model's window is small: long enough that how a step begins and
/// ends does not count.
const PROMPT: usize = 512;
/// Tokens of the prompt in front of an answer that is timed.
const SHORT: usize = 16;
/// Tokens of such an answer at most: its cache stays small against the weights.
const ANSWER: usize = 128;
/// Bits of a weight in 8 and in 4 bits, its part of the scale of its block included.
const Q8_BITS: f64 = 8.5;
const Q4_BITS: f64 = 4.6;

/// What was measured.
struct Speeds {
    name: String,
    threads: usize,
    prompt: usize,
    load: Duration,
    /// Bytes that one token reads of the weights.
    bytes: u64,
    /// Tokens a second by batch: reading prompts, writing answers.
    rows: Vec<(usize, f64, f64)>,
    /// Bytes a second.
    bandwidth: f64,
}

/// The table, or the JSON document.
pub fn bench(options: &BenchModel) -> Result<String, LoadError> {
    let model = describe(&options.model)?;
    let prompt = options.prompt.map_or(PROMPT.min(model.context / 2), |prompt| prompt as usize);
    let prompt = prompt.min(model.context.saturating_sub(2)).max(1);
    let mut settings = Settings { batch_max: BATCHES[2], ..Settings::default() };
    settings.weights = match options.weights.as_str() {
        "q8" => Precision::Q8,
        "q4" => Precision::Q4,
        _ => Precision::Stored,
    };
    settings.threads = options.threads.map_or(settings.threads, usize::from);
    let needed =
        model.kv_bytes(settings.kv, BATCHES[2], prompt.max(SHORT + ANSWER), settings.page_tokens);
    settings.cache_bytes = settings.cache_bytes.max(2 * needed as usize);
    let (threads, precision) = (settings.threads, settings.weights);
    let began = Instant::now();
    let mut engine = match is_builtin(&options.model) {
        true => Engine::from_files(builtin::files(), settings)?,
        false => Engine::load(&options.model, settings)?,
    };
    let load = began.elapsed();
    let bandwidth = bandwidth::measure(threads);
    let least = Duration::from_secs(options.seconds.into());
    let mut runs = Runs { engine: &mut engine, salt: 0, least };
    let rows = BATCHES.map(|batch| (batch, runs.prefill(batch, prompt), runs.decode(batch)));
    let stored = 8.0 * model.weight_bytes() as f64 / model.parameters.max(1) as f64;
    let bits = match precision {
        Precision::Stored => stored,
        Precision::Q8 => stored.min(Q8_BITS),
        Precision::Q4 => stored.min(Q4_BITS),
    };
    let bytes = (model.active as f64 * bits / 8.0) as u64;
    let name = model.name;
    let speeds = Speeds { name, threads, prompt, load, bytes, rows: rows.into(), bandwidth };
    Ok(match options.json {
        true => format!("{:#}\n", document(&speeds)),
        false => text(&speeds),
    })
}

/// Repeats of one measurement on one engine.
struct Runs<'a> {
    engine: &'a mut Engine,
    /// Another for each run, so that none finds what another computed.
    salt: u64,
    least: Duration,
}

impl Runs<'_> {
    /// Prompt tokens a second.
    fn prefill(&mut self, batch: usize, prompt: usize) -> f64 {
        self.rate(|runs| {
            let began = Instant::now();
            runs.submit(batch, prompt, 1);
            runs.finish();
            (batch * prompt, began.elapsed())
        })
    }

    /// Answer tokens a second, of all sequences together, once all are writing.
    fn decode(&mut self, batch: usize) -> f64 {
        let most = self.engine.model().context.saturating_sub(SHORT + 1);
        let answer = ANSWER.min(most).max(2);
        self.rate(|runs| {
            runs.submit(batch, SHORT, answer);
            let mut reports: Vec<Progress> = Vec::new();
            while reports.len() < batch {
                runs.engine.step(&mut reports);
            }
            let began = Instant::now();
            (runs.finish(), began.elapsed())
        })
    }

    fn rate(&mut self, once: impl Fn(&mut Self) -> (usize, Duration)) -> f64 {
        // The first run warms what can be warm.
        once(self);
        let (mut tokens, mut took) = (0, Duration::ZERO);
        while took < self.least {
            let (more, time) = once(self);
            tokens += more;
            took += time;
        }
        tokens as f64 / took.as_secs_f64()
    }

    fn submit(&mut self, batch: usize, prompt: usize, max_tokens: usize) {
        let card = self.engine.model();
        let (vocabulary, ends) = (card.vocabulary as u32, card.end_tokens.clone());
        for lane in 0..batch {
            self.salt += 1;
            let token = |at: u32| (at * 7 + lane as u32 * 13 + 1) % vocabulary;
            let work = Work {
                prompt: (0..prompt as u32).map(token).collect(),
                max_tokens,
                sampling: Sampling {
                    temperature: 0.0,
                    // None ends before the others.
                    bias: ends.iter().map(|end| (*end, f32::MIN)).collect(),
                    ..Sampling::default()
                },
                salt: self.salt,
                ..Work::default()
            };
            // Prompt and answer fit the window, the cache fits all, and nobody else is there.
            self.engine.submit(work).expect("room for one more sequence");
        }
    }

    /// Steps to the end; the reports on the way.
    fn finish(&mut self) -> usize {
        let mut reports = Vec::new();
        while !self.engine.is_idle() {
            self.engine.step(&mut reports);
        }
        reports.len()
    }
}

fn text(speeds: &Speeds) -> String {
    let mut out = format!(
        "{}, {} threads, loaded in {:.0?}\n\n  batch   prompt tokens/s   answer tokens/s\n",
        speeds.name, speeds.threads, speeds.load
    );
    for (batch, prefill, decode) in &speeds.rows {
        let _ = writeln!(out, "  {batch:>5}   {prefill:>15.1}   {decode:>15.1}");
    }
    let read = alone(speeds);
    let _ = writeln!(
        out,
        "\n  prompts of {} tokens; one answer alone reads {:.2} GB/s of weights, {:.0} % of the \
         {:.1} GB/s\n  that {} threads read of this memory; a model that fits the processor's \
         cache reads faster",
        speeds.prompt,
        read / 1e9,
        100.0 * read / speeds.bandwidth,
        speeds.bandwidth / 1e9,
        speeds.threads
    );
    out
}

/// Bytes a second that one answer alone reads of the weights.
fn alone(speeds: &Speeds) -> f64 {
    speeds.rows.first().map_or(0.0, |(_, _, decode)| decode * speeds.bytes as f64)
}

fn document(speeds: &Speeds) -> Value {
    let rows: Vec<Value> = speeds
        .rows
        .iter()
        .map(|(batch, prefill, decode)| {
            json!({ "batch": batch, "prefill_tokens_per_second": prefill,
                    "decode_tokens_per_second": decode })
        })
        .collect();
    json!({
        "name": speeds.name,
        "threads": speeds.threads,
        "prompt_tokens": speeds.prompt,
        "load_seconds": speeds.load.as_secs_f64(),
        "weight_bytes_per_token": speeds.bytes,
        "rows": rows,
        "memory_bytes_per_second": speeds.bandwidth,
        "decode_share_of_memory": alone(speeds) / speeds.bandwidth,
    })
}
