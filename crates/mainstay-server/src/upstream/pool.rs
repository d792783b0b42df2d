//! Keeps open connections for the next request, and carries a request over one.
//!
//! HTTP/1.1 connections lie here only while idle, the last used on top: under falling load the
//! rest grow old together and close. HTTP/2 connections lie here from birth and are shared.

use super::Inner;
use super::connect::{Opened, Traffic};
use super::fault::{self, SendError, Sent};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use mainstay_core::names::ErrorClass;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

/// Idle connections kept per origin; more than this is a burst that has passed.
const IDLE_MAX: usize = 128;
/// Shorter than the keep-alive of common front ends (60–75 s), so that we close first and the
/// race between their close and our request stays rare.
const IDLE_LIMIT: Duration = Duration::from_secs(45);
/// A connection that just ended a reply needs a moment to become ready; one that needs longer is
/// still busy with something else.
const READY_LIMIT: Duration = Duration::from_millis(20);
/// A new connection is ready as soon as its task runs; on a busy machine that takes a while.
const READY_LIMIT_NEW: Duration = Duration::from_secs(1);

type Sender1 = http1::SendRequest<Full<Bytes>>;
type Sender2 = http2::SendRequest<Full<Bytes>>;

/// An HTTP/1.1 connection. Dropping it closes the socket at once.
pub(super) struct One {
    id: u64,
    sender: Sender1,
    traffic: Arc<Traffic>,
    task: AbortHandle,
    idle_since: Instant,
}

impl One {
    pub(super) fn new(id: u64, sender: Sender1, traffic: Arc<Traffic>, task: AbortHandle) -> One {
        One { id, sender, traffic, task, idle_since: Instant::now() }
    }

    fn is_fresh(&self) -> bool {
        !self.sender.is_closed() && self.idle_since.elapsed() < IDLE_LIMIT
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An HTTP/2 connection. It closes when the pool and the last stream have let go of it.
pub(super) struct Many {
    id: u64,
    sender: Sender2,
    streams: AtomicUsize,
    streams_max: Arc<AtomicUsize>,
    used: Mutex<Instant>,
}

impl Many {
    /// `streams_max` is what the peer allows, kept up to date by the connection's task.
    pub(super) fn new(id: u64, sender: Sender2, streams_max: Arc<AtomicUsize>) -> Many {
        let used = Mutex::new(Instant::now());
        Many { id, sender, streams: AtomicUsize::new(0), streams_max, used }
    }

    /// Whether the peer lets us open one more stream.
    fn has_room(&self) -> bool {
        self.streams.load(Ordering::Relaxed) < self.streams_max.load(Ordering::Relaxed).max(1)
    }

    fn is_fresh(&self) -> bool {
        let used = *self.used.lock().expect("no panic under this lock");
        let busy = self.streams.load(Ordering::Relaxed) > 0;
        !self.sender.is_closed() && (busy || used.elapsed() < IDLE_LIMIT)
    }
}

/// One stream's place on a shared connection.
pub(super) struct Place(Arc<Many>);

impl Place {
    fn new(many: Arc<Many>) -> Place {
        many.streams.fetch_add(1, Ordering::Relaxed);
        Place(many)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.used.lock().expect("no panic under this lock") = Instant::now();
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What carries a reply's body.
pub(super) enum Carrier {
    One(One),
    Many(Place),
}

/// The claim of a reply's body on its connection. Dropped, the connection closes or the stream is
/// reset; given back, it is kept for the next request.
pub(super) struct Lease {
    pub(super) carrier: Carrier,
    pub(super) origin: Arc<Inner>,
}

impl Lease {
    /// The reply ended cleanly.
    pub(super) fn give_back(self) {
        match self.carrier {
            Carrier::One(one) => self.origin.pool.put(one),
            Carrier::Many(place) => drop(place),
        }
    }
}

/// The open connections of one origin.
#[derive(Default)]
pub(super) struct Pool {
    ids: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    idle: Vec<One>,
    shared: Vec<Arc<Many>>,
}

impl Pool {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no panic under this lock")
    }

    pub(super) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn len(&self) -> usize {
        let kept = self.kept();
        kept.idle.len() + kept.shared.len()
    }

    /// A connection that can carry a request now.
    pub(super) fn take(&self) -> Option<Opened> {
        if let Some(many) = self.take_shared() {
            return Some(Opened::Many(many));
        }
        let mut kept = self.kept();
        while let Some(one) = kept.idle.pop() {
            if one.is_fresh() {
                return Some(Opened::One(one));
            }
        }
        None
    }

    pub(super) fn take_shared(&self) -> Option<Arc<Many>> {
        let mut kept = self.kept();
        kept.shared.retain(|many| many.is_fresh());
        kept.shared.iter().find(|many| many.has_room()).cloned()
    }

    /// Keeps an HTTP/2 connection for all to use.
    pub(super) fn share(&self, many: Many) -> Arc<Many> {
        let many = Arc::new(many);
        self.kept().shared.push(many.clone());
        many
    }

    fn put(&self, mut one: One) {
        if one.sender.is_closed() {
            return;
        }
        one.idle_since = Instant::now();
        let mut kept = self.kept();
        if kept.idle.len() >= IDLE_MAX {
            kept.idle.remove(0);
        }
        kept.idle.push(one);
    }

    /// The connection is gone, or takes nothing new.
    pub(super) fn forget(&self, id: u64) {
        let mut kept = self.kept();
        kept.idle.retain(|one| one.id != id);
        kept.shared.retain(|many| many.id != id);
    }

    /// Lets go of what nobody used for a while.
    pub(super) fn sweep(&self) {
        let mut kept = self.kept();
        kept.idle.retain(One::is_fresh);
        kept.shared.retain(|many| many.is_fresh());
    }
}

/// Carries a request over an HTTP/1.1 connection. Dropping the future closes the connection.
pub(super) async fn send_alone(
    mut one: One,
    message: Request<Full<Bytes>>,
    reused: bool,
) -> Result<(Response<Incoming>, Carrier), SendError> {
    let limit = if reused { READY_LIMIT } else { READY_LIMIT_NEW };
    if !matches!(timeout(limit, one.sender.ready()).await, Ok(Ok(()))) {
        return Err(unsent());
    }
    let (read, written) = (one.traffic.read(), one.traffic.written());
    match one.sender.try_send_request(message).await {
        Ok(response) => Ok((response, Carrier::One(one))),
        Err(mut error) => {
            let unwritten = error.take_message().is_some() || one.traffic.written() == written;
            let sent = if unwritten { Sent::Nothing } else { Sent::Maybe };
            let mut fault = fault::of_exchange(error.error(), sent);
            fault.stale = reused && one.traffic.read() == read;
            Err(fault)
        }
    }
}

/// Carries a request over a shared HTTP/2 connection. Dropping the future resets the stream.
pub(super) async fn send_beside(
    many: Arc<Many>,
    message: Request<Full<Bytes>>,
    reused: bool,
    pool: &Pool,
) -> Result<(Response<Incoming>, Carrier), SendError> {
    let mut sender = many.sender.clone();
    let place = Place::new(many);
    match sender.try_send_request(message).await {
        Ok(response) => Ok((response, Carrier::Many(place))),
        Err(mut error) => {
            let sent = match error.take_message() {
                Some(_) => Sent::Nothing,
                None => Sent::Maybe,
            };
            let mut fault = fault::of_exchange(error.error(), sent);
            fault.stale = reused && fault.sent != Sent::NotProcessed && sender.is_closed();
            // A peer that takes no more streams here may well take them on a new connection.
            if fault.sent != Sent::Maybe || sender.is_closed() || is_going_away(error.error()) {
                pool.forget(place.0.id);
            }
            Err(fault)
        }
    }
}

fn is_going_away(error: &hyper::Error) -> bool {
    fault::source::<h2::Error>(error).is_some_and(h2::Error::is_go_away)
}

/// The connection was not ready: nothing was written, and another one may be tried.
fn unsent() -> SendError {
    SendError::new(ErrorClass::Transient, Sent::Nothing, "connection closed while idle")
}
