//! What a process runs when it starts, with nobody to ask: what was in force, unless that killed
//! the process before, and then the newest that proved itself.

use super::journal::Journal;
use super::kept::hash;
use super::rehearsal::Stage;
use super::store::Store;
use super::words::{Names, kind, sentence};
use crate::drive::Clock;
use crate::setup::{Reader, Setup, Written};
use mainstay_core::config::PolicyConfig;
use mainstay_core::fact::PolicyFact;
use mainstay_core::message::Order;
use mainstay_core::names::GatewayId;
use mainstay_core::policy::disk::Disk;
use mainstay_core::policy::limits::{Counts, excess};
use mainstay_core::policy::{Action, Policy, Saved, Snapshot};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Each that proved itself is tried twice, as after two crashes, then what is left, and the one
/// that was in force.
const TRIES: usize = 16;

/// What a process starts with.
pub struct Boot {
    /// What it runs.
    pub setup: Setup,
    /// The policy that is part of it; none if the own file alone is in force.
    pub content: Option<Vec<u8>>,
    /// What the desk goes on with.
    pub begun: Begun,
}

/// What was begun at the start and goes on.
pub struct Begun {
    pub(super) machine: Policy,
    pub(super) actions: Vec<Action>,
    pub(super) journal: Journal,
    pub(super) orders: Option<Store>,
    pub(super) stage: Stage,
    pub(super) clock: Clock,
    pub(super) names: Names,
}

/// Decides what a node runs, writes down that it does, and loads it. `own` is its file alone.
///
/// # Errors
/// If what must be kept cannot be, or not be read.
pub fn boot(own: Setup, reader: &Reader) -> Result<Boot, String> {
    let directory = own.node.as_ref().and_then(|node| node.data_dir.clone());
    let mut journal = Journal::open(directory.as_deref())?;
    let (mut disk, ago) = journal.read();
    disk.give(given(&own));
    let (setup, content, stage) = loop_until_loaded(&own, reader, (&mut journal, &mut disk, ago));
    let names = names(&setup);
    let orders = directory.map(|directory| Store::open(&directory, names.sites.clone()));
    let orders = orders.transpose()?;
    if let Some(orders) = &orders {
        let (kept, later) = orders.read()?;
        let left = |order: Order| Some(Order { left: order.left.checked_sub(later)?, ..order });
        disk.orders = kept.into_iter().filter_map(left).collect();
    }
    let (clock, seed) = (Clock::new(), RandomState::new().hash_one("policy"));
    // That it runs is written down already, and was no crash. All ages are of now.
    disk.is_running = false;
    let saved = Saved { disk, ago: Duration::ZERO };
    let mut actions = Vec::new();
    let machine = Policy::boot(config(&setup), saved, clock.now(), seed, &mut actions);
    let is_done = |action: &Action| {
        matches!(action, Action::Adopt(_) | Action::Fact(PolicyFact::Booted { .. }))
    };
    actions.retain(|action| !is_done(action));
    let begun = Begun { machine, actions, journal, orders, stage, clock, names };
    Ok(Boot { setup, content, begun })
}

/// What the machine decides by under `setup`.
pub fn config(setup: &Setup) -> PolicyConfig {
    let fleet = &setup.core.fleet;
    let node = setup.node.as_ref();
    let is_gateway = node.is_none_or(|node| node.roles.gateway);
    let gateways = node.map_or(1, |node| node.gateways.len());
    let usual = PolicyConfig::default();
    let source = node.and_then(|node| node.policy.as_ref());
    let times = source.and_then(|source| source.rehearses);
    PolicyConfig {
        // Who is none takes part in no turn but the last, and none of them is its own.
        me: if is_gateway { fleet.me } else { GatewayId(u16::MAX) },
        gateways: u16::try_from(gateways).unwrap_or(u16::MAX),
        service: fleet.service.clone(),
        poll: times.map_or(usual.poll, |times| times.poll),
        canary: times.map_or(usual.canary, |times| times.canary),
        soak: times.map_or(usual.soak, |times| times.soak),
        ..usual
    }
}

/// What positions are called under `setup`.
pub fn names(setup: &Setup) -> Names {
    let gateways = setup.node.as_ref().map_or(&[][..], |node| &node.gateways);
    Names {
        sites: setup.core.sites.iter().map(|site| site.name.clone()).collect(),
        gateways: gateways.iter().map(ToString::to_string).collect(),
    }
}

/// Reads a content with the own file, as it was when it was taken, and looks whether it holds too
/// much.
///
/// # Errors
/// All that is wrong with it.
pub fn load((reader, own): (&Reader, &Written), content: &[u8]) -> Result<Setup, String> {
    reader.with(own, Some(content)).and_then(within)
}

/// Refuses what holds too much.
///
/// # Errors
/// What of it is too much.
pub fn within(setup: Setup) -> Result<Setup, String> {
    let core = &setup.core;
    let counts = Counts {
        sites: core.sites.len(),
        targets: core.targets.len(),
        models: core.models.len(),
        keys: setup.keys.len(),
    };
    excess(counts).map_or(Ok(setup), Err)
}

/// The own file as a generation.
fn given(own: &Setup) -> Snapshot {
    Snapshot {
        content: hash(&own.written.hash),
        author: String::from("own file"),
        reason: String::from("given by hand"),
        confirmed: true,
        ..Snapshot::default()
    }
}

fn loop_until_loaded(
    own: &Setup,
    reader: &Reader,
    (journal, disk, mut ago): (&mut Journal, &mut Disk, Duration),
) -> (Setup, Option<Vec<u8>>, Stage) {
    let (names, config) = (names(own), config(own));
    for _ in 0..TRIES {
        let mut facts = Vec::new();
        disk.start(ago, &config, &mut facts);
        ago = Duration::ZERO;
        // A process that is alone has nothing but its file: nothing was decided.
        if own.node.is_some() {
            facts.iter().for_each(|fact| tell(&names, fact));
        }
        // Before it is loaded, or nobody would know what killed the process.
        if let Err(why) = journal.write(disk) {
            tracing::error!("what this node runs is not kept: {why}");
        }
        let mut stage = Stage::default();
        let Some(current) = disk.current.clone().filter(|current| current.generation > 0) else {
            return (own.clone(), None, stage);
        };
        let loaded = journal
            .content(current.content)
            .ok_or_else(|| String::from("its content is not on the disk, or spoilt"))
            .and_then(|content| Ok((load((reader, &own.written), &content)?, content)));
        match loaded {
            Ok((mut setup, content)) => {
                stage.play(setup.rehearsal);
                // A policy mends no file.
                setup.written.trouble = own.written.trouble.clone();
                return (setup, Some(content.to_vec()), stage);
            }
            Err(why) => {
                let generation = current.generation;
                tracing::error!(generation, "this generation cannot be loaded: {why}");
                // What cannot be loaded is no better than what dies.
                disk.is_running = true;
            }
        }
    }
    disk.current = Some(given(own));
    (own.clone(), None, Stage::default())
}

/// Writes a decision into the log.
pub fn tell(names: &Names, fact: &PolicyFact) {
    let (kind, level) = kind(fact);
    let text = sentence(names, fact);
    match level {
        tracing::Level::ERROR => tracing::error!(fact = kind, "{text}"),
        tracing::Level::WARN => tracing::warn!(fact = kind, "{text}"),
        _ => tracing::info!(fact = kind, "{text}"),
    }
}
