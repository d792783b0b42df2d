//! Runs the gateway machine: gives it the clock and events, and carries its actions to whom they
//! concern.
//!
//! The machine is quick and never waits, so it stands behind a plain lock that no task holds
//! across an await. Each request's own task has an inbox for what the machine wants of it.

mod recent;

use crate::gateway::dns::publish::{Publisher, Set};
use crate::link::{Link, Message, NodeName};
use crate::policy::taste::Asked;
use crate::telemetry::Telemetry;
use mainstay_core::config::Config;
use mainstay_core::fact::Fact;
use mainstay_core::gateway::request::Ask;
use mainstay_core::gateway::{Action, Close, Event, Gateway, Start};
use mainstay_core::message::{Digest, Report};
use mainstay_core::names::{AttemptId, GatewayId, RequestId, SiteId};
use mainstay_core::rng::Rng;
use mainstay_core::time::Time;
use recent::Recent;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// What a machine can want of one request at once: to start, and to close.
const INBOX: usize = 4;

/// The process's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that begins a day in the past, so that "never" lies before every event.
    pub fn new() -> Clock {
        Clock(Instant::now())
    }

    /// Now.
    pub fn now(&self) -> Time {
        let micros = u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX);
        Time::from_micros(micros) + CLOCK_START
    }

    /// The moment `at` on the runtime's clock.
    pub fn instant(&self, at: Time) -> tokio::time::Instant {
        let since = at.since(Time::ZERO + CLOCK_START);
        tokio::time::Instant::from_std(self.0 + since)
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}

/// Calls `tick` at each moment that `next` names, until `shutdown`. What makes the next moment
/// sooner wakes it.
pub async fn at_deadlines(
    (clock, wake): (Clock, &Notify),
    next: impl Fn() -> Option<Time>,
    tick: impl Fn(),
    shutdown: CancellationToken,
) {
    loop {
        let next = next();
        let sleep = async {
            match next {
                Some(at) => tokio::time::sleep_until(clock.instant(at)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = wake.notified() => {}
            () = sleep => tick(),
        }
    }
}

/// Lateness is measured so often.
const LAG_EVERY: Duration = Duration::from_millis(100);
/// See `Clock::new`.
const CLOCK_START: Duration = Duration::from_secs(86_400);

/// What the machine wants of one request.
#[derive(Debug)]
pub enum Command {
    /// Open an attempt.
    Start(Start),
    /// Give this attempt up: its site is to do nothing more for us.
    GiveUp(AttemptId),
    /// End.
    Close(Close),
}

/// The machine and those who listen to it.
pub struct Drive {
    clock: Clock,
    shared: Mutex<Shared>,
    wake: Notify,
    telemetry: Arc<Telemetry>,
    /// Who answers names, if anybody does.
    names: OnceLock<Arc<Publisher>>,
    /// The other nodes, if there are any.
    others: OnceLock<Others>,
}

/// The other nodes, by the positions that the machine knows them by.
pub struct Others {
    /// How they are reached.
    pub link: Link,
    /// The gateways.
    pub gateways: Vec<NodeName>,
    /// Who controls which site of ours.
    pub sites: BTreeMap<u16, NodeName>,
    /// What a digest says of policy and orders.
    pub complete: Box<dyn Fn(Digest) -> Digest + Send + Sync>,
}

impl Others {
    /// Nothing waits for a node that is not there: the machine says all of it again.
    fn send(&self, letter: Letter) {
        let (to, message) = match letter {
            Letter::Site(site, report) => (self.sites.get(&site.0), Message::Report(report)),
            Letter::Gateway(to, digest) => {
                let digest = (self.complete)(digest);
                (self.gateways.get(usize::from(to.0)), Message::Digest(digest))
            }
        };
        if let Some(to) = to {
            self.link.send(to, message);
        }
    }
}

/// What the machine says to another node.
enum Letter {
    Site(SiteId, Report),
    Gateway(GatewayId, Digest),
}

struct Shared {
    gateway: Gateway,
    inboxes: HashMap<RequestId, mpsc::Sender<Command>>,
    ids: Rng,
    /// What the timer sleeps until.
    alarm: Option<Time>,
    /// Sets that names were to be answered with so far.
    sets: u64,
    recent: Recent,
}

/// What the machine said that is carried on without its lock.
#[derive(Default)]
struct Said {
    facts: Vec<Fact>,
    /// The newest set for names, and its number.
    answers: Option<(u64, Set)>,
    letters: Vec<Letter>,
}

impl Drive {
    /// A gateway that begins now.
    pub fn new(config: Config, telemetry: Arc<Telemetry>) -> Drive {
        let seed = RandomState::new().hash_one("gateway");
        let shared = Shared {
            gateway: Gateway::new(config, seed),
            inboxes: HashMap::new(),
            ids: Rng::new(RandomState::new().hash_one("requests")),
            alarm: None,
            sets: 0,
            recent: Recent::default(),
        };
        let (clock, shared, wake) = (Clock::new(), Mutex::new(shared), Notify::new());
        let (names, others) = Default::default();
        Drive { clock, shared, wake, telemetry, names, others }
    }

    /// Names are answered by `names` from now on, which begins with the set it has.
    pub fn answer_names(&self, names: Arc<Publisher>) {
        self.lock().gateway.keep_answers(names.set());
        // Said once, when the process starts.
        let _ = self.names.set(names);
    }

    /// The machine reaches the other nodes by `others` from now on.
    pub fn join(&self, others: Others) {
        // Said once, when the process starts.
        let _ = self.others.set(others);
    }

    /// The clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Where facts go.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// The same, to keep.
    pub fn shared_telemetry(&self) -> Arc<Telemetry> {
        self.telemetry.clone()
    }

    /// A name for a request that is about to arrive.
    pub fn name_request(&self) -> RequestId {
        RequestId(self.lock().ids.bits())
    }

    /// A request arrives. What is wanted of it comes out of the returned inbox.
    pub fn arrive(&self, request: RequestId, ask: Ask) -> mpsc::Receiver<Command> {
        let (sender, inbox) = mpsc::channel(INBOX);
        let mut shared = self.lock();
        shared.inboxes.insert(request, sender);
        shared.recent.note(&ask);
        drop(shared);
        self.tell(Event::Arrive { request, ask });
        inbox
    }

    /// Something happened.
    pub fn tell(&self, event: Event) {
        let now = self.clock.now();
        let mut actions = Vec::with_capacity(4);
        let mut said = Said::default();
        let mut shared = self.lock();
        if let Event::Adopt(config) = &event {
            shared.rename_recent(config);
        }
        shared.gateway.handle(now, event, &mut actions);
        for action in actions {
            shared.carry(action, &mut said);
        }
        let next = shared.gateway.deadline().map(|(at, _)| at);
        let is_sooner = next.is_some_and(|at| shared.alarm.is_none_or(|alarm| at < alarm));
        drop(shared);
        if is_sooner {
            self.wake.notify_one();
        }
        for fact in &said.facts {
            self.telemetry.fact(now, fact);
        }
        if let (Some(names), Some((number, set))) = (self.names.get(), said.answers) {
            names.publish(number, &set);
        }
        if let Some(others) = self.others.get() {
            said.letters.into_iter().for_each(|letter| others.send(letter));
        }
    }

    /// The recent requests, by what their models and tiers are called.
    pub fn asked(&self) -> Vec<Asked> {
        let shared = self.lock();
        shared.recent.told(shared.gateway.config())
    }

    /// Looks at the machine.
    pub fn read<R>(&self, look: impl FnOnce(&mut Gateway) -> R) -> R {
        look(&mut self.lock().gateway)
    }

    /// Calls the machine at its deadlines until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let next = || {
            let mut shared = self.lock();
            shared.alarm = shared.gateway.deadline().map(|(at, _)| at);
            shared.alarm
        };
        let tick = || self.tell(Event::Tick);
        at_deadlines((self.clock, &self.wake), next, tick, shutdown).await;
    }

    /// Tells the machine how late this process runs, until `shutdown`: one that stood still must
    /// not take its own silence for that of others.
    pub async fn watch_lag(&self, shutdown: CancellationToken) {
        loop {
            let before = Instant::now();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LAG_EVERY) => {}
            }
            self.tell(Event::Lag(before.elapsed().saturating_sub(LAG_EVERY)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // A panic inside the machine is a defect of ours; its state is checked by its own rules,
        // and serving on is better than failing every request from then on.
        self.shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Shared {
    fn rename_recent(&mut self, config: &Config) {
        self.recent.rename(self.gateway.config(), config);
    }

    fn carry(&mut self, action: Action, said: &mut Said) {
        match action {
            Action::Start(start) => {
                let request = start.attempt.request;
                if let Some(inbox) = self.inboxes.get(&request) {
                    // The inbox has room for all that can be wanted at once; if its task is gone,
                    // the machine hears that the client left.
                    let _ = inbox.try_send(Command::Start(start));
                }
            }
            Action::Close { request, close } => {
                if let Some(inbox) = self.inboxes.remove(&request) {
                    let _ = inbox.try_send(Command::Close(close));
                }
            }
            Action::Fact(fact) => said.facts.push(fact),
            Action::Answers(set) => {
                // Numbered under the lock: whichever of two is carried late must not win.
                self.sets += 1;
                said.answers = Some((self.sets, set));
            }
            Action::GiveUp { attempt } => {
                if let Some(inbox) = self.inboxes.get(&attempt.request) {
                    let _ = inbox.try_send(Command::GiveUp(attempt));
                }
            }
            Action::Report { site, report } => said.letters.push(Letter::Site(site, report)),
            Action::Digest { to, digest } => said.letters.push(Letter::Gateway(to, digest)),
            Action::Probe { .. } => {}
        }
    }
}
