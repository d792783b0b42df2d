//! Requests on the link's port: HTTP over connections whose both ends are known.

use super::bench::*;
use crate::link::counters::Refused;
use crate::upstream::{Http2, NodeOrigin, Origin, OriginOptions, Outbound};
use bytes::Bytes;
use http::{Method, Response};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::convert::Infallible;

/// An origin at `to`, as `from` reaches it, with the certificate of `expected`.
fn origin(
    authority: &Authority,
    (from, expected): (&str, &str),
    to: &Node,
    http2: Http2,
) -> Origin {
    let node =
        NodeOrigin { identity: authority.identity(from), name: node(expected), within: None };
    let options = OriginOptions { node: Some(node), http2, ..OriginOptions::default() };
    Origin::new(&format!("https://{}", to.address), options).unwrap()
}

pub fn get() -> Outbound<'static> {
    let (headers, body) = Default::default();
    Outbound { path: "/v1/models", method: Method::GET, headers, body }
}

/// Answers one connection with the name of its peer.
pub async fn answer(node: &mut Node) -> bool {
    let connection = soon("a connection", node.requests.recv()).await.unwrap();
    let (peer, http2) = (connection.peer.to_string(), connection.http2);
    tokio::spawn(async move {
        let service = service_fn(move |_| {
            let body = Full::new(Bytes::from(format!("hello {peer}")));
            async move { Ok::<_, Infallible>(Response::new(body)) }
        });
        let io = TokioIo::new(connection.stream);
        let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
    });
    http2
}

#[tokio::test]
async fn a_request_comes_with_the_name_of_the_node_that_sent_it() {
    let authority = Authority::new();
    let mut b = Node::waiting(&authority, "b", &["a", "b"]).await;
    for (http2, expected) in [(Http2::Auto, true), (Http2::Never, false)] {
        let origin = origin(&authority, ("a", "b"), &b, http2);
        let (reply, is_http2) = tokio::join!(soon("a reply", origin.send(get())), answer(&mut b));
        let mut reply = reply.unwrap();
        assert_eq!(is_http2, expected);
        let chunk = soon("the body", reply.body.next()).await.unwrap().unwrap();
        assert_eq!(chunk, Bytes::from("hello a"));
        origin.shutdown().await;
    }
}

#[tokio::test]
async fn a_node_under_another_name_gets_no_request() {
    let authority = Authority::new();
    let b = Node::waiting(&authority, "b", &["a", "b"]).await;
    let error = origin(&authority, ("a", "c"), &b, Http2::Auto).send(get()).await.unwrap_err();
    let alarm = error.alarm.unwrap();
    assert!(alarm.contains("another name") && alarm.contains("b.mainstay.internal"), "{alarm}");
}

#[tokio::test]
async fn a_stranger_s_requests_are_not_taken() {
    let authority = Authority::new();
    let mut b = Node::waiting(&authority, "b", &["a", "b"]).await;
    let stranger = origin(&authority, ("stranger", "b"), &b, Http2::Auto);
    assert!(soon("a refusal", stranger.send(get())).await.is_err());
    until("it is counted", || b.link.counters().refusals(Refused::Stranger) > 0).await;
    assert!(b.requests.try_recv().is_err());
}

#[test]
fn a_node_is_never_reached_without_tls() {
    let authority = Authority::new();
    let node = NodeOrigin { identity: authority.identity("a"), name: node("b"), within: None };
    let options = OriginOptions { node: Some(node), ..OriginOptions::default() };
    let error = Origin::new("http://10.0.0.1:8443", options).unwrap_err();
    assert!(error.contains("https://"), "{error}");
}
