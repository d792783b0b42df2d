//! Looks at one worker again and again, and tells what was found.
//!
//! One look at a time, with a bound: a worker that hangs holds up nobody. What a look means is
//! said in core (`site/verdict`).

use super::Node;
use super::engine::{Engine, Report};
use super::worker::Worker;
use crate::attempt::head;
use crate::dialect::Dialect;
use crate::setup::Secret;
use crate::upstream::{Origin, Outbound, SendError};
use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use mainstay_core::names::{ErrorClass, Scope, WorkerId};
use mainstay_core::rng::Rng;
use mainstay_core::site::verdict::{FIND_EVERY, GRACE, LOOK_EVERY, LOOK_MAX, Look};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// What a page may hold. The metrics of a worker with many ranks are some hundred KiB.
const PAGE_MAX: usize = 8 << 20;

/// How a worker is looked at.
pub struct Eye {
    engine: Engine,
    /// The root of its server, beside the API.
    root: Origin,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What stays as it is while it lives, and when that was asked for.
    fixed: Option<(Instant, Bytes)>,
}

/// What a page says.
type Page = (StatusCode, Bytes);

impl Eye {
    /// Looks with this key.
    pub fn new(engine: Engine, root: Origin, dialect: &Dialect, key: Option<&Secret>) -> Eye {
        Eye { engine, root, headers: head(dialect, key, Vec::new()), fixed: None }
    }

    /// One look.
    async fn look(&mut self) -> (Look, Option<Report>) {
        let until = Instant::now() + LOOK_MAX;
        let paths = self.engine.paths();
        let first = self.engine.first_path();
        let page = match timeout_at(until, self.page(first)).await {
            Err(_) => return (Look::Silent, None),
            Ok(Err(error)) if is_refused(&error) => return (Look::Refused, None),
            Ok(Err(_)) => return (Look::Silent, None),
            Ok(Ok(page)) => page,
        };
        if page.0.is_server_error() {
            return (Look::NotReady, None);
        }
        let mut report = Report::default();
        if paths.contains(&first) && page.0 == StatusCode::OK {
            self.engine.read(first, &page.1, &mut report);
        }
        for path in paths.iter().filter(|path| **path != first) {
            // What it does not tell, or not in time, is unknown.
            if let Ok(Ok((StatusCode::OK, body))) = timeout_at(until, self.page(path)).await {
                self.engine.read(path, &body, &mut report);
            }
        }
        self.read_fixed(until, &mut report).await;
        let look = match (report.is_asleep, self.engine) {
            // llama.cpp wakes by itself when it is asked.
            (Some(true), Engine::Vllm | Engine::Sglang) => Look::NotReady,
            _ => Look::Ready,
        };
        (look, Some(report))
    }

    async fn read_fixed(&mut self, until: Instant, report: &mut Report) {
        let Some(path) = self.engine.fixed_path() else { return };
        let is_old = self.fixed.as_ref().is_none_or(|(at, _)| at.elapsed() > FIND_EVERY);
        if is_old && let Ok(Ok((StatusCode::OK, body))) = timeout_at(until, self.page(path)).await {
            self.fixed = Some((Instant::now(), body));
        }
        if let Some((_, body)) = &self.fixed {
            self.engine.read(path, body, report);
        }
    }

    async fn page(&self, path: &str) -> Result<Page, SendError> {
        let (method, headers) = (Method::GET, self.headers.clone());
        let reply = self.root.send(Outbound { path, method, headers, body: Bytes::new() }).await?;
        let (status, mut body) = (reply.status, reply.body);
        let mut read = BytesMut::new();
        while let Some(more) = body.next().await {
            let more = more?;
            if read.len() + more.len() > PAGE_MAX {
                break;
            }
            read.extend_from_slice(&more);
        }
        Ok((status, read.freeze()))
    }
}

/// Whether nobody listens there.
fn is_refused(error: &SendError) -> bool {
    error.failure.class == ErrorClass::Dead(Scope::Site)
}

/// Watches a worker until it is to go and its answers are over, or until `stop`.
pub async fn run(
    node: Arc<Node>,
    (id, worker): (WorkerId, Arc<Worker>),
    mut eye: Eye,
    mut stays: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let controller = node.controller.clone();
    let of = (id, controller.as_ref());
    let mut rng = Rng::new(RandomState::new().hash_one(id.0));
    let mut leaving: Option<Instant> = None;
    loop {
        let begun = worker.begun();
        let seen = eye.look().await;
        worker.looked(of, begun, seen);
        let is_leaving = !*stays.borrow_and_update();
        if is_leaving != leaving.is_some() {
            leaving = is_leaving.then(Instant::now);
            worker.leave(of, is_leaving);
        }
        if let Some(since) = leaving {
            let legs = worker.legs();
            if legs == 0 || since.elapsed() > GRACE {
                worker.gone(of);
            }
            if legs == 0 {
                node.crew.remove(id);
                eye.root.shutdown().await;
                return worker.site.shutdown().await;
            }
        }
        let pause = rng.between(LOOK_EVERY.mul_f64(0.8), LOOK_EVERY.mul_f64(1.2));
        let soon = async {
            worker.look.notified().await;
            // Of many legs that break together one tells; the next look is for all of them.
            sleep(pause / 10).await;
        };
        tokio::select! {
            () = stop.cancelled() => return,
            _ = timeout(pause, soon) => {}
            Ok(()) = stays.changed() => {}
        }
    }
}
