//! Drafts change no token, whatever becomes of them.

use crate::fixture::{
    Answer, DRAFTS, engine, finish, prompt, read, run, settings, with_drafts, work,
};
use mainstay_engine::{
    Allowed, Drafted, Drafts, Engine, Files, Finish, Form, Grammar, Sampling, Settings, Work,
};
use safetensors::SafeTensors;
use std::sync::Arc;

fn always() -> Settings {
    Settings { drafts: Drafts::Always, ..settings() }
}

/// Only two tokens are allowed, so that a layer of random numbers is often right.
fn narrow() -> Option<Allowed> {
    Some(Arc::new(|_: &[u32], token: u32| (40..42).contains(&token)))
}

/// Requests of every kind that a draft meets.
fn works() -> Vec<Work> {
    let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
    let penalised = Sampling {
        temperature: 0.8,
        frequency_penalty: 0.4,
        repetition_penalty: 1.1,
        seed: Some(5),
        ..Sampling::default()
    };
    let form = Form::Regex("(ab|cd)*e".into());
    vec![
        work(&prompt(21, 1), 1, 40),
        Work { sampling: greedy.clone(), ..work(&prompt(40, 2), 2, 40) },
        Work { allowed: narrow(), ..work(&prompt(5, 3), 3, 60) },
        Work { allowed: narrow(), sampling: greedy, ..work(&prompt(33, 4), 4, 41) },
        Work { allowed: narrow(), sampling: penalised, ..work(&prompt(9, 5), 5, 50) },
        Work { scores: Some(2), stop: vec!["zz".into()], ..work(&prompt(17, 6), 6, 30) },
        Work {
            grammar: Some(Grammar { form, begun: String::new() }),
            ..work(&prompt(12, 7), 7, 30)
        },
        Work { allowed: narrow(), ..work(&prompt(8, 8), 8, 1) },
        Work { allowed: narrow(), ..work(&prompt(8, 9), 9, 2) },
        // Up to the end of the window.
        Work { allowed: narrow(), ..work(&prompt(480, 10), 10, 99) },
    ]
}

/// What the model says that has no layer that drafts, one by one.
fn plain() -> Vec<Answer> {
    let mut engine = engine("deepseek-v3", settings());
    works().into_iter().map(|work| run(&mut engine, vec![work]).remove(0)).collect()
}

fn same(answers: &[Answer], expected: &[Answer]) {
    for (at, (answer, expected)) in answers.iter().zip(expected).enumerate() {
        assert_eq!(answer.tokens, expected.tokens, "request {at}");
        assert_eq!((&answer.text, answer.finish), (&expected.text, expected.finish));
    }
}

#[test]
fn tokens_are_those_of_the_model_without_drafts() {
    let expected = plain();
    assert_eq!(expected[9].finish, Some(Finish::Length));
    let mut alone = engine(DRAFTS, always());
    let one_by_one: Vec<Answer> =
        works().into_iter().map(|work| run(&mut alone, vec![work]).remove(0)).collect();
    same(&one_by_one, &expected);
    let Drafted { made, kept } = alone.drafted();
    println!("alone {kept} of {made} drafts kept, {} tokens computed", alone.computed_tokens());
    assert!(kept > 40 && made > kept + 40, "{kept} of {made}");
    for (prefill_chunk, page_tokens, threads) in [(1, 1, 1), (3, 5, 2), (512, 32, 3)] {
        let changed = Settings { prefill_chunk, page_tokens, threads, ..always() };
        let mut together = engine(DRAFTS, changed);
        same(&run(&mut together, works()), &expected);
        assert!(together.drafted().kept > 40);
        let pages = together.pages();
        assert_eq!((pages.used, pages.free + pages.cached), (0, pages.total));
    }
    // Timed, as by default: which steps have drafts is the clock's affair, the tokens are not.
    same(&run(&mut engine(DRAFTS, settings()), works()), &expected);
}

#[test]
fn the_same_answer_drafts_the_same_whether_its_prompt_is_cached() {
    let request = || Work { allowed: narrow(), ..work(&prompt(50, 3), 3, 60) };
    let mut engine = engine(DRAFTS, always());
    let first = run(&mut engine, vec![request()]).remove(0);
    let cold = engine.drafted();
    let second = run(&mut engine, vec![request()]).remove(0);
    assert!(second.cached >= 48, "{}", second.cached);
    assert_eq!(first.tokens, second.tokens);
    let warm = engine.drafted();
    let share = |made: u64, kept: u64| kept as f64 / made as f64;
    let (cold, warm) =
        (share(cold.made, cold.kept), share(warm.made - cold.made, warm.kept - cold.kept));
    assert!((cold - warm).abs() < 0.2, "{cold} and {warm}");
}

#[test]
fn an_answer_that_is_cut_goes_on_with_drafts_as_without() {
    let request = Work { allowed: narrow(), ..work(&prompt(21, 5), 5, 40) };
    let whole = run(&mut engine("deepseek-v3", settings()), vec![request.clone()]).remove(0);
    for cut in [1, 2, 7, 20] {
        let mut first = engine(DRAFTS, always());
        let id = first.submit(request.clone()).unwrap();
        let mut out = Vec::new();
        while out.len() < cut {
            first.step(&mut out);
        }
        let journal = first.journal(id).unwrap();
        let begun = journal.tokens.clone();
        assert_eq!(begun, whole.tokens[..begun.len()]);
        let mut second = engine(DRAFTS, always());
        let id = second.submit(Work { journal: Some(journal), ..request.clone() }).unwrap();
        let rest = finish(&mut second, &[id]).remove(0);
        assert_eq!([begun, rest.tokens].concat(), whole.tokens);
    }
}

fn load(weights: Vec<u8>) -> Result<Engine, mainstay_engine::LoadError> {
    let files = Files {
        config: &read(DRAFTS, "config.json"),
        weights: weights.into(),
        tokenizer: &read("tokenizer", "tokenizer.json"),
        ..Files::default()
    };
    Engine::from_files(files, always())
}

#[test]
fn weights_without_the_layer_draft_nothing_and_half_a_layer_is_an_error() {
    let mut without = load(read("deepseek-v3", "model.safetensors")).unwrap();
    run(&mut without, works());
    assert_eq!(without.drafted(), Drafted::default());
    let all = with_drafts();
    let tensors = SafeTensors::deserialize(&all).unwrap().tensors();
    let half = tensors.into_iter().filter(|(name, _)| name != "model.layers.3.hnorm.weight");
    let error = load(safetensors::serialize(half, None).unwrap()).err().unwrap().to_string();
    assert!(error.contains("model.layers.3.hnorm.weight is missing"), "{error}");
    let with = load(all).unwrap();
    // A row more for the layer that drafts.
    let rows = |engine: &Engine| engine.model().kv_bytes_per_token / 4 / 48;
    assert_eq!((rows(&without), rows(&with)), (3, 4));
}
