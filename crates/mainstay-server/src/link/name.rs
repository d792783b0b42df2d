//! Names of nodes: what stands in a certificate, and nothing that a peer says of itself.

use std::fmt;

/// Certificates are made out to `NAME` below this domain. `.internal` is kept for private use and
/// never resolves on the public internet (ICANN, 2024).
pub const DOMAIN: &str = "mainstay.internal";

/// A label of DNS has at most so many characters.
const LENGTH_MAX: usize = 63;

/// The name of a node: letters in lower case, digits and hyphens, as one label of DNS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(String);

impl NodeName {
    /// The name `text`, or what is wrong with it.
    pub fn new(text: &str) -> Result<NodeName, String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let wrong = if text.is_empty() {
            "is empty"
        } else if text.len() > LENGTH_MAX {
            "is longer than 63 characters"
        } else if !text.chars().all(plain) {
            "has other characters than a-z, 0-9 and `-`"
        } else if text.starts_with('-') || text.ends_with('-') {
            "begins or ends with `-`"
        } else {
            return Ok(NodeName(text.to_owned()));
        };
        let example = "write it like `hangzhou` or `edge-1`";
        Err(format!("`{text}` is no name of a node: it {wrong}; {example}"))
    }

    /// A name that stands where none could be read.
    pub fn nobody() -> NodeName {
        NodeName(String::from("nobody"))
    }

    /// The name alone.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What its certificate is made out to.
    pub fn in_certificate(&self) -> String {
        format!("{}.{DOMAIN}", self.0)
    }

    /// The node whose certificate is made out to `name`.
    pub(super) fn of_certificate(name: &str) -> Option<NodeName> {
        let label = name.strip_suffix(DOMAIN)?.strip_suffix('.')?;
        NodeName::new(label).ok()
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_label_of_dns() {
        for good in ["a", "edge-1", "hangzhou", "0"] {
            let name = NodeName::new(good).expect(good);
            assert_eq!(NodeName::of_certificate(&name.in_certificate()), Some(name));
        }
        let long = "a".repeat(64);
        for bad in ["", "A", "a.b", "-a", "a-", "a_b", "*", "ü", "a b", "../a", &long] {
            assert!(NodeName::new(bad).is_err(), "{bad}");
        }
        for bad in ["mainstay.internal", ".mainstay.internal", "a.b.mainstay.internal", "a"] {
            assert_eq!(NodeName::of_certificate(bad), None, "{bad}");
        }
    }
}
