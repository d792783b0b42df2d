//! The status role in this process, and what its gateway tells status pages, here and elsewhere.
//!
//! The public is served on a thread of its own: whatever it asks for, and however much, no request
//! to the API waits for it. A gateway tells how it goes whether or not anybody listens.

use crate::admin::Builder;
use crate::drive::Drive;
use crate::http::{Arrivals, Counters, Front, serve};
use crate::link::{Link, Message, NodeName};
use crate::setup::{ALONE, Bounds, Setup};
use crate::status::{Desk, Door};
use hyper::service::service_fn;
use mainstay_core::gateway::losses::short;
use mainstay_core::message::{SUMMARY_EVERY, Summary};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// The page of this process.
pub(super) struct Shown {
    desk: Arc<Desk>,
    timer: JoinHandle<()>,
    closed: oneshot::Receiver<()>,
}

impl Shown {
    /// Shows the page, if this process has somewhere to.
    pub(super) fn open(
        (setup, desk): (&Setup, Option<Arc<Desk>>),
        listener: Option<std::net::TcpListener>,
        bounds: watch::Receiver<Bounds>,
        last: &CancellationToken,
    ) -> Result<Option<Shown>, String> {
        let (Some(desk), Some(listener)) = (desk, listener) else { return Ok(None) };
        let told = |error: std::io::Error| format!("cannot start the thread of the page: {error}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(told)?;
        let counters = Counters::new(setup.bounds.connections);
        let (door, stop) = (Door::new(desk.clone()), last.clone());
        let (done, closed) = oneshot::channel();
        let body = move || {
            runtime.block_on(async move {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                let arrivals = Arrivals::Listener(listener);
                let drain = super::CUT_TIME;
                let front = Front { arrivals, tls: None, bounds: bounds.clone(), drain, counters };
                let limits = bounds.clone();
                let service = service_fn(move |request| {
                    let (door, limits) = (door.clone(), limits.borrow().clone());
                    async move { Ok::<_, Infallible>(door.serve(request, &limits).await) }
                });
                serve(front, service, stop).await;
            });
            // Whoever waits may be gone; then nobody needs to know.
            let _ = done.send(());
        };
        std::thread::Builder::new().name("status".into()).spawn(body).map_err(told)?;
        let (timed, stop) = (desk.clone(), last.clone());
        let timer = tokio::spawn(async move { timed.run(stop).await });
        Ok(Some(Shown { desk, timer, closed }))
    }

    /// Another configuration is in force.
    pub(super) fn adopt(&self, setup: &Setup) {
        self.desk.adopt(setup);
    }

    /// Returns when the last reader has gone.
    pub(super) async fn closed(self: Arc<Shown>) {
        if let Some(shown) = Arc::into_inner(self) {
            shown.timer.abort();
            let _ = shown.closed.await;
        }
    }
}

/// What operators see and say of incidents and announced work, at the page of this process.
pub(super) fn shown(admin: Builder, shown: &Arc<Shown>) -> Builder {
    let [list, change, counts, works, plan] = [(); 5].map(|()| shown.desk.clone());
    let admin = admin.metrics(move || counts.lines());
    let listed = "maintenance windows on the status page";
    admin
        .show("/-/incidents", "incidents on the status page", move || list.incidents())
        .change("/-/incident", "open an incident, or say how it goes", move |body| {
            change.incident(&body)
        })
        .show("/-/maintenances", listed, move || works.maintenances())
        .change("/-/maintenance", "announce a maintenance window, or end one", move |body| {
            plan.maintenance(&body)
        })
}

/// Tells every status page how this gateway goes, for as long as it serves.
pub(super) async fn tell(
    drive: Arc<Drive>,
    (link, me): (Option<Link>, Option<NodeName>),
    here: Option<Arc<Desk>>,
    last: CancellationToken,
) {
    let mut beat = tokio::time::interval(SUMMARY_EVERY);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = last.cancelled() => return,
            _ = beat.tick() => {}
        }
        let places = drive.places();
        if places.pages.is_empty() && here.is_none() {
            continue;
        }
        let now = drive.clock().now();
        let standings = drive.read(|gateway| gateway.standings(now));
        let short = drive.read(|gateway| short(&gateway.losses(now)));
        let summary = Summary { short, ..drive.telemetry().summary(now, &standings) };
        let others = places.pages.iter().filter(|page| Some(*page) != me.as_ref());
        for (link, page) in link.iter().flat_map(|link| others.clone().map(move |to| (link, to))) {
            // Nothing waits for one that is not there.
            link.send(page, Message::Summary(Box::new(summary.clone())));
        }
        if let Some(here) = &here {
            let name = me.as_ref().map_or(ALONE, NodeName::as_str);
            drive.while_hold(&places, || here.hear(name, summary));
        }
    }
}
