//! The thread that takes rows on from this node's file to PostgreSQL, in order. How far it is, the
//! PostgreSQL itself knows; so nothing is lost or put there twice whoever ends in between. While it
//! is gone rows wait in the file.

use super::postgres::Postgres;
use super::store::Store;
use super::{Shared, now};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Requests in a transaction, at most.
const BATCH: i64 = 512;
/// The file is looked at so often when everything in it is there.
const LOOK: Duration = Duration::from_millis(100);
/// One that is gone is tried again so often.
const AGAIN: Duration = Duration::from_secs(1);

/// Takes rows over until the end.
pub(super) fn run(shared: &Shared) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else {
        return shared.telemetry.alarm("ledger", "no thread for PostgreSQL: rows wait on disk");
    };
    runtime.block_on(async {
        let mut was_gone = false;
        while !shared.is_ending() {
            let Err(error) = flow(shared, &mut was_gone).await else { break };
            was_gone = true;
            shared.telemetry.alarm("ledger postgres", &format!("rows wait on disk: {error}"));
            count(shared);
            tokio::time::sleep(AGAIN).await;
        }
    });
}

/// Takes rows over until the end, or until something fails.
async fn flow(shared: &Shared, was_gone: &mut bool) -> Result<(), String> {
    let said = |error: rusqlite::Error| format!("the ledger's own file: {error}");
    let keeping = &shared.keeping;
    let Some(url) = &keeping.postgres else { return Ok(()) };
    let store = Store::look(&keeping.file).map_err(said)?;
    let born = store.born().map_err(said)?;
    let mut postgres = Postgres::connect(url).await?;
    let mut reached = postgres.reached((&keeping.node, &born)).await?;
    if std::mem::take(was_gone) {
        tracing::info!("the ledger's PostgreSQL is there again");
    }
    loop {
        let rows = store.after(reached, BATCH).map_err(said)?;
        match rows.last() {
            Some((last, ..)) => {
                postgres.put(&born, &rows).await?;
                reached = *last;
            }
            None if shared.is_ending() => return Ok(()),
            None => tokio::time::sleep(LOOK).await,
        }
        shared.reached.store(reached, Ordering::Relaxed);
        tell(shared, &store, reached).map_err(said)?;
    }
}

/// Counts what waits, with nobody to take it.
fn count(shared: &Shared) {
    if let Ok(store) = Store::look(&shared.keeping.file) {
        let _ = tell(shared, &store, shared.reached.load(Ordering::Relaxed));
    }
}

fn tell(shared: &Shared, store: &Store, reached: i64) -> rusqlite::Result<()> {
    let (rows, first) = store.behind(reached)?;
    let age = first.map_or(0, |first| now().saturating_sub(first) / 1_000_000);
    shared.counts.unsynced.store(rows, Ordering::Relaxed);
    shared.counts.oldest.store(age, Ordering::Relaxed);
    Ok(())
}
