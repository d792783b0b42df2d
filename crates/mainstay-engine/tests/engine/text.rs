//! Text in and out: templates, special tokens, stop strings, whole characters, directories.

use crate::fixture::{engine, path, prompt, run, settings, work};
use mainstay_engine::{Engine, Finish, Hide, LoadError, Settings, Work};
use serde_json::json;
use std::sync::Arc;

/// A request that is made to answer with exactly these tokens.
fn forced(answer: Vec<u32>) -> Work {
    let max_tokens = answer.len();
    let allowed = Arc::new(move |so_far: &[u32], token: u32| answer[so_far.len()] == token);
    Work { allowed: Some(allowed), ..work(&prompt(5, 1), 1, max_tokens) }
}

#[test]
fn a_conversation_becomes_tokens_with_its_markers_recognised() {
    let engine = engine("qwen3", settings());
    let messages = json!([{"role": "user", "content": "hi"}]);
    let text = engine.render_chat(&messages, None, true).unwrap();
    assert_eq!(text, "<s><user>hi<bot>");
    let tokens = engine.tokenize(&text);
    assert_eq!(tokens[..2], [0, 3]);
    assert_eq!(tokens.last(), Some(&4));
    assert_eq!(engine.token_id("[P1]"), Some(5));
}

#[test]
fn slots_are_shown_and_markers_hidden_unless_asked_otherwise() {
    let shown = |hide| {
        let mut engine = engine("qwen3", Settings { hide, ..settings() });
        let answer = engine.tokenize("a<bot>[P1] b[P2]");
        run(&mut engine, vec![forced(answer)]).remove(0).text
    };
    assert_eq!(shown(Hide::Control), "a[P1] b[P2]");
    assert_eq!(shown(Hide::Special), "a b");
    assert_eq!(shown(Hide::Nothing), "a<bot>[P1] b[P2]");
}

#[test]
fn text_comes_in_whole_characters() {
    let mut engine = engine("qwen3", settings());
    let expected = "na\u{ef}ve \u{4e16}\u{754c} \u{1f600}\u{1f468}\u{200d}\u{1f469} ok";
    let answer = engine.tokenize(expected);
    assert!(answer.len() > expected.chars().count(), "characters must span tokens");
    engine.submit(forced(answer)).unwrap();
    let (mut out, mut text) = (Vec::new(), String::new());
    while !engine.is_idle() {
        out.clear();
        engine.step(&mut out);
        for progress in &out {
            assert!(!progress.text.contains('\u{fffd}'), "half a character: {:?}", progress.text);
            text.push_str(&progress.text);
        }
    }
    assert_eq!(text, expected);
}

#[test]
fn half_a_character_at_the_end_is_marked_not_lost() {
    let mut engine = engine("qwen3", settings());
    let mut answer = engine.tokenize("ok \u{1f600}");
    answer.pop();
    let text = run(&mut engine, vec![forced(answer)]).remove(0).text;
    assert!(text.starts_with("ok ") && text.ends_with('\u{fffd}'), "{text:?}");
}

#[test]
fn a_stop_string_ends_the_answer_and_is_not_shown() {
    let mut engine = engine("qwen3", settings());
    let answer = engine.tokenize("one two STOP three");
    let work = Work { stop: vec!["two STOP".into(), "never".into()], ..forced(answer) };
    let answer = run(&mut engine, vec![work]).remove(0);
    assert_eq!((answer.text.as_str(), answer.finish), ("one ", Some(Finish::Stop)));
    assert_eq!(engine.pages().used, 0);
}

#[test]
fn the_end_token_ends_the_answer_and_is_not_shown() {
    let mut engine = engine("qwen3", settings());
    let mut answer = engine.tokenize("done</s>more");
    let end = answer.iter().position(|token| *token == 1).unwrap();
    let answer_text = run(&mut engine, vec![forced(std::mem::take(&mut answer))]).remove(0);
    assert_eq!((answer_text.text.as_str(), answer_text.finish), ("done", Some(Finish::Stop)));
    assert_eq!(answer_text.tokens.len(), end + 1);
}

#[test]
fn a_directory_loads_and_answers_like_the_same_files_in_memory() {
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("llama3-whole");
    std::fs::create_dir_all(&directory).unwrap();
    for (name, file) in [
        ("llama3", "config.json"),
        ("llama3", "model.safetensors"),
        ("llama3", "generation_config.json"),
        ("tokenizer", "tokenizer.json"),
        ("tokenizer", "tokenizer_config.json"),
    ] {
        std::fs::copy(path(name, file), directory.join(file)).unwrap();
    }
    let mut loaded = Engine::load(&directory, settings()).unwrap();
    assert_eq!(loaded.model().name, "llama3-whole");
    let request = work(&prompt(20, 3), 3, 20);
    let expected = run(&mut engine("llama3", settings()), vec![request.clone()]);
    assert_eq!(run(&mut loaded, vec![request]), expected);

    let missing = directory.join("nothing-here");
    let error = Engine::load(&missing, settings()).err().unwrap();
    assert!(matches!(error, LoadError::Read { .. }), "{error}");
}

#[test]
fn an_engine_can_be_handed_to_its_thread() {
    fn is_send<T: Send>(_: &T) {}
    is_send(&engine("qwen3", settings()));
}
