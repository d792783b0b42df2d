//! Who may call: service classes and keys.

use super::Resolver;
use crate::config_file::Key as FileKey;
use crate::config_file::problem::hint;
use mainstay_core::config::{Contract, Tier};
use mainstay_server::gateway::record::hash_of;
use mainstay_server::setup::{Contracts, Key, Terms, date};

/// The classes that are always there, the highest first, with the share that is kept for each. The
/// floors leave a third to whoever comes, and batch lives on what is left over.
const TIERS: [(&str, f64); 4] =
    [("enterprise", 0.40), ("pro", 0.25), ("free", 0.05), ("batch", 0.0)];

/// Positions are kept in a byte, and nobody can explain more classes than this to customers.
const TIERS_MAX: usize = 32;

impl Resolver<'_> {
    /// The default classes with the file's changes; a new class ranks just below the one that is
    /// written before it, or first.
    pub(super) fn tiers(&mut self) -> Vec<Tier> {
        let mut tiers: Vec<Tier> =
            TIERS.map(|(name, floor)| Tier { name: name.to_string(), floor }).to_vec();
        let mut below = 0;
        let mut seen = Vec::new();
        for (at, tier) in self.file.tier.clone().into_iter().enumerate() {
            let path = format!("tier.{at}");
            let Some(name) = tier.name.filter(|name| !name.is_empty()) else {
                self.wrong(&path, "has no name; add name = \"…\"");
                continue;
            };
            if seen.contains(&name) {
                self.wrong(&format!("{path}.name"), format!("`{name}` is there twice; merge them"));
                continue;
            }
            let floor = tier.floor.unwrap_or(match TIERS.iter().find(|each| each.0 == name) {
                Some((_, floor)) => *floor,
                None => 0.0,
            });
            if !(0.0..=1.0).contains(&floor) {
                self.wrong(&format!("{path}.floor"), format!("{floor} is no share; write 0 to 1"));
                continue;
            }
            match tiers.iter().position(|each| each.name == name) {
                Some(position) => {
                    tiers[position].floor = floor;
                    below = position + 1;
                }
                None => {
                    tiers.insert(below, Tier { name: name.clone(), floor });
                    below += 1;
                }
            }
            seen.push(name);
        }
        self.check_tiers(&tiers);
        tiers
    }

    fn check_tiers(&mut self, tiers: &[Tier]) {
        let sum: f64 = tiers.iter().map(|tier| tier.floor).sum();
        // Shares such as 0.1 have no exact form; their sum may miss 1 by a little.
        if sum > 1.0 + 1e-9 {
            let each: Vec<String> =
                tiers.iter().map(|tier| format!("{} {}", tier.name, tier.floor)).collect();
            let each = each.join(", ");
            self.wrong(
                "tier",
                format!("the floors add up to {sum:.2} ({each}); lower them to 1 or less in all"),
            );
        }
        if tiers.len() > TIERS_MAX {
            self.wrong("tier", format!("{} classes; have at most {TIERS_MAX}", tiers.len()));
        }
    }

    /// The keys of the file.
    pub(super) fn keys(&mut self, tiers: &[Tier]) -> Vec<Key> {
        let mut keys: Vec<Key> = Vec::new();
        for (at, key) in self.file.key.clone().into_iter().enumerate() {
            let path = format!("key.{at}");
            let name = key.name.clone().unwrap_or_else(|| format!("key-{}", at + 1));
            if keys.iter().any(|each| each.name == name) {
                let what = format!("`{name}` is there twice; give each key its own name");
                self.wrong(&format!("{path}.name"), what);
            }
            let wanted = key.tier.clone().unwrap_or_else(|| String::from("pro"));
            let tier = tiers.iter().position(|tier| tier.name == wanted);
            if tier.is_none() {
                let hint = hint(&wanted, tiers.iter().map(|tier| tier.name.as_str()));
                self.wrong(&format!("{path}.tier"), format!("no tier `{wanted}`; {hint}"));
            }
            let Some(hash) = self.hash(&path, key.hash.as_deref()) else { continue };
            if let Some(other) = keys.iter().find(|each| each.hash == hash) {
                let what = format!("is the same key as `{}`; create another", other.name);
                self.wrong(&format!("{path}.hash"), what);
            }
            let tier = u8::try_from(tier.unwrap_or(0)).unwrap_or(u8::MAX);
            let terms = self.terms(&path, key);
            keys.push(Key { name, tier, hash, terms });
        }
        keys
    }

    fn hash(&mut self, path: &str, hash: Option<&str>) -> Option<[u8; 32]> {
        let Some(hash) = hash else {
            self.wrong(path, "has no hash; `mainstay keys create` prints one");
            return None;
        };
        let read = hash_of(hash);
        if read.is_none() {
            let what = "is not 64 hex digits; `mainstay keys create` prints one";
            self.wrong(&format!("{path}.hash"), what);
        }
        read
    }

    fn terms(&mut self, path: &str, key: FileKey) -> Terms {
        let mut networks = Vec::new();
        for (at, text) in key.networks.iter().enumerate() {
            match text.parse() {
                Ok(network) => networks.push(network),
                Err(what) => self.wrong(&format!("{path}.networks.{at}"), what),
            }
        }
        let mut expires = None;
        if let Some(text) = &key.expires {
            match date(text) {
                Ok(at) => expires = Some(at),
                Err(what) => self.wrong(&format!("{path}.expires"), what),
            }
        }
        let terms = Terms {
            tenant: key.tenant,
            models: key.models,
            networks,
            expires,
            requests_per_minute: key.requests_per_minute,
            tokens_per_minute: key.tokens_per_minute,
            cost_units_per_minute: key.cost_units_per_minute,
            concurrency: key.concurrency,
            budget_per_day: key.budget_per_day,
            budget_per_month: key.budget_per_month,
        };
        if let Some((what, why)) = terms.wrong() {
            self.wrong(&format!("{path}.{what}"), why);
        }
        terms
    }

    /// What keys of each tier may use that say nothing else, and all keys of a tenant together.
    pub(super) fn contracts(&mut self, tiers: &[Tier]) -> Contracts {
        let mut contracts =
            Contracts { tiers: vec![Contract::default(); tiers.len()], ..Contracts::default() };
        for (at, tier) in self.file.tier.clone().into_iter().enumerate() {
            let contract = Terms {
                requests_per_minute: tier.requests_per_minute,
                tokens_per_minute: tier.tokens_per_minute,
                cost_units_per_minute: tier.cost_units_per_minute,
                concurrency: tier.concurrency,
                ..Terms::default()
            };
            let contract = self.contract(&format!("tier.{at}"), &contract);
            let position = tiers.iter().position(|each| Some(&each.name) == tier.name.as_ref());
            if let Some(position) = position {
                contracts.tiers[position] = contract;
            }
        }
        for (at, tenant) in self.file.tenant.clone().into_iter().enumerate() {
            let path = format!("tenant.{at}");
            let Some(name) = tenant.name.filter(|name| !name.is_empty()) else {
                self.wrong(&path, "has no name; add name = \"…\"");
                continue;
            };
            let contract = Terms {
                requests_per_minute: tenant.requests_per_minute,
                tokens_per_minute: tenant.tokens_per_minute,
                cost_units_per_minute: tenant.cost_units_per_minute,
                concurrency: tenant.concurrency,
                ..Terms::default()
            };
            let contract = self.contract(&path, &contract);
            if contracts.tenants.insert(name.clone(), contract).is_some() {
                self.wrong(&format!("{path}.name"), format!("`{name}` is there twice; merge them"));
            }
        }
        contracts
    }

    fn contract(&mut self, path: &str, terms: &Terms) -> Contract {
        if let Some((what, why)) = terms.wrong() {
            self.wrong(&format!("{path}.{what}"), why);
        }
        terms.contract()
    }
}
