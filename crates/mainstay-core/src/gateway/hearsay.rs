//! What this gateway makes of what it did not see itself: digests of peers, probes, its own
//! lateness. It tempers own evidence and never replaces it.

use crate::config::Config;
use crate::cost::CostRate;
use crate::fact::{CreditFact, Fact, Outcome, Verdict};
use crate::gateway::answers::Answers;
use crate::gateway::doubt::Doubt;
use crate::gateway::evidence::tell;
use crate::gateway::health::Views;
use crate::gateway::indirect::{Indirect, is_believable};
use crate::gateway::peers::{Own, Peers, Standing};
use crate::gateway::probe::{Need, Probes};
use crate::gateway::{Action, Gateway, Probe};
use crate::message::{Digest, Verb, ruling};
use crate::mutant::Mutant;
use crate::names::{GatewayId, SiteId, TargetId};
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// Tenants are shed by another order after this time.
const HOUR: Duration = Duration::from_secs(3600);
/// The share of requests that failed is taken over two of these.
const HALF_MINUTE: Duration = Duration::from_secs(30);
/// Fewer requests that failed are chance and no share: where hardly anybody asks, one would be half
/// of all and undo a policy.
const SHARE_MIN: u32 = 3;

/// What is known by hearsay, and what is told.
#[derive(Clone, Debug)]
pub(super) struct Hearsay {
    me: GatewayId,
    pub(super) peers: Peers,
    pub(super) doubt: Doubt,
    pub(super) indirect: Indirect,
    probes: Option<Probes>,
    answers: Answers,
    digest_at: Time,
    probe_at: Time,
    /// When the count of hours goes up, unless a peer's does before.
    hour_at: Option<(u32, Time)>,
    doubt_told: bool,
    /// Requests ended, and shed or failed, in this half minute and the one before.
    ended: [(u32, u32); 2],
    half_at: Time,
}

impl Hearsay {
    pub(super) fn new(config: &Config) -> Hearsay {
        let fleet = &config.fleet;
        Hearsay {
            me: fleet.me,
            peers: Peers::new(fleet.me, fleet.gateways),
            doubt: Doubt::new(fleet.credit.mutants),
            indirect: Indirect::default(),
            probes: None,
            answers: Answers::default(),
            digest_at: Time::ZERO,
            probe_at: Time::ZERO,
            hour_at: None,
            doubt_told: false,
            ended: Default::default(),
            half_at: Time::ZERO,
        }
    }

    /// Whether positions of gateways mean what they did: this one is where it was.
    pub(super) fn peers_are(&self, config: &Config) -> bool {
        self.me == config.fleet.me
    }

    /// Another policy lists the gateways and targets. What peers and probes said was of positions
    /// as they were; it would be forgotten within seconds anyway.
    pub(super) fn adopt(&mut self, config: &Config) {
        self.peers.list(config.fleet.gateways);
        self.peers.forget();
        self.doubt.forget();
        self.indirect = Indirect::default();
        self.probes = None;
        self.probe_at = Time::ZERO;
    }

    /// When there is something to tell or to probe.
    pub(super) fn deadline(&self) -> Time {
        self.digest_at.min(self.probe_at)
    }

    /// A request ended.
    pub(super) fn ended(&mut self, now: Time, outcome: Outcome) {
        self.pass_half(now);
        let is_bad = matches!(outcome, Outcome::Refused | Outcome::Failed | Outcome::Expired);
        self.ended[0].0 += 1;
        self.ended[0].1 += u32::from(is_bad);
    }

    /// What is over is forgotten, also where no request ends any more.
    fn pass_half(&mut self, now: Time) {
        let since = now.since(self.half_at);
        if since >= HALF_MINUTE {
            let before = if since < 2 * HALF_MINUTE { self.ended[0] } else { (0, 0) };
            self.half_at = now;
            self.ended = [(0, 0), before];
        }
    }

    /// Share of the requests of the last minute that were shed or failed, in thousandths.
    fn failing(&self) -> u16 {
        let [(all, bad), (all_before, bad_before)] = self.ended;
        let bad = bad + bad_before;
        if bad < SHARE_MIN {
            return 0;
        }
        let share = bad.saturating_mul(1000).checked_div(all + all_before);
        share.unwrap_or(0) as u16
    }

    fn count_hour(&mut self, now: Time) -> u32 {
        let (known, at) = self.hour_at.unwrap_or((self.peers.hour(), now + HOUR));
        if now >= at {
            self.peers.count_hour(known + 1);
        }
        let hour = self.peers.hour();
        self.hour_at = Some(if hour == known { (known, at) } else { (hour, now + HOUR) });
        hour
    }
}

impl Gateway {
    /// The set that names were last answered with, for a gateway that starts.
    pub fn keep_answers(&mut self, set: Vec<(GatewayId, u32)>) {
        self.hearsay.answers = Answers::kept(set);
    }

    /// How this process does, for its policy machine: the share of the requests of the last minute
    /// that were shed or failed, in thousandths, and whether it doubts itself.
    pub fn pulse(&mut self, now: Time) -> (u16, bool) {
        self.hearsay.pass_half(now);
        (self.hearsay.failing(), self.hearsay.doubt.is_in_doubt(now))
    }

    /// Tells peers and probes targets, if it is time.
    pub(super) fn tell_peers(&mut self, now: Time, actions: &mut Vec<Action>) {
        if !self.is_fleet || now < self.hearsay.deadline() {
            return;
        }
        if now >= self.hearsay.digest_at {
            let (interval, count) = self.config.fleet.digest;
            self.hearsay.digest_at = now + interval;
            self.let_return(now, actions);
            self.hour = self.hearsay.count_hour(now);
            self.hearsay.pass_half(now);
            let own = self.own(now);
            for (to, digest) in self.hearsay.peers.digests(now, &own, count) {
                actions.push(Action::Digest { to, digest });
            }
            self.answer(now, &own, actions);
        }
        self.probe(now, actions);
    }

    /// A peer's digest came.
    pub(super) fn hear_digest(&mut self, now: Time, digest: &Digest, actions: &mut Vec<Action>) {
        if !self.is_fleet {
            return;
        }
        let taken = self.hearsay.peers.take(now, digest);
        for (target, good) in taken.probed {
            self.take_probe(now, (target, Probe::Shallow), good, actions);
        }
        if taken.is_new {
            let own = self.own(now);
            self.answer(now, &own, actions);
        }
    }

    /// A probe of ours ended.
    pub(super) fn hear_probe(
        &mut self,
        now: Time,
        (target, probe): (TargetId, Probe),
        good: bool,
        actions: &mut Vec<Action>,
    ) {
        if usize::from(target.0) >= self.config.targets.len() || !self.is_fleet {
            return;
        }
        if !self.targets.is_node(target) {
            self.hearsay.peers.probed(now, target, good);
        }
        self.take_probe(now, (target, probe), good, actions);
    }

    /// What peers and this gateway itself say against a target's strike, by an attempt of `sent`.
    pub(super) fn views(&self, (now, sent): (Time, Time), target: TargetId) -> Views {
        if !self.is_fleet {
            return Views::ALONE;
        }
        let site = self.config.targets[usize::from(target.0)].site;
        let is_frozen = ruling(&self.orders, site) == Some(Verb::Freeze);
        let views = self.hearsay.peers.views(now, target);
        let in_doubt = views.in_doubt || is_frozen || self.hearsay.doubt.excuses(now, sent);
        Views { in_doubt, ..views }
    }

    /// An own attempt at a target ended as a strike; `left` if the target left UP by it.
    pub(super) fn note_strike(&mut self, now: Time, target: TargetId, left: bool) {
        if !self.is_fleet {
            return;
        }
        let site = self.config.targets[usize::from(target.0)].site;
        if left {
            self.hearsay.doubt.left(now, site);
        } else {
            self.hearsay.doubt.outcome(now, site);
        }
    }

    /// An own attempt at a target was good.
    pub(super) fn note_good(&mut self, now: Time, target: TargetId) {
        if !self.is_fleet {
            return;
        }
        self.hearsay.doubt.outcome(now, self.config.targets[usize::from(target.0)].site);
        if self.targets.get(target).health.verdict() == Verdict::Up {
            self.hearsay.doubt.answered(now);
        }
    }

    fn own(&self, now: Time) -> Own {
        let mut own = Own { failing: self.hearsay.failing(), ..Own::default() };
        own.in_doubt = self.hearsay.doubt.is_in_doubt(now);
        for (id, known) in self.targets.iter() {
            let verdict = known.health.verdict();
            if verdict != Verdict::Up {
                own.verdicts.push((id, verdict, known.health.since()));
            }
            own.path |= known.health.is_path_suspect();
            let held = known.held.rates(now).map(|(rates, standby)| rates + standby);
            let used = crate::gateway::held::all(known.held.demand());
            own.spare += held.unwrap_or_default().less(used);
        }
        own
    }

    /// Names are answered anew where that changes.
    fn answer(&mut self, now: Time, own: &Own, actions: &mut Vec<Action>) {
        let me = self.config.fleet.me;
        let mine = Standing {
            spare: own.spare,
            heard: Some(Duration::ZERO),
            in_doubt: own.in_doubt,
            path: own.path,
        };
        let peers = &self.hearsay.peers;
        let all: Vec<Standing> = (0..self.config.fleet.gateways)
            .map(GatewayId)
            .map(|id| if id == me { mine } else { peers.standing(now, id) })
            .collect();
        if let Some(set) = self.hearsay.answers.decide(&all, me) {
            actions.push(Action::Answers(set.to_vec()));
        }
    }

    /// Targets whose hold is over come back, and doubt is told.
    fn let_return(&mut self, now: Time, actions: &mut Vec<Action>) {
        for at in 0..self.config.targets.len() {
            let id = TargetId(at as u16);
            let change = self.targets.get_mut(id).health.pass(now);
            tell(id, change, actions);
        }
        self.targets.note_indirect();
        let is_in_doubt = self.hearsay.doubt.is_in_doubt(now);
        if is_in_doubt != core::mem::replace(&mut self.hearsay.doubt_told, is_in_doubt) {
            let fact = CreditFact::Doubt { is_in_doubt };
            actions.push(Action::Fact(Fact::Credit(fact)));
        }
    }

    fn probe(&mut self, now: Time, actions: &mut Vec<Action>) {
        if now < self.hearsay.probe_at {
            return;
        }
        let targets = &self.targets;
        let need = |id: TargetId| {
            let known = targets.get(id);
            let is_parked = known.parked.is_some_and(|(_, until)| now < until);
            match known.health.verdict() {
                _ if is_parked || known.shut => Need::Nothing,
                // Its own sessions have left: what tells whether it is well again is scarce.
                Verdict::Up if known.slow.is_slow() => Need::Lacking,
                Verdict::Up => Need::Up,
                _ if known.health.lacks_trickle(now) => Need::Lacking,
                _ => Need::Out,
            }
        };
        let config = &self.config;
        let probes = self.hearsay.probes.get_or_insert_with(|| Probes::new(now, config));
        for (target, probe) in probes.due(now, &need) {
            actions.push(Action::Probe { target, probe });
        }
        // Where nothing is ever probed, a look at the pace of digests is often enough.
        let next = probes.deadline().unwrap_or(now + self.config.fleet.digest.0);
        self.hearsay.probe_at = next.max(now + PROBE_LOOK);
    }

    fn take_probe(
        &mut self,
        now: Time,
        (target, probe): (TargetId, Probe),
        good: bool,
        actions: &mut Vec<Action>,
    ) {
        if usize::from(target.0) >= self.config.targets.len() {
            return;
        }
        if let Some(probes) = &mut self.hearsay.probes {
            probes.ended(now, target, (probe, good));
        }
        let known = self.targets.get_mut(target);
        known.fails_probes[usize::from(probe == Probe::Token)] = !good;
        if known.credit.in_flight() > 0 {
            // What is open is watched, so it is known how the target is.
            known.health.attempted(now);
        }
        let may_remove = !good && self.may_remove(now, (target, probe));
        let health = &mut self.targets.get_mut(target).health;
        let change = match probe {
            Probe::Shallow => health.shallow(now, good, may_remove),
            Probe::Token => health.token(now, good, may_remove),
        };
        if change.is_some() {
            self.targets.note_indirect();
        }
        if change.is_some_and(|change| change.to == Verdict::Up) {
            self.hearsay.doubt.answered(now);
        }
        tell(target, change, actions);
    }

    /// Whether a failed probe may take a target out of use, if it would.
    fn may_remove(&mut self, now: Time, (target, probe): (TargetId, Probe)) -> bool {
        let mut trial = self.targets.get(target).health.clone();
        let change = match probe {
            Probe::Shallow => trial.shallow(now, false, true),
            Probe::Token => trial.token(now, false, true),
        };
        if change.is_none() || self.hearsay.doubt.is_in_doubt(now) {
            return false;
        }
        let site = self.config.targets[usize::from(target.0)].site;
        let (sites, failing) = self.capacities();
        let mutants = self.config.fleet.credit.mutants;
        if !is_believable(&sites, &failing) && !mutants.removes(Mutant::ProbesUncapped) {
            return false;
        }
        self.hearsay.indirect.may_remove(now, site, &sites, mutants)
    }

    /// What each site carries, as far as it said, and the sites whose last probe failed.
    fn capacities(&self) -> (Vec<(SiteId, CostRate)>, Vec<SiteId>) {
        let mut sites: Vec<(SiteId, CostRate)> = Vec::new();
        let mut failing: Vec<SiteId> = Vec::new();
        sites.extend((0..self.config.sites.len()).map(|at| (SiteId(at as u16), CostRate::ZERO)));
        for (id, known) in self.targets.iter() {
            let site = self.config.targets[usize::from(id.0)].site;
            sites[usize::from(site.0)].1 += known.held.capacity();
            if known.fails_probes != [false; 2] && !failing.contains(&site) {
                failing.push(site);
            }
        }
        (sites, failing)
    }
}

/// Probes are looked at no more often than this; a probe's pace is a second.
const PROBE_LOOK: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Fleet, Limits};
    use alloc::vec;

    fn lone() -> Hearsay {
        Hearsay::new(&Config {
            sites: vec![],
            targets: vec![],
            models: vec![],
            families: vec![],
            tiers: vec![],
            limits: Limits::default(),
            fleet: Fleet::default(),
        })
    }

    #[test]
    fn one_failure_or_two_of_few_are_chance_and_a_third_is_a_share() {
        let mut hearsay = lone();
        let now = Time::from_micros(1_000_000_000);
        hearsay.ended(now, Outcome::Done);
        let told = [0, 0, 750].map(|_| {
            hearsay.ended(now, Outcome::Failed);
            hearsay.failing()
        });
        assert_eq!(told, [0, 0, 750]);
        hearsay.pass_half(now + 2 * HALF_MINUTE);
        assert_eq!(hearsay.failing(), 0, "what is over is forgotten");
    }
}
