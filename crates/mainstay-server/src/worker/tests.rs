//! The thread by itself: orders in, what is said out.

mod hangs;

use super::loading::Loader;
use super::*;
use crate::embedded::{Called, Finish, Form, Order, Prompt, Raw, Said, Taste, ToolChoice};
use crate::setup::{Device, Precision};
use mainstay_core::gateway::outlook::{Condition, Outlook, SiteState};
use mainstay_core::names::{ClientFault, ErrorClass};
use serde_json::json;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;

fn outlook() -> Outlook {
    let site = SiteState { name: "deepseek".into(), condition: Condition::Down, again: None };
    Outlook { sites: vec![site], ..Outlook::default() }
}

fn worker(is_builtin: bool, loader: Loader) -> Worker {
    let around = Surroundings {
        name: "tiny".into(),
        is_builtin,
        outlook: Some(Box::new(|_| outlook())),
        url: Some("http://127.0.0.1:8080".into()),
        drafts: None,
    };
    Worker::spawn(around, Loading::new(loader), Steps::default()).unwrap()
}

pub(super) fn order(text: &str) -> Order {
    Order {
        prompt: Prompt::Chat(json!([{ "role": "user", "content": text }])),
        bytes: text.len(),
        n: 1,
        only_choice: None,
        max_tokens: Some(40),
        taste: Taste { temperature: Some(0.0), ..Taste::default() },
        stop: Vec::new(),
        tools: None,
        tool_choice: ToolChoice::May,
        parallel: None,
        form: None,
        scores: None,
        prefix: None,
        tenant: 0,
        asked: "chat".into(),
        stands_in: true,
    }
}

/// A tiny model with random weights, and a tokenizer that fits it.
fn tiny() -> TempDir {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mainstay-engine/tests/fixtures");
    let directory = tempfile::tempdir().unwrap();
    let copy = |from: PathBuf| {
        for file in std::fs::read_dir(from).unwrap().flatten() {
            std::fs::copy(file.path(), directory.path().join(file.file_name())).unwrap();
        }
    };
    copy(fixtures.join("deepseek-v3"));
    std::fs::remove_file(directory.path().join("reference.safetensors")).unwrap();
    copy(fixtures.join("tokenizer"));
    directory
}

fn loads(directory: &TempDir) -> Loader {
    let path = directory.path().to_owned();
    loading::loader(EngineModel::Files(path, Precision::Stored, Device::Cpu))
}

struct Told {
    by: String,
    text: String,
    pieces: u64,
    end: Option<Said>,
}

async fn listen(mut said: Receiver<Said>) -> Told {
    let mut told = Told { by: String::new(), text: String::new(), pieces: 0, end: None };
    while let Some(one) = said.recv().await {
        match one {
            Said::Beat | Said::Call(..) => {}
            Said::By(name) => told.by = name,
            Said::Text(_, text) | Said::Scored(_, text, _) => {
                told.text.push_str(&text);
                told.pieces += 1;
            }
            Said::End(..) | Said::Failed(_) => told.end = Some(one),
        }
    }
    told
}

#[tokio::test]
async fn an_engine_that_cannot_load_is_followed_by_the_state_of_the_sites() {
    let broken: [Loader; 2] =
        [Arc::new(|| Err("no such file".into())), Arc::new(|| panic!("a loader that panics"))];
    for loader in broken {
        let worker = worker(true, loader);
        let short = Order { max_tokens: Some(20), ..order("which sites are down?") };
        let told = listen(worker.desk().place(short).unwrap()).await;
        assert_eq!(told.by, "status");
        assert!(matches!(told.end, Some(Said::End(0, Finish::Length, Some(_)))));
        assert_eq!(told.pieces, 20);
        let told = listen(worker.desk().place(order("which sites are down?")).unwrap()).await;
        assert!(told.text.contains("deepseek: down"), "{}", told.text);
        assert!(matches!(told.end, Some(Said::End(0, Finish::Stop, Some(_)))));
        worker.shutdown().await;
    }
}

#[tokio::test]
async fn where_no_model_is_wanted_the_state_of_the_sites_is_all_that_is_told() {
    let around = Surroundings {
        name: "status".into(),
        is_builtin: true,
        outlook: Some(Box::new(|_| outlook())),
        url: None,
        drafts: None,
    };
    let worker = Worker::spawn(around, Loading::none(), Steps::default()).unwrap();
    let by_name = Order { stands_in: false, max_tokens: None, ..order("which sites are down?") };
    let told = listen(worker.desk().place(by_name.clone()).unwrap()).await;
    assert_eq!(told.by, "status");
    assert!(told.text.contains("deepseek: down"), "{}", told.text);
    // It says nothing behind half an answer of somebody else's.
    let goes_on = Order { prefix: Some("The sea".into()), ..by_name };
    let told = listen(worker.desk().place(goes_on).unwrap()).await;
    assert!(matches!(told.end, Some(Said::Failed(_))) && told.text.is_empty());
    worker.shutdown().await;
}

#[tokio::test]
async fn a_panic_costs_the_requests_it_touched_and_no_other() {
    let directory = tiny();
    let panics = AtomicBool::new(true);
    let around = Surroundings {
        name: "tiny".into(),
        is_builtin: true,
        outlook: Some(Box::new(move |_| match panics.swap(false, Ordering::Relaxed) {
            true => panic!("an outlook that panics"),
            false => outlook(),
        })),
        url: None,
        drafts: None,
    };
    let loading = Loading::new(loads(&directory));
    let worker = Worker::spawn(around, loading, Steps::default()).unwrap();
    let first = listen(worker.desk().place(order("hello")).unwrap()).await;
    assert!(matches!(first.end, Some(Said::Failed(f)) if f.class == ErrorClass::Transient));
    let second = listen(worker.desk().place(order("hello")).unwrap()).await;
    assert!(matches!(second.end, Some(Said::End(..))));
    worker.shutdown().await;
}

#[tokio::test]
async fn who_waits_for_a_model_to_load_hears_that_it_is_at_work() {
    let directory = tiny();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let load = loads(&directory);
    let loader: Loader = Arc::new(move || {
        let _ = held.lock().map(|held| held.recv());
        load()
    });
    let worker = worker(false, loader);
    let mut said = worker.desk().place(order("hello")).unwrap();
    assert_eq!(said.recv().await, Some(Said::Beat));
    assert_eq!(said.recv().await, Some(Said::Beat));
    release.send(()).unwrap();
    assert!(matches!(listen(said).await.end, Some(Said::End(..))));
    worker.shutdown().await;
}

#[tokio::test]
async fn a_model_that_was_asked_for_by_name_is_not_replaced() {
    let worker = worker(false, Arc::new(|| Err("no such file".into())));
    let by_name = Order { stands_in: false, ..order("hello") };
    let told = listen(worker.desk().place(by_name).unwrap()).await;
    let Some(Said::Failed(failure)) = told.end else { panic!("no failure") };
    assert!(failure.message.contains("no such file"));
    worker.shutdown().await;
}

#[tokio::test]
async fn a_model_of_ones_own_answers_and_goes_on_where_another_stopped() {
    let directory = tiny();
    let worker = worker(false, loads(&directory));
    let whole = listen(worker.desk().place(order("hello")).unwrap()).await;
    assert_eq!(whole.by, "tiny");
    let Some(Said::End(0, _, Some(counted))) = whole.end else { panic!("no end") };
    assert!(counted.prompt > 0 && counted.completion > 0 && counted.completion <= 40);
    // Raw text goes on exactly behind what is there.
    let raw = |text: &str, prefix: Option<String>| Order {
        prompt: Prompt::Raw(vec![Raw::Text(text.into())]),
        prefix,
        ..order("")
    };
    let one = listen(worker.desk().place(raw("the sea", None)).unwrap()).await;
    let two = listen(worker.desk().place(raw("the", Some(" sea".into()))).unwrap()).await;
    assert_eq!(one.text, two.text);
    worker.shutdown().await;
}

#[tokio::test]
async fn what_is_cached_of_a_prompt_is_counted_for_its_tenant_alone() {
    let directory = tiny();
    let worker = worker(false, loads(&directory));
    let mut cached = Vec::new();
    for tenant in [1, 1, 2] {
        let order = Order { tenant, max_tokens: Some(2), ..order(&"the sea ".repeat(30)) };
        let told = listen(worker.desk().place(order).unwrap()).await;
        let Some(Said::End(0, _, Some(counted))) = told.end else { panic!("no end") };
        assert!(counted.cached < counted.prompt);
        cached.push(counted.cached > counted.prompt / 2);
    }
    assert_eq!(cached, [false, true, false]);
    worker.shutdown().await;
}

#[tokio::test]
async fn an_answer_is_held_to_its_schema_and_its_tokens_are_scored() {
    let directory = tiny();
    let worker = worker(false, loads(&directory));
    let schema = json!({ "type": "object", "required": ["up"], "additionalProperties": false,
        "properties": { "up": { "type": "boolean" } } });
    let taste = Taste { seed: Some(5), ..Taste::default() };
    let (form, scores) = (Some(Form::JsonSchema(schema)), Some(2));
    let held = Order { form, scores, taste, max_tokens: Some(200), ..order("is it up?") };
    let mut said = worker.desk().place(held.clone()).unwrap();
    let (mut text, mut bytes) = (String::new(), Vec::new());
    while let Some(one) = said.recv().await {
        if let Said::Scored(0, more, scored) = one {
            assert!(scored.iter().all(|one| one.top.len() == 2 && one.token.logprob < 0.0));
            text.push_str(&more);
            bytes.extend(scored.into_iter().flat_map(|one| one.token.bytes));
        }
    }
    assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["up"].is_boolean(), "{text}");
    assert_eq!(bytes, text.as_bytes());
    // Behind a beginning that another site wrote.
    let goes_on = Order { prefix: Some("{\"up\": t".into()), scores: None, ..held.clone() };
    let rest = listen(worker.desk().place(goes_on).unwrap()).await;
    assert_eq!(rest.text.trim_end_matches(['\n', ' ', '}']), "rue");
    let wrong = Order { form: Some(Form::JsonSchema(json!({ "type": "x" }))), ..held };
    let told = listen(worker.desk().place(wrong).unwrap()).await;
    let Some(Said::Failed(failure)) = told.end else { panic!("no failure") };
    assert_eq!(failure.class, ErrorClass::ClientFault(ClientFault::Invalid));
    assert_eq!(failure.param.as_deref(), Some("response_format"));
    worker.shutdown().await;
}

#[tokio::test]
async fn a_forced_call_is_one_with_the_arguments_that_the_tool_takes() {
    let directory = tiny();
    let template = "{% if tools %}<tool_call> for {{ tools | tojson }}{% endif %}\
                    {{ messages[0].content }}";
    std::fs::write(directory.path().join("chat_template.jinja"), template).unwrap();
    let worker = worker(false, loads(&directory));
    let parameters = json!({ "type": "object", "required": ["up"], "additionalProperties": false,
        "properties": { "up": { "type": "boolean" } } });
    let tool = |name: &str| {
        let function = json!({ "name": name, "parameters": parameters });
        json!({ "type": "function", "function": function })
    };
    let forced = Order {
        tools: Some(json!([tool("turn"), tool("hold")])),
        tool_choice: ToolChoice::Must(Some("hold".into())),
        max_tokens: Some(200),
        ..order("hold it")
    };
    let mut said = worker.desk().place(forced.clone()).unwrap();
    let (mut calls, mut text, mut end) = (Vec::new(), String::new(), None);
    while let Some(one) = said.recv().await {
        match one {
            Said::Call(0, Called { name, arguments }) => calls.push((name, arguments)),
            Said::Text(_, more) => text.push_str(&more),
            Said::End(_, finish, _) => end = Some(finish),
            _ => {}
        }
    }
    assert_eq!((calls.len(), text.as_str(), end), (1, "", Some(Finish::Calls)));
    let arguments: serde_json::Value = serde_json::from_str(&calls[0].1).unwrap();
    assert!(calls[0].0 == "hold" && arguments["up"].is_boolean(), "{calls:?}");
    // Whose template shows it no tools cannot call any.
    std::fs::write(directory.path().join("chat_template.jinja"), "{{ messages[0].content }}")
        .unwrap();
    let without = self::worker(false, loads(&directory));
    let by_name = Order { stands_in: false, ..forced };
    let told = listen(without.desk().place(by_name).unwrap()).await;
    let Some(Said::Failed(failure)) = told.end else { panic!("no failure") };
    assert_eq!(failure.class, ErrorClass::ClientFault(ClientFault::Unsupported));
    worker.shutdown().await;
    without.shutdown().await;
}

#[tokio::test]
async fn the_built_in_model_is_held_to_nothing_and_scores_nothing() {
    let directory = tiny();
    let worker = worker(true, loads(&directory));
    let by_name = Order { stands_in: false, ..order("hello") };
    let held = Order { form: Some(Form::JsonObject), ..by_name.clone() };
    let scored = Order { scores: Some(0), ..by_name };
    for order in [held, scored] {
        let told = listen(worker.desk().place(order).unwrap()).await;
        let Some(Said::Failed(failure)) = told.end else { panic!("no failure") };
        assert_eq!(failure.class, ErrorClass::ClientFault(ClientFault::Unsupported));
    }
    worker.shutdown().await;
}

#[tokio::test]
async fn several_choices_come_side_by_side_and_are_counted_together() {
    let directory = tiny();
    let worker = worker(false, loads(&directory));
    let several = Order { n: 3, max_tokens: Some(5), ..order("hello") };
    let mut said = worker.desk().place(several).unwrap();
    let (mut ends, mut last) = (Vec::new(), None);
    while let Some(one) = said.recv().await {
        if let Said::End(choice, _, counted) = one {
            ends.push(choice);
            last = counted;
        }
    }
    ends.sort_unstable();
    assert_eq!(ends, [0, 1, 2]);
    assert!(last.is_some_and(|counted| counted.completion <= 15 && counted.completion >= 3));
    worker.shutdown().await;
}

#[tokio::test]
async fn a_client_that_takes_slowly_gets_the_same_answer() {
    let directory = tiny();
    let worker = worker(false, loads(&directory));
    // Four answers of 150 tokens are more than is kept for a client, so they are put to rest.
    let long = || {
        let taste = Taste { temperature: Some(1.0), seed: Some(3), ..Taste::default() };
        Order { n: 4, max_tokens: Some(150), taste, ..order("hello") }
    };
    let quick = choices(worker.desk().place(long()).unwrap()).await;
    assert!(quick.iter().map(String::len).sum::<usize>() > 1_000, "{quick:?}");
    let slow = worker.desk().place(long()).unwrap();
    // Another request is served although the first is not taken at all.
    let other = listen(worker.desk().place(order("other")).unwrap()).await;
    assert!(matches!(other.end, Some(Said::End(..))));
    while slow.len() < slow.max_capacity() {
        tokio::task::yield_now().await;
    }
    assert_eq!(choices(slow).await, quick);
    worker.shutdown().await;
}

async fn choices(mut said: Receiver<Said>) -> Vec<String> {
    let mut choices = vec![String::new(); 4];
    while let Some(one) = said.recv().await {
        match one {
            Said::Text(choice, text) | Said::Scored(choice, text, _) => {
                choices[choice as usize].push_str(&text);
            }
            Said::Failed(failure) => panic!("{failure:?}"),
            Said::Beat | Said::By(_) | Said::Call(..) | Said::End(..) => {}
        }
    }
    choices
}

#[tokio::test]
async fn a_model_that_gives_no_numbers_ends_in_the_report_or_in_a_failure() {
    let directory = tiny();
    let path = directory.path().join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    // The root of what is below zero is no number.
    config["rms_norm_eps"] = json!(-1e9);
    std::fs::write(&path, config.to_string()).unwrap();
    let worker = worker(false, loads(&directory));
    let told = listen(worker.desk().place(order("hello")).unwrap()).await;
    assert_eq!(told.by, "status");
    let by_name = Order { stands_in: false, ..order("hello") };
    let told = listen(worker.desk().place(by_name).unwrap()).await;
    let is_transient = |f: &mainstay_core::names::Failure| f.class == ErrorClass::Transient;
    assert!(matches!(told.end, Some(Said::Failed(failure)) if is_transient(&failure)));
    worker.shutdown().await;
}

#[tokio::test]
async fn a_prompt_beyond_the_window_is_refused_with_the_limit() {
    let directory = tiny();
    let worker = worker(false, loads(&directory));
    for text in ["a ".repeat(3_000), "a ".repeat(3_000_000)] {
        let told = listen(worker.desk().place(order(&text)).unwrap()).await;
        let Some(Said::Failed(failure)) = told.end else { panic!("no failure") };
        assert_eq!(failure.code.as_deref(), Some("context_length_exceeded"));
        assert!(failure.limit.is_some());
    }
    worker.shutdown().await;
}
