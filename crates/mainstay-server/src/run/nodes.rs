//! This node among others: its link, what the gateway machine says over it, and what it hears.

use crate::admin::Builder;
use crate::drive::{Drive, Others};
use crate::link::{Inbox, Link, Message, Plan, Settings};
use crate::setup::Setup;
use mainstay_core::gateway::Event;
use serde_json::json;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The other nodes, as this process reaches them.
pub(super) struct Nodes {
    link: Link,
    reader: JoinHandle<()>,
}

impl Nodes {
    /// Joins the other nodes, if there are any.
    pub(super) fn join(
        setup: &Setup,
        drive: &Arc<Drive>,
        listener: Option<std::net::TcpListener>,
    ) -> Result<Option<Nodes>, String> {
        let Some(node) = &setup.node else { return Ok(None) };
        let listener = listener.map(TcpListener::from_std).transpose();
        let listener = listener.map_err(|e| format!("cannot listen: {e}"))?;
        let book = node.book(setup);
        let sites = book.nodes.clone();
        let (identity, peers) = (node.identity.clone(), node.peers.clone());
        let plan = Plan { identity, book, peers, settings: Settings::default() };
        // Connections with requests are turned away while nobody takes them.
        let (link, inbox, _) = Link::start(plan, listener);
        let gateways = node.gateways.clone();
        drive.join(Others { link: link.clone(), gateways, sites });
        let reader = tokio::spawn(read(inbox, drive.clone()));
        Ok(Some(Nodes { link, reader }))
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
    pub(super) async fn leave(self) {
        self.reader.abort();
        self.link.shutdown().await;
    }
}

/// Tells the machine what the other nodes say.
async fn read(mut inbox: Inbox, drive: Arc<Drive>) {
    loop {
        let (_, message) = inbox.recv().await;
        match message {
            Message::Grant(grant) => drive.tell(Event::Grant(grant)),
            Message::Digest(digest) => drive.tell(Event::Digest(digest)),
            // For machines that do not run in this process.
            Message::Report(_)
            | Message::Order(_)
            | Message::Orders(_)
            | Message::Fetch(_)
            | Message::QuotaReport(_)
            | Message::QuotaGrant(_)
            | Message::Poll
            | Message::Snapshot(_) => {}
        }
    }
}
