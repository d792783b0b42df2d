//! Asks a site which models it has, once it said that one of ours is not there (F55), so that the
//! operator reads the nearest name instead of searching for it.
//!
//! In the background: no request waits for it, and no decision follows from it.

use super::{Account, head};
use crate::drive::Drive;
use crate::upstream::Outbound;
use bytes::Bytes;
use http::{Method, StatusCode};
use mainstay_core::gateway::Start;
use mainstay_core::gateway::catalog::nearest;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::timeout;

/// The longest that a list of models is waited for, and the largest that is read.
const LIST_TIME: Duration = Duration::from_secs(10);
const LIST_MAX: usize = 4 << 20;
/// Names asked after, over the life of a process; a client that invents names causes no more.
const ASKED_MAX: usize = 64;

/// Names that a site was asked after, each once.
#[derive(Debug, Default)]
pub struct Roster {
    asked: Mutex<BTreeSet<String>>,
}

impl Roster {
    fn is_new(&self, model: &str) -> bool {
        let mut asked = self.asked.lock().expect("no panic under this lock");
        asked.len() < ASKED_MAX && asked.insert(model.to_owned())
    }
}

/// `account`, of the site of this name, said that the model of `start` is not there: the operator
/// is told what is.
pub(crate) fn suggest((site, account): (&str, &Arc<Account>), drive: &Arc<Drive>, start: &Start) {
    if !account.roster.is_new(&start.model) {
        return;
    }
    let (account, drive) = (account.clone(), drive.clone());
    let (site, model) = (site.to_owned(), start.model.clone());
    let origin = account.origin.clone();
    origin.beside(async move {
        let names = timeout(LIST_TIME, names(&account)).await.ok().flatten().unwrap_or_default();
        let words = match nearest(&model, names.iter().map(String::as_str)) {
            Some(near) if near == model => format!("lists the model '{model}' and refuses it"),
            Some(near) => format!("has no model '{model}'; the nearest name on offer is '{near}'"),
            None => format!("has no model '{model}', and none on offer has a name like it"),
        };
        drive.telemetry().alarm(&site, &words);
    });
}

/// The names on offer; `None` if the site does not say.
async fn names(account: &Account) -> Option<Vec<String>> {
    let headers = head(&account.dialect, account.key.as_ref(), Vec::new());
    let (method, body) = (Method::GET, Bytes::new());
    let mut reply =
        account.origin.send(Outbound { path: "/models", method, headers, body }).await.ok()?;
    if reply.status != StatusCode::OK {
        return None;
    }
    let mut list = Vec::new();
    while let Some(bytes) = reply.body.next().await {
        list.extend_from_slice(&bytes.ok()?);
        if list.len() > LIST_MAX {
            return None;
        }
    }
    let list: Value = serde_json::from_slice(&list).ok()?;
    let entries = list.get("data")?.as_array()?.iter();
    Some(entries.filter_map(|entry| Some(entry.get("id")?.as_str()?.to_owned())).collect())
}
