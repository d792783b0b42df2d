//! The operators' console: one page about everything this process knows, and forms for what may be
//! done, on the admin listener.
//!
//! It is written from the documents that the listener has anyway, and changes what they change, so
//! it can say and do nothing that a command cannot. With an admin token nobody is let in without
//! it; without one, nobody from beyond this machine. A form is taken in a session alone, with what
//! that session's pages have in them, and does nothing before it was shown once more and confirmed.

pub mod flow;
mod forms;
mod guard;
mod html;
mod live;
mod proposal;
mod style;
mod usage;

use crate::drive::Clock;
use crate::http::{ResponseBody, channel, form, is_foreign, read_body};
use crate::ledger::Keeping;
use crate::setup::Bounds;
use crate::tasks::Tasks;
use bytes::Bytes;
use forms::Reader;
use guard::{Door, Visit};
use html::Html;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use mainstay_core::console::{self, LIVE_EVERY, Mark, STREAMS_MAX};
use mainstay_core::time::Time;
use proposal::{Proposal, field};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use usage::Usage;

/// Bytes of a form, which is a few lines.
const FORM_MAX: usize = 16 << 10;
/// What the console keeps below, besides the first page.
const BELOW: &str = "/-/console/";

/// What the operator's door shows and changes, by path.
pub trait Documents: Send + Sync {
    /// What is shown there.
    fn show(&self, path: &str) -> Option<Value>;
    /// Makes a change; the error says what is wrong with it.
    fn change(&self, path: &str, body: Bytes) -> Option<Result<Value, String>>;
    /// Whether something can be served, in words.
    fn ready(&self) -> String;
}

/// The console of one process. Cheap to clone.
#[derive(Clone)]
pub struct Console {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    door: Door,
    state: Mutex<console::Console<Proposal>>,
    usage: Arc<Usage>,
    bounds: Bounds,
    streams: Arc<Semaphore>,
    /// What screens were told last, and when.
    live: Mutex<Option<(Time, Bytes)>>,
    tasks: Tasks,
    shutdown: CancellationToken,
}

impl Console {
    /// A console that lets in whoever has the token with this hash. It asks the ledger that is
    /// kept so, if there is one.
    pub fn new(
        (token, clock): (Option<[u8; 32]>, Clock),
        ledger: Option<Keeping>,
        (bounds, shutdown): (Bounds, CancellationToken),
    ) -> Console {
        let inner = Inner {
            clock,
            door: Door { token },
            state: Mutex::default(),
            usage: Arc::new(Usage::new(ledger)),
            bounds: Bounds { body: FORM_MAX, ..bounds },
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            live: Mutex::default(),
            tasks: Tasks::default(),
            shutdown,
        };
        Console { inner: Arc::new(inner) }
    }

    /// Whether this is the console's to answer.
    pub fn takes<B>(&self, request: &Request<B>) -> bool {
        let accepted = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
        let is_browser = accepted.is_some_and(|accepted| accepted.contains("text/html"));
        let path = request.uri().path();
        path.starts_with(BELOW) || (path == "/" && is_browser)
    }

    /// The refusal, if the rest of the admin listener is closed to whoever sends this: there is a
    /// token, and it is not shown. A session's own browser may look.
    pub fn bars<B>(&self, request: &Request<B>) -> Option<Response<ResponseBody>> {
        let inner = &self.inner;
        if inner.door.token.is_none() || inner.door.has_token(request.headers()) {
            return None;
        }
        let is_look = request.method() == Method::GET || request.method() == Method::HEAD;
        let mark = guard::mark(request.headers()).filter(|_| is_look);
        let now = inner.clock.now();
        if mark.is_some_and(|mark| inner.state().lasts(now, &mark)) {
            return None;
        }
        let why = "the admin token is needed: `authorization: Bearer …`; commands take it from \
                   MAINSTAY_ADMIN_TOKEN";
        let body = json!({ "error": { "message": why } });
        let mut response = crate::http::json(StatusCode::UNAUTHORIZED, &body);
        guard::ask_for_token(&mut response);
        Some(response)
    }

    /// Answers one request.
    pub async fn answer(
        &self,
        request: Request<Incoming>,
        documents: Arc<dyn Documents>,
    ) -> Response<ResponseBody> {
        let (parts, body) = request.into_parts();
        if ![Method::GET, Method::HEAD, Method::POST].contains(&parts.method) {
            return not_by("GET, HEAD, POST");
        }
        let body = match parts.method == Method::POST {
            true => read_body(Request::new(body), &self.inner.bounds).await,
            false => Ok(Bytes::new()),
        };
        match body {
            Ok(body) => self.inner.clone().respond(&parts, &body, documents).await,
            Err(_) => told(StatusCode::BAD_REQUEST, "Not taken", "The form did not come whole."),
        }
    }
}

impl Inner {
    async fn respond(
        self: Arc<Self>,
        parts: &Parts,
        body: &Bytes,
        documents: Arc<dyn Documents>,
    ) -> Response<ResponseBody> {
        let is_post = parts.method == Method::POST;
        if let Some(why) = self.door.refusal(parts, is_post) {
            return told(StatusCode::FORBIDDEN, "Not from here", why);
        }
        let now = self.clock.now();
        let path = parts.uri.path();
        if is_post && path == "/-/console/login" {
            return self.login(now, parts, &form(body));
        }
        let visit = self.door.visit(now, parts, &mut self.state());
        let Some(visit) = visit else { return self.unknown(now, parts, documents).await };
        match (path, is_post) {
            ("/", false) => self.page(parts, &visit, documents).await,
            ("/-/console/events", false) => self.events(visit.mark, documents),
            ("/-/console/logout" | forms::ASK | forms::DO, true) => {
                let fields = form(body);
                if !guard::same(field(&fields, "token"), &visit.token) {
                    let why = "This form is not of your session. Nothing was done.";
                    return told(StatusCode::FORBIDDEN, "Not taken", why);
                }
                match path {
                    forms::ASK => self.ask(now, &visit, &fields),
                    forms::DO => self.act(now, &visit, &fields, &*documents),
                    _ => self.logout(&visit),
                }
            }
            ("/-/console/login" | "/-/console/logout" | forms::ASK | forms::DO, false) => {
                not_by("POST")
            }
            _ => told(StatusCode::NOT_FOUND, "Nothing here", "There is no such page."),
        }
    }

    /// Somebody without a session. On this machine and without a token everybody gets one.
    async fn unknown(
        &self,
        now: Time,
        parts: &Parts,
        documents: Arc<dyn Documents>,
    ) -> Response<ResponseBody> {
        if parts.method == Method::POST || parts.uri.path() != "/" {
            let why = "The session is over. Nothing was done.";
            return told(StatusCode::FORBIDDEN, "Not taken", why);
        }
        if is_foreign(&parts.headers) {
            // Whoever follows a link from elsewhere brings no cookie; and no page of others is to
            // open sessions here.
            let why = "You come from another site. Go on to the console from here.";
            return told(StatusCode::OK, "Mainstay console", why);
        }
        if self.door.token.is_some() {
            return login_page(StatusCode::UNAUTHORIZED, None);
        }
        let Some((name, visit)) = self.enter(now, parts, guard::CONSOLE) else {
            return no_chance();
        };
        let mut response = self.page(parts, &visit, documents).await;
        guard::set_cookie(&parts.headers, &name, &mut response);
        response
    }

    fn login(
        &self,
        now: Time,
        parts: &Parts,
        fields: &[(String, String)],
    ) -> Response<ResponseBody> {
        let from = guard::from(parts);
        let network = guard::peer(parts).map_or(0, guard::network);
        if self.door.token.is_none() {
            return told(
                StatusCode::NOT_FOUND,
                "Nothing here",
                "There is no token to log in with.",
            );
        }
        if !self.state().may_try(now, network) {
            let why = "Too many wrong tokens came from your network. Wait a few minutes.";
            return login_page(StatusCode::TOO_MANY_REQUESTS, Some(why));
        }
        let who = guard::author(field(fields, "name"));
        if !self.door.is_token(field(fields, "secret")) {
            self.state().wrong(now, network);
            tracing::warn!(fact = "console_refused", who, from, "a wrong admin token");
            return login_page(StatusCode::FORBIDDEN, Some("That is not the token."));
        }
        if let Some(mark) = guard::mark(&parts.headers) {
            self.state().leave(&mark);
        }
        let Some((name, _)) = self.enter(now, parts, &who) else { return no_chance() };
        tracing::info!(fact = "console_login", who, from);
        let mut response = see_first();
        guard::set_cookie(&parts.headers, &name, &mut response);
        response
    }

    /// Opens a session: its name, which the browser keeps.
    fn enter(&self, now: Time, parts: &Parts, who: &str) -> Option<(String, Visit)> {
        let (name, mark) = guard::draw()?;
        self.state().enter(now, mark, who.into());
        let visit = Visit::of(&name, who.into(), parts);
        Some((name, visit))
    }

    fn logout(&self, visit: &Visit) -> Response<ResponseBody> {
        self.state().leave(&visit.mark);
        tracing::info!(fact = "console_logout", who = visit.who, from = visit.from);
        see_first()
    }

    async fn page(
        &self,
        parts: &Parts,
        visit: &Visit,
        documents: Arc<dyn Documents>,
    ) -> Response<ResponseBody> {
        let query = form(parts.uri.query().unwrap_or_default().as_bytes());
        let reader = self.reader(visit);
        let mut html = Html::default();
        html.raw("<h1>How it goes</h1>\n");
        forms::greeting(&reader, &mut html);
        html.raw("<div id=\"live\">\n").add(&live::live(&*documents)).raw("</div>\n");
        forms::act(&*documents, &reader, &mut html);
        forms::keys(&*documents, (&reader, field(&query, "key")), &mut html);
        let asked = usage::asked(&query);
        let answer = self.usage.answer(self.clock.now(), asked).await;
        usage::show(asked, answer.as_ref(), &mut html);
        page(StatusCode::OK, "How it goes", &html)
    }

    /// What is filled in, shown once more.
    fn ask(&self, now: Time, visit: &Visit, fields: &[(String, String)]) -> Response<ResponseBody> {
        let mut html = Html::default();
        let drill = guard::number();
        let proposal = match Proposal::read(fields, (visit.who.as_str(), drill)) {
            Ok(proposal) => proposal,
            Err(why) => {
                html.raw("<h1>Not so</h1>\n<p class=\"card\" role=\"alert\">").text(&why);
                html.raw("</p>\n<p><a href=\"/\">Back to the console</a></p>\n");
                return page(StatusCode::BAD_REQUEST, "Not so", &html);
            }
        };
        let number = self.state().propose(now, &visit.mark, proposal.clone());
        let Some(number) = number else {
            let why = "The session is over. Nothing was done.";
            return told(StatusCode::FORBIDDEN, "Not taken", why);
        };
        forms::question((&proposal, number), &self.reader(visit), &mut html);
        page(StatusCode::OK, "Do you mean it?", &html)
    }

    /// It is meant.
    fn act(
        &self,
        now: Time,
        visit: &Visit,
        fields: &[(String, String)],
        documents: &dyn Documents,
    ) -> Response<ResponseBody> {
        let number = field(fields, "number").parse().ok();
        let proposal = number.and_then(|number| self.state().confirm(now, &visit.mark, number));
        let Some(mut proposal) = proposal else {
            let why = "It was done already, or shown too long ago. Nothing was done now.";
            return told(StatusCode::CONFLICT, "Not taken", why);
        };
        if proposal.can_be_much && field(fields, "much") == "yes" {
            proposal.body["confirm"] = json!(true);
        }
        let body = Bytes::from(proposal.body.to_string());
        let outcome = documents.change(proposal.path, body);
        let outcome = outcome.unwrap_or_else(|| Err("this process does not take that".into()));
        let (who, from, what) = (&visit.who, &visit.from, &proposal.title);
        // It holds no secret: that of a key is made where it is sent.
        let sent = proposal.body.to_string();
        match &outcome {
            Ok(_) => tracing::info!(fact = "console_done", who, from, what, sent),
            Err(why) => tracing::info!(fact = "console_not_done", who, from, what, sent, why),
        }
        let mut html = Html::default();
        forms::outcome(&proposal, &outcome, &mut html);
        match outcome {
            Ok(_) => page(StatusCode::OK, "Done", &html),
            Err(_) => page(StatusCode::BAD_REQUEST, "Not done", &html),
        }
    }

    /// The part of the page that changes, again and again, for as long as the session lasts.
    fn events(
        self: Arc<Self>,
        mark: Mark,
        documents: Arc<dyn Documents>,
    ) -> Response<ResponseBody> {
        let Ok(permit) = self.streams.clone().try_acquire_owned() else {
            let why = "As many screens are live as may be. Reload for what is new.";
            return told(StatusCode::SERVICE_UNAVAILABLE, "Too many screens", why);
        };
        let (sender, body) = channel();
        let inner = self.clone();
        self.tasks.spawn(async move {
            let _permit = permit;
            while inner.state().lasts(inner.clock.now(), &mark) {
                let told = inner.latest(&*documents);
                let next = async {
                    sender.send(told).await.ok()?;
                    tokio::time::sleep(LIVE_EVERY).await;
                    Some(())
                };
                let next = tokio::select! {
                    biased;
                    () = inner.shutdown.cancelled() => return sender.end(),
                    () = sender.closed() => return,
                    next = next => next,
                };
                if next.is_none() {
                    return;
                }
            }
            // Who has gone does not need to know.
            let _ = sender.send(Bytes::from_static(b"event: over\ndata: 0\n\n")).await;
            sender.end();
        });
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    /// What all screens are told at this moment: written once for all of them.
    fn latest(&self, documents: &dyn Documents) -> Bytes {
        let now = self.clock.now();
        let mut known = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, told)) = known.as_ref().filter(|(at, _)| now < *at + LIVE_EVERY / 2) {
            return told.clone();
        }
        let text = Value::from(live::live(documents).into_string());
        let told = Bytes::from(format!("data: {text}\n\n"));
        *known = Some((now, told.clone()));
        told
    }

    fn reader<'a>(&self, visit: &'a Visit) -> Reader<'a> {
        Reader { who: &visit.who, token: &visit.token, logged_in: self.door.token.is_some() }
    }

    fn state(&self) -> MutexGuard<'_, console::Console<Proposal>> {
        // Each call leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_chance() -> Response<ResponseBody> {
    let why = "The system gives no random numbers, so nobody is let in.";
    told(StatusCode::INTERNAL_SERVER_ERROR, "Not now", why)
}

fn login_page(status: StatusCode, why: Option<&'static str>) -> Response<ResponseBody> {
    let mut html = Html::default();
    forms::login(why, &mut html);
    let mut response = page(status, "Log in", &html);
    if status == StatusCode::UNAUTHORIZED {
        guard::ask_for_token(&mut response);
    }
    response
}

fn not_by(allowed: &'static str) -> Response<ResponseBody> {
    let why = "It is not asked for like this.";
    let mut response = told(StatusCode::METHOD_NOT_ALLOWED, "Nothing here", why);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// A page that only says something.
fn told(status: StatusCode, title: &'static str, why: &'static str) -> Response<ResponseBody> {
    let mut html = Html::default();
    forms::notice(title, why, &mut html);
    page(status, title, &html)
}

fn page(status: StatusCode, title: &'static str, html: &Html) -> Response<ResponseBody> {
    // Without random numbers nothing of the page is styled or runs, and it works all the same.
    let nonce = guard::draw().map(|(name, _)| name).unwrap_or_default();
    let mut response = Response::new(ResponseBody::from(html::frame(title, &nonce, html)));
    *response.status_mut() = status;
    guard::headers(&nonce, &mut response);
    response
}

/// Sends the browser to the first page.
fn see_first() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(""));
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_static("/"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
