//! Turns an error of connecting, sending or reading into the class that decides what happens next.
//!
//! The protocols prove little: that nothing was written, REFUSED_STREAM, and a GOAWAY that does not
//! cover the stream. Only these let a request be sent again as if it had never been.

pub use mainstay_core::gateway::request::Sent;
use mainstay_core::names::{ClientFault, ErrorClass, Failure, Scope};
use std::error::Error;
use std::io;

/// Why a request got no reply, or a reply no end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendError {
    /// Its class, with words of ours.
    pub failure: Failure,
    /// What the upstream can have seen.
    pub sent: Sent,
    /// A reused connection died before any byte of the reply.
    pub stale: bool,
    /// Words for the operator, where someone has to mend something.
    pub alarm: Option<String>,
}

impl SendError {
    pub(super) fn new(class: ErrorClass, sent: Sent, message: impl Into<String>) -> SendError {
        SendError { failure: Failure::ours(class, message), sent, stale: false, alarm: None }
    }

    /// The site cannot be reached.
    pub(super) fn dead(message: impl Into<String>) -> SendError {
        SendError::new(ErrorClass::Dead(Scope::Site), Sent::Nothing, message)
    }

    /// What came cannot be trusted.
    pub(super) fn poisoned(message: impl Into<String>) -> SendError {
        SendError::new(ErrorClass::PoisonedStream, Sent::Maybe, message)
    }

    /// The request cannot be written down as HTTP.
    pub(super) fn malformed(message: String) -> SendError {
        SendError::new(ErrorClass::ClientFault(ClientFault::Invalid), Sent::Nothing, message)
    }

    pub(super) fn with_alarm(mut self, alarm: impl Into<String>) -> SendError {
        self.alarm = Some(alarm.into());
        self
    }
}

/// What a site that is not there comes to.
pub fn refused() -> SendError {
    of_connect(&io::ErrorKind::ConnectionRefused.into())
}

/// What a connection that ends too early comes to.
pub fn cut_off() -> SendError {
    transient(Sent::Maybe, "connection closed before the end")
}

/// A failure to open a TCP connection. Running out of our own descriptors or ports says nothing
/// about the site, so it is overload, which health ignores.
pub(super) fn of_connect(error: &io::Error) -> SendError {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    let ours = matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
        || error.kind() == io::ErrorKind::AddrNotAvailable;
    if ours {
        let message = format!("this machine cannot open a connection: {error}");
        return SendError::new(ErrorClass::Overload, Sent::Nothing, message.clone())
            .with_alarm(message);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => SendError::dead("connection refused"),
        _ => SendError::dead(format!("no connection: {error}")),
    }
}

/// A failure of an exchange, before or after the head of the reply; `sent` is what is known from
/// the bytes written and holds unless the protocol says better.
pub(super) fn of_exchange(error: &hyper::Error, sent: Sent) -> SendError {
    if let Some(reset) = source::<h2::Error>(error) {
        return of_http2(reset, sent);
    }
    if error.is_parse_too_large() {
        return SendError { sent, ..SendError::poisoned("the reply's head is too large") };
    }
    if error.is_parse() {
        return SendError { sent, ..SendError::poisoned("the reply is not HTTP") };
    }
    if let Some(cause) = source::<io::Error>(error) {
        if cause.kind() == io::ErrorKind::InvalidData || cause.kind() == io::ErrorKind::InvalidInput
        {
            return SendError { sent, ..SendError::poisoned("the reply's framing is broken") };
        }
        return transient(sent, format!("connection lost: {}", cause.kind()));
    }
    SendError { sent, ..cut_off() }
}

fn of_http2(error: &h2::Error, sent: Sent) -> SendError {
    let reason = error.reason().unwrap_or(h2::Reason::NO_ERROR);
    // h2 gives a remote GOAWAY as a stream's error only if it does not cover that stream; one that
    // is covered goes on, or ends with an I/O error.
    let refused = error.is_remote()
        && (error.is_go_away() || (error.is_reset() && reason == h2::Reason::REFUSED_STREAM));
    let sent = match refused && sent == Sent::Maybe {
        true => Sent::NotProcessed,
        false => sent,
    };
    if reason == h2::Reason::ENHANCE_YOUR_CALM && error.is_remote() {
        return SendError::new(ErrorClass::ThrottleBurst, sent, "HTTP/2 ENHANCE_YOUR_CALM");
    }
    if error.is_library() {
        let message = format!("the reply is not valid HTTP/2: {}", reason.description());
        return SendError { sent, ..SendError::poisoned(message) };
    }
    if error.is_io() {
        return transient(sent, "connection lost");
    }
    let what = if error.is_go_away() { "GOAWAY" } else { "RST_STREAM" };
    transient(sent, format!("HTTP/2 {what}: {}", reason.description()))
}

fn transient(sent: Sent, message: impl Into<String>) -> SendError {
    SendError::new(ErrorClass::Transient, sent, message)
}

/// The first error of type `E` on the way down from `error`.
pub(super) fn source<E: Error + 'static>(error: &hyper::Error) -> Option<&E> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<E>() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}
