//! Puts the set of gateways that core decided into force: newer over older only, never an empty
//! one, and kept on disk for the next start.
//!
//! Whoever answers looks at one number before each batch of questions, and takes the new answers
//! when it has changed; nobody waits for anybody. The set serves before it is kept: a full or
//! hanging disk must not keep names from being answered.

use crate::gateway::dns::Settings;
use crate::gateway::dns::kept::{Keeper, load};
use crate::gateway::dns::zone::Zones;
use mainstay_core::gateway::answers::alike;
use mainstay_core::mutant::Mutants;
use mainstay_core::names::GatewayId;
use mainstay_core::publish::{Published, write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Gateways by weight.
pub type Set = Vec<(GatewayId, u32)>;

/// The one that puts sets into force.
#[derive(Debug)]
pub struct Publisher {
    desk: Mutex<Desk>,
    shared: Arc<Shared>,
    keeper: Option<Keeper>,
}

#[derive(Debug)]
struct Desk {
    settings: Settings,
    set: Published<(GatewayId, u32)>,
}

#[derive(Debug)]
struct Shared {
    number: AtomicU64,
    zones: Mutex<Arc<Zones>>,
}

/// The answers in force, as one who answers holds them.
#[derive(Clone, Debug)]
pub struct View {
    shared: Arc<Shared>,
    number: u64,
    zones: Arc<Zones>,
}

impl View {
    /// The answers in force now.
    pub fn now(&mut self) -> &Zones {
        let number = self.shared.number.load(Ordering::Acquire);
        if number != self.number {
            self.number = number;
            self.zones = lock(&self.shared.zones).clone();
        }
        &self.zones
    }
}

impl Publisher {
    /// Begins with the kept set, or with all gateways alike. The error says why the kept set could
    /// not be read, which keeps nothing from being answered.
    pub fn new(settings: Settings) -> (Publisher, Option<String>) {
        let kept = settings.kept.as_ref().map(|path| load(path, &settings.targets));
        let (kept, wrong) = match kept {
            Some(Ok(set)) => (set, None),
            Some(Err(wrong)) => (Set::new(), Some(wrong)),
            None => (Set::new(), None),
        };
        let all = alike(settings.targets.len() as u16);
        let set = if kept.is_empty() { all } else { kept };
        let zones = Arc::new(Zones::new(&settings, &set));
        let shared = Shared { number: AtomicU64::new(0), zones: Mutex::new(zones) };
        let keeper = settings.kept.clone().map(Keeper::start);
        let desk = Desk { settings, set: Published { generation: 0, set } };
        (Publisher { desk: Mutex::new(desk), shared: Arc::new(shared), keeper }, wrong)
    }

    /// The set in force.
    pub fn set(&self) -> Set {
        lock(&self.desk).set.set.clone()
    }

    /// Puts `set`, the machine's decision of this number, into force, unless a later one is.
    pub fn publish(&self, number: u64, set: &[(GatewayId, u32)]) {
        let mut desk = lock(&self.desk);
        let listed = desk.settings.targets.len();
        let is_known = |one: &(GatewayId, u32)| usize::from(one.0.0) < listed && one.1 > 0;
        let set: Set = set.iter().copied().filter(is_known).collect();
        let read = desk.set.generation;
        let next = Published { generation: number, set };
        // What comes late or names nobody is not written.
        if write(&mut desk.set, read, next, Mutants::NONE).is_ok() {
            self.serve(&desk);
        }
    }

    /// Other names, gateways or regions are wanted. Of the set in force remains who is still
    /// listed, until the machine decides again.
    pub fn adopt(&self, settings: Settings) {
        let mut desk = lock(&self.desk);
        let place = |id: GatewayId| {
            let name = &desk.settings.targets.get(usize::from(id.0))?.gateway;
            let place = settings.targets.iter().position(|target| target.gateway == *name)?;
            Some(GatewayId(place as u16))
        };
        let set: Set = desk.set.set.iter().filter_map(|(id, w)| Some((place(*id)?, *w))).collect();
        let all = alike(settings.targets.len() as u16);
        desk.set.set = if set.is_empty() { all } else { set };
        desk.settings = settings;
        self.serve(&desk);
    }

    /// For whoever answers.
    pub fn zones(&self) -> View {
        let number = self.shared.number.load(Ordering::Acquire);
        View { shared: self.shared.clone(), number, zones: lock(&self.shared.zones).clone() }
    }

    /// Keeps the last set and ends.
    pub fn stop(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.stop();
        }
    }

    fn serve(&self, desk: &Desk) {
        let zones = Arc::new(Zones::new(&desk.settings, &desk.set.set));
        *lock(&self.shared.zones) = zones;
        // Only now: whoever sees the number finds the answers that belong to it, or later ones.
        self.shared.number.fetch_add(1, Ordering::Release);
        if let Some(keeper) = &self.keeper {
            let name = |id: GatewayId| desk.settings.targets.get(usize::from(id.0));
            let named = desk.set.set.iter();
            let named = named.filter_map(|(id, w)| Some((name(*id)?.gateway.clone(), *w)));
            keeper.keep(named.collect());
        }
    }
}

/// A panic under one of these locks is a defect of ours; answering on is better than nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
