//! Whether new content changes so much that a person must confirm it.
//!
//! What it says is compared where a slip hurts: a site, tier or model that is gone, another first
//! choice for a model. What it does is compared by letting both decide the same recent requests.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// More of the requests than this, in hundredths, going elsewhere is hardly ever meant in passing:
/// it is what the loss of one site of five moves.
pub const MOVED_MAX: u32 = 20;

/// Recent requests that are decided anew: enough that a share of one in a hundred is seen.
pub const REPLAYED: usize = 1000;

/// So few say nothing about shares: a fifth of them is chance.
const TELLING: usize = 50;

/// Where requests go that are not placed anywhere.
const NOWHERE: &str = "no site";

/// What one content decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    /// Names of its sites.
    pub sites: Vec<String>,
    /// Names of its tiers.
    pub tiers: Vec<String>,
    /// Its models by name, each with the `site/model` that is asked first.
    pub routes: Vec<(String, String)>,
    /// To which site each of the recent requests goes; `None` if to none.
    pub placed: Vec<Option<String>>,
}

/// What must be confirmed in going from one content to another, in words; `None` if nothing.
pub fn difference(before: &Decided, after: &Decided) -> Option<String> {
    gone("site", &before.sites, &after.sites)
        .or_else(|| gone("tier", &before.tiers, &after.tiers))
        .or_else(|| rerouted(before, after))
        .or_else(|| moved(before, after))
}

fn gone(kind: &str, before: &[String], after: &[String]) -> Option<String> {
    let lost = before.iter().find(|name| !after.contains(name))?;
    Some(format!("{kind} {lost} is gone"))
}

fn rerouted(before: &Decided, after: &Decided) -> Option<String> {
    before.routes.iter().find_map(|(model, first)| {
        match after.routes.iter().find(|(name, _)| name == model) {
            None => Some(format!("model {model} is gone")),
            Some((_, now)) if now != first => {
                Some(format!("model {model} goes to {now} first, instead of {first}"))
            }
            Some(_) => None,
        }
    })
}

fn moved(before: &Decided, after: &Decided) -> Option<String> {
    let all = before.placed.len().min(after.placed.len());
    if all < TELLING {
        return None;
    }
    let (old, new) = (shares(before, all), shares(after, all));
    let names = old.keys().chain(new.keys());
    let change = |site: &&str| -> (u32, u32) {
        (old.get(site).copied().unwrap_or(0), new.get(site).copied().unwrap_or(0))
    };
    let widest = names.max_by_key(|site| {
        let (was, is) = change(site);
        was.abs_diff(is)
    })?;
    let (was, is) = change(widest);
    let is_much = was.abs_diff(is) > MOVED_MAX;
    is_much.then(|| format!("{widest} gets {is} % of the last {all} requests instead of {was} %"))
}

/// Hundredths of the first `all` requests that each site gets.
fn shares(decided: &Decided, all: usize) -> BTreeMap<&str, u32> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for site in &decided.placed[..all] {
        *counts.entry(site.as_deref().unwrap_or(NOWHERE)).or_default() += 1;
    }
    counts.into_iter().map(|(site, count)| (site, (count * 100 / all) as u32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| String::from(*name)).collect()
    }

    /// Two sites; the first so many of a hundred requests go to A, the others to B.
    fn decided(at_a: usize) -> Decided {
        let site = |at| Some(String::from(if at < at_a { "A" } else { "B" }));
        Decided {
            sites: names(&["A", "B"]),
            tiers: names(&["pro", "free"]),
            routes: vec![("chat".into(), "A/x".into())],
            placed: (0..100).map(site).collect(),
        }
    }

    #[test]
    fn more_than_a_fifth_of_the_requests_elsewhere_is_told_and_a_fifth_is_not() {
        assert_eq!(difference(&decided(50), &decided(70)), None);
        assert_eq!(difference(&decided(50), &decided(30)), None);
        let told = difference(&decided(50), &decided(71)).unwrap();
        assert!(told.contains("B gets 29 % of the last 100 requests instead of 50 %"), "{told}");
        let nowhere = Decided { placed: vec![None; 100], ..decided(0) };
        let told = difference(&decided(50), &nowhere).unwrap();
        assert!(told.starts_with("no site gets 100 %"), "{told}");
    }

    #[test]
    fn a_site_a_tier_or_a_model_that_is_gone_is_told_and_one_that_is_new_is_not() {
        let old = decided(50);
        let more = Decided { sites: names(&["C", "B", "A"]), ..decided(50) };
        assert_eq!(difference(&old, &more), None);
        let fewer = Decided { sites: names(&["A"]), ..decided(50) };
        assert_eq!(difference(&old, &fewer).unwrap(), "site B is gone");
        let fewer = Decided { tiers: names(&["free"]), ..decided(50) };
        assert_eq!(difference(&old, &fewer).unwrap(), "tier pro is gone");
        let fewer = Decided { routes: Vec::new(), ..decided(50) };
        assert_eq!(difference(&old, &fewer).unwrap(), "model chat is gone");
    }

    #[test]
    fn another_first_choice_is_told() {
        let other = Decided { routes: vec![("chat".into(), "B/x".into())], ..decided(50) };
        let told = difference(&decided(50), &other).unwrap();
        assert_eq!(told, "model chat goes to B/x first, instead of A/x");
    }

    #[test]
    fn a_handful_of_requests_says_nothing_about_shares() {
        let few =
            |at_a| Decided { placed: decided(at_a).placed[..TELLING - 1].to_vec(), ..decided(0) };
        assert_eq!(difference(&few(0), &few(100)), None);
    }
}
