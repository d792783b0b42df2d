//! Orders on disk, and the log of who gave which: each line holds the hash of the one before, so
//! that a line that was changed or taken out is seen.

use super::{format_order, parse_order};
use crate::replace::replace;
use mainstay_core::message::{Order, Verb};
use mainstay_core::names::SiteId;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// In the node's directory: orders with what was left of their lives, and the log.
const ORDERS: &str = "orders.json";
const LOG: &str = "orders.log";

/// Where orders are kept.
pub struct Store {
    directory: PathBuf,
    /// Names of sites by position: positions may be others when they are read again.
    sites: Vec<String>,
    /// Hash of the log's last line.
    chain: String,
}

impl Store {
    /// A store in `directory`, which is made if it is not there.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn open(directory: &Path, sites: Vec<String>) -> Result<Store, String> {
        let told = |error: std::io::Error| format!("cannot use {}: {error}", directory.display());
        fs::create_dir_all(directory).map_err(told)?;
        let log = match fs::read_to_string(directory.join(LOG)) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(told(error)),
        };
        let chain = log.lines().last().map_or(String::new(), digest);
        Ok(Store { directory: directory.to_owned(), sites, chain })
    }

    /// The orders that were kept, and how long ago.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn read(&self) -> Result<(Vec<Order>, Duration), String> {
        let path = self.directory.join(ORDERS);
        let wrong = |what: &str| {
            format!("{}: {what}; take the file away to start without orders", path.display())
        };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Default::default()),
            Err(error) => return Err(wrong(&error.to_string())),
        };
        let kept: Value = serde_json::from_str(&text).map_err(|e| wrong(&e.to_string()))?;
        let at = UNIX_EPOCH + Duration::from_secs(kept["at"].as_u64().unwrap_or(0));
        // A clock that went back says nothing: then no time has passed.
        let ago = SystemTime::now().duration_since(at).unwrap_or_default();
        let orders = kept["orders"].as_array().ok_or_else(|| wrong("holds no orders"))?;
        Ok((orders.iter().filter_map(|order| self.order(order)).collect(), ago))
    }

    /// Keeps `orders`.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&self, orders: &[Order]) -> std::io::Result<()> {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let orders: Vec<Value> = orders.iter().map(|order| self.json(order)).collect();
        let text = json!({ "at": at, "orders": orders }).to_string();
        replace(&self.directory.join(ORDERS), text.as_bytes())
    }

    /// Sites have other positions.
    pub fn name(&mut self, sites: Vec<String>) {
        self.sites = sites;
    }

    /// Writes a line into the log.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn note(&mut self, what: &str) -> std::io::Result<()> {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let line = json!({ "at": at, "what": what, "before": self.chain }).to_string();
        let mut file =
            fs::File::options().create(true).append(true).open(self.directory.join(LOG))?;
        writeln!(file, "{line}")?;
        file.sync_all()?;
        self.chain = digest(&line);
        Ok(())
    }

    /// An order as it is shown and kept.
    pub fn json(&self, order: &Order) -> Value {
        shown(order, &self.sites)
    }

    /// An order that names a site of the policy, or everywhere.
    fn order(&self, kept: &Value) -> Option<Order> {
        let site = match kept["site"].as_str() {
            Some(name) => {
                let at = self.sites.iter().position(|site| site == name)?;
                Some(SiteId(u16::try_from(at).ok()?))
            }
            None => None,
        };
        let percent = kept["percent"].as_u64().and_then(|percent| u8::try_from(percent).ok());
        let verb = match kept["verb"].as_str()? {
            "freeze" => Verb::Freeze,
            "cap" => Verb::Cap(percent?),
            "drain" => Verb::Drain,
            "kill" => Verb::Kill,
            "end" => Verb::End(parse_order(kept["ends"].as_str()?)?),
            _ => return None,
        };
        Some(Order {
            id: parse_order(kept["id"].as_str()?)?,
            authority: u8::try_from(kept["authority"].as_u64()?).ok()?,
            verb,
            site,
            reason: kept["reason"].as_str()?.to_owned(),
            left: Duration::from_millis(kept["left_ms"].as_u64()?),
        })
    }
}

/// An order for people and programs.
pub fn shown(order: &Order, sites: &[String]) -> Value {
    let (verb, percent, ends) = match order.verb {
        Verb::Freeze => ("freeze", None, None),
        Verb::Cap(percent) => ("cap", Some(percent), None),
        Verb::Drain => ("drain", None, None),
        Verb::Kill => ("kill", None, None),
        Verb::End(id) => ("end", None, Some(format_order(id))),
    };
    json!({
        "id": format_order(order.id),
        "authority": order.authority,
        "verb": verb,
        "percent": percent,
        "ends": ends,
        "site": order.site.and_then(|site| sites.get(usize::from(site.0))),
        "reason": order.reason,
        "left_ms": u64::try_from(order.left.as_millis()).unwrap_or(u64::MAX),
    })
}

fn digest(line: &str) -> String {
    Sha256::digest(line.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
