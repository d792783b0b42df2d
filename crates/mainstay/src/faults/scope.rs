//! State and log of each scope. A scope is the first part of the path, `/s/NAME/…`, so that many
//! tests share one server without meeting: counts, settings, limits and the log are its own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::ask::Ask;

/// The scope of a path that names none.
pub const MAIN_SCOPE: &str = "main";

/// Attempts kept in a scope's log, and request bodies kept with them; later ones are counted but
/// not kept, so that a forgotten load test does not fill the memory.
const ATTEMPTS_MAX: usize = 200_000;
const BODIES_MAX: usize = 1024;

/// One attempt, as the log tells it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Attempt {
    /// Running number in the scope, from 1.
    pub n: u64,
    /// Path below the scope.
    pub path: String,
    /// The model name asked for.
    pub model: String,
    /// When the request was complete here, since the scope's reset.
    pub at_ms: u64,
    /// Whether events were asked for.
    pub stream: bool,
    /// SHA-256 of the last user message.
    pub prompt_sha256: String,
    /// Number of messages.
    pub messages: usize,
    /// Role of the last message.
    pub last_role: String,
    /// Bytes of a trailing assistant message.
    pub prefix_bytes: usize,
    /// `max_tokens` asked for.
    pub max_tokens: Option<usize>,
    /// Choices asked for.
    pub choices: usize,
    /// Bytes of the request body.
    pub body_bytes: usize,
    /// Whether a key came along (never the key).
    pub has_key: bool,
    /// HTTP/2.
    pub http2: bool,
    /// Bytes of the reply's body, without framing.
    pub bytes_sent: u64,
    /// Output tokens sent.
    pub tokens_sent: u64,
    /// `served`, `fault` or `peer_closed`; null while it runs.
    pub ended: Option<&'static str>,
    /// When it ended, since its start.
    pub ended_after_ms: Option<u64>,
    /// When the peer hung up, since its start, if it did before the end.
    pub peer_closed_after_ms: Option<u64>,
    /// Which connection.
    pub connection: u64,
    /// Whether the connection had carried a request before.
    pub reused: bool,
}

/// Whether a scope's limits let a request in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Let in.
    In,
    /// The key is revoked (F24).
    Revoked,
    /// Above `rate` per second (F25).
    OverRate,
    /// Above `concurrent` at once (F52).
    OverConcurrent,
    /// Grown by more than half (F27).
    OverRamp,
}

#[derive(Debug)]
struct Scope {
    since: Instant,
    epoch: u64,
    settings: BTreeMap<String, String>,
    attempts: Vec<Attempt>,
    bodies: VecDeque<(u64, Vec<u8>)>,
    by_model: BTreeMap<String, u64>,
    by_conversation: BTreeMap<(String, String), u64>,
    running: BTreeMap<String, u64>,
    arrivals: BTreeMap<String, VecDeque<Instant>>,
    good: u64,
}

/// All scopes, and counters of the whole server.
#[derive(Debug, Default)]
pub struct Board {
    scopes: Mutex<BTreeMap<String, Scope>>,
    epochs: AtomicU64,
    connections: AtomicU64,
    open: AtomicUsize,
}

/// What entering a scope tells about it.
#[derive(Debug)]
pub struct Entered {
    /// To report the end with.
    pub ticket: Ticket,
    /// Which attempt for the model, from 1.
    pub attempt: u64,
    /// Which attempt of the conversation at the model, from 1.
    pub conversation_attempt: u64,
    /// Time since the reset.
    pub age: Duration,
    /// Whether its limits let it in.
    pub admission: Admission,
    /// What the control interface set.
    pub settings: BTreeMap<String, String>,
}

/// An attempt in progress.
#[derive(Debug)]
pub struct Ticket {
    board: Arc<Board>,
    scope: String,
    epoch: u64,
    index: usize,
    model: String,
    started: Instant,
    counted: bool,
}

/// How an attempt came in.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Path below the scope.
    pub path: &'a str,
    /// The request body.
    pub body: &'a [u8],
    /// Which connection.
    pub connection: u64,
    /// Whether it carried a request before.
    pub reused: bool,
    /// Whether a key came along.
    pub has_key: bool,
    /// HTTP/2.
    pub http2: bool,
}

impl Board {
    /// Forgets everything about `scope` and restarts its clock.
    pub fn reset(&self, scope: &str) {
        let fresh = self.fresh();
        self.lock().insert(scope.to_owned(), fresh);
    }

    /// Sets `key` in `scope`.
    pub fn set(&self, scope: &str, key: &str, value: &str) {
        self.with(scope, |s| s.settings.insert(key.to_owned(), value.to_owned()));
    }

    /// The value of `key` in `scope`.
    pub fn setting(&self, scope: &str, key: &str) -> Option<String> {
        self.lock().get(scope)?.settings.get(key).cloned()
    }

    /// The log of `scope`.
    pub fn log(&self, scope: &str) -> Vec<Attempt> {
        self.lock().get(scope).map(|s| s.attempts.clone()).unwrap_or_default()
    }

    /// The request body of attempt `n`, if it is still kept.
    pub fn body(&self, scope: &str, n: u64) -> Option<Vec<u8>> {
        let scopes = self.lock();
        let bodies = &scopes.get(scope)?.bodies;
        bodies.iter().find(|(number, _)| *number == n).map(|(_, body)| body.clone())
    }

    /// Opens a connection: its number, and a guard that counts it as open.
    pub fn connect(self: &Arc<Self>) -> (u64, OpenConnection) {
        self.open.fetch_add(1, Ordering::Relaxed);
        let number = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        (number, OpenConnection(Arc::clone(self)))
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Enters a request for `base` (the model's name without suffixes) into `scope`.
    pub fn enter(self: &Arc<Self>, scope: &str, base: &str, ask: &Ask, how: Arrival) -> Entered {
        let now = Instant::now();
        self.with(scope, |s| {
            let (attempt, conversation_attempt) = s.count(ask);
            let admission = s.admit(base, &ask.model, now);
            let index = s.record(ask, how, now);
            let ticket = Ticket {
                board: Arc::clone(self),
                scope: scope.to_owned(),
                epoch: s.epoch,
                index,
                model: ask.model.clone(),
                started: now,
                counted: admission == Admission::In,
            };
            let age = now.duration_since(s.since);
            let settings = s.settings.clone();
            Entered { ticket, attempt, conversation_attempt, age, admission, settings }
        })
    }

    /// Records something that never became a request for a model: a failed TLS handshake, a
    /// redirect that was followed.
    pub fn note(&self, scope: &str, attempt: Attempt, started: Instant) {
        self.with(scope, |s| {
            let at_ms = millis(started.saturating_duration_since(s.since));
            let n = s.attempts.len() as u64 + 1;
            s.attempts.push(Attempt { n, at_ms, ..attempt });
        });
    }

    fn fresh(&self) -> Scope {
        Scope {
            since: Instant::now(),
            epoch: self.epochs.fetch_add(1, Ordering::Relaxed),
            settings: BTreeMap::new(),
            attempts: Vec::new(),
            bodies: VecDeque::new(),
            by_model: BTreeMap::new(),
            by_conversation: BTreeMap::new(),
            running: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            good: 0,
        }
    }

    fn with<T>(&self, scope: &str, act: impl FnOnce(&mut Scope) -> T) -> T {
        let mut scopes = self.lock();
        act(scopes.entry(scope.to_owned()).or_insert_with(|| self.fresh()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Scope>> {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scope {
    fn count(&mut self, ask: &Ask) -> (u64, u64) {
        let attempt = self.by_model.entry(ask.model.clone()).or_default();
        *attempt += 1;
        let key = (ask.model.clone(), ask.conversation());
        let conversation = self.by_conversation.entry(key).or_default();
        *conversation += 1;
        (*attempt, *conversation)
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.settings.get(key)?.parse().ok()
    }

    /// Applies the limits that are set, or that the model brings along.
    fn admit(&mut self, base: &str, model: &str, now: Instant) -> Admission {
        let revoked = self.settings.get("key").is_some_and(|value| value == "revoked");
        let spent = self.good >= self.number("good_answers").unwrap_or(1000.0) as u64;
        if revoked || (base == "f24" && spent) {
            return Admission::Revoked;
        }
        let concurrent = self.number("concurrent").or((base == "f52").then_some(4.0));
        let running = self.running.get(model).copied().unwrap_or(0);
        if concurrent.is_some_and(|most| running as f64 >= most) {
            return Admission::OverConcurrent;
        }
        let rate = self.number("rate").or((base == "f25").then_some(30.0));
        let ramp = self.number("ramp_seconds").or(base.starts_with("f27").then_some(10.0));
        let window = Duration::from_secs_f64(ramp.unwrap_or(1.0).clamp(0.1, 3600.0));
        let floor = self.number("ramp_floor").unwrap_or(10.0);
        let arrivals = self.arrivals.entry(model.to_owned()).or_default();
        while arrivals.front().is_some_and(|at| now.duration_since(*at) > window * 2) {
            arrivals.pop_front();
        }
        let within = |age: Duration| {
            arrivals.iter().rev().take_while(|at| now.duration_since(**at) < age).count() as f64
        };
        if rate.is_some_and(|most| within(Duration::from_secs(1)) >= most) {
            return Admission::OverRate;
        }
        if ramp.is_some() {
            let (current, both) = (within(window), within(window * 2));
            if current + 1.0 > floor.max((both - current) * 1.5) {
                return Admission::OverRamp;
            }
        }
        arrivals.push_back(now);
        *self.running.entry(model.to_owned()).or_default() += 1;
        Admission::In
    }

    fn record(&mut self, ask: &Ask, how: Arrival, now: Instant) -> usize {
        let index = self.attempts.len();
        if index >= ATTEMPTS_MAX {
            return ATTEMPTS_MAX;
        }
        let n = index as u64 + 1;
        self.attempts.push(Attempt {
            n,
            path: how.path.to_owned(),
            model: ask.model.clone(),
            at_ms: millis(now.duration_since(self.since)),
            stream: ask.stream,
            prompt_sha256: ask.conversation(),
            messages: ask.messages,
            last_role: ask.last_role.clone(),
            prefix_bytes: ask.prefix.as_ref().map_or(0, String::len),
            max_tokens: ask.max_tokens,
            choices: ask.n,
            body_bytes: ask.body_bytes,
            has_key: how.has_key,
            http2: how.http2,
            connection: how.connection,
            reused: how.reused,
            ..Attempt::default()
        });
        if how.body.len() <= 65_536 {
            self.bodies.push_back((n, how.body.to_vec()));
            if self.bodies.len() > BODIES_MAX {
                self.bodies.pop_front();
            }
        }
        index
    }
}

/// What was sent so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Bytes of the body, without framing.
    pub bytes: u64,
    /// Output tokens.
    pub tokens: u64,
}

impl Ticket {
    /// Reports the end of the attempt.
    pub fn end(self, how: &'static str, tally: Tally) {
        let after = millis(self.started.elapsed());
        let mut scopes = self.board.lock();
        let Some(scope) = scopes.get_mut(&self.scope).filter(|s| s.epoch == self.epoch) else {
            return;
        };
        if let Some(running) = scope.running.get_mut(&self.model).filter(|_| self.counted) {
            *running = running.saturating_sub(1);
        }
        scope.good += u64::from(how == "served");
        let Some(attempt) = scope.attempts.get_mut(self.index) else { return };
        attempt.bytes_sent = tally.bytes;
        attempt.tokens_sent = tally.tokens;
        attempt.ended = Some(how);
        attempt.ended_after_ms = Some(after);
        attempt.peer_closed_after_ms = (how == "peer_closed").then_some(after);
    }
}

/// Counts a connection as open while it lives.
#[derive(Debug)]
pub struct OpenConnection(Arc<Board>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
