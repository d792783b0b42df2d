//! The keyring of this gateway: takes operators' changes, keeps them on disk, passes them on, and
//! makes the snapshot by which requests are let in.
//!
//! A change is in force here when it is answered, at reachable gateways as soon as a message comes
//! there, and at others when they are reachable again. Which word holds decides
//! `mainstay_core::gateway::keyring`.

use super::auth::{Configured, Keys, Known};
use super::record::{Before, Record, Secret, format_number, hex, number};
use crate::link::message::{KEY_BODY_MAX, KEYS_MAX};
use crate::link::{Message, NodeName};
use crate::replace::replace;
use crate::setup::{Terms, format_date, unix_now};
use mainstay_core::gateway::keyring::{Entry, Keyring as Ring, PULSE, TOLD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// In the node's directory.
pub const KEYRING: &str = "keyring.json";
/// The same, if it could not be read.
const SPOILT: &str = "keyring.json.spoilt";
/// Longest name of a key, tenant or author, in characters.
const NAME_MAX: usize = 100;

/// Sends to a gateway, or to all others. It must not wait.
pub type Carrier = Box<dyn Fn(Option<&NodeName>, Message) + Send + Sync>;

/// A key to be made.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NewKey {
    /// Its name in logs and usage.
    pub name: String,
    /// Its service class.
    pub tier: String,
    /// Who makes it.
    pub author: String,
    /// What it is for.
    #[serde(flatten)]
    pub terms: Terms,
}

/// A key that there is, and what becomes of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OldKey {
    /// Its name, its number, or what its secret begins with.
    pub key: String,
    /// Where its secret is replaced: for so many seconds the old one is let in too.
    pub grace_s: u64,
    /// Who decides it.
    pub author: String,
}

/// The keyring of one gateway.
pub struct Keyring {
    inner: Mutex<Inner>,
    snapshot: RwLock<Arc<Keys>>,
    directory: Option<PathBuf>,
    carrier: OnceLock<Carrier>,
    /// Something was heard that is not in the snapshot yet.
    changed: Notify,
}

struct Inner {
    ring: Ring,
    records: BTreeMap<u64, (bool, Record)>,
    configured: Configured,
    /// What was on the disk cannot be read: nobody is let in who is not known from elsewhere.
    is_lost: bool,
}

impl Keyring {
    /// The ring that is kept in `directory`, if one is.
    pub fn open(directory: Option<PathBuf>, configured: Configured) -> Keyring {
        let read = directory.as_deref().map_or(Ok(Vec::new()), read);
        let is_lost = read.is_err();
        if let (Err(why), Some(directory)) = (&read, &directory) {
            tracing::error!("{why}; it is set aside, and other gateways are asked for keys");
            let _ = std::fs::rename(directory.join(KEYRING), directory.join(SPOILT));
        }
        let inner = Inner { ring: Ring::default(), records: BTreeMap::new(), configured, is_lost };
        let (carrier, changed) = (OnceLock::new(), Notify::new());
        let inner = Mutex::new(inner);
        let ring = Keyring { inner, snapshot: RwLock::default(), directory, carrier, changed };
        let mut inner = ring.inner();
        for entry in read.unwrap_or_default() {
            inner.take(entry);
        }
        ring.refresh(&inner);
        drop(inner);
        ring
    }

    /// The keys as they are now.
    pub fn keys(&self) -> Arc<Keys> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another configuration is in force.
    pub fn configure(&self, configured: Configured) {
        let mut inner = self.inner();
        inner.configured = configured;
        self.refresh(&inner);
    }

    /// Other gateways are reached by `carrier` from now on.
    pub fn join(&self, carrier: Carrier) {
        // Said once, when the process starts.
        let _ = self.carrier.set(carrier);
    }

    /// Makes a key; what is answered has its secret, which is not shown again.
    ///
    /// # Errors
    /// What is wrong with it, or why it cannot be kept.
    pub fn create(&self, new: NewKey) -> Result<Value, String> {
        let NewKey { name, tier, author, terms } = new;
        let secret = Secret::make()?;
        let mut inner = self.inner();
        inner.check(&name, &tier)?;
        checked("author", &author)?;
        if let Some((key, what)) = terms.wrong() {
            return Err(format!("{key} {what}"));
        }
        let record = Record {
            name,
            tier,
            prefix: secret.prefix(),
            hash: hex(&secret.hash),
            before: None,
            created: unix_now(),
            author,
            terms,
        };
        let entry = Entry { id: number(&secret.hash), version: 1, ..entry(&record, false)? };
        self.change(&mut inner, entry, "key_created")?;
        let mut told = inner.shown(&*known(&self.keys(), number(&secret.hash))?);
        told["key"] = Value::from(secret.text);
        Ok(told)
    }

    /// Revokes a key, one of the configuration too.
    ///
    /// # Errors
    /// If there is no such key, or it cannot be kept.
    pub fn revoke(&self, old: &OldKey) -> Result<Value, String> {
        let mut inner = self.inner();
        let found = find(&self.keys(), &old.key)?;
        let record = match inner.records.get(&found.id) {
            Some((_, record)) => record.clone(),
            // One of the configuration is written down as what it was.
            None => inner.of_configuration(&found)?,
        };
        let entry = Entry { id: found.id, ..entry(&record, true)? };
        self.change(&mut inner, entry, "key_revoked")?;
        Ok(inner.shown(&*known(&self.keys(), found.id)?))
    }

    /// Gives a key another secret; the old one is let in for the grace.
    ///
    /// # Errors
    /// If there is no such key, or it is not one of the ring.
    pub fn rotate(&self, old: &OldKey) -> Result<Value, String> {
        let secret = Secret::make()?;
        let mut inner = self.inner();
        let found = find(&self.keys(), &old.key)?;
        let Some((is_revoked, record)) = inner.records.get(&found.id) else {
            return Err(format!(
                "`{}` is in the configuration; make another key, and take its [[key]] away when \
                 nobody uses it any more",
                found.name
            ));
        };
        if *is_revoked {
            return Err(format!("`{}` is revoked; make another key", found.name));
        }
        let before = Before { hash: record.hash.clone(), until: unix_now() + old.grace_s };
        let record = Record {
            prefix: secret.prefix(),
            hash: hex(&secret.hash),
            before: Some(before),
            ..record.clone()
        };
        let entry = Entry { id: found.id, ..entry(&record, false)? };
        self.change(&mut inner, entry, "key_rotated")?;
        let mut told = inner.shown(&*known(&self.keys(), found.id)?);
        told["key"] = Value::from(secret.text);
        Ok(told)
    }

    /// All keys, for the operator: no secret, and no hash of one.
    pub fn page(&self) -> Value {
        let (keys, inner) = (self.keys(), self.inner());
        let all = keys.all();
        json!({ "keys": all.iter().map(|known| inner.shown(known)).collect::<Vec<_>>() })
    }

    /// Another gateway said what it has heard: it is sent what it may not have.
    pub fn compare(&self, peer: &NodeName, marks: &[u64]) {
        let Some(carrier) = self.carrier.get() else { return };
        let inner = self.inner();
        for part in inner.ring.differing(marks) {
            let entries: Vec<Entry> = inner.ring.of_part(part).cloned().collect();
            for some in entries.chunks(KEYS_MAX) {
                carrier(Some(peer), Message::Keys(some.to_vec()));
            }
        }
    }

    /// Another gateway told of keys. What is news is passed on.
    pub fn hear(&self, entries: Vec<Entry>) {
        let mut inner = self.inner();
        let news: Vec<Entry> =
            entries.into_iter().filter(|entry| inner.take(entry.clone())).collect();
        drop(inner);
        if news.is_empty() {
            return;
        }
        self.changed.notify_one();
        if let Some(carrier) = self.carrier.get() {
            carrier(None, Message::Keys(news));
        }
    }

    /// Tells other gateways every second what was heard here, one after the other, and takes what
    /// they told into the snapshot and to the disk.
    pub async fn run(&self, others: impl Fn() -> Vec<NodeName>, shutdown: CancellationToken) {
        let mut beat = tokio::time::interval(PULSE);
        let mut turn = 0;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = self.changed.notified() => self.catch_up(),
                _ = beat.tick() => {
                    let others = others();
                    for _ in 0..TOLD.min(others.len()) {
                        self.tell_marks(&others[turn % others.len()]);
                        turn += 1;
                    }
                }
            }
        }
    }

    fn tell_marks(&self, to: &NodeName) {
        let marks = self.inner().ring.marks();
        if let Some(carrier) = self.carrier.get() {
            carrier(Some(to), Message::KeyMarks(marks));
        }
    }

    fn catch_up(&self) {
        let inner = self.inner();
        self.refresh(&inner);
        if let Err(why) = self.keep(&inner) {
            tracing::warn!("keys that others told are not kept: {why}");
        }
    }

    /// Takes a change of this gateway's operator: kept, in force and passed on, or nothing.
    fn change(&self, inner: &mut Inner, mut entry: Entry, fact: &str) -> Result<(), String> {
        if self.directory.is_none() {
            let add = "this process keeps nothing that outlives it; add data_dir to [node]";
            return Err(format!("{add}, or write a [[key]] (`mainstay keys create` prints one)"));
        }
        let version = inner.ring.get(entry.id).map_or(0, |known| known.version);
        entry.version = version + 1;
        let before = inner.ring.get(entry.id).cloned();
        if !inner.take(entry.clone()) {
            return Err(String::from("there are as many keys as there may be"));
        }
        if let Err(why) = self.keep(inner) {
            inner.put_back(entry.id, before);
            return Err(format!("the key cannot be kept: {why}"));
        }
        self.refresh(inner);
        let name = inner.records.get(&entry.id).map_or("", |(_, record)| &record.name);
        tracing::info!(fact, id = format_number(entry.id), name);
        if let Some(carrier) = self.carrier.get() {
            carrier(None, Message::Keys(vec![entry]));
        }
        Ok(())
    }

    fn keep(&self, inner: &Inner) -> std::io::Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        std::fs::create_dir_all(directory)?;
        let kept: Vec<Kept> = inner.ring.entries().map(Kept::of).collect();
        replace(&directory.join(KEYRING), &serde_json::to_vec(&kept)?)
    }

    fn refresh(&self, inner: &Inner) {
        let records = inner.records.iter();
        let ring = records.map(|(id, (is_revoked, record))| (*id, *is_revoked, record));
        // So is one of which this version can read nothing.
        let is_lost = (inner.is_lost || !inner.ring.is_empty()) && inner.records.is_empty();
        let keys = Keys::new(&inner.configured, (!is_lost).then_some(ring));
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change is made whole, or undone, before the lock is let go.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take(&mut self, entry: Entry) -> bool {
        let id = entry.id;
        let is_news = self.ring.take(entry);
        if let Some(known) = self.ring.get(id).filter(|_| is_news) {
            let before = self.records.remove(&id).map(|(_, record)| record);
            if let Some(record) = Record::of(known).or(before) {
                self.records.insert(id, (known.is_revoked, record));
            }
        }
        is_news
    }

    /// A change that could not be kept is no change.
    fn put_back(&mut self, id: u64, before: Option<Entry>) {
        let others = self.ring.entries().filter(|entry| entry.id != id).cloned();
        let entries: Vec<Entry> = others.chain(before).collect();
        (self.ring, self.records) = Default::default();
        for entry in entries {
            self.take(entry);
        }
    }

    fn check(&self, name: &str, tier: &str) -> Result<(), String> {
        if name.is_empty() {
            return Err(String::from("the key has no name; --name"));
        }
        checked("name", name)?;
        let configured = self.configured.keys.iter().map(|key| key.name.as_str());
        let valid = self.records.values().filter(|(is_revoked, _)| !is_revoked);
        let mut taken = configured.chain(valid.map(|(_, record)| record.name.as_str()));
        if taken.any(|taken| taken == name) {
            return Err(format!("a key is called `{name}` already; give this one another name"));
        }
        let tiers = &self.configured.tiers;
        match tiers.iter().any(|each| each == tier) {
            true => Ok(()),
            false => Err(format!("no tier `{tier}`; there are {}", tiers.join(", "))),
        }
    }

    /// A key for the operator.
    fn shown(&self, known: &Known) -> Value {
        let mut told = serde_json::to_value(&known.terms).unwrap_or_default();
        told["id"] = json!(format_number(known.id));
        told["name"] = json!(known.name);
        told["tier"] = json!(known.tier);
        told["tenant"] = json!(known.tenant());
        told["expires"] = json!(known.terms.expires.map(format_date));
        let record = self.records.get(&known.id).map(|(_, record)| record);
        let is_over = known.terms.expires.is_some_and(|end| unix_now() >= end);
        told["state"] = json!(match (known.is_revoked, is_over) {
            (true, _) => "revoked",
            (false, true) => "expired",
            (false, false) => "valid",
        });
        let is_made_here = record.is_some_and(|record| !record.prefix.is_empty());
        told["source"] = json!(if is_made_here { "keyring" } else { "configuration" });
        if let Some(record) = record {
            told["prefix"] = json!(record.prefix);
            told["created"] = json!(format_date(record.created));
            told["author"] = json!(record.author);
            told["old_until"] = json!(record.before.as_ref().map(|old| format_date(old.until)));
        }
        told
    }

    fn of_configuration(&self, found: &Known) -> Result<Record, String> {
        let is_it = |key: &&crate::setup::Key| number(&key.hash) == found.id;
        let key = self.configured.keys.iter().find(is_it).ok_or("the key is gone")?;
        Ok(Record {
            name: found.name.clone(),
            tier: found.tier.clone(),
            hash: hex(&key.hash),
            created: unix_now(),
            terms: found.terms.clone(),
            ..Record::default()
        })
    }
}

/// An entry as it is kept: a body is JSON, and stays so.
#[derive(Serialize, Deserialize)]
struct Kept {
    id: String,
    version: u64,
    revoked: bool,
    body: String,
}

impl Kept {
    fn of(entry: &Entry) -> Kept {
        Kept {
            id: format_number(entry.id),
            version: entry.version,
            revoked: entry.is_revoked,
            body: String::from_utf8_lossy(&entry.body).into_owned(),
        }
    }

    fn entry(self) -> Option<Entry> {
        let id = u64::from_str_radix(self.id.strip_prefix("key-")?, 16).ok()?;
        let (version, is_revoked) = (self.version, self.revoked);
        Some(Entry { id, version, is_revoked, body: self.body.into_bytes() })
    }
}

fn read(directory: &Path) -> Result<Vec<Entry>, String> {
    let path = directory.join(KEYRING);
    let wrong = |what: &str| format!("{}: {what}", path.display());
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(wrong(&error.to_string())),
    };
    let kept: Vec<Kept> = serde_json::from_slice(&text).map_err(|e| wrong(&e.to_string()))?;
    let entries: Option<Vec<Entry>> = kept.into_iter().map(Kept::entry).collect();
    entries.ok_or_else(|| wrong("holds something that is no key"))
}

fn checked(what: &str, text: &str) -> Result<(), String> {
    if text.chars().count() > NAME_MAX || text.chars().any(char::is_control) {
        return Err(format!("the {what} is longer than {NAME_MAX} characters, or not one line"));
    }
    Ok(())
}

fn entry(record: &Record, is_revoked: bool) -> Result<Entry, String> {
    let body = record.body();
    if body.len() > KEY_BODY_MAX {
        return Err(String::from("the key says too much; name fewer models or networks"));
    }
    Ok(Entry { is_revoked, body, ..Entry::default() })
}

/// The key that an operator means.
fn find(keys: &Keys, meant: &str) -> Result<Arc<Known>, String> {
    let all = keys.all();
    let is_meant = |known: &&Arc<Known>| {
        let is_prefix = !known.prefix.is_empty() && known.prefix == meant;
        known.name == meant || format_number(known.id) == meant || is_prefix
    };
    let mut found: Vec<&Arc<Known>> = all.iter().filter(is_meant).collect();
    // One that was revoked does not stand in the way of another of its name.
    if found.len() > 1 && found.iter().any(|known| !known.is_revoked) {
        found.retain(|known| !known.is_revoked);
    }
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(format!("no key `{meant}`; mainstay keys list shows them")),
        several => {
            let ids: Vec<String> = several.iter().map(|known| format_number(known.id)).collect();
            Err(format!("several keys are called `{meant}`: {}; name one of these", ids.join(", ")))
        }
    }
}

fn known(keys: &Keys, id: u64) -> Result<Arc<Known>, String> {
    keys.all().into_iter().find(|known| known.id == id).ok_or_else(|| String::from("it is gone"))
}

#[cfg(test)]
mod tests;
