//! Where the ledger is, and what the file says of money.

use super::Resolver;
use super::sites::Made;
use crate::config_file::money::Price;
use crate::config_file::problem::hint;
use mainstay_core::config::Tier;
use mainstay_core::money::{Money, Rates};
use mainstay_core::plan::{Budget, Hours, Plan, PriceLine};
use mainstay_server::ledger::{BudgetLine, Keeping, Payer, Tariff, WARN};
use mainstay_server::letters::Hook;
use mainstay_server::setup::{Key, Node, Secret};
use std::collections::BTreeMap;

/// The ledger's file in a node's directory.
const FILE: &str = "ledger.db";
/// The same beside the configuration file of a gateway that has no directory.
const BESIDE: &str = "mainstay-ledger.db";
/// Two whole months: budgets look at this one, and the invoice for the last comes in it.
const DAYS_MIN: u32 = 62;

impl Resolver<'_> {
    /// Where rows are kept: where the file says, or else in the node's directory, if there is one.
    pub(super) fn ledger(&mut self, node: Option<&Node>) -> Option<Keeping> {
        let days = self.file.ledger_days;
        if days.is_some_and(|days| days < DAYS_MIN) {
            let what = "is less than a month's budgets and the last invoice need";
            self.wrong("ledger_days", format!("{what}; write {DAYS_MIN} or more"));
        }
        if node.is_some_and(|node| !node.roles.gateway) {
            return None;
        }
        let name = node.map_or(mainstay_server::setup::ALONE, |node| node.identity.name().as_str());
        let own = node.and_then(|node| node.data_dir.as_ref()).map(|dir| dir.join(FILE));
        let said = self.file.ledger.clone();
        let (file, postgres) = match said.as_deref() {
            Some("off") => return None,
            None => (own?, None),
            Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                (own.unwrap_or_else(|| self.path(BESIDE)), Some(Secret::new(url)))
            }
            Some(text) if text.contains("://") => {
                let what = "is neither a path nor a URL of PostgreSQL; write a path, off, or \
                            postgres://USER:PASSWORD@HOST/DATABASE";
                self.wrong("ledger", what);
                return None;
            }
            Some(path) => (self.path(path), None),
        };
        Some(Keeping { file, postgres, node: name.to_string(), days })
    }

    /// Prices, plans and budgets.
    pub(super) fn tariff(&mut self, sites: &[Made], tiers: &[Tier], keys: &[Key]) -> Tariff {
        let mut tariff = Tariff::default();
        for (at, site) in self.file.site.clone().into_iter().enumerate() {
            let lines = self.prices(&format!("site.{at}"), &site.price);
            if let Some(named) = sites.get(at).filter(|_| !lines.is_empty()) {
                tariff.costs.insert(named.core.name.clone(), lines);
            }
        }
        for (at, plan) in self.file.plan.clone().into_iter().enumerate() {
            let path = format!("plan.{at}");
            let prices = self.prices(&path, &plan.price);
            let Some(name) = plan.name.filter(|name| !name.is_empty()) else {
                self.wrong(&path, "has no name; add name = \"…\"");
                continue;
            };
            if tariff.plans.iter().any(|each| each.name == name) {
                self.wrong(&format!("{path}.name"), format!("`{name}` is there twice; merge them"));
            }
            let allowance = plan.allowance.map_or(Money::ZERO, |amount| amount.0);
            tariff.plans.push(Plan { name, allowance, prices });
        }
        let names: Vec<String> = tariff.plans.iter().map(|plan| plan.name.clone()).collect();
        for (at, tier) in self.file.tier.clone().into_iter().enumerate() {
            let at = self.plan_of(&format!("tier.{at}.plan"), tier.plan, &names);
            let known = tier.name.filter(|name| tiers.iter().any(|tier| tier.name == *name));
            tariff.of_tier.extend(known.zip(at));
        }
        for (at, key) in self.file.key.clone().into_iter().enumerate() {
            let name = key.name.unwrap_or_else(|| format!("key-{}", at + 1));
            let at = self.plan_of(&format!("key.{at}.plan"), key.plan, &names);
            tariff.of_key.extend(at.map(|at| (name, at)));
        }
        tariff.budgets = self.budgets(keys);
        tariff
    }

    fn plan_of(&mut self, path: &str, name: Option<String>, names: &[String]) -> Option<usize> {
        let name = name?;
        let at = names.iter().position(|each| *each == name);
        if at.is_none() {
            let hint = hint(&name, names.iter().map(String::as_str));
            self.wrong(path, format!("no plan `{name}`; {hint}"));
        }
        at
    }

    fn prices(&mut self, path: &str, prices: &[Price]) -> Vec<PriceLine> {
        let mut lines = Vec::new();
        for (at, price) in prices.iter().enumerate() {
            let path = format!("{path}.price.{at}");
            let hours = price.hours.as_deref().map_or(Some(Hours::ALL), Hours::parse);
            if hours.is_none() {
                let what = "are no hours of the week; write them like \"mon-fri 08:00-18:00\" or \
                            \"sat,sun\", in UTC and whole hours";
                self.wrong(&format!("{path}.hours"), what);
            }
            if price.input.is_none() && price.output.is_none() {
                self.wrong(&path, "has no price; add input and output, for a million tokens");
            }
            let amount = |amount: Option<crate::config_file::value::Amount>, or: Money| {
                amount.map_or(or, |amount| amount.0)
            };
            let input = amount(price.input, Money::ZERO);
            let (cached, output) = (amount(price.cached, input), amount(price.output, Money::ZERO));
            let rates = Rates { input, cached, output };
            let hours = hours.unwrap_or(Hours::ALL);
            lines.push(PriceLine { model: price.model.clone(), hours, rates });
        }
        lines
    }

    fn budgets(&mut self, keys: &[Key]) -> BTreeMap<Payer, BudgetLine> {
        let mut lines: BTreeMap<Payer, BudgetLine> = BTreeMap::new();
        for (at, file) in self.file.budget.clone().into_iter().enumerate() {
            let path = format!("budget.{at}");
            let payer = match (file.key, file.tenant) {
                (Some(name), None) => {
                    if !keys.iter().any(|key| key.name == name) {
                        let hint = hint(&name, keys.iter().map(|key| key.name.as_str()));
                        self.wrong(&format!("{path}.key"), format!("no key `{name}`; {hint}"));
                    }
                    Payer::Key(name.as_str().into())
                }
                (None, Some(name)) => Payer::Tenant(name.as_str().into()),
                (None, None) | (Some(_), Some(_)) => {
                    self.wrong(
                        &path,
                        "is nobody's; add key = \"…\" or tenant = \"…\", one of them",
                    );
                    continue;
                }
            };
            if file.day.is_none() && file.month.is_none() {
                self.wrong(&path, "has no amount; add day or month");
            }
            if lines.contains_key(&payer) {
                let (kind, name) = payer.told();
                self.wrong(&path, format!("{kind} `{name}` has a budget already; merge them"));
            }
            let warn = file.warn.unwrap_or(WARN);
            if warn > 100 {
                self.wrong(&format!("{path}.warn"), "is no share; write 0 to 100");
            }
            let keys = [format!("{path}.webhook"), format!("{path}.webhook_secret_env")];
            let hook = self.hook(&keys, file.webhook, file.webhook_secret_env);
            let amount = |amount: Option<crate::config_file::value::Amount>| amount.map(|a| a.0);
            let (day, month) = (amount(file.day), amount(file.month));
            let budget = Budget { day, month, is_hard: file.hard.unwrap_or(false), warn };
            lines.insert(payer.clone(), BudgetLine { payer, budget, hook });
        }
        lines
    }

    /// A webhook of this URL, signed with what this variable holds; `keys` are where they stand.
    pub(super) fn hook(
        &mut self,
        keys: &[String; 2],
        url: Option<String>,
        env: Option<String>,
    ) -> Option<Hook> {
        let url = url?;
        if !url.starts_with("http://") && !url.starts_with("https://") {
            self.wrong(&keys[0], "is no URL; write http:// or https://");
            return None;
        }
        let Some(env) = env else {
            let name = keys[1].rsplit('.').next().unwrap_or_default();
            let what = format!("cannot be told from a forged message; add {name}");
            self.wrong(&keys[0], what);
            return None;
        };
        let Some(secret) = self.environment.get(&env) else {
            let what = format!("{env} is not in the environment; set it, or name another");
            self.wrong(&keys[1], what);
            return None;
        };
        Some(Hook { url, secret: Secret::new(secret) })
    }
}
