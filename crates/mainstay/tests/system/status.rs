//! The public status page of real processes: what it shows while a fleet is broken, and that no
//! gateway needs it.

use crate::bed::client::{Ask, get};
use crate::bed::gateway::Gateway;
use crate::bed::nodes::{SOON, free_port, make};
use crate::bed::{SLACK, millis};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// An outage of real traffic shows within this time.
const SHOWN: Duration = Duration::from_secs(10);

/// A running `mainstay serve`; it ends with the test.
pub struct Running {
    child: Child,
    /// What it said of its listeners, e.g. `status=http://127.0.0.1:8082`.
    listens: String,
}

impl Running {
    pub fn start(directory: &Path, file: &str) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
        command.env_clear().current_dir(directory).args(["serve", "--config", file]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        let stderr = child.stderr.take().expect("piped");
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let mut said = String::new();
        let found = lines.by_ref().find_map(|line| {
            said.push_str(&format!("{line}\n"));
            line.strip_prefix("listening ").map(str::to_owned)
        });
        let listens = found.unwrap_or_else(|| panic!("no line for machines: {said}"));
        std::thread::spawn(move || lines.for_each(drop));
        Running { child, listens }
    }

    pub fn address(&self, key: &str) -> String {
        let mut words = self.listens.split(' ');
        let found = words.find_map(|word| word.strip_prefix(key)?.strip_prefix("=http://"));
        found.unwrap_or_else(|| panic!("no {key}: {}", self.listens)).to_owned()
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &id]).status();
        assert!(sent.expect("kill runs").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Head and body of what `address` answers; none if it does not.
pub fn ask(address: &str, path: &str, headers: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let text = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(text.as_bytes()).ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    let (head, body) = reply.split_once("\r\n\r\n")?;
    Some((head.to_owned(), body.to_owned()))
}

/// The state of each component, by name.
fn states(page: &str) -> Vec<(String, String)> {
    let Some((_, body)) = ask(page, "/api/v2/components.json", "") else { return Vec::new() };
    let told: Value = serde_json::from_str(&body).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = told["components"].as_array().cloned().unwrap_or_default();
    all.iter().map(|each| (text(&each["name"]), text(&each["status"]))).collect()
}

fn state(page: &str, name: &str) -> String {
    let found = states(page).into_iter().find(|(each, _)| each == name);
    found.map(|(_, state)| state).unwrap_or_default()
}

/// Looks until it is so.
#[track_caller]
pub fn until(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        // waits for: processes, which tell nobody when they are done
        std::thread::sleep(millis(100));
    }
    began.elapsed()
}

#[test]
fn a_site_killed_shows_within_ten_seconds_and_is_well_again_after_the_green_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut script = tempfile::NamedTempFile::new().expect("a file");
    let faults = "id = \"T\"\ntitle = \"A test\"\nbench = \"T3\"\nload = { level = 0.5 }\n\
                  [[fault]]\nkind = \"site-down\"\nsite = \"A\"\nhow = \"refuse\"\nat = \"15s\"\n\
                  until = \"27s\"\n";
    script.write_all(faults.as_bytes()).expect("written");
    let mut demo = Command::new(env!("CARGO_BIN_EXE_mainstay"))
        .args(["demo", "--json", "--rate", "8", "--max-tokens", "16", "--for", "5m", "--script"])
        .arg(script.path())
        .arg("--dir")
        .arg(directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut lines = BufReader::new(demo.stderr.take().expect("piped")).lines();
    let mut next = |what: &str| {
        let found = lines.by_ref().map_while(Result::ok).find(|line| line.contains(what));
        found.unwrap_or_else(|| panic!("the demo never says {what}"))
    };
    let line = next("  page ");
    let page = line.split("http://").nth(1).expect("an address").trim_end_matches('/').to_owned();
    until("all is well", SOON, || {
        let states = states(&page);
        !states.is_empty() && states.iter().all(|(_, state)| state == "operational")
    });
    next("A: kill -9");
    let took = until("the loss shows", SHOWN, || state(&page, "A") == "major_outage");
    println!("the loss of a site showed after {took:?}");
    let (_, html) = ask(&page, "/en/", "").expect("a page");
    assert!(html.contains("Major outage") && html.contains("<html lang=\"en\">"), "{html}");
    // A site is lost, the service is not.
    assert_eq!(state(&page, "B"), "operational");
    next("A: start");
    until("it is well again", SOON * 2, || state(&page, "A") == "operational");
    demo.kill().expect("it runs until it is ended");
    demo.wait().expect("it ends");
}

/// A gateway with the rehearsal engine, and a node that shows the page and nothing else. Whether
/// the machine is busy is not what is tried here, so that answers may take their time.
struct Pair {
    root: tempfile::TempDir,
    gateway: Option<Gateway>,
    page: Running,
}

impl Pair {
    async fn start() -> Pair {
        let root = tempfile::tempdir().expect("a directory");
        make(root.path(), "gw", None);
        make(root.path(), "board", Some("gw"));
        let ports = [free_port(), free_port()];
        let write = |name: &str, port: u16, own: &str| {
            let text = Pair::file(root.path(), (name, port), own, ports);
            let file = root.path().join(name).join("mainstay.toml");
            std::fs::write(&file, text).expect("written");
            file
        };
        let file = write("gw", ports[0], "roles = [\"gateway\"]\n");
        let gateway = Gateway::start_at(&file, &[]).await;
        let file = write("board", ports[1], "roles = [\"status\"]\n");
        let page = Running::start(root.path(), &file.display().to_string());
        Pair { root, gateway: Some(gateway), page }
    }

    fn file(root: &Path, (me, port): (&str, u16), own: &str, ports: [u16; 2]) -> String {
        let path = |file: &str| root.join(me).join(file).display().to_string();
        let page = if me == "board" { "status = \"127.0.0.1:0\"\n" } else { "" };
        format!(
            "[listen]\napi = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
             link = \"127.0.0.1:{port}\"\n{page}\
             [node]\nname = \"{me}\"\nca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}\n{own}\
             [[gateway]]\nname = \"gw\"\nlink = \"https://127.0.0.1:{}\"\n\
             [[status.node]]\nname = \"board\"\nlink = \"https://127.0.0.1:{}\"\n\
             [status]\ntitle = \"<b>Us</b>\"\n\
             [limits]\nfirst_token = [\"30s\", \"30s\"]\nfirst_token_unmeasured = \"30s\"\n\
             stall = [\"30s\", \"30s\"]\nstall_unmeasured = \"30s\"\ndrip = \"60s\"\n\
             [[site]]\nname = \"one\"\npublic_name = \"North <1>\"\n\
             engine = {{ model = \"rehearsal\" }}\ncapacity = 16\ntokens_per_second = 1600\n\
             [[site]]\nname = \"nowhere\"\npublic_name = \"\"\nprovider = \"deepseek\"\n\
             key_env = \"A_KEY\"\n\
             [[model]]\nname = \"chat\"\nserved_by = [\"one/rehearsal\"]\n",
            path("ca.pem"),
            path("node.pem"),
            path("node.key"),
            ports[0],
            ports[1],
        )
        .replace(if me == "gw" { "key_env = \"A_KEY\"" } else { "no such line" }, "key = \"k\"")
    }

    /// Asks one after the other; how long each took.
    async fn answers(&self, count: usize) -> Vec<Duration> {
        let gateway = self.gateway.as_ref().expect("it runs");
        let mut took = Vec::new();
        for number in 0..count {
            let ask = Ask::chat("chat", &format!("Question {number}")).patient_for(SOON);
            let ask = ask.with("max_tokens", json!(8)).stream();
            let began = Instant::now();
            let reply = ask.send(&format!("{}/v1", gateway.api)).await;
            let told = String::from_utf8_lossy(&reply.body);
            assert!(reply.status == 200 && reply.is_done() && reply.finish().is_some(), "{told}");
            took.push(began.elapsed());
        }
        took.sort_unstable();
        took
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_node_that_hangs_or_is_dead_costs_no_request_and_gateways_that_are_dead_are_told()
{
    let mut pair = Pair::start().await;
    let page = pair.page.address("status");
    pair.answers(2).await;
    let well = pair.answers(60).await;
    until("it knows how the API is", SOON, || {
        ask(&page, "/en/", "").is_some_and(|(_, html)| html.contains("All systems operational"))
    });
    pair.page.signal("STOP");
    let hung = pair.answers(60).await;
    pair.page.signal("CONT");
    // The promise: as quick as before, but for what else this machine does.
    assert!(hung[30] <= well[30] * 2 + SLACK, "{:?} after {:?}", hung[30], well[30]);
    until("it hears the gateway again", SOON, || {
        ask(&page, "/en/", "").is_some_and(|(_, html)| html.contains(", 0 s old."))
    });
    let (head, html) = ask(&page, "/", "accept-language: zh-CN\r\n").expect("a page");
    assert!(head.contains("content-language: zh-Hans"), "{head}");
    assert!(html.contains("&lt;b&gt;Us&lt;/b&gt;") && html.contains("North &lt;1&gt;"), "{html}");
    assert!(!html.contains("<b>") && !html.contains("nowhere"), "{html}");
    // Ready has nothing to do with the page.
    let admin = pair.gateway.as_ref().expect("it runs").admin.clone();
    pair.page.signal("STOP");
    assert_eq!(get(&format!("{admin}/readyz")).await.status, 200);
    pair.page.signal("CONT");
    let gateway = pair.gateway.take();
    drop(gateway);
    let (page, began) = (page.clone(), Instant::now());
    let told = |words: &str| ask(&page, "/en/", "").is_some_and(|(_, html)| html.contains(words));
    until("it says that nothing new comes", SOON, || told("No new data for"));
    until("it says that it knows nothing", Duration::from_secs(110), || {
        told("No data since ") && told("UTC – assume trouble")
    });
    println!("a page without gateways said so after {:?}", began.elapsed());
    assert_eq!(state(&page, "API"), "degraded_performance");
    assert_eq!(ask(&page, "/healthz", "").expect("it stands").1, "ok\n");
    drop(pair);
}

#[tokio::test]
async fn a_dead_status_node_costs_no_request() {
    let mut pair = Pair::start().await;
    pair.answers(5).await;
    pair.page.signal("KILL");
    pair.page.child.wait().expect("it ends");
    pair.answers(40).await;
    assert!(pair.root.path().exists());
}

#[tokio::test]
async fn one_process_shows_its_own_page_and_a_port_in_use_stops_only_who_asked_for_it() {
    let file = "[listen]\napi = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n";
    let root = tempfile::tempdir().expect("a directory");
    let path = |name: &str| root.path().join(name).display().to_string();
    std::fs::write(path("a.toml"), format!("{file}status = \"127.0.0.1:0\"\n")).expect("written");
    let running = Running::start(root.path(), &path("a.toml"));
    let page = running.address("status");
    until("it hears itself", SOON, || {
        ask(&page, "/", "").is_some_and(|(_, html)| html.contains("1 of 1 gateways are heard"))
    });
    assert_eq!(ask(&page, "/api/v2/status.json", "").expect("JSON").0[..15], *"HTTP/1.1 200 OK");
    // Nobody asked a question yet: it claims nothing.
    let (_, html) = ask(&page, "/en/", "").expect("a page");
    assert!(html.contains("Too few requests to tell") && !html.contains("All systems"), "{html}");
    std::fs::write(path("b.toml"), format!("{file}status = \"{page}\"\n")).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    command.env_clear().args(["serve", "--config", &path("b.toml")]).stdin(Stdio::null());
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("listen.status: "), "{said}");
    assert!(said.contains("is in use") && said.contains("MAINSTAY__LISTEN__STATUS="), "{said}");
}
