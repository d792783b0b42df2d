//! Runs a site's machine: hands it events with the time, calls it at its deadlines, and carries
//! what it says to the attempts and gateways concerned.

use crate::drive::{Clock, at_deadlines};
use crate::telemetry::Telemetry;
use mainstay_core::config::SiteConfig;
use mainstay_core::fact::SiteFact;
use mainstay_core::message::{Ack, Grant, Open, Refuse};
use mainstay_core::names::{GatewayId, SiteId, Work, WorkerId};
use mainstay_core::site::prefixes::Prefix;
use mainstay_core::site::{Action, Event, Site};
use mainstay_core::time::Time;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// Words that can be said to one attempt before its task looks: in, to a worker, back, to another.
const INBOX: usize = 16;

/// What the machine says to one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It is in.
    Ack(Ack),
    /// It is not, or no longer, in.
    Refuse(Refuse),
    /// It goes to this worker.
    Dispatch(WorkerId),
    /// Its worker is to stop.
    Abort,
}

/// Where grants go.
pub type Grants = Box<dyn Fn(GatewayId, Grant) + Send + Sync>;

/// The machine and those who listen to it.
pub struct Controller {
    clock: Clock,
    shared: Mutex<Shared>,
    /// As in `Drive`: another configuration waits until what was said has been carried.
    turn: RwLock<()>,
    wake: Notify,
    telemetry: Arc<Telemetry>,
    grants: Grants,
}

struct Shared {
    site: Site,
    inboxes: HashMap<Work, mpsc::Sender<Word>>,
    /// What the timer sleeps until.
    alarm: Option<Time>,
}

impl Controller {
    /// A controller that takes over now; `grants` carries what it answers to reports. Its epoch
    /// is one above any before it: `None` says that the site never had one.
    pub fn new(
        config: SiteConfig,
        epoch: Option<u32>,
        telemetry: Arc<Telemetry>,
        grants: Grants,
    ) -> Controller {
        let clock = Clock::new();
        let seed = RandomState::new().hash_one("site");
        let site = match epoch {
            Some(epoch) => Site::new(config, clock.now(), epoch, seed),
            None => Site::first(config, seed),
        };
        let shared = Mutex::new(Shared { site, inboxes: HashMap::new(), alarm: None });
        Controller {
            clock,
            shared,
            turn: RwLock::default(),
            wake: Notify::new(),
            telemetry,
            grants,
        }
    }

    /// The clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// An attempt, whose prompt begins like this, comes in for the pool at this position. What is
    /// said to it comes out of the returned inbox.
    pub fn open(&self, mut open: Open, prefix: Prefix, pool: usize) -> mpsc::Receiver<Word> {
        let _turn = self.turn.read().unwrap_or_else(PoisonError::into_inner);
        let (sender, inbox) = mpsc::channel(INBOX);
        let mut shared = self.lock();
        // Only now, since another configuration may have come after it was read.
        if let Some(pool) = shared.site.config().pools.get(pool) {
            open.target = pool.target;
        }
        shared.inboxes.insert(open.work, sender);
        self.told(shared, [Event::Prefix { work: open.work, prefix }, Event::Open(open)]);
        inbox
    }

    /// Another configuration is in force. `around` does what must happen at the same moment.
    pub fn adopt(&self, (config, sites): (SiteConfig, Vec<Option<SiteId>>), around: impl FnOnce()) {
        let _turn = self.turn.write().unwrap_or_else(PoisonError::into_inner);
        around();
        self.told(self.lock(), [Event::Adopt { config, sites }]);
    }

    /// The attempt's task ends: nobody listens to it any more.
    pub fn forget(&self, work: Work) {
        self.lock().inboxes.remove(&work);
    }

    /// Something happened.
    pub fn tell(&self, event: Event) {
        let _turn = self.turn.read().unwrap_or_else(PoisonError::into_inner);
        self.told(self.lock(), [event]);
    }

    /// Some things happened, one right after the other, within a turn.
    fn told<const N: usize>(&self, mut shared: MutexGuard<'_, Shared>, events: [Event; N]) {
        let now = self.clock.now();
        let mut actions = Vec::with_capacity(4);
        let mut facts: Vec<SiteFact> = Vec::new();
        let mut grants = Vec::new();
        for event in events {
            shared.site.handle(now, event, &mut actions);
        }
        for action in actions {
            let (work, word) = match action {
                Action::Grant { to, grant } => {
                    grants.push((to, grant));
                    continue;
                }
                Action::Fact(fact) => {
                    facts.push(fact);
                    continue;
                }
                Action::Ack { to, ack } => {
                    (Work { from: to, attempt: ack.attempt }, Word::Ack(ack))
                }
                Action::Refuse { to, refuse } => {
                    (Work { from: to, attempt: refuse.attempt }, Word::Refuse(refuse))
                }
                Action::Dispatch { work, worker } => (work, Word::Dispatch(worker)),
                Action::Abort { work, .. } => (work, Word::Abort),
            };
            if let Some(inbox) = shared.inboxes.get(&work) {
                // It has room for all that can be said at once; if its task is gone, the machine
                // hears that the gateway left.
                let _ = inbox.try_send(word);
            }
        }
        let next = shared.site.deadline().map(|(at, _)| at);
        let is_sooner = next.is_some_and(|at| shared.alarm.is_none_or(|alarm| at < alarm));
        drop(shared);
        if is_sooner {
            self.wake.notify_one();
        }
        for (to, grant) in grants {
            (self.grants)(to, grant);
        }
        for fact in &facts {
            self.telemetry.site_fact(fact);
        }
    }

    /// Looks at the machine.
    pub fn read<R>(&self, look: impl FnOnce(&Site) -> R) -> R {
        look(&self.lock().site)
    }

    /// Calls the machine at its deadlines until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let next = || {
            let mut shared = self.lock();
            shared.alarm = shared.site.deadline().map(|(at, _)| at);
            shared.alarm
        };
        let tick = || self.tell(Event::Tick);
        at_deadlines((self.clock, &self.wake), next, tick, shutdown).await;
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // As in `Drive`: serving on is better than failing every attempt from then on.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
