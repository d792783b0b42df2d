//! The real program takes another configuration while it serves: no request is lost by it, a bad
//! one changes nothing, and memory and names stay as they were.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::bed::client::{Ask, Reply, get_json};
use crate::bed::gateway::Gateway;
use crate::bed::{profile, whole};
use mainstay::faults::{self, Options, Running};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

/// Nobody waits longer than this for what must come.
const SOON: Duration = Duration::from_secs(30);
/// 60 tokens in 3 s.
const SLOW: &str = "long-60-50ms";
/// Clients that ask one request after the other.
const CLIENTS: usize = 6;
/// Times the configuration is changed under load.
const RELOADS: usize = 60;
/// What resident memory may differ by between the tenth and the last reload under load: it goes up
/// and down by some megabytes as the allocator keeps pages (see `many`).
const LEFT_BEHIND: u64 = 24 * 1024 * 1024;

async fn upstreams() -> Running {
    faults::serve(Options { profile: profile(), ..Options::default() }).await.expect("upstreams")
}

/// A configuration with these sites, each a scope of the fault server, and these keys.
fn config(faults: &Running, sites: &[&str], model: &str, keys: &[&str]) -> String {
    let mut text = String::from("[listen]\napi = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n");
    for site in sites {
        text += &format!(
            "[[site]]\nname = \"{site}\"\nprovider = \"openai\"\nkey = \"sk-upstream\"\n\
             base_url = \"{}/s/{site}/v1\"\nmodels = [{{ name = \"{model}\" }}]\n",
            faults.addresses.url
        );
    }
    let served: Vec<String> = sites.iter().map(|site| format!("{site}/{model}")).collect();
    text += &format!("[[model]]\nname = \"chat\"\nserved_by = {served:?}\n");
    for key in keys {
        let hash: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
        text += &format!("[[key]]\nname = \"of-{key}\"\nhash = \"{hash}\"\n");
    }
    text
}

fn ask(prompt: &str, key: &str) -> Ask {
    let ask = Ask::chat("chat", prompt).stream().patient_for(Duration::from_secs(60));
    ask.header("authorization", &format!("Bearer {key}"))
}

async fn send(gateway: &Gateway, prompt: &str, key: &str) -> Reply {
    ask(prompt, key).send(&format!("{}/v1", gateway.api)).await
}

/// Clients that ask one request after the other until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<usize>>,
}

impl Load {
    fn start(gateway: &Gateway, key: &str) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |number: usize| {
            let (stop, base) = (stop.clone(), format!("{}/v1", gateway.api));
            let key = key.to_owned();
            tokio::spawn(async move {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    let prompt = format!("client {number}, request {count}");
                    let reply = ask(&prompt, &key).send(&base).await;
                    whole(&reply, &prompt);
                    count += 1;
                }
                count
            })
        };
        Load { tasks: (0..CLIENTS).map(client).collect(), stop }
    }

    /// How many requests there were, each of which was answered whole.
    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let mut count = 0;
        for task in self.tasks {
            count += task.await.expect("every answer is whole");
        }
        count
    }
}

fn text(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.body).into_owned()
}

async fn page(gateway: &Gateway) -> Value {
    get_json(&format!("{}/-/config", gateway.admin)).await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_run_on_when_their_site_and_key_are_taken_away() {
    let faults = upstreams().await;
    let gateway = Gateway::start(&config(&faults, &["one"], SLOW, &["old"])).await;
    let base = format!("{}/v1", gateway.api);
    let before = page(&gateway).await;
    let mut running = Vec::new();
    for number in 0..20 {
        let (prompt, base) = (format!("stream {number}"), base.clone());
        running.push(tokio::spawn(async move {
            let reply = ask(&prompt, "old").send(&base).await;
            (prompt, reply)
        }));
    }
    let began = Instant::now();
    while faults.log("one").len() < running.len() {
        assert!(began.elapsed() < SOON, "{} arrived", faults.log("one").len());
        // waits for: every stream to have reached its site
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    gateway.rewrite(&config(&faults, &["two"], SLOW, &["new"]));
    let reloaded = gateway.reload().await;
    assert_eq!(reloaded.status, 200, "{}", text(&reloaded));
    assert_eq!(send(&gateway, "revoked", "old").await.status, 401);
    let reply = send(&gateway, "new key, new site", "new").await;
    whole(&reply, "new key, new site");
    assert_eq!(reply.header("x-mainstay-site"), Some("two"));
    for task in running {
        let (prompt, reply) = task.await.expect("no panic");
        whole(&reply, &prompt);
        assert_eq!(reply.header("x-mainstay-attempts"), Some("1"));
    }
    assert_eq!(faults.log("one").len(), 20, "nothing new went there");
    let after = page(&gateway).await;
    assert_eq!((&before["sites"][0], &after["sites"][0]), (&"one".into(), &"two".into()));
    assert_eq!(after["keys"][0], "of-new");
    assert_ne!(before["hash"], after["hash"]);
    assert!(!after.to_string().contains("sk-"), "{after}");
    let whole_of = |site| async move { [format!("site=\"{site}\""), "result=\"ok\"".into()] };
    let labels = whole_of("one").await;
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    assert_eq!(gateway.metric("mainstay_upstream_attempts_total", &labels).await, 20.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_changes_nothing_and_says_where_it_is_wrong() {
    let faults = upstreams().await;
    let good = config(&faults, &["one"], "ok", &["key"]);
    let gateway = Gateway::start(&good).await;
    let hash = page(&gateway).await["hash"].clone();
    let load = Load::start(&gateway, "key");
    let bad = [
        (format!("{good}[[key]\n"), vec!["mainstay.toml:16:"]),
        (good.replace("provider", "provder"), vec!["mainstay.toml:6", "did you mean `provider`?"]),
        (good.replace("one/ok", "won/ok"), vec!["mainstay.toml:12", "no site `won`"]),
        (
            good.replace("api = \"127.0.0.1:0\"", "api = \"127.0.0.1:1\""),
            vec!["mainstay.toml:2: listen.api", "127.0.0.1:1", "restart"],
        ),
        (String::new(), vec!["is empty"]),
    ];
    let count = bad.len();
    for (file, words) in bad {
        gateway.rewrite(&file);
        let reply = gateway.reload().await;
        assert_eq!(reply.status, 400, "{}", text(&reply));
        for word in words {
            assert!(text(&reply).contains(word), "`{word}` is not in {}", text(&reply));
        }
        let page = page(&gateway).await;
        assert_eq!(page["hash"], hash);
        assert!(page["last_refusal"]["why"][0].is_string(), "{page}");
        whole(&send(&gateway, "still there", "key").await, "still there");
    }
    assert_eq!(gateway.metric("mainstay_config_last_reload_successful", &[]).await, 0.0);
    let refused = gateway.metric("mainstay_config_reloads_total", &["result=\"refused\""]).await;
    assert_eq!(refused, count as f64);
    assert!(gateway.said().contains("configuration refused"), "{}", gateway.said());
    gateway.rewrite(&good);
    hang_up(&gateway);
    let began = Instant::now();
    while page(&gateway).await["adopted"] != 1 {
        assert!(began.elapsed() < SOON, "{}", gateway.said());
        tokio::task::yield_now().await;
    }
    assert_eq!(gateway.metric("mainstay_config_last_reload_successful", &[]).await, 1.0);
    assert!(load.end().await > 0);
}

/// Sends SIGHUP.
fn hang_up(gateway: &Gateway) {
    let id = gateway.id().to_string();
    let sent = Command::new("kill").args(["-HUP", &id]).status().expect("kill");
    assert!(sent.success());
}

/// What names are answered with, where the gateways are this many.
fn names(gateways: usize) -> String {
    let mut text =
        String::from("[dns]\nnames = [\"api.example.com\"]\nns = [\"ns.example.com\"]\n");
    for number in 1..=gateways {
        text += &format!(
            "[[dns.target]]\ngateway = \"gw-{number}\"\naddresses = [\"203.0.113.{number}\"]\n"
        );
    }
    text
}

/// Asks for addresses of `api.example.com` until it is told to stop; how often, each time with one
/// at least in the answer.
fn ask_names(server: SocketAddr, stop: &AtomicBool) -> usize {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(server).expect("a way there");
    socket.set_read_timeout(Some(SOON)).expect("a limit");
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let id = (count as u16).to_be_bytes();
        let head = [id[0], id[1], 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let question = b"\x03api\x07example\x03com\x00\x00\x01\x00\x01";
        socket.send(&[&head[..], question].concat()).expect("sent");
        let mut answer = [0; 1232];
        let size = socket.recv(&mut answer).expect("an answer");
        let (code, answers) = (answer[3] & 15, u16::from_be_bytes([answer[6], answer[7]]));
        assert!(size > 12 && answer[..2] == id && code == 0, "code {code}");
        assert!(answers > 0, "an empty answer, the {count}th");
        count += 1;
        // waits for: nothing; a flood from one address would be slowed down, and rightly
        std::thread::sleep(Duration::from_millis(5));
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_reloads_under_load_lose_no_request_no_memory_and_no_name() {
    let faults = upstreams().await;
    let file = |turn: usize| {
        let sites: [&[&str]; 3] = [&["one", "two"], &["two"], &["three", "two", "one"]];
        let keys: [&[&str]; 2] = [&["key"], &["other", "key"]];
        let text = config(&faults, sites[turn % 3], "ok", keys[turn % 2]);
        let text = text.replace("[listen]\n", "[listen]\ndns = \"127.0.0.1:0\"\n");
        format!("{text}{}", names(1 + turn % 4))
    };
    let gateway = Gateway::start(&file(0)).await;
    let said = gateway.said();
    let server = said.split_whitespace().find_map(|word| word.strip_prefix("dns="));
    let server: SocketAddr = server.expect("it answers names").parse().expect("an address");
    let stop = Arc::new(AtomicBool::new(false));
    let asking = std::thread::spawn({
        let stop = stop.clone();
        move || ask_names(server, &stop)
    });
    let load = Load::start(&gateway, "key");
    let (mut memory, mut files) = (0, 0);
    for turn in 1..=RELOADS {
        gateway.rewrite(&file(turn));
        let reply = gateway.reload().await;
        assert_eq!(reply.status, 200, "{}", text(&reply));
        whole(&send(&gateway, "within", "key").await, "within");
        if turn == 10 {
            (memory, files) = (gateway.memory(), gateway.open_files());
        }
    }
    let (after, open) = (gateway.memory(), gateway.open_files());
    let requests = load.end().await;
    stop.store(true, Ordering::Relaxed);
    let answers = asking.join().expect("every answer has an address");
    println!(
        "{RELOADS} reloads: {requests} requests whole, {answers} answers to names, memory {} to \
         {} KiB, files {files} to {open}",
        memory / 1024,
        after / 1024
    );
    assert!(requests > RELOADS && answers > RELOADS);
    assert!(after < memory + LEFT_BEHIND, "memory went from {memory} to {after} bytes");
    assert!(open < files + 40, "descriptors went from {files} to {open}");
}

fn mainstay(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    command.env_clear().current_dir(directory).args(arguments).stdin(Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_file_is_broken_starts_from_the_last_one_that_worked() {
    let root = tempfile::tempdir().expect("a directory");
    let made = mainstay(
        root.path(),
        &["node", "init", "--json", "--name", "a", "--address", "127.0.0.1:9"],
    );
    let made = { made }.output().expect("it runs");
    let told: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    let own = told["own_lines"].as_str().expect("lines");
    let own = own.replace("= \"a/", &format!("= \"{}/a/", root.path().display()));
    let kept = root.path().join("kept");
    let own = match own.contains("data_dir") {
        true => own,
        false => own.replace("[node]\n", &format!("[node]\ndata_dir = {kept:?}\n")),
    };
    let faults = upstreams().await;
    let good = format!("{}{own}", config(&faults, &["one"], "ok", &["key"]));
    let file = root.path().join("node.toml");
    std::fs::write(&file, &good).expect("written");
    let first = Gateway::start_at(&file, &[]).await;
    // It answers only after it has begun, and then the file is kept.
    whole(&send(&first, "before", "key").await, "before");
    assert_eq!(page(&first).await["is_kept"], false);
    drop(first);
    std::fs::write(&file, good.replace("[[model]]", "[[model")).expect("written");
    let gateway = Gateway::start_at(&file, &[]).await;
    let said = gateway.said();
    assert!(said.contains("starts from the last configuration that worked"), "{said}");
    assert!(said.contains("node.toml:10:"), "{said}");
    whole(&send(&gateway, "all the same", "key").await, "all the same");
    assert_eq!(gateway.metric("mainstay_config_last_reload_successful", &[]).await, 0.0);
    let page = page(&gateway).await;
    assert_eq!(page["is_kept"], true, "{page}");
    std::fs::write(&file, &good).expect("written");
    let reply = gateway.reload().await;
    assert_eq!(reply.status, 200, "{}", text(&reply));
    assert_eq!(gateway.metric("mainstay_config_last_reload_successful", &[]).await, 1.0);
}
