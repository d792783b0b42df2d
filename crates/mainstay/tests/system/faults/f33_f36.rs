//! F33 to F36 through the real gateway on real sockets: indices out of order, an answer that ends
//! too soon, a count that never comes, and one choice of two cut.

use std::time::Duration;

use crate::bed::client::{Ask, Reply};
use crate::bed::rows::{Case, ELSEWHERE, PROMPT, STREAMED, WAYS, Way, each, each_asking};
use crate::bed::{
    CLOSING, FALLBACK, Layout, PRIMARY, Place, SLACK, broken_off, normal, whole, within,
};
use mainstay::faults::answer_text;
use mainstay::faults::reply::CALL_PIECES;
use serde_json::{Value, json};

const MILLIS: fn(u64) -> Duration = Duration::from_millis;

const POISONED: &str = "primary: its reply or connection said so (poisoned_stream)";

fn layout(primary: &str) -> impl Fn(Place) -> Layout {
    let primary = primary.to_owned();
    move |place| Layout::new(place, &primary, "ok")
}

/// The poisoned attempt was closed at once.
async fn closed_at_once(case: &Case<'_>) {
    let first = &case.bed.primary().await[0];
    let after = MILLIS(first.ended_after_ms.expect("it ended"));
    assert!(after <= normal() + CLOSING + SLACK, "{after:?}");
}

#[tokio::test]
async fn f33_an_index_or_a_number_out_of_order_ends_the_trust_in_a_stream() {
    for fault in ["f33a", "f33c"] {
        each((&[Place::Equal], &STREAMED), layout(fault), async |case| {
            whole(case.reply, PROMPT);
            within(case.reply, normal() + MILLIS(1000));
            case.bed.saw(1, 1);
            closed_at_once(&case).await;
            case.story(&[POISONED, "fallback: whole"]).await;
        })
        .await;
        each((&[Place::Substitute], &STREAMED), layout(&format!("{fault}@1")), async |case| {
            whole(case.reply, PROMPT);
            within(case.reply, normal() + MILLIS(1000));
            case.bed.saw(2, 0);
            closed_at_once(&case).await;
            case.story(&[POISONED, "primary: whole"]).await;
        })
        .await;
        each((&[Place::Alone], &[Way::Stream]), layout(fault), async |case| {
            broken_off(case.reply, PROMPT);
            case.bed.saw(2, 0);
            case.story(&[POISONED, POISONED]).await;
        })
        .await;
    }
}

#[tokio::test]
async fn f33_a_tool_call_whose_index_jumps_is_repeated() {
    let function = json!({"name": "weather", "parameters": {"type": "object"}});
    let call = Ask::chat("chat", "please call the weather")
        .with("tools", json!([{"type": "function", "function": function}]));
    for (place, fault) in [(Place::Equal, "f33b"), (Place::Substitute, "f33b@1")] {
        each_asking((&[place], &STREAMED), layout(fault), call.clone(), async |case| {
            assert_eq!(case.reply.status, 200);
            assert_eq!(case.reply.calls(), [("weather".to_owned(), CALL_PIECES.concat())]);
            assert_eq!(case.reply.finish().as_deref(), Some("tool_calls"));
            within(case.reply, normal() + MILLIS(1000));
            closed_at_once(&case).await;
            let rescuer = if place == Place::Equal { "fallback: whole" } else { "primary: whole" };
            case.story(&[POISONED, rescuer]).await;
        })
        .await;
    }
}

fn up_to_200() -> Ask {
    Ask::chat("chat", PROMPT).with("max_tokens", json!(200))
}

#[tokio::test]
async fn f34_an_answer_that_ends_short_of_its_limit_is_continued_where_that_is_possible() {
    let able = |place| {
        let layout = Layout::new(place, "f34+native", "ok");
        layout.declaring("primary", "f34+native", "continue = true")
    };
    each_asking((&ELSEWHERE, &WAYS), able, up_to_200(), async |case| {
        whole(case.reply, PROMPT);
        within(case.reply, normal() + MILLIS(1000));
        case.bed.saw(2, 0);
        case.story(&["primary: whole", "primary: whole"]).await;
        let second = case.bed.body(PRIMARY, 2);
        assert_eq!(second["max_tokens"], 160, "what was relayed is taken off");
        let messages = second["messages"].as_array().expect("messages");
        assert_eq!(messages.last().expect("one")["content"], answer_text(PROMPT)[..40].concat());
    })
    .await;
}

#[tokio::test]
async fn f34_where_nobody_can_continue_length_stays_length() {
    each_asking((&ELSEWHERE, &WAYS), layout("f34"), up_to_200(), async |case| {
        let reply = case.reply;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.text(), answer_text(PROMPT)[..40].concat());
        assert_eq!(reply.finish().as_deref(), Some("length"));
        assert_eq!(reply.usage()["completion_tokens"], 40);
        assert!(reply.terminated);
        within(reply, normal());
        case.bed.saw(1, 0);
        case.story(&["primary: whole"]).await;
    })
    .await;
}

#[tokio::test]
async fn f35_a_count_that_never_comes_is_estimated_and_marked() {
    each((&ELSEWHERE, &WAYS), layout("f35"), async |case| {
        let usage = case.reply.usage();
        assert_eq!(usage["estimated"], true, "{usage}");
        assert!(usage["prompt_tokens"].as_u64().is_some_and(|count| count > 0), "{usage}");
        within(case.reply, normal() + MILLIS(1000));
        case.bed.saw(1, 0);
        case.story(&["primary: whole"]).await;
        if case.way == Way::PlainUpstream {
            // A text that comes at once has no chunks to count; it is estimated from its length.
            let count = usage["completion_tokens"].as_u64().expect("a number");
            assert!((30..=200).contains(&count), "{count}");
            assert_eq!(case.reply.text(), answer_text(PROMPT).concat());
        } else {
            whole(case.reply, PROMPT);
        }
    })
    .await;
}

fn two_choices() -> Ask {
    Ask::chat("chat", PROMPT).with("n", json!(2))
}

#[track_caller]
fn both_whole(reply: &Reply) {
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    assert_eq!(reply.error(), Value::Null);
    for choice in 0..2 {
        assert_eq!(reply.text_of(choice), answer_text(PROMPT).concat(), "choice {choice}");
        assert_eq!(reply.finish_of(choice).as_deref(), Some("stop"), "choice {choice}");
    }
    assert_eq!(reply.usage()["completion_tokens"], 120);
    assert!(reply.terminated);
}

#[tokio::test]
async fn f36_one_choice_of_two_is_resumed_alone_under_its_index() {
    let cut = "primary: cut (transient)";
    each_asking((&[Place::Equal], &STREAMED), layout("f36"), two_choices(), async |case| {
        both_whole(case.reply);
        within(case.reply, normal() + MILLIS(1000));
        case.bed.saw(1, 1);
        assert_eq!(case.bed.attempts(FALLBACK).await[0].choices, 1);
        case.story(&[cut, "fallback: whole"]).await;
    })
    .await;
    each_asking((&[Place::Substitute], &STREAMED), layout("f36"), two_choices(), async |case| {
        both_whole(case.reply);
        within(case.reply, normal() + MILLIS(1000));
        case.bed.saw(2, 0);
        assert_eq!(case.bed.primary().await[1].choices, 1);
        case.story(&[cut, "primary: whole"]).await;
    })
    .await;
}

#[tokio::test]
async fn f36_a_choice_that_nobody_can_finish_ends_in_the_error_event() {
    let other = |place| Layout::new(place, "f36", "ok-other");
    each_asking((&[Place::Equal], &[Way::Stream]), other, two_choices(), async |case| {
        let reply = case.reply;
        assert_eq!(reply.text_of(0), answer_text(PROMPT).concat(), "choice 0 is untouched");
        assert_eq!(reply.text_of(1), answer_text(PROMPT)[..20].concat());
        assert!(reply.error().is_object());
        assert_eq!(reply.finish_of(1), None);
        assert!(!reply.is_done() && !reply.terminated);
    })
    .await;
}
