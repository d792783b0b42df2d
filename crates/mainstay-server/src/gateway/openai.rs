//! The OpenAI-compatible endpoints: turns a request's bytes into a call, and errors into words.
//!
//! Prompts are not decoded here, let alone encoded again: a call keeps the client's bytes.

use super::auth::{Caller, Stranger};
use super::keyring::Keyring;
use super::limiter::{Limiter, Reservation};
use super::meter::Meter;
use super::stream::Relay;
use super::stream::client::Client;
use crate::dialect::event::Endpoint;
use crate::dialect::request::{Call, Format, Invalid};
use crate::drive::Drive;
use crate::error;
use crate::http::{BodyError, Peer, ResponseBody, json, read_body};
use crate::ledger::Stop;
use crate::places::Places;
use crate::setup::Bounds;
use crate::telemetry::format_request;
use bytes::Bytes;
use http::header::{ALLOW, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use mainstay_core::config::Needs;
use mainstay_core::gateway::refusal::Refusal;
use mainstay_core::gateway::request::Ask;
use mainstay_core::names::{ModelId, RequestId};
use mainstay_core::plan::Period;
use serde_json::{Value, json as object};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

/// The API listener's service.
pub struct Api {
    /// The machine, and what its positions lead to.
    pub drive: Arc<Drive>,
    /// Who may call.
    pub keyring: Arc<Keyring>,
    /// How much.
    pub limiter: Arc<Limiter>,
    /// Which door this is.
    pub door: usize,
    /// The tasks of requests.
    pub tasks: TaskTracker,
    /// Whether the process is on its way out.
    pub draining: Arc<AtomicBool>,
    /// When the process began, in seconds since 1970, for lists of models.
    pub began: u64,
}

impl Api {
    /// Answers one request. Every response carries the request's name.
    pub async fn serve(self: Arc<Self>, request: Request<Incoming>) -> Response<ResponseBody> {
        let id = self.drive.name_request();
        let name = format_request(id);
        let mut response = self.route((id, name.clone()), request).await;
        if let Ok(value) = HeaderValue::from_str(&name) {
            for header in ["x-request-id", "x-mainstay-request-id"] {
                response.headers_mut().insert(header, value.clone());
            }
        }
        response
    }

    async fn route(
        self: Arc<Self>,
        name: (RequestId, String),
        request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        let path = request.uri().path().trim_end_matches('/').to_owned();
        let Some(endpoint) = Endpoint::at(&path) else {
            return match path.as_str() {
                "/health" | "/livez" => plain("ok\n"),
                _ => self.look(&request, &path),
            };
        };
        if request.method() != Method::POST {
            return wrong_method("POST");
        }
        let places = self.drive.places();
        match self.admit(&request, &places) {
            Ok(caller) => self.call(name, (endpoint, caller), request, places).await,
            Err(stranger) => turn_away(stranger),
        }
    }

    fn admit(&self, request: &Request<Incoming>, places: &Places) -> Result<Caller, Stranger> {
        let from = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
        let tier_of = |name: &str| places.names.tier_of(name);
        self.keyring.keys().admit(request.headers(), from, tier_of)
    }

    fn look(&self, request: &Request<Incoming>, path: &str) -> Response<ResponseBody> {
        let Some(name) = path.strip_prefix("/v1/models") else {
            let what = format!("Unknown request URL: {} {path}.", request.method());
            return refuse(&error::of_caller(404, "unknown_url", what));
        };
        if request.method() != Method::GET {
            return wrong_method("GET");
        }
        let caller = match self.admit(request, &self.drive.places()) {
            Ok(caller) => caller,
            Err(stranger) => return turn_away(stranger),
        };
        let mut models = self.models();
        models.retain(|model| model["id"].as_str().is_none_or(|name| caller.may_ask(name)));
        let Some(name) = name.strip_prefix('/') else {
            return json(StatusCode::OK, &object!({ "object": "list", "data": models }));
        };
        match models.into_iter().find(|model| model["id"] == name) {
            Some(model) => json(StatusCode::OK, &model),
            None => refuse(&self.no_model(name)),
        }
    }

    fn models(&self) -> Vec<Value> {
        self.drive.read(|gateway| {
            let config = gateway.config();
            let owner = |model: &mainstay_core::config::Model| {
                let first = model.served_by.first().or(model.substitutes.first());
                first.map_or("mainstay", |id| {
                    let site = config.targets[usize::from(id.0)].site;
                    config.sites[usize::from(site.0)].name.as_str()
                })
            };
            let entry = |model: &mainstay_core::config::Model| {
                object!({
                    "id": model.name,
                    "object": "model",
                    "created": self.began,
                    "owned_by": owner(model),
                })
            };
            // One without a name is there only for answers that were begun when it had one.
            let named = config.models.iter().filter(|model| !model.name.is_empty());
            named.map(entry).collect()
        })
    }

    async fn call(
        self: Arc<Self>,
        name: (RequestId, String),
        (endpoint, caller): (Endpoint, Caller),
        request: Request<Incoming>,
        places: Arc<Places>,
    ) -> Response<ResponseBody> {
        if self.draining.load(Ordering::Relaxed) {
            return refuse(&leaving());
        }
        let body = match read_body(request, &places.bounds).await {
            Ok(body) => body,
            Err(error) => return refuse(&unread(error, &places.bounds)),
        };
        let call = match parse(endpoint, body) {
            Ok(call) => call,
            Err(invalid) => return refuse(&invalid_request(invalid)),
        };
        let found = self.drive.read(|gateway| gateway.find_model(&call.model));
        let Some(model) = found else { return refuse(&self.no_model(&call.model)) };
        if !caller.may_ask(&call.model) {
            return refuse(&not_theirs(&call.model));
        }
        let ledger = self.drive.ledger();
        if let Some(stop) = ledger.and_then(|ledger| ledger.stop(&places, &caller)) {
            self.drive.telemetry().quota(caller.tier, model);
            return refuse(&spent(&stop));
        }
        let reservation = match self.reserve(&call, model, &caller) {
            Ok(reservation) => reservation,
            Err(refused) => return refused,
        };
        let parties = caller.parties();
        let ask = ask(&call, model, &caller);
        let asked = (call.model.as_str(), call.prompt_tokens);
        let meter = Meter::new(&self.drive, (name.0, caller), &places, asked);
        let (head, answer) = oneshot::channel();
        let client = (Client::new(head, call.stream, endpoint), meter);
        let relay = Relay::new((self.drive.clone(), self.door), name, Arc::new(call), client);
        self.tasks.spawn(relay.holding(reservation).run(ask, places));
        match answer.await {
            Ok(mut response) => {
                self.limiter.mark(&parties, response.headers_mut());
                response
            }
            // Only a panic in the relay leaves a client without an answer.
            Err(_) => {
                let what = "an internal error stopped this request; it was counted and logged";
                let refusal = Refusal {
                    status: 500,
                    kind: "service_error".into(),
                    ..error::of_caller(500, "internal_error", what)
                };
                refuse(&refusal)
            }
        }
    }

    /// Takes from the caller's limits what this call is predicted to use, where it has any.
    #[expect(clippy::result_large_err, reason = "it is the answer, and goes on as it is")]
    fn reserve(
        &self,
        call: &Call,
        model: ModelId,
        caller: &Caller,
    ) -> Result<Option<Reservation>, Response<ResponseBody>> {
        let parties = caller.parties();
        if parties.is_empty() {
            return Ok(None);
        }
        let usual = self.drive.read(|gateway| gateway.config().fleet.price.output_usual);
        let output = match call.endpoint {
            Endpoint::Embeddings => 0,
            _ => call.max_tokens.unwrap_or(u32::MAX).min(usual),
        };
        let output = u64::from(output) * u64::from(call.choices().max(1));
        self.limiter.admit(&parties, (call.prompt_tokens, output)).map(Some).map_err(|beyond| {
            self.drive.telemetry().quota(caller.tier, model);
            self.limiter.refuse(&parties, beyond)
        })
    }

    fn no_model(&self, name: &str) -> Refusal {
        let nearest = self.drive.read(|gateway| gateway.nearest_model(name));
        let hint = match nearest {
            Some(known) => format!("did you mean '{known}'?"),
            None => "GET /v1/models lists those that do".to_string(),
        };
        let name: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
        let message = format!("The model '{name}' does not exist here; {hint}");
        let refusal = error::of_caller(404, "model_not_found", message);
        Refusal { param: Some("model".into()), ..refusal }
    }
}

fn parse(endpoint: Endpoint, body: Bytes) -> Result<Call, Invalid> {
    Call::parse(endpoint, body)
}

fn ask(call: &Call, model: ModelId, caller: &Caller) -> Ask {
    let media = call.media;
    let needs = Needs {
        tools: call.tools,
        media: media.any(),
        json: call.format != Format::Text,
        embeddings: call.endpoint == Endpoint::Embeddings,
        completions: call.endpoint == Endpoint::Completions,
    };
    Ask {
        model,
        tier: caller.tier,
        tenant: caller.tenant,
        needs,
        prompt: u32::try_from(call.prompt_tokens).unwrap_or(u32::MAX),
        body: call.body.len() as u64,
        max_tokens: call.max_tokens,
        choices: call.choices(),
        deadline: None,
        ..Ask::default()
    }
}

fn refuse(refusal: &Refusal) -> Response<ResponseBody> {
    error::response(refusal)
}

fn plain(text: &'static str) -> Response<ResponseBody> {
    Response::new(ResponseBody::from(text))
}

/// Another model than the key may ask for: what OpenAI says of a project's models.
fn not_theirs(model: &str) -> Refusal {
    let name: String = model.chars().filter(|c| !c.is_control()).take(100).collect();
    let what = format!("This API key does not have access to model `{name}`.");
    error::of_caller(403, "model_not_found", what)
}

fn turn_away(stranger: Stranger) -> Response<ResponseBody> {
    let what = match stranger {
        Stranger::NoKey => {
            "You didn't provide an API key. Send it as 'Authorization: Bearer YOUR_KEY'."
        }
        Stranger::WrongKey => {
            "Incorrect API key provided. Ask the operator of this gateway for one."
        }
        Stranger::Revoked => {
            "This API key has been revoked. Ask the operator of this gateway for another."
        }
        Stranger::Expired => {
            "This API key has expired. Ask the operator of this gateway for another."
        }
        Stranger::Rotated => {
            "This API key has been replaced by another one, and is not valid any more."
        }
        Stranger::Address(from) => {
            let what = format!("This API key may not be used from {from}.");
            return refuse(&error::of_caller(403, "ip_not_authorized", what));
        }
    };
    let mut response = refuse(&error::of_caller(401, "invalid_api_key", what));
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn wrong_method(allowed: &'static str) -> Response<ResponseBody> {
    let what = format!("Only {allowed} is allowed here.");
    let mut response = refuse(&error::of_caller(405, "method_not_allowed", what));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// A budget is spent: what OpenAI says of that, and when to come again.
fn spent(stop: &Stop) -> Refusal {
    let (kind, name) = stop.payer.told();
    let period = match stop.period {
        Period::Day => "day",
        Period::Month => "month",
    };
    let what = format!(
        "You exceeded your current quota, please check your plan and billing details: the budget \
         of {kind} '{name}' for this {period} is spent. It begins anew in {} s.",
        stop.left
    );
    Refusal {
        kind: "insufficient_quota".into(),
        retry_after: Some(std::time::Duration::from_secs(stop.left)),
        ..error::of_caller(429, "insufficient_quota", what)
    }
}

fn leaving() -> Refusal {
    Refusal {
        status: 503,
        kind: "service_error".into(),
        retry_after: Some(std::time::Duration::from_secs(1)),
        ..error::of_caller(503, "no_site", "this gateway is shutting down; try again")
    }
}

fn unread(why: BodyError, bounds: &Bounds) -> Refusal {
    match why {
        BodyError::TooLarge => error::of_caller(
            413,
            "request_too_large",
            format!("The body is larger than the {} bytes this gateway takes.", bounds.body),
        ),
        BodyError::TooSlow => {
            error::of_caller(408, "request_timeout", "The body of your request came too slowly.")
        }
        BodyError::Gone | BodyError::Malformed => {
            error::of_caller(400, "invalid_body", "The body of your request could not be read.")
        }
    }
}

fn invalid_request(invalid: Invalid) -> Refusal {
    let code = invalid.code.unwrap_or("invalid_request");
    let refusal = error::of_caller(400, code, invalid.message);
    Refusal { param: invalid.param.map(str::to_owned), ..refusal }
}
