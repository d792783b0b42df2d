//! Proves what one request's facts become.

use super::*;
use mainstay_core::fact::{How, Outcome, Rung, Verdict, Why};
use mainstay_core::names::{AttemptId, ErrorClass};

const REQUEST: RequestId = RequestId(0xab);

fn telemetry() -> Telemetry {
    Telemetry::new(Names {
        sites: vec!["deepseek".to_owned(), "dashscope".to_owned()],
        models: vec!["chat".to_owned()],
        targets: vec![(SiteId(0), "deepseek-flash".to_owned()), (SiteId(1), "qwen-max".to_owned())],
        tiers: vec!["pro".to_owned(), "free".to_owned()],
    })
}

fn at(millis: u64) -> Time {
    Time::from_micros(millis * 1000)
}

/// A request that is cut after 40 tokens and finished elsewhere.
fn tell(telemetry: &Telemetry, request: RequestId) {
    let attempt = |number| AttemptId { request, number };
    let (first, second) = (TargetId(0), TargetId(1));
    let ms = Duration::from_millis;
    let facts = [
        (1000, Fact::Arrived { request, model: ModelId(0), tier: TierId(1) }),
        (
            1001,
            Fact::AttemptStarted {
                attempt: attempt(1),
                target: first,
                how: How::First,
                relayed: 0,
            },
        ),
        (1400, Fact::FirstToken { attempt: attempt(1), target: first, after: ms(399) }),
        (
            2000,
            Fact::AttemptFailed {
                attempt: attempt(1),
                target: first,
                after: ms(999),
                tokens: 40,
                class: ErrorClass::Transient,
                why: Why::Cut,
            },
        ),
        (
            2000,
            Fact::AttemptStarted {
                attempt: attempt(2),
                target: second,
                how: How::Resume(Rung::Native),
                relayed: 40,
            },
        ),
        (2200, Fact::FirstToken { attempt: attempt(2), target: second, after: ms(200) }),
        (
            2580,
            Fact::AttemptWhole { attempt: attempt(2), target: second, after: ms(580), tokens: 20 },
        ),
        (
            2581,
            Fact::Closed {
                request,
                outcome: Outcome::Done,
                attempts: 2,
                resumes: 1,
                after: ms(1581),
            },
        ),
    ];
    for (millis, fact) in facts {
        telemetry.fact(at(millis), &fact);
    }
}

#[test]
fn attempts_are_counted_by_tier_and_site() {
    let telemetry = telemetry();
    tell(&telemetry, REQUEST);
    let (names, flows) = telemetry.flows();
    assert_eq!((names.tiers.len(), flows), (2, vec![0, 0, 1, 1]), "both of them for a free one");
    telemetry.rename(Names { models: vec!["other".to_owned()], ..(*names).clone() });
    assert_eq!(telemetry.flows().1, vec![0; 4], "counted anew under other names");
}

#[test]
fn a_request_becomes_metrics_under_the_published_names() {
    let telemetry = telemetry();
    tell(&telemetry, REQUEST);
    telemetry.quota(TierId(0), ModelId(0));
    telemetry.tokens(Direction::Output, 60);
    telemetry.retry_budget(0.5);
    let down = Fact::Health {
        target: TargetId(0),
        from: Verdict::Up,
        to: Verdict::Down,
        why: "refused three times",
    };
    telemetry.fact(at(3000), &down);
    let text = telemetry.exposition();
    for line in [
        r#"mainstay_requests_total{outcome="ok",tier="free",model="chat"} 1"#,
        r#"mainstay_requests_total{outcome="quota",tier="pro",model="chat"} 1"#,
        concat!(
            r#"mainstay_upstream_attempts_total{site="deepseek",model="deepseek-flash","#,
            r#"result="transient"} 1"#
        ),
        r#"mainstay_upstream_attempts_total{site="dashscope",model="qwen-max",result="ok"} 1"#,
        r#"mainstay_stream_resumes_total{result="ok"} 1"#,
        r#"mainstay_tokens_total{direction="output"} 60"#,
        "mainstay_inflight_requests 0",
        "mainstay_retry_budget_ratio 0.5",
        r#"mainstay_site_state{site="deepseek",model="deepseek-flash",state="down"} 1"#,
        r#"mainstay_site_state{site="deepseek",model="deepseek-flash",state="up"} 0"#,
        r#"mainstay_site_state{site="dashscope",model="qwen-max",state="up"} 1"#,
        "mainstay_request_duration_seconds_sum 1.581",
        "mainstay_time_to_first_token_seconds_sum 0.4",
        "mainstay_time_per_output_token_seconds_sum 0.02",
        "mainstay_build_info{version=",
    ] {
        assert!(text.contains(line), "{line} missing in\n{text}");
    }
}

#[test]
fn a_request_is_explained_in_words_and_times_since_its_arrival() {
    let telemetry = telemetry();
    tell(&telemetry, REQUEST);
    let text = telemetry.explain_text("req-00000000000000ab").unwrap();
    assert_eq!(
        text,
        "req-00000000000000ab\n\
         \x20    0.000 s  asked for chat, tier free\n\
         \x20    0.001 s  attempt 1 at deepseek/deepseek-flash\n\
         \x20    0.400 s  attempt 1 first token from deepseek/deepseek-flash after 0.399 s\n\
         \x20    1.000 s  attempt 1 failed at deepseek/deepseek-flash after 0.999 s: cut \
         (transient), 40 tokens relayed\n\
         \x20    1.000 s  attempt 2 at dashscope/qwen-max (resume by native, 40 tokens already \
         relayed)\n\
         \x20    1.200 s  attempt 2 first token from dashscope/qwen-max after 0.200 s\n\
         \x20    1.580 s  attempt 2 whole at dashscope/qwen-max: 20 tokens in 0.580 s\n\
         \x20    1.581 s  closed as ok after 1.581 s: 2 attempts, 1 resumes\n"
    );
    let json = telemetry.explain("req-00000000000000ab").unwrap();
    assert_eq!(json["tier"], "free");
    assert_eq!(json["facts"][3]["after_ms"], 1000.0);
    assert_eq!(json["facts"][3]["fact"], "attempt_failed");
    assert!(telemetry.explain("req-00000000000000ac").is_none());
    assert!(telemetry.explain("nonsense").is_none());
}

#[test]
fn only_the_last_requests_are_remembered_each_up_to_a_bound() {
    let telemetry = telemetry();
    for id in 0..5000 {
        let request = RequestId(id);
        telemetry.fact(at(id), &Fact::Arrived { request, model: ModelId(0), tier: TierId(0) });
    }
    let known = (0..5000).filter(|id| telemetry.explain(&format_request(RequestId(*id))).is_some());
    assert_eq!(known.collect::<Vec<_>>(), (904..5000).collect::<Vec<_>>());
    let request = RequestId(4999);
    for _ in 0..100 {
        telemetry.fact(at(9000), &Fact::RetriesExhausted { request, tier: TierId(0) });
    }
    let json = telemetry.explain(&format_request(request)).unwrap();
    assert_eq!(json["facts"].as_array().unwrap().len(), 64);
    assert_eq!(json["facts_left_out"], 37);
}

#[test]
fn a_request_has_one_spelling() {
    assert_eq!(format_request(REQUEST), "req-00000000000000ab");
    assert_eq!(parse_request(" req-00000000000000ab\n"), Some(REQUEST));
    assert_eq!(parse_request(&format_request(RequestId(u64::MAX))), Some(RequestId(u64::MAX)));
    for wrong in ["", "req-", "ab", "req-ab", "req-+0000000000000ab", "req-00000000000000zz"] {
        assert_eq!(parse_request(wrong), None, "{wrong}");
    }
}

#[test]
fn a_status_page_is_told_of_requests_and_of_attempts_and_under_other_names_anew() {
    let telemetry = telemetry();
    tell(&telemetry, REQUEST);
    let first = telemetry.summary(Time::ZERO, &[Standing::Down]);
    assert_eq!((first.api.good, first.api.failed), (1, 0), "the second try saved it");
    assert_eq!(first.models, [(ModelId(0), first.api)]);
    let sites: Vec<_> =
        first.sites.iter().map(|(_, is, all)| (*is, all.good, all.failed)).collect();
    assert_eq!(sites, [(Standing::Down, 0, 1), (Standing::Unknown, 1, 0)]);
    // After 400 ms, at the first site; after 399 ms there.
    assert_eq!((first.api.first_tokens[4], first.sites[0].2.first_tokens[4]), (1, 1));
    telemetry.rename(Names { models: vec!["chat".to_owned()], ..Names::default() });
    let second = telemetry.summary(Time::ZERO, &[]);
    assert_ne!(first.run, second.run);
    assert_eq!((second.api.good, second.sites.len()), (0, 0));
}
