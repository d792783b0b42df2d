//! llama.cpp's server: `/metrics` (`--metrics`), `/slots` and `/props`.
//!
//! Names: tests/workers/fixtures/llama.cpp, recorded from the real server. Its
//! `prompt_tokens_seconds`, `predicted_tokens_seconds` and `n_busy_slots_per_decode` are averages
//! and no levels: none is read. It has no level of KV use any more; what its slots hold of their
//! contexts is the nearest to one.

use super::Report;
use super::exposition::{Samples, few, share};
use serde::Deserialize;

pub(super) fn metrics(text: &str, report: &mut Report) {
    let samples = Samples::of(text);
    let one = |name: &str| samples.named(name).next().map(|sample| sample.value());
    let running = one("llamacpp:requests_processing").and_then(few);
    let waiting = one("llamacpp:requests_deferred").and_then(few);
    // Until 2025.
    let kv_use = one("llamacpp:kv_cache_usage_ratio").and_then(share);
    if running.is_some() || waiting.is_some() || kv_use.is_some() {
        let levels = report.rank(0);
        levels.running = running.or(levels.running);
        levels.waiting = waiting.or(levels.waiting);
        levels.kv_use = kv_use.or(levels.kv_use);
    }
    report.counted.prompt = samples.counter("llamacpp:prompt_tokens", &[]);
    report.counted.output = samples.counter("llamacpp:tokens_predicted", &[]);
    report.counted.cached = samples.counter("llamacpp:prompt_tokens_cached", &[]);
}

#[derive(Deserialize)]
struct Slot {
    n_ctx: Option<u32>,
    is_processing: Option<bool>,
    /// With what was decoded behind it, in newer releases.
    n_prompt_tokens: Option<u64>,
    n_prompt_tokens_processed: Option<u64>,
    n_prompt_tokens_cache: Option<u64>,
    #[serde(default)]
    next_token: Next,
}

/// One, or a list of one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Next {
    Many(Vec<Decoded>),
    One(Decoded),
}

impl Default for Next {
    fn default() -> Next {
        Next::Many(Vec::new())
    }
}

#[derive(Deserialize)]
struct Decoded {
    n_decoded: Option<u64>,
}

/// `/slots`. With 503 it is an error and no list, and says nothing.
pub(super) fn slots(text: &str, report: &mut Report) {
    let Ok(slots) = serde_json::from_str::<Vec<Slot>>(text) else { return };
    report.slots = u32::try_from(slots.len()).ok().filter(|count| *count > 0);
    report.context = slots.iter().filter_map(|slot| slot.n_ctx).min();
    let told = slots.iter().all(|slot| slot.is_processing.is_some());
    let busy = slots.iter().filter(|slot| slot.is_processing == Some(true));
    let busy = told.then(|| busy.count() as u32).filter(|_| !slots.is_empty());
    report.slots_busy = busy;
    let held: Option<u64> = slots.iter().map(Slot::holds).sum();
    let room: Option<u64> = slots.iter().map(|slot| slot.n_ctx.map(u64::from)).sum();
    let kv_use = held.zip(room).and_then(|(held, room)| share(held as f64 / room as f64));
    let Some(busy) = busy else { return };
    let levels = report.rank(0);
    levels.running = levels.running.or(Some(busy));
    levels.kv_use = levels.kv_use.or(kv_use);
}

impl Slot {
    /// Tokens of its context in use, if it says so. What it keeps of an answer that is over is
    /// given up when the next one needs it.
    fn holds(&self) -> Option<u64> {
        if self.is_processing == Some(false) {
            return Some(0);
        }
        let next = match &self.next_token {
            Next::Many(many) => many.first(),
            Next::One(one) => Some(one),
        };
        let decoded = next.and_then(|next| next.n_decoded).unwrap_or(0);
        let read =
            self.n_prompt_tokens_processed.unwrap_or(0) + self.n_prompt_tokens_cache.unwrap_or(0);
        Some(self.n_prompt_tokens?.max(read + decoded))
    }
}

#[derive(Deserialize)]
struct Props {
    total_slots: Option<u32>,
    model_alias: Option<String>,
    is_sleeping: Option<bool>,
    default_generation_settings: Option<Defaults>,
}

#[derive(Deserialize)]
struct Defaults {
    n_ctx: Option<u32>,
}

/// `/props`.
pub(super) fn props(text: &str, report: &mut Report) {
    let Ok(props) = serde_json::from_str::<Props>(text) else { return };
    report.slots = report.slots.or(props.total_slots);
    let context = props.default_generation_settings.and_then(|defaults| defaults.n_ctx);
    report.context = report.context.or(context);
    report.is_asleep = props.is_sleeping;
    report.model = props.model_alias.filter(|name| !name.is_empty());
}
