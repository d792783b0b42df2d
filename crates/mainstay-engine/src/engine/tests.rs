//! What only the inside can bring about: a model that breaks under one request.

use super::*;
use crate::sequence::Finish;
use std::path::Path;

fn engine() -> Engine {
    engine_with(Settings::default())
}

fn engine_with(settings: Settings) -> Engine {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let read = |file: &str| std::fs::read(fixtures.join(file)).unwrap();
    let files = Files {
        config: &read("qwen3/config.json"),
        weights: read("qwen3/model.safetensors").into(),
        tokenizer: &read("tokenizer/tokenizer.json"),
        ..Files::default()
    };
    Engine::from_files(files, Settings { threads: 1, ..settings }).unwrap()
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
fn prompts_held_up_behind_each_layer_come_out_as_those_that_were_not() {
    // The second begins as the first; the cache has room for all of them, or makes some go out.
    let prompts: [&[u32]; 5] = [&[0, 1, 2, 3], &[0, 1, 5], &[6, 7, 8], &[4], &[2, 2, 2, 2, 2, 2]];
    let work = |parts: &[u32]| {
        let prompt = parts.iter().flat_map(|part| part * 24 + 20..part * 24 + 36).collect();
        Work { prompt, max_tokens: 60, ..work(0) }
    };
    let alone = prompts.map(|parts| {
        let (mut engine, mut out) = (engine(), Vec::new());
        let id = engine.submit(work(parts)).unwrap();
        finish(&mut engine, &mut out);
        tokens(&out, id)
    });
    for pages in [64, 11] {
        let (page_tokens, prefill_chunk) = (16, 512);
        let cache_bytes = pages * page_tokens * engine().model().kv_bytes_per_token;
        let settings = Settings { page_tokens, cache_bytes, prefill_chunk, ..Settings::default() };
        let (mut engine, mut out) = (engine_with(settings), Vec::new());
        let mut ids = vec![engine.submit(work(prompts[0])).unwrap()];
        // The first enters alone, the others beside it.
        engine.step(&mut out);
        let gone = engine.submit(work(&[9, 9, 9])).unwrap();
        ids.extend(prompts[1..].iter().map(|parts| engine.submit(work(parts)).unwrap()));
        let (mut held, mut together) = (0, 0);
        while !engine.is_idle() {
            engine.pace = Pace::hurried();
            engine.step(&mut out);
            let Some(entry) = &engine.entry else { continue };
            (held, together) = (held + 1, together.max(entry.parts.len()));
            if entry.parts.iter().any(|(id, _)| *id == gone) {
                engine.cancel(gone);
            }
        }
        assert!(held > 1 && (together > 1 || pages == 11), "{held} times, {together} together");
        assert!(engine.line.find(gone).is_none() && tokens(&out, gone).is_empty());
        let all: Vec<_> = ids.into_iter().map(|id| tokens(&out, id)).collect();
        assert_eq!(all, alone, "{pages} pages");
        assert_eq!((engine.pages().used, engine.swaps() > 0), (0, pages == 11));
    }
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
