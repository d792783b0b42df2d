//! Which part of an engine does a request is ours to say: what a client says of it does not arrive.

use super::*;
use crate::attempt::Site;
use crate::handover::{OPEN, offer};
use crate::site::OURS;

#[tokio::test]
async fn no_field_and_no_header_by_which_a_client_would_choose_a_part_of_an_engine_reaches_it() {
    let answer = said("to be", "") + &said("", "stop") + "data: [DONE]\n\n";
    let list =
        [("/health", 200, ""), ("/metrics", 200, ""), ("/v1/chat/completions", 200, &*answer)];
    let (at, log, _playing) = server("127.0.0.1:0", &pages(&list)).await;
    let (node, _orders, gateway) = site(0).await;
    let stop = CancellationToken::new();
    let group = group((Engine::Vllm, Place::Address(url(at))));
    tokio::spawn(run(node.clone(), group, stop.clone()));
    until(&node, &[(url(at), Verdict::Up)]).await;
    let Site::Node(account) = &gateway else { panic!("a site has a door") };
    let door = account.base.trim_start_matches("http://").trim_end_matches("/v1");
    let mut body = json!({ "model": "m", "stream": true, "seed": 3 });
    body["messages"] = json!([{ "role": "user", "content": "hi" }]);
    OURS.iter().for_each(|field| body[*field] = json!(7));
    let (body, open) = (body.to_string(), start("m", 0).open.unwrap());
    let open = offer(&open, "pro").unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {door}\r\nconnection: close\r\n{OPEN}: {}\r\n\
         x-data-parallel-rank: 3\r\nx-any: 4\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        open.to_str().unwrap(),
        body.len(),
    );
    let mut stream = TcpStream::connect(door).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200") && reply.contains("to be"), "{reply}");
    let asked = log.lock().unwrap().clone();
    let asked = asked.iter().find(|asked| asked.starts_with("POST")).expect("it was asked");
    assert!(asked.contains("\"seed\":3"), "{asked}");
    for ours in OURS.iter().chain(&["x-data-parallel-rank", "x-any"]) {
        assert!(!asked.to_lowercase().contains(ours), "{ours}: {asked}");
    }
    stop.cancel();
}
