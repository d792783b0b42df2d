//! Every decision an operator could ask about leaves its fact, and each fact is told where it
//! happens.

use mainstay_core::config::{Config, Continuation, Limits, Model, Needs, Site, Target, Tier};
use mainstay_core::fact::{Fact, How, Outcome, Rung, Verdict, Why};
use mainstay_core::gateway::joint::Standing;
use mainstay_core::gateway::request::{Ask, Broken, Report, Sent};
use mainstay_core::gateway::{Action, Close, Event, Gateway, Start};
use mainstay_core::names::{
    ClientFault, ErrorClass, Failure, ModelId, RequestId, SiteId, TargetId, TierId,
};
use mainstay_core::time::{Duration, Time};

/// A gateway with its clock and all that it said.
struct Rig {
    gateway: Gateway,
    now: Time,
    requests: u64,
    facts: Vec<Fact>,
    starts: Vec<Start>,
    ends: Vec<Close>,
}

impl Rig {
    /// In front of `sites` sites with one model each, all of them equals.
    fn with_equals(sites: u16) -> Rig {
        let site = |at: u16| Site {
            name: format!("site-{at}"),
            capacity: None,
            kind: Default::default(),
            auth_strikes: 1,
        };
        let target = |at: u16| Target {
            site: SiteId(at),
            model: "m".into(),
            window: None,
            output_max: None,
            offers: Needs::all(),
            continuation: Continuation::Native,
            labels: 0,
            home: 0,
            tiers: 0xff,
        };
        let model = Model {
            name: "chat".into(),
            served_by: (0..sites).map(TargetId).collect(),
            substitutes: Vec::new(),
            substitutes_may_finish: true,
        };
        let config = Config {
            sites: (0..sites).map(site).collect(),
            targets: (0..sites).map(target).collect(),
            models: vec![model],
            families: Vec::new(),
            tiers: vec![Tier { name: "pro".into(), floor: 0.0 }],
            limits: Limits::default(),
            fleet: Default::default(),
        };
        let (facts, starts, ends) = Default::default();
        let (gateway, now) = (Gateway::new(config, 7), Time::from_micros(1_000_000));
        Rig { gateway, now, requests: 0, facts, starts, ends }
    }

    fn hear(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.gateway.handle(self.now, event, &mut actions);
        for action in actions {
            match action {
                Action::Fact(fact) => self.facts.push(fact),
                Action::Start(start) => self.starts.push(start),
                Action::Close { close, .. } => self.ends.push(close),
                Action::GiveUp { .. }
                | Action::Report { .. }
                | Action::Digest { .. }
                | Action::Probe { .. }
                | Action::Answers(_) => {}
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.hear(Event::Tick);
    }

    /// A client asks; the attempt that is started for it.
    fn arrive(&mut self) -> Start {
        self.requests += 1;
        let ask = Ask {
            model: ModelId(0),
            tier: TierId(0),
            needs: Needs::default(),
            prompt: 5000,
            body: 20_000,
            max_tokens: None,
            choices: 1,
            deadline: None,
            ..Ask::default()
        };
        self.hear(Event::Arrive { request: RequestId(self.requests), ask });
        self.latest()
    }

    fn latest(&self) -> Start {
        self.starts.last().expect("an attempt was started").clone()
    }

    fn breaks(&mut self, start: &Start, failure: Failure, why: Why) {
        let broken = Broken {
            failure,
            why,
            sent: Sent::Maybe,
            stale: false,
            quiet: Duration::ZERO,
            report: Report::default(),
        };
        self.hear(Event::Broken { attempt: start.attempt, broken });
    }

    fn refuses(&mut self, start: &Start, class: ErrorClass, retry_after: Option<u64>) {
        let mut failure = Failure::ours(class, "no");
        failure.retry_after = retry_after.map(Duration::from_secs);
        self.breaks(start, failure, Why::Reply);
    }

    fn whole(&mut self, start: &Start) {
        self.hear(Event::Whole { attempt: start.attempt, report: Report::default() });
    }

    #[track_caller]
    fn told(&self, what: &str, is: impl Fn(&Fact) -> bool) {
        assert!(self.facts.iter().any(is), "{what} is not among {:#?}", self.facts);
    }
}

#[test]
fn a_request_that_goes_well_is_told_from_its_arrival_to_its_end() {
    let mut rig = Rig::with_equals(1);
    let start = rig.arrive();
    let after = Duration::from_millis(80);
    rig.hear(Event::FirstToken { attempt: start.attempt, after });
    rig.whole(&start);
    let names: Vec<&str> = rig
        .facts
        .iter()
        .map(|fact| match fact {
            Fact::Arrived { .. } => "arrived",
            Fact::AttemptStarted { how: How::First, .. } => "started",
            Fact::FirstToken { .. } => "first token",
            Fact::AttemptWhole { .. } => "whole",
            Fact::Closed { outcome: Outcome::Done, attempts: 1, .. } => "closed",
            other => panic!("not expected: {other:?}"),
        })
        .collect();
    assert_eq!(names, ["arrived", "started", "first token", "whole", "closed"]);
    assert_eq!(rig.ends, [Close::Done]);
}

#[test]
fn a_site_that_keeps_failing_is_told_with_each_attempt_and_then_as_suspect() {
    let mut rig = Rig::with_equals(2);
    for _ in 0..3 {
        let start = rig.arrive();
        if start.target != TargetId(0) {
            rig.whole(&start);
            continue;
        }
        rig.refuses(&start, ErrorClass::Transient, None);
        let second = rig.latest();
        assert_eq!(second.target, TargetId(1));
        rig.whole(&second);
        rig.pass(Duration::from_millis(400));
    }
    rig.told("the failed attempt", |fact| {
        matches!(fact, Fact::AttemptFailed { target: TargetId(0), class, .. }
            if *class == ErrorClass::Transient)
    });
    rig.told("the suspicion", |fact| {
        matches!(fact, Fact::Health { target: TargetId(0), from: Verdict::Up, .. })
    });
}

#[test]
fn a_dated_overload_pauses_and_an_undated_one_limits() {
    let mut rig = Rig::with_equals(2);
    let start = rig.arrive();
    rig.refuses(&start, ErrorClass::Overload, Some(30));
    rig.told("the pause", |fact| matches!(fact, Fact::Paused { target: TargetId(0), .. }));

    let mut rig = Rig::with_equals(2);
    let starts: Vec<Start> = (0..8).map(|_| rig.arrive()).collect();
    for start in &starts[..4] {
        let after = Duration::from_millis(50);
        rig.hear(Event::FirstToken { attempt: start.attempt, after });
        rig.pass(Duration::from_millis(10));
    }
    rig.refuses(&starts[7], ErrorClass::Overload, None);
    rig.told("the limit", |fact| matches!(fact, Fact::Limited { target: TargetId(0), .. }));
}

#[test]
fn an_unpaid_bill_parks_a_target_until_a_probe_succeeds() {
    let mut rig = Rig::with_equals(1);
    let start = rig.arrive();
    rig.refuses(&start, ErrorClass::OurBilling, None);
    rig.told("the parking", |fact| matches!(fact, Fact::Parked { target: TargetId(0), .. }));
    rig.pass(Limits::default().probe_billing + Duration::from_secs(1));
    let probe = rig.arrive();
    rig.whole(&probe);
    rig.told("its end", |fact| matches!(fact, Fact::Unparked { target: TargetId(0) }));
}

#[test]
fn a_window_that_a_refusal_names_is_learned() {
    let mut rig = Rig::with_equals(1);
    let start = rig.arrive();
    let class = ErrorClass::ClientFault(ClientFault::Context);
    let failure = Failure { limit: Some(4096), ..Failure::ours(class, "too long") };
    rig.breaks(&start, failure, Why::Reply);
    rig.told("the window", |fact| matches!(fact, Fact::Learned { window: Some(4096), .. }));
}

#[test]
fn alone_a_fast_fault_is_followed_by_one_short_wait() {
    let mut rig = Rig::with_equals(1);
    let start = rig.arrive();
    rig.refuses(&start, ErrorClass::Transient, None);
    rig.told("the wait", |fact| {
        matches!(fact, Fact::Waiting { wait, .. } if *wait <= Limits::default().retry_pause.1)
    });
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.starts.len(), 2);
}

#[test]
fn a_continuation_that_is_refused_is_not_asked_for_again() {
    let mut rig = Rig::with_equals(2);
    let start = rig.arrive();
    let after = Duration::from_millis(50);
    rig.hear(Event::FirstToken { attempt: start.attempt, after });
    let standing = Standing {
        relayed: true,
        answered: true,
        tokens: 20,
        open: vec![0],
        ..Standing::default()
    };
    let report = Report { tokens: 20, standing, ..Report::default() };
    let broken = Broken {
        failure: Failure::ours(ErrorClass::Transient, "cut"),
        why: Why::Cut,
        sent: Sent::Maybe,
        stale: false,
        quiet: Duration::ZERO,
        report: report.clone(),
    };
    rig.hear(Event::Broken { attempt: start.attempt, broken });
    let second = rig.latest();
    assert_eq!(second.how, How::Resume(Rung::Native));
    let class = ErrorClass::ClientFault(ClientFault::Invalid);
    let broken = Broken {
        failure: Failure::ours(class, "invalid_prefill"),
        why: Why::Reply,
        sent: Sent::Maybe,
        stale: false,
        quiet: Duration::ZERO,
        report: Report { tokens: 0, ..report },
    };
    rig.hear(Event::Broken { attempt: second.attempt, broken });
    rig.told("its end", |fact| matches!(fact, Fact::ContinuationOff { target: TargetId(1) }));
}

#[test]
fn an_outage_does_not_become_a_storm_of_retries() {
    let mut rig = Rig::with_equals(2);
    for _ in 0..40 {
        let asked = rig.starts.len();
        rig.arrive();
        // Every attempt of this request fails, slowly enough not to return to the same site.
        for at in asked.. {
            let Some(start) = rig.starts.get(at).cloned() else { break };
            rig.breaks(&start, Failure::ours(ErrorClass::Transient, "5xx"), Why::Reply);
        }
        rig.pass(Duration::from_millis(1));
    }
    rig.told("the end of retries", |fact| matches!(fact, Fact::RetriesExhausted { .. }));
}

#[test]
fn who_leaves_and_who_counts_otherwise_is_told() {
    let mut rig = Rig::with_equals(1);
    let start = rig.arrive();
    let report = Report { tokens: 7, ..Report::default() };
    rig.hear(Event::Gone { request: start.attempt.request, report: report.clone() });
    rig.told("the attempt given up", |fact| matches!(fact, Fact::AttemptLeft { tokens: 7, .. }));
    let start = rig.arrive();
    let report = Report { counted: Some(5), ..report };
    rig.hear(Event::Whole { attempt: start.attempt, report });
    rig.told("the count", |fact| matches!(fact, Fact::Miscounted { tokens: 7, counted: 5, .. }));
}
