//! What comes from a peer, as bytes: what fuzzers call. The peer may be cut off, and nothing else.

use super::book::Book;
use super::counters::Counters;
use super::desk::{Desk, Tongue};
use super::ear::{self, Heard};
use super::frame::{HEAD, Incoming, Kind, Nonsense, Whole};
use super::name::NodeName;
use super::{Peer, wire};
use mainstay_core::names::SiteId;

/// Reads `bytes` as a peer's connection from its first frame on, as far as it makes sense.
pub fn frames(bytes: &[u8]) {
    // Why it was cut off is of no interest here.
    let _ = connection(bytes);
}

/// The policy of the node that reads: two sites, of which it controls one and the peer the other.
fn policy(peer: &NodeName) -> Book {
    let text = |words: [&str; 2]| words.map(str::to_owned).to_vec();
    Book {
        sites: text(["here", "there"]),
        targets: vec![(SiteId(0), String::from("m")), (SiteId(1), String::from("m"))],
        models: vec![String::from("chat")],
        gateways: vec![peer.to_string(), String::from("reader")],
        tiers: text(["pro", "free"]),
        nodes: [(1, peer.clone())].into(),
        home: Some(SiteId(0)),
    }
}

fn connection(bytes: &[u8]) -> Result<(), Nonsense> {
    let peer = NodeName::new("peer").map_err(|_| Nonsense::Unexpected)?;
    let book = policy(&peer);
    let counters = Counters::default();
    let mut desk = Desk::new(NodeName::nobody(), 8);
    desk.adopt(book.clone(), vec![Peer { name: peer.clone(), address: None }]);
    let mut incoming = Incoming::default();
    let mut rest = bytes;
    let Some(Whole::Message(Kind::Hello, body)) = frame(&mut incoming, &mut rest)? else {
        return Err(Nonsense::Unexpected);
    };
    wire::decode_hello(body)?;
    incoming.agree(1);
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let seat = desk.join(&peer, (nowhere, false), 1).map_err(|_| Nonsense::Unexpected)?;
    let mut tongue = Tongue::default();
    while !rest.is_empty() {
        let Some(whole) = frame(&mut incoming, &mut rest)? else { continue };
        let heard = ear::hear(whole, &peer, &book, &mut tongue, || true)?;
        if let Heard::Message(message) = heard
            && desk.deliver(&seat, message, &mut tongue, &counters)
        {
            // What is let in can be sent on.
            let (_, message) = desk.take().ok_or(Nonsense::Unexpected)?;
            let (body, _) = wire::encode(&message, book.tiers.len());
            assert!(body.len() <= message.kind().body_max(), "{message:?}");
        }
    }
    Ok(())
}

fn frame(incoming: &mut Incoming, rest: &mut &[u8]) -> Result<Option<Whole>, Nonsense> {
    let (head, after) = rest.split_first_chunk::<HEAD>().ok_or(Nonsense::Malformed)?;
    let length = incoming.head(head)?;
    let body = after.get(..length).ok_or(Nonsense::Malformed)?;
    *rest = after.get(length..).unwrap_or_default();
    incoming.body(body)
}
