//! Peers that do what no peer should: they are cut off, counted, and not obeyed.

use super::bench::*;
use super::joined::{grant, report};
use crate::link::counters::{End, Lost, Refused};
use crate::link::frame::{BODY_MAX, Head, Kind, Nonsense};
use crate::link::identity::CONTROL;
use crate::link::{Allowance, Book, Generation, Identity, Message, Settings};
use mainstay_core::message::{Count, Summary};
use mainstay_core::names::ModelId;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

const NAMES: [&str; 2] = ["a", "b"];

/// The node `b`, which waits for `a`.
async fn waiting(authority: &Authority) -> Node {
    Node::waiting(authority, "b", &NAMES).await
}

/// A policy in which `a` is no gateway but controls a site.
fn only_a_site(me: &str) -> Book {
    let mut book = book(&NAMES, me);
    book.gateways = vec!["b".into()];
    book
}

async fn cut(node: &Node, why: Nonsense) {
    until(why.word(), || node.link.counters().ends(End::Nonsense(why)) == 1).await;
    assert!(!node.link.is_up(&super::bench::node("a")));
}

async fn refused(node: &Node, why: Refused) {
    until(why.word(), || node.link.counters().refusals(why) == 1).await;
    assert!(!node.link.is_up(&super::bench::node("a")));
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let b = waiting(&authority).await;
    let foreign = other.pair(&["a.mainstay.internal"], 2099);
    if let Ok(mut raw) = Raw::with(authority.client(Some(foreign), CONTROL), &b).await {
        raw.closed().await;
    }
    refused(&b, Refused::Handshake).await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let authority = Authority::new();
    let b = waiting(&authority).await;
    let expired = authority.pair(&["a.mainstay.internal"], 2021);
    if let Ok(mut raw) = Raw::with(authority.client(Some(expired), CONTROL), &b).await {
        raw.closed().await;
    }
    refused(&b, Refused::Handshake).await;
}

#[tokio::test]
async fn a_node_does_not_start_with_a_certificate_that_its_peers_would_refuse() {
    let (authority, other) = (Authority::new(), Authority::new());
    let a = node("a");
    let try_with = |pair: Pair| Identity::new(&a, authority.certificates(), pair).unwrap_err();
    let expired = try_with(authority.pair(&["a.mainstay.internal"], 2021));
    assert!(expired.contains("expired") && expired.contains("node init"), "{expired}");
    let foreign = try_with(other.pair(&["a.mainstay.internal"], 2099));
    assert!(foreign.contains("not of this authority"), "{foreign}");
    let named = try_with(authority.pair(&["b.mainstay.internal"], 2099));
    assert!(named.contains("made out to `b`, not to `a`"), "{named}");
    let nobody = try_with(authority.pair(&["a.example.com"], 2099));
    assert!(nobody.contains("made out to no node"), "{nobody}");
    let soon = authority.identity("a");
    assert_eq!(soon.check(Duration::ZERO), Ok(()));
    assert!(soon.check(Duration::from_secs(200 * 365 * 86_400)).unwrap_err().contains("expired"));
}

#[tokio::test]
async fn who_shows_no_certificate_is_refused() {
    let authority = Authority::new();
    let b = waiting(&authority).await;
    if let Ok(mut raw) = Raw::with(authority.client(None, CONTROL), &b).await {
        raw.closed().await;
    }
    refused(&b, Refused::Handshake).await;
}

#[tokio::test]
async fn certificates_of_nobody_of_strangers_of_two_and_of_oneself_are_refused() {
    let authority = Authority::new();
    let b = waiting(&authority).await;
    let cases: [(&[&str], Refused); 4] = [
        (&["a.example.com"], Refused::NoNode),
        (&["a.mainstay.internal", "c.mainstay.internal"], Refused::NoNode),
        (&["stranger.mainstay.internal"], Refused::Stranger),
        (&["b.mainstay.internal"], Refused::Myself),
    ];
    for (number, (names, why)) in cases.into_iter().enumerate() {
        let pair = authority.pair(names, 2099);
        let mut raw = Raw::with(authority.client(Some(pair), CONTROL), &b).await.unwrap();
        raw.closed().await;
        let count = if number == 1 { 2 } else { 1 };
        until(why.word(), || b.link.counters().refusals(why) == count).await;
    }
}

#[tokio::test]
async fn who_agrees_on_no_use_is_refused() {
    let authority = Authority::new();
    let b = waiting(&authority).await;
    let pair = authority.pair(&["a.mainstay.internal"], 2099);
    let mut config = rustls::ClientConfig::clone(&authority.client(Some(pair), CONTROL));
    config.alpn_protocols.clear();
    let mut raw = Raw::with(Arc::new(config), &b).await.unwrap();
    raw.closed().await;
    refused(&b, Refused::NoUse).await;
}

#[tokio::test]
async fn a_node_under_another_name_is_not_joined() {
    let authority = Authority::new();
    // At the address of `b` there is `c`.
    let c = Node::waiting(&authority, "c", &["a", "c"]).await;
    let peers = [("b", Some(c.address))];
    let a = Node::start(authority.identity("a"), book(&NAMES, "a"), &peers, quick(), None).await;
    until("it is tried", || c.link.counters().refusals(Refused::Handshake) > 1).await;
    assert!(!a.link.is_up(&node("b")));
}

#[tokio::test]
async fn a_frame_longer_than_may_be_ends_the_connection_before_its_body_comes() {
    let authority = Authority::new();
    let b = waiting(&authority).await;
    let mut raw = Raw::greeted(&authority, "a", &b, &book(&NAMES, "a")).await;
    let length = u32::MAX as usize;
    let head = Head { length, version: 1, number: Kind::Digest as u16, more: false, count: 2 };
    raw.frame(head, &[]).await;
    cut(&b, Nonsense::TooLong).await;
}

#[tokio::test]
async fn a_message_whose_parts_come_to_more_than_may_be_ends_the_connection() {
    let authority = Authority::new();
    let b = waiting(&authority).await;
    let mut raw = Raw::greeted(&authority, "a", &b, &book(&NAMES, "a")).await;
    let part = vec![0; BODY_MAX];
    for count in 2..5 {
        let (length, number) = (BODY_MAX, Kind::Orders as u16);
        raw.frame(Head { length, version: 1, number, more: true, count }, &part).await;
    }
    cut(&b, Nonsense::TooLong).await;
}

#[tokio::test]
async fn garbage_in_place_of_a_hello_ends_the_connection() {
    let authority = Authority::new();
    let b = waiting(&authority).await;
    let mut raw = Raw::connect(&authority, "a", &b).await;
    raw.bytes(b"GET / HTTP/1.1\r\nhost: b\r\n\r\n").await;
    raw.closed().await;
    cut(&b, Nonsense::TooLong).await;
}

#[tokio::test]
async fn a_body_that_cannot_be_read_ends_the_connection() {
    let authority = Authority::new();
    let mut b = waiting(&authority).await;
    let mut raw = Raw::greeted(&authority, "a", &b, &book(&NAMES, "a")).await;
    raw.say(Kind::Report, &[0xff; 40]).await;
    cut(&b, Nonsense::Malformed).await;
    assert_eq!(b.inbox.try_recv(), None);
}

#[tokio::test]
async fn a_hello_that_drips_ends_in_time() {
    let authority = Authority::new();
    let b = waiting(&authority).await;
    let mut raw = Raw::connect(&authority, "a", &b).await;
    raw.bytes(&[0, 0, 0]).await;
    raw.closed().await;
    refused(&b, Refused::Late).await;
}

#[tokio::test]
async fn a_socket_that_begins_no_handshake_ends_in_time() {
    let authority = Authority::new();
    let b = waiting(&authority).await;
    let mut tcp = TcpStream::connect(b.address).await.unwrap();
    let mut nothing = [0; 16];
    let read = soon("it is closed", tcp.read(&mut nothing)).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    refused(&b, Refused::Late).await;
}

#[tokio::test]
async fn a_peer_that_falls_silent_or_drips_is_cut() {
    let authority = Authority::new();
    let b = waiting(&authority).await;
    let mut raw = Raw::greeted(&authority, "a", &b, &book(&NAMES, "a")).await;
    // The beginning of a frame is no sign of life.
    raw.bytes(&[0; 4]).await;
    b.down("a").await;
    assert_eq!(b.link.counters().ends(End::Silent), 1);
    assert_eq!(b.link.peers()[0].last_end, Some("silent"));
}

#[tokio::test]
async fn a_peer_that_talks_and_does_not_listen_is_cut() {
    let authority = Authority::new();
    let b = waiting(&authority).await;
    let mut raw = Raw::greeted(&authority, "a", &b, &book(&NAMES, "a")).await;
    let content = bytes::Bytes::from(vec![0; 4 << 20]);
    let policy = Generation { content, ..Generation::default() };
    b.link.send(&node("a"), Message::Snapshot(policy));
    let mut beats = tokio::time::interval(quick().beat);
    soon("it is cut", async {
        while b.link.counters().ends(End::Stuck) == 0 {
            beats.tick().await;
            raw.say(Kind::Beat, &[]).await;
        }
    })
    .await;
    assert!(!b.link.is_up(&node("a")));
}

#[tokio::test]
async fn an_address_where_nobody_answers_is_dialed_again_and_again() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    let silent = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((tcp, _)) = listener.accept().await {
            kept.push(tcp);
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let settings = Settings { handshake: Duration::from_millis(100), ..quick() };
    let peers = [("b", Some(address))];
    let a = Node::start(authority.identity("a"), book(&NAMES, "a"), &peers, settings, None).await;
    until("three attempts", || accepted.load(Ordering::Relaxed) >= 3).await;
    assert!(!a.link.is_up(&node("b")));
    silent.abort();
}

#[tokio::test]
async fn a_repeated_frame_ends_the_connection() {
    let authority = Authority::new();
    let mut b = waiting(&authority).await;
    let mut raw = Raw::greeted(&authority, "a", &b, &book(&NAMES, "a")).await;
    let body = crate::link::wire::encode(&report(1, 7), 2).0;
    let (length, number) = (body.len(), Kind::Report as u16);
    let head = Head { length, version: 1, number, more: false, count: 2 };
    raw.frame(head, &body).await;
    assert_eq!(b.next().await.1, report(1, 7));
    raw.frame(head, &body).await;
    cut(&b, Nonsense::Count).await;
    assert_eq!(b.inbox.try_recv(), None);
}

#[tokio::test]
async fn a_frame_in_a_version_that_was_not_agreed_on_ends_the_connection() {
    let authority = Authority::new();
    let b = waiting(&authority).await;
    let mut raw = Raw::greeted(&authority, "a", &b, &book(&NAMES, "a")).await;
    let number = Kind::Beat as u16;
    raw.frame(Head { length: 0, version: 2, number, more: false, count: 2 }, &[]).await;
    cut(&b, Nonsense::Version).await;
}

#[tokio::test]
async fn a_site_that_reports_like_a_gateway_is_cut_off() {
    let authority = Authority::new();
    let identity = authority.identity("b");
    let b = Node::start(identity, only_a_site("b"), &[("a", None)], quick(), None).await;
    let mut raw = Raw::greeted(&authority, "a", &b, &only_a_site("a")).await;
    raw.message(&grant(0)).await;
    raw.message(&report(1, 1)).await;
    cut(&b, Nonsense::Direction).await;
}

#[tokio::test]
async fn who_is_no_gateway_and_tells_a_status_page_how_it_goes_is_cut_off() {
    let authority = Authority::new();
    let identity = authority.identity("b");
    let b = Node::start(identity, only_a_site("b"), &[("a", None)], quick(), None).await;
    let mut raw = Raw::greeted(&authority, "a", &b, &only_a_site("a")).await;
    raw.message(&Message::Summary(Box::default())).await;
    cut(&b, Nonsense::Direction).await;
}

#[tokio::test]
async fn what_a_gateway_counts_comes_in_the_words_of_who_reads_it() {
    let authority = Authority::new();
    let mut b = waiting(&authority).await;
    let ours = book(&NAMES, "a");
    let theirs = Book { models: vec!["gone".into(), "chat".into()], ..ours };
    let mut raw = Raw::greeted(&authority, "a", &b, &theirs).await;
    let told = |models: &[u16]| {
        let count = |at: &u16| (ModelId(*at), Count { good: 7, ..Count::default() });
        let models = models.iter().map(count).collect();
        Message::Summary(Box::new(Summary { run: 1, models, ..Summary::default() }))
    };
    raw.message(&told(&[0, 1, 9])).await;
    assert_eq!(b.next().await.1, told(&[0]));
    assert_eq!(b.link.counters().losses(Lost::NoName), 2);
}

#[tokio::test]
async fn who_has_another_part_by_a_newer_policy_is_not_obeyed_and_not_cut_off() {
    let authority = Authority::new();
    let identity = authority.identity("b");
    let mut b = Node::start(identity, only_a_site("b"), &[("a", None)], quick(), None).await;
    let mut raw = Raw::greeted(&authority, "a", &b, &book(&NAMES, "a")).await;
    raw.message(&report(1, 1)).await;
    raw.message(&grant(0)).await;
    assert_eq!(b.next().await.1, grant(0), "the report before it was dropped");
    assert_eq!(b.link.counters().losses(Lost::NotTheirs), 1);
    assert!(b.link.is_up(&node("a")));
}

#[tokio::test]
async fn a_grant_for_a_site_of_someone_else_has_no_effect() {
    let authority = Authority::new();
    let mut b = waiting(&authority).await;
    let mut raw = Raw::greeted(&authority, "a", &b, &book(&NAMES, "a")).await;
    raw.message(&grant(1)).await;
    raw.message(&report(0, 1)).await;
    raw.message(&grant(0)).await;
    assert_eq!(b.next().await.1, grant(0));
    assert_eq!(b.link.counters().losses(Lost::NotTheirs), 2);
    assert!(b.link.is_up(&node("a")), "policies may differ for a while");
}

#[tokio::test]
async fn words_before_names_and_a_second_hello_end_the_connection() {
    let authority = Authority::new();
    for second in [false, true] {
        let b = waiting(&authority).await;
        let mut raw = match second {
            true => Raw::greeted(&authority, "a", &b, &book(&NAMES, "a")).await,
            false => Raw::connect(&authority, "a", &b).await,
        };
        raw.hello((0, 1)).await;
        if !second {
            raw.message(&Message::Fetch(1)).await;
        }
        cut(&b, Nonsense::Unexpected).await;
    }
}

#[tokio::test]
async fn who_says_more_than_anyone_needs_to_is_cut_off() {
    let authority = Authority::new();
    let allowance = Allowance { rate: 1, burst: 50 };
    let settings = Settings { allowance, ..quick() };
    let identity = authority.identity("b");
    let b = Node::start(identity, book(&NAMES, "b"), &[("a", None)], settings, None).await;
    let mut raw = Raw::greeted(&authority, "a", &b, &book(&NAMES, "a")).await;
    for nonce in 0..100 {
        raw.message(&report(1, nonce)).await;
    }
    cut(&b, Nonsense::TooFast).await;
}

#[tokio::test]
async fn who_spoke_nonsense_is_not_let_in_again_at_once() {
    let authority = Authority::new();
    let settings = Settings { barred: Duration::from_secs(60), ..quick() };
    let identity = authority.identity("b");
    let b = Node::start(identity, book(&NAMES, "b"), &[("a", None)], settings, None).await;
    let mut raw = Raw::greeted(&authority, "a", &b, &book(&NAMES, "a")).await;
    raw.say(Kind::Report, &[0xff; 40]).await;
    cut(&b, Nonsense::Malformed).await;
    let mut again = Raw::connect(&authority, "a", &b).await;
    again.closed().await;
    refused(&b, Refused::Barred).await;
}

#[tokio::test]
async fn kinds_of_later_versions_are_counted_and_dropped() {
    let authority = Authority::new();
    let mut b = waiting(&authority).await;
    let mut raw = Raw::greeted(&authority, "a", &b, &book(&NAMES, "a")).await;
    let head = |more: bool, count: u64| Head { length: 3, version: 1, number: 999, more, count };
    raw.frame(head(true, 2), b"new").await;
    raw.frame(head(false, 3), b"new").await;
    let (length, number) = (0, Kind::Poll as u16);
    raw.frame(Head { length, version: 1, number, more: false, count: 4 }, &[]).await;
    assert_eq!(b.next().await.1, Message::Poll);
    assert_eq!(b.link.counters().losses(Lost::UnknownKind), 1);
}

#[tokio::test]
async fn the_newer_connection_of_a_peer_takes_the_place_of_the_older() {
    let authority = Authority::new();
    let mut b = waiting(&authority).await;
    let mut half_open = Raw::greeted(&authority, "a", &b, &book(&NAMES, "a")).await;
    let mut raw = Raw::connect(&authority, "a", &b).await;
    raw.hello((0, 1)).await;
    half_open.closed().await;
    raw.say(Kind::Names, &crate::link::wire::encode_names(&book(&NAMES, "a"))).await;
    raw.message(&report(1, 7)).await;
    assert_eq!(b.next().await.1, report(1, 7));
    assert_eq!(b.link.counters().ends(End::Replaced), 1);
}
