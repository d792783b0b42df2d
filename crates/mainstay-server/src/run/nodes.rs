//! This node among others: its link, what the gateway machine says over it, and what it hears.

use super::home::Home;
use crate::admin::Builder;
use crate::drive::{Drive, Others};
use crate::link::{Inbox, Link, Message, NodeName, Plan, Settings};
use crate::policy::{Desk, Outside, Wanted, format_order, parse_order, store};
use crate::setup::Setup;
use bytes::Bytes;
use mainstay_core::config::PolicyConfig;
use mainstay_core::gateway::Event;
use mainstay_core::message::{Order, Verb};
use mainstay_core::names::{GatewayId, SiteId};
use mainstay_core::policy;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
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
    /// Names of sites by position.
    sites: Vec<String>,
    stop: CancellationToken,
}

impl Nodes {
    /// Joins the other nodes, if there are any, and opens the site that this one controls. `url`
    /// is where the API listens, without a path.
    pub(super) fn join(
        setup: &Setup,
        (drive, url): (&Arc<Drive>, String),
        listener: Option<std::net::TcpListener>,
    ) -> Result<Option<Nodes>, String> {
        let Some(node) = &setup.node else { return Ok(None) };
        let listener = listener.map(TcpListener::from_std).transpose();
        let listener = listener.map_err(|e| format!("cannot listen: {e}"))?;
        let book = node.book(setup);
        let sites = book.nodes.clone();
        let (identity, peers) = (node.identity.clone(), node.peers.clone());
        let plan = Plan { identity, book, peers, settings: Settings::default() };
        let (link, inbox, requests) = Link::start(plan, listener);
        let home = Home::open(setup, (drive, url), &link, requests)?.map(Arc::new);
        let gateways = node.gateways.clone();
        let desk = Arc::new(desk(setup, drive, (&link, &sites, home.clone()))?);
        if node.roles.gateway {
            let completing = desk.clone();
            let complete = Box::new(move |digest| completing.complete(digest));
            drive.join(Others { link: link.clone(), complete });
        }
        let stop = CancellationToken::new();
        if node.roles.gateway {
            let (lagging, ended) = (drive.clone(), stop.clone());
            tokio::spawn(async move { lagging.watch_lag(ended).await });
        }
        let (timer, ended) = (desk.clone(), stop.clone());
        tokio::spawn(async move { timer.run(ended).await });
        let hearers = (desk.clone(), home.clone(), link.clone());
        let reader = tokio::spawn(read(inbox, drive.clone(), gateways, hearers));
        let sites = setup.core.sites.iter().map(|site| site.name.clone()).collect();
        Ok(Some(Nodes { link, reader, home, desk, sites, stop }))
    }

    /// Shows the operator how the other nodes stand.
    pub(super) fn shown(&self, admin: Builder) -> Builder {
        let (lines, page) = (self.link.clone(), self.link.clone());
        let (known, given) = (self.desk.clone(), self.desk.clone());
        let (names, sites) = (self.sites.clone(), self.sites.clone());
        let list = move || {
            let shown = |order: &Order| store::shown(order, &names);
            json!({ "orders": known.in_force().iter().map(shown).collect::<Vec<_>>() })
        };
        admin
            .metrics(move || lines.exposition())
            .show("/-/nodes", "the other nodes", move || json!({ "nodes": page.peers() }))
            .show("/-/orders", "operators' orders in force", list)
            .change("/-/order", "give an order", move |body| order(&given, &sites, &body))
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
        let link = || self.link.adopt(node.book(setup), node.peers.clone());
        match &self.home {
            Some(home) => home.adopt(setup, link),
            None => link(),
        }
    }

    /// The site that this node controls takes nothing new from now on.
    pub(super) fn drain(&self) {
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

/// Where orders are given, kept and passed on.
fn desk(
    setup: &Setup,
    drive: &Arc<Drive>,
    (link, sites, home): (&Link, &BTreeMap<u16, NodeName>, Option<Arc<Home>>),
) -> Result<Desk, String> {
    let node = setup.node.as_ref().ok_or("no node")?;
    let fleet = &setup.core.fleet;
    let config = PolicyConfig {
        me: fleet.me,
        gateways: u16::try_from(node.gateways.len()).unwrap_or(u16::MAX),
        service: fleet.service.clone(),
        ..PolicyConfig::default()
    };
    let names = setup.core.sites.iter().map(|site| site.name.clone()).collect();
    let kept = node.data_dir.as_ref().map(|directory| store::Store::open(directory, names));
    let (link, gateway) = (link.clone(), drive.clone());
    let (gateways, sites) = (node.gateways.clone(), sites.clone());
    let carrier = move |said| match said {
        Outside::InForce(orders) => gateway.tell(Event::Orders(orders)),
        Outside::Sites(orders) => {
            if let Some(home) = &home {
                home.orders(orders.clone());
            }
            for node in sites.values() {
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
    };
    let name = node.identity.name().to_string();
    Desk::open(config, (drive.clock(), kept.transpose()?, name), Box::new(carrier))
}

/// An operator gives an order at this node.
fn order(desk: &Desk, sites: &[String], body: &Bytes) -> Result<Value, String> {
    let asked: Value = serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))?;
    let text = |key: &str| asked[key].as_str().unwrap_or_default().to_owned();
    let site = match asked["site"].as_str() {
        None => None,
        Some(name) => {
            let at = sites.iter().position(|site| site == name);
            let known = || format!("no site `{name}`; there are {}", sites.join(", "));
            Some(SiteId(u16::try_from(at.ok_or_else(known)?).unwrap_or(u16::MAX)))
        }
    };
    let percent = || asked["percent"].as_u64().and_then(|percent| u8::try_from(percent).ok());
    let verb = match asked["verb"].as_str().unwrap_or_default() {
        "drain" => Verb::Drain,
        "kill" => Verb::Kill,
        "freeze" => Verb::Freeze,
        "cap" => Verb::Cap(percent().ok_or("a cap needs `percent`, from 0 to 100")?),
        "undrain" => {
            let id = parse_order(&text("ends"));
            Verb::End(id.ok_or("`ends` names no order; mainstay orders lists them")?)
        }
        other => return Err(format!("no order `{other}`; drain, undrain, kill, cap, freeze")),
    };
    let wanted = Wanted {
        author: text("author"),
        verb,
        site,
        reason: text("reason"),
        life: Duration::from_secs(asked["life_s"].as_u64().unwrap_or(0)),
        confirmed: asked["confirm"].as_bool().unwrap_or(false),
    };
    desk.command(wanted).map(|id| json!({ "id": format_order(id) }))
}

/// Tells the machine what the other nodes say.
async fn read(
    mut inbox: Inbox,
    drive: Arc<Drive>,
    gateways: Vec<NodeName>,
    (desk, home, link): (Arc<Desk>, Option<Arc<Home>>, Link),
) {
    loop {
        // What comes speaks of positions as they were when it came.
        let places = drive.places();
        let (peer, message) = inbox.recv().await;
        match message {
            Message::Grant(grant) => drive.tell_of(&places, Event::Grant(grant)),
            Message::Digest(digest) => {
                desk.tell(policy::Event::Digest(digest.clone()));
                drive.tell_of(&places, Event::Digest(digest));
            }
            Message::Order(order) => drop(desk.tell(policy::Event::Order(order))),
            Message::Orders(orders) => {
                if let Some(home) = &home {
                    drive.while_hold(&places, || home.orders(orders.clone()));
                }
                desk.tell(policy::Event::Orders(orders));
            }
            Message::Fetch(_) => {
                link.send(&peer, Message::Orders(desk.orders()));
            }
            Message::Report(report) => {
                let from = gateways.iter().position(|name| *name == peer);
                let from = from.and_then(|at| u16::try_from(at).ok()).map(GatewayId);
                if let (Some(home), Some(from)) = (&home, from) {
                    drive.while_hold(&places, || home.report(from, report));
                }
            }
            // For machines that do not run in this process.
            Message::QuotaReport(_)
            | Message::QuotaGrant(_)
            | Message::Poll
            | Message::Snapshot(_) => {}
        }
    }
}
