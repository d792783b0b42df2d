//! The operator's door: metrics, health, explanations, and whatever the owner adds.
//!
//! It answers from memory and from closures of the owner, so it works with everything else dead.
//! Changes are made by POST only; a page that a browser fetches ahead changes nothing.

use crate::console::{Console, Documents};
use crate::http::{ResponseBody, escape, is_foreign, is_rebound, json, read_body};
use crate::setup::Bounds;
use crate::telemetry::Telemetry;
use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::sync::Arc;

/// What Prometheus asks for by this name.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What tells nothing but numbers and health, to whoever reaches the listener.
const OPEN: [&str; 4] = ["/metrics", "/livez", "/readyz", "/health"];

/// Whether requests can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    /// At least something can be served.
    Yes,
    /// Nothing can be served, and why.
    No(String),
    /// The process is about to end: send no new traffic.
    Draining,
}

/// A page of the owner that shows something.
pub type Show = Box<dyn Fn() -> Value + Send + Sync>;
/// A change the owner offers; the error says what is wrong with the request.
pub type Change = Box<dyn Fn(Bytes) -> Result<Value, String> + Send + Sync>;

/// The admin service. Cheap to clone once built.
#[derive(Clone)]
pub struct Admin {
    inner: Arc<Inner>,
}

/// Puts an [`Admin`] together.
pub struct Builder {
    inner: Inner,
}

struct Inner {
    telemetry: Arc<Telemetry>,
    ready: Box<dyn Fn() -> Ready + Send + Sync>,
    bounds: Bounds,
    metrics: Vec<Box<dyn Fn() -> String + Send + Sync>>,
    shows: Vec<(&'static str, &'static str, Show)>,
    changes: Vec<(&'static str, &'static str, Change)>,
    console: Option<Console>,
}

impl Admin {
    /// An admin service about `telemetry`; `ready` says whether something can be served.
    pub fn builder(
        telemetry: Arc<Telemetry>,
        bounds: Bounds,
        ready: impl Fn() -> Ready + Send + Sync + 'static,
    ) -> Builder {
        let ready = Box::new(ready);
        let (metrics, shows, changes) = (Vec::new(), Vec::new(), Vec::new());
        let console = None;
        Builder { inner: Inner { telemetry, ready, bounds, metrics, shows, changes, console } }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>) -> Response<ResponseBody> {
        let path = request.uri().path().to_owned();
        if let Some(console) = &self.inner.console {
            if console.takes(&request) {
                return console.answer(request, self.inner.clone()).await;
            }
            // What is asked each second, by programs that change nothing, stays open.
            if !OPEN.contains(&path.as_str())
                && let Some(refusal) = console.bars(&request)
            {
                return refusal;
            }
        }
        let is_shown = self.inner.shows.iter().any(|(p, _, _)| *p == path);
        let is_read = is_shown && request.method() != Method::POST;
        let mut changes = self.inner.changes.iter();
        if let Some((_, _, change)) = changes.find(|(p, _, _)| *p == path && !is_read) {
            if request.method() != Method::POST {
                return not_allowed("POST");
            }
            if is_foreign(request.headers()) || is_rebound(request.headers()) {
                return fault(
                    StatusCode::FORBIDDEN,
                    "changes are not taken from other sites' pages",
                );
            }
            return match read_body(request, &self.inner.bounds).await {
                Ok(body) => changed(change(body)),
                Err(error) => fault(StatusCode::BAD_REQUEST, &format!("body: {error:?}")),
            };
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return not_allowed("GET, HEAD");
        }
        self.inner.page(&path, request.headers())
    }
}

impl Builder {
    /// Adds a page that shows what `show` returns; `what` stands in the index.
    pub fn show(
        mut self,
        path: &'static str,
        what: &'static str,
        show: impl Fn() -> Value + Send + Sync + 'static,
    ) -> Builder {
        self.inner.shows.push((path, what, Box::new(show)));
        self
    }

    /// Adds a change, made by POST.
    pub fn change(
        mut self,
        path: &'static str,
        what: &'static str,
        change: impl Fn(Bytes) -> Result<Value, String> + Send + Sync + 'static,
    ) -> Builder {
        self.inner.changes.push((path, what, Box::new(change)));
        self
    }

    /// Adds lines to the metrics, in the exposition format and without the closing `# EOF`.
    pub fn metrics(mut self, lines: impl Fn() -> String + Send + Sync + 'static) -> Builder {
        self.inner.metrics.push(Box::new(lines));
        self
    }

    /// Adds a console, which browsers find at `/`.
    pub fn console(mut self, console: Console) -> Builder {
        self.inner.console = Some(console);
        self
    }

    /// The finished service.
    pub fn build(self) -> Admin {
        Admin { inner: Arc::new(self.inner) }
    }
}

impl Inner {
    fn page(&self, path: &str, headers: &HeaderMap) -> Response<ResponseBody> {
        match path {
            "/" | "/-/" => text("text/html; charset=utf-8", self.index()),
            "/metrics" => text(OPEN_METRICS, self.metrics()),
            "/livez" | "/health" => text("text/plain; charset=utf-8", "ok\n".to_owned()),
            "/readyz" => self.readiness(),
            _ => match path.strip_prefix("/explain/") {
                Some(request) => self.explain(request, headers),
                None => match self.shows.iter().find(|(p, _, _)| *p == path) {
                    Some((_, _, show)) => json(StatusCode::OK, &show()),
                    None => fault(StatusCode::NOT_FOUND, "nothing here; / lists what there is"),
                },
            },
        }
    }

    fn metrics(&self) -> String {
        let own = self.telemetry.exposition();
        let mut all = own.strip_suffix("# EOF\n").unwrap_or(&own).to_owned();
        self.metrics.iter().for_each(|lines| all.push_str(&lines()));
        all.push_str("# EOF\n");
        all
    }

    fn readiness(&self) -> Response<ResponseBody> {
        match (self.ready)() {
            Ready::Yes => text("text/plain; charset=utf-8", "ready\n".to_owned()),
            Ready::No(why) => fault(StatusCode::SERVICE_UNAVAILABLE, &why),
            Ready::Draining => fault(StatusCode::SERVICE_UNAVAILABLE, "draining"),
        }
    }

    fn explain(&self, request: &str, headers: &HeaderMap) -> Response<ResponseBody> {
        let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let missing = || {
            let known = "it is not among the last 4,096 of this gateway; ids look like req-0…f";
            fault(StatusCode::NOT_FOUND, known)
        };
        if accept.contains("json") {
            return self
                .telemetry
                .explain(request)
                .map_or_else(missing, |chain| json(StatusCode::OK, &chain));
        }
        self.telemetry
            .explain_text(request)
            .map_or_else(missing, |chain| text("text/plain; charset=utf-8", chain))
    }

    fn index(&self) -> String {
        let ready = Documents::ready(self);
        let mut rows = String::new();
        let fixed = [
            ("/metrics", "Prometheus metrics"),
            ("/livez", "the process is alive"),
            ("/readyz", "something can be served"),
            ("/health", "always 200 while alive"),
        ];
        let shows = self.shows.iter().map(|(path, what, _)| (*path, *what));
        for (path, what) in fixed.into_iter().chain(shows) {
            rows.push_str(&format!(
                "<tr><td><a href=\"{path}\">{path}</a></td><td>{}</td></tr>\n",
                escape(what)
            ));
        }
        rows.push_str("<tr><td>/explain/req-…</td><td>what happened to a request</td></tr>\n");
        for (path, what, _) in &self.changes {
            rows.push_str(&format!("<tr><td>POST {path}</td><td>{}</td></tr>\n", escape(what)));
        }
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Mainstay</title>\
             <style>body{{font:16px/1.5 system-ui;margin:2rem;max-width:50rem}}\
             td{{padding:.2rem 1rem .2rem 0}}</style>\
             <h1>Mainstay {version}</h1><p role=\"status\">{}</p><table>\n{rows}</table></html>\n",
            escape(&ready)
        )
    }
}

impl Documents for Inner {
    fn show(&self, path: &str) -> Option<Value> {
        let found = self.shows.iter().find(|(each, _, _)| *each == path);
        found.map(|(_, _, show)| show())
    }

    fn change(&self, path: &str, body: Bytes) -> Option<Result<Value, String>> {
        let found = self.changes.iter().find(|(each, _, _)| *each == path);
        found.map(|(_, _, change)| change(body))
    }

    fn ready(&self) -> String {
        match (self.ready)() {
            Ready::Yes => "ready".to_owned(),
            Ready::No(why) => format!("not ready: {why}"),
            Ready::Draining => "draining".to_owned(),
        }
    }
}

fn changed(outcome: Result<Value, String>) -> Response<ResponseBody> {
    match outcome {
        Ok(value) => json(StatusCode::OK, &value),
        Err(why) => fault(StatusCode::BAD_REQUEST, &why),
    }
}

fn not_allowed(allowed: &'static str) -> Response<ResponseBody> {
    let mut response = fault(StatusCode::METHOD_NOT_ALLOWED, &format!("use {allowed}"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn fault(status: StatusCode, message: &str) -> Response<ResponseBody> {
    json(status, &json!({"error": {"message": message}}))
}

fn text(kind: &'static str, body: String) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests;
