//! What a client reads when there is no whole answer.
//!
//! The first attempt's failure decides the status. The message names what was tried, in order, by
//! sites and classes, and says when to come back. A fault of ours or of a provider is never told as
//! the caller's.

use crate::fact::Why;
use crate::names::{ClientFault, ErrorClass, Failure, Scope};
use crate::time::Duration;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// An error in OpenAI's shape, with the status that goes with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// `type` in OpenAI's error object.
    pub kind: String,
    /// `code`.
    pub code: String,
    /// `message`.
    pub message: String,
    /// `param`.
    pub param: Option<String>,
    /// When to come back.
    pub retry_after: Option<Duration>,
}

/// One attempt that failed, as the message tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    /// The site's name.
    pub site: String,
    /// What was seen.
    pub why: Why,
    /// How long it had been quiet when it was given up.
    pub quiet: Duration,
    /// What it means.
    pub failure: Failure,
    /// When this target may be asked again, if that is known.
    pub back: Option<Duration>,
}

/// The refusal after these attempts, the first of which decides.
pub fn after_attempts(tried: &[Tried], took: Duration, next: Option<Duration>) -> Refusal {
    let Some(first) = tried.first() else {
        return no_site("no site is left to ask", next);
    };
    let message = story(tried, took, next);
    let soon = next.unwrap_or(Duration::from_secs(1));
    match first.failure.class {
        ErrorClass::ClientFault(fault) => client_fault(&first.failure, fault),
        ErrorClass::Policy => policy(&first.failure),
        ErrorClass::ThrottleAccount | ErrorClass::ThrottleBurst => overloaded(message, soon),
        // A queue that never gave a token is one attempt that failed, not a refusal for load.
        ErrorClass::Overload if first.why == Why::Reply => overloaded(message, soon),
        ErrorClass::OurAuth | ErrorClass::OurBilling | ErrorClass::Dead(Scope::Model) => {
            no_site(&message, next)
        }
        ErrorClass::Dead(Scope::Site) if first.why == Why::Reply => no_site(&message, next),
        _ if first.why == Why::Empty => failed("empty_answer", message, soon),
        _ => failed("upstream_failed", message, soon),
    }
}

/// 503: no capacity for this tier, or throttles and overload everywhere.
pub fn overloaded(message: String, back: Duration) -> Refusal {
    refusal(503, "overloaded_error", "overloaded", message, Some(back))
}

/// 503: no usable site.
pub fn no_site(message: &str, next: Option<Duration>) -> Refusal {
    refusal(503, "service_error", "no_site", message.to_string(), next)
}

/// 504: the deadline passed.
pub fn expired(tried: &[Tried], took: Duration) -> Refusal {
    let message = format!("{}the deadline of the request passed", story_prefix(tried, took));
    refusal(504, "timeout_error", "deadline", message, None)
}

/// 400: no site that there is could ever serve it.
pub fn impossible(window: Option<u64>, prompt: u32, missing: bool) -> Refusal {
    if missing {
        let message = "no configured site offers what this request asks for".to_string();
        return refusal(400, "invalid_request_error", "unsupported", message, None);
    }
    let most = window.map_or_else(String::new, |w| format!("{}; ", largest_window(w)));
    let message = format!("{most}this request has about {prompt} tokens");
    let mut refusal =
        refusal(400, "invalid_request_error", "context_length_exceeded", message, None);
    refusal.param = Some("messages".to_string());
    refusal
}

/// 413: no site takes a body of this size.
pub fn too_large(most: u64) -> Refusal {
    let message = largest_body(most);
    refusal(413, "invalid_request_error", "request_too_large", message, None)
}

/// Words for the largest window there is, as far as it is known.
pub fn largest_window(tokens: u64) -> String {
    format!("the largest context window on offer is {tokens} tokens")
}

/// Words for the largest body that is taken, as far as refusals have told.
pub fn largest_body(bytes: u64) -> String {
    format!("the largest body on offer is {bytes} bytes or less")
}

fn client_fault(failure: &Failure, fault: ClientFault) -> Refusal {
    let (status, code) = match fault {
        ClientFault::Invalid => (400, "invalid_request"),
        ClientFault::Context => (400, "context_length_exceeded"),
        ClientFault::Size => (413, "request_too_large"),
        ClientFault::Unsupported => (400, "unsupported"),
    };
    Refusal {
        status,
        kind: failure.kind.clone().unwrap_or_else(|| "invalid_request_error".to_string()),
        code: failure.code.clone().unwrap_or_else(|| code.to_string()),
        message: failure.message.clone(),
        param: failure.param.clone(),
        retry_after: None,
    }
}

fn policy(failure: &Failure) -> Refusal {
    let message = failure.message.clone();
    refusal(400, "invalid_request_error", "content_policy_violation", message, None)
}

fn failed(code: &str, message: String, back: Duration) -> Refusal {
    let back = back.clamp(Duration::from_secs(1), Duration::from_secs(5));
    refusal(502, "service_error", code, message, Some(back))
}

fn refusal(
    status: u16,
    kind: &str,
    code: &str,
    message: String,
    retry_after: Option<Duration>,
) -> Refusal {
    let (kind, code) = (kind.to_string(), code.to_string());
    Refusal { status, kind, code, message, param: None, retry_after }
}

fn story(tried: &[Tried], took: Duration, next: Option<Duration>) -> String {
    let mut text = story_prefix(tried, took);
    match next {
        Some(next) => {
            text.push_str(&format!("try again in {} s", seconds_up(next).max(1)));
        }
        None => text.push_str("nothing is left to try"),
    }
    text
}

fn story_prefix(tried: &[Tried], took: Duration) -> String {
    let mut parts: Vec<String> = tried.iter().map(phrase).collect();
    let attempts = if tried.len() == 1 { "attempt" } else { "attempts" };
    parts.push(format!("{} {attempts}, {:.1} s; ", tried.len(), took.as_secs_f64()));
    parts.join("; ")
}

fn seconds_up(time: Duration) -> u64 {
    time.as_millis().div_ceil(1000) as u64
}

fn phrase(tried: &Tried) -> String {
    let quiet = tried.quiet.as_secs_f64();
    let what = match tried.why {
        Why::Silent => format!("no byte for {quiet:.1} s"),
        Why::NoFirstToken => format!("no token for {quiet:.1} s"),
        Why::Stalled => format!("stalled for {quiet:.1} s"),
        Why::Dripped => "too slow".to_string(),
        Why::Cut => "cut off".to_string(),
        Why::Empty => "empty answer".to_string(),
        Why::Mismatch => "could not continue the answer".to_string(),
        Why::Reply => reply(&tried.failure),
    };
    match tried.back {
        Some(back) => {
            format!("{}: {what}, back in {} s", tried.site, seconds_up(back))
        }
        None => format!("{}: {what}", tried.site),
    }
}

fn reply(failure: &Failure) -> String {
    let words = match failure.class {
        ErrorClass::ClientFault(_) => "does not take this request",
        ErrorClass::Policy => "content policy",
        ErrorClass::OurAuth => "our key is refused",
        ErrorClass::OurBilling => "our account cannot pay",
        ErrorClass::ThrottleAccount => "throttled",
        ErrorClass::ThrottleBurst => "growing too fast",
        ErrorClass::Overload => "overloaded",
        ErrorClass::Transient => "failed",
        ErrorClass::Dead(Scope::Site) => "unreachable",
        ErrorClass::Dead(Scope::Model) => "model not there",
        ErrorClass::PoisonedStream => "unreadable answer",
    };
    match failure.status {
        Some(status) => format!("{status} {words}"),
        None => words.to_string(),
    }
}
