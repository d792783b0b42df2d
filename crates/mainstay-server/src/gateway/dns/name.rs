//! Names as they stand on the wire: labels with their lengths, in lower case, a zero at the end.

use std::fmt;

/// Longest name on the wire (RFC 1035, 2.3.4).
pub const NAME_MAX: usize = 255;
/// Longest label (the same).
pub const LABEL_MAX: usize = 63;

/// A name, in lower case.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Reads `text`, e.g. `api.example.com`; a dot at the end changes nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Name, &'static str> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let labels: Vec<&str> = text.split('.').collect();
        Name::of_labels(&labels)
    }

    /// The name of a person's mailbox, e.g. `hostmaster@example.com` (RFC 1035, 8).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_mailbox(text: &str) -> Result<Name, &'static str> {
        let Some((person, host)) = text.split_once('@') else {
            return Err("write it like hostmaster@example.com");
        };
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'@' && byte != b'\\';
        if person.is_empty() || person.len() > LABEL_MAX || !person.bytes().all(plain) {
            return Err("what stands before the @ is no mailbox");
        }
        let host = Name::parse(host)?;
        let mut wire = vec![person.len() as u8];
        wire.extend(person.bytes());
        wire.extend_from_slice(host.wire());
        if wire.len() > NAME_MAX { Err("it is too long") } else { Ok(Name(wire.into())) }
    }

    /// The name of `label` below this one.
    ///
    /// # Errors
    /// What is wrong with the label.
    pub fn below(&self, label: &str) -> Result<Name, &'static str> {
        let mut wire = label_wire(label)?;
        wire.extend_from_slice(&self.0);
        if wire.len() > NAME_MAX { Err("it is too long") } else { Ok(Name(wire.into())) }
    }

    fn of_labels(labels: &[&str]) -> Result<Name, &'static str> {
        let mut wire = Vec::new();
        for label in labels {
            wire.extend(label_wire(label)?);
        }
        wire.push(0);
        if wire.len() > NAME_MAX { Err("it is too long") } else { Ok(Name(wire.into())) }
    }

    /// Its bytes on the wire.
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is `other` or lies below it.
    pub fn is_under(&self, other: &Name) -> bool {
        suffixes(&self.0).any(|suffix| suffix == other.wire())
    }

    /// Labels it has, the root not counted.
    pub fn labels(&self) -> usize {
        suffixes(&self.0).count() - 1
    }
}

/// The name and everything it lies below, the root last.
pub fn suffixes(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(wire);
    std::iter::from_fn(move || {
        let here = rest?;
        let length = usize::from(*here.first()?);
        rest = if length == 0 { None } else { here.get(1 + length..) };
        Some(here)
    })
}

fn label_wire(label: &str) -> Result<Vec<u8>, &'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if label.is_empty() {
        return Err("a label is empty");
    }
    if label.len() > LABEL_MAX {
        return Err("a label is longer than 63 letters");
    }
    if !label.bytes().all(plain) {
        return Err("it has letters that no host has; write other scripts as xn--…");
    }
    let mut wire = vec![label.len() as u8];
    wire.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
    Ok(wire)
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = suffixes(&self.0).filter(|suffix| suffix.len() > 1);
        let label = |suffix: &[u8]| {
            let end = 1 + usize::from(suffix[0]);
            String::from_utf8_lossy(&suffix[1..end]).into_owned()
        };
        f.write_str(&labels.map(label).collect::<Vec<_>>().join("."))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_in_lower_case_and_shown_as_it_was() {
        let name = Name::parse("API.example.com.").expect("a name");
        assert_eq!(name.wire(), b"\x03api\x07example\x03com\x00");
        assert_eq!(name.to_string(), "api.example.com");
        assert_eq!(name.labels(), 3);
        assert!(name.is_under(&Name::parse("example.com").expect("a name")));
        assert!(!name.is_under(&Name::parse("ample.com").expect("a name")));
        let person = Name::parse_mailbox("host.master@example.com").expect("a mailbox");
        assert_eq!(person.wire(), b"\x0bhost.master\x07example\x03com\x00");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = format!("{}.com", "a".repeat(64));
        let deep = vec!["a"; 128].join(".");
        for text in ["", ".", "a..b", "a b.com", "é.com", "*.a.com", &long, &deep] {
            assert!(Name::parse(text).is_err(), "{text}");
        }
        for text in ["nobody", "@a.com", "a@", "a b@c.com"] {
            assert!(Name::parse_mailbox(text).is_err(), "{text}");
        }
    }
}
