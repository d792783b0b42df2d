//! One door of the API: a thread that accepts clients, and carries all of a request itself.
//!
//! Client, relay and upstream connection of a request live on one thread, so that a token wakes no
//! other thread on its way. Only the machine, behind its short lock, is shared.

use super::CUT_TIME;
use super::callers::Callers;
use crate::drive::Drive;
use crate::gateway::openai::Api;
use crate::http::{Arrivals, Counters, Front, serve};
use crate::setup::Bounds;
use hyper::service::service_fn;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the doors share.
pub(super) struct House {
    pub(super) drive: Arc<Drive>,
    pub(super) callers: Callers,
    pub(super) bounds: watch::Sender<Bounds>,
    pub(super) drain: Duration,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    pub(super) counters: Arc<Counters>,
    /// Whether the process is on its way out.
    pub(super) draining: Arc<AtomicBool>,
    /// Ends accepting.
    pub(super) stop: CancellationToken,
}

/// How connections are handed to a door.
pub(super) type Hand = mpsc::Sender<(std::net::TcpStream, SocketAddr)>;

/// Connections that may wait for a door to take them in.
const WAITING: usize = 1024;

/// A door's thread.
pub(super) struct Door {
    hand: Hand,
    thread: JoinHandle<()>,
    closed: oneshot::Receiver<()>,
}

impl Door {
    /// Opens a door, which has its own connections to the sites.
    pub(super) fn open(number: usize, house: Arc<House>) -> Result<Door, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start a thread of the API: {error}"))?;
        let (done, closed) = oneshot::channel();
        let (hand, handed) = mpsc::channel(WAITING);
        let body = move || {
            runtime.block_on(attend(&house, number, Arrivals::Handed(handed)));
            // Whoever waits may be gone; then nobody needs to know.
            let _ = done.send(());
        };
        let thread = std::thread::Builder::new()
            .name(format!("door-{number}"))
            .spawn(body)
            .map_err(|error| format!("cannot start a thread of the API: {error}"))?;
        Ok(Door { hand, thread, closed })
    }

    /// How connections are handed to it.
    pub(super) fn hand(&self) -> Hand {
        self.hand.clone()
    }

    /// Returns when the door has closed and its last answer has gone.
    pub(super) async fn closed(self) {
        // An error means that the thread has ended some other way, which is as good.
        let _ = self.closed.await;
        let _ = self.thread.join();
    }
}

async fn attend(house: &House, door: usize, arrivals: Arrivals) {
    let began = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let tasks = TaskTracker::new();
    let api = Arc::new(Api {
        drive: house.drive.clone(),
        keyring: house.callers.keyring.clone(),
        limiter: house.callers.limiter.clone(),
        door,
        tasks: tasks.clone(),
        draining: house.draining.clone(),
        began,
    });
    let service = service_fn(move |request| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(api.serve(request).await) }
    });
    let front = Front {
        arrivals,
        tls: house.tls.clone(),
        bounds: house.bounds.subscribe(),
        drain: house.drain,
        counters: house.counters.clone(),
    };
    serve(front, service, house.stop.clone()).await;
    tasks.close();
    let _ = tokio::time::timeout(CUT_TIME, tasks.wait()).await;
    for site in house.drive.places().doors.get(door).into_iter().flatten() {
        site.shutdown().await;
    }
}
