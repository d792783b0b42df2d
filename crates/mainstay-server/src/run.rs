//! Starts everything a configuration names, serves, and lets running answers finish at the end.
//!
//! The API is served by as many doors as there are processors. The machine, telemetry, the
//! embedded engine and the operator's door exist once.

pub mod adopt;
mod build;
mod callers;
mod console;
mod door;
mod drill;
mod home;
mod nodes;
mod page;
mod view;

use crate::admin::{Admin, Builder, Ready};
use crate::attempt::probe::Prober;
use crate::drive::Drive;
use crate::gateway::dns::publish::Publisher;
use crate::gateway::dns::sockets::Sockets;
use crate::gateway::dns::{Counts, Dns};
use crate::http::{Arrivals, Counters, Front, serve, server_config};
use crate::ledger::Ledger;
use crate::link::Link;
use crate::policy::boot::{Boot, boot};
use crate::setup::{Listeners, Reader, Setup};
use crate::status;
use crate::telemetry::log::Log;
use crate::telemetry::{Names, Telemetry};
use adopt::{Adopter, Parts};
use build::Plot;
use callers::Callers;
use door::{Door, House};
use hyper::service::service_fn;
use nodes::{Nodes, Office};
use page::Shown;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Room that is kept, beyond the drain, for cutting what did not finish.
const CUT_TIME: Duration = Duration::from_secs(2);
/// Pause after a failed accept, which is nearly always want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections to the operator's door.
const OPERATORS: usize = 256;

/// What operators see and change of drills, the page and the ledger.
fn told(
    admin: Builder,
    (drive, shown, ledger): (&Arc<Drive>, Option<&Arc<Shown>>, Option<Ledger>),
) -> Builder {
    let admin = drill::shown(admin, drive);
    let admin = shown.into_iter().fold(admin, page::shown);
    admin.metrics(move || ledger.as_ref().map_or_else(String::new, Ledger::lines))
}

/// Serves until `shutdown` is done, then lets running answers finish. `reader` reads the
/// configuration again when another is to be taken, as it is whenever `again` is heard. The error
/// says what could not be started and how to mend it.
pub async fn run(
    setup: Setup,
    reader: Reader,
    listeners: Listeners,
    (shutdown, again): (impl Future<Output = ()>, Signal),
) -> Result<(), String> {
    let level = setup.log.level.parse().unwrap_or(tracing::Level::INFO);
    let _log = Log::start(level, setup.log.format)?;
    let Boot { setup, content, begun } = boot(setup, &reader)?;
    let adopter = Adopter::new(setup.clone(), content, reader.clone());
    let telemetry = Arc::new(Telemetry::new(Names::of(&setup.core)));
    let drive = Arc::new(Drive::new(setup.core.clone(), telemetry.clone()));
    let ledger = setup.ledger.clone().map(|keeping| Ledger::begin(keeping, telemetry.clone()));
    ledger.iter().for_each(|ledger| drive.keep(ledger.clone()));
    let names = answer_names(&setup, &drive, listeners.dns)?;
    let office = Office { begun, adopter: adopter.clone(), reader };
    let page = listeners.status.is_some().then(|| status::Desk::new(&setup));
    let callers = Callers::open(&setup, &drive);
    let places = (&drive, url(&setup), (page.clone(), &callers));
    let nodes = Nodes::join(&setup, places, listeners.link, office)?.map(Arc::new);
    let last = CancellationToken::new();
    let house = house(&setup, &drive, &callers)?;
    // A node that is no gateway takes no clients.
    let is_gateway = setup.node.as_ref().is_none_or(|node| node.roles.gateway);
    let link = nodes.as_ref().map(|nodes| nodes.link().clone());
    let plot = plot(&setup, &drive, (is_gateway, link.clone()));
    drive.settle(Arc::new(build::places(&setup, &plot, None)?));
    let doors = open_doors(plot.doors.saturating_sub(1), &house)?;
    let bounds = house.bounds.subscribe();
    let shown = Shown::open((&setup, page.clone()), listeners.status, bounds, &last)?.map(Arc::new);
    if is_gateway {
        Prober::begin(&drive, last.clone());
        callers.run(link.clone(), &last);
        let me = setup.node.as_ref().map(|node| node.identity.name().clone());
        tokio::spawn(page::tell(drive.clone(), (link, me), page, last.clone()));
    }
    let api = TcpListener::from_std(listeners.api).map_err(|e| format!("cannot listen: {e}"))?;
    let porter = porter(api, doors.iter().map(Door::hand).collect(), house.stop.clone());
    let timer = tokio::spawn({
        let (drive, last) = (drive.clone(), last.clone());
        async move { drive.run(last).await }
    });
    let serving = served(doors, (&house.stop, &last));
    let counts = names.as_ref().map(Dns::counts);
    let admin = admin(&setup, (&drive, counts), telemetry, (&house.draining, &last));
    let admin = told(admin, (&drive, shown.as_ref(), ledger.clone()));
    let admin = nodes.iter().fold(admin, |admin, nodes| nodes.shown(admin));
    let admin = if is_gateway { callers.shown(admin) } else { admin };
    let admin = adopter.shown(admin).build();
    let publisher = names.as_ref().map(Dns::publisher);
    let (parts, page) = (house.clone(), shown.clone());
    adopter.begin(Parts { plot, house: parts, publisher, nodes: nodes.clone(), page });
    let operator = operate(&setup, listeners.admin, admin, last.clone())?;
    let rereading = tokio::spawn(adopter.clone().listen(again));
    let ending = async {
        shutdown.await;
        house.draining.store(true, Ordering::Relaxed);
        nodes.iter().for_each(|nodes| nodes.drain());
        house.stop.cancel();
    };
    tokio::join!(porter, serving, operator, ending);
    rereading.abort();
    adopter.end();
    stop_engines(&drive).await;
    timer.abort();
    // The last answer has gone; what it came to is written before this process ends.
    ledger.iter().for_each(Ledger::end);
    part((names, shown, nodes), setup.drain).await;
    Ok(())
}

/// Returns when the last answer has gone. The operator's door and the page stay open until then.
async fn served(doors: Vec<Door>, (stop, last): (&CancellationToken, &CancellationToken)) {
    if doors.is_empty() {
        stop.cancelled().await;
    }
    for door in doors {
        door.closed().await;
    }
    last.cancel();
}

/// Ends what else there is: names, the page, the link.
async fn part(
    (names, shown, nodes): (Option<Dns>, Option<Arc<Shown>>, Option<Arc<Nodes>>),
    drain: Duration,
) {
    if let Some(names) = names {
        names.stop();
    }
    if let Some(shown) = shown {
        shown.closed().await;
    }
    if let Some(nodes) = nodes.and_then(Arc::into_inner) {
        let _ = tokio::time::timeout(drain + CUT_TIME, nodes.leave(drain)).await;
    }
}

/// Where places are built.
fn plot(setup: &Setup, drive: &Arc<Drive>, (is_gateway, link): (bool, Option<Link>)) -> Plot {
    let number = std::thread::available_parallelism().map_or(1, usize::from);
    // One more is for probes.
    let doors = if is_gateway { number + 1 } else { 0 };
    Plot { drive: drive.clone(), url: url(setup), doors, link }
}

async fn stop_engines(drive: &Drive) {
    for engine in drive.places().engines.iter().flatten() {
        // A step that hangs must not keep the process.
        let _ = tokio::time::timeout(CUT_TIME, engine.shutdown()).await;
    }
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
fn house(setup: &Setup, drive: &Arc<Drive>, callers: &Callers) -> Result<Arc<House>, String> {
    let tls = match &setup.listen.tls {
        Some((certificate, key)) => Some(server_config(certificate, key)?),
        None => None,
    };
    Ok(Arc::new(House {
        drive: drive.clone(),
        callers: callers.clone(),
        bounds: watch::Sender::new(setup.bounds.clone()),
        drain: setup.drain,
        tls,
        counters: Counters::new(setup.bounds.connections),
        draining: Arc::new(AtomicBool::new(false)),
        stop: CancellationToken::new(),
    }))
}

fn open_doors(number: usize, house: &Arc<House>) -> Result<Vec<Door>, String> {
    (0..number).map(|number| Door::open(number, house.clone())).collect()
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

fn admin(
    setup: &Setup,
    (drive, names): (&Arc<Drive>, Option<Arc<Counts>>),
    telemetry: Arc<Telemetry>,
    (draining, last): (&Arc<AtomicBool>, &CancellationToken),
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
    let (shown, flow) = (drive.clone(), console::watched(drive, last));
    let [losses, ratio] = [(); 2].map(|()| drive.clone());
    let view = move || view::view(&shown, &flow);
    Admin::builder(telemetry, setup.bounds.clone(), ready)
        .metrics(refresh)
        .metrics(move || view::headroom(&ratio))
        .show("/view", "sites, tiers and the latest decisions, for mainstay top", view)
        .show("/-/capacity", "whom the loss of each site would leave refused", move || {
            view::capacity(&losses)
        })
        .console(console::open(setup, drive, last))
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
        bounds: watch::channel(setup.bounds.clone()).1,
        drain: CUT_TIME,
        counters: Counters::new(OPERATORS),
    };
    let service = service_fn(move |request| {
        let admin = admin.clone();
        async move { Ok::<_, Infallible>(admin.answer(request).await) }
    });
    Ok(serve(front, service, last))
}
