//! What was computed once is not computed again, and nobody can tell but by the time it takes.

use crate::fixture::{Answer, KINDS, engine, finish, prompt, random_after, run, settings, work};
use mainstay_engine::{Engine, Settings, Work};

/// Tokens that a request took the model, and its answer.
fn cost(engine: &mut Engine, work: Work) -> (u64, Answer) {
    let before = engine.computed_tokens();
    let answer = run(engine, vec![work]).remove(0);
    (engine.computed_tokens() - before, answer)
}

#[test]
fn a_beginning_that_is_cached_is_not_computed_again() {
    for name in KINDS {
        let mut engine = engine(name, settings());
        let long = prompt(200, 3);
        let (cold, expected) = cost(&mut engine, work(&long, 1, 1));
        assert_eq!((cold, expected.cached), (200, 0), "{name}");
        let (warm, again) = cost(&mut engine, work(&long, 1, 1));
        // 8 tokens a page: all but the last page, one of whose tokens must be computed.
        assert_eq!((warm, again.cached), (8, 192), "{name}");
        assert_eq!((again.tokens, again.text), (expected.tokens, expected.text), "{name}");
    }
}

#[test]
fn an_answer_is_found_by_the_next_turn_of_its_conversation() {
    let mut engine = engine("qwen3", settings());
    let first = run(&mut engine, vec![work(&prompt(33, 3), 1, 40)]).remove(0);
    let turn = [prompt(33, 3), first.tokens.clone(), prompt(5, 4)].concat();
    let (computed, answer) = cost(&mut engine, work(&turn, 1, 1));
    // The answer's last token was never computed, and its page is not full.
    let whole = (33 + first.tokens.len() - 1) / 8 * 8;
    assert_eq!((answer.cached, computed as usize), (whole, turn.len() - whole));
}

#[test]
fn choices_of_one_prompt_compute_it_once() {
    let mut engine = engine("deepseek-v3", settings());
    let long = prompt(160, 5);
    let choices = |salt| {
        let choice = move |seed| Work { salt, ..work(&prompt(160, 5), seed, 2) };
        (1..5).map(choice).collect::<Vec<_>>()
    };
    let before = engine.computed_tokens();
    let answers = run(&mut engine, choices(0));
    let computed = engine.computed_tokens() - before;
    // One pass over the prompt, at most a page of it for each other, and one more token each.
    assert!(computed <= 160 + 3 * 8 + 4, "{computed} tokens for {} of prompt", long.len());
    for (seed, answer) in (1..5).zip(answers) {
        let alone = run(&mut engine, vec![Work { salt: 1, ..work(&long, seed, 2) }]).remove(0);
        assert_eq!(answer.tokens, alone.tokens);
    }
}

#[test]
fn tenants_do_not_find_what_others_computed() {
    let mut engine = engine("qwen3", settings());
    let of = |salt| Work { salt, ..work(&prompt(100, 3), 1, 1) };
    assert_eq!(cost(&mut engine, of(1)).0, 100);
    assert_eq!(cost(&mut engine, of(2)).0, 100);
    assert_eq!(cost(&mut engine, of(1)).0, 4);
}

#[test]
fn pages_of_a_cancelled_request_serve_the_next_that_begins_so() {
    let mut engine = engine("qwen3", settings());
    let id = engine.submit(work(&prompt(100, 3), 1, 30)).unwrap();
    let mut out = Vec::new();
    (0..4).for_each(|_| engine.step(&mut out));
    assert_eq!((engine.computed_tokens(), out.len()), (64, 0));
    engine.cancel(id);
    assert_eq!(engine.pages().cached, 8);
    assert_eq!(cost(&mut engine, work(&prompt(100, 3), 1, 1)).0, 36);
}

#[test]
fn under_pressure_what_is_cached_makes_room() {
    let per_token = engine("qwen3", settings()).model().kv_bytes_per_token;
    let mut engine = engine("qwen3", Settings { cache_bytes: per_token * 64, ..settings() });
    for salt in 1..6 {
        let (computed, answer) = cost(&mut engine, work(&prompt(50, salt), 1, 10));
        assert!(computed >= 50, "nothing of another prompt serves this one");
        assert_eq!(answer.tokens.len(), 10);
        let pages = engine.pages();
        assert_eq!((pages.used, pages.free + pages.cached), (0, pages.total));
    }
}

/// Batches of requests that begin alike and end otherwise, in a cache too small for all of them,
/// with cancels in between: every answer is the one it gets alone in an engine of its own.
#[test]
fn paged_batched_and_reused_answers_are_those_of_one_by_one() {
    for seed in 0..6 {
        let mut random = seed * 104_729 + 1;
        let mut next = |below: u64| {
            random = random_after(random);
            (random >> 33) % below
        };
        let name = KINDS[seed as usize % 3];
        let per_token = engine(name, settings()).model().kv_bytes_per_token;
        let page_tokens = [4, 8, 16][next(3) as usize];
        let prefill_chunk = [5, 16, 64][next(3) as usize];
        let tight =
            Settings { cache_bytes: per_token * 160, page_tokens, prefill_chunk, ..settings() };
        let mut together = engine(name, tight);
        let mut alone = engine(name, settings());
        for round in 0..4 {
            let request = |next: &mut dyn FnMut(u64) -> u64| {
                let shared = prompt(16 * next(5) as usize, next(2));
                let own = prompt(1 + next(20) as usize, 7 + next(3));
                let mut work = work(&[shared, own].concat(), next(9), 1 + next(24) as usize);
                work.salt = next(2);
                work
            };
            let works: Vec<Work> = (0..6).map(|_| request(&mut next)).collect();
            let gone = together.submit(request(&mut next)).unwrap();
            let ids: Vec<_> =
                works.iter().map(|work| together.submit(work.clone()).unwrap()).collect();
            let mut early = Vec::new();
            (0..next(6)).for_each(|_| together.step(&mut early));
            together.cancel(gone);
            let mut answers = finish(&mut together, &ids);
            for (at, id) in ids.iter().enumerate().rev() {
                let mut whole = Answer::default();
                early.iter().filter(|report| report.id == *id).for_each(|one| whole.take(one));
                whole.append(std::mem::take(&mut answers[at]));
                answers[at] = whole;
            }
            for (work, answer) in works.into_iter().zip(answers) {
                // A salt of its own for each: nothing is reused.
                let salt = 1_000_000 + alone.computed_tokens();
                let expected = run(&mut alone, vec![Work { salt, ..work }]).remove(0);
                assert_eq!(expected.cached, 0);
                let told = |answer: Answer| (answer.tokens, answer.text, answer.finish);
                assert_eq!(told(answer), told(expected), "{name} seed {seed} round {round}");
            }
            let pages = together.pages();
            assert_eq!((pages.used, pages.free + pages.cached), (0, pages.total));
        }
    }
}
