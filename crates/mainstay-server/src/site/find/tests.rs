//! Workers that are played: servers that answer what engines answer, and places that name them.

mod ours;
mod silent;

use super::*;
use crate::attempt::Item;
use crate::setup::{Kubernetes, Secret};
use crate::site::engine::Engine;
use crate::site::tests::{attempt, site, start};
use mainstay_core::site::schedule::worker::Verdict;
use serde_json::json;
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Packet, PacketFlag, ResourceRecord};
use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{JoinHandle, JoinSet};

/// Often, so that tests take no longer than they must.
const OFTEN: Duration = Duration::from_millis(50);
/// The status of an answer that never comes.
const NEVER: u16 = 0;

/// What a played server answers, by path.
type Pages = Arc<Mutex<HashMap<&'static str, (u16, String)>>>;

/// A server that answers `pages`, and what it was asked, headers included.
async fn server(
    address: &str,
    pages: &Pages,
) -> (SocketAddr, Arc<Mutex<Vec<String>>>, JoinHandle<()>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let (at, asked) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
    let (pages, log) = (pages.clone(), asked.clone());
    let playing = tokio::spawn(async move {
        // They end with it.
        let mut open = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (pages, log) = (pages.clone(), log.clone());
            open.spawn(async move { while answer(&mut stream, &pages, &log).await {} });
        }
    });
    (at, asked, playing)
}

/// One exchange; whether another may follow. An answer that is a stream ends with the connection.
async fn answer(stream: &mut TcpStream, pages: &Pages, log: &Mutex<Vec<String>>) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return false };
        head.push(byte);
    }
    let mut asked = String::from_utf8(head).unwrap();
    let path = asked.split(' ').nth(1).unwrap().to_owned();
    let length = asked.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.unwrap();
    asked.push_str(&String::from_utf8(body).unwrap());
    let goes_on = asked.contains("continue_final_message");
    log.lock().unwrap().push(asked);
    let path = if goes_on { format!("{path}, again") } else { path };
    let page = pages.lock().unwrap().get(path.as_str()).cloned();
    let (status, body) = page.unwrap_or((404, String::new()));
    if status == NEVER {
        std::future::pending::<()>().await;
    }
    let is_stream = body.starts_with("data:");
    let length = match is_stream {
        true => String::new(),
        false => format!("content-length: {}\r\n", body.len()),
    };
    let reply = format!("HTTP/1.1 {status} X\r\n{length}\r\n{body}");
    stream.write_all(reply.as_bytes()).await.is_ok() && !is_stream
}

fn pages(list: &[(&'static str, u16, &str)]) -> Pages {
    let page =
        |(path, status, body): &(&'static str, u16, &str)| (*path, (*status, (*body).to_owned()));
    Arc::new(Mutex::new(list.iter().map(page).collect()))
}

fn llama_cpp() -> Pages {
    pages(&[
        ("/health", 200, "{}"),
        ("/metrics", 200, "llamacpp:requests_processing 1\nllamacpp:requests_deferred 0\n"),
        ("/slots", 503, "{}"),
        ("/props", 200, r#"{"total_slots":4,"model_alias":"m"}"#),
    ])
}

fn group((engine, place): (Engine, Place)) -> Group {
    let outside = Outside {
        engine,
        place,
        serves: "m".into(),
        model: "m".into(),
        sequences: None,
        tokens_per_second: None,
        profile: None,
        key: Some(Secret::new("k-1")),
    };
    Group { outside, pool: 0, connect_limit: Duration::from_secs(1), every: OFTEN }
}

/// A site that finds `place`'s workers.
async fn found(place: Place) -> (Arc<Node>, CancellationToken) {
    let (node, _, _) = site(0).await;
    let stop = CancellationToken::new();
    tokio::spawn(run(node.clone(), group((Engine::LlamaCpp, place)), stop.clone()));
    (node, stop)
}

fn verdicts(node: &Node) -> Vec<(String, Verdict)> {
    node.crew.stands().into_iter().map(|stands| (stands.address, stands.verdict)).collect()
}

/// Streams that the machine knows of.
fn streams(node: &Node) -> u32 {
    let now = node.controller.clock().now();
    let target = node.models[0].target;
    node.controller.read(|site| site.standing(now, target)).map_or(0, |standing| standing.streams)
}

/// Waits until the workers stand so.
async fn until(node: &Node, wanted: &[(String, Verdict)]) {
    let limit = tokio::time::Instant::now() + Duration::from_secs(20);
    while verdicts(node) != wanted {
        assert!(tokio::time::Instant::now() < limit, "{:?}", verdicts(node));
        // waits for: a look at a worker, or where workers are, that comes by itself.
        sleep(OFTEN / 5).await;
    }
}

#[tokio::test]
async fn a_worker_is_used_once_it_answers_and_no_more_when_it_refuses() {
    let pages = llama_cpp();
    pages.lock().unwrap().insert("/health", (503, "loading".into()));
    let (at, asked, playing) = server("127.0.0.1:0", &pages).await;
    let (node, stop) = found(Place::Address(url(at))).await;
    until(&node, &[(url(at), Verdict::Down)]).await;
    while asked.lock().unwrap().len() < 2 {
        // waits for: the second look.
        sleep(OFTEN / 5).await;
    }
    assert_eq!(streams(&node), 0, "it loads");
    pages.lock().unwrap().insert("/health", (200, String::new()));
    until(&node, &[(url(at), Verdict::Up)]).await;
    assert_eq!(streams(&node), 4, "its slots, and 503 of /slots says nothing of its health");
    let shown = crate::site::show::page(&node);
    let worker = &shown["workers"][0];
    assert_eq!((&worker["running"], &worker["kv_use"]), (&1.into(), &serde_json::Value::Null));
    let lines = crate::site::show::exposition(&node);
    let of = format!("{{model=\"m\",address=\"{}\"}}", url(at));
    assert!(lines.contains(&format!("mainstay_worker_up{of} 1\n")), "{lines}");
    assert!(!lines.contains("kv_use"), "what it does not say has no line: {lines}");
    assert!(lines.contains("mainstay_headroom_cost_units_per_second{model=\"m\"} "), "{lines}");
    assert!(!lines.contains("mainstay_queue_delay_seconds"), "nothing was asked for: {lines}");
    assert!(asked.lock().unwrap().iter().all(|head| head.contains("Bearer k-1")));
    playing.abort();
    until(&node, &[(url(at), Verdict::Down)]).await;
    assert_eq!(streams(&node), 0);
    let (_, _, _playing) = server(&at.to_string(), &pages).await;
    until(&node, &[(url(at), Verdict::Probation)]).await;
    assert_eq!(streams(&node), 1, "it begins with a little");
    stop.cancel();
}

#[tokio::test]
async fn workers_come_and_go_with_the_addresses_of_a_name() {
    let pages = llama_cpp();
    let (first, _, _one) = server("127.0.0.1:0", &pages).await;
    let port = first.port();
    let (second, _, _two) = server(&format!("127.0.0.2:{port}"), &pages).await;
    let names = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let resolver = names.local_addr().unwrap();
    let answers = Arc::new(Mutex::new(vec![Ipv4Addr::new(127, 0, 0, 1)]));
    let told = answers.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let (length, from) = names.recv_from(&mut buffer).await.unwrap();
            let asked = Packet::parse(&buffer[..length]).unwrap();
            let mut reply = Packet::new_reply(asked.id());
            reply.set_flags(PacketFlag::RESPONSE);
            let name = asked.questions[0].qname.clone();
            if asked.questions[0].qtype == simple_dns::TYPE::A.into() {
                for address in told.lock().unwrap().iter() {
                    let data = RData::A(A { address: u32::from(*address) });
                    reply.answers.push(ResourceRecord::new(name.clone(), CLASS::IN, 10, data));
                }
            }
            names.send_to(&reply.build_bytes_vec().unwrap(), from).await.unwrap();
        }
    });
    let place = Place::Dns { host: "w.test".into(), port, resolver: Some(resolver) };
    let (node, stop) = found(place).await;
    until(&node, &[(url(first), Verdict::Up)]).await;
    answers.lock().unwrap().push(Ipv4Addr::new(127, 0, 0, 2));
    until(&node, &[(url(first), Verdict::Up), (url(second), Verdict::Up)]).await;
    assert_eq!(streams(&node), 8);
    answers.lock().unwrap().remove(0);
    until(&node, &[(url(second), Verdict::Up)]).await;
    assert_eq!(streams(&node), 4, "the other had nothing to finish");
    // A name without an address takes nobody away.
    answers.lock().unwrap().clear();
    sleep(OFTEN * 4).await; // waits for: the name to be asked for again, some times over.
    until(&node, &[(url(second), Verdict::Up)]).await;
    stop.cancel();
}

#[tokio::test]
async fn workers_come_and_go_with_the_pods_that_a_selector_finds() {
    let played = llama_cpp();
    let (at, _, _worker) = server("127.0.0.1:0", &played).await;
    let path = "/api/v1/namespaces/inference/pods?labelSelector=app%3Dllama";
    let pod = |ready: &str, more: &str| {
        format!(
            r#"{{"items":[{{"metadata":{{"name":"w"{more}}},"status":{{"podIP":"127.0.0.1","phase":
            "Running","conditions":[{{"type":"Ready","status":"{ready}"}}]}}}},
            {{"status":{{"phase":"Pending"}}}}]}}"#
        )
    };
    let api = pages(&[(path, 403, "")]);
    let (cluster, asked, _api) = server("127.0.0.1:0", &api).await;
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "t-1\n").unwrap();
    let place = Kubernetes {
        selector: "app=llama".into(),
        namespace: "inference".into(),
        port: at.port(),
        api: url(cluster),
        token_file: Some(token.path().into()),
        ca_file: None,
    };
    let refused = Pods::new(&place, Duration::from_secs(1)).unwrap().list().await.unwrap_err();
    assert!(refused.contains("let this process's service account list pods in"), "{refused}");
    let (node, stop) = found(Place::Kubernetes(place)).await;
    let say = |body: String| api.lock().unwrap().insert(path, (200, body));
    say(pod("False", ""));
    sleep(OFTEN * 2).await; // waits for: a list without a pod that is ready.
    assert_eq!(verdicts(&node), []);
    say(pod("True", ""));
    until(&node, &[(url(at), Verdict::Up)]).await;
    // One that is being ended gets nothing more.
    say(pod("True", r#","deletionTimestamp":"2026-11-26T12:00:00Z""#));
    until(&node, &[]).await;
    assert_eq!(streams(&node), 0);
    assert!(asked.lock().unwrap().iter().all(|head| head.contains("Bearer t-1")));
    stop.cancel();
}

/// A chunk of a chat as vLLM writes it.
fn said(text: &str, finish: &str) -> String {
    let finish = (!finish.is_empty()).then_some(finish);
    let choice = json!({ "index": 0, "delta": { "content": text }, "finish_reason": finish });
    let object = "chat.completion.chunk";
    let mut chunk = json!({ "id": "c", "object": object, "created": 1, "model": "m" });
    chunk["choices"] = json!([choice]);
    format!("data: {chunk}\n\n")
}

#[tokio::test]
async fn an_answer_that_vllm_began_goes_on_in_its_own_form_and_as_one_answer() {
    let begun = said("to be", "") + &said(" or not", "");
    let rest = said(" to be, that is the question", "") + &said("", "stop");
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":7,\
                 \"total_tokens\":19}}\n\ndata: [DONE]\n\n";
    let pages = pages(&[
        ("/health", 200, ""),
        ("/metrics", 200, ""),
        ("/v1/chat/completions", 200, &begun),
        ("/v1/chat/completions, again", 200, &(rest + usage)),
    ]);
    let (node, _, gateway) = site(0).await;
    let stop = CancellationToken::new();
    let mut workers = Vec::new();
    for _ in 0..2 {
        let (at, asked, playing) = server("127.0.0.1:0", &pages).await;
        let place = Place::Address(url(at));
        tokio::spawn(run(node.clone(), group((Engine::Vllm, place)), stop.clone()));
        workers.push((asked, playing));
    }
    let limit = tokio::time::Instant::now() + Duration::from_secs(20);
    while streams(&node) == 0 {
        assert!(tokio::time::Instant::now() < limit);
        // waits for: the first look at a worker.
        sleep(OFTEN / 5).await;
    }
    let mut attempt = attempt(&gateway, &start("m", 0), "pro");
    let (mut text, mut usage, mut ids) = (String::new(), None, BTreeSet::new());
    loop {
        match attempt.next().await {
            Item::Ack(_) | Item::Beat => {}
            Item::Chunk(chunk) => {
                text.extend(chunk.deltas.iter().map(|delta| delta.content.as_str()));
                usage = chunk.usage.or(usage);
                let json: serde_json::Value = serde_json::from_slice(&chunk.json).unwrap();
                ids.extend(json["id"].as_str().map(String::from));
            }
            Item::End => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(text, "to be or not to be, that is the question");
    // Two tokens of the answer were part of the second one's prompt.
    let usage = usage.unwrap();
    assert_eq!((usage.prompt, usage.completion), (10, 9));
    assert_eq!(ids.len(), 1, "one answer has one id: {ids:?}");
    let all = workers.iter().flat_map(|(asked, _)| asked.lock().unwrap().clone());
    let again = all.filter(|asked| asked.contains("continue_final_message")).collect::<Vec<_>>();
    assert_eq!(again.len(), 1);
    assert!(again[0].contains(r#"{"role":"assistant","content":"to be or not"}"#), "{again:?}");
    assert!(again[0].contains(r#""add_generation_prompt":false"#), "{again:?}");
    stop.cancel();
}
