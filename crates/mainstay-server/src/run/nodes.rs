//! This node among others: its link, what the gateway machine says over it, and what it hears.

use super::home::Home;
use crate::admin::Builder;
use crate::drive::{Drive, Others};
use crate::link::{Inbox, Link, Message, NodeName, Plan, Settings};
use crate::setup::Setup;
use mainstay_core::gateway::Event;
use mainstay_core::names::GatewayId;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The other nodes, as this process reaches them.
pub(super) struct Nodes {
    link: Link,
    reader: JoinHandle<()>,
    home: Option<Arc<Home>>,
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
        if node.roles.gateway {
            drive.join(Others { link: link.clone(), gateways: gateways.clone(), sites });
        }
        let reader = tokio::spawn(read(inbox, drive.clone(), (gateways, home.clone())));
        Ok(Some(Nodes { link, reader, home }))
    }

    /// Shows the operator how the other nodes stand.
    pub(super) fn shown(&self, admin: Builder) -> Builder {
        let (lines, page) = (self.link.clone(), self.link.clone());
        admin.metrics(move || lines.exposition()).show(
            "/-/nodes",
            "the other nodes",
            move || json!({ "nodes": page.peers() }),
        )
    }

    /// Leaves the other nodes.
    pub(super) async fn leave(self, drain: Duration) {
        self.reader.abort();
        let _ = self.reader.await;
        if let Some(home) = self.home.and_then(Arc::into_inner) {
            home.close(drain).await;
        }
        self.link.shutdown().await;
    }
}

/// Tells the machine what the other nodes say.
async fn read(
    mut inbox: Inbox,
    drive: Arc<Drive>,
    (gateways, home): (Vec<NodeName>, Option<Arc<Home>>),
) {
    loop {
        let (peer, message) = inbox.recv().await;
        match message {
            Message::Grant(grant) => drive.tell(Event::Grant(grant)),
            Message::Digest(digest) => drive.tell(Event::Digest(digest)),
            Message::Report(report) => {
                let from = gateways.iter().position(|name| *name == peer);
                let from = from.and_then(|at| u16::try_from(at).ok()).map(GatewayId);
                if let (Some(home), Some(from)) = (&home, from) {
                    home.report(from, report);
                }
            }
            // For machines that do not run in this process.
            Message::Order(_)
            | Message::Orders(_)
            | Message::Fetch(_)
            | Message::QuotaReport(_)
            | Message::QuotaGrant(_)
            | Message::Poll
            | Message::Snapshot(_) => {}
        }
    }
}
