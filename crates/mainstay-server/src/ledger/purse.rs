//! What tenants and keys have spent, in memory: what the ledger had at the start, and what came
//! since.

use super::tariff::{Payer, Stop, Terms};
use mainstay_core::money::Money;
use mainstay_core::plan::{Level, Moment, Period, Spending};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What everybody has spent.
#[derive(Default)]
pub struct Purse {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    is_known: bool,
    spent: BTreeMap<Payer, Spending>,
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
        let spent = |payer: &Payer| inner.spent.get(payer).copied().unwrap_or_default();
        let is_free = spent(&terms.tenant()).has_free(at, terms.allowance());
        terms.budgets.iter().find_map(|line| {
            let refused = spent(&line.payer).refused(at, (&line.budget, is_free));
            refused.map(|(period, left)| Stop { payer: line.payer.clone(), period, left })
        })
    }

    /// A request came to `price`: what of it is to be paid and what is free, and what is to be
    /// told.
    pub fn pay(&self, at: Moment, terms: &Terms<'_>, price: Money) -> (Money, Money, Vec<Notice>) {
        let mut inner = self.inner();
        let allowance = terms.allowance();
        let spending = inner.spent.get(&terms.tenant()).copied().unwrap_or_default();
        let (paid, free) = spending.split(at, allowance, price);
        if price == Money::ZERO {
            return (paid, free, Vec::new());
        }
        for payer in [terms.tenant(), terms.key()] {
            inner.spent.entry(payer).or_default().add(at, (paid, free));
        }
        let notices = terms
            .budgets
            .iter()
            .flat_map(|line| [Period::Day, Period::Month].map(|period| (line, period)));
        let spending = inner.spent.get(&terms.tenant()).copied().unwrap_or_default();
        let is_free = spending.has_free(at, allowance);
        let mut told = Vec::new();
        for (line, period) in notices {
            let spent = inner.spent.get(&line.payer).copied().unwrap_or_default();
            let Some(level) = spent.level(at, (&line.budget, is_free), period) else { continue };
            let when = match period {
                Period::Day => at.day(),
                Period::Month => at.month(),
            };
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
            if let Some(since) = inner.spent.get(&payer) {
                known.merge(at, since);
            }
            inner.spent.insert(payer, known);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
