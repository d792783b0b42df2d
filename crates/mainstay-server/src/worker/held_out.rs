//! The committed weights in the engine, on questions that they were never trained on: as clients
//! write them, with the state they are asked in and the one right answer to each.
//!
//! `held_out.json` beside the weights was drawn by `scripts/builtin/held_out.py`, which also
//! counted how many the model got right where it was trained. The engine must do as well.

use super::prompt::{Prepared, prepare};
use super::slots::Scene;
use super::tests::order;
use super::words::Language;
use crate::embedded::{Order, Prompt};
use mainstay_core::gateway::outlook::{Condition, ModelState, Outlook, SiteState};
use mainstay_engine::{Engine, Settings, builtin};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const HELD_OUT: &str = include_str!("../../../mainstay-engine/builtin/held_out.json");

fn seconds(value: &Value) -> Option<Duration> {
    value.as_u64().map(Duration::from_secs)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn site(told: &Value) -> SiteState {
    let condition = match text(&told["condition"]).as_str() {
        "Up" => Condition::Up,
        "Slow" => Condition::Slow,
        "Full" => Condition::Full,
        "Down" => Condition::Down,
        "Drained" => Condition::Drained,
        "KeyRefused" => Condition::KeyRefused,
        "NoCredit" => Condition::NoCredit,
        other => panic!("no condition: {other}"),
    };
    SiteState { name: text(&told["name"]), condition, again: seconds(&told["again"]) }
}

fn model(told: &Value) -> ModelState {
    let by = list(&told["by"]).iter().filter_map(|at| Some(at.as_u64()? as usize)).collect();
    let substitute = told["substitute"].as_str().map(str::to_owned);
    ModelState { name: text(&told["name"]), by, substitute }
}

fn scene(asked: &Value) -> Scene {
    let state = &asked["state"];
    let outlook = Outlook {
        sites: list(&state["sites"]).iter().map(site).collect(),
        models: list(&state["models"]).iter().map(model).collect(),
        waiting: state["waiting"].as_u64().unwrap_or_default() as usize,
        retry: seconds(&state["retry"]),
    };
    Scene::of(&outlook, state["url"].as_str(), Language::of(&text(&asked["question"])))
}

fn prompt(asked: &Value) -> Order {
    let turn = |role: &str, content: &Value| json!({ "role": role, "content": content });
    let before = list(&asked["before"]).iter();
    let turns = before.flat_map(|pair| [turn("user", &pair[0]), turn("assistant", &pair[1])]);
    let messages: Vec<Value> = turns.chain([turn("user", &asked["question"])]).collect();
    Order { prompt: Prompt::Chat(messages.into()), max_tokens: None, ..order("") }
}

/// The answer to each, in order.
fn answers(engine: &mut Engine, asked: &[Value]) -> Vec<String> {
    let mut said = vec![String::new(); asked.len()];
    let (mut waiting, mut running) = (asked.iter().enumerate(), BTreeMap::new());
    let mut reports = Vec::new();
    loop {
        // A few at a time: the engine refuses a longer line than it would ever serve.
        while running.len() < 8
            && let Some((at, asked)) = waiting.next()
        {
            let scene = scene(asked);
            let mut prepared = prepare(engine, &prompt(asked), Some(&scene)).unwrap();
            let Prepared { work, filler, .. } = prepared.remove(0);
            running.insert(engine.submit(work).unwrap(), (at, filler.unwrap()));
        }
        if running.is_empty() {
            return said;
        }
        reports.clear();
        engine.step(&mut reports);
        for report in &reports {
            let Some((at, filler)) = running.get_mut(&report.id) else { continue };
            said[*at].push_str(&filler.push(&report.text));
            if report.finish.is_some() {
                said[*at].push_str(&filler.finish());
                running.remove(&report.id);
            }
        }
    }
}

#[test]
fn the_engine_answers_held_out_questions_as_well_as_the_model_card_says() {
    let told: Value = serde_json::from_str(HELD_OUT).unwrap();
    let asked = list(&told["asked"]);
    let mut engine = Engine::from_files(builtin::files(), Settings::default()).unwrap();
    let said = answers(&mut engine, asked);
    let (mut right, mut about) = (0, BTreeMap::<String, [usize; 2]>::new());
    for (asked, said) in asked.iter().zip(&said) {
        let is_right = *said == text(&asked["answer"]);
        right += usize::from(is_right);
        let count = about.entry(text(&asked["about"])).or_default();
        *count = [count[0] + usize::from(is_right), count[1] + 1];
        if !is_right {
            println!("{}\n  want {}\n  got  {said:?}", asked["question"], asked["answer"]);
        }
    }
    println!("{right} of {} right: {about:?}", asked.len());
    assert!(right as u64 >= told["right"].as_u64().unwrap(), "{right} of {}", asked.len());
}
