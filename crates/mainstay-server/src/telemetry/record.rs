//! Remembers what happened to the last requests, so that an operator can ask about one.
//!
//! Bounded twice: the last 4,096 requests, at most 64 facts each. Sharded by request, so that two
//! requests seldom meet at a lock, which is held for a push.

use super::{Names, format_request, words};
use mainstay_core::fact::{Fact, How, Outcome};
use mainstay_core::names::{ModelId, RequestId, TierId};
use mainstay_core::time::Time;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SHARDS: usize = 16;
/// 4,096 in all: minutes of a busy gateway, a few megabytes.
const REQUESTS_PER_SHARD: usize = 256;
/// Four attempts and their waits need fewer than 20.
const FACTS_MAX: usize = 64;

/// What telemetry says of a request when it closes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Closing {
    pub(super) request: RequestId,
    /// What was asked for, by positions that were called by these names.
    pub(super) asked: Option<(ModelId, TierId, Arc<Names>)>,
    pub(super) outcome: Outcome,
    pub(super) attempts: u8,
    pub(super) resumes: u8,
    pub(super) after: Duration,
    pub(super) first_token: Option<Duration>,
    pub(super) per_token: Option<Duration>,
    pub(super) resumed_whole: bool,
}

#[derive(Default)]
pub(super) struct Records {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    by_request: HashMap<RequestId, Record>,
    oldest_first: VecDeque<RequestId>,
}

#[derive(Default)]
struct Record {
    arrived: Option<Time>,
    asked: Option<(ModelId, TierId, Arc<Names>)>,
    first_token: Option<Time>,
    per_token: Option<Duration>,
    attempt_first_token: Option<Duration>,
    last_is_resume: bool,
    resumed_whole: bool,
    left_out: u32,
    /// Each with what its positions were called then.
    facts: Vec<(Time, Fact, Arc<Names>)>,
}

impl Records {
    fn shard(&self, request: RequestId) -> &Mutex<Shard> {
        // Identifiers may be counted or drawn; the low bits differ either way.
        &self.shards[request.0 as usize % SHARDS]
    }

    /// Remembers a fact; returns a summary when it closes its request.
    pub(super) fn note(&self, at: Time, (fact, names): (&Fact, &Arc<Names>)) -> Option<Closing> {
        let request = words::request(fact)?;
        let mut shard = self.shard(request).lock().expect("no panic under this lock");
        let record = shard.record(request);
        record.learn(at, fact, names);
        if let Fact::Closed { outcome, attempts, resumes, after, .. } = fact {
            let first_token = record.first_token.zip(record.arrived).map(|(f, a)| f.since(a));
            return Some(Closing {
                request,
                asked: record.asked.clone(),
                outcome: *outcome,
                attempts: *attempts,
                resumes: *resumes,
                after: *after,
                first_token,
                per_token: record.per_token,
                resumed_whole: record.resumed_whole,
            });
        }
        None
    }

    /// The tier of a request that came while these were the names.
    pub(super) fn tier(&self, request: RequestId, names: &Arc<Names>) -> Option<TierId> {
        let shard = self.shard(request).lock().expect("no panic under this lock");
        let (_, tier, asked) = shard.by_request.get(&request)?.asked.as_ref()?;
        Arc::ptr_eq(asked, names).then_some(*tier)
    }

    pub(super) fn explain(&self, request: RequestId) -> Option<Value> {
        let shard = self.shard(request).lock().expect("no panic under this lock");
        let record = shard.by_request.get(&request)?;
        let facts: Vec<Value> = record
            .told()
            .map(|(after, fact, text)| {
                json!({"after_ms": millis(after), "fact": words::kind(fact), "text": text})
            })
            .collect();
        let asked = record.asked.as_ref();
        Some(json!({
            "request": format_request(request),
            "model": asked.map(|(model, _, names)| names.model(*model)),
            "tier": asked.map(|(_, tier, names)| names.tier(*tier)),
            "facts": facts,
            "facts_left_out": record.left_out,
        }))
    }

    pub(super) fn explain_text(&self, request: RequestId) -> Option<String> {
        let shard = self.shard(request).lock().expect("no panic under this lock");
        let record = shard.by_request.get(&request)?;
        let mut text = format!("{}\n", format_request(request));
        for (after, _, sentence) in record.told() {
            text.push_str(&format!("{:>10.3} s  {sentence}\n", after.as_secs_f64()));
        }
        if record.left_out > 0 {
            text.push_str(&format!("{} more facts were not kept\n", record.left_out));
        }
        Some(text)
    }
}

impl Shard {
    fn record(&mut self, request: RequestId) -> &mut Record {
        if !self.by_request.contains_key(&request) {
            if self.oldest_first.len() >= REQUESTS_PER_SHARD
                && let Some(oldest) = self.oldest_first.pop_front()
            {
                self.by_request.remove(&oldest);
            }
            self.oldest_first.push_back(request);
        }
        self.by_request.entry(request).or_default()
    }
}

impl Record {
    fn learn(&mut self, at: Time, fact: &Fact, names: &Arc<Names>) {
        match fact {
            Fact::Arrived { model, tier, .. } => {
                self.arrived = Some(at);
                self.asked = Some((*model, *tier, names.clone()));
            }
            Fact::AttemptStarted { how, .. } => {
                self.attempt_first_token = None;
                self.last_is_resume = matches!(how, How::Resume(_));
            }
            Fact::FirstToken { after, .. } => {
                self.first_token.get_or_insert(at);
                self.attempt_first_token = Some(*after);
            }
            Fact::AttemptWhole { after, tokens, .. } => {
                self.resumed_whole = self.last_is_resume;
                let since_first = self.attempt_first_token.map(|f| after.saturating_sub(f));
                self.per_token = since_first
                    .zip(tokens.checked_sub(1))
                    .and_then(|(time, gaps)| (gaps > 0).then(|| time / gaps));
            }
            _ => {}
        }
        match self.facts.len() < FACTS_MAX {
            true => self.facts.push((at, fact.clone(), names.clone())),
            false => self.left_out += 1,
        }
    }

    /// Each fact with its time since arrival and its sentence.
    fn told(&self) -> impl Iterator<Item = (Duration, &Fact, String)> {
        let start = self.arrived.or_else(|| self.facts.first().map(|(at, ..)| *at));
        self.facts.iter().map(move |(at, fact, names)| {
            (at.since(start.unwrap_or(*at)), fact, words::sentence(names, fact))
        })
    }
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
