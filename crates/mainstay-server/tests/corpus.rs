//! Every recorded reply is classified as its file says, every rule decides some recorded reply, and
//! no bytes make the classifier panic.
//!
//! The corpus is in `tests/corpus/<dialect>/` at the root of the repository: `<case>.json` is an
//! error reply with what is expected of it, `<case>.sse` the bytes of a stream, beside it
//! `<case>.expect.json`. How streams are read is tested where they are read; here, what their
//! errors and finish reasons mean.

use http::{HeaderMap, HeaderName, HeaderValue};
use mainstay_core::names::{ErrorClass, Failure};
use mainstay_core::rng::Rng;
use mainstay_server::dialect::{Basis, Dialect, LimitScope, Reply, Rule, fits};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A recorded error reply.
struct Case {
    name: String,
    dialect: Arc<Dialect>,
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    expect: Value,
}

/// A recorded stream.
struct Stream {
    name: String,
    dialect: Arc<Dialect>,
    bytes: Vec<u8>,
    expect: Value,
}

#[test]
fn every_reply_is_classified_as_its_file_says() {
    let wrong: Vec<String> = cases().iter().filter_map(disagreement).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_rule_and_every_word_in_it_decides_some_reply() {
    let cases = cases();
    let mut decided: BTreeMap<(String, usize), Vec<Failure>> = BTreeMap::new();
    for case in &cases {
        let (failure, basis) = case.dialect.explain(&case.reply());
        let rule = match basis {
            Basis::Own(at) => (case.dialect.name.clone(), at),
            Basis::Generic(at) => ("generic".to_owned(), at),
            Basis::Nothing => continue,
        };
        decided.entry(rule).or_default().push(failure);
    }
    let mut idle = Vec::new();
    for name in Dialect::NAMES {
        for (at, rule) in Dialect::builtin(name).unwrap().class.iter().enumerate() {
            let hits = decided.remove(&(name.to_owned(), at)).unwrap_or_default();
            idle.extend(unused(rule, &hits).into_iter().map(|w| format!("{name} rule {at}: {w}")));
        }
    }
    assert!(idle.is_empty(), "nothing recorded shows these:\n{}", idle.join("\n"));
}

#[test]
fn an_error_means_the_same_inside_a_success_where_a_word_decides() {
    let mut wrong = Vec::new();
    for case in &cases() {
        let (failure, basis) = case.dialect.explain(&case.reply());
        let rule = match basis {
            Basis::Own(at) => case.dialect.class[at].clone(),
            Basis::Generic(at) => Dialect::builtin("generic").unwrap().class[at].clone(),
            Basis::Nothing => continue,
        };
        let by_word = !(rule.code.is_empty() && rule.kind.is_empty() && rule.at.is_empty());
        if !by_word || rule.header.is_some() {
            continue;
        }
        let inside = case.dialect.classify(&Reply { status: 200, ..case.reply() });
        if inside.class != failure.class {
            wrong.push(format!("{}: {} inside", case.name, inside.class.word()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_dialect_has_replies_and_a_good_a_failing_and_a_cut_stream() {
    let (cases, streams) = (cases(), streams());
    let mut missing = Vec::new();
    for name in Dialect::NAMES {
        let of: Vec<&Value> =
            streams.iter().filter(|s| s.dialect.name == name).map(|s| &s.expect).collect();
        let good = of.iter().any(|e| e["finish"][0] == "stop" && e["usage"].is_object());
        let failing = of.iter().any(|e| e["failed"].is_string());
        let cut = of.iter().any(|e| e["failed"].is_null() && e["finish"].is_null());
        let replies = cases.iter().filter(|c| c.dialect.name == name).count();
        if !(good && failing && cut && replies >= 8) {
            missing.push(format!("{name}: {good} {failing} {cut} {replies}"));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn errors_inside_streams_are_told_from_answers_and_classified() {
    for Stream { name, dialect, bytes, expect } in &streams() {
        let failed = events(bytes).iter().find_map(|event| failure_in(dialect, event));
        let said = failed.map(|failure| failure.class.word());
        assert_eq!(said, expect["failed"].as_str(), "{name}");
    }
}

#[test]
fn every_failing_finish_reason_is_seen_in_a_stream() {
    let mut seen = BTreeSet::new();
    for Stream { dialect, bytes, .. } in &streams() {
        let reasons = events(bytes).into_iter().filter_map(|e| finish_reason(&e));
        seen.extend(reasons.map(|reason| (dialect.name.clone(), reason)));
    }
    for name in Dialect::NAMES {
        for reason in Dialect::builtin(name).unwrap().finish.keys() {
            assert!(seen.contains(&(name.to_owned(), reason.clone())), "{name}: {reason}");
        }
    }
}

#[test]
fn a_reply_cut_at_any_byte_has_a_class_and_a_bounded_message() {
    for case in &cases() {
        for end in 0..=case.body.len() {
            let reply = Reply { body: &case.body[..end], ..case.reply() };
            check_bounds(&case.dialect.classify(&reply), &case.name);
        }
    }
    for stream in &streams() {
        let headers = HeaderMap::new();
        for end in 0..=stream.bytes.len() {
            let reply = Reply { status: 200, headers: &headers, body: &stream.bytes[..end] };
            check_bounds(&stream.dialect.classify(&reply), &stream.name);
        }
    }
}

#[test]
fn random_and_damaged_bytes_have_a_class_and_a_bounded_message() {
    let cases = cases();
    for seed in 0..4_000 {
        let mut rng = Rng::new(seed);
        let case = &cases[pick(&mut rng, cases.len())];
        let body = damaged(&case.body, &mut rng);
        let status = u16::try_from(100 + pick(&mut rng, 900)).unwrap();
        for name in Dialect::NAMES {
            let dialect = Dialect::builtin(name).unwrap();
            let reply = Reply { status, body: &body, ..case.reply() };
            check_bounds(&dialect.classify(&reply), &format!("seed {seed}"));
            if let Ok(value) = serde_json::from_slice(&body) {
                let failure = dialect.error_in(&value);
                failure.iter().for_each(|f| check_bounds(f, &format!("seed {seed}")));
            }
        }
    }
}

#[test]
fn a_body_nested_without_end_is_no_danger() {
    for open in ["[", "{\"error\":", "{\"error\":[", "data: [["] {
        let headers = HeaderMap::new();
        let body = open.repeat(60_000);
        let reply = Reply { status: 500, headers: &headers, body: body.as_bytes() };
        let failure = Dialect::builtin("generic").unwrap().classify(&reply);
        assert_eq!(failure.class, ErrorClass::Transient);
    }
}

#[test]
fn the_providers_name_for_a_request_is_found_in_body_or_header() {
    let id = |dialect: &str, body: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", HeaderValue::from_static("from-header"));
        let reply = Reply { status: 500, headers: &headers, body: body.as_bytes() };
        Dialect::builtin(dialect).unwrap().request_id(&reply)
    };
    assert_eq!(id("qianfan", "{\"error\":{},\"id\":\"as-1\"}").as_deref(), Some("as-1"));
    assert_eq!(id("dashscope", "{\"request_id\":\"8f\"}").as_deref(), Some("8f"));
    assert_eq!(id("openai", "{\"error\":{}}").as_deref(), Some("from-header"));
    assert_eq!(id("openai", "<html>").as_deref(), Some("from-header"));
}

#[test]
fn models_are_known_by_name_or_family_and_continue_as_documented() {
    for (dialect, model, serves, continues) in [
        ("deepseek", "deepseek-flash", true, true),
        ("moonshot", "k3.1-pro", true, true),
        ("moonshot", "kimi-k2.6", true, true),
        ("qianfan", "ernie-4.5-turbo-128k", true, false),
        ("dashscope", "qwen3.5-397b-a17b", true, true),
        ("dashscope", "qwen3-max", true, true),
        ("dashscope", "qwq-32b", true, false),
        ("openai", "o3-mini", true, false),
        ("openai", "chatgpt-4o-latest", true, false),
        ("anthropic", "claude-opus-4-5-20251101", true, true),
        ("anthropic", "claude-3-5-sonnet-20241022", true, true),
        ("anthropic", "claude-sonnet-4-20250514", true, true),
        ("anthropic", "claude-opus-4-6", true, false),
        ("anthropic", "claude-sonnet-5", true, false),
        ("groq", "llama-3.3-70b-versatile", true, true),
        ("groq", "whisper-large-v3", false, false),
        ("together", "openai/gpt-oss-120b", true, false),
        ("openrouter", "anthropic/claude-sonnet-4.5", true, true),
        ("openrouter", "anthropic/claude-opus-4.6", true, false),
        ("openrouter", "openai/gpt-4o-mini", true, false),
        ("vllm", "anything", true, true),
        ("sglang", "anything", true, true),
        ("llamacpp", "anything", true, true),
        ("ollama", "qwen3:8b", true, false),
        ("generic", "anything", true, false),
    ] {
        let known = Dialect::builtin(dialect).unwrap();
        let said = (known.may_serve(model), known.can_continue(model));
        assert_eq!(said, (serves, continues), "{dialect}/{model}");
    }
    assert!(!Dialect::builtin("deepseek").unwrap().may_serve("gpt-5"));
    assert!(!Dialect::builtin("openrouter").unwrap().may_serve("gpt-5"));
}

/// What is wrong with how `case` is classified, if anything.
fn disagreement(case: &Case) -> Option<String> {
    let failure = case.dialect.classify(&case.reply());
    let expect = &case.expect;
    let scope = match case.dialect.limits.scope {
        LimitScope::Account => "account",
        LimitScope::Organization => "organization",
        LimitScope::Key => "key",
        LimitScope::Worker => "worker",
    };
    let inner = expect["inner_status"].as_u64().unwrap_or(case.status.into());
    let agrees = expect["class"] == failure.class.word()
        && expect["wait_s"].as_f64() == failure.retry_after.map(|wait| wait.as_secs_f64())
        && expect["limit"].as_u64() == failure.limit
        && failure.status.map(u64::from) == Some(inner)
        && is_or_silent(&expect["scope"], Some(scope))
        && is_or_silent(&expect["code"], failure.code.as_deref())
        && is_or_silent(&expect["kind"], failure.kind.as_deref())
        && is_or_silent(&expect["param"], failure.param.as_deref())
        && is_or_silent(&expect["message"], Some(&failure.message));
    (!agrees).then(|| format!("{}: expected {expect}, got {failure:?}", case.name))
}

fn is_or_silent(expected: &Value, found: Option<&str>) -> bool {
    expected.is_null() || expected.as_str() == found
}

/// The words of `rule` that none of the replies it decided shows.
fn unused(rule: &Rule, hits: &[Failure]) -> Vec<String> {
    if hits.is_empty() {
        return vec![format!("decides nothing: {rule:?}")];
    }
    let shown = |word: &str, of: fn(&Failure) -> Option<&str>| {
        hits.iter().any(|failure| of(failure).is_some_and(|text| fits(word, text)))
    };
    let codes = rule.code.iter().filter(|word| !shown(word, |f| f.code.as_deref()));
    let kinds = rule.kind.iter().filter(|word| !shown(word, |f| f.kind.as_deref()));
    let texts = rule.message_has.iter().filter(|part| {
        let part = part.to_ascii_lowercase();
        !hits.iter().any(|failure| failure.message.to_ascii_lowercase().contains(&part))
    });
    let statuses = rule.status.iter().filter(|pattern| {
        !hits.iter().any(|f| f.status.is_some_and(|status| pattern.covers(status)))
    });
    let words = codes.chain(kinds).chain(texts).cloned();
    words.chain(statuses.map(|pattern| format!("{pattern:?}"))).collect()
}

/// What must hold of every failure, whatever the bytes were.
fn check_bounds(failure: &Failure, name: &str) {
    assert!(failure.message.len() <= 1024 && !failure.message.is_empty(), "{name}");
    let lower = failure.message.to_ascii_lowercase();
    assert!(!lower.contains("<html") && !lower.contains("<!doctype"), "{name}: {lower}");
    for text in [&failure.code, &failure.kind, &failure.param, &Some(failure.message.clone())] {
        assert!(!text.iter().any(|t| t.chars().any(char::is_control)), "{name}: {text:?}");
    }
}

/// `body` replaced by noise, with some bytes changed, or many times over.
fn damaged(body: &[u8], rng: &mut Rng) -> Vec<u8> {
    match pick(rng, 3) {
        0 => (0..pick(rng, 300)).map(|_| byte(rng)).collect(),
        1 => {
            let mut body = body.to_vec();
            for _ in 0..=pick(rng, 4) {
                let at = pick(rng, body.len());
                let new = byte(rng);
                body.iter_mut().skip(at).take(1).for_each(|place| *place = new);
            }
            body
        }
        _ => body.repeat(1 + pick(rng, 400)),
    }
}

/// What an event of a stream says went wrong, by its error or by its finish reason.
fn failure_in(dialect: &Dialect, event: &Value) -> Option<Failure> {
    const SUCCESS: [&str; 9] = [
        "stop",
        "length",
        "tool_calls",
        "content_filter",
        "end_turn",
        "stop_sequence",
        "max_tokens",
        "tool_use",
        "refusal",
    ];
    dialect.error_in(event).or_else(|| {
        let reason = finish_reason(event)?;
        (!SUCCESS.contains(&reason.as_str())).then(|| dialect.failed_finish(&reason))
    })
}

fn finish_reason(event: &Value) -> Option<String> {
    let reason = event.pointer("/choices/0/finish_reason");
    reason.or(event.pointer("/delta/stop_reason"))?.as_str().map(str::to_owned)
}

/// The JSON events of a stream, read as plainly as can be: whole events only.
fn events(bytes: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n").replace('\r', "\n");
    let mut whole: Vec<&str> = text.trim_start_matches('\u{feff}').split("\n\n").collect();
    whole.pop();
    let data = |event: &&str| {
        let lines = event.lines().filter_map(|line| line.strip_prefix("data:"));
        serde_json::from_str(&lines.collect::<Vec<_>>().join("\n")).ok()
    };
    whole.iter().filter_map(data).collect()
}

impl Case {
    fn reply(&self) -> Reply<'_> {
        Reply { status: self.status, headers: &self.headers, body: &self.body }
    }
}

fn cases() -> Vec<Case> {
    let is_case = |path: &PathBuf| {
        let name = path.to_string_lossy();
        name.ends_with(".json") && !name.ends_with(".expect.json")
    };
    files().into_iter().filter(is_case).map(|path| case(&path)).collect()
}

fn case(path: &Path) -> Case {
    let file = json(path);
    for field in ["source", "date", "verified", "status", "headers", "body", "expect"] {
        assert!(!file[field].is_null(), "{}: no {field}", path.display());
    }
    Case {
        name: path.display().to_string(),
        dialect: dialect(path),
        status: u16::try_from(file["status"].as_u64().unwrap()).unwrap(),
        headers: headers(&file["headers"]),
        body: match &file["body"] {
            Value::String(text) => text.clone().into_bytes(),
            value => value.to_string().into_bytes(),
        },
        expect: file["expect"].clone(),
    }
}

fn streams() -> Vec<Stream> {
    let is_stream = |path: &PathBuf| path.extension().is_some_and(|e| e == "sse");
    let stream = |path: PathBuf| Stream {
        name: path.display().to_string(),
        dialect: dialect(&path),
        bytes: std::fs::read(&path).unwrap(),
        expect: json(&path.with_extension("expect.json")),
    };
    files().into_iter().filter(is_stream).map(stream).collect()
}

fn headers(lines: &Value) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines.as_object().unwrap() {
        let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        for value in values {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value.as_str().unwrap()).unwrap());
        }
    }
    headers
}

fn dialect(path: &Path) -> Arc<Dialect> {
    let name = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
    Dialect::builtin(name).unwrap_or_else(|| panic!("no dialect {name}"))
}

fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus");
    let entries = |path: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let rooms = entries(&root).into_iter().filter(|path| path.is_dir());
    let mut files: Vec<PathBuf> = rooms.flat_map(|room| entries(&room)).collect();
    files.sort();
    files
}

fn pick(rng: &mut Rng, below: usize) -> usize {
    usize::try_from(rng.below(below as u64)).unwrap()
}

fn byte(rng: &mut Rng) -> u8 {
    rng.bits().to_le_bytes()[0]
}
