//! What a site does with a load: how much it carries, how fast it sees what it can carry, and how
//! it comes back.

use crate::bench::{Bench, config};
use mainstay_core::cost::CostRate;
use mainstay_core::fact::SiteFact;
use mainstay_core::site::Site;

fn first(load: f64, seed: u64) -> Bench {
    let mut bench = Bench::new(Site::first(config(6), seed), load, seed);
    bench.workers_up(true);
    bench
}

#[test]
fn a_sound_site_keeps_its_capacity_under_any_load_it_can_carry() {
    for (load, seed) in [(10.0, 1), (65.0, 2), (80.0, 3), (92.0, 4)] {
        let mut bench = first(load, seed);
        for second in 1..=60 {
            bench.play(second);
            let capacity = bench.standing().capacity;
            // Ninety-four, since the bench's 800 streams are held eight seconds each.
            assert!(capacity >= CostRate::whole(94), "load {load}: {capacity:?} at {second}");
        }
        let sum = bench.sum(5, 55);
        let refused: u32 = sum.iter().map(|count| count.refused + count.late).sum();
        let offered: u32 = sum.iter().map(|count| count.offered).sum();
        assert!(refused * 100 <= offered * if load > 90.0 { 3 } else { 1 }, "load {load}: {sum:?}");
    }
}

#[test]
fn under_twice_and_ten_times_its_load_a_site_still_does_what_it_can() {
    for (load, seed) in [(100.0, 5), (200.0, 6), (1000.0, 7)] {
        let mut bench = first(load, seed);
        bench.play(60);
        let goodput = bench.goodput(10, 50);
        assert!(goodput >= 91.0, "load {load}: {goodput} of 96");
        let late: u32 = bench.sum(10, 50).iter().map(|count| count.late).sum();
        assert!(f64::from(late) <= 0.01 * goodput * 40.0, "load {load}: {late} late");
    }
}

#[test]
fn a_slow_site_sees_it_within_seconds_and_recovers_as_fast() {
    for factor in [3.0, 10.0] {
        let mut bench = first(65.0, 8);
        bench.play(30);
        bench.slow(factor);
        bench.play(38);
        let slow = bench.standing().capacity.as_f64();
        assert!(slow <= 160.0 / factor, "x{factor}: {slow}");
        bench.play(90);
        let goodput = bench.goodput(42, 82);
        assert!(goodput >= 70.0 / factor, "x{factor}: {goodput} of {}", 100.0 / factor);
        bench.slow(1.0);
        bench.play(110);
        let back = bench.standing().capacity.as_f64();
        assert!(back >= 90.0, "x{factor}: {back}");
        assert!(bench.goodput(105, 109) >= 60.0, "x{factor}: {}", bench.goodput(105, 109));
    }
}

#[test]
fn a_site_says_how_slow_it_is_as_its_answers_find_it() {
    let mut bench = first(40.0, 10);
    bench.play(30);
    assert!(bench.slow < 2, "as usual: {}", bench.slow);
    bench.slow_one(0, 10.0);
    bench.play(50);
    assert!(bench.slow < 2, "one of four, which gets little now: {}", bench.slow);
    bench.slow(10.0);
    bench.play(60);
    assert!(bench.slow >= 5, "all of them: {}", bench.slow);
    bench.slow(1.0);
    bench.play(80);
    assert!(bench.slow < 2, "as usual again: {}", bench.slow);
}

#[test]
fn a_site_that_takes_over_cold_is_whole_within_five_minutes() {
    let mut bench = Bench::new(Site::new(config(6), crate::bench::at(1), 2, 9), 65.0, 9);
    bench.workers_up(true);
    assert_eq!(bench.standing().ramp, 1);
    bench.play(300);
    assert_eq!(bench.standing().ramp, 100);
    let moved = |fact: &SiteFact| matches!(fact, SiteFact::RampMoved { .. });
    let steps = bench.facts.iter().filter(|(_, fact)| moved(fact)).count();
    assert_eq!(steps, 6, "down once, up five times");
    bench.play(320);
    assert!(bench.goodput(302, 318) >= 60.0, "{}", bench.goodput(302, 318));
}

#[test]
fn grants_to_six_gateways_never_exceed_capacity_whatever_is_lost() {
    for seed in 20..24 {
        let mut bench = first(150.0, seed);
        bench.loss = 0.3;
        bench.play(20);
        bench.worker_down(0);
        bench.play(40);
        assert!(bench.standing().capacity <= CostRate::whole(75));
        assert!(bench.goodput(24, 38) >= 66.0, "seed {seed}: {}", bench.goodput(24, 38));
    }
}
