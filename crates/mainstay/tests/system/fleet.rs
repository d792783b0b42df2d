//! A fleet of real processes, broken by script: two gateways, three sites, and clients that judge
//! every answer.

use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs `mainstay demo` with a script of these faults, and returns what was measured.
fn demo(faults: &str, lasts: &str) -> Value {
    let mut script = tempfile::NamedTempFile::new().expect("a file");
    let head = "id = \"T\"\ntitle = \"A test\"\nbench = \"T3\"\nload = { level = 0.5 }\n";
    write!(script, "{head}{faults}").expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_mainstay"))
        .args(["demo", "--json", "--rate", "6", "--max-tokens", "32", "--for", lasts, "--script"])
        .arg(script.path())
        .output()
        .expect("the program runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let json = serde_json::from_slice(&output.stdout);
    json.unwrap_or_else(|error| panic!("{error}: {}\n{told}", output.status))
}

/// Over all tiers: how many requests ended so.
fn ended(measured: &Value, outcome: &str) -> u64 {
    let tiers = measured["measured"]["by_tier"].as_object().expect("tiers");
    tiers.values().filter_map(|tier| tier["outcomes"][outcome].as_u64()).sum()
}

fn offered(measured: &Value) -> u64 {
    let tiers = measured["measured"]["by_tier"].as_object().expect("tiers");
    tiers.values().filter_map(|tier| tier["offered"].as_u64()).sum()
}

#[test]
fn a_site_killed_and_another_that_stands_still_cost_no_request() {
    let measured = demo(
        "[[fault]]\nkind = \"site-down\"\nsite = \"A\"\nhow = \"refuse\"\nat = \"3s\"\n\
         until = \"8s\"\n[[fault]]\nkind = \"site-down\"\nsite = \"B\"\nhow = \"blackhole\"\n\
         at = \"12s\"\nuntil = \"16s\"\n",
        "20s",
    );
    let all = offered(&measured);
    assert!(all > 60, "{measured}");
    // A machine that is busy with other tests may shed; nothing may fail.
    assert_eq!(ended(&measured, "good") + ended(&measured, "shed"), all, "{measured}");
    assert!(ended(&measured, "good") * 100 >= all * 95, "{measured}");
    assert_eq!(measured["measured"]["unfinished"], 0, "{measured}");
    assert!(measured["predicted"]["goodput_ratio"]["pro"].is_number(), "{measured}");
}

/// What `mainstay` says to these arguments.
fn mainstay(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_mainstay")).args(arguments).output();
    let output = output.expect("the program runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// The admin listener that a node's file names.
fn admin(directory: &Path, node: &str) -> Option<String> {
    let text = std::fs::read_to_string(directory.join(node).join("mainstay.toml")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("admin = \""))?.to_owned();
    Some(format!("http://{}", line.trim_end_matches('"')))
}

/// Asks until the answer is right; a machine that is busy takes its time.
fn until(what: &str, mut is_right: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_right() {
        assert!(Instant::now() < deadline, "{what}");
        // waits for: the processes of a fleet, which tell nobody when they are done.
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_order_at_one_gateway_reaches_the_other_and_ends_everywhere() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut demo = Command::new(env!("CARGO_BIN_EXE_mainstay"))
        .args(["demo", "--json", "--rate", "1", "--for", "10m", "--dir"])
        .arg(directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    let ready = |node: &str| {
        let at = admin(directory.path(), node);
        at.is_some_and(|at| mainstay(&["top", "--once", "--admin", &at]).1.contains("C/builtin"))
    };
    until("both gateways start", || ready("gw-1") && ready("gw-2"));
    let [first, second] = ["gw-1", "gw-2"].map(|node| admin(directory.path(), node).expect(node));
    let (is_taken, said) = mainstay(&["kill", "A", "--reason", "a test", "--admin", &first]);
    assert!(is_taken, "{said}");
    let told = |what: &str| mainstay(&["orders", "--admin", &second]).1.contains(what);
    until("the other gateway knows", || told("kill A"));
    let (is_taken, said) = mainstay(&["drain", "B", "--reason", "x", "--admin", &second]);
    assert!(!is_taken && said.contains("--confirm"), "{said}");
    let id = mainstay(&["orders", "--admin", &second]).1;
    let id = id.split_whitespace().next().expect("an order").to_owned();
    let (is_taken, said) = mainstay(&["undrain", &id, "--reason", "done", "--admin", &second]);
    assert!(is_taken, "{said}");
    until("it ends at the first", || {
        mainstay(&["orders", "--admin", &first]).1.contains("no orders")
    });
    demo.kill().expect("it runs until it is ended");
    demo.wait().expect("it ends");
}

#[test]
fn a_gateway_killed_costs_only_what_it_was_answering() {
    let measured = demo(
        "[[fault]]\nkind = \"gateway-crash\"\ngateway = 1\nat = \"3s\"\nrestart = \"5s\"\n",
        "12s",
    );
    let all = offered(&measured);
    let begun = ended(&measured, "cut") + ended(&measured, "error_event");
    let fine = ended(&measured, "good") + ended(&measured, "shed");
    assert_eq!(fine + begun, all, "{measured}");
    assert!(begun * 20 <= all, "{measured}");
}
