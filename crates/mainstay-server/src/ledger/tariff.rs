//! Who pays what, and what providers want: what the configuration says of money.

use super::hook::Hook;
use mainstay_core::money::{Money, Rates};
use mainstay_core::plan::{Budget, Moment, Period, Plan, PriceLine, price};
use std::collections::BTreeMap;
use std::sync::Arc;

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
    pub budgets: Vec<&'a BudgetLine>,
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
    pub fn terms(&self, (key, tenant): (&Arc<str>, &Arc<str>), tier: &str) -> Terms<'_> {
        let at = self.of_key.get(&**key).or_else(|| self.of_tier.get(tier));
        let payers = [Payer::Key(key.clone()), Payer::Tenant(tenant.clone())];
        Terms {
            tenant: tenant.clone(),
            key: key.clone(),
            plan: at.and_then(|at| self.plans.get(*at)),
            budgets: payers.iter().filter_map(|payer| self.budgets.get(payer)).collect(),
        }
    }
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
