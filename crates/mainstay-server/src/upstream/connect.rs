//! Opens connections: name, TCP, TLS and the choice of HTTP version, all within one limit.

use super::fault::{self, SendError};
use super::pool::{Many, One, Pool};
use super::resolve::Names;
use super::{HEAD_MAX, HEADERS_MAX, Http2, tls};
use crate::link::Link;
use crate::tasks::Tasks;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// Data the peer does not acknowledge for so long means that it is gone (F44).
const UNANSWERED_MAX: Duration = Duration::from_secs(5);
/// An idle or listening connection is proved alive: first probe, then the next ones.
const PROBE_AFTER: Duration = Duration::from_secs(15);
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// The same by HTTP/2 pings, only while streams are open: some servers punish more.
const PING_EVERY: Duration = Duration::from_secs(15);
/// What one stream and one connection may have in flight to us unread (C12). The connection's
/// share is wider, so that one slow reader does not stop its neighbours.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// Streams a peer is taken to allow until its SETTINGS come.
const STREAMS_ASSUMED: usize = 100;
/// With several addresses, none may use up the whole limit, but each gets at least this.
const ADDRESS_LEAST: Duration = Duration::from_millis(250);

/// An open connection, ready for a request.
pub(super) enum Opened {
    /// HTTP/1.1: one request at a time.
    One(One),
    /// HTTP/2: many at once.
    Many(Arc<Many>),
}

/// How connections to one origin are opened.
pub(super) struct Door {
    /// Whom the certificate must be made out to.
    pub(super) certificate: String,
    /// It is this process itself.
    pub(super) within: Option<Link>,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    pub(super) http2: Http2,
    pub(super) limit: Duration,
    pub(super) names: Arc<Names>,
    pub(super) pool: Arc<Pool>,
    pub(super) tasks: Tasks,
    pub(super) turn: Turn,
}

/// Where HTTP/2 is expected, one request opens the connection and the others wait to share it.
pub(super) struct Turn {
    shared: AtomicBool,
    one: Semaphore,
}

impl Turn {
    pub(super) fn new(shared: bool) -> Turn {
        Turn { shared: AtomicBool::new(shared), one: Semaphore::new(1) }
    }
}

impl Door {
    /// A connection, and whether it had carried a request before.
    pub(super) async fn open(&self) -> Result<(Opened, bool), SendError> {
        let deadline = Instant::now() + self.limit;
        if !self.turn.shared.load(Ordering::Relaxed) {
            return Ok((self.open_new(deadline).await?, false));
        }
        let _turn = timeout_at(deadline, self.turn.one.acquire())
            .await
            .map_err(|_| SendError::dead(format!("no connection within {:?}", self.limit)))?;
        match self.pool.take_shared() {
            Some(many) => Ok((Opened::Many(many), true)),
            None => Ok((self.open_new(deadline).await?, false)),
        }
    }

    async fn open_new(&self, deadline: Instant) -> Result<Opened, SendError> {
        if let Some(link) = &self.within {
            let no_room = |_| SendError::dead("the site of this process takes no connection");
            return self.speak(Wire::Within(link.within().map_err(no_room)?), false).await;
        }
        let late = |what: &str| SendError::dead(format!("{what} within {:?}", self.limit));
        let addresses = timeout_at(deadline, self.names.addresses())
            .await
            .map_err(|_| late("no address"))?
            .map_err(SendError::dead)?;
        let tcp = self.reach(&addresses, deadline).await?;
        let Some(config) = &self.tls else {
            return self.speak(Wire::Plain(tcp), self.http2 == Http2::PriorKnowledge).await;
        };
        let name = ServerName::try_from(self.certificate.clone()).map_err(|_| {
            SendError::dead("not a name for TLS").with_alarm(format!(
                "{:?} is no name a certificate can be made out to",
                self.certificate
            ))
        })?;
        let connector = tokio_rustls::TlsConnector::from(config.clone());
        let stream = timeout_at(deadline, connector.connect(name, tcp))
            .await
            .map_err(|_| late("no TLS handshake"))?
            .map_err(|e| tls::fault(&e, &self.certificate))?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2".as_slice())
            || self.http2 == Http2::PriorKnowledge;
        self.speak(Wire::Tls(Box::new(stream)), http2).await
    }

    /// The first address that takes a connection.
    async fn reach(
        &self,
        addresses: &[SocketAddr],
        deadline: Instant,
    ) -> Result<TcpStream, SendError> {
        let mut last = SendError::dead("no address");
        for (tried, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = (left / (addresses.len() - tried) as u32).max(ADDRESS_LEAST);
            let until = deadline.min(Instant::now() + share);
            match timeout_at(until, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => {
                    self.names.prefer(address.ip());
                    prepare(&tcp);
                    return Ok(tcp);
                }
                Ok(Err(error)) => last = fault::of_connect(&error),
                Err(_) => last = SendError::dead(format!("no connection within {:?}", self.limit)),
            }
        }
        Err(last)
    }

    async fn speak(&self, wire: Wire, many: bool) -> Result<Opened, SendError> {
        self.turn.shared.store(many, Ordering::Relaxed);
        let traffic = Arc::new(Traffic::default());
        let io = TokioIo::new(Counted { wire, traffic: traffic.clone() });
        let id = self.pool.next_id();
        let pool = Arc::downgrade(&self.pool);
        let forget = move || {
            if let Some(pool) = pool.upgrade() {
                pool.forget(id);
            }
        };
        if many {
            let (sender, mut connection) =
                self.http2_builder().handshake(io).await.map_err(handshake)?;
            let streams_max = Arc::new(AtomicUsize::new(STREAMS_ASSUMED));
            let many = Many::new(id, sender, streams_max.clone());
            self.tasks.spawn(async move {
                let _ = poll_fn(|cx| {
                    let done = Pin::new(&mut connection).poll(cx);
                    streams_max.store(connection.current_max_send_streams(), Ordering::Relaxed);
                    done
                })
                .await;
                forget();
            });
            return Ok(Opened::Many(self.pool.share(many)));
        }
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_MAX)
            .max_header_size(HEAD_MAX)
            .max_headers(HEADERS_MAX)
            .handshake(io)
            .await
            .map_err(handshake)?;
        let task = self.tasks.spawn(async move {
            let _ = connection.await;
            forget();
        });
        Ok(Opened::One(One::new(id, sender, traffic, task)))
    }

    fn http2_builder(&self) -> http2::Builder<Tasks> {
        let mut builder = http2::Builder::new(self.tasks.clone());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEAD_MAX as u32)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(UNANSWERED_MAX);
        builder
    }
}

fn handshake(error: hyper::Error) -> SendError {
    fault::of_exchange(&error, fault::Sent::Nothing)
}

/// Sets what every connection has. A kernel that refuses one of these only notices less quickly.
fn prepare(tcp: &TcpStream) {
    let _ = tcp.set_nodelay(true);
    let socket = SockRef::from(tcp);
    let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY);
    let _ = socket.set_tcp_keepalive(&probes);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(UNANSWERED_MAX));
}

/// Bytes that passed, so that "nothing was written" and "nothing came back" are known, not guessed.
#[derive(Default)]
pub(super) struct Traffic {
    read: AtomicU64,
    written: AtomicU64,
}

impl Traffic {
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Acquire)
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    Within(DuplexStream),
}

struct Counted {
    wire: Wire,
    traffic: Arc<Traffic>,
}

impl Counted {
    fn count_write(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(n)) = result {
            self.traffic.written.fetch_add(n as u64, Ordering::AcqRel);
        }
        result
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Wire::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
            Wire::Within(pipe) => Pin::new(pipe).poll_read(cx, buffer),
        };
        let came = buffer.filled().len() - before;
        self.traffic.read.fetch_add(came as u64, Ordering::AcqRel);
        result
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Wire::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
            Wire::Within(pipe) => Pin::new(pipe).poll_write(cx, bytes),
        };
        self.count_write(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Wire::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, slices),
            Wire::Within(pipe) => Pin::new(pipe).poll_write_vectored(cx, slices),
        };
        self.count_write(result)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Wire::Tls(tls) => Pin::new(tls).poll_flush(cx),
            Wire::Within(pipe) => Pin::new(pipe).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Wire::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            Wire::Within(pipe) => Pin::new(pipe).poll_shutdown(cx),
        }
    }
}
