//! What the environment offers: provider keys found in it become sites, and `MAINSTAY__…`
//! variables override keys of the file.
//!
//! It is read once, here; everything else gets it as a value, so that tests can make their own.

use crate::catalog::Catalog;
use crate::config_file::source::{OVERRIDE, Override};
use crate::config_file::{Engine, Site};
use std::collections::BTreeMap;

/// Providers whose keys are looked for, in the order in which they are preferred. Open weights
/// come first, since more than one of the others can serve the same model when one is lost.
const PROVIDERS: [&str; 9] = [
    "deepseek",
    "dashscope",
    "moonshot",
    "qianfan",
    "openai",
    "anthropic",
    "groq",
    "together",
    "openrouter",
];

/// Variables and their values. Blank values count as unset.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

/// The sites that the environment offers, and where nothing was found.
#[derive(Debug, Default)]
pub struct Found {
    /// One for each provider whose key is set, then the embedded engine.
    pub sites: Vec<Site>,
    /// Variables that would have made a site.
    pub missing: Vec<String>,
}

impl Environment {
    /// The variables of this process.
    pub fn of_process() -> Environment {
        let unicode = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Environment(std::env::vars_os().filter_map(unicode).collect())
    }

    /// The value of `name`, if it is set and not blank.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// The variables that override keys of the file.
    pub fn overrides(&self) -> Vec<Override> {
        let ours = self.0.iter().filter_map(|(name, value)| {
            let path = name.strip_prefix(OVERRIDE)?.to_ascii_lowercase().replace("__", ".");
            Some(Override { shown: name.clone(), path, value: value.clone() })
        });
        ours.collect()
    }

    /// A site for each provider whose key is set, then the embedded engine.
    pub fn sites(&self, catalog: &Catalog) -> Found {
        let mut found = Found::default();
        for name in PROVIDERS {
            let Some(dialect) = catalog.get(name) else { continue };
            let Some(key_env) = dialect.key_env.clone() else { continue };
            if self.get(&key_env).is_none() {
                found.missing.push(key_env);
                continue;
            }
            found.sites.push(Site {
                name: Some(name.to_string()),
                provider: Some(name.to_string()),
                base_url: self.get(&base_url_env(&key_env)).map(str::to_string),
                key_env: Some(key_env),
                ..Site::default()
            });
        }
        found.sites.push(Site {
            name: Some(String::from("builtin")),
            engine: Some(Engine { model: Some(String::from("builtin")), ..Engine::default() }),
            ..Site::default()
        });
        found
    }
}

/// The variable that overrides the base URL where `key_env` holds the key: the SDKs' own names,
/// `OPENAI_BASE_URL` beside `OPENAI_API_KEY`.
pub fn base_url_env(key_env: &str) -> String {
    format!("{}_BASE_URL", key_env.trim_end_matches("_API_KEY"))
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Environment {
        Environment(pairs.into_iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
    }
}
