//! Authorities, nodes and raw peers for the tests.

use crate::link::frame::{HEAD, Head, Kind, Outgoing};
use crate::link::identity::{CONTROL, secret};
use crate::link::wire::{self, Hello};
use crate::link::{Book, Identity, Inbox, Link, Message, NodeName, Peer, Plan};
use crate::link::{RequestConnection, Settings};
use bytes::BytesMut;
use mainstay_core::names::SiteId;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::client::TlsStream;

pub type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Nobody waits longer than this for what must come.
pub const SOON: Duration = Duration::from_secs(20);

/// A private authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// A certificate made out to `names`, valid until `year`.
    pub fn pair(&self, names: &[&str], year: i32) -> Pair {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 2, 3);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (vec![certificate.der().clone()], secret(key.serialize_der()))
    }

    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        vec![self.0.der().clone()]
    }

    pub fn identity(&self, name: &str) -> Identity {
        let full = node(name).in_certificate();
        let pair = self.pair(&[&full], 2099);
        Identity::new(&node(name), self.certificates(), pair).unwrap()
    }

    /// How a raw peer with certificate `pair` connects.
    pub fn client(&self, pair: Option<Pair>, protocol: &[u8]) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match pair {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    }
}

pub fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

/// The times of tests: what is only waited for is short, what must not pass by itself is not.
pub fn quick() -> Settings {
    Settings {
        beat: Duration::from_millis(100),
        silence: Duration::from_secs(2),
        handshake: Duration::from_secs(2),
        back_off: (Duration::from_millis(10), Duration::from_millis(100)),
        second_after: Duration::from_secs(60),
        barred: Duration::ZERO,
        ..Settings::default()
    }
}

/// A policy in which every node of `names` is a gateway and controls the site `at-NAME` with the
/// model `m`, as `me` sees it.
pub fn book(names: &[&str], me: &str) -> Book {
    let position = |at: usize| u16::try_from(at).unwrap();
    Book {
        sites: names.iter().map(|name| format!("at-{name}")).collect(),
        targets: (0..names.len()).map(|at| (SiteId(position(at)), "m".into())).collect(),
        models: vec!["chat".into()],
        gateways: names.iter().map(|name| (*name).to_owned()).collect(),
        tiers: ["pro", "free"].map(str::to_owned).to_vec(),
        nodes: names.iter().enumerate().map(|(at, name)| (position(at), node(name))).collect(),
        home: names.iter().position(|name| *name == me).map(|at| SiteId(position(at))),
    }
}

/// A running node.
pub struct Node {
    pub name: NodeName,
    pub link: Link,
    pub inbox: Inbox,
    pub requests: mpsc::Receiver<RequestConnection>,
    pub address: SocketAddr,
}

impl Node {
    /// A node that listens at `address` and knows `peers`, with `book` for its policy.
    pub async fn start(
        identity: Identity,
        book: Book,
        peers: &[(&str, Option<SocketAddr>)],
        settings: Settings,
        address: Option<SocketAddr>,
    ) -> Node {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(address.unwrap_or(anywhere)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let peers = peers
            .iter()
            .map(|(name, at)| Peer { name: node(name), address: at.map(|at| at.to_string()) })
            .collect();
        let name = identity.name().clone();
        let plan = Plan { identity, book, peers, settings };
        let (link, inbox, requests) = Link::start(plan, Some(listener));
        Node { name, link, inbox, requests, address }
    }

    /// A node `name` of the policy of `names`, which waits for whoever comes.
    pub async fn waiting(authority: &Authority, name: &str, names: &[&str]) -> Node {
        let others: Vec<_> =
            names.iter().filter(|each| **each != name).map(|each| (*each, None)).collect();
        let identity = authority.identity(name);
        Node::start(identity, book(names, name), &others, quick(), None).await
    }

    pub async fn next(&mut self) -> (NodeName, Message) {
        soon("a message", self.inbox.recv()).await
    }

    pub async fn up(&self, peer: &str) {
        soon("the peer joins", self.link.wait_for(&node(peer), true)).await;
    }

    pub async fn down(&self, peer: &str) {
        soon("the peer leaves", self.link.wait_for(&node(peer), false)).await;
    }
}

/// What `future` comes to, which must be soon.
#[track_caller]
pub fn soon<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    let what = what.to_owned();
    async move {
        match tokio::time::timeout(SOON, future).await {
            Ok(output) => output,
            Err(_) => panic!("not within {SOON:?}: {what}"),
        }
    }
}

/// Returns when `holds` does; it is looked at whenever some other task had its turn.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let mut turns = tokio::time::interval(Duration::from_millis(5));
    soon(what, async {
        while !holds() {
            turns.tick().await;
        }
    })
    .await;
}

/// A peer that says what a test wants it to say.
pub struct Raw {
    pub stream: TlsStream<TcpStream>,
    pub outgoing: Outgoing,
}

impl Raw {
    /// Connects to `node` with the certificate of `name`.
    pub async fn connect(authority: &Authority, name: &str, to: &Node) -> Raw {
        let pair = authority.pair(&[&node(name).in_certificate()], 2099);
        Raw::with(authority.client(Some(pair), CONTROL), to).await.unwrap()
    }

    pub async fn with(config: Arc<rustls::ClientConfig>, to: &Node) -> std::io::Result<Raw> {
        let tcp = TcpStream::connect(to.address).await?;
        let name = ServerName::try_from(to.name.in_certificate()).unwrap();
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await?;
        Ok(Raw { stream, outgoing: Outgoing::default() })
    }

    /// Connects, says hello and its names as of `book`.
    pub async fn greeted(authority: &Authority, name: &str, to: &Node, book: &Book) -> Raw {
        let mut raw = Raw::connect(authority, name, to).await;
        raw.hello((0, 1)).await;
        raw.say(Kind::Names, &wire::encode_names(book)).await;
        to.up(name).await;
        raw
    }

    pub async fn hello(&mut self, speaks: (u16, u16)) {
        let hello = Hello { least: u32::from(speaks.0), most: u32::from(speaks.1) };
        self.say(Kind::Hello, &wire::encode_hello(&hello)).await;
    }

    pub async fn say(&mut self, kind: Kind, body: &[u8]) {
        let mut buffer = BytesMut::new();
        self.outgoing.message(&mut buffer, kind, 1, body);
        self.bytes(&buffer).await;
    }

    pub async fn message(&mut self, message: &Message) {
        self.say(message.kind(), &wire::encode(message, 2).0).await;
    }

    /// A head of its own making, and a body.
    pub async fn frame(&mut self, head: Head, body: &[u8]) {
        let mut buffer = BytesMut::new();
        head.write(&mut buffer);
        buffer.extend_from_slice(body);
        self.bytes(&buffer).await;
    }

    /// The peer may have cut us off already; that is for the test to see.
    pub async fn bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    /// Reads the next frame; its version, kind and body.
    pub async fn read(&mut self) -> Option<(Head, Vec<u8>)> {
        let mut head = [0; HEAD];
        soon("a frame", self.stream.read_exact(&mut head)).await.ok()?;
        let head = Head::read(&head);
        let mut body = vec![0; head.length];
        soon("a body", self.stream.read_exact(&mut body)).await.ok()?;
        Some((head, body))
    }

    /// Returns when the node has closed the connection.
    pub async fn closed(&mut self) {
        while self.read().await.is_some() {}
    }
}
