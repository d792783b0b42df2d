//! The site's scheduler: turns admitted attempts into work on the workers of one model.
//!
//! It binds late. Engines compute what they have in the order it came, and nothing that lies in
//! their queues can be reordered, moved or refused; so requests wait here, by deadline, and a
//! worker gets the next one when it is about to run out of prefill. What it costs where is
//! predicted in milliseconds, from a profile that is corrected by what is observed, from our own
//! ledger of what each worker was sent, and from a view of which prefixes it holds. Reports of
//! workers only correct the ledger: without them it goes on.
//!
//! Each pool of a site has one, see `inside`. Studies of traces play that, and this alone, which is
//! given what a site has to learn. One struct, events in, actions out, as everywhere in core. The
//! formulas of other routers stand beside ours, see `baseline`, and are played in the same
//! simulator.

pub mod admission;
pub mod baseline;
mod by_id;
pub mod check;
pub mod cost;
pub mod inside;
pub mod kv_index;
pub mod pace;
pub mod pair;
pub mod profile;
pub mod rated;
pub mod settings;
pub mod strength;
pub mod worker;

mod dispatch;
mod forecast;
mod learn;
mod legs;
mod limit;
mod preempt;
mod queue;
mod recent;
mod routed;
mod slowness;
mod streams;
mod survey;
mod timers;
mod unconfirmed;

#[cfg(test)]
mod tests;

use crate::fact::ScheduleFact;
use crate::mutant::Mutant;
use crate::names::{TierId, Work, WorkerId};
use crate::table::Table;
use crate::time::{Duration, Time};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use by_id::ById;
use cost::Asked;
use dispatch::Offers;
use inside::{Inside, Taken};
use kv_index::{Held, KvIndex, Matches};
use learn::Learner;
use pace::{Lengths, Pace};
use preempt::Preemption;
use profile::Profile;
use queue::Queue;
use routed::Routed;
use settings::Settings;
use strength::Strength;
use timers::{Lapse, Timer, Timers, Wait};
use worker::{Load, Order, Verdict, Worker};

/// Legs of one attempt that may fail before it goes back.
pub const FAILED_MAX: u8 = 2;

/// What the scheduler hears.
#[derive(Clone, Debug)]
pub enum Event {
    /// An attempt was admitted.
    Arrived(Attempt),
    /// A leg's first token came.
    FirstToken {
        /// Of what.
        work: Work,
        /// Tokens of the prompt that were cached, if the engine says.
        cached: Option<u32>,
    },
    /// So many tokens of its answer have reached its client, over all legs. Told now and then, so
    /// that a stream whose worker is lost goes on where it was.
    Progress {
        /// Of what.
        work: Work,
        /// How many.
        tokens: u32,
    },
    /// A leg ended.
    LegEnded {
        /// Of what.
        work: Work,
        /// How.
        end: End,
    },
    /// An engine tells of its load.
    Load {
        /// Which.
        worker: WorkerId,
        /// How old that is.
        age: Duration,
        /// What it says.
        load: Load,
    },
    /// An engine tells of its prefix cache.
    Kv {
        /// Which.
        worker: WorkerId,
        /// The life it speaks of.
        incarnation: u16,
        /// Keys that it holds now.
        stored: Vec<u64>,
        /// Keys that it holds no more.
        removed: Vec<u64>,
    },
    /// A worker is there, or begins another life.
    WorkerSeen {
        /// Which.
        worker: WorkerId,
        /// What it is.
        profile: Profile,
    },
    /// What is believed of a worker changed.
    Verdict {
        /// Which.
        worker: WorkerId,
        /// To what.
        verdict: Verdict,
    },
    /// An operator wants something of a worker.
    Override {
        /// Which.
        worker: WorkerId,
        /// What.
        order: Order,
    },
    /// An attempt is not wanted any more.
    Cancelled(Work),
    /// A deadline passed.
    Tick,
}

/// How a leg ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Whole, with so many tokens.
    Done {
        /// Tokens of the answer.
        output: u32,
    },
    /// Otherwise; so many tokens of the answer have reached the client, over all legs.
    Lost {
        /// How many.
        relayed: u32,
    },
}

/// What is to be scheduled.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Which.
    pub work: Work,
    /// Its tier,
    pub tier: TierId,
    /// and tenant.
    pub tenant: u32,
    /// Tokens of its prompt.
    pub prompt: u32,
    /// Keys of its prompt's prefixes, one for each block.
    pub keys: Arc<[u64]>,
    /// Most tokens of its answer.
    pub limit: u32,
    /// How long its client waits in all.
    pub expires: Duration,
    /// Whether the gateway could send it to another site.
    pub elsewhere: bool,
}

/// What must be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send it.
    StartLeg {
        /// What.
        work: Work,
        /// Where.
        worker: WorkerId,
        /// The life of the worker that it was planned for.
        incarnation: u16,
        /// Tokens of the answer that the client has already.
        relayed: u32,
    },
    /// Take it back from the worker.
    AbortLeg {
        /// What.
        work: Work,
        /// From where.
        worker: WorkerId,
    },
    /// Give it back to its gateway.
    HandBack {
        /// What.
        work: Work,
        /// Why.
        why: Why,
        /// Not before this time.
        after: Duration,
    },
    /// Refuse it.
    Refuse {
        /// What.
        work: Work,
        /// When it may come again.
        after: Duration,
    },
    /// Of a site: it was let in, and its first token would be late.
    Shed(Box<Inside>),
    /// Tell of a decision.
    Fact(ScheduleFact),
}

/// Why an attempt goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No worker of the model lives.
    NoWorker,
    /// It would be late here and need not be elsewhere.
    Overload,
    /// Its client's time is over.
    Expired,
    /// Too many legs failed.
    Failed,
}

/// What is known of an attempt until it ends.
#[derive(Debug)]
struct Life {
    attempt: Attempt,
    asked: Asked,
    arrived: Time,
    /// When its first token is promised,
    deadline: Time,
    /// and until when it is wanted.
    until: Time,
    /// Of a site, while it is not known what prompts take: until when it has to be given out, to be
    /// in time.
    latest: Time,
    /// What a site says of it.
    taken: Option<Taken>,
    expires: Time,
    place: Place,
    /// Tokens that its client had when its leg began,
    relayed: u32,
    /// and those that it is known to have now.
    reached: u32,
    failed: u8,
    /// Workers that lost it.
    barred: Vec<WorkerId>,
    /// A leg of it gave way to a higher tier.
    was_preempted: bool,
    /// Until when it may be held for a better worker; set once.
    held: Option<Time>,
    /// While it waits: for when its first token can no longer be in time.
    start_wait: Option<Wait>,
    /// Milliseconds that its wait in the queue was expected to take, uncorrected.
    expected_wait: f64,
    /// Its prefill where most of it is cached.
    least_prefill: Duration,
    /// What was charged for it so far.
    charged: u64,
}

impl Life {
    /// One that begins to wait. Times: when it arrived, its deadline, until when it is wanted, and
    /// its end.
    fn queued(attempt: Attempt, asked: Asked, times: (Time, Time, Time, Time)) -> Life {
        let (arrived, deadline, until, expires) = times;
        Life {
            asked,
            arrived,
            deadline,
            until,
            latest: deadline,
            taken: None,
            expires,
            place: Place::Queued,
            relayed: 0,
            reached: 0,
            failed: 0,
            barred: Vec::new(),
            was_preempted: false,
            held: None,
            start_wait: None,
            expected_wait: 0.0,
            least_prefill: Duration::ZERO,
            charged: 0,
            attempt,
        }
    }
}

/// Where an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Queued,
    At(WorkerId),
}

/// The machine, for one model.
#[derive(Debug)]
pub struct Scheduler {
    settings: Settings,
    lives: Table<Work, Life>,
    workers: ById<Worker>,
    /// What a site is told of all of them, and measures.
    strength: Strength,
    index: KvIndex,
    queue: Queue,
    /// For baselines that have a view of their own.
    routed: Routed,
    timers: Timers,
    /// What may give way at workers.
    preemption: Preemption,
    /// When each worker has room; those without a time wait for an event.
    rooms: BTreeSet<(Time, WorkerId)>,
    room_of: ById<Time>,
    /// When workers with room were looked for last.
    looked: Time,
    /// When those that wait were looked through last.
    triaged: Time,
    /// Lengths of answers by tenant would need many answers of each; these are all tenants'.
    lengths: Lengths,
    /// How waits in the queue compare with what was expected, by tier.
    waits: Vec<Pace>,
    /// Decisions so far, for turns and ties.
    turn: u64,
    /// A worker ran dry since those that are held were looked at.
    has_dried: bool,
    /// How fast all workers are, and when that was summed up.
    rate: (Time, f64),
    step_max: f64,
    /// What an operator said of workers,
    given: BTreeMap<WorkerId, Profile>,
    /// what prompts took where nobody did, and what that came to; until then, what was said of
    /// others.
    learner: Learner,
    profile: Option<Profile>,
    /// What was found last, of whose prompt, and when in the index's time: nothing is looked for
    /// twice.
    matches: Matches,
    matched: Option<(Work, u64)>,
    /// What workers could do for the attempt that was looked at last,
    offers: Option<Offers>,
    /// and changes of workers so far.
    changes: u64,
}

impl Scheduler {
    /// A scheduler without workers.
    pub fn new(settings: Settings) -> Scheduler {
        Scheduler {
            queue: Queue::new(&settings),
            routed: Routed::default(),
            waits: alloc::vec![Pace::default(); settings.tiers.len()],
            step_max: settings.step_max(),
            settings,
            lives: Table::default(),
            workers: ById::default(),
            strength: Strength::default(),
            index: KvIndex::default(),
            timers: Timers::default(),
            preemption: Preemption::default(),
            rooms: BTreeSet::new(),
            room_of: ById::default(),
            looked: Time::ZERO,
            triaged: Time::ZERO,
            lengths: Lengths::default(),
            turn: 0,
            has_dried: false,
            rate: (Time::ZERO, 0.0),
            given: BTreeMap::new(),
            learner: Learner::default(),
            profile: None,
            matches: Matches::default(),
            matched: None,
            offers: None,
            changes: 0,
        }
    }

    /// Takes one event and says what follows.
    pub fn handle(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        self.pass_deadlines(now, actions);
        match event {
            Event::Arrived(attempt) => self.arrived(now, attempt, actions),
            Event::FirstToken { work, cached } => {
                if let Some(cached) = cached {
                    self.drifted(now, work, cached, actions);
                }
                self.first_token(now, work, cached);
            }
            Event::Progress { work, tokens } => {
                self.progress(work, tokens);
                return;
            }
            Event::LegEnded { work, end } => self.leg_ended(now, work, end, actions),
            Event::Load { worker, age, load } => {
                // What an engine says of itself opens no room that the ledger does not see.
                self.load(now, worker, (age, load));
                return;
            }
            Event::Kv { worker, incarnation, stored, removed } => {
                let told = self.hear_kv(now, (worker, incarnation), &stored, &removed);
                actions.extend(told);
                return;
            }
            Event::WorkerSeen { worker, profile } => {
                self.worker_seen(now, worker, profile, actions);
            }
            Event::Verdict { worker, verdict } => self.verdict(now, worker, verdict, actions),
            Event::Override { worker, order } => self.order(now, worker, order),
            Event::Cancelled(work) => self.cancelled(now, work, actions),
            Event::Tick => {}
        }
        self.dispatch(now, actions);
    }

    /// When to call again, and what for.
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        // Those with room at the last look found nobody whom they should have.
        let later = (self.looked + Duration::from_micros(1), WorkerId(0));
        let room = self.rooms.range(later..).next().filter(|_| !self.queue.is_empty());
        let room = room.map(|(at, _)| (*at, "a worker is about to run out of prefill"));
        [room, self.timers.first()].into_iter().flatten().min()
    }

    /// Attempts that wait.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The workers.
    pub fn workers(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.workers.iter()
    }

    /// Bytes of the view of caches, and prefixes held in it.
    pub fn index_size(&self) -> (usize, u64) {
        self.index.size()
    }

    fn load(&mut self, now: Time, worker: WorkerId, (age, load): (Duration, Load)) {
        self.changes += 1;
        if let Some(each) = self.workers.get_mut(&worker) {
            each.hear(now - age, load);
        }
    }

    fn hear_kv(
        &mut self,
        now: Time,
        (id, incarnation): (WorkerId, u16),
        stored: &[u64],
        removed: &[u64],
    ) -> Option<Action> {
        let worker = self.workers.get_mut(&id).filter(|it| it.incarnation == incarnation)?;
        let slot = worker.slot;
        let told = legs::drifts(id, worker.drift.heard(now));
        // What was evicted to make room goes first: a key may be both.
        removed.iter().for_each(|key| self.index.remove(slot, *key, Held::Stored));
        stored.iter().for_each(|key| self.index.store(slot, *key, Held::Stored));
        told
    }

    /// A worker's room may have changed.
    fn refresh(&mut self, now: Time, id: WorkerId) {
        self.changes += 1;
        let before = self.room_of.remove(&id);
        if let Some(before) = before {
            self.rooms.remove(&(before, id));
        }
        let Some(worker) = self.workers.get(&id) else { return };
        let is_unbounded = self.settings.mutants.removes(Mutant::WorkerCreditUnbounded);
        let bounds = (self.settings.round_trip, self.step_max);
        let room = if is_unbounded { Some(now) } else { worker.room_at(now, bounds) };
        if let Some(at) = room {
            // Who had room and still has it does not come to have it now.
            let at = before.filter(|before| *before <= now && at <= now).unwrap_or(at);
            self.rooms.insert((at, id));
            self.room_of.insert(id, at);
        }
    }

    fn has_room(&self, now: Time, id: WorkerId) -> bool {
        self.room_of.get(&id).is_some_and(|at| *at <= now)
    }

    /// A wait is over.
    fn passed(&mut self, now: Time, timer: Timer, actions: &mut Vec<Action>) {
        match timer {
            Timer::Expires(work) => self.expired(now, work, actions),
            Timer::LatestStart(work) => self.became_late(now, work, actions),
            Timer::HoldEnds(work) => self.queue.release(work),
            Timer::FirstToken(work, leg) => self.silent(now, work, leg, actions),
            Timer::Lapse(lapse) => self.lapse(lapse),
        }
    }

    /// A worker should have told of what it was sent. If it tells of nothing at all, what it was
    /// sent still counts: silence does not empty a cache.
    fn lapse(&mut self, lapse: Lapse) {
        let Lapse { slot, keys } = lapse;
        let index = &mut self.index;
        let id = index.worker(slot);
        let worker = id.and_then(|id| self.workers.get_mut(&id));
        match worker.filter(|worker| worker.slot == slot && !worker.drift.tells()) {
            Some(worker) => {
                let most = worker.profile.blocks as usize;
                let over = |key| index.remove(slot, key, Held::Promised);
                worker.unconfirmed.keep(&keys, most, over);
            }
            None => keys.iter().for_each(|key| index.remove(slot, *key, Held::Promised)),
        }
    }

    fn pass_deadlines(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.queue.turn(now);
        while let Some(timer) = self.timers.pop(now) {
            self.passed(now, timer, actions);
        }
    }
}
