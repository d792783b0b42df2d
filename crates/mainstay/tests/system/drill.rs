//! Drills on real processes: each way to break a site is felt as if it were real and heals, and a
//! drill does no more harm than it may.

use crate::bed::client::{Ask, Reply, get_json};
use crate::bed::gateway::Gateway;
use crate::bed::{FALLBACK, PRIMARY, whole};
use mainstay::faults::{self, Options, Profile, Running};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// A gateway in front of two equals, and the fault server that plays them.
struct Pair {
    faults: Running,
    gateway: Gateway,
}

impl Pair {
    /// Equals that answer as these models of the fault server do.
    async fn of(primary: &str, fallback: &str) -> Pair {
        let options = Options { profile: Profile::Fast, ..Options::default() };
        let faults = faults::serve(options).await.expect("start the fault server");
        let url = &faults.addresses.url;
        let site = |name: &str, scope: &str| {
            format!(
                "[[site]]\nname = \"{name}\"\nprovider = \"openai\"\n\
                 base_url = \"{url}/s/{scope}/v1\"\nkey = \"sk-{scope}\"\n\n"
            )
        };
        let config = format!(
            "[listen]\napi = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\n\
             [limits]\nprofile = \"fast\"\n\n{}{}[[model]]\nname = \"chat\"\n\
             served_by = [\"primary/{primary}\", \"fallback/{fallback}\"]\n",
            site("primary", PRIMARY),
            site("fallback", FALLBACK),
        );
        let gateway = Gateway::start(&config).await;
        Pair { faults, gateway }
    }

    /// `mainstay drill` at the primary with these further arguments.
    fn drill(&self, arguments: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_mainstay"))
            .args(["drill", "--json", "--site", "primary", "--before", "0s"])
            .args(["--admin", &self.gateway.admin])
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program runs")
    }

    /// The same under a load of ten requests a second until it ends.
    async fn drilled(&self, arguments: &[&str]) -> (Output, Vec<Reply>) {
        let drill = self.drill(arguments);
        let mut asked = tokio::task::JoinSet::new();
        let url = format!("{}/v1", self.gateway.api);
        let output = drill.wait_with_output();
        tokio::pin!(output);
        let mut pace = tokio::time::interval(Duration::from_millis(100));
        let output = loop {
            tokio::select! {
                output = &mut output => break output.expect("it ends"),
                _ = pace.tick() => {
                    let url = url.clone();
                    let ask = Ask::chat("chat", "a drill").stream();
                    asked.spawn(async move { ask.send(&url).await });
                }
            }
        };
        (output, asked.join_all().await)
    }

    /// What the gateway says of its drill.
    async fn state(&self) -> Value {
        get_json(&format!("{}/-/drill", self.gateway.admin)).await.json()
    }

    /// Looks until the state is right.
    async fn until(&self, what: &str, is_right: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let state = self.state().await;
            if is_right(&state) {
                return state;
            }
            assert!(Instant::now() < deadline, "{what}: {state}");
            // waits for: a gateway, which tells nobody by itself
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn json(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A whole drill of this fault: it breaks attempts, no client loses anything, and the site heals.
async fn breaks_and_heals(fault: &str, more: &[&str]) -> Value {
    let pair = Pair::of("ok", "ok").await;
    let arguments = ["--fault", fault, "--blast-cap", "100", "--for", "2s", "--percent"];
    let (output, replies) = pair.drilled(&[&arguments, more].concat()).await;
    let told = json(&output);
    assert!(told["broken"].as_u64() > Some(0), "{told}");
    assert!(told["well_after_s"].is_number(), "{told}");
    assert!(replies.len() > 20, "{}", replies.len());
    for reply in &replies {
        whole(reply, "a drill");
    }
    let facts = told["gateways"][0]["facts"].as_array().expect("facts");
    let has = |kind: &str| facts.iter().any(|told| told["fact"] == kind);
    assert!(has("drill_began") && has("drill_ended"), "{told}");
    // It is asked again afterwards.
    assert!(!pair.faults.log(PRIMARY).is_empty());
    told
}

/// Whether the gateway left the site.
fn is_left(told: &Value) -> bool {
    let mut facts = told["gateways"][0]["facts"].as_array().expect("facts").iter();
    let left = |text: &str| text.contains("primary/ok went from up to suspect");
    facts.any(|fact| fact["text"].as_str().is_some_and(left))
}

#[tokio::test]
async fn a_site_that_is_down_is_left_and_used_again() {
    let told = breaks_and_heals("down", &["100"]).await;
    assert!(is_left(&told), "{told}");
}

#[tokio::test]
async fn what_falls_into_a_black_hole_is_answered_elsewhere() {
    // All of it would be more than may be tried again.
    breaks_and_heals("blackhole", &["20"]).await;
}

#[tokio::test]
async fn a_slow_site_costs_time_and_nothing_else() {
    let told = breaks_and_heals("slow", &["100", "--factor", "4"]).await;
    assert!(!is_left(&told), "{told}");
}

#[tokio::test]
async fn a_site_that_only_says_503_is_left_and_used_again() {
    let told = breaks_and_heals("errors", &["100"]).await;
    assert!(is_left(&told), "{told}");
}

#[tokio::test]
async fn streams_that_are_cut_go_on_elsewhere() {
    breaks_and_heals("cut", &["50", "--after-tokens", "7"]).await;
}

#[tokio::test]
async fn what_would_break_too_much_is_refused_with_the_remedy() {
    let pair = Pair::of("ok", "ok").await;
    let down = ["--fault", "down", "--percent", "100"];
    let output = pair.drill(&down).wait_with_output().await.expect("it ends");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("--blast-cap 50"), "{}", said(&output));
    let unknown = ["--fault", "down", "--site", "primary2"];
    let output = Command::new(env!("CARGO_BIN_EXE_mainstay"))
        .args(["drill", "--admin", &pair.gateway.admin])
        .args(unknown)
        .env_clear()
        .output()
        .await
        .expect("it runs");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("primary, fallback"), "{}", said(&output));
    for wrong in [["--floor", "free"], ["--for", "2"], ["--percent", "0"]] {
        let arguments = [["--fault", "down"], wrong].concat();
        let output = pair.drill(&arguments).wait_with_output().await.expect("it ends");
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", said(&output));
    }
    assert_eq!(pair.state().await["phase"], "none");
}

#[tokio::test]
async fn the_only_site_of_a_model_is_not_broken() {
    let options = Options { profile: Profile::Fast, ..Options::default() };
    let faults = faults::serve(options).await.expect("start the fault server");
    let config = format!(
        "[listen]\napi = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\n[[site]]\n\
         name = \"primary\"\nprovider = \"openai\"\nbase_url = \"{}/s/p/v1\"\nkey = \"sk-p\"\n\n\
         [[model]]\nname = \"chat\"\nserved_by = [\"primary/ok\"]\n",
        faults.addresses.url
    );
    let pair = Pair { gateway: Gateway::start(&config).await, faults };
    let drill = pair.drill(&["--fault", "down", "--blast-cap", "100"]);
    let output = drill.wait_with_output().await.expect("it ends");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("nobody else answers chat"), "{}", said(&output));
}

#[tokio::test]
async fn it_stops_by_itself_when_a_tier_falls_below_its_floor() {
    let pair = Pair::of("ok", FULL).await;
    let arguments =
        ["--fault", "down", "--percent", "100", "--blast-cap", "100", "--for", "60s", "--floor"];
    let (output, _) = pair.drilled(&[&arguments[..], &["pro=90"]].concat()).await;
    let told = json(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(told["held"], false, "{told}");
    let ended = &told["gateways"][0]["ended"];
    assert_eq!(ended["why"], "floor", "{told}");
    assert!(ended["at_s"].as_f64() < Some(60.0), "{told}");
}

/// Refuses everything for want of room.
const FULL: &str = "f04";

#[tokio::test]
async fn there_is_one_at_a_time_and_it_ends_by_itself_when_its_command_is_killed() {
    let pair = Pair::of("ok", "ok").await;
    let arguments = ["--fault", "slow", "--blast-cap", "100", "--for", "6s"];
    let mut first = pair.drill(&arguments);
    pair.until("it begins", |state| state["phase"] == "during").await;
    let output = pair.drill(&arguments).wait_with_output().await.expect("it ends");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("another drill is under way"), "{}", said(&output));
    first.kill().await.expect("it runs until it is killed");
    let state = pair.until("it ends by itself", |state| state["phase"] == "after").await;
    assert_ne!(state["ended"]["why"], "stopped", "{state}");
}

#[tokio::test]
async fn another_configuration_ends_it_and_it_is_told_of_as_it_was() {
    let pair = Pair::of("ok", "ok").await;
    let drill = pair.drill(&["--fault", "slow", "--for", "60s"]);
    pair.until("it begins", |state| state["phase"] == "during").await;
    // The sites change places.
    let config = pair.gateway.config();
    let (head, rest) = config.split_once("[[site]]").expect("two sites");
    let (sites, model) = rest.split_once("[[model]]").expect("a model");
    let (first, second) = sites.split_once("[[site]]").expect("two sites");
    pair.gateway.rewrite(&format!("{head}[[site]]{second}[[site]]{first}[[model]]{model}"));
    assert_eq!(pair.gateway.reload().await.status, 200);
    let state = pair.until("it has ended", |state| !state["ended"].is_null()).await;
    assert_eq!((&state["ended"]["why"], &state["site"]), (&"policy".into(), &"primary".into()));
    let output = drill.wait_with_output().await.expect("it ends");
    assert_eq!(json(&output)["site"], "primary", "{}", said(&output));
}

#[tokio::test]
async fn who_interrupts_the_command_stops_it() {
    let pair = Pair::of("ok", "ok").await;
    let drill = pair.drill(&["--fault", "down", "--blast-cap", "100", "--for", "5m"]);
    pair.until("it begins", |state| state["phase"] == "during").await;
    let id = drill.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    kill_process(id.expect("it runs"), Signal::INT).expect("it can be told");
    let output = drill.wait_with_output().await.expect("it ends");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let told = json(&output);
    assert_eq!(told["gateways"][0]["ended"]["why"], "stopped", "{told}");
    assert_eq!(pair.state().await["phase"], "after");
}

/// The admin listener that a node's file names.
fn admin(directory: &std::path::Path, node: &str) -> Option<String> {
    let text = std::fs::read_to_string(directory.join(node).join("mainstay.toml")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("admin = \""))?.to_owned();
    Some(format!("http://{}", line.trim_end_matches('"')))
}

/// Whether a gateway was told by three sites what they carry.
async fn knows_its_sites(admin: &str) -> bool {
    let Some(host) = admin.strip_prefix("http://") else { return false };
    if tokio::net::TcpStream::connect(host).await.is_err() {
        return false;
    }
    let view = get_json(&format!("{admin}/view")).await.json();
    let targets = view["targets"].as_array().cloned().unwrap_or_default();
    targets.iter().filter(|target| target["capacity"].as_f64() > Some(0.0)).count() == 3
}

#[tokio::test]
async fn a_fleet_is_drilled_at_every_gateway_and_the_report_says_what_was_forecast() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut demo = Command::new(env!("CARGO_BIN_EXE_mainstay"))
        .args(["demo", "--json", "--rate", "10", "--max-tokens", "16", "--for", "10m", "--dir"])
        .arg(directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the program runs");
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut admins = Vec::new();
    for node in ["gw-1", "gw-2"] {
        loop {
            let at = admin(directory.path(), node);
            if let Some(at) = at
                && knows_its_sites(&at).await
            {
                admins.push(at);
                break;
            }
            assert!(Instant::now() < deadline, "{node} does not start");
            // waits for: the processes of a fleet, which tell nobody when they are ready
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let report = directory.path().join("drill.md");
    let output = Command::new(env!("CARGO_BIN_EXE_mainstay"))
        // Of twenty requests at A in this time: that chance spares all of them need not be feared.
        .args(["drill", "--json", "--site", "A", "--fault", "cut", "--percent", "60"])
        .args(["--before", "1s", "--for", "6s", "--after-tokens", "2"])
        .args(["--admin", &admins[0], "--admin", &admins[1], "--config"])
        .arg(directory.path().join("gw-1").join("mainstay.toml"))
        .arg("--report")
        .arg(&report)
        .output()
        .await
        .expect("it runs");
    let told = json(&output);
    assert_eq!(told["gateways"].as_array().map(Vec::len), Some(2), "{told}");
    assert!(told["broken"].as_u64() > Some(0), "{told}");
    assert!(told["forecast"]["good"]["pro"].is_number(), "{told}");
    let written = std::fs::read_to_string(&report).expect("a report");
    let parts = ["TL;DR", "What changed", "Why it matters", "What to do next", "Timeline"];
    for part in parts {
        assert!(written.contains(&format!("## {part}\n")), "{written}");
    }
    demo.kill().await.expect("it runs until it is ended");
}
