//! Which generation of policy a process runs: limits, taste, its turn, the watch after it, and the
//! way back.
//!
//! In doubt nothing is adopted: what runs has proved more than what does not. A generation that
//! crashes its process, or under which more requests fail than at peers without it, is left at
//! once for the newest one that ran clean for an hour, and its content is not loaded again.

use super::disk::Disk;
use super::stage::Turns;
use super::{Action, Snapshot, Taste};
use crate::config::PolicyConfig;
use crate::fact::{Harm, NotTaken, PolicyFact, Turn};
use crate::message::Digest;
use crate::mutant::Mutant;
use crate::names::GatewayId;
use crate::time::{Duration, Time};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// A gateway of the stage before must have run a generation clean for so long.
pub const CANARY: Duration = Duration::from_secs(600);

/// A generation is good when it has been in force and clean for so long: faults that take minutes
/// to show must not become what one falls back to.
pub const SOAK: Duration = Duration::from_secs(3600);

/// In thousandths: more than this above peers on the generation before is the generation's fault.
const EXCESS: u16 = 10;

/// An excess must last so long. The share told is that of a minute and so already smooth.
const EXCESS_FOR: Duration = Duration::from_secs(5);

/// A sacrificial process that has not answered by then is taken for dead.
const TASTE_MAX: Duration = Duration::from_secs(60);

/// A digest comes from each of N peers about every N/3 seconds, as each tells three a second. So
/// much more than N seconds lets two in a row be lost.
const DIGEST_SLACK: Duration = Duration::from_secs(5);

/// Contents in quarantine that a digest tells of: those of a day of bad luck.
const TOLD_MAX: usize = 16;

/// What a process knows of generations.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Generations {
    disk: Disk,
    clean_since: Time,
    is_kept: bool,
    worse_since: Option<Time>,
    newest: Option<Snapshot>,
    is_twin_told: bool,
    staged: Option<Staged>,
    peers: BTreeMap<GatewayId, Peer>,
    failing: u16,
    in_doubt: bool,
    is_frozen: bool,
}

/// A generation that is not in force yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Staged {
    snapshot: Snapshot,
    state: Wait,
    turns: Turns,
    /// When the canary was last heard to run it, or when it was staged.
    canary_heard: Time,
    is_told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wait {
    /// For the sacrificial process.
    Taste { until: Time },
    /// For its author's token.
    Token,
    /// For its turn.
    Turn,
}

/// What a staged generation waits for, for whoever tells people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Waits {
    /// For the sacrificial process.
    Taste,
    /// For its author's token.
    Token,
    /// Until this gateway does not doubt itself any more.
    Doubt,
    /// For the end of a freeze.
    Freeze,
    /// Until no more requests fail here than at peers.
    Failing,
    /// For a gateway of an earlier stage to have run it clean for so long.
    After {
        /// Which stage that is,
        stage: u8,
        /// and who tries it first.
        canary: Option<GatewayId>,
    },
}

/// What a peer said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Peer {
    at: Time,
    generation: u64,
    clean: Duration,
    failing: u16,
    in_doubt: bool,
}

impl Generations {
    /// What a process starts with, and what to do about it.
    pub fn boot(now: Time, disk: Disk, out: &mut Vec<Action>) -> Generations {
        let newest = disk.current.clone();
        let adopt = newest.clone().map(Action::Adopt);
        let is_kept = newest.as_ref().is_some_and(|current| disk.is_good(current.content));
        out.push(Action::Keep);
        out.extend(adopt);
        Generations {
            disk,
            clean_since: now,
            is_kept,
            worse_since: None,
            newest,
            is_twin_told: false,
            staged: None,
            peers: BTreeMap::new(),
            failing: 0,
            in_doubt: false,
            is_frozen: false,
        }
    }

    /// The generation in force.
    pub fn current(&self) -> Option<&Snapshot> {
        self.disk.current.as_ref()
    }

    /// What waits to be in force.
    pub fn staged(&self) -> Option<&Snapshot> {
        self.staged.as_ref().map(|staged| &staged.snapshot)
    }

    /// The newest generation that was seen, taken in or not.
    pub fn newest(&self) -> Option<&Snapshot> {
        self.newest.as_ref()
    }

    /// What must be on disk.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// How long the generation in force has run clean.
    pub fn clean(&self, now: Time) -> Duration {
        now.since(self.clean_since)
    }

    /// What peers are told to be in quarantine here.
    pub fn quarantined(&self) -> &[u64] {
        let quarantine = &self.disk.quarantine;
        &quarantine[..quarantine.len().min(TOLD_MAX)]
    }

    /// An order freezes adoption, or does not any more.
    pub fn freeze(&mut self, is_frozen: bool) {
        self.is_frozen = is_frozen;
    }

    /// The source answered a poll.
    pub fn snapshot(
        &mut self,
        now: Time,
        x: Snapshot,
        config: &PolicyConfig,
        out: &mut Vec<Action>,
    ) {
        if self.in_doubt || x.generation <= self.generation() {
            return;
        }
        if let Some(newest) = &self.newest
            && x.generation <= newest.generation
        {
            self.again(&x, out);
            return;
        }
        let refused = self.refusal(&x, config);
        self.newest = Some(x.clone());
        self.is_twin_told = false;
        self.staged = None;
        if let Some(why) = refused {
            out.push(not_taken(&x, why));
            return;
        }
        out.push(Action::Taste(x.clone()));
        self.staged = Some(Staged {
            turns: Turns::new(x.content, config.gateways),
            snapshot: x,
            state: Wait::Taste { until: now + TASTE_MAX },
            canary_heard: now,
            is_told: false,
        });
    }

    /// A generation that was seen before: the token may have come, or somebody else's content.
    fn again(&mut self, x: &Snapshot, out: &mut Vec<Action>) {
        let Some(newest) = &self.newest else { return };
        if x.generation < newest.generation {
            return;
        }
        if x.content != newest.content {
            if !core::mem::replace(&mut self.is_twin_told, true) {
                out.push(not_taken(x, NotTaken::Twice));
            }
            return;
        }
        if let Some(staged) = &mut self.staged
            && x.confirmed
            && staged.state == Wait::Token
        {
            staged.state = Wait::Turn;
            staged.snapshot.confirmed = true;
        }
    }

    fn refusal(&self, x: &Snapshot, config: &PolicyConfig) -> Option<NotTaken> {
        // What was given by hand is each node's own, so that no author can have named it.
        let is_next =
            |newest: &&Snapshot| newest.generation > 0 && newest.generation + 1 == x.generation;
        if x.bytes > config.bytes_max {
            return Some(NotTaken::TooLarge { bytes: x.bytes });
        }
        if !self.disk.may_load(x.content) {
            return Some(NotTaken::Quarantined);
        }
        // What lies between two polls cannot be checked, and need not be: a snapshot is whole.
        let before = self.newest.as_ref().filter(is_next)?;
        (before.hash() != x.previous).then_some(NotTaken::ChainBroken)
    }

    /// A sacrificial process is done.
    pub fn tasted(
        &mut self,
        now: Time,
        (content, taste): (u64, Taste),
        config: &PolicyConfig,
        out: &mut Vec<Action>,
    ) {
        let Some(staged) = &mut self.staged else { return };
        if staged.snapshot.content != content || !matches!(staged.state, Wait::Taste { .. }) {
            return;
        }
        let generation = staged.snapshot.generation;
        staged.canary_heard = now;
        match taste {
            Taste::Differs(change) if !staged.snapshot.confirmed => {
                staged.state = Wait::Token;
                let author = staged.snapshot.author.clone();
                let held = PolicyFact::Unconfirmed { generation, author, change };
                out.push(Action::Fact(held));
            }
            Taste::Good | Taste::Differs(_) => {
                staged.state = Wait::Turn;
                let stage = staged.turns.stage(config.me);
                out.push(Action::Fact(PolicyFact::Staged { generation, stage }));
            }
            Taste::Refused(why) => self.drop_staged(NotTaken::Unreadable(why), out),
            Taste::Crashed => {
                self.drop_staged(NotTaken::Crashed, out);
                self.condemn(content, Harm::CrashedWhenTasted, out);
            }
        }
        self.pass(now, config, out);
    }

    /// A peer told how it stands.
    pub fn digest(
        &mut self,
        now: Time,
        digest: &Digest,
        config: &PolicyConfig,
        out: &mut Vec<Action>,
    ) {
        if digest.from == config.me || digest.from.0 >= config.gateways {
            return;
        }
        let peer = Peer {
            at: now,
            generation: digest.generation,
            clean: digest.clean,
            failing: digest.failing,
            in_doubt: digest.in_doubt,
        };
        self.peers.retain(|_, peer| is_fresh(now, peer, config));
        self.peers.insert(digest.from, peer);
        if let Some(staged) = &mut self.staged
            && staged.turns.canary() == Some(digest.from)
            && digest.generation == staged.snapshot.generation
        {
            staged.canary_heard = now;
        }
        for content in digest.quarantined.iter().take(TOLD_MAX) {
            self.heard_of_harm(now, *content, Harm::SaidBy(digest.from), out);
        }
        self.pass(now, config, out);
    }

    /// What proved itself here stays; anything else is not worth a peer's fate.
    fn heard_of_harm(&mut self, now: Time, content: u64, harm: Harm, out: &mut Vec<Action>) {
        if self.disk.is_good(content) || !self.disk.may_load(content) {
            return;
        }
        if self.current().is_some_and(|current| current.content == content) {
            self.roll_back(now, harm, out);
            return;
        }
        self.condemn(content, harm, out);
    }

    /// What was to be adopted could not be: it is not what runs, and will not be.
    pub fn unfit(&mut self, now: Time, content: u64, out: &mut Vec<Action>) {
        if self.current().is_some_and(|current| current.content == content) {
            self.roll_back(now, Harm::Unfit, out);
        }
    }

    /// How this process does, every second.
    pub fn pulse(
        &mut self,
        now: Time,
        (failing, in_doubt): (u16, bool),
        config: &PolicyConfig,
        out: &mut Vec<Action>,
    ) {
        self.failing = failing;
        self.in_doubt = in_doubt;
        let peers = self.peers_failing(now, self.generation(), config);
        let is_worse = peers.is_some_and(|peers| failing > peers + EXCESS);
        if in_doubt {
            // Whoever reaches nobody proves nothing, neither for a generation nor against it.
            self.clean_since = now;
            self.worse_since = None;
        } else if is_worse {
            self.clean_since = now;
            let since = *self.worse_since.get_or_insert(now);
            let is_new = self.current().is_some_and(|current| !self.disk.is_good(current.content));
            if is_new && now.since(since) >= EXCESS_FOR {
                let peers = peers.unwrap_or_default();
                self.roll_back(now, Harm::Failing { here: failing, peers }, out);
            }
        } else {
            self.worse_since = None;
        }
        self.pass(now, config, out);
    }

    /// What time brings: a turn, an hour without fault, a silent canary.
    pub fn pass(&mut self, now: Time, config: &PolicyConfig, out: &mut Vec<Action>) {
        self.pass_taste(now, out);
        self.pass_turn(now, config, out);
        self.pass_silence(now, config, out);
        self.pass_soak(now, config, out);
    }

    /// When `pass` has something to do without anything being heard.
    pub fn deadline(&self, config: &PolicyConfig) -> Option<Time> {
        let soak =
            (!self.is_kept && self.current().is_some()).then(|| self.clean_since + config.soak);
        let staged = self.staged.as_ref().and_then(|staged| match staged.state {
            Wait::Taste { until } => Some(until),
            Wait::Turn if !staged.is_told && staged.turns.canary() != Some(config.me) => {
                Some(staged.canary_heard + config.silence_max)
            }
            Wait::Turn | Wait::Token => None,
        });
        soak.into_iter().chain(staged).min()
    }

    fn pass_taste(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(staged) = &self.staged else { return };
        if matches!(staged.state, Wait::Taste { until } if now >= until) {
            let content = staged.snapshot.content;
            self.drop_staged(NotTaken::Crashed, out);
            self.condemn(content, Harm::CrashedWhenTasted, out);
        }
    }

    fn pass_turn(&mut self, now: Time, config: &PolicyConfig, out: &mut Vec<Action>) {
        let Some(turn) = self.turn(now, config) else { return };
        let Some(staged) = self.staged.take() else { return };
        self.run(now, staged.snapshot.clone(), out);
        if config.mutants.removes(Mutant::GoodAtLoad) {
            self.disk.keep_good(staged.snapshot.clone());
        }
        let Snapshot { generation, content, previous, author, reason, .. } = staged.snapshot;
        let fact = PolicyFact::Adopted { generation, content, previous, author, reason, turn };
        out.push(Action::Fact(fact));
    }

    /// By what right the staged generation may come in force now, if it may.
    fn turn(&self, now: Time, config: &PolicyConfig) -> Option<Turn> {
        let staged = self.staged.as_ref().filter(|staged| staged.state == Wait::Turn)?;
        let generation = staged.snapshot.generation;
        if self.in_doubt || self.is_frozen || !self.disk.may_load(staged.snapshot.content) {
            return None;
        }
        if self.disk.is_good(staged.snapshot.content) {
            return Some(Turn::Proven);
        }
        let stage = staged.turns.stage(config.me);
        if self.fails_more(now, generation, config) {
            return None;
        }
        let Some(before) = staged.turns.before(stage) else { return Some(Turn::Canary) };
        let has_run = |(gateway, peer): &(&GatewayId, &Peer)| {
            staged.turns.stage(**gateway) == before
                && peer.generation == generation
                && peer.clean >= config.canary
                && is_fresh(now, peer, config)
        };
        let (peer, _) = self.peers.iter().find(has_run)?;
        Some(Turn::After { stage, peer: *peer })
    }

    /// What the staged generation waits for, if there is one.
    pub fn waits(&self, now: Time, config: &PolicyConfig) -> Option<Waits> {
        let staged = self.staged.as_ref()?;
        let waits = match staged.state {
            Wait::Taste { .. } => Waits::Taste,
            Wait::Token => Waits::Token,
            Wait::Turn if self.in_doubt => Waits::Doubt,
            Wait::Turn if self.is_frozen => Waits::Freeze,
            Wait::Turn => match staged.turns.before(staged.turns.stage(config.me)) {
                Some(_) if self.fails_more(now, staged.snapshot.generation, config) => {
                    Waits::Failing
                }
                Some(stage) => Waits::After { stage, canary: staged.turns.canary() },
                None => Waits::Failing,
            },
        };
        Some(waits)
    }

    /// A gateway that fails more than others already could not tell what a new generation adds.
    fn fails_more(&self, now: Time, generation: u64, config: &PolicyConfig) -> bool {
        let peers = self.peers_failing(now, generation, config);
        peers.is_some_and(|peers| self.failing > peers + EXCESS)
    }

    fn pass_silence(&mut self, now: Time, config: &PolicyConfig, out: &mut Vec<Action>) {
        let Some(staged) = &mut self.staged else { return };
        let is_silent = now.since(staged.canary_heard) >= config.silence_max;
        let Some(canary) = staged.turns.canary().filter(|canary| *canary != config.me) else {
            return;
        };
        if staged.state == Wait::Turn && is_silent && !staged.is_told {
            staged.is_told = true;
            let generation = staged.snapshot.generation;
            out.push(Action::Fact(PolicyFact::CanarySilent { generation, canary }));
        }
    }

    fn pass_soak(&mut self, now: Time, config: &PolicyConfig, out: &mut Vec<Action>) {
        if self.is_kept || self.clean(now) < config.soak {
            return;
        }
        let Some(current) = self.current().cloned() else { return };
        self.is_kept = true;
        if !self.disk.may_load(current.content) {
            // It runs for want of anything better.
            return;
        }
        let (generation, content) = (current.generation, current.content);
        self.disk.keep_good(current);
        out.push(Action::Keep);
        out.push(Action::Fact(PolicyFact::Good { generation, content }));
    }

    /// Back to the newest other good generation, and never this content again.
    fn roll_back(&mut self, now: Time, why: Harm, out: &mut Vec<Action>) {
        let Some(from) = self.current().cloned() else { return };
        self.condemn(from.content, why, out);
        // Nothing to go back to: what runs badly is better than nothing at all.
        let Some(to) = self.disk.other_good(from.content).cloned() else { return };
        let (from, back) = (from.generation, to.generation);
        self.run(now, to, out);
        out.push(Action::Fact(PolicyFact::RolledBack { from, to: back, why }));
    }

    /// The journal is on disk before the content runs, or nobody would know what crashed.
    fn run(&mut self, now: Time, snapshot: Snapshot, out: &mut Vec<Action>) {
        self.clean_since = now;
        self.worse_since = None;
        self.is_kept = false;
        self.disk.current = Some(snapshot.clone());
        self.disk.is_running = true;
        out.push(Action::Keep);
        out.push(Action::Adopt(snapshot));
    }

    fn condemn(&mut self, content: u64, why: Harm, out: &mut Vec<Action>) {
        if self.staged.as_ref().is_some_and(|staged| staged.snapshot.content == content) {
            self.drop_staged(NotTaken::Quarantined, out);
        }
        if self.disk.condemn(content) {
            out.push(Action::Keep);
            out.push(Action::Fact(PolicyFact::Quarantined { content, why }));
        }
    }

    fn drop_staged(&mut self, why: NotTaken, out: &mut Vec<Action>) {
        let Some(staged) = self.staged.take() else { return };
        out.push(not_taken(&staged.snapshot, why));
    }

    fn generation(&self) -> u64 {
        self.current().map_or(0, |current| current.generation)
    }

    /// Mean share that fails at peers on a generation below this one; `None` if there are none.
    fn peers_failing(&self, now: Time, below: u64, config: &PolicyConfig) -> Option<u16> {
        let counts =
            |peer: &&Peer| peer.generation < below && !peer.in_doubt && is_fresh(now, peer, config);
        let (mut sum, mut count) = (0u32, 0u32);
        for peer in self.peers.values().filter(counts) {
            sum += u32::from(peer.failing);
            count += 1;
        }
        sum.checked_div(count).map(|mean| mean.min(1000) as u16)
    }
}

fn is_fresh(now: Time, peer: &Peer, config: &PolicyConfig) -> bool {
    now.since(peer.at) <= Duration::from_secs(u64::from(config.gateways)) + DIGEST_SLACK
}

fn not_taken(x: &Snapshot, why: NotTaken) -> Action {
    let (generation, author) = (x.generation, x.author.clone());
    Action::Fact(PolicyFact::Refused { generation, author, why })
}
