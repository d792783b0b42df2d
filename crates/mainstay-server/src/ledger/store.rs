//! The SQLite file: its tables, and rows on their way in and out.
//!
//! One connection writes. A commit goes to the write-ahead log without waiting for the disk, so it
//! outlives this process at once; each second what is there is made to outlive the machine.

use super::row::{Attempt, Counted, Entry, Who};
use rusqlite::types::ToSql;
use rusqlite::{Connection, OpenFlags, Result, params};
use std::path::Path;
use std::time::Duration;

/// Two processes at one file wait for each other so long: `mainstay usage` beside a gateway.
const BUSY: Duration = Duration::from_secs(2);

/// The tables, in words that PostgreSQL understands as well; `seq` counts requests as they came in.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS mainstay_meta (
  key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS mainstay_request (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  node TEXT NOT NULL, id BIGINT NOT NULL, at BIGINT NOT NULL,
  key TEXT NOT NULL, tenant TEXT NOT NULL, tier TEXT NOT NULL,
  model TEXT NOT NULL, site TEXT NOT NULL, target TEXT NOT NULL, outcome TEXT NOT NULL,
  prompt BIGINT NOT NULL, cached BIGINT NOT NULL, output BIGINT NOT NULL,
  price BIGINT NOT NULL, free BIGINT NOT NULL,
  UNIQUE (node, id));
CREATE TABLE IF NOT EXISTS mainstay_attempt (
  node TEXT NOT NULL, id BIGINT NOT NULL, number INTEGER NOT NULL, at BIGINT NOT NULL,
  key TEXT NOT NULL, tenant TEXT NOT NULL, tier TEXT NOT NULL,
  model TEXT NOT NULL, site TEXT NOT NULL, target TEXT NOT NULL, outcome TEXT NOT NULL,
  prompt BIGINT NOT NULL, cached BIGINT NOT NULL, output BIGINT NOT NULL,
  estimated INTEGER NOT NULL, cost BIGINT NOT NULL,
  PRIMARY KEY (node, id, number)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS mainstay_request_at ON mainstay_request (at);
CREATE INDEX IF NOT EXISTS mainstay_attempt_at ON mainstay_attempt (at);
";

const REQUEST: &str = "
INSERT INTO mainstay_request (node, id, at, key, tenant, tier, model, site, target, outcome,
  prompt, cached, output, price, free)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT DO NOTHING";

const ATTEMPT: &str = "
INSERT INTO mainstay_attempt (node, id, number, at, key, tenant, tier, model, site, target, outcome,
  prompt, cached, output, estimated, cost)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
ON CONFLICT DO NOTHING";

/// The file, open.
pub(super) struct Store {
    connection: Connection,
    node: String,
}

impl Store {
    /// Opens the file, and makes it where it is not there.
    pub(super) fn open(file: &Path, node: &str) -> Result<Store> {
        let connection = Connection::open(file)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "normal")?;
        // Once a second is often enough, and done by us.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.execute_batch(TABLES)?;
        let store = Store { connection, node: node.into() };
        let born = format!("{:016x}", super::now() ^ u64::from(std::process::id()) << 44);
        let meta = "INSERT INTO mainstay_meta (key, value) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        store.connection.execute(meta, params!["born", born])?;
        Ok(store)
    }

    /// The same for somebody who only reads, beside whoever writes.
    pub(super) fn look(file: &Path) -> Result<Store> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(Store { connection, node: String::new() })
    }

    /// Writes the rows of `entries`, all or none. Returns how many requests were not there yet.
    pub(super) fn commit(&mut self, entries: &[Entry]) -> Result<usize> {
        let mut fresh = 0;
        let transaction = self.connection.transaction()?;
        {
            let mut request = transaction.prepare_cached(REQUEST)?;
            let mut attempt = transaction.prepare_cached(ATTEMPT)?;
            for entry in entries {
                let (who, tokens) = (&entry.who, &entry.tokens);
                let (prompt, cached, output) = counts(tokens);
                let head: [&dyn ToSql; 15] = [
                    &self.node,
                    &id(entry.id),
                    &id(entry.at),
                    &who.key,
                    &who.tenant,
                    &who.tier,
                    &entry.model,
                    &entry.site,
                    &entry.target,
                    &entry.outcome,
                    &prompt,
                    &cached,
                    &output,
                    &entry.price,
                    &entry.free,
                ];
                fresh += request.execute(&head[..])?;
                for each in &entry.attempts {
                    let (prompt, cached, output) = counts(&each.tokens);
                    let row: [&dyn ToSql; 16] = [
                        &self.node,
                        &id(entry.id),
                        &each.number,
                        &id(each.at),
                        &who.key,
                        &who.tenant,
                        &who.tier,
                        &entry.model,
                        &each.site,
                        &each.target,
                        &each.outcome,
                        &prompt,
                        &cached,
                        &output,
                        &each.estimated,
                        &each.cost,
                    ];
                    attempt.execute(&row[..])?;
                }
            }
        }
        transaction.commit()?;
        Ok(fresh)
    }

    /// What was committed so far outlives the machine from now on.
    pub(super) fn sync(&self) -> Result<()> {
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    }

    /// A number that tells this file from another that was in its place.
    pub(super) fn born(&self) -> Result<String> {
        let meta = "SELECT value FROM mainstay_meta WHERE key = 'born'";
        self.connection.query_row(meta, [], |row| row.get(0))
    }

    /// Up to `most` requests behind `seq`, as they came in, with their attempts.
    pub(super) fn after(&self, seq: i64, most: i64) -> Result<Vec<(i64, String, Entry)>> {
        let sql = "SELECT seq, node, id, at, key, tenant, tier, model, site, target, outcome,
            prompt, cached, output, price, free
            FROM mainstay_request WHERE seq > $1 ORDER BY seq LIMIT $2";
        let mut found = self.connection.prepare_cached(sql)?;
        let rows = found.query_map([seq, most], |row| {
            let text = |at: usize| row.get::<_, String>(at);
            let who = Who { key: text(4)?, tenant: text(5)?, tier: text(6)?, rank: 0 };
            let entry = Entry {
                id: word(row.get(2)?),
                at: word(row.get(3)?),
                who,
                model: text(7)?,
                site: text(8)?,
                target: text(9)?,
                outcome: text(10)?,
                tokens: counted(row.get(11)?, row.get(12)?, row.get(13)?),
                price: row.get(14)?,
                free: row.get(15)?,
                attempts: Vec::new(),
            };
            Ok((row.get(0)?, text(1)?, entry))
        })?;
        let mut rows: Vec<(i64, String, Entry)> = rows.collect::<Result<_>>()?;
        for (_, node, entry) in &mut rows {
            entry.attempts = self.attempts(node, entry.id)?;
        }
        Ok(rows)
    }

    fn attempts(&self, node: &str, request: u64) -> Result<Vec<Attempt>> {
        let sql =
            "SELECT number, at, site, target, outcome, prompt, cached, output, estimated, cost
            FROM mainstay_attempt WHERE node = $1 AND id = $2 ORDER BY number";
        let mut found = self.connection.prepare_cached(sql)?;
        let rows = found.query_map(params![node, id(request)], |row| {
            Ok(Attempt {
                number: row.get(0)?,
                at: word(row.get(1)?),
                site: row.get(2)?,
                target: row.get(3)?,
                outcome: row.get(4)?,
                tokens: counted(row.get(5)?, row.get(6)?, row.get(7)?),
                estimated: row.get(8)?,
                cost: row.get(9)?,
            })
        })?;
        rows.collect()
    }

    /// How many requests are behind `seq`, and when the first of them was over.
    pub(super) fn behind(&self, seq: i64) -> Result<(u64, Option<u64>)> {
        let sql = "SELECT COALESCE(MAX(seq), 0) FROM mainstay_request";
        let last: i64 = self.connection.query_row(sql, [], |row| row.get(0))?;
        let sql = "SELECT MIN(at) FROM (SELECT at FROM mainstay_request WHERE seq > $1
            ORDER BY seq LIMIT 1)";
        let first: Option<i64> = self.connection.query_row(sql, [seq], |row| row.get(0))?;
        // The last ones may be gone by their age.
        Ok((word((last - seq).max(0)), first.map(word)))
    }

    /// Takes out up to `most` requests that were over before `before`, the oldest first, with their
    /// attempts; none behind `seq`. Returns how many.
    pub(super) fn forget(&mut self, before: u64, (seq, most): (i64, i64)) -> Result<usize> {
        let old = "SELECT seq FROM mainstay_request WHERE at < $1 AND seq <= $2
            ORDER BY at LIMIT $3";
        let transaction = self.connection.transaction()?;
        let attempts = format!(
            "DELETE FROM mainstay_attempt WHERE (node, id) IN
             (SELECT node, id FROM mainstay_request WHERE seq IN ({old}))"
        );
        transaction.prepare_cached(&attempts)?.execute(params![id(before), seq, most])?;
        let requests = format!("DELETE FROM mainstay_request WHERE seq IN ({old})");
        let gone =
            transaction.prepare_cached(&requests)?.execute(params![id(before), seq, most])?;
        transaction.commit()?;
        Ok(gone)
    }

    /// What was to be paid and what was free from `from` on (microseconds since 1970), for each
    /// tenant and key.
    pub(super) fn spent(&self, from: u64) -> Result<Vec<(String, String, i64, i64)>> {
        let sql = "SELECT tenant, key, SUM(price), SUM(free) FROM mainstay_request
            WHERE at >= $1 GROUP BY tenant, key";
        let mut found = self.connection.prepare(sql)?;
        let rows = found.query_map([id(from)], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
        rows.collect()
    }

    /// Sums, as `sql` has them: a name and numbers in each row.
    pub(super) fn sums(&self, sql: &str, (from, to): (i64, i64)) -> Result<Vec<Sums>> {
        let mut found = self.connection.prepare(sql)?;
        let columns = found.column_count();
        let rows = found.query_map([from, to], |row| {
            let numbers = (1..columns).map(|at| row.get(at)).collect::<Result<_>>()?;
            Ok((row.get(0)?, numbers))
        })?;
        rows.collect()
    }
}

/// A name, and numbers.
pub(super) type Sums = (String, Vec<i64>);

/// A number of 64 bits as databases keep it.
pub(super) fn id(id: u64) -> i64 {
    i64::from_ne_bytes(id.to_ne_bytes())
}

fn word(id: i64) -> u64 {
    u64::from_ne_bytes(id.to_ne_bytes())
}

pub(super) fn counts(tokens: &Counted) -> (i64, i64, i64) {
    let most = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    (most(tokens.prompt), most(tokens.cached), most(tokens.output))
}

fn counted(prompt: i64, cached: i64, output: i64) -> Counted {
    let least = |count: i64| u64::try_from(count).unwrap_or(0);
    Counted { prompt: least(prompt), cached: least(cached), output: least(output) }
}
