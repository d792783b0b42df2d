//! Questions and their answers, read by another's parser.

use super::answer::{Asker, Became, answer};
use super::outside::{any, example};
use super::publish::Publisher;
use super::query::{A, AAAA, ANY, NS, SOA};
use super::zone::Zones;
use super::*;
use mainstay_core::gateway::answers::alike;
use mainstay_core::names::GatewayId;
use mainstay_core::rng::Rng;
use simple_dns::rdata::RData;
use simple_dns::{Packet, RCODE};

/// A question, put together byte by byte.
struct Ask {
    name: &'static str,
    kind: u16,
    class: u16,
    edns: Option<(u16, u8, Vec<u8>)>,
    from: IpAddr,
    is_stream: bool,
    turn: usize,
}

fn ask(name: &'static str, kind: u16) -> Ask {
    let from = [10, 0, 0, 1].into();
    Ask { name, kind, class: 1, edns: None, from, is_stream: false, turn: 0 }
}

impl Ask {
    fn edns(self, payload: u16, version: u8, options: &[u8]) -> Ask {
        Ask { edns: Some((payload, version, options.to_vec())), ..self }
    }

    /// With a client's network.
    fn subnet(self, family: u16, source: u8, address: &[u8]) -> Ask {
        let mut option = vec![0, 8, 0, 4 + address.len() as u8];
        option.extend(family.to_be_bytes());
        option.extend([source, 0]);
        option.extend(address);
        self.edns(1232, 0, &option)
    }

    fn packet(&self) -> Vec<u8> {
        let mut packet = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(self.edns.is_some())];
        for label in self.name.split('.').filter(|label| !label.is_empty()) {
            packet.push(label.len() as u8);
            packet.extend(label.bytes());
        }
        packet.push(0);
        packet.extend(self.kind.to_be_bytes());
        packet.extend(self.class.to_be_bytes());
        if let Some((payload, version, options)) = &self.edns {
            packet.extend([0, 0, 41]);
            packet.extend(payload.to_be_bytes());
            packet.extend([0, *version, 0x80, 0]);
            packet.extend((options.len() as u16).to_be_bytes());
            packet.extend(options);
        }
        packet
    }

    fn reply(&self, zones: &Zones) -> Vec<u8> {
        let asker = Asker { address: self.from, is_stream: self.is_stream, turn: self.turn };
        let mut out = Vec::new();
        answer(zones, &self.packet(), asker, &mut out);
        out
    }

    /// Code, addresses or names of the answer, and types of the authority section.
    fn said(&self, zones: &Zones) -> (RCODE, Vec<String>, usize) {
        let reply = self.reply(zones);
        let packet = Packet::parse(&reply).expect("a well-formed reply");
        let shown = packet.answers.iter().map(|record| match &record.rdata {
            RData::A(a) => std::net::Ipv4Addr::from(a.address).to_string(),
            RData::AAAA(a) => std::net::Ipv6Addr::from(a.address).to_string(),
            RData::NS(ns) => ns.0.to_string(),
            RData::SOA(soa) => format!("{} {} {}", soa.mname, soa.rname, soa.minimum),
            other => format!("{:?}", other.type_code()),
        });
        let soa = |record: &&simple_dns::ResourceRecord<'_>| matches!(record.rdata, RData::SOA(_));
        let authority = packet.name_servers.iter().filter(soa).count();
        assert_eq!(authority, packet.name_servers.len(), "only starts of authority");
        (packet.rcode(), shown.collect(), authority)
    }
}

fn zones() -> Zones {
    Zones::new(&example(), &alike(4))
}

#[test]
fn an_address_is_told_with_authority_for_the_time_to_live_in_the_letters_of_the_question() {
    let question = ask("aPi.eXample.cOM", A);
    let reply = question.reply(&zones());
    assert_eq!(reply[12..33], question.packet()[12..33], "letter by letter");
    assert_eq!(reply[2], 0x85, "a reply, with authority, that repeats the wish for recursion");
    assert_eq!(reply[3], 0, "recursion is not available");
    let packet = Packet::parse(&reply).expect("a reply");
    assert_eq!(packet.answers.len(), 2);
    for record in &packet.answers {
        assert_eq!((record.ttl, record.name.to_string()), (20, "aPi.eXample.cOM".into()));
    }
}

#[test]
fn answers_take_turns_by_weight_and_name_two_gateways_each() {
    let set = [(GatewayId(0), 90), (GatewayId(1), 30), (GatewayId(2), 1), (GatewayId(3), 1)];
    let zones = Zones::new(&Settings { table: Table::default(), ..example() }, &set);
    let mut first = std::collections::BTreeMap::new();
    for turn in 0..640 {
        let (code, shown, _) = Ask { turn, ..ask("api.example.com", A) }.said(&zones);
        assert_eq!((code, shown.len()), (RCODE::NoError, 2));
        assert_ne!(shown[0], shown[1]);
        *first.entry(shown[0].clone()).or_insert(0) += 1;
    }
    assert!((420..=480).contains(&first["203.0.113.1"]), "{first:?}");
    assert!((130..=170).contains(&first["203.0.113.2"]), "{first:?}");
    let (_, shown, _) = ask("api.example.com", AAAA).said(&zones);
    assert!(shown.iter().all(|address| address.starts_with("2001:db8::")), "{shown:?}");
}

#[test]
fn what_is_not_there_is_told_with_the_start_of_authority() {
    let zones = zones();
    let none: Vec<String> = Vec::new();
    for (name, kind, code) in [
        ("api.example.com", 16, RCODE::NoError),
        ("ns2.api.example.com", AAAA, RCODE::NoError),
        ("acme.api.example.com", NS, RCODE::NoError),
        ("no.api.example.com", A, RCODE::NameError),
        ("a.b.c.d.e.f.acme.chat.example.org", ANY, RCODE::NameError),
    ] {
        assert_eq!(ask(name, kind).said(&zones), (code, none.clone(), 1), "{name}");
    }
    let reply = ask("a.b.api.example.com", A).reply(&zones);
    let packet = Packet::parse(&reply).expect("a reply");
    let soa = &packet.name_servers[0];
    assert_eq!((soa.name.to_string(), soa.ttl), ("api.example.com".into(), 20));
}

#[test]
fn zones_have_their_servers_and_a_start_of_authority_and_any_gets_little() {
    let zones = zones();
    let servers = vec!["ns1.example.com".to_string(), "ns2.api.example.com".into()];
    for name in ["api.example.com", "chat.example.org"] {
        assert_eq!(ask(name, NS).said(&zones), (RCODE::NoError, servers.clone(), 0));
        let soa = vec!["ns1.example.com hostmaster.api.example.com 20".to_string()];
        assert_eq!(ask(name, SOA).said(&zones), (RCODE::NoError, soa, 0));
        let (code, shown, _) = ask(name, ANY).said(&zones);
        assert_eq!((code, shown), (RCODE::NoError, vec!["HINFO".to_string()]));
    }
    let host = ask("ns2.api.example.com", A).said(&zones);
    assert_eq!(host, (RCODE::NoError, vec!["203.0.113.99".into()], 0));
}

#[test]
fn what_is_not_ours_or_not_for_us_to_do_is_refused() {
    let zones = zones();
    for (name, kind, class) in [
        ("", A, 1),
        ("com", NS, 1),
        ("example.com", A, 1),
        ("xapi.example.com", A, 1),
        ("api.example.com", A, 3),
        ("version.bind", 16, 3),
        ("api.example.com", 252, 1),
        ("api.example.com", 251, 1),
        ("api.example.com", 249, 1),
    ] {
        let question = Ask { class, ..ask(name, kind) };
        let reply = question.reply(&zones);
        assert_eq!(reply[3] & 15, 5, "{name} {kind} {class}");
        assert_eq!(reply[2] & 4, 0, "no authority over it");
        assert_eq!(reply.len(), question.packet().len(), "nothing but the question");
    }
}

/// What is done to a packet.
type Change<'c> = &'c dyn Fn(&mut Vec<u8>);

#[test]
fn hostile_packets_get_silence_or_a_bare_header() {
    let zones = zones();
    let good = ask("api.example.com", A).packet();
    let became = |change: Change<'_>| {
        let mut packet = good.clone();
        change(&mut packet);
        let asker = Asker { address: [10, 0, 0, 1].into(), is_stream: false, turn: 0 };
        let mut out = Vec::new();
        let became = answer(&zones, &packet, asker, &mut out);
        (became, out.get(3).map(|code| code & 15), out.len())
    };
    let silent = (Became::Silent, None, 0);
    let malformed = (Became::Refused, Some(1), 12);
    assert_eq!(became(&|p| p.truncate(11)), silent);
    assert_eq!(became(&|p| p.clear()), silent);
    assert_eq!(became(&|p| p[2] |= 0x80), silent, "a reply");
    for opcode in 1..16 {
        let not_done = (Became::Refused, Some(4), 12);
        assert_eq!(became(&|p| p[2] = opcode << 3), not_done, "operation {opcode}");
    }
    let malformed_ones: [Change<'_>; 14] = [
        &|p| p[5] = 0,
        &|p| p[5] = 2,
        &|p| p[4] = 255,
        &|p| p[7] = 1,
        &|p| p[9] = 1,
        &|p| p[11] = 1,
        &|p| p[10] = 255,
        &|p| p.truncate(12),
        &|p| p.truncate(30),
        &|p| p.push(0),
        &|p| p[12] = 0xc0,
        &|p| p[12] = 0x40,
        &|p| p[12] = 63,
        &|p| p[16] = 200,
    ];
    for (at, change) in malformed_ones.into_iter().enumerate() {
        assert_eq!(became(change), malformed, "{at}");
    }
    let long = |p: &mut Vec<u8>| {
        p.truncate(12);
        p.extend([63; 64 * 4]);
        p.extend([0, 0, 1, 0, 1]);
    };
    assert_eq!(became(&long), malformed, "a name of more than 255 bytes");
}

#[test]
fn edns_is_spoken_in_its_first_version_with_the_size_that_crosses_the_internet() {
    let zones = zones();
    let opt = |reply: &[u8]| {
        let packet = Packet::parse(reply).expect("a reply");
        packet.opt().map(|opt| opt.udp_packet_size)
    };
    assert_eq!(opt(&ask("api.example.com", A).reply(&zones)), None);
    let reply = ask("api.example.com", A).edns(4096, 0, &[]).reply(&zones);
    assert_eq!(opt(&reply), Some(1232));
    assert_eq!(reply[reply.len() - 4] & 0x80, 0x80, "the bit for DNSSEC is repeated");
    assert_eq!(reply[reply.len() - 5], 0, "the first version");
    let reply = ask("api.example.com", A).edns(4096, 1, &[]).reply(&zones);
    assert_eq!((reply[3] & 15, reply[reply.len() - 6]), (0, 1), "bad version is 16");
    let mut two = ask("api.example.com", A).edns(4096, 0, &[]).packet();
    two.extend_from_within(two.len() - 11..);
    two[11] = 2;
    let mut out = Vec::new();
    let asker = Asker { address: [10, 0, 0, 1].into(), is_stream: false, turn: 0 };
    assert_eq!(answer(&zones, &two, asker, &mut out), Became::Refused);
    assert_eq!((out.len(), out[3]), (12, 1), "two of them");
}

/// The last bytes of a reply: source, scope and address of the client's network.
fn subnet_of(reply: &[u8], address: usize) -> &[u8] {
    &reply[reply.len() - address - 2..]
}

#[test]
fn a_client_gets_the_gateways_of_its_region_and_the_resolver_learns_how_far_that_holds() {
    let zones = zones();
    let near = |shown: &[String], ids: [u8; 2]| {
        shown.iter().all(|one| ids.iter().any(|id| one.ends_with(&format!(".{id}"))))
    };
    for (source, address, ids, scope) in [
        (24, [198, 51, 100].as_slice(), [1, 2], 24),
        (24, &[192, 0, 2], [3, 4], 24),
        (32, &[192, 0, 2, 200], [3, 4], 24),
        (16, &[192, 0], [0, 0], 23),
    ] {
        let question = ask("api.example.com", A).subnet(1, source, address);
        let (code, shown, _) = question.said(&zones);
        assert_eq!((code, shown.len()), (RCODE::NoError, 2));
        assert!(ids == [0, 0] || near(&shown, ids), "{shown:?}");
        let reply = question.reply(&zones);
        let mut expected = vec![source, scope];
        expected.extend(address);
        assert_eq!(subnet_of(&reply, address.len()), expected);
    }
    let v6 = ask("api.example.com", A).subnet(2, 56, &[0x20, 1, 0x0d, 0xb8, 0, 1, 0]);
    assert!(near(&v6.said(&zones).1, [3, 4]));
    assert_eq!(subnet_of(&v6.reply(&zones), 7)[..2], [56, 48]);
    let resolver = Ask { from: [192, 0, 2, 53].into(), ..ask("api.example.com", A) };
    assert!(near(&resolver.said(&zones).1, [3, 4]), "the resolver stands for its clients");
    let secret =
        Ask { from: [192, 0, 2, 53].into(), ..ask("api.example.com", A).subnet(1, 0, &[]) };
    assert!(near(&secret.said(&zones).1, [3, 4]));
    assert_eq!(subnet_of(&secret.reply(&zones), 0), [0, 0]);
}

#[test]
fn a_malformed_network_of_a_client_is_told() {
    let zones = zones();
    for (family, source, address) in [
        (1, 24, [198, 51].as_slice()),
        (1, 24, &[198, 51, 100, 0]),
        (1, 33, &[198, 51, 100, 1, 0]),
        (1, 20, &[198, 51, 101]),
        (3, 8, &[1]),
        (0, 8, &[1]),
    ] {
        let reply = ask("api.example.com", A).subnet(family, source, address).reply(&zones);
        assert_eq!((reply.len(), reply[3]), (12, 1), "{family} {source} {address:?}");
    }
}

#[test]
fn what_does_not_fit_is_cut_to_nothing_and_said_so_and_fits_over_tcp() {
    let long = |at: u8| {
        let label = String::from(char::from(b'a' + at)).repeat(60);
        Name::parse(&format!("{label}.{label}.{label}.example.net")).expect("a name")
    };
    let servers = (0..6).map(long).collect();
    let zones = Zones::new(&Settings { servers, ..example() }, &alike(4));
    let flags = |question: &Ask| {
        let reply = question.reply(&zones);
        let packet = Packet::parse(&reply).expect("a reply");
        (reply[2] & 2 != 0, packet.answers.len())
    };
    assert_eq!(flags(&ask("api.example.com", NS)), (true, 0));
    assert_eq!(flags(&ask("api.example.com", NS).edns(900, 0, &[])), (true, 0));
    assert_eq!(flags(&ask("api.example.com", NS).edns(65535, 0, &[])), (true, 0), "1232 at most");
    assert_eq!(flags(&Ask { is_stream: true, ..ask("api.example.com", NS) }), (false, 6));
}

#[test]
fn a_tenant_is_answered_with_its_few_gateways_only() {
    let zones = zones();
    let mut all = std::collections::BTreeSet::new();
    for turn in 0..100 {
        let tenant = Ask { turn, ..ask("acme.api.example.com", A) };
        all.extend(tenant.said(&zones).1);
    }
    assert_eq!(all.len(), 2, "half of four: {all:?}");
    // Nobody of them in force: they are answered all the same.
    let zones = Zones::new(&example(), &[(GatewayId(0), 100)]);
    assert_eq!(ask("acme.api.example.com", A).said(&zones).1.len(), 2);
}

#[test]
fn an_answer_is_no_lever_against_others() {
    let zones = zones();
    for name in ["api.example.com", "acme.api.example.com", "x.api.example.com", "com"] {
        for kind in [A, AAAA, NS, SOA, ANY, 16] {
            for question in [ask(name, kind), ask(name, kind).edns(4096, 0, &[])] {
                let (asked, told) = (question.packet().len(), question.reply(&zones).len());
                assert!(told < asked * 3, "{name} {kind}: {told} bytes for {asked}");
            }
        }
    }
    for name in ["api.example.com", "acme.api.example.com", "chat.example.org"] {
        let question = ask(name, A);
        assert!(question.reply(&zones).len() <= question.packet().len() * 2, "{name}");
    }
}

#[test]
fn no_mangled_question_breaks_anything() {
    let seed = 0x0d15;
    let mut rng = Rng::new(seed);
    let good: Vec<Vec<u8>> = [
        ask("api.example.com", A),
        ask("acme.chat.example.org", AAAA).edns(1232, 0, &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]),
        ask("x.api.example.com", ANY).subnet(1, 24, &[192, 0, 2]),
        ask("api.example.com", NS).subnet(2, 48, &[0x20, 1, 0x0d, 0xb8, 0, 1]),
    ]
    .iter()
    .map(Ask::packet)
    .collect();
    for packet in &good {
        any(packet);
    }
    for round in 0..200_000u64 {
        let mut packet = good[(rng.bits() % 4) as usize].clone();
        for _ in 0..1 + rng.bits() % 4 {
            let at = (rng.bits() as usize) % packet.len();
            match rng.bits() % 5 {
                0 => packet[at] = rng.bits() as u8,
                1 => packet[at] ^= 1 << (rng.bits() % 8),
                2 => packet.truncate(at + 1),
                3 => packet.insert(at, rng.bits() as u8),
                _ => packet.extend_from_within(at..),
            }
        }
        let mangled = packet.clone();
        let held = std::panic::catch_unwind(move || any(&mangled));
        assert!(held.is_ok(), "seed {seed:#x}, round {round}: {packet:02x?}");
    }
}

#[test]
fn a_late_set_does_not_win_and_an_empty_one_is_not_put_into_force() {
    let (publisher, wrong) = Publisher::new(example());
    assert_eq!((publisher.set(), wrong), (alike(4), None));
    publisher.publish(2, &[(GatewayId(2), 100), (GatewayId(3), 100)]);
    publisher.publish(1, &[(GatewayId(0), 100)]);
    publisher.publish(3, &[]);
    publisher.publish(4, &[(GatewayId(77), 100)]);
    assert_eq!(publisher.set(), [(GatewayId(2), 100), (GatewayId(3), 100)]);
    let mut view = publisher.zones();
    let shown = ask("chat.example.org", A).said(view.now()).1;
    assert!(shown.iter().all(|one| one.ends_with(".3") || one.ends_with(".4")), "{shown:?}");
}

#[test]
fn other_settings_keep_who_is_still_listed() {
    let (publisher, _) = Publisher::new(example());
    publisher.publish(1, &[(GatewayId(1), 50), (GatewayId(3), 100)]);
    let mut fewer = example();
    fewer.targets.remove(0);
    fewer.targets.truncate(2);
    publisher.adopt(fewer);
    assert_eq!(publisher.set(), [(GatewayId(0), 50)]);
    let mut others = example();
    others.targets.iter_mut().for_each(|target| target.gateway += "-new");
    publisher.adopt(others);
    assert_eq!(publisher.set(), alike(4), "none is left: all of the new ones");
}

#[test]
fn targets_follow_the_order_of_the_gateways_and_one_without_addresses_is_never_named() {
    let names: Vec<String> = ["gw-3", "gw-9", "gw-1", "gw-2", "gw-4"].map(String::from).into();
    let settings = example().for_gateways(&names).expect("all are listed");
    let targets: Vec<&String> = settings.targets.iter().map(|target| &target.gateway).collect();
    assert_eq!(targets, names.iter().collect::<Vec<_>>());
    let zones = Zones::new(&settings, &[(GatewayId(1), 100), (GatewayId(2), 100)]);
    let (_, shown, _) = ask("api.example.com", A).said(&zones);
    assert!(shown.len() == 2 && shown.contains(&"203.0.113.1".into()), "{shown:?}");
    assert_eq!(example().for_gateways(&names[..4]).expect_err("gw-4 is not"), 3);
}
