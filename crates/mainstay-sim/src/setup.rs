//! Arrangements of sites, and what is played on them.

use crate::load::Load;
use crate::upstream::Upstream;
use mainstay_core::config::{
    ALL_TIERS, Config, Continuation, Limits, Model, Needs, Site, Target, Tier,
};
use mainstay_core::names::{SiteId, TargetId};
use mainstay_core::time::Duration;

/// Who else can answer besides the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// Another site with the same weights.
    Equal,
    /// Another model only.
    Substitute,
    /// Nobody.
    Alone,
}

/// Everything a world is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What the machine decides by.
    pub config: Config,
    /// What is played, by target.
    pub upstreams: Vec<Upstream>,
    /// Who asks.
    pub loads: Vec<Load>,
    /// The world ends here, or when all requests are closed.
    pub until: Duration,
}

/// Weights of the model that clients ask for, and of the substitute.
pub const WEIGHTS: [u64; 2] = [11, 22];

impl Setup {
    /// A primary that behaves like `primary`, with a sound second site as the arrangement says.
    pub fn new(arrangement: Arrangement, primary: Upstream) -> Setup {
        let setup = Setup {
            config: config(1),
            upstreams: vec![primary],
            loads: Vec::new(),
            until: Duration::from_secs(3600),
        };
        match arrangement {
            Arrangement::Equal => setup.equal(Upstream::new(WEIGHTS[0])),
            Arrangement::Substitute => setup.substitute(Upstream::new(WEIGHTS[1])),
            Arrangement::Alone => setup,
        }
    }

    /// One more site with the same weights.
    pub fn equal(mut self, upstream: Upstream) -> Setup {
        let id = self.add(upstream);
        self.config.models[0].served_by.push(id);
        self
    }

    /// One more site with another model.
    pub fn substitute(mut self, upstream: Upstream) -> Setup {
        let id = self.add(upstream);
        self.config.models[0].substitutes.push(id);
        self
    }

    /// With these clients.
    pub fn load(mut self, load: Load) -> Setup {
        self.loads.push(load);
        self
    }

    /// With target `at` changed.
    pub fn target(mut self, at: usize, change: impl FnOnce(&mut Target)) -> Setup {
        change(&mut self.config.targets[at]);
        self
    }

    fn add(&mut self, upstream: Upstream) -> TargetId {
        let more = config(self.upstreams.len() + 1);
        self.config.sites = more.sites;
        self.config.targets.extend(more.targets.into_iter().skip(self.upstreams.len()));
        self.upstreams.push(upstream);
        TargetId(self.upstreams.len() as u16 - 1)
    }
}

/// One site and target for each upstream; the first serves the one model. Three tiers.
fn config(sites: usize) -> Config {
    let names = ["primary", "second", "third", "fourth"];
    let site = |n: usize| Site {
        name: names[n].into(),
        capacity: None,
        kind: Default::default(),
        auth_strikes: 1,
    };
    let target = |n: usize| Target {
        site: SiteId(n as u16),
        model: "m".into(),
        window: None,
        output_max: None,
        offers: Needs::all(),
        continuation: Continuation::Native,
        labels: 0,
        home: 0,
        tiers: ALL_TIERS,
    };
    let tier = |name: &str, floor| Tier { name: name.into(), floor };
    Config {
        sites: (0..sites).map(site).collect(),
        targets: (0..sites).map(target).collect(),
        models: vec![Model {
            name: "chat".into(),
            served_by: vec![TargetId(0)],
            substitutes: Vec::new(),
            substitutes_may_finish: true,
        }],
        families: Vec::new(),
        tiers: vec![tier("enterprise", 0.4), tier("pro", 0.25), tier("free", 0.05)],
        limits: Limits::default(),
        fleet: Default::default(),
    }
}
