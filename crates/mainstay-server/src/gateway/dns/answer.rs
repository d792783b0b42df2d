//! Answers one packet: finds what is written down for its question and copies it. This is the path
//! that a flood takes, so it allocates nothing and looks at everything once.

use crate::gateway::dns::block::Block;
use crate::gateway::dns::locate::Place;
use crate::gateway::dns::query::{
    A, AAAA, ANY, Code, Edns, HEADER, NS, OPT, Question, Read, SOA, SUBNET, Subnet, read,
};
use crate::gateway::dns::zone::{Families, Found, Regions, Zones};
use std::net::IpAddr;

/// Largest datagram sent: what crosses the Internet in one piece (DNS Flag Day 2020).
pub const DATAGRAM_MAX: usize = 1232;
/// Largest to an asker without EDNS (RFC 1035, 4.2.1).
const DATAGRAM_PLAIN: usize = 512;
/// Largest message over TCP.
const STREAM_MAX: usize = u16::MAX as usize;
/// Fixed bytes of EDNS, and of the option about the client's network.
const OPT_SIZE: usize = 11;
/// See `OPT_SIZE`.
const SUBNET_SIZE: usize = 8;
/// Flags of a reply: it is one; it has authority; something was left out.
const REPLY: u8 = 0x80;
/// See `REPLY`.
const AUTHORITY: u8 = 0x04;
/// See `REPLY`.
const TRUNCATED: u8 = 0x02;
/// What the asker said about recursion, repeated. That it is not available is told by zeros.
const RECURSION_WANTED: u8 = 0x01;

/// Who asks, and how.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// From where.
    pub address: IpAddr,
    /// Whether over TCP, where nothing is too large.
    pub is_stream: bool,
    /// Whose turn it is: any number that goes up with each question.
    pub turn: usize,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// Nothing goes back.
    Silent,
    /// Records go back, or that there are none.
    Answered,
    /// Only a code goes back.
    Refused,
}

/// What goes between header and EDNS.
#[derive(Default)]
struct Sections<'z> {
    answers: Option<&'z Block>,
    authority: Option<&'z Block>,
    /// Where the zone's name stands in the packet.
    zone_at: usize,
    /// Where the client was found, if that counted.
    place: Place,
}

/// Writes the reply to `packet` into `out`, which is emptied first.
pub fn answer(zones: &Zones, packet: &[u8], asker: Asker, out: &mut Vec<u8>) -> Became {
    out.clear();
    match read(packet) {
        Read::Silence => Became::Silent,
        Read::Wrong(code) => {
            header_alone(packet, code, out);
            Became::Refused
        }
        Read::Question(question, Code::Good) => {
            let (code, sections) = find(zones, &question, asker);
            write(&question, asker, (code, &sections), out);
            if code == Code::Refused { Became::Refused } else { Became::Answered }
        }
        Read::Question(question, code) => {
            write(&question, asker, (code, &Sections::default()), out);
            Became::Refused
        }
    }
}

/// A reply of nothing but a code.
fn header_alone(packet: &[u8], code: Code, out: &mut Vec<u8>) {
    let Some(start) = packet.first_chunk::<3>() else { return };
    let flags = REPLY | (start[2] & !(AUTHORITY | TRUNCATED));
    out.extend_from_slice(&[start[0], start[1], flags, code as u8]);
    out.extend_from_slice(&[0; HEADER - 4]);
}

fn find<'z>(zones: &'z Zones, question: &Question<'_>, asker: Asker) -> (Code, Sections<'z>) {
    let name = question.name();
    let zone_at = |length: usize| HEADER + name.len() - length;
    match zones.find(name, question.labels) {
        Found::NotOurs => (Code::Refused, Sections::default()),
        Found::NoName(zone) => {
            let authority = Some(&zone.authority);
            let zone_at = zone_at(zone.length);
            (Code::NoName, Sections { authority, zone_at, ..Sections::default() })
        }
        Found::Name { zone, is_top, regions } => {
            let mut sections = Sections { zone_at: zone_at(zone.length), ..Sections::default() };
            sections.answers = match question.kind {
                A => addresses(&regions, question, asker, (|all| &all.v4, &mut sections.place)),
                AAAA => addresses(&regions, question, asker, (|all| &all.v6, &mut sections.place)),
                SOA if is_top => Some(&zone.authority),
                NS if is_top => Some(&zone.servers),
                ANY => Some(&zones.any),
                _ => None,
            };
            if sections.answers.is_none() {
                sections.authority = Some(&zone.authority);
            }
            (Code::Good, sections)
        }
    }
}

/// The addresses whose turn it is, for where the client is.
fn addresses<'z>(
    regions: &Regions<'z>,
    question: &Question<'_>,
    asker: Asker,
    (family, place): (fn(&Families) -> &Vec<Block>, &mut Place),
) -> Option<&'z Block> {
    let subnet = question.edns.and_then(|edns| edns.subnet).filter(|subnet| subnet.source > 0);
    // A resolver that says nothing of its clients stands for them.
    let (families, found) = regions.at(subnet.map_or(asker.address, |subnet| subnet.address));
    *place = found;
    let rotation = family(families);
    rotation.get(asker.turn.checked_rem(rotation.len())?)
}

fn write(
    question: &Question<'_>,
    asker: Asker,
    (code, sections): (Code, &Sections<'_>),
    out: &mut Vec<u8>,
) {
    let asked = question.asked();
    let limit = match question.edns {
        _ if asker.is_stream => STREAM_MAX,
        None => DATAGRAM_PLAIN,
        Some(edns) => usize::from(edns.payload).clamp(DATAGRAM_PLAIN, DATAGRAM_MAX),
    };
    let blocks = [sections.answers, sections.authority];
    let size: usize = blocks.iter().flatten().map(|block| block.len()).sum();
    let fits = HEADER + asked.len() + size + question.edns.map_or(0, edns_size) <= limit;
    let count = |block: Option<&Block>| if fits { block.map_or(0, Block::count) } else { 0 };
    let has_authority = matches!(code, Code::Good | Code::NoName);
    let mut flags = REPLY | (question.packet[2] & RECURSION_WANTED);
    flags |= if has_authority { AUTHORITY } else { 0 };
    flags |= if fits { 0 } else { TRUNCATED };
    // The lower bits of the code; the others go with EDNS.
    out.extend_from_slice(&[question.packet[0], question.packet[1], flags, code as u8 & 0x0f]);
    for count in
        [1, count(sections.answers), count(sections.authority), u16::from(question.edns.is_some())]
    {
        out.extend_from_slice(&count.to_be_bytes());
    }
    out.extend_from_slice(asked);
    if fits {
        for block in blocks.into_iter().flatten() {
            block.copy_to(out, sections.zone_at);
        }
    }
    if let Some(edns) = question.edns {
        write_edns(edns, code, sections.place, out);
    }
}

fn edns_size(edns: Edns) -> usize {
    let subnet = edns.subnet.map_or(0, |one| SUBNET_SIZE + address_size(&one));
    OPT_SIZE + subnet
}

fn address_size(subnet: &Subnet) -> usize {
    usize::from(subnet.source).div_ceil(8)
}

fn write_edns(edns: Edns, code: Code, place: Place, out: &mut Vec<u8>) {
    let [opt, payload] = [OPT, DATAGRAM_MAX as u16].map(u16::to_be_bytes);
    let dnssec = u8::from(edns.dnssec) << 7;
    let rest = edns_size(edns) - OPT_SIZE;
    out.extend_from_slice(&[0, opt[0], opt[1], payload[0], payload[1]]);
    out.extend_from_slice(&[code as u8 >> 4, 0, dnssec, 0]);
    out.extend_from_slice(&(rest as u16).to_be_bytes());
    let Some(subnet) = edns.subnet else { return };
    for word in [SUBNET, (rest - 4) as u16, subnet.family] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    let scope = if subnet.source == 0 { 0 } else { place.scope };
    out.extend_from_slice(&[subnet.source, scope]);
    let size = address_size(&subnet);
    match subnet.address {
        IpAddr::V4(address) => out.extend_from_slice(&address.octets()[..size]),
        IpAddr::V6(address) => out.extend_from_slice(&address.octets()[..size]),
    }
}
