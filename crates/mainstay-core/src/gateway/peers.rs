//! What gateways tell each other every second, whatever happens: a digest of fixed kinds and sizes
//! to three peers in turn. Nothing is decided together; a peer's word only confirms or tempers what
//! this gateway saw itself, and it is forgotten after five seconds.
//!
//! Call `digests` once a second with what this gateway knows of itself (the parts that concern
//! policy are for the driver to fill in), `take` for each digest that comes, `probed` when an own
//! probe of a provider ended. Ask `views` before a strike, `hour` for the buckets of the cut-off,
//! `standing` for answers to names, `generation` for the homes of quotas.

use crate::cost::CostRate;
use crate::fact::Verdict;
use crate::gateway::health::Views;
use crate::message::Digest;
use crate::names::{GatewayId, TargetId};
use crate::rng::{Rng, mix};
use crate::time::{Duration, Time};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// A digest older than this says nothing any more.
const FRESH: Duration = Duration::from_secs(5);
/// Verdicts told and kept of one gateway: with sixteen bytes each, half of a digest's 16 KiB.
const VERDICTS: usize = 512;
/// Probe results told and kept.
const PROBES: usize = 64;
/// A probe result older than this is not passed on.
const PROBE_FRESH: Duration = Duration::from_secs(15);
/// What one step of a heard-age is. Ages are rounded up: rounded down, a dead gateway would stay
/// young by being talked about.
const HEARD_STEP: Duration = Duration::from_millis(250);

/// What a gateway says of itself.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// Targets that are not up, and since when.
    pub verdicts: Vec<(TargetId, Verdict, Time)>,
    /// Credit held and not used.
    pub spare: CostRate,
    /// It doubts itself.
    pub in_doubt: bool,
    /// It fails to reach a site that peers can use.
    pub path: bool,
    /// Requests shed or failed of the last minute, in thousandths.
    pub failing: u16,
}

/// How a gateway stands, as far as it is known here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Credit it holds and does not use.
    pub spare: CostRate,
    /// Since anybody heard of it; `None` is never.
    pub heard: Option<Duration>,
    /// It doubts itself.
    pub in_doubt: bool,
    /// It fails to reach what its peers can use.
    pub path: bool,
}

/// What a digest brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// It is newer than what was known; else nothing of it counts.
    pub is_new: bool,
    /// Probes of providers that were not known: as good as own ones.
    pub probed: Vec<(TargetId, bool)>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    at: Time,
    nonce: u64,
    verdicts: Vec<(TargetId, Verdict)>,
    spare: CostRate,
    in_doubt: bool,
    path: bool,
    generation: u64,
}

/// All that is known by hearsay.
#[derive(Clone, Debug)]
pub struct Peers {
    me: GatewayId,
    known: Vec<Option<Known>>,
    heard: Vec<Option<Time>>,
    sent: Vec<Option<Time>>,
    probes: BTreeMap<TargetId, (bool, Time)>,
    turn: Vec<GatewayId>,
    cycle: u64,
    nonce: u64,
    hour: u32,
}

impl Peers {
    /// Among so many gateways, none of them heard.
    pub fn new(me: GatewayId, gateways: u16) -> Peers {
        let mut peers = Peers {
            me,
            known: Vec::new(),
            heard: Vec::new(),
            sent: Vec::new(),
            probes: BTreeMap::new(),
            turn: Vec::new(),
            cycle: 0,
            nonce: 0,
            hour: 0,
        };
        peers.list(gateways);
        peers
    }

    /// The policy lists so many gateways now.
    pub fn list(&mut self, gateways: u16) {
        let all = usize::from(gateways);
        self.known.resize(all, None);
        self.heard.resize(all, None);
        self.sent.resize(all, None);
        self.turn.retain(|peer| peer.0 < gateways);
    }

    /// Sites and targets are other ones now: what was said of them is forgotten.
    pub fn forget(&mut self) {
        self.known.fill(None);
        self.probes.clear();
    }

    /// A second has passed: the next peers in turn, and what each is told.
    pub fn digests(&mut self, now: Time, own: &Own, count: u8) -> Vec<(GatewayId, Digest)> {
        self.nonce += 1;
        let digest = self.digest(now, own);
        let peers = self.next_peers(count);
        let mut out = Vec::with_capacity(peers.len());
        for to in peers {
            let before = self.sent[usize::from(to.0)].replace(now);
            let elapsed = before.map_or(Duration::ZERO, |at| now.since(at));
            out.push((to, Digest { elapsed, ..digest.clone() }));
        }
        out
    }

    /// A peer's digest came. Of two the newer counts, whichever comes last.
    pub fn take(&mut self, now: Time, digest: &Digest) -> Taken {
        let from = usize::from(digest.from.0);
        if from >= self.known.len() || digest.from == self.me {
            return Taken::default();
        }
        // A peer that restarted counts from one again; what it said before has aged out by then.
        let is_old = |known: &Known| now.since(known.at) <= FRESH && digest.nonce <= known.nonce;
        if self.known[from].as_ref().is_some_and(is_old) {
            return Taken::default();
        }
        let told = digest.verdicts.iter().take(VERDICTS);
        self.known[from] = Some(Known {
            at: now,
            nonce: digest.nonce,
            verdicts: told.map(|(target, verdict, _)| (*target, *verdict)).collect(),
            spare: digest.spare,
            in_doubt: digest.in_doubt,
            path: digest.path,
            generation: digest.generation,
        });
        for (heard, age) in self.heard.iter_mut().zip(&digest.heard) {
            if *age < u8::MAX {
                *heard = (*heard).max(Some(now - HEARD_STEP * u32::from(*age)));
            }
        }
        self.heard[from] = Some(now);
        self.hour = self.hour.max(digest.hour);
        Taken { is_new: true, probed: self.take_probes(now, digest) }
    }

    /// An own probe of a provider ended.
    pub fn probed(&mut self, now: Time, target: TargetId, good: bool) {
        self.probes.retain(|_, (_, at)| now.since(*at) <= PROBE_FRESH);
        if self.probes.len() < PROBES || self.probes.contains_key(&target) {
            self.probes.insert(target, (good, now));
        }
    }

    /// What peers with a fresh digest hold of the target. Those in doubt are not asked.
    pub fn views(&self, now: Time, target: TargetId) -> Views {
        let mut views = Views::ALONE;
        for known in self.known.iter().flatten() {
            if now.since(known.at) > FRESH || known.in_doubt {
                continue;
            }
            let is_out =
                |(id, verdict): &(TargetId, Verdict)| *id == target && *verdict != Verdict::Up;
            match known.verdicts.iter().any(is_out) {
                true => views.not_up += 1,
                false => views.up += 1,
            }
        }
        views
    }

    /// How a gateway stands; of itself it knows by `Own`.
    pub fn standing(&self, now: Time, gateway: GatewayId) -> Standing {
        let at = usize::from(gateway.0);
        let heard = self.heard.get(at).copied().flatten().map(|at| now.since(at));
        let Some(Some(known)) = self.known.get(at) else {
            return Standing { heard, ..Standing::default() };
        };
        Standing { spare: known.spare, heard, in_doubt: known.in_doubt, path: known.path }
    }

    /// The generation a peer said it runs, however long ago.
    pub fn generation(&self, gateway: GatewayId) -> Option<u64> {
        self.known.get(usize::from(gateway.0))?.as_ref().map(|known| known.generation)
    }

    /// Hours counted, by whoever counted most.
    pub fn hour(&self) -> u32 {
        self.hour
    }

    /// This gateway has counted so many hours.
    pub fn count_hour(&mut self, hour: u32) {
        self.hour = self.hour.max(hour);
    }

    fn digest(&mut self, now: Time, own: &Own) -> Digest {
        self.probes.retain(|_, (_, at)| now.since(*at) <= PROBE_FRESH);
        let told = own.verdicts.iter().take(VERDICTS);
        let step = HEARD_STEP.as_micros();
        let age =
            |at: Time| u8::try_from(now.since(at).as_micros().div_ceil(step)).unwrap_or(u8::MAX);
        let mut heard: Vec<u8> = self.heard.iter().map(|at| at.map_or(u8::MAX, age)).collect();
        if let Some(mine) = heard.get_mut(usize::from(self.me.0)) {
            *mine = 0;
        }
        let probes = self.probes.iter();
        Digest {
            from: self.me,
            nonce: self.nonce,
            verdicts: told.map(|(id, verdict, since)| (*id, *verdict, now.since(*since))).collect(),
            spare: own.spare,
            in_doubt: own.in_doubt,
            path: own.path,
            probed: probes.map(|(id, (good, at))| (*id, *good, now.since(*at))).collect(),
            failing: own.failing,
            hour: self.hour,
            heard,
            ..Digest::default()
        }
    }

    fn take_probes(&mut self, now: Time, digest: &Digest) -> Vec<(TargetId, bool)> {
        let mut news = Vec::new();
        for &(target, good, age) in digest.probed.iter().take(PROBES) {
            // An age grows by the way of the message, so the same result looks a little older.
            let at = now - age;
            let is_known = |known: &(bool, Time)| at <= known.1 + Duration::from_secs(1);
            if age > PROBE_FRESH || self.probes.get(&target).is_some_and(is_known) {
                continue;
            }
            self.probed(now, target, good);
            if let Some(known) = self.probes.get_mut(&target) {
                known.1 = at;
                news.push((target, good));
            }
        }
        news
    }

    /// Every peer once a cycle, each cycle in another order: so news reach sixty gateways in four
    /// steps, where a fixed order would need seven.
    fn next_peers(&mut self, count: u8) -> Vec<GatewayId> {
        let all = self.known.len() as u16;
        let mut out: Vec<GatewayId> = Vec::new();
        while out.len() < usize::from(count).min(self.known.len().saturating_sub(1)) {
            if self.turn.is_empty() {
                self.cycle += 1;
                let mut rng = Rng::new(mix(u64::from(self.me.0), self.cycle));
                self.turn = (0..all).map(GatewayId).filter(|id| *id != self.me).collect();
                for n in (1..self.turn.len()).rev() {
                    self.turn.swap(n, rng.below(n as u64 + 1) as usize);
                }
            }
            match self.turn.pop() {
                Some(peer) if !out.contains(&peer) => out.push(peer),
                Some(_) | None => {}
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn at(millis: u64) -> Time {
        Time::from_micros(1_000_000_000 + millis * 1000)
    }

    fn saying(from: u16, nonce: u64, verdict: Verdict) -> Digest {
        let verdicts = vec![(TargetId(7), verdict, Duration::ZERO)];
        Digest { from: GatewayId(from), nonce, verdicts, ..Digest::default() }
    }

    #[test]
    fn views_count_fresh_digests_of_peers_that_trust_themselves() {
        let mut peers = Peers::new(GatewayId(0), 5);
        peers.take(at(0), &saying(1, 1, Verdict::Down));
        peers.take(at(0), &saying(2, 1, Verdict::Up));
        let doubting = Digest { in_doubt: true, ..saying(3, 1, Verdict::Down) };
        peers.take(at(0), &doubting);
        let views = peers.views(at(5000), TargetId(7));
        assert_eq!((views.up, views.not_up), (1, 1));
        assert_eq!(peers.views(at(5001), TargetId(7)), Views::ALONE);
    }

    #[test]
    fn what_was_said_of_positions_that_are_no_more_is_forgotten() {
        let mut peers = Peers::new(GatewayId(0), 5);
        peers.take(at(0), &saying(1, 9, Verdict::Down));
        peers.forget();
        assert_eq!(peers.views(at(10), TargetId(7)), Views::ALONE);
        assert!(peers.take(at(20), &saying(1, 10, Verdict::Down)).is_new);
    }

    #[test]
    fn an_older_digest_is_dropped_and_a_restarted_peer_is_heard() {
        let mut peers = Peers::new(GatewayId(0), 2);
        assert!(peers.take(at(0), &saying(1, 9, Verdict::Down)).is_new);
        assert!(!peers.take(at(100), &saying(1, 8, Verdict::Up)).is_new);
        assert!(peers.take(at(6000), &saying(1, 1, Verdict::Up)).is_new);
        assert!(!peers.take(at(6000), &saying(9, 1, Verdict::Up)).is_new, "not listed");
    }

    /// Sixty gateways that tell each other; returns the oldest age anybody has of `of`.
    fn gossip(peers: &mut [Peers], seconds: core::ops::Range<u64>, dead: Option<usize>) {
        for second in seconds {
            for n in 0..peers.len() {
                let now = at(second * 1000 + n as u64 * 1000 / peers.len() as u64);
                if dead == Some(n) {
                    continue;
                }
                for (to, digest) in peers[n].digests(now, &Own::default(), 3) {
                    if dead != Some(usize::from(to.0)) {
                        peers[usize::from(to.0)].take(now + Duration::from_millis(30), &digest);
                    }
                }
            }
        }
    }

    #[test]
    fn hearsay_keeps_sixty_gateways_young_and_lets_a_dead_one_age() {
        let mut peers: Vec<Peers> = (0..60).map(|n| Peers::new(GatewayId(n), 60)).collect();
        gossip(&mut peers, 0..30, None);
        let age = |peers: &[Peers], by: usize, of: u16, now| {
            peers[by].standing(now, GatewayId(of)).heard.expect("heard")
        };
        let pairs = (0..60).flat_map(|by| (0..60u16).map(move |of| (by, of)));
        let oldest = pairs.filter(|(by, of)| *by != usize::from(*of));
        let oldest = oldest.map(|(by, of)| age(&peers, by, of, at(30_000))).max();
        assert!(oldest < Some(Duration::from_secs(6)), "{oldest:?}");
        gossip(&mut peers, 30..40, Some(59));
        let youngest = (0..59).map(|by| age(&peers, by, 59, at(40_000))).min();
        assert!(youngest > Some(Duration::from_secs(9)), "{youngest:?}");
    }

    #[test]
    fn each_peer_has_its_turn_once_a_cycle() {
        let mut peers = Peers::new(GatewayId(2), 7);
        let mut told: Vec<u16> = Vec::new();
        for n in 0..2 {
            let sent = peers.digests(at(n * 1000), &Own::default(), 3);
            told.extend(sent.iter().map(|(to, _)| to.0));
        }
        told.sort_unstable();
        assert_eq!(told, [0, 1, 3, 4, 5, 6]);
        let alone = Peers::new(GatewayId(0), 1).digests(at(0), &Own::default(), 3);
        assert!(alone.is_empty());
    }

    #[test]
    fn probe_results_and_hours_are_passed_on_once() {
        let mut all: Vec<Peers> = (0..3).map(|n| Peers::new(GatewayId(n), 3)).collect();
        all[0].probed(at(0), TargetId(1), true);
        all[0].count_hour(5);
        let sent = all[0].digests(at(500), &Own::default(), 3);
        let taken = all[1].take(at(550), &sent[0].1);
        assert_eq!(taken.probed, [(TargetId(1), true)]);
        assert_eq!(all[1].hour(), 5);
        let sent = all[1].digests(at(1000), &Own::default(), 3);
        assert_eq!(all[2].take(at(1020), &sent[0].1).probed.len(), 1);
        assert_eq!(all[0].take(at(1020), &sent[0].1).probed, []);
    }
}
