//! What waits, and who is next: tiers by deficit round robin, tenants by virtual counters, inside
//! those the earliest key.
//!
//! Between tiers weighted deficit round robin (Shreedhar and Varghese, 1995) over cost units: a
//! backlogged tier gets its floor and its part of the rest. Between tenants of a tier the virtual
//! token counter (arXiv 2401.00588): whoever was served less comes first, as far as the largest
//! request. Inside that window the earliest key goes: a deadline, aged. Keys never change with
//! time, so nothing is ever sorted again.
//!
//! Where not all can be in time some give way: they get what is left over, earliest first. The late
//! lane holds what can no longer keep its promise but is still wanted, first come first served: a
//! tenth of its tier's work, its tier's turn where that has nobody else, and what is left over.

mod ahead;
mod waiting;

pub use waiting::{Due, Lane, Waiting};

use super::forecast::Backlog;
use super::settings::{Settings, TierSettings};
use crate::mutant::{Mutant, Mutants};
use crate::names::{AttemptId, GatewayId, RequestId, TierId, Work, WorkerId};
use crate::table::Table;
use crate::time::Time;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// Least quantum, in microseconds of work for each tier: rounds are counted, not walked, so that a
/// small one costs nothing.
const QUANTUM: u64 = 50_000;

/// Tenants without waiting work whose debt to others is remembered, for each tier. Beyond it the
/// smallest debt is forgiven.
const DEBTS_MAX: usize = 1024;

/// The first of all names.
const FIRST: Work =
    Work { from: GatewayId(0), attempt: AttemptId { request: RequestId(0), number: 0 } };

#[derive(Clone, Debug)]
struct Tenant {
    /// Work served.
    counter: u64,
    waiting: BTreeSet<(Time, Work)>,
    /// Their work.
    cost: u64,
}

#[derive(Clone, Debug)]
struct Tier {
    /// Part of the workers while these tiers are backlogged; see `Queue::shares`.
    floor: f64,
    weight: f64,
    late_share: f64,
    window: f64,
    /// Below nothing where answers that went on were served beyond it.
    deficit: i64,
    moving: BTreeSet<(Time, Work)>,
    /// All of the normal lane, those that are held too.
    due: BTreeMap<(Time, Work), Due>,
    yielding: BTreeSet<(Time, Work)>,
    late: BTreeSet<(Time, Work)>,
    /// Work that the late lane may be served, by what others were.
    late_credit: f64,
    tenants: BTreeMap<u32, Tenant>,
    /// Backlogged tenants by counter, and by the key of their first.
    by_counter: BTreeSet<(u64, u32)>,
    by_key: BTreeSet<(Time, u32)>,
    /// Tenants without any, whose counter is above the line.
    debts: BTreeSet<(u64, u32)>,
    /// The lowest counter there was: where a tenant comes in that had nothing waiting.
    line: u64,
    largest: u64,
    /// How many wait, and their work.
    count: usize,
    all: u64,
    /// Of it, that of those in line: in all, and by its key.
    backlog: u64,
    keys: Backlog,
}

/// All that waits.
#[derive(Clone, Debug)]
pub struct Queue {
    mutants: Mutants,
    tiers: Vec<Tier>,
    /// The tier whose turn it is.
    turn: usize,
    waiting: Table<Work, Waiting>,
    /// Kept for its memory.
    heads: Vec<(usize, Waiting)>,
    /// Those held for a worker, and by worker. They are nobody's next.
    held: Table<Work, WorkerId>,
    held_by_key: BTreeSet<(Time, Work)>,
    /// With microseconds of prefill there.
    held_for: BTreeMap<(WorkerId, Time, Work), u64>,
}

impl Queue {
    /// An empty one.
    pub fn new(settings: &Settings) -> Queue {
        let (late_share, window) = (settings.late_share, settings.window);
        let tier = |settings: &TierSettings| Tier {
            floor: settings.floor,
            weight: settings.weight,
            late_share,
            window,
            deficit: 0,
            moving: BTreeSet::new(),
            due: BTreeMap::new(),
            yielding: BTreeSet::new(),
            late: BTreeSet::new(),
            late_credit: 0.0,
            tenants: BTreeMap::new(),
            by_counter: BTreeSet::new(),
            by_key: BTreeSet::new(),
            debts: BTreeSet::new(),
            line: 0,
            largest: 1,
            count: 0,
            all: 0,
            backlog: 0,
            keys: Backlog::default(),
        };
        Queue {
            mutants: settings.mutants,
            tiers: settings.tiers.iter().map(tier).collect(),
            turn: 0,
            waiting: Table::default(),
            heads: Vec::new(),
            held: Table::default(),
            held_by_key: BTreeSet::new(),
            held_for: BTreeMap::new(),
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What is known of one that waits.
    pub fn get(&self, work: Work) -> Option<&Waiting> {
        self.waiting.get(&work)
    }

    /// How far tenants may run ahead of each other, see `Settings::window`.
    pub fn set_window(&mut self, window: f64) {
        self.tiers.iter_mut().for_each(|tier| tier.window = window);
    }

    /// Floors and weights of the same tiers are others from now on.
    pub fn weigh(&mut self, tiers: &[TierSettings]) {
        for (tier, settings) in self.tiers.iter_mut().zip(tiers) {
            (tier.floor, tier.weight) = (settings.floor, settings.weight);
        }
    }

    /// Those of a tier that are to be in time, held ones too, in the order of their keys.
    pub fn in_line(&self, tier: TierId) -> impl Iterator<Item = (Work, Due)> {
        let line = self.tiers[usize::from(tier.0)].due.iter();
        line.map(|((_, work), due)| (*work, *due))
    }

    /// The first of those of a tier that are to be in time and wait for whomever.
    pub fn first_in_line(&self, tier: TierId) -> Option<Waiting> {
        let line = self.tiers[usize::from(tier.0)].due.keys();
        let first = line.map(|(_, work)| *work).find(|work| !self.is_held(*work))?;
        self.get(first).copied()
    }

    /// One that waits should begin by then.
    pub fn set_latest(&mut self, work: Work, latest: Time) {
        let Some(one) = self.waiting.get_mut(&work) else { return };
        one.latest = latest;
        let due = self.tiers[usize::from(one.tier.0)].due.get_mut(&(one.key, work));
        due.into_iter().for_each(|due| due.latest = latest);
    }

    /// Time has passed.
    pub fn turn(&mut self, now: Time) {
        self.tiers.iter_mut().for_each(|tier| tier.keys.turn(now));
    }

    /// One more waits.
    pub fn put(&mut self, one: Waiting) {
        self.waiting.insert(one.work, one);
        let tier = &mut self.tiers[usize::from(one.tier.0)];
        tier.largest = tier.largest.max(one.cost);
        tier.count += 1;
        tier.all += one.cost;
        tier.line_up(&one);
        if one.lane == Lane::Normal {
            let Waiting { cost, latest, .. } = one;
            tier.due.insert((one.key, one.work), Due { cost, latest });
        }
        if one.lane.is_in_line() {
            tier.backlog += one.cost;
            tier.keys.add(one.key, one.cost);
        }
    }

    /// One that waits leaves, for whatever reason.
    pub fn take(&mut self, work: Work) -> Option<Waiting> {
        let one = self.waiting.remove(&work)?;
        let tier = &mut self.tiers[usize::from(one.tier.0)];
        tier.count -= 1;
        tier.all -= one.cost;
        tier.due.remove(&(one.key, work));
        match self.held.remove(&work) {
            Some(worker) => {
                self.held_for.remove(&(worker, one.key, work));
                self.held_by_key.remove(&(one.key, work));
            }
            None => tier.step_out(&one),
        }
        if one.lane.is_in_line() {
            tier.backlog -= one.cost;
            tier.keys.take(one.key, one.cost);
        }
        Some(one)
    }

    /// One waits for this worker alone, until it is released.
    pub fn hold(&mut self, work: Work, (worker, prefill): (WorkerId, u64)) {
        let Some(one) = self.waiting.get(&work) else { return };
        match self.held.get(&work) {
            Some(before) => {
                self.held_for.remove(&(*before, one.key, work));
            }
            None => self.tiers[usize::from(one.tier.0)].step_out(one),
        }
        self.held.insert(work, worker);
        self.held_by_key.insert((one.key, work));
        self.held_for.insert((worker, one.key, work), prefill);
    }

    /// It waits for whomever again.
    pub fn release(&mut self, work: Work) {
        let (Some(worker), Some(one)) = (self.held.remove(&work), self.waiting.get(&work)) else {
            return;
        };
        self.held_for.remove(&(worker, one.key, work));
        self.held_by_key.remove(&(one.key, work));
        self.tiers[usize::from(one.tier.0)].line_up(one);
    }

    /// Whether it waits for one worker alone.
    pub fn is_held(&self, work: Work) -> bool {
        self.held.get(&work).is_some()
    }

    /// Who waits for this worker, in the order of their keys.
    pub fn held_for(&self, worker: WorkerId) -> Vec<Work> {
        let theirs = self.held_for.range((worker, Time::ZERO, FIRST)..).map(|(of, _)| *of);
        theirs.take_while(|(of, ..)| *of == worker).map(|(_, _, work)| work).collect()
    }

    /// Prefill that is held for this worker and goes before this key, in microseconds.
    pub fn held_before(&self, worker: WorkerId, key: Time) -> u64 {
        if self.held_for.is_empty() {
            return 0;
        }
        let theirs = self.held_for.range((worker, Time::ZERO, FIRST)..(worker, key, FIRST));
        theirs.map(|(_, prefill)| *prefill).sum()
    }

    /// The first of those that are held, in the order of their keys.
    pub fn first_held(&self, count: usize) -> Vec<Waiting> {
        let first = self.held_by_key.iter().take(count);
        first.filter_map(|(_, work)| self.waiting.get(work)).copied().collect()
    }

    /// Whether somebody waits for whomever.
    pub fn has_next(&self) -> bool {
        self.waiting.len() > self.held.len()
    }

    /// Whether somebody waits for a worker that is about to have room.
    pub fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether somebody waits who may be in time: a late one that is next has its tier's share
    /// then, not what is left.
    pub fn is_lates_turn(&self) -> bool {
        self.tiers.iter().any(|tier| !tier.is_empty())
    }

    /// Who is next.
    pub fn next(&mut self) -> Option<Waiting> {
        let mut heads = core::mem::take(&mut self.heads);
        heads.clear();
        let is_any = self.is_lates_turn();
        for (at, tier) in self.tiers.iter().enumerate() {
            // Late ones have their tier's turn as long as it has nobody else: a lower one's do not
            // go before them for being in time.
            let late = tier.late.first().filter(|_| is_any).map(|(_, work)| *work);
            let head = if tier.is_empty() { late } else { tier.head(self.mutants) };
            let one = head.and_then(|work| self.waiting.get(&work));
            heads.extend(one.map(|one| (at, *one)));
        }
        let next = self.among(&heads);
        self.heads = heads;
        next
    }

    /// Who is next of these, the first of each backlogged tier.
    fn among(&mut self, heads: &[(usize, Waiting)]) -> Option<Waiting> {
        if heads.is_empty() {
            // All else is for those who gave way, and for those who are late.
            let yielding = self.tiers.iter().find_map(|tier| tier.yielding.first());
            let late = || self.tiers.iter().find_map(|tier| tier.late.first());
            return self.waiting.get(&yielding.or_else(late)?.1).copied();
        }
        if self.mutants.removes(Mutant::NoFloors) {
            return heads.first().map(|(_, one)| *one);
        }
        let sums = self.sums(heads.iter().map(|(at, _)| *at));
        // Rounds until the first tier may serve its head.
        let rounds = heads.iter().map(|(at, one)| {
            let owed = (one.cost as i64 - self.tiers[*at].deficit).max(0) as u64;
            owed.div_ceil(self.quantum(*at, sums))
        });
        let rounds = rounds.min().unwrap_or(0);
        for (at, _) in heads.iter().filter(|_| rounds > 0) {
            let more = rounds * self.quantum(*at, sums);
            self.tiers[*at].deficit += more as i64;
        }
        let count = self.tiers.len();
        let able = |at: &usize| {
            heads.iter().any(|(of, one)| of == at && self.tiers[*of].deficit >= one.cost as i64)
        };
        self.turn = (0..count).map(|step| (self.turn + step) % count).find(able)?;
        let (_, next) = heads.iter().find(|(at, _)| *at == self.turn)?;
        // An answer that goes on does not wait for a lower tier: its own pays later.
        let goes_on = self.tiers[..self.turn].iter().find_map(|tier| tier.moving.first());
        goes_on.map_or(Some(*next), |(_, work)| self.waiting.get(work).copied())
    }

    /// One that was taken out is served, at this cost.
    pub fn served(&mut self, one: &Waiting, cost: u64) {
        let tier = &mut self.tiers[usize::from(one.tier.0)];
        tier.deficit -= cost as i64;
        if one.lane != Lane::Moving {
            tier.deficit = tier.deficit.max(0);
        }
        match one.lane {
            Lane::Yielding => {}
            Lane::Late => tier.late_credit -= cost as f64,
            Lane::Normal | Lane::Moving => {
                let more = cost as f64 * tier.late_share;
                // Bounded: nobody saves up.
                tier.late_credit = (tier.late_credit + more).min(tier.largest as f64);
            }
        }
        tier.charge(one.tenant, cost as i64);
        if tier.deficit <= 0 {
            self.turn = (self.turn + 1) % self.tiers.len();
        }
    }

    /// One that was served at this cost was not after all.
    pub fn unserved(&mut self, (tier, tenant): (TierId, u32), cost: u64) {
        self.tiers[usize::from(tier.0)].deficit += cost as i64;
        self.settle((tier, tenant), -(cost as i64));
    }

    /// What one cost in the end differs from what it was charged.
    pub fn settle(&mut self, (tier, tenant): (TierId, u32), difference: i64) {
        self.tiers[usize::from(tier.0)].charge(tenant, difference);
    }

    /// A tier's part of the workers if these are backlogged, itself too.
    pub fn share(&self, tier: TierId) -> f64 {
        let at = usize::from(tier.0);
        let all = (0..self.tiers.len()).filter(|each| *each == at || !self.tiers[*each].is_empty());
        self.part(at, self.sums(all))
    }

    /// Floors and weights of some tiers.
    fn sums(&self, all: impl Iterator<Item = usize>) -> (f64, f64) {
        let add = |(floors, weights): (f64, f64), at: usize| {
            (floors + self.tiers[at].floor, weights + self.tiers[at].weight)
        };
        all.fold((0.0, 0.0), add)
    }

    /// A tier's part where backlogged ones come to so much.
    fn part(&self, at: usize, (floors, weights): (f64, f64)) -> f64 {
        let tier = &self.tiers[at];
        if self.mutants.removes(Mutant::TierFloorsIgnored) {
            return tier.weight / weights.max(f64::MIN_POSITIVE);
        }
        tier.floor + (1.0 - floors).max(0.0) * tier.weight / weights.max(f64::MIN_POSITIVE)
    }

    fn quantum(&self, at: usize, sums: (f64, f64)) -> u64 {
        ((self.part(at, sums) * QUANTUM as f64) as u64).max(1)
    }

    /// Tenants of whom something is remembered.
    #[cfg(test)]
    pub fn remembered(&self) -> usize {
        self.tiers.iter().map(|tier| tier.tenants.len()).sum()
    }

    /// Whether sums and orders agree with what waits.
    pub fn is_sound(&self) -> bool {
        let count = |tier: &Tier| {
            let waiting: usize = tier.tenants.values().map(|tenant| tenant.waiting.len()).sum();
            waiting + tier.moving.len() + tier.yielding.len() + tier.late.len()
        };
        let all: usize = self.tiers.iter().map(count).sum();
        let backlog = |at: usize| {
            let mine = self.waiting.each().map(|(_, one)| one);
            let mine = mine.filter(|one| usize::from(one.tier.0) == at);
            mine.filter(|one| one.lane.is_in_line()).map(|one| one.cost).sum::<u64>()
        };
        all + self.held.len() == self.waiting.len()
            && self.held.len() == self.held_for.len()
            && self.held.len() == self.held_by_key.len()
            && (0..self.tiers.len()).all(|at| backlog(at) == self.tiers[at].backlog)
    }
}

impl Tier {
    /// Nobody waits who may still be in time.
    fn is_empty(&self) -> bool {
        self.moving.is_empty() && self.by_key.is_empty()
    }

    fn head(&self, mutants: Mutants) -> Option<Work> {
        if let Some((_, late)) = self.late.first()
            && self.late_credit >= self.largest as f64
        {
            return Some(*late);
        }
        if let Some((_, work)) = self.moving.first() {
            return Some(*work);
        }
        // The earliest key of a tenant that is not ahead of the others by more than a request.
        let (lowest, _) = self.by_counter.first()?;
        let most = lowest + (self.window * self.largest as f64) as u64;
        let within = |tenant: &u32| {
            if mutants.removes(Mutant::TenantsUncounted) {
                return true;
            }
            self.tenants.get(tenant).is_some_and(|each| each.counter <= most)
        };
        let (_, tenant) = self.by_key.iter().find(|(_, tenant)| within(tenant))?;
        self.tenants.get(tenant)?.waiting.first().map(|(_, work)| *work)
    }

    fn line_up(&mut self, one: &Waiting) {
        match one.lane {
            Lane::Yielding => {
                self.yielding.insert((one.key, one.work));
            }
            Lane::Late => {
                self.late.insert((one.arrived, one.work));
            }
            Lane::Moving => {
                self.moving.insert((one.arrived, one.work));
            }
            Lane::Normal => self.put(one),
        }
    }

    fn step_out(&mut self, one: &Waiting) {
        match one.lane {
            Lane::Yielding => {
                self.yielding.remove(&(one.key, one.work));
            }
            Lane::Late => {
                self.late.remove(&(one.arrived, one.work));
            }
            Lane::Moving => {
                self.moving.remove(&(one.arrived, one.work));
            }
            Lane::Normal => self.take(one),
        }
        if self.is_empty() && self.late.is_empty() {
            self.deficit = 0;
        }
    }

    fn put(&mut self, one: &Waiting) {
        let line = self.by_counter.first().map_or(self.line, |(counter, _)| *counter);
        self.line = line;
        let fresh = || Tenant { counter: line, waiting: BTreeSet::new(), cost: 0 };
        let tenant = self.tenants.entry(one.tenant).or_insert_with(fresh);
        let before = tenant.waiting.first().map(|(key, _)| *key);
        if before.is_none() {
            self.debts.remove(&(tenant.counter, one.tenant));
            tenant.counter = tenant.counter.max(line);
            self.by_counter.insert((tenant.counter, one.tenant));
        }
        tenant.waiting.insert((one.key, one.work));
        tenant.cost += one.cost;
        self.rank(one.tenant, before);
    }

    fn take(&mut self, one: &Waiting) {
        let Some(tenant) = self.tenants.get_mut(&one.tenant) else { return };
        let before = tenant.waiting.first().map(|(key, _)| *key);
        if tenant.waiting.remove(&(one.key, one.work)) {
            tenant.cost -= one.cost;
        }
        let (counter, is_empty) = (tenant.counter, tenant.waiting.is_empty());
        if is_empty {
            self.by_counter.remove(&(counter, one.tenant));
            self.line = self.line.max(counter.min(self.lowest()));
        }
        self.rank(one.tenant, before);
        if is_empty {
            self.rest(one.tenant);
        }
    }

    fn lowest(&self) -> u64 {
        self.by_counter.first().map_or(u64::MAX, |(counter, _)| *counter)
    }

    /// A tenant's first may have changed.
    fn rank(&mut self, tenant: u32, before: Option<Time>) {
        let first = self.tenants.get(&tenant).and_then(|each| each.waiting.first());
        let first = first.map(|(key, _)| *key);
        if before == first {
            return;
        }
        before.map(|key| self.by_key.remove(&(key, tenant)));
        first.map(|key| self.by_key.insert((key, tenant)));
    }

    fn charge(&mut self, tenant: u32, cost: i64) {
        // Who is not remembered stands at the line: only a debt is worth remembering.
        let line = self.line;
        let fresh = || Tenant { counter: line, waiting: BTreeSet::new(), cost: 0 };
        let each = self.tenants.entry(tenant).or_insert_with(fresh);
        let was = each.counter;
        each.counter = each.counter.saturating_add_signed(cost);
        if self.by_counter.remove(&(was, tenant)) {
            self.by_counter.insert((each.counter, tenant));
        } else {
            self.debts.remove(&(was, tenant));
            self.rest(tenant);
        }
    }

    /// A tenant has nothing that waits: what it was served beyond others is kept, for so many.
    fn rest(&mut self, tenant: u32) {
        let Some(each) = self.tenants.get(&tenant) else { return };
        self.debts.insert((each.counter, tenant));
        while let Some(&(counter, least)) = self.debts.first() {
            if counter > self.line && self.debts.len() <= DEBTS_MAX {
                return;
            }
            self.debts.pop_first();
            self.tenants.remove(&least);
        }
    }
}
