//! F01 to F16, the scenarios of Failover Bench, through the real gateway on real sockets, in the
//! fast profile, where our own limits are divided by five, or with `MAINSTAY_FAULTS_PROFILE=full`.
//! Each row: what the client got, what the upstreams saw, the bound, and that the gateway is well
//! afterwards.

use std::time::Duration;

use crate::bed::client::{Ask, Mode, Reply};
use crate::bed::{
    Bed, CLOSING, FALLBACK, Layout, MODES, PRIMARY, Place, SLACK, broken_off, gap, hung_up, normal,
    ours, profile, refused, theirs, whole, within,
};
use mainstay::faults::{Attempt, answer_text};

const PROMPT: &str = "Which way to the harbour? 港口在哪里?";

/// First-token and stall limits without samples, in seconds.
const FIRST_TOKEN: f64 = 10.0;
const STALL: f64 = 5.0;

/// A whole answer from the fallback, at once.
const AT_ONCE: Duration = Duration::from_millis(1200);

async fn bed(place: Place, primary: &str) -> Bed {
    Bed::start(&Layout::new(place, primary, "ok")).await
}

/// Asks once in each of `places` and both modes, each time before a fresh gateway.
async fn each(places: &[Place], primary: &str, check: impl AsyncFn(&Bed, &Reply, Place, Mode)) {
    for place in places {
        for mode in MODES {
            let bed = bed(*place, primary).await;
            let reply = bed.ask(mode, PROMPT).await;
            check(&bed, &reply, *place, mode).await;
            bed.is_well().await;
        }
    }
}

#[tokio::test]
async fn f01_a_dated_throttle_is_waited_out_where_only_a_substitute_is_left() {
    let places = [Place::Substitute, Place::Equal, Place::Alone];
    each(&places, "f01", async |bed, reply, place, _| {
        whole(reply, PROMPT);
        if place == Place::Equal {
            bed.saw(1, 1);
            return within(reply, AT_ONCE);
        }
        bed.saw(2, 0);
        within(reply, Duration::from_millis(3200));
        let waited = gap(&bed.primary().await);
        assert!(waited >= Duration::from_secs(2), "earlier than it said: {waited:?}");
        assert!(waited <= Duration::from_millis(2100) + SLACK, "{waited:?}");
    })
    .await;
}

#[tokio::test]
async fn f02_an_undated_throttle_goes_elsewhere_at_once() {
    each(&[Place::Substitute, Place::Equal], "f02", async |bed, reply, _, _| {
        whole(reply, PROMPT);
        bed.saw(1, 1);
        within(reply, AT_ONCE);
    })
    .await;
    each(&[Place::Alone], "f02", async |bed, reply, _, _| {
        refused(reply, 503, "overloaded");
        bed.saw(1, 0);
    })
    .await;
}

#[tokio::test]
async fn f03_one_500_is_tried_again_at_the_same_site_or_at_an_equal() {
    let places = [Place::Substitute, Place::Equal, Place::Alone];
    each(&places, "f03", async |bed, reply, place, _| {
        whole(reply, PROMPT);
        if place == Place::Equal {
            bed.saw(1, 1);
            return within(reply, AT_ONCE);
        }
        bed.saw(2, 0);
        within(reply, Duration::from_millis(1600));
        let paused = gap(&bed.primary().await);
        assert!(paused >= Duration::from_millis(250), "{paused:?}");
        assert!(paused <= Duration::from_millis(500) + SLACK, "{paused:?}");
    })
    .await;
}

#[tokio::test]
async fn f04_an_overloaded_site_is_left_at_once() {
    each(&[Place::Substitute, Place::Equal], "f04", async |bed, reply, _, _| {
        whole(reply, PROMPT);
        bed.saw(1, 1);
        within(reply, AT_ONCE);
    })
    .await;
    each(&[Place::Alone], "f04", async |bed, reply, _, _| {
        refused(reply, 503, "overloaded");
        bed.saw(1, 0);
    })
    .await;
}

#[tokio::test]
async fn f05_a_reset_before_headers_is_tried_again() {
    let places = [Place::Substitute, Place::Equal, Place::Alone];
    each(&places, "f05", async |bed, reply, place, _| {
        whole(reply, PROMPT);
        within(reply, Duration::from_millis(1600));
        if place == Place::Equal {
            return bed.saw(1, 1);
        }
        bed.saw(2, 0);
        assert!(gap(&bed.primary().await) <= Duration::from_millis(500) + SLACK);
    })
    .await;
}

#[tokio::test]
async fn f06_silence_is_left_at_the_first_token_limit_and_never_retried() {
    each(&[Place::Substitute, Place::Equal], "f06", async |bed, reply, _, _| {
        whole(reply, PROMPT);
        bed.saw(1, 1);
        within(reply, ours(FIRST_TOKEN) + normal());
        hung_up(&bed.primary().await[0], ours(FIRST_TOKEN) - SLACK, ours(FIRST_TOKEN) + CLOSING);
    })
    .await;
    each(&[Place::Alone], "f06", async |bed, reply, _, _| {
        assert!(reply.status == 504 || reply.status == 502, "{}", reply.status);
        assert!(reply.error().is_object());
        bed.saw(1, 0);
    })
    .await;
}

#[tokio::test]
async fn f07_headers_without_a_token_are_silence_too() {
    each(&[Place::Substitute, Place::Equal], "f07", async |bed, reply, _, _| {
        whole(reply, PROMPT);
        bed.saw(1, 1);
        within(reply, ours(FIRST_TOKEN) + normal());
        hung_up(&bed.primary().await[0], ours(FIRST_TOKEN) - SLACK, ours(FIRST_TOKEN) + CLOSING);
    })
    .await;
}

#[tokio::test]
async fn f08_a_cut_answer_is_finished_and_the_joint_is_exact() {
    each(&[Place::Substitute], "f08", async |bed, reply, _, _| {
        whole(reply, PROMPT);
        within(reply, Duration::from_secs(3));
        assert!(reply.longest_gap() <= Duration::from_secs(2) + SLACK, "{reply:?}");
        // Both attempts at the primary are cut at the same token.
        bed.saw(2, 1);
    })
    .await;
    each(&[Place::Equal], "f08", async |bed, reply, _, _| {
        whole(reply, PROMPT);
        within(reply, Duration::from_secs(3));
        bed.saw(1, 1);
    })
    .await;
    each(&[Place::Alone], "f08", async |bed, reply, _, mode| {
        bed.saw(2, 0);
        match mode {
            Mode::Stream => broken_off(reply, PROMPT),
            Mode::Plain => refused(reply, 502, "upstream_failed"),
        }
    })
    .await;
}

#[tokio::test]
async fn f08_a_site_that_can_continue_is_given_the_relayed_text_and_nothing_else() {
    for mode in MODES {
        let layout = Layout::new(Place::Substitute, "f08+native", "ok").declaring(
            "primary",
            "f08+native",
            "continue = true",
        );
        let bed = Bed::start(&layout).await;
        let reply = bed.ask(mode, PROMPT).await;
        whole(&reply, PROMPT);
        bed.saw(2, 0);
        assert!(reply.longest_gap() <= Duration::from_secs(1) + SLACK);
        let (first, second) = (bed.body(PRIMARY, 1), bed.body(PRIMARY, 2));
        let messages = second["messages"].as_array().expect("messages");
        assert_eq!(messages[..messages.len() - 1], first["messages"].as_array().expect("it")[..]);
        let last = messages.last().expect("one more");
        assert_eq!(last["role"], "assistant");
        assert_eq!(last["content"], answer_text(PROMPT)[..40].concat());
        bed.is_well().await;
    }
}

#[tokio::test]
async fn f09_a_stalled_answer_goes_on_elsewhere() {
    each(&[Place::Substitute, Place::Equal], "f09", async |bed, reply, _, mode| {
        whole(reply, PROMPT);
        bed.saw(1, 1);
        within(reply, Duration::from_secs(8));
        let primary = &bed.primary().await[0];
        // Asked plainly, a stall before the body may look like a missing first token.
        let limit = ours(if primary.stream { STALL } else { FIRST_TOKEN });
        hung_up(primary, limit - SLACK, limit + normal() + CLOSING);
        if mode == Mode::Stream {
            assert!(reply.longest_gap() <= ours(STALL) + Duration::from_secs(2) + SLACK);
        }
    })
    .await;
    let bed = bed(Place::Alone, "f09").await;
    let reply = bed.ask(Mode::Stream, PROMPT).await;
    broken_off(&reply, PROMPT);
    bed.saw(1, 0);
    bed.is_well().await;
}

#[tokio::test]
async fn f10_garbage_is_never_relayed_and_never_skipped() {
    each(&[Place::Substitute, Place::Equal], "f10", async |bed, reply, _, _| {
        whole(reply, PROMPT);
        within(reply, Duration::from_secs(3));
        let (primary, fallback) = (bed.primary().await.len(), bed.fallback().await.len());
        assert!(primary <= 2 && fallback <= 1, "{primary}p/{fallback}f");
    })
    .await;
    let bed = bed(Place::Alone, "f10").await;
    let reply = bed.ask(Mode::Stream, PROMPT).await;
    broken_off(&reply, PROMPT);
    bed.is_well().await;
}

#[tokio::test]
async fn f11_a_missing_sentinel_is_no_fault_and_the_client_gets_ours() {
    let places = [Place::Substitute, Place::Equal, Place::Alone];
    each(&places, "f11", async |bed, reply, _, _| {
        whole(reply, PROMPT);
        bed.saw(1, 0);
        within(reply, AT_ONCE);
    })
    .await;
}

#[tokio::test]
async fn f12_a_window_too_small_is_answered_by_a_larger_one_or_told() {
    each(&[Place::Substitute, Place::Equal], "f12", async |bed, reply, _, _| {
        whole(reply, PROMPT);
        bed.saw(1, 1);
        within(reply, Duration::from_millis(1100));
    })
    .await;
    each(&[Place::Alone], "f12", async |bed, reply, _, _| {
        refused(reply, 400, "context_length_exceeded");
        bed.saw(1, 0);
    })
    .await;
}

#[tokio::test]
async fn f13_a_policy_refusal_is_told_and_tried_nowhere_else() {
    let places = [Place::Substitute, Place::Equal, Place::Alone];
    each(&places, "f13", async |bed, reply, _, _| {
        refused(reply, 400, "content_policy_violation");
        let message = reply.error()["message"].as_str().expect("a message").to_owned();
        assert!(message.contains("safety system"), "the reason is kept: {message}");
        bed.saw(1, 0);
        within(reply, Duration::from_millis(100));
    })
    .await;
}

#[tokio::test]
async fn f14_a_refused_prefill_never_masks_the_cut() {
    for (place, facts) in [
        (Place::Substitute, "continue = true"),
        (Place::Substitute, "continue = false"),
        (Place::Equal, "continue = true"),
        (Place::Equal, "continue = false"),
    ] {
        for mode in MODES {
            let layout = Layout::new(place, "f14", "ok-noprefill");
            let layout = layout.declaring("fallback", "ok-noprefill", facts);
            let bed = Bed::start(&layout).await;
            let reply = bed.ask(mode, PROMPT).await;
            within(&reply, Duration::from_secs(4));
            let (primary, fallback) = (bed.primary().await.len(), bed.fallback().await.len());
            assert!(primary <= 2 && primary + fallback <= 3, "{primary}p/{fallback}f");
            if reply.finish().is_some() {
                whole(&reply, PROMPT);
            } else {
                assert_ne!(reply.status, 400);
                assert!(!reply.error().to_string().contains("invalid_prefill\""));
                match mode {
                    Mode::Stream => broken_off(&reply, PROMPT),
                    Mode::Plain => refused(&reply, 502, "upstream_failed"),
                }
            }
            bed.is_well().await;
        }
    }
}

#[tokio::test]
async fn f15_a_flap_is_bridged_without_hammering_and_the_primary_comes_back() {
    let bed = bed(Place::Substitute, "f15").await;
    let mut asked = Vec::new();
    let api = format!("{}/v1", bed.gateway.api);
    let mut beat = tokio::time::interval(theirs(4.0, 1.2));
    for i in 0..profile().pick(20.0, 10.0) as u32 {
        beat.tick().await;
        let prompt = format!("{PROMPT} {i}");
        let api = api.clone();
        asked.push(tokio::spawn(async move {
            let reply = Ask::chat("chat", &prompt).stream().send(&api).await;
            (prompt, reply)
        }));
    }
    for task in asked {
        let (prompt, reply) = task.await.expect("no panic");
        whole(&reply, &prompt);
        within(&reply, Duration::from_millis(1300));
    }
    let primary = bed.primary().await;
    let down = theirs(60.0, 6.0);
    let at = |attempt: &Attempt| Duration::from_millis(attempt.at_ms);
    let while_down = primary.iter().filter(|attempt| at(attempt) < down).count();
    assert!(while_down <= 6, "{primary:#?}");
    // It is back at the latest with the first request after 16 s (fast: a fifth of that).
    let back = down + ours(16.0) + theirs(4.0, 1.2);
    assert!(primary.iter().any(|a| a.ended == Some("served") && at(a) < back), "{primary:#?}");
}

#[tokio::test]
async fn f16_the_one_who_answered_is_named_and_alone_is_counted() {
    each(&[Place::Substitute, Place::Equal], "f16", async |bed, reply, _, _| {
        whole(reply, PROMPT);
        bed.saw(1, 1);
        within(reply, AT_ONCE);
        assert_eq!(reply.models(), ["ok"]);
        assert_eq!(reply.header("x-mainstay-site"), Some("fallback"));
        assert_eq!(reply.header("x-mainstay-attempts"), Some("2"));
        let count = async |name: &str, labels: &[&str]| bed.gateway.metric(name, labels).await;
        assert_eq!(count("mainstay_requests_total", &["outcome=\"ok\""]).await, 1.0);
        let attempts = "mainstay_upstream_attempts_total";
        assert_eq!(count(attempts, &["site=\"primary\"", "result=\"overload\""]).await, 1.0);
        assert_eq!(count(attempts, &["site=\"fallback\"", "result=\"ok\""]).await, 1.0);
        assert_eq!(bed.attempts(FALLBACK).await[0].ended, Some("served"));
    })
    .await;
}
