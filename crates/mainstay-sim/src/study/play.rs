//! Plays a trace on some workers, with the scheduler between them, in virtual time.

use super::site::WholeSite;
use super::tally::{Fate, Tally, Weight};
use crate::calendar::Calendar;
use crate::service::{Asked, Engine, Noise, Profile, Told};
use crate::workload::{BLOCK, Chained};
use mainstay_core::fact::ScheduleFact;
use mainstay_core::names::{AttemptId, GatewayId, RequestId, TierId, Work, WorkerId};
use mainstay_core::rng::{Rng, mix};
use mainstay_core::site::schedule::check::Watch;
use mainstay_core::site::schedule::profile::Profile as Coefficients;
use mainstay_core::site::schedule::settings::{Policy, Settings};
use mainstay_core::site::schedule::{Action, Attempt, End, Event, Scheduler};
use mainstay_core::time::{Duration, Time};
use std::sync::Arc;

/// One way between the scheduler and a worker of its site.
const WAY: Duration = Duration::from_millis(2);
/// Events of a prefix cache come this late.
const KV_DELAY: Duration = Duration::from_millis(10);
/// Clients wait this long in all.
const EXPIRES: Duration = Duration::from_secs(600);
/// Tokens that a client allows an answer: it never says how many it will be.
const LIMIT: u32 = 4096;

/// How a trace is played.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What the scheduler decides by.
    pub settings: Settings,
    /// What it runs on.
    pub workers: u16,
    /// What workers are, by their formula.
    pub profile: Profile,
    /// The scheduler is told that their steps take so many times as long.
    pub misjudged: f64,
    /// This many times as fast as the trace.
    pub speed: f64,
    /// Repeats the run.
    pub seed: u64,
    /// How old reports of load are, and how often they come; without, none come.
    pub report_age: Option<Duration>,
    /// Parts of the requests that are of each tier, by chance.
    pub tiers: Vec<f64>,
    /// Whose each request is; all are one tenant's where this says nothing.
    pub tenants: Vec<u32>,
    /// This tenant's requests are of the last tier, whatever chance says.
    pub set_apart: Option<u32>,
    /// Whether invariants are checked after every event.
    pub is_checked: bool,
    /// Ends the run when more than this part of all cannot be good any more.
    pub bad_max: Option<(Weight, f64)>,
}

/// What happens.
#[derive(Debug)]
enum Moment {
    Arrives(usize),
    Reaches {
        work: Work,
        worker: u16,
    },
    Step(u16),
    Told(Event),
    /// A worker says something of an attempt; `at` is when it happened there.
    Said {
        id: usize,
        worker: u16,
        at: Time,
        what: Told,
    },
    Reports(u16),
    Abort {
        work: Work,
        worker: u16,
    },
    Tick,
}

/// What stands between clients and workers.
enum Between {
    Scheduler(Box<Scheduler>, Option<Box<Watch>>),
    WholeSite(Box<WholeSite>),
}

impl Between {
    fn new(setup: &Setup) -> Between {
        if setup.settings.policy == Policy::Site {
            return Between::WholeSite(Box::new(WholeSite::new(setup.seed, BLOCK)));
        }
        let settings = Settings { seed: setup.seed, ..setup.settings.clone() };
        let watch = setup.is_checked.then(|| Box::new(Watch::new(settings.clone())));
        Between::Scheduler(Box::new(Scheduler::new(settings)), watch)
    }

    /// What follows; and what is wrong with it, if that is watched.
    fn handle(
        &mut self,
        now: Time,
        event: Event,
        actions: &mut Vec<Action>,
    ) -> Result<(), &'static str> {
        match self {
            Between::Scheduler(scheduler, None) => scheduler.handle(now, event, actions),
            Between::Scheduler(scheduler, Some(watch)) => {
                scheduler.handle(now, event.clone(), actions);
                return watch.check((now, event), actions, scheduler);
            }
            Between::WholeSite(site) => site.handle(now, event, actions),
        }
        Ok(())
    }

    fn deadline(&self) -> Option<(Time, &'static str)> {
        match self {
            Between::Scheduler(scheduler, _) => scheduler.deadline(),
            Between::WholeSite(site) => site.deadline(),
        }
    }

    /// Milliseconds to the first token of a leg that was just sent: likely, and nine times of ten
    /// at most. A site shows none.
    fn foreseen(&self, work: Work, worker: WorkerId) -> Option<(f64, f64)> {
        let Between::Scheduler(scheduler, _) = self else { return None };
        let (_, worker) = scheduler.workers().find(|(id, _)| *id == worker)?;
        let leg = worker.leg(work)?;
        let most = worker.pace.quantiles(leg.reservation.tokens as u32).q90;
        Some((leg.forecast.ttft, leg.forecast.ttft * most))
    }

    fn check(&self, now: Time) -> Result<(), &'static str> {
        match self {
            Between::Scheduler(scheduler, _) => scheduler.check(now),
            Between::WholeSite(site) => site.check(now),
        }
    }
}

/// One run.
struct Play<'a> {
    setup: &'a Setup,
    trace: &'a [Chained],
    keys: Vec<Arc<[u64]>>,
    tiers: Vec<TierId>,
    between: Between,
    engines: Vec<Engine>,
    /// Steps on the calendar, so that none is put twice.
    steps: Vec<Option<Time>>,
    /// Who has each: whoever had it before is not heard any more.
    holders: Vec<Option<u16>>,
    calendar: Calendar<Moment>,
    tick: Option<Time>,
    actions: Vec<Action>,
    happened: Vec<(usize, Told)>,
    tally: Tally,
    left: usize,
    /// What was found to be wrong.
    broken: Option<&'static str>,
}

/// Plays it; what became of each request.
///
/// # Errors
/// The invariant that did not hold, and when.
pub fn play(trace: &[Chained], setup: &Setup) -> Result<Tally, String> {
    let mut play = Play::new(trace, setup);
    while play.left > 0
        && let Some((now, moment)) = play.calendar.take()
    {
        play.moment(now, moment);
        if setup.is_checked {
            let found = play.broken.map_or_else(|| play.between.check(now), Err);
            found.map_err(|what| format!("{what}, at {} µs", now.as_micros()))?;
        }
        if setup.bad_max.is_some_and(|(weight, most)| play.tally.bad(weight) > most) {
            break;
        }
    }
    Ok(play.tally)
}

fn work(id: usize) -> Work {
    let attempt = AttemptId { request: RequestId(id as u64), number: 1 };
    Work { from: GatewayId(0), attempt }
}

fn id(work: Work) -> usize {
    work.attempt.request.0 as usize
}

/// What a scheduler knows of such a worker: the formula, never what was measured.
pub fn coefficients(profile: &Profile) -> Coefficients {
    Coefficients {
        overhead: profile.overhead,
        floor: profile.floor,
        base: profile.base,
        token: profile.token,
        context: profile.context,
        pair: profile.pair,
        chunk: profile.chunk,
        sequences: profile.sequences,
        blocks: (profile.kv_tokens / u64::from(BLOCK)) as u32,
    }
}

/// A worker whose steps take so many times as long.
fn times(worker: Coefficients, times: f64) -> Coefficients {
    Coefficients {
        overhead: worker.overhead * times,
        floor: worker.floor * times,
        base: worker.base * times,
        token: worker.token * times,
        context: worker.context * times,
        pair: worker.pair * times,
        ..worker
    }
}

impl<'a> Play<'a> {
    fn new(trace: &'a [Chained], setup: &'a Setup) -> Play<'a> {
        let mut rng = Rng::new(setup.seed);
        let truth = setup.profile.clone().measured();
        let engine = |seed| Engine::new(truth.clone(), BLOCK, (Noise::USUAL, seed));
        let engines = (0..setup.workers).map(|_| engine(rng.bits())).collect();
        let mut calendar = Calendar::default();
        for (at, one) in trace.iter().enumerate() {
            let when = Time::from_micros((one.at.as_secs_f64() / setup.speed * 1e6) as u64);
            calendar.put(when + WAY, Moment::Arrives(at));
        }
        let keys = trace.iter().map(|one| one.chain.iter().map(|key| mix(*key, 1)).collect());
        let mut tiers: Vec<TierId> = trace.iter().map(|_| tier(&mut rng, &setup.tiers)).collect();
        let last = TierId(setup.settings.tiers.len().saturating_sub(1) as u8);
        for (tier, tenant) in tiers.iter_mut().zip(&setup.tenants) {
            *tier = if setup.set_apart == Some(*tenant) { last } else { *tier };
        }
        let mut play = Play {
            setup,
            trace,
            keys: keys.collect(),
            tiers,
            between: Between::new(setup),
            engines,
            steps: vec![None; usize::from(setup.workers)],
            holders: vec![None; trace.len()],
            calendar,
            tick: None,
            actions: Vec::new(),
            happened: Vec::new(),
            tally: Tally::new(trace, &setup.settings.tiers, &truth),
            left: trace.len(),
            broken: None,
        };
        for worker in 0..setup.workers {
            let profile = times(coefficients(&setup.profile), setup.misjudged);
            play.tell(Time::ZERO, Event::WorkerSeen { worker: WorkerId(worker), profile });
            if setup.report_age.is_some() {
                play.calendar.put(Time::ZERO, Moment::Reports(worker));
            }
        }
        play
    }

    fn moment(&mut self, now: Time, moment: Moment) {
        match moment {
            Moment::Arrives(at) => {
                let attempt = self.attempt(at);
                self.tally.arrived(at, now - WAY, self.tiers[at]);
                self.tell(now, Event::Arrived(attempt));
            }
            Moment::Reaches { work, worker } => {
                let one = &self.trace[id(work)];
                let asked = Asked {
                    id: id(work),
                    prompt: one.prompt,
                    cached: 0,
                    output: one.output,
                    keys: self.keys[id(work)].clone(),
                };
                self.engines[usize::from(worker)].admit(now, asked);
                self.put_step(worker);
            }
            Moment::Step(worker) => self.step(now, worker),
            Moment::Told(event) => self.tell(now, event),
            Moment::Said { id, worker, at, what } => self.said(now, (id, worker), (at, what)),
            Moment::Reports(worker) => self.report(now, worker),
            Moment::Abort { work, worker } => {
                self.engines[usize::from(worker)].abort(id(work));
            }
            // One that another has overtaken is nobody's any more.
            Moment::Tick if self.tick != Some(now) => {}
            Moment::Tick => {
                self.tick = None;
                self.tell(now, Event::Tick);
            }
        }
    }

    fn attempt(&self, at: usize) -> Attempt {
        let one = &self.trace[at];
        Attempt {
            work: work(at),
            tier: self.tiers[at],
            tenant: self.setup.tenants.get(at).copied().unwrap_or(0),
            prompt: one.prompt,
            keys: self.keys[at].clone(),
            limit: LIMIT,
            expires: EXPIRES,
            elsewhere: false,
        }
    }

    fn tell(&mut self, now: Time, event: Event) {
        let mut actions = std::mem::take(&mut self.actions);
        let found = self.between.handle(now, event, &mut actions);
        self.broken = self.broken.or(found.err());
        for action in actions.drain(..) {
            self.act(now, action);
        }
        self.actions = actions;
        let next = self.between.deadline().map(|(at, _)| at.max(now));
        if next.is_some_and(|at| self.tick.is_none_or(|tick| at < tick)) {
            self.tick = next;
            self.calendar.put(next.unwrap_or(now), Moment::Tick);
        }
    }

    fn act(&mut self, now: Time, action: Action) {
        match action {
            Action::StartLeg { work, worker, .. } => {
                self.tally.sent(id(work), now, self.between.foreseen(work, worker));
                self.holders[id(work)] = Some(worker.0);
                let reaches = Moment::Reaches { work, worker: worker.0 };
                self.calendar.put(now + WAY, reaches);
            }
            Action::AbortLeg { work, worker } => {
                self.holders[id(work)] = None;
                self.calendar.put(now + WAY, Moment::Abort { work, worker: worker.0 });
            }
            Action::HandBack { work, .. } => self.end(id(work), Fate::HandedBack),
            Action::Refuse { work, .. } => self.end(id(work), Fate::Refused),
            // Of a site alone, which tells it otherwise.
            Action::Fact(ScheduleFact::Preempted { .. }) => self.tally.preempted += 1,
            Action::Shed(_) | Action::Fact(_) => {}
        }
    }

    fn end(&mut self, at: usize, fate: Fate) {
        self.tally.ended(at, fate);
        self.left -= 1;
    }

    fn step(&mut self, now: Time, worker: u16) {
        let at = usize::from(worker);
        if self.steps[at] != Some(now) {
            return;
        }
        self.steps[at] = None;
        let mut happened = std::mem::take(&mut self.happened);
        self.engines[at].advance(now, &mut happened);
        for (id, what) in happened.drain(..) {
            self.calendar.put(now + WAY, Moment::Said { id, worker, at: now, what });
        }
        self.happened = happened;
        let (stored, removed) = self.engines[at].news();
        if !stored.is_empty() || !removed.is_empty() {
            let event = Event::Kv { worker: WorkerId(worker), incarnation: 1, stored, removed };
            self.calendar.put(now + KV_DELAY, Moment::Told(event));
        }
        self.put_step(worker);
    }

    fn said(&mut self, now: Time, (id, worker): (usize, u16), (at, what): (Time, Told)) {
        if self.holders[id] != Some(worker) {
            return;
        }
        let work = work(id);
        let event = match what {
            Told::FirstToken { cached } => {
                self.tally.first_token(id, at, cached);
                self.tally.heard(id, now);
                Event::FirstToken { work, cached: Some(cached) }
            }
            Told::Ended => {
                self.end(id, Fate::Done { at });
                let output = self.trace[id].output;
                Event::LegEnded { work, end: End::Done { output } }
            }
        };
        self.tell(now, event);
    }

    fn put_step(&mut self, worker: u16) {
        let at = usize::from(worker);
        let next = self.engines[at].next();
        if let Some(when) = next.filter(|_| self.steps[at] != next) {
            self.steps[at] = next;
            self.calendar.put(when, Moment::Step(worker));
        }
    }

    fn report(&mut self, now: Time, worker: u16) {
        let Some(age) = self.setup.report_age else { return };
        let load = self.engines[usize::from(worker)].load();
        let event = Event::Load { worker: WorkerId(worker), age, load };
        self.calendar.put(now + age, Moment::Told(event));
        self.calendar.put(now + age, Moment::Reports(worker));
    }
}

fn tier(rng: &mut Rng, parts: &[f64]) -> TierId {
    let mut left = rng.unit() * parts.iter().sum::<f64>();
    let found = parts.iter().position(|part| {
        left -= part;
        left < 0.0
    });
    TierId(found.unwrap_or(0) as u8)
}
