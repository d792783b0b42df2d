//! One drill at this gateway: which attempts break, when it stops by itself, and what is counted.
//!
//! Whether a request finds the site broken is a matter of its own number, so that it finds it so
//! again if it comes back. Requests are counted by the second in which they came, and each with its
//! one end, so that what was offered and what became of it belong together.

use crate::cost::CostUnits;
use crate::drill::{Breakage, End, Plan};
use crate::fact::Outcome;
use crate::gateway::latency::Histogram;
use crate::gateway::ours::spread;
use crate::gateway::request::Life;
use crate::names::{RequestId, SiteId, TierId};
use crate::time::{Duration, Time};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// A first token later than this breaks the promise of any tier, as at sites.
const PROMISE: Duration = Duration::from_secs(5);
/// Goodput is judged over what ended in this time,
const WINDOW: Duration = Duration::from_secs(10);
/// and over at least so many ends: of fewer, one that is missing says too much.
const ENDS_MIN: u32 = 20;
/// So many attempts may be broken before their share of all is looked at.
const BURST: u32 = 20;
/// Afterwards it is counted for so long how things get well again.
pub const AFTER: Duration = Duration::from_secs(120);

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is only counted how things are.
    Before,
    /// Attempts are broken.
    During,
    /// Nothing is broken any more.
    After,
}

/// A drill.
#[derive(Clone, Debug)]
pub struct Drill {
    plan: Plan,
    accepted: Time,
    from: Time,
    until: Time,
    has_begun: bool,
    is_capped: bool,
    ended: Option<(Time, End)>,
    /// Attempts of all tiers while it lasts, and those of them that were broken.
    attempts: u32,
    broken: u32,
    tiers: Vec<Tally>,
    recent: Vec<Recent>,
    seconds: Vec<Vec<Second>>,
}

/// What was counted of a tier while attempts were broken.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Attempts, at whichever site.
    pub attempts: u32,
    /// Of these, broken on purpose,
    pub broken: u32,
    /// and those that only the blast cap spared.
    pub spared: u32,
    /// Waits for a first token before it, while it lasts and after it, in seconds.
    pub first_tokens: [Histogram; 3],
}

/// The requests of one tier that came in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// All that came.
    pub asked: u32,
    /// Of these: whole answers, their first token in time,
    pub good: u32,
    /// refused for want of room,
    pub shed: u32,
    /// and failed, too late, or answered too late. Those that left count nowhere.
    pub failed: u32,
    /// What all that came was predicted to cost.
    pub cost: CostUnits,
}

/// What ended lately, by second.
#[derive(Clone, Debug, Default)]
struct Recent {
    ends: VecDeque<(u64, u32, u32)>,
    good: u32,
    all: u32,
}

/// What becomes of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes its way.
    Whole,
    /// It is broken.
    Broken(Breakage),
    /// The blast cap lets it go its way; whether it is the first one.
    Spared(bool),
}

impl Drill {
    /// A drill that is accepted now, with so many tiers.
    pub fn new(now: Time, plan: Plan, tiers: usize) -> Drill {
        let from = now + plan.before;
        Drill {
            accepted: now,
            from,
            until: from + plan.lasts,
            has_begun: false,
            is_capped: false,
            ended: None,
            attempts: 0,
            broken: 0,
            tiers: (0..tiers).map(|_| Tally::default()).collect(),
            recent: (0..tiers).map(|_| Recent::default()).collect(),
            seconds: Vec::new(),
            plan,
        }
    }

    /// What was ordered.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// When it was accepted.
    pub fn accepted(&self) -> Time {
        self.accepted
    }

    /// When and why it ended.
    pub fn ended(&self) -> Option<(Time, End)> {
        self.ended
    }

    /// By tier.
    pub fn tiers(&self) -> &[Tally] {
        &self.tiers
    }

    /// By second since it was accepted, and by tier.
    pub fn seconds(&self) -> &[Vec<Second>] {
        &self.seconds
    }

    /// Attempts while it lasts, and those of them that were broken.
    pub fn blast(&self) -> (u32, u32) {
        (self.attempts, self.broken)
    }

    /// How far it is.
    pub fn phase(&self, now: Time) -> Phase {
        match self.ended {
            Some(_) => Phase::After,
            None if now < self.from => Phase::Before,
            None if now < self.until => Phase::During,
            None => Phase::After,
        }
    }

    /// When it begins or ends.
    pub fn deadline(&self) -> Option<Time> {
        let next = if self.has_begun { self.until } else { self.from };
        self.ended.is_none().then_some(next)
    }

    /// Whether it begins now.
    pub fn begins(&mut self, now: Time) -> bool {
        let begins = !self.has_begun && self.ended.is_none() && now >= self.from;
        self.has_begun |= begins;
        begins
    }

    /// Whether its time is over.
    pub fn is_due(&self, now: Time) -> bool {
        self.ended.is_none() && now >= self.until
    }

    /// Nothing is broken from now on.
    pub fn end(&mut self, now: Time, why: End) {
        self.ended.get_or_insert((now, why));
    }

    /// What becomes of an attempt of `request` at `site`.
    pub fn judge(&mut self, now: Time, (request, tier): (RequestId, TierId), site: SiteId) -> Fate {
        if self.phase(now) != Phase::During {
            return Fate::Whole;
        }
        self.attempts = self.attempts.saturating_add(1);
        let is_hit = self.hits(request, site);
        let tally = self.tiers.get_mut(usize::from(tier.0));
        let may = u64::from(self.attempts) * u64::from(self.plan.blast_cap) / 100;
        let fate = match is_hit {
            false => Fate::Whole,
            true if u64::from(self.broken) < may.max(u64::from(BURST)) => {
                self.broken += 1;
                Fate::Broken(self.plan.breakage)
            }
            true => Fate::Spared(!core::mem::replace(&mut self.is_capped, true)),
        };
        if let Some(tally) = tally {
            tally.attempts += 1;
            tally.broken += u32::from(matches!(fate, Fate::Broken(_)));
            tally.spared += u32::from(matches!(fate, Fate::Spared(_)));
        }
        fate
    }

    /// How a probe of `site` finds it: what is broken for clients is broken for it, and counts for
    /// nothing.
    pub fn found(&self, now: Time, request: RequestId, site: SiteId) -> Option<Breakage> {
        let is_broken = self.phase(now) == Phase::During && self.hits(request, site);
        is_broken.then_some(self.plan.breakage)
    }

    fn hits(&self, request: RequestId, site: SiteId) -> bool {
        site == self.plan.site
            && spread(request.0 ^ self.plan.id) % 100 < u64::from(self.plan.percent)
    }

    /// Whether a site says nothing at all: one that is down or a black hole for everybody sends no
    /// grants either. With them gateways would count on room that the loss takes away.
    pub fn silences(&self, now: Time, site: SiteId) -> bool {
        let is_all = self.plan.percent == 100 && site == self.plan.site;
        let is_gone = matches!(self.plan.breakage, Breakage::Down | Breakage::Blackhole);
        is_all && is_gone && self.phase(now) == Phase::During
    }

    /// A request came.
    pub fn arrived(&mut self, now: Time, tier: TierId, cost: CostUnits) {
        if let Some(second) = self.second(now, tier) {
            second.asked += 1;
            second.cost += cost;
        }
    }

    /// A request ended.
    pub fn closed(&mut self, now: Time, life: &Life, outcome: Outcome) {
        let (tier, came) = (life.ask.tier, life.arrived);
        let waited = life.first_token.unwrap_or_else(|| now.since(came));
        let is_good = outcome == Outcome::Done && waited <= PROMISE;
        let phase = match came {
            _ if came < self.from => 0,
            _ if self.ended.is_some_and(|(at, _)| came >= at) => 2,
            _ => 1,
        };
        let Some(second) = self.second(came, tier) else { return };
        match outcome {
            // Its own fault, or its own wish.
            Outcome::Rejected | Outcome::Gone => {
                second.asked = second.asked.saturating_sub(1);
                return;
            }
            Outcome::Done if is_good => second.good += 1,
            Outcome::Refused => second.shed += 1,
            Outcome::Done | Outcome::Failed | Outcome::Expired => second.failed += 1,
        }
        let at = usize::from(tier.0);
        if let (Some(tally), Some(waited)) = (self.tiers.get_mut(at), life.first_token) {
            tally.first_tokens[phase].add(waited.as_secs_f64());
        }
        if phase == 1
            && let Some(recent) = self.recent.get_mut(at)
        {
            recent.note(now.since(self.accepted).as_secs(), is_good);
        }
    }

    /// The first tier of which too little is answered well, and how much is, in hundredths.
    pub fn below_floor(&self) -> Option<(TierId, u8)> {
        let mut all = (0..).map(TierId).zip(self.recent.iter().zip(&self.plan.floors));
        all.find_map(|(tier, (recent, floor))| {
            let share = recent.share()?;
            (share < *floor).then_some((tier, share))
        })
    }

    /// The counts of the second in which a request came, if it is counted.
    fn second(&mut self, came: Time, tier: TierId) -> Option<&mut Second> {
        let over = self.ended.map_or(self.until, |(at, _)| at) + AFTER;
        if came < self.accepted || came >= over || usize::from(tier.0) >= self.tiers.len() {
            return None;
        }
        let at = came.since(self.accepted).as_secs() as usize;
        if self.seconds.len() <= at {
            let tiers = self.tiers.len();
            self.seconds.resize_with(at + 1, || alloc::vec![Second::default(); tiers]);
        }
        self.seconds[at].get_mut(usize::from(tier.0))
    }
}

impl Recent {
    fn note(&mut self, second: u64, is_good: bool) {
        match self.ends.back_mut() {
            Some((at, good, all)) if *at == second => {
                *good += u32::from(is_good);
                *all += 1;
            }
            _ => self.ends.push_back((second, u32::from(is_good), 1)),
        }
        self.good += u32::from(is_good);
        self.all += 1;
        while let Some((at, good, all)) = self.ends.front().copied() {
            let is_old = second >= at + WINDOW.as_secs();
            if !is_old || self.all - all < ENDS_MIN {
                return;
            }
            self.ends.pop_front();
            self.good -= good;
            self.all -= all;
        }
    }

    /// In hundredths, rounded down; nothing where too few ended.
    fn share(&self) -> Option<u8> {
        (self.all >= ENDS_MIN).then(|| (u64::from(self.good) * 100 / u64::from(self.all)) as u8)
    }
}

#[cfg(test)]
mod tests;
