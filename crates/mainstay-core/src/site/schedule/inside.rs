//! The scheduler inside a site, which has let in what comes here: it says what an attempt costs,
//! until when it may begin and what workers carry, and it alone takes leave of attempts.
//!
//! Nobody tells of caches, and of few workers it is said what they are. Until what prompts take was
//! given or learned, a worker is judged by its work in cost units: it gets what keeps it busy, the
//! one that is through first comes first, and nothing is held or set back by a forecast. What is
//! held in caches is what each worker was given last.

use super::admission::{Asks, SERVICE_MAX};
use super::cost::Asked;
use super::profile::Profile;
use super::settings::TierSettings;
use super::worker::Worker;
use super::{Action, Attempt, Life, Place, Scheduler, Settings};
use crate::cost::CostUnits;
use crate::message::Open;
use crate::names::{TierId, Work, WorkerId};
use crate::time::{Duration, Time};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What a site says of an attempt that it has let in.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// As it was asked for.
    pub open: Open,
    /// Of its work, what one token of its prompt is.
    pub token: CostUnits,
    /// Tokens for which its prompt has one key.
    pub block: u32,
    /// Until when its first token is in time,
    pub deadline: Time,
    /// and until when it may come.
    pub until: Time,
    /// Until when it would be in time where nobody is in a hurry: its place in line. Who waits for
    /// a shorter time than others do does not go before them for it.
    pub in_line: Time,
    /// Who lost it last.
    pub lost_by: Option<WorkerId>,
}

impl Taken {
    /// What is left of its work where so many tokens of its prompt are cached.
    pub(super) fn without(&self, cached: u32) -> CostUnits {
        (self.open.cost - self.saved(cached)).max(CostUnits(1))
    }

    fn saved(&self, cached: u32) -> CostUnits {
        CostUnits(self.token.0.saturating_mul(cached.into()))
    }
}

/// How an attempt of a site stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Inside {
    /// As it was asked for.
    pub open: Open,
    /// When it came, or went on.
    pub arrived: Time,
    /// Workers that lost it.
    pub failed: u8,
    /// Who has it; nobody while it waits.
    pub given: Option<Given>,
}

/// Who has an attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Given {
    /// Which worker.
    pub to: WorkerId,
    /// Since when.
    pub since: Time,
    /// Whether its first token came.
    pub has_begun: bool,
}

impl Life {
    /// Tokens for which its prompt has one key.
    pub(super) fn block(&self, settings: &Settings) -> u32 {
        self.taken.map_or(settings.block, |taken| taken.block)
    }

    /// So many cached tokens in what its work is counted in at this worker.
    pub(super) fn hit(&self, worker: &Worker, believed: u32) -> u32 {
        match self.taken {
            Some(taken) if !worker.is_known() => narrow(taken.saved(believed).0),
            Some(_) | None => believed,
        }
    }

    /// Milliseconds that such a hit saves there.
    pub(super) fn saves(&self, worker: &Worker, hit: u32) -> f64 {
        let (uncached, _) = self.asked.uncached(hit);
        let all = self.asked.prompt.max(1);
        f64::from(all - uncached) * worker.profile.token * worker.slowness()
    }

    fn counted(&mut self, is_known: bool, output: u32) {
        let Some(taken) = self.taken else { return };
        self.asked = match is_known {
            true => Asked { prompt: self.attempt.prompt + self.relayed, output },
            false => Asked { prompt: narrow(taken.open.cost.0), output: 0 },
        };
    }

    /// How it stands, where a site let it in.
    pub(super) fn inside(&self, given: Option<Given>) -> Option<Inside> {
        let open = self.taken?.open;
        Some(Inside { open, arrived: self.arrived, failed: self.failed, given })
    }
}

impl Scheduler {
    /// Whether it is known what prompts take.
    pub(super) fn is_known(&self) -> bool {
        self.settings.policy != super::settings::Policy::Site || self.profile.is_some()
    }

    /// What would become of an attempt of a site. Its prompt begins with what has these keys.
    pub fn ask(&mut self, now: Time, taken: Taken, keys: Arc<[u64]>) -> Asks {
        let open = taken.open;
        let attempt = Attempt {
            work: open.work,
            tier: self.tier(open.tier),
            tenant: open.tenant,
            prompt: open.prompt,
            keys,
            limit: open.output,
            expires: open.left,
            elsewhere: open.elsewhere,
        };
        let asked = Asked { prompt: 0, output: 0 };
        let (deadline, until) = (taken.deadline, taken.until);
        let mut life = Life::queued(attempt, asked, (now, deadline, until, until));
        life.taken = Some(taken);
        let most = taken.deadline.since(now).mul_f64(SERVICE_MAX);
        life.latest = taken.deadline - self.strength.service().min(most);
        self.counted(now, life)
    }

    fn counted(&mut self, now: Time, mut life: Life) -> Asks {
        let (output, _) = self.lengths.expected(life.attempt.limit);
        life.counted(self.is_known(), output);
        self.asks(now, life)
    }

    /// A site has let it in: it waits, or is given out.
    pub fn take_in(&mut self, now: Time, asks: Asks, actions: &mut Vec<Action>) {
        self.let_in(now, asks, actions);
    }

    /// How it stands, if it is here.
    pub fn inside(&self, work: Work) -> Option<Inside> {
        let life = self.lives.get(&work)?;
        let given = match life.place {
            Place::Queued => None,
            Place::At(to) => self
                .workers
                .get(&to)
                .and_then(|worker| worker.leg(work))
                .map(|leg| Given { to, since: leg.started, has_begun: leg.has_first_token }),
        };
        life.inside(given)
    }

    /// It is not here any more, wherever it was.
    pub fn leave(&mut self, now: Time, work: Work) -> Option<Inside> {
        let before = self.inside(work)?;
        match before.given {
            None => {
                self.queue.take(work);
            }
            Some(given) => self.drop_leg(now, work, given.to),
        }
        let mut life = self.lives.remove(&work)?;
        self.unwatch_start(&mut life);
        Some(before)
    }

    /// Its worker lost it. It is nowhere until it goes on or leaves.
    pub fn lose(&mut self, now: Time, work: Work) {
        let Some(given) = self.inside(work).and_then(|inside| inside.given) else { return };
        self.drop_leg(now, work, given.to);
        if !given.has_begun {
            self.lost_early(now, given.to);
        }
        let Some(life) = self.lives.get_mut(&work) else { return };
        life.place = Place::Queued;
        life.failed += 1;
        if let Some(taken) = &mut life.taken {
            taken.lost_by = Some(given.to);
        }
    }

    /// One that was lost waits for another worker. With tokens relayed that is before all that has
    /// not begun, and for a time that is counted from here. Without, it keeps its place; and where
    /// nobody else could take it, it is not late for what its worker did to it.
    pub fn go_on(
        &mut self,
        now: Time,
        work: Work,
        (relayed, gap): (u32, Duration),
        actions: &mut Vec<Action>,
    ) {
        let Some(mut life) = self.lives.remove(&work) else { return };
        if let Some(taken) = life.taken.as_mut().filter(|_| relayed > 0) {
            taken.open.moving = true;
            (life.arrived, life.deadline, life.latest) = (now, now + gap, now + gap);
            (life.until, life.expires) = (now + gap, now + gap);
            (life.relayed, life.reached) = (relayed, relayed);
        } else if let Some(taken) = life.taken.filter(|taken| !taken.open.elsewhere) {
            let again = (now + gap).min(life.arrived + taken.open.left);
            life.latest = life.latest.max(again);
            life.deadline = life.deadline.max(again);
            life.until = life.until.max(again);
            life.expires = life.until;
        }
        let asks = self.counted(now, life);
        self.let_in(now, asks, actions);
    }

    /// What one that was given out cost in the end.
    pub fn settled(&mut self, work: Work, cost: CostUnits) {
        if let Some(life) = self.lives.get(&work) {
            let of = (life.attempt.tier, life.attempt.tenant);
            self.queue.settle(of, cost.0 as i64 - life.charged as i64);
        }
    }

    /// It is given out whether somebody has room or not.
    pub fn force(&mut self, now: Time, work: Work, actions: &mut Vec<Action>) {
        self.send_anyway(now, work, actions);
    }

    /// Its worker says how many tokens of its prompt were cached.
    pub fn told(&mut self, now: Time, work: Work, cached: u32) {
        self.cached(now, work, cached);
    }

    /// Time has passed: who waited too long is turned away.
    pub fn pass(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.pass_deadlines(now, actions);
    }

    /// Workers with room get what waits.
    pub fn give_out(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.dispatch(now, actions);
    }

    /// An operator has said what a worker is that is about to come.
    pub fn describe(&mut self, id: WorkerId, profile: Profile) {
        self.given.insert(id, profile);
    }

    /// A worker is gone, and its caches with it.
    pub fn gone(&mut self, now: Time, id: WorkerId) {
        self.given.remove(&id);
        if let Some(worker) = self.workers.remove(&id) {
            self.index.end(worker.slot);
        }
        self.refresh(now, id);
    }

    /// A worker goes on, with empty caches.
    pub fn emptied(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        self.index.end(worker.slot);
        worker.slot = self.index.begin(id);
        worker.recent = super::recent::Recent::default();
        worker.recent.streams(worker.profile.sequences);
    }

    /// Floors and weights of the same tiers are others from now on.
    pub fn weigh(&mut self, tiers: Vec<TierSettings>) {
        self.queue.weigh(&tiers);
        self.settings.tiers = tiers;
    }

    /// Whether somebody has room.
    pub fn has_room_now(&self, now: Time) -> bool {
        self.has_any_room(now)
    }

    /// Work that waits and is to be in time.
    pub fn cost_in_line(&self) -> CostUnits {
        CostUnits(self.queue.cost_in_line())
    }

    /// Work that waits.
    pub fn queued_cost(&self) -> CostUnits {
        CostUnits(self.queue.cost())
    }

    /// Work that waits in this tier and in higher ones,
    pub fn cost_at_or_above(&self, tier: TierId) -> CostUnits {
        CostUnits(self.queue.cost_at_or_above(self.tier(tier)))
    }

    /// and whether any does.
    pub fn has_at_or_above(&self, tier: TierId) -> bool {
        self.queue.has_at_or_above(self.tier(tier))
    }

    /// Work that goes before one more of this tier and tenant with this place in line.
    pub fn ahead(&self, now: Time, (tier, tenant): (TierId, u32), in_line: Time) -> CostUnits {
        let tenant = self.is_known().then_some(tenant);
        CostUnits(self.queue.ahead((self.tier(tier), tenant), self.key(now, in_line)))
    }

    /// A gateway may know tiers that this site does not: they are its lowest.
    fn tier(&self, tier: TierId) -> TierId {
        TierId(tier.0.min(self.settings.tiers.len().saturating_sub(1) as u8))
    }

    /// What a worker has.
    pub fn works_at(&self, id: WorkerId) -> Vec<Work> {
        let legs = self.workers.get(&id).map(Worker::legs);
        legs.into_iter().flatten().map(|(work, _)| work).collect()
    }

    /// All that is here.
    pub fn works(&self) -> Vec<Work> {
        self.lives.sorted().into_iter().map(|(work, _)| work).collect()
    }

    /// Since when each waits that does, and in which tier, in no order.
    pub fn waits(&self) -> impl Iterator<Item = (TierId, Time)> {
        let waiting = self.lives.each().filter(|(_, life)| life.place == Place::Queued);
        waiting.filter_map(|(_, life)| Some((life.taken?.open.tier, life.arrived)))
    }

    /// All that wait.
    pub fn waiting_works(&self) -> Vec<Work> {
        self.queue.works()
    }

    /// What prompts take is known: from now on work is counted in their tokens.
    pub(super) fn learned(&mut self, now: Time, profile: Profile) {
        let is_first = self.profile.replace(profile).is_none();
        let ids: Vec<WorkerId> = self.workers.keys().collect();
        for id in ids {
            self.rate_anew(now, id);
        }
        if !is_first {
            return;
        }
        self.queue.set_window(Settings::default().window);
        let all: Vec<Work> = self.lives.sorted().into_iter().map(|(work, _)| work).collect();
        for work in all {
            let Some(mut life) = self.lives.remove(&work) else { continue };
            let (output, _) = self.lengths.expected(life.attempt.limit);
            life.counted(true, output);
            let is_queued = life.place == Place::Queued;
            if is_queued {
                life.least_prefill = self.survey(now, &life).prefill;
                self.queue.set_latest(work, self.latest(&life));
            }
            self.lives.insert(work, life);
            if is_queued {
                self.watch_start(now, work);
            }
        }
    }
}

/// As many as fit: what is more is not looked at so closely.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
