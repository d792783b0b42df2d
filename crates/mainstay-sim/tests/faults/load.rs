//! Faults under load: keys, bills, quotas, dead and flapping sites.

use crate::play::{at, broken, failure, moves, ms, play, play_few, primary, secs, split, told};
use mainstay_core::fact::{Fact, Verdict};
use mainstay_core::names::{ErrorClass, TargetId};
use mainstay_core::time::Time;
use mainstay_sim::load::Load;
use mainstay_sim::setup::{Arrangement, Setup, WEIGHTS};
use mainstay_sim::upstream::{Does, Upstream, When};
use mainstay_sim::world::Outcome;

use Arrangement::{Alone, Equal, Substitute};

/// Short answers, so that many requests cost little.
fn short(weights: u64) -> Upstream {
    Upstream::new(weights).tokens(8, ms(30))
}

fn setup(arrangement: Arrangement, primary: Upstream, load: Load) -> Setup {
    let mut setup = Setup::new(arrangement, primary.tokens(8, ms(30))).load(load);
    if arrangement != Alone {
        let is_equal = arrangement == Equal;
        setup.upstreams[1] = short(WEIGHTS[usize::from(!is_equal)]);
    }
    setup
}

/// When the primary was first used again after `from`.
fn back(out: &Outcome, from: Time) -> Time {
    let again = |seen: &&mainstay_sim::upstream::Seen| seen.at >= from && seen.let_in;
    out.upstreams[0].seen.iter().find(again).expect("used again").at
}

#[test]
fn f22_a_quota_that_is_a_throttle_is_probed_six_times_a_minute() {
    let quota = Does::Refuses(failure(ErrorClass::ThrottleAccount, None));
    for arrangement in [Substitute, Equal] {
        let primary = primary().rule(&[When::Within(secs(30), secs(90))], quota.clone());
        play(&setup(arrangement, primary, Load::every(ms(200), secs(150))), |out| {
            assert_eq!(broken(out), Vec::<String>::new());
            let asked = out.upstreams[0].attempts(at(secs(30)), at(secs(90)));
            assert!(asked <= 6, "{asked} in the minute");
            let back = back(out, at(secs(90))).since(at(secs(90)));
            assert!(back <= secs(16), "{back:?}");
            assert_eq!(told(out, "Parked") + moves(out, 0) as u32, 0);
        });
    }
}

#[test]
fn f23_a_bill_is_asked_about_every_five_minutes() {
    let bill = Does::Refuses(failure(ErrorClass::OurBilling, None));
    for arrangement in [Substitute, Equal, Alone] {
        let primary = primary().rule(&[], bill.clone());
        play(&setup(arrangement, primary, Load::rate(2.0, secs(1200))), |out| {
            if arrangement == Alone {
                assert!(out.ended.iter().all(|ended| ended.status() == Some(503)));
            } else {
                assert_eq!(broken(out), Vec::<String>::new());
            }
            let asked = out.upstreams[0].seen.len();
            assert!((4..=5).contains(&asked), "{asked} in twenty minutes");
            assert_eq!(told(out, "Parked"), 1, "one alarm");
        });
    }
}

#[test]
fn f24_a_revoked_key_is_parked_at_once_and_found_mended() {
    let key = Does::Refuses(failure(ErrorClass::OurAuth, None));
    for (arrangement, strikes) in [(Substitute, 1), (Equal, 1), (Substitute, 2)] {
        let revoked = [When::After(1000), When::Within(secs(0), secs(400))];
        let primary = primary().rule(&revoked, key.clone());
        let mut setup = setup(arrangement, primary, Load::rate(10.0, secs(500)));
        setup.config.sites[0].auth_strikes = strikes;
        play(&setup, |out| {
            assert_eq!(broken(out), Vec::<String>::new());
            assert_eq!(told(out, "Parked"), 1, "one alarm");
            assert_eq!(told(out, "Unparked"), 1);
            let refused: Vec<_> = out.upstreams[0].seen.iter().filter(|s| !s.let_in).collect();
            let first = refused[0].at;
            let within = |from, until| {
                let in_time = |t: Time| t >= first + from && t < first + until;
                refused.iter().filter(|seen| in_time(seen.at)).count()
            };
            println!("{} refused, {} in the first second", refused.len(), within(ms(0), secs(1)));
            // Those under way when the first refusal came back cannot be called back.
            assert!(within(ms(0), secs(1)) <= 2, "{}", within(ms(0), secs(1)));
            let most = usize::from(strikes) + 2;
            assert!(within(ms(0), secs(60)) <= most, "{}", within(ms(0), secs(60)));
            assert!(within(secs(120), secs(180)) <= 1);
            let back = back(out, at(secs(400))).since(at(secs(400)));
            assert!(back <= secs(61), "{back:?}");
        });
    }
}

#[test]
fn f40_a_refused_connection_is_avoided_within_a_second() {
    for arrangement in [Equal, Substitute] {
        let primary = primary().rule(&[When::Within(secs(30), secs(200))], Does::Unreachable);
        play(&setup(arrangement, primary, Load::rate(50.0, secs(60))), |out| {
            assert_eq!(broken(out), Vec::<String>::new());
            let dead = at(secs(30));
            let suspect = out.facts.iter().find_map(|(at, fact)| match fact {
                Fact::Health { to: Verdict::Suspect, target: TargetId(0), .. } => Some(*at),
                _ => None,
            });
            let suspect = suspect.expect("suspect").since(dead);
            assert!(suspect <= secs(1), "{suspect:?}");
            let later = out.ended.iter().filter(|ended| ended.arrived >= dead + secs(1));
            let (avoided, all) = later.fold((0, 0), |(avoided, all), ended| {
                (avoided + u32::from(split(ended).0 == 0), all + 1)
            });
            let share = f64::from(avoided) / f64::from(all);
            println!("{avoided} of {all} avoid it");
            assert!(share >= 0.99, "{avoided} of {all} avoid it");
            let slow = out.ended.iter().map(|ended| ended.took()).max();
            assert!(slow <= Some(ms(380)), "{slow:?}");
        });
    }
}

#[test]
fn a_site_that_dies_and_returns_is_back_within_five_minutes() {
    let primary = primary().rule(&[When::Within(secs(30), secs(90))], Does::Unreachable);
    play(&setup(Equal, primary, Load::rate(20.0, secs(400))), |out| {
        assert_eq!(broken(out), Vec::<String>::new());
        let full = out.facts.iter().find_map(|(at, fact)| match fact {
            Fact::Health { to: Verdict::Up, target: TargetId(0), .. } => Some(*at),
            _ => None,
        });
        let full = full.expect("up again").since(at(secs(90)));
        println!("up again {full:?} after its return");
        assert!(full <= secs(300), "{full:?}");
        assert_eq!(moves(out, 0), 2);
    });
}

#[test]
fn f54_a_site_that_flaps_for_ten_minutes_is_left_at_a_trickle() {
    let flap = When::Flap { period: secs(10), down: secs(5) };
    for arrangement in [Equal, Substitute] {
        let primary = primary().rule(std::slice::from_ref(&flap), Does::Unreachable);
        play_few(&setup(arrangement, primary, Load::rate(20.0, secs(600))), |out| {
            assert_eq!(broken(out), Vec::<String>::new());
            assert!(moves(out, 0) <= 6, "{}", moves(out, 0));
            let extra = out.ended.iter().map(|ended| ended.tried.len() - 1).max();
            assert!(extra <= Some(1), "{extra:?} extra attempts");
            let slow = out.ended.iter().map(|ended| ended.took()).max();
            assert!(slow <= Some(ms(460)), "{slow:?}");
            let moves = &out.checks.moves[&TargetId(0)];
            if moves.len() >= 5 {
                let latched = moves[4];
                let all = out.ended.iter().filter(|ended| ended.arrived > latched).count();
                let there = out.upstreams[0].attempts(latched, at(secs(700)));
                println!("{} moves; latched: {there} of {all} there", moves.len());
                assert!(there as f64 <= 0.055 * all as f64, "{there} of {all}");
            } else {
                println!("{} moves", moves.len());
            }
        });
    }
}

#[test]
fn the_third_departure_leaves_a_trickle_until_ten_clean_minutes() {
    let flap = When::Flap { period: secs(120), down: secs(10) };
    let while_it_flaps = When::Within(secs(0), secs(600));
    let primary = primary().rule(&[flap, while_it_flaps], Does::Unreachable);
    play_few(&setup(Equal, primary, Load::rate(10.0, secs(1400))), |out| {
        assert_eq!(broken(out), Vec::<String>::new());
        let moves = &out.checks.moves[&TargetId(0)];
        assert_eq!(moves.len(), 6, "three departures, three returns: {moves:?}");
        let (latched, back) = (moves[4], moves[5]);
        assert!(back.since(at(secs(490))) >= secs(600), "ten clean minutes");
        assert!(back.since(at(secs(490))) <= secs(900), "within fifteen");
        let all = out.ended.iter().filter(|ended| ended.arrived > latched && ended.arrived < back);
        let (all, there) = (all.count(), out.upstreams[0].attempts(latched, back));
        println!("latched for {:?}: {there} of {all} there", back.since(latched));
        // One a second is more than a twentieth of ten.
        assert!(there as f64 <= 0.11 * all as f64, "{there} of {all}");
    });
}

#[test]
fn long_answers_begun_before_a_death_delay_its_suspicion_by_two_seconds() {
    // Each still ends or flows well, and so says "good" up to two seconds after it began.
    let primary = primary().rule(&[When::Within(secs(20), secs(200))], Does::Unreachable);
    let mut setup = Setup::new(Equal, primary.tokens(60, ms(100)));
    setup = setup.load(Load::rate(50.0, secs(26)));
    play_few(&setup, |out| {
        assert_eq!(broken(out), Vec::<String>::new());
        let suspect = out.facts.iter().find_map(|(at, fact)| match fact {
            Fact::Health { to: Verdict::Suspect, target: TargetId(0), .. } => Some(*at),
            _ => None,
        });
        let suspect = suspect.expect("suspect").since(at(secs(20)));
        println!("suspect after {suspect:?}");
        assert!(suspect <= ms(2600), "{suspect:?}");
    });
}
