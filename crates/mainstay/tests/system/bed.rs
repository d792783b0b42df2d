//! What tests of the whole are played on: a fault server in this process, a gateway in its own,
//! and a client that believes nothing.
//!
//! A bed has two upstreams. The primary is scope `p` of the fault server, the fallback scope `f`;
//! which model each is asked for decides how it breaks. The client's model is `chat`; `healthy` is
//! served by a good model of the primary's host, to see that only what broke is avoided.

// Each test file uses its own part of the bed.
#![allow(dead_code)]

// Two programs of tests have the bed, one of them at another place.
#[path = "bed/client.rs"]
pub mod client;
#[path = "bed/gateway.rs"]
pub mod gateway;
#[path = "bed/nodes.rs"]
pub mod nodes;
#[path = "bed/postgres.rs"]
pub mod postgres;
#[path = "bed/rows.rs"]
pub mod rows;
#[path = "bed/told.rs"]
pub mod told;

use std::path::Path;
use std::time::{Duration, Instant};

use client::{Ask, Mode, Reply};
use gateway::Gateway;
use mainstay::faults::{self, Attempt, Options, Profile, Running, answer_text};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// Scopes of the fault server.
pub const PRIMARY: &str = "p";
/// See `PRIMARY`.
pub const FALLBACK: &str = "f";

/// What a bound of a fault is exceeded by on a machine that is busy with other tests.
pub const SLACK: Duration = Duration::from_millis(400);

/// Time in which a given-up attempt must be closed (C7).
pub const CLOSING: Duration = Duration::from_secs(1);

/// The timings under test: fast, or full where the environment says
/// `MAINSTAY_FAULTS_PROFILE=full`.
pub fn profile() -> Profile {
    match std::env::var("MAINSTAY_FAULTS_PROFILE").as_deref() {
        Ok("full") => Profile::Full,
        Ok("fast") | Err(_) => Profile::Fast,
        Ok(other) => panic!("MAINSTAY_FAULTS_PROFILE is `{other}`; full or fast"),
    }
}

/// So many milliseconds.
pub fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// One of our own limits, which the fast profile divides by five; in seconds.
pub fn ours(full: f64) -> Duration {
    Duration::from_secs_f64(profile().pick(full, full / 5.0))
}

/// What the upstream takes, or what depends on it; in seconds.
pub fn theirs(full: f64, fast: f64) -> Duration {
    Duration::from_secs_f64(profile().pick(full, fast))
}

/// A normal answer, with room for a slow start of the process.
pub fn normal() -> Duration {
    theirs(1.2, 0.5)
}

/// Where an answer may go when the primary breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Another site with the same weights.
    Equal,
    /// A site with another model.
    Substitute,
    /// Nowhere.
    Alone,
}

/// What a gateway is configured to.
#[derive(Clone, Debug)]
pub struct Layout {
    sites: Vec<Site>,
    served_by: Vec<String>,
    substitutes: Vec<String>,
    top: String,
    limits: String,
    more: String,
}

/// One `[[site]]` of the fault server.
#[derive(Clone, Debug)]
struct Site {
    name: &'static str,
    provider: &'static str,
    scope: &'static str,
    /// Instead of the fault server's main address.
    url: Option<String>,
    lines: Vec<String>,
}

impl Layout {
    /// `chat` is served by `primary`; `fallback` stands where `place` says.
    pub fn new(place: Place, primary: &str, fallback: &str) -> Layout {
        let site = |name, scope| {
            let provider = "openai";
            Site { name, provider, scope, url: None, lines: Vec::new() }
        };
        let primary = format!("primary/{primary}");
        let fallback = format!("fallback/{fallback}");
        let (served_by, substitutes) = match place {
            Place::Equal => (vec![primary, fallback], vec![]),
            Place::Substitute => (vec![primary], vec![fallback]),
            Place::Alone => (vec![primary], vec![]),
        };
        Layout {
            sites: vec![site("primary", PRIMARY), site("fallback", FALLBACK)],
            served_by,
            substitutes,
            top: String::new(),
            limits: String::new(),
            more: String::new(),
        }
    }

    /// Declares what `model` can do at a site, e.g. `continue = true`.
    pub fn declaring(self, site: &str, model: &str, facts: &str) -> Layout {
        let line = format!("models = [{{ name = \"{model}\", {facts} }}]");
        self.site_line(site, &line)
    }

    /// Adds a line to a site, e.g. `http2 = "always"`.
    pub fn site_line(mut self, site: &str, line: &str) -> Layout {
        self.site(site).lines.push(line.to_owned());
        self
    }

    /// Gives a site another dialect than `openai`.
    pub fn speaking(mut self, site: &str, provider: &'static str) -> Layout {
        self.site(site).provider = provider;
        self
    }

    /// Gives a site another address of the fault server, e.g. its HTTP/2 or refusing one.
    pub fn reached_at(mut self, site: &str, url: &str) -> Layout {
        self.site(site).url = Some(url.to_owned());
        self
    }

    /// Adds lines to the beginning of the file, before any table.
    pub fn top(mut self, text: &str) -> Layout {
        self.top += text;
        self.top.push('\n');
        self
    }

    /// Adds a line to `[limits]`; what stands there is not divided in the fast profile.
    pub fn limit(mut self, line: &str) -> Layout {
        self.limits += line;
        self.limits.push('\n');
        self
    }

    /// Adds lines to the end of the file.
    pub fn more(mut self, text: &str) -> Layout {
        self.more += text;
        self.more.push('\n');
        self
    }

    fn site(&mut self, name: &str) -> &mut Site {
        self.sites.iter_mut().find(|site| site.name == name).expect("primary or fallback")
    }

    /// The configuration file.
    pub fn file(&self, faults: &Running) -> String {
        let limits = match profile() {
            Profile::Full => "full",
            Profile::Fast => "fast",
        };
        let mut text = format!(
            "{}[listen]\napi = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\n\
             [limits]\nprofile = \"{limits}\"\n{}\n",
            self.top, self.limits
        );
        for Site { name, provider, scope, url, lines } in &self.sites {
            let url = url.as_deref().unwrap_or(&faults.addresses.url);
            text += &format!(
                "[[site]]\nname = \"{name}\"\nprovider = \"{provider}\"\n\
                 base_url = \"{url}/s/{scope}/v1\"\nkey = \"sk-{scope}\"\n{}\n\n",
                lines.join("\n")
            );
        }
        let (served_by, substitutes) = (&self.served_by, &self.substitutes);
        text += &format!(
            "[[model]]\nname = \"chat\"\nserved_by = {served_by:?}\n\
             substitutes = {substitutes:?}\n\n\
             [[model]]\nname = \"healthy\"\nserved_by = [\"primary/ok\"]\n\n{}",
            self.more
        );
        text
    }
}

/// A fault server with a gateway before it.
pub struct Bed {
    /// The upstreams.
    pub faults: Running,
    /// What is tested.
    pub gateway: Gateway,
}

impl Bed {
    /// Starts both; what `layout` does not say is the default, timings are those of `profile()`.
    pub async fn start(layout: &Layout) -> Bed {
        Bed::start_with(async |_| layout.clone()).await
    }

    /// The same, where the layout needs the fault server's addresses.
    pub async fn start_with(layout: impl AsyncFnOnce(&Running) -> Layout) -> Bed {
        Bed::start_in(&[], layout).await
    }

    /// The same, where the gateway gets these environment variables.
    pub async fn start_in(
        environment: &[(&str, &Path)],
        layout: impl AsyncFnOnce(&Running) -> Layout,
    ) -> Bed {
        let faults = faults::serve(Options { profile: profile(), ..Options::default() }).await;
        let faults = faults.expect("start the fault server");
        let layout = layout(&faults).await;
        let gateway = Gateway::start_in(&layout.file(&faults), environment).await;
        // Clocks of the scopes start now, not when the server did.
        faults.reset(PRIMARY);
        faults.reset(FALLBACK);
        Bed { faults, gateway }
    }

    /// Sends a request to the gateway.
    pub async fn send(&self, ask: &Ask) -> Reply {
        ask.send(&format!("{}/v1", self.gateway.api)).await
    }

    /// Sends a request to the gateway, to be waited for later.
    pub fn ask_soon(&self, ask: Ask) -> JoinHandle<Reply> {
        let base = format!("{}/v1", self.gateway.api);
        tokio::spawn(async move { ask.send(&base).await })
    }

    /// Asks `chat`.
    pub async fn ask(&self, mode: Mode, prompt: &str) -> Reply {
        self.send(&Ask::chat("chat", prompt).mode(mode)).await
    }

    /// The attempts at the primary, once all have ended.
    pub async fn primary(&self) -> Vec<Attempt> {
        self.attempts(PRIMARY).await
    }

    /// The attempts at the fallback, once all have ended.
    pub async fn fallback(&self) -> Vec<Attempt> {
        self.attempts(FALLBACK).await
    }

    /// The attempts in a scope, the healthy calls left out, once all have ended.
    pub async fn attempts(&self, scope: &str) -> Vec<Attempt> {
        let limit = Instant::now() + Duration::from_secs(5);
        loop {
            let mut log = self.faults.log(scope);
            log.retain(|attempt| scope != PRIMARY || attempt.model != "ok");
            if log.iter().all(|attempt| attempt.ended.is_some()) {
                return log;
            }
            assert!(Instant::now() < limit, "attempts are left open: {log:#?}");
            // waits for: the upstream to see the end of each attempt
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asserts how many attempts primary and fallback saw.
    #[track_caller]
    pub fn saw(&self, primary: usize, fallback: usize) {
        let of = |scope: &str| {
            let mut log = self.faults.log(scope);
            log.retain(|attempt| scope != PRIMARY || attempt.model != "ok");
            log
        };
        let (p, f) = (of(PRIMARY), of(FALLBACK));
        assert_eq!((p.len(), f.len()), (primary, fallback), "primary {p:#?}\nfallback {f:#?}");
    }

    /// Asserts that the gateway is well after a fault: a good model of the primary's host answers,
    /// and no attempt is left open.
    pub async fn is_well(&self) {
        let reply = self.send(&Ask::chat("healthy", "are you well?").stream()).await;
        whole(&reply, "are you well?");
        self.primary().await;
        self.fallback().await;
    }

    /// The decisions about a request, each with its reason.
    pub async fn explain(&self, reply: &Reply) -> Value {
        let id = reply.header("x-mainstay-request-id").expect("a request id");
        self.gateway.explain(id).await
    }

    /// How each attempt for a request ended, in order, e.g. `primary: cut (transient)` and
    /// `fallback: whole`.
    pub async fn story(&self, reply: &Reply) -> Vec<String> {
        let told = self.explain(reply).await;
        let facts = told["facts"].as_array().expect("facts").iter();
        facts.filter_map(ended).collect()
    }

    /// The body of attempt `n` (from 1) in a scope.
    pub fn body(&self, scope: &str, n: u64) -> Value {
        let body = self.faults.body(scope, n).expect("the body is kept");
        serde_json::from_slice(&body).expect("JSON")
    }
}

/// How an attempt ended, if `fact` tells of that.
fn ended(fact: &Value) -> Option<String> {
    let text = fact["text"].as_str().expect("a sentence");
    let (_, rest) = text.split_once(" at ")?;
    let site = rest.split('/').next().unwrap_or_default();
    match fact["fact"].as_str() {
        Some("attempt_whole") => Some(format!("{site}: whole")),
        Some("attempt_failed") => {
            let why = rest.split_once(": ")?.1.rsplit_once(", ")?.0;
            Some(format!("{site}: {why}"))
        }
        _ => None,
    }
}

/// Asserts that `reply` is the whole normal answer to `prompt`, properly ended, with usage where it
/// comes unasked or was asked for.
#[track_caller]
pub fn whole(reply: &Reply, prompt: &str) {
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    assert_eq!(reply.error(), Value::Null);
    assert_eq!(reply.text(), answer_text(prompt).concat());
    assert_eq!(reply.finish().as_deref(), Some("stop"));
    assert!(reply.terminated, "the body ends properly");
    if !reply.events.is_empty() {
        assert!(reply.is_done(), "{:?}", reply.events.last());
        let chunks = reply.chunks();
        let ends = chunks.iter().filter(|c| c["choices"][0]["finish_reason"].is_string());
        assert_eq!(ends.count(), 1, "one finish reason");
    }
    assert_eq!(reply.usage()["completion_tokens"], json!(60));
}

/// Asserts an error before any token: a status and one JSON body in OpenAI's shape.
#[track_caller]
pub fn refused(reply: &Reply, status: u16, code: &str) {
    let body = String::from_utf8_lossy(&reply.body);
    assert_eq!(reply.status, status, "{body}");
    assert!(reply.terminated, "the body ends properly");
    let error = &reply.json()["error"];
    assert_eq!(error["code"], code, "{body}");
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
    assert!(error["type"].is_string(), "{body}");
    if status == 429 || status == 503 {
        let after = reply.header("retry-after").and_then(|text| text.parse::<u64>().ok());
        assert!(after.is_some_and(|seconds| seconds >= 1), "{:?}", reply.headers);
    }
}

/// Asserts an error after tokens: a true beginning of the answer, one error event, no finish
/// reason, no `[DONE]`, and a body that is left unterminated.
#[track_caller]
pub fn broken_off(reply: &Reply, prompt: &str) {
    assert_eq!(reply.status, 200);
    assert!(answer_text(prompt).concat().starts_with(&reply.text()), "{:?}", reply.text());
    assert!(reply.error().is_object(), "{:?}", reply.events.last());
    assert_eq!(reply.finish(), None);
    assert!(!reply.is_done());
    assert!(!reply.terminated, "a client that ignores the event still notices");
}

/// Asserts that `reply` took at most `bound`, give or take a busy machine.
#[track_caller]
pub fn within(reply: &Reply, bound: Duration) {
    assert!(reply.took <= bound + SLACK, "took {:?}, at most {bound:?}", reply.took);
}

/// Asserts that the peer hung up on `attempt` between `earliest` and `latest` after its start.
#[track_caller]
pub fn hung_up(attempt: &Attempt, earliest: Duration, latest: Duration) {
    let after = attempt.peer_closed_after_ms.map(Duration::from_millis);
    let after = after.unwrap_or_else(|| panic!("nobody hung up: {attempt:#?}"));
    assert!(earliest <= after && after <= latest + SLACK, "hung up after {after:?}");
}

/// Time between the starts of two attempts.
pub fn gap(attempts: &[Attempt]) -> Duration {
    Duration::from_millis(attempts[1].at_ms - attempts[0].at_ms)
}

/// Both ways a client may ask.
pub const MODES: [Mode; 2] = [Mode::Stream, Mode::Plain];
