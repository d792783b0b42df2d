//! The gateway's side of an attempt at a site: the site's first word as a status and a header,
//! then events or one body, with signs of life between them.

use crate::dialect::event::Endpoint;
use crate::error;
use crate::handover;
use crate::http::{BodySender, ResponseBody, channel};
use bytes::{BufMut, Bytes, BytesMut};
use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use mainstay_core::gateway::refusal::Refusal;
use mainstay_core::message::{Ack, Reason, Refuse};
use mainstay_core::names::{ClientFault, ErrorClass, Failure};
use tokio::sync::oneshot;

/// Where an answer goes.
pub struct Reply {
    head: Option<oneshot::Sender<Response<ResponseBody>>>,
    body: Option<BodySender>,
    is_stream: bool,
}

/// The gateway left.
#[derive(Debug)]
pub struct Left;

impl Reply {
    /// A reply to who waits at `head`. Only embeddings are no stream.
    pub fn new(head: oneshot::Sender<Response<ResponseBody>>, endpoint: Endpoint) -> Reply {
        Reply { head: Some(head), body: None, is_stream: endpoint != Endpoint::Embeddings }
    }

    /// Returns when the gateway has left.
    pub async fn left(&mut self) {
        match (&mut self.head, &self.body) {
            (Some(head), _) => head.closed().await,
            (None, Some(body)) => body.closed().await,
            (None, None) => std::future::pending().await,
        }
    }

    /// The attempt is in.
    pub fn begin(&mut self, ack: &Ack) {
        let Some(head) = self.head.take() else { return };
        let (sender, body) = channel();
        let mut response = Response::new(body);
        let kind =
            if self.is_stream { "text/event-stream; charset=utf-8" } else { "application/json" };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Some(value) = handover::acknowledge(ack) {
            headers.insert(handover::ACK, value);
        }
        self.body = Some(sender);
        // If nobody waits any more, the gateway has left, which is noticed by itself.
        let _ = head.send(response);
    }

    /// The attempt is not, or no longer, in.
    pub async fn refuse(&mut self, refuse: &Refuse) {
        let what = "this site does not take the request now";
        if let Some(head) = self.head.take() {
            let status = match refuse.reason {
                Reason::Overloaded | Reason::NoWorker | Reason::Draining => 503,
                Reason::TooLate => 504,
                Reason::NotMine => 421,
            };
            let _ = head.send(super::refused(refuse, status, what));
            return;
        }
        self.fail(&Refusal {
            status: 503,
            kind: ErrorClass::Overload.word().into(),
            retry_after: Some(refuse.retry_after),
            ..error::of_caller(503, &handover::handing_back(refuse), what)
        })
        .await;
    }

    /// The worker's answer cannot be given: its class as the error's type.
    pub async fn broken(&mut self, failure: &Failure) {
        let status = failure.status.unwrap_or(match failure.class {
            ErrorClass::ClientFault(ClientFault::Size) => 413,
            ErrorClass::ClientFault(_) | ErrorClass::Policy => 400,
            _ => 502,
        });
        let refusal = Refusal {
            status,
            kind: failure.class.word().into(),
            param: failure.param.clone(),
            retry_after: failure.retry_after,
            ..error::of_caller(
                status,
                failure.code.as_deref().unwrap_or("failed"),
                &failure.message,
            )
        };
        match self.head.take() {
            Some(head) => {
                let _ = head.send(error::response(&refusal));
            }
            None => self.fail(&refusal).await,
        }
    }

    /// Events of the answer.
    pub async fn events(&mut self, chunks: &[Bytes]) -> Result<(), Left> {
        let size: usize = chunks.iter().map(|chunk| chunk.len() + 8).sum();
        let mut text = BytesMut::with_capacity(size);
        for chunk in chunks {
            text.put_slice(b"data: ");
            text.put_slice(chunk);
            text.put_slice(b"\n\n");
        }
        self.send(text.freeze()).await
    }

    /// A sign of life.
    pub async fn beat(&mut self) -> Result<(), Left> {
        let beat: &'static [u8] = if self.is_stream { b": beat\n\n" } else { b"\n" };
        self.send(Bytes::from_static(beat)).await
    }

    /// The whole of an answer that is no stream.
    pub async fn whole(&mut self, json: Bytes) {
        let sent = self.send(json).await;
        if let Some(body) = self.body.take().filter(|_| sent.is_ok()) {
            body.end();
        }
    }

    /// The answer is whole.
    pub async fn done(&mut self) {
        self.whole(Bytes::from_static(b"data: [DONE]\n\n")).await;
    }

    async fn send(&self, bytes: Bytes) -> Result<(), Left> {
        match &self.body {
            Some(body) => body.send(bytes).await.map_err(|_| Left),
            None => Ok(()),
        }
    }

    /// An error after the status: an event, and no proper end.
    async fn fail(&mut self, refusal: &Refusal) {
        let event = match self.is_stream {
            true => format!("data: {}\n\n", error::body(refusal)),
            false => error::body(refusal).to_string(),
        };
        let _ = self.send(event.into()).await;
        if let Some(body) = self.body.take() {
            body.cut();
        }
    }
}
