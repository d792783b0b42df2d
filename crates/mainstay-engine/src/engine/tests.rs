//! What only the inside can bring about: a model that breaks under one request.

use super::*;
use crate::sequence::Finish;
use std::path::Path;

fn engine() -> Engine {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let read = |file: &str| std::fs::read(fixtures.join(file)).unwrap();
    let files = Files {
        config: &read("qwen3/config.json"),
        weights: read("qwen3/model.safetensors").into(),
        tokenizer: &read("tokenizer/tokenizer.json"),
        ..Files::default()
    };
    let settings = Settings { cache_bytes: 8 << 20, threads: 1, ..Settings::default() };
    Engine::from_files(files, settings).unwrap()
}

fn work(first: u32) -> Work {
    let prompt = (first..first + 20).collect();
    let sampling = crate::Sampling { seed: Some(1), ..Default::default() };
    Work { prompt, sampling, max_tokens: 12, ..Work::default() }
}

fn finish(engine: &mut Engine, out: &mut Vec<Progress>) {
    while !engine.is_idle() {
        engine.step(out);
        let pages = engine.pages();
        assert_eq!(pages.free + pages.used + pages.cached, pages.total);
    }
}

fn tokens(out: &[Progress], id: SequenceId) -> Vec<u32> {
    out.iter().filter(|progress| progress.id == id).map(|progress| progress.token).collect()
}

#[test]
fn a_panic_in_the_model_ends_the_request_that_caused_it_and_no_other() {
    let mut alone = Vec::new();
    let mut quiet = engine();
    let expected = quiet.submit(work(30)).unwrap();
    finish(&mut quiet, &mut alone);

    let (mut engine, mut out) = (engine(), Vec::new());
    let good = engine.submit(work(30)).unwrap();
    let bad = engine.submit(work(60)).unwrap();
    (0..4).for_each(|_| engine.step(&mut out));
    let broken = engine.line.running.iter_mut().find(|one| one.id == bad).unwrap();
    // No such row in the embedding: reading it panics.
    *broken.tokens.last_mut().unwrap() = u32::MAX;
    finish(&mut engine, &mut out);
    let last = out.iter().rfind(|progress| progress.id == bad).unwrap();
    assert_eq!(last.finish, Some(Finish::Failed));
    assert_eq!(tokens(&out, good), tokens(&alone, expected));
}

#[test]
fn another_engine_of_the_same_weights_gives_the_same_tokens_and_needs_no_files() {
    let (mut first, mut alone) = (engine(), Vec::new());
    let id = first.submit(work(30)).unwrap();
    finish(&mut first, &mut alone);
    let twin = first.twin();
    let beats = first.pulse().load(std::sync::atomic::Ordering::Relaxed);
    assert!(beats > 12, "each layer of each step is one, {beats}");
    drop(first);
    let (mut second, mut out) = (twin.engine().unwrap().unwrap(), Vec::new());
    assert_eq!(second.submit(work(30)).unwrap(), id);
    finish(&mut second, &mut out);
    assert_eq!(tokens(&out, id), tokens(&alone, id));
}
