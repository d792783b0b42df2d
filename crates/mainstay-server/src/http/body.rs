//! What a response carries: all at once, or a stream that may be cut.
//!
//! A stream ends cleanly only when its sender says so. A sender that is dropped, by a panic or by
//! a forgotten path, leaves the body unterminated (HTTP/2: RST_STREAM), so that no client takes
//! half an answer for a whole one.

use super::connection::{Busy, Flow};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Sleep, sleep};

/// Bytes of one stream that wait for its client here; with hyper's and the kernel's share it stays
/// within the 256 KiB of C12 and F51.
const BUFFERED_MAX: u32 = 128 * 1024;
/// Chunks of one stream that wait: enough that a burst of small tokens is not held up by count.
const CHUNKS_MAX: usize = 256;
/// How often a stream about to be cut looks whether its last words have left, and how long a slow
/// client may keep it looking.
const FLUSH_LOOK: Duration = Duration::from_millis(2);
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

/// The body of a response.
pub struct ResponseBody {
    content: Content,
    busy: Option<Busy>,
}

enum Content {
    Full(Option<Bytes>),
    Stream(Box<Stream>),
}

impl ResponseBody {
    /// Ties the body to the connection it is written to; `busy` lasts as long as the body.
    pub(super) fn attach(&mut self, flow: Arc<Flow>, busy: Busy) {
        self.busy = Some(busy);
        if let Content::Stream(stream) = &mut self.content {
            stream.flow = Some(flow);
        }
    }
}

impl ResponseBody {
    /// All of it, if it is there already.
    pub fn whole(self) -> Option<Bytes> {
        match self.content {
            Content::Full(bytes) => bytes,
            Content::Stream(_) => None,
        }
    }
}

/// The stream was cut: its body stays unterminated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the answer was cut")
    }
}

impl std::error::Error for Cut {}

/// The client has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left;

/// A streamed body and the end that feeds it.
pub fn channel() -> (BodySender, ResponseBody) {
    let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
    let ended = Arc::new(AtomicBool::new(false));
    let room = Arc::new(Semaphore::new(BUFFERED_MAX as usize));
    let stream = Stream { chunks, ended: ended.clone(), flow: None, farewell: None };
    let content = Content::Stream(Box::new(stream));
    (BodySender { chunks: sender, room, ended }, ResponseBody { content, busy: None })
}

/// A response whose whole body is `body`, as JSON.
pub fn json(status: StatusCode, body: &serde_json::Value) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl From<Bytes> for ResponseBody {
    fn from(bytes: Bytes) -> ResponseBody {
        ResponseBody { content: Content::Full(Some(bytes)), busy: None }
    }
}

impl From<String> for ResponseBody {
    fn from(text: String) -> ResponseBody {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for ResponseBody {
    fn from(text: &'static str) -> ResponseBody {
        Bytes::from(text).into()
    }
}

/// Feeds a streamed body. Dropping it without `end` cuts the stream.
pub struct BodySender {
    chunks: mpsc::Sender<Chunk>,
    room: Arc<Semaphore>,
    ended: Arc<AtomicBool>,
}

impl BodySender {
    /// Hands over `bytes`; waits while the client reads more slowly than this is called.
    pub async fn send(&self, bytes: Bytes) -> Result<(), Left> {
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX).clamp(1, BUFFERED_MAX);
        let room = tokio::select! {
            biased;
            () = self.chunks.closed() => return Err(Left),
            room = self.room.clone().acquire_many_owned(size) => room.map_err(|_| Left)?,
        };
        self.chunks.send(Chunk { bytes, _room: room }).await.map_err(|_| Left)
    }

    /// Returns when the client has left.
    pub async fn closed(&self) {
        self.chunks.closed().await;
    }

    /// Whether the client has left.
    pub fn is_closed(&self) -> bool {
        self.chunks.is_closed()
    }

    /// Whether everything sent so far has been taken over for writing: if not, it is the client
    /// that is slow.
    pub fn is_drained(&self) -> bool {
        self.room.available_permits() == BUFFERED_MAX as usize
    }

    /// The answer is whole.
    pub fn end(self) {
        self.ended.store(true, Ordering::Release);
    }

    /// The answer is not whole and will not be: what was sent is written, then the body is left
    /// unterminated.
    pub fn cut(self) {}
}

struct Chunk {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// The reading side of a streamed body.
struct Stream {
    chunks: mpsc::Receiver<Chunk>,
    ended: Arc<AtomicBool>,
    flow: Option<Arc<Flow>>,
    farewell: Option<Farewell>,
}

/// Wait of a stream about to be cut until what was sent has left: hyper drops what it still holds
/// when a body fails.
struct Farewell {
    flushes: u64,
    until: Instant,
    look: Pin<Box<Sleep>>,
}

impl Stream {
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(flow) = &self.flow else { return Poll::Ready(()) };
        let farewell = self.farewell.get_or_insert_with(|| Farewell {
            flushes: flow.flushes_needed(),
            until: Instant::now() + flow.patience(FLUSH_LIMIT),
            look: Box::pin(sleep(FLUSH_LOOK)),
        });
        loop {
            if flow.flushes() >= farewell.flushes || Instant::now() >= farewell.until {
                return Poll::Ready(());
            }
            ready!(farewell.look.as_mut().poll(cx));
            farewell.look.as_mut().reset(Instant::now() + FLUSH_LOOK);
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut self.get_mut().content {
            Content::Full(bytes) => {
                Poll::Ready(bytes.take().filter(|b| !b.is_empty()).map(|b| Ok(Frame::data(b))))
            }
            Content::Stream(stream) => match ready!(stream.chunks.poll_recv(cx)) {
                Some(chunk) => Poll::Ready(Some(Ok(Frame::data(chunk.bytes)))),
                None if stream.ended.load(Ordering::Acquire) => Poll::Ready(None),
                None => {
                    ready!(stream.poll_farewell(cx));
                    Poll::Ready(Some(Err(Cut)))
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.content, Content::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Content::Stream(_) => SizeHint::default(),
        }
    }
}
