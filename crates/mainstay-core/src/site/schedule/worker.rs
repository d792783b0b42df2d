//! One worker as the scheduler sees it: its profile and pace, the legs it has, what they reserve,
//! and whether it has room.
//!
//! A reservation is a value that its leg owns; it cannot be copied, and taking the leg out is the
//! only way to give it back. So every counter is the sum of its legs', on whatever path they end.

use super::kv_index::Slot;
use super::pace::{Pace, Steps};
use super::profile::{Batch, Profile, micros, millis};
use super::rated::Rated;
use super::recent::Recent;
use super::unconfirmed::Unconfirmed;
use crate::cost::CostUnits;
use crate::names::Work;
use crate::site::index_drift::IndexDrift;
use crate::site::trust::Trust;
use crate::table::Table;
use crate::time::{Duration, Time};
use alloc::collections::VecDeque;

/// Until its first token comes, a leg counts with at least this part of its prefill: the model may
/// be wrong, and an engine that is late must not be sent more.
const LEAST_LEFT: u64 = 10;
/// Blocks of a hundred that may be reserved: answers grow, and an engine that runs out computes
/// again what it had.
const BLOCKS_USED: u64 = 98;
/// A report says nothing any more after this time.
const REPORT_AGE: Duration = Duration::from_secs(5);

/// Undone work that keeps a worker busy of which only is known what it carries: a little more than
/// it does while one first token is under way. A slow one needs no more: it does less, for longer.
pub const IN_HAND: Duration = Duration::from_millis(350);

/// A step that takes up to so many times as long as one of decodes alone was not full of prefill.
const SHORT: f64 = 2.0;

/// What operators want of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Use it.
    #[default]
    Active,
    /// Nothing new; what it has may end.
    Draining,
}

/// What is believed of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    #[default]
    Up,
    /// It may be broken: nothing new.
    Suspect,
    /// It is gone.
    Down,
    /// It came back: one leg at a time.
    Probation,
}

/// What an engine says of its load. What it does not say is unknown, and no number is made up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Sequences that run.
    pub running: Option<u32>,
    /// Sequences that wait in the engine.
    pub waiting: Option<u32>,
    /// Part of its KV that is in use, cached blocks that nobody uses left out.
    pub kv_used: Option<f64>,
    /// Tokens it has still to prefill.
    pub prefill: Option<u64>,
}

/// What a leg takes of its worker.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reservation {
    /// Prefill in microseconds,
    pub prefill: u64,
    /// in tokens,
    pub tokens: u64,
    /// blocks of KV until it ends,
    pub blocks: u32,
    /// tokens of context while it decodes,
    pub context: u64,
    /// and of a site, what the worker has to compute of it before its first token.
    pub cost: CostUnits,
}

/// What was thought when a leg was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Forecast {
    /// Milliseconds until the first token, by slowness but without quantiles.
    pub ttft: f64,
    /// Of these, waiting for others.
    pub queue: f64,
    /// Tokens found in the cache: as matched, and as believed.
    pub matched: u32,
    /// See `matched`.
    pub hit: u32,
    /// What the step was multiplied by.
    pub slowness: f64,
}

/// How much of an attempt a leg does, see `pair`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    #[default]
    Whole,
    /// Its prompt; what was computed stays until another worker has fetched it.
    Prefill,
    /// Its answer, from a prompt that another worker computes.
    Decode,
}

/// One try of an attempt on one worker.
#[derive(Debug)]
pub struct Leg {
    /// How much of it.
    pub part: Part,
    /// The life of the worker it was planned for.
    pub incarnation: u16,
    /// What it takes.
    pub reservation: Reservation,
    /// When it was sent.
    pub started: Time,
    /// What was thought then.
    pub forecast: Forecast,
    /// When its first token is awaited no longer.
    pub overdue: Time,
    /// Whether its first token came; of a prompt's leg, whether the prompt is computed.
    pub has_first_token: bool,
    /// How it came.
    pub seen: Option<Seen>,
    /// Of a site, what its worker had before first tokens when it came, itself included.
    pub ahead: CostUnits,
    /// One that was before it in line was taken back.
    pub is_sooner: bool,
}

/// How a first token came.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Milliseconds since the leg was sent,
    pub ttft: f64,
    /// and since it was first in line, where it was.
    pub head: Option<f64>,
    /// What decoded beside it.
    pub batch: Batch,
}

impl Leg {
    /// Whether it has prefill to do.
    fn is_in_line(&self) -> bool {
        match self.part {
            Part::Whole | Part::Prefill => !self.has_first_token,
            Part::Decode => false,
        }
    }

    /// Whether it counts in the batch. An answer to come does: its place is taken.
    fn is_in_batch(&self) -> bool {
        match self.part {
            Part::Whole => self.has_first_token,
            Part::Prefill => false,
            Part::Decode => true,
        }
    }
}

/// The worker.
#[derive(Debug)]
pub struct Worker {
    /// Number of its life.
    pub incarnation: u16,
    /// That life in the index of prefixes.
    pub slot: Slot,
    /// Its coefficients.
    pub profile: Profile,
    /// How it keeps to them.
    pub pace: Pace,
    /// What operators want.
    pub order: Order,
    /// What is believed.
    pub verdict: Verdict,
    /// What a site says of it.
    pub rated: Option<Rated>,
    /// What it was given last, where it does not tell what it holds.
    pub recent: Recent,
    /// Whether its cache is what it is thought to be.
    pub drift: IndexDrift,
    /// What it was sent and did not tell of.
    pub unconfirmed: Unconfirmed,
    trust: Trust,
    legs: Table<Work, Leg>,
    /// Legs before their first token, in the order they were sent.
    before: VecDeque<Work>,
    /// Since when the first of them is computed.
    head_since: Time,
    sums: Reservation,
    batch: Batch,
    report: Option<(Time, Load, u64)>,
    /// Most tokens of ours before their first token: since the last report, since the one before.
    peaks: (u64, u64),
    steps: Steps,
    /// Since when nothing has been before its first token, if nothing is.
    dry_since: Time,
}

impl Worker {
    /// A worker that begins its life.
    pub fn new(profile: Profile, (incarnation, slot): (u16, Slot)) -> Worker {
        Worker {
            incarnation,
            slot,
            profile,
            pace: Pace::default(),
            order: Order::default(),
            verdict: Verdict::default(),
            rated: None,
            recent: Recent::default(),
            drift: IndexDrift::default(),
            unconfirmed: Unconfirmed::default(),
            trust: Trust::default(),
            legs: Table::default(),
            before: VecDeque::new(),
            head_since: Time::ZERO,
            sums: Reservation::default(),
            batch: Batch::default(),
            report: None,
            peaks: (0, 0),
            steps: Steps::default(),
            dry_since: Time::ZERO,
        }
    }

    /// Gives it a leg.
    pub fn add(&mut self, now: Time, work: Work, mut leg: Leg) {
        if leg.is_in_batch() {
            self.sums.blocks += leg.reservation.blocks;
            self.join(leg.reservation.context);
            self.legs.insert(work, leg);
            return;
        }
        if self.before.is_empty() {
            // Since it ran dry its steps were of decodes alone.
            let gap = millis(now.since(self.dry_since).as_micros() as u64);
            let step = self.slowness() * self.profile.step(self.batch);
            self.steps.add(gap, gap / step.max(1.0));
            self.head_since = now;
        }
        self.before.push_back(work);
        self.sums.prefill += leg.reservation.prefill;
        self.sums.tokens += leg.reservation.tokens;
        self.sums.blocks += leg.reservation.blocks;
        self.sums.cost += leg.reservation.cost;
        leg.ahead = self.sums.cost;
        self.peaks.0 = self.peaks.0.max(self.sums.tokens);
        self.legs.insert(work, leg);
    }

    /// A leg's first token came; the leg, if it is the first time.
    pub fn first_token(&mut self, now: Time, work: Work) -> Option<&Leg> {
        let is_head = self.before.front() == Some(&work);
        let budget = f64::from(self.profile.budget(self.batch));
        let plain = self.slowness() * self.profile.step(self.batch);
        let is_unnamed = self.is_unnamed();
        let leg = self.legs.get_mut(&work).filter(|leg| !leg.has_first_token)?;
        leg.has_first_token = true;
        if leg.part == Part::Decode {
            return self.legs.get(&work);
        }
        let chunks = leg.reservation.tokens as f64 / budget;
        let took = |since: Time| millis(now.since(since).as_micros() as u64);
        let head = is_head.then(|| took(self.head_since));
        leg.seen = Some(Seen { ttft: took(leg.started), head, batch: self.batch });
        if let Some(took) = head {
            // A short prompt that nobody shares a step with takes one all the same. Of a worker
            // whose chunk is only guessed all prompts may be short.
            let is_short = is_unnamed && took < SHORT * plain;
            let is_alone = is_short && self.before.len() == 1;
            let alone = if is_alone { took / plain } else { 0.0 };
            self.steps.add(took, chunks.max(alone));
        }
        let leg = self.legs.get(&work)?;
        let (context, decodes) = (leg.reservation.context, leg.is_in_batch());
        self.sums.prefill -= leg.reservation.prefill;
        self.sums.tokens -= leg.reservation.tokens;
        self.sums.cost -= leg.reservation.cost;
        if decodes {
            self.join(context);
        }
        self.leave_line(now, work);
        self.legs.get(&work)
    }

    /// Takes a leg out, with all that it reserved.
    pub fn take(&mut self, now: Time, work: Work) -> Option<Leg> {
        let leg = self.legs.remove(&work)?;
        self.sums.blocks -= leg.reservation.blocks;
        if leg.is_in_batch() {
            self.sums.context -= leg.reservation.context;
            self.batch.decodes -= 1;
            self.batch.context = self.sums.context;
        }
        if leg.is_in_line() {
            self.sums.prefill -= leg.reservation.prefill;
            self.sums.tokens -= leg.reservation.tokens;
            self.sums.cost -= leg.reservation.cost;
            for behind in self.before.iter().skip_while(|each| **each != work).skip(1) {
                let leg = self.legs.get_mut(behind);
                leg.into_iter().for_each(|leg| leg.is_sooner = true);
            }
            self.leave_line(now, work);
        }
        Some(leg)
    }

    /// One of its legs.
    pub fn leg(&self, work: Work) -> Option<&Leg> {
        self.legs.get(&work)
    }

    /// Its legs, in the order of their names.
    pub fn legs(&self) -> impl Iterator<Item = (Work, &Leg)> {
        self.legs.sorted().into_iter()
    }

    /// The same for questions that do not depend on an order.
    pub fn each_leg(&self) -> impl Iterator<Item = (Work, &Leg)> {
        self.legs.each()
    }

    /// How many legs it has.
    pub fn in_flight(&self) -> u32 {
        self.legs.len() as u32
    }

    /// Sequences that decode.
    pub fn batch(&self) -> Batch {
        self.batch
    }

    /// Tokens of legs before their first token.
    pub fn undone_tokens(&self) -> u64 {
        self.sums.tokens
    }

    /// What it has to compute for a site before first tokens.
    pub fn in_hand(&self) -> CostUnits {
        self.sums.cost
    }

    /// Blocks reserved.
    pub fn blocks(&self) -> u32 {
        self.sums.blocks
    }

    /// Undone prefill of ours in microseconds, run down by the time since the first of it began.
    pub fn outstanding(&self, now: Time) -> u64 {
        self.sums.prefill - self.run_down(now)
    }

    /// Whether it is known what tokens take there.
    pub fn is_known(&self) -> bool {
        self.rated.is_none_or(|rated| rated.is_known)
    }

    /// How many times as long as by its profile it takes.
    pub fn slowness(&self) -> f64 {
        match self.rated {
            Some(rated) if !rated.is_known => rated.slowness(),
            Some(_) | None => self.pace.slowness(),
        }
    }

    /// What it gets done of what the queue counts in, in a millisecond.
    pub fn rate(&self) -> f64 {
        match self.rated {
            Some(rated) => rated.capacity() / rated.slowness(),
            None => 1000.0 / self.slowness(),
        }
    }

    /// What it takes: as an operator said, as was learned of others, or by what it is to carry.
    pub fn rate_by(&mut self, learned: Option<Profile>) {
        let Some(rated) = &mut self.rated else { return };
        let known = rated.given.or(learned);
        rated.is_known = known.is_some();
        let sequences = rated.streams();
        let by_cost = || Profile {
            token: 1.0 / rated.capacity(),
            chunk: u32::MAX,
            blocks: u32::MAX,
            ..Profile::default()
        };
        self.profile = Profile { sequences, ..known.unwrap_or_else(by_cost) };
        self.recent.streams(sequences);
    }

    /// Whether a site has it, and nobody said what it is.
    pub fn is_unnamed(&self) -> bool {
        self.rated.is_some_and(|rated| rated.given.is_none())
    }

    /// Answers that it is said to have open at once at most.
    pub fn streams_told(&self) -> u32 {
        self.rated.map_or(self.profile.sequences, |rated| rated.told.streams)
    }

    /// What reservations are multiplied by: those in cost units are of a worker as it should be.
    fn stretch(&self) -> f64 {
        if self.is_known() { 1.0 } else { self.slowness() }
    }

    /// What a leg with so many milliseconds of prefill reserves, in microseconds.
    pub fn reserves(&self, prefill: f64) -> u64 {
        micros(prefill / self.stretch()).max(1)
    }

    /// Whether it has room for a leg of which so many milliseconds are done already: with it, it
    /// has no more in hand than others would have with all of it.
    pub fn has_more_room(&self, saved: f64) -> bool {
        let credit = IN_HAND.as_micros() as u64 + micros(saved / self.stretch());
        self.in_flight() < self.profile.sequences && self.sums.prefill < credit
    }

    /// Undone prefill by what its own report adds to ours, in milliseconds.
    pub fn foreign(&self, now: Time) -> f64 {
        let Some((at, load, ours)) = self.report else { return 0.0 };
        let age = now.since(at);
        let Some(prefill) = load.prefill.filter(|_| age < REPORT_AGE) else { return 0.0 };
        let fresh = 1.0 - age.as_micros() as f64 / REPORT_AGE.as_micros() as f64;
        prefill.saturating_sub(ours) as f64 * self.profile.token * self.slowness() * fresh
    }

    /// The engine tells of its load as it was at this time.
    pub fn hear(&mut self, sampled: Time, load: Load) {
        if self.report.is_none_or(|(at, ..)| at <= sampled) {
            // What it had of ours then is not known; it was no more than the most in between.
            self.report = Some((sampled, load, self.peaks.0.max(self.peaks.1)));
            self.peaks = (self.sums.tokens, self.peaks.0);
        }
    }

    /// The last report, however old.
    pub fn report(&self) -> Option<Load> {
        self.report.map(|(_, load, _)| load)
    }

    /// Worker credit: undone prefill it may hold, in microseconds. A chunk that is computed while
    /// the next request is on its way, and the step under way.
    pub fn credit(&self, round_trip: Duration) -> u64 {
        if self.rated.is_some() {
            return IN_HAND.as_micros() as u64;
        }
        let chunk = self.profile.step_with(
            Batch::default(),
            f64::from(self.profile.budget(self.batch)),
            0.0,
        );
        let present = self.profile.step(self.batch);
        micros(self.slowness() * (chunk + present)) + round_trip.as_micros() as u64
    }

    /// When it has room for one more leg, were nothing to happen until then. `None`: not before
    /// something does. While its steps take longer than so many milliseconds in the mean, it is
    /// sent the next only when it ran dry: steps of decodes alone come in between.
    pub fn room_at(&self, now: Time, (round_trip, step_max): (Duration, f64)) -> Option<Time> {
        let may_take = match self.verdict {
            Verdict::Up => true,
            Verdict::Probation => self.legs.is_empty(),
            Verdict::Suspect | Verdict::Down => false,
        };
        let is_full = self.in_flight() >= self.profile.sequences;
        if !may_take || self.order != Order::Active || is_full {
            return None;
        }
        if self.is_known() && self.steps.mean() > step_max && !self.before.is_empty() {
            return None;
        }
        let credit = self.credit(round_trip);
        if self.outstanding(now) < credit {
            return Some(now);
        }
        // The time run down must exceed what is too much.
        let too_much = self.sums.prefill - credit + 1;
        (self.is_known() && too_much <= self.most_run_down())
            .then(|| self.head_since + Duration::from_micros(too_much))
            .map(|at| at.max(now))
    }

    /// Milliseconds by which one more of so many blocks would begin sooner without this leg, which
    /// is in line; half a step less where a chunk of it is under way. `None`: it has no room then.
    pub fn frees(&self, now: Time, work: Work, bounds: (Duration, f64, u32)) -> Option<f64> {
        let leg = self.legs.get(&work).filter(|leg| leg.is_in_line())?;
        let done = (self.before.front() == Some(&work)).then(|| self.run_down(now));
        let left = leg.reservation.prefill - done.unwrap_or(0);
        let blocks = self.sums.blocks - leg.reservation.blocks + bounds.2;
        let fits = blocks <= self.most_blocks() || self.legs.len() == 1;
        let is_used = self.verdict == Verdict::Up && self.order == Order::Active;
        let is_slow = self.steps.mean() > bounds.1 && self.before.len() > 1;
        let is_full = self.outstanding(now) - left >= self.credit(bounds.0);
        let chunk = f64::from(self.profile.budget(self.batch)).min(leg.reservation.tokens as f64);
        let step = self.slowness() * self.profile.step_with(self.batch, chunk, 0.0);
        let under_way = done.map_or(0.0, |_| step / 2.0);
        let frees = millis(left) * self.stretch() - under_way;
        (is_used && fits && !is_slow && !is_full).then_some(frees.max(0.0))
    }

    /// Whether KV has room for so many blocks more. Alone, a request may have all there is.
    pub fn fits(&self, blocks: u32) -> bool {
        self.sums.blocks.saturating_add(blocks) <= self.most_blocks() || self.legs.is_empty()
    }

    fn most_blocks(&self) -> u32 {
        (u64::from(self.profile.blocks) * BLOCKS_USED / 100) as u32
    }

    /// Tokens of a match that are believed.
    pub fn believed(&self, matched: u32) -> u32 {
        self.trust.believed(matched)
    }

    /// An answer told how many tokens were cached.
    pub fn measured(&mut self, matched: u32, cached: u32) {
        self.trust.measured(matched, cached);
    }

    /// Whether every counter is the sum of its legs' reservations (K3).
    pub fn is_balanced(&self) -> bool {
        let mut sums = Reservation::default();
        let mut decodes = 0;
        for (_, leg) in self.legs.each() {
            sums.blocks += leg.reservation.blocks;
            if leg.is_in_batch() {
                sums.context += leg.reservation.context;
                decodes += 1;
            }
            if leg.is_in_line() {
                sums.prefill += leg.reservation.prefill;
                sums.tokens += leg.reservation.tokens;
                sums.cost += leg.reservation.cost;
            }
        }
        let waiting = self.legs.each().filter(|(_, leg)| leg.is_in_line()).count();
        sums == self.sums
            && self.batch == Batch { decodes, context: sums.context }
            && waiting == self.before.len()
    }

    /// Prefill of the last leg in line in microseconds: what credit may be exceeded by (K1).
    pub fn largest(&self) -> u64 {
        let line = self.before.iter().filter_map(|work| self.legs.get(work));
        line.map(|leg| leg.reservation.prefill).max().unwrap_or(0)
    }

    /// By how much it may be exceeded besides while times are not known, see `has_more_room`.
    pub fn saved(&self) -> u64 {
        let line = self.before.iter().filter(|_| !self.is_known());
        let line = line.filter_map(|work| self.legs.get(work));
        let saved = line.map(|leg| f64::from(leg.forecast.hit) * self.profile.token);
        saved.map(micros).max().unwrap_or(0)
    }

    fn join(&mut self, context: u64) {
        self.sums.context += context;
        self.batch.decodes += 1;
        self.batch.context = self.sums.context;
    }

    fn leave_line(&mut self, now: Time, work: Work) {
        let is_head = self.before.front() == Some(&work);
        self.before.retain(|each| *each != work);
        if is_head {
            self.head_since = now;
        }
        if self.before.is_empty() {
            self.dry_since = now;
        }
    }

    fn run_down(&self, now: Time) -> u64 {
        if !self.is_known() {
            return 0;
        }
        let since = now.since(self.head_since).as_micros() as u64;
        since.min(self.most_run_down())
    }

    fn most_run_down(&self) -> u64 {
        let head = self.before.front().and_then(|work| self.legs.get(work));
        head.map_or(0, |leg| leg.reservation.prefill - leg.reservation.prefill / LEAST_LEFT)
    }
}

/// What a worker's undone work comes to, in milliseconds.
pub fn wait(worker: &Worker, now: Time) -> f64 {
    millis(worker.outstanding(now)) * worker.stretch() + worker.foreign(now)
}
