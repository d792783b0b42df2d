//! The one answer that a client gets, pieced together from the attempts that gave it.
//!
//! An attempt that is the first to answer passes as it came, byte for byte. From a joint on, each
//! chunk is rewritten: what the client already has is held back, ids stay the first ones. Finish
//! reasons and usage are kept until the whole answer is settled.
//!
//! A gateway pieces a client's answer together so from sites, and a site of ours a gateway's from
//! workers.

mod piece;

use crate::dialect::event::{Chunk, Delta, Endpoint, Finish, Usage};
use crate::dialect::plain::Plain;
use crate::dialect::request::{Call, text_tokens};
use crate::dialect::shape;
use bytes::Bytes;
use mainstay_core::fact::{How, Rung};
use mainstay_core::gateway::joint::{Joint, Relayed, Standing, standing};
use memchr::memmem;
use piece::{Mismatch, feed, new_delta};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// The answer under way.
pub struct Answer {
    endpoint: Endpoint,
    id: String,
    created: u64,
    model: String,
    max_tokens: Option<u32>,
    stops: Vec<String>,
    choices: Vec<Choice>,
    counted: Option<Usage>,
    /// Tokens of the attempt under way alone, as its provider counted them.
    counted_here: Option<Usage>,
    /// The chunk that told `counted`, where it counts the whole answer, and whether it can go to
    /// the client as it came.
    usage: Option<(Bytes, bool)>,
}

#[derive(Default)]
struct Choice {
    relayed: Relayed,
    has_role: bool,
    refused: bool,
    held: Option<Finish>,
    /// The chunk that told `held`, where it can go to the client as it came.
    ending: Option<Bytes>,
}

/// What one attempt adds to the answer.
pub struct Leg {
    how: How,
    only_choice: Option<u32>,
    joints: Vec<Joint>,
    /// It is the first to answer and passes as it comes.
    transparent: bool,
    /// Tokens the client had before it of what it goes on with.
    before: u32,
}

/// What became of a chunk.
#[derive(Debug, Default)]
pub struct Taken {
    /// What is to be written towards the client.
    pub out: Vec<Bytes>,
    /// Output tokens it stands for.
    pub tokens: u32,
    /// It does not fit what the client has.
    pub mismatch: bool,
}

impl Answer {
    /// An answer to `call`, of which nothing is known yet.
    pub fn new(call: &Call, id: String) -> Answer {
        let mut choices = Vec::new();
        choices.resize_with(call.choices().max(1) as usize, Choice::default);
        Answer {
            endpoint: call.endpoint,
            id,
            created: shape::now(),
            model: String::new(),
            max_tokens: call.max_tokens,
            stops: call.stop.clone(),
            choices,
            counted: None,
            counted_here: None,
            usage: None,
        }
    }

    /// An attempt begins. What an earlier one counted was its own answer, not this one's.
    pub fn leg(&mut self, how: How, only_choice: Option<u32>) -> Leg {
        self.usage = None;
        self.counted = None;
        self.counted_here = None;
        let rung = match how {
            How::Resume(rung) => Some(rung),
            How::First | How::Retry => None,
        };
        let joint = |choice: &Choice| Joint::new(&choice.relayed, rung, &self.stops);
        let stands = self.standing();
        Leg {
            how,
            only_choice,
            joints: self.choices.iter().map(joint).collect(),
            transparent: !stands.relayed,
            before: self.relayed(only_choice).1,
        }
    }

    /// How it stands. Embeddings come all at once: no choice of theirs is ever open.
    pub fn standing(&self) -> Standing {
        let mut total = Standing::default();
        for (index, choice) in (0u32..).zip(&self.choices) {
            let one = standing(std::slice::from_ref(&choice.relayed));
            total.tokens = total.tokens.saturating_add(one.tokens);
            total.answered |= one.answered;
            total.relayed |= one.relayed;
            total.tools |= one.tools;
            total.too_long |= one.too_long;
            let is_open = self.endpoint != Endpoint::Embeddings
                && !choice.relayed.finished
                && choice.held.is_none();
            total.open.extend(is_open.then_some(index));
        }
        total
    }

    /// Text and tokens that the client has of the choice to be gone on with.
    pub fn relayed(&self, only_choice: Option<u32>) -> (&str, u32) {
        let index = only_choice.unwrap_or(0) as usize;
        self.choices.get(index).map_or(("", 0), |c| (&c.relayed.content, c.relayed.tokens))
    }

    /// The id under which the client knows it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The model that wrote its last part.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Takes a chunk of an attempt in.
    pub fn take(&mut self, leg: &mut Leg, chunk: &Chunk) -> Taken {
        if let Some(usage) = chunk.usage {
            self.note_usage(leg, usage, chunk);
        }
        match &chunk.deltas[..] {
            [] => Taken::default(),
            [delta] if leg.transparent && self.may_pass(delta) => self.pass(delta, chunk),
            [delta] if leg.transparent && self.may_hold(delta, chunk) => self.hold(delta, chunk),
            _ => self.rewrite(leg, chunk),
        }
    }

    /// Takes a whole reply in that goes to the client as it came. Returns its tokens, at least.
    pub fn take_whole(&mut self, plain: &Plain) -> u32 {
        self.counted = plain.usage;
        self.counted_here = plain.usage;
        let mut tokens = 0;
        for delta in &plain.deltas {
            tokens += self.account(delta);
            if let Some(choice) = self.choices.get_mut(delta.choice as usize) {
                choice.refused |= !delta.refusal.is_empty();
                choice.held = delta.finish;
            }
        }
        tokens
    }

    /// Whether every choice the attempt answers for has its finish reason.
    pub fn is_finished(&self, leg: &Leg) -> bool {
        let done = |c: &Choice| c.held.is_some() || c.relayed.finished;
        match leg.only_choice {
            Some(index) => self.choices.get(index as usize).is_some_and(done),
            None => self.choices.iter().all(done),
        }
    }

    /// Whether usage has come.
    pub fn has_usage(&self) -> bool {
        self.counted.is_some()
    }

    /// Output tokens of the attempt under way by its provider's count, where chunks stand for
    /// tokens: the head of a tool call is a chunk and no token.
    pub fn counted_here(&self) -> Option<u32> {
        let calls = self.choices.iter().any(|c| !c.relayed.tools.is_empty());
        let counted = self.counted_here.filter(|_| !calls)?;
        Some(u32::try_from(counted.completion).unwrap_or(u32::MAX))
    }

    /// Tokens of the attempt under way alone, as its provider counted them.
    pub fn usage_here(&self) -> Option<Usage> {
        self.counted_here
    }

    /// Embeddings came, which go to the client as they are.
    pub fn count_embeddings(&mut self, usage: Option<Usage>) {
        (self.counted, self.counted_here) = (usage, usage);
    }

    /// It came at once, so that no chunks stand for tokens: the provider's count does, or where
    /// that does not tell the choices apart, their text.
    pub fn count_at_once(&mut self) {
        let counted = self.counted.and_then(|usage| u32::try_from(usage.completion).ok());
        let is_one = self.choices.len() == 1;
        for Choice { relayed, .. } in &mut self.choices {
            let guess = relayed.tokens.max(text_tokens(&relayed.content));
            relayed.tokens = counted.filter(|_| is_one).unwrap_or(guess);
        }
    }

    /// Whether it would be whole and have nothing in it: no text, no call, no refusal. Where
    /// tokens were counted and a stop string was asked for, that is lawful.
    pub fn is_empty(&self) -> bool {
        let counted = self.counted.is_some_and(|usage| usage.completion > 0);
        let is_lawful = counted && !self.stops.is_empty();
        let blank = |c: &Choice| c.relayed.is_empty() && !c.refused;
        let stopped = |c: &Choice| c.held == Some(Finish::Stop);
        self.endpoint == Endpoint::Chat
            && !is_lawful
            && self.choices.iter().all(|c| blank(c) && stopped(c))
    }

    /// Whether a choice ended at a token limit that was not the client's.
    pub fn is_short(&self, leg: &Leg) -> bool {
        let (Some(most), Some(usage)) = (self.max_tokens, self.counted) else { return false };
        let total = usage.completion + u64::from(leg.before);
        let is_length = self.choices.iter().any(|c| c.held == Some(Finish::Length));
        let at_limit = self.choices.iter().any(|c| c.relayed.tokens >= most);
        self.choices.len() == 1 && is_length && !at_limit && total < u64::from(most)
    }

    /// The attempt failed to keep its promise: its finish reason is void. One choice of several
    /// that finished is whole all the same.
    pub fn forget_finish(&mut self) {
        if let [only] = &mut self.choices[..] {
            only.held = None;
            only.ending = None;
        }
    }

    /// The finish reasons held back, as chunks; their choices are closed.
    pub fn settle(&mut self) -> Vec<Bytes> {
        let mut out = Vec::new();
        for index in 0..self.choices.len() {
            if let Some(finish) = self.choices[index].held.take() {
                self.choices[index].relayed.finished = true;
                let ending = self.choices[index].ending.take();
                out.push(ending.unwrap_or_else(|| self.ending(index, finish)));
            }
        }
        out
    }

    /// Every open choice ends by the provider's filter.
    pub fn filtered(&mut self) -> Vec<Bytes> {
        for choice in self.choices.iter_mut().filter(|c| !c.relayed.finished) {
            choice.held = Some(Finish::ContentFilter);
            choice.ending = None;
        }
        self.settle()
    }

    /// The usage of the whole answer, as the last chunk.
    pub fn usage_chunk(&self, prompt_estimate: u64) -> Bytes {
        if let Some((json, true)) = &self.usage {
            return json.clone();
        }
        let chunk = json!({
            "id": self.id,
            "object": self.object(),
            "created": self.created,
            "model": self.model,
            "choices": [],
            "usage": self.final_usage(prompt_estimate),
        });
        Bytes::from(chunk.to_string())
    }

    /// Tokens of prompt and answer as the provider counted them, or as we did.
    pub fn usage(&self, prompt_estimate: u64) -> Usage {
        let tokens = u64::from(self.standing().tokens);
        let own = Usage { prompt: prompt_estimate, completion: tokens, ..Usage::default() };
        self.counted.unwrap_or(own)
    }

    fn final_usage(&self, prompt_estimate: u64) -> Value {
        let told = self.usage.as_ref().and_then(|(json, _)| {
            let mut chunk: Value = serde_json::from_slice(json).ok()?;
            let usage = chunk.get_mut("usage")?.take();
            usage.is_object().then_some(usage)
        });
        match (told, self.counted) {
            (Some(told), _) => told,
            (None, Some(usage)) => shape::usage_json(usage),
            (None, None) => {
                let mut value = shape::usage_json(self.usage(prompt_estimate));
                value["estimated"] = true.into();
                value
            }
        }
    }

    fn note_usage(&mut self, leg: &Leg, usage: Usage, chunk: &Chunk) {
        self.counted_here = Some(usage);
        let is_native = leg.how == How::Resume(Rung::Native);
        // What was continued was part of its prompt and is part of our answer. So are the choices
        // that it was not asked for.
        let before = if is_native { u64::from(leg.before) } else { 0 };
        let others = self.tokens_of_others(leg.only_choice);
        if before + others > 0 {
            let prompt = usage.prompt.saturating_sub(before);
            let completion = usage.completion + before + others;
            self.counted = Some(Usage { prompt, completion, ..usage });
            self.usage = None;
            return;
        }
        self.counted = Some(usage);
        let can_pass = leg.transparent
            && chunk.deltas.is_empty()
            && memmem::find(&chunk.json, b"\"usage\":{").is_some()
            && memmem::find(&chunk.json, b"\"choices\":[]").is_some();
        self.usage = Some((chunk.json.clone(), can_pass));
    }

    /// Tokens of the choices beside the one that is resumed alone.
    fn tokens_of_others(&self, only_choice: Option<u32>) -> u64 {
        let Some(only) = only_choice else { return 0 };
        let others = (0u32..).zip(&self.choices).filter(|(index, _)| *index != only);
        others.map(|(_, choice)| u64::from(choice.relayed.tokens)).sum()
    }

    /// Whether a chunk can go to the client as it came.
    fn may_pass(&self, delta: &Delta) -> bool {
        let Some(choice) = self.choices.get(delta.choice as usize) else { return false };
        choice.held.is_none()
            && delta.finish.is_none()
            && delta.refusal.is_empty()
            && self.max_tokens.is_none_or(|most| choice.relayed.tokens < most)
    }

    fn pass(&mut self, delta: &Delta, chunk: &Chunk) -> Taken {
        let mut out = Vec::with_capacity(2);
        out.extend(self.opening(delta.choice, &chunk.json));
        out.push(chunk.json.clone());
        Taken { out, tokens: self.account(delta), mismatch: false }
    }

    /// Whether a chunk is a finish reason and nothing more, and can be told as it came.
    fn may_hold(&self, delta: &Delta, chunk: &Chunk) -> bool {
        let choice = self.choices.get(delta.choice as usize);
        choice.is_some_and(|c| c.has_role && c.held.is_none())
            && delta.finish.is_some()
            && delta.tokens() == 0
            && chunk.usage.is_none()
    }

    fn hold(&mut self, delta: &Delta, chunk: &Chunk) -> Taken {
        if let Some(choice) = self.choices.get_mut(delta.choice as usize) {
            choice.held = delta.finish;
            choice.ending = Some(chunk.json.clone());
        }
        Taken::default()
    }

    /// The chunk that opens a choice, unless `json`, its first piece, does that itself.
    fn opening(&mut self, index: u32, json: &[u8]) -> Option<Bytes> {
        let is_fresh = !self.choices.iter().any(|c| c.has_role);
        let choice = self.choices.get_mut(index as usize)?;
        if std::mem::replace(&mut choice.has_role, true) {
            return None;
        }
        if is_fresh && let Ok(head) = serde_json::from_slice::<Head<'_>>(json) {
            self.adopt(head);
        }
        let has_role = memmem::find(json, b"\"role\"").is_some();
        if has_role || self.endpoint != Endpoint::Chat {
            return None;
        }
        let delta = json!({ "role": "assistant", "content": "" });
        let first = json!({ "index": index, "delta": delta, "finish_reason": null });
        Some(self.chunk_of(&first))
    }

    /// Counts a piece as relayed.
    fn account(&mut self, delta: &Delta) -> u32 {
        let tokens = delta.tokens();
        let Some(choice) = self.choices.get_mut(delta.choice as usize) else { return tokens };
        choice.relayed.tokens = choice.relayed.tokens.saturating_add(tokens);
        choice.relayed.reasoning |= !delta.reasoning.is_empty();
        choice.relayed.content(&delta.content);
        for tool in &delta.tools {
            choice.relayed.tool(tool.index, &tool.name, &tool.arguments);
        }
        tokens
    }

    fn rewrite(&mut self, leg: &mut Leg, chunk: &Chunk) -> Taken {
        let mut taken = Taken::default();
        let Ok(Value::Object(mut head)) = serde_json::from_slice(&chunk.json) else {
            return taken;
        };
        let is_fresh = leg.transparent && !self.choices.iter().any(|c| c.has_role);
        if is_fresh && let Ok(head) = serde_json::from_slice(&chunk.json) {
            self.adopt(head);
        }
        if let Some(Value::String(model)) = head.get("model") {
            self.model.clone_from(model);
        }
        let given = match head.get_mut("choices").map(Value::take) {
            Some(Value::Array(given)) => given,
            Some(_) | None => return taken,
        };
        let mut kept = Vec::new();
        for (given, delta) in given.into_iter().zip(&chunk.deltas) {
            taken.tokens += delta.tokens();
            match self.rewrite_choice(leg, given, delta) {
                Ok(Some(choice)) => kept.push(choice),
                Ok(None) => {}
                Err(Mismatch) => taken.mismatch = true,
            }
        }
        if taken.mismatch || kept.is_empty() {
            return taken;
        }
        head.insert("id".into(), self.id.clone().into());
        head.insert("created".into(), self.created.into());
        head.insert("choices".into(), kept.into());
        head.shift_remove("usage");
        taken.out.push(Bytes::from(Value::Object(head).to_string()));
        taken
    }

    /// The first attempt to answer gives the answer its id.
    fn adopt(&mut self, head: Head<'_>) {
        if let Some(id) = head.id {
            self.id = id.into_owned();
        }
        self.created = head.created.unwrap_or(self.created);
        if let Some(model) = head.model {
            self.model = model.into_owned();
        }
    }

    fn rewrite_choice(
        &mut self,
        leg: &mut Leg,
        mut given: Value,
        delta: &Delta,
    ) -> Result<Option<Value>, Mismatch> {
        let index = leg.only_choice.unwrap_or(delta.choice);
        let most = self.max_tokens;
        let is_text = self.endpoint == Endpoint::Completions;
        let Some(choice) = self.choices.get_mut(index as usize) else { return Ok(None) };
        let Some(joint) = leg.joints.get_mut(index as usize) else { return Ok(None) };
        if choice.held.is_some() || choice.relayed.finished {
            return Ok(None);
        }
        if most.is_some_and(|most| choice.relayed.tokens >= most && delta.tokens() > 0) {
            choice.held = Some(Finish::Length);
            return Ok(None);
        }
        let mut fed = feed(joint, delta)?;
        if let Some(finish) = fed.stop.or(delta.finish) {
            let rest = if fed.stop.is_none() { joint.finish().ok_or(Mismatch)? } else { "".into() };
            fed.content.push_str(&rest);
            choice.held = Some(finish);
        }
        let shows_reasoning = leg.transparent && !delta.reasoning.is_empty();
        let is_new = !fed.content.is_empty()
            || !fed.tools.is_empty()
            || !delta.refusal.is_empty()
            || shows_reasoning;
        if !is_new {
            return Ok(None);
        }
        choice.relayed.content(&fed.content);
        for (tool, _) in &fed.tools {
            choice.relayed.tool(tool.index, &tool.name, &tool.arguments);
        }
        choice.refused |= !delta.refusal.is_empty();
        choice.relayed.reasoning |= shows_reasoning;
        choice.relayed.tokens = choice.relayed.tokens.saturating_add(delta.tokens());
        given["index"] = index.into();
        given["finish_reason"] = Value::Null;
        if is_text {
            given["text"] = fed.content.into();
        } else {
            let role = !std::mem::replace(&mut choice.has_role, true);
            given["delta"] = new_delta(given["delta"].take(), &fed, (role, leg.transparent));
        }
        choice.has_role = true;
        Ok(Some(given))
    }

    fn ending(&mut self, index: usize, finish: Finish) -> Bytes {
        let choice = &mut self.choices[index];
        let mut delta = Map::new();
        if !std::mem::replace(&mut choice.has_role, true) {
            delta.insert("role".into(), "assistant".into());
            delta.insert("content".into(), "".into());
        }
        let mut last = json!({ "index": index, "finish_reason": finish.word() });
        match self.endpoint {
            Endpoint::Completions => last["text"] = "".into(),
            Endpoint::Chat | Endpoint::Embeddings => last["delta"] = Value::Object(delta),
        }
        self.chunk_of(&last)
    }

    /// A chunk about one choice.
    fn chunk_of(&self, choice: &Value) -> Bytes {
        let chunk = json!({
            "id": self.id,
            "object": self.object(),
            "created": self.created,
            "model": self.model,
            "choices": [choice],
        });
        Bytes::from(chunk.to_string())
    }

    fn object(&self) -> &'static str {
        match self.endpoint {
            Endpoint::Completions => "text_completion",
            Endpoint::Chat | Endpoint::Embeddings => "chat.completion.chunk",
        }
    }
}

/// What stands at the top of a chunk.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    created: Option<u64>,
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
}
