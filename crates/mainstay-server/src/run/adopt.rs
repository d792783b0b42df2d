//! Takes another configuration while the process runs: all of it, or nothing.
//!
//! ```text
//! let adopter: Adopter = …;                 // made by `run`, cheap to clone
//! adopter.adopt(setup)?;                    // this very configuration, checked by whoever made it
//! adopter.policy(Some(content))?;           // the own file with this policy, from now on
//! adopter.reread()?;                        // the own file again, with the policy in force
//! ```
//!
//! Each returns when the new configuration is in force, within milliseconds and without waiting for
//! anybody, or says in whole sentences why it is not, and then nothing has changed. They may be
//! called from any task or thread of the process's runtime; one is taken at a time. They must not
//! be called while a lock is held that an event of the gateway's machine can want.
//!
//! Everything that can fail is done first, beside what runs: reading, checking, opening. What is
//! left is a swap at one moment between two events of the machine. Answers that run keep the places
//! they began with (`crate::places`).
//!
//! Before the process serves, each answers that it does not yet: what a start begins with (e.g.
//! the policy that was kept) belongs into the first `Setup`.

mod fixed;
mod kept;

use super::build::{self, Plot};
use super::door::House;
use super::nodes::Nodes;
use super::page::Shown;
use crate::admin::Builder;
use crate::gateway::dns::publish::Publisher;
use crate::setup::{Reader, Setup, Written};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::signal::unix::Signal;

pub use kept::KEPT;

/// Takes other configurations. Cheap to clone.
#[derive(Clone)]
pub struct Adopter {
    inner: Arc<Inner>,
}

struct Inner {
    reader: Reader,
    running: Mutex<Running>,
    told: Mutex<Told>,
    /// The own file as it was last taken: for those who read a policy with it.
    own: Mutex<Written>,
}

struct Running {
    /// In force.
    setup: Setup,
    /// The policy that is part of it.
    policy: Option<Vec<u8>>,
    /// What of the process takes it, while it serves.
    parts: Option<Parts>,
}

/// What of a process takes another configuration.
pub(super) struct Parts {
    pub(super) plot: Plot,
    pub(super) house: Arc<House>,
    pub(super) publisher: Option<Arc<Publisher>>,
    pub(super) nodes: Option<Arc<Nodes>>,
    pub(super) page: Option<Arc<Shown>>,
}

/// What the operator is told.
struct Told {
    /// What is in force, but for its age.
    page: Value,
    since: Instant,
    /// Why the last one was refused, and when; nothing if it was not.
    refused: Option<(String, Instant)>,
    adopted: u64,
    refusals: u64,
}

impl Adopter {
    /// `setup` with this policy is in force; `reader` reads others.
    pub(super) fn new(setup: Setup, policy: Option<Vec<u8>>, reader: Reader) -> Adopter {
        let since = Instant::now();
        let refused = setup.written.trouble.clone().map(|why| (why, since));
        let told = Told { page: page(&setup), since, refused, adopted: 0, refusals: 0 };
        let own = Mutex::new(setup.written.clone());
        let running = Running { setup, policy, parts: None };
        let (running, told) = (Mutex::new(running), Mutex::new(told));
        Adopter { inner: Arc::new(Inner { reader, running, told, own }) }
    }

    /// The process serves.
    pub(super) fn begin(&self, parts: Parts) {
        let mut running = self.running();
        running.parts = Some(parts);
        warn(&running.setup);
        match &running.setup.written.trouble {
            Some(why) => tracing::error!("started from the last configuration that worked: {why}"),
            None => kept::keep(&running.setup),
        }
    }

    /// The process ends, and takes nothing more.
    pub(super) fn end(&self) {
        self.running().parts = None;
    }

    /// Puts `setup` into force.
    ///
    /// # Errors
    /// What cannot be changed without a restart, or not be opened.
    pub fn adopt(&self, setup: Setup) -> Result<(), String> {
        let mut running = self.running();
        let outcome = running.swap(setup);
        self.tell(&running, outcome)
    }

    /// Puts this node's own file, as it was last taken, with the policy `content` into force, or
    /// alone; later readings of the own file keep it.
    ///
    /// # Errors
    /// What is wrong with either, each with its line, or see `adopt`.
    pub fn policy(&self, content: Option<&[u8]>) -> Result<(), String> {
        let mut running = self.running();
        // A file that is being edited is not taken because a policy comes.
        let read = self.inner.reader.with(&running.setup.written, content);
        // And mends none.
        let trouble = running.setup.written.trouble.clone();
        let outcome = read.and_then(|mut setup| {
            setup.written.trouble = trouble;
            running.swap(setup)
        });
        if outcome.is_ok() {
            running.policy = content.map(<[u8]>::to_vec);
        }
        self.tell(&running, outcome)
    }

    /// Puts this node's own file into force as it is now.
    ///
    /// # Errors
    /// As for `policy`.
    pub fn reread(&self) -> Result<(), String> {
        let mut running = self.running();
        let read = self.inner.reader.read(running.policy.as_deref());
        let outcome = read.and_then(|setup| running.swap(setup));
        self.tell(&running, outcome)
    }

    /// The own file as it was last taken. Never waits for a configuration that is being taken.
    pub(super) fn own(&self) -> Written {
        self.inner.own.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the own file again whenever `again` is heard.
    pub(super) async fn listen(self, mut again: Signal) {
        while again.recv().await.is_some() {
            let adopter = self.clone();
            // Files are read: nothing else shall wait for a disk. What came of it is in the log.
            let _ = tokio::task::spawn_blocking(move || adopter.reread()).await;
        }
    }

    /// Shows the operator what is in force, and lets it be read again.
    pub(super) fn shown(&self, admin: Builder) -> Builder {
        let [adopter, shown, counted] = [(); 3].map(|()| self.clone());
        let reread = move |_| adopter.reread().map(|()| adopter.told().page());
        admin
            .metrics(move || counted.told().exposition())
            .show("/-/config", "the configuration in force", move || shown.told().page())
            .change("/-/reload", "read the configuration again", reread)
    }

    /// Says what came of it, to the log and whoever asks later.
    fn tell(&self, running: &Running, outcome: Result<(), String>) -> Result<(), String> {
        let mut told = self.told();
        match &outcome {
            Ok(()) => {
                told.adopted += 1;
                (told.page, told.since) = (page(&running.setup), Instant::now());
                let written = &running.setup.written;
                told.refused = written.trouble.clone().map(|why| (why, Instant::now()));
                *self.inner.own.lock().unwrap_or_else(PoisonError::into_inner) = written.clone();
                if written.trouble.is_none() {
                    kept::keep(&running.setup);
                }
                warn(&running.setup);
                let hash = hex(&running.setup.written.hash);
                tracing::info!(hash, "another configuration is in force");
            }
            Err(why) => {
                told.refusals += 1;
                told.refused = Some((why.clone(), Instant::now()));
                for line in why.lines() {
                    tracing::error!("configuration refused, the one before stays: {line}");
                }
            }
        }
        outcome
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        // Nothing is changed before all of it is sure to succeed.
        self.inner.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.inner.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// Builds what `setup` names beside what runs, then swaps.
    fn swap(&mut self, mut setup: Setup) -> Result<(), String> {
        let not_yet = "this process does not serve yet, or not any more";
        let parts = self.parts.as_ref().ok_or(not_yet)?;
        fixed::check(&self.setup, &setup)?;
        fixed::keep_identity(&self.setup, &mut setup);
        if let Some(nodes) = &parts.nodes {
            nodes.may_adopt(&setup)?;
        }
        let drive = &parts.plot.drive;
        let before = drive.places();
        let places = build::places(&setup, &parts.plot, Some((&self.setup, &before)))?;
        // From here on nothing fails.
        let around = || {
            if let (Some(publisher), Some(settings)) = (&parts.publisher, &setup.dns) {
                publisher.adopt(settings.clone());
            }
            if let Some(nodes) = &parts.nodes {
                nodes.relocate(&setup);
            }
            if let Some(page) = &parts.page {
                page.adopt(&setup);
            }
        };
        drive.adopt(setup.core.clone(), Arc::new(places), around);
        if let Some(nodes) = &parts.nodes {
            nodes.configure(&setup);
        }
        // Keys name their tiers: they may come a moment later, and many take a while.
        parts.house.callers.configure(&setup);
        parts.house.bounds.send_replace(setup.bounds.clone());
        self.setup = setup;
        Ok(())
    }
}

impl Told {
    fn page(&self) -> Value {
        let mut page = self.page.clone();
        page["since_s"] = json!(self.since.elapsed().as_secs());
        page["adopted"] = json!(self.adopted);
        page["refused"] = json!(self.refusals);
        page["last_refusal"] = match &self.refused {
            Some((why, at)) => json!({
                "age_s": at.elapsed().as_secs(),
                "why": why.lines().collect::<Vec<_>>(),
            }),
            None => Value::Null,
        };
        page
    }

    fn exposition(&self) -> String {
        let good = u8::from(self.refused.is_none());
        let (adopted, refused) = (self.adopted, self.refusals);
        let name = "mainstay_config_last_reload_successful";
        let help = "Whether the last configuration that was read is in force.";
        let mut text = format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {good}\n");
        let name = "mainstay_config_reloads";
        let help = "Configurations read while the process runs.";
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} counter\n"));
        for (result, count) in [("adopted", adopted), ("refused", refused)] {
            text.push_str(&format!("{name}_total{{result=\"{result}\"}} {count}\n"));
        }
        text
    }
}

/// What is in force, for the operator: names and numbers, no key and no hash of one.
fn page(setup: &Setup) -> Value {
    let core = &setup.core;
    let names = |all: Vec<&str>| Value::from(all);
    let written = &setup.written;
    let source = if written.name.is_empty() { "environment" } else { written.name.as_str() };
    json!({
        "hash": hex(&written.hash),
        "source": source,
        "has_policy": written.has_policy,
        "is_kept": written.trouble.is_some(),
        "warnings": written.warnings,
        "sites": names(core.sites.iter().map(|site| site.name.as_str()).collect()),
        "models": names(core.models.iter().map(|model| model.name.as_str()).collect()),
        "tiers": names(core.tiers.iter().map(|tier| tier.name.as_str()).collect()),
        "keys": names(setup.keys.iter().map(|key| key.name.as_str()).collect()),
    })
}

fn warn(setup: &Setup) {
    for warning in &setup.written.warnings {
        tracing::warn!("{warning}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
