//! From an order to sequences: the model's own chat template, its tokens, its bounds.
//!
//! The built-in model reads only the state of the sites, which is put in the place of whatever
//! system message the client wrote, and the last turns that fit.

use super::slots::{Filler, Scene};
use super::tools::{self, Calls};
use super::truth;
use crate::embedded::{Order, Prompt, Raw, ToolChoice};
use mainstay_core::names::{ClientFault, ErrorClass, Failure};
use mainstay_core::time::Duration;
use mainstay_core::worker::TOKEN_BYTES_MAX;
use mainstay_engine::{Engine, Grammar, Refusal, Sampling, TemplateError, Work};
use serde_json::{Value, json};

/// The built-in model was trained on prompts of this many tokens.
const TRAINED_ON: usize = 500;
/// Tokens kept free for the built-in model's answer, the longest of which it has by heart.
const ANSWER_ROOM: usize = 160;
/// Turns of a conversation that the built-in model is shown.
const TURNS: usize = 12;

/// One sequence of a request.
pub struct Prepared {
    /// Which choice it is.
    pub choice: u32,
    /// Whether it is the first with its prompt, for whoever counts prompts.
    pub is_first: bool,
    /// What the engine is handed.
    pub work: Work,
    /// What fills the slots in its text.
    pub filler: Option<Filler>,
    /// What takes calls of tools out of its text.
    pub calls: Option<Calls>,
}

/// The sequences of `order`. With a `scene` the model is the built-in one.
pub fn prepare(
    engine: &Engine,
    order: &Order,
    scene: Option<&Scene>,
) -> Result<Vec<Prepared>, Failure> {
    if scene.is_some() && !order.stands_in {
        let what = match (&order.form, order.scores) {
            (Some(_), _) => Some("the built-in model cannot be held to JSON"),
            (None, Some(_)) => Some("the built-in model gives no log probabilities"),
            (None, None) => None,
        };
        if let Some(what) = what {
            return Err(unsupported(what.into()));
        }
    }
    let prompts = match scene {
        Some(scene) => builtin(engine, order, scene)?,
        None => own(engine, order)?,
    };
    let calls = calls(engine, order, scene.is_some())?;
    let form = calls.as_ref().and_then(|_| tools::forced(order)).or(order.form.clone());
    let allowed = scene.map(|scene| truth::allowed(engine, scene));
    let mut prepared = Vec::new();
    for (at, prompt) in (0u32..).zip(prompts) {
        let mut is_first = true;
        for copy in 0..order.n {
            let choice = at * order.n + copy;
            if order.only_choice.is_some_and(|only| only != choice) {
                continue;
            }
            let work = Work {
                prompt: prompt.clone(),
                sampling: sampling(order, choice, scene.is_some()),
                max_tokens: order.max_tokens.map_or(usize::MAX, |most| most as usize),
                stop: order.stop.clone(),
                journal: None,
                allowed: allowed.clone(),
                grammar: form
                    .clone()
                    .filter(|_| scene.is_none())
                    .map(|form| Grammar { form, begun: order.prefix.clone().unwrap_or_default() }),
                scores: order.scores.filter(|_| scene.is_none()),
                salt: order.tenant.into(),
            };
            let choice = if order.only_choice.is_some() { 0 } else { choice };
            let filler = scene.map(Scene::filler);
            let is_first = std::mem::replace(&mut is_first, false);
            let calls = calls.clone();
            prepared.push(Prepared { choice, is_first, work, filler, calls });
        }
    }
    Ok(prepared)
}

/// What takes the calls out of the answers, if there are tools to call.
fn calls(engine: &Engine, order: &Order, is_builtin: bool) -> Result<Option<Calls>, Failure> {
    if order.tools.is_none() || order.tool_choice == ToolChoice::Never {
        return Ok(None);
    }
    match tools::manner(engine).filter(|_| !is_builtin) {
        Some(manner) => Ok(Some(Calls::new(manner, order))),
        None if order.stands_in => Ok(None),
        None => Err(unsupported("the model's chat template takes no tools".into())),
    }
}

/// What the client reads of a refusal by the engine.
pub fn refused(refusal: &Refusal) -> Failure {
    match refusal {
        Refusal::Busy { again, .. } => {
            let again = Duration::from_millis(u64::try_from(again.as_millis()).unwrap_or(u64::MAX));
            Failure { retry_after: Some(again), ..crate::embedded::full() }
        }
        Refusal::TooLong { tokens, limit } => too_long(*tokens, *limit),
        Refusal::BadGrammar(why) => Failure {
            param: Some("response_format".into()),
            ..invalid(format!("Invalid schema for response_format: {why}."))
        },
        Refusal::EmptyPrompt
        | Refusal::UnknownToken(_)
        | Refusal::BadSetting(_)
        | Refusal::AlreadyFinished => invalid(refusal.to_string()),
    }
}

/// The text of the last thing the client said, for the language of what is said back.
pub fn question(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Chat(messages) => turns(messages).pop().map_or_else(String::new, |turn| turn.1),
        Prompt::Raw(prompts) => match prompts.last() {
            Some(Raw::Text(text)) => text.clone(),
            Some(Raw::Tokens(_)) | None => String::new(),
        },
    }
}

/// A model of the user's own: everything as it came.
fn own(engine: &Engine, order: &Order) -> Result<Vec<Vec<u32>>, Failure> {
    let limit = engine.model().context;
    if order.bytes > limit.saturating_mul(TOKEN_BYTES_MAX) {
        return Err(too_long(about(order.bytes), limit));
    }
    let prefix = order.prefix.as_deref().unwrap_or_default();
    match &order.prompt {
        Prompt::Chat(messages) => {
            let tools = order.tools.as_ref().filter(|_| order.tool_choice != ToolChoice::Never);
            let text = engine.render_chat(messages, tools, true).map_err(|error| match error {
                TemplateError::Missing | TemplateError::Failed(_) => unsupported(error.to_string()),
                TemplateError::Refused(_) => invalid(error.to_string()),
            })?;
            Ok(vec![engine.tokenize(&(text + prefix))])
        }
        Prompt::Raw(prompts) => {
            let tokens = prompts.iter().map(|prompt| match prompt {
                Raw::Text(text) => engine.tokenize(&format!("{text}{prefix}")),
                Raw::Tokens(tokens) => [tokens.as_slice(), &engine.tokenize(prefix)].concat(),
            });
            Ok(tokens.collect())
        }
    }
}

fn builtin(engine: &Engine, order: &Order, scene: &Scene) -> Result<Vec<Vec<u32>>, Failure> {
    match &order.prompt {
        Prompt::Chat(messages) => Ok(vec![conversation(engine, turns(messages), scene)?]),
        Prompt::Raw(prompts) => prompts
            .iter()
            .map(|prompt| match prompt {
                Raw::Text(text) => conversation(engine, vec![("user", text.clone())], scene),
                Raw::Tokens(_) => Err(unsupported("the built-in model takes text only".into())),
            })
            .collect(),
    }
}

/// The state and the last turns that fit, as tokens.
fn conversation(
    engine: &Engine,
    mut turns: Vec<(&'static str, String)>,
    scene: &Scene,
) -> Result<Vec<u32>, Failure> {
    let limit = engine.model().context;
    let room = limit.saturating_sub(ANSWER_ROOM);
    let last = turns.last().map_or(0, |turn| turn.1.len());
    if last > limit.saturating_mul(TOKEN_BYTES_MAX) / 4 {
        return Err(too_long(about(last), limit));
    }
    turns.drain(..turns.len().saturating_sub(TURNS));
    for start in 0..turns.len().max(1) {
        let shown = &turns[start..];
        let is_last = shown.len() <= 1;
        let bytes: usize = shown.iter().map(|turn| turn.1.len()).sum();
        let begins = shown.first().is_some_and(|turn| turn.0 == "user");
        if !is_last && (!begins || bytes > TRAINED_ON * TOKEN_BYTES_MAX) {
            continue;
        }
        let tokens = written(engine, shown, scene)?;
        if tokens.len() <= TRAINED_ON || (is_last && tokens.len() <= room) {
            return Ok(tokens);
        }
        if is_last {
            return Err(too_long(tokens.len(), limit));
        }
    }
    written(engine, &[], scene)
}

fn written(
    engine: &Engine,
    turns: &[(&'static str, String)],
    scene: &Scene,
) -> Result<Vec<u32>, Failure> {
    let mut messages = vec![json!({ "role": "system", "content": scene.system })];
    messages.extend(turns.iter().map(|(role, text)| {
        let hidden = if *role == "user" { scene.hide(text) } else { scene.hide_answer(text) };
        json!({ "role": role, "content": hidden })
    }));
    let text = engine.render_chat(&messages.into(), None, true);
    text.map(|text| engine.tokenize(&text)).map_err(|error| unsupported(error.to_string()))
}

/// What user and assistant said; other roles are for models that know what to do with them. If
/// nobody said anything, the last message counts as the user's.
fn turns(messages: &Value) -> Vec<(&'static str, String)> {
    let messages = messages.as_array().map(Vec::as_slice).unwrap_or_default();
    let said = |message: &Value| {
        let role = match message["role"].as_str() {
            Some("user") => "user",
            Some("assistant") => "assistant",
            Some(_) | None => return None,
        };
        Some((role, text_of(message))).filter(|(_, text)| !text.is_empty())
    };
    let turns: Vec<_> = messages.iter().filter_map(said).collect();
    match (turns.is_empty(), messages.last()) {
        (true, Some(last)) => vec![("user", text_of(last))],
        (_, _) => turns,
    }
}

fn text_of(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}

fn sampling(order: &Order, choice: u32, is_builtin: bool) -> Sampling {
    let (taste, usual) = (&order.taste, Sampling::default());
    // Trained to have one right answer to each question.
    if is_builtin {
        return Sampling { temperature: 0.0, ..usual };
    }
    // Choices of one seed must differ from each other, and not from run to run.
    let seed = taste.seed.map(|seed| seed.cast_unsigned().wrapping_add(u64::from(choice)));
    Sampling {
        temperature: taste.temperature.unwrap_or(usual.temperature),
        top_k: taste.top_k.map_or(usual.top_k, |k| k as usize),
        top_p: taste.top_p.unwrap_or(usual.top_p),
        min_p: taste.min_p.unwrap_or(usual.min_p),
        presence_penalty: taste.presence_penalty.unwrap_or(usual.presence_penalty),
        frequency_penalty: taste.frequency_penalty.unwrap_or(usual.frequency_penalty),
        repetition_penalty: taste.repetition_penalty.unwrap_or(usual.repetition_penalty),
        bias: taste.bias.clone(),
        seed,
    }
}

/// About how many tokens so many bytes are.
fn about(bytes: usize) -> usize {
    bytes / 4
}

fn too_long(tokens: usize, limit: usize) -> Failure {
    let message = format!(
        "This model's maximum context length is {limit} tokens. However, your prompt has about \
         {tokens} tokens. Please shorten it."
    );
    Failure {
        code: Some("context_length_exceeded".into()),
        param: Some("messages".into()),
        limit: Some(limit as u64),
        ..Failure::ours(ErrorClass::ClientFault(ClientFault::Context), message)
    }
}

fn unsupported(what: String) -> Failure {
    Failure::ours(ErrorClass::ClientFault(ClientFault::Unsupported), what)
}

fn invalid(what: String) -> Failure {
    Failure::ours(ErrorClass::ClientFault(ClientFault::Invalid), what)
}
