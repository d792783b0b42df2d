//! Generations on this node's disk: which one runs, what proved itself, what is in quarantine, and
//! the contents of all of them. A process that starts needs nothing else.

use super::kept::{Hash, Kept, hash};
use crate::replace::replace;
use bytes::Bytes;
use mainstay_core::policy::Snapshot;
use mainstay_core::policy::disk::{Crash, Disk};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// In the node's directory: a directory with the state and a file for each content.
const FOLDER: &str = "policy";
const STATE: &str = "state.json";
const CONTENT: &str = "toml";

/// Generations, on disk if there is a directory.
#[derive(Debug, Default)]
pub struct Journal {
    directory: Option<PathBuf>,
    contents: BTreeMap<u64, Bytes>,
}

#[derive(Serialize, Deserialize)]
struct State {
    at: u64,
    current: Option<Kept>,
    is_running: bool,
    good: Vec<Kept>,
    quarantine: Vec<Hash>,
    crashes: Vec<Crashed>,
}

#[derive(Serialize, Deserialize)]
struct Crashed {
    content: Hash,
    ago_ms: u64,
}

impl Journal {
    /// A journal below `directory`, or in memory alone.
    ///
    /// # Errors
    /// If the directory cannot be used.
    pub fn open(directory: Option<&Path>) -> Result<Journal, String> {
        let Some(directory) = directory else { return Ok(Journal::default()) };
        let directory = directory.join(FOLDER);
        fs::create_dir_all(&directory)
            .map_err(|error| format!("cannot use {}: {error}", directory.display()))?;
        Ok(Journal { directory: Some(directory), contents: BTreeMap::new() })
    }

    /// What was written last, without orders, and how long ago. What cannot be read is told, put
    /// aside and taken for nothing: a start that fails helps nobody, and the source knows the rest.
    pub fn read(&mut self) -> (Disk, Duration) {
        let Some(directory) = self.directory.clone() else { return Default::default() };
        let path = directory.join(STATE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Default::default(),
            Err(error) => {
                tracing::error!("cannot read {}: {error}", path.display());
                return Default::default();
            }
        };
        let state: State = match serde_json::from_slice(&text) {
            Ok(state) => state,
            Err(error) => {
                tracing::error!("{} is spoilt and put aside: {error}", path.display());
                let _ = fs::rename(&path, path.with_extension("spoilt"));
                return Default::default();
            }
        };
        let at = UNIX_EPOCH + Duration::from_secs(state.at);
        // A clock that went back says nothing: then no time has passed.
        let ago = SystemTime::now().duration_since(at).unwrap_or_default();
        let crashes = state.crashes.iter().map(|crash| Crash {
            content: crash.content.0,
            ago: Duration::from_millis(crash.ago_ms),
        });
        let disk = Disk {
            current: state.current.map(Snapshot::from),
            is_running: state.is_running,
            good: state.good.into_iter().map(Snapshot::from).collect(),
            quarantine: state.quarantine.into_iter().map(|hash| hash.0).collect(),
            crashes: crashes.collect(),
            orders: Vec::new(),
        };
        (disk, ago)
    }

    /// Writes `disk` down: contents first, so that nothing names one that is not there.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&mut self, disk: &Disk) -> std::io::Result<()> {
        let Some(directory) = self.directory.clone() else { return Ok(()) };
        for snapshot in published(disk) {
            let path = content_path(&directory, snapshot.content);
            if let Some(content) = self.contents.get(&snapshot.content).filter(|_| !path.exists()) {
                replace(&path, content)?;
            }
        }
        let crashes = disk.crashes.iter().map(|crash| Crashed {
            content: Hash(crash.content),
            ago_ms: u64::try_from(crash.ago.as_millis()).unwrap_or(u64::MAX),
        });
        let state = State {
            at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            current: disk.current.as_ref().map(Kept::from),
            is_running: disk.is_running,
            good: disk.good.iter().map(Kept::from).collect(),
            quarantine: disk.quarantine.iter().copied().map(Hash).collect(),
            crashes: crashes.collect(),
        };
        replace(&directory.join(STATE), &serde_json::to_vec(&state)?)?;
        self.clear(&directory, disk);
        Ok(())
    }

    /// Keeps a content in memory until it is written down or forgotten.
    pub fn offer(&mut self, content: Bytes) {
        self.contents.insert(hash(&content), content);
    }

    /// The content of this hash, if it is there and whole.
    pub fn content(&mut self, wanted: u64) -> Option<Bytes> {
        if let Some(content) = self.contents.get(&wanted) {
            return Some(content.clone());
        }
        let content = fs::read(content_path(self.directory.as_ref()?, wanted)).ok()?;
        (hash(&content) == wanted).then(|| Bytes::from(content))
    }

    /// Forgets contents in memory but these; those on disk stay as long as the state names them.
    pub fn retain(&mut self, is_needed: impl Fn(u64) -> bool) {
        self.contents.retain(|content, _| is_needed(*content));
    }

    /// Takes contents away that nothing names. Those that cannot be stay, and harm nobody.
    fn clear(&self, directory: &Path, disk: &Disk) {
        let named: Vec<PathBuf> =
            published(disk).map(|each| content_path(directory, each.content)).collect();
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_content = path.extension().is_some_and(|extension| extension == CONTENT);
            if is_content && !named.contains(&path) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// The generations of `disk` whose content came from the source.
fn published(disk: &Disk) -> impl Iterator<Item = &Snapshot> {
    disk.current.iter().chain(&disk.good).filter(|snapshot| snapshot.generation > 0)
}

fn content_path(directory: &Path, content: u64) -> PathBuf {
    directory.join(format!("{}.{CONTENT}", Hash(content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(generation: u64, content: &[u8]) -> Snapshot {
        let bytes = content.len() as u64;
        Snapshot { generation, content: hash(content), bytes, ..Snapshot::default() }
    }

    #[test]
    fn what_is_written_is_there_for_the_next_process_with_its_contents() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(Some(directory.path())).unwrap();
        let [old, new] = [b"old".as_slice(), b"new"];
        journal.offer(Bytes::from_static(b"old"));
        journal.offer(Bytes::from_static(b"new"));
        let disk = Disk {
            current: Some(snapshot(2, new)),
            is_running: true,
            good: vec![snapshot(1, old)],
            quarantine: vec![u64::MAX],
            crashes: vec![Crash { content: 5, ago: Duration::from_secs(3) }],
            orders: Vec::new(),
        };
        journal.write(&disk).unwrap();
        let mut next = Journal::open(Some(directory.path())).unwrap();
        assert_eq!(next.read().0, disk);
        assert_eq!(next.content(hash(old)).unwrap(), old);
        assert_eq!(next.content(hash(new)).unwrap(), new);
        next.write(&Disk { good: Vec::new(), ..disk }).unwrap();
        assert_eq!(next.content(hash(old)), None, "nothing names it any more");
    }

    #[test]
    fn a_content_that_the_disk_has_spoilt_is_not_run() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(Some(directory.path())).unwrap();
        journal.offer(Bytes::from_static(b"whole"));
        let current = Some(snapshot(1, b"whole"));
        journal.write(&Disk { current, ..Disk::default() }).unwrap();
        let path = directory.path().join(FOLDER);
        fs::write(content_path(&path, hash(b"whole")), "hal").unwrap();
        let mut next = Journal::open(Some(directory.path())).unwrap();
        assert_eq!(next.content(hash(b"whole")), None);
        fs::write(path.join(STATE), "{").unwrap();
        assert_eq!(next.read().0, Disk::default());
        assert!(path.join("state.spoilt").exists());
    }
}
