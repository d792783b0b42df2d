//! What a caller may use, by its contract: requests, tokens and cost units in a minute, and
//! requests at once; each for its key, and for all keys of its tenant together.
//!
//! A request is let in if nothing it needs is used up, and then takes all of it at once: itself,
//! and the tokens that it is predicted to use. What it really used is settled while its answer
//! comes and when it ends, so an answer is never cut by a limit; what it used beyond the prediction
//! keeps the next ones waiting. All limits are quotas (`quota`), and so are shared out between
//! gateways, and exact at one.

use super::quota::{Quota, Verdict};
use crate::config::Contract;
use crate::cost::{CostRate, CostUnits};
use crate::rng::mix;
use crate::time::{Duration, Time};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Contracts speak of minutes and quotas of seconds: so each unit is counted as sixty, and no rate
/// is rounded.
const PARTS: u64 = 60;
/// Tokens beyond a prediction that are taken together.
const STEP: u64 = 64;
/// Parts of a token, so that means of short answers move.
const LEARNED: u64 = 16;
/// Nobody knows when a request that runs will end.
const SOON: Duration = Duration::from_secs(1);

/// What a contract bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// Requests a minute.
    Requests,
    /// Tokens a minute.
    Tokens,
    /// Cost units a minute.
    Cost,
    /// Requests at once.
    Concurrency,
}

impl Dimension {
    /// All of them.
    pub const ALL: [Dimension; 4] =
        [Dimension::Requests, Dimension::Tokens, Dimension::Cost, Dimension::Concurrency];

    /// The quota that `contract` sets, if it sets one.
    pub fn quota(self, contract: &Contract) -> Option<CostRate> {
        let amount = match self {
            Dimension::Requests => contract.requests.map(u64::from),
            Dimension::Tokens => contract.tokens,
            Dimension::Cost => contract.cost,
            Dimension::Concurrency => contract.concurrency.map(u64::from),
        };
        amount.map(|amount| CostRate(amount.saturating_mul(CostRate::whole(1).0)))
    }
}

/// Who is bound: a key or a tenant, by a number that is the same at every gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Party {
    /// Its number.
    pub id: u64,
    /// What it may use.
    pub contract: Contract,
}

impl Party {
    /// The number of its quota in this dimension.
    pub fn key(&self, dimension: Dimension) -> u64 {
        mix(self.id, dimension as u64 + 1)
    }

    /// Its quotas, each with its number.
    pub fn quotas(&self) -> impl Iterator<Item = (Dimension, u64, CostRate)> + '_ {
        Dimension::ALL.into_iter().filter_map(|dimension| {
            Some((dimension, self.key(dimension), dimension.quota(&self.contract)?))
        })
    }
}

/// What one request uses, besides being one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Tokens of its prompt and its answer.
    pub tokens: u64,
    /// What they cost.
    pub cost: CostUnits,
}

impl Use {
    /// Whether so much more is used than was taken that it is time to take it. Once in a few dozen
    /// tokens: each time asks for the limits of all.
    pub fn exceeds(&self, taken: Use) -> bool {
        self.tokens >= taken.tokens.saturating_add(STEP)
    }

    fn in_dimension(&self, dimension: Dimension) -> CostUnits {
        let parts = |amount: u64| CostUnits(amount.saturating_mul(PARTS));
        match dimension {
            Dimension::Requests => parts(CostUnits::whole(1).0),
            Dimension::Tokens => parts(self.tokens.saturating_mul(CostUnits::whole(1).0)),
            Dimension::Cost => parts(self.cost.0),
            Dimension::Concurrency => CostUnits::ZERO,
        }
    }
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beyond {
    /// What is used up,
    pub dimension: Dimension,
    /// of which of the parties,
    pub party: usize,
    /// and when it will have come in: exactly, at one gateway.
    pub wait: Duration,
}

/// How one limit stands, as a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What may be used in a minute.
    pub limit: u64,
    /// What may be used at once, here.
    pub remaining: u64,
    /// When that will be as much as it can be.
    pub reset: Duration,
}

/// The limits of all callers at one gateway.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The quotas beneath, for what goes between gateways.
    pub quota: Quota,
    /// How long the answers of each caller are, by the number of its first party.
    usual: BTreeMap<u64, u64>,
}

impl Limits {
    /// Limits over these quotas.
    pub fn new(quota: Quota) -> Limits {
        Limits { quota, usual: BTreeMap::new() }
    }

    /// A request that these answer for wants to go on, and is predicted to use so much. It takes
    /// all or nothing.
    ///
    /// # Errors
    /// What must be waited for longest.
    pub fn admit(&mut self, now: Time, parties: &[Party], wanted: Use) -> Result<(), Beyond> {
        let mut beyond: Option<Beyond> = None;
        let mut held = Vec::new();
        for (at, party) in parties.iter().enumerate() {
            for (dimension, key, quota) in party.quotas() {
                let wait = match dimension {
                    Dimension::Concurrency => {
                        let most = quota.0 / CostRate::whole(1).0;
                        match self.quota.hold(now, key, most) {
                            true => {
                                held.push(key);
                                continue;
                            }
                            false => SOON,
                        }
                    }
                    Dimension::Requests | Dimension::Tokens | Dimension::Cost => {
                        let cost = wanted.in_dimension(dimension);
                        match self.quota.look(now, key, cost, quota) {
                            Verdict::Within => continue,
                            Verdict::Beyond(wait) => wait,
                        }
                    }
                };
                if beyond.is_none_or(|known| wait > known.wait) {
                    beyond = Some(Beyond { dimension, party: at, wait });
                }
            }
        }
        if let Some(beyond) = beyond {
            held.into_iter().for_each(|key| self.quota.let_go(key));
            return Err(beyond);
        }
        self.take(now, parties, |dimension| signed(wanted.in_dimension(dimension)));
        Ok(())
    }

    /// It was taken to use `taken` so far, and has used `used`.
    pub fn settle(&mut self, now: Time, parties: &[Party], (taken, used): (Use, Use)) {
        self.take(now, parties, |dimension| {
            signed(used.in_dimension(dimension)) - signed(taken.in_dimension(dimension))
        });
    }

    /// Tokens that the next answer of this caller is taken to have, of at most so many. What is
    /// taken too much keeps others waiting until it is given back; what is taken too little is
    /// taken while the answer comes.
    pub fn predict(&self, parties: &[Party], most: u64) -> u64 {
        let usual = parties.first().and_then(|party| self.usual.get(&party.id));
        usual.map_or(most, |usual| usual.div_ceil(LEARNED).min(most))
    }

    /// An answer of this caller had so many tokens. Longer ones are believed sooner.
    pub fn learn(&mut self, parties: &[Party], output: u64) {
        let Some(party) = parties.first().filter(|_| output > 0) else { return };
        let seen = output.saturating_mul(LEARNED);
        let known = self.usual.entry(party.id).or_insert(seen);
        *known = match seen.checked_sub(*known) {
            Some(more) => *known + more / 2,
            None => *known - (*known - seen) / 8,
        };
    }

    /// It is over.
    pub fn end(&mut self, parties: &[Party]) {
        for party in parties {
            if party.contract.concurrency.is_some() {
                self.quota.let_go(party.key(Dimension::Concurrency));
            }
        }
    }

    /// How the tightest limit of this dimension stands; none if nobody is bound in it.
    pub fn room(&mut self, now: Time, parties: &[Party], dimension: Dimension) -> Option<Room> {
        if dimension == Dimension::Concurrency {
            return None;
        }
        let each = PARTS * CostUnits::whole(1).0;
        let mut tightest: Option<Room> = None;
        for party in parties {
            let Some(quota) = dimension.quota(&party.contract) else { continue };
            let Some((level, most, rate)) = self.quota.left(now, party.key(dimension)) else {
                continue;
            };
            let left = u64::try_from(level).unwrap_or(0);
            let missing = u64::try_from(signed(most).saturating_sub(level)).unwrap_or(0);
            let micros = u128::from(missing) * 1_000_000 / u128::from(rate.0.max(1));
            let room = Room {
                limit: quota.0 / CostRate::whole(1).0,
                // As long as something is left, one more may go on.
                remaining: match dimension {
                    Dimension::Requests => left.div_ceil(each),
                    Dimension::Tokens | Dimension::Cost | Dimension::Concurrency => left / each,
                },
                reset: Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)),
            };
            if tightest.is_none_or(|known| room.remaining < known.remaining) {
                tightest = Some(room);
            }
        }
        tightest
    }

    fn take(&mut self, now: Time, parties: &[Party], amount: impl Fn(Dimension) -> i64) {
        for party in parties {
            for (dimension, key, _) in party.quotas() {
                match amount(dimension) {
                    0 => {}
                    amount => self.quota.take(now, key, amount),
                }
            }
        }
    }
}

fn signed(amount: CostUnits) -> i64 {
    i64::try_from(amount.0).unwrap_or(i64::MAX / 2)
}

#[cfg(test)]
mod tests;
