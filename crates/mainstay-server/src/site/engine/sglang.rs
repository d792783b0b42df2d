//! SGLang's `/v1/loads`, which is always there, and `/metrics`, which `--enable-metrics` adds.
//!
//! Names: SGLang's page "Production Metrics" and its server's `/v1/loads` (0.5). What the first
//! told is kept: it is younger than the gauges, which are written every 40 steps, and every 30
//! seconds when it is idle. Its `timestamp` is the time of the reply and not of the sample, its
//! `utilization` is always 0 and its `cache_hit_rate` is 0 while it decodes: none is read.

use super::exposition::{Samples, few, share};
use super::{Levels, Report};
use serde::Deserialize;

const RANK: [&str; 1] = ["dp_rank"];

#[derive(Deserialize)]
struct Loads {
    #[serde(default)]
    loads: Vec<Load>,
}

#[derive(Deserialize)]
struct Load {
    #[serde(default)]
    dp_rank: u32,
    num_running_reqs: Option<f64>,
    num_waiting_reqs: Option<f64>,
    num_waiting_uncached_tokens: Option<u64>,
    token_usage: Option<f64>,
    max_total_num_tokens: Option<u64>,
    max_running_requests: Option<u32>,
}

/// `/v1/loads`. With `format=prometheus`, or a server that always writes so, it is a text of
/// metrics.
pub(super) fn loads(text: &str, report: &mut Report) {
    let Ok(loads) = serde_json::from_str::<Loads>(text) else { return metrics(text, report) };
    for load in loads.loads {
        report.slots = load.max_running_requests.or(report.slots);
        report.blocks = load.max_total_num_tokens.or(report.blocks);
        // Its pool is told in tokens: as many blocks of one.
        report.block_tokens = load.max_total_num_tokens.map(|_| 1).or(report.block_tokens);
        *report.rank(load.dp_rank) = Levels {
            running: load.num_running_reqs.and_then(few),
            waiting: load.num_waiting_reqs.and_then(few),
            deferred: None,
            waiting_tokens: load.num_waiting_uncached_tokens,
            kv_use: load.token_usage.and_then(share),
        };
    }
}

pub(super) fn metrics(text: &str, report: &mut Report) {
    let samples = Samples::of(text);
    let running = ["sglang:num_running_reqs"];
    for (rank, value) in samples.levels(&running, &RANK) {
        let levels = report.rank(rank);
        levels.running = levels.running.or(few(value));
    }
    for (rank, value) in
        samples.levels(&["sglang:num_queue_reqs", "sglang:num_waiting_reqs"], &RANK)
    {
        let levels = report.rank(rank);
        levels.waiting = levels.waiting.or(few(value));
    }
    for (rank, value) in samples.levels(&["sglang:token_usage"], &RANK) {
        let levels = report.rank(rank);
        levels.kv_use = levels.kv_use.or(share(value));
    }
    pages(&samples, report);
    let any = samples.named("sglang:num_running_reqs").next();
    let model = any.and_then(|sample| sample.label("model_name")).map(String::from);
    report.model = model.or(report.model.take());
    let counter = |name: &str| samples.counter(name, &RANK);
    report.counted.prompt = counter("sglang:prompt_tokens");
    report.counted.output = counter("sglang:generation_tokens");
    report.counted.preempted = counter("sglang:num_retracted_requests");
    // Told by where it lay: all of them together.
    let cached = samples.first_of(&["sglang:cached_tokens_total", "sglang:cached_tokens"]);
    let counts = cached.iter().filter_map(|sample| super::exposition::count(sample.value()));
    report.counted.cached = (!cached.is_empty()).then(|| counts.sum());
}

/// How large its pool is: as labels in newer releases, as gauges in older ones.
fn pages(samples: &Samples<'_>, report: &mut Report) {
    let one = |name: &str| samples.named(name).next().map(|sample| sample.value());
    let info = samples.named("sglang:cache_config_info").next();
    let size = info.and_then(|info| info.number("page_size"));
    let count = info.and_then(|info| info.number("num_pages"));
    let size = size.or_else(|| one("sglang:page_size").and_then(few));
    let count = count.or_else(|| one("sglang:num_pages").and_then(super::exposition::count));
    if let (Some(size), Some(count)) = (size, count) {
        (report.block_tokens, report.blocks) = (Some(size), Some(count));
    }
}
