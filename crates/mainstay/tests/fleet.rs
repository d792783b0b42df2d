//! A fleet of real processes, broken by script: two gateways, three sites, and clients that judge
//! every answer.

use serde_json::Value;
use std::io::Write;
use std::process::Command;

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
