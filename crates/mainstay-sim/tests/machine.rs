//! The machine against events in any order: it never panics, and its promises hold.
//!
//! Nothing here behaves as an upstream or a client would. Tokens come for attempts that are over,
//! clients leave twice, time jumps; what must hold all the same is that each request is closed
//! exactly once, within its deadline, after at most three attempts.

use mainstay_core::fact::Why;
use mainstay_core::gateway::joint::Standing;
use mainstay_core::gateway::request::{Broken, Report, Sent};
use mainstay_core::gateway::{Action, Close, Event, Gateway};
use mainstay_core::names::{AttemptId, ClientFault, ErrorClass, Failure, RequestId, Scope, TierId};
use mainstay_core::time::{Duration, Time};
use mainstay_sim::load::{Load, ask};
use mainstay_sim::setup::{Arrangement, Setup, WEIGHTS};
use mainstay_sim::upstream::{Does, Upstream, When};
use mainstay_sim::world::{START, run};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// One thing that happens, in numbers that always mean something.
#[derive(Clone, Debug)]
struct Step {
    kind: u8,
    request: u64,
    attempt: u8,
    class: usize,
    flags: u16,
    pause: u64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..10u8, 0..12u64, 1..5u8, 0..14usize, any::<u16>(), 0..3_000_000u64);
    let step = step.prop_map(|(kind, request, attempt, class, flags, pause)| Step {
        kind,
        request,
        attempt,
        class,
        flags,
        pause,
    });
    proptest::collection::vec(step, 1..120)
}

const CLASSES: [ErrorClass; 14] = [
    ErrorClass::ClientFault(ClientFault::Invalid),
    ErrorClass::ClientFault(ClientFault::Context),
    ErrorClass::ClientFault(ClientFault::Size),
    ErrorClass::ClientFault(ClientFault::Unsupported),
    ErrorClass::Policy,
    ErrorClass::OurAuth,
    ErrorClass::OurBilling,
    ErrorClass::ThrottleAccount,
    ErrorClass::ThrottleBurst,
    ErrorClass::Overload,
    ErrorClass::Transient,
    ErrorClass::Dead(Scope::Site),
    ErrorClass::Dead(Scope::Model),
    ErrorClass::PoisonedStream,
];

const WHYS: [Why; 8] = [
    Why::Reply,
    Why::Silent,
    Why::NoFirstToken,
    Why::Stalled,
    Why::Dripped,
    Why::Cut,
    Why::Empty,
    Why::Mismatch,
];

fn event(step: &Step) -> Event {
    let request = RequestId(step.request);
    let attempt = AttemptId { request, number: step.attempt };
    let has = |bit: u16| step.flags & (1 << bit) != 0;
    let standing = Standing {
        tokens: u32::from(step.flags % 500),
        answered: has(0),
        relayed: has(0) || has(1),
        tools: has(2),
        open: if has(3) { vec![0] } else { Vec::new() },
        too_long: has(4) && has(5),
    };
    let report = Report { tokens: standing.tokens, standing, ..Report::default() };
    match step.kind {
        0..=2 => {
            let mut ask = ask();
            ask.tier = TierId((step.flags % 3) as u8);
            ask.prompt = u32::from(step.flags) * 8;
            ask.choices = 1 + u32::from(step.flags % 3);
            ask.deadline = has(6).then(|| Duration::from_millis(step.pause / 100));
            Event::Arrive { request, ask }
        }
        3 => Event::FirstToken { attempt, after: Duration::from_millis(step.pause / 1000) },
        4 => Event::Flowing { attempt },
        5 => Event::Whole { attempt, report },
        6 => Event::Short { attempt, report },
        7 => Event::Gone { request, report },
        8 => Event::Tick,
        _ => {
            let wait = has(7).then(|| Duration::from_millis(u64::from(step.flags)));
            let mut failure = Failure::ours(CLASSES[step.class], "any");
            failure.retry_after = wait;
            failure.limit = has(8).then(|| u64::from(step.flags));
            let sent = [Sent::Nothing, Sent::NotProcessed, Sent::Maybe][step.class % 3];
            let why = WHYS[usize::from(step.flags % 8)];
            let quiet = Duration::from_millis(step.pause / 1000);
            Event::Broken {
                attempt,
                broken: Broken { failure, why, sent, stale: has(9), quiet, report },
            }
        }
    }
}

#[derive(Default)]
struct Watch {
    open: BTreeMap<RequestId, Time>,
    attempts: BTreeMap<RequestId, u8>,
    wrong: Vec<String>,
}

impl Watch {
    fn look(&mut self, now: Time, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start(start) => {
                    let request = start.attempt.request;
                    let count = self.attempts.entry(request).or_default();
                    *count += 1;
                    if *count > 3 || !self.open.contains_key(&request) {
                        self.wrong.push(format!("attempt {count} of {request:?}"));
                    }
                }
                Action::Close { request, close } => {
                    let late = self.open.remove(&request).is_none_or(|at| now > at);
                    let is_expired = matches!(&close, Close::Error(r) if r.status == 504);
                    if late && !is_expired {
                        self.wrong.push(format!("{request:?} closed late or twice: {close:?}"));
                    }
                }
                Action::Fact(_)
                | Action::GiveUp { .. }
                | Action::Report { .. }
                | Action::Digest { .. }
                | Action::Probe { .. }
                | Action::Answers(_) => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_events_in_any_order_keep_the_promises(steps in steps(), seed in any::<u64>()) {
        let setup = Setup::new(Arrangement::Equal, Upstream::new(WEIGHTS[0]));
        let setup = setup.substitute(Upstream::new(WEIGHTS[1]));
        let setup = setup.target(1, |target| target.window = Some(100_000));
        let longest = setup.config.limits.request;
        let mut gateway = Gateway::new(setup.config, seed);
        let mut watch = Watch::default();
        let mut asked = BTreeSet::new();
        let mut now = START;
        for step in &steps {
            // A deadline of the machine is kept before anything later happens.
            let then = now + Duration::from_micros(step.pause);
            while let Some((at, _)) = gateway.deadline().filter(|(at, _)| *at <= then) {
                now = now.max(at);
                let mut actions = Vec::new();
                gateway.handle(now, Event::Tick, &mut actions);
                watch.look(now, actions);
                prop_assert!(gateway.deadline().is_none_or(|(next, _)| next > now));
            }
            now = then;
            let event = event(step);
            if let Event::Arrive { request, ask } = &event {
                if !asked.insert(*request) {
                    continue;
                }
                let most = ask.deadline.map_or(longest, |own| own.min(longest));
                watch.open.insert(*request, now + most);
            }
            let mut actions = Vec::new();
            gateway.handle(now, event, &mut actions);
            watch.look(now, actions);
        }
        now = now + longest;
        while let Some((at, _)) = gateway.deadline() {
            now = now.max(at);
            let mut actions = Vec::new();
            gateway.handle(now, Event::Tick, &mut actions);
            watch.look(now, actions);
        }
        prop_assert_eq!(&watch.wrong, &Vec::<String>::new());
        prop_assert!(watch.open.is_empty(), "never closed: {:?}", watch.open);
        prop_assert_eq!(gateway.open_requests(), 0);
        prop_assert!(gateway.targets().iter().all(|(_, target)| target.credit.in_flight() == 0));
    }
}

#[test]
fn the_same_seed_tells_the_same_timeline_byte_for_byte() {
    let flap = When::Flap { period: Duration::from_secs(4), down: Duration::from_secs(1) };
    let setup = |rate| {
        let primary = Upstream::new(WEIGHTS[0])
            .rule(std::slice::from_ref(&flap), Does::Resets)
            .rule(&[When::Chance(0.1)], Does::Silent);
        let load = Load::rate(rate, Duration::from_secs(60));
        Setup::new(Arrangement::Equal, primary).load(load)
    };
    let first = run(7, setup(5.0));
    assert_eq!(first.checks.violations, Vec::<String>::new());
    assert!(first.timeline == run(7, setup(5.0)).timeline);
    assert!(first.timeline != run(8, setup(5.0)).timeline);
}
