//! Who is calling: finds the key that a request carries, and what it may do.
//!
//! All keys, of the configuration and of the keyring, stand in one snapshot that nobody changes: a
//! change makes another. So a request asks nothing and waits for nobody.

use super::record::{self, Record};
use crate::setup::{Contracts, Key, Setup, Terms, mark_of, unix_now};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use mainstay_core::cost::CostRate;
use mainstay_core::gateway::limits::Party;
use mainstay_core::names::TierId;
use mainstay_core::rng::mix;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Why a caller is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// No key came.
    NoKey,
    /// A key came that is not known.
    WrongKey,
    /// It was revoked.
    Revoked,
    /// Its time is over.
    Expired,
    /// Another secret took the place of this one.
    Rotated,
    /// It may not be used from there.
    Address(IpAddr),
}

/// Who calls.
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    /// Its tier.
    pub tier: TierId,
    /// A number for its tenant, the same at every gateway; 0 where nobody has a key.
    pub tenant: u32,
    /// Its key; none where nobody needs one.
    pub key: Option<Arc<Known>>,
    /// The number by which its key is counted for the status page.
    pub mark: Option<u64>,
}

impl Caller {
    /// Whether it may ask for this model.
    pub fn may_ask(&self, model: &str) -> bool {
        let models = self.key.as_ref().map_or(&[][..], |key| &key.terms.models);
        models.is_empty() || models.iter().any(|each| each == model)
    }

    /// The name of its key; empty where nobody needs one.
    pub fn name(&self) -> Arc<str> {
        self.key.as_ref().map_or("", |key| &key.name).into()
    }

    /// Whose key it is, in rows of the ledger.
    pub fn owner(&self) -> Arc<str> {
        self.key.as_ref().map_or("", |key| key.tenant()).into()
    }

    /// Who is bound by its requests, if anybody is.
    pub fn parties(&self) -> Arc<[Party]> {
        self.key.as_ref().map_or_else(Arc::default, |key| key.parties.clone())
    }
}

/// A key that is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Its number: the beginning of the hash of its first secret.
    pub id: u64,
    /// Its name in logs and usage.
    pub name: String,
    /// Its tier's name.
    pub tier: String,
    /// What its secret begins with; nothing if the configuration has it.
    pub prefix: String,
    /// What it is for.
    pub terms: Terms,
    /// Whether it was revoked.
    pub is_revoked: bool,
    /// Who is bound by its requests, if anybody is: itself, and its tenant.
    pub parties: Arc<[Party]>,
}

impl Known {
    /// Whose it is: its tenant, or itself.
    pub fn tenant(&self) -> &str {
        self.terms.tenant.as_deref().unwrap_or(&self.name)
    }
}

/// What the configuration says of callers.
#[derive(Clone, Debug, Default)]
pub struct Configured {
    /// Its keys.
    pub keys: Vec<Key>,
    /// The tiers' names.
    pub tiers: Vec<String>,
    /// What tiers and tenants may use.
    pub contracts: Contracts,
    /// The tier of callers where there is no key.
    pub anonymous: u8,
}

impl Configured {
    /// What `setup` says of them.
    pub fn of(setup: &Setup) -> Configured {
        Configured {
            keys: setup.keys.clone(),
            tiers: setup.core.tiers.iter().map(|tier| tier.name.clone()).collect(),
            contracts: setup.contracts.clone(),
            anonymous: setup.anonymous_tier,
        }
    }
}

/// The keys that are known.
///
/// They are found by the hash of what the caller sent. How long that takes may tell whether a hash
/// begins like a known one; nobody can use that, since nobody can choose what a secret of 256
/// random bits hashes to.
#[derive(Debug, Default)]
pub struct Keys {
    /// By the hash of their secrets. With one that was rotated out: until when it is let in.
    known: HashMap<[u8; 32], (Arc<Known>, Option<u64>)>,
    /// What quotas with these numbers are.
    quotas: HashMap<u64, CostRate>,
    /// Nobody ever made a key: anyone is let in.
    is_open: bool,
    anonymous: TierId,
}

impl Keys {
    /// The keys of the configuration and of the ring; `None` stands for a ring that is lost.
    pub fn new<'a>(
        configured: &Configured,
        ring: Option<impl Iterator<Item = (u64, bool, &'a Record)>>,
    ) -> Keys {
        let mut keys = Keys {
            is_open: configured.keys.is_empty() && ring.is_some(),
            anonymous: TierId(configured.anonymous),
            ..Keys::default()
        };
        for key in &configured.keys {
            let tier = configured.tiers.get(usize::from(key.tier)).cloned().unwrap_or_default();
            let known = Known {
                id: record::number(&key.hash),
                name: key.name.clone(),
                tier,
                prefix: String::new(),
                terms: key.terms.clone(),
                is_revoked: false,
                parties: Arc::default(),
            };
            keys.add(known, configured, [(key.hash, None)]);
        }
        for (id, is_revoked, record) in ring.into_iter().flatten() {
            keys.is_open = false;
            let Some(hash) = record::hash_of(&record.hash) else { continue };
            let before = record.before.as_ref();
            let before =
                before.and_then(|old| Some((record::hash_of(&old.hash)?, Some(old.until))));
            let known = Known {
                id,
                name: record.name.clone(),
                tier: record.tier.clone(),
                prefix: record.prefix.clone(),
                terms: record.terms.clone(),
                is_revoked,
                parties: Arc::default(),
            };
            keys.add(known, configured, before.into_iter().chain([(hash, None)]));
        }
        keys
    }

    fn add(
        &mut self,
        mut known: Known,
        configured: &Configured,
        secrets: impl IntoIterator<Item = ([u8; 32], Option<u64>)>,
    ) {
        let contracts = &configured.contracts;
        let at = configured.tiers.iter().position(|tier| *tier == known.tier);
        let usual = at.and_then(|at| contracts.tiers.get(at)).copied().unwrap_or_default();
        let own = Party { id: known.id, contract: known.terms.contract().or(usual) };
        let tenant = contracts.tenants.get(known.tenant()).map(|contract| Party {
            // Apart from all numbers of keys, which come from another hash.
            id: mix(u64::from(tenant_number(known.tenant())), u64::MAX),
            contract: *contract,
        });
        let bound = [Some(own), tenant].into_iter().flatten();
        known.parties = bound.filter(|party| party.quotas().next().is_some()).collect();
        for party in known.parties.iter() {
            self.quotas.extend(party.quotas().map(|(_, key, rate)| (key, rate)));
        }
        let known = Arc::new(known);
        self.known.extend(secrets.into_iter().map(|(hash, until)| (hash, (known.clone(), until))));
    }

    /// Who it is that sends these headers from this address; `tier_of` says where a tier stands.
    /// With no key configured, whatever the caller sends is ignored.
    ///
    /// # Errors
    /// Why it is not let in.
    pub fn admit(
        &self,
        headers: &HeaderMap,
        from: Option<IpAddr>,
        tier_of: impl Fn(&str) -> TierId,
    ) -> Result<Caller, Stranger> {
        if self.is_open {
            return Ok(Caller { tier: self.anonymous, tenant: 0, key: None, mark: None });
        }
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|text| {
            let (scheme, key) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
        });
        let key = bearer.or_else(|| headers.get("x-api-key").and_then(|v| v.to_str().ok()));
        let key = key.ok_or(Stranger::NoKey)?;
        let hash: [u8; 32] = Sha256::digest(key).into();
        let (known, until) = self.known.get(&hash).ok_or(Stranger::WrongKey)?;
        if known.is_revoked {
            return Err(Stranger::Revoked);
        }
        let is_over = |end: Option<u64>| end.is_some_and(|end| unix_now() >= end);
        if is_over(known.terms.expires) {
            return Err(Stranger::Expired);
        }
        if is_over(*until) {
            return Err(Stranger::Rotated);
        }
        let networks = &known.terms.networks;
        if let Some(from) = from
            && !networks.is_empty()
            && !networks.iter().any(|network| network.holds(from))
        {
            return Err(Stranger::Address(from));
        }
        let (tier, tenant) = (tier_of(&known.tier), tenant_number(known.tenant()));
        Ok(Caller { tier, tenant, key: Some(known.clone()), mark: mark_of(key) })
    }

    /// What the quota of this number is, if anybody has it.
    pub fn quota(&self, key: u64) -> Option<CostRate> {
        self.quotas.get(&key).copied()
    }

    /// All keys, each once.
    pub fn all(&self) -> Vec<Arc<Known>> {
        let mut all: Vec<Arc<Known>> =
            self.known.values().map(|(known, _)| known.clone()).collect();
        all.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        all.dedup_by(|a, b| a.id == b.id);
        all
    }
}

/// A tenant's name as a number.
fn tenant_number(name: &str) -> u32 {
    let hash: [u8; 32] = Sha256::digest(name).into();
    u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use mainstay_core::config::Contract;
    use mainstay_core::gateway::limits::Dimension;

    fn configured() -> Configured {
        let hash = Sha256::digest("sk-right").into();
        let key = Key { name: "acme".into(), tier: 1, hash, terms: Terms::default() };
        let tiers = ["pro", "free"].map(String::from).to_vec();
        Configured { keys: vec![key], tiers, ..Configured::default() }
    }

    type Ring<'a> = std::iter::Empty<(u64, bool, &'a Record)>;

    fn keys(configured: &Configured) -> Keys {
        Keys::new(configured, Some(Ring::default()))
    }

    fn bearer(text: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static(text));
        headers
    }

    fn admit(keys: &Keys, headers: &HeaderMap) -> Result<Caller, Stranger> {
        let from = Some(IpAddr::from([10, 0, 0, 1]));
        keys.admit(headers, from, |name| TierId(u8::from(name == "free")))
    }

    #[test]
    fn a_known_key_is_let_in_at_its_tier_and_no_other_is() {
        let keys = keys(&configured());
        for header in ["Bearer sk-right", "bearer  sk-right"] {
            let caller = admit(&keys, &bearer(header)).unwrap();
            assert_eq!((caller.tier, caller.tenant), (TierId(1), tenant_number("acme")));
        }
        assert_ne!(tenant_number("acme"), tenant_number("acme-2"));
        assert_eq!(admit(&keys, &bearer("Bearer sk-wrong")), Err(Stranger::WrongKey));
        assert_eq!(admit(&keys, &HeaderMap::new()), Err(Stranger::NoKey));
    }

    #[test]
    fn with_no_key_configured_anything_is_let_in() {
        let nobody = Configured { anonymous: 2, ..Configured::default() };
        let caller = admit(&keys(&nobody), &bearer("Bearer whatever")).unwrap();
        assert_eq!((caller.tier, caller.tenant, caller.key), (TierId(2), 0, None));
        // Who has lost its keys lets nobody in instead of everybody.
        let lost = Keys::new(&nobody, None::<Ring<'_>>);
        assert_eq!(admit(&lost, &bearer("Bearer whatever")), Err(Stranger::WrongKey));
    }

    #[test]
    fn a_key_of_the_ring_is_let_in_within_its_terms_alone() {
        let hash = |secret: &str| record::hex(&<[u8; 32]>::from(Sha256::digest(secret)));
        let record = Record {
            name: "b".into(),
            tier: "pro".into(),
            hash: hash("sk-new"),
            before: Some(record::Before { hash: hash("sk-old"), until: unix_now() + 100 }),
            ..Record::default()
        };
        let of = |is_revoked: bool, record: &Record| {
            Keys::new(&configured(), Some([(7, is_revoked, record)].into_iter()))
        };
        for secret in ["Bearer sk-new", "Bearer sk-old"] {
            let caller = admit(&of(false, &record), &bearer(secret)).unwrap();
            assert_eq!(caller.key.as_ref().map(|key| key.id), Some(7));
            assert_eq!(admit(&of(true, &record), &bearer(secret)), Err(Stranger::Revoked));
        }
        let mut over = record.clone();
        over.before.as_mut().unwrap().until = unix_now() - 1;
        assert_eq!(admit(&of(false, &over), &bearer("Bearer sk-old")), Err(Stranger::Rotated));
        assert!(admit(&of(false, &over), &bearer("Bearer sk-new")).is_ok());
        let mut elsewhere = record.clone();
        elsewhere.terms.networks = vec!["192.0.2.0/24".parse().unwrap()];
        let refused = admit(&of(false, &elsewhere), &bearer("Bearer sk-new"));
        assert!(matches!(refused, Err(Stranger::Address(_))));
        let mut late = record.clone();
        late.terms.expires = Some(unix_now());
        assert_eq!(admit(&of(false, &late), &bearer("Bearer sk-new")), Err(Stranger::Expired));
        let mut few = record.clone();
        few.terms.models = vec!["chat".into()];
        let caller = admit(&of(false, &few), &bearer("Bearer sk-new")).unwrap();
        assert!(caller.may_ask("chat") && !caller.may_ask("other"));
    }

    #[test]
    fn a_key_is_bound_by_its_own_contract_then_its_tiers_and_by_its_tenants() {
        let mut configured = configured();
        let own = Terms { requests_per_minute: Some(5), ..Terms::default() };
        configured.keys[0].terms = Terms { tenant: Some("t".into()), ..own };
        let free = Contract { requests: Some(1), concurrency: Some(2), ..Contract::default() };
        configured.contracts.tiers = vec![Contract::default(), free];
        let all = Contract { tokens: Some(9), ..Contract::default() };
        configured.contracts.tenants = [("t".to_owned(), all)].into();
        let keys = keys(&configured);
        let known = &keys.all()[0];
        assert_eq!(known.parties.len(), 2);
        let own = known.parties[0].contract;
        assert_eq!((own.requests, own.concurrency), (Some(5), Some(2)));
        let tokens = known.parties[1].key(Dimension::Tokens);
        assert_eq!(keys.quota(tokens), Some(CostRate::whole(9)));
        assert_eq!(keys.quota(1), None);
    }
}
