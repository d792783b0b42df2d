//! One rule of a dialect: from what a reply shows to what it means.
//!
//! Everything a rule names must hold. Text decides only between two meanings of one code: a rule
//! with `message_has` names a status and a code, a type or another field as well. Where a provider
//! has no codes, `codeless` says so, and status and text must do.

use super::evidence::{Evidence, Place};
use mainstay_core::names::ErrorClass;
use serde::Deserialize;
use std::collections::BTreeMap;

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Rule {
    /// Statuses, one of which it must be; empty: any.
    pub status: Vec<StatusPattern>,
    /// Patterns for the provider's code, one of which must fit; empty: any. Numeric codes are
    /// compared in decimal.
    pub code: Vec<String>,
    /// Patterns for the provider's type.
    pub kind: Vec<String>,
    /// JSON pointers into the body and the pattern of what must stand there; `*` is anything.
    pub at: BTreeMap<Place, String>,
    /// A header that must be present.
    pub header: Option<String>,
    /// Fragments of the message, one of which it must have, in any case.
    pub message_has: Vec<String>,
    /// Whether there must be neither a code nor a type.
    pub codeless: bool,
    /// What it means.
    pub is: ErrorClass,
}

/// A status or a hundred of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusPattern {
    /// Exactly this.
    Exact(u16),
    /// `4xx` is 4.
    Hundred(u16),
}

/// Whether `text` fits `pattern`, in which `*` stands for any run of characters. ASCII case does
/// not count: providers are not of one mind about it even within one table.
pub fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut retry = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            retry = Some((p, t));
            p += 1;
        } else if pattern.get(p).is_some_and(|c| c.eq_ignore_ascii_case(&text[t])) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((star, from)) = retry {
            retry = Some((star, from + 1));
            (p, t) = (star + 1, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

impl Rule {
    /// Whether it holds for `seen`. Inside a 200 or a stream there is no status: then a rule that
    /// names a code, a type or a field is tried without it, and one that does not cannot hold.
    pub(super) fn holds(&self, seen: &Evidence<'_>) -> bool {
        self.status_holds(seen.status)
            && one_fits(&self.code, seen.code.as_deref())
            && one_fits(&self.kind, seen.kind.as_deref())
            && (!self.codeless || (seen.code.is_none() && seen.kind.is_none()))
            && self
                .at
                .iter()
                .all(|(at, pattern)| seen.text_at(at).is_some_and(|text| fits(pattern, &text)))
            && self.header.as_deref().is_none_or(|h| seen.has_header(h))
            && (self.message_has.is_empty()
                || self.message_has.iter().any(|part| has(&seen.message, part)))
    }

    fn status_holds(&self, status: Option<u16>) -> bool {
        match status {
            Some(status) => self.status.is_empty() || self.status.iter().any(|p| p.covers(status)),
            None => self.names_a_field(),
        }
    }

    fn names_a_field(&self) -> bool {
        !self.code.is_empty() || !self.kind.is_empty() || !self.at.is_empty()
    }
}

impl StatusPattern {
    /// Whether `status` is among those meant.
    pub fn covers(self, status: u16) -> bool {
        match self {
            StatusPattern::Exact(exact) => exact == status,
            StatusPattern::Hundred(hundred) => hundred == status / 100,
        }
    }
}

fn one_fits(patterns: &[String], text: Option<&str>) -> bool {
    patterns.is_empty() || text.is_some_and(|text| patterns.iter().any(|p| fits(p, text)))
}

fn has(message: &str, part: &str) -> bool {
    message.to_ascii_lowercase().contains(&part.to_ascii_lowercase())
}

/// The class that a file names by `word`.
pub(super) fn class_named(word: &str) -> Result<ErrorClass, String> {
    ErrorClass::from_word(word).ok_or_else(|| format!("\"{word}\" is not an error class"))
}

/// Checks the rules of a file one by one, because `toml` itself names the line of their list only.
pub(super) fn check(text: &str) -> Result<(), String> {
    let Rules { class } = toml::from_str(text).map_err(|e| e.to_string().trim().to_owned())?;
    for written in class {
        let before = text.get(..written.span().start).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        Rule::try_from(written.into_inner()).map_err(|why| format!("line {line}: {why}"))?;
    }
    Ok(())
}

/// The rules of a file, and nothing else of it.
#[derive(Deserialize)]
struct Rules {
    #[serde(default)]
    class: Vec<toml::Spanned<Written>>,
}

/// A rule as it is written, before it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    status: Words,
    #[serde(default)]
    code: Words,
    #[serde(default)]
    kind: Words,
    #[serde(default)]
    at: BTreeMap<Place, String>,
    header: Option<String>,
    #[serde(default)]
    message_has: Words,
    #[serde(default)]
    codeless: bool,
    is: String,
}

/// One word or a list of them; a number is a word.
#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    One(Word),
    Many(Vec<Word>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Number(i64),
    Text(String),
}

impl Default for Words {
    fn default() -> Words {
        Words::Many(Vec::new())
    }
}

impl Words {
    fn list(self) -> Vec<String> {
        let many = match self {
            Words::One(word) => vec![word],
            Words::Many(words) => words,
        };
        many.into_iter()
            .map(|word| match word {
                Word::Number(number) => number.to_string(),
                Word::Text(text) => text,
            })
            .collect()
    }
}

impl TryFrom<Written> for Rule {
    type Error = String;

    fn try_from(written: Written) -> Result<Rule, String> {
        let status = written.status.list().iter().map(|s| pattern(s)).collect::<Result<_, _>>()?;
        let rule = Rule {
            status,
            code: written.code.list(),
            kind: written.kind.list(),
            at: written.at,
            header: written.header,
            message_has: written.message_has.list(),
            codeless: written.codeless,
            is: class_named(&written.is)?,
        };
        rule.check().map(|()| rule)
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        if self.status.is_empty() && !self.names_a_field() {
            return Err("a rule names a status, a code, a type or a field".into());
        }
        if self.message_has.is_empty() {
            return Ok(());
        }
        if self.status.is_empty() || !(self.names_a_field() || self.codeless) {
            return Err("text decides nothing alone: message_has needs a status, and a code, a \
                        type, a field or codeless = true"
                .into());
        }
        if self.message_has.iter().any(|part| part.trim().is_empty()) {
            return Err("message_has is empty".into());
        }
        Ok(())
    }
}

fn pattern(word: &str) -> Result<StatusPattern, String> {
    let refused = || format!("\"{word}\" is not a status like 429 or \"5xx\"");
    let hundred = word.strip_suffix("xx");
    let number: u16 = hundred.unwrap_or(word).parse().map_err(|_| refused())?;
    match hundred {
        Some(_) if (1..=9).contains(&number) => Ok(StatusPattern::Hundred(number)),
        None if (100..=999).contains(&number) => Ok(StatusPattern::Exact(number)),
        Some(_) | None => Err(refused()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run() {
        for (pattern, text, answer) in [
            ("gpt-*", "gpt-5", true),
            ("gpt-*", "GPT-", true),
            ("gpt-*", "gpt", false),
            ("*/*", "a/b", true),
            ("*/*", "ab", false),
            ("claude-*-4-5*", "claude-opus-4-5-20251101", true),
            ("claude-*-4-5*", "claude-opus-4-6", false),
            ("*_rate_limit_*", "tpm_rate_limit_exceeded", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-c-", false),
        ] {
            assert_eq!(fits(pattern, text), answer, "{pattern} {text}");
        }
    }

    #[test]
    fn a_status_is_a_number_or_a_hundred() {
        assert_eq!(pattern("429"), Ok(StatusPattern::Exact(429)));
        assert_eq!(pattern("5xx"), Ok(StatusPattern::Hundred(5)));
        for word in ["42", "xx", "55xx", "-1", "9999", "ok"] {
            assert!(pattern(word).is_err(), "{word}");
        }
    }
}
