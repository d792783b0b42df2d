//! The thread that moves rows from the queue into SQLite, as many in a commit as have come since
//! the one before. What cannot be written stays in the queue and in the journal, and is tried
//! again.

use super::row::Entry;
use super::store::Store;
use super::{Shared, moment, now};
use mainstay_core::plan::Moment;
use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Requests in a commit, at most.
const BATCH: usize = 256;
/// Requests taken out each second for their age, at most: more than come, for long.
const FORGOTTEN: i64 = 2000;
/// A day in microseconds.
const DAY: u64 = 86_400_000_000;
/// What is written is made to outlive the machine so often, and what fails is tried again.
const TURN: Duration = Duration::from_secs(1);

/// Writes until the end.
pub(super) fn run(shared: &Shared) {
    let mut open = None;
    let mut turned = Instant::now();
    loop {
        let is_ending = shared.is_ending();
        let wrote = write(shared, &mut open);
        tell(shared, wrote.as_ref().err());
        if is_ending {
            return end(shared, open.filter(|_| wrote.is_ok()));
        }
        if wrote.is_err() {
            open = None;
            pause(shared, turned + TURN);
        }
        if turned.elapsed() >= TURN {
            turned = Instant::now();
            let turned = turn(shared, open.as_mut());
            tell(shared, turned.as_ref().err());
        }
        wait(shared, turned + TURN);
    }
}

/// The file, and the lock that says that it is ours.
struct Open {
    store: Store,
    _lock: File,
}

/// Waits for rows, but not beyond `until`.
fn wait(shared: &Shared, until: Instant) {
    let queue = shared.queue();
    if queue.len() == 0 && !shared.is_ending() {
        let left = until.saturating_duration_since(Instant::now());
        let woken = shared.wake.wait_timeout(queue, left);
        drop(woken.unwrap_or_else(PoisonError::into_inner));
    }
}

/// Waits whatever comes.
fn pause(shared: &Shared, until: Instant) {
    while !shared.is_ending() && Instant::now() < until {
        let left = until.saturating_duration_since(Instant::now());
        let woken = shared.wake.wait_timeout(shared.queue(), left);
        drop(woken.unwrap_or_else(PoisonError::into_inner));
    }
}

/// Writes all that is queued.
fn write(shared: &Shared, open: &mut Option<Open>) -> Result<(), String> {
    if open.is_none() {
        *open = Some(begin(shared)?);
    }
    let Some(Open { store, .. }) = open else { return Ok(()) };
    loop {
        let batch = shared.queue().take(BATCH);
        if batch.is_empty() {
            return Ok(());
        }
        match store.commit(&batch) {
            Ok(fresh) => shared.counts.written.fetch_add(fresh as u64, Ordering::Relaxed),
            Err(error) => {
                give_back(shared, batch);
                return Err(error.to_string());
            }
        };
    }
}

fn give_back(shared: &Shared, batch: Vec<Entry>) {
    let mut queue = shared.queue();
    let dropped = batch.into_iter().map(|entry| queue.push(entry)).sum();
    shared.counts.dropped.fetch_add(dropped, Ordering::Relaxed);
}

/// Begins another file of the journal, and deletes those whose rows are all in the database.
fn turn(shared: &Shared, open: Option<&mut Open>) -> Result<(), String> {
    let Some(open) = open else { return Ok(()) };
    shared.journal.turn();
    let mut open = Some(open);
    loop {
        let batch = shared.queue().take(BATCH);
        let Some(Open { store, .. }) = open.as_mut().filter(|_| !batch.is_empty()) else { break };
        match store.commit(&batch) {
            Ok(fresh) => shared.counts.written.fetch_add(fresh as u64, Ordering::Relaxed),
            Err(error) => {
                give_back(shared, batch);
                return Err(error.to_string());
            }
        };
    }
    if let Some(Open { store, .. }) = open {
        store.sync().map_err(|error| error.to_string())?;
        shared.journal.forget();
        forget(shared, store).map_err(|error| format!("old rows stay: {error}"))?;
    }
    Ok(())
}

/// Takes some rows out that are older than they are kept; where there is a PostgreSQL, of those
/// that it has.
fn forget(shared: &Shared, store: &mut Store) -> rusqlite::Result<()> {
    let Some(days) = shared.keeping.days else { return Ok(()) };
    let reached = match shared.keeping.postgres {
        Some(_) => shared.reached.load(Ordering::Relaxed),
        None => i64::MAX,
    };
    let before = now().saturating_sub(u64::from(days) * DAY);
    store.forget(before, (reached, FORGOTTEN)).map(|_| ())
}

fn end(shared: &Shared, open: Option<Open>) {
    // What could not be written stays in the journal, for whoever begins next.
    if let Some(Open { store, .. }) = open
        && store.sync().is_ok()
    {
        shared.journal.end();
    }
}

/// Opens the file, takes in what a process before left behind, and learns what was spent.
fn begin(shared: &Shared) -> Result<Open, String> {
    let keeping = &shared.keeping;
    if let Some(directory) = keeping.file.parent().filter(|path| !path.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory).map_err(|error| error.to_string())?;
    }
    let lock = locked(keeping.file.with_extension("lock"))?;
    let mut store = Store::open(&keeping.file, &keeping.node).map_err(|e| e.to_string())?;
    recover(shared, &mut store).map_err(|error| error.to_string())?;
    if !shared.purse.is_known() {
        let at = moment(now());
        let spent = |from: Moment| store.spent(from.0 * 1_000_000);
        let (year, month, _) = at.date();
        let first = Moment::of_date(year, month, 1).unwrap_or(at);
        let today = Moment(at.0 - at.0 % 86_400);
        let (day, month) = spent(today)
            .and_then(|day| Ok((day, spent(first)?)))
            .map_err(|error| error.to_string())?;
        shared.purse.learn(at, day, month);
    }
    Ok(Open { store, _lock: lock })
}

/// Locks the ledger: two processes that write one would take each other's requests for lost.
fn locked(path: PathBuf) -> Result<File, String> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
    file.try_lock().map_err(|_| {
        let path = path.display();
        format!("{path}: another process keeps this ledger; give each node its own")
    })?;
    Ok(file)
}

fn recover(shared: &Shared, store: &mut Store) -> rusqlite::Result<()> {
    let left = shared.journal.left();
    let lost = left.lost();
    let mut settled = 0;
    for batch in left.settled.chunks(BATCH) {
        settled += store.commit(batch)?;
    }
    let mut open = 0;
    for batch in lost.chunks(BATCH) {
        open += store.commit(batch)?;
    }
    store.sync()?;
    if settled + open > 0 {
        tracing::warn!(
            settled,
            open,
            "the process before ended without closing its ledger: {settled} requests that were \
             over come from its journal; {open} were open and are entered as lost, with their \
             prompts as cost"
        );
    }
    left.forget();
    Ok(())
}

/// Says when writing fails, and when it works again.
fn tell(shared: &Shared, error: Option<&String>) {
    let failed = shared.counts.failing.swap(error.is_some(), Ordering::Relaxed);
    match error {
        Some(error) => {
            let what = format!("rows wait in memory, and requests are served: {error}");
            shared.telemetry.alarm("ledger", &what);
        }
        None if failed => tracing::info!("the ledger is written again"),
        None => {}
    }
}
