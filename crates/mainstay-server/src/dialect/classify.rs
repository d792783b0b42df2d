//! From a reply that is not an answer to what it means.
//!
//! The order of evidence is the order of the rules: the dialect's own, then those of `generic`,
//! which end with one for each hundred of the status. Whatever bytes come, a class comes out.

use super::evidence::{self, Evidence};
use super::{Dialect, builtin, retry_after, wording};
use http::HeaderMap;
use mainstay_core::names::{ClientFault, ErrorClass, Failure};
use serde_json::Value;

/// More of an error body than this says nothing more.
const BODY_MAX: usize = 64 * 1024;

/// A whole reply, as it came.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body, or the first 64 KiB of it.
    pub body: &'a [u8],
}

/// Which rule decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    /// The dialect's own rule at this position of `Dialect::class`.
    Own(usize),
    /// The rule of `generic` at this position.
    Generic(usize),
    /// No rule: a success that is neither answer nor error, or an error nothing is known of.
    Nothing,
}

impl Dialect {
    /// What a reply that is not an answer means. Never panics, whatever the bytes are.
    pub fn classify(&self, reply: &Reply<'_>) -> Failure {
        self.explain(reply).0
    }

    /// The same, with the rule that decided.
    pub fn explain(&self, reply: &Reply<'_>) -> (Failure, Basis) {
        let body = &reply.body[..reply.body.len().min(BODY_MAX)];
        let value = json(body);
        let success = (200..300).contains(&reply.status);
        if success && !value.as_ref().is_some_and(|v| evidence::is_error(self, v)) {
            return (neither(reply.status, value.is_some()), Basis::Nothing);
        }
        let text = String::from_utf8_lossy(body);
        let value = value.unwrap_or_else(|| sentence(&text));
        let status = Some(reply.status).filter(|_| !success);
        let seen = Evidence::of(self, status, Some(reply.headers), &value);
        let (mut failure, basis) = self.conclude(&seen);
        failure.status = failure.status.or(Some(reply.status));
        failure.retry_after = retry_after(reply.headers);
        if (300..400).contains(&reply.status) {
            failure.message = redirect(reply.headers);
        }
        (failure, basis)
    }

    /// The failure that a JSON value tells of, which is the body of a 200 or an event of a stream;
    /// `None` if it is no error.
    pub fn error_in(&self, value: &Value) -> Option<Failure> {
        evidence::is_error(self, value)
            .then(|| self.conclude(&Evidence::of(self, None, None, value)).0)
    }

    /// What a finish reason outside the success set means.
    pub fn failed_finish(&self, reason: &str) -> Failure {
        let known = self.finish.get(reason).or_else(|| builtin::generic().finish.get(reason));
        let class = known.copied().unwrap_or(ErrorClass::Transient);
        let reason = wording::clean(reason, wording::WORD_MAX);
        let mut failure = Failure::ours(class, format!("finish reason \"{reason}\""));
        failure.code = Some(reason);
        failure
    }

    /// The provider's own name for the request, to quote to its support.
    pub fn request_id(&self, reply: &Reply<'_>) -> Option<String> {
        let named = ["x-request-id", "request-id"].iter().find_map(|h| reply.headers.get(*h));
        let header = named.and_then(|v| v.to_str().ok()).map(str::to_owned);
        let value = json(&reply.body[..reply.body.len().min(BODY_MAX)]).unwrap_or_default();
        let id = Evidence::of(self, None, None, &value).request_id().or(header)?;
        Some(wording::clean(&id, wording::WORD_MAX)).filter(|id| !id.is_empty())
    }

    fn conclude(&self, seen: &Evidence<'_>) -> (Failure, Basis) {
        let (class, basis) = self.judge(seen);
        let word = |text: &str| wording::clean(text, wording::WORD_MAX);
        let failure = Failure {
            class,
            status: seen.status,
            code: seen.code.as_deref().map(word),
            kind: seen.kind.as_deref().map(word),
            param: seen.param().as_deref().map(word),
            message: message(seen),
            retry_after: None,
            limit: match class {
                ErrorClass::ClientFault(ClientFault::Context) => seen.window(),
                ErrorClass::ClientFault(ClientFault::Size) => seen.size(),
                _ => None,
            },
        };
        (failure, basis)
    }

    fn judge(&self, seen: &Evidence<'_>) -> (ErrorClass, Basis) {
        if let Some(at) = self.class.iter().position(|rule| rule.holds(seen)) {
            return (self.class[at].is, Basis::Own(at));
        }
        let generic = &builtin::generic().class;
        match generic.iter().position(|rule| rule.holds(seen)) {
            Some(at) => (generic[at].is, Basis::Generic(at)),
            None => (ErrorClass::Transient, Basis::Nothing),
        }
    }
}

/// A success that is not an answer: a login page, an empty body, JSON of another trade.
fn neither(status: u16, is_json: bool) -> Failure {
    let what = if is_json { "JSON that is neither answer nor error" } else { "not JSON" };
    let mut failure = Failure::ours(ErrorClass::PoisonedStream, what);
    failure.status = Some(status);
    failure
}

/// Where a redirect points, for the operator; it is never followed. What stands behind the question
/// mark may be a secret of a login page.
fn redirect(headers: &HeaderMap) -> String {
    let to = headers.get(http::header::LOCATION).and_then(|v| v.to_str().ok()).unwrap_or("nowhere");
    let to = to.split(['?', '#']).next().unwrap_or_default();
    format!("redirect to {}", wording::clean(to, wording::WORD_MAX))
}

fn message(seen: &Evidence<'_>) -> String {
    let kept = match wording::is_markup(&seen.message) {
        true => String::new(),
        false => wording::clean(&seen.message, wording::MESSAGE_MAX),
    };
    match (kept.is_empty(), seen.status) {
        (false, _) => kept,
        (true, Some(status)) => format!("status {status} without a readable message"),
        (true, None) => "an error without a readable message".into(),
    }
}

/// The object in a body: the body itself, the first of a list, or the first event of a stream that
/// was answered to something that asked for one.
fn json(body: &[u8]) -> Option<Value> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
    let whole: Option<Value> = serde_json::from_slice(body).ok();
    let value = whole.or_else(|| {
        let mut lines = body.split(|b| *b == b'\n' || *b == b'\r');
        lines.find_map(|line| serde_json::from_slice(line.strip_prefix(b"data:")?).ok())
    })?;
    match value {
        Value::Array(mut list) if list.first().is_some_and(Value::is_object) => {
            Some(list.swap_remove(0))
        }
        Value::Object(_) => Some(value),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            None
        }
    }
}

/// A body without JSON, as if it were `{"error": "…"}`; half a JSON document is not a sentence.
fn sentence(text: &str) -> Value {
    let text = text.trim_start();
    match text.starts_with(['{', '[', '<']) || text.contains('\u{fffd}') {
        true => Value::Null,
        false => serde_json::json!({ "error": text }),
    }
}
