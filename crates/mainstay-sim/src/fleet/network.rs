//! The network between gateways and sites: how long a message takes, and whether it comes.
//!
//! Messages of the link (reports, grants, digests, probes) are lost, doubled and overtaken. What
//! is inside attempts goes over connections: there loss is seen as retransmission stalls, and at
//! last as a reset.

use crate::scenario::{Bench, Direction, FaultKind, LinkEffect, Part, Which};
use mainstay_core::rng::Rng;
use mainstay_core::time::{Duration, Time};

/// First retransmission, doubled each time (RFC 6298's least, as Linux has it).
const RETRANSMIT: Duration = Duration::from_millis(200);
/// A connection that could not send for so long is reset.
const RESET: Duration = Duration::from_secs(10);
/// Messages of the link vary by a twentieth of their way.
const JITTER: u64 = 20;
/// A round trip where the bench names none.
const UNKNOWN: Duration = Duration::from_millis(60);

/// What becomes of something sent over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// It arrives.
    At(Time),
    /// Nothing arrives, and nobody says so.
    Never,
    /// The connection is given up at this moment.
    Reset(Time),
}

/// Which way a message goes on the line between a gateway and a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the site.
    Out,
    /// To the gateway.
    Back,
}

/// One way of one line.
#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    control: Effect,
    data: Effect,
}

#[derive(Clone, Copy, Debug, Default)]
struct Effect {
    is_cut: bool,
    link: LinkEffect,
}

/// All lines.
#[derive(Debug)]
pub struct Network {
    sites: usize,
    half: Vec<Duration>,
    lanes: Vec<[Lane; 2]>,
    peers: Vec<(Duration, bool)>,
    gateways: usize,
    rng: Rng,
}

impl Network {
    /// The bench's lines, all sound. `gateways` may be more than the bench has round trips for.
    pub fn new(bench: &Bench, gateways: usize, seed: u64) -> Network {
        let sites = bench.sites.len();
        let rows = bench.round_trip.len().max(1);
        let trip = |gateway: usize, site: usize| {
            let row = bench.round_trip.get(gateway % rows);
            row.and_then(|row| row.get(site)).copied().unwrap_or(UNKNOWN)
        };
        let pairs = (0..gateways).flat_map(|g| (0..sites).map(move |s| (g, s)));
        let half = pairs.map(|(g, s)| trip(g, s) / 2).collect();
        // Two gateways are as far apart as the way by the site that lies best between them.
        let between = |a: usize, b: usize| {
            let by = (0..sites).map(|s| (trip(a, s) + trip(b, s)) / 4).min();
            by.unwrap_or(UNKNOWN / 2)
        };
        let all = (0..gateways).flat_map(|a| (0..gateways).map(move |b| (a, b)));
        Network {
            sites,
            half,
            lanes: vec![[Lane::default(); 2]; gateways * sites],
            peers: all.map(|(a, b)| (between(a, b), false)).collect(),
            gateways,
            rng: Rng::new(seed ^ 0x6e65_7477_6f72_6b00),
        }
    }

    /// Half the round trip.
    pub fn half(&self, gateway: usize, site: usize) -> Duration {
        self.half[gateway * self.sites + site]
    }

    /// The site whose way is the shortest.
    pub fn nearest(&self, gateway: usize) -> usize {
        (0..self.sites).min_by_key(|site| self.half(gateway, *site)).unwrap_or(0)
    }

    /// When a message of the link arrives; twice if it is doubled, never if it is lost.
    pub fn control(&mut self, now: Time, line: (usize, usize), way: Way) -> [Option<Time>; 2] {
        let (gateway, site) = line;
        let lane = self.lanes[gateway * self.sites + site][way as usize].control;
        let half = self.half(gateway, site);
        if lane.is_cut || (lane.link.loss > 0.0 && self.rng.unit() < lane.link.loss) {
            return [None, None];
        }
        let first = self.arrival(now, half, &lane.link);
        let is_doubled = lane.link.duplicate > 0.0 && self.rng.unit() < lane.link.duplicate;
        let second = is_doubled.then(|| self.arrival(now, half, &lane.link));
        [Some(first), second]
    }

    /// When a message to a peer arrives.
    pub fn peer(&mut self, now: Time, from: usize, to: usize) -> Option<Time> {
        let (half, is_cut) = *self.peers.get(from * self.gateways + to)?;
        (!is_cut).then(|| self.arrival(now, half, &LinkEffect::default()))
    }

    fn arrival(&mut self, now: Time, half: Duration, effect: &LinkEffect) -> Time {
        let jitter = self.rng.below(half.as_micros() as u64 / JITTER + 1);
        let late = self.rng.below(effect.reorder.as_micros() as u64 + 1);
        now + half + effect.delay + Duration::from_micros(jitter + late)
    }

    /// What becomes of something sent over an attempt's connection.
    pub fn data(&mut self, now: Time, line: (usize, usize), way: Way) -> Carried {
        let (gateway, site) = line;
        let lane = self.lanes[gateway * self.sites + site][way as usize].data;
        let half = self.half(gateway, site);
        if lane.is_cut {
            return Carried::Never;
        }
        if lane.link.loss <= 0.0 {
            return Carried::At(now + half + lane.link.delay);
        }
        let mut stall = Duration::ZERO;
        let mut pause = RETRANSMIT;
        while self.rng.unit() < lane.link.loss {
            stall += pause;
            pause *= 2;
            if stall >= RESET {
                return Carried::Reset(now + stall);
            }
        }
        Carried::At(now + half + lane.link.delay + stall)
    }

    /// Share of what is inside attempts that is lost on the way back.
    pub fn loss(&self, gateway: usize, site: usize) -> f64 {
        let lanes = &self.lanes[gateway * self.sites + site];
        lanes[Way::Back as usize].data.link.loss.max(lanes[Way::Out as usize].data.link.loss)
    }

    /// Whether nothing inside attempts comes through one way or the other.
    pub fn is_cut(&self, gateway: usize, site: usize) -> bool {
        let lanes = &self.lanes[gateway * self.sites + site];
        lanes.iter().any(|lane| lane.data.is_cut)
    }

    /// Whether a probe would come back.
    pub fn probe(&mut self, now: Time, gateway: usize, site: usize) -> Option<Time> {
        let out = self.control(now, (gateway, site), Way::Out)[0]?;
        self.control(out, (gateway, site), Way::Back)[0]
    }

    /// The longest stall of a stream of so many packets, and after which share of it: zero on a
    /// sound line.
    pub fn longest_stall(&mut self, line: (usize, usize), packets: u32) -> (Duration, f64) {
        let loss = self.loss(line.0, line.1);
        if loss <= 0.0 {
            return (Duration::ZERO, 0.0);
        }
        // The chance that no packet is lost `n` times in a row is (1 - loss^n)^packets.
        let drawn = self.rng.unit();
        let mut pause = RETRANSMIT;
        let mut stall = Duration::ZERO;
        let mut chance = loss;
        while drawn > (1.0 - chance).powi(packets as i32) && stall < RESET {
            stall += pause;
            pause *= 2;
            chance *= loss;
        }
        (stall, self.rng.unit())
    }

    /// Makes every line as sound as the faults in force leave it.
    pub fn apply<'a>(&mut self, faults: impl Iterator<Item = &'a FaultKind>) {
        self.lanes.fill([Lane::default(); 2]);
        self.peers.iter_mut().for_each(|(_, is_cut)| *is_cut = false);
        for fault in faults {
            match fault {
                FaultKind::Link { gateways, sites, effect, direction, part } => {
                    self.link((gateways, sites), *effect, *direction, *part);
                }
                FaultKind::Partition { groups } => self.partition(groups),
                FaultKind::PeersCut { gateways, control } => self.cut_peers(gateways, *control),
                _ => {}
            }
        }
    }

    fn link(
        &mut self,
        (gateways, sites): (&Which, &Which),
        effect: LinkEffect,
        direction: Direction,
        part: Part,
    ) {
        for gateway in 0..self.gateways {
            for site in 0..self.sites {
                if !holds(gateways, gateway) || !holds(sites, site) {
                    continue;
                }
                let lanes = &mut self.lanes[gateway * self.sites + site];
                for (way, lane) in lanes.iter_mut().enumerate() {
                    let is_meant = match direction {
                        Direction::Both => true,
                        Direction::ToSite => way == Way::Out as usize,
                        Direction::ToGateway => way == Way::Back as usize,
                    };
                    if is_meant && part != Part::Data {
                        lane.control.add(effect);
                    }
                    if is_meant && part != Part::Control {
                        lane.data.add(effect);
                    }
                }
            }
        }
    }

    fn partition(&mut self, groups: &[(Vec<u16>, Vec<u16>)]) {
        let gateways: Vec<&Vec<u16>> = groups.iter().map(|group| &group.0).collect();
        let sites: Vec<&Vec<u16>> = groups.iter().map(|group| &group.1).collect();
        let home = |all: &[&Vec<u16>], at: usize| {
            all.iter().position(|group| group.contains(&(at as u16)))
        };
        for a in 0..self.gateways {
            let mine = home(&gateways, a);
            for site in 0..self.sites {
                if mine != home(&sites, site) {
                    for lane in &mut self.lanes[a * self.sites + site] {
                        lane.control.is_cut = true;
                        lane.data.is_cut = true;
                    }
                }
            }
            for b in 0..self.gateways {
                if mine != home(&gateways, b) {
                    self.peers[a * self.gateways + b].1 = true;
                }
            }
        }
    }

    fn cut_peers(&mut self, gateways: &Which, control: bool) {
        for a in (0..self.gateways).filter(|a| holds(gateways, *a)) {
            for b in 0..self.gateways {
                self.peers[a * self.gateways + b].1 = true;
                self.peers[b * self.gateways + a].1 = true;
            }
            if control {
                for lane in self.lanes[a * self.sites..(a + 1) * self.sites].iter_mut().flatten() {
                    lane.control.is_cut = true;
                }
            }
        }
    }
}

impl Effect {
    fn add(&mut self, effect: LinkEffect) {
        self.is_cut |= effect.loss >= 1.0;
        self.link.loss = 1.0 - (1.0 - self.link.loss) * (1.0 - effect.loss);
        self.link.delay += effect.delay;
        self.link.duplicate = self.link.duplicate.max(effect.duplicate);
        self.link.reorder = self.link.reorder.max(effect.reorder);
    }
}

/// Whether `which` names this position.
pub fn holds(which: &Which, at: usize) -> bool {
    match which {
        Which::All => true,
        Which::These(these) => these.contains(&(at as u16)),
    }
}
