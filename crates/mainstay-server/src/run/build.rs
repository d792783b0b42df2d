//! Builds the places of a configuration: connections, engines. What stays as it was is taken
//! over from the configuration before, so that no pool grows cold and no model is loaded again.

use crate::attempt::roster::Roster;
use crate::attempt::{Account, Site};
use crate::dialect;
use crate::drive::Drive;
use crate::link::Link;
use crate::places::Places;
use crate::setup::{Http2, NodeSite, Provider, Setup, Upstream};
use crate::telemetry::Names;
use crate::upstream::{self, NodeOrigin, Origin, OriginOptions};
use crate::worker::Worker;
use std::sync::Arc;

/// Where it is built.
pub(super) struct Plot {
    pub(super) drive: Arc<Drive>,
    /// Where a client on this machine reaches the API, without a path.
    pub(super) url: String,
    /// Doors, each with connections of its own; the last is for probes.
    pub(super) doors: usize,
    /// How other nodes are reached, and the site that this one controls.
    pub(super) link: Option<Link>,
}

/// A configuration and its places.
pub(super) type Before<'a> = (&'a Setup, &'a Places);

/// The places of `setup`. Nothing begins to serve by this.
pub(super) fn places(
    setup: &Setup,
    plot: &Plot,
    before: Option<Before<'_>>,
) -> Result<Places, String> {
    let known: Vec<Option<usize>> = setup
        .core
        .sites
        .iter()
        .map(|site| before?.0.core.sites.iter().position(|old| old.name == site.name))
        .collect();
    let mut engines = Vec::new();
    for (at, upstream) in setup.upstreams.iter().enumerate() {
        let old = before.zip(known[at]);
        engines.push(engine(upstream, plot, old).map_err(|why| named(setup, at, &why))?);
    }
    let mut doors = Vec::new();
    for door in 0..plot.doors {
        let mut sites = Vec::new();
        for (at, upstream) in setup.upstreams.iter().enumerate() {
            let old = before.zip(known[at]).and_then(|((old, places), at)| {
                Some((old, old.upstreams.get(at)?, places.doors.get(door)?.get(at)?))
            });
            let opened = match (upstream, &engines[at]) {
                (Upstream::Engine(_), Some(engine)) => Ok(Site::Engine(engine.desk())),
                (Upstream::Engine(_), None) => Err(String::from("no engine")),
                (Upstream::Provider(provider), _) => provider_site(setup, provider, old),
                (Upstream::Node(node), _) => node_site((setup, node), plot, old),
            };
            sites.push(opened.map_err(|why| named(setup, at, &why))?);
        }
        doors.push(sites);
    }
    let book = setup.node.as_ref().map(|node| node.book(setup));
    Ok(Places {
        names: Names::of(&setup.core),
        doors,
        engines,
        tariff: setup.tariff.clone(),
        bounds: setup.bounds.clone(),
        gateways: setup.node.as_ref().map_or_else(Vec::new, |node| node.gateways.clone()),
        nodes: book.map(|book| book.nodes).unwrap_or_default(),
        pages: setup.status.nodes.clone(),
    })
}

fn named(setup: &Setup, at: usize, why: &str) -> String {
    format!("site {}: {why}", setup.core.sites[at].name)
}

/// The embedded engine of a site that has one; that of a node without doors would have no work.
fn engine(
    upstream: &Upstream,
    plot: &Plot,
    old: Option<(Before<'_>, usize)>,
) -> Result<Option<Arc<Worker>>, String> {
    let Upstream::Engine(model) = upstream else { return Ok(None) };
    if plot.doors == 0 {
        return Ok(None);
    }
    if let Some(((old, places), at)) = old
        && matches!(old.upstreams.get(at), Some(Upstream::Engine(same)) if same == model)
        && let Some(engine) = places.engines.get(at).cloned().flatten()
    {
        return Ok(Some(engine));
    }
    Worker::start(model, &plot.drive, plot.url.clone()).map(|worker| Some(Arc::new(worker)))
}

/// A site as it was at the same door.
type Old<'a> = (&'a Setup, &'a Upstream, &'a Site);

fn provider_site(setup: &Setup, provider: &Provider, old: Option<Old<'_>>) -> Result<Site, String> {
    let Some((before, Upstream::Provider(was), site @ Site::Provider(account))) = old else {
        return open(setup, provider);
    };
    let limit = |setup: &Setup| setup.core.limits.connect;
    let is_there = was.base_url == provider.base_url
        && was.resolver == provider.resolver
        && was.http2 == provider.http2
        && limit(before) == limit(setup)
        // What a file holds may have changed under its name.
        && was.ca_file.is_none()
        && provider.ca_file.is_none();
    if !is_there {
        return open(setup, provider);
    }
    let key = |provider: &Provider| provider.key.as_ref().map(|key| key.reveal().to_owned());
    let is_same = key(was) == key(provider)
        && was.stream == provider.stream
        && Arc::ptr_eq(&was.dialect, &provider.dialect);
    Ok(match is_same {
        true => site.clone(),
        false => Site::Provider(Arc::new(around(account.origin.clone(), provider))),
    })
}

fn open(setup: &Setup, provider: &Provider) -> Result<Site, String> {
    let options = OriginOptions {
        ca_file: provider.ca_file.clone(),
        connect_limit: setup.core.limits.connect,
        resolver: provider.resolver,
        http2: match provider.http2 {
            Http2::Auto => upstream::Http2::Auto,
            Http2::Always => upstream::Http2::PriorKnowledge,
            Http2::Never => upstream::Http2::Never,
        },
        node: None,
    };
    let origin = Origin::new(&provider.base_url, options)?;
    Ok(Site::Provider(Arc::new(around(origin, provider))))
}

fn around(origin: Origin, provider: &Provider) -> Account {
    Account {
        dialect: provider.dialect.clone(),
        origin,
        base: provider.base_url.clone(),
        key: provider.key.clone(),
        stream: provider.stream,
        roster: Roster::default(),
    }
}

fn node_site(
    (setup, node): (&Setup, &NodeSite),
    plot: &Plot,
    old: Option<Old<'_>>,
) -> Result<Site, String> {
    if let Some((before, Upstream::Node(was), site @ Site::Node(_))) = old
        && (&was.name, &was.address) == (&node.name, &node.address)
        && before.core.limits.connect == setup.core.limits.connect
    {
        return Ok(site.clone());
    }
    node_account(setup, node, plot.link.as_ref()).map(|account| Site::Node(Arc::new(account)))
}

/// A site of ours, as its node is reached: with certificates on both sides, and one connection
/// for each answer, so that one that stalls holds up no other. That of this node itself is reached
/// within the process.
fn node_account(setup: &Setup, site: &NodeSite, link: Option<&Link>) -> Result<Account, String> {
    let identity = setup.node.as_ref().map(|node| node.identity.clone());
    let identity = identity.ok_or("its node is reached with a certificate; add [node]")?;
    let within = link.filter(|_| site.name == *identity.name()).cloned();
    let options = OriginOptions {
        connect_limit: setup.core.limits.connect,
        http2: upstream::Http2::Never,
        node: Some(NodeOrigin { identity, name: site.name.clone(), within }),
        ..OriginOptions::default()
    };
    let base = format!("https://{}/v1", site.address);
    Ok(Account {
        dialect: dialect::of_nodes(),
        origin: Origin::new(&base, options)?,
        base,
        key: None,
        stream: true,
        roster: Roster::default(),
    })
}
