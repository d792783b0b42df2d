//! The fault server does to the bytes on the wire what its table says. Raw sockets, no gateway.

use std::time::{Duration, Instant};

use crate::bed::client::{Ask, Reply, get, post};
use mainstay::faults::{self, Attempt, Options, Running, answer_text};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PROMPT: &str = "Tell me about the sea, 请。";

async fn server() -> Running {
    faults::serve(Options::default()).await.expect("start the fault server")
}

async fn stream(server: &Running, model: &str) -> Reply {
    Ask::chat(model, PROMPT).stream().send(&server.base_url("t")).await
}

async fn plain(server: &Running, model: &str) -> Reply {
    Ask::chat(model, PROMPT).send(&server.base_url("t")).await
}

/// The only attempt of a scope, once it has ended.
async fn only_attempt(server: &Running, scope: &str) -> Attempt {
    let limit = Instant::now() + Duration::from_secs(5);
    loop {
        let log = server.log(scope);
        if log.len() == 1 && log[0].ended.is_some() {
            return log[0].clone();
        }
        assert!(Instant::now() < limit, "{log:?}");
        // waits for: the server to see the end of the attempt
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn whole() -> String {
    answer_text(PROMPT).concat()
}

/// Sends a request and gives the socket, for tests that look at raw bytes.
async fn raw(server: &Running, model: &str) -> TcpStream {
    let body = json!({"model": model, "stream": true,
        "messages": [{"role": "user", "content": PROMPT}]})
    .to_string();
    let host = server.addresses.url.strip_prefix("http://").expect("a URL");
    let mut tcp = TcpStream::connect(host).await.expect("connect");
    let head = format!(
        "POST /s/t/v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    tcp.write_all((head + &body).as_bytes()).await.expect("send");
    tcp
}

#[tokio::test]
async fn a_normal_answer_is_whole_and_in_openai_form() {
    let server = server().await;
    let reply = stream(&server, "ok").await;
    assert_eq!(reply.status, 200);
    assert!(reply.terminated && reply.is_done());
    assert_eq!(reply.text(), whole());
    assert_eq!(reply.finish().as_deref(), Some("stop"));
    assert_eq!(reply.usage()["completion_tokens"], 60);
    let chunks = reply.chunks();
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert!(chunks[5]["choices"][0]["finish_reason"].is_null());
    let said = plain(&server, "ok").await;
    assert!(said.terminated);
    assert_eq!(said.text(), whole());
}

#[tokio::test]
async fn max_tokens_stop_choices_tools_and_json_are_obeyed() {
    let server = server().await;
    let base = server.base_url("t");
    let short = Ask::chat("ok", PROMPT).stream().with("max_tokens", json!(7)).send(&base).await;
    assert_eq!(short.text(), answer_text(PROMPT)[..7].concat());
    assert_eq!(short.finish().as_deref(), Some("length"));
    let stopped = Ask::chat("ok", PROMPT).with("stop", json!(["海"])).send(&base).await;
    assert_eq!(Some(stopped.text().as_str()), whole().split('海').next());
    let two = Ask::chat("ok", PROMPT).stream().with("n", json!(2)).send(&base).await;
    assert_eq!((two.text_of(0), two.text_of(1)), (whole(), whole()));
    let tools = json!([{"type": "function", "function": {"name": "weather", "parameters": {}}}]);
    let call = Ask::chat("ok", "call it").stream().with("tools", tools).send(&base).await;
    let (name, arguments) = call.calls().remove(0);
    assert_eq!(name, "weather");
    let arguments: serde_json::Value = serde_json::from_str(&arguments).expect("whole arguments");
    assert_eq!(arguments["city"], "Beijing");
    let format = json!({"type": "json_object"});
    let object = Ask::chat("ok", PROMPT).with("response_format", format).send(&base).await;
    serde_json::from_str::<serde_json::Value>(&object.text()).expect("JSON");
}

#[tokio::test]
async fn a_trailing_assistant_message_is_continued_answered_anew_or_refused() {
    let server = server().await;
    let text = whole();
    let cut = answer_text(PROMPT)[..30].concat().len();
    let messages = json!([{"role": "user", "content": PROMPT},
        {"role": "assistant", "content": &text[..cut]}]);
    let send = async |model: &str| {
        let ask = Ask::chat(model, PROMPT).stream().with("messages", messages.clone());
        ask.send(&server.base_url("t")).await
    };
    assert_eq!(send("ok-native").await.text(), text[cut..]);
    assert_eq!(send("ok").await.text(), text);
    let refused = send("ok-noprefill").await;
    assert_eq!((refused.status, &refused.error()["code"]), (400, &json!("invalid_prefill")));
    // Forty more tokens do not exist, so the cut after forty does not happen.
    let continued = send("f08+native").await;
    assert_eq!(continued.text(), text[cut..]);
    assert!(continued.is_done());
}

#[tokio::test]
async fn f01_throttles_the_first_attempt_only() {
    let server = server().await;
    let first = plain(&server, "f01").await;
    assert_eq!((first.status, first.header("retry-after")), (429, Some("2")));
    assert_eq!(plain(&server, "f01").await.status, 200);
    server.reset("t");
    assert_eq!(plain(&server, "f01").await.status, 429);
}

#[tokio::test]
async fn f05_resets_before_any_byte() {
    let server = server().await;
    let mut tcp = raw(&server, "f05").await;
    let mut bytes = Vec::new();
    let error = tcp.read_to_end(&mut bytes).await.expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(bytes.is_empty());
    assert_eq!(stream(&server, "f05").await.text(), whole());
}

#[tokio::test]
async fn f06_is_silent_and_notices_the_hang_up() {
    let server = server().await;
    let mut tcp = raw(&server, "f06").await;
    let mut buffer = [0; 1];
    let read = tokio::time::timeout(Duration::from_millis(400), tcp.read(&mut buffer)).await;
    assert!(read.is_err(), "{read:?}");
    drop(tcp);
    let attempt = only_attempt(&server, "t").await;
    assert_eq!(attempt.ended, Some("peer_closed"));
    let after = attempt.peer_closed_after_ms.expect("it hung up");
    assert!((350..700).contains(&after), "{after}");
    assert_eq!(attempt.bytes_sent, 0);
}

#[tokio::test]
async fn f08_ends_after_forty_tokens_without_a_last_chunk() {
    let server = server().await;
    let reply = stream(&server, "f08").await;
    assert_eq!(reply.text(), answer_text(PROMPT)[..40].concat());
    assert!(!reply.terminated && !reply.reset && !reply.is_done());
    assert_eq!(reply.finish(), None);
    let attempt = only_attempt(&server, "t").await;
    assert_eq!((attempt.ended, attempt.tokens_sent), (Some("fault"), 40));
    let said = plain(&server, "f08").await;
    let declared: usize = said.header("content-length").expect("a length").parse().expect("it");
    assert_eq!(said.body.len(), declared * 60 / 100);
    assert!(!said.terminated);
}

#[tokio::test]
async fn f09_stalls_after_twenty_tokens_with_the_socket_open() {
    let server = server().await;
    let ask = Ask::chat("f09", PROMPT).stream().patient_for(Duration::from_millis(1500));
    let reply = ask.send(&server.base_url("t")).await;
    assert_eq!(reply.text(), answer_text(PROMPT)[..20].concat());
    assert!(!reply.terminated && !reply.reset);
    assert!(reply.took >= Duration::from_millis(1500));
    assert_eq!(only_attempt(&server, "t").await.ended, Some("peer_closed"));
}

#[tokio::test]
async fn f10_puts_one_broken_event_among_sixty_tokens() {
    let server = server().await;
    let reply = stream(&server, "f10").await;
    assert_eq!(reply.text(), whole());
    let broken = |data: &&str| serde_json::from_str::<serde_json::Value>(data).is_err();
    let events: Vec<&str> = reply.events.iter().map(|event| event.data.as_str()).collect();
    assert_eq!(events.iter().filter(|data| broken(data)).count(), 2, "it and [DONE]");
    assert!(broken(&events[11]));
}

#[tokio::test]
async fn f11_ends_properly_without_the_sentinel() {
    let server = server().await;
    let reply = stream(&server, "f11").await;
    assert!(reply.terminated && !reply.is_done());
    assert_eq!(reply.finish().as_deref(), Some("stop"));
    assert!(reply.usage().is_object());
}

#[tokio::test]
async fn f19d_says_why_it_stopped_and_f20_says_nothing() {
    let server = server().await;
    let aborted = stream(&server, "f19d").await;
    assert_eq!(aborted.text(), answer_text(PROMPT)[..20].concat());
    assert_eq!(aborted.finish().as_deref(), Some("abort"));
    let empty = stream(&server, "f20").await;
    assert_eq!((empty.text().as_str(), empty.finish().as_deref()), ("", Some("stop")));
    assert_eq!(empty.usage()["completion_tokens"], 0);
}

#[tokio::test]
async fn f28_drips_five_tokens_a_second() {
    let server = server().await;
    let ask = Ask::chat("f28", PROMPT).stream().leaving_after(7);
    let reply = ask.send(&server.base_url("t")).await;
    // The role, then six tokens with five gaps of 0.2 s between them.
    let took = reply.events[6].at - reply.events[1].at;
    assert!((950..1500).contains(&took.as_millis()), "{took:?}");
    assert!(reply.comments.len() >= 4, "{:?}", reply.comments);
}

#[tokio::test]
async fn f29_ends_inside_the_arguments() {
    let server = server().await;
    let tools = json!([{"type": "function", "function": {"name": "weather"}}]);
    let ask = Ask::chat("f29", "call it").stream().with("tools", tools);
    let reply = ask.send(&server.base_url("t")).await;
    assert_eq!(reply.calls(), [("weather".to_owned(), "{\"city\":\"Bei".to_owned())]);
    assert!(!reply.terminated);
}

#[tokio::test]
async fn f30_cuts_inside_a_character_an_event_and_a_line_end() {
    let server = server().await;
    let character = stream(&server, "f30a").await;
    assert_eq!(character.body.last(), Some(&"海".as_bytes()[0]));
    let event = stream(&server, "f30b").await;
    assert!(event.body.ends_with(b"\n\ndata: {\"cho"));
    let line_end = stream(&server, "f30c").await;
    assert_eq!(line_end.body.last(), Some(&b'\r'));
    assert!(line_end.body.windows(4).any(|bytes| bytes == b"\r\n\r\n"));
    for reply in [character, event, line_end] {
        assert!(!reply.terminated);
        assert_eq!(reply.text(), answer_text(PROMPT)[..20].concat());
    }
    let uncut = stream(&server, "f30d").await;
    assert_eq!(uncut.text(), whole());
    assert!(uncut.terminated && uncut.longest_gap() >= Duration::from_millis(45));
}

#[tokio::test]
async fn the_first_cut_of_a_conversation_is_the_only_one() {
    let server = server().await;
    let cut = stream(&server, "cutbytes-1000").await;
    assert_eq!((cut.body.len(), cut.terminated), (1000, false));
    assert_eq!(stream(&server, "cutbytes-1000").await.text(), whole());
    let by_token = stream(&server, "cut-7").await;
    assert_eq!(by_token.text(), answer_text(PROMPT)[..7].concat());
    for seed in 0..12 {
        let model = format!("seeded-{seed}");
        let first = Ask::chat(&model, PROMPT).stream().patient_for(Duration::from_millis(900));
        let first = first.send(&server.base_url("t")).await;
        assert!(first.status == 0 || whole().starts_with(&first.text()), "seed {seed}");
        assert!(!(first.terminated && first.is_done()), "seed {seed}");
        assert_eq!(stream(&server, &model).await.text(), whole(), "seed {seed}");
    }
}

#[tokio::test]
async fn f40_refuses_and_the_flapping_port_comes_and_goes() {
    let server = server().await;
    let connects = async |url: &str| {
        let host = url.strip_prefix("http://").expect("a URL").to_owned();
        TcpStream::connect(host).await.is_ok()
    };
    assert!(!connects(&server.addresses.refused).await);
    assert!(connects(&server.addresses.flap).await);
    server.flap(faults::Flap { down_ms: 300, up_ms: 10_000 });
    for expected in [false, true] {
        let limit = Instant::now() + Duration::from_secs(5);
        while connects(&server.addresses.flap).await != expected {
            assert!(Instant::now() < limit, "it does not become {expected}");
            // waits for: the phase to change
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn limits_revocation_and_log_are_set_and_told_over_http() {
    let server = server().await;
    let control = |rest: &str| format!("{}/control/{rest}", server.addresses.url);
    assert_eq!(post(&control("set?scope=t&key=key&value=revoked")).await.status, 200);
    assert_eq!(plain(&server, "f24").await.status, 401);
    assert_eq!(post(&control("reset?scope=t")).await.status, 200);
    server.set("t", "rate", "2");
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(
            Ask::chat("ok", PROMPT)
                .with("max_tokens", json!(1))
                .send(&server.base_url("t"))
                .await
                .status,
        );
    }
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(post(&control("set?scope=t&key=nonsense&value=1")).await.status, 400);
    assert_eq!(get(&control("reset?scope=t")).await.status, 405);
    let log = get(&control("log?scope=t")).await.json();
    assert_eq!(log.as_array().map(Vec::len), Some(3));
    assert_eq!(log[0]["model"], "ok");
    assert_eq!(log[0]["ended"], "served");
    assert_eq!(log[0]["last_role"], "user");
    assert!(log[0]["peer_closed_after_ms"].is_null());
    assert_eq!(get(&control("body?scope=t&n=1")).await.json()["max_tokens"], 1);
}

#[tokio::test]
async fn a_client_that_leaves_mid_stream_is_seen_leaving() {
    let server = server().await;
    let ask = Ask::chat("long-2000-5ms", PROMPT).stream().leaving_after(21);
    let left = ask.send(&server.base_url("t")).await.took;
    let attempt = only_attempt(&server, "t").await;
    assert_eq!(attempt.ended, Some("peer_closed"));
    let after = Duration::from_millis(attempt.peer_closed_after_ms.expect("it hung up"));
    assert!(after.abs_diff(left) < Duration::from_millis(100), "{after:?} {left:?}");
    assert!((20..40).contains(&attempt.tokens_sent), "{}", attempt.tokens_sent);
}

#[tokio::test]
async fn f43_speaks_http2_and_resets_one_stream() {
    let server = server().await;
    let host = server.addresses.h2.strip_prefix("http://").expect("a URL");
    let mut tcp = TcpStream::connect(host).await.expect("connect");
    let body = json!({"model": "f43e", "messages": []}).to_string();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    // :method POST and :scheme http by index, then :path as a literal.
    let path = b"/s/h/v1/chat/completions";
    let mut block = vec![0x83, 0x86, 0x04, path.len() as u8];
    block.extend(path);
    bytes.extend([0, 0, block.len() as u8, 1, 4, 0, 0, 0, 1]);
    bytes.extend(block);
    bytes.extend([0, 0, body.len() as u8, 0, 1, 0, 0, 0, 1]);
    bytes.extend(body.as_bytes());
    tcp.write_all(&bytes).await.expect("send");
    let reset = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 11];
    let mut seen = Vec::new();
    while !seen.windows(reset.len()).any(|window| window == reset) {
        assert!(tcp.read_buf(&mut seen).await.expect("read") > 0, "{seen:?}");
    }
    let attempt = only_attempt(&server, "h").await;
    assert!(attempt.http2);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn f44_leaves_what_arrives_unacknowledged() {
    let server = server().await;
    let mut tcp = raw(&server, "f44c").await;
    let mut seen = Vec::new();
    while !seen.ends_with(b"0\r\n\r\n") {
        assert!(tcp.read_buf(&mut seen).await.expect("read") > 0);
    }
    // waits for: the filter, which goes in right behind the last byte
    tokio::time::sleep(Duration::from_millis(50)).await;
    let socket = socket2::SockRef::from(&tcp);
    socket.set_tcp_user_timeout(Some(Duration::from_millis(500))).expect("set");
    tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("send");
    let started = Instant::now();
    let error = tcp.read_buf(&mut seen).await.expect_err("no acknowledgement comes");
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_thousand_answers_leave_nothing_open() {
    let server = server().await;
    server.set("t", "token_ms", "0");
    server.set("t", "first_token_ms", "0");
    for _ in 0..1000 {
        assert_eq!(plain(&server, "ok").await.status, 200);
    }
    assert_eq!(server.log("t").len(), 1000);
    let limit = Instant::now() + Duration::from_secs(5);
    while server.open_connections() > 0 {
        assert!(Instant::now() < limit, "{} are left open", server.open_connections());
        // waits for: the server to see the last connection end
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.stop().await;
}
