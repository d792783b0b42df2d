//! The site that this node controls: its machine, its workers, and gateways' requests to it.

use crate::attempt;
use crate::drive::Drive;
use crate::http::Known;
use crate::link::{Link, Message, NodeName, RequestConnection};
use crate::setup::{NodeSite, Setup, Upstream, Workers};
use crate::site::controller::{Controller, Grants};
use crate::site::pace::Pace;
use crate::site::{self, Node};
use crate::worker::Worker;
use hyper::service::service_fn;
use mainstay_core::config::SiteConfig;
use mainstay_core::cost::CostRate;
use mainstay_core::message::{Order, Report};
use mainstay_core::names::{GatewayId, SiteId};
use mainstay_core::site::Event;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where the site's last epoch is kept, in the node's directory.
const EPOCH: &str = "site-epoch";

/// The site of this node.
pub(super) struct Home {
    node: Arc<Node>,
    worker: Worker,
    known: Arc<Known>,
    stop: CancellationToken,
}

impl Home {
    /// Opens the site that this node controls, if it does, with the connections that come out of
    /// `requests`.
    pub(super) fn open(
        setup: &Setup,
        (drive, url): (&Arc<Drive>, String),
        link: &Link,
        requests: mpsc::Receiver<RequestConnection>,
    ) -> Result<Option<Home>, String> {
        let Some((at, workers)) = own_workers(setup) else { return Ok(None) };
        let Some(ours) = &setup.node else { return Ok(None) };
        let site = SiteId(u16::try_from(at).unwrap_or(u16::MAX));
        let gateways = u16::try_from(ours.gateways.len()).unwrap_or(u16::MAX);
        let config = SiteConfig { gateways, ..SiteConfig::of(&setup.core, site) };
        let name = &setup.core.sites[at].name;
        let epoch = match &ours.data_dir {
            Some(directory) => epoch(directory).map_err(|why| format!("site {name}: {why}"))?,
            // Above any before, as long as the wall clock does not go back by a restart's time;
            // and the site is silent until older grants have lapsed.
            None => Some(unix_seconds()),
        };
        let grants = grants(link.clone(), ours.gateways.clone());
        let telemetry = drive.shared_telemetry();
        let controller = Arc::new(Controller::new(config.clone(), epoch, telemetry, grants));
        let worker = Worker::start(&workers.model, drive, url)
            .map_err(|error| format!("site {name}: {error}"))?;
        let price = setup.core.fleet.price;
        let rate = CostRate(price.output.0 * u64::from(workers.tokens_per_second));
        let each = config.pools.iter().map(|pool| site::Worker {
            site: attempt::Site::Engine(worker.desk()),
            target: pool.target,
            model: setup.core.targets[usize::from(pool.target.0)].model.clone(),
            capacity: rate,
            pace: workers.hold_to_rate.then(|| Pace::new(rate)),
            streams: workers.streams,
        });
        let node = Arc::new(Node {
            controller,
            workers: each.collect(),
            tiers: setup.core.tiers.iter().map(|tier| tier.name.clone()).collect(),
            price,
            bounds: setup.bounds.clone(),
            tasks: TaskTracker::new(),
        });
        node.begin();
        let stop = CancellationToken::new();
        let known = Arc::new(Known::new(&setup.bounds, stop.clone()));
        let (timer, ended) = (node.controller.clone(), stop.clone());
        tokio::spawn(async move { timer.run(ended).await });
        tokio::spawn(serve(node.clone(), known.clone(), ours.gateways.clone(), requests));
        Ok(Some(Home { node, worker, known, stop }))
    }

    /// A gateway tells what it wants.
    pub(super) fn report(&self, from: GatewayId, report: Report) {
        self.node.controller.tell(Event::Report { from, report });
    }

    /// A gateway tells the whole set of orders.
    pub(super) fn orders(&self, orders: Vec<Order>) {
        self.node.controller.tell(Event::Orders(orders));
    }

    /// Lets running answers finish for so long.
    pub(super) async fn close(mut self, drain: Duration) {
        self.stop.cancel();
        self.known.close(drain).await;
        self.worker.shutdown().await;
    }
}

/// The position of the site that this node controls, and what it computes with.
fn own_workers(setup: &Setup) -> Option<(usize, &Workers)> {
    let at = setup.node.as_ref()?.site?;
    match setup.upstreams.get(at)? {
        Upstream::Node(NodeSite { workers, .. }) => Some((at, workers.as_ref()?)),
        Upstream::Provider(_) | Upstream::Engine(_) => None,
    }
}

/// Grants go over the link.
fn grants(link: Link, gateways: Vec<NodeName>) -> Grants {
    Box::new(move |to, grant| {
        if let Some(to) = gateways.get(usize::from(to.0)) {
            link.send(to, Message::Grant(grant));
        }
    })
}

/// Serves each connection as the gateway that opened it.
async fn serve(
    node: Arc<Node>,
    known: Arc<Known>,
    gateways: Vec<NodeName>,
    mut requests: mpsc::Receiver<RequestConnection>,
) {
    while let Some(connection) = requests.recv().await {
        let Some(at) = gateways.iter().position(|name| *name == connection.peer) else { continue };
        let from = GatewayId(u16::try_from(at).unwrap_or(u16::MAX));
        let node = node.clone();
        let service = service_fn(move |request| {
            let node = node.clone();
            async move { Ok::<_, Infallible>(node.serve(from, request).await) }
        });
        known.serve(connection.stream, connection.address, service);
    }
}

/// One above the last epoch, written down before it is used; `None` if there never was one.
fn epoch(directory: &Path) -> Result<Option<u32>, String> {
    let path = directory.join(EPOCH);
    let told = |error: std::io::Error| format!("cannot use {}: {error}", path.display());
    let last = match std::fs::read_to_string(&path) {
        Ok(text) => Some(text.trim().parse::<u32>().map_err(|_| {
            format!("{} holds no number; write a number above any the site had", path.display())
        })?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(told(error)),
    };
    std::fs::create_dir_all(directory).map_err(told)?;
    let next = last.map_or(1, |last| last.saturating_add(1));
    let fresh = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        std::fs::write(&fresh, format!("{next}\n"))?;
        std::fs::File::open(&fresh)?.sync_all()?;
        std::fs::rename(&fresh, &path)
    };
    write().map_err(told)?;
    Ok(last.map(|_| next))
}

fn unix_seconds() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_has_an_epoch_above_the_last() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(epoch(directory.path()), Ok(None));
        assert_eq!(epoch(directory.path()), Ok(Some(2)));
        assert_eq!(epoch(directory.path()), Ok(Some(3)));
        std::fs::write(directory.path().join(EPOCH), "x").unwrap();
        assert!(epoch(directory.path()).unwrap_err().contains("holds no number"));
    }
}
