//! The site that this node controls: its machine, its workers, and gateways' requests to it.

use crate::admin::Builder;
use crate::attempt;
use crate::drive::Drive;
use crate::http::Known;
use crate::link::{Link, Message, NodeName, RequestConnection};
use crate::setup::{Embedded, NodeSite, Setup, Upstream, Workers};
use crate::site::controller::{Controller, Grants};
use crate::site::find::{self, Group};
use crate::site::pace::Pace;
use crate::site::prefix::Prefixes;
use crate::site::worker::Crew;
use crate::site::{self, Model, Node, show};
use crate::worker::{Worker, trial};
use hyper::service::service_fn;
use mainstay_core::config::{Pool, SiteConfig};
use mainstay_core::cost::CostRate;
use mainstay_core::message::{Order, Report};
use mainstay_core::names::{GatewayId, SiteId};
use mainstay_core::site::verdict::FIND_EVERY;
use mainstay_core::site::{Event, calibration};
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where the site's last epoch is kept, in the node's directory.
const EPOCH: &str = "site-epoch";

/// The site of this node.
pub(super) struct Home {
    node: Arc<Node>,
    /// What it was opened with.
    workers: Workers,
    /// Names of the sites of all nodes, by position.
    sites: Mutex<Vec<String>>,
    gateways: Gateways,
    /// The embedded engine, if it computes here.
    engine: Option<Worker>,
    /// Who look for workers outside.
    finders: TaskTracker,
    known: Arc<Known>,
    stop: CancellationToken,
}

/// The gateways by position, as they are now.
type Gateways = Arc<RwLock<Vec<NodeName>>>;

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
        let Some(config) = site_config(setup) else { return Ok(None) };
        let name = &setup.core.sites[at].name;
        let epoch = match &ours.data_dir {
            Some(directory) => epoch(directory).map_err(|why| format!("site {name}: {why}"))?,
            // Above any before, as long as the wall clock does not go back by a restart's time;
            // and the site is silent until older grants have lapsed.
            None => Some(unix_seconds()),
        };
        let listed: Gateways = Arc::new(RwLock::new(ours.gateways.clone()));
        let grants = grants(link.clone(), listed.clone());
        let telemetry = drive.shared_telemetry();
        let controller = Arc::new(Controller::new(config.clone(), epoch, telemetry, grants));
        let model = |pool: &Pool| Model {
            name: setup.core.targets[usize::from(pool.target.0)].model.clone(),
            target: pool.target,
        };
        let node = Arc::new(Node {
            controller,
            models: config.pools.iter().map(model).collect(),
            crew: Crew::default(),
            tiers: setup.core.tiers.iter().map(|tier| tier.name.clone()).collect(),
            price: setup.core.fleet.price,
            prefixes: Prefixes::default(),
            bounds: RwLock::new(setup.bounds.clone()),
            tasks: TaskTracker::new(),
        });
        let stop = CancellationToken::new();
        let finders = TaskTracker::new();
        let engine = match workers {
            Workers::Embedded(embedded) => {
                let engine = begin_engine(&node, embedded, (drive, url));
                Some(engine.map_err(|why| format!("site {name}: {why}"))?)
            }
            Workers::Outside(groups) => {
                for outside in groups {
                    let is_it = |model: &Model| model.name == outside.serves;
                    let Some(pool) = node.models.iter().position(is_it) else { continue };
                    let connect_limit = setup.core.limits.connect;
                    let (outside, every) = (outside.clone(), FIND_EVERY);
                    let group = Group { outside, pool, connect_limit, every };
                    finders.spawn(find::run(node.clone(), group, stop.clone()));
                }
                None
            }
        };
        let known = Arc::new(Known::new(&setup.bounds, stop.clone()));
        let (timer, ended) = (node.controller.clone(), stop.clone());
        tokio::spawn(async move { timer.run(ended).await });
        tokio::spawn(serve(node.clone(), known.clone(), listed.clone(), requests));
        let sites = Mutex::new(names(setup));
        let (workers, gateways) = (workers.clone(), listed);
        Ok(Some(Home { node, workers, sites, gateways, engine, finders, known, stop }))
    }

    /// Whether the site can go on under `setup`.
    ///
    /// # Errors
    /// Why it cannot, and that a restart can.
    pub(super) fn may_adopt(&self, setup: &Setup) -> Result<(), String> {
        let site = setup.node.as_ref().and_then(|node| node.site);
        let name = site.and_then(|at| setup.core.sites.get(at)).map_or("?", |site| &site.name);
        let cannot = |what: &str| {
            let place = setup.written.place("node.site");
            Err(format!("{place}: site {name}: {what}; restart its node to change it"))
        };
        if own_workers(setup).is_none_or(|(_, workers)| *workers != self.workers) {
            return cannot("what it computes with begins with the process");
        }
        let listed = setup.node.as_ref().map_or(&[][..], |node| &node.gateways);
        let known = read(&self.gateways);
        let is_kept = known.iter().zip(listed).all(|(one, other)| one == other);
        if !is_kept {
            return cannot("it knows gateways by their order, which may only grow or end sooner");
        }
        let config = self.config(setup);
        let fits = |config: &SiteConfig| self.node.controller.read(|site| site.may_adopt(config));
        match config.as_ref().is_some_and(fits) {
            true => Ok(()),
            false => cannot("its models and the tiers, by name and order, begin with the process"),
        }
    }

    /// `setup`, which may be adopted, is in force. `around` does what must happen at the same
    /// moment.
    pub(super) fn adopt(&self, setup: &Setup, around: impl FnOnce()) {
        *self.node.bounds.write().unwrap_or_else(PoisonError::into_inner) = setup.bounds.clone();
        let Some(config) = self.config(setup) else { return around() };
        let mut before = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let sites = names(setup);
        let place = |name: &String| {
            let at = sites.iter().position(|site| site == name)?;
            u16::try_from(at).ok().map(SiteId)
        };
        let moved = before.iter().map(place).collect();
        let listed = setup.node.as_ref().map_or_else(Vec::new, |node| node.gateways.clone());
        self.node.controller.adopt((config, moved), || {
            *self.gateways.write().unwrap_or_else(PoisonError::into_inner) = listed;
            around();
        });
        *before = sites;
    }

    /// What the machine decides by under `setup`, with its pools in their order; none if a model
    /// came or went.
    fn config(&self, setup: &Setup) -> Option<SiteConfig> {
        let mut config = site_config(setup)?;
        if config.pools.len() != self.node.models.len() {
            return None;
        }
        let pool = |model: &Model| {
            let is_it = |pool: &&Pool| {
                let target = setup.core.targets.get(usize::from(pool.target.0));
                target.is_some_and(|target| target.model == model.name)
            };
            config.pools.iter().find(is_it).copied()
        };
        let pools: Option<Vec<Pool>> = self.node.models.iter().map(pool).collect();
        config.pools = pools?;
        Some(config)
    }

    /// Shows the operator how the workers stand.
    pub(super) fn shown(&self, admin: Builder) -> Builder {
        let (lines, page) = (self.node.clone(), self.node.clone());
        admin.metrics(move || show::exposition(&lines)).show(
            "/-/workers",
            "the workers of this node's site",
            move || show::page(&page),
        )
    }

    /// A gateway tells what it wants.
    pub(super) fn report(&self, from: GatewayId, report: Report) {
        self.node.controller.tell(Event::Report { from, report });
    }

    /// A gateway tells the whole set of orders.
    pub(super) fn orders(&self, orders: Vec<Order>) {
        self.node.controller.tell(Event::Orders(orders));
    }

    /// Takes nothing new from now on.
    pub(super) fn drain(&self) {
        self.node.controller.tell(Event::Leave);
    }

    /// Lets running answers finish for so long.
    pub(super) async fn close(&self, drain: Duration) {
        self.drain();
        self.node.tasks.close();
        let _ = timeout(drain, self.node.tasks.wait()).await;
        // Connections without an answer on them close at once.
        self.stop.cancel();
        self.known.close(super::CUT_TIME).await;
        self.finders.close();
        self.finders.wait().await;
        if let Some(engine) = &self.engine {
            engine.shutdown().await;
        }
    }
}

/// Starts the embedded engine as a worker of each pool, and measures it where nobody said what it
/// carries.
fn begin_engine(
    node: &Arc<Node>,
    embedded: &Embedded,
    (drive, url): (&Arc<Drive>, String),
) -> Result<Worker, String> {
    let engine = Worker::start(&embedded.model, drive, url)?;
    let tokens = embedded.tokens_per_second.unwrap_or(calibration::GUESS);
    let rate = CostRate(node.price.output.0 * u64::from(tokens));
    for (pool, model) in node.models.iter().enumerate() {
        let site = attempt::Site::Engine(engine.desk());
        let clock = (node.controller.clock(), node.price);
        let of = (site, pool, model.name.clone());
        let mut worker = site::worker::Worker::new(clock, of);
        worker.capacity = Some(rate);
        worker.pace = embedded.hold_to_rate.then(|| Pace::new(rate));
        worker.streams = Some(embedded.streams);
        node.crew.add(&node.controller, worker);
    }
    if embedded.tokens_per_second.is_none() {
        let node = node.clone();
        trial::begin(&embedded.model, move |trials| {
            if let Some(capacity) = calibration::carries(trials, &node.price) {
                node.calibrated(capacity);
            }
        });
    }
    Ok(engine)
}

/// The position of the site that this node controls, and what it computes with.
fn own_workers(setup: &Setup) -> Option<(usize, &Workers)> {
    let at = setup.node.as_ref()?.site?;
    match setup.upstreams.get(at)? {
        Upstream::Node(NodeSite { workers, .. }) => Some((at, workers.as_ref()?)),
        Upstream::Provider(_) | Upstream::Engine(_) => None,
    }
}

/// What the machine of this node's site decides by.
fn site_config(setup: &Setup) -> Option<SiteConfig> {
    let ours = setup.node.as_ref()?;
    let site = SiteId(u16::try_from(ours.site?).ok()?);
    let gateways = u16::try_from(ours.gateways.len()).unwrap_or(u16::MAX);
    Some(SiteConfig { gateways, ..SiteConfig::of(&setup.core, site) })
}

fn names(setup: &Setup) -> Vec<String> {
    setup.core.sites.iter().map(|site| site.name.clone()).collect()
}

fn read(gateways: &Gateways) -> RwLockReadGuard<'_, Vec<NodeName>> {
    gateways.read().unwrap_or_else(PoisonError::into_inner)
}

/// Grants go over the link.
fn grants(link: Link, gateways: Gateways) -> Grants {
    Box::new(move |to, grant| {
        let to = read(&gateways).get(usize::from(to.0)).cloned();
        if let Some(to) = to {
            link.send(&to, Message::Grant(grant));
        }
    })
}

/// Serves each connection as the gateway that opened it.
async fn serve(
    node: Arc<Node>,
    known: Arc<Known>,
    gateways: Gateways,
    mut requests: mpsc::Receiver<RequestConnection>,
) {
    while let Some(connection) = requests.recv().await {
        let at = read(&gateways).iter().position(|name| *name == connection.peer);
        let Some(at) = at else { continue };
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
