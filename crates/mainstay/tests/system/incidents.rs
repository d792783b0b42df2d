//! What users report and what fails, as the public is told of it by a real process.

use crate::bed::nodes::SOON;
use crate::status::{Running, ask, until};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

/// A gateway whose only provider refuses connections, and its page.
fn start(root: &Path) -> Running {
    let file = root.join("mainstay.toml");
    let text = format!(
        "[listen]\napi = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nstatus = \"127.0.0.1:0\"\n\
         [node]\ndata_dir = {:?}\n[status]\ngreen = \"2s\"\n\
         [[site]]\nname = \"gone\"\nprovider = \"openai\"\nkey = \"k\"\n\
         base_url = \"http://127.0.0.1:1/v1\"\n\
         [[model]]\nname = \"chat\"\nserved_by = [\"gone/m\"]\n",
        root.join("data").display().to_string()
    );
    std::fs::write(&file, text).expect("written");
    Running::start(root, &file.display().to_string())
}

/// The reply to a `POST` from this address of the loopback network.
async fn post(address: &str, (from, path): ([u8; 4], &str), headers: &str, body: &str) -> String {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((from, 0))).expect("an address of its own");
    let mut stream =
        socket.connect(address.parse().expect("an address")).await.expect("it listens");
    let length = body.len();
    let text = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}\
         content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await.expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("a reply");
    reply
}

fn incident(running: &Running, words: &[&str]) -> Output {
    let admin = format!("http://{}", running.address("admin"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    command.env_clear().arg("incident").args(words).args(["--admin", &admin]);
    command.output().expect("it runs")
}

fn incidents(page: &str) -> Vec<Value> {
    let (_, body) = ask(page, "/api/v2/incidents.json", "").expect("JSON");
    let told: Value = serde_json::from_str(&body).expect("JSON");
    told["incidents"].as_array().cloned().expect("a list")
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_shown_and_with_one_sign_they_are_an_incident_that_nobody_hides() {
    let root = tempfile::tempdir().expect("a directory");
    let running = start(root.path());
    let page = running.address("status");
    for network in 1..=12 {
        let from = ([127, 0, network, 1], "/report");
        let reply = post(&page, from, "", "model=chat&site=&kind=errors").await;
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    }
    let (_, html) = ask(&page, "/en/", "").expect("a page");
    assert!(html.contains("users report problems (12)") && !html.contains("<script"), "{html}");
    assert_eq!(incidents(&page), Vec::<Value>::new(), "reports alone are no incident");

    // One network is no crowd, another site's page no reader, and what is not there no model.
    let from = ([127, 0, 1, 9], "/report");
    let mut last = String::new();
    for _ in 0..6 {
        last = post(&page, from, "", "kind=slow").await;
    }
    assert!(last.starts_with("HTTP/1.1 429"), "{last}");
    let foreign = "origin: https://evil.example\r\n";
    assert!(post(&page, from, foreign, "kind=slow").await.starts_with("HTTP/1.1 403"));
    let evil = "model=%3Cscript%3E&kind=slow";
    assert!(post(&page, ([127, 0, 99, 1], "/report"), "", evil).await.starts_with("HTTP/1.1 400"));

    let (_, metrics) = ask(&running.address("admin"), "/metrics", "").expect("metrics");
    assert!(metrics.contains("mainstay_user_reports_total{category=\"errors\"} 12\n"), "{metrics}");

    // Requests that fail, too few to be a state.
    let call = "{\"model\":\"chat\",\"messages\":[{\"role\":\"user\",\"content\":\"?\"}]}";
    let from = ([127, 0, 0, 1], "/v1/chat/completions");
    for _ in 0..4 {
        let reply = post(&running.address("api"), from, "", call).await;
        assert!(reply.starts_with("HTTP/1.1 503"), "{reply}");
    }
    until("an incident opens", SOON, || incidents(&page).len() == 1);
    let first = &incidents(&page)[0];
    assert_eq!(first["status"], "investigating");
    assert!(first["incident_updates"][0]["body"].as_str().is_some_and(|it| it.contains("report")));

    // It fails still, so it is not over, but by force and with a word.
    let early = incident(&running, &["update", "1", "--stage", "resolved"]);
    let why = String::from_utf8_lossy(&early.stderr).into_owned();
    assert!(early.status.code() == Some(1) && why.contains("still fails"), "{why}");
    let word = "<script>alert(1)</script> only a drill";
    let forced = ["update", "1", "--stage", "resolved", "--force", "--text", word];
    assert!(incident(&running, &forced).status.success());
    assert_eq!(incidents(&page)[0]["status"], "resolved");
    for path in ["/en/", "/zh/", "/en/incidents/1", "/zh/history", "/history.rss", "/history.atom"]
    {
        let (head, body) = ask(&page, path, "").expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
        // RSS is escaped twice: its readers take it for HTML.
        assert!(!body.contains("<script") && body.contains("lt;script&"), "{path}: {body}");
    }
    let wrong = incident(&running, &["open", "x", "--component", "model/chta"]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("model/chat"));

    // Neither a page of another site nor a name that was pointed here changes anything.
    let admin = running.address("admin");
    let open = "{\"verb\":\"open\",\"title\":\"forged\",\"components\":[\"api\"]}";
    let from = ([127, 0, 0, 1], "/-/incident");
    assert!(post(&admin, from, foreign, open).await.starts_with("HTTP/1.1 403"));

    // All of it is there after a restart.
    drop(running);
    let again = start(root.path());
    let kept = incidents(&again.address("status"));
    assert_eq!((kept.len(), &kept[0]["status"]), (1, &Value::from("resolved")));
}
