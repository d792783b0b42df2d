//! Whom to probe, how deep, and when. Probes say how idle sites stand and shorten returns; they
//! cost the same whatever fails.
//!
//! Sites of ours: every second whether the health endpoint answers, every ten seconds one token
//! through the real path, also where nothing is sent (a standby that cannot load its model must be
//! known before it is needed). Providers: nothing while they are up; else at most four probes a
//! minute of the whole fleet, the free endpoint first. Gateways take turns there: each waits longer
//! than the one before it, and a result that a digest brings starts the wait anew.
//!
//! Call `due` at `deadline` with how each target stands, send what it returns, and call `ended` for
//! each result, own or told by a digest. Parked targets are probed by real requests elsewhere.
//!
//! Whoever sends probes asks here how: `patience`, `start`, and what an end `says`. Overload says
//! nothing: a full site must not look dead.

use crate::config::{Config, SiteKind};
use crate::fact::How;
use crate::gateway::latency::Patience;
use crate::gateway::{Probe, Start};
use crate::message::{Open, Reason};
use crate::names::{AttemptId, ErrorClass, GatewayId, RequestId, Scope, TargetId, TierId, Work};
use crate::rng::mix;
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// Paces at sites of ours.
const SHALLOW: Duration = Duration::from_secs(1);
const TOKEN: Duration = Duration::from_secs(10);
/// Pace of tokens that stand in for a trickle that got no request.
const STAND_IN: Duration = Duration::from_secs(2);
/// Pace of all gateways together at one provider: four a minute.
const FLEET: Duration = Duration::from_secs(15);
/// How much later the next gateway in line takes its turn: within this a digest has told it.
const LATER: Duration = Duration::from_secs(4);
/// A health endpoint answers at once: the next probe is due then. A connection that took longer is
/// not given up before this, so that the next probe finds it.
const SHALLOW_WAIT: (Duration, Duration) = (SHALLOW, Duration::from_secs(3));
/// A site of ours says twice a second that it is at work: silence of three beats and the way is
/// silence. Nobody waits longer than for the next probe.
const TOKEN_WAIT: (Duration, Duration) = (Duration::from_secs(2), TOKEN);
/// Tokens that a token probe's prompt is taken to have, its frame included.
const PROMPT: u32 = 32;
/// Turns are told apart for so many gateways; beyond, two may coincide.
const LINE: u64 = 8;

/// How a target stands, for its probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It is up.
    Up,
    /// It is not.
    Out,
    /// It is not, and no request offers itself for its trickle; or it is, and too slow for its own
    /// sessions.
    Lacking,
    /// Leave it alone: parked, or ordered out of service.
    Nothing,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    target: TargetId,
    is_ours: bool,
    shallow: Time,
    token: Time,
    told: Time,
    /// The free endpoint answered last: a token is worth its price.
    answers: bool,
}

/// When each target is next probed.
#[derive(Clone, Debug)]
pub struct Probes {
    me: GatewayId,
    gateways: u16,
    plans: Vec<Plan>,
}

impl Probes {
    /// For the targets of a configuration, from now on.
    pub fn new(now: Time, config: &Config) -> Probes {
        let (me, gateways) = (config.fleet.me, config.fleet.gateways);
        let mut probes = Probes { me, gateways, plans: Vec::new() };
        for (n, target) in config.targets.iter().enumerate() {
            let is_ours = match config.sites[usize::from(target.site.0)].kind {
                SiteKind::Node => true,
                SiteKind::Provider => false,
                SiteKind::Embedded => continue,
            };
            let id = TargetId(n as u16);
            // Gateways and targets are spread over the pace, so that nothing comes in beats.
            let phase = mix(u64::from(me.0), u64::from(id.0)) % 1000;
            let part = |pace: Duration| pace * phase as u32 / 1000;
            probes.plans.push(Plan {
                target: id,
                is_ours,
                shallow: now + part(SHALLOW),
                token: now + part(TOKEN),
                told: now,
                answers: false,
            });
        }
        probes
    }

    /// What to probe now.
    pub fn due(&mut self, now: Time, need: &dyn Fn(TargetId) -> Need) -> Vec<(TargetId, Probe)> {
        let mut out = Vec::new();
        let (me, gateways) = (self.me, self.gateways);
        for plan in &mut self.plans {
            let need = need(plan.target);
            if plan.is_ours {
                plan.due_ours(now, need, &mut out);
            } else {
                plan.due_provider(now, (need, turn(me, gateways, plan.target)), &mut out);
            }
        }
        out
    }

    /// A probe ended, here or at a peer that told it.
    pub fn ended(&mut self, now: Time, target: TargetId, (probe, good): (Probe, bool)) {
        for plan in self.plans.iter_mut().filter(|plan| plan.target == target) {
            plan.told = now;
            plan.answers = good && probe == Probe::Shallow;
        }
    }

    /// When to ask again.
    pub fn deadline(&self) -> Option<Time> {
        self.plans.iter().map(|plan| plan.shallow.min(plan.token)).min()
    }
}

/// How long a probe of this target waits for any sign, and for its end. Without a sign it failed;
/// without an end, but with signs, it says nothing: the site is at work.
pub fn patience(probe: Probe, is_ours: bool) -> (Duration, Duration) {
    match (probe, is_ours) {
        (Probe::Shallow, _) => SHALLOW_WAIT,
        (Probe::Token, true) => TOKEN_WAIT,
        // A provider says nothing before its first token.
        (Probe::Token, false) => (TOKEN, TOKEN),
    }
}

/// A probe as an attempt: one token, unpaid, in the lowest tier, handed back rather than queued.
/// `None` if there is no such target.
pub(super) fn start(config: &Config, target: TargetId, request: RequestId) -> Option<Start> {
    let found = config.targets.get(usize::from(target.0))?;
    let attempt = AttemptId { request, number: 1 };
    let is_ours = config.sites.get(usize::from(found.site.0))?.is_node();
    let open = Open {
        work: Work { from: config.fleet.me, attempt },
        target,
        tier: TierId(config.tiers.len().saturating_sub(1) as u8),
        cost: config.fleet.price.of(PROMPT.into(), 1),
        credited: false,
        moving: false,
        left: patience(Probe::Token, is_ours).1,
        tenant: 0,
        session: 0,
        labels: found.labels,
        prompt: PROMPT,
        output: 1,
        elsewhere: true,
    };
    Some(Start {
        attempt,
        target,
        site: found.site,
        model: found.model.clone(),
        how: How::First,
        patience: Patience::NONE,
        only_choice: None,
        open: is_ours.then_some(open),
        broken: None,
    })
}

/// What a probe says of its target that ended in a failure of `class`; `None`: nothing. For a
/// health endpoint any answer will do that is none of a site in trouble.
pub fn says(probe: Probe, class: ErrorClass) -> Option<bool> {
    match class {
        ErrorClass::Transient | ErrorClass::Dead(Scope::Site) | ErrorClass::PoisonedStream => {
            Some(false)
        }
        ErrorClass::ThrottleAccount | ErrorClass::ThrottleBurst | ErrorClass::Overload => None,
        _ if probe == Probe::Shallow => Some(true),
        // It answers, and has not the model.
        ErrorClass::Dead(Scope::Model) => Some(false),
        ErrorClass::OurAuth
        | ErrorClass::OurBilling
        | ErrorClass::ClientFault(_)
        | ErrorClass::Policy => None,
    }
}

/// What a site of ours says by not taking a probe in.
pub fn refused(reason: Reason) -> Option<bool> {
    match reason {
        Reason::Overloaded | Reason::TooLate | Reason::Draining => None,
        // Nothing there can serve this model.
        Reason::NoWorker | Reason::NotMine => Some(false),
    }
}

impl Plan {
    fn due_ours(&mut self, now: Time, need: Need, out: &mut Vec<(TargetId, Probe)>) {
        let is_asked = need != Need::Nothing;
        if now >= self.shallow {
            self.shallow = after(self.shallow, now, SHALLOW);
            if is_asked {
                out.push((self.target, Probe::Shallow));
            }
        }
        if need == Need::Lacking {
            self.token = self.token.min(self.told.max(now - STAND_IN) + STAND_IN);
        }
        if now >= self.token {
            self.token = after(self.token, now, TOKEN);
            self.told = now;
            if is_asked {
                out.push((self.target, Probe::Token));
            }
        }
    }

    fn due_provider(
        &mut self,
        now: Time,
        (need, turn): (Need, Duration),
        out: &mut Vec<(TargetId, Probe)>,
    ) {
        if now < self.shallow {
            return;
        }
        let at = self.told + FLEET + turn;
        let is_out = matches!(need, Need::Out | Need::Lacking);
        if is_out && now >= at {
            let probe = if self.answers { Probe::Token } else { Probe::Shallow };
            self.told = now;
            self.answers = false;
            out.push((self.target, probe));
        }
        // While it is up this only looks again whether it still is.
        self.shallow = (self.told + FLEET + turn).max(now + SHALLOW);
        self.token = self.shallow;
    }
}

/// How much later than the first in line this gateway takes its turn at this provider.
fn turn(me: GatewayId, gateways: u16, target: TargetId) -> Duration {
    let all = u64::from(gateways.max(1));
    let place = (u64::from(me.0) + mix(u64::from(target.0), 0)) % all;
    LATER * (place % LINE) as u32
}

/// The next moment of a pace that was due at `due`; what was slept through is not caught up on.
fn after(due: Time, now: Time, pace: Duration) -> Time {
    let next = due + pace;
    if next > now { next } else { now + pace }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::probe::tests::bench::config;
    use crate::rng::Rng;

    mod bench {
        //! One target of ours, one at a provider.
        use crate::config::{Config, Continuation, Fleet, Limits, Needs, Site, SiteKind, Target};
        use crate::names::{GatewayId, SiteId};
        use alloc::string::String;
        use alloc::vec;

        pub fn config(me: u16, gateways: u16) -> Config {
            let site = |kind| Site { name: String::new(), capacity: None, kind, auth_strikes: 1 };
            let target = |site| Target {
                site: SiteId(site),
                model: String::new(),
                window: None,
                output_max: None,
                offers: Needs::all(),
                continuation: Continuation::Native,
                labels: 0,
                home: 0,
                tiers: 0xff,
            };
            Config {
                sites: vec![site(SiteKind::Node), site(SiteKind::Provider)],
                targets: vec![target(0), target(1)],
                models: vec![],
                families: vec![],
                tiers: vec![],
                limits: Limits::default(),
                fleet: Fleet { me: GatewayId(me), gateways, ..Fleet::default() },
            }
        }
    }

    fn at(millis: u64) -> Time {
        Time::from_micros(millis * 1000)
    }

    #[test]
    fn a_site_of_ours_is_looked_at_every_second_and_asked_for_a_token_every_ten() {
        let mut probes = Probes::new(at(0), &config(0, 1));
        let mut seen = Vec::new();
        for tenth in 0..1000 {
            seen.extend(probes.due(at(tenth * 100), &|_| Need::Up));
        }
        let count = |probe| seen.iter().filter(|it| **it == (TargetId(0), probe)).count();
        assert_eq!((count(Probe::Shallow), count(Probe::Token)), (100, 10));
        assert_eq!(seen.len(), 110, "and a provider that is up not at all");
    }

    #[test]
    fn a_fleet_probes_a_dead_provider_four_times_a_minute_by_taking_turns() {
        let all = 6;
        let need = |id: TargetId| if id.0 == 1 { Need::Out } else { Need::Nothing };
        let mut fleet: Vec<Probes> =
            (0..all).map(|n| Probes::new(at(0), &config(n, all))).collect();
        let mut sent = 0;
        for tenth in 0..3000 {
            let now = at(tenth * 100);
            let due: Vec<_> = fleet.iter_mut().flat_map(|probes| probes.due(now, &need)).collect();
            sent += due.len();
            for (target, probe) in due {
                fleet.iter_mut().for_each(|probes| probes.ended(now, target, (probe, false)));
            }
        }
        assert!((15..=20).contains(&sent), "{sent} in five minutes");
    }

    #[test]
    fn a_token_follows_where_the_free_endpoint_answered() {
        let mut probes = Probes::new(at(0), &config(0, 1));
        let need = |id: TargetId| if id.0 == 1 { Need::Out } else { Need::Nothing };
        let mut seen = Vec::new();
        for second in 0..60 {
            for (target, probe) in probes.due(at(second * 1000), &need) {
                seen.push(probe);
                probes.ended(at(second * 1000), target, (probe, true));
            }
        }
        assert_eq!(seen[..2], [Probe::Shallow, Probe::Token]);
    }

    #[test]
    fn a_trickle_that_gets_nothing_is_replaced_by_tokens_every_two_seconds() {
        let mut probes = Probes::new(at(0), &config(0, 1));
        let mut tokens = 0;
        for tenth in 0..200 {
            let due = probes.due(at(tenth * 100), &|_| Need::Lacking);
            tokens += due.iter().filter(|it| it.1 == Probe::Token && it.0.0 == 0).count();
        }
        assert!((8..=11).contains(&tokens), "{tokens} in twenty seconds");
    }

    #[test]
    fn overload_says_nothing_and_silence_says_no() {
        for probe in [Probe::Shallow, Probe::Token] {
            for full in [ErrorClass::Overload, ErrorClass::ThrottleBurst] {
                assert_eq!(says(probe, full), None);
            }
            for dead in [ErrorClass::Dead(Scope::Site), ErrorClass::Transient] {
                assert_eq!(says(probe, dead), Some(false));
            }
        }
        assert_eq!(says(Probe::Shallow, ErrorClass::OurAuth), Some(true), "it answers");
        assert_eq!(says(Probe::Token, ErrorClass::OurAuth), None, "no token was asked for");
        assert_eq!(says(Probe::Token, ErrorClass::Dead(Scope::Model)), Some(false));
        for full in [Reason::Overloaded, Reason::TooLate, Reason::Draining] {
            assert_eq!(refused(full), None);
        }
        assert_eq!(refused(Reason::NoWorker), Some(false));
    }

    #[test]
    fn a_probe_asks_a_site_of_ours_for_one_token_that_it_may_refuse() {
        let config = config(3, 4);
        let start = |target| super::start(&config, TargetId(target), RequestId(7));
        let ours = start(0).expect("a target");
        let open = ours.open.expect("it is ours");
        assert_eq!((open.output, open.credited, open.elsewhere), (1, false, true));
        assert_eq!((open.work.from, open.work.attempt), (GatewayId(3), ours.attempt));
        assert!(start(1).expect("a target").open.is_none(), "a provider is told nothing");
        assert!(start(2).is_none());
        for is_ours in [true, false] {
            let (sign, all) = patience(Probe::Token, is_ours);
            assert!(sign <= all && all <= TOKEN, "the next one is due then");
        }
    }

    #[test]
    fn there_is_always_a_next_moment_and_it_is_never_past() {
        let mut probes = Probes::new(at(0), &config(1, 3));
        for _ in 0..500 {
            let next = probes.deadline().expect("two targets");
            probes.due(next, &|_| Need::Out);
            assert!(probes.deadline() > Some(next));
        }
    }

    #[test]
    fn whatever_is_needed_probes_keep_their_pace_and_leave_alone_what_they_should() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let mut probes = Probes::new(at(0), &config((seed % 3) as u16, 3));
            let (mut millis, mut counts) = (0, [[0u64; 2]; 2]);
            while millis < 120_000 {
                millis += 1 + rng.below(400);
                let now = at(millis);
                let needs = [Need::Up, Need::Out, Need::Lacking, Need::Nothing];
                let drawn = [needs[rng.below(4) as usize], needs[rng.below(4) as usize]];
                let need = |id: TargetId| drawn[usize::from(id.0)];
                for (target, probe) in probes.due(now, &need) {
                    let at_provider = target.0 == 1;
                    assert_ne!(need(target), Need::Nothing, "seed {seed}");
                    assert!(!at_provider || need(target) != Need::Up, "seed {seed}: it costs");
                    counts[usize::from(target.0)][usize::from(probe == Probe::Token)] += 1;
                    if rng.below(3) > 0 {
                        probes.ended(now, target, (probe, rng.below(2) == 0));
                    }
                }
                assert!(probes.deadline().is_some_and(|next| next > now), "seed {seed}: no pace");
            }
            let seconds = millis / 1000 + 1;
            assert!(counts[0][0] <= seconds && counts[0][1] <= seconds / 2, "seed {seed}");
            assert!(counts[0][0] >= seconds / 2, "seed {seed}: a site of ours is looked at");
            let provider: u64 = counts[1].iter().sum();
            assert!(provider <= seconds / 15 + 1, "seed {seed}: {provider} at the provider");
        }
    }
}
