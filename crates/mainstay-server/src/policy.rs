//! Generations of policy and operators' orders: runs this process's policy machine, keeps what it
//! decides on disk, and writes down who gave which order.
//!
//! Nothing central is needed: an order given at any gateway reaches the others over the link, each
//! keeps it with what is left of its life, and each judges by itself what may be taken out of
//! service. A generation comes from the node that publishes them, if it is there; what was taken
//! in stays when it is not.

pub mod ask;
pub mod boot;
pub(crate) mod file;
pub mod journal;
pub mod kept;
pub mod page;
pub mod publish;
pub mod rehearsal;
pub mod source;
pub mod store;
pub mod taste;
pub mod words;

use crate::drive::{Clock, at_deadlines};
use crate::link::Generation;
use crate::setup::Secret;
use crate::tasks::Tasks;
use boot::Begun;
use bytes::Bytes;
use journal::Journal;
use kept::hash;
use mainstay_core::config::PolicyConfig;
use mainstay_core::fact::PolicyFact;
use mainstay_core::message::{Digest, Order, OrderId, Verb};
use mainstay_core::names::{GatewayId, SiteId};
use mainstay_core::policy::{Action, Event, Policy, Snapshot, Taste};
use mainstay_core::time::Time;
use rehearsal::{Rehearsal, Stage};
use sha2::{Digest as _, Sha256};
use source::Source;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use store::Store;
use taste::{Asked, Table, Trial};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use words::{Names, refusal};

/// Tastes that may be told before they are heard: one at a time is usual.
const TASTES: usize = 8;

/// What the machine says to others.
#[derive(Clone, Debug)]
pub enum Outside {
    /// To a peer: an order.
    Forward(GatewayId, Order),
    /// To a peer: give me your set, whose hash differs from mine.
    Fetch(GatewayId),
    /// To the gateway of this process: what is in force, and whose positions are meant.
    InForce(Vec<Order>, Arc<Names>),
    /// To every site of ours: the whole set.
    Sites(Vec<Order>),
    /// To the source: what is the newest generation? And to the nodes of sites: how we stand.
    Poll(Digest),
}

/// Where that goes. It must not wait.
pub type Carrier = Box<dyn Fn(Outside) + Send + Sync>;

/// Puts a content into force, or the own file alone; the error says why it cannot be.
pub type Adopt = Box<dyn Fn(Option<&[u8]>) -> Result<(), String> + Send + Sync>;

/// What is around the machine.
pub struct Around {
    /// Where it speaks to.
    pub carrier: Carrier,
    /// How a generation is put into force.
    pub adopt: Adopt,
    /// The recent requests.
    pub asked: Box<dyn Fn() -> Vec<Asked> + Send + Sync>,
    /// The text of the own file, as it was last taken.
    pub own: Box<dyn Fn() -> Secret + Send + Sync>,
    /// How a sacrificial process is started.
    pub table: Table,
    /// What this node publishes, if it is the source.
    pub source: Option<Source>,
    /// The source's name, and the node's own.
    pub source_name: Option<String>,
    /// The node at which orders are given: two may count alike.
    pub node: String,
}

/// An order as an operator gives it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Who.
    pub author: String,
    /// What.
    pub verb: Verb,
    /// Where; `None` is everywhere.
    pub site: Option<SiteId>,
    /// Why.
    pub reason: String,
    /// For how long.
    pub life: Duration,
    /// The confirm token was given.
    pub confirmed: bool,
}

/// A content, and what a sacrificial process found.
type Tasted = (u64, Taste);

/// The machine and where its decisions are kept.
pub struct Desk {
    clock: Clock,
    shared: Mutex<Shared>,
    kept: Mutex<Kept>,
    stage: Mutex<Stage>,
    wake: Notify,
    around: Around,
    source: Option<Mutex<Source>>,
    /// The process is on its way out: what is decided from now on is the next one's to do.
    closed: AtomicBool,
    tastes: mpsc::Sender<Tasted>,
    /// Until `run` takes it.
    tasted: Mutex<Option<mpsc::Receiver<Tasted>>>,
    tasks: Tasks,
}

struct Shared {
    machine: Policy,
    names: Arc<Names>,
    /// The last number given to an order here.
    seq: u32,
    alarm: Option<Time>,
    /// How this process did last: the share that fails, and its doubt.
    pulse: (u16, bool),
    told: Told,
}

/// What is shown and counted besides the machine's own state.
#[derive(Clone, Debug, Default)]
struct Told {
    /// What the staged generation changes, where that must be confirmed.
    change: Option<(u64, String)>,
    /// The last generation that was not taken, and why.
    refused: Option<String>,
    rolled_back: u64,
    refusals: u64,
    /// When the source answered last.
    heard: Option<Time>,
}

/// What is on disk. Whoever writes holds this, and not the machine: a slow disk must not hold up
/// a digest.
struct Kept {
    journal: Journal,
    orders: Option<Store>,
}

impl Desk {
    /// A desk that goes on where `boot` began. What follows goes out at once.
    pub fn open(begun: Begun, mut around: Around) -> Desk {
        let Begun { machine, actions, journal, orders, stage, clock, names } = begun;
        let names = Arc::new(names);
        let source = around.source.take().map(Mutex::new);
        // Above any that was kept: a process may start anew within the second.
        let seqs = machine.orders(clock.now());
        let kept = seqs.iter().map(|order| order.id.seq).max().unwrap_or(0);
        let seq = unix_seconds().max(kept);
        let (sender, receiver) = mpsc::channel(TASTES);
        let told = Told::default();
        let desk = Desk {
            clock,
            shared: Mutex::new(Shared {
                machine,
                names: names.clone(),
                seq,
                alarm: None,
                pulse: (0, false),
                told,
            }),
            kept: Mutex::new(Kept { journal, orders }),
            stage: Mutex::new(stage),
            wake: Notify::new(),
            around,
            source,
            closed: AtomicBool::new(false),
            tastes: sender,
            tasted: Mutex::new(Some(receiver)),
            tasks: Tasks::default(),
        };
        desk.carry(actions, &names);
        desk
    }

    /// An operator gives an order here. The error says why it is not taken.
    ///
    /// # Errors
    /// See there.
    pub fn command(&self, wanted: Wanted) -> Result<OrderId, String> {
        let Wanted { author, verb, site, reason, life, confirmed } = wanted;
        let id = {
            let mut shared = self.lock();
            shared.seq = unix_seconds().max(shared.seq.saturating_add(1));
            let author = format!("{author}@{}", self.around.node);
            OrderId { author: author_hash(&author), seq: shared.seq }
        };
        let order = Order { id, authority: 0, verb, site, reason, left: life };
        let facts = self.tell(Event::Command { order, confirmed });
        let refused = facts.into_iter().find_map(|fact| match fact {
            PolicyFact::OrderRefused { id: refused, why } if refused == id => Some(why),
            _ => None,
        });
        match refused {
            Some(why) => Err(refusal(&why)),
            None => Ok(id),
        }
    }

    /// Something happened. The decisions that followed are returned as well.
    pub fn tell(&self, event: Event) -> Vec<PolicyFact> {
        let mut actions = Vec::new();
        let mut shared = self.lock();
        if let Event::Pulse { failing, in_doubt } = event {
            shared.pulse = (failing, in_doubt);
        }
        shared.machine.handle(self.clock.now(), event, &mut actions);
        let next = shared.machine.deadline().map(|(at, _)| at);
        let is_sooner = next.is_some_and(|at| shared.alarm.is_none_or(|alarm| at < alarm));
        let names = shared.names.clone();
        drop(shared);
        if is_sooner {
            self.wake.notify_one();
        }
        self.carry(actions, &names)
    }

    /// The source answered. A content that is not what its hash says is not looked at.
    pub fn offered(&self, generation: Generation) {
        let Generation { snapshot, content } = generation;
        if snapshot.content != hash(&content) {
            tracing::warn!(fact = "policy_spoilt", "the source sent a content with a wrong hash");
            return;
        }
        self.lock().told.heard = Some(self.clock.now());
        self.keep_by().journal.offer(content);
        self.tell(Event::Snapshot(snapshot));
        let shared = self.lock();
        let generations = shared.machine.generations();
        let disk = generations.disk();
        let held = disk.current.iter().chain(&disk.good).chain(generations.staged());
        let held: Vec<u64> = held.map(|snapshot| snapshot.content).collect();
        drop(shared);
        self.keep_by().journal.retain(|content| held.contains(&content));
    }

    /// Another configuration is in force: gateways and sites have other positions.
    pub fn configure(&self, config: PolicyConfig, names: Names) {
        let (mut actions, names) = (Vec::new(), Arc::new(names));
        let mut shared = self.lock();
        let place = |name: &String| {
            let at = names.sites.iter().position(|site| site == name)?;
            u16::try_from(at).ok().map(SiteId)
        };
        let moved: Vec<Option<SiteId>> = shared.names.sites.iter().map(place).collect();
        shared.machine.configure(self.clock.now(), config, &moved, &mut actions);
        shared.names = names.clone();
        drop(shared);
        if let Some(orders) = &mut self.keep_by().orders {
            orders.name(names.sites.clone());
        }
        self.carry(actions, &names);
    }

    /// The whole set, with what is left of each life.
    pub fn orders(&self) -> Vec<Order> {
        self.lock().machine.orders(self.clock.now())
    }

    /// Those in force.
    pub fn in_force(&self) -> Vec<Order> {
        self.lock().machine.in_force(self.clock.now())
    }

    /// What positions are called now.
    pub fn names(&self) -> Arc<Names> {
        self.lock().names.clone()
    }

    /// Fills in what a digest says of policy.
    pub fn complete(&self, digest: Digest) -> Digest {
        let standing = self.lock().machine.standing(self.clock.now());
        Digest {
            generation: standing.generation,
            clean: standing.clean,
            orders: standing.orders,
            quarantined: standing.quarantined,
            ..digest
        }
    }

    /// The newest generation, if this node publishes them.
    pub fn newest(&self) -> Option<Generation> {
        let source = self.source.as_ref()?;
        source.lock().unwrap_or_else(std::sync::PoisonError::into_inner).newest().cloned()
    }

    /// Calls the machine at its deadlines, and hears of tastes, until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let next = || {
            let mut shared = self.lock();
            shared.alarm = shared.machine.deadline().map(|(at, _)| at);
            shared.alarm
        };
        let tick = || drop(self.tell(Event::Tick));
        let receiver = self.tasted.lock().map(|mut held| held.take()).unwrap_or_default();
        let hear = async {
            let Some(mut receiver) = receiver else { return };
            while let Some((content, taste)) = receiver.recv().await {
                self.tell(Event::Tasted { content, taste });
            }
        };
        tokio::select! {
            () = at_deadlines((self.clock, &self.wake), next, tick, shutdown) => {}
            // It ends only with the desk.
            () = hear => {}
        }
    }

    /// The process begins to stop by itself: whoever starts next must not take that for a crash,
    /// however this one ends from here on. Orders are still taken and passed on.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.tasks.cancel();
        self.keep();
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Does what was decided in positions that `names` names.
    fn carry(&self, actions: Vec<Action>, names: &Arc<Names>) -> Vec<PolicyFact> {
        let mut facts = Vec::new();
        for action in actions {
            match action {
                Action::Keep => self.keep(),
                Action::Forward { to, order } => {
                    let each = to.into_iter().map(|to| Outside::Forward(to, order.clone()));
                    each.for_each(&self.around.carrier);
                }
                Action::Fetch(from) => (self.around.carrier)(Outside::Fetch(from)),
                Action::InForce(orders) => {
                    (self.around.carrier)(Outside::InForce(orders, names.clone()));
                }
                Action::TellSites(orders) => (self.around.carrier)(Outside::Sites(orders)),
                Action::Fact(fact) => {
                    boot::tell(names, &fact);
                    facts.push(fact);
                }
                Action::Poll => self.poll(),
                Action::Taste(snapshot) => self.taste(snapshot),
                Action::Adopt(snapshot) => self.adopt(&snapshot),
            }
        }
        self.note(&facts);
        facts
    }

    fn poll(&self) {
        let (failing, in_doubt) = self.lock().pulse;
        let standing = self.complete(Digest { failing, in_doubt, ..Digest::default() });
        (self.around.carrier)(Outside::Poll(standing));
        // The source asks itself without the link.
        if let Some(newest) = self.newest() {
            self.offered(newest);
        }
    }

    fn taste(&self, snapshot: Snapshot) {
        let text = |content: Option<Bytes>| {
            content.map(|content| String::from_utf8_lossy(&content).into_owned())
        };
        let before = self.lock().machine.current().filter(|now| now.generation > 0).cloned();
        let mut kept = self.keep_by();
        let before = before.and_then(|before| kept.journal.content(before.content));
        let after = kept.journal.content(snapshot.content);
        drop(kept);
        let after = text(after).unwrap_or_default();
        let trial = Trial {
            own: (self.around.own)().reveal().into(),
            before: text(before),
            after,
            asked: (self.around.asked)(),
        };
        let (table, sender) = (self.around.table.clone(), self.tastes.clone());
        self.tasks.spawn(async move {
            let taste = taste::taste(table, &snapshot, &trial).await;
            // Nobody hears it who is about to stop.
            let _ = sender.send((snapshot.content, taste)).await;
        });
    }

    /// Puts a generation into force. One that cannot be is left by the machine at once.
    fn adopt(&self, snapshot: &Snapshot) {
        if self.is_closed() {
            // It is written down, and the next process begins with it.
            return;
        }
        let content = self.keep_by().journal.content(snapshot.content);
        let adopted = match (snapshot.generation, &content) {
            (0, _) => (self.around.adopt)(None),
            (_, Some(content)) => (self.around.adopt)(Some(content)),
            (_, None) => Err("its content is not on the disk, or spoilt".into()),
        };
        let Err(why) = adopted else { return };
        let generation = snapshot.generation;
        tracing::error!(generation, "this generation cannot be put in force: {why}");
        self.tell(Event::Unfit { content: snapshot.content });
    }

    /// A content is about to be put in force that breaks on purpose, or does not.
    pub fn rehearse(&self, rehearsal: Option<Rehearsal>) {
        let mut stage = self.stage.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        stage.play(rehearsal);
    }

    /// What cannot be kept is said, and in force all the same.
    fn keep(&self) {
        let mut kept = self.keep_by();
        let (now, shared) = (self.clock.now(), self.lock());
        let disk = match self.is_closed() {
            true => shared.machine.stopped(now),
            false => shared.machine.disk(now),
        };
        drop(shared);
        if let Err(why) = kept.journal.write(&disk) {
            tracing::warn!("generations are not kept: {why}");
        }
        if let Some(Err(why)) = kept.orders.as_ref().map(|store| store.write(&disk.orders)) {
            tracing::warn!("orders are not kept: {why}");
        }
    }

    fn note(&self, facts: &[PolicyFact]) {
        let mut lines = Vec::new();
        let mut shared = self.lock();
        for fact in facts {
            let told = words::sentence(&shared.names, fact);
            match fact {
                PolicyFact::OrderTaken { .. }
                | PolicyFact::OrderRefused { .. }
                | PolicyFact::OrderLapsed { .. } => lines.push(told),
                PolicyFact::RolledBack { .. } => shared.told.rolled_back += 1,
                PolicyFact::Refused { .. } => {
                    shared.told.refusals += 1;
                    shared.told.refused = Some(told);
                }
                PolicyFact::Unconfirmed { generation, change, .. } => {
                    shared.told.change = Some((*generation, change.clone()));
                }
                PolicyFact::Booted { .. }
                | PolicyFact::Staged { .. }
                | PolicyFact::Adopted { .. }
                | PolicyFact::Quarantined { .. }
                | PolicyFact::Good { .. }
                | PolicyFact::CanarySilent { .. }
                | PolicyFact::NothingElseGood { .. }
                | PolicyFact::NothingToRun => {}
            }
        }
        drop(shared);
        let mut kept = self.keep_by();
        let Some(store) = &mut kept.orders else { return };
        for line in lines {
            if let Err(why) = store.note(&line) {
                tracing::warn!("an order is not written down: {why}");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // As in `Drive`: orders that work are better than none from then on.
        self.shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Never taken while the machine is held.
    fn keep_by(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The name of an order for people.
pub fn format_order(id: OrderId) -> String {
    format!("{:016x}-{}", id.author, id.seq)
}

/// The order that `text` names.
pub fn parse_order(text: &str) -> Option<OrderId> {
    let (author, seq) = text.trim().split_once('-')?;
    let author = u64::from_str_radix(author, 16).ok()?;
    Some(OrderId { author, seq: seq.parse().ok()? })
}

fn author_hash(name: &str) -> u64 {
    let digest: [u8; 32] = Sha256::digest(name.as_bytes()).into();
    u64::from_be_bytes(digest[..8].try_into().unwrap_or_default())
}

fn unix_seconds() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
