//! `mainstay simulate`: exit codes, what is printed, and the page.

use std::path::Path;
use std::process::{Command, Stdio};

fn simulate(at: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    command.env_clear().current_dir(at).arg("simulate").args(arguments).stdin(Stdio::null());
    let output = command.output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("a code"), text(output.stdout), text(output.stderr))
}

/// Quick to play: a hundredth of the requests, and nothing breaks.
const QUIET: &str = "id = \"quiet\"\ntitle = \"Nothing breaks\"\nduration = \"60s\"\nseeds = 2\n\
                     [bench]\nscale = 100\n";

#[test]
fn a_wrong_file_is_told_whole_and_exits_with_two() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = "id = \"x\"\ntitle = \"x\"\nseds = 3\n[[fault]]\nkind = \"sruge\"\nat = \"1s\"\n";
    std::fs::write(directory.path().join("x.toml"), text).expect("written");
    let (code, out, err) = simulate(directory.path(), &["x.toml"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("mainstay: x.toml:3: seds: unknown key; did you mean `seeds`?"), "{err}");
    assert!(err.contains("x.toml:5: fault.kind: no fault `sruge`; did you mean `surge`?"), "{err}");
    let (code, _, err) = simulate(directory.path(), &["S99"]);
    assert_eq!(code, 2);
    assert!(err.contains("no scenario, file or directory S99"), "{err}");
}

/// What is told of a scenario file with this text.
fn refused(at: &Path, text: &[u8]) -> String {
    std::fs::write(at.join("x.toml"), text).expect("written");
    let (code, out, err) = simulate(at, &["x.toml", "--seeds", "1"]);
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    err
}

#[test]
fn whatever_is_wrong_with_a_file_is_told_with_its_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path();
    let head = "id = \"x\"\ntitle = \"x\"\n";
    let fault = |more: &str| format!("{head}[[fault]]\n{more}\n");
    for (text, told) in [
        (String::from("id = \"x\"\ntitle = \n"), "x.toml:2: "),
        (String::new(), "x.toml:1: id: is missing; add id = \"S01\""),
        (format!("{head}seeds = 0\n"), "x.toml:3: seeds: 0 does not fit; a whole number, 1 to"),
        (fault("kind = \"site-down\"\nsite = \"Z\"\nat = \"1s\""), "x.toml:5: fault.site: no site"),
        (fault("kind = \"surge\"\nfactor = 2\nat = \"-1s\""), "x.toml:6: fault.at: is before the"),
        (fault("kind = \"surge\"\nfactor = 2\nat = \"1y\""), "x.toml:6: fault.at: \"1y\" is not a"),
        (
            fault("kind = \"surge\"\nfactor = 2\nat = \"9s\"\nuntil = \"5s\""),
            "x.toml:7: fault.until: is not after at",
        ),
        (fault("kind = \"surge\"\nfactor = 1e300\nat = \"9s\""), "x.toml:5: fault.factor: "),
    ] {
        let err = refused(at, text.as_bytes());
        assert!(err.starts_with(&format!("mainstay: {told}")), "{told}\n---\n{err}");
    }
    let err = refused(at, b"id = \"\xff\"");
    assert!(err.starts_with("mainstay: x.toml: cannot be read: "), "{err}");
    std::fs::create_dir(at.join("empty")).expect("made");
    for (name, told) in [
        ("empty", "empty: has no scenario files; they end in .toml"),
        ("nowhere/x.toml", "no scenario, file or directory nowhere/x.toml"),
        ("quiet/sweep", "no scenario, file or directory quiet"),
    ] {
        let (code, _, err) = simulate(at, &[name]);
        assert_eq!(code, 2, "{name}");
        assert!(err.starts_with(&format!("mainstay: {told}")), "{err}");
    }
    let (code, _, err) = simulate(at, &["S01", "--seeds", "0"]);
    assert_eq!(code, 2);
    assert!(err.contains("'0'") && err.contains("--seeds"), "{err}");
}

#[test]
fn whatever_is_wrong_with_a_trace_is_told_with_its_line_before_anything_is_played() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path();
    let line = |time: &str, input: &str| {
        format!(
            "{{\"timestamp\": {time}, \"input_length\": {input}, \"output_length\": 9, \
             \"hash_ids\": []}}\n"
        )
    };
    let good = line("0", "600");
    for (text, told) in [
        (String::new(), "t.jsonl: holds no request"),
        (String::from("no trace\n"), "t.jsonl:1: "),
        (good.clone() + &line("-5", "600"), "t.jsonl:2: invalid value: integer `-5`"),
        (good.clone() + &line("5", "-600"), "t.jsonl:2: invalid value: integer `-600`"),
        (good.clone() + &line("5", "99999999999"), "t.jsonl:2: input_length 99999999999 is more"),
        (good.clone() + &line("99999999999999", "6"), "t.jsonl:2: timestamp 99999999999999 is"),
        (good.clone() + &line("1e99", "6"), "t.jsonl:2: "),
    ] {
        std::fs::write(at.join("t.jsonl"), text).expect("written");
        let err = refused(at, (QUIET.to_string() + "[load]\nworkload = \"t.jsonl\"\n").as_bytes());
        assert!(err.starts_with(&format!("mainstay: {told}")), "{told}\n---\n{err}");
        assert!(err.contains("(x.toml plays it)"), "{err}");
    }
    let err = refused(at, (QUIET.to_string() + "[load]\nworkload = \"no.jsonl\"\n").as_bytes());
    assert!(err.starts_with("mainstay: no.jsonl: not found"), "{err}");
    std::fs::write(at.join("t.jsonl"), good).expect("written");
    std::fs::write(at.join("x.toml"), QUIET.to_string() + "[load]\nworkload = \"t.jsonl\"\n")
        .expect("written");
    let (code, out, err) = simulate(at, &["x.toml", "--seeds", "1", "--json"]);
    assert!(code <= 1 && out.starts_with('{'), "{code} {out} {err}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("q.toml"), QUIET).expect("written");
    for arguments in [&["q.toml", "--json"][..], &["q.toml"], &[]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
        command.env_clear().current_dir(directory.path()).arg("simulate").args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
        assert!(output.status.code().is_some_and(|code| code <= 1), "{:?}", output.status);
    }
}

#[test]
fn the_catalogue_is_built_in() {
    let directory = tempfile::tempdir().expect("a directory");
    let (code, out, err) = simulate(directory.path(), &[]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out.lines().count(), 38, "{out}");
    assert!(out.starts_with("S01  A site is lost"), "{out}");
}

#[test]
fn one_run_is_an_object_and_several_are_a_list() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("q.toml"), QUIET).expect("written");
    let (_, out, err) = simulate(directory.path(), &["q.toml", "--seed", "7", "--json"]);
    let run: serde_json::Value = serde_json::from_str(&out).expect(&err);
    assert_eq!((&run["scenario"], &run["seed"]), (&"quiet".into(), &7.into()));
    assert!(run["by_tier"]["free"]["offered"].as_u64().expect("a number") > 0, "{out}");
    let (_, out, _) = simulate(directory.path(), &["q.toml", "--json"]);
    let all: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(all["runs"].as_array().map(Vec::len), Some(2), "{out}");
    assert!(all["passed"].is_boolean());
}

#[test]
fn a_page_is_written_and_the_table_has_a_line_for_each_scenario() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("q.toml"), QUIET).expect("written");
    let arguments = ["q.toml", "--seeds", "1", "--report", "page.html"];
    let (_, out, err) = simulate(directory.path(), &arguments);
    assert_eq!(err, "", "no progress where nobody watches");
    assert!(out.lines().nth(1).is_some_and(|line| line.starts_with("quiet ")), "{out}");
    let page = std::fs::read_to_string(directory.path().join("page.html")).expect("a page");
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
}

#[test]
fn a_configuration_must_say_what_its_sites_carry() {
    let directory = tempfile::tempdir().expect("a directory");
    let site = |name: &str, more: &str| {
        format!(
            "[[site]]\nname = \"{name}\"\nprovider = \"openai\"\n\
             base_url = \"http://127.0.0.1:9/v1\"\n{more}"
        )
    };
    let (with, lacking) = (site("fra", "capacity = 200\n"), site("iad", ""));
    let file = directory.path().join("m.toml");
    std::fs::write(&file, format!("{with}{lacking}")).expect("written");
    let arguments = ["--config", "m.toml", "--lose", "fra", "--seeds", "1"];
    let (code, _, err) = simulate(directory.path(), &arguments);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("site iad: its capacity is not known; add capacity = N"), "{err}");
    std::fs::write(&file, format!("{with}{lacking}capacity = 100\n")).expect("written");
    let (code, out, err) = simulate(directory.path(), &arguments);
    assert!(code <= 1 && out.contains("lose-fra"), "{code} {out} {err}");
    let wrong = ["--config", "m.toml", "--lose", "far"];
    let (code, _, err) = simulate(directory.path(), &wrong);
    assert_eq!(code, 2);
    assert!(err.contains("no site `far`; known are fra, iad"), "{err}");
}

#[test]
fn a_trace_is_played_with_every_policy_asked_for_and_told_as_table_json_and_picture() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let small = ["--trace", "synthetic", "--policy", "rr,late", "--workers", "4", "--speeds", "1"];
    let (code, out, err) = simulate(at, &[&small[..], &["--report", "x.svg"]].concat());
    assert_eq!(code, 0, "{out}{err}");
    assert!(
        out.contains("CAP95") && out.contains("late") && out.contains("report: x.svg"),
        "{out}"
    );
    let picture = std::fs::read_to_string(at.join("x.svg")).unwrap();
    assert!(picture.starts_with("<svg xmlns=") && picture.trim_end().ends_with("</svg>"));
    let (code, out, err) = simulate(at, &[&small[..], &["--json"]].concat());
    assert_eq!(code, 0, "{err}");
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    let carried = |at: usize| told["policies"][at]["cap95"].as_f64().unwrap();
    assert!(carried(1) > carried(0), "late {} and rr {}", carried(1), carried(0));
}

#[test]
fn a_trace_or_policy_that_is_not_known_is_told_with_what_would_do() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, words) in [
        (&["--trace", "nowhere"][..], &["no such trace", "conversation", "MAINSTAY_TRACES"][..]),
        (&["--trace", "azure-conv"], &["not found", "MAINSTAY_TRACES"]),
        (&["--trace", "synthetic", "--policy", "lmetrc"], &["did you mean lmetric?", "cost"]),
        (&["--trace", "synthetic", "--speeds", "fast"], &["--speeds fast", "2,4,8"]),
        (&["S01", "--policy", "late"], &["mainstay and naive", "--trace"]),
        (&["S01", "--trace", "synthetic"], &["cannot be used with"]),
        (&["--trace", "synthetic", "--workers", "0"], &["--workers"]),
    ] {
        let (code, out, err) = simulate(directory.path(), arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert!(words.iter().all(|word| err.contains(word)), "{arguments:?}: {err}");
    }
}
