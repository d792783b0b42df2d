//! What a scenario's bench is to the machines: their configuration.

use crate::scenario::{Bench, BenchSite, FaultKind, Scenario};
use mainstay_core::config::{
    ALL_TIERS, Config, Continuation, Fleet, Limits, Model, Needs, Pool, Service, Site, SiteConfig,
    SiteKind, Target, Tier,
};
use mainstay_core::cost::{CostRate, CostUnits};
use mainstay_core::lease::Terms;
use mainstay_core::mutant::Mutants;
use mainstay_core::names::{GatewayId, SiteId, TargetId};
use mainstay_core::time::Duration;

/// What long prompts need of their target, in scenarios where a site lacks it.
pub const LONG: u64 = 1;

/// What everything is played by; positions of sites and targets are the same.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Gateways there may be in the whole run.
    pub gateways: usize,
    /// Of those, at the start.
    pub first_gateways: usize,
    /// Rules taken away.
    pub mutants: Mutants,
    /// The site that says it has what long prompts need and has not.
    pub mislabelled: Option<usize>,
    /// The site whose model cannot be loaded.
    pub unloadable: Option<usize>,
    /// Capacity and streams are divided by it.
    pub scale: f64,
}

impl Plan {
    /// What the scenario needs.
    pub fn new(scenario: &Scenario, mutants: Mutants) -> Plan {
        let mut plan = Plan {
            gateways: usize::from(scenario.bench.gateways),
            first_gateways: usize::from(scenario.bench.gateways),
            mutants,
            mislabelled: None,
            unloadable: None,
            scale: scenario.bench.scale.max(1.0),
        };
        for fault in &scenario.faults {
            match fault.kind {
                FaultKind::Scale { from, to } => {
                    plan.first_gateways = usize::from(from);
                    plan.gateways = plan.gateways.max(usize::from(to));
                }
                FaultKind::WrongLabel { site } => plan.mislabelled = Some(usize::from(site)),
                FaultKind::Unloadable { site } => plan.unloadable = Some(usize::from(site)),
                _ => {}
            }
        }
        plan
    }

    /// What a site of the bench carries in this run, in CU a second.
    pub fn capacity(&self, site: &BenchSite) -> f64 {
        site.capacity / self.scale
    }

    /// Workers and streams of a site in this run: each worker is as large as in the bench.
    pub fn workers(&self, site: &BenchSite) -> (u16, u32) {
        let workers = (f64::from(site.workers) / self.scale).ceil().max(1.0);
        (workers as u16, (f64::from(site.streams) / self.scale).ceil().max(1.0) as u32)
    }

    /// What a target is known to have at the start: everything, but where the scenario says no.
    fn labels(&self, site: usize) -> u64 {
        if self.mislabelled == Some(site) { 0 } else { LONG }
    }

    /// What a gateway decides by.
    pub fn gateway(&self, bench: &Bench, me: usize) -> Config {
        let targets: Vec<Target> =
            bench.sites.iter().enumerate().map(|(at, site)| self.target(me, at, site)).collect();
        let ids = |is_provider: bool| {
            let some = bench.sites.iter().enumerate().filter(|(_, s)| s.is_provider == is_provider);
            some.map(|(at, _)| TargetId(at as u16)).collect()
        };
        Config {
            sites: bench.sites.iter().map(node).collect(),
            targets,
            models: vec![Model {
                name: "chat".into(),
                served_by: ids(false),
                substitutes: ids(true),
                substitutes_may_finish: true,
            }],
            families: Vec::new(),
            tiers: tiers(bench),
            limits: Limits::default(),
            fleet: Fleet {
                me: GatewayId(me as u16),
                gateways: self.gateways as u16,
                credit: self.terms(Terms::CREDIT),
                quota: self.terms(Terms::QUOTA),
                service: self.service(bench),
                ..Fleet::default()
            },
        }
    }

    fn target(&self, me: usize, at: usize, site: &BenchSite) -> Target {
        let is_home = site.region.is_none_or(|region| usize::from(region) == me);
        Target {
            site: SiteId(at as u16),
            model: "chat".into(),
            window: None,
            output_max: None,
            offers: Needs::all(),
            continuation: Continuation::Native,
            labels: if site.is_provider { LONG } else { self.labels(at) },
            home: if is_home { (site.home * 1000.0).round() as u16 } else { 0 },
            tiers: match &site.tiers[..] {
                [] => ALL_TIERS,
                some => some.iter().fold(0, |mask, tier| mask | 1 << tier),
            },
        }
    }

    /// What a site's controller decides by.
    pub fn site(&self, bench: &Bench, at: usize) -> SiteConfig {
        let patience: Vec<Duration> = bench.tiers.iter().map(|tier| tier.patience).collect();
        let shortest = patience.iter().copied().min().unwrap_or(Duration::from_secs(5));
        SiteConfig {
            site: SiteId(at as u16),
            pools: vec![Pool {
                target: TargetId(at as u16),
                labels: self.labels(at),
                median: CostUnits::whole(1),
                promise: shortest / 2,
            }],
            tiers: tiers(bench),
            in_time: patience.iter().copied().map(SiteConfig::in_time).collect(),
            patience,
            gateways: self.gateways as u16,
            service: self.service(bench),
            credit: self.terms(Terms::CREDIT),
            overcommit: 5,
            slack: 25,
            standby: 10,
        }
    }

    /// What policy says the sites carry; a provider is counted in no capacity.
    pub fn service(&self, bench: &Bench) -> Service {
        let carries = |site: &BenchSite| match site.is_provider {
            true => CostRate::ZERO,
            false => CostRate((self.capacity(site) * 1000.0) as u64),
        };
        Service { sites: bench.sites.iter().map(carries).collect(), ..Service::default() }
    }

    /// What a site's workers really have.
    pub fn true_labels(&self, site: usize) -> u64 {
        self.labels(site)
    }

    /// How long a grant may be used.
    pub fn lease(&self) -> Duration {
        Terms::CREDIT.lease
    }

    /// These, with the rules that are taken away.
    pub fn terms(&self, terms: Terms) -> Terms {
        Terms { mutants: self.mutants, ..terms }
    }
}

fn node(site: &BenchSite) -> Site {
    Site {
        name: site.name.clone(),
        capacity: site.is_provider.then_some(site.streams),
        kind: if site.is_provider { SiteKind::Provider } else { SiteKind::Node },
        auth_strikes: 1,
    }
}

fn tiers(bench: &Bench) -> Vec<Tier> {
    bench.tiers.iter().map(|t| Tier { name: t.name.clone(), floor: t.floor }).collect()
}
