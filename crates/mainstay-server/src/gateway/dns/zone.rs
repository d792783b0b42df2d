//! All answers, written down once for the set of gateways in force. It never changes; a new set
//! makes a new one.
//!
//! What a name is answered with in which region, and the rotation of it, is core's
//! (`core/gateway/answers`); here it becomes bytes.

use crate::gateway::dns::Settings;
use crate::gateway::dns::block::Block;
use crate::gateway::dns::locate::{Place, Table};
use crate::gateway::dns::name::{Name, suffixes};
use mainstay_core::gateway::answers::{part, shard, turns};
use mainstay_core::names::GatewayId;
use mainstay_core::rng::mix;
use std::collections::HashMap;
use std::net::IpAddr;

/// Everything there is to answer with.
#[derive(Debug, Default)]
pub struct Zones {
    names: HashMap<Box<[u8]>, Node>,
    zones: Vec<Zone>,
    groups: Vec<Group>,
    table: Table,
    /// Labels of the longest name here, so that no question is compared label by label in vain.
    labels_max: usize,
    pub(super) any: Block,
}

/// A name that exists.
#[derive(Clone, Copy, Debug)]
struct Node {
    zone: usize,
    group: usize,
}

/// What is the same below one of the operator's names.
#[derive(Debug)]
pub(super) struct Zone {
    /// Bytes of its name.
    pub(super) length: usize,
    pub(super) authority: Block,
    pub(super) servers: Block,
}

/// What names with the same gateways are answered with: for clients of no region first, then of
/// each.
#[derive(Debug)]
struct Group(Vec<Families>);

/// The rotations of both families of addresses.
#[derive(Debug)]
pub(super) struct Families {
    pub(super) v4: Vec<Block>,
    pub(super) v6: Vec<Block>,
}

/// What was found for a name.
pub(super) enum Found<'z> {
    /// It lies below none of ours.
    NotOurs,
    /// It does not exist, but would in this zone.
    NoName(&'z Zone),
    /// It exists; it is the zone's own name if so said.
    Name { zone: &'z Zone, is_top: bool, regions: Regions<'z> },
}

/// What a name is answered with, by region.
pub(super) struct Regions<'z> {
    group: &'z Group,
    table: &'z Table,
}

impl<'z> Regions<'z> {
    /// The answers for a client at `address`, and where that lies.
    pub(super) fn at(&self, address: IpAddr) -> (&'z Families, Place) {
        let [everywhere, regions @ ..] = &self.group.0[..] else {
            unreachable!("a group is made with its first answers")
        };
        if regions.is_empty() {
            return (everywhere, Place::default());
        }
        let place = self.table.find(address);
        let near = place.region.and_then(|region| regions.get(usize::from(region)));
        (near.unwrap_or(everywhere), place)
    }
}

impl Zones {
    /// The answers of `settings` while `set` is in force.
    pub fn new(settings: &Settings, set: &[(GatewayId, u32)]) -> Zones {
        let mut zones = Zones {
            table: settings.table.clone(),
            any: Block::no_any(settings.ttl),
            ..Zones::default()
        };
        let all = settings.targets.len() as u16;
        let whole = zones.add_group(group(settings, set, &|_| true));
        let tenants: Vec<(&String, usize)> = settings
            .tenants
            .iter()
            .map(|tenant| {
                let few = shard(number(tenant), all);
                (tenant, zones.add_group(group(settings, set, &|id| few.contains(&id))))
            })
            .collect();
        for name in &settings.names {
            let zone = zones.add_zone(settings, name);
            zones.add(name, Node { zone, group: whole });
            for (tenant, group) in &tenants {
                if let Ok(name) = name.below(tenant) {
                    zones.add(&name, Node { zone, group: *group });
                }
            }
        }
        for (name, addresses) in &settings.hosts {
            let zone = settings.names.iter().position(|zone| name.is_under(zone));
            if let Some(zone) = zone {
                let group = zones.add_group(fixed(addresses, settings.ttl));
                zones.add(name, Node { zone, group });
            }
        }
        zones
    }

    fn add_group(&mut self, group: Group) -> usize {
        self.groups.push(group);
        self.groups.len() - 1
    }

    fn add_zone(&mut self, settings: &Settings, name: &Name) -> usize {
        let first = settings.servers.first().unwrap_or(name);
        self.zones.push(Zone {
            length: name.wire().len(),
            authority: Block::authority(first, &settings.contact, name, settings.ttl),
            servers: Block::servers(&settings.servers, name),
        });
        self.zones.len() - 1
    }

    fn add(&mut self, name: &Name, node: Node) {
        self.labels_max = self.labels_max.max(name.labels());
        self.names.insert(name.wire().into(), node);
    }

    /// What there is for `name`, which has so many labels.
    pub(super) fn find(&self, name: &[u8], labels: usize) -> Found<'_> {
        let too_many = labels.saturating_sub(self.labels_max);
        for suffix in suffixes(name).skip(too_many) {
            let Some(node) = self.names.get(suffix) else { continue };
            let zone = &self.zones[node.zone];
            if suffix.len() < name.len() {
                return Found::NoName(zone);
            }
            let regions = Regions { group: &self.groups[node.group], table: &self.table };
            return Found::Name { zone, is_top: suffix.len() == zone.length, regions };
        }
        Found::NotOurs
    }
}

fn group(settings: &Settings, set: &[(GatewayId, u32)], may: &dyn Fn(GatewayId) -> bool) -> Group {
    let is_plain = settings.table.is_empty();
    let regions = if is_plain { 0 } else { settings.regions };
    let everywhere = std::iter::once(None);
    Group(
        everywhere.chain((0..regions).map(Some)).map(|r| families(settings, set, may, r)).collect(),
    )
}

fn families(
    settings: &Settings,
    set: &[(GatewayId, u32)],
    may: &dyn Fn(GatewayId) -> bool,
    region: Option<u16>,
) -> Families {
    let target = |id: GatewayId| settings.targets.get(usize::from(id.0));
    let near = |id| region.is_some() && target(id).is_some_and(|one| one.region == region);
    let rotation = |is_v4: bool| {
        let of = |id: GatewayId| -> Vec<IpAddr> {
            let addresses = target(id).map(|one| one.addresses.iter().copied());
            addresses.into_iter().flatten().filter(|one| one.is_ipv4() == is_v4).collect()
        };
        let has = |id| may(id) && !of(id).is_empty();
        let part = part(set, settings.targets.len() as u16, has, near);
        let block = |turn: Vec<GatewayId>| {
            let addresses: Vec<IpAddr> = turn.into_iter().flat_map(of).collect();
            Block::addresses(&addresses, settings.ttl)
        };
        turns(&part).into_iter().map(block).collect()
    };
    Families { v4: rotation(true), v6: rotation(false) }
}

/// A name whose addresses are given.
fn fixed(addresses: &[IpAddr], ttl: u32) -> Group {
    let of = |is_v4: bool| {
        let ours: Vec<IpAddr> =
            addresses.iter().copied().filter(|one| one.is_ipv4() == is_v4).collect();
        if ours.is_empty() { Vec::new() } else { vec![Block::addresses(&ours, ttl)] }
    };
    Group(vec![Families { v4: of(true), v6: of(false) }])
}

/// A tenant as a number, the same at every gateway.
fn number(tenant: &str) -> u64 {
    tenant.bytes().fold(0, |number, byte| mix(number, u64::from(byte.to_ascii_lowercase())))
}
