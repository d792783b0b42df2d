//! One key that operators made while everything runs: what is kept of it, and never its secret.

use crate::setup::{Terms, shown};
use mainstay_core::gateway::keyring::Entry;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// What is kept of a key, on disk and between gateways.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Its name in logs and usage.
    pub name: String,
    /// Its service class.
    pub tier: String,
    /// The first characters of its secret, for people.
    pub prefix: String,
    /// SHA-256 of its secret, in hex.
    pub hash: String,
    /// The secret before, while it is still let in.
    pub before: Option<Before>,
    /// When it was made, in seconds since 1970, and by whom.
    pub created: u64,
    /// See `created`.
    pub author: String,
    /// What it is for.
    #[serde(flatten)]
    pub terms: Terms,
}

/// A secret that another has taken the place of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Before {
    /// SHA-256 of it, in hex.
    pub hash: String,
    /// Until when it is let in, in seconds since 1970.
    pub until: u64,
}

impl Record {
    /// What an entry says, if this version can read it.
    pub fn of(entry: &Entry) -> Option<Record> {
        let record: Record = serde_json::from_slice(&entry.body).ok()?;
        hash_of(&record.hash).map(|_| record)
    }

    /// As an entry says it.
    pub fn body(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// A secret, which is shown once and not kept, with what is kept of it.
pub struct Secret {
    /// The key itself.
    pub text: String,
    /// Its SHA-256.
    pub hash: [u8; 32],
}

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn make() -> Result<Secret, String> {
        let mut random = [0; 32];
        getrandom::fill(&mut random)
            .map_err(|error| format!("the system gives no randomness: {error}"))?;
        let text = format!("sk-mainstay-{}", hex(&random));
        let hash = Sha256::digest(text.as_bytes()).into();
        Ok(Secret { text, hash })
    }

    /// What of it people are shown later.
    pub fn prefix(&self) -> String {
        shown(&self.text)
    }
}

/// A key's number: the beginning of the hash of its first secret.
pub fn number(hash: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// A key's number for people.
pub fn format_number(id: u64) -> String {
    format!("key-{id:016x}")
}

/// In hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The 32 bytes that 64 hex digits stand for.
pub fn hash_of(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}
