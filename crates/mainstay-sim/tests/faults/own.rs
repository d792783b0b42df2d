//! Our own faults, one request at a time.

use crate::play::{broken, failure, ms, only, play, primary, secs, split, told, whole};
use mainstay_core::config::Continuation;
use mainstay_core::fact::{Fact, How, Rung, Why};
use mainstay_core::gateway::Close;
use mainstay_core::names::{ClientFault, ErrorClass, Failure, TargetId};
use mainstay_sim::load::Load;
use mainstay_sim::script::{Break, Finish};
use mainstay_sim::setup::{Arrangement, Setup};
use mainstay_sim::upstream::{Does, Upstream, When};

use Arrangement::{Alone, Equal, Substitute};

fn one(arrangement: Arrangement, primary: Upstream) -> Setup {
    Setup::new(arrangement, primary).load(Load::one())
}

#[test]
fn f17_comments_are_no_progress_and_no_death() {
    for arrangement in [Substitute, Equal] {
        let primary = primary().rule(&[], Does::Comments(secs(1)));
        play(&one(arrangement, primary), |out| {
            whole(out, (1, 1), ms(11_300));
            let failed = out.facts.iter().find_map(|(_, fact)| match fact {
                Fact::AttemptFailed { class, why, .. } => Some((*class, *why)),
                _ => None,
            });
            assert_eq!(failed, Some((ErrorClass::Overload, Why::NoFirstToken)));
        });
    }
}

#[test]
fn f20_an_empty_answer_is_no_answer() {
    for (arrangement, wanted) in [(Substitute, (2, 0)), (Equal, (1, 1))] {
        let primary = primary().rule(&[When::First(1)], Does::Empty);
        play(&one(arrangement, primary), |out| whole(out, wanted, ms(1700)));
    }
    play(&one(Alone, primary().rule(&[], Does::Empty)), |out| {
        let Close::Error(refusal) = &only(out).close else { panic!("{:?}", only(out).close) };
        assert_eq!((refusal.status, refusal.code.as_str()), (502, "empty_answer"));
        assert_eq!(split(only(out)), (2, 0));
    });
}

#[test]
fn f26_a_retry_after_of_a_day_is_believed_for_a_minute() {
    let day = failure(ErrorClass::ThrottleAccount, Some(secs(86_400)));
    let primary = primary().rule(&[When::First(1)], Does::Refuses(day));
    let setup = Setup::new(Substitute, primary).load(Load::every(secs(2), secs(90)));
    play(&setup, |out| {
        assert_eq!(broken(out), Vec::<String>::new());
        assert_eq!(split(&out.ended[0]), (1, 1));
        assert!(out.ended[0].took() <= ms(1100));
        let again = out.upstreams[0].seen[1].at.since(out.upstreams[0].seen[0].at);
        assert!(again >= secs(60) && again <= secs(64), "{again:?}");
    });
}

#[test]
fn f28_a_drip_is_given_up_and_goes_on_elsewhere() {
    let drip = Does::Breaks(1, Break::Drip(secs(1)));
    for arrangement in [Substitute, Equal] {
        play(&one(arrangement, primary().rule(&[When::Fresh], drip.clone())), |out| {
            whole(out, (1, 1), secs(13));
            let told = |fact: &&Fact| matches!(fact, Fact::AttemptFailed { why: Why::Dripped, .. });
            assert_eq!(out.facts.iter().map(|(_, fact)| fact).filter(told).count(), 1);
        });
    }
    play(&one(Alone, primary().rule(&[When::Fresh], drip)), |out| {
        assert_eq!(split(only(out)), (1, 0));
        assert_eq!(only(out).status(), Some(502));
    });
}

#[test]
fn f31_a_cut_within_reasoning_begins_anew() {
    let cut = Does::Thinks { tokens: 30, cut: true };
    let think = Does::Thinks { tokens: 30, cut: false };
    for (arrangement, wanted) in [(Substitute, (2, 0)), (Equal, (1, 1)), (Alone, (2, 0))] {
        let primary = primary().rule(&[When::First(1)], cut.clone()).rule(&[], think.clone());
        play(&one(arrangement, primary), |out| whole(out, wanted, secs(3)));
    }
}

#[test]
fn f34_a_limit_that_is_not_the_clients_is_gone_beyond_natively() {
    let primary =
        || primary().rule(&[When::Fresh], Does::Breaks(40, Break::Finish(Finish::Length)));
    let mut load = Load::one();
    load.ask.max_tokens = Some(200);
    play(&Setup::new(Substitute, primary()).load(load.clone()), |out| {
        whole(out, (2, 0), secs(2));
        assert_eq!(only(out).tokens, 60);
    });
    let setup = Setup::new(Substitute, primary()).load(load);
    let setup = setup.target(0, |target| target.continuation = Continuation::None);
    play(&setup, |out| {
        whole(out, (1, 0), secs(2));
        assert_eq!(only(out).tokens, 40);
    });
}

#[test]
fn f36_one_choice_of_several_is_resumed_alone() {
    let cut = Does::Breaks(20, Break::Choice(1));
    for (arrangement, wanted) in [(Equal, (1, 1)), (Substitute, (2, 0))] {
        let mut setup = one(arrangement, primary().rule(&[When::Fresh], cut.clone()));
        setup.loads[0].ask.choices = 2;
        play(&setup, |out| {
            whole(out, wanted, secs(4));
            assert_eq!(only(out).tried[1].how, How::Resume(Rung::Native));
        });
    }
}

#[test]
fn four_broken_choices_do_not_make_more_than_three_attempts() {
    let cut = Does::Breaks(20, Break::Close);
    for arrangement in [Equal, Substitute, Alone] {
        let mut setup = one(arrangement, primary().rule(&[When::Fresh], cut.clone()));
        setup.loads[0].ask.choices = 4;
        play(&setup, |out| {
            assert!(only(out).tried.len() <= 3);
            assert_eq!(only(out).status(), Some(502));
        });
    }
}

#[test]
fn f47_a_body_too_large_is_learned() {
    let class = ErrorClass::ClientFault(ClientFault::Size);
    let refusal = Does::Refuses(Failure::ours(class, "too large"));
    let primary = || primary().rule(&[When::Body(10_000_000)], refusal.clone());
    let mut load = Load::every(secs(5), secs(9));
    load.ask.body = 12_000_000;
    play(&Setup::new(Substitute, primary()).load(load.clone()), |out| {
        assert_eq!(broken(out), Vec::<String>::new());
        assert_eq!(split(&out.ended[0]), (1, 1));
        assert!(out.ended[0].took() <= ms(1300));
        assert_eq!(split(&out.ended[1]), (0, 1));
    });
    play(&Setup::new(Alone, primary()).load(load), |out| {
        assert_eq!(out.ended[0].status(), Some(413));
        assert_eq!(out.upstreams[0].seen.len(), 1);
    });
}

#[test]
fn f48_a_site_known_to_be_too_small_is_never_asked() {
    let dies = Does::Unreachable;
    let mut load = Load::one();
    load.ask.prompt = 200_000;
    let small = |setup: Setup| setup.target(1, |target| target.window = Some(131_072));
    let setup = Setup::new(Substitute, primary().rule(&[], dies)).load(load.clone());
    play(&small(setup), |out| {
        assert_eq!(split(only(out)).1, 0);
        assert_eq!(only(out).status(), Some(503));
    });
    let cut = primary().rule(&[], Does::Breaks(20, Break::Stall));
    play(&small(Setup::new(Substitute, cut).load(load.clone())), |out| {
        assert_eq!(split(only(out)), (1, 0));
        assert!(only(out).status().is_some_and(|status| status >= 500));
    });
    load.ask.prompt = 2_000_000;
    let setup = Setup::new(Substitute, primary()).load(load);
    let setup = setup.target(0, |target| target.window = Some(1_000_000));
    play(&small(setup), |out| {
        assert_eq!(split(only(out)), (0, 0));
        assert_eq!(only(out).status(), Some(400));
    });
    // Relayed tokens count: what was begun in a large window does not fit a smaller one.
    let cut = primary().rule(&[When::Fresh], Does::Breaks(40, Break::Stall));
    let mut load = Load::one();
    load.ask.prompt = 131_050;
    play(&small(Setup::new(Equal, cut).load(load)), |out| {
        assert_eq!(split(only(out)), (1, 0));
    });
}

#[test]
fn f49_a_filter_in_mid_stream_is_told_as_it_is() {
    let policy = failure(ErrorClass::Policy, None);
    for (how, close) in
        [(Break::Finish(Finish::Filter), Close::Done), (Break::Error(policy), Close::Filtered)]
    {
        play(&one(Equal, primary().rule(&[], Does::Breaks(20, how))), |out| {
            assert_eq!(only(out).close, close);
            assert_eq!(split(only(out)), (1, 0));
            assert_eq!(only(out).tokens, 20);
        });
    }
}

#[test]
fn f50_nothing_is_tried_for_a_client_that_left() {
    let mut load = Load::one();
    load.leaves = Some(ms(400));
    play(&Setup::new(Equal, primary()).load(load.clone()), |out| {
        assert_eq!(only(out).close, Close::Gone);
        let seen = &out.upstreams[0].seen[0];
        assert!(seen.closed.expect("closed").since(seen.at) <= ms(1400));
        assert_eq!(split(only(out)), (1, 0));
    });
    load.leaves = Some(secs(1));
    let wait = failure(ErrorClass::ThrottleAccount, Some(secs(2)));
    let waits = primary().rule(&[When::First(1)], Does::Refuses(wait));
    play(&Setup::new(Substitute, waits).load(load), |out| {
        assert_eq!(only(out).close, Close::Gone);
        assert_eq!(split(only(out)), (1, 0));
        assert_eq!(told(out, "Waiting"), 1);
    });
}

#[test]
fn f55_a_name_that_is_gone_is_asked_for_every_five_minutes() {
    let class = ErrorClass::Dead(mainstay_core::names::Scope::Model);
    for arrangement in [Substitute, Equal] {
        let primary = primary().rule(&[], Does::Refuses(failure(class, None)));
        let setup = Setup::new(arrangement, primary).load(Load::every(secs(1), secs(1200)));
        play(&setup, |out| {
            assert_eq!(broken(out), Vec::<String>::new());
            let asked = out.upstreams[0].seen.len();
            assert!((4..=5).contains(&asked), "{asked} in twenty minutes");
            assert_eq!(told(out, "Parked"), 1, "one alarm");
        });
    }
}

#[test]
fn a_deadline_ends_a_request_wherever_it_is() {
    let mut load = Load::one();
    load.ask.deadline = Some(secs(3));
    play(&Setup::new(Alone, primary().rule(&[], Does::Silent)).load(load.clone()), |out| {
        assert_eq!(only(out).status(), Some(504));
        assert_eq!(only(out).took(), secs(3));
    });
    // A wait never crosses it.
    let wait = failure(ErrorClass::ThrottleAccount, Some(secs(3)));
    let primary = primary().rule(&[], Does::Refuses(wait));
    play(&Setup::new(Alone, primary).load(load), |out| {
        assert!(only(out).took() <= ms(600), "{:?}", only(out).took());
        assert_eq!(only(out).tried[0].target, TargetId(0));
    });
}
