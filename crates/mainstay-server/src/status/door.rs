//! What the public asks for, and what it gets. Nothing changes by asking; the only thing that is
//! taken is a report.

use super::words::Language;
use super::{Desk, View, badge, feed, html, json, reports};
use crate::http::{Peer, ResponseBody, decoded, form, read_body};
use crate::setup::{Bounds, Setup};
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, Instant};

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const RSS: &str = "application/rss+xml; charset=utf-8";
const ATOM: &str = "application/atom+xml; charset=utf-8";
const SVG: &str = "image/svg+xml; charset=utf-8";
/// A cache may go on showing what it has where nobody answers.
const CACHED: &str = "max-age=10, stale-if-error=600";
/// The page needs nothing but its own style, and no other site may put it into a frame.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Answers the public. Cheap to clone.
#[derive(Clone)]
pub struct Door {
    desk: Arc<Desk>,
    began: Instant,
}

impl Door {
    /// A door that shows what `desk` decides.
    pub fn new(desk: Arc<Desk>) -> Door {
        Door { desk, began: Instant::now() }
    }

    /// Answers one request; of those with a body only a report is taken.
    pub async fn serve(
        &self,
        request: Request<Incoming>,
        bounds: &Bounds,
    ) -> Response<ResponseBody> {
        if request.method() != Method::POST || request.uri().path() != "/report" {
            return self.answer(&request);
        }
        let headers = request.headers().clone();
        let language = Language::asked(request.uri().query(), &headers);
        let Some(Peer(peer)) = request.extensions().get::<Peer>().copied() else {
            return missing();
        };
        let bounds = Bounds { body: reports::BODY_MAX, ..bounds.clone() };
        let told = match read_body(request, &bounds).await {
            Ok(body) => self.desk.told(peer.ip(), &headers, &form(&body)),
            Err(_) => reports::Told { taken: reports::Taken::Wrong, key: None },
        };
        let status = match told.taken {
            reports::Taken::Yes => StatusCode::OK,
            reports::Taken::TooMany => StatusCode::TOO_MANY_REQUESTS,
            reports::Taken::Foreign => StatusCode::FORBIDDEN,
            reports::Taken::Wrong => StatusCode::BAD_REQUEST,
        };
        let (view, _) = self.look();
        let view = View { here: String::from("report"), ..view };
        let mut response = plain(status, HTML, reports::page(&view, language, Some(told)));
        guard(language, &mut response);
        response
    }

    /// Answers one request that takes nothing in. Its body, if it has one, is of no interest.
    pub fn answer<B>(&self, request: &Request<B>) -> Response<ResponseBody> {
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, TEXT, "use GET or HEAD\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let header = |name: HeaderName| {
            let text = request.headers().get(name).and_then(|value| value.to_str().ok());
            text.unwrap_or_default()
        };
        let mut response = match request.uri().path() {
            "/healthz" => return plain(StatusCode::OK, TEXT, "ok\n"),
            "/en" => self.page(super::words::English),
            "/zh" => self.page(super::words::Chinese),
            "/badge.svg" => self.badge(request.uri().query().unwrap_or_default()),
            "/history.rss" => self.feed(RSS, feed::rss),
            "/history.atom" => self.feed(ATOM, feed::atom),
            path => match path.strip_prefix("/api/v2/") {
                Some(rest) => self.document(rest),
                None => self.told(path, Language::asked(request.uri().query(), request.headers())),
            },
        };
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // Without a referrer at all browsers say of the form that it comes from nowhere.
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        let known = header(IF_NONE_MATCH);
        let is_known = headers.get(ETAG).and_then(|tag| tag.to_str().ok()).is_some_and(|tag| {
            known == "*" || known.split(',').any(|each| each.trim().trim_start_matches("W/") == tag)
        });
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response.headers_mut().remove(CONTENT_TYPE);
            *response.body_mut() = ResponseBody::from("");
        }
        response
    }

    fn page(&self, language: Language) -> Response<ResponseBody> {
        let green = self.desk.lock().config.green;
        self.html((language, ""), |view| Some(html::page(view, language, green)))
    }

    /// A page in the language of its path, or the one that was asked for.
    fn told(&self, path: &str, asked: Language) -> Response<ResponseBody> {
        let of = |each: &Language| path.strip_prefix(each.path());
        let named = Language::ALL.iter().find_map(|each| Some((*each, of(each)?)));
        let whole = (asked, path.trim_start_matches('/'));
        let (language, rest) = named.unwrap_or(whole);
        let at = (language, rest);
        let mut response = match rest {
            "" => self.page(language),
            "history" => self.html(at, |view| Some(html::history(view, language))),
            "report" => self.html(at, |view| Some(reports::page(view, language, None))),
            _ => match rest.split_once('/') {
                Some(("incidents", id)) => self.html(at, |view| html::incident(view, language, id)),
                Some(("maintenance", id)) => {
                    self.html(at, |view| html::maintenance(view, language, id))
                }
                _ => missing(),
            },
        };
        if named.is_none() {
            response.headers_mut().insert(VARY, HeaderValue::from_static("accept-language"));
        }
        response
    }

    fn html(
        &self,
        (language, here): (Language, &str),
        page: impl FnOnce(&View) -> Option<String>,
    ) -> Response<ResponseBody> {
        let (view, _) = self.look();
        let view = View { here: here.to_owned(), ..view };
        let Some(page) = page(&view) else { return missing() };
        let mut response = cached(HTML, page);
        guard(language, &mut response);
        response
    }

    fn feed(
        &self,
        kind: &'static str,
        feed: impl FnOnce(&View, &str) -> String,
    ) -> Response<ResponseBody> {
        let (view, _) = self.look();
        let base = view.names.url.clone().unwrap_or_default();
        let mut response = cached(kind, feed(&view, base.trim_end_matches('/')));
        open(&mut response);
        response
    }

    fn document(&self, path: &str) -> Response<ResponseBody> {
        let (view, _) = self.look();
        let Some(document) = json::document(&view, path, self.began.elapsed()) else {
            return missing();
        };
        let mut response = cached(JSON, format!("{document}\n"));
        open(&mut response);
        response
    }

    fn badge(&self, query: &str) -> Response<ResponseBody> {
        let (view, _) = self.look();
        let named = query.split('&').find_map(|pair| pair.strip_prefix("component="));
        let named = named.map(decoded).filter(|name| !name.is_empty());
        let Some(badge) = badge::badge(&view, named.as_deref()) else { return missing() };
        let mut response = cached(SVG, badge);
        open(&mut response);
        response
    }

    fn look(&self) -> (View, Duration) {
        (self.desk.view(), self.desk.lock().config.green)
    }
}

/// What was kept, as it is shown where nothing runs.
pub struct Still {
    door: Door,
}

impl Still {
    /// What the node of this setup has kept.
    pub fn of(setup: &Setup) -> Still {
        Still { door: Door::new(Desk::new(setup)) }
    }

    /// The answer for a path; none if there is no such page.
    pub fn answer(&self, path: &str) -> Option<String> {
        let response = self.door.answer(&Request::get(path).body(()).ok()?);
        let is_there = response.status() == StatusCode::OK;
        let body = response.into_body().whole().filter(|_| is_there)?;
        String::from_utf8(body.to_vec()).ok()
    }
}

/// What browsers are told of a page.
fn guard(language: Language, response: &mut Response<ResponseBody>) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// Pages of others may read it.
fn open(response: &mut Response<ResponseBody>) {
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
}

fn cached(kind: &'static str, body: String) -> Response<ResponseBody> {
    let hash = Sha256::digest(&body);
    let tag: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let mut response = plain(StatusCode::OK, kind, body);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(CACHED));
    if let Ok(tag) = HeaderValue::try_from(format!("\"{tag}\"")) {
        headers.insert(ETAG, tag);
    }
    response
}

fn missing() -> Response<ResponseBody> {
    plain(StatusCode::NOT_FOUND, TEXT, "nothing here; the page is at /, and /api/v2/summary.json\n")
}

fn plain(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<ResponseBody>,
) -> Response<ResponseBody> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
