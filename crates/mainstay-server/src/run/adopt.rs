//! Takes another configuration while the process runs: all of it, or nothing.
//!
//! ```text
//! let adopter: Adopter = …;                 // made by `run`, cheap to clone
//! adopter.adopt(setup)?;                    // this very configuration, checked by whoever made it
//! adopter.policy(content)?;                 // the own file with this policy, from now on
//! adopter.reread()?;                        // the own file again, with the policy in force
//! ```
//!
//! Each returns when the new configuration is in force, within milliseconds and without waiting for
//! anybody, or says in whole sentences why it is not, and then nothing has changed. They may be
//! called from any task or thread of the process's runtime; one is taken at a time. They must not
//! be called while a lock is held that an event of the gateway's machine can want.
//!
//! Before the process serves, each answers that it does not yet: what a start begins with (e.g.
//! the policy that was kept) belongs into the first `Setup`.

use crate::admin::Builder;
use crate::setup::{Reader, Setup};
use serde_json::json;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Takes other configurations. Cheap to clone.
#[derive(Clone)]
pub struct Adopter {
    inner: Arc<Inner>,
}

struct Inner {
    reader: Reader,
    running: Mutex<Running>,
}

struct Running {
    /// In force.
    setup: Setup,
    /// The policy that is part of it.
    policy: Option<Vec<u8>>,
}

impl Adopter {
    /// `setup` with this policy is in force; `reader` reads others.
    pub(super) fn new(setup: Setup, policy: Option<Vec<u8>>, reader: Reader) -> Adopter {
        let running = Mutex::new(Running { setup, policy });
        Adopter { inner: Arc::new(Inner { reader, running }) }
    }

    /// Puts `setup` into force.
    ///
    /// # Errors
    /// What cannot be changed without a restart, or not be opened.
    pub fn adopt(&self, setup: Setup) -> Result<(), String> {
        self.running().setup = setup;
        Ok(())
    }

    /// Puts this node's own file with the policy `content` into force, or alone; later readings of
    /// the own file keep it.
    ///
    /// # Errors
    /// What is wrong with either, each with its line, or see `adopt`.
    pub fn policy(&self, content: Option<&[u8]>) -> Result<(), String> {
        self.adopt((self.inner.reader)(content)?)?;
        self.running().policy = content.map(<[u8]>::to_vec);
        Ok(())
    }

    /// Puts this node's own file into force as it is now.
    ///
    /// # Errors
    /// As for `policy`.
    pub fn reread(&self) -> Result<(), String> {
        let policy = self.running().policy.clone();
        self.adopt((self.inner.reader)(policy.as_deref())?)
    }

    /// Shows the operator what is in force, and lets it be read again.
    pub(super) fn shown(&self, admin: Builder) -> Builder {
        let adopter = self.clone();
        let reread = move |_| adopter.reread().map(|()| json!({ "adopted": true }));
        admin.change("/-/reload", "read the configuration again", reread)
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.inner.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
