//! Generations as they are written down: fields by name, hashes in hex.

use mainstay_core::policy::Snapshot;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its number.
    pub generation: u64,
    /// Hash of its content.
    pub content: Hash,
    /// Hash of the generation before it.
    pub previous: Hash,
    /// Who.
    pub author: String,
    /// Why.
    pub reason: String,
    /// Size of its content.
    pub bytes: u64,
    /// The author gave the confirm token.
    pub confirmed: bool,
}

/// A hash, which people and files see in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Hash(pub u64);

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> String {
        hash.to_string()
    }
}

impl TryFrom<String> for Hash {
    type Error = String;

    fn try_from(text: String) -> Result<Hash, String> {
        u64::from_str_radix(&text, 16).map(Hash).map_err(|_| format!("`{text}` is no hash"))
    }
}

/// The hash by which a content is known: the first 64 bits of its SHA-256. It tells contents
/// apart and finds what a disk has spoilt; who wrote it, the link's certificates say.
pub fn hash(content: &[u8]) -> u64 {
    let digest: [u8; 32] = Sha256::digest(content).into();
    u64::from_be_bytes(digest[..8].try_into().unwrap_or_default())
}

impl From<&Snapshot> for Kept {
    fn from(x: &Snapshot) -> Kept {
        Kept {
            generation: x.generation,
            content: Hash(x.content),
            previous: Hash(x.previous),
            author: x.author.clone(),
            reason: x.reason.clone(),
            bytes: x.bytes,
            confirmed: x.confirmed,
        }
    }
}

impl From<Kept> for Snapshot {
    fn from(kept: Kept) -> Snapshot {
        let Kept { generation, content, previous, author, reason, bytes, confirmed } = kept;
        let (content, previous) = (content.0, previous.0);
        Snapshot { generation, content, previous, author, reason, bytes, confirmed }
    }
}
