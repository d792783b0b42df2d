//! A gateway in front of sites of ours: what it may send by credit, what it sends without, and
//! what a site's refusal does and does not do.

mod rig;
mod waits;

use mainstay_core::config::{
    ALL_TIERS, Config, Continuation, Limits, Model, Needs, Site, SiteKind, Target, Tier,
};
use mainstay_core::cost::{CostRate, CostUnits};
use mainstay_core::fact::{CreditFact, Fact, Outcome, Verdict, Why};
use mainstay_core::gateway::joint::Standing;
use mainstay_core::gateway::request::{Ask, Broken, Report as Left, Sent};
use mainstay_core::gateway::{Action, Close, Event, Gateway, Start};
use mainstay_core::message::{Ack, Grant, Offer, Open, PerTier, Reason, Refuse, Report};
use mainstay_core::names::{
    ErrorClass, Failure, ModelId, RequestId, Scope, SiteId, TargetId, TierId,
};
use mainstay_core::time::{Duration, Time};
use rig::{Rig, config};
use std::collections::BTreeMap;

const REPORT: Duration = Duration::from_millis(500);
const ENTERPRISE: u8 = 0;
const FREE: u8 = 2;

fn millis(time: u64) -> Duration {
    Duration::from_millis(time)
}

/// A grant of nothing.
fn no_credit(target: TargetId) -> Grant {
    Grant {
        target,
        epoch: 1,
        nonce: 1,
        rate: Default::default(),
        standby: CostRate::ZERO,
        capacity: CostRate::whole(100),
        ramp: 100,
        offer: Offer::Open,
        ttft: Duration::from_millis(300),
        miss: 100,
        slow: 1,
        elapsed: REPORT,
    }
}

fn rates(enterprise: u64, pro: u64, free: u64) -> PerTier<u64> {
    [enterprise, pro, free, 0, 0, 0, 0, 0]
}

#[test]
fn every_site_gets_a_report_twice_a_second_whatever_happens() {
    let mut rig = Rig::new();
    assert_eq!(rig.reports.len(), 3, "at once");
    let first = rig.reports[&TargetId(1)].nonce;
    rig.pass(Duration::from_secs(10));
    let sent = rig.reports[&TargetId(1)].nonce - first;
    assert!((19..=20).contains(&sent), "{sent}");
    let elapsed = rig.reports[&TargetId(1)].elapsed;
    let since_first = Duration::from_millis(9500)..=Duration::from_secs(10);
    assert!(since_first.contains(&elapsed), "{elapsed:?}");
}

#[test]
fn demand_and_what_is_open_are_reported() {
    let mut rig = Rig::new();
    rig.all_grant(rates(50, 50, 50), 10);
    for session in 0..12 {
        rig.arrive(FREE, session);
    }
    rig.pass(REPORT);
    let sum: u32 = rig.reports.values().map(|report| report.in_flight).sum();
    assert_eq!(sum, 12);
    let wanted: CostRate = rig.reports.values().map(|r| r.demand[usize::from(FREE)]).sum();
    assert!(wanted >= CostRate::whole(12), "{wanted:?} for 12 requests in half a second");
    let total = rig.reports[&TargetId(0)].total[usize::from(FREE)];
    assert!(total > CostRate::ZERO);
}

#[test]
fn without_a_grant_and_after_it_lapsed_attempts_are_unpaid() {
    let mut rig = Rig::new();
    let (_, open) = rig.arrive(ENTERPRISE, 1);
    assert!(!open.credited);
    rig.all_grant(rates(50, 50, 50), 10);
    let (_, open) = rig.arrive(ENTERPRISE, 2);
    assert!(open.credited);
    rig.pass(Duration::from_secs(2));
    let (_, open) = rig.arrive(ENTERPRISE, 3);
    assert!(!open.credited);
    rig.told("the lapse", |fact| matches!(fact, CreditFact::Lapsed { .. }));
    rig.all_grant(rates(50, 50, 50), 10);
    rig.told("its return", |fact| matches!(fact, CreditFact::Regained { .. }));
}

#[test]
fn a_session_stays_at_its_home_while_there_is_credit_and_homes_share_sessions() {
    let mut rig = Rig::new();
    rig.all_grant(rates(5000, 5000, 5000), 50);
    let mut at = [0u32; 3];
    for session in 0..300u64 {
        let (first, _) = rig.arrive(ENTERPRISE, session);
        let (second, _) = rig.arrive(ENTERPRISE, session);
        assert_eq!(first.target, second.target);
        at[usize::from(first.target.0)] += 1;
    }
    assert!((95..=145).contains(&at[0]) && (55..=95).contains(&at[2]), "{at:?}");
}

#[test]
fn a_session_without_credit_at_home_is_tried_there_while_its_home_is_well() {
    let mut rig = Rig::new();
    let (at_home, _) = rig.arrive(FREE, 1);
    for (held, stays) in [(2, true), (0, false)] {
        for _ in 0..20 {
            rig.pass(REPORT);
            for target in 0..3 {
                let own = if TargetId(target) == at_home.target { held } else { 50 };
                rig.grants(target, rates(0, 0, own), 0);
            }
            rig.arrive(FREE, 1);
        }
        // The second of these spends what the first left.
        let [_, next] = [0, 1].map(|_| rig.arrive(FREE, 1));
        let (start, open) = rig.arrive(FREE, 1);
        assert_eq!(start.target == at_home.target, stays, "{next:?}");
        assert_eq!(open.credited, !stays);
        let before = rig.starts.len();
        if stays {
            rig.refuses(&start, Reason::Overloaded, false);
            assert_eq!(rig.starts.len(), before + 1, "it goes to where there is credit");
            assert!(rig.latest().1.credited && rig.latest().0.target != at_home.target);
        }
    }
}

#[test]
fn the_highest_tier_borrows_from_lower_ones_and_the_lowest_only_from_standby() {
    for (tier, rates, standby, is_credited) in [
        (ENTERPRISE, rates(0, 0, 20), 0, true),
        (FREE, rates(20, 20, 0), 0, false),
        (FREE, rates(20, 20, 0), 5, true),
    ] {
        let mut rig = Rig::new();
        rig.all_grant(rates, standby);
        assert_eq!(rig.arrive(tier, 1).1.credited, is_credited);
    }
}

#[test]
fn what_is_spent_never_exceeds_what_was_granted_by_more_than_one_request_a_level() {
    let mut rig = Rig::new();
    rig.pass(REPORT);
    for target in 0..3 {
        rig.grants(target, rates(10, 0, 0), 0);
    }
    let mut paid = 0;
    for session in 0..1000 {
        rig.pass(Duration::from_millis(2));
        let before = rig.starts.len();
        rig.asks(ENTERPRISE, session);
        let new = rig.starts[before..].iter().filter_map(|start| start.open);
        paid += new.filter(|open| open.credited).count();
        if session % 100 == 99 {
            for target in 0..3 {
                rig.grants(target, rates(10, 0, 0), 0);
            }
        }
    }
    // Two seconds of 10 CU/s at three sites.
    assert!((55..=63).contains(&paid), "{paid}");
}

#[test]
fn a_refusal_is_no_strike_and_lowers_what_is_held() {
    let mut rig = Rig::new();
    rig.all_grant(rates(500, 0, 0), 0);
    for session in 0..200 {
        let before = rig.starts.len();
        rig.asks(ENTERPRISE, session);
        for at in before..before + 3 {
            let Some(start) = rig.starts.get(at).cloned() else { break };
            rig.refuses(&start, Reason::Overloaded, true);
        }
        rig.pass(Duration::from_millis(10));
    }
    for target in 0..3 {
        assert_eq!(rig.verdict(target), Verdict::Up);
        let held = &rig.gateway.targets().get(TargetId(target)).held;
        let (rates, _) = held.rates(rig.now).unwrap_or_default();
        assert!(rates < CostRate::whole(500));
    }
    assert!(!rig.facts.iter().any(|fact| matches!(fact, Fact::Health { .. })));
}

#[test]
fn after_a_refusal_for_load_only_a_site_with_credit_is_asked() {
    let mut rig = Rig::new();
    let (start, open) = rig.arrive(FREE, 1);
    assert!(!open.credited);
    rig.refuses(&start, Reason::Overloaded, false);
    assert_eq!(rig.starts.len(), 1, "one unpaid attempt");
    rig.pass(Duration::from_secs(1));
    assert!(matches!(&rig.ends[..], [Close::Error(refusal)] if refusal.status == 503
        && refusal.code == "overloaded" && refusal.retry_after.is_some()));

    let mut rig = Rig::new();
    let (start, _) = rig.arrive(FREE, 1);
    let other = (start.target.0 + 1) % 3;
    rig.grants(other, rates(10, 10, 10), 0);
    rig.pass(Duration::from_millis(100));
    rig.refuses(&start, Reason::TooLate, false);
    let (second, open) = rig.latest();
    assert_eq!((second.target, open.credited), (TargetId(other), true));
}

#[test]
fn where_a_site_refused_nothing_unpaid_of_that_tier_or_below_goes_for_a_moment() {
    let mut rig = Rig::new();
    let (start, _) = rig.arrive(1, 1);
    rig.refuses(&start, Reason::Overloaded, false);
    let (free, _) = rig.arrive(FREE, 1);
    assert_ne!(free.target, start.target);
    let (enterprise, _) = rig.arrive(ENTERPRISE, 1);
    assert_eq!(enterprise.target, start.target, "a higher tier may have room there");
    rig.pass(Duration::from_millis(251));
    assert_eq!(rig.arrive(FREE, 1).0.target, start.target);
}

#[test]
fn a_request_without_room_waits_for_the_next_grant() {
    let mut rig = Rig::new();
    let (start, _) = rig.arrive(FREE, 1);
    rig.refuses(&start, Reason::Overloaded, false);
    assert!(rig.ends.is_empty(), "it waits");
    rig.pass(Duration::from_millis(50));
    let other = (start.target.0 + 1) % 3;
    rig.grants(other, rates(10, 10, 10), 0);
    rig.pass(Duration::from_millis(50));
    assert_eq!(rig.latest().0.target, TargetId(other));
}

#[test]
fn a_request_makes_at_most_three_attempts_and_ends_once() {
    let mut rig = Rig::new();
    rig.all_grant(rates(100, 100, 100), 10);
    rig.asks(ENTERPRISE, 1);
    while rig.ends.is_empty() {
        let last = rig.starts.last().expect("an attempt").clone();
        rig.breaks(&last, 0);
        rig.pass(Duration::from_millis(600));
    }
    assert!(rig.starts.len() <= 3, "{}", rig.starts.len());
    assert_eq!(rig.ends.len(), 1);
}

#[test]
fn an_answer_is_moved_once_and_in_the_highest_tier_twice() {
    for (tier, attempts) in [(ENTERPRISE, 3), (FREE, 2)] {
        let mut rig = Rig::new();
        rig.all_grant(rates(100, 100, 100), 10);
        rig.asks(tier, 1);
        while rig.ends.is_empty() {
            let (last, open) = rig.latest();
            assert_eq!(open.moving, last.attempt.number > 1);
            rig.breaks(&last, 10);
            rig.pass(Duration::from_millis(10));
        }
        assert_eq!(rig.starts.len(), attempts);
    }
}

#[test]
fn a_pairing_that_a_site_disowns_is_dropped_and_the_request_placed_elsewhere() {
    let mut rig = Rig::new();
    rig.all_grant(rates(100, 100, 100), 10);
    let (start, _) = rig.arrive(FREE, 1);
    rig.refuses(&start, Reason::NotMine, false);
    assert_ne!(rig.latest().0.target, start.target);
    rig.told("it", |fact| matches!(fact, CreditFact::PairingDropped { labels: 1, .. }));
    for session in 0..50 {
        assert_ne!(rig.arrive(FREE, session).0.target, start.target);
    }
}

#[test]
fn a_target_without_the_labels_or_closed_to_the_tier_is_not_asked() {
    let mut config = config();
    config.targets[0].labels = 0b10;
    config.targets[1].tiers = 0b001;
    let mut rig = Rig::with(config);
    for session in 0..40 {
        assert_eq!(rig.arrive(FREE, session).0.target, TargetId(2));
        assert_ne!(rig.arrive(ENTERPRISE, session).0.target, TargetId(0));
    }
}

#[test]
fn an_ack_and_beats_set_the_patience_of_an_attempt() {
    let mut rig = Rig::new();
    let (start, _) = rig.arrive(FREE, 1);
    let millis = Duration::from_millis;
    assert!((millis(750)..=millis(2000)).contains(&start.patience.first_token));
    assert!(start.patience.stall >= millis(1500) && start.patience.stall <= millis(2000));
    rig.pass(millis(30));
    let ack = Ack { attempt: start.attempt, queued: false, ttft: millis(300) };
    rig.hear(Event::Ack(ack));
    let srtt = rig.gateway.targets().get(start.target).held.srtt();
    assert_eq!(srtt, millis(30));
}

#[test]
fn when_what_is_held_does_not_suffice_sites_that_failed_are_tried_unpaid() {
    let mut rig = Rig::new();
    rig.all_grant(rates(100, 100, 100), 10);
    rig.fails(0);
    rig.pass(Duration::from_secs(3));
    for session in 0..200 {
        let before = rig.starts.len();
        rig.asks(ENTERPRISE, session);
        for at in before..before + 3 {
            let Some(start) = rig.starts.get(at).cloned() else { break };
            if start.target != TargetId(0) {
                rig.refuses(&start, Reason::Overloaded, false);
            }
        }
        rig.pass(Duration::from_millis(10));
    }
    rig.told("panic", |fact| matches!(fact, CreditFact::PanicBegan { .. }));
    for _ in 0..10 {
        rig.all_grant(rates(100, 100, 100), 10);
    }
    rig.told("its end", |fact| matches!(fact, CreditFact::PanicEnded { .. }));
}

#[test]
fn more_than_is_granted_is_refused_from_the_lowest_tier_and_with_spread_returns() {
    let mut rig = Rig::new();
    let mut shed = [0u32; 3];
    let mut backs = Vec::new();
    for step in 0..400u64 {
        if step % 50 == 0 {
            rig.pass(Duration::from_millis(1));
            for target in 0..3 {
                rig.grants(target, rates(10, 5, 1), 0);
            }
        }
        // 200 requests a second where 48 CU/s are granted: 20 of enterprise, 20 pro, 160 free.
        rig.pass(Duration::from_millis(5));
        let tier = match step % 10 {
            0 => ENTERPRISE,
            1 => 1,
            _ => FREE,
        };
        let before = rig.ends.len();
        rig.asks(tier, step);
        if let Some(Close::Error(refusal)) = rig.ends.get(before) {
            shed[usize::from(tier)] += u32::from(step > 150);
            backs.push(refusal.retry_after.unwrap_or_default());
        }
        if let Some(last) = rig.starts.last().cloned() {
            rig.whole(&last);
        }
    }
    assert_eq!(shed[0], 0, "{shed:?}");
    assert!(shed[2] > 120, "{shed:?}");
    assert!(backs.iter().all(|back| (1..=300).contains(&back.as_secs())));
    assert!(backs.last() > backs.first(), "those sent away later come back later");
    rig.told("it", |fact| matches!(fact, CreditFact::SheddingBegan { tier: TierId(2), .. }));
    rig.pass(Duration::from_secs(4));
    rig.told("its end", |fact| matches!(fact, CreditFact::SheddingEnded { .. }));
}

#[test]
fn a_home_that_is_short_of_credit_gives_sessions_away_and_takes_them_back() {
    let mut rig = Rig::new();
    let mut at_home = Vec::new();
    for second in 0..60u64 {
        let mut count = 0;
        for part in 0..2 {
            let short = if second < 30 { 4 } else { 100 };
            rig.grants(0, rates(short, 0, 0), 0);
            rig.grants(1, rates(100, 0, 0), 0);
            rig.grants(2, rates(100, 0, 0), 0);
            for n in 0..20u64 {
                let (start, _) = rig.arrive(ENTERPRISE, n * 2 + part);
                count += u32::from(start.target == TargetId(0));
                rig.whole(&start);
                rig.pass(Duration::from_millis(25));
            }
        }
        at_home.push(count);
    }
    let (short, wide): (u32, u32) = (at_home[25], at_home[59]);
    assert!(short <= 5 && wide >= 12, "{at_home:?}");
    rig.told("it", |fact| matches!(fact, CreditFact::Spilled { target: TargetId(0), .. }));
}

#[test]
fn what_would_survive_the_loss_of_each_site_is_told_before_one_is_lost() {
    let mut rig = Rig::new();
    for _ in 0..70 {
        rig.all_grant(rates(10, 10, 10), 5);
        let (start, _) = rig.arrive(FREE, 1);
        rig.whole(&start);
    }
    let all = |fact: &CreditFact| match fact {
        CreditFact::Readiness { survives, .. } => survives[usize::from(FREE)] == 100,
        _ => false,
    };
    rig.told("that two of three suffice", all);
    rig.fails(0);
    rig.fails(1);
    rig.facts.clear();
    for _ in 0..70 {
        rig.all_grant(rates(10, 10, 10), 5);
        rig.asks(FREE, 1);
    }
    let nothing = |fact: &CreditFact| match fact {
        CreditFact::Readiness { lost, survives, .. } => {
            *lost == TargetId(2) && survives[usize::from(FREE)] == 0
        }
        _ => false,
    };
    rig.told("that the last one cannot be lost", nothing);
}

#[test]
fn a_move_that_a_site_refused_is_made_elsewhere_within_three_attempts() {
    let mut rig = Rig::new();
    rig.all_grant(rates(10, 10, 10), 5);
    let (first, open) = rig.arrive(FREE, 1);
    assert!(!open.moving);
    rig.breaks(&first, 10);
    let (second, open) = rig.latest();
    assert!(open.moving && open.work.attempt.number == 2);
    rig.refuses(&second, Reason::Overloaded, false);
    let (third, open) = rig.latest();
    assert!(open.moving && open.work.attempt.number == 3);
    assert!(third.target != second.target && third.target != first.target);
    rig.breaks(&third, 20);
    assert_eq!(rig.latest().0.attempt, third.attempt, "no fourth");
    assert!(!rig.ends.is_empty());
}

#[test]
fn a_move_without_credit_is_tried_at_each_other_site() {
    let mut rig = Rig::new();
    let (first, _) = rig.arrive(FREE, 1);
    rig.breaks(&first, 40);
    let (second, open) = rig.latest();
    assert!(open.moving && !open.credited);
    rig.refuses(&second, Reason::Overloaded, false);
    let (third, open) = rig.latest();
    assert!(open.moving && !open.credited);
    let mut targets = vec![first.target, second.target, third.target];
    targets.sort_unstable();
    assert_eq!(targets, [TargetId(0), TargetId(1), TargetId(2)]);
}

#[test]
fn a_move_that_was_let_in_and_handed_back_has_had_its_wait() {
    let mut rig = Rig::new();
    let (first, _) = rig.arrive(FREE, 1);
    rig.breaks(&first, 40);
    let (second, open) = rig.latest();
    assert!(open.moving && !open.credited);
    let ack = Ack { attempt: second.attempt, queued: true, ttft: Duration::from_millis(100) };
    rig.hear(Event::Ack(ack));
    rig.refuses(&second, Reason::TooLate, false);
    assert_eq!(rig.latest().0.attempt, second.attempt, "none without credit");
}

#[test]
fn a_site_whose_clock_runs_off_is_not_trusted_with_credit() {
    let mut rig = Rig::new();
    for _ in 0..130 {
        rig.pass(REPORT);
        let target = TargetId(0);
        let rate = rates(10, 10, 10).map(CostRate::whole);
        let grant = Grant {
            nonce: rig.reports[&target].nonce,
            rate,
            elapsed: rig.now.since(Time::ZERO).mul_f64(1.05),
            ..no_credit(target)
        };
        rig.hear(Event::Grant(grant));
    }
    rig.told("it", |fact| matches!(fact, CreditFact::Drift { is_off: true, .. }));
    assert_eq!(rig.gateway.targets().get(TargetId(0)).held.rates(rig.now), None);
}

#[test]
fn a_grant_for_what_is_not_there_is_ignored() {
    let mut rig = Rig::new();
    rig.hear(Event::Grant(no_credit(TargetId(77))));
    let (start, _) = rig.arrive(FREE, 1);
    rig.whole(&start);
    let is_done = |fact: &Fact| matches!(fact, Fact::Closed { outcome: Outcome::Done, .. });
    assert!(rig.facts.iter().any(is_done));
}

#[test]
fn a_tier_that_got_less_than_it_asked_for_leaves_lower_tiers_what_they_hold() {
    let paid = |granted: u64| {
        let mut rig = Rig::new();
        // More is asked for than the highest tier will be granted, in the first case.
        for session in 0..20 {
            rig.asks(0, session << 58);
            rig.asks(FREE, session << 58);
        }
        rig.pass(REPORT);
        rig.all_grant(rates(granted, 0, 10), 0);
        rig.pass(REPORT / 2);
        let credited = (0..40u64).map(|session| {
            rig.asks(0, session << 58);
            rig.latest().1
        });
        credited.filter(|open| open.tier.0 == 0 && open.credited).count()
    };
    let (short, served) = (paid(2), paid(100));
    println!("paid for: {short} of a tier that is short, {served} of one that is not");
    assert!(short < 10, "{short}");
    assert!(served > 30, "{served}");
}

#[test]
fn sessions_leave_a_home_that_says_it_is_slow_and_come_back_by_and_by() {
    let mut rig = Rig::new();
    let (mut at_home, mut unpaid) = (Vec::new(), 0);
    for second in 0..60u64 {
        let mut count = 0;
        let (slow, ttft) = if second < 30 { (10, 3000) } else { (1, 400) };
        for part in 0..2 {
            rig.says(0, rates(100, 0, 0), (slow, millis(ttft)));
            // By chance there is no credit but where it is slow, now and then.
            let elsewhere = if second % 5 == 0 { 0 } else { 100 };
            rig.grants(1, rates(elsewhere, 0, 0), 0);
            rig.grants(2, rates(elsewhere, 0, 0), 0);
            for n in 0..20u64 {
                let (start, open) = rig.arrive(ENTERPRISE, n * 2 + part);
                count += u32::from(start.target == TargetId(0));
                unpaid += u32::from(!open.credited);
                rig.whole(&start);
                rig.pass(millis(25));
            }
        }
        at_home.push(count);
    }
    assert!(at_home[0] >= 12 && at_home[3..30].iter().all(|count| *count <= 1), "{at_home:?}");
    let back = [32, 36, 59].map(|second| at_home[second]);
    assert!(back[0] < back[1] && back[1] < back[2] && back[2] >= 12, "{at_home:?}");
    assert!(unpaid > 0, "others are tried without credit before the slow one is with it");
    rig.told("that it is slow", |fact| matches!(fact, CreditFact::Slow { is_slow: true, .. }));
    rig.told("its end", |fact| matches!(fact, CreditFact::Slow { is_slow: false, .. }));
}

#[test]
fn a_slow_site_is_used_where_others_refuse() {
    let mut rig = Rig::new();
    for half in 0..10 {
        rig.pass(REPORT);
        rig.says(0, rates(100, 0, 0), (10, millis(3000)));
        let elsewhere = if half < 8 { 100 } else { 0 };
        rig.grants(1, rates(elsewhere, 0, 0), 0);
        rig.grants(2, rates(elsewhere, 0, 0), 0);
    }
    rig.pass(millis(100));
    // What was held before the last grants is spent first.
    let many = (0..300).map(|_| rig.arrive(ENTERPRISE, 1));
    let last = many.last();
    assert!(last.is_some_and(|(first, open)| first.target != TargetId(0) && !open.credited));
    let (first, _) = rig.latest();
    rig.refuses(&first, Reason::Overloaded, false);
    let (next, open) = rig.latest();
    assert!(next.target == TargetId(0) && open.credited, "{next:?}");
}
