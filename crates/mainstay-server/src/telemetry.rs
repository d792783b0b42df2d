//! Tells what was decided: to Prometheus, to the log, and to whoever asks about one request.
//!
//! Everything comes from `Fact`s and a few numbers that no fact holds. Nothing here ever sees a
//! prompt, a completion or a key, and nothing here can hold up a request: metrics are atomics, log
//! lines go to another thread and are dropped and counted when it cannot keep up.

pub mod drills;
pub mod log;
mod metrics;
mod record;
mod scribe;
mod tally;
mod words;

pub use metrics::Direction;

use crate::dialect::event::Usage;
use mainstay_core::config::Config;
use mainstay_core::fact::{Fact, SiteFact};
use mainstay_core::gateway::Probe;
use mainstay_core::message::{Standing, Summary};
use mainstay_core::names::{ModelId, RequestId, SiteId, TargetId, TierId};
use mainstay_core::status::callers::Callers;
use mainstay_core::time::Time;
use metrics::{Found, Metrics};
use record::Records;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tally::Tally;

/// The same alarm of a site is not raised again for so long.
const ALARM_EVERY: Duration = Duration::from_secs(3600);

/// Facts that `recent` keeps: more than a screen shows.
const RECENT: usize = 64;

/// What the identifiers of facts are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// By `SiteId`.
    pub sites: Vec<String>,
    /// By `ModelId`.
    pub models: Vec<String>,
    /// By `TargetId`: where, and the model's name there.
    pub targets: Vec<(SiteId, String)>,
    /// By `TierId`.
    pub tiers: Vec<String>,
}

impl Names {
    /// The names in `config`.
    pub fn of(config: &Config) -> Names {
        Names {
            sites: config.sites.iter().map(|s| s.name.clone()).collect(),
            models: config.models.iter().map(|m| m.name.clone()).collect(),
            targets: config.targets.iter().map(|t| (t.site, t.model.clone())).collect(),
            tiers: config.tiers.iter().map(|t| t.name.clone()).collect(),
        }
    }

    /// The site's name.
    pub fn site(&self, id: SiteId) -> &str {
        self.sites.get(usize::from(id.0)).map_or("?", String::as_str)
    }

    /// The model's name.
    pub fn model(&self, id: ModelId) -> &str {
        self.models.get(usize::from(id.0)).map_or("?", String::as_str)
    }

    /// The tier's name.
    pub fn tier(&self, id: TierId) -> &str {
        self.tiers.get(usize::from(id.0)).map_or("?", String::as_str)
    }

    /// The tier of this name; the lowest if there is none.
    pub fn tier_of(&self, name: &str) -> TierId {
        let at = self.tiers.iter().position(|tier| tier == name);
        let last = self.tiers.len().saturating_sub(1);
        TierId(u8::try_from(at.unwrap_or(last)).unwrap_or(u8::MAX))
    }

    /// The site and the model of a target.
    pub fn target(&self, id: TargetId) -> (&str, &str) {
        match self.targets.get(usize::from(id.0)) {
            Some((site, model)) => (self.site(*site), model),
            None => ("?", "?"),
        }
    }
}

/// The request's name, as clients and operators see it.
pub fn format_request(id: RequestId) -> String {
    format!("req-{:016x}", id.0)
}

/// The request that `text` names.
pub fn parse_request(text: &str) -> Option<RequestId> {
    let digits = text.trim().strip_prefix("req-")?;
    let is_hex = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| u64::from_str_radix(digits, 16).ok().map(RequestId)).flatten()
}

/// Where facts go.
pub struct Telemetry {
    named: RwLock<Arc<Named>>,
    metrics: Metrics,
    records: Records,
    /// By the site's name.
    alarms: Mutex<HashMap<String, (String, Instant)>>,
    /// The latest facts that are no part of a request's usual way, and what their positions were
    /// called then.
    recent: Mutex<VecDeque<(Time, Fact, Arc<Names>)>>,
    /// How requests of each key turned out lately.
    callers: Mutex<Callers>,
}

/// What things are called while one configuration is in force, and what is counted under it.
struct Named {
    names: Arc<Names>,
    found: Found,
    tally: Tally,
}

impl Named {
    fn new(metrics: &Metrics, names: Names) -> Arc<Named> {
        let (found, tally) = (metrics.find(&names), Tally::new(&names));
        Arc::new(Named { names: Arc::new(names), found, tally })
    }
}

impl Telemetry {
    /// Telemetry that calls things by `names`.
    pub fn new(names: Names) -> Telemetry {
        let metrics = Metrics::new();
        Telemetry {
            named: RwLock::new(Named::new(&metrics, names)),
            metrics,
            records: Records::default(),
            alarms: Mutex::default(),
            recent: Mutex::default(),
            callers: Mutex::default(),
        }
    }

    /// Things are called by `names` from now on. Counts go on under what they are called.
    pub fn rename(&self, names: Names) {
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        if *named.names == names {
            return;
        }
        self.metrics.forget(&named.names, &names);
        *named = Named::new(&self.metrics, names);
    }

    fn named(&self) -> Arc<Named> {
        self.named.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes in a fact of the moment `at`.
    pub fn fact(&self, at: Time, fact: &Fact) {
        let named = self.named();
        let names = &named.names;
        let closing = self.records.note(at, (fact, names));
        self.metrics.fact((names, &named.found), fact);
        named.tally.fact(names, fact);
        if let Fact::AttemptStarted { attempt, target, .. } = fact
            && let Some(tier) = self.records.tier(attempt.request, names)
        {
            named.tally.flow(names, (tier, *target));
        }
        if let Some(closing) = &closing {
            self.metrics.closed((names, &named.found), closing);
            named.tally.closed(names, closing);
        }
        log::fact(names, fact, closing.as_ref());
        if log::is_notable(fact) {
            let mut recent = self.recent.lock().expect("no panic under this lock");
            recent.push_back((at, fact.clone(), names.clone()));
            if recent.len() > RECENT {
                recent.pop_front();
            }
        }
    }

    /// The latest decisions worth an operator's look, the oldest first: when, which kind, and in
    /// words.
    pub fn recent(&self) -> Vec<(Time, &'static str, String)> {
        let recent = self.recent.lock().expect("no panic under this lock").clone();
        let told = |(at, fact, names): (Time, Fact, Arc<Names>)| {
            (at, words::kind(&fact), words::sentence(&names, &fact))
        };
        recent.into_iter().map(told).collect()
    }

    /// Takes in a fact of this process's site.
    pub fn site_fact(&self, fact: &SiteFact) {
        log::site_fact(&self.names(), fact);
    }

    /// What status pages are told now, with how the sites stand, by position.
    pub fn summary(&self, now: Time, standings: &[Standing]) -> Summary {
        let failing = self.callers().failing(now);
        Summary { failing, ..self.named().tally.summary(standings) }
    }

    /// A request of the key of this number was answered, or failed.
    pub fn key(&self, now: Time, key: u64, is_good: bool) {
        self.callers().count(now, key, is_good);
    }

    fn callers(&self) -> MutexGuard<'_, Callers> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Attempts of each tier at each site since these are the names, the sites of the first tier
    /// first.
    pub fn flows(&self) -> (Arc<Names>, Vec<u64>) {
        let named = self.named();
        (named.names.clone(), named.tally.flows())
    }

    /// A request was refused before any machine saw it, by the caller's own contract.
    pub fn quota(&self, tier: TierId, model: ModelId) {
        let named = self.named();
        self.metrics.outcome((&named.names, &named.found), "quota", (tier, model));
    }

    /// Tokens a client was charged for.
    pub fn tokens(&self, direction: Direction, count: u64) {
        self.metrics.tokens(direction, count);
    }

    /// A probe of `target` ended: what it said of it, if anything, and the tokens it took, which no
    /// client is charged for.
    pub fn probed(&self, target: TargetId, found: (Probe, Option<bool>), usage: Usage) {
        let named = self.named();
        let under = (&named.names, &named.found);
        self.metrics.probed(under, target, found);
        self.metrics.probe_tokens(under, target, (usage.prompt, usage.completion));
    }

    /// The share of the retry budget that is left, 0 to 1.
    pub fn retry_budget(&self, ratio: f64) {
        self.metrics.retry_budget(ratio);
    }

    /// Somebody has to mend something at `site`: said once an hour, at once if the words change.
    pub fn alarm(&self, site: &str, words: &str) {
        let mut alarms = self.alarms.lock().expect("no panic under this lock");
        let known = alarms.get(site);
        if known.is_some_and(|(said, when)| said == words && when.elapsed() < ALARM_EVERY) {
            return;
        }
        alarms.insert(site.to_owned(), (words.to_owned(), Instant::now()));
        drop(alarms);
        tracing::warn!(site, "{words}");
    }

    /// The embedded engine guessed so many tokens rightly and wrongly.
    pub fn drafts(&self, kept: u64, dropped: u64) {
        self.metrics.drafts(kept, dropped);
    }

    /// All metrics in the OpenMetrics text format.
    pub fn exposition(&self) -> String {
        self.metrics.exposition()
    }

    /// What happened to a request that is still remembered, for programs.
    pub fn explain(&self, request: &str) -> Option<serde_json::Value> {
        self.records.explain(parse_request(request)?)
    }

    /// The same in words, one fact a line.
    pub fn explain_text(&self, request: &str) -> Option<String> {
        self.records.explain_text(parse_request(request)?)
    }

    /// What things are called now.
    pub fn names(&self) -> Arc<Names> {
        self.named().names.clone()
    }
}

#[cfg(test)]
mod tests;
