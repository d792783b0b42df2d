//! F44 to F50 through the real gateway on real sockets, in the fast profile: connections that are
//! dead without saying so, replies of the wrong kind, redirects, bodies and prompts too large,
//! filters in mid-answer, and clients that leave.

use std::time::{Duration, Instant};

use crate::bed::client::{Ask, Mode, Reply};
use crate::bed::told::{self, ALL, BOTH, closes_to, doors, each, facts, told as told_as};
use crate::bed::{
    Bed, CLOSING, Layout, MODES, PRIMARY, Place, SLACK, hung_up, millis, normal, ours, refused,
    whole, within,
};
use mainstay::faults::answer_text;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PROMPT: &str = "Who keeps the light? 谁看守灯塔?";

/// First-token and stall limits without samples.
fn first_token() -> Duration {
    ours(10.0)
}

fn stall() -> Duration {
    ours(5.0)
}

#[tokio::test]
async fn f44a_a_link_that_dies_after_the_request_is_left_at_the_first_token_limit() {
    each(&BOTH, ("f44a", PROMPT), async |bed, reply, _, _| {
        whole(reply, PROMPT);
        bed.saw(1, 1);
        within(reply, first_token() + normal());
        told_as(bed, reply, &["primary: silent (dead)", "fallback: whole"]).await;
        hung_up(&bed.primary().await[0], first_token() - SLACK, first_token() + CLOSING);
    })
    .await;
}

#[tokio::test]
async fn f44b_a_link_that_dies_under_a_stream_is_left_at_the_stall_limit() {
    each(&BOTH, ("f44b", PROMPT), async |bed, reply, _, mode| {
        whole(reply, PROMPT);
        bed.saw(1, 1);
        within(reply, stall() + 2 * normal());
        told_as(bed, reply, &["primary: stalled (dead)", "fallback: whole"]).await;
        let primary = &bed.primary().await[0];
        hung_up(primary, stall() - SLACK, stall() + normal() + CLOSING);
        if mode == Mode::Stream {
            assert!(reply.longest_gap() <= stall() + normal() + SLACK);
        }
    })
    .await;
}

#[tokio::test]
async fn f44c_a_dead_pooled_connection_costs_one_request_its_patience_and_no_more() {
    for place in BOTH {
        for mode in MODES {
            let bed = Bed::start(&Layout::new(place, "f44c", "ok")).await;
            bed.is_well().await;
            let open = bed.gateway.open_files();
            let mut paid = 0;
            // Every answer leaves a dead connection in the pool of the door that it came through.
            for n in 0..3 * doors() {
                let prompt = format!("{PROMPT} {n}");
                let reply = bed.ask(mode, &prompt).await;
                whole(&reply, &prompt);
                within(&reply, first_token() + normal());
                match &told::attempts(&bed, &reply).await[..] {
                    [only] if only == "primary: whole" => {}
                    // Where many pay in a row, the site is left alone for a while.
                    [only] if only == "fallback: whole" => {}
                    other => {
                        assert_eq!(other, ["primary: silent (dead)", "fallback: whole"]);
                        paid += 1;
                    }
                }
            }
            let log = bed.primary().await;
            let dead = log.iter().filter(|attempt| attempt.ended == Some("served")).count();
            assert!(1 <= paid && paid <= dead, "{paid} paid for {dead} dead connections");
            closes_to(&bed.gateway, open + 2 * doors()).await;
        }
    }
}

#[tokio::test]
async fn f45a_a_page_behind_a_502_is_a_passing_fault() {
    each(&BOTH, ("f45a", PROMPT), async |bed, reply, place, _| {
        whole(reply, PROMPT);
        within(reply, normal() + millis(600));
        no_page(reply);
        let failed = "primary: reply (transient)";
        if place == Place::Equal {
            bed.saw(1, 1);
            return told_as(bed, reply, &[failed, "fallback: whole"]).await;
        }
        bed.saw(2, 1);
        told_as(bed, reply, &[failed, failed, "fallback: whole"]).await;
    })
    .await;
    each(&[Place::Alone], ("f45a", PROMPT), async |_, reply, _, _| {
        refused(reply, 502, "upstream_failed");
        no_page(reply);
    })
    .await;
}

fn no_page(reply: &Reply) {
    let text = String::from_utf8_lossy(&reply.body).to_lowercase();
    assert!(!text.contains("<html") && !text.contains("nginx"), "{text}");
}

#[tokio::test]
async fn f45b_a_page_behind_a_200_is_poison_and_never_shown() {
    each(&BOTH, ("f45b", PROMPT), async |bed, reply, place, _| {
        whole(reply, PROMPT);
        within(reply, normal() + millis(600));
        no_page(reply);
        let said = told::attempts(bed, reply).await;
        assert!(said[0].ends_with("(poisoned_stream)"), "{said:?}");
        bed.saw(if place == Place::Equal { 1 } else { 2 }, 1);
    })
    .await;
    each(&[Place::Alone], ("f45b", PROMPT), async |_, reply, _, _| {
        refused(reply, 502, "upstream_failed");
        no_page(reply);
    })
    .await;
}

#[tokio::test]
async fn f45c_a_good_stream_under_a_wrong_label_is_taken() {
    each(&ALL, ("f45c", PROMPT), async |bed, reply, _, _| {
        whole(reply, PROMPT);
        within(reply, normal());
        bed.saw(1, 0);
        told_as(bed, reply, &["primary: whole"]).await;
    })
    .await;
}

#[tokio::test]
async fn f46_a_redirect_is_never_followed_and_told_once() {
    for behavior in ["f46a", "f46b", "f46c", "f46d"] {
        each(&BOTH, (behavior, PROMPT), async |bed, reply, _, mode| {
            whole(reply, PROMPT);
            within(reply, normal() + millis(100));
            bed.saw(1, 1);
            told_as(bed, reply, &["primary: reply (dead)", "fallback: whole"]).await;
            whole(&bed.ask(mode, "once more").await, "once more");
            assert!(bed.primary().await.iter().all(|attempt| attempt.path != "/trap"));
            let said = bed.gateway.said();
            assert_eq!(said.matches("to http://localhost; mend base_url").count(), 1, "{said}");
        })
        .await;
        each(&[Place::Alone], (behavior, PROMPT), async |bed, reply, _, _| {
            refused(reply, 503, "no_site");
            bed.saw(1, 0);
        })
        .await;
    }
}

#[tokio::test]
async fn f47_a_body_too_large_for_one_site_goes_to_another_and_is_learned() {
    let prompt = format!("{PROMPT}{}", "x".repeat(12_000_000));
    for place in ALL {
        for mode in MODES {
            let bed = Bed::start(&Layout::new(place, "f47", "ok")).await;
            let reply = bed.ask(mode, &prompt).await;
            if place == Place::Alone {
                refused(&reply, 413, "request_too_large");
                bed.saw(1, 0);
                let again = bed.ask(mode, &prompt).await;
                refused(&again, 413, "request_too_large");
                for refusal in [&reply, &again] {
                    let message = refusal.error()["message"].to_string();
                    assert!(message.contains("largest body"), "the size is told: {message}");
                }
                bed.saw(1, 0);
            } else {
                whole(&reply, &prompt);
                within(&reply, normal() + millis(500));
                bed.saw(1, 1);
                let failed = "primary: reply (client_fault/size)";
                told_as(&bed, &reply, &[failed, "fallback: whole"]).await;
                let again = bed.ask(mode, &prompt).await;
                whole(&again, &prompt);
                bed.saw(1, 2);
            }
            whole(&bed.ask(mode, PROMPT).await, PROMPT);
            bed.is_well().await;
        }
    }
}

/// A bed whose model `long` has these sites; the window of `fallback/small` is declared as 1,000.
async fn windows(served_by: &str, substitutes: &str) -> Bed {
    let layout = Layout::new(Place::Alone, "ok", "ok")
        .site_line(
            "fallback",
            "models = [{ name = \"window-1000\", window = 1000 }, \
             { name = \"ok\", window = 100000 }]",
        )
        .more(&format!(
            "[[model]]\nname = \"long\"\nserved_by = [{served_by}]\nsubstitutes = [{substitutes}]"
        ));
    Bed::start(&layout).await
}

async fn ask_long(bed: &Bed, mode: Mode, prompt: &str) -> Reply {
    bed.send(&Ask::chat("long", prompt).mode(mode)).await
}

#[tokio::test]
async fn f48_no_attempt_is_made_where_the_window_is_known_to_be_too_small() {
    let prompt = "So long a prompt. ".repeat(1000);
    for (primary, most) in [("f04", 1), ("f05", 2), ("cut-40@9", 2), ("f09", 1)] {
        for mode in MODES {
            let both = "\"fallback/window-1000\", \"fallback/ok\"";
            let bed = windows(&format!("\"primary/{primary}\""), both).await;
            let reply = ask_long(&bed, mode, &prompt).await;
            whole(&reply, &prompt);
            let tried = bed.fallback().await;
            assert!(tried.iter().all(|attempt| attempt.model != "window-1000"), "{tried:#?}");
            let primary = bed.primary().await.len();
            assert!(primary <= most, "{primary} at the primary");
            bed.is_well().await;
        }
    }
}

#[tokio::test]
async fn f48_where_none_is_large_enough_a_503_says_so_and_a_400_only_if_none_ever_could() {
    let prompt = "So long a prompt. ".repeat(1000);
    for mode in MODES {
        let bed = windows("\"primary/f46a\"", "\"fallback/window-1000\"").await;
        let reply = ask_long(&bed, mode, &prompt).await;
        refused(&reply, 503, "no_site");
        let message = reply.error()["message"].to_string();
        assert!(message.contains("too small"), "{message}");
        assert_eq!(bed.fallback().await.len(), 0);
        bed.is_well().await;
        let bed = windows("\"fallback/window-1000\"", "").await;
        let reply = ask_long(&bed, mode, &prompt).await;
        refused(&reply, 400, "context_length_exceeded");
        assert_eq!(bed.fallback().await.len(), 0);
        bed.is_well().await;
    }
}

#[tokio::test]
async fn f48_an_unknown_window_is_tried_once_and_learned() {
    let prompt = "So long a prompt. ".repeat(1000);
    for mode in MODES {
        let bed = windows("\"primary/window-2000\"", "\"fallback/ok\"").await;
        for _ in 0..3 {
            let reply = ask_long(&bed, mode, &prompt).await;
            whole(&reply, &prompt);
            within(&reply, normal() + millis(100));
        }
        bed.saw(1, 3);
        bed.is_well().await;
    }
}

#[tokio::test]
async fn f49_a_filter_in_mid_answer_ends_it_and_nothing_is_tried_elsewhere() {
    for behavior in ["f49a", "f49b"] {
        each(&ALL, (behavior, PROMPT), async |bed, reply, _, mode| {
            assert_eq!(reply.status, 200);
            assert_eq!(reply.text(), answer_text(PROMPT)[..20].concat());
            assert_eq!(reply.finish().as_deref(), Some("content_filter"));
            assert!(reply.terminated);
            assert_eq!(reply.is_done(), mode == Mode::Stream);
            bed.saw(1, 0);
            within(reply, normal());
            let said = told::attempts(bed, reply).await;
            let expected =
                if behavior == "f49a" { "primary: whole" } else { "primary: reply (policy)" };
            assert_eq!(said, [expected]);
        })
        .await;
    }
}

/// The one attempt at the primary must have been closed within a second of `left`.
async fn cancelled(bed: &Bed, started: Instant, left: Instant) {
    let attempt = &bed.primary().await[0];
    let at = left.duration_since(started);
    hung_up(attempt, Duration::ZERO, at + CLOSING);
    bed.saw(1, 0);
    let outcome = ["outcome=\"client_gone\""];
    let count = bed.gateway.metric("mainstay_requests_total", &outcome).await;
    assert_eq!(count, 1.0);
}

#[tokio::test]
async fn f50_a_client_that_leaves_at_token_20_cancels_its_upstream() {
    for place in BOTH {
        let bed = Bed::start(&Layout::new(place, "long-2000-5ms", "ok")).await;
        bed.is_well().await;
        let open = bed.gateway.open_files();
        let started = Instant::now();
        let ask = Ask::chat("chat", PROMPT).stream().leaving_after(21);
        let reply = bed.send(&ask).await;
        cancelled(&bed, started, Instant::now()).await;
        let facts = facts(&bed, &reply).await;
        let left = facts.iter().find(|(kind, _)| kind == "attempt_left").expect("it is told");
        let tokens = left.1.split_once(": ").and_then(|(_, rest)| rest.split_once(" tokens"));
        let tokens: u32 = tokens.and_then(|(count, _)| count.parse().ok()).expect("a count");
        assert!((20..=220).contains(&tokens), "{facts:?}");
        let label = ["site=\"primary\"", "result=\"client_gone\""];
        let attempts = bed.gateway.metric("mainstay_upstream_attempts_total", &label).await;
        assert_eq!(attempts, 1.0);
        closes_to(&bed.gateway, open).await;
        bed.is_well().await;
    }
}

#[tokio::test]
async fn f50_a_client_that_leaves_while_the_gateway_waits_is_not_tried_for_again() {
    for place in [Place::Substitute, Place::Alone] {
        for mode in MODES {
            let bed = Bed::start(&Layout::new(place, "f01", "ok")).await;
            bed.is_well().await;
            let open = bed.gateway.open_files();
            let ask = Ask::chat("chat", PROMPT).mode(mode).patient_for(millis(600));
            let reply = bed.send(&ask).await;
            assert_eq!(reply.status, 0, "it waits for the date that the site gave");
            // What carried the 429 is kept for the next request.
            closes_to(&bed.gateway, open + 1).await;
            // waits for: the moment at which the wait would have been over
            tokio::time::sleep(millis(2200)).await;
            bed.saw(1, 0);
            let outcome = ["outcome=\"client_gone\""];
            assert_eq!(bed.gateway.metric("mainstay_requests_total", &outcome).await, 1.0);
            bed.is_well().await;
        }
    }
}

#[tokio::test]
async fn f50_a_plain_client_that_closes_its_half_has_left() {
    for place in BOTH {
        let bed = Bed::start(&Layout::new(place, "long-2000-5ms", "ok")).await;
        bed.is_well().await;
        let open = bed.gateway.open_files();
        let host = bed.gateway.api.trim_start_matches("http://");
        let mut tcp = TcpStream::connect(host).await.expect("connect");
        let body = Ask::chat("chat", PROMPT).body.to_string();
        let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length";
        let request = format!("{head}: {}\r\n\r\n{body}", body.len());
        let started = Instant::now();
        tcp.write_all(request.as_bytes()).await.expect("send");
        while bed.faults.log(PRIMARY).iter().all(|attempt| attempt.model == "ok") {
            // waits for: the request to reach the upstream
            tokio::time::sleep(millis(5)).await;
        }
        tcp.shutdown().await.expect("close our half");
        cancelled(&bed, started, Instant::now()).await;
        let mut rest = Vec::new();
        let _ = tcp.read_to_end(&mut rest).await;
        closes_to(&bed.gateway, open).await;
        bed.is_well().await;
    }
}

#[tokio::test]
async fn f50_leaving_leaves_no_memory_and_no_socket_behind() {
    let bed = Bed::start(&Layout::new(Place::Equal, "long-2000-5ms", "ok")).await;
    let mut sizes = Vec::new();
    let mut open = 0;
    for round in 0..3 {
        let clients = (0..100).map(|n| {
            let ask = Ask::chat("chat", &format!("{PROMPT} {round} {n}")).stream();
            bed.ask_soon(ask.leaving_after(21))
        });
        for client in clients.collect::<Vec<_>>() {
            assert_eq!(client.await.expect("no panic").status, 200);
        }
        bed.primary().await;
        if round == 0 {
            // waits for: connections that 100 leaving clients gave up to be closed
            tokio::time::sleep(millis(500)).await;
            open = bed.gateway.open_files();
        }
        closes_to(&bed.gateway, open).await;
        sizes.push(bed.gateway.memory());
    }
    let grown = sizes[2].saturating_sub(sizes[1]);
    assert!(grown <= 2 * 1024 * 1024, "grew by {grown} bytes: {sizes:?}");
    still_answers_well(&bed).await;
}

async fn still_answers_well(bed: &Bed) {
    let ask = Ask::chat("chat", "a short one").stream().with("max_tokens", json!(5));
    let reply = bed.send(&ask).await;
    assert_eq!(reply.text(), answer_text("a short one")[..5].concat());
    bed.is_well().await;
}
