//! Who is calling: finds the key that a request carries, in a time that tells nothing about keys.

use crate::setup::Key;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use mainstay_core::names::TierId;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// Why a caller is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// No key came.
    NoKey,
    /// A key came that is not known.
    WrongKey,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its tier.
    pub tier: TierId,
    /// A number for its name, the same at every gateway; 0 where nobody has a key.
    pub tenant: u32,
    /// The key's name; empty where nobody has one.
    pub key: Arc<str>,
    /// Whose key it is, in rows of the ledger.
    pub owner: Arc<str>,
}

/// The keys that are known.
#[derive(Debug, Default)]
pub struct Keys {
    keys: Vec<Key>,
    anonymous: TierId,
}

impl Keys {
    /// Lets in whoever has one of `keys`; with none, anyone, at tier `anonymous`.
    pub fn new(keys: Vec<Key>, anonymous: u8) -> Keys {
        Keys { keys, anonymous: TierId(anonymous) }
    }

    /// Who it is. With no key configured, whatever the caller sends is ignored.
    pub fn admit(&self, headers: &HeaderMap) -> Result<Caller, Stranger> {
        if self.keys.is_empty() {
            let nobody: Arc<str> = "".into();
            let (tier, key) = (self.anonymous, nobody.clone());
            return Ok(Caller { tier, tenant: 0, key, owner: nobody });
        }
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|text| {
            let (scheme, key) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
        });
        let key = bearer.or_else(|| headers.get("x-api-key").and_then(|v| v.to_str().ok()));
        let hash: [u8; 32] = Sha256::digest(key.ok_or(Stranger::NoKey)?).into();
        // Every key is looked at, equal or not, so that the time says nothing.
        let mut found = None;
        for known in &self.keys {
            if bool::from(known.hash.ct_eq(&hash)) {
                found = Some(known);
            }
        }
        let known = found.ok_or(Stranger::WrongKey)?;
        let name: Arc<str> = known.name.as_str().into();
        let (tier, tenant) = (TierId(known.tier), number(&known.name));
        Ok(Caller { tier, tenant, key: name.clone(), owner: name })
    }
}

/// A caller's name as a number.
fn number(name: &str) -> u32 {
    let hash: [u8; 32] = Sha256::digest(name).into();
    u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn keys() -> Keys {
        let hash = Sha256::digest("sk-right").into();
        Keys::new(vec![Key { name: "acme".into(), tier: 1, hash }], 0)
    }

    fn bearer(text: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static(text));
        headers
    }

    #[test]
    fn a_known_key_is_let_in_at_its_tier_and_no_other_is() {
        let (tier, tenant) = (TierId(1), number("acme"));
        let acme = Ok(Caller { tier, tenant, key: "acme".into(), owner: "acme".into() });
        assert_eq!(keys().admit(&bearer("Bearer sk-right")), acme);
        assert_eq!(keys().admit(&bearer("bearer  sk-right")), acme);
        assert_ne!(number("acme"), number("acme-2"));
        assert_eq!(keys().admit(&bearer("Bearer sk-wrong")), Err(Stranger::WrongKey));
        assert_eq!(keys().admit(&HeaderMap::new()), Err(Stranger::NoKey));
    }

    #[test]
    fn with_no_key_configured_anything_is_let_in() {
        let open = Keys::new(Vec::new(), 2);
        assert_eq!(
            open.admit(&bearer("Bearer whatever")),
            Ok(Caller { tier: TierId(2), tenant: 0, key: "".into(), owner: "".into() })
        );
    }
}
