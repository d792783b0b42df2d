//! Random cuts on real sockets: closes, resets, stalls, broken JSON and error events at a byte
//! drawn from a seed. Every answer is whole or an explicit error; no token is lost, none comes
//! twice. `MAINSTAY_CUTS` sets how many (default 300); a failure names its seed.

use std::sync::Arc;
use std::time::Instant;

use crate::bed::client::{Ask, Mode, Reply};
use crate::bed::{Bed, Layout, Place};
use mainstay::faults::answer_text;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Requests at once.
const AT_ONCE: usize = 50;
/// Cuts before one gateway. Each has a model of its own, because a site that breaks every answer
/// would soon not be asked any more.
const PER_BED: usize = 1000;

/// How the answer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Both sites continue a partial answer.
    Native,
    /// Neither does; both say the same again.
    Regenerate,
    /// Both are declared able, and the second refuses.
    RefusesPrefill,
}

/// What became of the answers.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    whole: usize,
    resumed: f64,
    errors: usize,
}

fn cuts_wanted() -> usize {
    let set = std::env::var("MAINSTAY_CUTS").ok();
    set.map_or(300, |text| text.parse().expect("MAINSTAY_CUTS is a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cut_answer_is_whole_or_an_explicit_error() {
    let wanted = cuts_wanted();
    let started = Instant::now();
    let mut sum = Tally::default();
    for (way, share) in [(Way::Native, 0), (Way::Regenerate, 1), (Way::RefusesPrefill, 2)] {
        let count = (wanted + share) / 3;
        let mut tally = Tally::default();
        for first in (0..count).step_by(PER_BED) {
            let seeds = first..count.min(first + PER_BED);
            let more = cut(way, seeds).await;
            tally.whole += more.whole;
            tally.resumed += more.resumed;
            tally.errors += more.errors;
        }
        println!("{way:?}: {count} cuts, {tally:?}");
        sum.whole += tally.whole;
        sum.resumed += tally.resumed;
        sum.errors += tally.errors;
    }
    println!("{wanted} cuts in {:?}: {sum:?}, none lost or doubled a token", started.elapsed());
    assert!(sum.whole * 100 >= wanted * 99, "{sum:?} of {wanted}: 99 % must be whole");
}

/// Cuts one answer for each seed, `AT_ONCE` at a time.
async fn cut(way: Way, seeds: std::ops::Range<usize>) -> Tally {
    let bed = Bed::start(&layout(way, seeds.clone())).await;
    let base: Arc<str> = format!("{}/v1", bed.gateway.api).into();
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut asked = JoinSet::new();
    for seed in seeds {
        let room = Arc::clone(&room).acquire_owned().await.expect("never closed");
        let base = Arc::clone(&base);
        asked.spawn(async move {
            let mode = if seed % 4 == 3 { Mode::Plain } else { Mode::Stream };
            let prompt = format!("{way:?}, seed {seed}");
            let ask = Ask::chat(&format!("cut-{seed}"), &prompt).mode(mode);
            let reply = ask.send(&base).await;
            drop(room);
            (seed, prompt, reply)
        });
    }
    let mut tally = Tally::default();
    while let Some(done) = asked.join_next().await {
        let (seed, prompt, reply) = done.expect("no panic");
        let name = format!("{way:?}, seed {seed}");
        if is_whole(&reply, &prompt, &name) {
            tally.whole += 1;
        } else {
            tally.errors += 1;
            println!("{name}: {}", reply.error());
        }
    }
    tally.resumed = bed.gateway.metric("mainstay_stream_resumes_total", &[]).await;
    bed.is_well().await;
    tally
}

/// Whether the answer is whole; if not, it must be a true beginning and an explicit error.
#[track_caller]
fn is_whole(reply: &Reply, prompt: &str, name: &str) -> bool {
    let truth = answer_text(prompt).concat();
    if reply.finish().is_some() {
        assert_eq!(reply.text(), truth, "{name}");
        assert_eq!(reply.finish().as_deref(), Some("stop"), "{name}");
        assert!(reply.terminated, "{name}");
        assert_eq!(reply.error(), Value::Null, "{name}");
        assert_eq!(reply.usage()["completion_tokens"], 60, "{name}");
        return true;
    }
    assert!(truth.starts_with(&reply.text()), "{name}: {:?}", reply.text());
    assert!(reply.error().is_object(), "{name}: neither whole nor an error: {reply:?}");
    assert!(reply.status >= 500 || !reply.terminated, "{name}");
    false
}

/// A model for each seed; a tenth has only a substitute, the others an equal.
fn layout(way: Way, seeds: std::ops::Range<usize>) -> Layout {
    let (suffix, second) = match way {
        Way::Native => ("+native", "ok-native"),
        Way::Regenerate => ("", "ok"),
        Way::RefusesPrefill => ("+noprefill", "ok-noprefill"),
    };
    let able = way != Way::Regenerate;
    let fact = |name: &str| format!("{{ name = \"{name}\", continue = {able} }}");
    let firsts: Vec<String> = seeds.clone().map(|seed| format!("seeded-{seed}{suffix}")).collect();
    let facts: Vec<String> = firsts.iter().map(|name| fact(name)).collect();
    let models: String = seeds
        .zip(&firsts)
        .map(|(seed, first)| {
            let (first, second) =
                (format!("\"primary/{first}\""), format!("\"fallback/{second}\""));
            let rest = match seed % 10 {
                9 => format!("served_by = [{first}]\nsubstitutes = [{second}]"),
                _ => format!("served_by = [{first}, {second}]"),
            };
            format!("[[model]]\nname = \"cut-{seed}\"\n{rest}\n\n")
        })
        .collect();
    Layout::new(Place::Alone, "ok", "ok")
        .site_line("primary", &format!("models = [{}]", facts.join(", ")))
        .site_line("fallback", &format!("models = [{}]", fact(second)))
        .more(&models)
}
