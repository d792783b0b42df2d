//! A policy, which all nodes share, and a node's own file, put together.
//!
//! *The policy* has what all nodes decide by: `[[gateway]]`, `[[site]]`, `[[model]]`, `[[tier]]`,
//! `[[key]]`, `[[tenant]]`, `[[plan]]`, `[[budget]]`, `[limits]`, `[dns]`, `[check]` and
//! `[status]`. *The own file* has what is this node's alone: where it listens, who it is, what it
//! logs, where it keeps things.
//!
//! What the policy has takes the place of what the own file says of the same: a node may so start
//! from a whole file before the first policy comes. Three things of the own file stay:
//! - of the site that this node controls, what it computes with (`engine`, `capacity`,
//!   `tokens_per_second`);
//! - our key at a site (`key`, `key_env`, `key_file`), where the policy names none;
//! - `dns.kept_file`, `limits.connections` and `limits.drain`.
//!
//! A policy travels to every node and is kept on their disks, so it holds no secret, only where
//! each node finds it; and it says nothing of one node, since then every node would do so.

use super::problem::hint;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What messages call the policy.
pub const POLICY: &str = "policy";

/// Sections that a policy may have.
const SHARED: [&str; 13] = [
    "gateway",
    "site",
    "model",
    "tier",
    "key",
    "tenant",
    "plan",
    "budget",
    "limits",
    "dns",
    "check",
    "rehearsal",
    "status",
];
/// Keys in them that are one node's all the same: what its disk, sockets and supervisor allow.
const OF_NODE: [(&str, &str); 3] =
    [("dns", "kept_file"), ("limits", "connections"), ("limits", "drain")];
/// What the node that controls a site knows of it.
const OF_HOME: [&str; 4] = ["engine", "capacity", "tokens_per_second", "hold_to_rate"];
/// Where a node has our key at a site from.
const OF_KEY: [&str; 3] = ["key", "key_env", "key_file"];

/// The text of an own file and of a policy, one behind the other, so that a place in either is
/// one number.
#[derive(Debug)]
pub struct Joined {
    pub(super) text: String,
    /// The same with blanks where the own file is: what stands in it keeps its place.
    pub(super) masked: String,
    /// Where the own file ends.
    pub(super) at: usize,
}

impl Joined {
    /// The two, joined.
    pub fn new(own: &str, policy: &str) -> Joined {
        let masked = format!("{}\n{policy}", " ".repeat(own.len()));
        Joined { text: format!("{own}\n{policy}"), masked, at: own.len() }
    }
}

/// What a policy says that is not its to say: where, which key, and what to do.
pub(super) fn forbidden(policy: &DeTable<'_>) -> Vec<(usize, String, String)> {
    let mut found = Vec::new();
    for (key, value) in policy {
        let name = key.get_ref().as_ref();
        if !SHARED.contains(&name) {
            let what = match super::source::keys_of::<super::File>().contains(&name) {
                true => "belongs to one node; move it to the node's own file".to_string(),
                false => format!("unknown key; {}", hint(name, SHARED)),
            };
            found.push((key.span().start, name.to_string(), what));
        }
        if name == "dns"
            && let Some((key, _)) = entry(value, "kept_file")
        {
            let what = "belongs to one node; move it to the node's own file".to_string();
            found.push((key.span().start, "dns.kept_file".to_string(), what));
        }
    }
    let sites = policy.get("site").map(Spanned::get_ref).and_then(DeValue::as_array);
    if sites.is_none() && found.is_empty() {
        let what = "a policy names the sites; add [[site]]";
        found.push((0, "site".to_string(), what.to_string()));
    }
    for site in sites.into_iter().flatten() {
        if let Some((key, _)) = entry(site, "key") {
            let what = "a policy goes to every node and disk and must hold no secret; use key_env \
                        or key_file, or put the key into the nodes' own files";
            found.push((key.span().start, "site.key".to_string(), what.to_string()));
        }
    }
    found
}

/// The whole configuration.
pub(super) fn merged<'t>(mut own: DeTable<'t>, policy: DeTable<'t>) -> DeTable<'t> {
    let home = own.get("node").and_then(|node| entry(node, "site"));
    let home = home.and_then(|(_, site)| site.get_ref().as_str()).map(str::to_string);
    let kept: Vec<_> = OF_NODE
        .iter()
        .filter_map(|(section, key)| {
            let (key, value) = entry(own.get(*section)?, key)?;
            Some((*section, (key.clone(), value.clone())))
        })
        .collect();
    let ours = own.get("site").map(|sites| sites.get_ref().clone());
    for (key, mut value) in policy {
        match (key.get_ref().as_ref(), value.get_mut()) {
            ("site", DeValue::Array(sites)) => {
                for site in sites.iter_mut() {
                    add(site, ours.as_ref(), home.as_deref());
                }
            }
            (name, DeValue::Table(table)) => {
                let mine = kept.iter().filter(|(section, _)| *section == name);
                table.extend(mine.map(|(_, entry)| entry.clone()));
            }
            _ => {}
        }
        own.remove(key.get_ref().as_ref());
        own.insert(key, value);
    }
    own
}

/// Adds to a site of the policy what the own file knows of it.
fn add<'t>(site: &mut Spanned<DeValue<'t>>, ours: Option<&DeValue<'t>>, home: Option<&str>) {
    let Some(name) = name_of(site).map(str::to_string) else { return };
    let mut ours = ours.and_then(DeValue::as_array).into_iter().flatten();
    let Some(mine) = ours.rfind(|site| name_of(site) == Some(&name)) else { return };
    let DeValue::Table(table) = site.get_mut() else { return };
    let is_home = home == Some(&name);
    let has_key = OF_KEY.iter().any(|key| table.contains_key(*key));
    let mut add = |keys: &[&str]| {
        for (key, value) in keys.iter().filter_map(|key| entry(mine, key)) {
            table.remove(key.get_ref().as_ref());
            table.insert(key.clone(), value.clone());
        }
    };
    if is_home {
        add(&OF_HOME);
    }
    if !has_key {
        add(&OF_KEY);
    }
}

/// A site's name: by default its provider's.
fn name_of<'v>(site: &'v Spanned<DeValue<'_>>) -> Option<&'v str> {
    let named = entry(site, "name").or_else(|| entry(site, "provider"));
    named.and_then(|(_, name)| name.get_ref().as_str())
}

/// A key of a table, with its place, and its value.
fn entry<'v, 't>(
    value: &'v Spanned<DeValue<'t>>,
    key: &str,
) -> Option<(&'v Spanned<std::borrow::Cow<'t, str>>, &'v Spanned<DeValue<'t>>)> {
    value.get_ref().as_table()?.get_key_value(key)
}
