//! From the file to what the server needs: every name resolved, every file looked at, every bound
//! checked. All that is wrong is found in one pass.

mod check;
mod dns;
mod door;
mod models;
mod money;
mod node;
mod people;
mod policy;
mod profiles;
mod sites;
mod status;
mod workers;

use super::problem::Problem;
use super::source::Source;
use super::{File, Site};
use crate::catalog::Catalog;
use crate::environment::{Environment, base_url_env};
use mainstay_core::config::{Config, Fleet, Service, Site as CoreSite};
use mainstay_core::cost::CostRate;
use mainstay_core::names::GatewayId;
use mainstay_server::setup::{Node, Setup};
use std::path::{Path, PathBuf};

/// A configuration that is ready to start.
#[derive(Debug)]
pub struct Resolved {
    /// What the server needs.
    pub setup: Setup,
    /// What the start-up text says of each site, in the order of `setup.core.sites`.
    pub origins: Vec<Origin>,
    /// Provider keys that were looked for and not found.
    pub missing: Vec<String>,
    /// What works, but probably not as meant.
    pub warnings: Vec<Problem>,
}

/// Where a site comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The variable, file or address that made it a site.
    pub why: String,
    /// What it shares with others.
    pub fate: Vec<String>,
}

/// What configurations are resolved against.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The environment variables.
    pub environment: &'a Environment,
    /// Directory that relative paths in the file start from.
    pub base: &'a Path,
}

/// Resolves `file`, whose text is `source`.
///
/// # Errors
/// Everything that is wrong, in the order of the text; never empty.
pub fn resolve(
    source: &Source<'_>,
    file: File,
    around: &Surroundings<'_>,
) -> Result<Resolved, Vec<Problem>> {
    let mut desk = Resolver {
        source,
        file,
        environment: around.environment,
        base: around.base,
        catalog: Catalog::builtin(),
        sites_from_environment: false,
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    desk.dialects();
    let missing = desk.find_sites();
    let tiers = desk.tiers();
    let sites = desk.sites();
    let plan = desk.models(&sites);
    let keys = desk.keys(&tiers);
    let contracts = desk.contracts(&tiers);
    let listen = desk.listen();
    let (limits, bounds, drain) = desk.limits();
    let log = desk.log();
    desk.check(&tiers);
    let dns = desk.dns(&listen.dns);
    let (node, status) = desk.node_and_page(&sites, listen.link);
    let dns = desk.dns_of_nodes(dns, node.as_ref());
    let rehearsal = desk.rehearsal();
    let ledger = desk.ledger(node.as_ref());
    let tariff = desk.tariff(&sites, &tiers, &keys);
    let mut desk = desk.sound()?;
    let (core, rest): (Vec<CoreSite>, Vec<_>) =
        sites.into_iter().map(|site| (site.core, (site.upstream, site.origin))).unzip();
    let (upstreams, origins) = rest.into_iter().unzip();
    let core = Config {
        fleet: Fleet { quota: desk.quota_terms(), ..fleet(node.as_ref(), core.len()) },
        sites: core,
        targets: plan.targets,
        models: plan.models,
        families: plan.families,
        tiers,
        limits,
    };
    let setup = Setup {
        written: source.written(),
        listen,
        core,
        upstreams,
        keys,
        contracts,
        data_dir: desk.data_dir(),
        // Without keys all callers are of one class. The highest, so that no share is kept from
        // them for callers who cannot exist.
        anonymous_tier: 0,
        bounds,
        drain,
        log,
        dns,
        node,
        rehearsal,
        status,
        ledger,
        tariff: std::sync::Arc::new(tariff),
    };
    Ok(Resolved { setup, origins, missing, warnings: desk.warnings })
}

/// This gateway among those that the file lists.
fn fleet(node: Option<&Node>, sites: usize) -> Fleet {
    // Nobody knows yet what each carries, so all count alike.
    let sites = vec![CostRate::ZERO; sites];
    let service = Service { sites, ..Service::default() };
    let alone = Fleet { service, ..Fleet::default() };
    let Some(node) = node.filter(|node| node.roles.gateway) else { return alone };
    let me = node.gateways.iter().position(|name| name == node.identity.name());
    let number = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
    Fleet { me: GatewayId(me.map_or(0, number)), gateways: number(node.gateways.len()), ..alone }
}

/// What the parts of resolving share.
struct Resolver<'a> {
    source: &'a Source<'a>,
    file: File,
    environment: &'a Environment,
    base: &'a Path,
    catalog: Catalog,
    sites_from_environment: bool,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Resolver<'_> {
    /// This one, if nothing is wrong.
    fn sound(mut self) -> Result<Self, Vec<Problem>> {
        self.problems.sort_by_key(|problem| problem.offset);
        if self.problems.is_empty() { Ok(self) } else { Err(self.problems) }
    }

    /// Without any site in the file, those that the environment offers. Returns what else was
    /// looked for.
    fn find_sites(&mut self) -> Vec<String> {
        if !self.file.site.is_empty() {
            return Vec::new();
        }
        let found = self.environment.sites(&self.catalog);
        self.file.site = found.sites;
        self.sites_from_environment = true;
        found.missing
    }

    fn wrong(&mut self, path: &str, what: impl Into<String>) {
        let problem = self.problem(path, what);
        self.problems.push(problem);
    }

    fn warn(&mut self, path: &str, what: impl Into<String>) {
        let problem = self.problem(path, what);
        self.warnings.push(problem);
    }

    fn problem(&self, path: &str, what: impl Into<String>) -> Problem {
        let from_environment = self.sites_from_environment && path.starts_with("site.");
        if !from_environment {
            return self.source.problem(path, what);
        }
        let at = path.split('.').nth(1).and_then(|at| at.parse::<usize>().ok()).unwrap_or(0);
        let key_env = self.file.site.get(at).and_then(|site: &Site| site.key_env.clone());
        let key_env = key_env.unwrap_or_default();
        let key = if path.ends_with("base_url") { base_url_env(&key_env) } else { key_env };
        Problem { place: String::from("environment"), key, what: what.into(), offset: 0 }
    }

    fn path(&self, text: &str) -> PathBuf {
        self.base.join(text)
    }

    /// The path `text`, after a problem at `key` if no file can be read there.
    fn readable(&mut self, key: &str, text: &str) -> PathBuf {
        let path = self.path(text);
        if let Err(error) = std::fs::File::open(&path).and_then(|mut file| {
            // A directory opens on Unix; only reading tells.
            std::io::Read::read(&mut file, &mut [0])
        }) {
            self.wrong(key, format!("cannot read {}: {error}; mend the path", path.display()));
        }
        path
    }

    fn dialects(&mut self) {
        let Some(directory) = self.file.dialects_dir.clone() else { return };
        for wrong in self.catalog.add_directory(&self.path(&directory)) {
            self.wrong("dialects_dir", format!("{wrong}; mend the file or take it away"));
        }
    }
}

#[cfg(test)]
mod tests;
