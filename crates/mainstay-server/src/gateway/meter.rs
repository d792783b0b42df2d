//! Meters one request for the ledger, and for whoever asks how a key fares: each attempt as it
//! begins and ends, and the request when it is over. Failed attempts are cost and never
//! completions; what is billed is what the client was given.

use super::auth::Caller;
use crate::drive::Drive;
use crate::ledger::row::{Attempt, Entry, Opening, Who, millionths, word};
use crate::ledger::{Ledger, Tariff, moment, now};
use crate::places::Places;
use mainstay_core::fact::Outcome;
use mainstay_core::gateway::{Close, Start};
use mainstay_core::money::Tokens;
use mainstay_core::names::RequestId;
use mainstay_core::plan::billed;
use mainstay_core::status::counted;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What one request comes to. Without a ledger, nothing.
#[derive(Default)]
pub struct Meter {
    kept: Option<Kept>,
    seen: Option<Seen>,
}

/// Who is told how requests of the caller's key turn out, for the status page.
struct Seen {
    drive: Arc<Drive>,
    mark: u64,
    began: Instant,
}

struct Kept {
    ledger: Ledger,
    tariff: Arc<Tariff>,
    caller: Caller,
    entry: Entry,
    /// Tokens of the prompt, as we count them.
    prompt: u64,
    /// Whether the last attempt is still under way.
    runs: bool,
}

/// How an attempt ended, and what its provider counts or we do.
pub struct Ended<'a> {
    /// `whole`, `left`, or the class of its failure.
    pub outcome: &'a str,
    /// Its tokens.
    pub tokens: Tokens,
    /// Whether we counted.
    pub estimated: bool,
}

impl Meter {
    /// A meter for a request of `caller`, which asks for `model` with a prompt of so many tokens.
    pub fn new(
        drive: &Arc<Drive>,
        (request, caller): (RequestId, Caller),
        places: &Places,
        (model, prompt): (&str, u64),
    ) -> Meter {
        let ledger = drive.ledger();
        let seen = |mark| Seen { drive: drive.clone(), mark, began: Instant::now() };
        let seen = caller.mark.map(seen);
        let kept = ledger.map(|ledger| {
            let who = Who {
                key: caller.name().to_string(),
                tenant: caller.owner().to_string(),
                tier: places.names.tier(caller.tier).into(),
                rank: caller.tier.0,
            };
            let entry = Entry { id: request.0, who, model: model.into(), ..Entry::default() };
            let tariff = places.tariff.clone();
            Kept { ledger: ledger.clone(), tariff, caller, entry, prompt, runs: false }
        });
        Meter { kept, seen }
    }

    /// An attempt begins at this site.
    pub fn begin(&mut self, start: &Start, site: &str) {
        let Some(kept) = &mut self.kept else { return };
        let at = now();
        let tokens = Tokens { prompt: kept.prompt, ..Tokens::default() };
        let rates = kept.tariff.cost(site, &start.model, moment(at));
        let attempt = Attempt {
            number: start.attempt.number,
            at,
            site: site.into(),
            target: start.model.clone(),
            outcome: "lost".into(),
            tokens: tokens.into(),
            estimated: true,
            cost: millionths(rates.of(tokens)),
        };
        let Entry { id, who, model, .. } = &kept.entry;
        let (id, who, model) = (*id, who.clone(), model.clone());
        kept.ledger.opened(Opening { id, who, model, attempt: attempt.clone() });
        kept.entry.attempts.push(attempt);
        kept.runs = true;
    }

    /// The attempt under way ended.
    pub fn end(&mut self, ended: &Ended<'_>) {
        let Some(kept) = self.kept.as_mut().filter(|kept| kept.runs) else { return };
        kept.runs = false;
        let Some(attempt) = kept.entry.attempts.last_mut() else { return };
        let rates = kept.tariff.cost(&attempt.site, &attempt.target, moment(attempt.at));
        attempt.outcome = ended.outcome.into();
        attempt.tokens = ended.tokens.into();
        attempt.estimated = ended.estimated;
        attempt.cost = millionths(rates.of(ended.tokens));
    }

    /// The request is over, and its client was given so many tokens.
    pub fn settle(&mut self, outcome: Outcome, given: Tokens) {
        self.seen.take().iter().for_each(|seen| seen.count(outcome, given));
        let Some(kept) = self.kept.take() else { return };
        let Kept { ledger, tariff, caller, mut entry, .. } = kept;
        let at = now();
        let tokens = billed(outcome, given);
        let last = entry.attempts.last().filter(|_| tokens != Tokens::default());
        (entry.site, entry.target) =
            last.map(|last| (last.site.clone(), last.target.clone())).unwrap_or_default();
        let terms = tariff.terms(&caller, &entry.who.tier);
        let names = (entry.model.as_str(), entry.target.as_str());
        let price = terms.plan.map(|plan| plan.price(names, moment(at), tokens));
        let paid = ledger.purse().pay(moment(at), &terms, price.unwrap_or_default());
        (entry.price, entry.free) = (millionths(paid.0), millionths(paid.1));
        (entry.at, entry.tokens) = (at, tokens.into());
        entry.outcome = word(outcome).into();
        ledger.settle(entry);
        ledger.notify(paid.2, &terms);
    }
}

impl Seen {
    fn count(&self, outcome: Outcome, given: Tokens) {
        let first = (given.output > 0).then_some(Duration::ZERO);
        let is_good = counted::request(outcome, first, self.began.elapsed());
        let now = self.drive.clock().now();
        is_good.iter().for_each(|good| self.drive.telemetry().key(now, self.mark, *good));
    }
}

/// A task that ends in any other way leaves its rows all the same.
impl Drop for Meter {
    fn drop(&mut self) {
        if self.kept.as_ref().is_some_and(|kept| !kept.entry.attempts.is_empty()) {
            self.settle(Outcome::Gone, Tokens::default());
        }
    }
}

/// How a request ended that was closed so.
pub fn outcome(close: &Close) -> Outcome {
    match close {
        Close::Done | Close::Filtered => Outcome::Done,
        Close::Gone => Outcome::Gone,
        Close::Error(refusal) => match refusal.status {
            503 => Outcome::Refused,
            504 => Outcome::Expired,
            400..500 => Outcome::Rejected,
            _ => Outcome::Failed,
        },
    }
}
