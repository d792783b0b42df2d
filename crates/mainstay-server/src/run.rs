//! Starts everything a configuration names, serves, and lets running answers finish at the end.

use crate::admin::{Admin, Ready};
use crate::drive::Drive;
use crate::gateway::attempt::{Account, Site};
use crate::gateway::auth::Keys;
use crate::gateway::openai::Api;
use crate::gateway::roster::Roster;
use crate::gateway::stream::Sites;
use crate::gateway::upstream::{self, Origin, OriginOptions};
use crate::http::{Counters, Front, serve, server_config};
use crate::setup::{Http2, Listeners, Provider, Setup, Upstream};
use crate::telemetry::log::Log;
use crate::telemetry::{Names, Telemetry};
use crate::worker::Worker;
use hyper::service::service_fn;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Room that is kept, beyond the drain, for cutting what did not finish.
const CUT_TIME: Duration = Duration::from_secs(2);

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
    let (sites, mut workers) = open_sites(&setup, &drive)?;
    let sites = Arc::new(Sites {
        sites,
        names: setup.core.sites.iter().map(|site| site.name.clone()).collect(),
        drive: drive.clone(),
    });
    let stop = CancellationToken::new();
    let last = CancellationToken::new();
    let draining = Arc::new(AtomicBool::new(false));
    let tasks = TaskTracker::new();
    let api = api(&setup, &sites, &tasks, &draining);
    let admin = admin(&setup, &drive, telemetry, &draining);
    let front = front(&setup, listeners.api, setup.drain)?;
    let back = Front { tls: None, ..front_plain(&setup, listeners.admin)? };
    let timer = tokio::spawn({
        let (drive, last) = (drive.clone(), last.clone());
        async move { drive.run(last).await }
    });
    let doors = async {
        let service = service_fn(move |request| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.serve(request).await) }
        });
        serve(front, service, stop.clone()).await;
        // The operator's door stays open until the last answer has gone.
        last.cancel();
    };
    let operator = async {
        let service = service_fn(move |request| {
            let admin = admin.clone();
            async move { Ok::<_, Infallible>(admin.answer(request).await) }
        });
        serve(back, service, last.clone()).await;
    };
    let ending = async {
        shutdown.await;
        draining.store(true, Ordering::Relaxed);
        stop.cancel();
    };
    tokio::join!(doors, operator, ending);
    tasks.close();
    let _ = tokio::time::timeout(CUT_TIME, tasks.wait()).await;
    for site in &sites.sites {
        site.shutdown().await;
    }
    for worker in &mut workers {
        // A step that hangs must not keep the process.
        let _ = tokio::time::timeout(CUT_TIME, worker.shutdown()).await;
    }
    timer.abort();
    Ok(())
}

fn open_sites(setup: &Setup, drive: &Arc<Drive>) -> Result<(Vec<Site>, Vec<Worker>), String> {
    let (mut sites, mut workers) = (Vec::new(), Vec::new());
    for (site, upstream) in setup.core.sites.iter().zip(&setup.upstreams) {
        let named = |error: String| format!("site {}: {error}", site.name);
        sites.push(match upstream {
            Upstream::Provider(provider) => {
                Site::Provider(Arc::new(account(setup, provider).map_err(named)?))
            }
            Upstream::Engine(model) => {
                let worker = Worker::start(model, drive, url(setup)).map_err(named)?;
                let desk = worker.desk();
                workers.push(worker);
                Site::Engine(desk)
            }
        });
    }
    Ok((sites, workers))
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

fn api(
    setup: &Setup,
    sites: &Arc<Sites>,
    tasks: &TaskTracker,
    draining: &Arc<AtomicBool>,
) -> Arc<Api> {
    let began = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Arc::new(Api {
        sites: sites.clone(),
        keys: Keys::new(setup.keys.clone(), setup.anonymous_tier),
        bounds: setup.bounds.clone(),
        tasks: tasks.clone(),
        draining: draining.clone(),
        began,
    })
}

fn admin(
    setup: &Setup,
    drive: &Arc<Drive>,
    telemetry: Arc<Telemetry>,
    draining: &Arc<AtomicBool>,
) -> Admin {
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
        String::new()
    };
    Admin::builder(telemetry, setup.bounds.clone(), ready).metrics(refresh).build()
}

fn front(setup: &Setup, api: std::net::TcpListener, drain: Duration) -> Result<Front, String> {
    let tls = match &setup.listen.tls {
        Some((certificate, key)) => Some(server_config(certificate, key)?),
        None => None,
    };
    Ok(Front { tls, drain, ..front_plain(setup, api)? })
}

fn front_plain(setup: &Setup, listener: std::net::TcpListener) -> Result<Front, String> {
    let listener = TcpListener::from_std(listener).map_err(|e| format!("cannot listen: {e}"))?;
    Ok(Front {
        listener,
        tls: None,
        bounds: setup.bounds.clone(),
        drain: CUT_TIME,
        counters: Arc::new(Counters::default()),
    })
}
