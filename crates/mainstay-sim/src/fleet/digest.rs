//! A number for everything that was decided, in order: two runs with the same one are the same.
//!
//! The few facts of every request are taken in as numbers, since they are most of all; the rest
//! as text.

use mainstay_core::fact::{CreditFact, Fact, PolicyFact, SiteFact};
use mainstay_core::names::AttemptId;
use std::collections::{BTreeSet, HashSet};
use std::fmt::{self, Write};
use std::mem::{Discriminant, discriminant};

/// A fact of any node.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// Of a gateway.
    Gateway(Fact),
    /// Of a site.
    Site(SiteFact),
    /// Of a policy machine.
    Policy(PolicyFact),
}

/// Which kinds of decision were told, by name.
#[derive(Debug, Default)]
pub struct Kinds {
    seen: HashSet<Kind>,
    /// `Fact::Closed`, `SiteFact::Refused` and so on.
    pub names: BTreeSet<String>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Kind {
    Gateway(Discriminant<Fact>),
    Credit(Discriminant<CreditFact>),
    Site(Discriminant<SiteFact>),
    Policy(Discriminant<PolicyFact>),
}

impl Kinds {
    /// Takes a fact in. Only the first of its kind is written out, for there are many.
    pub fn fact(&mut self, said: &Said) {
        let kind = match said {
            Said::Gateway(Fact::Credit(fact)) => Kind::Credit(discriminant(fact)),
            Said::Gateway(fact) => Kind::Gateway(discriminant(fact)),
            Said::Site(fact) => Kind::Site(discriminant(fact)),
            Said::Policy(fact) => Kind::Policy(discriminant(fact)),
        };
        if !self.seen.insert(kind) {
            return;
        }
        let (family, text) = match said {
            Said::Gateway(Fact::Credit(fact)) => ("CreditFact", format!("{fact:?}")),
            Said::Gateway(fact) => ("Fact", format!("{fact:?}")),
            Said::Site(fact) => ("SiteFact", format!("{fact:?}")),
            Said::Policy(fact) => ("PolicyFact", format!("{fact:?}")),
        };
        let name = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        self.names.insert(format!("{family}::{name}"));
    }
}

/// The digest so far.
#[derive(Clone, Debug)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Digest {
        Digest(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    /// The number.
    pub fn value(&self) -> u64 {
        self.0
    }

    /// Takes a fact in, with its time and node.
    pub fn fact(&mut self, at: u64, node: u64, said: &Said) {
        self.word(at);
        self.word(node);
        match said {
            Said::Gateway(fact) => self.gateway(fact),
            Said::Site(fact) => self.text(fact),
            Said::Policy(fact) => self.text(fact),
        }
    }

    fn gateway(&mut self, fact: &Fact) {
        match fact {
            Fact::Arrived { request, model: _, tier } => {
                self.word(1 ^ u64::from(tier.0) << 8);
                self.word(request.0);
            }
            Fact::AttemptStarted { attempt, target, how: _, relayed } => {
                self.attempt(2 ^ u64::from(target.0) << 8, *attempt);
                self.word(u64::from(*relayed));
            }
            Fact::FirstToken { attempt, target, after: _ } => {
                self.attempt(3 ^ u64::from(target.0) << 8, *attempt);
            }
            Fact::AttemptWhole { attempt, target, after: _, tokens } => {
                self.attempt(4 ^ u64::from(target.0) << 8, *attempt);
                self.word(u64::from(*tokens));
            }
            Fact::Closed { request, outcome, attempts, .. } => {
                self.word(5 ^ (*outcome as u64) << 8 ^ u64::from(*attempts) << 16);
                self.word(request.0);
            }
            other => self.text(other),
        }
    }

    fn attempt(&mut self, kind: u64, attempt: AttemptId) {
        self.word(kind ^ u64::from(attempt.number) << 32);
        self.word(attempt.request.0);
    }

    fn text(&mut self, fact: &impl fmt::Debug) {
        // Writing into a number cannot fail.
        let _ = write!(self, "{fact:?}");
    }

    fn word(&mut self, word: u64) {
        // FNV-1a's multiplier on whole words, and a turn so that high bits come down.
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    }
}

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.as_bytes().chunks(8) {
            let mut bytes = [0; 8];
            bytes[..part.len()].copy_from_slice(part);
            self.word(u64::from_le_bytes(bytes));
        }
        Ok(())
    }
}
