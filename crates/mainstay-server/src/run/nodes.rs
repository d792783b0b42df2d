//! This node among others: its link, what the gateway machine says over it, and what it hears.

use super::adopt::Adopter;
use super::callers::Callers;
use super::home::Home;
use crate::admin::Builder;
use crate::drive::{Drive, Others};
use crate::link::{Generation, Inbox, Link, Message, NodeName, Plan, Settings};
use crate::places::Places;
use crate::policy::ask::OrderWish;
use crate::policy::boot::{self, Begun};
use crate::policy::publish::{Check, Wish};
use crate::policy::source::Source;
use crate::policy::taste::Table;
use crate::policy::{Around, Desk, Outside, format_order, store};
use crate::setup::{Node, Reader, Setup};
use crate::status;
use bytes::Bytes;
use mainstay_core::gateway::Event;
use mainstay_core::message::{Digest, Order};
use mainstay_core::names::GatewayId;
use mainstay_core::policy::{self, PULSE};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The other nodes, as this process reaches them.
pub(super) struct Nodes {
    link: Link,
    reader: JoinHandle<()>,
    home: Option<Arc<Home>>,
    desk: Arc<Desk>,
    ranks: Arc<RwLock<Ranks>>,
    check: Arc<Check>,
    stop: CancellationToken,
}

/// Who is who by position, as the configuration in force has it.
#[derive(Clone, Debug, Default)]
struct Ranks {
    gateways: Vec<NodeName>,
    /// Who controls which site of ours.
    sites: BTreeMap<u16, NodeName>,
}

impl Ranks {
    fn of(setup: &Setup, node: &Node) -> Ranks {
        Ranks { gateways: node.gateways.clone(), sites: node.book(setup).nodes }
    }
}

/// Who hears what gateways count, and what they say of keys and limits.
type Told<'a> = (Option<Arc<status::Desk>>, &'a Callers);

/// What decides which configuration is in force.
pub(super) struct Office {
    /// What the process began with.
    pub(super) begun: Begun,
    /// Puts another one into force.
    pub(super) adopter: Adopter,
    /// Reads it.
    pub(super) reader: Reader,
}

impl Nodes {
    /// Joins the other nodes, if there are any, and opens the site that this one controls. `url`
    /// is where the API listens, without a path; `page` hears what gateways count, and `callers`
    /// what they say of keys and limits.
    pub(super) fn join(
        setup: &Setup,
        (drive, url, (page, callers)): (&Arc<Drive>, String, Told<'_>),
        listener: Option<std::net::TcpListener>,
        office: Office,
    ) -> Result<Option<Nodes>, String> {
        let Some(node) = &setup.node else { return Ok(None) };
        let listener = listener.map(TcpListener::from_std).transpose();
        let listener = listener.map_err(|e| format!("cannot listen: {e}"))?;
        let (identity, peers) = (node.identity.clone(), node.peers.clone());
        let plan = Plan { identity, book: node.book(setup), peers, settings: Settings::default() };
        let (link, inbox, requests) = Link::start(plan, listener);
        let home = Home::open(setup, (drive, url), &link, requests)?.map(Arc::new);
        let ranks = Arc::new(RwLock::new(Ranks::of(setup, node)));
        let (reader, adopter) = (office.reader.clone(), office.adopter.clone());
        let check: Check =
            Box::new(move |content| boot::load((&reader, &adopter.own()), content).map(drop));
        let desk = desk((setup, node), drive, (&link, &ranks), office)?;
        let stop = CancellationToken::new();
        if node.roles.gateway {
            let completing = desk.clone();
            let complete = Box::new(move |digest| completing.complete(digest));
            drive.join(Others { link: link.clone(), complete });
            let of_now = desk.clone();
            let generation = move || of_now.complete(Digest::default()).generation;
            callers.join(&link, generation);
            let (lagging, ended) = (drive.clone(), stop.clone());
            tokio::spawn(async move { lagging.watch_lag(ended).await });
            tokio::spawn(feel(drive.clone(), desk.clone(), stop.clone()));
        }
        let (timer, ended) = (desk.clone(), stop.clone());
        tokio::spawn(async move { timer.run(ended).await });
        let hears = Hears {
            drive: drive.clone(),
            is_gateway: node.roles.gateway,
            desk: desk.clone(),
            home: home.clone(),
            ranks: ranks.clone(),
            page,
            callers: callers.clone(),
            source: node.policy.as_ref().map(|source| source.node.clone()),
        };
        let reader = tokio::spawn(read(inbox, link.clone(), hears));
        let check = Arc::new(check);
        Ok(Some(Nodes { link, reader, home, desk, ranks, check, stop }))
    }

    /// Shows the operator how the other nodes stand.
    pub(super) fn shown(&self, admin: Builder) -> Builder {
        let (lines, page) = (self.link.clone(), self.link.clone());
        let [known, given, shown, counted, published] = [(); 5].map(|()| self.desk.clone());
        let check = self.check.clone();
        let admin = match &self.home {
            Some(home) => home.shown(admin),
            None => admin,
        };
        let list = move || {
            let names = known.names();
            let shown = |order: &Order| store::shown(order, &names.sites);
            json!({ "orders": known.in_force().iter().map(shown).collect::<Vec<_>>() })
        };
        admin
            .metrics(move || lines.exposition())
            .metrics(move || counted.exposition())
            .show("/-/nodes", "the other nodes", move || json!({ "nodes": page.peers() }))
            .show("/-/orders", "operators' orders in force", list)
            .show("/-/policy", "generations of policy", move || shown.page())
            .change("/-/order", "give an order", move |body| {
                let wanted = asked::<OrderWish>(&body)?.wanted(&given.names().sites)?;
                given.command(wanted).map(|id| json!({ "id": format_order(id) }))
            })
            .change("/-/policy", "publish a generation of policy", move |body| {
                published.publish(asked::<Wish>(&body)?, &check)
            })
    }

    /// How they are reached, and the site that this node controls.
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Whether the site that this node controls can go on under `setup`; why it cannot.
    pub(super) fn may_adopt(&self, setup: &Setup) -> Result<(), String> {
        self.home.as_ref().map_or(Ok(()), |home| home.may_adopt(setup))
    }

    /// Another configuration comes into force at this moment: other positions, other peers.
    pub(super) fn relocate(&self, setup: &Setup) {
        let Some(node) = &setup.node else { return };
        let link = || {
            *self.ranks.write().unwrap_or_else(PoisonError::into_inner) = Ranks::of(setup, node);
            self.link.adopt(node.book(setup), node.peers.clone());
        };
        match &self.home {
            Some(home) => home.adopt(setup, link),
            None => link(),
        }
    }

    /// Another configuration is in force: what operators decided is told in its positions.
    pub(super) fn configure(&self, setup: &Setup) {
        self.desk.configure(boot::config(setup), boot::names(setup));
    }

    /// The process stops by itself: the site that this node controls takes nothing new from now on.
    pub(super) fn drain(&self) {
        // Whatever becomes of this process, it did not crash.
        self.desk.close();
        self.home.iter().for_each(|home| home.drain());
    }

    /// Leaves the other nodes, after running answers had so long to finish.
    pub(super) async fn leave(self, drain: Duration) {
        if let Some(home) = &self.home {
            home.close(drain).await;
        }
        self.stop.cancel();
        self.reader.abort();
        let _ = self.reader.await;
        self.link.shutdown().await;
    }
}

/// What an operator asks for.
fn asked<T: for<'de> Deserialize<'de>>(body: &Bytes) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("cannot be read: {error}"))
}

/// Where decisions about configuration are made, kept and passed on.
fn desk(
    (setup, node): (&Setup, &Node),
    drive: &Arc<Drive>,
    (link, ranks): (&Link, &Arc<RwLock<Ranks>>),
    office: Office,
) -> Result<Arc<Desk>, String> {
    let Office { begun, adopter, reader } = office;
    let origin = node.policy.as_ref();
    let me = node.identity.name();
    let source = match (origin, &node.data_dir) {
        (Some(origin), Some(directory)) if origin.node == *me => Some(Source::open(directory)?),
        _ => None,
    };
    // What is adopted may die on purpose; whose death that is, the desk knows.
    let stage: Arc<OnceLock<Weak<Desk>>> = Arc::default();
    let (played, of_now) = (stage.clone(), adopter.clone());
    let adopt = move |content: Option<&[u8]>| {
        let rehearsal = match content {
            Some(content) => boot::load((&reader, &adopter.own()), content)?.rehearsal,
            None => None,
        };
        if let Some(desk) = played.get().and_then(Weak::upgrade) {
            desk.rehearse(rehearsal);
        }
        adopter.policy(content)
    };
    let recent = node.roles.gateway.then(|| drive.clone());
    let written = &setup.written;
    let usual = (policy::TASTE_MEMORY, policy::TASTE_TIME);
    let (memory, time) = origin.map_or(usual, |origin| origin.taste);
    let around = Around {
        carrier: carrier((link.clone(), drive.clone()), ranks.clone(), me.clone(), origin),
        adopt: Box::new(adopt),
        asked: Box::new(move || recent.as_ref().map_or_else(Vec::new, |drive| drive.asked())),
        own: Box::new(move || of_now.own().text),
        table: Table {
            config: (!written.name.is_empty()).then(|| PathBuf::from(&written.name)),
            memory,
            time,
        },
        source,
        source_name: origin.map(|origin| origin.node.to_string()),
        node: me.to_string(),
    };
    let desk = Arc::new(Desk::open(begun, around));
    // Set once, here.
    let _ = stage.set(Arc::downgrade(&desk));
    Ok(desk)
}

/// Carries what the machine says to whom it concerns.
fn carrier(
    (link, gateway): (Link, Arc<Drive>),
    ranks: Arc<RwLock<Ranks>>,
    me: NodeName,
    origin: Option<&crate::setup::Source>,
) -> crate::policy::Carrier {
    let source = origin.map(|origin| origin.node.clone());
    Box::new(move |said| {
        let ranks = ranks.read().unwrap_or_else(PoisonError::into_inner).clone();
        let gateways = &ranks.gateways;
        match said {
            Outside::InForce(orders, names) => {
                // Where the gateway has other positions already, the desk tells it in those soon.
                let places = gateway.places();
                if places.names.sites == names.sites {
                    gateway.tell_of(&places, Event::Orders(orders));
                }
            }
            Outside::Sites(orders) => {
                for node in ranks.sites.values() {
                    link.send(node, Message::Orders(orders.clone()));
                }
            }
            Outside::Forward(to, order) => {
                if let Some(to) = gateways.get(usize::from(to.0)) {
                    link.send(to, Message::Order(order));
                }
            }
            Outside::Fetch(from) => {
                if let Some(from) = gateways.get(usize::from(from.0)) {
                    // Whichever set it has: the hash only told that it is another.
                    link.send(from, Message::Fetch(0));
                }
            }
            Outside::Poll(standing) => {
                if let Some(source) = source.as_ref().filter(|source| **source != me) {
                    link.send(source, Message::Poll);
                }
                // Gateways tell each other more, and each second; nobody hears it of others.
                let others = ranks.sites.values().chain(&source).filter(|_| gateways.contains(&me));
                for node in others.filter(|node| !gateways.contains(node)) {
                    link.send(node, Message::Digest(standing.clone()));
                }
            }
        }
    })
}

/// Tells the policy machine every second how this gateway does.
async fn feel(drive: Arc<Drive>, desk: Arc<Desk>, stop: CancellationToken) {
    let mut beat = tokio::time::interval(PULSE);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = beat.tick() => {}
        }
        let now = drive.clock().now();
        let (failing, in_doubt) = drive.read(|gateway| gateway.pulse(now));
        desk.tell(policy::Event::Pulse { failing, in_doubt });
    }
}

/// Who hears what the other nodes say.
struct Hears {
    drive: Arc<Drive>,
    is_gateway: bool,
    desk: Arc<Desk>,
    home: Option<Arc<Home>>,
    ranks: Arc<RwLock<Ranks>>,
    page: Option<Arc<status::Desk>>,
    callers: Callers,
    /// Who may hand out generations.
    source: Option<NodeName>,
}

impl Hears {
    fn gateway(&self, places: &Arc<Places>, event: Event) {
        if self.is_gateway {
            self.drive.tell_of(places, event);
        }
    }

    fn position(&self, peer: &NodeName) -> Option<GatewayId> {
        let ranks = self.ranks.read().unwrap_or_else(PoisonError::into_inner);
        let at = ranks.gateways.iter().position(|name| name == peer)?;
        u16::try_from(at).ok().map(GatewayId)
    }

    fn digest(&self, places: &Arc<Places>, digest: Digest) {
        self.desk.tell(policy::Event::Digest(digest.clone()));
        self.gateway(places, Event::Digest(digest));
    }

    fn snapshot(&self, peer: &NodeName, generation: Generation) {
        if self.source.as_ref() == Some(peer) {
            self.desk.offered(generation);
        }
    }
}

/// Tells the machines what the other nodes say.
async fn read(mut inbox: Inbox, link: Link, hears: Hears) {
    let (desk, home) = (&hears.desk, &hears.home);
    loop {
        // What comes speaks of positions as they were when it came.
        let places = hears.drive.places();
        let (peer, message) = inbox.recv().await;
        match message {
            Message::Grant(grant) => hears.gateway(&places, Event::Grant(grant)),
            Message::Digest(digest) => hears.digest(&places, digest),
            Message::Order(order) => drop(desk.tell(policy::Event::Order(order))),
            Message::Orders(orders) => {
                if let Some(home) = home {
                    hears.drive.while_hold(&places, || home.orders(orders.clone()));
                }
                desk.tell(policy::Event::Orders(orders));
            }
            Message::Fetch(_) => {
                link.send(&peer, Message::Orders(desk.orders()));
            }
            Message::Report(report) => {
                if let (Some(home), Some(from)) = (home, hears.position(&peer)) {
                    hears.drive.while_hold(&places, || home.report(from, report));
                }
            }
            Message::Poll => {
                if let Some(newest) = desk.newest() {
                    link.send(&peer, Message::Snapshot(newest));
                }
            }
            Message::Snapshot(generation) => hears.snapshot(&peer, generation),
            Message::Summary(summary) => {
                if let Some(page) = &hears.page {
                    hears.drive.while_hold(&places, || page.hear(peer.as_str(), *summary));
                }
            }
            Message::QuotaReport(_)
            | Message::QuotaGrant(_)
            | Message::KeyMarks(_)
            | Message::Keys(_)
            | Message::Spent(_) => {
                if hears.is_gateway {
                    hears.callers.hear((&peer, hears.position(&peer)), message);
                }
            }
        }
    }
}
