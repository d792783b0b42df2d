//! The front door's decisions: who gets in, which target gets the attempt, what follows a failure.
//!
//! One machine for all requests of a gateway process. It hears of arrivals, first tokens and ends;
//! tokens themselves go past it. Nobody decides "failover" here: each request goes where this
//! gateway's own evidence and the targets' own refusals leave room.

mod adopt;
pub mod answers;
pub mod catalog;
mod choose;
pub mod credit;
pub mod doubt;
pub mod drill;
mod drilling;
mod evidence;
mod fit;
pub mod health;
mod hearsay;
pub mod held;
pub mod indirect;
pub mod joint;
pub mod keyring;
pub mod latency;
pub mod limits;
pub mod losses;
mod nodes;
mod orders;
mod ours;
pub mod outlook;
pub mod peers;
pub mod placement;
pub mod probe;
pub mod quota;
mod readiness;
pub mod refusal;
pub mod request;
pub mod retry_budget;
mod shed;
mod slow;
mod spill;
mod steps;
pub mod view;
pub mod watch;

use crate::config::Config;
use crate::drill::Breakage;
use crate::fact::{Fact, How, Outcome};
use crate::message::{Ack, Digest, Grant, Open, Order, OrderId, Refuse, Report as Wanted};
use crate::mutant::Mutant;
use crate::names::{AttemptId, GatewayId, ModelId, RequestId, SiteId, TargetId, TierId};
use crate::rng::Rng;
use crate::table::Table;
use crate::time::{Duration, Time};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use latency::Patience;
use placement::Targets;
use refusal::Refusal;
use request::{Ask, Broken, Life, Report, State};
use retry_budget::RetryBudget;

/// Tokens that flow for so long make an attempt good before its end.
pub const FLOWING: Duration = Duration::from_secs(2);

/// What a request holds besides its own record, at most: the names and messages of three failures.
const LIFE_BYTES: usize = 2048;
/// Longest reason of an order that the link carries.
const REASON_BYTES: usize = 256;

/// What the gateway hears.
#[derive(Clone, Debug)]
pub enum Event {
    /// A client asks.
    Arrive { request: RequestId, ask: Ask },
    /// The first token of an attempt came, this long after it was sent.
    FirstToken { attempt: AttemptId, after: Duration },
    /// Tokens of an attempt have been flowing for a while.
    Flowing { attempt: AttemptId },
    /// An attempt ended by itself with a finish reason of the success set.
    Whole { attempt: AttemptId, report: Report },
    /// An attempt ended at the token limit before the client's own limit was reached.
    Short { attempt: AttemptId, report: Report },
    /// An attempt broke, or was given up.
    Broken { attempt: AttemptId, broken: Broken },
    /// The client left.
    Gone { request: RequestId, report: Report },
    /// A site of ours answered a report.
    Grant(Grant),
    /// A site of ours took an attempt in.
    Ack(Ack),
    /// A site of ours did not take an attempt in, or hands it back before its first token.
    Refused(Refuse),
    /// A peer's digest.
    Digest(Digest),
    /// The orders in force, from the policy machine of this process.
    Orders(Vec<Order>),
    /// A probe ended.
    Probed { target: TargetId, probe: Probe, good: bool },
    /// This process's own loop was late by so much.
    Lag(Duration),
    /// Another policy is in force.
    Adopt(Box<Config>),
    /// Somebody wants a drill,
    Drill(crate::drill::Plan),
    /// or that the one of this name ends.
    StopDrill(u64),
    /// A deadline passed.
    Tick,
}

/// How deep a probe looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Probe {
    /// Whether its health endpoint answers.
    Shallow,
    /// One token through the real path.
    Token,
}

/// What the server must do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Open an attempt.
    Start(Start),
    /// End the request. Whatever attempt is open is to be given up.
    Close { request: RequestId, close: Close },
    /// Give an attempt up and tell by `Broken`, as an overload, how far it came: its site is to do
    /// nothing more for us.
    GiveUp { attempt: AttemptId },
    /// Tell a site of ours what is wanted there.
    Report { site: SiteId, report: Wanted },
    /// Tell a peer how things stand. What concerns policy is for the driver to fill in.
    Digest { to: GatewayId, digest: Digest },
    /// Probe a target.
    Probe { target: TargetId, probe: Probe },
    /// Answer names with these gateways from now on, by weight; never empty.
    Answers(Vec<(GatewayId, u32)>),
    /// Tell of a decision.
    Fact(Fact),
}

/// An attempt to open.
#[derive(Clone, Debug)]
pub struct Start {
    /// Its id.
    pub attempt: AttemptId,
    /// Where.
    pub target: TargetId,
    /// The site of that target.
    pub site: SiteId,
    /// The model's name there.
    pub model: String,
    /// As what.
    pub how: How,
    /// How long it may take to show progress.
    pub patience: Patience,
    /// Only this choice of several is to be resumed.
    pub only_choice: Option<u32>,
    /// What a site of ours is told; `None` for a provider and the embedded engine.
    pub open: Option<Open>,
    /// It is broken on purpose.
    pub broken: Option<Breakage>,
}

/// How a request ends for its client.
#[derive(Clone, Debug, PartialEq)]
pub enum Close {
    /// The answer is whole.
    Done,
    /// The provider's filter ended it: what there is, with that reason.
    Filtered,
    /// An error: a status and a body, or an event after tokens.
    Error(Refusal),
    /// Nobody is there to read.
    Gone,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Gateway {
    config: Config,
    targets: Targets,
    lives: Table<RequestId, Life>,
    deadlines: BTreeSet<(Time, RequestId)>,
    budgets: Vec<RetryBudget>,
    demand: BTreeMap<u16, shed::Shedding>,
    /// Whether there are sites of ours, and when they get their next report.
    has_nodes: bool,
    next_report: Time,
    /// When it is told next what the loss of a site would leave.
    next_readiness: Time,
    /// Requests that wait for a grant: a line for each tier and model, who came first at its head.
    held_back: BTreeSet<(TierId, ModelId, Time, RequestId)>,
    /// Models for which sites are tried that are not up.
    panics: BTreeSet<ModelId>,
    /// Hours counted, by whoever counted most: tenants are shed by another order in each.
    hour: u32,
    /// Whether there are sites of ours or peers.
    is_fleet: bool,
    hearsay: hearsay::Hearsay,
    /// The orders in force,
    ordered: Vec<Order>,
    /// and those of them that stand.
    orders: Vec<Order>,
    /// Orders told as ignored.
    ignored: BTreeSet<OrderId>,
    /// The drill under way, or the last one.
    drill: Option<Box<drill::Drill>>,
    /// Models that stand in the configuration; more were learned from what clients named.
    listed: usize,
    rng: Rng,
}

impl Gateway {
    /// A gateway that believes every target up.
    pub fn new(config: Config, seed: u64) -> Gateway {
        let mut targets = Targets::new(&config);
        let mut rng = Rng::new(seed);
        targets.number_reports(&mut rng);
        let mut budgets = Vec::new();
        budgets.resize(config.tiers.len(), RetryBudget::default());
        let listed = config.models.len();
        let has_nodes = config.sites.iter().any(|site| site.is_node());
        let is_fleet = has_nodes || config.fleet.gateways > 1;
        let hearsay = hearsay::Hearsay::new(&config);
        Gateway {
            config,
            targets,
            lives: Table::default(),
            deadlines: BTreeSet::new(),
            budgets,
            demand: BTreeMap::new(),
            has_nodes,
            next_report: Time::ZERO,
            next_readiness: Time::ZERO,
            held_back: BTreeSet::new(),
            panics: BTreeSet::new(),
            hour: 0,
            is_fleet,
            hearsay,
            ordered: Vec::new(),
            orders: Vec::new(),
            ignored: BTreeSet::new(),
            drill: None,
            listed,
            rng,
        }
    }

    /// Takes one event and says what follows.
    pub fn handle(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Arrive { request, ask } => self.arrive(now, (request, ask), actions),
            Event::FirstToken { attempt, after } => self.first_token(now, attempt, after, actions),
            Event::Flowing { attempt } => self.flowing(now, attempt, actions),
            Event::Whole { attempt, report } => self.whole(now, attempt, report, actions),
            Event::Short { attempt, report } => self.short(now, attempt, report, actions),
            Event::Broken { attempt, broken } => self.broken(now, attempt, broken, actions),
            Event::Gone { request, report } => self.gone(now, request, report, actions),
            Event::Grant(grant) if self.is_silenced(now, grant.target) => {}
            Event::Grant(grant) => self.granted(now, grant, actions),
            Event::Ack(ack) => self.acked(now, ack),
            Event::Refused(refuse) => self.refused(now, refuse, actions),
            Event::Digest(digest) => self.hear_digest(now, &digest, actions),
            Event::Orders(orders) => self.order(orders, actions),
            Event::Probed { target, probe, good } => {
                self.hear_probe(now, (target, probe), good, actions);
            }
            Event::Lag(late) => self.hearsay.doubt.lag(now, late),
            Event::Adopt(config) => self.adopt(now, *config, actions),
            Event::Drill(plan) => self.begin_drill(now, plan, actions),
            Event::StopDrill(id) => self.stop_drill(now, id, actions),
            Event::Tick => {}
        }
        self.report(now, actions);
        self.tell_peers(now, actions);
        self.pass_deadlines(now, actions);
        self.watch_drill(now, actions);
    }

    /// When to call again, and what for.
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        let request = self.deadlines.first().map(|(at, _)| (*at, "a request's wait or deadline"));
        let report = self.has_nodes.then_some((self.next_report, "a report to sites of ours"));
        let digest = (self.hearsay.deadline(), "a digest or a probe");
        let digest = self.is_fleet.then_some(digest);
        let drill = self.drill.as_ref().and_then(|drill| drill.deadline());
        let drill = drill.map(|at| (at, "a drill begins or ends"));
        [request, report, digest, drill].into_iter().flatten().min()
    }

    /// What the machine decides by.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The generation of policy that another gateway said it runs, however long ago.
    pub fn generation_of(&self, gateway: GatewayId) -> Option<u64> {
        self.hearsay.peers.generation(gateway)
    }

    /// What it believes of each target.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Requests that have not ended.
    pub fn open_requests(&self) -> usize {
        self.lives.len()
    }

    /// About how many bytes its tables hold: entries by their size. What grows with load is in it.
    pub fn held_bytes(&self) -> usize {
        let life = size_of::<(RequestId, Life)>() + LIFE_BYTES;
        let moments = self.deadlines.len() + self.held_back.len();
        let demand: usize = self.demand.values().map(shed::Shedding::bytes).sum();
        let orders = self.ordered.len() + self.orders.len();
        self.lives.len() * life
            + moments * size_of::<(Time, RequestId)>()
            + demand
            + self.targets.iter().count() * size_of::<placement::Target>()
            + orders * (size_of::<Order>() + REASON_BYTES)
    }

    /// How full the fullest-spent tier's retry budget is, 0 to 1.
    pub fn retry_budget(&self) -> f64 {
        self.budgets.iter().map(RetryBudget::ratio).fold(1.0, f64::min)
    }

    fn pass_deadlines(&mut self, now: Time, actions: &mut Vec<Action>) {
        while let Some(&(at, request)) = self.deadlines.first() {
            if at > now {
                return;
            }
            self.deadlines.remove(&(at, request));
            let Some(life) = self.lives.get_mut(&request) else { continue };
            life.planned = None;
            if now >= life.deadline {
                self.expire(now, request, actions);
                continue;
            }
            match life.state {
                State::Running(_) => self.plan(request),
                State::Waiting { target, .. } => self.wait_over(now, request, target, actions),
                State::Holding { .. } => self.look(now, request, actions),
            }
        }
    }

    /// Puts the request's next moment into the calendar.
    fn plan(&mut self, request: RequestId) {
        let Some(life) = self.lives.get_mut(&request) else { return };
        let at = match life.state {
            State::Running(_) => life.deadline,
            State::Waiting { until, .. } => until.min(life.deadline),
            State::Holding { again, .. } => again.min(life.deadline),
        };
        life.planned = Some(at);
        self.deadlines.insert((at, request));
    }

    /// Takes the request's present moment out of the calendar.
    fn unplan(&mut self, request: RequestId) {
        let Some(life) = self.lives.get_mut(&request) else { return };
        if let Some(at) = life.planned.take() {
            self.deadlines.remove(&(at, request));
        }
    }

    /// The one end of a request.
    fn close(
        &mut self,
        now: Time,
        request: RequestId,
        (close, outcome): (Close, Outcome),
        actions: &mut Vec<Action>,
    ) {
        self.unplan(request);
        self.release(request);
        let Some(life) = self.lives.remove(&request) else { return };
        let after = now.since(life.arrived);
        self.hearsay.ended(now, outcome);
        if let Some(drill) = &mut self.drill {
            drill.closed(now, &life, outcome);
        }
        if self.config.fleet.credit.mutants.removes(Mutant::OutcomeByBoth) {
            self.lives.insert(request, life.clone());
        }
        actions.push(Action::Fact(Fact::Closed {
            request,
            outcome,
            attempts: life.attempts,
            resumes: life.resumes,
            after,
        }));
        actions.push(Action::Close { request, close });
    }

    /// The running attempt with this id, if the request still waits for it.
    fn running(&mut self, attempt: AttemptId) -> Option<&mut request::Running> {
        let any = self.config.fleet.credit.mutants.removes(Mutant::OldAttemptUnfenced);
        match &mut self.lives.get_mut(&attempt.request)?.state {
            State::Running(running) if running.attempt == attempt || any => Some(running),
            _ => None,
        }
    }
}
