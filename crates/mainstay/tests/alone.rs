//! Processes that are gateway and site at once: one alone, and two of which one is killed.

mod bed;

use bed::client::{Ask, Reply, get};
use bed::gateway::Gateway;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Nobody waits longer than this for what must come.
const SOON: Duration = Duration::from_secs(60);

/// The files of the node `name` in `root`, of one authority.
fn make(root: &Path, name: &str, ca: Option<&str>) {
    let mut arguments = vec!["node", "init", "--json", "--name", name];
    arguments.extend(ca.iter().flat_map(|ca| ["--ca", *ca]));
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    let output = command.current_dir(root).args(arguments).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// The file of the node `me`: it is a gateway and controls the site `at-ME`, as every node of
/// `fleet` does. Nobody says what it is to be: all roles are its own by default.
fn file(root: &Path, me: &str, fleet: &[(&str, u16)]) -> String {
    let path = |file: &str| root.join(me).join(file).display().to_string();
    let mut text = String::from("[listen]\napi = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n");
    if fleet.len() > 1 {
        let (_, port) = fleet.iter().find(|(name, _)| *name == me).expect("it is one of them");
        text += &format!("link = \"127.0.0.1:{port}\"\n");
    }
    text += &format!(
        "[node]\nname = \"{me}\"\nca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}\n",
        path("ca.pem"),
        path("node.pem"),
        path("node.key"),
    );
    for (name, port) in fleet {
        text += &format!(
            "[[gateway]]\nname = \"{name}\"\nlink = \"https://127.0.0.1:{port}\"\n\
             [[site]]\nname = \"at-{name}\"\nnode = \"https://127.0.0.1:{port}\"\n\
             node_name = \"{name}\"\nmodels = [{{ name = \"builtin\" }}]\n\
             engine = {{ model = \"builtin\" }}\ncapacity = 16\ntokens_per_second = 2000\n"
        );
    }
    let served: Vec<_> = fleet.iter().map(|(name, _)| format!("at-{name}/builtin")).collect();
    text += &format!("[[model]]\nname = \"chat\"\nserved_by = {served:?}\n");
    text
}

async fn ask(gateway: &Gateway, number: usize, tokens: u32) -> Reply {
    let ask = Ask::chat("chat", &format!("Question {number}: which providers are down?"));
    let ask = ask.with("max_tokens", json!(tokens)).stream().patient_for(SOON);
    ask.send(&format!("{}/v1", gateway.api)).await
}

#[track_caller]
fn whole(reply: &Reply) {
    let told = String::from_utf8_lossy(&reply.body);
    assert!(reply.status == 200 && reply.is_done() && reply.finish().is_some(), "{told}");
}

/// The state of each site, as this gateway sees it.
async fn states(gateway: &Gateway) -> Vec<(String, String, bool)> {
    let view = get(&format!("{}/view", gateway.admin)).await.json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |target: &Value| {
        let has_credit = target["capacity"].as_f64().is_some_and(|all| all > 0.0);
        (text(&target["site"]), text(&target["state"]), has_credit)
    };
    view["targets"].as_array().expect("targets").iter().map(of).collect()
}

/// Returns when `gateway` has heard of the capacity of every site.
async fn granted(gateway: &Gateway) {
    let began = Instant::now();
    loop {
        let states = states(gateway).await;
        if states.iter().all(|(_, state, has_credit)| state == "up" && *has_credit) {
            return;
        }
        assert!(began.elapsed() < SOON, "{states:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn one_process_is_gateway_and_site_and_treats_itself_like_any_other() {
    let root = tempfile::tempdir().expect("a directory");
    make(root.path(), "a", None);
    let gateway = Gateway::start(&file(root.path(), "a", &[("a", free_port())])).await;
    granted(&gateway).await;
    for number in 0..3 {
        whole(&ask(&gateway, number, 8).await);
    }
    let ok = gateway.metric("mainstay_upstream_attempts_total", &["result=\"ok\""]).await;
    assert_eq!(ok, 3.0, "each was taken in by the site at the first attempt");
    let refused = gateway.metric("mainstay_link_refused_total", &[]).await;
    let lost = ["no_peer", "not_theirs", "no_name"];
    for reason in lost.map(|reason| format!("reason=\"{reason}\"")) {
        assert_eq!(gateway.metric("mainstay_link_lost_total", &[&reason]).await, 0.0, "{reason}");
    }
    assert_eq!(refused, 0.0);
    assert!(gateway.metric("mainstay_link_request_connections_total", &[]).await > 0.0);
}

#[tokio::test]
async fn of_two_that_are_gateway_and_site_one_killed_costs_the_other_s_clients_nothing() {
    let root = tempfile::tempdir().expect("a directory");
    make(root.path(), "a", None);
    make(root.path(), "b", Some("a"));
    let fleet = [("a", free_port()), ("b", free_port())];
    let a = Gateway::start(&file(root.path(), "a", &fleet)).await;
    let b = Gateway::start(&file(root.path(), "b", &fleet)).await;
    granted(&a).await;
    granted(&b).await;
    let b = std::sync::Arc::new(b);
    let begin = |number: usize| {
        let b = b.clone();
        tokio::spawn(async move { ask(&b, number, 128).await })
    };
    let first: Vec<_> = (0..16).map(begin).collect();
    // Some of them run at the site of the one that is killed, and have begun.
    let began = Instant::now();
    loop {
        let view = get(&format!("{}/view", b.admin)).await.json();
        let targets = view["targets"].as_array().expect("targets").clone();
        let at_a = targets.iter().find(|target| target["site"] == "at-a").expect("a site");
        if at_a["in_flight"].as_u64() > Some(0) {
            break;
        }
        assert!(began.elapsed() < SOON, "none runs there: {view}");
        tokio::task::yield_now().await;
    }
    drop(a);
    let second: Vec<_> = (16..32).map(begin).collect();
    for reply in first.into_iter().chain(second) {
        whole(&reply.await.expect("no panic"));
    }
    let failed = b.metric("mainstay_upstream_attempts_total", &["site=\"at-b\""]).await;
    let ok = ["site=\"at-b\"", "result=\"ok\""];
    assert_eq!(b.metric("mainstay_upstream_attempts_total", &ok).await, failed);
}
