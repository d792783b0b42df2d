//! Who gives way at a worker, and who does not. `Site::tell` asks after every event that it was a
//! lower tier that promises nothing, before its first token, once, and one in twenty dispatches.

use super::*;

const HIGH: TierId = TierId(0);
const LOW: TierId = TierId(1);

/// A tier that is promised something, and one that lives on what it leaves.
fn two_tiers(preemptible: bool) -> Settings {
    let high = TierSettings { weight: 16.0, ..TierSettings::default() };
    let ttft_base = Duration::from_secs(600);
    let low = TierSettings { ttft_base, preemptible, ..TierSettings::default() };
    Settings { tiers: alloc::vec![high, low], ..Settings::default() }
}

fn of(tier: TierId, number: u64, prompt: u32) -> Attempt {
    let expires = Duration::from_secs(900);
    Attempt { tier, expires, ..attempt(number, prompt) }
}

/// So many short answers of the low tier, one after another; the millisecond after the last.
fn serve(site: &mut Site, from: u64, count: u64) -> u64 {
    for number in 0..count {
        let millis = from + number * 100;
        let work = work(10_000 + from + number);
        let low = Attempt { work, ..of(LOW, 10_000 + from + number, 600) };
        assert_eq!(started(&site.tell(millis, Event::Arrived(low))).len(), 1);
        site.tell(millis + 40, Event::FirstToken { work, cached: Some(0) });
        site.tell(millis + 60, Event::LegEnded { work, end: End::Done { output: 2 } });
    }
    from + count * 100
}

fn preempted(actions: &[Action]) -> Vec<(Work, Work)> {
    let gave_way = |action: &Action| match action {
        Action::Fact(ScheduleFact::Preempted { work, by, .. }) => Some((*work, *by)),
        _ => None,
    };
    actions.iter().filter_map(gave_way).collect()
}

#[test]
fn who_would_be_late_behind_a_long_prompt_of_a_lower_tier_has_its_place() {
    for preemptible in [true, false] {
        let mut site = Site::new(two_tiers(preemptible), 1);
        let now = serve(&mut site, 1, 60);
        let long = of(LOW, 1, 60_000);
        assert_eq!(started(&site.tell(now, Event::Arrived(long))).len(), 1);
        let told = site.tell(now + 200, Event::Arrived(of(HIGH, 2, 1_000)));
        let is_sent = started(&told).first() == Some(&(work(2), WorkerId(0)));
        assert_eq!(
            is_sent, preemptible,
            "four seconds of another's prompt are before it: {told:?}"
        );
        if !preemptible {
            continue;
        }
        assert_eq!(preempted(&told), [(work(1), work(2))]);
        let abort = Action::AbortLeg { work: work(1), worker: WorkerId(0) };
        let start = told.iter().position(|it| matches!(it, Action::StartLeg { .. }));
        assert!(told.iter().position(|it| *it == abort) < start, "{told:?}");
        // There is room behind a short prompt: it is next, and nobody has failed it.
        assert_eq!(started(&told)[1], (work(1), WorkerId(0)));
        assert_eq!(site.scheduler.lives.get(&work(1)).map(|life| life.failed), Some(0));
        site.tell(now + 320, Event::FirstToken { work: work(2), cached: Some(0) });
        // Not a second time.
        let told = site.tell(now + 400, Event::Arrived(of(HIGH, 3, 1_000)));
        assert!(preempted(&told).is_empty());
    }
}

#[test]
fn who_is_in_time_without_it_takes_nothing_from_anybody() {
    let mut site = Site::new(two_tiers(true), 2);
    let now = serve(&mut site, 1, 40);
    // One worker is busy for long; the other for half a second.
    site.tell(now, Event::Arrived(of(LOW, 1, 60_000)));
    site.tell(now + 1, Event::Arrived(of(LOW, 2, 10_000)));
    let told = site.tell(now + 2, Event::Arrived(of(HIGH, 3, 1_000)));
    assert!(preempted(&told).is_empty() && started(&told).is_empty(), "{told:?}");
}

#[test]
fn an_answer_that_has_begun_stays_and_so_does_a_tier_that_is_promised_something() {
    let mut site = Site::new(two_tiers(true), 1);
    let now = serve(&mut site, 1, 40);
    site.tell(now, Event::Arrived(of(HIGH, 1, 60_000)));
    let told = site.tell(now + 100, Event::Arrived(of(HIGH, 2, 1_000)));
    assert!(preempted(&told).is_empty(), "its own tier's");
    site.tell(now + 3_500, Event::FirstToken { work: work(1), cached: Some(0) });
    site.tell(now + 4_000, Event::LegEnded { work: work(1), end: End::Done { output: 2 } });
}

#[test]
fn of_several_the_newest_gives_way_and_no_more_than_one_in_twenty() {
    let mut site = Site::new(two_tiers(true), 3);
    // What is earned is kept for a burst, and no more than that.
    let now = serve(&mut site, 1, 400);
    for number in 0..3 {
        site.tell(now + number * 10, Event::Arrived(of(LOW, number, 60_000)));
    }
    let told = site.tell(now + 300, Event::Arrived(of(HIGH, 10, 1_000)));
    assert_eq!(preempted(&told), [(work(2), work(10))]);
    let mut site = Site::new(two_tiers(true), 3);
    let now = serve(&mut site, 1, 17);
    for number in 0..3 {
        site.tell(now + number * 10, Event::Arrived(of(LOW, number, 60_000)));
    }
    let mut told = Vec::new();
    for number in 10..14 {
        told.extend(site.tell(now + 300, Event::Arrived(of(HIGH, number, 1_000))));
    }
    assert_eq!(preempted(&told).len(), 1, "twenty dispatches are one");
}

/// The correction of a worker's times hears nothing of it: not of the leg that gave way, nor of the
/// one that its attempt has later, nor of whoever was behind it in line.
#[test]
fn what_gave_way_says_nothing_of_its_worker() {
    let pace = |site: &Site| {
        let worker = site.scheduler.workers.get(&WorkerId(0)).expect("it is there");
        worker.pace
    };
    let mut site = Site::new(two_tiers(true), 1);
    let now = serve(&mut site, 1, 40);
    site.tell(now, Event::Arrived(of(LOW, 1, 60_000)));
    let before = pace(&site);
    let told = site.tell(now + 200, Event::Arrived(of(HIGH, 2, 1_000)));
    assert_eq!(preempted(&told).len(), 1);
    assert_eq!(pace(&site), before);
    site.tell(now + 300, Event::Cancelled(work(2)));
    // Three times as slow as foreseen.
    site.tell(now + 12_000, Event::FirstToken { work: work(1), cached: Some(0) });
    assert_eq!(pace(&site), before);
    let worker = site.scheduler.workers.get(&WorkerId(0)).expect("it is there");
    assert_eq!((worker.verdict, worker.in_flight()), (Verdict::Up, 1));
}

/// Whatever happens in whatever order.
#[test]
fn the_bounds_hold_under_any_events() {
    let is_low = |work: Work| work.attempt.request.0 % 6 == 5;
    let mut gave_way = 0;
    for seed in 0..6 {
        let mut rng = Rng::new(seed);
        let mut settings = two_tiers(true);
        settings.tiers.insert(0, TierSettings { weight: 64.0, ..TierSettings::default() });
        // Late ones would keep their tiers' turns, and batch would seldom be sent.
        settings.tiers[..2].iter_mut().for_each(|tier| tier.patience = Duration::ZERO);
        let mut site = Site::new(settings, 1 + (seed % 2) as u16);
        let mut legs: Vec<(Work, bool)> = Vec::new();
        let mut now = 1;
        for number in 0..1_500 {
            now += rng.below(400);
            let pick = rng.below(legs.len().max(1) as u64) as usize;
            let event = match (rng.below(20), legs.get(pick).copied()) {
                (0..=7, _) | (_, None) => {
                    let tier = TierId([0, 0, 1, 1, 1, 2][(number % 6) as usize]);
                    let (least, most) = if tier.0 == 2 { (30_000, 90_000) } else { (1, 3_000) };
                    Event::Arrived(of(tier, number, least + rng.below(most) as u32))
                }
                (8..=12, Some((work, _))) if !is_low(work) || rng.below(20) == 0 => {
                    Event::FirstToken { work, cached: Some(0) }
                }
                (13..=16, Some((work, true))) => {
                    Event::LegEnded { work, end: End::Done { output: 50 } }
                }
                (17, Some((work, _))) => Event::LegEnded { work, end: End::Lost { relayed: 0 } },
                (18, Some((work, _))) => Event::Cancelled(work),
                (19, _) if rng.below(8) == 0 => {
                    Event::WorkerSeen { worker: WorkerId(rng.below(2) as u16), profile: H100 }
                }
                _ => Event::Tick,
            };
            if let Event::FirstToken { work, .. } = event {
                legs.iter_mut().filter(|leg| leg.0 == work).for_each(|leg| leg.1 = true);
            }
            if let Event::LegEnded { work, .. } | Event::Cancelled(work) = event {
                legs.retain(|leg| leg.0 != work);
            }
            let told = site.tell(now, event);
            gave_way += preempted(&told).len();
            for action in told {
                match action {
                    Action::StartLeg { work, .. } => legs.push((work, false)),
                    Action::AbortLeg { work, .. } => legs.retain(|leg| leg.0 != work),
                    _ => {}
                }
            }
        }
    }
    assert!(gave_way >= 20, "{gave_way}");
}
