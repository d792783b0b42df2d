//! Who pays what, and what providers want: what the configuration says of money.

use crate::gateway::auth::Caller;
use crate::letters::Hook;
use mainstay_core::money::{Money, Rates};
use mainstay_core::plan::{Budget, Moment, Period, Plan, PriceLine, price};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Somebody wants to know when so many hundredths of a budget are spent.
pub const WARN: u8 = 80;

/// Somebody with a budget.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Payer {
    /// All keys of a tenant.
    Tenant(Arc<str>),
    /// One key.
    Key(Arc<str>),
}

impl Payer {
    /// What it is, and its name.
    pub fn told(&self) -> (&'static str, &str) {
        match self {
            Payer::Tenant(name) => ("tenant", name),
            Payer::Key(name) => ("key", name),
        }
    }
}

/// A budget, and whom to tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetLine {
    /// Whose.
    pub payer: Payer,
    /// How much.
    pub budget: Budget,
    /// Where it is told, and what such a message is signed with.
    pub hook: Option<Hook>,
}

/// What the configuration says of money.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tariff {
    /// What each site wants, by the site's name.
    pub costs: BTreeMap<String, Vec<PriceLine>>,
    /// The plans.
    pub plans: Vec<Plan>,
    /// Which of them a key has, by its name; or else its tier.
    pub of_key: BTreeMap<String, usize>,
    /// The same for tiers.
    pub of_tier: BTreeMap<String, usize>,
    /// All budgets.
    pub budgets: BTreeMap<Payer, BudgetLine>,
}

/// What holds for one caller.
#[derive(Clone, Debug)]
pub struct Terms<'a> {
    tenant: Arc<str>,
    key: Arc<str>,
    /// Its plan; without one everything is free.
    pub plan: Option<&'a Plan>,
    /// Its budgets.
    pub budgets: Vec<Cow<'a, BudgetLine>>,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Whose budget is spent.
    pub payer: Payer,
    /// Which.
    pub period: Period,
    /// Seconds until it is over.
    pub left: u64,
}

impl Tariff {
    /// What the provider of a site wants for a million tokens now.
    pub fn cost(&self, site: &str, model: &str, at: Moment) -> Rates {
        self.costs.get(site).map(|lines| price(lines, model, at)).unwrap_or_default()
    }

    /// What holds for a caller.
    pub fn terms(&self, caller: &Caller, tier: &str) -> Terms<'_> {
        let (key, tenant) = (caller.name(), caller.owner());
        let at = self.of_key.get(&*key).or_else(|| self.of_tier.get(tier));
        let payers = [Payer::Key(key.clone()), Payer::Tenant(tenant.clone())];
        let budgets = payers.iter().filter_map(|payer| self.budgets.get(payer)).map(Cow::Borrowed);
        let own = caller.key.as_ref().and_then(|known| own_budget(&key, &known.terms));
        Terms {
            plan: at.and_then(|at| self.plans.get(*at)),
            budgets: budgets.chain(own.map(Cow::Owned)).collect(),
            tenant,
            key,
        }
    }
}

/// What a key may spend by its own terms. Beyond it is refused: whoever made the key meant that.
fn own_budget(key: &Arc<str>, terms: &crate::setup::Terms) -> Option<BudgetLine> {
    let money = |sum: Option<f64>| sum.and_then(|sum| Money::parse(&format!("{sum:.6}")));
    let (day, month) = (money(terms.budget_per_day), money(terms.budget_per_month));
    let is_any = day.is_some() || month.is_some();
    let budget = Budget { day, month, is_hard: true, warn: WARN };
    is_any.then(|| BudgetLine { payer: Payer::Key(key.clone()), budget, hook: None })
}

impl Terms<'_> {
    /// What is free in a month.
    pub fn allowance(&self) -> Money {
        self.plan.map_or(Money::ZERO, |plan| plan.allowance)
    }

    /// The tenant.
    pub fn tenant(&self) -> Payer {
        Payer::Tenant(self.tenant.clone())
    }

    /// The key.
    pub fn key(&self) -> Payer {
        Payer::Key(self.key.clone())
    }
}
