//! `mainstay check`: the examples and their findings, the guide, exit codes, what is printed, and
//! the probe against a fault server.

use mainstay::check::finding::KINDS;
use mainstay::command_line::Check;
use mainstay::config_file::source::Source;
use mainstay::environment::Environment;
use mainstay::faults;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

fn check(at: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    command.env_clear().envs(variables.iter().copied()).current_dir(at).arg("check");
    let output = command.args(arguments).stdin(Stdio::null()).output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("a code"), text(output.stdout), text(output.stderr))
}

/// Names of the examples, without `.toml`.
fn examples() -> Vec<String> {
    let entries = std::fs::read_dir(root().join("examples")).expect("examples");
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> =
        names.filter_map(|name| name.strip_suffix(".toml").map(str::to_string)).collect();
    names.sort();
    names
}

/// The findings of an example, one a line, as they stand beside it.
fn found(name: &str) -> String {
    let path = root().join("examples").join(format!("{name}.toml"));
    let text = std::fs::read_to_string(&path).expect("an example");
    let shown = format!("examples/{name}.toml");
    let source = Source::parse(&shown, &text, &[]).expect("TOML");
    let environment = Environment::default();
    let base = path.parent().expect("a directory");
    let scene = mainstay::check::scene::Scene::read(&source, &environment, base).expect("right");
    let options = Check { config: Some(path.clone()), json: true, ..Check::default() };
    let report = mainstay::check::report(&scene, &shown, &options);
    let line = |finding: &mainstay::check::finding::Finding| {
        let word = finding.severity.word();
        format!("{word} {} {} {}\n", finding.id, finding.place.line, finding.title)
    };
    report.audit.findings.iter().map(line).collect()
}

#[test]
fn every_example_has_exactly_the_findings_beside_it() {
    let names = examples();
    assert!(names.len() >= 12, "{names:?}");
    let mut wrong = Vec::new();
    for name in names {
        let path = root().join("examples").join(format!("{name}.findings"));
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        let found = found(&name);
        if found != expected {
            wrong.push(format!("--- examples/{name}.findings should be:\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_guide_explains_every_kind_of_finding_and_lists_every_example() {
    let guide = std::fs::read_to_string(root().join("docs/guide/check.md")).expect("the guide");
    for (id, about) in KINDS {
        assert!(guide.contains(&format!("### {id} {about}\n")), "{id} {about}");
    }
    for name in examples() {
        assert!(guide.contains(&format!("| [{name}](../../examples/{name}.toml) |")), "{name}");
    }
}

#[test]
fn one_provider_is_told_plainly_in_ten_lines() {
    let (code, out, err) = check(&root(), &[], &[("DEEPSEEK_API_KEY", "k")]);
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    let top: Vec<&str> = out.lines().take(10).collect();
    let top = top.join("\n");
    for words in [
        "The next outage of deepseek takes a model down.",
        "nobody gets a real answer",
        "built-in model tells",
        "set DASHSCOPE_API_KEY or another provider's key",
        "costs nothing until the outage",
    ] {
        let flat = top.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(words), "{words}\n---\n{out}");
    }
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    assert!(!out.contains('\u{1b}'), "no colours where no terminal is");
}

#[test]
fn exit_codes_are_for_pipelines() {
    let at = root();
    let run =
        |name: &str| check(&at, &["--config", &format!("examples/{name}.toml"), "--json"], &[]);
    let (code, out, err) = run("healthy");
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let told: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(told["survives_any_single_loss"], true);
    let (code, out, _) = run("two-keys-of-one-account");
    assert_eq!(code, 1);
    let told: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(told["findings"][0]["id"], "MS102", "{out}");
    assert_eq!(told["keys_absent"], serde_json::json!(["DEEPSEEK_KEY_A", "DEEPSEEK_KEY_B"]));
    let (code, out, err) = check(&at, &["--config", "no/such.toml"], &[]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("no/such.toml: cannot be read"), "{err}");
}

#[test]
fn what_only_the_audit_reads_is_checked_like_all_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = "[check]\npeak = { gold = 1 }\ngateways = 0\nclient_timeout = \"0s\"\n\
                [[site]]\nname = \"a\"\nprovider = \"vllm\"\nbase_url = \"http://10.0.0.1/v1\"\n\
                [[model]]\nname = \"m\"\nserved_by = [\"a/x\"]\nneeds = [\"tool\"]\nwindow_min = 0\n";
    std::fs::write(directory.path().join("m.toml"), text).expect("written");
    let (code, out, err) = check(directory.path(), &["--config", "m.toml"], &[]);
    assert_eq!((code, out.as_str()), (2, ""));
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!(lines.len(), 5, "{err}");
    for (line, told) in lines.iter().zip([
        "m.toml:2: check.peak.gold: no tier `gold`",
        "m.toml:3: check.gateways: 0 would",
        "m.toml:4: check.client_timeout: must",
        "m.toml:12: model.needs: no feature `tool`; did you mean `tools`?",
        "m.toml:13: model.window_min: 0 tokens",
    ]) {
        assert!(line.starts_with(&format!("mainstay: {told}")), "{told}\n---\n{err}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_tells_who_is_there_and_shows_no_key() {
    let running = faults::serve(faults::Options::default()).await.expect("a fault server");
    let directory = tempfile::tempdir().expect("a directory");
    let site = |name: &str, url: &str| {
        let key = format!("key = \"sk-secret-{name}\"");
        format!("[[site]]\nname = \"{name}\"\nprovider = \"openai\"\nbase_url = \"{url}\"\n{key}\n")
    };
    let text = site("good", &running.base_url("p"))
        + &site("gone", &format!("{}/v1", running.addresses.refused))
        + &site("odd", &format!("{}/v1", running.addresses.tls_expired))
        + "[[model]]\nname = \"chat\"\nserved_by = [\"good/okk\", \"gone/ok\", \"odd/ok\"]\n";
    std::fs::write(directory.path().join("m.toml"), text).expect("written");
    let at = directory.path().to_path_buf();
    let arguments = ["--config", "m.toml", "--probe", "--no-forecast", "--json"];
    let asked = tokio::task::spawn_blocking(move || check(&at, &arguments, &[]));
    let (_, out, err) = asked.await.expect("it runs");
    assert!(!out.contains("sk-secret") && !err.contains("sk-secret"), "{out}{err}");
    let told: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let outcome = |at: usize| told["probed"][at]["outcome"].as_str().expect("a word");
    assert_eq!([outcome(0), outcome(1), outcome(2)], ["reachable", "unreachable", "unreachable"]);
    assert_eq!(told["probed"][1]["why"], "connection refused");
    let kinds: Vec<&str> = told["findings"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|finding| finding["id"].as_str())
        .collect();
    assert_eq!(kinds.iter().filter(|id| **id == "MS701").count(), 2, "{out}");
    assert!(kinds.contains(&"MS704"), "{out}");
}
