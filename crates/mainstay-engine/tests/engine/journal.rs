//! A request that goes on elsewhere goes on exactly as it would have here.

use crate::fixture::{Answer, KINDS, engine, finish, prompt, run, settings, work};
use mainstay_engine::{Finish, Journal, Refusal, Sampling, Settings, Work};

#[test]
fn a_continuation_is_byte_identical_wherever_it_is_cut() {
    for name in KINDS {
        let request = Work { stop: vec!["zzzz".into()], ..work(&prompt(21, 5), 5, 40) };
        let whole = run(&mut engine(name, settings()), vec![request.clone()]).remove(0);
        let last = whole.tokens.len() - 1;
        for cut in [0, 1, 7, 8, 20, last].map(|cut| cut.min(last)) {
            let mut first = engine(name, settings());
            let id = first.submit(request.clone()).unwrap();
            let mut answer = Answer::default();
            while answer.tokens.len() < cut {
                let mut out = Vec::new();
                first.step(&mut out);
                out.iter().for_each(|progress| answer.take(progress));
            }
            let journal = first.journal(id).unwrap();
            let wire = serde_json::to_string(&journal).unwrap();
            let journal: Journal = serde_json::from_str(&wire).unwrap();
            assert_eq!(journal.tokens, answer.tokens);
            // The second engine is cut otherwise and busy with something else.
            let other = Settings { prefill_chunk: 5, page_tokens: 4, ..settings() };
            let mut second = engine(name, other);
            second.submit(work(&prompt(30, 8), 8, 20)).unwrap();
            let id = second.submit(Work { journal: Some(journal), ..request.clone() }).unwrap();
            let rest = finish(&mut second, &[id]).remove(0);
            answer.tokens.extend(rest.tokens);
            answer.text.push_str(&rest.text);
            assert_eq!((answer.tokens, answer.text), (whole.tokens.clone(), whole.text.clone()));
            assert_eq!(rest.finish, whole.finish);
        }
    }
}

#[test]
fn the_journal_carries_a_seed_that_nobody_chose() {
    let sampling = Sampling { seed: None, ..work(&[], 0, 1).sampling };
    let request = Work { sampling, ..work(&prompt(9, 6), 6, 30) };
    let mut first = engine("qwen3", settings());
    let id = first.submit(request.clone()).unwrap();
    let start = first.journal(id).unwrap();
    let whole = finish(&mut first, &[id]).remove(0);
    assert_eq!(first.journal(id), None);
    // Of another salt, so that it finds nothing and reports the same.
    let again = Work { journal: Some(start), salt: 1, ..request.clone() };
    assert_eq!(run(&mut first, vec![again]).remove(0), whole);
    assert_ne!(run(&mut first, vec![request]).remove(0).tokens, whole.tokens);
}

#[test]
fn a_complete_journal_is_not_taken_up() {
    let journal = Journal { seed: 1, tokens: vec![9; 10] };
    let request = Work { journal: Some(journal), ..work(&prompt(9, 6), 6, 10) };
    let refusal = engine("qwen3", settings()).submit(request.clone()).unwrap_err();
    assert_eq!(refusal, Refusal::AlreadyFinished);
    let answer = run(&mut engine("qwen3", settings()), vec![Work { max_tokens: 11, ..request }]);
    assert_eq!((answer[0].tokens.len(), answer[0].finish), (1, Some(Finish::Length)));
}
