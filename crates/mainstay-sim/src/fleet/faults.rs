//! What each fault does when it begins and when it ends.
//!
//! Stores that stand on no request path (ledger, telemetry, console) have no effect here, which is
//! the point: their faults are accepted, and the run must be as if nothing had happened.

use super::World;
use super::clients::Stream;
use super::moment::{Harm, Moment};
use super::network::holds;
use super::nodes::Reach;
use super::plan::LONG;
use super::slab::Key;
use crate::scenario::{FaultKind, Loss, Process, Which};
use crate::world::START;
use mainstay_core::config::Config;
use mainstay_core::gateway::Event;
use mainstay_core::time::Duration;

/// A gateway that a poisoned request crashed is started again by what watches over it.
const SUPERVISED: Duration = Duration::from_secs(1);
/// Crashes in a row with a tenant in flight, after which that tenant is kept out.
const QUARANTINED: u8 = 2;

impl World<'_> {
    pub(super) fn fault_begins(&mut self, at: usize) {
        self.in_force[at] = true;
        let fault = &self.scenario.faults[at];
        let until = fault.until.map(|until| START + until);
        match &fault.kind {
            FaultKind::SiteDown { sites, how, .. } => {
                self.each_site(sites, |world, site| world.site_goes(site, *how));
            }
            FaultKind::ControllerDown { sites } => self.each_site(sites, Self::controller_goes),
            FaultKind::ControllerCut { sites } => {
                self.each_site(sites, |world, site| world.desk_cut(site, true));
            }
            FaultKind::WorkersLost { sites, share } => {
                let over = until.map_or(Duration::ZERO, |until| until.since(self.now));
                self.each_site(sites, |world, site| world.workers_go(site, *share, over));
            }
            FaultKind::WorkersHung { sites, share } => {
                self.each_site(sites, |world, site| world.workers_hang(site, *share));
            }
            FaultKind::Slow { sites, share, factor } => {
                self.each_site(sites, |world, site| world.slow(site, *share, *factor));
            }
            FaultKind::ColdCache { sites, factor } => {
                let (now, factor) = (self.now, *factor);
                self.each_site(sites, |world, site| world.sites[site].workers.chill(now, factor));
            }
            FaultKind::MoveSessions { share, to } => {
                let (share, to) = (*share, usize::from(*to));
                self.adopt(|config| move_sessions(config, share, to));
            }
            FaultKind::Link { .. } | FaultKind::Partition { .. } | FaultKind::PeersCut { .. } => {
                self.network_changes();
            }
            FaultKind::WrongLabel { site } => {
                let site = usize::from(*site);
                self.adopt(|config| config.targets[site].labels |= LONG);
            }
            _ => self.other_begins(at),
        }
    }

    /// Faults of processes, clients and policy begin.
    fn other_begins(&mut self, at: usize) {
        match &self.scenario.faults[at].kind {
            FaultKind::CrashAll { what, restart } => self.crash_all(*what, *restart),
            FaultKind::GatewayCrash { gateways, restart } => {
                for gateway in self.gateways_of(gateways) {
                    self.gateway_dies(gateway, Some(*restart));
                }
            }
            FaultKind::LoopLag { gateways, delay } => self.loops_lag(gateways, *delay),
            FaultKind::Release { requests, within } => {
                let rate = f64::from(*requests) / within.as_secs_f64().max(1e-3);
                let left = Some(*requests);
                self.add_stream(Stream { tier: None, tenant: None, rate, turn: 0, left });
            }
            FaultKind::Patience { patience } => self.crowd.habits.patience = *patience,
            FaultKind::Retries { retries } => self.crowd.habits.retries = *retries,
            FaultKind::Provider { site, how } => {
                if let Some(account) = &mut self.sites[usize::from(*site)].account {
                    account.trouble = Some(how.clone());
                }
            }
            FaultKind::Tenant { tenant, .. } => {
                let tier = Some(self.crowd.tier_of(*tenant));
                let tenant = Some(*tenant);
                self.add_stream(Stream { tier, tenant, rate: 0.0, turn: 0, left: None });
                self.refresh_streams();
            }
            FaultKind::Surge { .. } => self.refresh_streams(),
            FaultKind::Clock { gateways, drift, .. } => self.drift(gateways, *drift),
            FaultKind::Scale { from, to } => {
                for gateway in usize::from(*from)..usize::from(*to) {
                    self.gateway_starts(gateway);
                    let near = self.network.nearest(gateway);
                    self.crowd.add_gateway(near, gateway as u16);
                }
            }
            FaultKind::PolicyPush { content, author, force, validator } => {
                self.publishes(content, author, (*force, *validator));
            }
            FaultKind::Override { .. } => self.commands(at),
            kind => debug_assert!(acts_while_in_force(kind) || has_no_effect(kind)),
        }
    }

    pub(super) fn fault_ends(&mut self, at: usize) {
        self.in_force[at] = false;
        match &self.scenario.faults[at].kind {
            FaultKind::SiteDown { sites, how: _, cold } => {
                self.each_site(sites, |world, site| world.site_returns(site, *cold));
            }
            FaultKind::ControllerDown { sites } => self.each_site(sites, Self::controller_starts),
            FaultKind::ControllerCut { sites } => {
                self.each_site(sites, |world, site| world.desk_cut(site, false));
            }
            FaultKind::WorkersHung { sites, .. } => self.each_site(sites, Self::workers_go_on),
            FaultKind::LoopLag { gateways, .. } => self.loops_run(gateways),
            FaultKind::Slow { sites, share, factor } => {
                self.each_site(sites, |world, site| world.slow(site, *share, 1.0 / *factor));
            }
            FaultKind::MoveSessions { .. } => {
                let bench = &self.scenario.bench;
                let homes: Vec<u16> =
                    bench.sites.iter().map(|site| (site.home * 1000.0).round() as u16).collect();
                self.adopt(|config| {
                    config.targets.iter_mut().zip(&homes).for_each(|(t, home)| t.home = *home);
                });
            }
            FaultKind::Link { .. } | FaultKind::Partition { .. } | FaultKind::PeersCut { .. } => {
                self.network_changes();
            }
            FaultKind::WrongLabel { site } => {
                let site = usize::from(*site);
                self.adopt(|config| config.targets[site].labels &= !LONG);
            }
            FaultKind::Patience { .. } => {
                self.crowd.habits.patience = self.scenario.clients.patience;
            }
            FaultKind::Retries { .. } => {
                self.crowd.habits.retries = self.scenario.clients.retries;
            }
            FaultKind::Provider { site, .. } => {
                if let Some(account) = &mut self.sites[usize::from(*site)].account {
                    account.trouble = None;
                }
            }
            FaultKind::Surge { .. } | FaultKind::Tenant { .. } => self.refresh_streams(),
            FaultKind::Clock { gateways, .. } => self.drift(gateways, 0.0),
            _ => {}
        }
    }

    fn each_site(&mut self, which: &Which, mut act: impl FnMut(&mut Self, usize)) {
        for site in (0..self.sites.len()).filter(|site| holds(which, *site)) {
            act(self, site);
        }
    }

    pub(super) fn gateways_of(&self, which: &Which) -> Vec<usize> {
        (0..self.gateways.len()).filter(|gateway| holds(which, *gateway)).collect()
    }

    /// Attempts of a site that somebody still cares for.
    pub(super) fn attempts_of(&self, site: usize) -> Vec<Key> {
        let of_it = self.attempts.iter().filter(|(_, a)| usize::from(a.site) == site);
        of_it.map(|(key, _)| key).collect()
    }

    fn site_goes(&mut self, at: usize, how: Loss) {
        self.desk_dies(at);
        let node = &mut self.sites[at];
        node.house = None;
        node.tick = None;
        node.reach = match how {
            Loss::Refuse => Reach::Refuses,
            Loss::Blackhole => Reach::Swallows,
        };
        for worker in 0..node.workers.each.len() {
            node.workers.lose(worker);
        }
        for key in self.attempts_of(at) {
            let Some(attempt) = self.attempts.get(key) else { continue };
            if !attempt.at_site {
                continue;
            }
            self.lose_leg(key);
            self.leave_site(key);
            match how {
                Loss::Refuse => self.tell_harm(key, Harm::Reset),
                Loss::Blackhole => self.silence(key),
            }
        }
    }

    fn site_returns(&mut self, at: usize, cold: Option<f64>) {
        self.sites[at].reach = Reach::Open;
        let node = &mut self.sites[at];
        for worker in 0..node.workers.each.len() {
            node.workers.start(self.now, worker);
        }
        if let Some(factor) = cold {
            node.workers.chill(self.now, factor);
        }
        if node.account.is_none() {
            self.controller_begins(at, cold.is_some());
        }
    }

    /// The controller dies: what waits in its queue is lost, what runs at a worker goes on.
    fn controller_goes(&mut self, at: usize) {
        self.desk_loses(at);
        let node = &mut self.sites[at];
        node.house = None;
        node.tick = None;
        for key in self.attempts_of(at) {
            let Some(attempt) = self.attempts.get(key) else { continue };
            if attempt.at_site && attempt.place.is_none() {
                self.leave_site(key);
                self.tell_harm(key, Harm::Reset);
            }
        }
    }

    fn workers_go(&mut self, at: usize, share: f64, over: Duration) {
        let count = (self.sites[at].workers.each.len() as f64 * share).round() as u32;
        for worker in 0..count {
            let when = self.now + over / count * worker;
            let (site, worker) = (at as u16, worker as u16);
            self.calendar.put(when, Moment::WorkerGoes { site, worker });
        }
    }

    fn slow(&mut self, at: usize, share: f64, factor: f64) {
        let workers = &mut self.sites[at].workers.each;
        let count = (workers.len() as f64 * share).ceil() as usize;
        workers.iter_mut().take(count).for_each(|worker| worker.slow *= factor);
    }

    /// Every gateway adopts a configuration that differs so.
    pub(super) fn adopt(&mut self, change: impl Fn(&mut Config)) {
        for at in 0..self.gateways.len() {
            change(&mut self.gateways[at].config);
            let config = self.gateways[at].config.clone();
            self.tell_gateway(at, Event::Adopt(config.into()));
        }
    }

    fn crash_all(&mut self, what: Process, restart: Duration) {
        match what {
            Process::Gateways => {
                for gateway in 0..self.gateways.len() {
                    self.gateway_dies(gateway, Some(restart));
                }
            }
            Process::Controllers => {
                for site in 0..self.sites.len() {
                    self.controller_goes(site);
                    let starts = Moment::ControllerStarts(site as u16);
                    self.calendar.put(self.now + restart, starts);
                }
            }
            Process::Workers => {
                for site in 0..self.sites.len() {
                    for worker in 0..self.sites[site].workers.each.len() {
                        self.worker_goes(site, worker);
                    }
                    let start = Moment::WorkersStart { site: site as u16, cold: true };
                    self.calendar.put(self.now + restart, start);
                }
            }
        }
    }

    fn drift(&mut self, gateways: &Which, share: f64) {
        for at in self.gateways_of(gateways) {
            let node = &mut self.gateways[at];
            node.clock.drifts(self.now, share);
            node.tick = None;
            self.rearm_gateway(at);
        }
    }

    /// Lines have broken or been mended.
    fn network_changes(&mut self) {
        let faults = self.scenario.faults.iter().zip(&self.in_force);
        self.network.apply(faults.filter(|(_, on)| **on).map(|(fault, _)| &fault.kind));
        let keys: Vec<Key> = self.attempts.iter().map(|(key, _)| key).collect();
        for key in keys {
            let Some(attempt) = self.attempts.get(key).filter(|a| a.at_gateway) else { continue };
            let line = (usize::from(attempt.gateway), usize::from(attempt.site));
            if self.network.is_cut(line.0, line.1) {
                self.silence(key);
            } else if attempt.at_site || attempt.place.is_some() {
                self.unsilence(key);
                self.stall(key, line);
            }
        }
    }

    /// Whether this tenant's requests crash what parses them.
    pub(super) fn is_poison(&self, tenant: u32) -> bool {
        self.scenario.faults.iter().zip(&self.in_force).any(|(fault, on)| {
            *on && matches!(fault.kind, FaultKind::Poison { tenant: t } if t == tenant)
        })
    }

    /// A poisoned request has come to a gateway: it dies, unless its journal says that this tenant
    /// was in flight at two crashes in a row. Then the request alone is refused.
    pub(super) fn poisoned(&mut self, at: usize, tenant: u32) -> bool {
        let suspects = &mut self.gateways[at].suspects;
        if *suspects == (tenant, QUARANTINED) {
            return false;
        }
        let before = if suspects.0 == tenant { suspects.1 } else { 0 };
        *suspects = (tenant, before + 1);
        self.gateway_dies(at, Some(SUPERVISED));
        true
    }
}

/// This share of every other site's sessions is at home at `to` from now on.
fn move_sessions(config: &mut Config, share: f64, to: usize) {
    let mut moved = 0;
    for (at, target) in config.targets.iter_mut().enumerate() {
        if at != to {
            let moves = (f64::from(target.home) * share).round() as u16;
            target.home -= moves;
            moved += moves;
        }
    }
    config.targets[to].home += moved;
}

/// Faults that are looked up where they matter, as long as they are in force.
fn acts_while_in_force(kind: &FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::LyingHealth { .. }
            | FaultKind::Unloadable { .. }
            | FaultKind::PolicySourceDown
            | FaultKind::Poison { .. }
    )
}

/// Faults of what stands on no request's path, and of what this world has not: names are resolved
/// and answered outside it, and it has one publisher. They are accepted, and nothing may follow.
fn has_no_effect(kind: &FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::KeyStoreDown
            | FaultKind::LedgerDown
            | FaultKind::ConsoleDown { .. }
            | FaultKind::TelemetryStuck
            | FaultKind::ResolverBlackhole { .. }
            | FaultKind::PublisherPause { .. }
            | FaultKind::DnsSurge { .. }
    )
}
