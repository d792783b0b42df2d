//! What is wrong with a scenario file, where, and how to mend it: all of it at once.

use mainstay_core::gateway::catalog::nearest;
use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: `S01.toml:12`.
    pub place: String,
    /// The key, e.g. `fault.until`.
    pub key: String,
    /// What is wrong; then, after a semicolon, how to mend it.
    pub what: String,
    /// Where in the text, for order.
    pub offset: usize,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { place, key, what, .. } = self;
        if key.is_empty() {
            write!(f, "{place}: {what}")
        } else {
            write!(f, "{place}: {key}: {what}")
        }
    }
}

/// `did you mean …`, or, when nothing is near, what there is to choose from.
pub fn hint(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(each) => format!("did you mean `{each}`?"),
        None if known.is_empty() => String::from("there is none"),
        None => format!("known are {}", known.join(", ")),
    }
}
