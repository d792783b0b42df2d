//! What users report and what fails, as the public is told of it by a real process.

use crate::bed::nodes::SOON;
use crate::status::{Running, ask, until};
use mainstay::keys::hex;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

/// What the caller has.
const KEY: &str = "sk-mainstay-0123456789abcdef0123456789abcdef";

fn bearer() -> String {
    format!("authorization: Bearer {KEY}\r\n")
}

/// A gateway whose only provider refuses connections, and its page.
fn start(root: &Path) -> Running {
    let file = root.join("mainstay.toml");
    let text = format!(
        "[listen]\napi = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nstatus = \"127.0.0.1:0\"\n\
         [node]\ndata_dir = {:?}\n[status]\ngreen = \"2s\"\n\
         [[site]]\nname = \"gone\"\nprovider = \"openai\"\nkey = \"k\"\n\
         base_url = \"http://127.0.0.1:1/v1\"\n\
         [[key]]\nname = \"acme\"\nhash = \"{}\"\n\
         [[model]]\nname = \"chat\"\nserved_by = [\"gone/m\"]\n",
        root.join("data").display().to_string(),
        hex(&Sha256::digest(KEY)),
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
    told(running, "incident", words)
}

fn told(running: &Running, command: &str, words: &[&str]) -> Output {
    let admin = format!("http://{}", running.address("admin"));
    let mut started = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    started.env_clear().arg(command).args(words).args(["--admin", &admin]);
    started.output().expect("it runs")
}

fn maintenances(page: &str) -> Value {
    let (_, body) = ask(page, "/api/v2/scheduled-maintenances.json", "").expect("JSON");
    let told: Value = serde_json::from_str(&body).expect("JSON");
    told["scheduled_maintenances"].clone()
}

/// The draft of the report of incident 1 is finished by a person and made public.
fn report(running: &Running, root: &Path) {
    let page = running.address("status");
    let draft = incident(running, &["report", "1"]);
    let draft = String::from_utf8(draft.stdout).expect("text");
    assert!(draft.starts_with("## TL;DR\n") && draft.contains("UTC: Investigating: "), "{draft}");
    let file = root.join("report.md");
    let path = file.display().to_string();
    std::fs::write(&file, &draft).expect("written");
    let early = incident(running, &["report", "1", "--file", &path]);
    assert!(String::from_utf8_lossy(&early.stderr).contains("a gap to fill"), "{early:?}");
    let (_, body) = ask(&page, "/en/incidents/1", "").expect("a page");
    assert!(!body.contains("TL;DR"), "{body}");
    std::fs::write(&file, draft.replace("(fill in:", "(so:")).expect("written");
    assert!(incident(running, &["report", "1", "--file", &path]).status.success());
    let (_, body) = ask(&page, "/zh/incidents/1", "").expect("a page");
    assert!(body.contains("<h2>摘要</h2>"), "{body}");
    assert_eq!(incidents(&page)[0]["status"], "postmortem");
}

/// The page as files: in whole sentences, each page small, no link astray.
fn export(running: &Running, root: &Path) {
    let (page, files) = (running.address("status"), root.join("files"));
    for from in [["--from", &format!("http://{page}")], ["--config", "mainstay.toml"]] {
        let mut started = Command::new(env!("CARGO_BIN_EXE_mainstay"));
        started.env_clear().current_dir(root).args(["status", "export", "files"]).args(from);
        let done = started.output().expect("it runs");
        assert!(done.status.success(), "{done:?}");
        let read = |name: &str| std::fs::read_to_string(files.join(name)).expect(name);
        for name in ["index.html", "zh/index.html", "en/history.html", "zh/incidents/1.html"] {
            let text = read(name);
            assert!(text.len() <= 100 * 1000 && text.ends_with("</html>\n"), "{name}");
            let links = text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
            let near = links.filter(|link| !link.starts_with("http") && !link.starts_with('#'));
            let at = files.join(name);
            for link in near {
                let to = at.parent().expect("a directory").join(link);
                assert!(to.is_file(), "{name}: {link}");
            }
        }
        let told: Value = serde_json::from_str(&read("api/v2/incidents.json")).expect("JSON");
        assert_eq!(told["incidents"][0]["status"], "postmortem");
        assert!(read("history.atom").contains("<entry>") && read("badge.svg").starts_with("<svg"));
        assert!(read("en/maintenance/1.html").contains("This is a snapshot of "));
    }
}

/// Who gives the beginning of a key is told how its requests fare.
async fn answered(page: &str) {
    let began = Instant::now();
    for network in 100..250 {
        let form = format!("kind=errors&key={KEY}");
        let reply = post(page, ([127, 0, network, 1], "/report"), "", &form).await;
        assert!(!reply.contains("0123456789"), "{reply}");
        if reply.contains("we saw 4 of your 4 requests fail") {
            return;
        }
        assert!(began.elapsed() < SOON, "{reply}");
        // waits for: the gateway's next summary
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Work is announced, begins and is seen.
fn announce(running: &Running) {
    let page = running.address("status");
    let words = ["announce", "New <racks>", "--component", "site/gone", "--for", "1h"];
    let done = told(running, "maintenance", &words);
    assert!(done.status.success(), "{done:?}");
    until("the work begins", SOON, || maintenances(&page)[0]["status"] == "in_progress");
    let (_, body) = ask(&page, "/en/", "").expect("a page");
    assert!(body.contains("New &lt;racks&gt;") && body.contains("Under maintenance"), "{body}");
    let wrong = told(running, "maintenance", &["end", "7"]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("maintenance list"), "{wrong:?}");
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
    for _ in 0..5 {
        post(&page, from, "", "kind=slow").await;
    }
    let last = post(&page, from, "", "kind=slow").await;
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
        let reply = post(&running.address("api"), from, &bearer(), call).await;
        assert!(reply.starts_with("HTTP/1.1 503"), "{reply}");
    }
    answered(&page).await;
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
    nothing_runs(&page);
    let wrong = incident(&running, &["open", "x", "--component", "model/chta"]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("model/chat"));

    // Neither a page of another site nor a name that was pointed here changes anything.
    let open = "{\"verb\":\"open\",\"title\":\"forged\",\"components\":[\"api\"]}";
    let from = ([127, 0, 0, 1], "/-/incident");
    let refused = post(&running.address("admin"), from, foreign, open).await;
    assert!(refused.starts_with("HTTP/1.1 403"));

    report(&running, root.path());
    announce(&running);
    export(&running, root.path());
    drop(running);
    is_kept(root.path());
}

/// What a person wrote is text wherever it is read.
fn nothing_runs(page: &str) {
    for path in ["/en/", "/zh/", "/en/incidents/1", "/zh/history", "/history.rss", "/history.atom"]
    {
        let (head, body) = ask(page, path, "").expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
        // RSS is escaped twice: its readers take it for HTML.
        assert!(!body.contains("<script") && body.contains("lt;script&"), "{path}: {body}");
    }
}

/// All of it is there after a restart.
fn is_kept(root: &Path) {
    let again = start(root);
    let kept = incidents(&again.address("status"));
    assert_eq!((kept.len(), &kept[0]["status"]), (1, &Value::from("postmortem")));
    assert_eq!(maintenances(&again.address("status"))[0]["status"], "in_progress");
    assert!(told(&again, "maintenance", &["end", "1"]).status.success());
    let listed = told(&again, "maintenance", &["list"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("verifying"), "{listed:?}");
}
