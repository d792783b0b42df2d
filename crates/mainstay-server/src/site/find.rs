//! Finds a site's workers, and goes on finding them: those that come are watched, those that go are
//! emptied first.
//!
//! A place that does not answer takes nobody away: what was found last stays, and whether a worker
//! lives is seen at the worker.

mod kubernetes;

use super::Node;
use super::watch::{self, Eye};
use super::worker::{Outside as Where, Worker};
use crate::attempt::roster::Roster;
use crate::attempt::{Account, Site};
use crate::dialect::Dialect;
use crate::setup::{Outside, Place};
use crate::upstream::{Http2, Origin, OriginOptions, lookup};
use kubernetes::Pods;
use mainstay_core::cost::CostRate;
use mainstay_core::site::schedule::profile::Profile;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch::Sender;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Inference servers that are alike, and where they are looked for.
pub struct Group {
    /// What they are.
    pub outside: Outside,
    /// The position of the pool that they serve.
    pub pool: usize,
    /// The longest that a connection may take.
    pub connect_limit: Duration,
    /// How often it is looked where they are.
    pub every: Duration,
}

/// Finds workers of `group` until `stop`.
pub async fn run(node: Arc<Node>, group: Group, stop: CancellationToken) {
    let watching = TaskTracker::new();
    let mut known: BTreeMap<String, Sender<bool>> = BTreeMap::new();
    let mut pods = match &group.outside.place {
        Place::Kubernetes(place) => Some(Pods::new(place, group.connect_limit)),
        Place::Address(_) | Place::Dns { .. } => None,
    };
    let mut trouble = None;
    loop {
        let found = tokio::select! {
            () = stop.cancelled() => break,
            found = group.find(&mut pods) => found,
        };
        match found {
            Ok(found) => {
                trouble = None;
                for (address, stays) in &known {
                    stays.send_if_modified(|stays| {
                        std::mem::replace(stays, found.contains(address)) != *stays
                    });
                }
                for address in found {
                    // One that left may be gone altogether: then it begins again.
                    if known.get(&address).is_none_or(Sender::is_closed)
                        && let Some(stays) = group.begin(&node, &address, (&watching, &stop))
                    {
                        known.insert(address, stays);
                    }
                }
            }
            // Once, not each time.
            Err(why) if trouble.as_ref() != Some(&why) => {
                tracing::warn!(model = group.outside.serves, "cannot look for workers: {why}");
                trouble = Some(why);
            }
            Err(_) => {}
        }
        if matches!(group.outside.place, Place::Address(_)) {
            stop.cancelled().await;
            break;
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep(group.every) => {}
        }
    }
    watching.close();
    watching.wait().await;
}

impl Group {
    /// The URLs of all that there are now.
    async fn find(&self, pods: &mut Option<Result<Pods, String>>) -> Result<Vec<String>, String> {
        match &self.outside.place {
            Place::Address(address) => Ok(vec![address.clone()]),
            Place::Dns { host, port, resolver } => {
                let found = lookup(host, *port, *resolver).await?;
                Ok(found.iter().map(|ip| url(SocketAddr::new(*ip, *port))).collect())
            }
            Place::Kubernetes(_) => match pods {
                Some(Ok(pods)) => pods.list().await,
                Some(Err(why)) => Err(why.clone()),
                None => Ok(Vec::new()),
            },
        }
    }

    /// A worker that was not there: takes it in and watches it.
    fn begin(
        &self,
        node: &Arc<Node>,
        address: &str,
        (watching, stop): (&TaskTracker, &CancellationToken),
    ) -> Option<Sender<bool>> {
        let Outside { engine, ref key, .. } = self.outside;
        let dialect = Dialect::builtin(engine.dialect())?;
        let options = || OriginOptions {
            connect_limit: self.connect_limit,
            http2: Http2::Never,
            ..OriginOptions::default()
        };
        let base = format!("{address}/v1");
        let origins = (Origin::new(&base, options()), Origin::new(address, options()));
        let (api, root) = match origins {
            (Ok(api), Ok(root)) => (api, root),
            (Err(why), _) | (_, Err(why)) => {
                tracing::error!("cannot reach a worker: {why}");
                return None;
            }
        };
        let eye = Eye::new(engine, root, &dialect, key.as_ref());
        let account = Account {
            dialect,
            origin: api,
            base,
            key: key.clone(),
            stream: true,
            roster: Roster::default(),
        };
        let site = Site::Provider(Arc::new(account));
        let clock = (node.controller.clock(), node.price);
        let tokens = self.outside.tokens_per_second;
        let of = (site, self.pool, self.outside.model.clone());
        let mut worker = Worker::new(clock, of);
        let (output, prompt) = (node.price.output.0, node.price.prompt.0);
        let by_profile = |profile: &Profile| CostRate((prompt as f64 * profile.reads()) as u64);
        worker.profile = self.outside.profile;
        worker.capacity = tokens
            .map(|tokens| CostRate(output * u64::from(tokens)))
            .or(worker.profile.as_ref().map(by_profile));
        worker.streams = self.outside.sequences;
        worker.outside = Some(Where { engine, address: address.to_owned() });
        let added = node.crew.add(&node.controller, worker);
        let (sender, stays) = tokio::sync::watch::channel(true);
        watching.spawn(watch::run(node.clone(), added, eye, stays, stop.clone()));
        Some(sender)
    }
}

/// The URL of a server at an address.
fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

#[cfg(test)]
mod tests;
