//! What survives a crash, and what a process starts with.
//!
//! The journal names the content that runs: whoever starts and finds it there knows what the
//! process died of, with nobody to ask. Ages are kept, never times.

use super::Snapshot;
use crate::config::PolicyConfig;
use crate::fact::{BootWhy, Harm, PolicyFact};
use crate::message::Order;
use crate::mutant::Mutant;
use crate::time::Duration;
use alloc::vec;
use alloc::vec::Vec;

/// Two crashes of good content within this time are its fault.
const CRASHES_WITHIN: Duration = Duration::from_secs(300);

/// Crashes that are remembered; two decide.
const CRASHES_KEPT: usize = 8;

/// Generations that proved themselves and are kept. At least three must be; two more because
/// content in quarantine takes a place too.
const GOOD_KEPT: usize = 5;

/// Contents in quarantine that are remembered. Far more than an operator publishes before the
/// oldest of them is forgotten elsewhere.
const QUARANTINE_KEPT: usize = 256;

/// What a process has on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Disk {
    /// The generation in force.
    pub current: Option<Snapshot>,
    /// Whether a process runs it: still set when a process starts, it says that one crashed.
    pub is_running: bool,
    /// What proved itself, the newest first.
    pub good: Vec<Snapshot>,
    /// Contents that are not to be loaded.
    pub quarantine: Vec<u64>,
    /// Crashes, the newest first.
    pub crashes: Vec<Crash>,
    /// Orders, with what was left of their lives.
    pub orders: Vec<Order>,
}

/// A crash that the journal tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Crash {
    /// Of which content.
    pub content: u64,
    /// How long ago, when this was written.
    pub ago: Duration,
}

impl Disk {
    /// Of a new process: what its operator gave it by hand counts as good, there being nothing
    /// else to fall back to.
    pub fn new(given: Snapshot) -> Disk {
        Disk { current: Some(given.clone()), good: vec![given], ..Disk::default() }
    }

    /// What its operator gave it by hand is there again, perhaps mended: it takes the place of
    /// what was given before, counts as good, and is out of quarantine.
    pub fn give(&mut self, given: Snapshot) {
        self.quarantine.retain(|content| *content != given.content);
        let is_given = |x: &&mut Snapshot| x.generation == 0;
        self.current.iter_mut().filter(is_given).for_each(|x| *x = given.clone());
        self.good.retain(|good| good.generation > 0);
        self.good.truncate(GOOD_KEPT);
        self.good.push(given.clone());
        let current = self.current.get_or_insert(given);
        // Where there is nothing else to run, a crash decides nothing.
        self.is_running &= current.generation > 0 || self.good.len() > 1;
    }

    /// Whether this content has proved itself.
    pub fn is_good(&self, content: u64) -> bool {
        self.good.iter().any(|good| good.content == content)
    }

    /// Whether this content may be loaded.
    pub fn may_load(&self, content: u64) -> bool {
        !self.quarantine.contains(&content)
    }

    /// Remembers that a generation proved itself.
    pub fn keep_good(&mut self, proved: Snapshot) {
        self.good.retain(|good| good.content != proved.content);
        self.good.insert(0, proved);
        self.good.truncate(GOOD_KEPT);
    }

    /// Puts content into quarantine; true if it was not there.
    pub fn condemn(&mut self, content: u64) -> bool {
        if self.quarantine.contains(&content) {
            return false;
        }
        self.quarantine.insert(0, content);
        self.quarantine.truncate(QUARANTINE_KEPT);
        true
    }

    /// The newest good generation that may be loaded and is not this content.
    pub fn other_good(&self, content: u64) -> Option<&Snapshot> {
        let may = |good: &&Snapshot| good.content != content && self.may_load(good.content);
        self.good.iter().find(may)
    }

    /// A process starts, so much later than this was written: what it runs, and why.
    pub fn start(&mut self, later: Duration, config: &PolicyConfig, facts: &mut Vec<PolicyFact>) {
        for crash in &mut self.crashes {
            crash.ago += later;
        }
        if self.is_running
            && let Some(crashed) = self.current.clone()
        {
            self.blame(crashed.content, config, facts);
        }
        let why = self.choose(facts);
        self.is_running = self.current.is_some();
        match (&self.current, why) {
            (Some(runs), Some(why)) => {
                let (generation, content) = (runs.generation, runs.content);
                facts.push(PolicyFact::Booted { generation, content, why });
            }
            _ => facts.push(PolicyFact::NothingToRun),
        }
    }

    fn blame(&mut self, content: u64, config: &PolicyConfig, facts: &mut Vec<PolicyFact>) {
        self.crashes.insert(0, Crash { content, ago: Duration::ZERO });
        self.crashes.truncate(CRASHES_KEPT);
        let is_recent = |crash: &&Crash| crash.content == content && crash.ago <= CRASHES_WITHIN;
        let recent = self.crashes.iter().filter(is_recent).count();
        let is_guilty = recent >= 2 || !self.is_good(content);
        if is_guilty && !config.mutants.removes(Mutant::CrashForgotten) && self.condemn(content) {
            facts.push(PolicyFact::Quarantined { content, why: Harm::Crash });
        }
    }

    fn choose(&mut self, facts: &mut Vec<PolicyFact>) -> Option<BootWhy> {
        let crashed = self.current.as_ref().map(|current| current.content);
        if crashed.is_some_and(|content| self.may_load(content)) {
            return Some(BootWhy::InForce);
        }
        let other = crashed.and_then(|content| self.other_good(content)).cloned();
        if other.is_some() {
            self.current = other;
            return Some(BootWhy::OtherCrashed);
        }
        // All that was good crashed twice. Something has to run: the best that is known.
        self.current = self.good.first().cloned();
        let generation = self.current.as_ref()?.generation;
        facts.push(PolicyFact::NothingElseGood { generation });
        Some(BootWhy::Last)
    }
}
