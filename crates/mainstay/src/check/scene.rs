//! What the audit looks at: the file as it is written, what it resolves to, and the place of
//! every key.
//!
//! A key that is not here is presumed: an audit runs where secrets are not, such as in CI.

use super::finding::Place;
use crate::catalog::Catalog;
use crate::config_file::problem::Problem;
use crate::config_file::resolve::{Resolved, Surroundings, resolve};
use crate::config_file::source::Source;
use crate::config_file::{File, Site};
use crate::environment::Environment;
use mainstay_core::config::{Config, Model, Target};
use mainstay_core::names::TargetId;
use mainstay_server::setup::{EngineModel, Provider, Upstream};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A configuration with the places of its keys.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The text, with places.
    pub source: &'a Source<'a>,
    /// The file as it is written; without sites where the environment makes them.
    pub file: File,
    /// What it means.
    pub resolved: Resolved,
    /// Variables and files that should hold a key and do not, here.
    pub absent: Vec<String>,
    /// The dialects there are.
    pub catalog: Catalog,
    /// Directory that relative paths in the file start from.
    pub base: PathBuf,
}

impl<'a> Scene<'a> {
    /// Reads and resolves `source`.
    ///
    /// # Errors
    /// Everything that is wrong with it, but for keys that are not here.
    pub fn read(
        source: &'a Source<'a>,
        environment: &Environment,
        base: &Path,
    ) -> Result<Scene<'a>, Vec<Problem>> {
        let (file, mut problems) = source.read().map_err(|problem| vec![problem])?;
        let mut catalog = Catalog::builtin();
        if let Some(directory) = &file.dialects_dir {
            // What is wrong there is told by `resolve`.
            let _ = catalog.add_directory(&base.join(directory));
        }
        let mut presumed = file.clone();
        let mut absent = Vec::new();
        for site in &mut presumed.site {
            absent.extend(presume(site, (environment, base), &catalog));
        }
        match resolve(source, presumed, &Surroundings { environment, base }) {
            Ok(resolved) if problems.is_empty() => {
                let base = base.to_path_buf();
                Ok(Scene { source, file, resolved, absent, catalog, base })
            }
            Ok(_) => Err(problems),
            Err(more) => {
                problems.extend(more);
                problems.sort_by_key(|problem| problem.offset);
                Err(problems)
            }
        }
    }

    /// What the machines would decide by.
    pub fn core(&self) -> &Config {
        &self.resolved.setup.core
    }

    /// The name of the site at this position.
    pub fn site(&self, at: usize) -> &str {
        self.core().sites.get(at).map_or("?", |site| &site.name)
    }

    /// Whether the site is the engine in this process.
    pub fn is_embedded(&self, at: usize) -> bool {
        self.core().sites.get(at).is_some_and(mainstay_core::config::Site::is_embedded)
    }

    /// Whether the site is the model that is compiled in, or says only how the sites are.
    pub fn is_builtin(&self, at: usize) -> bool {
        let upstream = self.resolved.setup.upstreams.get(at);
        matches!(upstream, Some(Upstream::Engine(EngineModel::Builtin | EngineModel::Status)))
    }

    /// How the site is reached, if it is a provider.
    pub fn provider(&self, at: usize) -> Option<&Provider> {
        match self.resolved.setup.upstreams.get(at)? {
            Upstream::Provider(provider) => Some(provider),
            Upstream::Engine(_) | Upstream::Node(_) => None,
        }
    }

    /// Where the site is reached, as a URL: a provider's address, or that of a node of ours.
    pub fn url(&self, at: usize) -> Option<String> {
        match self.resolved.setup.upstreams.get(at)? {
            Upstream::Provider(provider) => Some(provider.base_url.clone()),
            Upstream::Node(node) => Some(format!("https://{}", node.address)),
            Upstream::Engine(_) => None,
        }
    }

    /// How many gateways run this file, if it says so: those it lists, unless `[check]` knows
    /// better.
    pub fn gateways(&self) -> Option<u32> {
        let listed = u32::try_from(self.file.gateway.len()).ok().filter(|count| *count > 0);
        self.file.check.gateways.or(listed)
    }

    /// Positions of the sites that are not in this process.
    pub fn remote(&self) -> Vec<usize> {
        (0..self.core().sites.len()).filter(|at| !self.is_embedded(*at)).collect()
    }

    /// The target called so.
    pub fn target(&self, id: TargetId) -> &Target {
        &self.core().targets[usize::from(id.0)]
    }

    /// The position of a target's site.
    pub fn site_of(&self, id: TargetId) -> usize {
        usize::from(self.target(id).site.0)
    }

    /// `site/model`.
    pub fn shown(&self, id: TargetId) -> String {
        format!("{}/{}", self.site(self.site_of(id)), self.target(id).model)
    }

    /// Whether only the engine in this process is asked by this name.
    pub fn needs_no_provider(&self, model: &Model) -> bool {
        model.served_by.iter().all(|id| self.is_embedded(self.site_of(*id)))
            && model.substitutes.iter().all(|id| self.is_embedded(self.site_of(*id)))
    }

    /// Where `path` is written, or the nearest thing above it.
    pub fn place(&self, path: &str) -> Place {
        let Problem { place, key, offset, .. } = self.source.problem(path, "");
        // What is not written yet has no line; a key on the first line begins at 0 too.
        let is_new = offset == 0 && path.contains('.');
        let line = match (is_new, self.file.site.is_empty() && place == "configuration") {
            (_, true) => String::from("environment"),
            (true, false) => place.trim_end_matches(":1").to_string(),
            (false, false) => place,
        };
        Place { line, key }
    }

    /// Where a key of a site is written, or the variable that made it a site.
    pub fn site_place(&self, at: usize, key: &str) -> Place {
        if !self.file.site.is_empty() {
            return match key {
                "" => self.place(&format!("site.{at}")),
                key => self.place(&format!("site.{at}.{key}")),
            };
        }
        let why = self.resolved.origins.get(at).map_or("", |origin| &origin.why);
        let key = why.split(',').next().unwrap_or_default().to_string();
        Place { line: String::from("environment"), key }
    }

    /// Where a key of a model is written; of a model that nobody wrote, where its site is.
    pub fn model_place(&self, at: usize, key: &str) -> Place {
        if !self.file.model.is_empty() {
            return self.place(&format!("model.{at}.{key}"));
        }
        let first = self.core().models.get(at).and_then(|model| model.served_by.first());
        first.map_or_else(|| self.place("model"), |id| self.site_place(self.site_of(*id), ""))
    }

    /// The models' names at these positions, each once.
    pub fn names(&self, models: &BTreeSet<usize>) -> Vec<String> {
        models.iter().filter_map(|at| Some(self.core().models.get(*at)?.name.clone())).collect()
    }
}

/// Puts a key in the place of one that is not here, and tells which one that is. What is put there
/// differs by its name, so that two sites have the same key only if they name the same one.
fn presume(
    site: &mut Site,
    (environment, base): (&Environment, &Path),
    catalog: &Catalog,
) -> Option<String> {
    let given = [&site.key, &site.key_env, &site.key_file];
    // More than one is a mistake, and told as such.
    if site.engine.is_some()
        || site.node.is_some()
        || given.iter().filter(|each| each.is_some()).count() > 1
    {
        return None;
    }
    let absent = match (&site.key, &site.key_env, &site.key_file) {
        (Some(_), _, _) => None,
        (_, Some(variable), _) => {
            environment.get(variable).is_none().then(|| site.key_env.take()).flatten()
        }
        (_, _, Some(path)) => match std::fs::File::open(base.join(path)) {
            Ok(_) => None,
            Err(_) => site.key_file.take(),
        },
        (None, None, None) if site.base_url.is_some() => None,
        (None, None, None) => {
            let dialect = catalog.get(site.provider.as_deref().unwrap_or_default());
            let variable = dialect.and_then(|dialect| dialect.key_env.clone());
            variable.filter(|variable| environment.get(variable).is_none())
        }
    };
    if let Some(name) = &absent {
        let plain: String = name.chars().filter(char::is_ascii_graphic).collect();
        site.key = Some(format!("presumed:{plain}"));
    }
    absent
}
