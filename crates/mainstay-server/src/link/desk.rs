//! Who the peers are, which connection each has, and what waits to be sent or read.
//!
//! There is one connection to a peer, the newest; what waits is bounded, and the newest word on a
//! matter takes the place of older ones. For a peer that is not there nothing waits at all. What
//! this node says to itself, a gateway to the site beside it, waits like what others say.

use super::book::{Book, Foreign, Translation};
use super::counters::{Counters, End, Lost, Refused};
use super::ear;
use super::message::{About, Message};
use super::name::NodeName;
use super::newest::{Newest, Put};
use super::{Peer, Settings, Status};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The state that all connections share, behind a lock that nobody holds across an await.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) book: Arc<Book>,
    me: NodeName,
    /// What this node's positions are called by itself: the same rules hold for its own words.
    own: Tongue,
    /// The peers, and this node, which is always there and never on the list of peers.
    stations: BTreeMap<NodeName, Station>,
    /// Who was read last, so that no peer's messages wait for another's flood.
    turn: Option<NodeName>,
    connections: u64,
    waiting_max: usize,
}

/// A peer.
#[derive(Debug)]
struct Station {
    peer: Peer,
    live: watch::Sender<Option<u64>>,
    seat: Option<Seat>,
    since: Instant,
    heard: Instant,
    names_due: bool,
    outbox: Newest<About, Message>,
    inbox: Newest<About, Message>,
    barred_until: Option<Instant>,
    last_end: Option<End>,
    /// Ends its dialing.
    gone: CancellationToken,
}

/// A connection's place at the desk.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) peer: NodeName,
    pub(super) address: SocketAddr,
    pub(super) version: u16,
    pub(super) dialed: bool,
    number: u64,
    /// Ends the connection: another took its place, or the peer is not in the policy any more.
    pub(super) end: watch::Sender<Option<End>>,
    /// There is something to send.
    pub(super) wake: Arc<Notify>,
    /// We asked for the policy and have no answer yet.
    pub(super) polled: Arc<AtomicBool>,
}

/// What a peer's positions are called, and how they become ours.
#[derive(Debug, Default)]
pub(super) struct Tongue {
    pub(super) theirs: Option<Book>,
    made: Option<(Arc<Book>, Translation)>,
}

/// What is to be sent next.
#[derive(Debug)]
pub(super) enum Next {
    /// What our positions are called.
    Names(Arc<Book>),
    /// A message, and how many tiers it carries.
    Message(Message, usize),
}

/// A peer's dialing: whom, until when.
pub(super) struct Errand {
    pub(super) name: NodeName,
    pub(super) live: watch::Receiver<Option<u64>>,
    pub(super) gone: CancellationToken,
}

impl Desk {
    pub(super) fn new(me: NodeName, waiting_max: usize) -> Desk {
        let station = Station::new(Peer { name: me.clone(), address: None }, waiting_max);
        station.live.send_replace(Some(0));
        let (book, own, turn) = Default::default();
        let stations = [(me.clone(), station)].into();
        Desk { book, me, own, stations, turn, connections: 0, waiting_max }
    }

    /// Takes in who the peers are now; returns whom to dial from now on.
    pub(super) fn adopt(&mut self, book: Book, mut peers: Vec<Peer>) -> Vec<Errand> {
        self.own.learn(book.clone());
        self.book = Arc::new(book);
        peers.retain(|peer| peer.name != self.me);
        let named =
            |name: &NodeName| *name == self.me || peers.iter().any(|peer| peer.name == *name);
        let left: Vec<NodeName> = self.stations.keys().filter(|n| !named(n)).cloned().collect();
        for station in left.iter().filter_map(|name| self.stations.remove(name)) {
            station.gone.cancel();
            station.finish(End::Removed);
        }
        for station in self.stations.values_mut() {
            // What waits speaks of positions as they were.
            station.outbox.clear();
            station.inbox.clear();
            station.names_due = true;
            station.wake();
        }
        let mut errands = Vec::new();
        for peer in peers {
            match self.stations.get_mut(&peer.name) {
                Some(station) => station.peer = peer,
                None => {
                    let station = Station::new(peer, self.waiting_max);
                    errands.push(station.errand());
                    self.stations.insert(station.peer.name.clone(), station);
                }
            }
        }
        errands
    }

    pub(super) fn address(&self, name: &NodeName) -> Option<String> {
        self.stations.get(name).and_then(|station| station.peer.address.clone())
    }

    /// Whether `name` may connect now.
    pub(super) fn admits(&self, name: &NodeName) -> Result<(), Refused> {
        let station = self.stations.get(name).ok_or(Refused::Stranger)?;
        let barred = station.barred_until.is_some_and(|until| Instant::now() < until);
        if barred { Err(Refused::Barred) } else { Ok(()) }
    }

    /// Gives a new connection its place; an older one to the same peer ends.
    pub(super) fn join(
        &mut self,
        peer: &NodeName,
        (address, dialed): (SocketAddr, bool),
        version: u16,
    ) -> Result<Seat, Refused> {
        self.admits(peer)?;
        self.connections += 1;
        let number = self.connections;
        let station = self.stations.get_mut(peer).ok_or(Refused::Stranger)?;
        station.finish(End::Replaced);
        let seat = Seat {
            peer: peer.clone(),
            address,
            version,
            dialed,
            number,
            end: watch::Sender::new(None),
            wake: Arc::new(Notify::new()),
            polled: Arc::new(AtomicBool::new(false)),
        };
        station.since = Instant::now();
        station.heard = station.since;
        station.names_due = true;
        station.outbox.clear();
        station.seat = Some(seat.clone());
        station.live.send_replace(Some(number));
        seat.wake.notify_one();
        Ok(seat)
    }

    /// A connection ended.
    pub(super) fn leave(&mut self, seat: &Seat, end: End, settings: &Settings) {
        let Some(station) = self.station(seat) else { return };
        station.last_end = Some(end);
        station.seat = None;
        station.outbox.clear();
        if matches!(end, End::Nonsense(_)) {
            station.barred_until = Some(Instant::now() + settings.barred);
        }
        station.live.send_replace(None);
    }

    /// Puts `message` where the connection to `to` finds it.
    pub(super) fn send(&mut self, to: &NodeName, message: Message, counters: &Counters) -> bool {
        if *to == self.me {
            return self.keep(message, counters);
        }
        let station = self.stations.get_mut(to).filter(|station| station.seat.is_some());
        let Some(station) = station else {
            counters.lost(Lost::NoPeer, 1);
            return false;
        };
        note(station.outbox.put(message.about(), message), counters);
        station.wake();
        true
    }

    /// What the connection is to send next.
    pub(super) fn next(&mut self, seat: &Seat) -> Option<Next> {
        let book = self.book.clone();
        let station = self.station(seat)?;
        if std::mem::take(&mut station.names_due) {
            return Some(Next::Names(book));
        }
        let (_, message) = station.outbox.take()?;
        if matches!(message, Message::Poll) {
            seat.polled.store(true, Ordering::Relaxed);
        }
        Some(Next::Message(message, book.tiers.len()))
    }

    /// A whole frame came.
    pub(super) fn heard(&mut self, seat: &Seat) {
        if let Some(station) = self.station(seat) {
            station.heard = Instant::now();
        }
    }

    /// Translates a message and puts it where its reader finds it; true if there is one.
    pub(super) fn deliver(
        &mut self,
        seat: &Seat,
        message: Message,
        tongue: &mut Tongue,
        counters: &Counters,
    ) -> bool {
        let ours = self.book.clone();
        let Some(station) = self.station(seat) else { return false };
        station.receive(message, (tongue, &ours), counters)
    }

    /// Puts what this node says to itself where its reader finds it, by the same rules.
    fn keep(&mut self, message: Message, counters: &Counters) -> bool {
        let Some(station) = self.stations.get_mut(&self.me) else { return false };
        if !ear::may_say(message.kind(), &self.me, &self.book) {
            counters.lost(Lost::NotTheirs, 1);
            return false;
        }
        station.receive(message, (&mut self.own, &self.book), counters)
    }

    /// The next message for us: each peer's turn comes.
    pub(super) fn take(&mut self) -> Option<(NodeName, Message)> {
        let after = match &self.turn {
            Some(last) => (Bound::Excluded(last.clone()), Bound::Unbounded),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        let waits = |(_, station): &(&NodeName, &Station)| !station.inbox.is_empty();
        let later = self.stations.range(after).find(waits).map(|(name, _)| name.clone());
        let name =
            later.or_else(|| self.stations.iter().find(waits).map(|(name, _)| name.clone()))?;
        let (_, message) = self.stations.get_mut(&name)?.inbox.take()?;
        self.turn = Some(name.clone());
        Some((name, message))
    }

    /// Ends everything.
    pub(super) fn close(&mut self) {
        for station in self.stations.values() {
            station.gone.cancel();
            station.finish(End::Shutdown);
        }
    }

    pub(super) fn live(&self, name: &NodeName) -> Option<watch::Receiver<Option<u64>>> {
        self.stations.get(name).map(|station| station.live.subscribe())
    }

    pub(super) fn status(&self) -> Vec<Status> {
        let others = self.stations.values().filter(|station| station.peer.name != self.me);
        others.map(Station::status).collect()
    }

    /// The peer's station, if this is its connection still.
    fn station(&mut self, seat: &Seat) -> Option<&mut Station> {
        let station = self.stations.get_mut(&seat.peer)?;
        let is_its = station.seat.as_ref().is_some_and(|held| held.number == seat.number);
        is_its.then_some(station)
    }
}

impl Station {
    fn new(peer: Peer, waiting_max: usize) -> Station {
        let now = Instant::now();
        Station {
            peer,
            live: watch::Sender::new(None),
            seat: None,
            since: now,
            heard: now,
            names_due: false,
            outbox: Newest::new(waiting_max),
            inbox: Newest::new(waiting_max),
            barred_until: None,
            last_end: None,
            gone: CancellationToken::new(),
        }
    }

    fn errand(&self) -> Errand {
        let (name, gone) = (self.peer.name.clone(), self.gone.clone());
        Errand { name, live: self.live.subscribe(), gone }
    }

    /// Takes in a message of this peer, in the words of `tongue`; true if there is one to read.
    fn receive(
        &mut self,
        message: Message,
        (tongue, ours): (&mut Tongue, &Arc<Book>),
        counters: &Counters,
    ) -> bool {
        let made = tongue.translation(ours);
        match made.map(|made| made.translate(message, &self.peer.name, ours)) {
            Some(Ok((message, nameless))) => {
                counters.lost(Lost::NoName, nameless);
                note(self.inbox.put(message.about(), message), counters);
                true
            }
            Some(Err(Foreign::NoName)) | None => {
                counters.lost(Lost::NoName, 1);
                false
            }
            Some(Err(Foreign::NotTheirs)) => {
                counters.lost(Lost::NotTheirs, 1);
                false
            }
        }
    }

    fn wake(&self) {
        if let Some(seat) = &self.seat {
            seat.wake.notify_one();
        }
    }

    fn finish(&self, end: End) {
        if let Some(seat) = &self.seat {
            seat.end.send_replace(Some(end));
        }
    }

    fn status(&self) -> Status {
        let seat = self.seat.as_ref();
        Status {
            name: self.peer.name.to_string(),
            address: self.peer.address.clone(),
            is_up: seat.is_some(),
            remote: seat.map(|seat| seat.address.to_string()),
            dialed: seat.map(|seat| seat.dialed),
            version: seat.map(|seat| seat.version),
            up_seconds: seat.map(|_| self.since.elapsed().as_secs_f64()),
            silent_seconds: seat.map(|_| self.heard.elapsed().as_secs_f64()),
            to_send: self.outbox.len(),
            to_read: self.inbox.len(),
            last_end: self.last_end.map(End::word),
        }
    }
}

impl Tongue {
    /// The peer says what its positions are called from now on.
    pub(super) fn learn(&mut self, theirs: Book) {
        self.theirs = Some(theirs);
        self.made = None;
    }

    pub(super) fn translation(&mut self, ours: &Arc<Book>) -> Option<&Translation> {
        let theirs = self.theirs.as_ref()?;
        if !self.made.as_ref().is_some_and(|(book, _)| Arc::ptr_eq(book, ours)) {
            self.made = Some((ours.clone(), Translation::new(theirs, ours)));
        }
        self.made.as_ref().map(|(_, made)| made)
    }
}

fn note(put: Put, counters: &Counters) {
    match put {
        Put::Waits => {}
        Put::Replaced => counters.lost(Lost::Replaced, 1),
        Put::Crowded => counters.lost(Lost::Crowded, 1),
    }
}
