//! What outlives this process until it is in the database: each attempt that begins and each
//! request that is over, a line for each, written by the request's own task.
//!
//! The lines go to files in the system's shared memory. Writing there is a copy: it waits for no
//! disk, costs a few microseconds, and what is written stays when this process is killed. It does
//! not outlive the machine; nor does the last second of a database on a disk. Where there is no
//! shared memory there is no journal, and the rows of the last moments go with the process.
//!
//! A file is begun each second. One that is full of rows which the database has is deleted.

use super::row::{Entry, Opening};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// The system's memory, as files.
const MEMORY: &str = "/dev/shm";
/// How the names of journals begin there.
const STEM: &str = "mainstay-ledger-";
/// A journal of a directory that is not there is kept for so long: a week.
const FORGOTTEN: Duration = Duration::from_secs(7 * 86_400);
/// All of a journal may take so much of it: containers have 64 MiB unless told.
const BYTES_MAX: u64 = 16 << 20;

/// The journal of one ledger.
pub(super) struct Journal {
    /// What its files are called, before their numbers.
    stem: PathBuf,
    /// Whose journal it is: the database.
    of: PathBuf,
    /// The file that is written. Held for reading from a line until its row is queued: so a file
    /// that has been followed by another holds no line whose row is still to be queued.
    current: RwLock<Option<Segment>>,
    /// Files that were written, until the database has what is in them, with what they take.
    before: Mutex<Vec<(PathBuf, u64)>>,
    /// Attempts under way, by request and number.
    open: Mutex<BTreeMap<(u64, u8), Opening>>,
    number: AtomicU64,
    /// Bytes of those before.
    bytes: AtomicU64,
}

struct Segment {
    path: PathBuf,
    file: File,
    bytes: AtomicU64,
}

/// One line.
#[derive(Serialize, Deserialize)]
enum Line<'a> {
    /// The first: which database it is for.
    Of(PathBuf),
    Opened(std::borrow::Cow<'a, Opening>),
    Settled(std::borrow::Cow<'a, Entry>),
}

/// What a process that ended left behind.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Requests that were over.
    pub(super) settled: Vec<Entry>,
    /// Attempts that were under way.
    pub(super) open: Vec<Opening>,
    files: Vec<PathBuf>,
}

impl Journal {
    /// The journal of the ledger in `file`.
    pub(super) fn new(file: &Path) -> Journal {
        let whole = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
        let hash = Sha256::digest(whole.as_os_str().as_encoded_bytes());
        let name: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let stem = Path::new(MEMORY).join(format!("{STEM}{name}"));
        let journal = Journal {
            stem,
            of: whole,
            current: RwLock::default(),
            before: Mutex::default(),
            open: Mutex::default(),
            number: AtomicU64::new(super::now()),
            bytes: AtomicU64::new(0),
        };
        sweep();
        journal.turn();
        journal
    }

    /// Whether lines can be written at all.
    pub(super) fn is_there(&self) -> bool {
        self.current.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// An attempt begins. Returns whether it is written.
    pub(super) fn opened(&self, opening: &Opening) -> bool {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        self.open().insert((opening.id, opening.attempt.number), opening.clone());
        let line = Line::Opened(std::borrow::Cow::Borrowed(opening));
        current.as_ref().is_some_and(|segment| self.write(segment, &line))
    }

    /// A request is over; `queue` queues its row. Returns whether it is written.
    pub(super) fn settled(&self, entry: &Entry, queue: impl FnOnce()) -> bool {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let line = Line::Settled(std::borrow::Cow::Borrowed(entry));
        let is_written = current.as_ref().is_some_and(|segment| self.write(segment, &line));
        queue();
        let mut open = self.open();
        entry.attempts.iter().for_each(|attempt| drop(open.remove(&(entry.id, attempt.number))));
        is_written
    }

    fn write(&self, segment: &Segment, line: &Line<'_>) -> bool {
        let Ok(mut text) = serde_json::to_vec(line) else { return false };
        text.push(b'\n');
        let size = text.len() as u64;
        let taken = segment.bytes.load(Ordering::Relaxed) + self.bytes.load(Ordering::Relaxed);
        if taken + size > BYTES_MAX {
            return false;
        }
        segment.bytes.fetch_add(size, Ordering::Relaxed);
        // One call: lines of several tasks do not mix.
        matches!((&segment.file).write(&text), Ok(written) if written == text.len())
    }

    /// Begins another file, with the attempts under way. What was queued until now can be forgotten
    /// by [`Journal::forget`] once the database has it.
    pub(super) fn turn(&self) {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        let path = PathBuf::from(format!("{}.{number:020}", self.stem.display()));
        let mut options = OpenOptions::new();
        // Never one that somebody else put there.
        let made = options.create_new(true).append(true).mode(0o600).open(&path);
        let Ok(file) = made else { return };
        let fresh = Segment { path, file, bytes: AtomicU64::new(0) };
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        self.write(&fresh, &Line::Of(self.of.clone()));
        for opening in self.open().values() {
            self.write(&fresh, &Line::Opened(std::borrow::Cow::Borrowed(opening)));
        }
        if let Some(old) = current.replace(fresh) {
            let bytes = old.bytes.into_inner();
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.before().push((old.path, bytes));
        }
    }

    /// The database has all that was queued before the last turn.
    pub(super) fn forget(&self) {
        for (path, bytes) in self.before().drain(..) {
            let _ = std::fs::remove_file(path);
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// The database has all of it, and nothing more comes.
    pub(super) fn end(&self) {
        let current = self.current.write().unwrap_or_else(PoisonError::into_inner).take();
        self.forget();
        if let Some(segment) = current {
            let _ = std::fs::remove_file(segment.path);
        }
    }

    /// What others left behind who kept this ledger before us.
    pub(super) fn left(&self) -> Left {
        let mut left = Left::default();
        let mine = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let before: Vec<PathBuf> = self.before().iter().map(|(path, _)| path.clone()).collect();
        let current = mine.as_ref().map(|segment| segment.path.clone());
        let mine: Vec<PathBuf> = before.into_iter().chain(current).collect();
        left.files = files(&self.stem).into_iter().filter(|path| !mine.contains(path)).collect();
        let mut open = BTreeMap::new();
        let mut over = std::collections::BTreeSet::new();
        for path in &left.files {
            let Ok(text) = std::fs::read(path) else { continue };
            // The last line may be half a one.
            for line in text.split(|byte| *byte == b'\n') {
                match serde_json::from_slice(line) {
                    Ok(Line::Opened(opening)) => {
                        let opening = opening.into_owned();
                        open.insert((opening.id, opening.attempt.number), opening);
                    }
                    Ok(Line::Settled(entry)) => {
                        over.insert(entry.id);
                        left.settled.push(entry.into_owned());
                    }
                    Ok(Line::Of(_)) | Err(_) => {}
                }
            }
        }
        let still = open.into_values().filter(|opening| !over.contains(&opening.id));
        left.open = still.collect();
        left
    }

    fn before(&self) -> MutexGuard<'_, Vec<(PathBuf, u64)>> {
        self.before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<(u64, u8), Opening>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Left {
    /// The database has it.
    pub(super) fn forget(self) {
        for path in self.files {
            let _ = std::fs::remove_file(path);
        }
    }

    /// The requests that were under way, each with its attempts.
    pub(super) fn lost(&self) -> Vec<Entry> {
        let mut lost: BTreeMap<u64, Entry> = BTreeMap::new();
        for opening in &self.open {
            let entry = opening.clone().lost();
            match lost.get_mut(&opening.id) {
                Some(known) => known.attempts.extend(entry.attempts),
                None => drop(lost.insert(opening.id, entry)),
            }
        }
        lost.into_values().collect()
    }
}

/// Deletes journals whose databases are gone, with the directories that they were in, for so long
/// that nobody will ever ask for them: a disk may be mounted later than this begins.
fn sweep() {
    for path in files(&Path::new(MEMORY).join(STEM)) {
        let Ok(file) = File::open(&path) else { continue };
        let written = file.metadata().and_then(|about| about.modified());
        let age = written.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
        if age < FORGOTTEN {
            continue;
        }
        let mut first = String::new();
        let read = BufReader::new(file.take(64 << 10)).read_line(&mut first);
        let of = read.ok().and_then(|_| serde_json::from_str(&first).ok());
        if let Some(Line::Of(of)) = of
            && of.parent().is_some_and(|directory| !directory.exists())
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The files that begin so and are ours, in order.
fn files(stem: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (stem.parent(), stem.file_name()) else {
        return Vec::new();
    };
    let begins = name.to_string_lossy();
    let owner = rustix::process::geteuid().as_raw();
    let is_ours = |path: &PathBuf| {
        let about = std::fs::symlink_metadata(path);
        about.is_ok_and(|about| about.is_file() && about.uid() == owner)
    };
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&*begins));
    let mut found: Vec<PathBuf> = named.map(|entry| entry.path()).filter(is_ours).collect();
    found.sort();
    found
}
