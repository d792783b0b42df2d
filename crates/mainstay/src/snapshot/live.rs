//! A running page, asked as any reader asks it.

use bytes::Bytes;
use http::{Method, StatusCode};
use mainstay_server::upstream::{Origin, OriginOptions, Outbound};
use std::time::Duration;

/// A page is small and near a cache; whoever waits longer waits for nothing.
const PATIENCE: Duration = Duration::from_secs(20);
/// Far more than any page has.
const PAGE_MAX: usize = 8 << 20;

/// A page at an address.
pub(super) struct Page {
    runtime: tokio::runtime::Runtime,
    origin: Origin,
    base: String,
}

impl Page {
    /// The page whose paths are below this URL.
    pub(super) fn of(base: &str) -> Result<Page, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let told = |why: String| format!("{base}: {why}; write it like https://status.example.com");
        // An origin watches over its connections from the runtime that it is made in.
        let origin = runtime.block_on(async { Origin::new(base, OriginOptions::default()) });
        Ok(Page { origin: origin.map_err(told)?, runtime, base: base.to_owned() })
    }

    /// What it answers; none if it has no such page.
    pub(super) fn ask(&self, path: &str) -> Result<Option<String>, String> {
        let answer =
            self.runtime.block_on(async { tokio::time::timeout(PATIENCE, self.read(path)).await });
        let answer = answer.unwrap_or_else(|_| Err(String::from("no answer in time")));
        answer.map_err(|why| format!("{}{path}: {why}", self.base))
    }

    async fn read(&self, path: &str) -> Result<Option<String>, String> {
        let (method, headers, body) = (Method::GET, Vec::new(), Bytes::new());
        let outbound = Outbound { path, method, headers, body };
        let mut reply = self.origin.send(outbound).await.map_err(|error| error.failure.message)?;
        match reply.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => return Err(format!("it answers {}", status.as_u16())),
        }
        let mut read = Vec::new();
        while let Some(piece) = reply.body.next().await {
            read.extend_from_slice(&piece.map_err(|error| error.failure.message)?);
            if read.len() > PAGE_MAX {
                return Err(String::from("it is longer than any page"));
            }
        }
        Ok(Some(String::from_utf8_lossy(&read).into_owned()))
    }
}
