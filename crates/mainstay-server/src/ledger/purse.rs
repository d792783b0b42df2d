//! What tenants and keys have spent, in memory: what the ledger had at the start, what came since,
//! and what went through other gateways.
//!
//! Each gateway tells the others what went through itself, and only that: the sum of all words is
//! what was spent, in whatever order they come and however often.

use super::tariff::{Payer, Stop, Terms};
use crate::link::NodeName;
use crate::link::message::PAYER_MAX;
use mainstay_core::money::Money;
use mainstay_core::plan::{Level, Moment, Period, Spending};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Others are told so often of what is spent, and within so many turns of what did not change.
pub const TOLD_EVERY: Duration = Duration::from_secs(1);
const TURNS: usize = 10;
/// Sums told each second, at most: a node that says more than two thousand things in one is cut
/// off. Ten seconds are enough for ten times as many keys and tenants.
const NEWS_MAX: usize = 2048;
/// Tenants and keys of which another gateway may tell: as many keys as there may be, and tenants.
const HEARD_MAX: usize = 200_000;

/// What everybody has spent.
#[derive(Default)]
pub struct Purse {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    is_known: bool,
    /// What went through this gateway.
    own: BTreeMap<Payer, Spending>,
    /// What went through others, as they said last.
    others: BTreeMap<NodeName, BTreeMap<Payer, Spending>>,
    /// Of whom others are told, of whom anew, and who was told last in turn.
    shared: BTreeSet<Payer>,
    changed: BTreeSet<Payer>,
    turn: Option<Payer>,
    /// What was told of each budget, and in which day or month.
    told: BTreeMap<(Payer, Period), (u32, Level)>,
}

/// What is to be told about a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whose.
    pub payer: Payer,
    /// Which.
    pub period: Period,
    /// How much of it is spent.
    pub level: Level,
}

impl Notice {
    /// Which day or month, in a word.
    pub fn period_word(&self) -> &'static str {
        match self.period {
            Period::Day => "day",
            Period::Month => "month",
        }
    }

    /// How much, in a word.
    pub fn level_word(&self) -> &'static str {
        match self.level {
            Level::Within => "some",
            Level::Near => "most",
            Level::Spent => "all",
        }
    }
}

impl Purse {
    /// Why a request of these payers is refused now, if it is.
    pub fn refused(&self, at: Moment, terms: &Terms<'_>) -> Option<Stop> {
        if terms.budgets.is_empty() {
            return None;
        }
        let inner = self.inner();
        let is_free = inner.spent(at, &terms.tenant()).has_free(at, terms.allowance());
        terms.budgets.iter().find_map(|line| {
            let refused = inner.spent(at, &line.payer).refused(at, (&line.budget, is_free));
            refused.map(|(period, left)| Stop { payer: line.payer.clone(), period, left })
        })
    }

    /// A request came to `price`: what of it is to be paid and what is free, and what is to be
    /// told.
    pub fn pay(&self, at: Moment, terms: &Terms<'_>, price: Money) -> (Money, Money, Vec<Notice>) {
        let mut inner = self.inner();
        let allowance = terms.allowance();
        let (paid, free) = inner.spent(at, &terms.tenant()).split(at, allowance, price);
        if price == Money::ZERO {
            return (paid, free, Vec::new());
        }
        for payer in [terms.tenant(), terms.key()] {
            inner.own.entry(payer.clone()).or_default().add(at, (paid, free));
            if inner.share(&payer) {
                inner.changed.insert(payer);
            }
        }
        let notices = terms
            .budgets
            .iter()
            .flat_map(|line| [Period::Day, Period::Month].map(|period| (line, period)));
        let is_free = inner.spent(at, &terms.tenant()).has_free(at, allowance);
        let mut told = Vec::new();
        for (line, period) in notices {
            let spent = inner.spent(at, &line.payer);
            let Some(level) = spent.level(at, (&line.budget, is_free), period) else { continue };
            let when = at.number(period);
            let last = inner.told.entry((line.payer.clone(), period)).or_default();
            let known = if last.0 == when { last.1 } else { Level::Within };
            if level > known {
                *last = (when, level);
                told.push(Notice { payer: line.payer.clone(), period, level });
            }
        }
        (paid, free, told)
    }

    /// Whether what the ledger had is counted.
    pub(super) fn is_known(&self) -> bool {
        self.inner().is_known
    }

    /// The ledger had this, for each tenant and key: of the day and of the month, what was paid and
    /// what was free.
    pub(super) fn learn(
        &self,
        at: Moment,
        day: Vec<(String, String, i64, i64)>,
        month: Vec<(String, String, i64, i64)>,
    ) {
        let mut sums: BTreeMap<Payer, (Money, Money, Money)> = BTreeMap::new();
        for (tenant, key, paid, _) in day {
            for payer in [Payer::Tenant(tenant.as_str().into()), Payer::Key(key.as_str().into())] {
                let sum = sums.entry(payer).or_default();
                sum.0 = sum.0.plus(Money(paid));
            }
        }
        for (tenant, key, paid, free) in month {
            for payer in [Payer::Tenant(tenant.as_str().into()), Payer::Key(key.as_str().into())] {
                let sum = sums.entry(payer).or_default();
                *sum = (sum.0, sum.1.plus(Money(paid)), sum.2.plus(Money(free)));
            }
        }
        let mut inner = self.inner();
        inner.is_known = true;
        for (payer, (day, month, free)) in sums {
            let mut known = Spending::known(at, day, month, free);
            // What this process has counted up before it knew.
            if let Some(since) = inner.own.get(&payer) {
                known.merge(at, since);
            }
            inner.share(&payer);
            inner.own.insert(payer, known);
        }
    }

    /// What other gateways are to be told now: what is new, and in turn some of what is not, for
    /// those that have just started or lost a word. Nothing before it is known what the ledger had:
    /// it would be less than they have heard.
    pub fn news(&self) -> Vec<(Payer, Spending)> {
        let mut inner = self.inner();
        if !inner.is_known {
            return Vec::new();
        }
        let mut new = std::mem::take(&mut inner.changed).into_iter();
        let mut told: BTreeSet<Payer> = new.by_ref().take(NEWS_MAX).collect();
        inner.changed = new.collect();
        let left = NEWS_MAX - told.len();
        told.extend(inner.turn(left));
        let sum = |payer: Payer| inner.own.get(&payer).copied().map(|sum| (payer, sum));
        told.into_iter().filter_map(sum).collect()
    }

    /// Another gateway says what went through it.
    pub fn hear(&self, peer: &NodeName, sums: Vec<(Payer, Spending)>) {
        let mut inner = self.inner();
        let known = inner.others.entry(peer.clone()).or_default();
        for (payer, sum) in sums {
            let has_room = known.len() < HEARD_MAX;
            match known.entry(payer) {
                Entry::Occupied(mut old) => old.get_mut().learn(&sum),
                Entry::Vacant(new) if has_room => drop(new.insert(sum)),
                Entry::Vacant(_) => {}
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// What went through all gateways, as far as is known.
    fn spent(&self, at: Moment, payer: &Payer) -> Spending {
        let own = self.own.get(payer).copied().unwrap_or_default();
        self.others.values().filter_map(|sums| sums.get(payer)).fold(own, |mut all, sum| {
            all.merge(at, sum);
            all
        })
    }

    /// Others are told of this one from now on, unless its name is too long for it.
    fn share(&mut self, payer: &Payer) -> bool {
        let is_short = payer.told().1.len() <= PAYER_MAX;
        if is_short && !self.shared.contains(payer) {
            self.shared.insert(payer.clone());
        }
        is_short
    }

    /// Whose turn it is to be told of though nothing changed: one in `TURNS` of all.
    fn turn(&mut self, most: usize) -> Vec<Payer> {
        let some = self.shared.len().div_ceil(TURNS).min(most);
        let after = self.turn.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.shared.range((after, Bound::Unbounded));
        let next: Vec<Payer> = behind.chain(&self.shared).take(some).cloned().collect();
        self.turn = next.last().or(self.turn.as_ref()).cloned();
        next
    }
}
