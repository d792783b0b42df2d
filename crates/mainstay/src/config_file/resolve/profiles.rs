//! What an operator says that a worker is: a model on a machine whose times were measured, or the
//! coefficients of another one.

use super::Resolver;
use crate::config_file::problem::hint;
use crate::config_file::worker::{Profile as Said, Steps, Worker};
use mainstay_core::site::schedule::profile::Profile;
use mainstay_core::site::schedule::settings::Settings;
use mainstay_sim::service::{PROFILES, Profile as Known};
use mainstay_sim::study::coefficients;

/// Tokens in a step where nobody says: what vLLM and llama.cpp begin with.
const CHUNK: u32 = 2048;
/// Fewer go into no step of an engine that serves prompts beside answers.
const CHUNK_MIN: u32 = 256;

impl Resolver<'_> {
    /// What steps take at a worker, where that is said.
    pub(super) fn profile(&mut self, path: &str, file: &Worker) -> Option<Profile> {
        let path = format!("{path}.profile");
        match file.profile.as_ref()? {
            Said::Named(name) => self.named(&path, name),
            Said::Steps(steps) => self.steps(&path, steps),
        }
    }

    fn named(&mut self, path: &str, name: &str) -> Option<Profile> {
        // The others are one half of a pair, for prompts or for answers.
        let whole = || PROFILES.into_iter().filter(|known| known.pair > 0.0 && known.context > 0.0);
        let found = whole().find(|known| known.name == name).map(|known| coefficients(&known));
        if found.is_none() {
            let names: Vec<&str> = whole().map(|Known { name, .. }| name).collect();
            let hint = hint(name, names);
            let what = format!(
                "no profile `{name}`; {hint} Of another worker write what its steps take, in \
                 milliseconds: {{ base = 9.0, token = 0.0425 }}"
            );
            self.wrong(path, what);
        }
        found
    }

    fn steps(&mut self, path: &str, file: &Steps) -> Option<Profile> {
        let rest = [("least", file.least), ("context", file.context), ("pair", file.pair)];
        for (key, value) in [("base", file.base)].into_iter().chain(rest) {
            if value.is_some_and(|value| !value.is_finite() || value < 0.0) {
                let what = "is no time; write milliseconds, e.g. 9.0, or 0";
                self.wrong(&format!("{path}.{key}"), what);
            }
        }
        let token = file.token.filter(|token| token.is_finite() && *token > 0.0);
        if token.is_none() {
            let what = "what a token takes is what a profile is about; write milliseconds above \
                        0, e.g. token = 0.0425";
            self.wrong(&format!("{path}.token"), what);
        }
        if file.chunk.is_some_and(|chunk| chunk < CHUNK_MIN) {
            let what =
                format!("no engine takes so few; write {CHUNK_MIN} or more, or leave it out");
            self.wrong(&format!("{path}.chunk"), what);
        }
        let block = Settings::default().block;
        if file.kv_tokens.is_some_and(|tokens| tokens < block) {
            let what = format!("holds no prompt; write {block} or more, or leave it out");
            self.wrong(&format!("{path}.kv_tokens"), what);
        }
        let base = file.base.unwrap_or(0.0);
        Some(Profile {
            overhead: 0.0,
            floor: file.least.unwrap_or(base),
            base,
            token: token?,
            context: file.context.unwrap_or(0.0),
            pair: file.pair.unwrap_or(0.0),
            chunk: file.chunk.unwrap_or(CHUNK),
            // How many answers there are at once is said elsewhere.
            sequences: u32::MAX,
            blocks: file.kv_tokens.map_or(u32::MAX, |tokens| tokens / block),
        })
    }
}
