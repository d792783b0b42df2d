//! Sends the probes that the machine orders and tells it how they end.
//!
//! They take the ways of attempts, by connections of their own, and are none: no request and no
//! tokens of clients are counted. There is one of a kind for each target at a time, so that what
//! hangs piles nothing up. What an end says is core's to judge.

use super::{Attempt, Item, Question, Site, head};
use crate::dialect::Reply as Answered;
use crate::dialect::event::{Chunk, Endpoint, Usage};
use crate::dialect::request::Call;
use crate::drive::Drive;
use crate::handover;
use crate::places::Places;
use crate::upstream::Outbound;
use bytes::Bytes;
use http::{Method, StatusCode};
use mainstay_core::drill::Breakage;
use mainstay_core::gateway::probe::{patience, refused, says};
use mainstay_core::gateway::{Event, Probe, Start};
use mainstay_core::names::TargetId;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// Orders that may wait to be looked at.
const WAITING: usize = 256;
/// What a token is asked with.
const PROMPT: &str = "Say yes.";

/// Who sends probes.
pub struct Prober {
    drive: Arc<Drive>,
}

/// What a probe found: what it says of its target, and the tokens it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Found {
    good: Option<bool>,
    usage: Usage,
}

impl Prober {
    /// Sends what `drive` orders until `shutdown`.
    pub fn begin(drive: &Arc<Drive>, shutdown: CancellationToken) {
        let (sender, orders) = mpsc::channel(WAITING);
        drive.probe_by(sender);
        let prober = Arc::new(Prober { drive: drive.clone() });
        tokio::spawn(prober.run(orders, shutdown));
    }

    async fn run(
        self: Arc<Self>,
        mut orders: mpsc::Receiver<(TargetId, Probe)>,
        shutdown: CancellationToken,
    ) {
        let mut running = JoinSet::new();
        let mut busy: HashMap<Id, (TargetId, Probe)> = HashMap::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Some(ended) = running.join_next_with_id() => {
                    let id = ended.map_or_else(|panicked| panicked.id(), |(id, ())| id);
                    busy.remove(&id);
                }
                order = orders.recv() => {
                    let Some(order) = order else { return };
                    if !busy.values().any(|other| *other == order) {
                        let sent = running.spawn(self.clone().send(order));
                        busy.insert(sent.id(), order);
                    }
                }
            }
        }
    }

    async fn send(self: Arc<Self>, (target, probe): (TargetId, Probe)) {
        let places = self.drive.places();
        let request = self.drive.name_request();
        let now = self.drive.clock().now();
        let start = self.drive.read(|gateway| gateway.start_probe(now, target, request));
        let Some(start) = start else { return };
        if !self.still(&places) {
            return;
        }
        let Some(site) = places.probed(start.site) else { return };
        let found = match probe {
            Probe::Shallow if start.broken.is_some_and(Breakage::is_lifeless) => {
                Found { good: Some(false), ..Found::default() }
            }
            Probe::Shallow => Found { good: shallow(site).await, ..Found::default() },
            Probe::Token => self.token(site, &start).await,
        };
        if !self.still(&places) {
            return;
        }
        self.drive.telemetry().probed(target, (probe, found.good), found.usage);
        if let Some(good) = found.good {
            self.drive.tell_of(&places, Event::Probed { target, probe, good });
        }
    }

    /// One token by the way of attempts.
    async fn token(&self, site: &Site, start: &Start) -> Found {
        let mut found = Found::default();
        let Some(call) = call(&start.model) else { return found };
        let names = self.drive.telemetry().names();
        let tier = start.open.map_or("", |open| names.tier(open.tier));
        let (relayed, tenant) = (None, 0);
        let question = Question { call: &call, start, relayed, stream: true, tier, tenant };
        let mut attempt = Attempt::open(site, &question);
        let (sign, all) = patience(Probe::Token, start.open.is_some());
        let end = Instant::now() + all;
        let (mut has_sign, mut has_finish) = (false, false);
        found.good = loop {
            let until = (Instant::now() + sign).min(end);
            let Ok(item) = timeout_at(until, attempt.next()).await else {
                let is_at_work = has_sign && Instant::now() >= end;
                break if is_at_work { None } else { Some(false) };
            };
            match item {
                Item::Life | Item::Beat | Item::Ack(_) => has_sign = true,
                Item::Chunk(Chunk { deltas, usage, .. }) => {
                    has_sign = true;
                    has_finish |= deltas.iter().any(|delta| delta.finish.is_some());
                    let tokens: u32 = deltas.iter().map(|delta| delta.tokens()).sum();
                    found.usage.completion += u64::from(tokens);
                    found.usage = usage.unwrap_or(found.usage);
                }
                Item::Whole(plain) => {
                    found.usage = plain.usage.unwrap_or_default();
                    break Some(true);
                }
                Item::Refused(refuse) => break refused(refuse.reason),
                Item::Broken(fault) if fault.cut && has_finish => break Some(true),
                Item::Broken(fault) => break says(Probe::Token, fault.failure.class),
                Item::End => break Some(has_finish),
            }
        };
        found
    }

    /// Whether positions still lead where they did; what was begun before is not told any more.
    fn still(&self, places: &Arc<Places>) -> bool {
        Arc::ptr_eq(places, &self.drive.places())
    }
}

/// Whether the site's free endpoint answers.
async fn shallow(site: &Site) -> Option<bool> {
    let (account, path) = match site {
        Site::Node(account) => (account.clone(), handover::HEALTH),
        Site::Provider(account) => (account.clone(), "/models"),
        Site::Engine(_) => return None,
    };
    let (sign, all) = patience(Probe::Shallow, matches!(site, Site::Node(_)));
    let asked = account.clone();
    let mut asking = Box::pin(async move {
        let headers = head(&asked.dialect, asked.key.as_ref(), Vec::new());
        let (method, body) = (Method::GET, Bytes::new());
        asked.origin.send(Outbound { path, method, headers, body }).await
    });
    let Ok(reply) = timeout(sign, &mut asking).await else {
        // The next probe may find the connection that took so long.
        account.origin.beside(async move {
            if let Ok(Ok(reply)) = timeout(all.saturating_sub(sign), asking).await {
                reply.body.finish();
            }
        });
        return Some(false);
    };
    match reply {
        Ok(reply) if reply.status == StatusCode::OK => {
            reply.body.finish();
            Some(true)
        }
        Ok(reply) => {
            let (status, headers) = (reply.status.as_u16(), &reply.headers);
            let failure = account.dialect.classify(&Answered { status, headers, body: &[] });
            reply.body.finish();
            says(Probe::Shallow, failure.class)
        }
        Err(error) => says(Probe::Shallow, error.failure.class),
    }
}

/// The call for one token of `model`.
fn call(model: &str) -> Option<Arc<Call>> {
    let body = json!({
        "model": model,
        "messages": [{ "role": "user", "content": PROMPT }],
        "max_tokens": 1,
        "stream": true,
        "stream_options": { "include_usage": true },
    });
    let call = Call::parse(Endpoint::Chat, Bytes::from(body.to_string()));
    call.ok().map(Arc::new)
}

#[cfg(test)]
mod tests;
