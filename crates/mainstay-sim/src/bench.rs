//! Standard benches: who is there before anything breaks.
//!
//! T3 is three sites of ours and a provider behind six gateways; T1 what a single developer runs;
//! T60 many gateways and sites, far apart.

use crate::scenario::{Bench, BenchSite, BenchTier};
use std::time::Duration;

/// Names of the standard benches.
pub const BENCHES: [&str; 3] = ["T1", "T3", "T60"];

/// Round trip between a gateway and a site near it.
const NEAR: Duration = Duration::from_millis(20);
/// Between a gateway and the other sites of T3: one continent.
pub const FAR: Duration = Duration::from_millis(60);
/// Between a gateway and a provider.
pub const PROVIDER: Duration = Duration::from_millis(80);
/// Between the ends of T60's ring: half the globe over cable, with detours.
const FARTHEST: Duration = Duration::from_millis(300);

/// What one site of ours carries, in CU a second: about a hundred requests of the bench.
const SITE_CAPACITY: f64 = 100.0;
/// Answers a site can have open: one takes 8.3 s, so its capacity fills it to about 830.
const SITE_STREAMS: u32 = 800;
/// Workers of a site: enough that a third of them can be lost.
const SITE_WORKERS: u16 = 20;
/// The provider's quota, in CU a second.
const QUOTA: f64 = 20.0;

/// Cost units of a mean request of Mooncake's conversation trace: its uncached tokens in thousands.
pub const CONVERSATION: f64 = 7.54;
/// Sequences a worker of `service` has at once.
const SEQUENCES: u32 = 256;

/// Seconds from an answer's start to its end on an idle bench: the first token, then 200 tokens at
/// 25 a second. What a site carries is its open answers by this.
pub const ANSWER_SECONDS: f64 = 0.3 + 200.0 / 25.0;

/// The standard bench of this name.
pub fn bench(name: &str) -> Option<Bench> {
    Some(match name {
        "T1" => t1(),
        "T3" => t3(),
        "T60" => t60(),
        _ => return None,
    })
}

/// One gateway, one site of ours, one provider.
pub fn t1() -> Bench {
    Bench {
        name: String::from("T1"),
        sites: vec![site("A", 1.0), provider("P")],
        gateways: 1,
        round_trip: vec![vec![NEAR, PROVIDER]],
        tiers: tiers(),
        scale: 1.0,
    }
}

/// Three sites of ours and a provider behind six gateways, two near each site.
pub fn t3() -> Bench {
    let mut bench = Bench {
        name: String::from("T3"),
        sites: vec![site("A", 0.40), site("B", 0.35), site("C", 0.25), provider("P")],
        gateways: 6,
        round_trip: Vec::new(),
        tiers: tiers(),
        scale: 1.0,
    };
    bench.lay_out(6);
    bench
}

/// Sixty gateways and twelve sites on a ring around the globe: a gateway is near one site, and the
/// farther round, the longer the trip, up to 300 ms.
pub fn t60() -> Bench {
    const SITES: u16 = 12;
    const GATEWAYS: u16 = 60;
    let name = |at: u16| format!("S{:02}", at + 1);
    let sites = (0..SITES).map(|at| site(&name(at), 1.0 / f64::from(SITES))).collect();
    let trip = |gateway: u16, site: u16| {
        let near = gateway * SITES / GATEWAYS;
        let apart = near.abs_diff(site).min(SITES - near.abs_diff(site));
        NEAR + (FARTHEST - NEAR) * u32::from(apart) / u32::from(SITES / 2)
    };
    let row = |gateway| (0..SITES).map(|site| trip(gateway, site)).collect();
    Bench {
        name: String::from("T60"),
        sites,
        gateways: GATEWAYS,
        round_trip: (0..GATEWAYS).map(row).collect(),
        tiers: tiers(),
        scale: 1.0,
    }
}

/// Ten thousand GPUs, if `sites` is a hundred: of ten sites one has 44 workers of eight GPUs, three
/// have 15 and six have 6; every fifth of the smaller ones has the older GPUs. The sites lie evenly
/// around the globe, each ten of them a region with one gateway at its large site.
pub fn t100(sites: u16) -> Bench {
    /// Workers of ten neighbours, with the small sites between the larger ones.
    const WORKERS: [u16; 10] = [44, 6, 15, 6, 6, 15, 6, 6, 15, 6];
    /// Requests of Mooncake's conversation trace that a worker serves in a second, prefix hits
    /// counted (design of the scheduler, section 9), and cost units of one: its uncached tokens.
    const SERVED: [(&str, f64); 2] = [("llama-70b-h100-tp8", 1.93), ("llama-70b-a100-tp8", 0.75)];
    let regions = (sites / 10).max(1);
    let place = |at: u16| {
        let is_older = !at.is_multiple_of(10) && (at - at / 10).is_multiple_of(5);
        let (profile, served) = SERVED[usize::from(is_older)];
        let workers = WORKERS[usize::from(at % 10)];
        BenchSite {
            capacity: f64::from(workers) * served * CONVERSATION,
            streams: u32::from(workers) * SEQUENCES,
            workers,
            profile: Some(profile.into()),
            region: Some((at / 10).min(regions - 1)),
            longitude: 360.0 * f64::from(at) / f64::from(sites),
            ..site(&format!("S{:03}", at + 1), 0.0)
        }
    };
    let mut places: Vec<BenchSite> = (0..sites).map(place).collect();
    for region in 0..regions {
        let here = |site: &&BenchSite| site.region == Some(region);
        let all: f64 = places.iter().filter(here).map(|site| site.capacity).sum();
        let of_it = places.iter_mut().filter(|site| site.region == Some(region));
        of_it.for_each(|site| site.home = site.capacity / all);
    }
    let trip = |gateway: u16, site: u16| {
        let apart = (gateway * 10).abs_diff(site);
        let apart = apart.min(sites - apart);
        NEAR + (FARTHEST - NEAR) * u32::from(apart) / u32::from(sites / 2).max(1)
    };
    let row = |gateway| (0..sites).map(|site| trip(gateway, site)).collect();
    Bench {
        name: format!("T100/{sites}"),
        sites: places,
        gateways: regions,
        round_trip: (0..regions).map(row).collect(),
        tiers: tiers(),
        scale: 1.0,
    }
}

/// A site of ours that is like the others.
pub fn site(name: &str, home: f64) -> BenchSite {
    BenchSite {
        name: name.into(),
        is_provider: false,
        capacity: SITE_CAPACITY,
        streams: SITE_STREAMS,
        workers: SITE_WORKERS,
        home,
        tiers: Vec::new(),
        has_stand_by: false,
        profile: None,
        region: None,
        longitude: 0.0,
    }
}

/// A metered provider, open to enterprise and pro only.
pub fn provider(name: &str) -> BenchSite {
    BenchSite {
        capacity: QUOTA,
        streams: (QUOTA * ANSWER_SECONDS) as u32,
        workers: 1,
        is_provider: true,
        tiers: vec![0, 1],
        ..site(name, 0.0)
    }
}

/// Enterprise, pro, free: their floors, their shares of requests, and the clients' five seconds.
pub fn tiers() -> Vec<BenchTier> {
    let patience = Duration::from_secs(5);
    let tier = |(name, floor, share): (&str, f64, f64)| BenchTier {
        name: name.into(),
        floor,
        share,
        patience,
    };
    [("enterprise", 0.40, 0.10), ("pro", 0.25, 0.30), ("free", 0.05, 0.60)].map(tier).to_vec()
}

impl Bench {
    /// Whether this site's capacity counts. A provider's does not, but where there is nothing
    /// else.
    pub fn counts(&self, site: usize) -> bool {
        let is_ours = |site: &BenchSite| !site.is_provider;
        self.sites.get(site).is_some_and(is_ours) || !self.sites.iter().any(is_ours)
    }

    /// What load levels are shares of, in CU a second, before `scale`.
    pub fn capacity(&self) -> f64 {
        let counted = self.sites.iter().enumerate().filter(|(at, _)| self.counts(*at));
        counted.map(|(_, site)| site.capacity).sum()
    }

    /// Round trips for so many gateways, as T3 has them: gateways are spread over the sites of
    /// ours in order, each near one.
    pub fn lay_out(&mut self, gateways: u16) {
        let ours: Vec<usize> =
            (0..self.sites.len()).filter(|at| !self.sites[*at].is_provider).collect();
        let near = |gateway: u16| {
            ours.get(usize::from(gateway) * ours.len() / usize::from(gateways.max(1)))
        };
        let trip = |gateway: u16, at: usize| match self.sites[at].is_provider {
            true => PROVIDER,
            false if near(gateway) == Some(&at) => NEAR,
            false => FAR,
        };
        let row = |gateway| (0..self.sites.len()).map(|at| trip(gateway, at)).collect();
        self.round_trip = (0..gateways).map(row).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bench_has_a_trip_from_each_gateway_to_each_site_and_whole_shares() {
        for name in BENCHES {
            let bench = bench(name).unwrap();
            assert_eq!(bench.round_trip.len(), usize::from(bench.gateways), "{name}");
            assert!(bench.round_trip.iter().all(|row| row.len() == bench.sites.len()));
            let home: f64 = bench.sites.iter().map(|site| site.home).sum();
            let share: f64 = bench.tiers.iter().map(|tier| tier.share).sum();
            assert!((home - 1.0).abs() < 1e-9 && (share - 1.0).abs() < 1e-9, "{name}");
        }
        let longest = t60().round_trip.into_iter().flatten().max();
        assert_eq!(longest, Some(FARTHEST));
        assert_eq!(t3().capacity(), 300.0);
    }

    #[test]
    fn two_gateways_of_t3_are_near_each_site() {
        let bench = t3();
        let near = |site: usize| bench.round_trip.iter().filter(|row| row[site] == NEAR).count();
        assert_eq!([near(0), near(1), near(2), near(3)], [2, 2, 2, 0]);
        assert!(bench.round_trip.iter().all(|row| row[3] == PROVIDER));
    }
}
