//! Faults of capacity: limits by rate, by growth and by concurrency.

use crate::play::{at, broken, failure, moves, ms, play, play_few, primary, secs};
use mainstay_core::names::ErrorClass;
use mainstay_core::time::Time;
use mainstay_sim::load::Load;
use mainstay_sim::setup::{Arrangement, Setup, WEIGHTS};
use mainstay_sim::upstream::{Does, Upstream, When};
use mainstay_sim::world::{Ended, Outcome};
use std::time::Duration;

/// Attempts at an upstream within a time: let in, and refused.
fn answers(upstream: &Upstream, from: Time, until: Time) -> (usize, usize) {
    let seen = upstream.seen.iter().filter(|seen| seen.at >= from && seen.at < until);
    seen.fold((0, 0), |(yes, no), seen| {
        (yes + usize::from(seen.let_in), no + usize::from(!seen.let_in))
    })
}

fn arrived(out: &Outcome, from: u64, until: u64) -> impl Iterator<Item = &Ended> {
    let within = move |e: &&Ended| e.arrived >= at(secs(from)) && e.arrived < at(secs(until));
    out.ended.iter().filter(within)
}

#[test]
fn f25_an_undated_throttle_keeps_what_is_still_served() {
    let throttle = Does::Refuses(failure(ErrorClass::ThrottleAccount, None));
    let primary = primary().tokens(8, ms(30)).rule(&[When::PerSecond(30)], throttle);
    let mut setup = Setup::new(Arrangement::Equal, primary).load(Load::rate(100.0, secs(60)));
    setup.upstreams[1] = Upstream::new(WEIGHTS[0]).tokens(8, ms(30));
    play(&setup, |out| {
        let (let_in, refused) = answers(&out.upstreams[0], at(secs(2)), at(secs(60)));
        let share = let_in as f64 / 58.0;
        println!("share {share:.1}/s, {refused} of {} refused", let_in + refused);
        assert!(refused * 10 <= let_in + refused, "{refused} of {}", let_in + refused);
        assert!((25.0..=30.0).contains(&share), "{share} a second");
        assert_eq!(broken(out), Vec::<String>::new());
        assert_eq!(moves(out, 0) + moves(out, 1), 0);
        let slow = out.ended.iter().map(|ended| ended.took()).max();
        assert!(slow <= Some(ms(440)), "{slow:?}");
    });
}

#[test]
fn f27_growth_that_is_refused_is_asked_for_slowly() {
    let burst = Does::Refuses(failure(ErrorClass::ThrottleBurst, None));
    let dies =
        primary().tokens(8, ms(30)).rule(&[When::Within(secs(60), secs(900))], Does::Unreachable);
    let mut setup = Setup::new(Arrangement::Equal, dies)
        .load(Load::rate(8.0, secs(180)))
        .load(Load::rate(12.0, secs(180)).tier(1))
        .load(Load::rate(30.0, secs(180)).tier(2));
    // The primary carries a little over half of the load, the rest spills over.
    setup.config.sites[0].capacity = Some(11);
    let from = When::Within(secs(50), secs(900));
    setup.upstreams[1] = Upstream::new(WEIGHTS[0])
        .tokens(8, ms(30))
        .rule(&[from, When::Growth { times: 1.5, free: 100 }], burst);
    play_few(&setup, |out| {
        let second = &out.upstreams[1];
        let tens: Vec<_> =
            (3..18).map(|n| answers(second, at(secs(n * 10)), at(secs(n * 10 + 10)))).collect();
        println!("let in and refused by ten seconds: {tens:?}");
        for tier in 0..3 {
            let of = || arrived(out, 60, 180).filter(|ended| ended.tier == tier);
            println!(
                "tier {tier}: {} of {} whole",
                of().filter(|e| e.is_whole()).count(),
                of().count()
            );
        }
        let (yes, no) = answers(second, at(secs(60)), at(secs(180)));
        assert!(no as f64 <= 0.02 * (yes + no) as f64, "{no} of {} refused", yes + no);
        let (full, _) = answers(second, at(secs(120)), at(secs(130)));
        assert!(full >= 450, "full share after a minute: {full} in ten seconds");
        // Growth after the ten seconds in which it was first refused.
        for pair in tens[3..12].windows(2) {
            assert!(pair[1].0 as f64 <= 1.45 * pair[0].0 as f64, "{tens:?}");
        }
        // Whom the site itself refuses has nowhere else to go; nobody else of the top tier fails.
        let top: Vec<_> =
            arrived(out, 50, 180).filter(|ended| ended.tier == 0 && !ended.is_whole()).collect();
        assert!(top.iter().all(|ended| !ended.tried.is_empty()));
        let all = arrived(out, 50, 180).filter(|ended| ended.tier == 0).count();
        assert!(top.len() as f64 <= 0.02 * all as f64);

        let refusals = out.ended.iter().filter(|ended| ended.status().is_some());
        let slow = refusals.clone().filter(|ended| ended.took() > ms(100)).count();
        println!("{} refused, {slow} of them late", refusals.clone().count());
        assert!(refusals.clone().all(|ended| ended.status() == Some(503)));
        assert!(slow * 10 <= refusals.count());
        assert_eq!(moves(out, 1), 0);
    });
}

/// What a tier got of what it asked, in a time.
fn served(out: &Outcome, tier: u8, from: u64, until: u64) -> (usize, usize) {
    let of = || arrived(out, from, until).filter(|ended| ended.tier == tier);
    (of().filter(|ended| ended.is_whole()).count(), of().count())
}

#[test]
fn f52_a_brown_out_of_two_is_no_stampede() {
    let browned = || [When::Within(secs(60), secs(120))];
    let full = || Does::Refuses(failure(ErrorClass::Overload, None));
    let upstream = || {
        let [brown] = browned();
        primary()
            .tokens(20, ms(15))
            .rule(&[brown.clone(), When::Concurrent(40)], full())
            .rule(&[brown], Does::Late(ms(500)))
            .rule(&[When::Concurrent(100)], full())
    };
    let mut setup = Setup::new(Arrangement::Equal, upstream())
        .load(Load::rate(32.0, secs(125)))
        .load(Load::rate(80.0, secs(125)).tier(1))
        .load(Load::rate(240.0, secs(125)).tier(2));
    setup.upstreams[1] = upstream();
    play_few(&setup, |out| {
        // Two of forty at once, each 0.785 s: what both can still carry.
        let carry = 2.0 * 40.0 / 0.785 * 50.0;
        let whole = arrived(out, 70, 120).filter(|ended| ended.is_whole()).count();
        let share = whole as f64 / carry;
        let asked: usize =
            out.upstreams.iter().map(|u| u.attempts(at(secs(70)), at(secs(120)))).sum();
        let all = arrived(out, 70, 120).count();
        let served: Vec<_> = (0..3).map(|tier| served(out, tier, 70, 120)).collect();
        let late = |most: Duration| {
            arrived(out, 70, 120).filter(|e| e.status().is_some() && e.took() > most).count()
        };
        let refused = all - whole;
        println!(
            "{:.0} % of {carry:.0} carried; {asked} attempts for {all}; by tier {served:?}; \
            {refused} refused, {} later than 0.1 s",
            share * 100.0,
            late(ms(100))
        );
        assert!(share >= 0.9, "{share}");
        assert!(asked as f64 <= 1.1 * all as f64);
        assert!(served[0].0 as f64 >= 0.99 * served[0].1 as f64, "top tier {:?}", served[0]);
        assert!(late(ms(100)) * 20 <= refused, "{} of {refused} late", late(ms(100)));
        assert_eq!(moves(out, 0) + moves(out, 1), 0);
    });
}
