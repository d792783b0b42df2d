//! What must hold whatever the batch: a request's tokens are its own, and no page is lost.

use crate::fixture::{Answer, KINDS, engine, finish, prompt, random_after, run, settings, work};
use mainstay_engine::{Engine, Finish, KvPrecision, Refusal, Sampling, SequenceId, Settings, Work};
use std::sync::Arc;

/// Three requests of different lengths, each run alone.
fn alone(name: &str) -> Vec<Answer> {
    let mut engine = engine(name, settings());
    works().into_iter().map(|work| run(&mut engine, vec![work]).remove(0)).collect()
}

fn works() -> Vec<Work> {
    [(5, 1), (40, 2), (19, 3)].map(|(length, salt)| work(&prompt(length, salt), salt, 30)).into()
}

#[test]
fn tokens_do_not_depend_on_batch_mates() {
    for name in KINDS {
        let mut engine = engine(name, settings());
        assert_eq!(run(&mut engine, works()), alone(name), "{name}");
    }
}

#[test]
fn tokens_do_not_depend_on_chunk_page_or_thread_count() {
    for name in KINDS {
        let expected = alone(name);
        for (prefill_chunk, page_tokens, threads) in [(1, 1, 1), (3, 5, 2), (512, 32, 3)] {
            let changed = Settings { prefill_chunk, page_tokens, threads, ..settings() };
            let mut engine = engine(name, changed);
            assert_eq!(run(&mut engine, works()), expected, "{name} chunk {prefill_chunk}");
        }
    }
}

/// What each token was thought to be, to the bit.
fn thoughts(changed: Settings, together: bool) -> Vec<Vec<String>> {
    let mut engine = engine("deepseek-v3", Settings { kv: KvPrecision::Bf16, ..changed });
    let works = works().into_iter().map(|work| Work { scores: Some(5), ..work });
    let (mut told, mut out) = (vec![Vec::new(); 3], Vec::new());
    let mut ids = Vec::new();
    for work in works {
        ids.push(engine.submit(work).unwrap());
        while !together && !engine.is_idle() {
            engine.step(&mut out);
        }
    }
    while !engine.is_idle() {
        engine.step(&mut out);
    }
    for progress in &out {
        let at = ids.iter().position(|id| *id == progress.id).unwrap();
        told[at].push(format!("{} {:?}", progress.token, progress.scores));
    }
    told
}

#[test]
fn rows_looked_at_in_pairs_give_the_same_bits_in_any_company() {
    let expected = thoughts(Settings { prefill_chunk: 1, ..settings() }, false);
    assert_eq!(expected.iter().map(Vec::len).sum::<usize>(), 90);
    assert_eq!(thoughts(settings(), true), expected);
    for (prefill_chunk, page_tokens, threads) in [(3, 5, 2), (512, 32, 3)] {
        let changed = Settings { prefill_chunk, page_tokens, threads, ..settings() };
        assert_eq!(thoughts(changed, true), expected, "chunk {prefill_chunk}");
    }
}

#[test]
fn a_cache_too_small_for_all_at_once_changes_no_token() {
    for name in KINDS {
        let per_token = engine(name, settings()).model().kv_bytes_per_token;
        // 80 tokens: the longest request (40 + 30) fits, all three (154) do not.
        let small = Settings { cache_bytes: per_token * 80, ..settings() };
        let mut engine = engine(name, small);
        assert_eq!(engine.pages().total, 10);
        assert_eq!(run(&mut engine, works()), alone(name), "{name}");
        assert_eq!(engine.pages().used, 0);
        check_pages(&engine);
    }
}

#[test]
fn a_cancelled_neighbour_changes_no_token() {
    let expected = alone("deepseek-v3");
    let mut engine = engine("deepseek-v3", settings());
    let ids: Vec<SequenceId> =
        works().into_iter().map(|work| engine.submit(work).unwrap()).collect();
    let mut out = Vec::new();
    (0..9).for_each(|_| engine.step(&mut out));
    engine.cancel(ids[0]);
    let mut answers = vec![Answer::default(); 3];
    for progress in &out {
        let at = ids.iter().position(|id| *id == progress.id).unwrap();
        answers[at].take(progress);
    }
    for (at, rest) in finish(&mut engine, &ids).iter().enumerate().skip(1) {
        answers[at].tokens.extend(&rest.tokens);
        answers[at].text.push_str(&rest.text);
        assert_eq!(answers[at].tokens, expected[at].tokens);
        assert_eq!(answers[at].text, expected[at].text);
    }
}

fn check_pages(engine: &Engine) {
    let pages = engine.pages();
    assert_eq!(pages.free + pages.used + pages.cached, pages.total);
}

#[test]
fn free_used_and_cached_pages_are_always_all_pages() {
    for seed in 0..6 {
        let mut random = seed * 7919 + 1;
        let mut next = |below: u64| {
            random = random_after(random);
            (random >> 33) % below
        };
        let name = KINDS[seed as usize % 3];
        let per_token = engine(name, settings()).model().kv_bytes_per_token;
        let small = Settings { cache_bytes: per_token * 96, batch_max: 4, ..settings() };
        let mut engine = engine(name, small);
        let (mut alive, mut out) = (Vec::new(), Vec::new());
        for _ in 0..120 {
            match next(4) {
                0 => {
                    let prompt = prompt(1 + next(50) as usize, next(9));
                    alive.extend(engine.submit(work(&prompt, next(99), 1 + next(40) as usize)));
                }
                1 if !alive.is_empty() => {
                    engine.cancel(alive.swap_remove(next(alive.len() as u64) as usize));
                }
                _ => engine.step(&mut out),
            }
            check_pages(&engine);
        }
        while !engine.is_idle() {
            engine.step(&mut out);
            check_pages(&engine);
        }
        assert_eq!(engine.pages().used, 0, "seed {seed}");
        assert!(out.iter().all(|progress| progress.finish != Some(Finish::Failed)));
    }
}

#[test]
fn pages_of_a_cancelled_request_serve_the_next_step() {
    let per_token = engine("qwen3", settings()).model().kv_bytes_per_token;
    let mut engine = engine("qwen3", Settings { cache_bytes: per_token * 64, ..settings() });
    let mut out = Vec::new();
    let first = engine.submit(work(&prompt(50, 1), 1, 14)).unwrap();
    let second = engine.submit(work(&prompt(10, 2), 2, 1)).unwrap();
    (0..6).for_each(|_| engine.step(&mut out));
    assert!(out.iter().all(|progress| progress.id == first), "the second has no room yet");
    engine.cancel(first);
    assert_eq!(engine.pages().used, 0);
    out.clear();
    engine.step(&mut out);
    assert_eq!((out.len(), out[0].id, out[0].finish), (1, second, Some(Finish::Length)));
}

#[test]
fn what_cannot_run_is_refused_with_its_reason() {
    let mut engine = engine("qwen3", Settings { waiting_max: 1, ..settings() });
    let refusal = |engine: &mut Engine, work| engine.submit(work).unwrap_err();
    assert_eq!(refusal(&mut engine, Work::default()), Refusal::EmptyPrompt);
    assert_eq!(refusal(&mut engine, work(&[320], 1, 5)), Refusal::UnknownToken(320));
    let long = work(&prompt(512, 1), 1, 5);
    assert_eq!(refusal(&mut engine, long), Refusal::TooLong { tokens: 513, limit: 512 });
    let cold = Sampling { temperature: -1.0, ..Sampling::default() };
    let cold = Work { sampling: cold, prompt: vec![5], ..Work::default() };
    assert!(matches!(refusal(&mut engine, cold), Refusal::BadSetting(_)));
    engine.submit(work(&[5], 1, 5)).unwrap();
    let Refusal::Busy { waiting, again } = refusal(&mut engine, work(&[5], 1, 5)) else {
        panic!("not busy")
    };
    assert!(waiting == 1 && !again.is_zero());
}

#[test]
fn an_answer_ends_with_the_context_window() {
    let mut engine = engine("qwen3", settings());
    let work =
        Work { allowed: Some(Arc::new(|_, token| token > 2)), ..work(&prompt(505, 1), 1, 99) };
    let answer = run(&mut engine, vec![work]).remove(0);
    assert_eq!((answer.tokens.len(), answer.finish), (512 - 505, Some(Finish::Length)));
}

#[test]
fn a_panic_in_a_callers_constraint_fails_that_request_alone() {
    let mut engine = engine("qwen3", settings());
    let broken = Work { allowed: Some(Arc::new(|_, _| panic!("on purpose"))), ..works().remove(0) };
    let mut together = works();
    together.push(broken);
    let mut answers = run(&mut engine, together);
    assert_eq!(answers.pop().unwrap().finish, Some(Finish::Failed));
    assert_eq!(answers, alone("qwen3"));
    check_pages(&engine);
}

#[test]
fn only_allowed_tokens_are_generated() {
    let mut engine = engine("deepseek-v3", settings());
    // After n tokens only tokens that leave remainder n of five.
    let allowed = |answer: &[u32], token: u32| token > 5 && token as usize % 5 == answer.len() % 5;
    let work = Work { allowed: Some(Arc::new(allowed)), ..work(&prompt(9, 4), 4, 20) };
    let answer = run(&mut engine, vec![work]).remove(0);
    assert_eq!(answer.tokens.len(), 20);
    assert!(answer.tokens.iter().enumerate().all(|(at, token)| *token as usize % 5 == at % 5));
}
