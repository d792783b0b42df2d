//! What positions are called, and how a peer's positions become ours.
//!
//! Two nodes may run two generations of policy, in which the same position is another site. So
//! each says once what its positions are called, and the receiver looks names up. What has no
//! name here is dropped and counted; it is never taken for something else.

use super::message::Message;
use super::name::NodeName;
use mainstay_core::config::Config;
use mainstay_core::cost::CostRate;
use mainstay_core::message::{Digest, Order, PerTier, Short, Summary, TIERS_MAX};
use mainstay_core::names::{GatewayId, ModelId, SiteId, TargetId, TierId};
use std::collections::BTreeMap;

/// In a digest: never heard of, or long ago.
const UNHEARD: u8 = 255;

/// Names by position, as the policy of this node has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    /// Sites.
    pub sites: Vec<String>,
    /// Targets: the site, and the model's name there.
    pub targets: Vec<(SiteId, String)>,
    /// The models that clients ask for.
    pub models: Vec<String>,
    /// Gateways.
    pub gateways: Vec<String>,
    /// Tiers, the highest first.
    pub tiers: Vec<String>,
    /// Which node controls a site of ours, by the site's position.
    pub nodes: BTreeMap<u16, NodeName>,
    /// The site that this node controls.
    pub home: Option<SiteId>,
}

impl Book {
    /// The names of `config`, among `gateways`. Targets that it learns later have none.
    pub fn of(config: &Config, gateways: &[NodeName]) -> Book {
        Book {
            sites: config.sites.iter().map(|site| site.name.clone()).collect(),
            targets: config.targets.iter().map(|each| (each.site, each.model.clone())).collect(),
            models: config.models.iter().map(|model| model.name.clone()).collect(),
            gateways: gateways.iter().map(NodeName::to_string).collect(),
            tiers: config.tiers.iter().map(|tier| tier.name.clone()).collect(),
            ..Book::default()
        }
    }

    /// The position of the gateway `name`.
    pub fn gateway(&self, name: &NodeName) -> Option<GatewayId> {
        position(&self.gateways, name.as_str()).map(GatewayId)
    }

    /// Whether `name` controls some site.
    pub fn is_site(&self, name: &NodeName) -> bool {
        self.nodes.values().any(|node| node == name)
    }

    fn site_of(&self, target: TargetId) -> Option<SiteId> {
        self.targets.get(usize::from(target.0)).map(|(site, _)| *site)
    }
}

/// Why a message is dropped although it could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// It is about something that has no name here.
    NoName,
    /// It is about a site that is not its sender's to speak for, or not ours to answer for.
    NotTheirs,
}

/// From a peer's positions to ours.
#[derive(Debug)]
pub(super) struct Translation {
    sites: Vec<Option<SiteId>>,
    targets: Vec<Option<TargetId>>,
    models: Vec<Option<ModelId>>,
    gateways: Vec<Option<GatewayId>>,
    tiers: Vec<Option<TierId>>,
}

impl Translation {
    pub(super) fn new(theirs: &Book, ours: &Book) -> Translation {
        let names = |from: &[String], to: &[String]| -> Vec<Option<u16>> {
            let index = index(to.iter().map(String::as_str));
            from.iter().map(|name| index.get(name.as_str()).copied()).collect()
        };
        let sites = names(&theirs.sites, &ours.sites);
        let known = index(ours.targets.iter().map(|(site, model)| (site.0, model.as_str())));
        let target = |(site, model): &(SiteId, String)| {
            let here = sites.get(usize::from(site.0)).copied().flatten()?;
            known.get(&(here, model.as_str())).copied().map(TargetId)
        };
        let tier = |at: Option<u16>| at.and_then(|at| u8::try_from(at).ok()).map(TierId);
        Translation {
            targets: theirs.targets.iter().map(target).collect(),
            sites: sites.iter().map(|at| at.map(SiteId)).collect(),
            models: names(&theirs.models, &ours.models)
                .into_iter()
                .map(|at| at.map(ModelId))
                .collect(),
            gateways: names(&theirs.gateways, &ours.gateways)
                .into_iter()
                .map(|at| at.map(GatewayId))
                .collect(),
            tiers: names(&theirs.tiers, &ours.tiers).into_iter().map(tier).collect(),
        }
    }

    /// `message` of `peer` with our positions, and how many entries of it have no name here.
    pub(super) fn translate(
        &self,
        message: Message,
        peer: &NodeName,
        ours: &Book,
    ) -> Result<(Message, u64), Foreign> {
        let mut lost = 0;
        let translated = match message {
            Message::Report(mut report) => {
                report.target = self.target(report.target)?;
                if ours.site_of(report.target) != ours.home {
                    return Err(Foreign::NotTheirs);
                }
                report.demand = self.rates(&report.demand, &mut lost);
                report.total = self.rates(&report.total, &mut lost);
                Message::Report(report)
            }
            Message::Grant(mut grant) => {
                grant.target = self.target(grant.target)?;
                let controller = ours.site_of(grant.target).and_then(|at| ours.nodes.get(&at.0));
                if controller != Some(peer) {
                    return Err(Foreign::NotTheirs);
                }
                grant.rate = self.rates(&grant.rate, &mut lost);
                Message::Grant(grant)
            }
            Message::Digest(digest) => {
                let from = ours.gateway(peer).ok_or(Foreign::NoName)?;
                Message::Digest(self.digest(Digest { from, ..digest }, ours, &mut lost))
            }
            Message::Order(order) => Message::Order(self.order(order).ok_or(Foreign::NoName)?),
            Message::Orders(orders) => {
                let all = orders.len();
                let here: Vec<Order> =
                    orders.into_iter().filter_map(|order| self.order(order)).collect();
                lost += count(all - here.len());
                Message::Orders(here)
            }
            Message::Summary(summary) => {
                Message::Summary(Box::new(self.summary(*summary, &mut lost)))
            }
            Message::Fetch(_)
            | Message::QuotaReport(_)
            | Message::QuotaGrant(_)
            | Message::KeyMarks(_)
            | Message::Keys(_)
            | Message::Spent(_)
            | Message::Poll
            | Message::Snapshot(_) => message,
        };
        Ok((translated, lost))
    }

    fn target(&self, theirs: TargetId) -> Result<TargetId, Foreign> {
        let here = self.targets.get(usize::from(theirs.0)).copied().flatten();
        here.ok_or(Foreign::NoName)
    }

    /// What has no name here is part of the whole all the same.
    fn summary(&self, summary: Summary, lost: &mut u64) -> Summary {
        let entries = summary.models.len() + summary.sites.len();
        let model = |id: ModelId| self.models.get(usize::from(id.0)).copied().flatten();
        let site = |id: SiteId| self.sites.get(usize::from(id.0)).copied().flatten();
        let models = summary.models.into_iter();
        let models: Vec<_> = models.filter_map(|(id, all)| Some((model(id)?, all))).collect();
        let sites = summary.sites.into_iter();
        let sites: Vec<_> = sites.filter_map(|(id, is, all)| Some((site(id)?, is, all))).collect();
        let short = summary.short.into_iter();
        let short =
            short.filter_map(|each| Some(Short { site: site(each.site)?, ..each })).collect();
        *lost += count(entries - models.len() - sites.len());
        Summary { models, sites, short, ..summary }
    }

    /// An order without a site is about all of them.
    fn order(&self, order: Order) -> Option<Order> {
        let site = match order.site {
            None => None,
            Some(theirs) => Some(self.sites.get(usize::from(theirs.0)).copied().flatten()?),
        };
        Some(Order { site, ..order })
    }

    fn rates(&self, theirs: &PerTier<CostRate>, lost: &mut u64) -> PerTier<CostRate> {
        let mut ours = PerTier::default();
        for (at, rate) in theirs.iter().enumerate().filter(|(_, rate)| rate.0 > 0) {
            let here = self.tiers.get(at).copied().flatten().map(|tier| usize::from(tier.0));
            match here.filter(|here| *here < TIERS_MAX) {
                Some(here) => ours[here] = *rate,
                None => *lost += 1,
            }
        }
        ours
    }

    fn digest(&self, digest: Digest, ours: &Book, lost: &mut u64) -> Digest {
        let entries = digest.verdicts.len() + digest.probed.len();
        let here = |target: TargetId| self.target(target).ok();
        let verdicts: Vec<_> = digest
            .verdicts
            .into_iter()
            .filter_map(|(target, verdict, age)| Some((here(target)?, verdict, age)))
            .collect();
        let probed: Vec<_> = digest
            .probed
            .into_iter()
            .filter_map(|(target, good, age)| Some((here(target)?, good, age)))
            .collect();
        *lost += count(entries - verdicts.len() - probed.len());
        let mut heard = vec![UNHEARD; ours.gateways.len()];
        for (at, age) in digest.heard.iter().enumerate() {
            let here = self.gateways.get(at).copied().flatten();
            match here.and_then(|here| heard.get_mut(usize::from(here.0))) {
                Some(slot) => *slot = *age,
                None => *lost += 1,
            }
        }
        Digest { verdicts, probed, heard, ..digest }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn position(names: &[String], name: &str) -> Option<u16> {
    names.iter().position(|each| each == name).and_then(|at| u16::try_from(at).ok())
}

/// Positions by name; the first of two alike, as everywhere.
fn index<K: Ord>(names: impl Iterator<Item = K>) -> BTreeMap<K, u16> {
    let mut index = BTreeMap::new();
    for (at, name) in (0..=u16::MAX).zip(names) {
        index.entry(name).or_insert(at);
    }
    index
}
