//! F52: two equals that brown out together.

use crate::PROCESSORS;
use crate::bed::client::{Ask, Reply};
use crate::bed::{Bed, FALLBACK, Layout, PRIMARY, Place, SLACK, millis, refused};
use std::time::{Duration, Instant};

const PROMPT: &str = "What does the tide bring? 潮水带来什么?";

/// How long both upstreams took for an answer of the brown-out, on average.
fn usual(bed: &Bed) -> Duration {
    let logs = [PRIMARY, FALLBACK].map(|scope| bed.faults.log(scope)).concat();
    let served = logs.iter().filter(|attempt| attempt.ended == Some("served"));
    let late: Vec<u64> = served.rev().take(150).filter_map(|a| a.ended_after_ms).collect();
    Duration::from_millis(late.iter().sum::<u64>() / late.len() as u64)
}

async fn all_attempts(bed: &Bed) -> f64 {
    bed.gateway.metric("mainstay_upstream_attempts_total", &[]).await
}

/// Keys of three tiers, with the share of a second's requests that each sends.
const TIERS: [(&str, usize); 3] = [("enterprise", 8), ("pro", 12), ("free", 10)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f52_two_equals_that_brown_out_serve_the_top_tier_first_and_all_they_can() {
    let _processors = PROCESSORS.read().await;
    let keys = TIERS.map(|(tier, _)| {
        let hash = mainstay::faults::answer::sha256_hex(tier);
        format!("[[key]]\nname = \"{tier}\"\ntier = \"{tier}\"\nhash = \"{hash}\"\n")
    });
    let bed = Bed::start(&Layout::new(Place::Equal, "f50", "ok").more(&keys.concat())).await;
    for scope in [PRIMARY, FALLBACK] {
        bed.faults.set(scope, "concurrent", "30");
        bed.faults.set(scope, "first_token_ms", "50");
        bed.faults.set(scope, "token_ms", "20");
    }
    offer(&bed, Duration::from_secs(4)).await;
    let before = all_attempts(&bed).await;
    for scope in [PRIMARY, FALLBACK] {
        bed.faults.set(scope, "concurrent", "12");
        bed.faults.set(scope, "first_token_factor", "5");
    }
    // Gets used to it for eight seconds, counted for fifteen.
    let early = offer(&bed, Duration::from_secs(8)).await;
    let late = offer(&bed, Duration::from_secs(15)).await;
    let attempts = all_attempts(&bed).await - before;
    let asked = early.len() + late.len();
    let served = |tier: &str| late.iter().filter(|(t, r)| *t == tier && r.status == 200).count();
    let of = |tier: &str| late.iter().filter(|(t, _)| *t == tier).count();
    let all: usize = TIERS.iter().map(|(tier, _)| served(tier)).sum();
    let able = 2.0 * 12.0 / usual(&bed).as_secs_f64() * 15.0;
    let mut refusals: Vec<Duration> =
        late.iter().filter(|(_, r)| r.status != 200).map(|(_, r)| r.took).collect();
    refusals.sort_unstable();
    println!(
        "served {all} of {asked}, able {able:.0}; {:?}; {:.3} attempts each; refused within {:?}",
        TIERS.map(|(tier, _)| (tier, served(tier), of(tier))),
        attempts / asked as f64,
        refusals.get(refusals.len() * 95 / 100),
    );
    for (tier, reply) in late.iter().filter(|(_, r)| r.status != 200) {
        refused(reply, 503, "overloaded");
        // Only the highest tier may wait for room, half a second.
        let wait = if *tier == "enterprise" { 500 } else { 100 };
        assert!(reply.took <= millis(wait) + SLACK, "{tier} waited {:?}", reply.took);
    }
    assert!(all as f64 >= 0.9 * able, "{all} served of {able:.0}");
    assert!(refusals.get(refusals.len() * 95 / 100).is_none_or(|took| *took <= millis(100)));
    // Two sites that both reach for more in the same millisecond refuse one of it now and then.
    assert!(served("enterprise") * 100 >= of("enterprise") * 95, "the top tier comes first");
    assert!(served("pro") * of("free") >= served("free") * of("pro"), "then the next");
    assert!(attempts <= 1.1 * asked as f64, "{attempts} attempts for {asked} requests");
    let said = bed.gateway.said();
    assert!(!said.contains(" went from "), "overload is no matter of health: {said}");
}

/// Offers a steady load of all tiers for so long, and waits for the replies.
async fn offer(bed: &Bed, time: Duration) -> Vec<(&'static str, Reply)> {
    let per_second: usize = TIERS.iter().map(|(_, count)| count).sum();
    let mut order: Vec<&str> =
        TIERS.iter().flat_map(|(tier, count)| std::iter::repeat_n(*tier, *count)).collect();
    // Interleaved, so that no tier comes in bursts.
    order.sort_by_key(|tier| tier.len());
    let order: Vec<&'static str> =
        (0..per_second).map(|n| name(order[n * 17 % per_second])).collect();
    let mut beat = tokio::time::interval(Duration::from_secs(1) / per_second as u32);
    let started = Instant::now();
    let mut asked = Vec::new();
    for n in 0.. {
        beat.tick().await;
        if started.elapsed() >= time {
            break;
        }
        let tier = order[n % per_second];
        let ask = Ask::chat("chat", &format!("{PROMPT} {n}")).stream();
        asked.push((tier, bed.ask_soon(ask.header("authorization", &format!("Bearer {tier}")))));
    }
    let mut replies = Vec::new();
    for (tier, task) in asked {
        replies.push((tier, task.await.expect("no panic")));
    }
    replies
}

fn name(tier: &str) -> &'static str {
    TIERS.iter().find(|(name, _)| *name == tier).expect("a tier").0
}
