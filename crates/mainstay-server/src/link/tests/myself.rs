//! A node that is gateway and site at once, and so speaks to itself.

use super::bench::*;
use super::joined::{grant, report};
use super::requests;
use crate::link::counters::{Lost, Refused};
use crate::link::frame::Kind;
use crate::link::{Book, Message};
use crate::upstream::{NodeOrigin, Origin, OriginOptions};
use mainstay_core::message::{Order, OrderId, Verb};
use std::time::Duration;

/// The node `a` of the policy of `a` and `b`.
async fn alone(authority: &Authority) -> Node {
    Node::waiting(authority, "a", &["a", "b"]).await
}

#[tokio::test]
async fn what_a_node_says_to_itself_comes_without_a_socket() {
    let mut a = alone(&Authority::new()).await;
    let me = a.name.clone();
    assert!(a.link.is_up(&me));
    a.up("a").await;
    for message in [report(0, 7), grant(0), Message::Fetch(3)] {
        assert!(a.link.send(&me, message.clone()));
        assert_eq!(a.next().await, (me.clone(), message));
    }
    assert_eq!(a.link.counters().arrived(Kind::Report), 0, "nothing crossed a wire");
    let others: Vec<_> = a.link.peers().into_iter().map(|peer| peer.name).collect();
    assert_eq!(others, ["b"], "it is none of the other nodes");
}

#[tokio::test]
async fn the_newest_word_to_oneself_takes_the_place_of_older_ones() {
    let mut a = alone(&Authority::new()).await;
    let me = a.name.clone();
    for nonce in 1..=100 {
        assert!(a.link.send(&me, report(0, nonce)));
    }
    assert_eq!(a.next().await.1, report(0, 100));
    assert_eq!(a.inbox.try_recv(), None);
    assert_eq!(a.link.counters().losses(Lost::Replaced), 99);
}

#[tokio::test]
async fn a_node_may_say_to_itself_no_more_than_others_may_to_it() {
    let a = alone(&Authority::new()).await;
    let me = a.name.clone();
    // A report about a site, and a grant of one, that is not its own.
    assert!(!a.link.send(&me, report(1, 7)) && !a.link.send(&me, grant(1)));
    assert_eq!(a.link.counters().losses(Lost::NotTheirs), 2);
    a.link.adopt(Book { gateways: vec!["b".into()], ..book(&["a", "b"], "a") }, Vec::new());
    assert!(!a.link.send(&me, report(0, 7)), "it is no gateway any more");
    assert_eq!(a.link.counters().losses(Lost::NotTheirs), 3);
}

#[tokio::test]
async fn what_was_said_before_another_policy_is_dropped_with_it() {
    let mut a = alone(&Authority::new()).await;
    let me = a.name.clone();
    assert!(a.link.send(&me, report(0, 7)));
    a.link.adopt(book(&["a", "b"], "a"), Vec::new());
    assert_eq!(a.inbox.try_recv(), None);
    assert!(a.link.send(&me, report(0, 8)));
    assert_eq!(a.next().await.1, report(0, 8));
}

#[tokio::test]
async fn nobody_s_words_to_oneself_wait_for_a_peer_s_flood() {
    let authority = Authority::new();
    let mut a = Node::waiting(&authority, "a", &["a", "b"]).await;
    let mut raw = Raw::greeted(&authority, "b", &a, &book(&["a", "b"], "b")).await;
    for number in 0..100 {
        let id = OrderId { author: 1, seq: number };
        let (reason, left) = (String::from("why"), Duration::from_secs(600));
        let order = Order { id, authority: 0, verb: Verb::Freeze, site: None, reason, left };
        raw.message(&Message::Order(order)).await;
    }
    until("they wait", || a.link.peers()[0].to_read == 100).await;
    let me = a.name.clone();
    assert!(a.link.send(&me, report(0, 7)));
    let first: Vec<_> = [a.next().await, a.next().await].map(|(from, _)| from).into();
    assert!(first.contains(&me), "{first:?}");
}

#[tokio::test]
async fn requests_to_oneself_take_no_socket_and_others_with_one_s_name_are_refused() {
    let authority = Authority::new();
    let mut a = alone(&authority).await;
    let within = Some(a.link.clone());
    let node = NodeOrigin { identity: authority.identity("a"), name: node("a"), within };
    let options = OriginOptions { node: Some(node), ..OriginOptions::default() };
    // Nobody listens there, and nobody needs to.
    let origin = Origin::new("https://127.0.0.1:1", options).unwrap();
    let (reply, is_http2) =
        tokio::join!(soon("a reply", origin.send(requests::get())), requests::answer(&mut a));
    let chunk = soon("the body", reply.unwrap().body.next()).await.unwrap().unwrap();
    assert_eq!((chunk.as_ref(), is_http2), (&b"hello a"[..], false));
    let pair = authority.pair(&["a.mainstay.internal"], 2099);
    let http1 = authority.client(Some(pair), b"http/1.1");
    let mut raw = Raw::with(http1, &a).await.unwrap();
    raw.closed().await;
    until("it is refused", || a.link.counters().refusals(Refused::Myself) == 1).await;
    drop(a.requests);
    assert_eq!(a.link.within().err(), Some(Refused::NoRoom), "nobody takes it");
}
