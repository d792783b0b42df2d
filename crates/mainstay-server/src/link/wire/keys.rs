//! Callers' keys as bytes. What a key says besides its number and version is carried as it came, so
//! that a node which knows less of it passes all of it on.

use super::super::frame::Nonsense;
use super::super::message::{KEY_BODY_MAX, KEYS_MAX};
use super::within;
use bytes::Bytes;
use mainstay_core::gateway::keyring::{Entry, PARTS};
use prost::Message as Proto;

#[derive(Clone, PartialEq, Proto)]
pub(super) struct Marks {
    #[prost(fixed64, repeated, tag = "1")]
    marks: Vec<u64>,
}

#[derive(Clone, PartialEq, Proto)]
struct Key {
    #[prost(fixed64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    version: u64,
    #[prost(bool, tag = "3")]
    revoked: bool,
    #[prost(bytes = "bytes", tag = "4")]
    body: Bytes,
}

#[derive(Clone, PartialEq, Proto)]
pub(super) struct Keys {
    #[prost(message, repeated, tag = "1")]
    keys: Vec<Key>,
}

pub(super) fn write_marks(marks: &[u64]) -> Marks {
    Marks { marks: marks.to_vec() }
}

pub(super) fn read_marks(marks: Marks) -> Result<Vec<u64>, Nonsense> {
    within(marks.marks.len(), PARTS)?;
    Ok(marks.marks)
}

pub(super) fn write(keys: &[Entry]) -> Keys {
    let key = |entry: &Entry| Key {
        id: entry.id,
        version: entry.version,
        revoked: entry.is_revoked,
        body: entry.body.clone().into(),
    };
    Keys { keys: keys.iter().take(KEYS_MAX).map(key).collect() }
}

pub(super) fn read(keys: Keys) -> Result<Vec<Entry>, Nonsense> {
    within(keys.keys.len(), KEYS_MAX)?;
    let entry = |key: Key| {
        within(key.body.len(), KEY_BODY_MAX)?;
        let Key { id, version, revoked, body } = key;
        Ok(Entry { id, version, is_revoked: revoked, body: body.to_vec() })
    };
    keys.keys.into_iter().map(entry).collect()
}
