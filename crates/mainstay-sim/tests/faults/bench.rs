//! F01 to F16: the public bench's faults.

use crate::play::whole;
use crate::play::{at, broken, failure, moves, ms, only, pause, play, primary, secs, split, told};
use mainstay_core::config::Continuation;
use mainstay_core::gateway::Close;
use mainstay_core::names::{ClientFault, ErrorClass, Failure, TargetId};
use mainstay_sim::load::Load;
use mainstay_sim::script::Break;
use mainstay_sim::setup::{Arrangement, Setup};
use mainstay_sim::upstream::{Does, Prefill, Upstream, When};
use std::time::Duration;

use Arrangement::{Alone, Equal, Substitute};

fn one(arrangement: Arrangement, primary: Upstream) -> Setup {
    Setup::new(arrangement, primary).load(Load::one())
}

fn first(does: Does) -> Upstream {
    primary().rule(&[When::First(1)], does)
}

fn always(does: Does) -> Upstream {
    primary().rule(&[], does)
}

fn throttle(retry_after: Option<Duration>) -> Does {
    Does::Refuses(failure(ErrorClass::ThrottleAccount, retry_after))
}

#[test]
fn f01_a_short_retry_after_is_waited_out_for_the_same_model() {
    let primary = first(throttle(Some(secs(2))));
    play(&one(Substitute, primary.clone()), |out| {
        whole(out, (2, 0), ms(3200));
        let gap = pause(only(out));
        assert!(gap >= ms(2000) && gap <= ms(2110), "{gap:?}");
    });
    play(&one(Equal, primary.clone()), |out| whole(out, (1, 1), ms(1200)));
    play(&one(Alone, primary), |out| whole(out, (2, 0), ms(3200)));
}

#[test]
fn f02_an_undated_throttle_goes_to_the_substitute_at_once() {
    play(&one(Substitute, always(throttle(None))), |out| whole(out, (1, 1), ms(1200)));
    play(&one(Alone, always(throttle(None))), |out| {
        assert_eq!(only(out).status(), Some(503));
        assert_eq!(split(only(out)), (1, 0));
    });
}

#[test]
fn f03_a_single_500_is_tried_again_at_the_same_site() {
    let error = Does::Refuses(failure(ErrorClass::Transient, None));
    play(&one(Substitute, first(error.clone())), |out| {
        whole(out, (2, 0), ms(1600));
        let gap = pause(only(out));
        assert!(gap >= ms(250) && gap <= ms(520), "{gap:?}");
    });
    play(&one(Equal, first(error.clone())), |out| whole(out, (1, 1), ms(1200)));
    let late = Does::RefusesLate(failure(ErrorClass::Transient, None), ms(2500));
    play(&one(Substitute, first(late)), |out| whole(out, (1, 1), ms(3700)));
    play(&one(Alone, always(error)), |out| {
        assert_eq!(only(out).status(), Some(502));
        assert_eq!(split(only(out)), (2, 0));
    });
}

#[test]
fn f04_and_f16_overload_for_ever_costs_one_attempt_and_one_failed_entry() {
    let full = || always(Does::Refuses(failure(ErrorClass::Overload, None)));
    for arrangement in [Substitute, Equal] {
        play(&one(arrangement, full()), |out| {
            whole(out, (1, 1), ms(1200));
            assert_eq!(told(out, "AttemptWhole"), 1);
            assert_eq!(told(out, "AttemptFailed"), 1);
            assert_eq!(moves(out, 0), 0);
        });
    }
}

#[test]
fn f05_a_reset_before_headers_is_tried_again() {
    play(&one(Substitute, first(Does::Resets)), |out| {
        whole(out, (2, 0), ms(1600));
        assert!(pause(only(out)) <= ms(520));
    });
}

#[test]
fn f06_silence_ends_at_the_first_token_limit() {
    for arrangement in [Substitute, Equal] {
        play(&one(arrangement, always(Does::Silent)), |out| {
            whole(out, (1, 1), ms(11_500));
            let seen = &out.upstreams[0].seen[0];
            let open = seen.closed.expect("closed").since(seen.at);
            assert!(open <= secs(11), "{open:?}");
        });
        let later = primary().rule(&[When::Within(secs(40), secs(3600))], Does::Silent);
        let setup = Setup::new(arrangement, later)
            .load(Load::every(secs(1), secs(30)))
            .load(Load::one().from(secs(45)).until(secs(46)));
        play(&setup, |out| {
            let last = out.ended.last().expect("one");
            assert!(last.is_whole());
            let first = last.first_content.expect("content").since(last.arrived);
            assert!(first <= secs(3), "{first:?}");
        });
    }
    play(&one(Alone, always(Does::Silent)), |out| {
        assert_eq!(split(only(out)), (1, 0));
        assert!([Some(502), Some(504)].contains(&only(out).status()));
    });
}

#[test]
fn f07_headers_alone_are_no_progress() {
    for arrangement in [Substitute, Equal] {
        let primary = always(Does::Late(secs(20)));
        play(&one(arrangement, primary), |out| whole(out, (1, 1), ms(11_500)));
    }
}

#[test]
fn f08_a_cut_answer_goes_on_without_a_seam() {
    let cut = Does::Breaks(40, Break::Close);
    for arrangement in [Substitute, Equal, Alone] {
        let primary = primary().rule(&[When::Fresh], cut.clone());
        play(&one(arrangement, primary.clone()), |out| {
            let wanted = if arrangement == Equal { (1, 1) } else { (2, 0) };
            whole(out, wanted, secs(3));
            assert!(only(out).gap <= secs(1), "{:?}", only(out).gap);
        });
        let none = |target: &mut mainstay_core::config::Target| {
            target.continuation = Continuation::None;
        };
        let mut setup = one(arrangement, primary).target(0, none);
        setup.config.targets.iter_mut().for_each(none);
        play(&setup, |out| {
            assert!(only(out).is_whole());
            assert!(only(out).gap <= secs(2), "{:?}", only(out).gap);
        });
    }
    // A site that broke another stream lately is not resumed at.
    let setup = one(Substitute, primary().rule(&[When::Fresh], cut))
        .load(Load::one().from(secs(20)).until(secs(21)));
    play(&setup, |out| {
        assert_eq!(split(&out.ended[0]), (2, 0));
        assert_eq!(split(&out.ended[1]), (1, 1));
    });
}

#[test]
fn f09_a_stall_ends_at_the_stall_limit() {
    let stall = Does::Breaks(20, Break::Stall);
    for arrangement in [Substitute, Equal] {
        play(&one(arrangement, always(stall.clone())), |out| {
            whole(out, (1, 1), secs(8));
            let seen = &out.upstreams[0].seen[0];
            assert!(seen.closed.expect("closed").since(seen.at) <= ms(6_400));
        });
    }
    play(&one(Alone, always(stall)), |out| {
        assert_eq!(only(out).status(), Some(502));
        assert_eq!(split(only(out)), (1, 0));
    });
}

#[test]
fn f10_an_unreadable_event_may_have_held_a_token() {
    for arrangement in [Substitute, Equal] {
        let primary = primary().rule(&[When::Fresh], Does::Breaks(10, Break::Poison));
        play(&one(arrangement, primary), |out| {
            assert!(only(out).is_whole());
            assert!(only(out).took() <= secs(3));
            let (first, second) = split(only(out));
            assert!(first <= 2 && second <= 1);
        });
    }
}

#[test]
fn f12_a_window_too_small_is_learned_and_never_asked_again() {
    let class = ErrorClass::ClientFault(ClientFault::Context);
    let refusal = Failure { limit: Some(8192), ..Failure::ours(class, "too long") };
    let primary = || primary().rule(&[When::Prompt(8192)], Does::Refuses(refusal.clone()));
    let mut long = Load::every(secs(5), secs(12));
    long.ask.prompt = 9631;
    for arrangement in [Substitute, Equal] {
        play(&Setup::new(arrangement, primary()).load(long.clone()), |out| {
            assert_eq!(broken(out), Vec::<String>::new());
            assert_eq!(split(&out.ended[0]), (1, 1));
            assert!(out.ended[0].took() <= ms(1100));
            assert_eq!(split(&out.ended[1]), (0, 1), "learned");
            assert_eq!(told(out, "Learned"), 1);
        });
    }
    play(&Setup::new(Alone, primary()).load(long), |out| {
        assert!(out.ended.iter().all(|ended| ended.status() == Some(400)));
        assert_eq!(out.upstreams[0].seen.len(), 1);
    });
}

#[test]
fn f13_a_refusal_of_content_is_final() {
    let refused = Does::Refuses(failure(ErrorClass::Policy, None));
    for arrangement in [Substitute, Equal] {
        play(&one(arrangement, always(refused.clone())), |out| {
            assert_eq!(split(only(out)), (1, 0));
            assert_eq!(only(out).status(), Some(400));
            assert!(only(out).took() <= ms(100));
        });
    }
}

#[test]
fn f14_and_f53_a_refused_prefill_falls_one_rung_and_never_masks_the_cut() {
    for (arrangement, when) in
        [(Substitute, vec![When::Fresh]), (Equal, vec![When::Fresh]), (Substitute, vec![])]
    {
        let primary = primary().rule(&when, Does::Breaks(40, Break::Stall));
        let mut setup = one(arrangement, primary);
        setup.upstreams[1].prefill = Prefill::Refuses;
        play(&setup, |out| {
            let ended = only(out);
            assert!(ended.tried.len() <= 3);
            assert_eq!(told(out, "ContinuationOff"), 1);
            match &ended.close {
                Close::Error(refusal) => assert_eq!(refusal.status, 502, "the cut, not the 400"),
                Close::Done => assert_eq!(arrangement, Equal, "by regeneration"),
                other => panic!("{other:?}"),
            }
            assert!(arrangement != Equal || ended.is_whole());
        });
    }
    let cut = primary().rule(&[When::Fresh], Does::Breaks(40, Break::Close));
    let mut setup = one(Substitute, cut);
    setup.upstreams[0].prefill = Prefill::Refuses;
    setup.upstreams[1].prefill = Prefill::Refuses;
    play(&setup, |out| {
        assert!(only(out).took() <= secs(4));
        assert!(only(out).is_whole() || only(out).status() == Some(502));
    });
}

#[test]
fn f15_a_flap_of_a_minute_costs_six_attempts_and_is_over_in_sixteen_seconds() {
    for arrangement in [Substitute, Equal] {
        let full = Does::Refuses(failure(ErrorClass::Overload, None));
        let primary = primary().rule(&[When::Within(ms(0), secs(60))], full);
        // One request every four seconds, as the bench sends them; then on until it is back.
        let setup = Setup::new(arrangement, primary).load(Load::every(secs(4), secs(120)));
        play(&setup, |out| {
            assert_eq!(broken(out), Vec::<String>::new());
            let slowest = out.ended.iter().map(|ended| ended.took()).max();
            assert!(slowest <= Some(ms(1300)), "{slowest:?}");
            let while_down = out.upstreams[0].attempts(at(ms(0)), at(secs(60)));
            assert!(while_down <= 6, "{while_down} while down");
            let back = out.upstreams[0].seen.iter().find(|seen| seen.let_in).expect("back").at;
            assert!(back.since(at(secs(60))) <= secs(16), "{:?}", back.since(at(secs(60))));
            let last = out.ended.last().expect("some");
            assert_eq!(last.tried[0].target, TargetId(0), "used again");
        });
    }
}
