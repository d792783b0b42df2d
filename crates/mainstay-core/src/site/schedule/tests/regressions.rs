//! What went wrong in other routers, each with its issue there; see docs/guide/scheduling.md for
//! those that are shown elsewhere.

use super::*;
use alloc::collections::BTreeMap;

/// An attempt whose prompt begins with a block that all share.
fn with_system_prompt(number: u64, prompt: u32) -> Attempt {
    let mut attempt = attempt(number, prompt);
    let own = attempt.keys.iter().skip(1).copied();
    attempt.keys = core::iter::once(77).chain(own).collect();
    attempt
}

fn by_worker(legs: &[(Work, WorkerId)]) -> BTreeMap<u16, usize> {
    let mut by_worker = BTreeMap::new();
    legs.iter().for_each(|(_, worker)| *by_worker.entry(worker.0).or_default() += 1);
    by_worker
}

/// ai-dynamo/dynamo#589.
#[test]
fn a_burst_between_two_reports_does_not_pile_on_one_worker() {
    let mut site = Site::new(Settings::default(), 4);
    for worker in 0..4 {
        let load = Load { running: Some(0), waiting: Some(0), kv_used: None, prefill: Some(0) };
        let event = Event::Load { worker: WorkerId(worker), age: Duration::ZERO, load };
        site.tell(1, event);
    }
    let mut legs = Vec::new();
    for number in 0..8 {
        legs.extend(started(&site.tell(2, Event::Arrived(attempt(number, 1_500)))));
    }
    let by_worker = by_worker(&legs);
    assert_eq!(by_worker.len(), 4, "{by_worker:?}");
    assert!(by_worker.values().all(|legs| *legs <= 2), "{by_worker:?}");
}

/// ai-dynamo/dynamo#737.
#[test]
fn a_system_prompt_that_all_share_attracts_nobody() {
    let mut site = Site::new(Settings::default(), 8);
    let (mut legs, mut now) = (Vec::new(), 1);
    for number in 0..400 {
        now += 40;
        let told = site.tell(now, Event::Arrived(with_system_prompt(number, 3_000)));
        for (work, worker) in started(&told) {
            legs.push((work, worker));
            site.tell(now + 1, Event::FirstToken { work, cached: None });
        }
        if number >= 50 {
            let end = End::Done { output: 100 };
            site.tell(now + 2, Event::LegEnded { work: work(number - 50), end });
        }
    }
    let by_worker = by_worker(&legs);
    let mean = legs.len() as f64 / 8.0;
    assert!(by_worker.values().all(|legs| *legs as f64 <= 1.3 * mean), "{by_worker:?}");
}

/// ai-dynamo/dynamo#13088; vllm-project/router#279; vllm-project/production-stack#420.
#[test]
fn who_is_gone_before_it_answers_gets_no_second_leg_and_nobody_waits_for_it() {
    let mut site = Site::new(Settings::default(), 3);
    let (work, worker) = started(&site.tell(1, Event::Arrived(attempt(1, 2_000))))[0];
    let end = End::Lost { relayed: 0 };
    let told = site.tell(2, Event::LegEnded { work, end });
    assert_ne!(started(&told)[0].1, worker, "the next leg goes elsewhere at once");
    site.tell(3, Event::Verdict { worker, verdict: Verdict::Down });
    for number in 2..12 {
        let told = site.tell(4, Event::Arrived(attempt(number, 2_000)));
        assert!(started(&told).iter().all(|leg| leg.1 != worker));
    }
    // One that says nothing at all is found by its first-token deadline.
    let told = site.tell(60_000, Event::Tick);
    let aborted = |action: &Action| matches!(action, Action::AbortLeg { .. });
    assert!(told.iter().any(aborted));
}

/// ai-dynamo/dynamo#13559, #13565.
#[test]
fn a_worker_that_drains_ends_what_it_has_and_gets_nothing_more() {
    let mut site = Site::new(Settings::default(), 2);
    let (work, worker) = started(&site.tell(1, Event::Arrived(attempt(1, 2_000))))[0];
    site.tell(2, Event::Override { worker, order: Order::Draining });
    site.tell(150, Event::FirstToken { work, cached: Some(0) });
    let mut told = Vec::new();
    for number in 2..20 {
        told.extend(site.tell(number * 400, Event::Arrived(attempt(number, 1_000))));
    }
    assert!(started(&told).iter().all(|leg| leg.1 != worker));
    assert!(
        !told
            .iter()
            .any(|action| matches!(action, Action::AbortLeg { work: of, .. } if *of == work))
    );
    site.tell(9_500, Event::LegEnded { work, end: End::Done { output: 5 } });
    let left = site.scheduler.workers().find(|(id, _)| *id == worker);
    assert_eq!(left.map(|(_, worker)| worker.in_flight()), Some(0), "it is empty now");
}

/// ai-dynamo/dynamo#9688.
#[test]
fn a_worker_that_is_full_is_passed_over_while_others_have_room() {
    let mut site = Site::new(Settings::default(), 2);
    let full = started(&site.tell(1, Event::Arrived(attempt(1, 60_000))))[0].1;
    for number in 2..6 {
        let told = site.tell(number * 300, Event::Arrived(attempt(number, 1_000)));
        let (work, worker) = started(&told)[0];
        assert_ne!(worker, full);
        site.tell(number * 300 + 60, Event::FirstToken { work, cached: Some(0) });
    }
}

/// llm-d/llm-d-router#2853, #1581; vllm-project/aibrix#2287.
#[test]
fn a_worker_that_was_restarted_is_not_believed_to_hold_what_it_held() {
    let mut site = Site::new(Settings::default(), 2);
    let (work, worker) = started(&site.tell(1, Event::Arrived(attempt(7, 20_000))))[0];
    site.tell(900, Event::FirstToken { work, cached: Some(0) });
    site.tell(950, Event::LegEnded { work, end: End::Done { output: 5 } });
    let before = site.scheduler.index_size().1;
    site.tell(1_000, Event::WorkerSeen { worker, profile: H100 });
    site.tell(1_001, Event::Verdict { worker, verdict: Verdict::Up });
    let stored = alloc::vec![7_001, 7_002];
    site.tell(1_002, Event::Kv { worker, incarnation: 1, stored, removed: Vec::new() });
    assert!(site.scheduler.index_size().1 <= before, "events of its former life mean nothing");
    let other = WorkerId(1 - worker.0);
    let mut again = attempt(7, 20_000);
    again.work = super::work(8);
    let load = Load { prefill: Some(200), ..Load::default() };
    site.tell(1_003, Event::Load { worker, age: Duration::ZERO, load });
    let told = site.tell(1_004, Event::Arrived(again));
    assert_eq!(started(&told)[0].1, other, "nothing draws it to the one that has begun anew");
}

/// llm-d/llm-d-router#2066.
#[test]
fn engines_queue_no_more_than_their_credit_however_many_wait() {
    let mut site = Site::new(Settings::default(), 4);
    for number in 0..300 {
        site.tell(1, Event::Arrived(attempt(number, 800)));
    }
    for (_, worker) in site.scheduler.workers() {
        // A chunk and a step: three such prompts, and one more.
        assert!(worker.in_flight() <= 4, "{}", worker.in_flight());
    }
    assert!(site.scheduler.queued() >= 284);
}

/// vllm-project/aibrix#1032.
#[test]
fn one_worker_that_tells_no_load_gets_its_part() {
    let mut site = Site::new(Settings::default(), 3);
    let mut legs = Vec::new();
    for number in 0..90 {
        let now = 1 + number * 50;
        for worker in 0..2 {
            let load = Load { running: Some(1), prefill: Some(0), ..Load::default() };
            let event = Event::Load { worker: WorkerId(worker), age: Duration::ZERO, load };
            site.tell(now, event);
        }
        for leg in started(&site.tell(now, Event::Arrived(attempt(number, 2_000)))) {
            legs.push(leg);
            site.tell(now + 40, Event::FirstToken { work: leg.0, cached: Some(0) });
        }
        if number >= 12 {
            let end = End::Done { output: 20 };
            site.tell(now + 41, Event::LegEnded { work: work(number - 12), end });
        }
    }
    let silent = by_worker(&legs).get(&2).copied().unwrap_or(0);
    assert!((20..=40).contains(&silent), "{silent} of 90");
}

/// NVIDIA/TensorRT-LLM#14882.
#[test]
fn events_that_fall_silent_are_told_within_five_minutes_and_hits_go_on_by_what_was_sent() {
    let mut site = Site::new(Settings::default(), 2);
    let (mut drifted, mut hits) = (None, 0);
    for number in 0..400u64 {
        // Twenty conversations in turn, each longer by two blocks a turn; a second between any two.
        let (now, talk, turn) = (1 + number * 1000, number % 20, number / 20);
        let mut one = attempt(number, 2048 + turn as u32 * 1024);
        one.keys = (0..4 + 2 * turn).map(|block| 1 + talk * 1000 + block).collect();
        let keys = one.keys.clone();
        let told = site.tell(now, Event::Arrived(one));
        let (work, worker) = started(&told)[0];
        let to = site.scheduler.workers.get(&worker).expect("it is there");
        let forecast = to.leg(work).expect("sent").forecast;
        hits += u64::from(number >= 200 && forecast.hit >= 2048 + 1024 * (turn as u32 - 1));
        let cached = Some(forecast.matched);
        let mut told = site.tell(now + 150, Event::FirstToken { work, cached });
        if number < 100 {
            let stored = keys.to_vec();
            let event = Event::Kv { worker, incarnation: 1, stored, removed: Vec::new() };
            told.extend(site.tell(now + 160, event));
        }
        let end = End::Done { output: 20 };
        told.extend(site.tell(now + 500, Event::LegEnded { work, end }));
        let is_drift = |action: &Action| {
            let why = "events of its cache do not come";
            matches!(action, Action::Fact(ScheduleFact::IndexDrift { why: is, .. }) if *is == why)
        };
        if told.iter().any(is_drift) {
            drifted.get_or_insert(number - 100);
        }
    }
    assert!(drifted.is_some_and(|seconds| seconds <= 300), "{drifted:?}");
    assert!(hits >= 190, "{hits} of 200 found the turn before");
    let (_, held) = site.scheduler.index_size();
    assert!(held <= 2 * 2600, "what no event ends is bounded by what fits there: {held}");
}

/// sgl-project/sglang#14305, #14532: a miss goes to the smallest tree of the router's own, that of
/// a worker which has begun late, while the others idle behind large ones.
#[test]
fn a_miss_goes_by_load_and_by_the_smallest_tree_all_would_go_to_one() {
    let most = |policy: Policy| {
        let mut site = Site::new(Settings { policy, ..Settings::default() }, 3);
        let mut begun = Vec::new();
        // Three long conversations; a fourth worker comes later.
        for number in 0..9u64 {
            let mut one = attempt(number % 3, 60_000);
            one.work = work(number);
            for leg in started(&site.tell(1 + 4_000 * number, Event::Arrived(one))) {
                let (work, cached) = (leg.0, Some(0));
                site.tell(3_500 + 4_000 * number, Event::FirstToken { work, cached });
                let end = End::Done { output: 20 };
                site.tell(3_600 + 4_000 * number, Event::LegEnded { work, end });
            }
        }
        site.tell(40_000, Event::WorkerSeen { worker: WorkerId(3), profile: H100 });
        for number in 100..116 {
            begun.extend(started(&site.tell(40_001, Event::Arrived(attempt(number, 2_000)))));
        }
        let by_worker = by_worker(&begun);
        by_worker.values().copied().max().unwrap_or(0)
    };
    let own_tree = Policy::OnArrival(Baseline::CacheAware { smallest_tree: true });
    let by_load = Policy::OnArrival(Baseline::CacheAware { smallest_tree: false });
    assert_eq!(most(own_tree), 16, "all to the one that has least in its tree");
    assert_eq!(most(by_load), 4);
    assert!(most(Policy::Late) <= 4);
}

/// With one worker left, an attempt that it lost must not keep it from all others.
#[test]
fn whom_the_last_worker_has_lost_does_not_stand_in_the_way_of_others() {
    let mut site = Site::new(Settings::default(), 1);
    for number in 0..60 {
        site.tell(1 + number, Event::Arrived(attempt(number, 12_000)));
    }
    // Nothing answers; each is given up when its first token is overdue, and another is tried.
    let mut sent = 0;
    for second in 1..40 {
        sent += started(&site.tell(second * 1000, Event::Tick)).len();
    }
    assert!(sent >= 7, "{sent}");
}

/// llm-d/llm-d-router#1735, for those who wait already: that nobody is left is not overload.
#[test]
fn who_waits_when_the_last_worker_goes_is_told_that_none_is_there() {
    let settings = Settings { tiers: impatient().tiers, ..Settings::default() };
    let mut site = Site::new(settings, 1);
    for number in 0..6 {
        site.tell(1 + number, Event::Arrived(attempt(number, 12_000)));
    }
    site.tell(10, Event::Verdict { worker: WorkerId(0), verdict: Verdict::Down });
    let mut told = Vec::new();
    for second in 1..30 {
        told.extend(site.tell(second * 1000, Event::Tick));
    }
    let none = |action: &Action| matches!(action, Action::HandBack { why: Why::NoWorker, .. });
    assert_eq!(told.iter().filter(|action| none(action)).count(), 6, "{told:?}");
}
