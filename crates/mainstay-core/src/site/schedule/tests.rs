//! The scheduler by events and what follows from them.

mod pairs;
mod preempts;
mod queue;
mod regressions;

use super::baseline::Baseline;
use super::profile::H100;
use super::settings::{Policy, TierSettings};
use super::*;
use crate::names::{AttemptId, GatewayId, RequestId};
use crate::rng::Rng;

fn at(millis: u64) -> Time {
    Time::from_micros(millis * 1000)
}

fn work(number: u64) -> Work {
    Work { from: GatewayId(0), attempt: AttemptId { request: RequestId(number), number: 1 } }
}

fn attempt(number: u64, prompt: u32) -> Attempt {
    Attempt {
        work: work(number),
        tier: TierId(0),
        tenant: (number % 5) as u32,
        prompt,
        keys: (0..u64::from(prompt / 512)).map(|block| number * 1000 + block + 1).collect(),
        limit: 1000,
        expires: Duration::from_secs(60),
        elsewhere: false,
    }
}

struct Site {
    scheduler: Scheduler,
    watch: check::Watch,
    actions: Vec<Action>,
}

impl Site {
    fn new(settings: Settings, workers: u16) -> Site {
        let watch = check::Watch::new(settings.clone());
        let mut site = Site { scheduler: Scheduler::new(settings), watch, actions: Vec::new() };
        for worker in 0..workers {
            site.tell(0, Event::WorkerSeen { worker: WorkerId(worker), profile: H100 });
        }
        site
    }

    /// What follows.
    fn tell(&mut self, millis: u64, event: Event) -> Vec<Action> {
        self.scheduler.handle(at(millis), event.clone(), &mut self.actions);
        self.scheduler.check(at(millis)).unwrap();
        self.watch.check((at(millis), event), &self.actions, &self.scheduler).unwrap();
        core::mem::take(&mut self.actions)
    }
}

fn started(actions: &[Action]) -> Vec<(Work, WorkerId)> {
    let start = |action: &Action| match action {
        Action::StartLeg { work, worker, .. } => Some((*work, *worker)),
        _ => None,
    };
    actions.iter().filter_map(start).collect()
}

fn impatient() -> Settings {
    let tier = TierSettings { patience: Duration::ZERO, ..TierSettings::default() };
    Settings { tiers: alloc::vec![tier], ..Settings::default() }
}

#[test]
fn a_worker_is_sent_no_more_than_its_credit_and_one_request() {
    let mut site = Site::new(Settings::default(), 1);
    for number in 0..20 {
        site.tell(1, Event::Arrived(attempt(number, 6_000)));
    }
    assert_eq!(site.scheduler.queued(), 19, "one of 300 ms fills the credit");
    site.tell(320, Event::FirstToken { work: work(0), cached: Some(0) });
    assert_eq!(site.scheduler.queued(), 18);
}

#[test]
fn a_prompt_goes_where_its_prefix_is() {
    let mut site = Site::new(Settings::default(), 3);
    let first = started(&site.tell(1, Event::Arrived(attempt(7, 8_000))));
    site.tell(500, Event::FirstToken { work: work(7), cached: Some(0) });
    site.tell(900, Event::LegEnded { work: work(7), end: End::Done { output: 9 } });
    let mut again = attempt(7, 9_000);
    again.work = work(8);
    let second = started(&site.tell(1000, Event::Arrived(again)));
    assert_eq!(first[0].1, second[0].1);
}

#[test]
fn without_a_worker_an_attempt_goes_back_at_once() {
    let mut site = Site::new(Settings::default(), 0);
    let told = site.tell(1, Event::Arrived(attempt(1, 100)));
    let fact = ScheduleFact::HandedBack { work: work(1), why: "no_worker" };
    assert_eq!(told[0], Action::Fact(fact));
    assert!(matches!(told[1], Action::HandBack { why: Why::NoWorker, .. }));
}

#[test]
fn what_cannot_be_in_time_waits_in_the_late_lane_or_is_refused() {
    for (settings, is_refused) in [(Settings::default(), false), (impatient(), true)] {
        let mut site = Site::new(settings, 1);
        let mut told = Vec::new();
        for number in 0..60 {
            told.extend(site.tell(1 + number, Event::Arrived(attempt(number, 12_000))));
        }
        for second in 1..30 {
            told.extend(site.tell(second * 1000, Event::Tick));
        }
        let late = |action: &Action| {
            use ScheduleFact::{GivesWay, Late};
            matches!(action, Action::Fact(GivesWay { .. } | Late { .. }))
        };
        let no = |action: &Action| matches!(action, Action::Fact(ScheduleFact::Refused { .. }));
        // Those who have no patience are told at once, and nobody has to give way.
        assert_eq!((told.iter().any(late), told.iter().any(no)), (!is_refused, is_refused));
    }
}

#[test]
fn a_broken_answer_moves_and_a_worker_that_returns_begins_anew() {
    let mut site = Site::new(Settings::default(), 2);
    let first = started(&site.tell(1, Event::Arrived(attempt(1, 4_000))))[0].1;
    site.tell(300, Event::FirstToken { work: work(1), cached: Some(0) });
    let end = End::Lost { relayed: 12 };
    let told = site.tell(400, Event::LegEnded { work: work(1), end });
    let moved = ScheduleFact::Moved { work: work(1), from: first, relayed: 12 };
    assert!(told.contains(&Action::Fact(moved)));
    assert_ne!(started(&told)[0].1, first, "who lost it does not get it again");
    let other = started(&told)[0].1;
    site.tell(420, Event::FirstToken { work: work(1), cached: Some(0) });
    site.tell(450, Event::Progress { work: work(1), tokens: 40 });
    let told = site.tell(500, Event::WorkerSeen { worker: other, profile: H100 });
    let moved = ScheduleFact::Moved { work: work(1), from: other, relayed: 40 };
    assert!(told.contains(&Action::Fact(moved)), "nothing is told again: {told:?}");
    let fact = ScheduleFact::Incarnation { worker: other, incarnation: 2 };
    assert!(told.contains(&Action::Fact(fact)));
    let told = site.tell(600, Event::Verdict { worker: first, verdict: Verdict::Down });
    let fact = ScheduleFact::WorkerVerdict { worker: first, is_used: false };
    assert!(told.contains(&Action::Fact(fact)));
}

#[test]
fn dispatch_needs_no_report() {
    let mut site = Site::new(Settings::default(), 2);
    for number in 0..8 {
        let told = site.tell(number * 500, Event::Arrived(attempt(number, 2_000)));
        assert_eq!(started(&told).len(), 1);
        let first = Event::FirstToken { work: work(number), cached: None };
        site.tell(number * 500 + 120, first);
    }
}

/// Whatever happens in whatever order, every attempt is in one place, counters are sums, and no
/// worker holds too much: `Site::tell` checks after every event.
#[test]
fn invariants_hold_under_any_events() {
    let baseline = Policy::OnArrival(Baseline::Lmetric { refuse: None });
    for (seed, policy) in [(1, Policy::Late), (2, Policy::Late), (3, baseline)] {
        let mut rng = Rng::new(seed);
        let mut site = Site::new(Settings { policy, ..Settings::default() }, 4);
        let mut legs: Vec<(Work, bool)> = Vec::new();
        let (mut now, mut ended) = (1, 0);
        for number in 0..1_500 {
            now += rng.below(60);
            let pick = rng.below(legs.len().max(1) as u64) as usize;
            let event = match (rng.below(20), legs.get(pick).copied()) {
                (0..=7, _) | (_, None) => {
                    Event::Arrived(attempt(number, 1 + rng.below(20_000) as u32))
                }
                (8..=12, Some((work, _))) => Event::FirstToken { work, cached: Some(0) },
                (13..=16, Some((work, true))) => {
                    Event::LegEnded { work, end: End::Done { output: 50 } }
                }
                (17, Some((work, _))) => Event::LegEnded { work, end: End::Lost { relayed: 3 } },
                (18, Some((work, _))) => Event::Cancelled(work),
                (19, _) if rng.below(8) == 0 => {
                    let worker = WorkerId(rng.below(4) as u16);
                    Event::WorkerSeen { worker, profile: H100 }
                }
                _ => Event::Tick,
            };
            if let Event::FirstToken { work, .. } = event {
                legs.iter_mut().filter(|leg| leg.0 == work).for_each(|leg| leg.1 = true);
            }
            if let Event::LegEnded { work, .. } | Event::Cancelled(work) = event {
                legs.retain(|leg| leg.0 != work);
                ended += 1;
            }
            for action in site.tell(now, event) {
                match action {
                    Action::StartLeg { work, .. } => legs.push((work, false)),
                    Action::AbortLeg { work, .. } => legs.retain(|leg| leg.0 != work),
                    Action::HandBack { .. } | Action::Refuse { .. } => {}
                    Action::Shed(_) | Action::Fact(_) => {}
                }
            }
        }
        assert!(ended > 100, "seed {seed}: {ended}");
    }
}
