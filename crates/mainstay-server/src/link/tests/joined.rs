//! Nodes that follow the protocol.

use super::bench::*;
use crate::link::counters::{End, Lost, Refused};
use crate::link::frame::Nonsense;
use crate::link::{Book, Generation, Message, NodeName, Peer};
use bytes::Bytes;
use mainstay_core::cost::CostRate;
use mainstay_core::fact::Verdict;
use mainstay_core::message::{Digest, Grant, Offer, Order, PerTier, Report, Verb};
use mainstay_core::names::{GatewayId, SiteId, TargetId};
use mainstay_core::policy::Snapshot;
use std::time::Duration;

pub fn report(target: u16, nonce: u64) -> Message {
    let mut demand = PerTier::default();
    demand[0] = CostRate(700);
    demand[1] = CostRate(30);
    let elapsed = Duration::from_millis(500);
    let target = TargetId(target);
    Message::Report(Report { target, nonce, demand, total: demand, in_flight: 3, elapsed })
}

pub fn grant(target: u16) -> Message {
    Message::Grant(Grant {
        target: TargetId(target),
        epoch: 4,
        nonce: 9,
        rate: PerTier::default(),
        standby: CostRate(5),
        capacity: CostRate(1000),
        ramp: 100,
        offer: Offer::Draining,
        ttft: Duration::from_millis(250),
        miss: 40,
        slow: 1,
        elapsed: Duration::from_secs(1),
    })
}

/// Two nodes, `a` and `b`, of which `a` dials.
async fn pair(authority: &Authority) -> (Node, Node) {
    let names = ["a", "b"];
    let b = Node::waiting(authority, "b", &names).await;
    let peers = [("b", Some(b.address))];
    let identity = authority.identity("a");
    let a = Node::start(identity, book(&names, "a"), &peers, quick(), None).await;
    a.up("b").await;
    b.up("a").await;
    (a, b)
}

#[tokio::test]
async fn a_report_and_its_grant_cross_the_link() {
    let (mut a, mut b) = pair(&Authority::new()).await;
    assert!(a.link.send(&b.name, report(1, 7)));
    assert_eq!(b.next().await, (a.name.clone(), report(1, 7)));
    assert!(b.link.send(&a.name, grant(1)));
    assert_eq!(a.next().await, (b.name.clone(), grant(1)));
    let status = a.link.peers();
    assert_eq!((status[0].name.as_str(), status[0].dialed), ("b", Some(true)));
    assert_eq!(b.link.peers()[0].dialed, Some(false));
    assert!(a.link.exposition().contains("mainstay_link_up{peer=\"b\"} 1\n"));
}

#[tokio::test]
async fn three_nodes_join_each_other_with_one_connection_for_each_pair() {
    let authority = Authority::new();
    let names = ["a", "b", "c"];
    let c = Node::waiting(&authority, "c", &names).await;
    let peers = [("a", None), ("c", Some(c.address))];
    let b = Node::start(authority.identity("b"), book(&names, "b"), &peers, quick(), None).await;
    let peers = [("b", Some(b.address)), ("c", Some(c.address))];
    let a = Node::start(authority.identity("a"), book(&names, "a"), &peers, quick(), None).await;
    for (node, others) in [(&a, ["b", "c"]), (&b, ["a", "c"]), (&c, ["a", "b"])] {
        for other in others {
            node.up(other).await;
        }
    }
    let replaced = [&a, &b, &c].map(|node| node.link.counters().ends(End::Replaced));
    assert_eq!(replaced, [0, 0, 0]);
}

#[tokio::test]
async fn positions_of_two_policies_are_translated_by_name() {
    let authority = Authority::new();
    // `b` runs a policy with another order of sites, gateways and tiers, and without site `at-x`.
    let theirs = ["x", "a", "b"];
    let mut ours = book(&["b", "a"], "b");
    ours.tiers.reverse();
    let peers = [("a", None)];
    let mut b = Node::start(authority.identity("b"), ours, &peers, quick(), None).await;
    let peers = [("b", Some(b.address))];
    let a = Node::start(authority.identity("a"), book(&theirs, "a"), &peers, quick(), None).await;
    a.up("b").await;
    a.link.send(&b.name, report(2, 1));
    let (_, Message::Report(came)) = b.next().await else { panic!("a report") };
    assert_eq!(
        (came.target, came.demand[0], came.demand[1]),
        (TargetId(0), CostRate(30), CostRate(700))
    );
    let age = Duration::from_secs(2);
    let told = Digest {
        from: GatewayId(77),
        nonce: 5,
        verdicts: vec![(TargetId(0), Verdict::Down, age), (TargetId(1), Verdict::Suspect, age)],
        probed: vec![(TargetId(2), true, age), (TargetId(900), true, age)],
        heard: vec![9, 1, 4],
        ..Digest::default()
    };
    a.link.send(&b.name, Message::Digest(told));
    let (_, Message::Digest(came)) = b.next().await else { panic!("a digest") };
    assert_eq!(came.from, GatewayId(1), "by its certificate, not by its words");
    assert_eq!(came.verdicts, [(TargetId(1), Verdict::Suspect, age)]);
    assert_eq!(came.probed, [(TargetId(0), true, age)]);
    assert_eq!(came.heard, [4, 1]);
    // One verdict, one probe and one gateway have no name at `b`.
    assert_eq!(b.link.counters().losses(Lost::NoName), 3);
    a.link.send(&b.name, report(0, 2));
    until("the report about a site without a name here", || {
        b.link.counters().losses(Lost::NoName) == 4
    })
    .await;
}

#[tokio::test]
async fn orders_cross_the_link_one_by_one_and_as_a_set() {
    let (a, mut b) = pair(&Authority::new()).await;
    let order = |seq: u32, verb: Verb, site: Option<u16>| Order {
        id: mainstay_core::message::OrderId { author: 1, seq },
        authority: 2,
        verb,
        site: site.map(SiteId),
        reason: "why".repeat(30),
        left: Duration::from_secs(600),
    };
    let one = order(1, Verb::Kill, Some(1));
    a.link.send(&b.name, Message::Order(one.clone()));
    assert_eq!(b.next().await.1, Message::Order(one.clone()));
    let set: Vec<Order> = (0..64).map(|seq| order(seq, Verb::Cap(30), Some(0))).collect();
    a.link.send(&b.name, Message::Orders(set.clone()));
    assert_eq!(b.next().await.1, Message::Orders(set));
    a.link.send(&b.name, Message::Fetch(u64::MAX));
    assert_eq!(b.next().await.1, Message::Fetch(u64::MAX));
}

#[tokio::test]
async fn the_policy_comes_when_it_was_asked_for_and_short_words_pass_it() {
    let (mut a, mut b) = pair(&Authority::new()).await;
    a.link.send(&b.name, Message::Poll);
    assert_eq!(b.next().await.1, Message::Poll);
    let content = Bytes::from(vec![7; 4 << 20]);
    let snapshot = Snapshot {
        generation: 12,
        content: 1,
        previous: 2,
        author: "ops".into(),
        reason: "more".into(),
        bytes: 4 << 20,
        confirmed: true,
    };
    let policy = Message::Snapshot(Generation { snapshot, content });
    b.link.send(&a.name, policy.clone());
    b.link.send(&a.name, grant(1));
    assert_eq!(a.next().await.1, grant(1), "it did not wait for 256 frames");
    assert_eq!(a.next().await.1, policy);
}

#[tokio::test]
async fn a_policy_that_nobody_asked_for_is_dropped() {
    let (mut a, b) = pair(&Authority::new()).await;
    b.link.send(&a.name, Message::Snapshot(Generation::default()));
    b.link.send(&a.name, grant(1));
    assert_eq!(a.next().await.1, grant(1));
    assert_eq!(a.link.counters().losses(Lost::Unasked), 1);
}

#[tokio::test]
async fn nothing_waits_for_a_peer_that_is_not_there() {
    let authority = Authority::new();
    let a = Node::waiting(&authority, "a", &["a", "b"]).await;
    assert!(!a.link.send(&node("b"), report(0, 1)));
    assert!(!a.link.send(&node("nobody"), report(0, 1)));
    assert_eq!(a.link.counters().losses(Lost::NoPeer), 2);
    assert_eq!(a.link.peers()[0].to_send, 0);
}

#[tokio::test]
async fn the_newest_word_takes_the_place_of_one_that_was_not_read() {
    let (a, mut b) = pair(&Authority::new()).await;
    for nonce in 1..=3 {
        a.link.send(&b.name, report(1, nonce));
        until("it has left", || a.link.peers()[0].to_send == 0).await;
    }
    until("all have come", || {
        b.link.counters().arrived(crate::link::frame::Kind::Report)
            + a.link.counters().losses(Lost::Replaced)
            == 3
    })
    .await;
    until("one waits", || b.link.peers()[0].to_read == 1).await;
    let (_, message) = b.next().await;
    // The last frame may be on its way to the desk still.
    let last = if message == report(1, 3) { message } else { b.next().await.1 };
    assert_eq!(last, report(1, 3));
}

#[tokio::test]
async fn a_peer_that_restarts_is_joined_again() {
    let authority = Authority::new();
    let (mut a, b) = pair(&authority).await;
    let (address, identity) = (b.address, authority.identity("b"));
    b.link.shutdown().await;
    drop(b);
    a.down("b").await;
    assert!(!a.link.send(&node("b"), report(1, 1)));
    let names = ["a", "b"];
    let b = Node::start(identity, book(&names, "b"), &[("a", None)], quick(), Some(address)).await;
    a.up("b").await;
    b.up("a").await;
    b.link.send(&a.name, grant(1));
    assert_eq!(a.next().await.1, grant(1));
}

#[tokio::test]
async fn a_node_without_an_address_dials_whatever_its_name_is() {
    let authority = Authority::new();
    let names = ["a", "b"];
    // `a` would be first to dial and knows no address; `b` has waited for it in vain.
    let a = Node::waiting(&authority, "a", &names).await;
    let settings = crate::link::Settings { second_after: Duration::from_millis(50), ..quick() };
    let peers = [("a", Some(a.address))];
    let b = Node::start(authority.identity("b"), book(&names, "b"), &peers, settings, None).await;
    a.up("b").await;
    b.up("a").await;
    assert_eq!(b.link.peers()[0].dialed, Some(true));
}

#[tokio::test]
async fn two_that_dial_at_once_settle_on_one_connection() {
    let authority = Authority::new();
    let names = ["a", "b"];
    let eager = crate::link::Settings { second_after: Duration::ZERO, ..quick() };
    let b = Node::start(authority.identity("b"), book(&names, "b"), &[], eager.clone(), None).await;
    let peers = [("b", Some(b.address))];
    let mut a = Node::start(authority.identity("a"), book(&names, "a"), &peers, eager, None).await;
    let there = Peer { name: node("a"), address: Some(a.address.to_string()) };
    b.link.adopt(book(&names, "b"), vec![there]);
    // Settled: what is said arrives, and it is said only once.
    soon("they settle", async {
        loop {
            a.up("b").await;
            b.up("a").await;
            b.link.send(&a.name, grant(1));
            let came = tokio::time::timeout(Duration::from_millis(200), a.inbox.recv()).await;
            if came.is_ok() {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn who_is_taken_out_of_the_policy_is_cut_and_not_let_in_again() {
    let (a, b) = pair(&Authority::new()).await;
    b.link.adopt(book(&["b"], "b"), Vec::new());
    a.down("b").await;
    until("it is refused", || b.link.counters().refusals(Refused::Stranger) > 0).await;
    assert_eq!(b.link.counters().ends(End::Removed), 1);
    assert_eq!(b.link.peers(), []);
    a.link.adopt(book(&["a"], "a"), Vec::new());
    assert!(!a.link.is_up(&b.name));
}

#[tokio::test]
async fn another_policy_is_told_before_anything_else_is() {
    let (a, mut b) = pair(&Authority::new()).await;
    let turned = |me: &str| -> (Book, Vec<Peer>) {
        let other = if me == "a" { "b" } else { "a" };
        (book(&["b", "a"], me), vec![Peer { name: node(other), address: None }])
    };
    let (book, peers) = turned("a");
    a.link.adopt(book, peers);
    a.link.send(&b.name, report(0, 1));
    let (_, Message::Report(came)) = b.next().await else { panic!("a report") };
    assert_eq!(came.target, TargetId(1), "the first of theirs is the second of ours");
    assert!(a.link.is_up(&b.name), "the connection stays");
}

#[tokio::test]
async fn the_version_before_and_the_next_are_spoken_and_others_are_not() {
    let authority = Authority::new();
    let names = ["a", "b"];
    let b = Node::waiting(&authority, "b", &names).await;
    let spoken = |node: &Node, peer: &NodeName| {
        let status = node.link.peers();
        status.iter().find(|each| each.name == peer.as_str()).and_then(|each| each.version)
    };
    for (speaks, expected) in [((0, 0), 0), ((1, 2), 1)] {
        let settings = crate::link::Settings { speaks, ..quick() };
        let peers = [("b", Some(b.address))];
        let a = Node::start(authority.identity("a"), book(&names, "a"), &peers, settings, None);
        let a = a.await;
        b.up("a").await;
        a.up("b").await;
        assert_eq!((spoken(&a, &b.name), spoken(&b, &a.name)), (Some(expected), Some(expected)));
        a.link.shutdown().await;
        b.down("a").await;
    }
    let settings = crate::link::Settings { speaks: (2, 3), ..quick() };
    let peers = [("b", Some(b.address))];
    let _a = Node::start(authority.identity("a"), book(&names, "a"), &peers, settings, None).await;
    until("no version in common", || b.link.counters().ends(End::Nonsense(Nonsense::Version)) > 0)
        .await;
    assert!(!b.link.is_up(&node("a")));
}
