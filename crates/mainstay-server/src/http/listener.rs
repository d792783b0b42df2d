//! Accepts connections and serves each in its own task, until told to stop.

use super::body::{ResponseBody, json};
use super::connection::{Flow, Peer, Watched};
use crate::setup::Bounds;
use crate::tasks::Tasks;
use futures_util::FutureExt;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use socket2::SockRef;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Most headers of a request.
const HEADERS_MAX: usize = 128;
/// hyper takes no smaller buffer.
const BUFFER_LEAST: usize = 8 * 1024;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// What one HTTP/2 stream may have in flight to us, and we to it (C12).
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
const STREAM_SEND_MAX: usize = 64 * 1024;
/// Unsent bytes the kernel may hold for a slow reader; without it, megabytes (F51).
#[cfg(target_os = "linux")]
const UNSENT_MAX: u32 = 64 * 1024;
/// Clients turned away at the cap are told so, this many at once, each for at most so long.
const TURNING_AWAY_MAX: usize = 64;
const TURNING_AWAY_LIMIT: Duration = Duration::from_secs(1);
/// Pause after a failed accept, which is nearly always want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const TURNED_AWAY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
content-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n\
content-length: 129\r\n\r\n\
{\"error\":{\"message\":\"too many connections to this gateway\",\
\"type\":\"overloaded_error\",\"code\":\"overloaded\",\"param\":null}}         \n";

/// A door: where to listen and within which bounds.
pub struct Front {
    /// Where connections come from.
    pub arrivals: Arrivals,
    /// TLS, if the door has its own.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Bounds on what a client may send, as they are for connections that come from then on.
    pub bounds: watch::Receiver<Bounds>,
    /// How long requests in progress may take after shutdown.
    pub drain: Duration,
    /// What is counted.
    pub counters: Arc<Counters>,
}

/// Where connections come from.
pub enum Arrivals {
    /// A bound socket.
    Listener(TcpListener),
    /// Someone who accepts for several doors.
    Handed(mpsc::Receiver<(std::net::TcpStream, SocketAddr)>),
}

impl Arrivals {
    /// The next connection; `None` when no more will come.
    async fn next(&mut self) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        match self {
            Arrivals::Listener(listener) => Some(listener.accept().await),
            Arrivals::Handed(handed) => {
                let (stream, peer) = handed.recv().await?;
                Some(TcpStream::from_std(stream).map(|stream| (stream, peer)))
            }
        }
    }
}

/// What the doors of one address count together.
#[derive(Debug)]
pub struct Counters {
    /// Connections that may still be taken.
    slots: Arc<Semaphore>,
    /// Connections open now.
    pub open: AtomicU64,
    /// Connections turned away at the cap.
    pub turned_away: AtomicU64,
    /// Requests whose code panicked.
    pub panics: AtomicU64,
}

impl Counters {
    /// Counters of doors that take so many connections at once.
    pub fn new(connections: usize) -> Arc<Counters> {
        let (open, turned_away, panics) = Default::default();
        let slots = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
        Arc::new(Counters { slots, open, turned_away, panics })
    }
}

/// Serves `service` until `shutdown` is cancelled, then lets requests in progress finish for
/// `Front::drain` and cuts what is left. Returns when no connection is left.
///
/// The service's future is dropped when the client leaves, and by half-closing it leaves (F50).
/// Each request carries its [`Peer`].
pub async fn serve<S>(front: Front, service: S, shutdown: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<ResponseBody>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    let Front { mut arrivals, tls, mut bounds, drain, counters } = front;
    let tasks = Tasks::default();
    let slots = counters.slots.clone();
    let manners = Arc::new(Semaphore::new(TURNING_AWAY_MAX));
    let tls = tls.map(TlsAcceptor::from);
    let host = |bounds: &Bounds| {
        Arc::new(Host {
            builder: builder(bounds, tasks.clone()),
            tls: tls.clone(),
            head_time: bounds.head_time,
            counters: counters.clone(),
            soft: shutdown.clone(),
        })
    };
    let mut now = host(&bounds.borrow_and_update());
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = arrivals.next() => accepted,
        };
        let (stream, peer) = match accepted {
            Some(Ok(accepted)) => accepted,
            Some(Err(_)) => {
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
            None => break,
        };
        // Nobody sends other bounds any more: then these hold.
        if bounds.has_changed().unwrap_or(false) {
            now = host(&bounds.borrow_and_update());
        }
        match slots.clone().try_acquire_owned() {
            Ok(slot) => {
                let guest = Guest { host: now.clone(), peer, service: service.clone() };
                tasks.spawn(guest.receive(stream, slot));
            }
            Err(_) => {
                counters.turned_away.fetch_add(1, Ordering::Relaxed);
                if tls.is_none()
                    && let Ok(permit) = manners.clone().try_acquire_owned()
                {
                    tasks.spawn(turn_away(stream, permit));
                }
            }
        }
    }
    drop(arrivals);
    if timeout(drain, tasks.wait()).await.is_err() {
        tasks.cancel();
        tasks.wait().await;
    }
}

/// Serves connections that somebody else accepted and knows.
pub struct Known {
    host: Arc<Host>,
    tasks: Tasks,
}

impl Known {
    /// A door for such connections; it closes with `shutdown`.
    pub fn new(bounds: &Bounds, shutdown: CancellationToken) -> Known {
        let tasks = Tasks::default();
        let host = Arc::new(Host {
            builder: builder(bounds, tasks.clone()),
            tls: None,
            head_time: bounds.head_time,
            counters: Counters::new(bounds.connections),
            soft: shutdown,
        });
        Known { host, tasks }
    }

    /// Serves `stream`, which came from `peer`; false if there is no room.
    pub fn serve<T, S>(&self, stream: T, peer: SocketAddr, service: S) -> bool
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<ResponseBody>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
    {
        let Ok(slot) = self.host.counters.slots.clone().try_acquire_owned() else {
            self.host.counters.turned_away.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        let guest = Guest { host: self.host.clone(), peer, service };
        let open = Open::new(self.host.counters.clone());
        self.tasks.spawn(async move {
            guest.serve(stream).await;
            drop((open, slot));
        });
        true
    }

    /// Ends what is still open after `drain`.
    pub async fn close(&self, drain: Duration) {
        if timeout(drain, self.tasks.wait()).await.is_err() {
            self.tasks.cancel();
            self.tasks.wait().await;
        }
    }
}

fn builder(bounds: &Bounds, tasks: Tasks) -> auto::Builder<Tasks> {
    let mut builder = auto::Builder::new(tasks);
    builder
        .http1()
        .timer(TokioTimer::new())
        .half_close(false)
        .max_headers(HEADERS_MAX)
        .max_buf_size(bounds.head.max(BUFFER_LEAST))
        .header_read_timeout(None);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(STREAM_SEND_MAX)
        .max_header_list_size(u32::try_from(bounds.head).unwrap_or(u32::MAX));
    builder
}

/// Tells a client that there is no room, without reading what it wants.
async fn turn_away(mut stream: TcpStream, _permit: OwnedSemaphorePermit) {
    let _ = timeout(TURNING_AWAY_LIMIT, async {
        stream.write_all(TURNED_AWAY).await?;
        stream.shutdown().await?;
        // Closing with its request unread would reset the connection and take our words back.
        let mut sink = [0u8; 1024];
        while stream.read(&mut sink).await? > 0 {}
        io::Result::Ok(())
    })
    .await;
}

/// What all connections of a door share.
struct Host {
    builder: auto::Builder<Tasks>,
    tls: Option<TlsAcceptor>,
    head_time: Duration,
    counters: Arc<Counters>,
    soft: CancellationToken,
}

/// One connection.
struct Guest<S> {
    host: Arc<Host>,
    peer: SocketAddr,
    service: S,
}

impl<S> Guest<S>
where
    S: Service<Request<Incoming>, Response = Response<ResponseBody>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    async fn receive(self, stream: TcpStream, _slot: OwnedSemaphorePermit) {
        let host = self.host.clone();
        let _open = Open::new(host.counters.clone());
        let _ = stream.set_nodelay(true);
        #[cfg(target_os = "linux")]
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_MAX);
        self.greet(stream).await;
    }

    async fn greet(self, stream: TcpStream) {
        let Some(tls) = self.host.tls.clone() else { return self.serve(stream).await };
        if let Ok(Ok(stream)) = timeout(self.host.head_time, tls.accept(stream)).await {
            self.serve(stream).await;
        }
    }

    async fn serve<T>(self, stream: T)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let flow = Arc::new(Flow::default());
        let io = TokioIo::new(Watched::new(stream, flow.clone(), self.host.head_time));
        let Guest { host, peer, service } = self;
        let counters = host.counters.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            let service = service.clone();
            let future = async move { service.call(request).await };
            answer(future, flow.clone(), counters.clone())
        });
        let connection = host.builder.serve_connection(io, service);
        tokio::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = host.soft.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}

/// A connection that is counted as open, however it ends.
struct Open(Arc<Counters>);

impl Open {
    fn new(counters: Arc<Counters>) -> Open {
        counters.open.fetch_add(1, Ordering::Relaxed);
        Open(counters)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs one request: a panic becomes one 500, counted.
async fn answer<F>(
    future: F,
    flow: Arc<Flow>,
    counters: Arc<Counters>,
) -> Result<Response<ResponseBody>, Infallible>
where
    F: Future<Output = Result<Response<ResponseBody>, Infallible>>,
{
    let busy = flow.begin();
    let mut response = match AssertUnwindSafe(future).catch_unwind().await {
        Ok(Ok(response)) => response,
        Err(_) => {
            counters.panics.fetch_add(1, Ordering::Relaxed);
            broken()
        }
    };
    response.body_mut().attach(flow, busy);
    Ok(response)
}

fn broken() -> Response<ResponseBody> {
    let body = serde_json::json!({"error": {
        "message": "this gateway failed on your request; the fault is counted and not yours",
        "type": "service_error",
        "code": "internal",
        "param": null,
    }});
    json(StatusCode::INTERNAL_SERVER_ERROR, &body)
}
