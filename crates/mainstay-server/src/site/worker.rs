//! The workers of a site: how each is reached, what is believed of it, and what the machine was
//! told of it.
//!
//! A worker that is gone is told as gone only when its last leg has reported: until then the
//! machine hears that it takes nothing new, and each answer has the time to say that it can go on
//! elsewhere.

use super::controller::Controller;
use super::engine::{Engine, Report};
use super::pace::Pace;
use crate::attempt;
use crate::drive::Clock;
use mainstay_core::cost::{CostRate, Price};
use mainstay_core::names::{TargetId, WorkerId};
use mainstay_core::site::schedule::profile::Profile;
use mainstay_core::site::schedule::worker::Verdict;
use mainstay_core::site::verdict::{Look, Standing};
use mainstay_core::site::{Event, Site, WorkerState};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::sync::{Notify, watch};

/// Answers at once that a worker is taken to compute where nobody said and it does not tell. vLLM
/// and SGLang begin with as many or more; what is beyond an engine's own limit waits in its queue.
const STREAMS: u32 = 64;

/// Who computes.
#[derive(Default)]
pub struct Crew {
    all: RwLock<BTreeMap<WorkerId, Arc<Worker>>>,
    next: Mutex<u16>,
}

/// A worker of the site.
pub struct Worker {
    /// How it is reached.
    pub site: attempt::Site,
    /// The position of the pool that it serves.
    pub pool: usize,
    /// The model's name there.
    pub model: String,
    /// What it carries, where that is known; else it is found out.
    pub capacity: Option<CostRate>,
    /// Answers it can have open at once, where that is known; else it tells, or is taken to.
    pub streams: Option<u32>,
    /// What steps take there, where that is known; else it is learned.
    pub profile: Option<Profile>,
    /// What it is held to, if it is.
    pub pace: Option<Pace>,
    /// What work costs.
    pub price: Price,
    /// The server that it is; none for the embedded engine.
    pub outside: Option<Outside>,
    state: Mutex<State>,
    /// Counts the times it was lost: whoever has a leg there then lets go of it.
    lost: watch::Sender<u32>,
    /// Somebody should look at it now.
    pub(super) look: Notify,
}

/// A server of its own.
pub struct Outside {
    /// Which.
    pub engine: Engine,
    /// Where, e.g. `http://10.0.0.5:8000`.
    pub address: String,
}

/// How a worker stood when a look began.
#[derive(Clone, Copy)]
pub(super) struct Begun {
    doubts: u32,
    legs: u32,
}

/// How a worker stands, for whoever shows it.
pub struct Stands {
    /// Where it is.
    pub address: String,
    /// Which server it is.
    pub engine: &'static str,
    /// The model's name there.
    pub model: String,
    /// What is believed of it.
    pub verdict: Verdict,
    /// Whether it is to be empty.
    pub leaves: bool,
    /// Answers of ours there.
    pub answers: u32,
    /// What it said last.
    pub report: Report,
}

struct State {
    standing: Standing,
    /// It was looked at.
    is_known: bool,
    /// Counts what spoke against it: a look that began before says nothing of it.
    doubts: u32,
    report: Report,
    /// Legs that its relays have there.
    legs: u32,
    /// Tokens came since the last look.
    flows: bool,
    /// What the machine was told.
    told: Option<WorkerState>,
}

/// A leg at a worker, for as long as it is kept.
pub struct Ticket {
    id: WorkerId,
    worker: Arc<Worker>,
    lost: watch::Receiver<u32>,
    controller: Arc<Controller>,
}

impl Crew {
    /// Takes a worker in. One that is a server of its own has no work before it answers.
    pub fn add(&self, controller: &Controller, worker: Worker) -> (WorkerId, Arc<Worker>) {
        let worker = Arc::new(worker);
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        // Long after its last use, a number may be another's.
        while all.contains_key(&WorkerId(*next)) {
            *next = next.wrapping_add(1);
        }
        let id = WorkerId(*next);
        *next = next.wrapping_add(1);
        all.insert(id, worker.clone());
        drop((all, next));
        worker.tell(id, controller, |_| {});
        (id, worker)
    }

    /// Lets a worker go whose legs are over.
    pub fn remove(&self, id: WorkerId) {
        self.all.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// A worker.
    pub fn get(&self, id: WorkerId) -> Option<Arc<Worker>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<(WorkerId, Arc<Worker>)> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(id, worker)| (*id, worker.clone())).collect()
    }

    /// How those stand that are servers of their own.
    pub fn stands(&self) -> Vec<Stands> {
        let all = self.all();
        let one = |worker: &Worker| {
            let Outside { engine, address } = worker.outside.as_ref()?;
            let (engine, address, model) = (engine.word(), address.clone(), worker.model.clone());
            let state = worker.lock();
            let (verdict, leaves) = (state.standing.verdict(), state.standing.leaves());
            let (answers, report) = (state.legs, state.report.clone());
            Some(Stands { address, engine, model, verdict, leaves, answers, report })
        };
        all.iter().filter_map(|(_, worker)| one(worker)).collect()
    }

    /// What the embedded engine carries was measured.
    pub(super) fn calibrated(&self, controller: &Controller, capacity: CostRate) {
        for (id, worker) in self.all().into_iter().filter(|(_, worker)| worker.outside.is_none()) {
            let state = WorkerState::Up {
                target: worker.target(controller),
                capacity,
                streams: worker.streams.unwrap_or(STREAMS),
                cold: false,
            };
            controller.tell(Event::Worker { worker: id, state });
        }
    }
}

impl Worker {
    /// A worker of which nothing is known yet.
    pub fn new(
        (clock, price): (Clock, Price),
        (site, pool, model): (attempt::Site, usize, String),
    ) -> Worker {
        let state = State {
            standing: Standing::new(clock.now()),
            is_known: false,
            doubts: 0,
            report: Report::default(),
            legs: 0,
            flows: false,
            told: None,
        };
        Worker {
            site,
            pool,
            model,
            capacity: None,
            streams: None,
            profile: None,
            pace: None,
            price,
            outside: None,
            state: Mutex::new(state),
            lost: watch::channel(0).0,
            look: Notify::new(),
        }
    }

    /// Whether an answer that was begun elsewhere can go on here.
    pub fn continues(&self) -> bool {
        self.outside.as_ref().is_none_or(|outside| outside.engine != Engine::OpenAi)
    }

    /// Legs there.
    pub(super) fn legs(&self) -> u32 {
        self.lock().legs
    }

    /// How it stands as a look begins.
    pub(super) fn begun(&self) -> Begun {
        let state = self.lock();
        Begun { doubts: state.doubts, legs: state.legs }
    }

    /// Somebody looked at it, who began so. `report` is what it said, where it said something.
    pub(super) fn looked(
        &self,
        (id, controller): (WorkerId, &Controller),
        begun: Begun,
        (look, report): (Look, Option<Report>),
    ) {
        self.tell(id, controller, |state| {
            if !std::mem::replace(&mut state.is_known, true) && look != Look::Ready {
                self.log_absent(look);
            }
            let flows = std::mem::take(&mut state.flows);
            // It answered, and something broke since: that is to be asked anew.
            if look != Look::Ready || state.doubts == begun.doubts {
                state.standing.looked(look, flows);
            }
            let Some(report) = report else { return };
            if report.is_another_life(&state.report) {
                state.standing.began_again();
                controller.tell(Event::Emptied(id));
            }
            // Of ranks behind one address only the fullest is known.
            let levels = report.fullest();
            let in_hand =
                levels.running.map(|running| running.saturating_add(levels.waiting.unwrap_or(0)));
            let in_hand = in_hand.filter(|_| report.ranks.len() == 1);
            state.standing.reported(in_hand, begun.legs.max(state.legs));
            state.report = report;
        });
    }

    /// It is to be empty, for it goes; or not any more.
    pub(super) fn leave(&self, (id, controller): (WorkerId, &Controller), leaves: bool) {
        self.tell(id, controller, |state| state.standing.leave(leaves));
    }

    /// It is gone, whatever it answers.
    pub(super) fn gone(&self, (id, controller): (WorkerId, &Controller)) {
        self.tell(id, controller, |state| state.standing.refused());
    }

    /// Changes what is known of it, and tells the machine what that changes for it.
    fn tell(&self, id: WorkerId, controller: &Controller, change: impl FnOnce(&mut State)) {
        // Held while the machine is told, so that it hears of changes in their order. Nothing that
        // it says comes back here but through a relay's inbox.
        let mut state = self.lock();
        let before = state.standing.verdict();
        change(&mut state);
        let verdict = state.standing.verdict();
        if self.outside.is_some() && verdict != before {
            self.log(verdict, before);
        }
        let wanted = self.wanted(&state, controller);
        if verdict == Verdict::Down && before != Verdict::Down {
            self.lost.send_modify(|count| *count += 1);
        }
        if state.told != Some(wanted) && (wanted, state.told) != (WorkerState::Down, None) {
            let was_up = matches!(state.told, Some(WorkerState::Up { .. }));
            if let Some(profile) = self.profile.filter(|_| !was_up) {
                controller.tell(Event::Described { worker: id, profile });
            }
            state.told = Some(wanted);
            controller.tell(Event::Worker { worker: id, state: wanted });
        }
        drop(state);
    }

    /// What the machine should know of it.
    fn wanted(&self, state: &State, controller: &Controller) -> WorkerState {
        let standing = &state.standing;
        let (is_down, streams) = match &self.outside {
            None => (false, self.streams.unwrap_or(STREAMS)),
            Some(_) => {
                let most = self.streams.or(state.report.slots).unwrap_or(STREAMS);
                let is_down = standing.verdict() == Verdict::Down && state.legs == 0;
                (is_down, standing.may_have(controller.clock().now(), most))
            }
        };
        if is_down {
            return WorkerState::Down;
        }
        // That caches are empty is seen to here: one that comes back begins with a little.
        let cold = false;
        let capacity = self.capacity.unwrap_or_else(|| standing.carries(self.price.of(0, 1)));
        WorkerState::Up { target: self.target(controller), capacity, streams, cold }
    }

    /// Its model's target, by the policy in force: pools stand in one order.
    fn target(&self, controller: &Controller) -> TargetId {
        let pool = |site: &Site| site.config().pools.get(self.pool).map(|pool| pool.target);
        controller.read(pool).unwrap_or_default()
    }

    fn log_absent(&self, look: Look) {
        let Some(Outside { engine, address }) = &self.outside else { return };
        let (engine, model) = (engine.word(), self.model.as_str());
        let what = match look {
            Look::Refused => "refuses connections",
            Look::Silent => "does not answer",
            Look::NotReady | Look::Ready => "is not ready",
        };
        tracing::warn!(address, engine, model, "a worker {what}; it is used once it is well");
    }

    fn log(&self, verdict: Verdict, before: Verdict) {
        let Some(Outside { engine, address }) = &self.outside else { return };
        let (engine, model) = (engine.word(), self.model.as_str());
        match (verdict, before) {
            (Verdict::Down, _) => tracing::warn!(address, engine, model, "a worker is gone"),
            (Verdict::Suspect, _) => tracing::info!(address, engine, model, "a worker is doubted"),
            (Verdict::Up, Verdict::Probation | Verdict::Suspect) => {
                tracing::info!(address, engine, model, "a worker is as good as before");
            }
            (Verdict::Up, _) => tracing::info!(address, engine, model, "a worker is there"),
            (Verdict::Probation, _) => {
                tracing::info!(
                    address,
                    engine,
                    model,
                    "a worker is back, and begins with a little"
                );
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// A leg at a worker.
    pub fn new((id, worker): (WorkerId, Arc<Worker>), controller: Arc<Controller>) -> Ticket {
        let lost = worker.lost.subscribe();
        worker.lock().legs += 1;
        Ticket { id, worker, lost, controller }
    }

    /// Whose it is.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Returns when the worker is taken for gone.
    pub async fn lost(&mut self) {
        if self.lost.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Its connection was refused.
    pub fn refused(&self) {
        self.tell(|state| {
            state.doubts = state.doubts.wrapping_add(1);
            state.standing.refused();
        });
        self.worker.look.notify_one();
    }

    /// Its connection broke: what that says of the worker, a look will tell at once.
    pub fn broke(&self) {
        self.tell(|state| {
            state.doubts = state.doubts.wrapping_add(1);
            state.standing.broke();
        });
        self.worker.look.notify_one();
    }

    /// It was refused because the worker is full.
    pub fn full(&self) {
        let now = self.controller.clock().now();
        self.tell(|state| state.standing.full(now, state.legs.saturating_sub(1)));
    }

    /// Its first token came, for a prompt of this many tokens.
    pub fn first_token(&self, prompt: u64) {
        let (now, work) = (self.controller.clock().now(), self.worker.price.of(prompt, 0));
        self.tell(|state| {
            state.standing.first_token();
            state.standing.did(now, work);
        });
    }

    /// So many tokens came.
    pub fn tokens(&self, count: u64) {
        let work = self.worker.price.of(0, count);
        let now = self.controller.clock().now();
        let mut state = self.worker.lock();
        state.flows = true;
        state.standing.did(now, work);
    }

    fn tell(&self, change: impl FnOnce(&mut State)) {
        if self.worker.outside.is_some() {
            self.worker.tell(self.id, &self.controller, change);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let change = |state: &mut State| state.legs = state.legs.saturating_sub(1);
        match self.worker.outside {
            // The machine is told that it is gone when the last of its legs is over.
            Some(_) => self.tell(change),
            None => change(&mut self.worker.lock()),
        }
    }
}
