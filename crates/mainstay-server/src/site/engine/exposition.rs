//! The text in which Prometheus is told of metrics, as far as we ask: samples with labels.
//!
//! Ours, because the libraries for it either lean on a regular expression a line and have had no
//! release for two years, or come under a licence that a static binary cannot honour. It is a
//! page of code, and strict only where it must be: a line that it cannot read is left out.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// The largest number that is believed of a count.
const COUNT_MAX: f64 = 9e15;

/// All samples of a text.
pub(super) struct Samples<'a>(Vec<Sample<'a>>);

/// One sample.
pub(super) struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, Cow<'a, str>)>,
    value: f64,
}

impl<'a> Samples<'a> {
    /// Reads `text`.
    pub(super) fn of(text: &'a str) -> Samples<'a> {
        Samples(text.lines().filter_map(sample).collect())
    }

    /// Those of this very name: one name is often the beginning of another.
    pub(super) fn named(&self, name: &str) -> impl Iterator<Item = &Sample<'a>> {
        self.0.iter().filter(move |sample| is_name(sample.name, name))
    }

    /// The samples of the first of `names` that there is: names change between versions.
    pub(super) fn first_of(&self, names: &[&str]) -> Vec<&Sample<'a>> {
        let found = names.iter().map(|name| self.named(name).collect::<Vec<_>>());
        found.into_iter().find(|samples| !samples.is_empty()).unwrap_or_default()
    }

    /// The greatest level of each rank.
    pub(super) fn levels(&self, names: &[&str], rank: &[&str]) -> BTreeMap<u32, f64> {
        let mut levels: BTreeMap<u32, f64> = BTreeMap::new();
        for sample in self.first_of(names) {
            let level = levels.entry(sample.rank(rank)).or_insert(sample.value);
            *level = level.max(sample.value);
        }
        levels
    }

    /// A counter over all ranks, with or without `_total` behind its name. Within a rank, whose
    /// parts count the same, the greatest counts.
    pub(super) fn counter(&self, name: &str, rank: &[&str]) -> Option<u64> {
        let total = format!("{name}_total");
        let ranks = self.levels(&[&total, name], rank);
        (!ranks.is_empty()).then(|| ranks.values().filter_map(|value| count(*value)).sum())
    }
}

impl Sample<'_> {
    /// Its value.
    pub(super) fn value(&self) -> f64 {
        self.value
    }

    /// A label's text.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_ref())
    }

    /// A label that is a number, as those of the series with `_info` in their names are.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.label(name)?.parse().ok()
    }

    /// The rank by the first of these labels that it has, else 0.
    pub(super) fn rank(&self, labels: &[&str]) -> u32 {
        labels.iter().find_map(|label| self.number(label)).unwrap_or(0)
    }
}

/// A value as a count; none if it cannot be one.
pub(super) fn count(value: f64) -> Option<u64> {
    (0.0..COUNT_MAX).contains(&value).then_some(value as u64)
}

/// The same, of what is few.
pub(super) fn few(value: f64) -> Option<u32> {
    count(value).and_then(|count| u32::try_from(count).ok())
}

/// A value as a share; none if it cannot be one. Rounding may put it a little above 1.
pub(super) fn share(value: f64) -> Option<f64> {
    (0.0..1.001).contains(&value).then(|| value.min(1.0))
}

/// Whether a series is the one `wanted`. Some exporters cannot write a colon.
fn is_name(name: &str, wanted: &str) -> bool {
    name.len() == wanted.len()
        && name.bytes().zip(wanted.bytes()).all(|(a, b)| a == b || (b == b':' && a == b'_'))
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c == '{' || c.is_ascii_whitespace())?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    // A time stamp may stand behind the value.
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Sample { name, labels, value })
}

type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// The labels behind an opening brace, and what follows the closing one.
fn labels(mut rest: &str) -> Option<(Labels<'_>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, value) = rest.split_once('=')?;
        let (value, after) = quoted(value.trim_start().strip_prefix('"')?)?;
        labels.push((name.trim(), value));
        rest = after;
    }
}

/// The text up to the closing quote, and what follows.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut is_escaped = false;
    let mut has_escapes = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => (is_escaped, has_escapes) = (true, true),
            '"' => {
                let value = &text[..at];
                let value = if has_escapes { unescaped(value).into() } else { value.into() };
                return Some((value, &text[at + 1..]));
            }
            _ => {}
        }
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some('n') => out.push('\n'),
                Some(other) => out.push(other),
                None => {}
            },
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_may_hold_commas_braces_and_quotes() {
        let text =
            "m{a=\"x, y} \\\"z\\\"\",engine=\"3\"} 2 1700000000000\nm 1e3\nbroken{ 4\nm{a=\"b} 5";
        let samples = Samples::of(text);
        let all: Vec<_> = samples.named("m").collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].label("a"), all[0].value()), (Some("x, y} \"z\""), 2.0));
        assert_eq!((all[0].rank(&["engine"]), all[1].value()), (3, 1000.0));
    }

    #[test]
    fn what_cannot_be_a_count_or_a_share_is_none() {
        assert_eq!([count(f64::NAN), count(-1.0), count(f64::INFINITY), count(1e30)], [None; 4]);
        assert_eq!((count(8.128902e6), few(3.0)), (Some(8_128_902), Some(3)));
        assert_eq!([share(f64::NAN), share(28.0), share(-0.1)], [None; 3]);
        assert_eq!((share(1.0000001), share(0.28)), (Some(1.0), Some(0.28)));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[a-z:{}=\",\\\\ \n0-9.]{0,80}") {
            let _ = Samples::of(&text).0.len();
        }
    }
}
