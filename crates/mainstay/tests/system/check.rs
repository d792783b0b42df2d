//! `mainstay check`: the examples and their findings, the guide, exit codes, what is printed, and
//! the probe against a fault server.

use mainstay::check::finding::{Finding, KINDS};
use mainstay::check::scene::Scene;
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

/// What is found in the text of a configuration.
fn findings(shown: &str, text: &str, options: &Check) -> Vec<Finding> {
    let source = Source::parse(shown, text, &[]).expect("TOML");
    let scene = Scene::read(&source, &Environment::default(), Path::new("")).expect("right");
    mainstay::check::report(&scene, shown, options).audit.findings
}

/// The findings of an example, one a line, as they stand beside it.
fn found(name: &str) -> String {
    let path = root().join("examples").join(format!("{name}.toml"));
    let text = std::fs::read_to_string(&path).expect("an example");
    let options = Check { config: Some(path), json: true, ..Check::default() };
    let line = |finding: &Finding| {
        let word = finding.severity.word();
        format!("{word} {} {} {}\n", finding.id, finding.place.line, finding.title)
    };
    findings(&format!("examples/{name}.toml"), &text, &options).iter().map(line).collect()
}

/// Kinds and severities of what is found without a forecast, e.g. `error MS101`.
fn kinds(text: &str) -> Vec<String> {
    let options = Check { json: true, no_forecast: true, ..Check::default() };
    let found = findings("m.toml", text, &options);
    found.iter().map(|each| format!("{} {}", each.severity.word(), each.id)).collect()
}

/// Two sites that serve one model, with these lines in each.
fn pair(a: &str, b: &str) -> String {
    format!(
        "[check]\ngateways = 2\n[[site]]\nname = \"a\"\n{a}\n[[site]]\nname = \"b\"\n{b}\n\
         [[model]]\nname = \"m\"\nserved_by = [\"a/deepseek-chat\", \"b/deepseek-chat\"]\n"
    )
}

#[test]
fn what_a_site_says_itself_is_not_assumed_of_it() {
    let a = "provider = \"openrouter\"\nkey_env = \"A\"\nfate = [\"pay:x-1\"]";
    let own = "provider = \"openai\"\nbase_url = \"https://llm.example.org/v1\"";
    assert_eq!(kinds(&pair(a, own)), ["warning MS102"]);
    let said = format!("{own}\nfate = [\"lab:we-run-it-ourselves\"]");
    assert_eq!(kinds(&pair(a, &said)), [""; 0]);
    let account = |key: &str, more: &str| {
        format!("provider = \"deepseek\"\nkey_env = \"{key}\"\nfate = [\"pay:x-1\"{more}]")
    };
    let alike = kinds(&pair(&account("A", ""), &account("B", "")));
    assert!(alike.contains(&String::from("warning MS106")), "{alike:?}");
    let two = pair(&account("A", ", \"account:1\""), &account("B", ", \"account:2\""));
    assert!(!kinds(&two).contains(&String::from("warning MS106")), "{:?}", kinds(&two));
}

#[test]
fn one_key_is_one_account_wherever_it_is_used() {
    let site = |host: &str| {
        let url = format!("base_url = \"https://{host}/v1\"");
        format!("provider = \"openai\"\nkey_env = \"A\"\nfate = [\"lab:{host}\"]\n{url}")
    };
    let found = kinds(&pair(&site("a.example.org"), &site("b.example.com")));
    assert_eq!(found, ["error MS102", "warning MS106"]);
}

#[test]
fn a_gateway_that_is_said_to_be_alone_is_an_error_and_one_that_is_assumed_to_be_is_not() {
    let a = "provider = \"vllm\"\nbase_url = \"http://10.1.0.1/v1\"";
    let b = "provider = \"vllm\"\nbase_url = \"http://10.2.0.1/v1\"";
    let text = pair(a, b);
    assert_eq!(kinds(&text), [""; 0]);
    assert_eq!(kinds(&text.replace("gateways = 2", "gateways = 1")), ["error MS107"]);
    assert_eq!(kinds(&text.replace("gateways = 2", "")), ["warning MS107"]);
}

#[test]
fn neighbours_in_one_network_and_misspelt_fates_are_told() {
    let site = |last: &str, fate: &str| {
        let url = format!("base_url = \"http://10.1.0.{last}/v1\"");
        format!("provider = \"vllm\"\n{url}\nfate = [\"{fate}\"]")
    };
    let found = kinds(&pair(&site("1", "power:north"), &site("2", "power:nroth")));
    assert_eq!(found, ["warning MS102", "warning MS406", "warning MS406"]);
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
        "The next outage of deepseek takes chat, deepseek-flash and deepseek-v4-pro down.",
        "nobody gets a real answer",
        "built-in model tells",
        "set DASHSCOPE_API_KEY or another provider's key",
        "costs nothing until the outage, which then becomes answers by another model",
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
                [[model]]\nname = \"m\"\nserved_by = [\"a/x\"]\nneeds = [\"tool\"]\n\
                window_min = 0\n";
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
