//! Whether an attempt is taken in, and into which lane: by a forecast of its first token for when
//! its work would begin, never by the load of the moment, which makes prefill and decode swing in
//! turn (Mooncake, FAST '25).

use super::queue::{Lane, Waiting};
use super::settings::Policy;
use super::timers::Timer;
use super::worker::{Order, Verdict};
use super::{Action, Asked, Attempt, Life, Place, Scheduler, Why};
use crate::fact::ScheduleFact;
use crate::names::{TierId, Work};
use crate::site::schedule::profile::{duration, millis};
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// Shortest and longest time after which a refused attempt may come again.
const AGAIN: (f64, f64) = (1_000.0, 120_000.0);
/// Waits shorter than this, in milliseconds, teach nothing about the queue.
const WAIT_TOLD: f64 = 200.0;

/// What is foreseen for an attempt, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Foreseen {
    /// Work before it, by the workers' pace.
    wait: f64,
    /// First token: optimistic, and likely.
    ttft_10: f64,
    ttft_50: f64,
}

impl Scheduler {
    pub(super) fn arrived(&mut self, now: Time, attempt: Attempt, actions: &mut Vec<Action>) {
        let work = attempt.work;
        if self.lives.get(&work).is_some() {
            return;
        }
        let usable = |verdict| matches!(verdict, Verdict::Up | Verdict::Probation);
        let reference = self.workers.values().find(|worker| usable(worker.verdict));
        let Some(reference) = reference.map(|worker| worker.profile) else {
            return self.give_back(work, Why::NoWorker, Duration::ZERO, actions);
        };
        let tier = &self.settings.tiers[usize::from(attempt.tier.0)];
        let unloaded = duration(reference.unloaded(attempt.prompt));
        let promise = tier.ttft_base + unloaded.mul_f64(tier.ttft_factor);
        let (output, _) = self.lengths.expected(attempt.limit);
        let life = Life {
            asked: Asked { prompt: attempt.prompt, output },
            arrived: now,
            deadline: now + promise,
            expires: now + attempt.expires,
            place: Place::Queued,
            relayed: 0,
            failed: 0,
            barred: Vec::new(),
            held: None,
            expected_wait: 0.0,
            charged: 0,
            attempt,
        };
        match self.settings.policy {
            Policy::OnArrival(baseline) => self.on_arrival(now, life, baseline, actions),
            Policy::Late => self.admit(now, life, actions),
        }
    }

    fn admit(&mut self, now: Time, mut life: Life, actions: &mut Vec<Action>) {
        let (work, tier_id) = (life.attempt.work, life.attempt.tier);
        let tier = &self.settings.tiers[usize::from(tier_id.0)];
        let (patience, deadline) = (tier.patience, life.deadline);
        let mut one = self.waiting(&life);
        let foreseen = self.foresee(now, &life, &one);
        let at = |ttft: f64| now + duration(ttft);
        if at(foreseen.ttft_50) > deadline {
            if life.attempt.elsewhere {
                let after = duration(foreseen.wait);
                return self.give_back(work, Why::Overload, after, actions);
            }
            // Optimistic, so that few are refused who could have been served.
            if at(foreseen.ttft_10) > deadline + patience {
                return self.refuse(&one, foreseen.wait, actions);
            }
        }
        if patience > Duration::ZERO && at(foreseen.ttft_50) > deadline {
            one.lane = Lane::Late;
            let after = duration(foreseen.ttft_50);
            actions.push(Action::Fact(ScheduleFact::Late { work, tier: tier_id, after }));
        } else {
            life.expected_wait = foreseen.wait;
            self.watch_start(now, &life);
        }
        self.timers.set(life.expires, Timer::Expires(work));
        self.lives.insert(work, life);
        self.queue.put(one);
    }

    /// How an attempt stands in the queue.
    pub(super) fn waiting(&mut self, life: &Life) -> Waiting {
        let attempt = &life.attempt;
        let (best, reference) = self.best_match(life);
        let (uncached, cached) = life.asked.uncached(best);
        let cost = reference.work((uncached, cached), life.asked.prompt, life.asked.output);
        let promise = life.deadline.since(life.arrived);
        Waiting {
            work: attempt.work,
            tier: attempt.tier,
            tenant: attempt.tenant,
            arrived: life.arrived,
            key: life.arrived + promise.mul_f64(1.0 / (1.0 + self.settings.aging)),
            cost: cost.max(1),
            lane: if life.relayed > 0 { Lane::Moving } else { Lane::Normal },
        }
    }

    /// A timer for when its first token can no longer be in time.
    pub(super) fn watch_start(&mut self, now: Time, life: &Life) {
        let start = self.latest_start(now, life);
        self.timers.set(start.max(now), Timer::LatestStart(life.attempt.work));
    }

    /// A queued attempt's latest start may have passed: it goes to the late lane, or is refused.
    pub(super) fn became_late(&mut self, now: Time, work: Work, actions: &mut Vec<Action>) {
        let Some(mut one) = self.queue.get(work).copied() else { return };
        let Some(life) = self.lives.get(&work) else { return };
        if one.lane != Lane::Normal {
            return;
        }
        let start = self.latest_start(now, life);
        if start > now {
            // Its prefix came to be held somewhere.
            self.timers.set(start, Timer::LatestStart(work));
            return;
        }
        let after = life.deadline.since(now);
        let Some(life) = self.lives.get(&work) else { return };
        let patience = self.settings.tiers[usize::from(one.tier.0)].patience;
        self.queue.take(work);
        if life.attempt.elsewhere {
            self.lives.remove(&work);
            return self.give_back(work, Why::Overload, Duration::ZERO, actions);
        }
        if patience == Duration::ZERO {
            self.lives.remove(&work);
            let wait = millis(self.queue.before(one.tier, one.key)) / self.rate(one.tier);
            return self.refuse(&one, wait, actions);
        }
        actions.push(Action::Fact(ScheduleFact::Late { work, tier: one.tier, after }));
        one.lane = Lane::Late;
        self.queue.put(one);
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

    fn foresee(&mut self, now: Time, life: &Life, one: &Waiting) -> Foreseen {
        let wait = millis(self.queue.before(one.tier, one.key)) / self.rate(one.tier);
        let pace = self.waits[usize::from(one.tier.0)];
        let (likely, quantiles) = (wait * pace.slowness(), pace.quantiles(0));
        let (ttft, optimistic) = self.least_ttft(now, life);
        Foreseen {
            wait,
            ttft_10: likely * quantiles.q10 + optimistic,
            ttft_50: likely + ttft,
        }
    }

    /// Milliseconds of a reference worker that a tier gets in a millisecond.
    fn rate(&self, tier: TierId) -> f64 {
        let usable = self.workers.values().filter(|worker| {
            worker.order == Order::Active && worker.verdict == Verdict::Up
        });
        let rate: f64 = usable.map(|worker| 1.0 / worker.pace.slowness()).sum();
        (rate * self.queue.share(tier)).max(f64::MIN_POSITIVE)
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
