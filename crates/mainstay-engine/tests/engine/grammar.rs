//! Answers that are held to a form, by a model that knows nothing of it.

use crate::fixture::{engine, prompt, run, settings, work};
use mainstay_engine::{Engine, Finish, Form, Grammar, Refusal, Work};
use serde_json::{Value, json};

fn held(form: Form, seed: u64) -> Work {
    let grammar = Some(Grammar { form, begun: String::new() });
    Work { grammar, ..work(&prompt(9, seed), seed, 400) }
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 12 },
            "kind": { "enum": ["up", "down"] },
            "count": { "$ref": "#/$defs/count" },
            "tags": { "type": "array", "items": { "type": "boolean" }, "maxItems": 3 },
        },
        "required": ["name", "kind", "count", "tags"],
        "additionalProperties": false,
        "$defs": { "count": { "type": "integer", "minimum": 0, "maximum": 99 } },
    })
}

fn text(engine: &mut Engine, work: Work) -> (String, Option<Finish>) {
    let answer = run(engine, vec![work]).remove(0);
    (answer.text, answer.finish)
}

#[test]
fn random_weights_write_what_the_schema_asks_for() {
    let mut engine = engine("qwen3", settings());
    let form = |seed| held(Form::JsonSchema(schema()), seed);
    for answer in run(&mut engine, (1..9).map(form).collect()) {
        assert_eq!(answer.finish, Some(Finish::Stop), "{}", answer.text);
        let value: Value = serde_json::from_str(&answer.text).unwrap();
        assert!(value["name"].as_str().unwrap().chars().count() <= 12, "{value}");
        assert!(["up", "down"].contains(&value["kind"].as_str().unwrap()), "{value}");
        assert!(value["count"].as_u64().unwrap() <= 99, "{value}");
        assert!(value["tags"].as_array().unwrap().iter().all(Value::is_boolean), "{value}");
        assert_eq!(value.as_object().unwrap().len(), 4);
    }
}

#[test]
fn any_object_is_json_and_begins_as_one() {
    let mut engine = engine("deepseek-v3", settings());
    for seed in 1..5 {
        let (text, finish) = text(&mut engine, held(Form::JsonObject, seed));
        assert!(text.trim_start().starts_with('{'), "{text}");
        if finish == Some(Finish::Stop) {
            assert!(serde_json::from_str::<Value>(&text).unwrap().is_object(), "{text}");
        }
    }
}

#[test]
fn a_regular_expression_is_kept_and_ends_the_answer() {
    let mut engine = engine("qwen3", settings());
    let (text, finish) = text(&mut engine, held(Form::Regex("(yes|no), [0-9]{3}".into()), 3));
    assert_eq!(finish, Some(Finish::Stop));
    assert!(["yes, ", "no, "].iter().any(|begin| text.starts_with(begin)), "{text}");
    assert!(text[text.len() - 3..].bytes().all(|byte| byte.is_ascii_digit()), "{text}");
}

#[test]
fn an_answer_that_another_began_is_held_from_where_it_stands() {
    let mut engine = engine("qwen3", settings());
    let begun = "{\"name\":\"a\",\"ki".to_owned();
    let grammar = Grammar { form: Form::JsonSchema(schema()), begun: begun.clone() };
    let work = Work { grammar: Some(grammar), ..work(&prompt(9, 2), 2, 400) };
    let (rest, finish) = text(&mut engine, work.clone());
    assert_eq!(finish, Some(Finish::Stop));
    let whole: Value = serde_json::from_str(&(begun + &rest)).unwrap();
    assert_eq!(whole["name"], "a");
    let grammar = Grammar { form: Form::JsonSchema(schema()), begun: "[1".to_owned() };
    let refusal = engine.submit(Work { grammar: Some(grammar), ..work }).unwrap_err();
    assert!(matches!(refusal, Refusal::BadGrammar(_)), "{refusal}");
}

#[test]
fn schemas_that_cannot_be_kept_are_refused_with_a_reason() {
    let mut engine = engine("qwen3", settings());
    let mut deep = json!({ "type": "string" });
    for _ in 0..90 {
        deep = json!({ "type": "array", "items": deep, "minItems": 2, "maxItems": 9000 });
    }
    let many: Vec<Value> = (0..40_000).map(|at| json!(format!("value {at}"))).collect();
    for wrong in [
        json!({ "type": "nonsense" }),
        json!({ "type": "string", "pattern": "(" }),
        json!({ "$ref": "http://example.com/schema" }),
        json!({ "enum": many }),
        json!([1]),
        json!({ "type": "object", "x-guidance": 7, "required": 5 }),
    ] {
        let refusal = engine.submit(held(Form::JsonSchema(wrong), 1)).unwrap_err();
        let Refusal::BadGrammar(why) = refusal else { panic!("{refusal}") };
        assert!(!why.is_empty() && why.len() < 500, "{why}");
    }
    assert!(engine.submit(held(Form::Regex("(".into()), 1)).is_err());
    // Deep and wide is no crime, as long as it ends or is refused.
    let _ = engine.submit(held(Form::JsonSchema(deep), 1));
}

#[test]
fn what_is_sampled_with_scores_is_what_is_sampled_without() {
    let mut engine = engine("qwen3", settings());
    let plain = run(&mut engine, vec![work(&prompt(20, 3), 3, 20)]).remove(0);
    let scored = Work { scores: Some(3), salt: 1, ..work(&prompt(20, 3), 3, 20) };
    let id = engine.submit(scored).unwrap();
    let mut out = Vec::new();
    while !engine.is_idle() {
        engine.step(&mut out);
    }
    let tokens: Vec<u32> = out.iter().map(|progress| progress.token).collect();
    assert_eq!((tokens, out[0].id), (plain.tokens, id));
    for progress in &out {
        let scores = progress.scores.as_ref().unwrap();
        assert_eq!(scores.top.len(), 3);
        assert!(scores.top.is_sorted_by(|a, b| a.1 >= b.1));
        assert!(scores.chosen <= scores.top[0].1 && scores.top[0].1 < 0.0);
    }
    assert_eq!(engine.token_bytes(engine.token_id("[P1]").unwrap()), b"[P1]");
    let words: Vec<u8> = engine
        .tokenize("na\u{ef}ve \u{1f600}")
        .into_iter()
        .flat_map(|token| engine.token_bytes(token))
        .collect();
    assert_eq!(words, "na\u{ef}ve \u{1f600}".as_bytes());
}
