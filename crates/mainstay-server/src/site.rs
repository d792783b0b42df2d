//! A site of ours as gateways reach it: takes their attempts in, has workers answer them, and
//! tells them what was decided.
//!
//! Nothing is decided here: the site's machine in core says what is let in, what waits, and which
//! worker gets it.

pub mod controller;
pub mod engine;
pub mod find;
pub mod pace;
pub mod prefix;
mod relay;
mod reply;
pub mod show;
pub mod watch;
pub mod worker;

use crate::dialect::event::Endpoint;
use crate::dialect::request::Call;
use crate::error;
use crate::handover::{self, Offered};
use crate::http::{BodyError, ResponseBody, json, read_body};
use crate::setup::Bounds;
use controller::Controller;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use mainstay_core::cost::{CostRate, Price};
use mainstay_core::gateway::refusal::Refusal;
use mainstay_core::message::{Open, Refuse};
use mainstay_core::names::{AttemptId, GatewayId, TargetId, TierId};
use prefix::Prefixes;
use relay::Relay;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use worker::Crew;

/// What engines take in a request to say which of their parts does it. That is ours to say, and a
/// client that says it would take another's place.
const OURS: [&str; 8] = [
    "kv_transfer_params",
    "bootstrap_host",
    "bootstrap_port",
    "bootstrap_room",
    "data_parallel_rank",
    "routed_dp_rank",
    "disagg_prefill_dp_rank",
    "id_slot",
];

/// A model of the site.
pub struct Model {
    /// Its name, as gateways ask for it.
    pub name: String,
    /// What it was when the process began.
    pub target: TargetId,
}

/// The site's door for gateways.
pub struct Node {
    /// Who decides.
    pub controller: Arc<Controller>,
    /// In the order of the machine's pools.
    pub models: Vec<Model>,
    /// Who computes.
    pub crew: Crew,
    /// Names of tiers, the highest first.
    pub tiers: Vec<String>,
    /// What work costs.
    pub price: Price,
    /// How beginnings of prompts are told from each other.
    pub prefixes: Prefixes,
    /// Bounds on what a gateway may send.
    pub bounds: RwLock<Bounds>,
    /// The tasks of attempts.
    pub tasks: TaskTracker,
}

impl Node {
    /// Tells the machine what the embedded engine carries, now that it was measured.
    pub fn calibrated(&self, capacity: CostRate) {
        self.crew.calibrated(&self.controller, capacity);
    }

    /// Answers one attempt of the gateway `from`.
    pub async fn serve(
        self: Arc<Self>,
        from: GatewayId,
        request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        let path = request.uri().path().trim_end_matches('/').to_owned();
        if path.strip_prefix("/v1") == Some(handover::HEALTH) && request.method() == Method::GET {
            // Whoever holds the machine up holds this up.
            let epoch = self.controller.read(|site| site.epoch());
            return json(StatusCode::OK, &serde_json::json!({ "epoch": epoch }));
        }
        let Some(endpoint) = Endpoint::at(&path).filter(|_| request.method() == Method::POST)
        else {
            let what = format!("a site answers no {} {path}", request.method());
            return error::response(&error::of_caller(404, "unknown_url", what));
        };
        let offered = match Offered::read(request.headers(), from) {
            Ok(offered) => offered,
            Err(what) => return error::response(&error::of_caller(400, "invalid_request", what)),
        };
        let attempt = offered.open.work.attempt;
        let bounds = self.bounds.read().unwrap_or_else(PoisonError::into_inner).clone();
        // Headers of the request go no further than here.
        let call = match read_body(request, &bounds).await {
            Ok(body) => Call::parse(endpoint, body).map(|call| call.without(&OURS)),
            Err(BodyError::TooLarge) => return wrong("the body is larger than this site takes"),
            Err(_) => return wrong("the body could not be read"),
        };
        let call = match call {
            Ok(call) => call,
            Err(invalid) => return wrong(&invalid.message),
        };
        let Some((pool, open)) = self.open(&offered, &call) else {
            return not_mine(attempt, "this site has no such model or tier");
        };
        let (head, answer) = oneshot::channel();
        let relay = Relay::new(self.clone(), (pool, open), call, head);
        self.tasks.spawn(relay.run());
        match answer.await {
            Ok(response) => response,
            // Only a panic in the relay leaves a gateway without an answer.
            Err(_) => error::response(&Refusal {
                status: 500,
                kind: "transient".into(),
                ..error::of_caller(500, "internal_error", "an internal error stopped this attempt")
            }),
        }
    }

    /// What the machine is told, and of which pool; `None` if the model or the tier is not ours.
    fn open(&self, offered: &Offered, call: &Call) -> Option<(usize, Open)> {
        let pool = self.models.iter().position(|model| model.name == call.model)?;
        let target = self.models[pool].target;
        let tier = self.tiers.iter().position(|name| *name == offered.tier)?;
        let open = Open { target, tier: TierId(u8::try_from(tier).ok()?), ..offered.open };
        Some((pool, open))
    }
}

fn wrong(what: &str) -> Response<ResponseBody> {
    let refusal = error::of_caller(400, "invalid_request", what);
    error::response(&Refusal { kind: "client_fault/invalid".into(), ..refusal })
}

fn not_mine(attempt: AttemptId, what: &str) -> Response<ResponseBody> {
    refused(&Refuse::not_mine(attempt), 421, what)
}

/// The response to an attempt that was not taken in.
fn refused(refuse: &Refuse, status: u16, what: &str) -> Response<ResponseBody> {
    let mut response = error::response(&Refusal {
        status,
        kind: "overload".into(),
        retry_after: Some(refuse.retry_after),
        ..error::of_caller(status, &handover::handing_back(refuse), what)
    });
    if let Some(value) = handover::refuse(refuse) {
        response.headers_mut().insert(handover::REFUSE, value);
    }
    response
}

#[cfg(test)]
pub(crate) mod tests;
