//! The processes of a run: gateways, site controllers with their workers, provider accounts.

use super::desks::Desk;
use super::engines::Engine;
use super::hangs::Standstill;
use super::moment::Harm;
use super::policies::Pulse;
use super::workers::{FIRST_TOKEN, Served, TOKEN, Workers};
use crate::naive::{NaiveGateway, NaiveSite};
use crate::scenario::Trouble;
use mainstay_core::config::Config;
use mainstay_core::cost::{CostRate, CostUnits};
use mainstay_core::gateway::{self, Gateway};
use mainstay_core::message::Offer;
use mainstay_core::mutant::Mutants;
use mainstay_core::names::TargetId;
use mainstay_core::policy::Policy;
use mainstay_core::policy::disk::Disk;
use mainstay_core::site::{self, Site};
use mainstay_core::time::{Duration, Time};

/// Work a provider account may do at once beyond its rate: two seconds of it.
const BURST: f64 = 2.0;
/// What a throttling provider tells to wait.
const THROTTLED: u32 = 1000;

/// A node's monotonic clock, which may run fast or slow.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    world: Time,
    local: Time,
    /// Millionths that it runs fast.
    drift: i64,
}

impl Clock {
    /// One that runs as the world does.
    pub fn sound(now: Time) -> Clock {
        Clock { world: now, local: now, drift: 0 }
    }

    /// What it shows.
    pub fn local(&self, now: Time) -> Time {
        if self.drift == 0 {
            return self.local + now.since(self.world);
        }
        let passed = now.since(self.world).as_micros() as i128;
        let shown = passed * i128::from(1_000_000 + self.drift) / 1_000_000;
        self.local + Duration::from_micros(shown as u64)
    }

    /// The first moment at which it shows `local`, or later.
    pub fn world(&self, local: Time) -> Time {
        let to_pass = local.since(self.local).as_micros() as i128;
        if self.drift == 0 {
            return self.world + Duration::from_micros(to_pass as u64);
        }
        let rate = i128::from(1_000_000 + self.drift);
        let passes = (to_pass * 1_000_000 + rate - 1) / rate;
        self.world + Duration::from_micros(passes as u64)
    }

    /// From now on it runs fast by this share.
    pub fn drifts(&mut self, now: Time, share: f64) {
        self.local = self.local(now);
        self.world = now;
        self.drift = (share * 1e6) as i64;
    }
}

/// The machine of a gateway.
#[derive(Debug)]
pub enum Front {
    /// The real one.
    Ours(Box<Gateway>),
    /// The baseline's.
    Naive(Box<NaiveGateway>),
}

impl Front {
    /// See `Gateway::handle`.
    pub fn handle(&mut self, now: Time, event: gateway::Event, actions: &mut Vec<gateway::Action>) {
        match self {
            Front::Ours(gateway) => gateway.handle(now, event, actions),
            Front::Naive(gateway) => gateway.handle(now, event, actions),
        }
    }

    /// See `Gateway::deadline`.
    pub fn deadline(&self) -> Option<Time> {
        match self {
            Front::Ours(gateway) => gateway.deadline().map(|(at, _)| at),
            Front::Naive(gateway) => gateway.deadline().map(|(at, _)| at),
        }
    }

    /// Requests it has not ended.
    pub fn open_requests(&self) -> usize {
        match self {
            Front::Ours(gateway) => gateway.open_requests(),
            Front::Naive(gateway) => gateway.open_requests(),
        }
    }
}

/// The machine of a site controller.
#[derive(Debug)]
pub enum House {
    /// The real one.
    Ours(Box<Site>),
    /// The baseline's.
    Naive(Box<NaiveSite>),
}

impl House {
    /// See `Site::handle`.
    pub fn handle(&mut self, now: Time, event: site::Event, actions: &mut Vec<site::Action>) {
        match self {
            House::Ours(site) => site.handle(now, event, actions),
            House::Naive(site) => site.handle(now, event, actions),
        }
    }

    /// See `Site::deadline`.
    pub fn deadline(&self) -> Option<Time> {
        match self {
            House::Ours(site) => site.deadline().map(|(at, _)| at),
            House::Naive(site) => site.deadline().map(|(at, _)| at),
        }
    }

    /// Whether its health endpoint says well: ours does as long as it runs.
    pub fn is_healthy(&self, now: Time) -> bool {
        match self {
            House::Ours(_) => true,
            House::Naive(site) => site.is_healthy(now),
        }
    }

    /// Whether no order keeps new work from it.
    pub fn is_open(&self) -> bool {
        match self {
            House::Ours(site) => site.offer() == Offer::Open,
            House::Naive(_) => true,
        }
    }

    /// What is over its bound there now.
    pub fn over_bound(&self, now: Time, target: TargetId) -> Option<String> {
        let House::Ours(site) = self else { return None };
        let stands = site.standing(now, target)?;
        let is_over = stands.ahead > stands.ahead_bound || stands.queued_cost > stands.queued_bound;
        is_over.then(|| format!("{stands:?}"))
    }

    /// What is wrong with its books, see `Scheduler::check`.
    pub fn broken(&self, now: Time) -> Option<&'static str> {
        let House::Ours(site) = self else { return None };
        // Without one of its rules it does what it must not, and is missed by that.
        let is_whole = site.config().credit.mutants == Mutants::NONE;
        site.check(now).err().filter(|_| is_whole)
    }

    /// How many workers it says would be the right number.
    pub fn wanted(&self, now: Time, target: TargetId) -> u16 {
        let House::Ours(site) = self else { return 0 };
        site.standing(now, target).map_or(0, |stands| stands.wanted)
    }

    /// Whether work goes on although nobody waits for it.
    pub fn ignores_cancels(&self) -> bool {
        matches!(self, House::Naive(_))
    }
}

/// One gateway process.
#[derive(Debug)]
pub struct GatewayNode {
    /// Its machine, while it runs.
    pub front: Option<Front>,
    /// What its machine decides by.
    pub config: Config,
    /// Its clock.
    pub clock: Clock,
    /// When its machine is to be called, at the latest.
    pub tick: Option<Time>,
    /// Counts its processes.
    pub life: u32,
    /// Which sites it holds for up.
    pub up: Vec<bool>,
    /// Weights of gateways in its answers to names.
    pub answers: Vec<u32>,
    /// Its policy machine, while it runs.
    pub policy: Option<Policy>,
    /// When that is to be called, at the latest.
    pub policy_tick: Option<Time>,
    /// What it kept on disk, and when its last process stopped.
    pub disk: Disk,
    /// See `disk`.
    pub stopped: Time,
    /// What it counts for its pulse,
    pub pulse: Pulse,
    /// thousandths of the last minute's requests that ended badly,
    pub failing: u16,
    /// and whether it doubts itself, by its last digest.
    pub in_doubt: bool,
    /// Its loop stands still.
    pub standstill: Option<Standstill>,
    /// The content it runs, and since when; those that killed it before they had proved themselves.
    pub runs: (u64, Time),
    /// See `runs`.
    pub deadly: Vec<u64>,
    /// The tenant in flight at its last crashes, and at how many.
    pub suspects: (u32, u8),
}

/// What a site does to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Takes them.
    Open,
    /// Refuses them.
    Refuses,
    /// Takes them and never answers.
    Swallows,
}

/// One site: a controller and workers, or a provider's account.
#[derive(Debug)]
pub struct SiteNode {
    /// Its controller, while it runs; none at a provider.
    pub house: Option<House>,
    /// Who may be its controller, where one stands by.
    pub desk: Option<Desk>,
    /// The account, at a provider.
    pub account: Option<Account>,
    /// What it does to connections.
    pub reach: Reach,
    /// The last controller's epoch.
    pub epoch: u32,
    /// Its workers.
    pub workers: Workers,
    /// They started with empty caches, and no controller has heard it yet.
    pub is_cold: bool,
    /// What they compute by, one each, where the bench names a profile.
    pub engines: Vec<Engine>,
    /// When its machine is to be called, at the latest.
    pub tick: Option<Time>,
    /// Attempts it has, running ones included.
    pub attempts: u32,
    /// Hundredths of its capacity on offer, by its last grant.
    pub ramp: u8,
    /// What it can carry by its last grant.
    pub capacity: CostRate,
    /// What each gateway's unexpired grants come to: amount, and until when it may be used.
    pub granted: Vec<Vec<(u64, Time)>>,
}

impl SiteNode {
    /// Credit that may be in use of one gateway.
    pub fn granted_to(&self, now: Time, gateway: usize) -> u64 {
        let live = self.granted[gateway].iter().filter(|(_, until)| now < *until);
        live.map(|(amount, _)| *amount).max().unwrap_or(0)
    }

    /// Credit that may be in use.
    pub fn granted(&self, now: Time) -> u64 {
        (0..self.granted.len()).map(|gateway| self.granted_to(now, gateway)).sum()
    }
}

/// A provider's account.
#[derive(Clone, Debug)]
pub struct Account {
    /// CU a second it may use.
    pub quota: f64,
    /// What is wrong with it.
    pub trouble: Option<Trouble>,
    left: f64,
    at: Time,
}

impl Account {
    /// One in good order.
    pub fn new(now: Time, quota: f64) -> Account {
        Account { quota, trouble: None, left: quota * BURST, at: now }
    }

    /// Takes work in, or says why not.
    pub fn serve(&mut self, now: Time, cost: CostUnits) -> Result<Served, Harm> {
        let rate = match self.trouble {
            Some(Trouble::Throttle { above }) => above.min(self.quota),
            Some(Trouble::SpendCap) => return Err(Harm::Billing),
            Some(Trouble::AccountRefused) => return Err(Harm::Account),
            Some(Trouble::KeepAlives | Trouble::Cut) | None => self.quota,
        };
        let gained = now.since(self.at).as_secs_f64() * rate;
        self.left = (self.left + gained).min(rate * BURST);
        self.at = now;
        if self.left < cost.as_f64() {
            return Err(Harm::Throttled(Some(THROTTLED)));
        }
        self.left -= cost.as_f64();
        Ok(Served { first: now + FIRST_TOKEN, token: TOKEN, read: (now, Duration::ZERO) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_runs_fast_shows_a_time_at_the_first_moment_it_does() {
        let begin = Time::from_micros(1_000_000);
        let mut clock = Clock::sound(begin);
        clock.drifts(begin, 0.05);
        let local = begin + Duration::from_micros(1_000_001);
        let world = clock.world(local);
        assert!(clock.local(world) >= local);
        assert!(clock.local(world - Duration::from_micros(2)) < local);
    }

    #[test]
    fn an_account_refuses_beyond_its_quota_with_a_time_to_come_back() {
        let begin = Time::from_micros(1_000_000);
        let mut account = Account::new(begin, 1.0);
        let one = CostUnits::whole(1);
        assert!(account.serve(begin, one).is_ok() && account.serve(begin, one).is_ok());
        assert_eq!(account.serve(begin, one).err(), Some(Harm::Throttled(Some(THROTTLED))));
    }
}
