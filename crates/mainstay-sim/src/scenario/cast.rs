//! Who is there: the bench of a scenario file with what it changes, and the names that faults and
//! expectations may use.

use super::part::Part;
use super::problem::hint;
use super::tree::{Node, Value};
use super::{Bench, BenchSite, BenchTier, Which};
use crate::bench;
use std::time::Duration;

/// Sites of a bench: what tables of weights and masks are made for.
const SITES_MAX: usize = 64;
/// Gateways of a bench.
pub const GATEWAYS_MAX: u16 = 512;
/// Workers of a site.
const WORKERS_MAX: u32 = 10_000;
/// CU a second, or answers at once, of a site.
const SITE_MAX: f64 = 1e6;

/// The names and numbers a scenario may speak of.
#[derive(Clone, Debug)]
pub struct Cast {
    /// Names of the sites, by position.
    pub sites: Vec<String>,
    /// Names of the tiers, by position.
    pub tiers: Vec<String>,
    /// So many gateways there are at most, later ones included.
    pub gateways: u16,
    /// Positions of sites where a controller stands by.
    stand_bys: Vec<u16>,
    /// What the sites are called too.
    parts: Vec<(String, u16)>,
}

impl Cast {
    /// Of a bench.
    pub fn of(bench: &Bench) -> Cast {
        let sites = bench.sites.iter().map(|site| site.name.clone()).collect();
        let stands_by = |at: &u16| bench.sites[usize::from(*at)].has_stand_by;
        let stand_bys = (0..bench.sites.len() as u16).filter(stands_by).collect();
        let tiers = bench.tiers.iter().map(|tier| tier.name.clone()).collect();
        Cast { sites, tiers, gateways: bench.gateways, stand_bys, parts: Vec::new() }
    }

    /// Of a bench that was not made for the scenario: the names of the standard bench stand for
    /// its sites in order, A for the first that counts and P for the first that does not.
    pub fn playing(bench: &Bench) -> Cast {
        let mut cast = Cast::of(bench);
        for is_provider in [false, true] {
            let plays = (0..bench.sites.len()).filter(|at| bench.counts(*at) != is_provider);
            let names = bench::t3().sites.into_iter().filter(|s| s.is_provider == is_provider);
            for (at, role) in plays.zip(names) {
                cast.parts.push((role.name, at as u16));
            }
        }
        cast
    }

    /// Position of the site that `node` names.
    pub fn site(&self, part: &Part<'_>, key: &str, node: &Node) -> Option<u16> {
        self.position(part, (key, node), (&self.sites, "site"))
    }

    /// The site of `key`.
    pub fn one_site(&self, part: &mut Part<'_>, key: &'static str) -> Option<u16> {
        let node = part.node(key);
        if node.is_none() {
            part.missing(key, &format!("{key} = \"{}\"", self.sites[0]));
        }
        self.site(part, key, node?)
    }

    /// The sites of `key`: a name, names, or `"all"`. Absent: nothing is told.
    pub fn sites(&self, part: &mut Part<'_>, key: &'static str) -> Option<Which> {
        let nodes = part.several(key)?;
        if nodes.iter().any(|node| node.value == Value::Text("all".into())) {
            return Some(Which::All);
        }
        if nodes.is_empty() {
            part.wrong(key, "names nobody; name a site, or \"all\"");
        }
        let found: Vec<u16> = nodes.iter().filter_map(|node| self.site(part, key, node)).collect();
        (found.len() == nodes.len() && !found.is_empty()).then_some(Which::These(found))
    }

    /// The sites of `key`, which must be there.
    pub fn some_sites(&self, part: &mut Part<'_>, key: &'static str) -> Option<Which> {
        part.missing(key, &format!("{key} = \"{}\", a list of names, or \"all\"", self.sites[0]));
        self.sites(part, key)
    }

    /// The sites of `site`, each of which must have a controller that stands by.
    pub fn with_stand_by(&self, part: &mut Part<'_>) -> Option<Which> {
        let named = self.some_sites(part, "site")?;
        let all = (0..self.sites.len()).filter(|at| named.has(*at));
        if all.into_iter().any(|at| !self.stand_bys.contains(&(at as u16))) {
            part.wrong("site", "nobody stands by there; add stand_by = true to its [[bench.site]]");
            return None;
        }
        Some(named)
    }

    /// The tiers of `key`: a name or names.
    pub fn tiers(&self, part: &mut Part<'_>, key: &'static str) -> Option<Vec<u8>> {
        let nodes = part.several(key)?;
        let at = |node: &&Node| self.position(part, (key, node), (&self.tiers, "tier"));
        let found: Vec<u8> = nodes.iter().filter_map(at).map(|at| at as u8).collect();
        (found.len() == nodes.len()).then_some(found)
    }

    /// The position of the gateway that `node` numbers, from 1.
    pub fn gateway(&self, part: &Part<'_>, key: &str, node: &Node) -> Option<u16> {
        let most = f64::from(self.gateways);
        match node.value {
            Value::Number(number, true) if (1.0..=most).contains(&number) => {
                Some(number as u16 - 1)
            }
            Value::Number(number, _) => {
                part.wrong(key, format!("no gateway {number}; they are 1 to {most}"));
                None
            }
            _ => {
                part.wrong(key, "a gateway is a number, from 1");
                None
            }
        }
    }

    /// The gateways of `key` (numbers, a list, `"all"`), or of `mask`, one bit each.
    pub fn gateways(&self, part: &mut Part<'_>, key: &'static str) -> Option<Which> {
        let mask = part.number("mask", 0.0, f64::from(u32::MAX));
        if let Some(mask) = mask {
            if part.has(key) {
                part.wrong("mask", format!("stands beside {key}; keep one"));
            }
            let bits = mask as u32;
            let set = (0..self.gateways.min(32)).filter(|at| bits & (1 << at) != 0);
            return Some(Which::These(set.collect()));
        }
        let nodes = part.several(key)?;
        if nodes.iter().any(|node| node.value == Value::Text("all".into())) {
            return Some(Which::All);
        }
        let found: Vec<u16> =
            nodes.iter().filter_map(|node| self.gateway(part, key, node)).collect();
        (found.len() == nodes.len()).then_some(Which::These(found))
    }

    fn position(
        &self,
        part: &Part<'_>,
        (key, node): (&str, &Node),
        (names, kind): (&[String], &str),
    ) -> Option<u16> {
        let Value::Text(name) = &node.value else {
            part.wrong(key, format!("is {}; a {kind} is named in quotes", node.value.word()));
            return None;
        };
        let part_of = self.parts.iter().find(|(each, _)| each == name && kind == "site");
        let found = names.iter().position(|each| each == name).map(|at| at as u16);
        let found = found.or(part_of.map(|(_, at)| *at));
        if found.is_none() {
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            part.wrong(key, format!("no {kind} `{name}`; {}", hint(name, &known)));
        }
        found
    }
}

/// The bench that `bench = "T3"` names, or that a `[bench]` table makes of one.
pub fn bench(file: &mut Part<'_>) -> Option<Bench> {
    let Some(node) = file.node("bench") else { return Some(bench::t3()) };
    if let Value::Text(name) = &node.value {
        return standard(file, "bench", name);
    }
    let mut part = file.part("bench")?;
    let base = part.text("base").unwrap_or_else(|| String::from("T3"));
    let mut bench = standard(&part, "base", &base)?;
    if let Some(scale) = part.number("scale", 1.0, 1000.0) {
        bench.scale = scale;
    }
    let is_laid_out = keep_sites(&mut part, &mut bench);
    let gateways = part.whole("gateways", 1, u32::from(GATEWAYS_MAX));
    bench.gateways = gateways.map_or(bench.gateways, |number| number as u16);
    if is_laid_out || gateways.is_some() {
        bench.lay_out(bench.gateways);
    }
    for each in part.parts("site", SITES_MAX) {
        own_site(each, &mut bench);
    }
    for each in part.parts("tier", 16) {
        own_tier(each, &mut bench.tiers);
    }
    share_out(&part, &mut bench);
    part.finish();
    Some(bench)
}

fn standard(part: &Part<'_>, key: &str, name: &str) -> Option<Bench> {
    let found = bench::bench(name);
    if found.is_none() {
        part.wrong(key, format!("no bench `{name}`; {}", hint(name, &bench::BENCHES)));
    }
    found
}

/// Only the sites of `sites`, if that is there.
fn keep_sites(part: &mut Part<'_>, bench: &mut Bench) -> bool {
    let cast = Cast::of(bench);
    let Some(Which::These(kept)) = cast.sites(part, "sites") else { return false };
    let mut at = 0;
    bench.sites.retain(|_| {
        at += 1;
        kept.contains(&(at - 1))
    });
    true
}

/// Changes a site of the bench, or adds one.
fn own_site(mut part: Part<'_>, bench: &mut Bench) {
    let Some(name) = part.text("name") else {
        return part.missing("name", "name = \"A\"");
    };
    let found = bench.sites.iter().position(|site| site.name == name);
    let is_provider = part.flag("provider");
    let at = match found {
        Some(at) => at,
        None if bench.sites.len() < SITES_MAX => {
            let fresh = match is_provider {
                Some(true) => bench::provider(&name),
                Some(false) | None => bench::site(&name, 0.0),
            };
            bench.sites.push(fresh);
            for row in &mut bench.round_trip {
                row.push(bench::FAR);
            }
            bench.sites.len() - 1
        }
        None => return part.wrong("name", format!("more than {SITES_MAX} sites")),
    };
    let trip = part.time("round_trip");
    if let Some(trip) = trip {
        bench.round_trip.iter_mut().for_each(|row| row[at] = trip);
    }
    if let Some(tiers) = Cast::of(bench).tiers(&mut part, "tiers") {
        bench.sites[at].tiers = tiers;
    }
    settings(&mut part, &mut bench.sites[at], is_provider);
    part.finish();
}

fn settings(part: &mut Part<'_>, site: &mut BenchSite, is_provider: Option<bool>) {
    site.is_provider = is_provider.unwrap_or(site.is_provider);
    site.capacity = part.number("capacity", 0.001, SITE_MAX).unwrap_or(site.capacity);
    site.streams = part.whole("streams", 1, SITE_MAX as u32).unwrap_or(site.streams);
    site.workers = part.whole("workers", 1, WORKERS_MAX).map_or(site.workers, |n| n as u16);
    site.home = part.share("home").unwrap_or(site.home);
    site.has_stand_by = part.flag("stand_by").unwrap_or(site.has_stand_by);
}

/// Changes a tier of the bench, or adds one below the others.
fn own_tier(mut part: Part<'_>, tiers: &mut Vec<BenchTier>) {
    let Some(name) = part.text("name") else {
        return part.missing("name", "name = \"pro\"");
    };
    let at = tiers.iter().position(|tier| tier.name == name).unwrap_or_else(|| {
        let patience = Duration::from_secs(5);
        tiers.push(BenchTier { name, floor: 0.0, share: 0.0, patience });
        tiers.len() - 1
    });
    let tier = &mut tiers[at];
    tier.floor = part.share("floor").unwrap_or(tier.floor);
    tier.share = part.share("share").unwrap_or(tier.share);
    tier.patience = part.time("patience").unwrap_or(tier.patience);
    part.finish();
}

/// Shares become parts of one, whatever was changed; floors must leave room.
fn share_out(part: &Part<'_>, bench: &mut Bench) {
    let home: f64 = bench.sites.iter().map(|site| site.home).sum();
    let share: f64 = bench.tiers.iter().map(|tier| tier.share).sum();
    if home <= 0.0 {
        part.wrong("site", "no sessions are at home anywhere; give a site home = 1.0");
    }
    if share <= 0.0 {
        part.wrong("tier", "no tier asks for anything; give one share = 1.0");
    }
    if bench.tiers.iter().map(|tier| tier.floor).sum::<f64>() > 1.0 + 1e-9 {
        part.wrong("tier", "floors are more than all there is; lower them to 1.0 in all");
    }
    bench.sites.iter_mut().for_each(|site| site.home /= home.max(f64::MIN_POSITIVE));
    bench.tiers.iter_mut().for_each(|tier| tier.share /= share.max(f64::MIN_POSITIVE));
}
