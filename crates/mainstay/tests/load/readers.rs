//! F51: clients that read slowly, or not at all.

use crate::PROCESSORS;
use crate::bed::client::{Ask, Reply};
use crate::bed::told::told as told_as;
use crate::bed::{Bed, Layout, PRIMARY, Place, hung_up, millis};
use mainstay::faults::answer::answer_tokens;
use std::time::{Duration, Instant};

const PROMPT: &str = "What does the tide bring? 潮水带来什么?";

const KIB: u64 = 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f51_a_slow_reader_gets_every_token_and_is_nobodys_fault() {
    let _processors = PROCESSORS.read().await;
    tokio::join!(slow_reader("f51", 6000, 30), slow_reader("long-12000-1ms", 12_000, 12));
}

/// Reads the answer of `model` at 1 KiB/s for `slow` seconds, then fast.
async fn slow_reader(model: &str, tokens: usize, slow: u64) {
    let steady = "long-300-10ms";
    let layout = Layout::new(Place::Equal, model, "ok")
        .more(&format!("[[model]]\nname = \"steady\"\nserved_by = [\"primary/{steady}\"]"));
    let bed = Bed::start(&layout).await;
    let other = Ask::chat("steady", "another").stream();
    bed.send(&other).await;
    let alone = median_gap(&bed.send(&other).await);
    let before = bed.gateway.memory();
    let ask = Ask::chat("chat", PROMPT).stream().reading_at(1024);
    let ask = ask.slow_for(Duration::from_secs(slow)).patient_for(Duration::from_secs(120));
    let reader = bed.ask_soon(ask);
    // waits for: what lies between to fill up, as far as it may
    tokio::time::sleep(Duration::from_secs(slow - 5)).await;
    let beside = median_gap(&bed.send(&other).await);
    let grown = bed.gateway.memory().saturating_sub(before);
    let reply = reader.await.expect("no panic");
    assert_eq!(reply.text(), answer_tokens(PROMPT, tokens).concat());
    assert_eq!(reply.finish().as_deref(), Some("stop"));
    assert!(reply.terminated && reply.is_done());
    assert!(reply.took >= Duration::from_secs(slow));
    told_as(&bed, &reply, &["primary: whole"]).await;
    println!("{model}: gaps {alone:?} alone, {beside:?} beside it, memory + {grown} bytes");
    // A timer of the fault server is as fine as 1 ms.
    assert!(beside <= alone.mul_f64(1.05) + millis(1), "{alone:?} alone, {beside:?} beside");
    assert!(grown <= 256 * KIB + 1024 * KIB, "grew by {grown} bytes");
    bed.is_well().await;
}

fn median_gap(reply: &Reply) -> Duration {
    let mut gaps: Vec<Duration> =
        reply.events.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    gaps.sort_unstable();
    gaps[gaps.len() / 2]
}

#[tokio::test]
async fn f51_a_client_that_reads_nothing_at_all_is_closed_after_a_minute() {
    let bed = Bed::start(&Layout::new(Place::Equal, "long-100000-0ms", "ok")).await;
    let host = bed.gateway.api.trim_start_matches("http://").parse().expect("an address");
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(16 * 1024).expect("a small buffer");
    let mut tcp = socket.connect(host).await.expect("connect");
    let body = Ask::chat("chat", PROMPT).stream().body.to_string();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length";
    let request = format!("{head}: {}\r\n\r\n{body}", body.len());
    tokio::io::AsyncWriteExt::write_all(&mut tcp, request.as_bytes()).await.expect("send");
    let limit = Instant::now() + Duration::from_secs(70);
    while bed.faults.log(PRIMARY).first().is_none_or(|attempt| attempt.ended.is_none()) {
        assert!(Instant::now() < limit, "a client that reads nothing is kept");
        // waits for: the gateway to give up on its client
        tokio::time::sleep(millis(100)).await;
    }
    let minute = Duration::from_secs(60);
    hung_up(&bed.primary().await[0], minute - millis(500), minute + Duration::from_secs(4));
    bed.saw(1, 0);
    bed.is_well().await;
}
