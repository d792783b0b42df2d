//! Frames: `{length u32, version u16, kind u16, count u64, body}`, big endian.
//!
//! No frame is longer than 16 KiB, so a long message never stands in the way of a short one: it
//! comes in parts, between which others may go. Its kind has the highest bit set in all parts but
//! the last. `count` goes up by one with each frame of a connection, so that a frame that was
//! lost, repeated or written by two at once is seen. What a peer claims to be coming is checked
//! against bounds first, and nothing is allocated for a claim.

use bytes::{BufMut, BytesMut};
use std::collections::BTreeMap;

/// Bytes before a body.
pub const HEAD: usize = 16;
/// Longest body of one frame: on 10 Mbit/s, 13 ms in which nothing else can be said.
pub const BODY_MAX: usize = 16 * 1024;
/// In a kind's number: more of the same message follows.
const MORE: u16 = 0x8000;

/// Kinds of messages. A number once given is never given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum Kind {
    /// The versions a node speaks. The first frame, and readable by every version.
    Hello = 1,
    /// What its positions are called.
    Names = 2,
    /// Nothing but life.
    Beat = 3,
    /// What a gateway wants of a site.
    Report = 16,
    /// What a site grants.
    Grant = 17,
    /// How a gateway sees things.
    Digest = 18,
    /// One order.
    Order = 19,
    /// A set of orders.
    Orders = 20,
    /// Asks for a set of orders.
    Fetch = 21,
    /// What a gateway wants of a quota.
    QuotaReport = 22,
    /// Its slice.
    QuotaGrant = 23,
    /// Asks for the policy.
    Poll = 24,
    /// The policy.
    Snapshot = 25,
    /// What a gateway counted, for a status page.
    Summary = 26,
    /// What a gateway has heard of callers' keys, in numbers.
    KeyMarks = 27,
    /// Callers' keys.
    Keys = 28,
    /// What went through a gateway, in money.
    Spent = 29,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 17] = [
        Kind::Hello,
        Kind::Names,
        Kind::Beat,
        Kind::Report,
        Kind::Grant,
        Kind::Digest,
        Kind::Order,
        Kind::Orders,
        Kind::Fetch,
        Kind::QuotaReport,
        Kind::QuotaGrant,
        Kind::Poll,
        Kind::Snapshot,
        Kind::Summary,
        Kind::KeyMarks,
        Kind::Keys,
        Kind::Spent,
    ];

    fn of_number(number: u16) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u16 == number)
    }

    /// Its word in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Hello => "hello",
            Kind::Names => "names",
            Kind::Beat => "beat",
            Kind::Report => "report",
            Kind::Grant => "grant",
            Kind::Digest => "digest",
            Kind::Order => "order",
            Kind::Orders => "orders",
            Kind::Fetch => "fetch",
            Kind::QuotaReport => "quota_report",
            Kind::QuotaGrant => "quota_grant",
            Kind::Poll => "poll",
            Kind::Snapshot => "snapshot",
            Kind::Summary => "summary",
            Kind::KeyMarks => "key_marks",
            Kind::Keys => "keys",
            Kind::Spent => "spent",
        }
    }

    /// The longest body, all parts together: what protocol §5.13 allows, and room for fields that
    /// later versions add.
    pub fn body_max(self) -> usize {
        match self {
            Kind::Hello | Kind::Beat | Kind::Fetch | Kind::Poll => 64,
            Kind::Report | Kind::Grant | Kind::Order => 512,
            Kind::QuotaReport | Kind::QuotaGrant => 128,
            Kind::Digest => BODY_MAX,
            Kind::Orders => 64 * 512,
            // Everything, models and sites: 2 x 128 and one, each with 18 counts.
            Kind::Summary => 64 * 1024,
            // Eight bytes for each of 256 parts.
            Kind::KeyMarks => 4 * 1024,
            // Sixty-four, each with a body of 4 KiB.
            Kind::Keys => 64 * (4096 + 64),
            // Sixty-four sums, each with a long name.
            Kind::Spent => 64 * (512 + 64),
            // A hundred models at each of sixty-four sites, with long names.
            Kind::Names => 1 << 20,
            // 4 MiB of content, and what is said of it.
            Kind::Snapshot => (4 << 20) + 4096,
        }
    }
}

/// How a peer was seen to speak nonsense. It is cut off, and not obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nonsense {
    /// A frame or message longer than its kind may be.
    TooLong,
    /// A body that cannot be read, or a value out of its bounds.
    Malformed,
    /// A frame repeated, missing or out of order.
    Count,
    /// A version that was not agreed on, or none in common.
    Version,
    /// A message that this peer has no part to send.
    Direction,
    /// A message in a place where it cannot be.
    Unexpected,
    /// More than a peer that follows the protocol ever sends.
    TooFast,
}

impl Nonsense {
    /// All of them.
    pub const ALL: [Nonsense; 7] = [
        Nonsense::TooLong,
        Nonsense::Malformed,
        Nonsense::Count,
        Nonsense::Version,
        Nonsense::Direction,
        Nonsense::Unexpected,
        Nonsense::TooFast,
    ];

    /// Its word in metrics and logs.
    pub fn word(self) -> &'static str {
        match self {
            Nonsense::TooLong => "too_long",
            Nonsense::Malformed => "malformed",
            Nonsense::Count => "count",
            Nonsense::Version => "version",
            Nonsense::Direction => "direction",
            Nonsense::Unexpected => "unexpected",
            Nonsense::TooFast => "too_fast",
        }
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of body.
    pub length: usize,
    /// The version it is written in.
    pub version: u16,
    /// The number of its kind.
    pub number: u16,
    /// More of the same message follows.
    pub more: bool,
    /// Its place among the frames of the connection, from 0.
    pub count: u64,
}

impl Head {
    /// Reads it. Any bytes are some head.
    pub fn read(bytes: &[u8; HEAD]) -> Head {
        let [l0, l1, l2, l3, v0, v1, k0, k1, count @ ..] = *bytes;
        let kind = u16::from_be_bytes([k0, k1]);
        Head {
            length: usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX),
            version: u16::from_be_bytes([v0, v1]),
            number: kind & !MORE,
            more: kind & MORE != 0,
            count: u64::from_be_bytes(count),
        }
    }

    /// Writes it.
    pub fn write(&self, out: &mut BytesMut) {
        out.put_u32(u32::try_from(self.length).unwrap_or(u32::MAX));
        out.put_u16(self.version);
        out.put_u16(self.number | if self.more { MORE } else { 0 });
        out.put_u64(self.count);
    }
}

/// A message whose parts are all there, or a frame of a kind that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whole {
    /// A message, not read yet.
    Message(Kind, Vec<u8>),
    /// Something of a later version.
    Unknown,
}

/// Puts messages together out of frames.
#[derive(Debug, Default)]
pub struct Incoming {
    count: u64,
    version: Option<u16>,
    head: Option<Head>,
    parts: BTreeMap<Kind, Vec<u8>>,
}

impl Incoming {
    /// From now on every frame is of this version.
    pub fn agree(&mut self, version: u16) {
        self.version = Some(version);
    }

    /// The head of the next frame; how many bytes of body follow.
    pub fn head(&mut self, bytes: &[u8; HEAD]) -> Result<usize, Nonsense> {
        let head = Head::read(bytes);
        if head.length > BODY_MAX {
            return Err(Nonsense::TooLong);
        }
        if head.count != self.count {
            return Err(Nonsense::Count);
        }
        if self.version.is_some_and(|agreed| agreed != head.version) {
            return Err(Nonsense::Version);
        }
        if let Some(kind) = Kind::of_number(head.number) {
            let before = self.parts.get(&kind).map_or(0, Vec::len);
            if before + head.length > kind.body_max() {
                return Err(Nonsense::TooLong);
            }
        }
        self.count += 1;
        self.head = Some(head);
        Ok(head.length)
    }

    /// The body that belongs to the last head; the message, if it was its last part.
    pub fn body(&mut self, body: &[u8]) -> Result<Option<Whole>, Nonsense> {
        let Some(head) = self.head.take().filter(|head| head.length == body.len()) else {
            return Err(Nonsense::Unexpected);
        };
        let Some(kind) = Kind::of_number(head.number) else {
            return Ok(if head.more { None } else { Some(Whole::Unknown) });
        };
        if head.more {
            // A part without content would cost us and not them.
            if body.is_empty() {
                return Err(Nonsense::Malformed);
            }
            self.parts.entry(kind).or_default().extend_from_slice(body);
            return Ok(None);
        }
        let mut whole = self.parts.remove(&kind).unwrap_or_default();
        whole.extend_from_slice(body);
        Ok(Some(Whole::Message(kind, whole)))
    }
}

/// Writes messages as frames.
#[derive(Debug, Default)]
pub struct Outgoing {
    count: u64,
}

impl Outgoing {
    /// One frame of a message of `kind`; `more` of it follows.
    pub fn frame(&mut self, out: &mut BytesMut, part: (Kind, bool), version: u16, body: &[u8]) {
        let (kind, more) = part;
        let count = self.count;
        self.count += 1;
        Head { length: body.len(), version, number: kind as u16, more, count }.write(out);
        out.put_slice(body);
    }

    /// A whole message, in as many frames as it needs.
    pub fn message(&mut self, out: &mut BytesMut, kind: Kind, version: u16, body: &[u8]) {
        let mut rest = body;
        loop {
            let (part, left) = rest.split_at(rest.len().min(BODY_MAX));
            self.frame(out, (kind, !left.is_empty()), version, part);
            if left.is_empty() {
                return;
            }
            rest = left;
        }
    }
}
