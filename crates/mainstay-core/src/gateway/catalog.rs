//! Finds the model a client names, also where a provider is known by families of names only.

use crate::config::{ALL_TIERS, Config, Model, Needs, Target};
use crate::gateway::Gateway;
use crate::names::{ModelId, TargetId};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Names learned at run time are bounded, so that a client cannot fill memory by inventing them.
const LEARNED_MAX: usize = 512;

impl Gateway {
    /// The model of this name. A name that only fits a family of some provider becomes a model of
    /// its own, with the substitutes of the default model.
    pub fn find_model(&mut self, name: &str) -> Option<ModelId> {
        // A model without a name is one that only running answers still have.
        let is_it = |m: &Model| m.name == name && !name.is_empty();
        let known = self.config.models.iter().position(is_it);
        if let Some(at) = known {
            return u16::try_from(at).ok().map(ModelId);
        }
        let learned = learn(&mut self.config, self.listed, name)?;
        self.targets.grow(&self.config);
        Some(learned)
    }

    /// The known name nearest to one that is not known.
    pub fn nearest_model(&self, name: &str) -> Option<String> {
        let named = self.config.models.iter().filter(|m| !m.name.is_empty());
        let names = named.map(|m| m.name.as_str());
        nearest(name, names).map(str::to_string)
    }
}

/// Adds a model of this name, if some provider may serve it, to the first `listed` and others that
/// were learned so.
pub(super) fn learn(config: &mut Config, listed: usize, name: &str) -> Option<ModelId> {
    if config.models.len() >= LEARNED_MAX + listed {
        return None;
    }
    let families = config.families.iter().filter(|f| fits(&f.pattern, name));
    let sites: Vec<_> = families.cloned().collect();
    if sites.is_empty() {
        return None;
    }
    let mut served_by = Vec::new();
    for family in sites {
        let id = TargetId(u16::try_from(config.targets.len()).ok()?);
        config.targets.push(Target {
            site: family.site,
            model: name.to_string(),
            window: None,
            output_max: None,
            offers: Needs::all(),
            continuation: family.continuation,
            labels: 0,
            home: 0,
            tiers: ALL_TIERS,
        });
        served_by.push(id);
    }
    let default = config.models.first();
    let substitutes = default.map(|m| [&m.served_by[..], &m.substitutes[..]].concat());
    config.models.push(Model {
        name: name.to_string(),
        served_by,
        substitutes: substitutes.unwrap_or_default(),
        substitutes_may_finish: true,
    });
    u16::try_from(config.models.len() - 1).ok().map(ModelId)
}

/// The one of `names` nearest to `name`, if any is near.
pub fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let close = names.map(|known| (distance(known, name), known));
    let (steps, known) = close.min()?;
    (steps * 2 <= name.len().max(4)).then_some(known)
}

/// Whether `name` fits `pattern`, in which a `*` stands for any text.
pub fn fits(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(head) else { return false };
    let parts: Vec<&str> = rest.split('*').collect();
    let (last, middle) = parts.split_last().unwrap_or((&"", &[]));
    for part in middle {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(last)
}

/// Single-character edits between two names, for a suggestion.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_a_person_expects() {
        assert!(fits("gpt-*", "gpt-5.2-mini"));
        assert!(fits("*/*", "meta/llama"));
        assert!(!fits("*/*", "llama"));
        assert!(fits("qwen", "qwen"));
        assert!(!fits("qwen", "qwen3"));
        assert!(fits("claude-*-4-6*", "claude-opus-4-6-20260101"));
    }
}
