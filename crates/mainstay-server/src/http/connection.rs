//! Watches one client connection: how long it may be silent, stuck or idle.
//!
//! hyper's own limit on a request's head runs while a kept-alive connection is merely idle, and
//! none covers the first bytes or a client that stops reading. So the limits are kept here, by
//! what the connection is doing.

use futures_util::task::AtomicWaker;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long an idle connection is kept; longer than common clients keep theirs, so that they close
/// first and none sends a request into our close.
const IDLE_LIMIT: Duration = Duration::from_secs(75);
/// A client that takes not one byte for so long is gone (F51).
const WRITE_LIMIT: Duration = Duration::from_secs(60);
/// HTTP/2 begins with these bytes.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// HTTP/2 sends from its own queue; the last words of a stream that is cut get this long to leave.
const FLUSH_LIMIT_HTTP2: Duration = Duration::from_millis(100);

/// The client's address, among the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// What a connection, its requests and their bodies know of each other.
#[derive(Default)]
pub(super) struct Flow {
    requests: AtomicUsize,
    begun: AtomicU64,
    http2: AtomicBool,
    flushes: AtomicU64,
    reader: AtomicWaker,
}

impl Flow {
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.begun.fetch_add(1, Ordering::AcqRel);
        self.requests.fetch_add(1, Ordering::AcqRel);
        Busy(self.clone())
    }

    pub(super) fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Acquire)
    }

    /// The count of flushes after which everything handed over until now has left. On HTTP/2 the
    /// next flush may have begun before.
    pub(super) fn flushes_needed(&self) -> u64 {
        self.flushes() + if self.http2.load(Ordering::Acquire) { 2 } else { 1 }
    }

    pub(super) fn patience(&self, http1: Duration) -> Duration {
        match self.http2.load(Ordering::Acquire) {
            true => FLUSH_LIMIT_HTTP2,
            false => http1,
        }
    }
}

/// A request in progress on a connection.
pub(super) struct Busy(Arc<Flow>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
        self.0.reader.wake();
    }
}

/// The socket, plain or TLS, with its limits.
pub(super) struct Watched<T> {
    io: T,
    flow: Arc<Flow>,
    head_limit: Duration,
    matched: usize,
    begun: u64,
    phase: Phase,
    read_timer: Pin<Box<Sleep>>,
    write_timer: Pin<Box<Sleep>>,
    writing_stuck: bool,
}

/// What is being waited for while nothing can be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A request's head.
    Head,
    /// Nothing: a request is being answered.
    Busy,
    /// The next request.
    Idle,
}

impl<T> Watched<T> {
    pub(super) fn new(io: T, flow: Arc<Flow>, head_limit: Duration) -> Watched<T> {
        let now = Instant::now();
        Watched {
            io,
            flow,
            head_limit,
            matched: 0,
            begun: 0,
            phase: Phase::Head,
            read_timer: Box::pin(sleep_until(now + head_limit)),
            write_timer: Box::pin(sleep_until(now)),
            writing_stuck: false,
        }
    }

    /// Bytes came.
    fn note(&mut self, bytes: &[u8]) {
        if self.matched < PREFACE.len() {
            let expected = &PREFACE[self.matched..PREFACE.len().min(self.matched + bytes.len())];
            if bytes.starts_with(expected) {
                self.matched += expected.len();
            } else {
                self.matched = usize::MAX;
            }
            if self.matched == PREFACE.len() {
                self.flow.http2.store(true, Ordering::Release);
            }
        }
        if self.flow.requests.load(Ordering::Acquire) == 0 && self.phase != Phase::Head {
            // On HTTP/2, frames other than requests come too: any of them only proves life.
            let http2 = self.flow.http2.load(Ordering::Acquire);
            self.begun = self.flow.begun.load(Ordering::Acquire);
            self.wait(if http2 { Phase::Idle } else { Phase::Head });
        }
    }

    fn wait(&mut self, phase: Phase) {
        self.phase = phase;
        let limit = match phase {
            Phase::Busy => return,
            Phase::Head => self.head_limit,
            Phase::Idle => IDLE_LIMIT,
        };
        self.read_timer.as_mut().reset(Instant::now() + limit);
    }

    /// Nothing to read: how long that may go on.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Registered before the look, so that a request ending just now wakes us.
        self.flow.reader.register(cx.waker());
        if self.flow.requests.load(Ordering::Acquire) > 0 {
            self.phase = Phase::Busy;
            return Poll::Pending;
        }
        // A request may begin and end between two reads that found nothing.
        let begun = self.flow.begun.load(Ordering::Acquire);
        if self.phase == Phase::Busy || self.begun != begun {
            self.begun = begun;
            self.wait(Phase::Idle);
        }
        match self.read_timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    /// A write is or is not stuck: how long it may stay so.
    fn check_write<R>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if result.is_ready() {
            self.writing_stuck = false;
            return result;
        }
        if !self.writing_stuck {
            self.writing_stuck = true;
            self.write_timer.as_mut().reset(Instant::now() + WRITE_LIMIT);
        }
        match self.write_timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.io).poll_read(cx, buffer) {
            Poll::Ready(result) => {
                if buffer.filled().len() > before {
                    this.note(&buffer.filled()[before..]);
                }
                Poll::Ready(result)
            }
            Poll::Pending => this.poll_silence(cx),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.check_write(cx, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.io).poll_write_vectored(cx, slices);
        this.check_write(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.io).poll_flush(cx);
        if let Poll::Ready(Ok(())) = result {
            this.flow.flushes.fetch_add(1, Ordering::AcqRel);
        }
        this.check_write(cx, result)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.io).poll_shutdown(cx);
        this.check_write(cx, result)
    }
}
