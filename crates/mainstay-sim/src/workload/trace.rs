//! Traces of single requests: Mooncake's with prefixes, Azure's, and bare lengths.

use super::{Arrival, Arrivals, BLOCK, Options, Prefixes, Problem, draw};
use mainstay_core::rng::Rng;
use std::time::Duration;

/// Mooncake's arrivals are rounded to this.
const QUANTUM: Duration = Duration::from_secs(3);
/// More tokens in one request than any model takes.
const TOKENS_MAX: u64 = 16 << 20;
/// No trace is longer than a year.
const MILLIS_MAX: u64 = 366 * 24 * 3600 * 1000;

/// A request of Mooncake's traces, as it stands in its line.
#[derive(serde::Deserialize)]
struct Line {
    timestamp: u64,
    input_length: u64,
    output_length: u64,
    hash_ids: Vec<u64>,
}

/// One request with the hashes of its prompt's blocks, each of which includes all before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chained {
    /// Since the start.
    pub at: Duration,
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Output tokens.
    pub output: u32,
    /// Hashes.
    pub chain: Vec<u64>,
}

/// One JSON object a line; in the order of their times, which are still those of the trace.
pub(super) fn chained(file: &str, text: &str, options: &Options) -> Result<Vec<Chained>, Problem> {
    let mut rng = Rng::new(options.seed);
    let mut all = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let wrong = |what: String| Problem::new(file, number + 1, what);
        let line: Line = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        if line.timestamp > MILLIS_MAX {
            return Err(wrong(format!("timestamp {} is beyond a year", line.timestamp)));
        }
        let prompt = tokens("input_length", line.input_length).map_err(wrong)?;
        let output = tokens("output_length", line.output_length).map_err(wrong)?;
        if line.hash_ids.len() as u64 > u64::from(prompt.div_ceil(BLOCK)) {
            return Err(wrong(format!("{} blocks of {prompt} tokens", line.hash_ids.len())));
        }
        let late = if options.spread { QUANTUM.mul_f64(rng.unit()) } else { Duration::ZERO };
        let at = Duration::from_millis(line.timestamp) + late;
        all.push(Chained { at, prompt, output, chain: line.hash_ids });
    }
    all.sort_by_key(|one| one.at);
    Ok(all)
}

/// See `chained`.
pub fn mooncake(file: &str, text: &str, options: &Options) -> Result<Arrivals, Problem> {
    let lines = chained(file, text, options)?;
    let mut cache = Prefixes::new(options.cache);
    let arrivals = lines.into_iter().map(|Chained { at, prompt, output, chain }| {
        // All begin with the same system prompt; what tells sessions apart comes after it.
        let session = chain.get(1).or(chain.first()).copied().unwrap_or(0);
        let session = Rng::new(session).bits();
        let cached = (cache.ask(&chain) as u32).saturating_mul(BLOCK).min(prompt);
        let tenant = (session % u64::from(options.tenants.max(1))) as u32;
        Arrival { at, tenant, session, prompt, cached, output }
    });
    finish(file, arrivals.collect(), options)
}

/// `TIMESTAMP,ContextTokens,GeneratedTokens`.
pub fn azure(file: &str, text: &str, options: &Options) -> Result<Arrivals, Problem> {
    let mut rng = Rng::new(options.seed);
    let mut first = None;
    let mut arrivals = Vec::new();
    for row in rows(file, text, ["TIMESTAMP", "ContextTokens", "GeneratedTokens"])? {
        let (line, [at, prompt, output]) = row?;
        let wrong = |what: String| Problem::new(file, line, what);
        let at = micros(at).ok_or_else(|| wrong(format!("{at} is no time")))?;
        let since = at.checked_sub(*first.get_or_insert(at));
        let since = since.filter(|micros| *micros <= MILLIS_MAX * 1000);
        let since = since.ok_or_else(|| wrong("before the first, or beyond a year".into()))?;
        let prompt = count("ContextTokens", prompt).map_err(wrong)?;
        let output = count("GeneratedTokens", output).map_err(wrong)?;
        let tenant = rng.below(u64::from(options.tenants)) as u32;
        let at = Duration::from_micros(since);
        arrivals.push(Arrival { at, tenant, session: rng.bits(), prompt, cached: 0, output });
    }
    arrivals.sort_by_key(|arrival| arrival.at);
    finish(file, arrivals, options)
}

/// `num_prefill_tokens,num_decode_tokens`, which come by chance at `options.rate`.
pub fn lengths(file: &str, text: &str, options: &Options) -> Result<Arrivals, Problem> {
    let mut rng = Rng::new(options.seed);
    let mut at = 0.0;
    let mut arrivals = Vec::new();
    for row in rows(file, text, ["num_prefill_tokens", "num_decode_tokens"])? {
        let (line, [prompt, output]) = row?;
        let wrong = |what: String| Problem::new(file, line, what);
        let prompt = count("num_prefill_tokens", prompt).map_err(wrong)?;
        let output = count("num_decode_tokens", output).map_err(wrong)?;
        at += draw::exponential(&mut rng) / options.rate;
        let tenant = rng.below(u64::from(options.tenants)) as u32;
        let (at, session) = (Duration::from_secs_f64(at), rng.bits());
        arrivals.push(Arrival { at, tenant, session, prompt, cached: 0, output });
    }
    finish(file, arrivals, options)
}

fn finish(file: &str, arrivals: Vec<Arrival>, options: &Options) -> Result<Arrivals, Problem> {
    if arrivals.is_empty() {
        return Err(Problem::new(file, 0, "holds no request"));
    }
    let speed = options.speed;
    Ok(Box::new(arrivals.into_iter().map(move |arrival| {
        let at = arrival.at.as_secs_f64() / speed;
        Arrival { at: Duration::try_from_secs_f64(at).unwrap_or(Duration::MAX), ..arrival }
    })))
}

type Row<'a, const N: usize> = Result<(usize, [&'a str; N]), Problem>;

/// The named columns of every line after the first, which names them.
pub(super) fn rows<'a, const N: usize>(
    file: &'a str,
    text: &'a str,
    names: [&'static str; N],
) -> Result<impl Iterator<Item = Row<'a, N>>, Problem> {
    let mut lines = text.lines().enumerate();
    let head = lines.next().map_or("", |(_, head)| head);
    let head: Vec<&str> = head.split(',').collect();
    let mut at = [0; N];
    for (at, name) in at.iter_mut().zip(names) {
        let found = head.iter().position(|column| *column == name);
        *at = found.ok_or_else(|| Problem::new(file, 1, format!("no column {name}")))?;
    }
    let width = head.len();
    Ok(lines.map(move |(number, line)| {
        let fields: Vec<&str> = line.split(',').collect();
        if fields.len() != width {
            let what = format!("{} columns, not {width}", fields.len());
            return Err(Problem::new(file, number + 1, what));
        }
        Ok((number + 1, at.map(|column| fields[column])))
    }))
}

fn count(name: &str, field: &str) -> Result<u32, String> {
    let number: u64 = field.parse().map_err(|error| format!("{name} {field:?}: {error}"))?;
    tokens(name, number)
}

fn tokens(name: &str, number: u64) -> Result<u32, String> {
    if number > TOKENS_MAX {
        return Err(format!("{name} {number} is more than {TOKENS_MAX}"));
    }
    Ok(number as u32)
}

/// Microseconds of `2023-11-16 18:17:03.9799600`, from some day on.
fn micros(field: &str) -> Option<u64> {
    let (date, time) = field.split_once(' ')?;
    let mut date = date.split('-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.split(':');
    let (hour, minute): (u64, u64) = (time.next()?.parse().ok()?, time.next()?.parse().ok()?);
    let second: f64 = time.next()?.parse().ok()?;
    let is_time = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (1970..=9999).contains(&year)
        && (hour < 24 && minute < 60 && (0.0..61.0).contains(&second));
    if !is_time {
        return None;
    }
    // Days by the calendar that begins its year in March, so that the leap day is its last.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    let minutes = (days * 24 + hour) * 60 + minute;
    Some(minutes * 60_000_000 + (second * 1e6).round() as u64)
}
