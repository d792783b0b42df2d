//! The link between nodes: one port, certificates on both sides, two uses.
//!
//! *Control*: one lasting connection to each peer, over which the machines of core say what
//! `Message` holds. The newest word on a matter takes the place of older ones, nothing waits for a
//! peer that is not there, and a connection costs the same whether all is well or nothing is.
//! *Requests*: HTTP between gateway and site, on connections of their own; here they are only
//! accepted and handed on with the name of who opened them.
//!
//! Who a peer is, its certificate says. What it may say, our policy says (`Book`): a site that
//! reports like a gateway, frames that are too long, repeated, too many or unreadable end the
//! connection, are counted and have no effect. Positions are translated by name. Clocks are never
//! compared. This file carries messages and decides nothing about them.
//!
//! A gateway and the site it uses may be one process: what it says to itself takes neither socket
//! nor certificate, and otherwise the same way, with the same rules and bounds.
//!
//! ```text
//! let (link, mut inbox, requests) = Link::start(plan, Some(listener));
//! link.send(&peer, Message::Report(report));           // queued, or false: nobody there
//! while let Some((peer, message)) = inbox.recv().await { … }
//! while let Some(connection) = requests.recv().await { … }   // serve HTTP on connection.stream
//! link.adopt(book, peers);                             // another policy is in force
//! ```

mod accept;
mod bucket;
mod counters;
mod desk;
mod dial;
mod ear;
mod newest;
mod talk;
mod wire;

pub mod book;
pub mod frame;
pub mod identity;
pub mod message;
pub mod name;
pub mod outside;

pub use book::Book;
pub use bucket::Allowance;
pub use counters::{Counters, End, Lost, Refused};
pub use identity::Identity;
pub use message::{Generation, Message};
pub use name::NodeName;

use crate::tasks::Tasks;
use desk::Desk;
use serde::Serialize;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};

/// The version of messages that this build speaks. It also speaks the one before.
pub const VERSION: u16 = 1;
/// Connections with requests that may wait to be taken up.
const REQUESTS_WAITING: usize = 256;
/// What may be on its way within the process, each way: as much as a kernel holds unsent.
const WITHIN_BYTES: usize = 64 * 1024;
/// Messages that may wait, for each peer and direction: two for each of a hundred models, a
/// thousand quotas, a set of orders, and as much again.
const WAITING_MAX: usize = 4096;

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name, as its certificate must have it.
    pub name: NodeName,
    /// `host:port` of its link; `None` if only it can open the connection.
    pub address: Option<String>,
}

/// What a link starts with.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who this node is.
    pub identity: Identity,
    /// What positions are called, and which node controls which site.
    pub book: Book,
    /// The other nodes.
    pub peers: Vec<Peer>,
    /// Times and bounds.
    pub settings: Settings,
}

/// Times and bounds of the link. Only tests need others than the default.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Something is said at least so often. A second: three of them fit into the silence.
    pub beat: Duration,
    /// A peer of which nothing whole came for so long is cut: well above what a network loses and
    /// mends by itself, and near the 2 s after which its credit has lapsed anyway.
    pub silence: Duration,
    /// TCP, TLS, and then the first word, each within this time: a second around the world and
    /// three lost packets.
    pub handshake: Duration,
    /// Between two attempts to connect, first and at most; half of it is drawn by lot.
    pub back_off: (Duration, Duration),
    /// Who need not dial does so after this time.
    pub second_after: Duration,
    /// A peer that spoke nonsense is not let in again for so long.
    pub barred: Duration,
    /// What a peer may say: a hundred models twice a second, a thousand quotas in 2.5 s and a
    /// policy of 4 MiB every 10 s come to about a thousand a second, so twice that; and at once a
    /// policy, names and everything else.
    pub allowance: Allowance,
    /// Versions spoken, the first and the last.
    pub speaks: (u16, u16),
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            beat: Duration::from_secs(1),
            silence: Duration::from_secs(3),
            handshake: Duration::from_secs(5),
            back_off: (Duration::from_millis(100), Duration::from_secs(2)),
            second_after: Duration::from_secs(4),
            barred: Duration::from_secs(2),
            allowance: Allowance { rate: 2000, burst: 16_384 },
            speaks: (VERSION - 1, VERSION),
        }
    }
}

/// A connection that a node opened to send requests.
pub struct RequestConnection {
    /// The connection, after its handshake.
    pub stream: Box<dyn Stream>,
    /// Who opened it, by its certificate; the policy named it when it did. Or this node itself.
    pub peer: NodeName,
    /// From where.
    pub address: SocketAddr,
    /// Whether HTTP/2 was agreed on; else HTTP/1.1.
    pub http2: bool,
}

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// How a peer stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Where it is dialed.
    pub address: Option<String>,
    /// Whether there is a connection,
    pub is_up: bool,
    /// with which address,
    pub remote: Option<String>,
    /// whether we opened it,
    pub dialed: Option<bool>,
    /// in which version,
    pub version: Option<u16>,
    /// for how long,
    pub up_seconds: Option<f64>,
    /// and since when nothing came.
    pub silent_seconds: Option<f64>,
    /// Messages that wait to be sent.
    pub to_send: usize,
    /// Messages that wait to be read here.
    pub to_read: usize,
    /// Why the last connection ended.
    pub last_end: Option<&'static str>,
}

/// The link of this node. Cheap to clone.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
}

/// Messages that came, oldest first, each peer in its turn.
pub struct Inbox {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    identity: Identity,
    settings: Settings,
    desk: Mutex<Desk>,
    counters: Counters,
    arrived: Notify,
    requests: mpsc::Sender<RequestConnection>,
    tasks: Tasks,
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Link {
    /// Listens on `listener`, if there is one, and dials the peers of `plan`.
    pub fn start(
        plan: Plan,
        listener: Option<TcpListener>,
    ) -> (Link, Inbox, mpsc::Receiver<RequestConnection>) {
        let Plan { identity, book, peers, settings } = plan;
        let (requests, handed) = mpsc::channel(REQUESTS_WAITING);
        let desk = Mutex::new(Desk::new(identity.name().clone(), WAITING_MAX));
        let shared = Arc::new(Shared {
            identity,
            settings,
            desk,
            counters: Counters::default(),
            arrived: Notify::new(),
            requests,
            tasks: Tasks::default(),
        });
        let link = Link { shared: shared.clone() };
        link.adopt(book, peers);
        if let Some(listener) = listener {
            shared.tasks.spawn(accept::accept(listener, shared.clone()));
        }
        (link, Inbox { shared }, handed)
    }

    /// Another policy is in force: other names, other peers. What waits is dropped, since it
    /// speaks of positions as they were; peers that are not named any more are cut.
    pub fn adopt(&self, book: Book, peers: Vec<Peer>) {
        let errands = self.shared.desk().adopt(book, peers);
        for errand in errands {
            self.shared.tasks.spawn(dial::dial(errand, self.shared.clone()));
        }
    }

    /// Sends `message` to `to` as soon as the connection takes it, unless a newer one about the
    /// same comes before. False if there is no connection: nothing waits for one.
    pub fn send(&self, to: &NodeName, message: Message) -> bool {
        let is_taken = self.shared.desk().send(to, message, &self.shared.counters);
        if is_taken && to == self.shared.identity.name() {
            self.shared.arrived.notify_one();
        }
        is_taken
    }

    /// Who this node is.
    pub fn me(&self) -> &NodeName {
        self.shared.identity.name()
    }

    /// A connection for requests to the site that this node itself controls. It reaches that site
    /// as one of another node would, within the process.
    ///
    /// # Errors
    /// If there is no room for it, or nobody to take it.
    pub fn within(&self) -> Result<DuplexStream, Refused> {
        let (near, far) = duplex(WITHIN_BYTES);
        let peer = self.shared.identity.name().clone();
        let address = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
        let connection = RequestConnection { stream: Box::new(far), peer, address, http2: false };
        let handed = self.shared.requests.try_send(connection);
        handed.map_err(|_| Refused::NoRoom)?;
        self.shared.counters.request_connection();
        Ok(near)
    }

    /// How the peers stand, by name.
    pub fn peers(&self) -> Vec<Status> {
        self.shared.desk().status()
    }

    /// Whether there is a connection to `peer`.
    pub fn is_up(&self, peer: &NodeName) -> bool {
        let live = self.shared.desk().live(peer);
        live.is_some_and(|live| live.borrow().is_some())
    }

    /// Returns when there is a connection to `peer`, or none, as `is_up` says; at once if the
    /// policy does not name it.
    pub async fn wait_for(&self, peer: &NodeName, is_up: bool) {
        let live = self.shared.desk().live(peer);
        if let Some(mut live) = live {
            // An error means that the peer was removed: there is nothing to wait for.
            let _ = live.wait_for(|live| live.is_some() == is_up).await;
        }
    }

    /// What is counted.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Lines for the metrics, in the exposition format.
    pub fn exposition(&self) -> String {
        let mut text = self.shared.counters.exposition();
        text.push_str("# HELP mainstay_link_up Whether there is a connection to the node.\n");
        text.push_str("# TYPE mainstay_link_up gauge\n");
        for peer in self.peers() {
            let up = u8::from(peer.is_up);
            text.push_str(&format!("mainstay_link_up{{peer=\"{}\"}} {up}\n", peer.name));
        }
        text
    }

    /// Ends all connections and waits until they are gone.
    pub async fn shutdown(&self) {
        self.shared.desk().close();
        self.shared.tasks.cancel();
        self.shared.tasks.wait().await;
        self.shared.arrived.notify_one();
    }
}

impl Inbox {
    /// The next message and who sent it.
    pub async fn recv(&mut self) -> (NodeName, Message) {
        loop {
            if let Some(next) = self.shared.desk().take() {
                return next;
            }
            self.shared.arrived.notified().await;
        }
    }

    /// The next message, if one waits.
    pub fn try_recv(&mut self) -> Option<(NodeName, Message)> {
        self.shared.desk().take()
    }
}

#[cfg(test)]
mod tests;
