//! What is wrong with a configuration, where, and how to mend it: one line each, all at once, so
//! that nobody mends a file one start at a time.

use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: `mainstay.toml:12`, `mainstay.toml:12:9`, or the name of an environment variable.
    pub place: String,
    /// The key, e.g. `site.capacity`.
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

/// The one of `known` that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Jaro-Winkler of 0.8 keeps two swapped or one missing letter in a short word and drops words
    // that only share a beginning.
    const ALIKE: f64 = 0.8;
    known
        .into_iter()
        .map(|each| (strsim::jaro_winkler(word, each), each))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, each)| each)
}

/// `; did you mean …` or, when nothing is near, what there is to choose from.
pub fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(word, known.iter().copied()) {
        Some(each) => format!("did you mean `{each}`?"),
        None if known.is_empty() => String::from("there is none yet"),
        None => format!("known are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_word_finds_its_neighbour_and_a_foreign_one_finds_none() {
        let known = ["capacity", "base_url", "name", "provider"];
        assert_eq!(nearest("capcity", known), Some("capacity"));
        assert_eq!(nearest("base-url", known), Some("base_url"));
        assert_eq!(nearest("zzz", known), None);
    }
}
