//! Writing what others live by: route tables and DNS answers, by publishers that may race.
//!
//! Three rules. A set that is too small is filled from the last one that was not empty. A write
//! counts only if the store still holds what its writer had read: a publisher that slept through
//! newer generations finds out at the moment it matters. And nothing is deleted that somebody
//! could still be serving; what is not known counts as served.

use crate::mutant::{Mutant, Mutants};
use alloc::vec::Vec;

/// Generations below the lowest one served that stay all the same: what a person falls back to
/// by hand.
pub const BEHIND: u64 = 3;

/// One published set.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Published<T> {
    /// Its number.
    pub generation: u64,
    /// What it says; never empty once anything was published.
    pub set: Vec<T>,
}

/// Why a write did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotWritten {
    /// The store holds another generation than the one this was made from: read it, begin anew.
    Overtaken { by: u64 },
    /// It is not newer than what the store holds.
    NotNewer,
    /// It says nothing, and nothing was ever published to fill it from.
    Empty,
}

/// `set`, filled up to `least` from the last set that was not empty, the order of both kept. An
/// empty set is always filled, whatever `least` is.
pub fn filled<T: Clone + PartialEq>(
    set: &[T],
    last: &[T],
    least: usize,
    mutants: Mutants,
) -> Vec<T> {
    let mut full = set.to_vec();
    if mutants.removes(Mutant::EmptySetPublished) {
        return full;
    }
    for each in last {
        if full.len() >= least.max(1) {
            break;
        }
        if !full.contains(each) {
            full.push(each.clone());
        }
    }
    full
}

/// Writes `next` into the store if it still holds generation `read`, which `next` was made from.
/// The caller makes this one step, persists, and only then serves.
pub fn write<T>(
    store: &mut Published<T>,
    read: u64,
    next: Published<T>,
    mutants: Mutants,
) -> Result<(), NotWritten> {
    if next.set.is_empty() && !mutants.removes(Mutant::EmptySetPublished) {
        return Err(NotWritten::Empty);
    }
    if !mutants.removes(Mutant::PublishWithoutCompare) {
        if store.generation != read {
            return Err(NotWritten::Overtaken { by: store.generation });
        }
        if next.generation <= read {
            return Err(NotWritten::NotNewer);
        }
    }
    *store = next;
    Ok(())
}

/// What a collector knows of who needs what.
#[derive(Clone, Copy, Debug)]
pub struct Needs<'a> {
    /// The generation each publisher serves; `None` is unknown.
    pub served: &'a [Option<u64>],
    /// Generations named elsewhere, e.g. as something to fall back to; `None` is unknown.
    pub referenced: Option<&'a [u64]>,
    /// The newest generation there is.
    pub newest: u64,
    /// How many below the lowest one served stay, usually `BEHIND`.
    pub behind: u64,
}

/// Whether generation `g` may be deleted.
pub fn may_collect(g: u64, needs: Needs<'_>, mutants: Mutants) -> bool {
    if mutants.removes(Mutant::CollectByAge) {
        return g + needs.behind < needs.newest;
    }
    let Some(referenced) = needs.referenced else { return false };
    let served = needs.served.iter().copied().collect::<Option<Vec<u64>>>();
    let Some(lowest) = served.and_then(|served| served.into_iter().min()) else { return false };
    g.saturating_add(needs.behind) < lowest && !referenced.contains(&g)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_that_is_too_small_is_filled_from_the_last_in_order() {
        let none = Mutants::NONE;
        assert_eq!(filled(&[3], &[1, 3, 2], 2, none), [3, 1]);
        assert_eq!(filled::<u8>(&[], &[1, 2], 0, none), [1]);
        assert_eq!(filled(&[4, 5], &[1, 2], 2, none), [4, 5]);
    }

    #[test]
    fn an_empty_set_is_not_written_even_where_nothing_fills_it() {
        let mut store: Published<u8> = Published::default();
        let next = Published { generation: 1, set: Vec::new() };
        assert_eq!(write(&mut store, 0, next, Mutants::NONE), Err(NotWritten::Empty));
    }

    #[test]
    fn a_number_that_is_not_newer_is_not_written() {
        let mut store = Published { generation: 4, set: [1].to_vec() };
        let next = Published { generation: 4, set: [2].to_vec() };
        assert_eq!(write(&mut store, 4, next, Mutants::NONE), Err(NotWritten::NotNewer));
        assert_eq!(store.set, [1]);
    }

    #[test]
    fn nothing_is_deleted_that_is_served_named_or_not_known_about() {
        let served = [Some(9), Some(8)];
        let needs = Needs { served: &served, referenced: Some(&[2]), newest: 12, behind: BEHIND };
        let may = |g| may_collect(g, needs, Mutants::NONE);
        assert!(may(4) && !may(5) && !may(2));
        let unknown = [Some(9), None];
        assert!(!may_collect(1, Needs { served: &unknown, ..needs }, Mutants::NONE));
        assert!(!may_collect(1, Needs { referenced: None, ..needs }, Mutants::NONE));
        assert!(!may_collect(1, Needs { served: &[], ..needs }, Mutants::NONE));
    }
}
