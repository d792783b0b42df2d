//! The client's side of an answer: a stream of events, or one reply put together at the end.
//!
//! A status line is a promise, so it goes out with the first token, not before; a client that
//! waits long gets comments under a status of 200 and, should everything fail, an error event.

use crate::dialect::assemble::Assembly;
use crate::dialect::event::{Chunk, Endpoint};
use crate::error;
use crate::http::{BodySender, Left, ResponseBody, channel};
use bytes::{BufMut, Bytes, BytesMut};
use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use mainstay_core::gateway::refusal::Refusal;
use mainstay_core::names::Failure;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

/// A client that takes no byte for so long is closed (F51).
const UNREAD_MAX: Duration = Duration::from_secs(60);
/// Taking longer than this to hand a chunk over means that the client is the slow one.
const SLOW: Duration = Duration::from_millis(20);

/// What the headers say of how a request was answered.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// The site that answers.
    pub site: String,
    /// Attempts so far.
    pub attempts: u8,
    /// Whether the embedded engine answers in place of what was asked.
    pub degraded: bool,
}

/// Where an answer goes.
pub struct Client {
    head: Option<oneshot::Sender<Response<ResponseBody>>>,
    form: Form,
}

enum Form {
    /// A stream that has not begun.
    Waiting,
    Stream(BodySender),
    Plain(Box<Assembly>),
    Over,
}

/// How long handing something over took, if the client was slow.
pub type Slowness = Option<Duration>;

impl Client {
    /// A client that waits at `head`.
    pub fn new(
        head: oneshot::Sender<Response<ResponseBody>>,
        stream: bool,
        endpoint: Endpoint,
    ) -> Client {
        let form =
            if stream { Form::Waiting } else { Form::Plain(Box::new(Assembly::new(endpoint))) };
        Client { head: Some(head), form }
    }

    /// Returns when the client has left.
    pub async fn left(&mut self) {
        match (&mut self.head, &self.form) {
            (Some(head), _) => head.closed().await,
            (None, Form::Stream(body)) => body.closed().await,
            (None, Form::Waiting | Form::Plain(_) | Form::Over) => std::future::pending().await,
        }
    }

    /// Whether a status line is out.
    pub fn has_begun(&self) -> bool {
        self.head.is_none()
    }

    /// Whether it reads an answer as it comes.
    pub fn is_stream(&self) -> bool {
        matches!(self.form, Form::Waiting | Form::Stream(_))
    }

    /// Begins the stream, if it is one and has not begun.
    pub fn begin(&mut self, marks: &Marks) {
        if !matches!(self.form, Form::Waiting) {
            return;
        }
        let (sender, body) = channel();
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        mark(&mut response, marks);
        self.form = Form::Stream(sender);
        self.answer(response);
    }

    /// Hands chunks over. An error is the client's leaving.
    pub async fn chunks(&mut self, chunks: Vec<Bytes>) -> Result<Slowness, Stop> {
        match &mut self.form {
            Form::Stream(body) => {
                let Some(text) = events(&chunks) else { return Ok(None) };
                send(body, text).await
            }
            Form::Plain(assembly) => {
                for json in chunks {
                    let chunk = Chunk { json, ..Chunk::default() };
                    assembly.push(&chunk).map_err(Stop::TooBig)?;
                }
                Ok(None)
            }
            Form::Waiting | Form::Over => Ok(None),
        }
    }

    /// Keeps the line alive.
    pub async fn comment(&mut self) -> Result<Slowness, Stop> {
        match &self.form {
            Form::Stream(body) => send(body, Bytes::from_static(b": waiting\n\n")).await,
            Form::Waiting | Form::Plain(_) | Form::Over => Ok(None),
        }
    }

    /// The answer is whole: `plain` as it came, or what was put together.
    pub async fn done(&mut self, plain: Option<Bytes>, (id, model): (&str, &str), marks: &Marks) {
        match std::mem::replace(&mut self.form, Form::Over) {
            Form::Stream(body) => {
                let sent = send(&body, Bytes::from_static(b"data: [DONE]\n\n")).await;
                if sent.is_ok() {
                    body.end();
                }
            }
            Form::Plain(assembly) => {
                let whole = plain.unwrap_or_else(|| assembly.finish(id, model).into());
                let mut response = Response::new(ResponseBody::from(whole));
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(CONTENT_TYPE, json);
                mark(&mut response, marks);
                self.answer(response);
            }
            Form::Waiting | Form::Over => {}
        }
    }

    /// There is no whole answer.
    pub async fn refuse(&mut self, refusal: &Refusal, marks: &Marks) {
        let form = std::mem::replace(&mut self.form, Form::Over);
        if let Form::Stream(body) = form {
            let event = format!("data: {}\n\n", error::body(refusal));
            // Without a finish reason, a sentinel or an end, even a client that skips the event
            // notices.
            let _ = send(&body, event.into()).await;
            body.cut();
            return;
        }
        let mut response = error::response(refusal);
        mark(&mut response, marks);
        self.answer(response);
    }

    fn answer(&mut self, response: Response<ResponseBody>) {
        if let Some(head) = self.head.take() {
            // If nobody waits any more, the client has left, which is noticed by itself.
            let _ = head.send(response);
        }
    }
}

/// Why an answer cannot be handed over.
#[derive(Debug)]
pub enum Stop {
    /// The client left, or stopped reading.
    Left,
    /// The reply put together has become too big.
    TooBig(Failure),
}

async fn send(body: &BodySender, text: Bytes) -> Result<Slowness, Stop> {
    let started = Instant::now();
    match timeout(UNREAD_MAX, body.send(text)).await {
        Ok(Ok(())) => {
            let took = started.elapsed();
            Ok((took > SLOW).then_some(took))
        }
        Ok(Err(Left)) | Err(_) => Err(Stop::Left),
    }
}

fn events(chunks: &[Bytes]) -> Option<Bytes> {
    let size: usize = chunks.iter().map(|c| c.len() + 8).sum();
    let mut text = BytesMut::with_capacity(size);
    for chunk in chunks {
        text.put_slice(b"data: ");
        text.put_slice(chunk);
        text.put_slice(b"\n\n");
    }
    (!text.is_empty()).then(|| text.freeze())
}

fn mark(response: &mut Response<ResponseBody>, marks: &Marks) {
    let headers = response.headers_mut();
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("x-mainstay-attempts", &marks.attempts.to_string());
    if !marks.site.is_empty() {
        set("x-mainstay-site", &marks.site);
    }
    if marks.degraded {
        set("x-mainstay-degraded", "embedded");
    }
}
