//! Holds callers to their contracts: runs the limits of this gateway, and carries their slices
//! between gateways.
//!
//! A request takes what it is predicted to use before it goes anywhere, and settles what it used
//! while its answer comes. Whoever drops a reservation, by an error or a panic, settles it.

use super::auth::Keys;
use crate::drive::{Drive, at_deadlines};
use crate::error;
use crate::http::ResponseBody;
use crate::link::{Link, Message, NodeName};
use http::Response;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use mainstay_core::cost::Price;
use mainstay_core::gateway::limits::{Beyond, Dimension, Limits, Party, Use};
use mainstay_core::gateway::quota::{Listing, Quota};
use mainstay_core::gateway::refusal::Refusal;
use mainstay_core::message::{QuotaGrant, QuotaReport};
use mainstay_core::names::GatewayId;
use mainstay_core::time::Time;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What is around the limits of a gateway among others.
pub struct Others {
    /// How they are reached.
    pub link: Link,
    /// The generation of policy that this gateway runs.
    pub generation: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// The limits of one gateway.
pub struct Limiter {
    drive: Arc<Drive>,
    shared: Mutex<Shared>,
    wake: Notify,
    keys: Box<dyn Fn() -> Arc<Keys> + Send + Sync>,
    others: OnceLock<Others>,
}

struct Shared {
    limits: Limits,
    me: GatewayId,
    listing: Listing,
    alarm: Option<Time>,
}

impl Limiter {
    /// Limits that begin now; `keys` says which quotas there are.
    pub fn new(drive: Arc<Drive>, keys: impl Fn() -> Arc<Keys> + Send + Sync + 'static) -> Limiter {
        let (me, listing) = (GatewayId(0), Listing { generation: 0, gateways: 1 });
        let limits = begin(&drive, me, listing);
        let shared = Mutex::new(Shared { limits, me, listing, alarm: None });
        let (wake, others) = (Notify::new(), OnceLock::new());
        let limiter = Limiter { drive, shared, wake, keys: Box::new(keys), others };
        limiter.look_around();
        limiter
    }

    /// Other gateways are reached by `others` from now on.
    pub fn join(&self, others: Others) {
        // Said once, when the process starts.
        let _ = self.others.set(others);
        self.look_around();
    }

    /// A request that binds `parties` takes what it is predicted to use: its prompt, and of an
    /// answer of at most so many tokens as many as its caller's have.
    ///
    /// # Errors
    /// What is used up.
    pub fn admit(
        self: &Arc<Self>,
        parties: &Arc<[Party]>,
        (prompt, output): (u64, u64),
    ) -> Result<Reservation, Beyond> {
        let price = self.drive.read(|gateway| gateway.config().fleet.price);
        let output = self.lock().limits.predict(parties, output);
        let mut reservation = Reservation {
            limiter: self.clone(),
            parties: parties.clone(),
            price,
            taken: Use { tokens: prompt.saturating_add(output), cost: price.of(prompt, output) },
            prompt,
            output: 0,
        };
        let now = self.drive.clock().now();
        let mut shared = self.lock();
        let admitted = shared.limits.admit(now, parties, reservation.taken);
        self.wake_if_sooner(&mut shared);
        drop(shared);
        if let Err(beyond) = admitted {
            // Nothing was taken.
            reservation.parties = Arc::default();
            return Err(beyond);
        }
        Ok(reservation)
    }

    /// Another gateway wants a slice of a quota of which this may be the home.
    pub fn report(&self, (peer, from): (&NodeName, GatewayId), report: QuotaReport) {
        let Some(quota) = (self.keys)().quota(report.key) else { return };
        self.look_around();
        let moved = self.moved();
        let now = self.drive.clock().now();
        let quotas = &mut self.lock().limits.quota;
        let grant = quotas.report(now, (from, report), quota, &|id| moved(id));
        if let (Some(grant), Some(others)) = (grant, self.others.get()) {
            others.link.send(peer, Message::QuotaGrant(grant));
        }
    }

    /// A home granted a slice.
    pub fn granted(&self, grant: QuotaGrant) {
        let now = self.drive.clock().now();
        self.lock().limits.quota.granted(now, grant);
    }

    /// Calls the limits at their deadlines until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let next = || {
            let mut shared = self.lock();
            shared.alarm = shared.limits.quota.deadline();
            shared.alarm
        };
        at_deadlines((self.drive.clock(), &self.wake), next, || self.tick(), shutdown).await;
    }

    /// Tells a client how its limits stand, as OpenAI does.
    pub fn mark(&self, parties: &[Party], headers: &mut HeaderMap) {
        if parties.is_empty() {
            return;
        }
        let now = self.drive.clock().now();
        let mut shared = self.lock();
        let mut room = |dimension| shared.limits.room(now, parties, dimension);
        let rooms = [("requests", room(Dimension::Requests)), ("tokens", room(Dimension::Tokens))];
        drop(shared);
        for (what, room) in rooms {
            let Some(room) = room else { continue };
            set(headers, &format!("x-ratelimit-limit-{what}"), &room.limit.to_string());
            set(headers, &format!("x-ratelimit-remaining-{what}"), &room.remaining.to_string());
            set(headers, &format!("x-ratelimit-reset-{what}"), &format_reset(room.reset));
        }
    }

    /// What a client is told that has used up what it may use.
    pub fn refuse(&self, parties: &[Party], beyond: Beyond) -> Response<ResponseBody> {
        let mut response = error::response(&refusal(parties, beyond));
        let millis = beyond.wait.as_micros().div_ceil(1000).to_string();
        self.mark(parties, response.headers_mut());
        // Seconds are coarse for a limit of a hundred a second; OpenAI's clients read this first.
        set(response.headers_mut(), "retry-after-ms", &millis);
        response
    }

    fn tick(&self) {
        self.look_around();
        let moved = self.moved();
        let places = self.drive.places();
        let now = self.drive.clock().now();
        let reports = self.lock().limits.quota.reports(now, &|id| moved(id));
        let Some(others) = self.others.get() else { return };
        for (to, report) in reports {
            if let Some(to) = places.gateways.get(usize::from(to.0)) {
                others.link.send(to, Message::QuotaReport(report));
            }
        }
    }

    /// Another configuration may be in force, which lists other gateways.
    fn look_around(&self) {
        let fleet = self.drive.read(|gateway| {
            let fleet = &gateway.config().fleet;
            (fleet.me, fleet.gateways)
        });
        let generation = self.others.get().map_or(0, |others| (others.generation)());
        let listing = Listing {
            generation: u32::try_from(generation).unwrap_or(u32::MAX),
            gateways: if self.others.get().is_some() { fleet.1 } else { 1 },
        };
        let mut shared = self.lock();
        if shared.me != fleet.0 {
            // What it was home of, it is not any more, and knows nothing of the rest.
            shared.me = fleet.0;
            shared.listing = listing;
            shared.limits = begin(&self.drive, fleet.0, listing);
        } else if shared.listing != listing {
            shared.listing = listing;
            let now = self.drive.clock().now();
            shared.limits.quota.adopt(now, listing);
        }
    }

    /// Which gateways are known to run the generation in force here.
    fn moved(&self) -> impl Fn(GatewayId) -> bool + use<> {
        let listing = self.lock().listing;
        let moved: Vec<bool> = self.drive.read(|gateway| {
            let said = |id| gateway.generation_of(GatewayId(id));
            let is_new = |said: u64| said >= u64::from(listing.generation);
            // Nobody was home before the first generation.
            let known = |id| listing.generation == 0 || said(id).is_some_and(is_new);
            (0..listing.gateways).map(known).collect()
        });
        move |id| moved.get(usize::from(id.0)).copied().unwrap_or(listing.generation == 0)
    }

    fn wake_if_sooner(&self, shared: &mut Shared) {
        let next = shared.limits.quota.deadline();
        if next.is_some_and(|at| shared.alarm.is_none_or(|alarm| at < alarm)) {
            shared.alarm = next;
            self.wake.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // As in `Drive`: limits that work are better than none from then on.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn begin(drive: &Drive, me: GatewayId, listing: Listing) -> Limits {
    let terms = drive.read(|gateway| gateway.config().fleet.quota);
    Limits::new(Quota::new(drive.clock().now(), me, listing, terms))
}

/// What a request took, until it is over.
pub struct Reservation {
    limiter: Arc<Limiter>,
    parties: Arc<[Party]>,
    price: Price,
    taken: Use,
    prompt: u64,
    output: u64,
}

impl Reservation {
    /// So many more tokens of the answer came. What goes beyond the prediction is taken too.
    pub fn flow(&mut self, tokens: u64) {
        self.output += tokens;
        let used = self.used();
        if used.exceeds(self.taken) {
            self.settle(used);
        }
    }

    /// It was counted what the request used.
    pub fn count(&mut self, prompt: u64, output: u64) {
        (self.prompt, self.output) = (prompt, output);
    }

    /// It was refused by us, or by all we could ask: what it did not get costs nothing.
    pub fn excuse(&mut self) {
        if self.output == 0 {
            self.prompt = 0;
        }
    }

    fn used(&self) -> Use {
        let tokens = self.prompt.saturating_add(self.output);
        Use { tokens, cost: self.price.of(self.prompt, self.output) }
    }

    fn settle(&mut self, used: Use) {
        let now = self.limiter.drive.clock().now();
        self.limiter.lock().limits.settle(now, &self.parties, (self.taken, used));
        self.taken = used;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.settle(self.used());
        let mut shared = self.limiter.lock();
        shared.limits.learn(&self.parties, self.output);
        shared.limits.end(&self.parties);
    }
}

fn refusal(parties: &[Party], beyond: Beyond) -> Refusal {
    let what = match beyond.dimension {
        Dimension::Requests => "requests per minute",
        Dimension::Tokens => "tokens per minute",
        Dimension::Cost => "cost units per minute",
        Dimension::Concurrency => "requests at once",
    };
    let whose =
        if beyond.party == 0 && parties.len() < 2 { "this key" } else { "this key or its tenant" };
    let contract = parties.get(beyond.party).map(|party| party.contract).unwrap_or_default();
    let limit = beyond.dimension.quota(&contract).map_or(0.0, |rate| rate.as_f64());
    let wait = format_reset(beyond.wait);
    Refusal {
        kind: "rate_limit_error".into(),
        retry_after: Some(beyond.wait),
        ..error::of_caller(
            429,
            "rate_limit_exceeded",
            format!(
                "Rate limit reached for {what} of {whose}: the limit is {limit}. Please try again \
                 in {wait}."
            ),
        )
    }
}

/// A time as OpenAI writes resets: `20ms`, `1s`, `6m0s`, `2h0m0s`; never too short.
pub fn format_reset(time: Duration) -> String {
    let millis = time.as_micros().div_ceil(1000);
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let seconds = millis.div_ceil(1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

fn set(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) =
        (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
    {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_are_written_as_openai_writes_them() {
        let told = |micros| format_reset(Duration::from_micros(micros));
        let all = [0, 1, 20_000, 999_001, 1_000_000, 1_000_001, 59_000_000, 360_000_000];
        let words = ["0ms", "1ms", "20ms", "1s", "1s", "2s", "59s", "6m0s"];
        assert_eq!(all.map(told), words);
        assert_eq!(told(7_200_000_000), "2h0m0s");
    }
}
