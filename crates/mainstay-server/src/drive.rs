//! Runs the gateway machine: gives it the clock and events, and carries its actions to whom they
//! concern.
//!
//! The machine is quick and never waits, so it stands behind a plain lock that no task holds
//! across an await. Each request's own task has an inbox for what the machine wants of it.

mod recent;

use crate::gateway::dns::publish::{Publisher, Set};
use crate::ledger::Ledger;
use crate::link::{Link, Message};
use crate::places::Places;
use crate::policy::taste::Asked;
use crate::telemetry::{Names, Telemetry};
use mainstay_core::config::Config;
use mainstay_core::fact::Fact;
use mainstay_core::gateway::request::Ask;
use mainstay_core::gateway::{Action, Close, Event, Gateway, Probe, Start};
use mainstay_core::message::{Digest, Report};
use mainstay_core::names::{AttemptId, GatewayId, RequestId, SiteId, TargetId};
use mainstay_core::rng::Rng;
use mainstay_core::time::Time;
use recent::Recent;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
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
pub enum Command {
    /// Open an attempt, at the site that its position leads to among these places.
    Start(Box<Start>, Arc<Places>),
    /// Give this attempt up: its site is to do nothing more for us.
    GiveUp(AttemptId),
    /// End.
    Close(Close),
}

/// The machine and those who listen to it.
pub struct Drive {
    clock: Clock,
    shared: Mutex<Shared>,
    /// Held for reading from an event until all that follows has been carried: another
    /// configuration waits until then, so that no position is taken for one of another.
    turn: RwLock<()>,
    wake: Notify,
    telemetry: Arc<Telemetry>,
    /// Who answers names, if anybody does.
    names: OnceLock<Arc<Publisher>>,
    /// The other nodes, if there are any.
    others: OnceLock<Others>,
    /// Where rows of requests go, if they are kept.
    ledger: OnceLock<Ledger>,
    /// Who sends probes, if anybody does.
    prober: OnceLock<mpsc::Sender<(TargetId, Probe)>>,
}

/// The other nodes. Who is at which position, the places in force tell.
pub struct Others {
    /// How they are reached.
    pub link: Link,
    /// What a digest says of policy and orders.
    pub complete: Box<dyn Fn(Digest) -> Digest + Send + Sync>,
}

impl Others {
    /// Nothing waits for a node that is not there: the machine says all of it again.
    fn send(&self, places: &Places, letter: Letter) {
        let (to, message) = match letter {
            Letter::Site(site, report) => (places.nodes.get(&site.0), Message::Report(report)),
            Letter::Gateway(to, digest) => {
                let digest = (self.complete)(digest);
                (places.gateways.get(usize::from(to.0)), Message::Digest(digest))
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
    /// What its positions lead to.
    places: Arc<Places>,
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
    /// What its letters' positions lead to, if there are any.
    places: Option<Arc<Places>>,
    /// The newest set for names, and its number.
    answers: Option<(u64, Set)>,
    letters: Vec<Letter>,
    probes: Vec<(TargetId, Probe)>,
}

impl Drive {
    /// A gateway that begins now, and has nowhere to go before `settle` is called.
    pub fn new(config: Config, telemetry: Arc<Telemetry>) -> Drive {
        let seed = RandomState::new().hash_one("gateway");
        let shared = Shared {
            gateway: Gateway::new(config, seed),
            places: Arc::default(),
            inboxes: HashMap::new(),
            ids: Rng::new(RandomState::new().hash_one("requests")),
            alarm: None,
            sets: 0,
            recent: Recent::default(),
        };
        let (clock, shared, wake) = (Clock::new(), Mutex::new(shared), Notify::new());
        let (names, others, ledger, prober) = Default::default();
        let turn = RwLock::default();
        Drive { clock, shared, turn, wake, telemetry, names, others, ledger, prober }
    }

    /// What positions lead to from now on, before the first request comes.
    pub fn settle(&self, places: Arc<Places>) {
        self.lock().places = places;
    }

    /// Another configuration is in force, in which positions lead to `places`. `around` does what
    /// must happen at the same moment; meanwhile no event is told.
    pub fn adopt(&self, config: Config, places: Arc<Places>, around: impl FnOnce()) {
        let _turn = self.turn.write().unwrap_or_else(PoisonError::into_inner);
        around();
        self.lock().places = places;
        self.told(Event::Adopt(Box::new(config)));
        if let Some(names) = self.names.get() {
            self.lock().gateway.keep_answers(names.set());
        }
    }

    /// What positions lead to now.
    pub fn places(&self) -> Arc<Places> {
        self.lock().places.clone()
    }

    /// Names are answered by `names` from now on, which begins with the set it has.
    pub fn answer_names(&self, names: Arc<Publisher>) {
        self.lock().gateway.keep_answers(names.set());
        // Said once, when the process starts.
        let _ = self.names.set(names);
    }

    /// Probes go to `prober` from now on.
    pub fn probe_by(&self, prober: mpsc::Sender<(TargetId, Probe)>) {
        // Said once, when the process starts.
        let _ = self.prober.set(prober);
    }

    /// Rows of requests go to `ledger` from now on.
    pub fn keep(&self, ledger: Ledger) {
        // Said once, when the process starts.
        let _ = self.ledger.set(ledger);
    }

    /// Where they go.
    pub fn ledger(&self) -> Option<&Ledger> {
        self.ledger.get()
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

    /// A request arrives that asks for the model of this name; the positions in `ask` are those of
    /// `places`. What is wanted of it comes out of the returned inbox; none if another
    /// configuration came since and the model is gone.
    pub fn arrive(
        &self,
        request: RequestId,
        (mut ask, model): (Ask, &str),
        places: &Arc<Places>,
    ) -> Option<mpsc::Receiver<Command>> {
        let _turn = self.turn.read().unwrap_or_else(PoisonError::into_inner);
        let (sender, inbox) = mpsc::channel(INBOX);
        let mut shared = self.lock();
        if !Arc::ptr_eq(places, &shared.places) {
            ask.model = shared.gateway.find_model(model)?;
            ask.tier = shared.places.names.tier_of(places.names.tier(ask.tier));
        }
        shared.inboxes.insert(request, sender);
        shared.recent.note(&ask);
        drop(shared);
        self.told(Event::Arrive { request, ask });
        Some(inbox)
    }

    /// Something happened.
    pub fn tell(&self, event: Event) {
        let _turn = self.turn.read().unwrap_or_else(PoisonError::into_inner);
        self.told(event);
    }

    /// Does `work` if `places` still hold; no other configuration comes meanwhile. It must tell
    /// this machine nothing.
    pub fn while_hold(&self, places: &Arc<Places>, work: impl FnOnce()) {
        let _turn = self.turn.read().unwrap_or_else(PoisonError::into_inner);
        let holds = Arc::ptr_eq(places, &self.lock().places);
        if holds {
            work();
        }
    }

    /// Something was heard whose positions are those of `places`: it is told if they still hold.
    pub fn tell_of(&self, places: &Arc<Places>, event: Event) {
        self.while_hold(places, || self.told(event));
    }

    /// The same within a turn.
    fn told(&self, event: Event) {
        let now = self.clock.now();
        let mut actions = Vec::with_capacity(4);
        let mut said = Said::default();
        let is_other = matches!(event, Event::Adopt(_));
        let mut shared = self.lock();
        if let Event::Adopt(config) = &event {
            shared.rename_recent(config);
        }
        shared.gateway.handle(now, event, &mut actions);
        // What still runs where nothing leads any more is named too.
        let names = is_other.then(|| Names::of(shared.gateway.config()));
        for action in actions {
            shared.carry(action, &mut said);
        }
        said.places = (!said.letters.is_empty()).then(|| shared.places.clone());
        let next = shared.gateway.deadline().map(|(at, _)| at);
        let is_sooner = next.is_some_and(|at| shared.alarm.is_none_or(|alarm| at < alarm));
        drop(shared);
        if is_sooner {
            self.wake.notify_one();
        }
        if let Some(names) = names {
            self.telemetry.rename(names);
        }
        for fact in &said.facts {
            self.telemetry.fact(now, fact);
        }
        if let (Some(names), Some((number, set))) = (self.names.get(), said.answers) {
            names.publish(number, &set);
        }
        if let (Some(others), Some(places)) = (self.others.get(), said.places) {
            said.letters.into_iter().for_each(|letter| others.send(&places, letter));
        }
        if let Some(prober) = self.prober.get() {
            for probe in said.probes {
                // What finds no room is ordered again at its pace.
                let _ = prober.try_send(probe);
            }
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
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
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
                    let _ = inbox.try_send(Command::Start(Box::new(start), self.places.clone()));
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
            Action::Probe { target, probe } => said.probes.push((target, probe)),
        }
    }
}
