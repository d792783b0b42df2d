//! The audit: from a configuration to everything that is found in it. It asks nobody and plays
//! nothing.

use super::fate::{self, Loss};
use super::finding::Finding;
use super::scene::Scene;
use super::survival::{self, Group};
use super::{rules, secrets, substitute};
use std::path::Path;

/// What can be lost, what is left, and what is found.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Everything that can be lost at once.
    pub losses: Vec<Loss>,
    /// Models that every loss leaves with the same sites.
    pub groups: Vec<Group>,
    /// What was found so far, the worst first.
    pub findings: Vec<Finding>,
}

/// Audits a configuration; `config` is its file, if there is one.
pub fn audit(scene: &Scene<'_>, config: Option<&Path>) -> Audit {
    let losses = fate::losses(scene);
    let groups = survival::groups(scene, &losses);
    let mut audit = Audit { findings: survival::findings(scene, &losses, &groups), losses, groups };
    audit.add(survival::accounts(scene));
    audit.add(survival::around(scene));
    audit.add(substitute::findings(scene));
    audit.add(rules::findings(scene));
    audit.add(rules::times(scene));
    audit.add(secrets::findings(scene, config));
    audit
}

impl Audit {
    /// Adds what was found elsewhere and keeps the order: the worst first, then by kind.
    pub fn add(&mut self, found: Vec<Finding>) {
        self.findings.extend(found);
        self.findings.sort_by(|a, b| (a.severity, a.id).cmp(&(b.severity, b.id)));
    }
}
