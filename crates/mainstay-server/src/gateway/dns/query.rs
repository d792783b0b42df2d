//! Reads one question from whatever bytes came. Nothing is trusted, nothing is allocated.
//!
//! What is no query at all, or could itself be an answer, gets silence: replying to it would only
//! make two servers talk in circles. Everything else that is wrong gets its code in the header.

use crate::gateway::dns::name::{LABEL_MAX, NAME_MAX};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of a header.
pub const HEADER: usize = 12;
/// Types of records (RFC 1035, 3596, 6891; ANY: RFC 8482).
pub const A: u16 = 1;
/// Name servers of a zone.
pub const NS: u16 = 2;
/// Start of authority.
pub const SOA: u16 = 6;
/// What ANY is answered with.
pub const HINFO: u16 = 13;
/// IPv6 addresses.
pub const AAAA: u16 = 28;
/// The pseudo-record of EDNS.
pub const OPT: u16 = 41;
/// Any type.
pub const ANY: u16 = 255;
/// From here to `ANY`, questions that are no types of records: transfers of zones and of keys.
const META: std::ops::Range<u16> = 249..ANY;
/// The class of the Internet.
pub const IN: u16 = 1;
/// The option of EDNS that tells where the client is (RFC 7871).
pub const SUBNET: u16 = 8;

/// Additional records that are looked through for EDNS; a real query has one, two with a signature.
const ADDITIONAL_MAX: u16 = 4;

/// What is said of a question in the header. `BadVersion` has its upper bits in EDNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// There it is, or there is none of that type.
    Good = 0,
    /// No well-formed question.
    Malformed = 1,
    /// No such name.
    NoName = 3,
    /// Nothing that is done here.
    NotDone = 4,
    /// Not for us to answer.
    Refused = 5,
    /// A version of EDNS after the first.
    BadVersion = 16,
}

/// What the bytes are.
#[expect(clippy::large_enum_variant, reason = "a box would allocate for every question")]
#[derive(Debug)]
pub enum Read<'p> {
    /// Nothing to reply to.
    Silence,
    /// Only a header goes back, with this code.
    Wrong(Code),
    /// A question. The code says what is wrong with it already.
    Question(Question<'p>, Code),
}

/// A question.
#[derive(Debug)]
pub struct Question<'p> {
    /// The whole packet.
    pub packet: &'p [u8],
    /// The name, in lower case.
    name: [u8; NAME_MAX],
    length: usize,
    /// The labels of the name, the root not counted.
    pub labels: usize,
    /// The type of record.
    pub kind: u16,
    /// What came by EDNS.
    pub edns: Option<Edns>,
}

impl<'p> Question<'p> {
    /// The name on the wire, in lower case.
    pub fn name(&self) -> &[u8] {
        &self.name[..self.length]
    }

    /// The question as it was asked, to be repeated letter by letter: resolvers hide a secret in
    /// the case of letters.
    pub fn asked(&self) -> &'p [u8] {
        &self.packet[HEADER..HEADER + self.length + 4]
    }
}

/// What came by EDNS (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// The largest datagram that the asker takes.
    pub payload: u16,
    /// Whether it understands DNSSEC.
    pub dnssec: bool,
    /// Where the client is.
    pub subnet: Option<Subnet>,
}

/// Where a client is (RFC 7871).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// 1 for IPv4, 2 for IPv6, 0 for nothing said.
    pub family: u16,
    /// Bits of the address that are said.
    pub source: u8,
    /// The address, all other bits zero.
    pub address: IpAddr,
}

/// Reads `packet`.
pub fn read(packet: &[u8]) -> Read<'_> {
    let Some((header, body)) = packet.split_first_chunk::<HEADER>() else {
        return Read::Silence;
    };
    let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    if header[2] & 0x80 != 0 {
        return Read::Silence;
    }
    if header[2] & 0x78 != 0 {
        return Read::Wrong(Code::NotDone);
    }
    if count(4) != 1 {
        return Read::Wrong(Code::Malformed);
    }
    let mut question =
        Question { packet, name: [0; NAME_MAX], length: 0, labels: 0, kind: 0, edns: None };
    let Some(rest) = read_name(body, &mut question) else { return Read::Wrong(Code::Malformed) };
    let Some((fixed, rest)) = rest.split_first_chunk::<4>() else {
        return Read::Wrong(Code::Malformed);
    };
    question.kind = u16::from_be_bytes([fixed[0], fixed[1]]);
    let class = u16::from_be_bytes([fixed[2], fixed[3]]);
    if META.contains(&question.kind) || class != IN {
        // What follows a question for a transfer is not looked at; nor is EDNS.
        return Read::Question(question, Code::Refused);
    }
    // The counts of answers and authorities are zero in a query.
    if header[6..10] != [0; 4] || count(10) > ADDITIONAL_MAX || question.kind == OPT {
        return Read::Wrong(Code::Malformed);
    }
    match read_additional(rest, count(10)) {
        Additional::Malformed => Read::Wrong(Code::Malformed),
        Additional::Read(edns) => {
            question.edns = edns;
            Read::Question(question, Code::Good)
        }
        Additional::OtherVersion(edns) => {
            question.edns = Some(edns);
            Read::Question(question, Code::BadVersion)
        }
    }
}

/// Reads the name at the start of `body` into `question`; what follows it. Compression has no
/// place in the first name of a packet.
fn read_name<'b>(body: &'b [u8], question: &mut Question<'_>) -> Option<&'b [u8]> {
    let mut at = 0;
    loop {
        let length = usize::from(*body.get(at)?);
        if length > LABEL_MAX {
            return None;
        }
        let end = at + 1 + length;
        let label = body.get(at..end)?;
        let place = question.name.get_mut(at..end)?;
        place.copy_from_slice(label);
        place[1..].make_ascii_lowercase();
        at = end;
        if length == 0 {
            break;
        }
        question.labels += 1;
    }
    question.length = at;
    body.get(at..)
}

enum Additional {
    Malformed,
    OtherVersion(Edns),
    Read(Option<Edns>),
}

/// Looks through `count` additional records, which fill all of `rest`.
fn read_additional(mut rest: &[u8], count: u16) -> Additional {
    let mut found = None;
    for _ in 0..count {
        let Some((record, after)) = read_record(rest) else { return Additional::Malformed };
        rest = after;
        if record.kind != OPT {
            continue;
        }
        if found.is_some() || !record.is_root {
            return Additional::Malformed;
        }
        found = Some(record);
    }
    if !rest.is_empty() {
        return Additional::Malformed;
    }
    let Some(record) = found else { return Additional::Read(None) };
    let mut edns = Edns { payload: record.class, dnssec: record.ttl[2] & 0x80 != 0, subnet: None };
    if record.ttl[1] != 0 {
        return Additional::OtherVersion(edns);
    }
    match read_options(record.data) {
        Some(subnet) => {
            edns.subnet = subnet;
            Additional::Read(Some(edns))
        }
        None => Additional::Malformed,
    }
}

struct Record<'p> {
    is_root: bool,
    kind: u16,
    class: u16,
    ttl: [u8; 4],
    data: &'p [u8],
}

fn read_record(rest: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (is_root, rest) = (rest.first() == Some(&0), skip_name(rest)?);
    let (fixed, rest) = rest.split_first_chunk::<10>()?;
    let word = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
    let (data, rest) = rest.split_at_checked(usize::from(word(8)))?;
    let ttl = [fixed[4], fixed[5], fixed[6], fixed[7]];
    Some((Record { is_root, kind: word(0), class: word(2), ttl, data }, rest))
}

/// What follows the name at the start of `rest`. A pointer ends a name; where it points to is
/// nobody's concern here.
fn skip_name(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        let length = usize::from(*rest.first()?);
        match length {
            0 => return rest.get(1..),
            0xc0.. => return rest.get(2..),
            1..=LABEL_MAX => rest = rest.get(1 + length..)?,
            _ => return None,
        }
    }
}

/// The client's network among options, if it is there and well-formed; `None` if anything is not.
fn read_options(mut rest: &[u8]) -> Option<Option<Subnet>> {
    let mut found = None;
    while !rest.is_empty() {
        let (fixed, after) = rest.split_first_chunk::<4>()?;
        let word = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let (data, after) = after.split_at_checked(usize::from(word(2)))?;
        if word(0) == SUBNET {
            if found.is_some() {
                return None;
            }
            found = Some(read_subnet(data)?);
        }
        rest = after;
    }
    Some(found)
}

/// RFC 7871, 6: as many bytes of address as its bits need, no bit set beyond them, scope zero.
fn read_subnet(data: &[u8]) -> Option<Subnet> {
    let (fixed, bytes) = data.split_first_chunk::<4>()?;
    let family = u16::from_be_bytes([fixed[0], fixed[1]]);
    let (source, scope) = (fixed[2], fixed[3]);
    let bits_max = match family {
        0 => 0,
        1 => 32,
        2 => 128,
        _ => return None,
    };
    if source > bits_max || scope != 0 || bytes.len() != usize::from(source).div_ceil(8) {
        return None;
    }
    let mut whole = [0; 16];
    whole[..bytes.len()].copy_from_slice(bytes);
    let bits = u128::from_be_bytes(whole);
    if bits.checked_shl(u32::from(source)).unwrap_or(0) != 0 {
        return None;
    }
    let address = match family {
        2 => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        _ => IpAddr::V4(Ipv4Addr::from_bits((bits >> 96) as u32)),
    };
    Some(Subnet { family, source, address })
}
