//! vLLM's `/metrics`.
//!
//! Names: vLLM's page "Production Metrics" (v0.5 to v0.32). Ranks of data parallelism are told
//! apart by the label `engine`.

use super::Report;
use super::exposition::{Samples, few, share};

const RANK: [&str; 1] = ["engine"];

pub(super) fn metrics(text: &str, report: &mut Report) {
    let samples = Samples::of(text);
    for (rank, value) in samples.levels(&["vllm:num_requests_running"], &RANK) {
        report.rank(rank).running = few(value);
    }
    waiting(&samples, report);
    // The second is its name before v0.10. It counts blocks that are cached and unused as free.
    let kv = ["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"];
    for (rank, value) in samples.levels(&kv, &RANK) {
        report.rank(rank).kv_use = share(value);
    }
    for sample in samples.named("vllm:cache_config_info") {
        report.block_tokens = sample.number("block_size").or(report.block_tokens);
        report.blocks = sample.number("num_gpu_blocks").or(report.blocks);
    }
    let is_awake =
        |sample: &&_| super::exposition::Sample::label(sample, "sleep_state") == Some("awake");
    let awake = samples.named("vllm:engine_sleep_state").filter(is_awake);
    // Whoever has ranks asleep is not to be counted on.
    report.is_asleep = awake.map(|sample| sample.value() == 0.0).reduce(|a, b| a || b);
    let any = samples.named("vllm:num_requests_running").next();
    report.model = any.and_then(|sample| sample.label("model_name")).map(String::from);
    let counter = |name: &str| samples.counter(name, &RANK);
    report.counted.prompt = counter("vllm:prompt_tokens");
    report.counted.output = counter("vllm:generation_tokens");
    report.counted.preempted = counter("vllm:num_preemptions");
    report.counted.looked_up = counter("vllm:prefix_cache_queries");
    report.counted.cached = counter("vllm:prefix_cache_hits");
}

/// By reason where it says so: those that are deferred wait by design, and not for room.
fn waiting(samples: &Samples<'_>, report: &mut Report) {
    for (rank, value) in samples.levels(&["vllm:num_requests_waiting"], &RANK) {
        report.rank(rank).waiting = few(value);
    }
    for sample in samples.named("vllm:num_requests_waiting_by_reason") {
        let levels = report.rank(sample.rank(&RANK));
        match sample.label("reason") {
            Some("capacity") => levels.waiting = few(sample.value()),
            Some("deferred") => levels.deferred = few(sample.value()),
            Some(_) | None => {}
        }
    }
}
