//! The embedded engine in a process of its own: what kills it kills nobody else.

use crate::bed::client::Ask;
use crate::bed::gateway::Gateway;
use crate::embedded::tiny;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Long enough that nobody has written it before somebody else is killed.
const TOKENS: u32 = 3000;

/// A gateway with the model in `directory` in a process of its own, and once more in its own.
async fn gateway(directory: &Path) -> Gateway {
    let path = directory.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["max_position_embeddings"] = json!(2 * TOKENS);
    std::fs::write(&path, config.to_string()).unwrap();
    Gateway::start(&format!(
        "[listen]\napi = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\n\
         [[site]]\nname = \"a\"\nengine = {{ model = {directory:?}, process = true }}\n\n\
         [[site]]\nname = \"b\"\nengine = {{ model = {directory:?} }}\n\n\
         [[model]]\nname = \"both\"\nserved_by = [\"a/tiny\", \"b/tiny\"]\n\n\
         [[model]]\nname = \"apart\"\nserved_by = [\"a/tiny\"]\n"
    ))
    .await
}

/// The processes that this one started.
fn children(id: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task")).expect("a process");
    let of = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).ok();
    let ids: Vec<String> = tasks.flatten().filter_map(of).collect();
    ids.join(" ").split_whitespace().map(|id| id.parse().expect("a number")).collect()
}

fn kill(id: u32) {
    let sent = Command::new("kill").args(["-KILL", &id.to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

/// Until it is so, for it is promised soon.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        // waits for: another process
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A stream of which `then` is called when its first text is there; all that came of it.
async fn stream(gateway: &Gateway, model: &str, then: impl FnOnce()) -> String {
    let address = gateway.api.trim_start_matches("http://");
    let mut socket = TcpStream::connect(address).await.unwrap();
    let body = json!({ "model": model, "stream": true, "max_tokens": TOKENS, "temperature": 0,
        "logit_bias": { "1": -100 },
        "messages": [{ "role": "user", "content": "go on and on" }] });
    let body = body.to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let (mut all, mut then) = (Vec::new(), Some(then));
    let mut piece = [0; 4096];
    loop {
        let count = socket.read(&mut piece).await.unwrap();
        if count == 0 {
            return String::from_utf8(all).unwrap();
        }
        all.extend(&piece[..count]);
        if then.is_some() && String::from_utf8_lossy(&all).matches("\"content\":\"").count() > 3 {
            then.take().expect("just seen")();
        }
    }
}

fn whole(told: &str) {
    let end = &told[told.len().saturating_sub(900)..];
    assert!(told.contains("data: [DONE]"), "{end}");
    assert!(told.contains("\"finish_reason\":\"length\""), "{end}");
}

/// Has it answer, and returns the process that did.
async fn wake(gateway: &Gateway) -> u32 {
    let short = Ask::chat("apart", "hello").with("max_tokens", json!(3));
    assert_eq!(short.send(&format!("{}/v1", gateway.api)).await.status, 200);
    let [id] = children(gateway.id())[..] else { panic!("{:?}", children(gateway.id())) };
    id
}

#[tokio::test]
async fn an_answer_whose_engines_process_is_killed_is_gone_on_with_elsewhere() {
    let (_keep, directory) = tiny();
    let gateway = gateway(&directory).await;
    assert!(children(gateway.id()).is_empty(), "it is started when it is first wanted");
    let first = wake(&gateway).await;
    whole(&stream(&gateway, "both", || kill(first)).await);
    until("its end is told", || gateway.said().contains("engine's process ended")).await;
    assert_ne!(wake(&gateway).await, first);
}

#[tokio::test]
async fn an_answer_that_nobody_else_can_go_on_with_goes_on_where_the_process_is_back() {
    let (_keep, directory) = tiny();
    let gateway = gateway(&directory).await;
    let first = wake(&gateway).await;
    whole(&stream(&gateway, "apart", || kill(first)).await);
    let [second] = children(gateway.id())[..] else { panic!("{:?}", children(gateway.id())) };
    assert_ne!(first, second);
    kill(gateway.id());
    let gone = || !Path::new(&format!("/proc/{second}")).exists();
    until("nobody is left behind by whoever started it", gone).await;
}
