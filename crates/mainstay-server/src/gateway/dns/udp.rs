//! Answers datagrams, on a thread for each socket: takes what waits with one call of the kernel,
//! answers each, sends all with one call.
//!
//! A socket that listens on every address of the machine must say from which it answers; those
//! calls carry one datagram each. Name the address where speed matters.

use crate::gateway::dns::Counts;
use crate::gateway::dns::answer::{Asker, Became, DATAGRAM_MAX, answer};
use crate::gateway::dns::flood::Flood;
use crate::gateway::dns::publish::View;
use nix::libc;
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo, RxqOvfl};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6,
    SockaddrLike, recvmmsg, recvmsg, sendmmsg, sendmsg, setsockopt,
};
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Datagrams of one call. Beyond some dozen the call is no part of the cost any more.
const BATCH: usize = 64;
/// Largest question that is looked at; padded ones stay below a thousand bytes.
const QUESTION_MAX: usize = 1280;
/// Full batches in a row after which the kernel is asked whether it lost any.
const FULL_MAX: u32 = 16;

/// What a thread answers with.
pub(super) struct Desk {
    pub(super) zones: View,
    pub(super) counts: Arc<Counts>,
    pub(super) stop: Arc<AtomicBool>,
}

/// The address of an asker.
trait Peer: SockaddrLike + Copy {
    fn address(&self) -> IpAddr;
}

impl Peer for SockaddrIn {
    fn address(&self) -> IpAddr {
        self.ip().into()
    }
}

impl Peer for SockaddrIn6 {
    fn address(&self) -> IpAddr {
        self.ip().into()
    }
}

/// Answers until it is told to stop.
pub(super) fn serve(socket: &UdpSocket, desk: &Desk) {
    let Ok(local) = socket.local_addr() else { return };
    let _ = setsockopt(socket, RxqOvfl, &1);
    if local.ip().is_unspecified() {
        let _ = match local {
            SocketAddr::V4(_) => setsockopt(socket, Ipv4PacketInfo, &true),
            SocketAddr::V6(_) => setsockopt(socket, Ipv6RecvPacketInfo, &true),
        };
    }
    while !desk.stop.load(Ordering::Relaxed) {
        // A datagram that finds a defect of ours costs the batch it came with, and nothing else.
        let served = catch_unwind(AssertUnwindSafe(|| {
            let mut clerk = Clerk::new(desk);
            match (local, local.ip().is_unspecified()) {
                (SocketAddr::V4(_), false) => batches::<SockaddrIn>(socket.as_raw_fd(), &mut clerk),
                (SocketAddr::V6(_), false) => {
                    batches::<SockaddrIn6>(socket.as_raw_fd(), &mut clerk)
                }
                (SocketAddr::V4(_), true) => singly::<SockaddrIn>(socket.as_raw_fd(), &mut clerk),
                (SocketAddr::V6(_), true) => singly::<SockaddrIn6>(socket.as_raw_fd(), &mut clerk),
            }
        }));
        if served.is_err() {
            tracing::error!("a question to a name ran into a defect; it is not answered");
        }
    }
}

/// Answers one datagram after the other, and counts.
struct Clerk<'d> {
    desk: &'d Desk,
    zones: View,
    flood: Flood,
    turn: usize,
    answered: u64,
    refused: u64,
    silent: u64,
    shed: u64,
}

impl<'d> Clerk<'d> {
    fn new(desk: &'d Desk) -> Clerk<'d> {
        let flood = Flood::new(Instant::now());
        let zones = desk.zones.clone();
        Clerk { desk, zones, flood, turn: 0, answered: 0, refused: 0, silent: 0, shed: 0 }
    }

    fn is_done(&self) -> bool {
        self.desk.stop.load(Ordering::Relaxed)
    }

    /// Writes the answer to `packet` into `out`; nothing if there is to be none.
    fn answer(&mut self, now: Option<Instant>, packet: &[u8], from: IpAddr, out: &mut Vec<u8>) {
        out.clear();
        if now.is_some_and(|now| self.flood.is_duplicate(now, from, packet)) {
            self.shed += 1;
            return;
        }
        self.turn = self.turn.wrapping_add(1);
        let asker = Asker { address: from, is_stream: false, turn: self.turn };
        let count = match answer(self.zones.now(), packet, asker, out) {
            Became::Silent => &mut self.silent,
            Became::Answered => &mut self.answered,
            Became::Refused => &mut self.refused,
        };
        *count += 1;
    }

    /// Now, if there is a flood.
    fn flooded(&self) -> Option<Instant> {
        let now = Instant::now();
        self.flood.is_on(now).then_some(now)
    }

    fn told(&mut self) {
        let counts = &self.desk.counts;
        let all = [
            (&mut self.answered, &counts.answered),
            (&mut self.refused, &counts.refused),
            (&mut self.silent, &counts.silent),
            (&mut self.shed, &counts.shed),
        ];
        for (mine, whole) in all {
            add(whole, std::mem::take(mine));
        }
    }
}

fn add(whole: &AtomicU64, more: u64) {
    if more > 0 {
        whole.fetch_add(more, Ordering::Relaxed);
    }
}

fn batches<P: Peer>(socket: RawFd, clerk: &mut Clerk<'_>) {
    let mut heads = MultiHeaders::<P>::preallocate(BATCH, None);
    let mut questions = vec![[0; QUESTION_MAX]; BATCH];
    let mut came: Vec<(usize, Option<P>)> = Vec::with_capacity(BATCH);
    let mut mail = Outgoing::<P>::new();
    let mut full = 0;
    while !clerk.is_done() {
        came.clear();
        let mut places: Vec<[IoSliceMut<'_>; 1]> =
            questions.iter_mut().map(|place| [IoSliceMut::new(place)]).collect();
        let got = recvmmsg(socket, &mut heads, &mut places, MsgFlags::MSG_WAITFORONE, None);
        // Nothing came for a while, or a signal did.
        let Ok(got) = got else { continue };
        came.extend(got.map(|one| (one.bytes, one.address)));
        let flooded = clerk.flooded();
        for (question, (length, from)) in questions.iter().zip(&came) {
            let (Some(packet), Some(from)) = (question.get(..*length), from) else { continue };
            clerk.answer(flooded, packet, from.address(), mail.place());
            mail.add(*from);
        }
        mail.send(socket);
        clerk.told();
        full = if came.len() == BATCH { full + 1 } else { 0 };
        if full >= FULL_MAX {
            full = 0;
            single::<P>(socket, clerk, MsgFlags::MSG_DONTWAIT);
        }
    }
}

/// Answers to send with one call. Their places are used again, so that nothing is allocated.
struct Outgoing<P> {
    heads: MultiHeaders<P>,
    answers: Vec<Vec<u8>>,
    to: Vec<Option<P>>,
}

impl<P: Peer> Outgoing<P> {
    fn new() -> Outgoing<P> {
        Outgoing {
            heads: MultiHeaders::preallocate(BATCH, None),
            answers: (0..BATCH).map(|_| Vec::with_capacity(DATAGRAM_MAX)).collect(),
            to: Vec::with_capacity(BATCH),
        }
    }

    /// Where the next answer is to be written.
    fn place(&mut self) -> &mut Vec<u8> {
        &mut self.answers[self.to.len()]
    }

    /// What was written there goes to `to`, unless it is nothing.
    fn add(&mut self, to: P) {
        if !self.place().is_empty() {
            self.to.push(Some(to));
        }
    }

    fn send(&mut self, socket: RawFd) {
        let answers: Vec<[IoSlice<'_>; 1]> =
            self.answers[..self.to.len()].iter().map(|answer| [IoSlice::new(answer)]).collect();
        let mut sent = 0;
        while sent < answers.len() {
            let (left, to) = (&answers[sent..], &self.to[sent..]);
            let none: [ControlMessage<'_>; 0] = [];
            let some = sendmmsg(socket, &mut self.heads, left, to, none, MsgFlags::empty());
            // One that cannot be sent is given up: its asker will ask again.
            sent += some.map_or(1, |some| some.count().max(1));
        }
        self.to.clear();
    }
}

fn singly<P: Peer>(socket: RawFd, clerk: &mut Clerk<'_>) {
    while !clerk.is_done() {
        single::<P>(socket, clerk, MsgFlags::empty());
        clerk.told();
    }
}

/// Takes one datagram, with what the kernel says of it, and answers it.
fn single<P: Peer>(socket: RawFd, clerk: &mut Clerk<'_>, flags: MsgFlags) {
    let mut question = [0; QUESTION_MAX];
    let mut space = nix::cmsg_space!(u32, libc::in_pktinfo, libc::in6_pktinfo);
    let mut local = None;
    let (length, from) = {
        let mut places = [IoSliceMut::new(&mut question)];
        let Ok(got) = recvmsg::<P>(socket, &mut places, Some(&mut space), flags) else { return };
        for said in got.cmsgs().into_iter().flatten() {
            match said {
                ControlMessageOwned::RxqOvfl(count) => clerk.flood.dropped(Instant::now(), count),
                ControlMessageOwned::Ipv4PacketInfo(one) => local = Some(Local::V4(one)),
                ControlMessageOwned::Ipv6PacketInfo(one) => local = Some(Local::V6(one)),
                _ => {}
            }
        }
        (got.bytes, got.address)
    };
    let (Some(packet), Some(from)) = (question.get(..length), from) else { return };
    let mut out = Vec::with_capacity(DATAGRAM_MAX);
    clerk.answer(clerk.flooded(), packet, from.address(), &mut out);
    if out.is_empty() {
        return;
    }
    let answer = [IoSlice::new(&out)];
    let said = match &mut local {
        Some(Local::V4(one)) => {
            // The address is what counts; the way is the kernel's to find.
            one.ipi_ifindex = 0;
            Some(ControlMessage::Ipv4PacketInfo(one))
        }
        Some(Local::V6(one)) => Some(ControlMessage::Ipv6PacketInfo(one)),
        None => None,
    };
    let said = said.as_slice();
    // One that cannot be sent is given up: its asker will ask again.
    let _ = sendmsg(socket, &answer, said, MsgFlags::empty(), Some(&from));
}

/// The address of ours that was asked.
enum Local {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
}
