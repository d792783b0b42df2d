//! How much a content may hold: checked by whoever publishes and by every node that takes it in.

use alloc::format;
use alloc::string::String;

/// Positions of sites, targets and gateways are 16 bits wide; far below that, every node holds a
/// table of each and compares them at every request.
const SITES_MAX: usize = 1000;
/// A hundred models at each of a hundred sites.
const TARGETS_MAX: usize = 10_000;
/// As many names as targets.
const MODELS_MAX: usize = 10_000;
/// What 4 MiB of hashes come to.
const KEYS_MAX: usize = 50_000;

/// How much a content holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sites.
    pub sites: usize,
    /// Models at sites.
    pub targets: usize,
    /// Names that clients ask for.
    pub models: usize,
    /// Callers.
    pub keys: usize,
}

/// What of it is too much, in words.
pub fn excess(counts: Counts) -> Option<String> {
    let Counts { sites, targets, models, keys } = counts;
    let all = [
        ("sites", sites, SITES_MAX),
        ("models at sites", targets, TARGETS_MAX),
        ("models", models, MODELS_MAX),
        ("keys", keys, KEYS_MAX),
    ];
    let over = all.into_iter().find(|(_, count, most)| count > most);
    over.map(|(what, count, most)| format!("{count} {what} are too many; at most {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_may_hold_much_and_not_more() {
        let full = Counts { sites: 1000, targets: 10_000, models: 10_000, keys: 50_000 };
        assert_eq!(excess(full), None);
        let over = excess(Counts { sites: 1001, ..full });
        assert_eq!(over.as_deref(), Some("1001 sites are too many; at most 1000"));
        assert!(excess(Counts { keys: 50_001, ..full }).is_some());
    }
}
