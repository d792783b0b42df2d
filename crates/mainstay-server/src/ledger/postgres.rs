//! The ledger in PostgreSQL, where operators of several nodes have one: the same rows, put there
//! again and again until they are there, and never twice.

use super::row::Entry;
use super::secure::Secure;
use super::store::{Sums, counts, id};
use crate::setup::Secret;
use crate::upstream::tls;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls};

/// A database that is asked longer than this is not there.
const LIMIT: Duration = Duration::from_secs(10);

/// The tables. `born` and `seq` say how far a node's own file has been taken over.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS mainstay_request (
  node TEXT NOT NULL, id BIGINT NOT NULL, at BIGINT NOT NULL,
  key TEXT NOT NULL, tenant TEXT NOT NULL, tier TEXT NOT NULL,
  model TEXT NOT NULL, site TEXT NOT NULL, target TEXT NOT NULL, outcome TEXT NOT NULL,
  prompt BIGINT NOT NULL, cached BIGINT NOT NULL, output BIGINT NOT NULL,
  price BIGINT NOT NULL, free BIGINT NOT NULL,
  born TEXT NOT NULL, seq BIGINT NOT NULL,
  PRIMARY KEY (node, id));
CREATE TABLE IF NOT EXISTS mainstay_attempt (
  node TEXT NOT NULL, id BIGINT NOT NULL, number INTEGER NOT NULL, at BIGINT NOT NULL,
  key TEXT NOT NULL, tenant TEXT NOT NULL, tier TEXT NOT NULL,
  model TEXT NOT NULL, site TEXT NOT NULL, target TEXT NOT NULL, outcome TEXT NOT NULL,
  prompt BIGINT NOT NULL, cached BIGINT NOT NULL, output BIGINT NOT NULL,
  estimated INTEGER NOT NULL, cost BIGINT NOT NULL,
  PRIMARY KEY (node, id, number));
CREATE INDEX IF NOT EXISTS mainstay_request_at ON mainstay_request (at);
CREATE INDEX IF NOT EXISTS mainstay_request_seq ON mainstay_request (node, born, seq);
CREATE INDEX IF NOT EXISTS mainstay_attempt_at ON mainstay_attempt (at);
";

const REQUESTS: &str = "
INSERT INTO mainstay_request (node, id, at, key, tenant, tier, model, site, target, outcome,
  prompt, cached, output, price, free, born, seq)
SELECT * FROM UNNEST($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[],
  $7::text[], $8::text[], $9::text[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[],
  $14::bigint[], $15::bigint[], $16::text[], $17::bigint[])
ON CONFLICT DO NOTHING";

const ATTEMPTS: &str = "
INSERT INTO mainstay_attempt (node, id, number, at, key, tenant, tier, model, site, target, outcome,
  prompt, cached, output, estimated, cost)
SELECT * FROM UNNEST($1::text[], $2::bigint[], $3::int[], $4::bigint[], $5::text[], $6::text[],
  $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::bigint[], $13::bigint[],
  $14::bigint[], $15::int[], $16::bigint[])
ON CONFLICT DO NOTHING";

/// A connection.
pub(super) struct Postgres {
    client: Client,
    /// Reads what the server says.
    talk: JoinHandle<()>,
}

impl Postgres {
    /// Connects, and makes the tables where they are not there.
    pub(super) async fn connect(url: &Secret) -> Result<Postgres, String> {
        let config: Config = url.reveal().parse().map_err(|_| String::from("no such URL"))?;
        // Whoever asks next hears of a connection's end.
        let (client, talk) = match config.get_ssl_mode() {
            SslMode::Require => {
                let secure = Secure(tls::plain_config()?);
                let connecting = async { config.connect(secure).await.map_err(told) };
                let (client, connection) = within(connecting).await?;
                (client, tokio::spawn(async move { drop(connection.await) }))
            }
            _ => {
                let connecting = async { config.connect(NoTls).await.map_err(told) };
                let (client, connection) = within(connecting).await?;
                (client, tokio::spawn(async move { drop(connection.await) }))
            }
        };
        let postgres = Postgres { client, talk };
        within(async {
            match postgres.client.batch_execute(TABLES).await {
                // Two nodes that begin at once; or somebody who may read and not make.
                Err(error) if is_harmless(&error) => Ok(()),
                made => made.map_err(told),
            }
        })
        .await?;
        Ok(postgres)
    }

    /// How far the file of this node has been taken over.
    pub(super) async fn reached(&self, (node, born): (&str, &str)) -> Result<i64, String> {
        let sql = "SELECT COALESCE(MAX(seq), 0) FROM mainstay_request
            WHERE node = $1 AND born = $2";
        let asked = async { self.client.query_one(sql, &[&node, &born]).await.map_err(told) };
        within(asked).await.map(|row| row.get(0))
    }

    /// Puts rows there, all or none.
    pub(super) async fn put(
        &mut self,
        born: &str,
        rows: &[(i64, String, Entry)],
    ) -> Result<(), String> {
        within(async {
            let transaction = self.client.transaction().await.map_err(told)?;
            let text = |of: &dyn Fn(&(i64, String, Entry)) -> String| {
                rows.iter().map(of).collect::<Vec<String>>()
            };
            let number = |of: &dyn Fn(&(i64, String, Entry)) -> i64| {
                rows.iter().map(of).collect::<Vec<i64>>()
            };
            let columns: [Box<dyn ToSql + Sync + Send>; 17] = [
                Box::new(text(&|(_, node, _)| node.clone())),
                Box::new(number(&|(.., each)| id(each.id))),
                Box::new(number(&|(.., each)| id(each.at))),
                Box::new(text(&|(.., each)| each.who.key.clone())),
                Box::new(text(&|(.., each)| each.who.tenant.clone())),
                Box::new(text(&|(.., each)| each.who.tier.clone())),
                Box::new(text(&|(.., each)| each.model.clone())),
                Box::new(text(&|(.., each)| each.site.clone())),
                Box::new(text(&|(.., each)| each.target.clone())),
                Box::new(text(&|(.., each)| each.outcome.clone())),
                Box::new(number(&|(.., each)| counts(&each.tokens).0)),
                Box::new(number(&|(.., each)| counts(&each.tokens).1)),
                Box::new(number(&|(.., each)| counts(&each.tokens).2)),
                Box::new(number(&|(.., each)| each.price)),
                Box::new(number(&|(.., each)| each.free)),
                Box::new(text(&|_| born.to_string())),
                Box::new(number(&|(seq, ..)| *seq)),
            ];
            let columns = columns.each_ref().map(|column| &**column as &(dyn ToSql + Sync));
            // Attempts first: a request that is there has them.
            let attempts = attempts(rows);
            let attempts = attempts.each_ref().map(|column| &**column as &(dyn ToSql + Sync));
            transaction.execute(ATTEMPTS, &attempts).await.map_err(told)?;
            transaction.execute(REQUESTS, &columns).await.map_err(told)?;
            transaction.commit().await.map_err(told)
        })
        .await
    }

    /// Sums, as `sql` has them: a name and numbers in each row.
    pub(super) async fn sums(&self, sql: &str, range: (i64, i64)) -> Result<Vec<Sums>, String> {
        let asked = async { self.client.query(sql, &[&range.0, &range.1]).await.map_err(told) };
        let rows = within(asked).await?;
        let read = |row: &tokio_postgres::Row| {
            (row.get(0), (1..row.len()).map(|at| row.get(at)).collect())
        };
        Ok(rows.iter().map(read).collect())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.talk.abort();
    }
}

fn attempts(rows: &[(i64, String, Entry)]) -> [Box<dyn ToSql + Sync + Send>; 16] {
    let all = || {
        rows.iter().flat_map(|(_, node, entry)| {
            entry.attempts.iter().map(move |attempt| (node, entry, attempt))
        })
    };
    type Row<'a> = (&'a String, &'a Entry, &'a super::row::Attempt);
    let text = |of: &dyn Fn(Row<'_>) -> String| all().map(of).collect::<Vec<String>>();
    let number = |of: &dyn Fn(Row<'_>) -> i64| all().map(of).collect::<Vec<i64>>();
    let small = |of: &dyn Fn(Row<'_>) -> i32| all().map(of).collect::<Vec<i32>>();
    [
        Box::new(text(&|(node, ..)| node.clone())),
        Box::new(number(&|(_, entry, _)| id(entry.id))),
        Box::new(small(&|(.., each)| i32::from(each.number))),
        Box::new(number(&|(.., each)| id(each.at))),
        Box::new(text(&|(_, entry, _)| entry.who.key.clone())),
        Box::new(text(&|(_, entry, _)| entry.who.tenant.clone())),
        Box::new(text(&|(_, entry, _)| entry.who.tier.clone())),
        Box::new(text(&|(_, entry, _)| entry.model.clone())),
        Box::new(text(&|(.., each)| each.site.clone())),
        Box::new(text(&|(.., each)| each.target.clone())),
        Box::new(text(&|(.., each)| each.outcome.clone())),
        Box::new(number(&|(.., each)| counts(&each.tokens).0)),
        Box::new(number(&|(.., each)| counts(&each.tokens).1)),
        Box::new(number(&|(.., each)| counts(&each.tokens).2)),
        Box::new(small(&|(.., each)| i32::from(each.estimated))),
        Box::new(number(&|(.., each)| each.cost)),
    ]
}

fn is_harmless(error: &tokio_postgres::Error) -> bool {
    let codes =
        [SqlState::UNIQUE_VIOLATION, SqlState::DUPLICATE_TABLE, SqlState::INSUFFICIENT_PRIVILEGE];
    error.code().is_some_and(|code| codes.contains(code))
}

/// What went wrong, without the URL, which holds a password.
fn told(error: tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => said.message().to_string(),
        None => match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

async fn within<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = || format!("no answer within {} s", LIMIT.as_secs());
    tokio::time::timeout(LIMIT, work).await.unwrap_or_else(|_| Err(late()))
}
