//! F17 to F21 through the real gateway on real sockets: replies that say 200 and are no answer.

use std::time::Duration;

use crate::bed::client::{Ask, Mode};
use crate::bed::rows::{Case, ELSEWHERE, PROMPT, STREAMED, WAYS, Way, each, each_asking};
use crate::bed::{
    Bed, CLOSING, Layout, Place, SLACK, broken_off, hung_up, normal, ours, refused, whole, within,
};
use mainstay::faults::answer_text;
use serde_json::json;

const MILLIS: fn(u64) -> Duration = Duration::from_millis;

/// Wait for a first token without samples, in seconds.
const FIRST_TOKEN: f64 = 10.0;

fn layout(primary: &str) -> impl Fn(Place) -> Layout {
    let primary = primary.to_owned();
    move |place| Layout::new(place, &primary, "ok")
}

/// The whole answer after `added`.
fn rescued(case: &Case<'_>, added: Duration) {
    whole(case.reply, PROMPT);
    within(case.reply, normal() + added);
}

async fn left_at_the_first_token_limit(case: Case<'_>) {
    rescued(&case, ours(FIRST_TOKEN) + MILLIS(300));
    case.bed.saw(1, 1);
    let limit = ours(FIRST_TOKEN);
    hung_up(&case.bed.primary().await[0], limit - SLACK, limit + CLOSING);
    case.story(&["primary: no first token (overload)", "fallback: whole"]).await;
}

#[tokio::test]
async fn f17_comments_and_blank_lines_prove_life_and_are_not_waited_for() {
    tokio::join!(
        each((&[Place::Equal], &WAYS), layout("f17a"), left_at_the_first_token_limit),
        each((&[Place::Substitute], &WAYS), layout("f17a"), left_at_the_first_token_limit),
        each((&[Place::Alone], &STREAMED), layout("f17a"), async |case| {
            refused(case.reply, 502, "upstream_failed");
            within(case.reply, ours(FIRST_TOKEN) + MILLIS(300));
            case.bed.saw(1, 0);
            case.story(&["primary: no first token (overload)"]).await;
        }),
    );
}

#[tokio::test]
async fn f17_other_signs_of_life_are_no_progress_either() {
    tokio::join!(
        each((&ELSEWHERE, &STREAMED), layout("f17b"), left_at_the_first_token_limit),
        each((&ELSEWHERE, &STREAMED), layout("f17c"), left_at_the_first_token_limit),
        each((&ELSEWHERE, &STREAMED), layout("f17d"), left_at_the_first_token_limit),
    );
}

#[tokio::test]
async fn f18_an_error_behind_a_200_is_what_it_says_it_is() {
    for (fault, provider, class) in [
        ("f18a", "qianfan", "throttle_account"),
        ("f18b", "qianfan", "throttle_account"),
        ("f18c", "openrouter", "overload"),
        ("f18d", "qianfan", "throttle_account"),
        ("f18e", "qianfan", "throttle_account"),
        ("f18f", "openrouter", "overload"),
    ] {
        let layout = |place| layout(fault)(place).speaking("primary", provider);
        let said = format!("primary: its reply or connection said so ({class})");
        each((&ELSEWHERE, &WAYS), layout, async |case| {
            rescued(&case, MILLIS(100));
            case.bed.saw(1, 1);
            case.story(&[&said, "fallback: whole"]).await;
        })
        .await;
        each((&[Place::Alone], &STREAMED), layout, async |case| {
            refused(case.reply, 503, "overloaded");
            within(case.reply, MILLIS(100));
            case.bed.saw(1, 0);
            case.story(&[&said]).await;
        })
        .await;
    }
}

#[tokio::test]
async fn f19_a_transient_error_event_is_mended_where_the_table_says() {
    for fault in ["f19a", "f19b"] {
        let failed = "primary: its reply or connection said so (transient)";
        each((&[Place::Equal], &WAYS), layout(fault), async |case| {
            rescued(&case, MILLIS(1000));
            case.bed.saw(1, 1);
            case.story(&[failed, "fallback: whole"]).await;
        })
        .await;
        each((&[Place::Substitute], &WAYS), layout(&format!("{fault}@1")), async |case| {
            rescued(&case, MILLIS(1000));
            case.bed.saw(2, 0);
            case.story(&[failed, "primary: whole"]).await;
        })
        .await;
        each((&[Place::Substitute], &WAYS), layout(fault), async |case| {
            rescued(&case, MILLIS(1000));
            case.bed.saw(2, 1);
            case.story(&[failed, failed, "fallback: whole"]).await;
        })
        .await;
        each((&[Place::Alone], &WAYS), layout(fault), async |case| {
            match case.way {
                Way::Stream => broken_off(case.reply, PROMPT),
                Way::Plain | Way::PlainUpstream => refused(case.reply, 502, "upstream_failed"),
            }
            case.bed.saw(2, 0);
            case.story(&[failed, failed]).await;
        })
        .await;
    }
}

#[tokio::test]
async fn f19_an_overload_after_tokens_is_never_taken_back_to_the_same_site() {
    for (fault, provider) in [("f19c", "openai"), ("f19d", "sglang"), ("f19d2", "deepseek")] {
        let layout = |place| layout(fault)(place).speaking("primary", provider);
        let failed = "primary: its reply or connection said so (overload)";
        each((&ELSEWHERE, &WAYS), layout, async |case| {
            rescued(&case, MILLIS(1000));
            case.bed.saw(1, 1);
            case.story(&[failed, "fallback: whole"]).await;
        })
        .await;
        each((&[Place::Alone], &[Way::Stream]), layout, async |case| {
            broken_off(case.reply, PROMPT);
            assert_eq!(case.reply.text(), answer_text(PROMPT)[..20].concat());
            case.bed.saw(1, 0);
            case.story(&[failed]).await;
        })
        .await;
    }
}

#[tokio::test]
async fn f20_an_empty_success_is_tried_again_once_and_two_are_told() {
    let empty = "primary: empty answer (poisoned_stream)";
    each((&[Place::Equal], &WAYS), layout("f20"), async |case| {
        rescued(&case, MILLIS(600));
        case.bed.saw(1, 1);
        case.story(&[empty, "fallback: whole"]).await;
    })
    .await;
    each((&[Place::Substitute], &WAYS), layout("f20@1"), async |case| {
        rescued(&case, MILLIS(600));
        case.bed.saw(2, 0);
        case.story(&[empty, "primary: whole"]).await;
    })
    .await;
    each((&[Place::Alone], &WAYS), layout("f20"), async |case| {
        refused(case.reply, 502, "empty_answer");
        case.bed.saw(2, 0);
        case.story(&[empty, empty]).await;
    })
    .await;
    let everywhere = |place| Layout::new(place, "f20", "f20");
    each((&[Place::Equal], &WAYS), everywhere, async |case| {
        refused(case.reply, 502, "empty_answer");
        assert!(case.bed.primary().await.len() + case.bed.fallback().await.len() <= 3);
    })
    .await;
}

#[tokio::test]
async fn f20_an_empty_answer_with_counted_tokens_is_lawful_where_a_stop_string_was_asked() {
    let stop = Ask::chat("chat", PROMPT).with("stop", json!(["Tide"]));
    each_asking((&ELSEWHERE, &WAYS), layout("f20b"), stop, async |case| {
        assert_eq!(case.reply.status, 200);
        assert_eq!(case.reply.text(), "");
        assert_eq!(case.reply.finish().as_deref(), Some("stop"));
        assert_eq!(case.reply.usage()["completion_tokens"], 3);
        assert!(case.reply.terminated);
        case.bed.saw(1, 0);
        case.story(&["primary: whole"]).await;
    })
    .await;
    each((&[Place::Equal], &WAYS), layout("f20b"), async |case| {
        rescued(&case, MILLIS(600));
        case.bed.saw(1, 1);
        case.story(&["primary: empty answer (poisoned_stream)", "fallback: whole"]).await;
    })
    .await;
}

/// A provider that speaks the Responses wire, as an operator would add it.
const RESPONSES: &str = "auth = \"bearer\"\nwire = \"responses\"\nfamilies = [\"*\"]\n\
                         limits = { scope = \"account\" }\n";

fn speaking_responses(directory: &tempfile::TempDir, fault: &str) -> impl Fn(Place) -> Layout {
    std::fs::write(directory.path().join("answers.toml"), RESPONSES).expect("write the dialect");
    let top = format!("dialects_dir = {:?}", directory.path());
    let layout = layout(fault);
    move |place| layout(place).top(&top).speaking("primary", "answers")
}

#[tokio::test]
async fn f21_a_failed_response_is_what_its_inner_code_says() {
    let directory = tempfile::tempdir().expect("a directory");
    let failed = "primary: its reply or connection said so (transient)";
    each((&[Place::Equal], &WAYS), speaking_responses(&directory, "f21a"), async |case| {
        rescued(&case, MILLIS(600));
        case.bed.saw(1, 1);
        case.story(&[failed, "fallback: whole"]).await;
    })
    .await;
    each((&[Place::Substitute], &WAYS), speaking_responses(&directory, "f21a@1"), async |case| {
        rescued(&case, MILLIS(600));
        case.bed.saw(2, 0);
        case.story(&[failed, "primary: whole"]).await;
    })
    .await;
    each((&ELSEWHERE, &WAYS), speaking_responses(&directory, "f21b"), async |case| {
        rescued(&case, MILLIS(600));
        case.bed.saw(1, 1);
        let failed = "primary: its reply or connection said so (throttle_account)";
        case.story(&[failed, "fallback: whole"]).await;
    })
    .await;
}

#[tokio::test]
async fn f21_an_incomplete_response_is_told_truly() {
    let directory = tempfile::tempdir().expect("a directory");
    for (fault, reason) in [("f21c", "length"), ("f21d", "content_filter")] {
        each((&ELSEWHERE, &STREAMED), speaking_responses(&directory, fault), async |case| {
            assert_eq!(case.reply.status, 200);
            assert_eq!(case.reply.text(), answer_text(PROMPT)[..20].concat());
            assert_eq!(case.reply.finish().as_deref(), Some(reason));
            assert!(case.reply.terminated);
            assert_eq!(case.reply.usage()["completion_tokens"], 20);
            assert_eq!(case.reply.usage()["estimated"], true);
            within(case.reply, normal());
            case.bed.saw(1, 0);
            case.story(&["primary: whole"]).await;
        })
        .await;
    }
}

#[tokio::test]
async fn the_story_of_a_request_names_every_attempt() {
    let bed = Bed::start(&layout("f02")(Place::Equal)).await;
    let reply = bed.ask(Mode::Stream, PROMPT).await;
    let failed = "primary: its reply or connection said so (throttle_account)";
    assert_eq!(bed.story(&reply).await, [failed, "fallback: whole"]);
}
