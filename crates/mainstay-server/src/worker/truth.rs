//! Keeps the built-in model to what is so.
//!
//! It was trained to copy each site's state into its answer, and a small model sometimes copies the
//! wrong one. While it decodes, a token is refused if it would name a slot that stands for nothing,
//! say of a site what is said of sites in another state, or give it another's time. It may still
//! miss the question; it cannot make up a state.

use super::slots::{self, Scene};
use mainstay_core::gateway::outlook::Condition;
use mainstay_engine::{Allowed, Engine};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the model says of a site behind its slot, in both languages.
const SAYINGS: [(&str, &str, &str); 7] = [
    ("up", " is up", " 正常"),
    ("slow", " is slow", " 很慢"),
    ("full", " is full", " 已满"),
    ("down", " is down", " 中断"),
    ("drained", " is drained", " 已下线"),
    ("key", " refuses its key", " 拒绝了密钥"),
    ("credit", " has no credit", " 余额不足"),
];

/// What follows where a time is known, and only there.
const TAILS: [&str; 2] = [", back in about", ", room in about"];
/// See `TAILS`.
const CHINESE_TAIL: &str = ",约";

/// What an answer about all sites begins with, and of which state of things it is true.
const OPENINGS: [(&str, Truly); 14] = [
    ("Yes: all", Truly::NoTrouble),
    ("No: ", Truly::Trouble),
    ("No site is down", Truly::NoneGone),
    ("No site is up", Truly::AllGone),
    ("是的,", Truly::NoTrouble),
    ("不是:", Truly::Trouble),
    ("没有站点中断", Truly::NoneGone),
    ("没有正常的站点", Truly::AllGone),
    // Answers to other questions begin with the same tokens.
    ("No request", Truly::Always),
    ("No site can answer", Truly::Always),
    ("没有请求", Truly::Always),
    ("不是,我", Truly::Always),
    // Said where there is no site at all.
    ("No provider key was found", Truly::Never),
    ("没有找到", Truly::Never),
];

/// Openings that only sites of one kind may follow: those that answer, or those that do not.
const LISTS: [(&str, bool); 4] =
    [("Now: ", true), ("现在就可以:", true), ("No: ", false), ("不是:", false)];

/// A state of things.
#[derive(Clone, Copy)]
enum Truly {
    NoTrouble,
    Trouble,
    NoneGone,
    AllGone,
    Always,
    Never,
}

/// What may be said.
struct Truth {
    /// Slots that stand for nothing.
    empty: BTreeSet<u32>,
    /// By a site's slot: what may follow it, and what must not.
    sites: BTreeMap<u32, Sayings>,
    /// Slots of times, each with the site's slot that it belongs to.
    times: BTreeMap<u32, u32>,
    /// How an answer may begin.
    openings: Sayings,
    /// Behind these openings, these sites would not be so.
    lists: Vec<(Vec<u32>, BTreeSet<u32>)>,
    /// What stands between two sites, and so not behind the last.
    separator: Option<u32>,
}

#[derive(Default)]
struct Sayings {
    right: Vec<Vec<u32>>,
    wrong: Vec<Vec<u32>>,
}

/// What decoding is bound by in `scene`.
pub fn allowed(engine: &Engine, scene: &Scene) -> Allowed {
    let truth = Truth::of(engine, scene);
    Arc::new(move |answer, token| truth.allows(answer, token))
}

impl Truth {
    fn of(engine: &Engine, scene: &Scene) -> Truth {
        let known = scene.slots();
        let unknown = slots::all().filter(|slot| !known.contains(slot.as_str()));
        let empty = unknown.filter_map(|slot| engine.token_id(&slot)).collect();
        let mut times = BTreeMap::new();
        let mut sites = BTreeMap::new();
        for site in &scene.sites {
            let Some(id) = engine.token_id(&site.slot) else { continue };
            let after = |saying: &str| {
                let mut tokens = engine.tokenize(&format!("{}{saying}", site.slot));
                tokens.drain(..tokens.len().min(1));
                tokens
            };
            let mut sayings = Sayings::default();
            for (word, english, chinese) in SAYINGS {
                let is_so = word == slots::word(site.condition);
                let list = if is_so { &mut sayings.right } else { &mut sayings.wrong };
                list.extend([after(english), after(chinese)]);
                if is_so && site.time.is_none() {
                    let tails = TAILS.map(|tail| after(&format!("{english}{tail}")));
                    sayings.wrong.extend(tails);
                    sayings.wrong.push(after(&format!("{chinese}{CHINESE_TAIL}")));
                }
            }
            let time = site.time.as_deref().and_then(|time| engine.token_id(time));
            times.extend(time.map(|time| (time, id)));
            sites.insert(id, sayings);
        }
        let lists = LISTS.iter().map(|(opening, answers)| {
            let others = scene.sites.iter().filter(|site| site.condition.answers() != *answers);
            let others = others.filter_map(|site| engine.token_id(&site.slot));
            (engine.tokenize(opening), others.collect())
        });
        let (openings, lists) = (openings(engine, scene), lists.collect());
        let separator = engine.tokenize(";").first().copied();
        Truth { empty, sites, times, openings, lists, separator }
    }

    fn allows(&self, answer: &[u32], token: u32) -> bool {
        if self.empty.contains(&token) || !self.openings.allow(answer, token) {
            return false;
        }
        let may_follow = |site: &u32| self.may_list(answer, *site);
        if self.sites.contains_key(&token) && !may_follow(&token) {
            return false;
        }
        let last = answer.iter().rposition(|token| self.sites.contains_key(token));
        let is_list = last.is_some() && Some(token) == self.separator;
        if is_list && !self.sites.keys().any(may_follow) {
            return false;
        }
        if let Some(owner) = self.times.get(&token) {
            return last.is_some_and(|at| answer[at] == *owner);
        }
        last.is_none_or(|at| self.sites[&answer[at]].allow(&answer[at + 1..], token))
    }
}

impl Truth {
    /// Whether `site` may be named next. No answer that the model was taught names a site twice;
    /// going round in circles does.
    fn may_list(&self, answer: &[u32], site: u32) -> bool {
        let is_foreign = |(opening, others): &(Vec<u32>, BTreeSet<u32>)| {
            others.contains(&site) && answer.starts_with(opening)
        };
        !answer.contains(&site) && !self.lists.iter().any(is_foreign)
    }
}

impl Sayings {
    fn allow(&self, said: &[u32], token: u32) -> bool {
        leads(&self.right, said, token) || !leads(&self.wrong, said, token)
    }
}

fn openings(engine: &Engine, scene: &Scene) -> Sayings {
    let sites = &scene.sites;
    let is_gone = |condition: Condition| !condition.answers() && condition != Condition::Full;
    let mut sayings = Sayings::default();
    // Without a site there is nothing to be wrong about; the answer is another.
    let known = OPENINGS.iter().filter(|_| !sites.is_empty());
    for (text, truly) in known {
        let is_so = match truly {
            Truly::NoTrouble => sites.iter().all(|site| site.condition.answers()),
            Truly::Trouble => sites.iter().any(|site| !site.condition.answers()),
            Truly::NoneGone => !sites.iter().any(|site| is_gone(site.condition)),
            Truly::AllGone => !sites.iter().any(|site| site.condition.answers()),
            Truly::Always => true,
            Truly::Never => false,
        };
        let list = if is_so { &mut sayings.right } else { &mut sayings.wrong };
        list.push(engine.tokenize(text));
    }
    sayings
}

/// Whether `said` and then `token` begin one of `sayings`.
fn leads(sayings: &[Vec<u32>], said: &[u32], token: u32) -> bool {
    let begins = |saying: &&Vec<u32>| saying.starts_with(said);
    let next = |saying: &Vec<u32>| saying.get(said.len()) == Some(&token);
    sayings.iter().filter(begins).any(next)
}

#[cfg(test)]
mod tests {
    use super::super::words::Language;
    use super::*;
    use mainstay_core::gateway::outlook::{Outlook, SiteState};
    use mainstay_engine::{Settings, builtin};
    use std::time::Duration;

    #[test]
    fn a_site_is_only_said_to_be_what_it_is() {
        // 1 is the slot, 10 `is`, 11 `up`, 12 `down`, 20 `has`, 30 `and`.
        let sayings =
            Sayings { right: vec![vec![10, 12]], wrong: vec![vec![10, 11], vec![20, 21]] };
        let truth = Truth {
            empty: BTreeSet::from([9]),
            sites: BTreeMap::from([(1, sayings)]),
            times: BTreeMap::from([(60, 1), (61, 2)]),
            openings: Sayings { right: vec![vec![40, 42]], wrong: vec![vec![40, 41]] },
            lists: vec![(vec![50], BTreeSet::from([1]))],
            separator: Some(70),
        };
        assert!(truth.allows(&[1], 10) && truth.allows(&[1, 10], 12) && truth.allows(&[1], 30));
        assert!(!truth.allows(&[1, 10], 11) && !truth.allows(&[1], 20) && !truth.allows(&[], 9));
        assert!(truth.allows(&[], 1) && !truth.allows(&[50], 1) && !truth.allows(&[1, 30], 1));
        assert!(truth.allows(&[50], 70) && !truth.allows(&[1, 10, 12], 70));
        assert!(truth.allows(&[1, 10, 12], 60) && !truth.allows(&[1, 10, 12], 61));
        assert!(truth.allows(&[], 40) && !truth.allows(&[40], 41) && truth.allows(&[5, 40], 41));
    }

    #[test]
    fn the_built_in_model_may_say_what_is_so_and_nothing_else() {
        let site = |name: &str, condition, again| SiteState { name: name.into(), condition, again };
        let outlook = Outlook {
            sites: vec![
                site("one", Condition::Down, None),
                site("two", Condition::Full, Some(Duration::from_secs(40))),
                site("three", Condition::KeyRefused, None),
            ],
            ..Outlook::default()
        };
        let scene = Scene::of(&outlook, None, Language::English);
        let engine = Engine::from_files(builtin::files(), Settings::default()).unwrap();
        let allowed = allowed(&engine, &scene);
        let may_say = |text: &str| {
            let tokens = engine.tokenize(text);
            (0..tokens.len()).all(|at| allowed(&tokens[..at], tokens[at]))
        };
        for right in [
            "[down1] is down; [key3] refuses its key.",
            "No: [down1] is down; [full2] is full, room in about [T2]; [key3] refuses its key.",
            "[full2] 已满,约 [T2] 后有空位。",
            "不是:[down1] 中断;[key3] 拒绝了密钥。",
            "That is not one of my sites. I know [down1], [full2] and [key3].",
            "No site is up. Try again in [R].",
            "No request is waiting.",
        ] {
            let known = right.replace("[R]", "a moment");
            assert!(may_say(&known), "{right}");
        }
        for wrong in [
            "[down1] is up.",
            "[down1] is down, back in about [T2].",
            "[down1] 正常。",
            "[full2] is full; [full2] is full.",
            "[up1] is up.",
            "No site is down.",
            "Yes: all [C] sites are up.",
            "没有站点中断。",
            "No provider key was found",
        ] {
            assert!(!may_say(wrong), "{wrong}");
        }
    }
}
