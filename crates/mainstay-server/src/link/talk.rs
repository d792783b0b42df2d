//! One connection that carries messages, from the first word until it ends.
//!
//! Both sides send something at least every beat, and cut a peer of which nothing whole came for
//! the time called silence: that is how a half-open connection, a stopped process and a peer that
//! drips bytes are told from a living one.

use super::Shared;
use super::bucket::Bucket;
use super::counters::{End, Lost, Refused};
use super::desk::{Next, Seat, Tongue};
use super::ear::{self, Heard};
use super::frame::{BODY_MAX, HEAD, Incoming, Kind, Nonsense, Outgoing, Whole};
use super::name::NodeName;
use super::wire::{self, Hello};
use bytes::{Bytes, BytesMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::{Instant, timeout, timeout_at};

/// Short messages are gathered up to so many bytes before they are written.
const GATHERED: usize = 32 * 1024;

/// Who is at the other end, and how the connection came about.
pub(super) struct Caller {
    pub(super) name: NodeName,
    pub(super) address: SocketAddr,
    pub(super) dialed: bool,
}

/// How a connection went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Talked {
    /// It was not taken.
    Refused(Refused),
    /// It ended before both had said hello.
    Unheard(End),
    /// It lasted for a while.
    Ended(End),
}

/// Exchanges messages over `stream` until it ends.
pub(super) async fn talk<T>(stream: T, caller: Caller, shared: &Arc<Shared>) -> Talked
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (read, mut write) = tokio::io::split(stream);
    let mut reader = Reader::new(read, shared.clone());
    let mut outgoing = Outgoing::default();
    let until = Instant::now() + shared.settings.handshake;
    let met = timeout_at(until, greet(&mut reader, &mut write, &mut outgoing, shared)).await;
    let version = match met {
        Ok(Ok(version)) => version,
        Ok(Err(end)) => {
            shared.counters.ended(end);
            return Talked::Unheard(end);
        }
        Err(_) => return refused(shared, Refused::Late),
    };
    let joined = shared.desk().join(&caller.name, (caller.address, caller.dialed), version);
    let seat = match joined {
        Ok(seat) => seat,
        Err(why) => return refused(shared, why),
    };
    shared.counters.joined();
    tracing::info!(peer = %seat.peer, address = %seat.address, version, "joined a node");
    let mut writer = Writer { write, outgoing, long: Vec::new(), buffer: BytesMut::new() };
    let mut told = seat.end.subscribe();
    let end = tokio::select! {
        biased;
        told = told.wait_for(Option::is_some) => {
            told.ok().and_then(|end| *end).unwrap_or(End::Closed)
        }
        end = reader.listen(&seat) => end,
        end = writer.speak(&seat, shared) => end,
    };
    shared.counters.ended(end);
    shared.desk().leave(&seat, end, &shared.settings);
    match end {
        End::Shutdown | End::Replaced | End::Removed => {
            tracing::info!(peer = %seat.peer, reason = end.word(), "left a node");
        }
        _ => tracing::warn!(peer = %seat.peer, reason = end.word(), "lost a node"),
    }
    Talked::Ended(end)
}

fn refused(shared: &Shared, why: Refused) -> Talked {
    shared.counters.refused(why);
    Talked::Refused(why)
}

/// Says hello and hears it; the version to speak.
async fn greet<R, W>(
    reader: &mut Reader<R>,
    write: &mut W,
    outgoing: &mut Outgoing,
    shared: &Shared,
) -> Result<u16, End>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let ours = shared.settings.speaks;
    let hello = Hello { least: u32::from(ours.0), most: u32::from(ours.1) };
    let mut buffer = BytesMut::new();
    outgoing.message(&mut buffer, Kind::Hello, ours.1, &wire::encode_hello(&hello));
    write.write_all(&buffer).await.map_err(|_| End::Broken)?;
    write.flush().await.map_err(|_| End::Broken)?;
    shared.counters.wrote(buffer.len());
    shared.counters.sent(Kind::Hello);
    // A hello fits into one frame.
    let Some(Whole::Message(Kind::Hello, body)) = reader.whole().await? else {
        return Err(End::Nonsense(Nonsense::Unexpected));
    };
    let said = wire::decode_hello(body).map_err(End::Nonsense)?;
    let number = |version: u32| u16::try_from(version).unwrap_or(u16::MAX);
    let theirs = (number(said.least), number(said.most));
    let version = ear::agree(ours, theirs).map_err(End::Nonsense)?;
    reader.incoming.agree(version);
    shared.counters.received(Kind::Hello);
    Ok(version)
}

/// The receiving half.
struct Reader<R> {
    read: BufReader<R>,
    incoming: Incoming,
    bucket: Bucket,
    body: Vec<u8>,
    shared: Arc<Shared>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    fn new(read: R, shared: Arc<Shared>) -> Reader<R> {
        let bucket = Bucket::new(shared.settings.allowance);
        let read = BufReader::with_capacity(BODY_MAX + HEAD, read);
        Reader { read, incoming: Incoming::default(), bucket, body: vec![0; BODY_MAX], shared }
    }

    /// The next frame; a message, if it was the last part of one.
    async fn whole(&mut self) -> Result<Option<Whole>, End> {
        let mut head = [0; HEAD];
        let read = self.read.read_exact(&mut head).await;
        read.map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => End::Closed,
            _ => End::Broken,
        })?;
        let length = self.incoming.head(&head).map_err(End::Nonsense)?;
        if !self.bucket.take(length) {
            return Err(End::Nonsense(Nonsense::TooFast));
        }
        let body = self.body.get_mut(..length).ok_or(End::Nonsense(Nonsense::TooLong))?;
        self.read.read_exact(body).await.map_err(|_| End::Broken)?;
        self.shared.counters.read(HEAD + length);
        self.incoming.body(body).map_err(End::Nonsense)
    }

    async fn listen(&mut self, seat: &Seat) -> End {
        let mut tongue = Tongue::default();
        let shared = self.shared.clone();
        loop {
            let whole = match timeout(shared.settings.silence, self.whole()).await {
                Ok(Ok(whole)) => whole,
                Ok(Err(end)) => return end,
                Err(_) => return End::Silent,
            };
            shared.desk().heard(seat);
            let Some(whole) = whole else { continue };
            if let Err(nonsense) = hear(whole, seat, &mut tongue, &shared) {
                return End::Nonsense(nonsense);
            }
        }
    }
}

fn hear(whole: Whole, seat: &Seat, tongue: &mut Tongue, shared: &Shared) -> Result<(), Nonsense> {
    if let Whole::Message(kind, _) = &whole {
        shared.counters.received(*kind);
    }
    let book = shared.desk().book.clone();
    let polled = || seat.polled.swap(false, Ordering::Relaxed);
    match ear::hear(whole, &seat.peer, &book, tongue, polled)? {
        Heard::Message(message) => {
            if shared.desk().deliver(seat, message, tongue, &shared.counters) {
                shared.arrived.notify_one();
            }
        }
        Heard::Nothing => {}
        Heard::Unknown => shared.counters.lost(Lost::UnknownKind, 1),
        Heard::NotTheirs => shared.counters.lost(Lost::NotTheirs, 1),
        Heard::Unasked => shared.counters.lost(Lost::Unasked, 1),
    }
    Ok(())
}

/// The sending half.
struct Writer<W> {
    write: W,
    outgoing: Outgoing,
    /// Messages of several frames; the first is on its way.
    long: Vec<Long>,
    buffer: BytesMut,
}

struct Long {
    kind: Kind,
    body: Bytes,
    is_begun: bool,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    async fn speak(&mut self, seat: &Seat, shared: &Shared) -> End {
        let mut beat = Instant::now() + shared.settings.beat;
        loop {
            self.gather(seat, shared);
            self.part(seat);
            if self.buffer.is_empty() {
                if timeout_at(beat, seat.wake.notified()).await.is_ok() {
                    continue;
                }
                self.outgoing.message(&mut self.buffer, Kind::Beat, seat.version, &[]);
                shared.counters.sent(Kind::Beat);
            }
            let written = async {
                self.write.write_all(&self.buffer).await?;
                self.write.flush().await
            };
            match timeout(shared.settings.silence, written).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return End::Broken,
                Err(_) => return End::Stuck,
            }
            shared.counters.wrote(self.buffer.len());
            self.buffer.clear();
            beat = Instant::now() + shared.settings.beat;
        }
    }

    /// Takes what waits, as long as it is short; what is long waits for its turn.
    fn gather(&mut self, seat: &Seat, shared: &Shared) {
        while self.buffer.len() < GATHERED {
            let Some(next) = shared.desk().next(seat) else { return };
            let (message, tiers) = match next {
                Next::Message(message, tiers) => (message, tiers),
                Next::Names(book) => {
                    // Long messages that have begun still speak of positions as they were.
                    while !self.long.is_empty() {
                        self.part(seat);
                    }
                    let body = wire::encode_names(&book);
                    self.outgoing.message(&mut self.buffer, Kind::Names, seat.version, &body);
                    shared.counters.sent(Kind::Names);
                    continue;
                }
            };
            let kind = message.kind();
            let (body, is_cut) = wire::encode(&message, tiers);
            if is_cut {
                shared.counters.lost(Lost::Shortened, 1);
            }
            if body.len() > kind.body_max() {
                // A peer would cut us off for it.
                shared.counters.lost(Lost::Crowded, 1);
                continue;
            }
            shared.counters.sent(kind);
            if body.len() <= BODY_MAX {
                self.outgoing.message(&mut self.buffer, kind, seat.version, &body);
                continue;
            }
            self.long.retain(|long| long.is_begun || long.kind != kind);
            self.long.push(Long { kind, body: body.into(), is_begun: false });
        }
    }

    /// Adds the next part of the first long message.
    fn part(&mut self, seat: &Seat) {
        let Some(long) = self.long.first_mut() else { return };
        long.is_begun = true;
        let part = long.body.split_to(long.body.len().min(BODY_MAX));
        let more = !long.body.is_empty();
        self.outgoing.frame(&mut self.buffer, (long.kind, more), seat.version, &part);
        if !more {
            self.long.remove(0);
        }
    }
}
