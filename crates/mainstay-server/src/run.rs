//! Starts everything a configuration names, serves, and lets running answers finish at the end.
//!
//! The API is served by as many doors as there are processors. The machine, telemetry, the
//! embedded engine and the operator's door exist once.

mod door;
mod home;
mod nodes;
mod view;

use crate::admin::{Admin, Builder, Ready};
use crate::attempt::probe::Prober;
use crate::attempt::roster::Roster;
use crate::attempt::{Account, Site};
use crate::dialect;
use crate::drive::Drive;
use crate::embedded::Desk;
use crate::gateway::dns::publish::Publisher;
use crate::gateway::dns::sockets::Sockets;
use crate::gateway::dns::{Counts, Dns};
use crate::gateway::stream::Sites;
use crate::http::{Arrivals, Counters, Front, serve, server_config};
use crate::link::Link;
use crate::setup::{Http2, Listeners, NodeSite, Provider, Setup, Upstream};
use crate::telemetry::log::Log;
use crate::telemetry::{Names, Telemetry};
use crate::upstream::{self, NodeOrigin, Origin, OriginOptions};
use crate::worker::Worker;
use door::{Door, House};
use hyper::service::service_fn;
use nodes::Nodes;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

/// Room that is kept, beyond the drain, for cutting what did not finish.
const CUT_TIME: Duration = Duration::from_secs(2);
/// Pause after a failed accept, which is nearly always want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections to the operator's door.
const OPERATORS: usize = 256;

/// Serves until `shutdown` is done, then lets running answers finish. The error says what could
/// not be started and how to mend it.
pub async fn run(
    setup: Setup,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
) -> Result<(), String> {
    let level = setup.log.level.parse().unwrap_or(tracing::Level::INFO);
    let _log = Log::start(level, setup.log.format)?;
    let telemetry = Arc::new(Telemetry::new(Names::of(&setup.core)));
    let drive = Arc::new(Drive::new(setup.core.clone(), telemetry.clone()));
    let names = answer_names(&setup, &drive, listeners.dns)?;
    let nodes = Nodes::join(&setup, (&drive, url(&setup)), listeners.link)?;
    let mut workers = open_workers(&setup, &drive)?;
    let last = CancellationToken::new();
    let house = house(&setup, &drive)?;
    // A node that is no gateway takes no clients.
    let is_gateway = setup.node.as_ref().is_none_or(|node| node.roles.gateway);
    let link = nodes.as_ref().map(Nodes::link);
    let doors = match is_gateway {
        true => open_doors(&setup, &house, (&workers, link))?,
        false => Vec::new(),
    };
    if is_gateway {
        Prober::begin(&drive, open_sites(&setup, (&workers, link))?, last.clone());
    }
    let api = TcpListener::from_std(listeners.api).map_err(|e| format!("cannot listen: {e}"))?;
    let porter = porter(api, doors.iter().map(Door::hand).collect(), house.stop.clone());
    let timer = tokio::spawn({
        let (drive, last) = (drive.clone(), last.clone());
        async move { drive.run(last).await }
    });
    let serving = async {
        if doors.is_empty() {
            house.stop.cancelled().await;
        }
        for door in doors {
            door.closed().await;
        }
        // The operator's door stays open until the last answer has gone.
        last.cancel();
    };
    let counts = names.as_ref().map(Dns::counts);
    let admin = admin(&setup, (&drive, counts), telemetry, &house.draining);
    let admin = nodes.iter().fold(admin, |admin, nodes| nodes.shown(admin)).build();
    let operator = operate(&setup, listeners.admin, admin, last.clone())?;
    let ending = async {
        shutdown.await;
        house.draining.store(true, Ordering::Relaxed);
        nodes.iter().for_each(Nodes::drain);
        house.stop.cancel();
    };
    tokio::join!(porter, serving, operator, ending);
    for worker in workers.iter_mut().flatten() {
        // A step that hangs must not keep the process.
        let _ = tokio::time::timeout(CUT_TIME, worker.shutdown()).await;
    }
    timer.abort();
    if let Some(names) = names {
        names.stop();
    }
    if let Some(nodes) = nodes {
        let _ = tokio::time::timeout(setup.drain + CUT_TIME, nodes.leave(setup.drain)).await;
    }
    Ok(())
}

/// Answers names with gateways, if the operator gave any.
fn answer_names(
    setup: &Setup,
    drive: &Drive,
    sockets: Option<Sockets>,
) -> Result<Option<Dns>, String> {
    let (Some(settings), Some(sockets)) = (&setup.dns, sockets) else { return Ok(None) };
    let (publisher, wrong) = Publisher::new(settings.clone());
    if let Some(wrong) = wrong {
        tracing::warn!("{wrong}");
    }
    let dns = Dns::start(Arc::new(publisher), sockets)?;
    drive.answer_names(dns.publisher());
    Ok(Some(dns))
}

/// What the doors share.
fn house(setup: &Setup, drive: &Arc<Drive>) -> Result<Arc<House>, String> {
    let tls = match &setup.listen.tls {
        Some((certificate, key)) => Some(server_config(certificate, key)?),
        None => None,
    };
    Ok(Arc::new(House {
        drive: drive.clone(),
        keys: setup.keys.clone(),
        anonymous_tier: setup.anonymous_tier,
        bounds: setup.bounds.clone(),
        drain: setup.drain,
        tls,
        counters: Counters::new(setup.bounds.connections),
        draining: Arc::new(AtomicBool::new(false)),
        stop: CancellationToken::new(),
    }))
}

fn open_doors(
    setup: &Setup,
    house: &Arc<House>,
    within: (&[Option<Worker>], Option<&Link>),
) -> Result<Vec<Door>, String> {
    let number = std::thread::available_parallelism().map_or(1, usize::from);
    let open = |number: usize| {
        let sites = Arc::new(Sites {
            sites: open_sites(setup, within)?,
            names: setup.core.sites.iter().map(|site| site.name.clone()).collect(),
            drive: house.drive.clone(),
        });
        Door::open(number, house.clone(), sites)
    };
    (0..number).map(open).collect()
}

/// Accepts for all doors and hands each connection to the next one in turn: left to themselves,
/// one door accepts a whole burst. One that has too much waiting is passed over.
async fn porter(api: TcpListener, doors: Vec<door::Hand>, stop: CancellationToken) {
    if doors.is_empty() {
        drop(api);
        return;
    }
    for turn in 0usize.. {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = api.accept() => accepted,
        };
        let handed = accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer)));
        let Ok(mut handed) = handed else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        for number in 0..doors.len() {
            match doors[(turn + number) % doors.len()].try_send(handed) {
                Ok(()) => break,
                Err(TrySendError::Full(back) | TrySendError::Closed(back)) => handed = back,
            }
        }
    }
}

/// The embedded engines, by site.
fn open_workers(setup: &Setup, drive: &Arc<Drive>) -> Result<Vec<Option<Worker>>, String> {
    let named = setup.core.sites.iter().zip(&setup.upstreams);
    let open = |(site, upstream): (&mainstay_core::config::Site, &Upstream)| match upstream {
        Upstream::Provider(_) | Upstream::Node(_) => Ok(None),
        Upstream::Engine(model) => Worker::start(model, drive, url(setup))
            .map(Some)
            .map_err(|error| format!("site {}: {error}", site.name)),
    };
    named.map(open).collect()
}

/// The sites as one door reaches them: its own connections, the shared engines, and by `link` the
/// site that this node controls.
fn open_sites(
    setup: &Setup,
    (workers, link): (&[Option<Worker>], Option<&Link>),
) -> Result<Vec<Site>, String> {
    let desks = workers.iter().map(|worker| worker.as_ref().map(Worker::desk));
    let named = setup.core.sites.iter().zip(&setup.upstreams).zip(desks);
    let open = |((site, upstream), desk): (
        (&mainstay_core::config::Site, &Upstream),
        Option<Desk>,
    )| {
        match (upstream, desk) {
            (Upstream::Provider(provider), _) => account(setup, provider)
                .map(|account| Site::Provider(Arc::new(account)))
                .map_err(|error| format!("site {}: {error}", site.name)),
            (Upstream::Engine(_), Some(desk)) => Ok(Site::Engine(desk)),
            (Upstream::Engine(_), None) => Err(format!("site {}: no engine", site.name)),
            (Upstream::Node(node), _) => node_account(setup, node, link)
                .map(|account| Site::Node(Arc::new(account)))
                .map_err(|error| format!("site {}: {error}", site.name)),
        }
    };
    named.map(open).collect()
}

/// Where a client on this machine reaches the API, without a path.
fn url(setup: &Setup) -> String {
    let scheme = if setup.listen.tls.is_some() { "https" } else { "http" };
    let mut here = setup.listen.api;
    match here.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => here.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => here.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    format!("{scheme}://{here}")
}

fn account(setup: &Setup, provider: &Provider) -> Result<Account, String> {
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
    Ok(Account {
        dialect: provider.dialect.clone(),
        origin: Origin::new(&provider.base_url, options)?,
        base: provider.base_url.clone(),
        key: provider.key.clone(),
        stream: provider.stream,
        roster: Roster::default(),
    })
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

fn admin(
    setup: &Setup,
    (drive, names): (&Arc<Drive>, Option<Arc<Counts>>),
    telemetry: Arc<Telemetry>,
    draining: &Arc<AtomicBool>,
) -> Builder {
    let (draining, machine) = (draining.clone(), drive.clone());
    let budget = (drive.clone(), telemetry.clone());
    let ready = move || match draining.load(Ordering::Relaxed) {
        true => Ready::Draining,
        false if machine.read(|gateway| gateway.config().models.is_empty()) => {
            Ready::No("no model is configured".into())
        }
        false => Ready::Yes,
    };
    let refresh = move || {
        let (drive, telemetry) = &budget;
        telemetry.retry_budget(drive.read(|gateway| gateway.retry_budget()));
        names.as_ref().map_or_else(String::new, |counts| counts.lines())
    };
    let shown = drive.clone();
    let view = move || view::view(&shown);
    Admin::builder(telemetry, setup.bounds.clone(), ready).metrics(refresh).show(
        "/view",
        "sites, tiers and the latest decisions, for mainstay top",
        view,
    )
}

fn operate(
    setup: &Setup,
    listener: std::net::TcpListener,
    admin: Admin,
    last: CancellationToken,
) -> Result<impl Future<Output = ()> + use<>, String> {
    let listener = TcpListener::from_std(listener).map_err(|e| format!("cannot listen: {e}"))?;
    let front = Front {
        arrivals: Arrivals::Listener(listener),
        tls: None,
        bounds: setup.bounds.clone(),
        drain: CUT_TIME,
        counters: Counters::new(OPERATORS),
    };
    let service = service_fn(move |request| {
        let admin = admin.clone();
        async move { Ok::<_, Infallible>(admin.answer(request).await) }
    });
    Ok(serve(front, service, last))
}
