//! The thread by itself: orders in, what is said out.

use super::*;
use crate::embedded::{Finish, Order, Prompt, Raw, Said, Taste};
use crate::setup::Precision;
use mainstay_core::gateway::outlook::{Condition, Outlook, SiteState};
use mainstay_core::names::ErrorClass;
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
        outlook: Box::new(|_| outlook()),
        url: Some("http://127.0.0.1:8080".into()),
    };
    Worker::spawn(around, loader).unwrap()
}

fn order(text: &str) -> Order {
    Order {
        prompt: Prompt::Chat(json!([{ "role": "user", "content": text }])),
        bytes: text.len(),
        n: 1,
        only_choice: None,
        max_tokens: Some(40),
        taste: Taste { temperature: Some(0.0), ..Taste::default() },
        stop: Vec::new(),
        prefix: None,
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
    loading::loader(EngineModel::Files(path, Precision::Stored))
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
            Said::Beat => {}
            Said::By(name) => told.by = name,
            Said::Text(_, text) => {
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
async fn a_panic_costs_the_requests_it_touched_and_no_other() {
    let directory = tiny();
    let panics = AtomicBool::new(true);
    let around = Surroundings {
        name: "tiny".into(),
        is_builtin: true,
        outlook: Box::new(move |_| match panics.swap(false, Ordering::Relaxed) {
            true => panic!("an outlook that panics"),
            false => outlook(),
        }),
        url: None,
    };
    let worker = Worker::spawn(around, loads(&directory)).unwrap();
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
            Said::Text(choice, text) => choices[choice as usize].push_str(&text),
            Said::Failed(failure) => panic!("{failure:?}"),
            Said::Beat | Said::By(_) | Said::End(..) => {}
        }
    }
    choices
}

#[tokio::test]
async fn weights_that_give_no_numbers_end_in_the_report_or_in_a_failure() {
    let directory = tiny();
    let path = directory.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header..].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
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
