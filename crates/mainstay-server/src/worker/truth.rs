//! Keeps the built-in model to what is so.
//!
//! A small model sometimes says the wrong thing. While it decodes, a token is refused if it would
//! name a slot that stands for nothing, say of a site what is said of sites in another state, give
//! it another's time, or begin an answer that is not so. It may still miss the question; it cannot
//! make up a state.

use super::slots::{self, Scene, Shown};
use mainstay_core::gateway::outlook::Condition;
use mainstay_engine::{Allowed, Engine};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Every condition that a site's slot can say.
const CONDITIONS: [Condition; 7] = [
    Condition::Up,
    Condition::Slow,
    Condition::Full,
    Condition::Down,
    Condition::Drained,
    Condition::KeyRefused,
    Condition::NoCredit,
];

/// How an answer may begin, and of which state of things that is true.
const OPENINGS: [(&str, Truly); 24] = [
    ("Yes: all", Truly::NoTrouble),
    ("No: ", Truly::Trouble),
    ("No site is down", Truly::NoneGone),
    ("No site is up", Truly::AllGone),
    ("I see no slow site", Truly::NoneSlow),
    ("No request is waiting", Truly::NoneWaits),
    ("No model is set up", Truly::NoModel),
    ("是的,", Truly::NoTrouble),
    ("不是:", Truly::Trouble),
    ("没有站点中断", Truly::NoneGone),
    ("没有正常的站点", Truly::AllGone),
    ("没有看到缓慢的站点", Truly::NoneSlow),
    ("没有请求在等待", Truly::NoneWaits),
    ("还没有设置模型", Truly::NoModel),
    // Answers to other questions begin with the same tokens.
    ("No site can answer", Truly::Always),
    ("No, I am", Truly::Always),
    ("No harm", Truly::Always),
    ("不是,我", Truly::Always),
    ("没关系", Truly::Always),
    // Said where there is no site at all.
    ("No provider key was found", Truly::Never),
    ("没有找到服务商密钥", Truly::Never),
    // Said where nothing is told of the sites, and here something is.
    ("I was not told", Truly::Never),
    ("我没有收到", Truly::Never),
    ("I am the small", Truly::Always),
];

/// Behind these openings, only these slots may come first.
const BEHIND: [(&str, &[&str]); 8] = [
    ("No site is up. Try again in ", &["R"]),
    ("没有正常的站点。请 ", &["R"]),
    ("No: ", &["list:trouble"]),
    ("不是:", &["list:trouble"]),
    ("Now: ", &["list:good"]),
    ("现在就可以:", &["list:good"]),
    ("No site can answer ", &["off1", "off2", "off3", "off4"]),
    ("现在没有站点能回答 ", &["off1", "off2", "off3", "off4"]),
];

/// What is only so while some site answers.
const SHARED: [&str; 2] = [" Other sites carry", "其他站点在分担"];

/// A state of things.
#[derive(Clone, Copy)]
enum Truly {
    NoTrouble,
    Trouble,
    NoneGone,
    AllGone,
    NoneSlow,
    NoneWaits,
    NoModel,
    Always,
    Never,
}

/// What may be said.
struct Truth {
    /// Slots that stand for nothing.
    empty: BTreeSet<u32>,
    /// Slots that stand for something of this state.
    known: BTreeSet<u32>,
    /// By a site's slot: what may follow it, and what must not.
    sites: BTreeMap<u32, Sayings>,
    /// Slots of times, each with the site's slot that it belongs to.
    times: BTreeMap<u32, u32>,
    /// How an answer may begin.
    openings: Sayings,
    /// Behind these openings, only these slots may come first.
    behind: Vec<(Vec<u32>, BTreeSet<u32>)>,
    /// What must not be said anywhere.
    never: Vec<Vec<u32>>,
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
        let slots = scene.slots();
        let (known, empty): (Vec<String>, Vec<String>) =
            slots::all().partition(|slot| slots.contains(slot.as_str()));
        let ids =
            |slots: Vec<String>| slots.iter().filter_map(|slot| engine.token_id(slot)).collect();
        let (known, empty) = (ids(known), ids(empty));
        let (mut times, mut sites) = (BTreeMap::new(), BTreeMap::new());
        for site in &scene.sites {
            let Some(id) = engine.token_id(&site.slot) else { continue };
            let time = site.time.as_deref().and_then(|time| engine.token_id(time));
            times.extend(time.map(|time| (time, id)));
            sites.insert(id, of_site(engine, site));
        }
        let behind = BEHIND.iter().map(|(opening, slots)| {
            let ids = slots.iter().filter_map(|slot| engine.token_id(&format!("[{slot}]")));
            (engine.tokenize(opening), ids.collect())
        });
        let answers = scene.sites.iter().any(|site| site.condition.answers());
        let never = SHARED.iter().filter(|_| !answers).map(|text| engine.tokenize(text));
        let (behind, never) = (behind.collect(), never.collect());
        Truth { empty, known, sites, times, openings: openings(engine, scene), behind, never }
    }

    fn allows(&self, answer: &[u32], token: u32) -> bool {
        if self.empty.contains(&token) || !self.openings.allow(answer, token) {
            return false;
        }
        let is_bound = |(opening, slots): &(Vec<u32>, BTreeSet<u32>)| {
            answer == opening.as_slice() && !slots.is_subset(&self.empty) && !slots.contains(&token)
        };
        if self.behind.iter().any(is_bound) {
            return false;
        }
        if self.known.contains(&token) && !self.may_name(answer, token) {
            return false;
        }
        let would_be_said = |text: &Vec<u32>| {
            text.split_last().is_some_and(|(last, rest)| *last == token && answer.ends_with(rest))
        };
        if self.never.iter().any(would_be_said) {
            return false;
        }
        let last = answer.iter().rposition(|token| self.sites.contains_key(token));
        if let Some(owner) = self.times.get(&token) {
            return last.is_some_and(|at| answer[at] == *owner);
        }
        last.is_none_or(|at| self.sites[&answer[at]].allow(&answer[at + 1..], token))
    }

    /// Whether `slot` may be named next. No answer that the model was taught names anything twice;
    /// going round in circles does.
    fn may_name(&self, answer: &[u32], slot: u32) -> bool {
        let is_foreign = |(opening, slots): &(Vec<u32>, BTreeSet<u32>)| {
            answer == opening.as_slice() && !slots.contains(&slot)
        };
        !answer.contains(&slot) && !self.behind.iter().any(is_foreign)
    }
}

impl Sayings {
    fn allow(&self, said: &[u32], token: u32) -> bool {
        leads(&self.right, said, token) || !leads(&self.wrong, said, token)
    }
}

/// What may follow a site's slot, and what must not: what is said of sites in another condition,
/// and a time where none is known.
fn of_site(engine: &Engine, site: &Shown) -> Sayings {
    let after = |saying: String| {
        let mut tokens = engine.tokenize(&format!("{} {saying}", site.slot));
        tokens.drain(..tokens.len().min(1));
        tokens
    };
    let mut sayings = Sayings::default();
    for condition in CONDITIONS {
        let (english, chinese) = slots::saying(condition);
        let is_so = slots::word(condition) == slots::word(site.condition);
        let list = if is_so { &mut sayings.right } else { &mut sayings.wrong };
        list.extend([after(english.into()), after(chinese.into())]);
        if is_so {
            let list = if site.time.is_some() { &mut sayings.right } else { &mut sayings.wrong };
            list.push(after(format!("{english}, {}", slots::tail(condition).0)));
            list.push(after(format!("{chinese},约")));
        }
    }
    sayings
}

fn openings(engine: &Engine, scene: &Scene) -> Sayings {
    let sites = &scene.sites;
    let slots = scene.slots();
    let has = |slot: &str| slots.contains(slot);
    let mut sayings = Sayings::default();
    // Without a site there is nothing to be wrong about; the answer is another.
    let known = OPENINGS.iter().filter(|_| !sites.is_empty());
    for (text, truly) in known {
        let is_so = match truly {
            Truly::NoTrouble => !has("[list:trouble]"),
            Truly::Trouble => has("[list:trouble]"),
            Truly::NoneGone => !has("[list:bad]"),
            Truly::AllGone => !has("[list:good]"),
            Truly::NoneSlow => !has("[list:slow]"),
            Truly::NoneWaits => !has("[Q]"),
            Truly::NoModel => !has("[list:models]"),
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
            known: BTreeSet::from([1, 2, 60, 61]),
            sites: BTreeMap::from([(1, sayings)]),
            times: BTreeMap::from([(60, 1), (61, 2)]),
            openings: Sayings { right: vec![vec![40, 42]], wrong: vec![vec![40, 41]] },
            behind: vec![(vec![50], BTreeSet::from([2]))],
            never: vec![vec![80, 81]],
        };
        assert!(truth.allows(&[1], 10) && truth.allows(&[1, 10], 12) && truth.allows(&[1], 30));
        assert!(!truth.allows(&[1, 10], 11) && !truth.allows(&[1], 20) && !truth.allows(&[], 9));
        assert!(truth.allows(&[], 1) && !truth.allows(&[50], 1) && !truth.allows(&[1, 30], 1));
        assert!(truth.allows(&[50], 2) && truth.allows(&[50, 30], 1));
        assert!(truth.allows(&[1, 10, 12], 60) && !truth.allows(&[1, 10, 12], 61));
        assert!(truth.allows(&[], 40) && !truth.allows(&[40], 41) && truth.allows(&[5, 40], 41));
        assert!(truth.allows(&[5], 80) && !truth.allows(&[5, 80], 81));
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
            "[list:bad].",
            "No: [list:trouble].",
            "No: [list:trouble]",
            "[down1] is down.",
            "[full2] is full, room in about [T2].",
            "[full2] 已满,约 [T2]后有空位。",
            "不是:[list:trouble]。",
            "That is not one of my sites. I know [list:names].",
            "No site is up",
            "No request is waiting.",
            "Put this into [word:file]:\n[toml:site]\nThen run `[run:serve]`.",
            "No, I am a program",
        ] {
            assert!(may_say(right), "{right}");
        }
        for wrong in [
            "[down1] is up.",
            "[down1] is down, asked again in about",
            "[down1] 正常。",
            "[full2] is full; [full2] is full.",
            "[up1] is up.",
            "[list:good].",
            "No: [list:bad].",
            "No site is down.",
            "I see no slow site.",
            "Yes: all [C] sites are up.",
            "没有站点中断。",
            "[list:bad]. Other sites carry the load.",
            "No provider key was found",
        ] {
            assert!(!may_say(wrong), "{wrong}");
        }
    }
}
