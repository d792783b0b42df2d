//! The embedded engine as a site of the real gateway: it answers when nobody else can, by a model
//! or without one, and never makes anybody wait for it.

use crate::bed::client::{Ask, Mode, Reply, get};
use crate::bed::gateway::Gateway;
use crate::bed::{Bed, Layout, MODES, Place, refused};
use mainstay::faults::answer_text;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const LISTEN: &str = "[listen]\napi = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n";
const QUESTION: &str = "Which providers are down?";

/// A tiny model with random weights in a directory `tiny`, and a tokenizer that fits it.
pub fn tiny() -> (TempDir, PathBuf) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mainstay-engine/tests/fixtures");
    let directory = tempfile::tempdir().expect("a directory");
    let model = directory.path().join("tiny");
    std::fs::create_dir(&model).expect("make a directory");
    for (from, file) in [
        ("deepseek-v3", "config.json"),
        ("deepseek-v3", "model.safetensors"),
        ("tokenizer", "tokenizer.json"),
        ("tokenizer", "tokenizer_config.json"),
    ] {
        std::fs::copy(fixtures.join(from).join(file), model.join(file)).expect("copy a fixture");
    }
    (directory, model)
}

/// A gateway with nothing but an engine that runs the model in `directory`.
async fn alone(directory: &Path) -> Gateway {
    let site = format!("[[site]]\nname = \"e\"\nengine = {{ model = {directory:?} }}\n");
    Gateway::start(&format!("{LISTEN}{site}")).await
}

async fn ask(gateway: &Gateway, ask: &Ask) -> Reply {
    ask.send(&format!("{}/v1", gateway.api)).await
}

#[track_caller]
fn answered(reply: &Reply) {
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    assert!(!reply.text().trim().is_empty());
    assert!(reply.finish().is_some_and(|finish| finish == "stop" || finish == "length"));
    assert!(reply.terminated);
    assert!(reply.events.is_empty() || reply.is_done());
    assert!(reply.usage()["completion_tokens"].as_u64().is_some_and(|count| count > 0));
}

#[tokio::test]
async fn a_fresh_start_answers_streamed_and_plain() {
    let gateway = Gateway::start(LISTEN).await;
    let models = get(&format!("{}/v1/models", gateway.api)).await.json();
    let names: Vec<&str> =
        models["data"].as_array().unwrap().iter().filter_map(|m| m["id"].as_str()).collect();
    assert_eq!(names, ["chat", "builtin"]);
    for mode in MODES {
        let reply = ask(&gateway, &Ask::chat("chat", QUESTION).mode(mode)).await;
        answered(&reply);
        assert_eq!(reply.header("x-mainstay-degraded"), Some("embedded"));
        assert_eq!(reply.header("x-mainstay-site"), Some("builtin"));
        assert_eq!(reply.chunks()[0]["model"], "builtin");
    }
    let chinese = ask(&gateway, &Ask::chat("chat", "哪些站点中断了?").stream()).await;
    assert!(!chinese.text().is_ascii(), "{}", chinese.text());
}

#[tokio::test]
async fn a_provider_that_is_down_is_named() {
    let dead = "[[site]]\nname = \"harbour\"\nprovider = \"openai\"\nkey = \"k\"\n\
                base_url = \"http://127.0.0.1:9/v1\"\n\n\
                [[site]]\nname = \"last-resort\"\nengine = { model = \"builtin\" }\n\n\
                [[model]]\nname = \"chat\"\nserved_by = [\"harbour/gpt\"]\n\
                substitutes = [\"last-resort/builtin\"]\n";
    let gateway = Gateway::start(&format!("{LISTEN}{dead}")).await;
    for question in [QUESTION, "哪个提供商中断了?"] {
        let reply = ask(&gateway, &Ask::chat("chat", question).stream()).await;
        answered(&reply);
        assert_eq!(reply.models(), ["builtin"]);
        assert!(reply.text().contains("harbour"), "{}", reply.text());
        assert!(!reply.text().contains('['), "an empty slot: {}", reply.text());
        assert_eq!(reply.header("x-mainstay-site"), Some("last-resort"));
    }
}

#[tokio::test]
async fn what_the_engine_cannot_do_is_refused_and_not_faked() {
    let gateway = Gateway::start(LISTEN).await;
    let json_only = Ask::chat("chat", "x").with("response_format", json!({"type": "json_object"}));
    refused(&ask(&gateway, &json_only).await, 400, "unsupported");
    let vectors = Ask::chat("builtin", "").with("input", json!("x")).to("/embeddings");
    refused(&ask(&gateway, &vectors).await, 400, "unsupported");
}

#[tokio::test]
async fn a_prompt_that_is_far_too_long_is_refused_at_once() {
    let (_keep, directory) = tiny();
    let (own, built_in) = (alone(&directory).await, Gateway::start(LISTEN).await);
    for (gateway, model) in [(&own, "tiny"), (&built_in, "builtin")] {
        let long = Ask::chat(model, &"every word counts ".repeat(50_000 / 3));
        let reply = ask(gateway, &long).await;
        refused(&reply, 400, "context_length_exceeded");
        assert!(reply.took < Duration::from_secs(2), "{:?}", reply.took);
    }
}

#[tokio::test]
async fn a_long_conversation_still_gets_an_answer_to_its_last_question() {
    let gateway = Gateway::start(LISTEN).await;
    let mut messages = vec![json!({"role": "system", "content": "You are a pirate."})];
    for turn in 0..40 {
        let said = format!("Tell me of voyage {turn}. {}", "It was long. ".repeat(20));
        messages.push(json!({"role": "user", "content": said}));
        messages.push(json!({"role": "assistant", "content": said}));
    }
    messages.push(json!({"role": "user", "content": QUESTION}));
    let long = Ask::chat("chat", "").with("messages", json!(messages)).stream();
    let reply = ask(&gateway, &long).await;
    answered(&reply);
    assert!(reply.usage()["prompt_tokens"].as_u64().is_some_and(|count| count < 600));
}

#[tokio::test]
async fn a_model_of_ones_own_answers_side_by_side() {
    let (_keep, directory) = tiny();
    let gateway = alone(&directory).await;
    let memory = gateway.memory();
    assert!(memory < 64 << 20, "{memory} bytes before the first request");
    // Random weights rarely end by themselves; the first to come must not make the other wait.
    let long = Ask::chat("tiny", "go").stream().with("max_tokens", json!(400));
    let short = long.clone().with("max_tokens", json!(3));
    let (long, short) = tokio::join!(ask(&gateway, &long), ask(&gateway, &short));
    answered(&long);
    answered(&short);
    assert_eq!(long.models(), ["tiny"]);
    assert_eq!(long.header("x-mainstay-degraded"), None);
    let count = long.usage()["completion_tokens"].as_u64().unwrap();
    assert!(count <= 400 && short.usage()["completion_tokens"].as_u64().unwrap() <= 3);
    let text = Ask::chat("tiny", "").with("prompt", json!("the sea")).to("/completions");
    let text = text.with("max_tokens", json!(8)).with("stop", json!(["zzz"]));
    let reply = ask(&gateway, &text).await;
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    assert!(reply.json()["choices"][0]["text"].is_string());
}

/// Everything in both modes, so that what is streamed and what is put together again are the same.
#[tokio::test]
async fn a_model_of_ones_own_is_held_to_forms_scores_its_tokens_and_calls_tools() {
    let (_keep, directory) = tiny();
    let template = "{% if tools %}tools: {{ tools | tojson }} as <tool_call>{% endif %}\
                    {% for message in messages %}{{ message.content }}{% endfor %}";
    std::fs::write(directory.join("chat_template.jinja"), template).expect("write a template");
    let gateway = alone(&directory).await;
    let schema = json!({ "type": "object", "required": ["up"], "additionalProperties": false,
        "properties": { "up": { "type": "boolean" } } });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "s", "schema": schema } });
    let tool = json!({ "type": "function", "function": { "name": "hold", "parameters": schema } });
    let mut told = Vec::new();
    for mode in [Mode::Stream, Mode::Plain] {
        let plain = Ask::chat("tiny", "is it up?").mode(mode).with("max_tokens", json!(300));
        let plain = plain.with("seed", json!(4));
        let held = plain.clone().with("response_format", format.clone());
        let held = held.with("logprobs", json!(true)).with("top_logprobs", json!(2));
        let reply = ask(&gateway, &held).await;
        answered(&reply);
        let value: Value = serde_json::from_str(&reply.text()).expect("JSON");
        assert!(value["up"].is_boolean(), "{value}");
        let scored: Vec<Value> = match mode {
            Mode::Plain => vec![reply.json()["choices"][0]["logprobs"]["content"].clone()],
            _ => reply
                .chunks()
                .iter()
                .map(|c| c["choices"][0]["logprobs"]["content"].clone())
                .collect(),
        };
        let scored: Vec<&Value> = scored.iter().filter_map(Value::as_array).flatten().collect();
        let text: String = scored.iter().filter_map(|one| one["token"].as_str()).collect();
        assert_eq!(text, reply.text());
        assert!(
            scored.iter().all(|one| one["top_logprobs"].as_array().is_some_and(|t| t.len() == 2))
        );
        told.push(reply.text());
        let called = plain.with("tools", json!([tool])).with("tool_choice", json!("required"));
        let reply = ask(&gateway, &called).await;
        assert_eq!(reply.finish().as_deref(), Some("tool_calls"), "{}", reply.text());
        let [(name, arguments)] = &reply.calls()[..] else { panic!("{:?}", reply.calls()) };
        assert!(name == "hold" && arguments.contains("\"up\":"), "{arguments}");
    }
    assert_eq!(told[0], told[1]);
    let wrong = Ask::chat("tiny", "x").with(
        "response_format",
        json!({ "type": "json_schema",
        "json_schema": { "name": "s", "schema": { "type": "nothing" } } }),
    );
    let reply = ask(&gateway, &wrong).await;
    assert_eq!((reply.status, reply.error()["param"].as_str()), (400, Some("response_format")));
}

#[tokio::test]
async fn a_gguf_file_is_a_model_of_ones_own() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mainstay-engine/tests/fixtures");
    let file = fixtures.join("qwen3/model.gguf");
    let gateway = alone(&file).await;
    let text = Ask::chat("model", "").with("prompt", json!("the sea")).to("/completions");
    let reply = ask(&gateway, &text.with("max_tokens", json!(8))).await;
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    assert_eq!(reply.json()["model"], "model");
}

#[tokio::test]
async fn what_one_key_asked_is_cached_for_that_key_alone() {
    let (_keep, directory) = tiny();
    let key = |name: &str, key: &str| {
        let hash: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("[[key]]\nname = \"{name}\"\ntier = \"pro\"\nhash = \"{hash}\"\n")
    };
    let site = format!("[[site]]\nname = \"e\"\nengine = {{ model = {directory:?} }}\n");
    let keys = key("acme", "sk-a") + &key("other", "sk-b");
    let gateway = Gateway::start(&format!("{LISTEN}{site}{keys}")).await;
    let mut cached = Vec::new();
    for key in ["sk-a", "sk-a", "sk-b"] {
        // Chance would end one in hundreds of answers before its first word, to be asked again.
        let long = Ask::chat("tiny", &"the sea ".repeat(40)).with("temperature", json!(0));
        let long = long.with("max_tokens", json!(2));
        let reply = ask(&gateway, &long.header("authorization", &format!("Bearer {key}"))).await;
        answered(&reply);
        let count = reply.usage()["prompt_tokens_details"]["cached_tokens"].as_u64();
        cached.push(count.is_some_and(|count| count > 0));
    }
    assert_eq!(cached, [false, true, false]);
}

#[tokio::test]
async fn the_report_of_the_sites_can_be_a_models_last_line() {
    let dead = "[[site]]\nname = \"harbour\"\nprovider = \"openai\"\nkey = \"k\"\n\
                base_url = \"http://127.0.0.1:9/v1\"\n\n\
                [[site]]\nname = \"report\"\nengine = { model = \"status\" }\n\n\
                [[model]]\nname = \"told\"\nserved_by = [\"harbour/gpt\"]\n\
                substitutes = [\"report/status\"]\n\n\
                [[model]]\nname = \"strict\"\nserved_by = [\"harbour/gpt\"]\nsubstitutes = []\n";
    let gateway = Gateway::start(&format!("{LISTEN}{dead}")).await;
    let reply = ask(&gateway, &Ask::chat("told", QUESTION).stream()).await;
    answered(&reply);
    assert_eq!(reply.models(), ["status"]);
    assert_eq!(reply.header("x-mainstay-degraded"), Some("embedded"));
    assert!(reply.text().contains("harbour: down"), "{}", reply.text());
    let reply = ask(&gateway, &Ask::chat("strict", QUESTION)).await;
    assert!(reply.status >= 500, "{}", reply.status);
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place() {
    let (_keep, directory) = tiny();
    let gateway = alone(&directory).await;
    let ask_long = Ask::chat("tiny", "go").stream().with("max_tokens", json!(500));
    // More than the engine runs at the same time, so that a place not freed would be missed.
    for _ in 0..20 {
        let left = ask(&gateway, &ask_long.clone().leaving_after(2)).await;
        assert_eq!(left.status, 200);
    }
    let began = Instant::now();
    answered(&ask(&gateway, &ask_long.with("max_tokens", json!(2))).await);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_answer_that_was_cut_elsewhere_is_gone_on_with() {
    let (_keep, directory) = tiny();
    let engine = format!(
        "[[site]]\nname = \"e\"\nengine = {{ model = {directory:?} }}\n\n\
        [[model]]\nname = \"cut\"\nserved_by = [\"primary/cut-12@9\"]\nsubstitutes = [\"e/tiny\"]\n"
    );
    let layout = Layout::new(Place::Alone, "ok", "ok").more(&engine);
    let bed = Bed::start(&layout).await;
    let reply = bed.send(&Ask::chat("cut", "hello").stream().with("max_tokens", json!(80))).await;
    answered(&reply);
    let whole = answer_text("hello").concat();
    let common = reply.text().chars().zip(whole.chars()).take_while(|(a, b)| a == b).count();
    assert!(common > 5, "it begins as the first site began: {}", reply.text());
    assert_eq!(reply.header("x-mainstay-site"), Some("primary"));
    assert!(reply.models().contains(&"tiny".to_owned()), "{:?}", reply.models());
}

#[tokio::test]
async fn weights_that_give_no_numbers_still_leave_an_answer() {
    let (_keep, directory) = tiny();
    let path = directory.join("model.safetensors");
    let mut bytes = std::fs::read(&path).expect("read the weights");
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
    bytes[8 + usize::try_from(header).expect("small")..].fill(0xff);
    std::fs::write(&path, bytes).expect("write the weights");
    let dead = format!(
        "[[site]]\nname = \"harbour\"\nprovider = \"openai\"\nkey = \"k\"\n\
         base_url = \"http://127.0.0.1:9/v1\"\n\n\
         [[site]]\nname = \"e\"\nengine = {{ model = {directory:?} }}\n\n\
         [[model]]\nname = \"chat\"\nserved_by = [\"harbour/gpt\"]\nsubstitutes = [\"e/tiny\"]\n"
    );
    let gateway = Gateway::start(&format!("{LISTEN}{dead}")).await;
    for mode in [Mode::Stream, Mode::Plain] {
        let reply = ask(&gateway, &Ask::chat("chat", QUESTION).mode(mode)).await;
        answered(&reply);
        assert_eq!(reply.models(), ["status"]);
        assert!(reply.text().contains("harbour: down"), "{}", reply.text());
    }
}
