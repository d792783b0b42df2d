//! F25 to F28 through the real gateway on real sockets: limits under load, dates that cannot be
//! meant, growth that is refused, and an answer that drips.

use std::time::Duration;

use crate::bed::client::{Ask, Mode, Reply};
use crate::bed::rows::{Case, ELSEWHERE, PROMPT, STREAMED, Shot, Way, each, lines, load};
use crate::bed::{
    Bed, FALLBACK, Layout, PRIMARY, Place, SLACK, broken_off, gap, hung_up, normal, ours, refused,
    theirs, whole, within,
};
use mainstay::faults::{Attempt, Flap, answer_text};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

const MILLIS: fn(u64) -> Duration = Duration::from_millis;

/// One load at a time: two on two cores measure each other.
static LOAD: Mutex<()> = Mutex::const_new(());

/// The least wait for a measured first token as in the full profile: a fifth of a second is less
/// than a busy machine sometimes needs.
const UNHURRIED: &str = "first_token = [\"1s\", \"60s\"]";

fn at(attempt: &Attempt) -> Duration {
    MILLIS(attempt.at_ms)
}

/// A short answer, so that a busy machine can play many.
fn short() -> Ask {
    Ask::chat("chat", PROMPT).with("max_tokens", json!(8))
}

#[track_caller]
fn whole_and_short(reply: &Reply) {
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    assert_eq!(reply.text(), answer_text(PROMPT)[..8].concat());
    assert_eq!(reply.finish().as_deref(), Some("length"));
}

/// How often a gateway changed its mind about a target.
fn health_changes(bed: &Bed) -> usize {
    lines(bed, &["\"fact\":\"health\""]).len()
}

#[tokio::test]
async fn f25_an_undated_limit_is_found_and_kept_to_without_a_loss() {
    let _alone = LOAD.lock().await;
    let layout = Layout::new(Place::Equal, "f25", "ok").limit(UNHURRIED);
    let bed = Bed::start(&layout).await;
    let lasting = theirs(20.0, 10.0);
    let shots = load(&bed, (100.0, lasting), |_| short()).await;
    for shot in &shots {
        whole_and_short(&shot.reply);
    }
    let primary = bed.primary().await;
    let settled: Vec<_> = primary.iter().filter(|a| at(a) >= Duration::from_secs(2)).collect();
    let refused = settled.iter().filter(|a| a.ended == Some("fault")).count();
    let share = (settled.len() - refused) as f64 / (lasting.as_secs_f64() - 2.0);
    eprintln!("F25: {refused} of {} refused after 2 s, {share:.1}/s served", settled.len());
    assert!(refused * 10 <= settled.len(), "{refused} of {}", settled.len());
    let late = lasting - Duration::from_secs(4);
    let last = settled.iter().filter(|a| at(a) >= late && a.ended == Some("served")).count();
    let share = last as f64 / 4.0;
    assert!((25.0..=30.5).contains(&share), "{share} a second");
    assert_eq!(health_changes(&bed), 0);
    bed.is_well().await;
}

#[tokio::test]
async fn f26_a_date_is_read_against_the_replys_own_clock() {
    each(
        (&[Place::Substitute], &STREAMED),
        |p| Layout::new(p, "f26a", "ok"),
        async |case| {
            whole(case.reply, PROMPT);
            case.bed.saw(2, 0);
            let waited = gap(&case.bed.primary().await);
            let due = MILLIS(2000)..=MILLIS(2200) + SLACK;
            assert!(due.contains(&waited), "{waited:?}");
            within(case.reply, normal() + MILLIS(2200));
            let failed = "primary: its reply or connection said so (throttle_account)";
            case.story(&[failed, "primary: whole"]).await;
        },
    )
    .await;
    each((&[Place::Equal], &STREAMED), |p| Layout::new(p, "f26a", "ok"), gone_elsewhere).await;
}

async fn gone_elsewhere(case: Case<'_>) {
    whole(case.reply, PROMPT);
    within(case.reply, normal() + MILLIS(100));
    case.bed.saw(1, 1);
    let failed = "primary: its reply or connection said so (throttle_account)";
    case.story(&[failed, "fallback: whole"]).await;
}

#[tokio::test]
async fn f26_a_wait_that_cannot_be_meant_is_none() {
    for fault in ["f26b", "f26c", "f26d", "f26d2", "f26d3", "f26d4", "f26d5"] {
        each((&ELSEWHERE, &STREAMED), |p| Layout::new(p, fault, "ok"), gone_elsewhere).await;
    }
}

#[tokio::test]
async fn f26_a_day_is_believed_for_a_minute() {
    let bed = Bed::start(&Layout::new(Place::Substitute, "f26b", "ok")).await;
    for _ in 0..3 {
        whole(&bed.ask(Mode::Plain, PROMPT).await, PROMPT);
    }
    // waits for: most of the longest Retry-After that is believed
    tokio::time::sleep(ours(50.0)).await;
    whole(&bed.ask(Mode::Plain, PROMPT).await, PROMPT);
    bed.saw(1, 4);
    // waits for: the rest of it
    tokio::time::sleep(ours(10.0)).await;
    whole(&bed.ask(Mode::Plain, PROMPT).await, PROMPT);
    bed.saw(2, 5);
    bed.is_well().await;
}

const KEYS: [(&str, &str); 2] = [("sk-top", "enterprise"), ("sk-low", "batch")];

fn keys() -> String {
    let of = |(key, tier): &(&str, &str)| {
        let hash: String =
            Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("[[key]]\nname = \"{tier}\"\ntier = \"{tier}\"\nhash = \"{hash}\"\n\n")
    };
    KEYS.iter().map(of).collect()
}

/// One request of six is of the top tier: less than what the other site carried before.
fn is_top(n: usize) -> bool {
    n.is_multiple_of(6)
}

async fn ramp_rejection(fault: &str, provider: &'static str) {
    let bed = Bed::start_with(async |faults| {
        Layout::new(Place::Equal, "f50", fault)
            .reached_at("primary", &faults.addresses.flap)
            .speaking("fallback", provider)
            .site_line("primary", "capacity = 8")
            .limit(UNHURRIED)
            .more(&keys())
    })
    .await;
    let window = ours(10.0);
    for scope in [PRIMARY, FALLBACK] {
        bed.faults.set(scope, "first_token_ms", "200");
    }
    bed.faults.set(FALLBACK, "ramp_seconds", &window.as_secs_f64().to_string());
    // From nothing to half of the load is no growth that anyone refuses.
    let half = 35.0 * window.as_secs_f64();
    bed.faults.set(FALLBACK, "ramp_floor", &half.to_string());
    let dies = window * 2;
    let lasting = dies + ours(60.0) + window;
    let ask = |n: usize| {
        let (key, _) = KEYS[usize::from(!is_top(n))];
        short().header("authorization", &format!("Bearer {key}"))
    };
    let death = async {
        // waits for: both sites to have had their share for two windows
        tokio::time::sleep(dies).await;
        bed.faults.flap(Flap { down_ms: 3_600_000, up_ms: 0 });
    };
    let (shots, ()) = tokio::join!(load(&bed, (60.0, lasting), ask), death);
    told_apart(&bed, &shots, dies).await;
    let fallback = bed.fallback().await;
    let after: Vec<_> = fallback.iter().filter(|a| at(a) >= dies).collect();
    let refused = after.iter().filter(|a| a.ended == Some("fault")).count();
    eprintln!("F27 {fault}: {refused} of {} refused after the death", after.len());
    assert!(refused * 50 <= after.len(), "{refused} of {}", after.len());
    let late = |shot: &&Shot| shot.at >= dies + ours(60.0);
    assert!(shots.iter().filter(late).all(|shot| shot.reply.status == 200), "full share by now");
    grows_slowly(&after, window);
}

/// The top tier is whole, but for the few whom the site itself refuses; what does not fit is
/// refused early, with a time to come back.
async fn told_apart(bed: &Bed, shots: &[Shot], dies: Duration) {
    let (mut shed, mut unlucky) = (0, 0);
    for (n, Shot { at, reply }) in shots.iter().enumerate() {
        if reply.status == 200 && reply.error().is_null() {
            whole_and_short(reply);
            continue;
        }
        let is_hit = *at <= dies + SLACK;
        // The gateway remembers its last 4,096 requests, more or less.
        let is_kept = n + 3000 > shots.len();
        let story = if is_kept { bed.story(reply).await } else { Vec::new() };
        if is_top(n) {
            unlucky += 1;
            let is_refused = story.iter().any(|end| end.starts_with("fallback: its reply"));
            assert!(is_hit || is_refused || !is_kept, "{story:?}");
        }
        shed += usize::from(!is_top(n));
        match reply.error()["code"].as_str() {
            // It was under way at the site that died, or was sent there.
            Some("upstream_failed") if is_hit => continue,
            Some("no_site") => {
                let first = story.first();
                assert!(first.is_none_or(|end| end.starts_with("primary")), "{story:?}");
            }
            _ => refused(reply, 503, "overloaded"),
        }
        within(reply, MILLIS(100));
    }
    eprintln!("F27: refused to the lower tier {shed}, to the top {unlucky}, of {}", shots.len());
    assert!(unlucky * 50 <= shots.len() / 6, "{unlucky}");
}

/// After the first refusal what is served grows by no more than 40 % from window to window.
fn grows_slowly(attempts: &[&Attempt], window: Duration) {
    let Some(first) = attempts.iter().find(|a| a.ended == Some("fault")).map(|a| at(a)) else {
        return;
    };
    let served = |from: Duration| {
        let within = |a: &&&Attempt| at(a) >= from && at(a) < from + window;
        attempts.iter().filter(within).filter(|a| a.ended == Some("served")).count()
    };
    // Nothing is sent for half a second; windows begin when it is over.
    let first = first + MILLIS(500);
    let counts: Vec<usize> = (0..5).map(|i| served(first + window * i)).collect();
    eprintln!("F27: served by windows {counts:?}");
    // To come back to what was served before a hold is no growth.
    let mut most = counts[0];
    for count in &counts[1..] {
        assert!(*count as f64 <= most as f64 * 1.4 + 4.0, "{counts:?}");
        most = most.max(*count);
    }
}

#[tokio::test]
async fn f27_refused_growth_slows_the_growth_and_spares_the_top_tier() {
    let _alone = LOAD.lock().await;
    ramp_rejection("f27a", "dashscope").await;
    ramp_rejection("f27b", "openai").await;
}

async fn drip(place: Place, mode: Mode) {
    let bed = Bed::start(&Layout::new(place, "f28", "ok")).await;
    bed.faults.set(PRIMARY, "drip", "off");
    for _ in 0..6 {
        whole(&bed.ask(mode, PROMPT).await, PROMPT);
    }
    bed.faults.set(PRIMARY, "drip", "on");
    let reply = bed.ask(mode, PROMPT).await;
    let bound = theirs(12.0, 3.0);
    let failed = "primary: dripped (overload)";
    if place == Place::Alone {
        broken_off(&reply, PROMPT);
        assert_eq!(bed.story(&reply).await, [failed]);
        return;
    }
    whole(&reply, PROMPT);
    within(&reply, normal() + bound);
    bed.saw(7, 1);
    let dripping = bed.primary().await.pop().expect("seven");
    hung_up(&dripping, ours(10.0), bound);
    assert!(dripping.tokens_sent < 20, "{dripping:#?}");
    assert_eq!(bed.story(&reply).await, [failed, "fallback: whole"]);
    let count = async |labels: &[&str]| {
        bed.gateway.metric("mainstay_upstream_attempts_total", labels).await
    };
    assert_eq!(count(&["site=\"primary\"", "result=\"overload\""]).await, 1.0);
    assert_eq!(count(&["site=\"fallback\"", "result=\"ok\""]).await, 1.0);
    bed.is_well().await;
}

#[tokio::test]
async fn f28_an_answer_that_drips_goes_on_elsewhere() {
    tokio::join!(
        drip(Place::Equal, Way::Stream.mode()),
        drip(Place::Equal, Way::Plain.mode()),
        drip(Place::Substitute, Way::Stream.mode()),
        drip(Place::Substitute, Way::Plain.mode()),
        drip(Place::Alone, Way::Stream.mode()),
    );
}
