//! ServeGen's clients (arXiv 2505.09999): each a tenant with its own rate, burstiness and lengths,
//! which change over the day.

use super::trace::rows;
use super::{Arrival, Arrivals, Options, Problem, draw, text};
use mainstay_core::rng::Rng;
use std::collections::BTreeMap;
use std::time::Duration;

/// A rate holds for this long, in seconds,
const WINDOW: u64 = 600;
/// and lengths for this long.
const LENGTHS_WINDOW: u64 = 21_600;
/// More requests a second of one client than any has.
const RATE_MAX: f64 = 1e5;
/// No trace is longer than a year.
const START_MAX: f64 = 366.0 * 24.0 * 3600.0;
/// More requests in a window than there is memory to sort.
const WINDOW_MAX: f64 = 2e7;
/// A gap of the smallest shapes may be beyond numbers; its window is then one burst all the same.
const GAP_MAX: f64 = 1e200;
/// Where the quantiles of lengths stand.
const PROBABILITIES: [f64; 34] = [
    0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40, 0.45, 0.50,
    0.55, 0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.985,
    0.99, 0.995, 0.999, 1.0,
];

/// One client in one window.
#[derive(Clone, Copy, Debug)]
struct Rate {
    client: u32,
    rate: f64,
    is_gamma: bool,
    shape: f64,
}

/// Quantiles of one client's lengths.
#[derive(Clone, Debug, serde::Deserialize)]
struct Lengths {
    client: u32,
    start_s: u64,
    input_tokens: Vec<f64>,
    output_tokens: Vec<f64>,
}

type Windows = BTreeMap<u64, Vec<Rate>>;

/// The requests of all clients of `model`, `options.speed` times as many as there were.
pub fn arrivals(model: &str, options: &Options) -> Result<Arrivals, Problem> {
    let windows = read_rates(model, options)?;
    let lengths = read_lengths(model, options)?;
    let sum = |rates: &Vec<Rate>| rates.iter().map(|rate| rate.rate).sum::<f64>();
    let most = windows.values().map(sum).fold(0.0, f64::max) * WINDOW as f64 * options.speed;
    if most > WINDOW_MAX {
        let what = format!("{most:.0} requests in a window: choose a lower speed");
        return Err(Problem::new(model, 0, what));
    }
    let mut weights: BTreeMap<u32, f64> = BTreeMap::new();
    for rate in windows.values().flatten() {
        *weights.entry(rate.client).or_default() += rate.rate;
    }
    let known = lengths.keys().map(|(client, _)| *client);
    let mut mix: Vec<(u32, f64)> =
        known.map(|client| (client, weights.get(&client).copied().unwrap_or(0.0))).collect();
    mix.dedup_by_key(|(client, _)| *client);
    let mut rng = Rng::new(options.seed);
    let speed = options.speed;
    Ok(Box::new(windows.into_iter().flat_map(move |(start, rates)| {
        let mut window = Vec::new();
        for rate in rates {
            for at in times(&mut rng, &rate, speed) {
                let (prompt, output) = length(&mut rng, (rate.client, start), &lengths, &mix);
                let at = Duration::from_secs_f64(start as f64 + at);
                let (tenant, session) = (rate.client, rng.bits());
                window.push(Arrival { at, tenant, session, prompt, cached: 0, output });
            }
        }
        window.sort_by_key(|arrival: &Arrival| arrival.at);
        window
    })))
}

/// Requests a second of all clients of `model` together, by the start of each window.
///
/// # Errors
/// As `open`.
pub fn aggregate(model: &str, options: &Options) -> Result<Vec<(Duration, f64)>, Problem> {
    let sum = |rates: Vec<Rate>| rates.iter().map(|rate| rate.rate).sum();
    let windows = read_rates(model, options)?.into_iter();
    Ok(windows.map(|(start, rates)| (Duration::from_secs(start), sum(rates))).collect())
}

/// Moments in a window that holds rate × length requests, with gaps of the client's distribution.
fn times(rng: &mut Rng, rate: &Rate, speed: f64) -> Vec<f64> {
    let wanted = rate.rate * speed * WINDOW as f64;
    let count = wanted as u64 + u64::from(rng.unit() < wanted.fract());
    let mut draw = || {
        let gap = match rate.is_gamma {
            true => draw::gamma(rng, rate.shape),
            false => draw::weibull(rng, rate.shape),
        };
        gap.min(GAP_MAX)
    };
    let mut at = 0.0;
    let mut moments: Vec<f64> = (0..count)
        .map(|_| {
            at += draw();
            at
        })
        .collect();
    let all = at + draw();
    // Shapes near nothing can give gaps that are all nothing.
    let scale = if all > 0.0 { WINDOW as f64 / all } else { 0.0 };
    moments.iter_mut().for_each(|at| *at *= scale);
    moments
}

fn length(
    rng: &mut Rng,
    (client, start): (u32, u64),
    lengths: &BTreeMap<(u32, u64), Lengths>,
    mix: &[(u32, f64)],
) -> (u32, u32) {
    let window = start / LENGTHS_WINDOW * LENGTHS_WINDOW;
    // A window without lengths takes the client's last one before it, or its first.
    let of = |client: u32| {
        let before = lengths.range((client, 0)..=(client, window)).next_back();
        before.or_else(|| lengths.range((client, window)..=(client, u64::MAX)).next())
    };
    let found = of(client).or_else(|| {
        let all: f64 = mix.iter().map(|(_, weight)| weight).sum();
        let mut point = rng.unit() * all;
        let drawn = mix.iter().find(|(_, weight)| {
            point -= weight;
            point < 0.0
        });
        of(drawn.or(mix.last())?.0)
    });
    let Some((_, found)) = found else { return (1, 1) };
    (quantile(rng.unit(), &found.input_tokens), quantile(rng.unit(), &found.output_tokens))
}

fn quantile(point: f64, values: &[f64]) -> u32 {
    let above = PROBABILITIES.partition_point(|p| *p <= point).clamp(1, values.len() - 1);
    let (low, high) = (PROBABILITIES[above - 1], PROBABILITIES[above]);
    let part = (point - low) / (high - low);
    (values[above - 1] + part * (values[above] - values[above - 1])).round().max(1.0) as u32
}

fn read_rates(model: &str, options: &Options) -> Result<Windows, Problem> {
    let file = format!("servegen/{model}_rates.csv.zst");
    let text = text(&options.source, &file)?;
    let mut windows = Windows::new();
    for row in rows(&file, &text, ["client", "start_s", "rate_rps", "pattern", "p1"])? {
        let (line, [client, start, rate, pattern, shape]) = row?;
        let wrong = |name: &str, field: &str| {
            Problem::new(&file, line, format!("{name} {field:?} is out of bounds"))
        };
        let client = client.parse().map_err(|_| wrong("client", client))?;
        // Large ones are written like 1.0014e+06.
        let seconds = start.parse().ok().filter(|start| (0.0..=START_MAX).contains(start));
        let start = seconds.ok_or_else(|| wrong("start_s", start))? as u64;
        let number = |name: &str, field: &str, most: f64| {
            let number: f64 = field.parse().map_err(|_| wrong(name, field))?;
            if number > 0.0 && number <= most { Ok(number) } else { Err(wrong(name, field)) }
        };
        let (rate, shape) = (number("rate_rps", rate, RATE_MAX)?, number("p1", shape, 1e9)?);
        let is_gamma = match pattern {
            "Gamma" => true,
            "Weibull" => false,
            other => return Err(wrong("pattern", other)),
        };
        windows.entry(start).or_default().push(Rate { client, rate, is_gamma, shape });
    }
    if windows.is_empty() {
        return Err(Problem::new(&file, 0, "holds no client"));
    }
    Ok(windows)
}

fn read_lengths(model: &str, options: &Options) -> Result<BTreeMap<(u32, u64), Lengths>, Problem> {
    let file = format!("servegen/{model}_lengths.jsonl.zst");
    let text = text(&options.source, &file)?;
    let mut all = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let wrong = |what: String| Problem::new(&file, number + 1, what);
        let lengths: Lengths = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
        for values in [&lengths.input_tokens, &lengths.output_tokens] {
            let is_right = values.len() == PROBABILITIES.len()
                && values.is_sorted()
                && values.iter().all(|value| (0.0..=1e8).contains(value));
            if !is_right {
                return Err(wrong(format!("not {} rising lengths", PROBABILITIES.len())));
            }
        }
        all.insert((lengths.client, lengths.start_s), lengths);
    }
    if all.is_empty() {
        return Err(Problem::new(&file, 0, "holds no lengths"));
    }
    Ok(all)
}
