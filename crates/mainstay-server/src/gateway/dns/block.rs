//! Records written down once: what is copied behind a question. Names in them that end in the
//! zone's own name point back to it in the question, wherever that stands.

use crate::gateway::dns::name::{Name, suffixes};
use crate::gateway::dns::query::{A, AAAA, HEADER, HINFO, IN, NS, SOA};
use std::net::IpAddr;

/// A pointer to the name of the question, which stands right behind the header (RFC 1035, 4.1.4).
const TO_QUESTION: u16 = 0xc000 | HEADER as u16;

/// Serial of the zones. Nobody transfers them and addresses change without it, so that it says
/// nothing; what says nothing should not differ between gateways (as at Amazon Route 53).
const SERIAL: u32 = 1;
/// What secondaries would do, if there were any: the values of RFC 1912, 2.2.
const REFRESH: u32 = 3600;
/// See `REFRESH`.
const RETRY: u32 = 600;
/// See `REFRESH`.
const EXPIRE: u32 = 1_209_600;
/// Who serves a zone changes with its delegation, by hand.
const SERVERS_TTL: u32 = 3600;

/// Some records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    count: u16,
    bytes: Vec<u8>,
    /// Where pointers to the zone's name stand.
    pointers: Vec<u16>,
}

impl Block {
    /// The addresses of one family, as they belong to the question's own name.
    pub(super) fn addresses(addresses: &[IpAddr], ttl: u32) -> Block {
        let mut block = Block::default();
        for address in addresses {
            match address {
                IpAddr::V4(address) => {
                    block.begin(A, ttl);
                    block.data(&address.octets());
                }
                IpAddr::V6(address) => {
                    block.begin(AAAA, ttl);
                    block.data(&address.octets());
                }
            }
        }
        block
    }

    /// The servers of `zone`.
    pub(super) fn servers(servers: &[Name], zone: &Name) -> Block {
        let mut block = Block::default();
        for server in servers {
            block.begin_in_zone(NS, SERVERS_TTL);
            let length = block.open();
            block.name(server, zone);
            block.close(length);
        }
        block
    }

    /// The start of authority of `zone`; what is not there may be kept as not there for `ttl`.
    pub(super) fn authority(server: &Name, contact: &Name, zone: &Name, ttl: u32) -> Block {
        let mut block = Block::default();
        block.begin_in_zone(SOA, ttl);
        let length = block.open();
        block.name(server, zone);
        block.name(contact, zone);
        for number in [SERIAL, REFRESH, RETRY, EXPIRE, ttl] {
            block.bytes.extend(number.to_be_bytes());
        }
        block.close(length);
        block
    }

    /// What ANY is answered with (RFC 8482, 4.2).
    pub(super) fn no_any(ttl: u32) -> Block {
        let mut block = Block::default();
        block.begin(HINFO, ttl);
        block.data(b"\x07RFC8482\x00");
        block
    }

    /// Records in it.
    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// Bytes of it.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Copies itself behind a question whose zone's name stands at `zone_at` of the packet.
    pub(super) fn copy_to(&self, out: &mut Vec<u8>, zone_at: usize) {
        let begin = out.len();
        out.extend_from_slice(&self.bytes);
        let pointer = (0xc000 | zone_at as u16).to_be_bytes();
        for at in &self.pointers {
            let at = begin + usize::from(*at);
            out[at..at + 2].copy_from_slice(&pointer);
        }
    }

    /// Begins a record of the question's own name.
    fn begin(&mut self, kind: u16, ttl: u32) {
        self.bytes.extend(TO_QUESTION.to_be_bytes());
        self.rest(kind, ttl);
    }

    /// Begins a record of the zone's name.
    fn begin_in_zone(&mut self, kind: u16, ttl: u32) {
        self.point();
        self.rest(kind, ttl);
    }

    fn rest(&mut self, kind: u16, ttl: u32) {
        self.count += 1;
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend(IN.to_be_bytes());
        self.bytes.extend(ttl.to_be_bytes());
    }

    fn data(&mut self, data: &[u8]) {
        let length = self.open();
        self.bytes.extend_from_slice(data);
        self.close(length);
    }

    fn open(&mut self) -> usize {
        self.bytes.extend([0; 2]);
        self.bytes.len()
    }

    fn close(&mut self, begin: usize) {
        let length = (self.bytes.len() - begin) as u16;
        self.bytes[begin - 2..begin].copy_from_slice(&length.to_be_bytes());
    }

    fn point(&mut self) {
        self.pointers.push(self.bytes.len() as u16);
        self.bytes.extend([0; 2]);
    }

    /// `name`, with a pointer for its end if that is the zone's name or all above it that fits.
    fn name(&mut self, name: &Name, zone: &Name) {
        if !name.is_under(zone) {
            self.bytes.extend_from_slice(name.wire());
            return;
        }
        let own = name.wire().len() - zone.wire().len();
        debug_assert!(suffixes(name.wire()).any(|suffix| suffix.len() == zone.wire().len()));
        self.bytes.extend_from_slice(&name.wire()[..own]);
        self.point();
    }
}
