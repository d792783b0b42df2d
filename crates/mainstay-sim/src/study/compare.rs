//! All policies on one trace, with the same seeds: what each carries, and how it stands at each
//! speed.

use super::tally::{Summary, Weight};
use super::{Setup, capacity, play, setup};
use crate::workload::Chained;
use serde::Serialize;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is compared.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Names of policies, as in `POLICIES`.
    pub policies: Vec<&'static str>,
    /// Workers.
    pub workers: u16,
    /// How many seeds, from 1 on.
    pub seeds: u64,
    /// How many times as fast as the trace, for the points.
    pub speeds: Vec<f64>,
    /// Runs at once.
    pub threads: usize,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// The trace,
    pub trace: String,
    /// its requests,
    pub requests: usize,
    /// on so many workers,
    pub workers: u16,
    /// with so many seeds.
    pub seeds: u64,
    /// In the order asked for.
    pub policies: Vec<Row>,
}

/// One policy.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub policy: &'static str,
    /// The largest speed-up of the trace at which 95 % of the requests are good, with the worst of
    /// the seeds;
    pub cap95: f64,
    /// and of their tokens.
    pub cap95_tokens: f64,
    /// With each seed: of requests, of tokens.
    pub by_seed: Vec<(f64, f64)>,
    /// How it stands at each speed.
    pub points: Vec<Point>,
}

/// One policy at one speed, in the mean of all seeds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Point {
    /// Times as fast as the trace.
    pub speed: f64,
    /// Part of the requests that was good,
    pub good: f64,
    /// and with the worst seed,
    pub good_worst: f64,
    /// and of their tokens.
    pub good_tokens: f64,
    /// Part that was refused.
    pub refused: f64,
    /// Part of the prompts' tokens that was cached.
    pub hits: f64,
    /// Seconds to the first token: mean, median, 95th and 99th percentiles.
    pub ttft_mean: f64,
    /// See `ttft_mean`.
    pub ttft_p50: f64,
    /// See `ttft_mean`.
    pub ttft_p95: f64,
    /// See `ttft_mean`.
    pub ttft_p99: f64,
    /// Milliseconds between tokens, in the mean.
    pub tpot_mean: f64,
}

/// One seed of one policy.
type Part = Result<(f64, f64, Vec<Summary>), String>;

/// Plays all of it; `told` hears how many parts are done, and of how many.
///
/// # Errors
/// The invariant that did not hold.
pub fn compare(
    (name, trace): (&str, &[Chained]),
    plan: &Plan,
    told: &(dyn Fn(usize, usize) + Sync),
) -> Result<Compared, String> {
    let of =
        |policy: &&'static str| (1..=plan.seeds).map(|seed| (*policy, seed)).collect::<Vec<_>>();
    let jobs: Vec<(&'static str, u64)> = plan.policies.iter().flat_map(of).collect();
    let parts: Mutex<Vec<Option<Part>>> = Mutex::new(vec![None; jobs.len()]);
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some((policy, seed)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let at = jobs.iter().position(|job| job == &(*policy, *seed));
            let found = part(trace, plan, (policy, *seed));
            let mut parts = parts.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            parts[at.unwrap_or(0)] = Some(found);
            told(done.fetch_add(1, Ordering::Relaxed) + 1, jobs.len());
        }
    };
    std::thread::scope(|scope| {
        (1..plan.threads.clamp(1, jobs.len().max(1))).for_each(|_| {
            scope.spawn(work);
        });
        work();
    });
    let parts = parts.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut parts = parts.into_iter().flatten();
    let mut policies = Vec::new();
    for policy in &plan.policies {
        let seeds: Result<Vec<_>, String> = parts.by_ref().take(plan.seeds as usize).collect();
        policies.push(row(policy, plan, &seeds?));
    }
    let (workers, seeds) = (plan.workers, plan.seeds);
    Ok(Compared { trace: name.to_string(), requests: trace.len(), workers, seeds, policies })
}

fn part(trace: &[Chained], plan: &Plan, (policy, seed): (&str, u64)) -> Part {
    let setup = setup(policy, plan.workers).ok_or_else(|| format!("no policy {policy}"))?;
    let setup = Setup { seed, ..setup };
    let carried = capacity(trace, &setup, Weight::Requests)?;
    let carried_tokens = capacity(trace, &setup, Weight::Tokens)?;
    let at = |speed: &f64| {
        let setup = Setup { speed: *speed, ..setup.clone() };
        play(trace, &setup).map(|tally| tally.summary())
    };
    Ok((carried, carried_tokens, plan.speeds.iter().map(at).collect::<Result<_, _>>()?))
}

fn row(policy: &'static str, plan: &Plan, seeds: &[(f64, f64, Vec<Summary>)]) -> Row {
    let least =
        |of: fn(&(f64, f64, Vec<Summary>)) -> f64| seeds.iter().map(of).fold(f64::MAX, f64::min);
    let point = |(at, speed): (usize, &f64)| {
        let all: Vec<&Summary> = seeds.iter().filter_map(|seed| seed.2.get(at)).collect();
        let mean = |of: fn(&Summary) -> f64| {
            all.iter().map(|one| of(one)).sum::<f64>() / all.len().max(1) as f64
        };
        Point {
            speed: *speed,
            good: mean(|one| one.good),
            good_worst: all.iter().map(|one| one.good).fold(1.0, f64::min),
            good_tokens: mean(|one| one.good_tokens),
            refused: mean(|one| one.refused),
            hits: mean(|one| one.hits),
            ttft_mean: mean(|one| one.ttft_mean),
            ttft_p50: mean(|one| one.ttft_p50),
            ttft_p95: mean(|one| one.ttft_p95),
            ttft_p99: mean(|one| one.ttft_p99),
            tpot_mean: mean(|one| one.tpot_mean),
        }
    };
    Row {
        policy,
        cap95: least(|seed| seed.0),
        cap95_tokens: least(|seed| seed.1),
        by_seed: seeds.iter().map(|seed| (seed.0, seed.1)).collect(),
        points: plan.speeds.iter().enumerate().map(point).collect(),
    }
}

impl Compared {
    /// As a table for people: what each carries, and how it stands where the best baseline is full.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}: {} requests, {} workers, {} seed{} (the worst counts)\n\n",
            self.trace,
            self.requests,
            self.workers,
            self.seeds,
            if self.seeds == 1 { "" } else { "s" },
        );
        let _ = writeln!(text, "{:<17}{:>7}{:>8}", "policy", "CAP95", "tokens");
        for row in &self.policies {
            let _ = writeln!(text, "{:<17}{:>7.2}{:>8.2}", row.policy, row.cap95, row.cap95_tokens);
        }
        let speeds = self.policies.first().map_or(0, |row| row.points.len());
        for at in 0..speeds {
            let speed = self.policies[0].points[at].speed;
            let _ = writeln!(
                text,
                "\n{:<17}{:>7}{:>8}{:>9}{:>7}{:>8}{:>8}{:>8}{:>9}",
                format!("{speed} times as fast"),
                "good",
                "tokens",
                "refused",
                "hits",
                "p50 s",
                "p95 s",
                "p99 s",
                "TPOT ms"
            );
            for row in &self.policies {
                let Point { good, good_tokens, refused, hits, .. } = row.points[at];
                let Point { ttft_p50, ttft_p95, ttft_p99, tpot_mean, .. } = row.points[at];
                let _ = writeln!(
                    text,
                    "{:<17}{good:>7.3}{good_tokens:>8.3}{refused:>9.3}{hits:>7.3}{ttft_p50:>8.2}\
                     {ttft_p95:>8.2}{ttft_p99:>8.2}{tpot_mean:>9.0}",
                    row.policy
                );
            }
        }
        text.push_str(
            "\nCAP95: the largest speed-up of the trace at which 95 % of the requests (of their \
             tokens) are good:\nanswered whole, the first token within 2 s and three times the \
             prefill of an idle worker,\nthe others 150 ms apart in the mean.\n",
        );
        text
    }
}
