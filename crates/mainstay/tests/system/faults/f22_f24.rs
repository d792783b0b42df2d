//! F22 to F24 through the real gateway on real sockets: a throttle in billing's words, real bills,
//! and a key that is refused.

use std::time::{Duration, Instant};

use crate::bed::client::{Ask, Mode, Reply};
use crate::bed::rows::{ELSEWHERE, PROMPT, lines, load};
use crate::bed::{
    Bed, FALLBACK, Layout, PRIMARY, Place, SLACK, normal, ours, refused, theirs, whole, within,
};
use mainstay::faults::Attempt;
use serde_json::json;

const MILLIS: fn(u64) -> Duration = Duration::from_millis;

fn at(attempt: &Attempt) -> Duration {
    MILLIS(attempt.at_ms)
}

/// Asserts how often the operator was told that a site is parked.
async fn alarms(bed: &Bed, class: &str, expected: usize) {
    said(bed, &["\"level\":\"WARN\"", "\"fact\":\"parked\"", class], expected).await;
}

/// Asserts how many lines of the log hold all of `words`.
async fn said(bed: &Bed, words: &[&str], expected: usize) {
    let limit = Instant::now() + Duration::from_secs(1);
    while lines(bed, words).len() < expected && Instant::now() < limit {
        // waits for: the log, which is written by another thread
        tokio::time::sleep(MILLIS(10)).await;
    }
    assert_eq!(lines(bed, words).len(), expected, "{words:?}");
}

/// Asks and asserts the whole answer, at most so much late.
async fn answered(bed: &Bed, mode: Mode, added: Duration) -> Reply {
    let reply = bed.ask(mode, PROMPT).await;
    whole(&reply, PROMPT);
    within(&reply, normal() + added);
    reply
}

async fn quota_that_is_a_throttle(place: Place) {
    let layout = Layout::new(place, "f22", "ok").speaking("primary", "dashscope");
    // A fifth of a second to a first token is less than a busy machine sometimes needs.
    let layout = layout.limit("first_token = [\"1s\", \"60s\"]");
    let bed = Bed::start(&layout).await;
    let clears = theirs(60.0, 12.0);
    let back = clears + ours(16.0);
    let lasting = back + ours(4.0);
    let ask = |n: usize| {
        let ask = Ask::chat("chat", PROMPT);
        if n.is_multiple_of(2) { ask.stream() } else { ask }
    };
    let shots = load(&bed, (4.0, lasting), ask).await;
    for shot in &shots {
        whole(&shot.reply, PROMPT);
    }
    // On a busy machine one answer of a hundred may be slow by itself.
    let late = shots.iter().filter(|shot| shot.reply.took > normal() + MILLIS(100) + SLACK).count();
    assert!(late * 100 <= shots.len(), "{late} of {} late", shots.len());
    let primary = bed.primary().await;
    let before = primary.iter().filter(|attempt| at(attempt) < clears).count();
    assert!((1..=6).contains(&before), "{primary:#?}");
    let first = primary.iter().find(|attempt| attempt.ended == Some("served")).expect("it is back");
    assert!(at(first) <= back + SLACK, "{first:#?}");
    alarms(&bed, "our_billing", 0).await;
    let failed = "primary: its reply or connection said so (throttle_account)";
    assert_eq!(bed.story(&shots[0].reply).await, [failed, "fallback: whole"]);
    bed.is_well().await;
}

#[tokio::test]
async fn f22_a_quota_that_clears_within_a_minute_is_a_throttle() {
    tokio::join!(
        quota_that_is_a_throttle(Place::Equal),
        quota_that_is_a_throttle(Place::Substitute)
    );
}

/// Time between two probes in the tests that wait for one: several answers long.
fn probe() -> Duration {
    theirs(8.0, 2.0)
}

/// The line of `[limits]` that makes `key` so many times `probe()`.
fn probing(key: &str, times: u32) -> String {
    format!("{key} = \"{}ms\"", (probe() * times).as_millis())
}

/// The six ways in which a provider says that it wants to be paid.
const BILLS: [(&str, &str); 6] = [
    ("f23a", "deepseek"),
    ("f23b", "qianfan"),
    ("f23c", "openai"),
    ("f23d", "moonshot"),
    ("f23e", "dashscope"),
    ("f23f", "anthropic"),
];

#[tokio::test]
async fn f23_an_account_that_cannot_pay_is_asked_once_and_the_operator_told_once() {
    let failed = "primary: its reply or connection said so (our_billing)";
    for (fault, provider) in BILLS {
        for place in ELSEWHERE {
            let layout = Layout::new(place, fault, "ok").speaking("primary", provider);
            let bed = Bed::start(&layout).await;
            let first = answered(&bed, Mode::Stream, MILLIS(100)).await;
            assert_eq!(bed.story(&first).await, [failed, "fallback: whole"], "{fault}");
            for mode in [Mode::Plain, Mode::Stream, Mode::Plain] {
                let later = answered(&bed, mode, Duration::ZERO).await;
                assert_eq!(bed.story(&later).await, ["fallback: whole"], "{fault}");
            }
            bed.saw(1, 4);
            alarms(&bed, "our_billing", 1).await;
        }
        let layout = Layout::new(Place::Alone, fault, "ok").speaking("primary", provider);
        let bed = Bed::start(&layout).await;
        for mode in [Mode::Plain, Mode::Stream] {
            let reply = bed.ask(mode, PROMPT).await;
            refused(&reply, 503, "no_site");
            within(&reply, MILLIS(100));
        }
        bed.saw(1, 0);
        alarms(&bed, "our_billing", 1).await;
    }
}

#[tokio::test]
async fn f23_an_account_that_cannot_pay_is_probed_and_comes_back() {
    for place in ELSEWHERE {
        let layout = Layout::new(place, "f23a@1", "ok").limit(&probing("probe_billing", 1));
        let bed = Bed::start(&layout).await;
        for _ in 0..3 {
            answered(&bed, Mode::Plain, MILLIS(100)).await;
        }
        bed.saw(1, 3);
        // waits for: the time between two probes to pass
        tokio::time::sleep(probe()).await;
        let probe = answered(&bed, Mode::Plain, MILLIS(100)).await;
        assert_eq!(bed.story(&probe).await, ["primary: whole"]);
        alarms(&bed, "our_billing", 1).await;
        said(&bed, &["\"fact\":\"unparked\""], 1).await;
        bed.is_well().await;
    }
}

async fn key_revoked(place: Place) {
    let layout = Layout::new(place, "f24", "ok").limit(&probing("probe_auth", 1));
    let bed = Bed::start(&layout).await;
    let short = |_| Ask::chat("chat", PROMPT).with("max_tokens", json!(4));
    for shot in load(&bed, (20.0, Duration::from_secs(1)), short).await {
        assert_eq!(shot.reply.header("x-mainstay-site"), Some("primary"));
    }
    // Slow enough to be under way when the key goes.
    bed.faults.set(PRIMARY, "token_ms", "40");
    let api = format!("{}/v1", bed.gateway.api);
    let running: Vec<_> = (0..3)
        .map(|_| {
            let api = api.clone();
            tokio::spawn(async move { Ask::chat("chat", PROMPT).stream().send(&api).await })
        })
        .collect();
    // waits for: the three streams to be under way
    tokio::time::sleep(MILLIS(500)).await;
    bed.faults.set(PRIMARY, "key", "revoked");
    let first = answered(&bed, Mode::Stream, MILLIS(100)).await;
    let failed = "primary: its reply or connection said so (our_auth)";
    assert_eq!(bed.story(&first).await, [failed, "fallback: whole"]);
    for mode in [Mode::Plain, Mode::Stream, Mode::Plain] {
        let later = answered(&bed, mode, Duration::ZERO).await;
        assert_eq!(bed.story(&later).await, ["fallback: whole"]);
    }
    let refusals =
        |log: Vec<Attempt>| log.iter().filter(|attempt| attempt.ended == Some("fault")).count();
    assert_eq!(refusals(bed.faults.log(PRIMARY)), 1);
    for task in running {
        let reply = task.await.expect("no panic");
        whole(&reply, PROMPT);
        assert_eq!(reply.header("x-mainstay-site"), Some("primary"), "streams run to their end");
    }
    // waits for: the time between two probes to pass
    tokio::time::sleep(probe()).await;
    answered(&bed, Mode::Plain, MILLIS(100)).await;
    answered(&bed, Mode::Plain, MILLIS(100)).await;
    assert_eq!(refusals(bed.faults.log(PRIMARY)), 2, "one probe");
    alarms(&bed, "our_auth", 1).await;
    bed.faults.set(PRIMARY, "key", "ok");
    bed.faults.set(PRIMARY, "token_ms", "5");
    // waits for: the time between two probes to pass
    tokio::time::sleep(probe()).await;
    let back = answered(&bed, Mode::Plain, MILLIS(500)).await;
    assert_eq!(bed.story(&back).await, ["primary: whole"]);
    bed.is_well().await;
}

#[tokio::test]
async fn f24_a_revoked_key_is_asked_once_and_running_streams_finish() {
    tokio::join!(key_revoked(Place::Equal), key_revoked(Place::Substitute));
}

#[tokio::test]
async fn f24_a_thousand_good_answers_do_not_make_a_401_the_clients() {
    let bed = Bed::start(&Layout::new(Place::Equal, "f24", "ok")).await;
    bed.faults.set(PRIMARY, "good_answers", "20");
    let short = |_| Ask::chat("chat", PROMPT).with("max_tokens", json!(4));
    for shot in load(&bed, (20.0, Duration::from_secs(3)), short).await {
        assert_eq!((shot.reply.status, shot.reply.finish().as_deref()), (200, Some("length")));
    }
    let primary = bed.primary().await;
    let served = primary.iter().filter(|attempt| attempt.ended == Some("served")).count();
    // What was on its way when the key went may be refused too.
    assert!(served >= 20 && primary.len() - served <= 3, "{served} of {}", primary.len());
    alarms(&bed, "our_auth", 1).await;
    // Alone there is nowhere to go, and it is still not the caller's key that is wrong.
    let bed = Bed::start(&Layout::new(Place::Alone, "f24", "ok")).await;
    bed.faults.set(PRIMARY, "key", "revoked");
    for mode in [Mode::Plain, Mode::Stream] {
        refused(&bed.ask(mode, PROMPT).await, 503, "no_site");
    }
    bed.saw(1, 0);
}

#[tokio::test]
async fn f24_where_a_401_is_not_believed_at_once_two_are_seen_and_no_third() {
    let layout = Layout::new(Place::Equal, "f24", "ok").speaking("primary", "openrouter");
    let bed = Bed::start(&layout.limit(&probing("probe_auth", 2))).await;
    bed.faults.set(PRIMARY, "key", "revoked");
    for _ in 0..3 {
        answered(&bed, Mode::Plain, MILLIS(100)).await;
    }
    bed.saw(1, 3);
    alarms(&bed, "our_auth", 0).await;
    // waits for: half of the time between probes, after which a second refusal counts
    tokio::time::sleep(probe()).await;
    for _ in 0..3 {
        answered(&bed, Mode::Plain, MILLIS(100)).await;
    }
    assert_eq!((bed.primary().await.len(), bed.attempts(FALLBACK).await.len()), (2, 6));
    alarms(&bed, "our_auth", 1).await;
}
