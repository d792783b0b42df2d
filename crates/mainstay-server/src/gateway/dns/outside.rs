//! Whatever bytes, given to the answerer: for fuzzing, and for the seeded manglings of `cargo
//! test`. It checks what must be true of every reply.

use crate::gateway::dns::answer::{Asker, Became, DATAGRAM_MAX, answer};
use crate::gateway::dns::locate::{Network, Table};
use crate::gateway::dns::name::Name;
use crate::gateway::dns::query::HEADER;
use crate::gateway::dns::zone::Zones;
use crate::gateway::dns::{Settings, Target};
use mainstay_core::gateway::answers::alike;
use std::sync::OnceLock;

/// A small configuration with everything in it.
///
/// # Panics
/// Never: its texts are right.
pub fn example() -> Settings {
    let name = |text: &str| Name::parse(text).expect("a name");
    let network = |text: &str, region| Network::parse(text, region).expect("a network");
    let target = |number: u8, region| Target {
        gateway: format!("gw-{number}"),
        addresses: vec![
            [203, 0, 113, number].into(),
            [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(number)].into(),
        ],
        region: Some(region),
    };
    Settings {
        names: vec![name("api.example.com"), name("chat.example.org")],
        tenants: vec![String::from("acme")],
        servers: vec![name("ns1.example.com"), name("ns2.api.example.com")],
        contact: Name::parse_mailbox("hostmaster@api.example.com").expect("a mailbox"),
        ttl: 20,
        targets: vec![target(1, 0), target(2, 0), target(3, 1), target(4, 1)],
        hosts: vec![(name("ns2.api.example.com"), vec![[203, 0, 113, 99].into()])],
        table: Table::new(&[
            network("198.51.100.0/24", 0),
            network("192.0.2.0/24", 1),
            network("2001:db8:1::/48", 1),
        ]),
        regions: 2,
        kept: None,
    }
}

/// Answers `packet`, whatever it is, and checks the reply.
///
/// # Panics
/// If a reply is none: another id, no flag of a reply, too large, recursion offered, or more than
/// a code to what is no question.
pub fn any(packet: &[u8]) {
    static ZONES: OnceLock<Zones> = OnceLock::new();
    let zones = ZONES.get_or_init(|| Zones::new(&example(), &alike(4)));
    let mut out = Vec::new();
    for is_stream in [false, true] {
        let asker = Asker { address: [198, 51, 100, 7].into(), is_stream, turn: packet.len() };
        let became = answer(zones, packet, asker, &mut out);
        if became == Became::Silent {
            assert!(out.is_empty(), "silence has no bytes");
            continue;
        }
        assert!(out.len() >= HEADER && out.len() <= DATAGRAM_MAX, "{} bytes", out.len());
        assert_eq!(out[..2], packet[..2], "another id");
        assert!(out[2] & 0x80 != 0 && packet[2] & 0x80 == 0, "a reply goes to a question only");
        assert_eq!(out[3] & 0x80, 0, "recursion is not available");
        let records = u16::from_be_bytes([out[6], out[7]]);
        assert!(became == Became::Answered || records == 0, "records with a refusal");
    }
}
