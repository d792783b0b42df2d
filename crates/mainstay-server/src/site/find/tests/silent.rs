//! A worker that takes requests and never answers one, beside others that do.

use super::*;
use crate::attempt::Site;
use mainstay_core::cost::CostUnits;
use mainstay_core::gateway::Start;
use mainstay_core::names::{AttemptId, RequestId};
use std::sync::atomic::{AtomicU64, Ordering};

/// Requests in all, and clients that send them one after another.
const REQUESTS: u64 = 1000;
const CLIENTS: u64 = 9;
/// Answers that each worker computes at once.
const SEQUENCES: u32 = 3;

fn numbered(number: u64) -> Start {
    let mut start = start("m", 0);
    start.attempt = AttemptId { request: RequestId(number), number: 1 };
    if let Some(open) = &mut start.open {
        open.work.attempt = start.attempt;
        open.tenant = number as u32;
        // Far less than they carry: what is let in is not what is asked here.
        (open.credited, open.cost) = (true, CostUnits(1));
    }
    start
}

/// Asks again and again, until all was asked for; an answer that does not come keeps it for good.
async fn client(gateway: Site, next: Arc<AtomicU64>, answered: Arc<AtomicU64>) {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= REQUESTS {
            return;
        }
        let start = numbered(number);
        let mut attempt = attempt(&gateway, &start, "pro");
        let mut text = String::new();
        loop {
            match attempt.next().await {
                Item::Ack(_) | Item::Beat => {}
                Item::Chunk(chunk) => {
                    text.extend(chunk.deltas.iter().map(|delta| delta.content.as_str()));
                }
                Item::End => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(text, "to be or not to be");
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the site says of itself at its own door.
async fn health(gateway: &Site) -> String {
    let Site::Node(account) = gateway else { panic!("a site has a door") };
    let at = account.base.trim_start_matches("http://").trim_end_matches("/v1");
    let mut stream = TcpStream::connect(at).await.unwrap();
    let head = format!("GET /v1/health HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply
}

/// vllm-project/production-stack#749, #448, #431.
#[tokio::test]
async fn of_a_thousand_requests_a_worker_that_never_answers_keeps_its_own_and_no_other() {
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":5,\
                 \"total_tokens\":17}}\n\ndata: [DONE]\n\n";
    let answer = said("to be or not to be", "") + &said("", "stop") + usage;
    let well = |status, answer: &str| {
        let list = [("/health", 200, ""), ("/metrics", 200, "")];
        let all = list.into_iter().chain([("/v1/chat/completions", status, answer)]);
        pages(&all.collect::<Vec<_>>())
    };
    let (node, _, gateway) = site(0).await;
    let stop = CancellationToken::new();
    let mut asked = Vec::new();
    for (status, answer) in [(NEVER, ""), (200, &*answer), (200, &*answer)] {
        let (at, log, _) = server("127.0.0.1:0", &well(status, answer)).await;
        let mut group = group((Engine::Vllm, Place::Address(url(at))));
        group.outside.sequences = Some(SEQUENCES);
        group.outside.tokens_per_second = Some(100_000);
        tokio::spawn(run(node.clone(), group, stop.clone()));
        asked.push(log);
    }
    let limit = tokio::time::Instant::now() + Duration::from_secs(20);
    while streams(&node) < 3 * SEQUENCES {
        assert!(tokio::time::Instant::now() < limit);
        // waits for: the first look at each worker.
        sleep(OFTEN / 5).await;
    }
    let (next, answered) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(client(gateway.clone(), next.clone(), answered.clone()));
    }
    let kept = u64::from(SEQUENCES);
    let limit = tokio::time::Instant::now() + Duration::from_secs(60);
    while answered.load(Ordering::Relaxed) < REQUESTS - kept {
        assert!(tokio::time::Instant::now() < limit, "{answered:?} answered");
        if let Some(ended) = clients.try_join_next() {
            ended.expect("all was answered as it should");
        }
        assert!(health(&gateway).await.starts_with("HTTP/1.1 200"));
        // waits for: answers that others give.
        sleep(OFTEN / 5).await;
    }
    let chats = |log: &Mutex<Vec<String>>| {
        log.lock().unwrap().iter().filter(|asked| asked.starts_with("POST")).count()
    };
    assert!(chats(&asked[0]) <= SEQUENCES as usize, "nothing more after what it had room for");
    assert!(chats(&asked[1]) > 300 && chats(&asked[2]) > 300);
    stop.cancel();
}
