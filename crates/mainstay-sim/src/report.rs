//! A page that shows runs: one HTML file that works without a network, in light and in dark, and
//! can be read whole without scripts.
//!
//! What a reader wants to see first comes first: passed or not, what was asked and what was
//! answered while things broke; then where it went, what was believed, what was granted; then
//! every verdict in words. The naive baseline stands beside it on the same axes.

mod chart;
mod lane;
mod maps;
mod page;
mod style;
mod words;

use crate::outcome::{Run, Timeline};
use crate::scenario::Scenario;
use crate::sweep::Map;

/// One run to show.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What was played.
    pub scenario: &'a Scenario,
    /// What came of it.
    pub run: &'a Run,
    /// What happened.
    pub timeline: &'a Timeline,
    /// The naive baseline with the same seed.
    pub baseline: Option<(&'a Run, &'a Timeline)>,
}

/// The page. Maps of sweeps come first; several runs have small pictures in front.
pub fn page(views: &[View<'_>], maps: &[Map]) -> String {
    page::page(views, maps)
}

/// Text that cannot be taken for markup.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Control characters are no text in HTML.
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests;
