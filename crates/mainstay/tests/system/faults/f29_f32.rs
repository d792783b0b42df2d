//! F29 to F32 through the real gateway on real sockets: answers that are cut inside something, and
//! a chunk that comes twice.

use std::time::Duration;

use crate::bed::client::{Ask, Reply};
use crate::bed::rows::{Case, ELSEWHERE, PROMPT, STREAMED, WAYS, Way, each, each_asking};
use crate::bed::{
    FALLBACK, Layout, PRIMARY, Place, SLACK, broken_off, normal, refused, whole, within,
};
use mainstay::faults::answer::reasoning_tokens;
use mainstay::faults::answer_text;
use mainstay::faults::reply::CALL_PIECES;
use serde_json::{Value, json};

const MILLIS: fn(u64) -> Duration = Duration::from_millis;

const CUT: &str = "primary: cut (transient)";

fn layout(primary: &str) -> impl Fn(Place) -> Layout {
    let primary = primary.to_owned();
    move |place| Layout::new(place, &primary, "ok")
}

/// The whole answer after `added`. An upstream that answers plainly takes the time of a whole
/// answer before it cuts it.
fn rescued(case: &Case<'_>, added: Duration) {
    whole(case.reply, PROMPT);
    let before = if case.way == Way::PlainUpstream { normal() } else { Duration::ZERO };
    within(case.reply, normal() + added + before);
}

fn call() -> Ask {
    let function = json!({"name": "weather", "parameters": {"type": "object"}});
    Ask::chat("chat", "please call the weather")
        .with("tools", json!([{"type": "function", "function": function}]))
}

/// One call, one id, arguments that parse.
#[track_caller]
fn one_call(reply: &Reply) {
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    assert_eq!(reply.error(), Value::Null);
    assert_eq!(reply.calls(), [("weather".to_owned(), CALL_PIECES.concat())]);
    let arguments: Value = serde_json::from_str(&reply.calls()[0].1).expect("JSON");
    assert_eq!(arguments["city"], "Beijing");
    assert_eq!(reply.finish().as_deref(), Some("tool_calls"));
    assert!(reply.terminated);
    let ids: Vec<String> = reply
        .chunks()
        .iter()
        .flat_map(|chunk| {
            let choice = &chunk["choices"][0];
            let call = &choice["delta"]["tool_calls"][0];
            let call = if call.is_null() { &choice["message"]["tool_calls"][0] } else { call };
            call["id"].as_str().map(str::to_owned)
        })
        .collect();
    assert_eq!(ids.len(), 1, "one id, said once: {ids:?}");
}

#[tokio::test]
async fn f29_a_tool_call_cut_in_its_arguments_is_repeated_under_its_first_id() {
    each_asking((&[Place::Equal], &WAYS), layout("f29"), call(), async |case| {
        one_call(case.reply);
        within(case.reply, normal() + MILLIS(2000));
        case.bed.saw(1, 1);
        case.story(&[CUT, "fallback: whole"]).await;
        assert_eq!(case.bed.attempts(FALLBACK).await[0].last_role, "user", "not continued");
    })
    .await;
    each_asking((&[Place::Substitute], &WAYS), layout("f29@1"), call(), async |case| {
        one_call(case.reply);
        within(case.reply, normal() + MILLIS(2000));
        case.bed.saw(2, 0);
        case.story(&[CUT, "primary: whole"]).await;
    })
    .await;
}

#[tokio::test]
async fn f29_half_a_tool_call_is_never_a_success() {
    each_asking((&[Place::Alone], &WAYS), layout("f29"), call(), async |case| {
        if case.way == Way::Stream {
            let reply = case.reply;
            assert_eq!(reply.calls()[0].1, "{\"city\":\"Bei");
            assert!(reply.error().is_object());
            assert_eq!(reply.finish(), None);
            assert!(!reply.is_done() && !reply.terminated);
        } else {
            refused(case.reply, 502, "upstream_failed");
        }
        case.bed.saw(2, 0);
        case.story(&[CUT, CUT]).await;
    })
    .await;
    // Declared able to continue: arguments are not a text that could be.
    let able = |place| {
        let layout = Layout::new(place, "f29+native@1", "ok");
        layout.declaring("primary", "f29+native@1", "continue = true")
    };
    each_asking((&[Place::Alone], &STREAMED), able, call(), async |case| {
        one_call(case.reply);
        assert_eq!(case.bed.body(PRIMARY, 2)["messages"], case.bed.body(PRIMARY, 1)["messages"]);
    })
    .await;
}

#[tokio::test]
async fn f30_a_cut_inside_a_character_an_event_or_a_line_end_leaves_no_scar() {
    for fault in ["f30a", "f30b", "f30c"] {
        each((&[Place::Equal], &WAYS), layout(fault), async |case| {
            rescued(&case, MILLIS(1000));
            assert!(!String::from_utf8_lossy(&case.reply.body).contains('\u{fffd}'));
            case.bed.saw(1, 1);
            case.story(&[CUT, "fallback: whole"]).await;
        })
        .await;
        each((&[Place::Substitute], &WAYS), layout(&format!("{fault}@1")), async |case| {
            rescued(&case, MILLIS(1000));
            case.bed.saw(2, 0);
            case.story(&[CUT, "primary: whole"]).await;
        })
        .await;
        each((&[Place::Substitute], &STREAMED), layout(fault), async |case| {
            rescued(&case, MILLIS(1000));
            case.bed.saw(2, 1);
            case.story(&[CUT, CUT, "fallback: whole"]).await;
        })
        .await;
        each((&[Place::Alone], &[Way::Stream]), layout(fault), async |case| {
            broken_off(case.reply, PROMPT);
            assert_eq!(case.reply.text(), answer_text(PROMPT)[..20].concat());
            case.bed.saw(2, 0);
        })
        .await;
    }
}

#[tokio::test]
async fn f30_the_same_splits_without_a_cut_are_no_fault() {
    each((&ELSEWHERE, &WAYS), layout("f30d"), async |case| {
        rescued(&case, MILLIS(150));
        case.bed.saw(1, 0);
        case.story(&["primary: whole"]).await;
    })
    .await;
}

/// The whole answer, and the thinking before it once.
fn thought_through(case: &Case<'_>, thoughts: &str) {
    let reply = case.reply;
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    assert_eq!(reply.text(), answer_text(PROMPT).concat());
    assert_eq!(reply.reasoning(), thoughts);
    assert_eq!(reply.finish().as_deref(), Some("stop"));
    assert!(reply.terminated);
}

#[tokio::test]
async fn f31_a_cut_while_thinking_starts_anew_and_shows_the_thinking_once() {
    let thoughts = reasoning_tokens(PROMPT, 30).concat();
    let thinking = |place| Layout::new(place, "f31", "ok-reasoning");
    each((&[Place::Equal], &WAYS), thinking, async |case| {
        thought_through(&case, &thoughts);
        // One second, and the thinking twice.
        within(case.reply, normal() + MILLIS(1000) + normal());
        assert_eq!(case.reply.usage()["completion_tokens"], 90);
        assert_eq!(case.reply.usage()["completion_tokens_details"]["reasoning_tokens"], 30);
        case.bed.saw(1, 1);
        case.story(&[CUT, "fallback: whole"]).await;
        let fallback = case.bed.fallback().await;
        assert_eq!(fallback[0].last_role, "user", "started anew");
    })
    .await;
    // The second attempt does not think; what was shown stays.
    each((&[Place::Substitute], &WAYS), layout("f31@1"), async |case| {
        let shown = if case.way == Way::PlainUpstream { "" } else { &thoughts };
        thought_through(&case, shown);
        within(case.reply, normal() + MILLIS(1000) + normal());
        case.bed.saw(2, 0);
        case.story(&[CUT, "primary: whole"]).await;
    })
    .await;
}

#[tokio::test]
async fn f32_a_numbered_chunk_that_comes_twice_is_relayed_once() {
    each((&ELSEWHERE, &STREAMED), layout("f32a"), async |case| {
        rescued(&case, SLACK);
        case.bed.saw(1, 0);
        case.story(&["primary: whole"]).await;
        assert_eq!(facts(&case, "miscounted").await, 0);
    })
    .await;
}

#[tokio::test]
async fn f32_a_repeated_word_is_passed_on_and_a_count_that_disagrees_is_a_fact() {
    let words = answer_text(PROMPT);
    let doubled = words[..20].concat() + &words[19..].concat();
    each((&ELSEWHERE, &STREAMED), layout("f32b"), async |case| {
        assert_eq!(case.reply.status, 200);
        assert_eq!(case.reply.text(), doubled);
        assert_eq!(case.reply.finish().as_deref(), Some("stop"));
        assert_eq!(case.reply.usage()["completion_tokens"], 60);
        within(case.reply, normal());
        case.bed.saw(1, 0);
        case.story(&["primary: whole"]).await;
        assert_eq!(facts(&case, "miscounted").await, 1);
    })
    .await;
}

/// How many facts of a kind there are about the request.
async fn facts(case: &Case<'_>, kind: &str) -> usize {
    let told = case.bed.explain(case.reply).await;
    told["facts"].as_array().expect("facts").iter().filter(|fact| fact["fact"] == kind).count()
}
