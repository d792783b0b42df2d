//! What callers pay and may spend: prices by model and hour of the week, a free allowance, and
//! budgets that warn or stop.
//!
//! Calendar time comes in as `Moment`: days, months and hours are those of UTC, so that all
//! gateways and invoices mean the same. What somebody spent is counted up here from what the
//! ledger had at the start; no database is asked while a request waits.

mod moment;

pub use moment::{Hours, Moment};

use crate::fact::Outcome;
use crate::money::{Money, Rates, Tokens};
use alloc::string::String;
use alloc::vec::Vec;

/// A line of a price list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceLine {
    /// For this model; `None` is for any.
    pub model: Option<String>,
    /// In these hours.
    pub hours: Hours,
    /// The price.
    pub rates: Rates,
}

/// The price of the first line that fits; free if none does.
pub fn price(lines: &[PriceLine], model: &str, at: Moment) -> Rates {
    line(lines, model, at).map(|line| line.rates).unwrap_or_default()
}

fn line<'a>(lines: &'a [PriceLine], model: &str, at: Moment) -> Option<&'a PriceLine> {
    let fits = |line: &&PriceLine| {
        line.model.as_deref().is_none_or(|name| name == model) && line.hours.has(at)
    };
    lines.iter().find(fits)
}

/// What callers pay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// So much of what is asked for is free, for each tenant in each month.
    pub allowance: Money,
    /// The price list; the first line that fits holds.
    pub prices: Vec<PriceLine>,
}

impl Plan {
    /// What an answer comes to: by the model that was asked for, or by that which answered in its
    /// place where that has a line of its own and is cheaper.
    pub fn price(&self, (asked, answered): (&str, &str), at: Moment, tokens: Tokens) -> Money {
        let price = price(&self.prices, asked, at).of(tokens);
        let own = |line: &PriceLine| line.model.is_some().then(|| line.rates.of(tokens));
        let other = line(&self.prices, answered, at).and_then(own);
        other.map_or(price, |other| other.min(price))
    }
}

/// The tokens that a request is billed for, of those that its client has been given. A whole answer
/// is, and what a client was given before it left; what we or a provider broke is not.
pub fn billed(outcome: Outcome, given: Tokens) -> Tokens {
    match outcome {
        Outcome::Done => given,
        Outcome::Gone if given.output > 0 => given,
        Outcome::Gone
        | Outcome::Refused
        | Outcome::Rejected
        | Outcome::Failed
        | Outcome::Expired => Tokens::default(),
    }
}

/// What somebody may spend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// In a day.
    pub day: Option<Money>,
    /// In a month.
    pub month: Option<Money>,
    /// Whether requests are refused beyond it; else somebody is told.
    pub is_hard: bool,
    /// Somebody is told before, at so many hundredths of it.
    pub warn: u8,
}

/// The time that a budget is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// From midnight to midnight, UTC.
    Day,
    /// From the first to the last of the month, UTC.
    Month,
}

/// How much of a budget is spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Less than somebody wants to know of.
    #[default]
    Within,
    /// As much as somebody wants to know of.
    Near,
    /// All of it.
    Spent,
}

/// What one tenant or key has spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spending {
    /// To be paid in a day, and which.
    pub day: (u32, Money),
    /// To be paid in a month, and which.
    pub month: (u32, Money),
    /// What was free, in the same month.
    pub free: Money,
}

impl Spending {
    /// What it was at `at`, as the ledger has it: in that day and month, and what was free.
    pub fn known(at: Moment, day: Money, month: Money, free: Money) -> Spending {
        Spending { day: (at.day(), day), month: (at.month(), month), free }
    }

    /// Splits the price of a request into what is to be paid and what is free.
    pub fn split(&self, at: Moment, allowance: Money, price: Money) -> (Money, Money) {
        let free = allowance.less(self.turned(at).free).min(price);
        (price.less(free), free)
    }

    /// So much is to be paid, and so much was free.
    pub fn add(&mut self, at: Moment, (paid, free): (Money, Money)) {
        *self = self.turned(at);
        self.day.1 = self.day.1.plus(paid);
        self.month.1 = self.month.1.plus(paid);
        self.free = self.free.plus(free);
    }

    /// What was counted elsewhere comes to it.
    pub fn merge(&mut self, at: Moment, other: &Spending) {
        let other = other.turned(at);
        *self = self.turned(at);
        self.day.1 = self.day.1.plus(other.day.1);
        self.month.1 = self.month.1.plus(other.month.1);
        self.free = self.free.plus(other.free);
    }

    /// Takes in a word on the same that may be older: sums only grow, until another day or month
    /// begins.
    pub fn learn(&mut self, word: &Spending) {
        if word.month.0 == self.month.0 {
            self.month.1 = self.month.1.max(word.month.1);
            self.free = self.free.max(word.free);
        } else if word.month.0 > self.month.0 {
            (self.month, self.free) = (word.month, word.free);
        }
        // The later day, and of one day the larger sum.
        self.day = self.day.max(word.day);
    }

    /// Whether a tenant that has spent this has something free left.
    pub fn has_free(&self, at: Moment, allowance: Money) -> bool {
        self.turned(at).free < allowance
    }

    /// How much of `budget` is spent in that period; `None` if there is none for it. Nothing is
    /// while its tenant has something free left.
    pub fn level(
        &self,
        at: Moment,
        (budget, is_free): (&Budget, bool),
        period: Period,
    ) -> Option<Level> {
        let now = self.turned(at);
        let (most, spent) = match period {
            Period::Day => (budget.day?, now.day.1),
            Period::Month => (budget.month?, now.month.1),
        };
        Some(match spent {
            spent if spent >= most && !is_free => Level::Spent,
            spent if spent > Money::ZERO && spent >= most.percent(budget.warn) => Level::Near,
            _ => Level::Within,
        })
    }

    /// The period in which a request of now is refused, and the seconds until it is over.
    pub fn refused(&self, at: Moment, (budget, is_free): (&Budget, bool)) -> Option<(Period, u64)> {
        let is_spent = |period: &Period| {
            budget.is_hard && self.level(at, (budget, is_free), *period) == Some(Level::Spent)
        };
        // The longer one says when it makes sense to come again.
        let period = [Period::Month, Period::Day].into_iter().find(is_spent)?;
        Some((period, at.left(period)))
    }

    /// The same at `at`: another day or month begins with nothing.
    fn turned(&self, at: Moment) -> Spending {
        let is_day = self.day.0 == at.day();
        let is_month = self.month.0 == at.month();
        let kept = |is_same: bool, money: Money| if is_same { money } else { Money::ZERO };
        Spending {
            day: (at.day(), kept(is_day, self.day.1)),
            month: (at.month(), kept(is_month, self.month.1)),
            free: kept(is_month, self.free),
        }
    }
}

#[cfg(test)]
mod tests;
