//! Whether an attempt is taken in, and into which lane: by a forecast of its first token for when
//! its work would begin, never by the load of the moment, which makes prefill and decode swing in
//! turn (Mooncake, arXiv 2407.00079).
//!
//! Where times are known the forecast is what goes before it, as the workers carry it, and what the
//! best of them would take. Where they are not it is the same work in cost units, and what first
//! tokens take of late.

use super::queue::{Lane, Waiting};
use super::settings::Policy;
use super::survey::Survey;
use super::timers::Timer;
use super::worker::Verdict;
use super::{Action, Asked, Attempt, Life, Scheduler, Why};
use crate::cost::CostUnits;
use crate::fact::ScheduleFact;
use crate::mutant::Mutant;
use crate::names::{TierId, Work};
use crate::site::schedule::profile::{duration, millis, millis_of};
use crate::time::{Duration, Time};
use alloc::boxed::Box;
use alloc::collections::BinaryHeap;
use alloc::vec::Vec;

/// Shortest and longest time after which a refused attempt may come again.
const AGAIN: (f64, f64) = (1_000.0, 120_000.0);
/// Waits shorter than this, in milliseconds, teach nothing about the queue.
const WAIT_TOLD: f64 = 200.0;

/// A start this close has come.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// Those that wait are looked through at most so often, however many come.
const TRIAGE_EVERY: Duration = Duration::from_millis(50);

/// However slow the workers of a site are, this share of the time an attempt has is theirs at most:
/// with nothing before it an attempt is always tried, else nothing would tell when they are well
/// again.
pub(super) const SERVICE_MAX: f64 = 0.8;

/// What is foreseen for an attempt, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Foreseen {
    /// Work before it, by the workers' pace.
    wait: f64,
    /// First token: likely, and optimistic.
    ttft_50: f64,
    ttft_10: f64,
    /// The latter if it waits behind all others of its tier.
    last_10: f64,
}

/// What becomes of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It waits for its turn, and is in time.
    InTime,
    /// It is late, and still wanted then.
    Late,
    /// It would be late, and need not be elsewhere.
    HandBack,
    /// It would come when nobody wants it any more.
    Refuse,
}

/// An attempt that asks to be let in.
#[derive(Debug)]
pub struct Asks {
    life: Life,
    one: Waiting,
    foreseen: Foreseen,
    /// What becomes of it,
    pub outcome: Outcome,
    /// and its first token by what that went by.
    pub expected: Duration,
}

impl Asks {
    /// When its first token is expected.
    pub fn ttft(&self) -> Duration {
        duration(self.foreseen.ttft_50)
    }
}

impl Scheduler {
    pub(super) fn arrived(&mut self, now: Time, attempt: Attempt, actions: &mut Vec<Action>) {
        let work = attempt.work;
        if self.lives.get(&work).is_some() {
            return;
        }
        let usable = |verdict| matches!(verdict, Verdict::Up | Verdict::Probation);
        self.matched = None;
        let reference = self.workers.values().find(|worker| usable(worker.verdict));
        let Some(reference) = reference.map(|worker| worker.profile) else {
            return self.give_back(work, Why::NoWorker, Duration::ZERO, actions);
        };
        let tier = &self.settings.tiers[usize::from(attempt.tier.0)];
        let unloaded = duration(reference.unloaded(attempt.prompt));
        let promise = tier.ttft_base + unloaded.mul_f64(tier.ttft_factor);
        let (output, _) = self.lengths.expected(attempt.limit);
        let asked = Asked { prompt: attempt.prompt, output };
        let (deadline, patience) = (now + promise, tier.patience);
        let expires = now + attempt.expires;
        let life = Life::queued(attempt, asked, (now, deadline, deadline + patience, expires));
        match self.settings.policy {
            Policy::OnArrival(baseline) => self.on_arrival(now, life, baseline, actions),
            Policy::Late | Policy::Site => self.admit(now, life, actions),
        }
    }

    fn admit(&mut self, now: Time, life: Life, actions: &mut Vec<Action>) {
        let asks = self.asks(now, life);
        let wait = asks.foreseen.wait;
        match asks.outcome {
            Outcome::InTime | Outcome::Late => self.let_in(now, asks, actions),
            Outcome::HandBack => {
                self.give_back(asks.one.work, Why::Overload, duration(wait), actions);
            }
            Outcome::Refuse => self.refuse(&asks.one, wait, actions),
        }
    }

    /// What would become of it.
    pub(super) fn asks(&mut self, now: Time, mut life: Life) -> Asks {
        let survey = self.survey(now, &life);
        life.least_prefill = survey.prefill;
        let mut one = self.waiting(&life, &survey);
        let foreseen = self.foresee(now, &life, &survey, &one);
        let expected = duration(expected(now, &life, &foreseen));
        let mut outcome = self.outcome(now, &life, (&foreseen, expected));
        // With nothing before it a lower leg may give way to it.
        let is_late = outcome != Outcome::InTime;
        if is_late && foreseen.wait <= 0.0 && self.could_preempt(now, &life) {
            outcome = Outcome::InTime;
        }
        if self.is_known() {
            life.expected_wait = foreseen.wait;
        } else if outcome == Outcome::Late && life.failed == 0 {
            // Where times are known it is looked for who else could give way. Whom a worker lost is
            // not late for that.
            one.lane = Lane::Late;
        }
        Asks { life, one, foreseen, outcome, expected }
    }

    fn outcome(&self, now: Time, life: &Life, of: (&Foreseen, Duration)) -> Outcome {
        let (foreseen, expected) = of;
        let is_unbounded =
            life.taken.is_some() && self.settings.mutants.removes(Mutant::NoDeadlineDrop);
        if now + expected <= life.deadline || is_unbounded {
            return Outcome::InTime;
        }
        if life.attempt.elsewhere {
            return Outcome::HandBack;
        }
        // Optimistic, so that few are refused who could have been served.
        let at = |ttft: f64| now + duration(ttft);
        match at(foreseen.ttft_10) <= life.deadline || at(foreseen.last_10) <= life.until {
            true => Outcome::Late,
            false => Outcome::Refuse,
        }
    }

    /// It is let in.
    pub(super) fn let_in(&mut self, now: Time, asks: Asks, actions: &mut Vec<Action>) {
        let Asks { life, one, .. } = asks;
        let (work, tier) = (one.work, one.tier);
        // What a site gave out it watches itself, and it gives out what waits when it wants to.
        let is_alone = life.taken.is_none();
        if is_alone {
            self.timers.set(life.expires, Timer::Expires(work));
        }
        tell(&one, life.until.since(now), actions);
        self.lives.insert(work, life);
        if is_alone && self.send_at_once(now, &one, actions) {
            return;
        }
        self.watch_start(now, work);
        self.queue.put(one);
        if self.is_known() {
            self.triage_at_times(now, tier, actions);
        }
    }

    /// One more waits in a tier.
    pub(super) fn triage_at_times(&mut self, now: Time, tier: TierId, actions: &mut Vec<Action>) {
        if now.since(self.triaged) >= TRIAGE_EVERY {
            self.triaged = now;
            self.triage(now, tier, actions);
        }
    }

    /// How an attempt stands in the queue.
    pub(super) fn waiting(&self, life: &Life, survey: &Survey) -> Waiting {
        let attempt = &life.attempt;
        let cost = match life.taken {
            Some(taken) => taken.without(survey.believed).0,
            None => {
                let tokens = life.asked.uncached(survey.matched);
                self.reference().work(tokens, life.asked.prompt, life.asked.output)
            }
        };
        let is_moving = life.taken.is_some_and(|taken| taken.open.moving);
        Waiting {
            work: attempt.work,
            tier: attempt.tier,
            tenant: attempt.tenant,
            arrived: life.arrived,
            key: self.place_in_line(life),
            cost: cost.max(1),
            latest: self.latest(life),
            lane: if life.relayed > 0 || is_moving { Lane::Moving } else { Lane::Normal },
        }
    }

    /// By then it should begin: those in line keep part of their time to spare.
    pub(super) fn latest(&self, life: &Life) -> Time {
        let spare = life.deadline.since(life.arrived).mul_f64(self.settings.slack);
        life.deadline - (life.least_prefill + spare)
    }

    /// Its key.
    pub(super) fn place_in_line(&self, life: &Life) -> Time {
        self.key(life.arrived, life.taken.map_or(life.deadline, |taken| taken.in_line))
    }

    /// The aged deadline of one that came then.
    pub(super) fn key(&self, arrived: Time, deadline: Time) -> Time {
        arrived + deadline.since(arrived).mul_f64(1.0 / (1.0 + self.settings.aging))
    }

    /// A timer for when its first token can no longer be in time.
    pub(super) fn watch_start(&mut self, now: Time, work: Work) {
        if self.settings.mutants.removes(Mutant::NoDeadlineDrop) {
            return;
        }
        let Some(start) = self.lives.get(&work).map(|life| self.latest_start(life)) else { return };
        let wait = self.timers.set(start.max(now), Timer::LatestStart(work));
        let before = self.lives.get_mut(&work).and_then(|life| life.start_wait.replace(wait));
        if let Some(before) = before {
            self.timers.take_back(before);
        }
    }

    /// It waits no more.
    pub(super) fn unwatch_start(&mut self, life: &mut Life) {
        if let Some(wait) = life.start_wait.take() {
            self.timers.take_back(wait);
        }
    }

    /// From then on its first token would come when it is not wanted any more.
    fn last_start(&self, life: &Life) -> Time {
        self.latest_start(life) + life.until.since(life.deadline)
    }

    /// From then on its first token would be late.
    fn latest_start(&self, life: &Life) -> Time {
        match self.is_known() {
            true => life.deadline - life.least_prefill,
            false => life.latest,
        }
    }

    /// The latest start of a queued attempt may have passed: it goes to the late lane, or, with no
    /// patience left, back.
    pub(super) fn became_late(&mut self, now: Time, work: Work, actions: &mut Vec<Action>) {
        let Some(one) = self.queue.get(work).copied() else { return };
        let Some(mut life) = self.lives.remove(&work) else { return };
        life.least_prefill = self.survey(now, &life).prefill;
        let (start, last) = (self.latest_start(&life), self.last_start(&life));
        let (until, elsewhere) = (life.until, life.attempt.elsewhere);
        let is_late = start <= now + LOOK_AGAIN;
        let is_over = is_late && (last <= now + LOOK_AGAIN || elsewhere);
        // Where it is not late, its prefix came to be held somewhere.
        let again = if is_late { last } else { start };
        let timer = Timer::LatestStart(work);
        life.start_wait = (!is_over).then(|| self.timers.set(again, timer));
        self.queue.set_latest(work, self.latest(&life));
        self.lives.insert(work, life);
        if is_over {
            return self.turn_away(now, &one, actions);
        }
        if !is_late {
            return;
        }
        if matches!(one.lane, Lane::Normal | Lane::Yielding) {
            self.set_back(&one, (Lane::Late, until.since(now)), actions);
        }
    }

    /// Whoever has room would be too late with it.
    pub(super) fn overdue(&mut self, now: Time, one: &Waiting, actions: &mut Vec<Action>) {
        let Some(life) = self.lives.get(&one.work) else { return };
        if life.attempt.elsewhere {
            return self.turn_away(now, one, actions);
        }
        self.set_back(one, (Lane::Yielding, life.deadline.since(now)), actions);
    }

    /// To a lane that gets what is left over, for the time that it has left there.
    fn set_back(&mut self, one: &Waiting, to: (Lane, Duration), actions: &mut Vec<Action>) {
        let (lane, left) = to;
        let one = Waiting { lane, ..*one };
        tell(&one, left, actions);
        self.queue.take(one.work);
        self.queue.put(one);
    }

    /// A queued attempt leaves unserved.
    pub(super) fn turn_away(&mut self, now: Time, one: &Waiting, actions: &mut Vec<Action>) {
        self.queue.take(one.work);
        let Some(mut life) = self.lives.remove(&one.work) else { return };
        self.unwatch_start(&mut life);
        if let Some(inside) = life.inside(None) {
            return actions.push(Action::Shed(Box::new(inside)));
        }
        let usable = |verdict| matches!(verdict, Verdict::Up | Verdict::Probation);
        if !self.workers.values().any(|worker| usable(worker.verdict)) {
            return self.give_back(one.work, Why::NoWorker, Duration::ZERO, actions);
        }
        let wait = self.wait_behind(now, self.goes_before(one));
        if life.attempt.elsewhere {
            return self.give_back(one.work, Why::Overload, duration(wait), actions);
        }
        self.refuse(one, wait, actions);
    }

    /// Not all that wait can be in time: the longest are set back, as few as it takes (Moore, "An n
    /// job, one machine sequencing algorithm for minimizing the number of late jobs", 1968).
    ///
    /// Those who stay keep part of their time to spare: it is what lets them wait for a worker that
    /// holds their prefix. Without it a full queue is served at its deadlines, by whoever is free.
    pub(super) fn triage(&mut self, now: Time, tier: TierId, actions: &mut Vec<Action>) {
        let rate = self.rate(now, tier);
        let mut ahead = 0u64;
        let mut kept: BinaryHeap<(u64, Work)> = BinaryHeap::new();
        let mut back: Vec<Work> = Vec::new();
        for (work, one) in self.queue.in_line(tier) {
            let start = now + Duration::from_micros((ahead as f64 / rate * 1000.0) as u64);
            ahead += one.cost;
            kept.push((one.cost, work));
            if start > one.latest
                && let Some((cost, longest)) = kept.pop()
            {
                ahead -= cost;
                back.push(longest);
            }
        }
        for work in back {
            let (Some(one), Some(life)) = (self.queue.get(work).copied(), self.lives.get(&work))
            else {
                continue;
            };
            self.set_back(&one, (Lane::Yielding, life.deadline.since(now)), actions);
        }
    }

    /// It was sent: how long it waited teaches what the queue takes.
    pub(super) fn waited(&mut self, now: Time, tier: TierId, life: (Time, f64)) {
        let (arrived, expected) = life;
        if expected > WAIT_TOLD {
            let pace = &mut self.waits[usize::from(tier.0)];
            let took = millis(now.since(arrived).as_micros() as u64);
            pace.observe(0, expected * pace.slowness(), took);
        }
    }

    fn foresee(&mut self, now: Time, life: &Life, survey: &Survey, one: &Waiting) -> Foreseen {
        let (ahead, behind) = (self.goes_before(one), self.queue.ahead_of_late(one.tier));
        if let Some(taken) = life.taken.filter(|_| !self.is_known()) {
            return self.foresee_by_cost(now, taken.open.cost, (ahead, behind.max(ahead)));
        }
        let wait = self.wait_behind(now, ahead);
        let pace = self.waits[usize::from(one.tier.0)];
        let (slowness, quantiles) = (pace.slowness(), pace.quantiles(0));
        let ttft_10 = |wait: f64| wait * slowness * quantiles.q10 + survey.ttft_10;
        let last_10 = ttft_10(self.wait_behind(now, behind.max(ahead)));
        Foreseen { wait, ttft_50: wait * slowness + survey.ttft, ttft_10: ttft_10(wait), last_10 }
    }

    /// Where it is not known what prompts take: an attempt of this cost, with so much before it as
    /// it stands in line, and in all.
    fn foresee_by_cost(&self, now: Time, cost: CostUnits, (ahead, all): (u64, u64)) -> Foreseen {
        let carries = self.strength.carries(now);
        let wait = |ahead: u64| {
            if ahead == 0 && self.has_any_room(now) {
                return 0.0;
            }
            millis_of(carries.time_for(CostUnits(ahead) + cost))
        };
        let service = millis_of(self.strength.service());
        let (wait, last) = (wait(ahead), wait(all));
        let (ttft, last_10) = (wait + service, last + service);
        Foreseen { wait, ttft_50: ttft, ttft_10: ttft, last_10 }
    }

    /// Milliseconds that so much work takes.
    fn wait_behind(&mut self, now: Time, work: u64) -> f64 {
        work as f64 / self.rate_of_all(now).max(f64::MIN_POSITIVE)
    }

    /// Work that goes before one that is about to wait.
    fn goes_before(&self, one: &Waiting) -> u64 {
        match one.lane {
            Lane::Moving => self.queue.ahead_of_moving(one.tier),
            Lane::Normal | Lane::Yielding | Lane::Late => {
                // By tenants only where work is in time: cost units alone promise too much.
                let tenant = self.is_known().then_some(one.tenant);
                self.queue.ahead((one.tier, tenant), one.key)
            }
        }
    }

    /// What a tier gets done in a millisecond, in the units of what waits.
    fn rate(&mut self, now: Time, tier: TierId) -> f64 {
        (self.rate_of_all(now) * self.queue.share(tier)).max(f64::MIN_POSITIVE)
    }

    pub(super) fn give_back(
        &mut self,
        work: Work,
        why: Why,
        after: Duration,
        actions: &mut Vec<Action>,
    ) {
        actions.push(Action::Fact(ScheduleFact::HandedBack { work, why: why.word() }));
        actions.push(Action::HandBack { work, why, after });
    }

    fn refuse(&mut self, one: &Waiting, wait: f64, actions: &mut Vec<Action>) {
        let after = duration(wait.clamp(AGAIN.0, AGAIN.1));
        let (work, tier) = (one.work, one.tier);
        actions.push(Action::Fact(ScheduleFact::Refused { work, tier, after }));
        actions.push(Action::Refuse { work, after });
    }
}

/// When its first token is to be expected, in milliseconds. Of a site workers' part of it is
/// bounded.
fn expected(now: Time, life: &Life, foreseen: &Foreseen) -> f64 {
    let Foreseen { wait, ttft_50, .. } = *foreseen;
    let most = millis_of(life.deadline.since(now)) * SERVICE_MAX;
    life.taken.map_or(ttft_50, |_| ttft_50.min(wait + most))
}

/// That it is in a lane that gets what is left over.
fn tell(one: &Waiting, left: Duration, actions: &mut Vec<Action>) {
    let (work, tier, after) = (one.work, one.tier, left);
    match one.lane {
        Lane::Yielding => {
            actions.push(Action::Fact(ScheduleFact::GivesWay { work, tier, after }));
        }
        Lane::Late => actions.push(Action::Fact(ScheduleFact::Late { work, tier, left })),
        Lane::Moving | Lane::Normal => {}
    }
}

impl Why {
    /// In one word, for facts.
    pub const fn word(self) -> &'static str {
        match self {
            Why::NoWorker => "no_worker",
            Why::Overload => "overload",
            Why::Expired => "expired",
            Why::Failed => "failed",
        }
    }
}
