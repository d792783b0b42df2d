//! Incidents, the reports after them and announced work, as readers and programs get them.

use super::*;
use mainstay_core::fact::Because;
use mainstay_core::status::Kept;
use mainstay_core::status::incident::{Cause, Move, Part, Postmortem, Stage, TEXT, Update};
use mainstay_core::status::maintenance::{Note, Reason, Step};

fn update(at: u64, stage: Stage, cause: Cause, text: &str) -> Update {
    Update { at, stage, cause, text: text.into() }
}

fn incident(id: u32, text: &str) -> Incident {
    let api = Part {
        component: Component::Api,
        worst: State::Partial,
        now: State::Operational,
        good: 3000,
        failed: 1000,
    };
    let because = Because::Failures { failed: 12, of: 40 };
    let component = Component::Api;
    Incident {
        id,
        title: String::new(),
        parts: vec![api],
        updates: vec![
            update(WALL, Stage::Investigating, Cause::Seen, ""),
            update(WALL + 60, Stage::Identified, Cause::Person, text),
            update(WALL + 1860, Stage::Resolved, Cause::Person, text),
        ],
        relapses: 1,
        is_led: true,
        is_forced: false,
        moves: vec![Move { at: WALL - 5, component, to: State::Partial, because }],
        report: None,
        well: None,
    }
}

fn work(id: u32, text: &str) -> Maintenance {
    let note = |at: u64, step: Step, reason: Reason, text: &str| Note {
        at,
        step,
        reason,
        text: text.into(),
    };
    Maintenance {
        id,
        title: text.chars().take(200).collect(),
        components: vec![Component::Site(SiteId(0))],
        from: WALL + 60,
        until: WALL + 3660,
        notes: vec![
            note(WALL, Step::Scheduled, Reason::Person, text),
            note(WALL + 60, Step::InProgress, Reason::Time, ""),
        ],
        well: None,
    }
}

fn shown(incidents: Vec<Incident>, maintenances: Vec<Maintenance>) -> View {
    let states = [State::Operational; 2];
    let view = view(names("x", &[], &[Some("North")]), &states, Overall::Well);
    View { incidents, maintenances, ..view }
}

#[test]
fn a_draft_tells_what_was_counted_and_leaves_gaps_for_what_was_not() {
    let before = Incident { id: 1, ..incident(1, "") };
    let before = Incident {
        updates: before
            .updates
            .into_iter()
            .map(|each| Update { at: each.at - 86_400 * 3, ..each })
            .collect(),
        ..before
    };
    let view = shown(vec![before, incident(2, "A cable.")], Vec::new());
    let text = draft::draft(&view.incidents[1], &view);
    for line in [
        "## TL;DR",
        "Partial outage: API. From 2024-10-04 00:00 to 2024-10-04 00:31 UTC (31 min): 1000 of \
         4000 requests (25.0 %) failed; it came back once after it seemed to be over.",
        "- API: at worst partial outage; 1000 of 4000 requests (25.0 %) failed.",
        "- The first sign: 12 of 40 failed lately.",
        "- It showed in counts; it was told here 5 s after it showed.",
        "- The cause was known after 60 s.",
        "- API failed in 1 other incident in the 90 days before, 31 min in all; relapses: 1.",
        "- 2024-10-03 23:59:55 UTC: API is partial outage: 12 of 40 failed lately",
        "- 2024-10-04 00:01:00 UTC: Identified: A cable.",
    ] {
        assert!(text.lines().any(|each| each == line), "{line}\n{text}");
    }
    assert_eq!(text.matches(draft::GAP).count(), 3, "{text}");
    assert!(draft::gap(&text).is_some() && draft::gap("All is said.").is_none());
    let filled = text.replace(draft::GAP, "(so:");
    let page = draft::shown(&filled, Chinese, 80_000);
    assert!(page.contains("<h2>摘要</h2>") && page.contains("<h2>时间线</h2>"), "{page}");
    assert_eq!(page.matches("<ul>").count(), page.matches("</ul>").count());
}

#[test]
fn only_a_finished_report_is_public_and_nothing_of_it_is_markup() {
    let mut one = incident(1, EVIL);
    let view = shown(vec![one.clone()], Vec::new());
    let page = html::incident(&view, English, "1").expect("a page");
    assert!(!page.contains("TL;DR"), "a draft is nobody's business");
    let told = json::document(&view, "incidents.json", Duration::ZERO).expect("a document");
    assert_eq!(told["incidents"][0]["status"], "resolved");
    let text = format!("## TL;DR\n\n{EVIL}\n\n- {EVIL}\n## {EVIL}\n");
    one.report = Some(Postmortem { at: WALL + 9000, text: text.clone() });
    let view = shown(vec![one], Vec::new());
    for language in Language::ALL {
        let page = html::incident(&view, language, "1").expect("a page");
        assert!(!page.contains("<script") && !page.contains("onload='"), "{page}");
        assert!(page.contains(&format!("<h2>{}</h2>", language.of("TL;DR", "摘要"))), "{page}");
    }
    let told = json::document(&view, "incidents.json", Duration::ZERO).expect("a document");
    let told = &told["incidents"][0];
    assert_eq!((&told["status"], &told["postmortem_body"]), (&"postmortem".into(), &text.into()));
    assert_eq!(told["incident_updates"][0]["status"], "postmortem");
    assert_eq!(told["updated_at"], "2024-10-04T02:30:00Z");
    for feed in [feed::rss(&view, "https://x"), feed::atom(&view, "https://x")] {
        assert!(feed.contains("TL;DR") && !feed.contains("<script"), "{feed}");
    }
}

#[test]
fn announced_work_is_told_before_and_while_it_lasts() {
    let view = shown(Vec::new(), vec![work(1, EVIL)]);
    for language in Language::ALL {
        let pages = [
            html::page(&view, language, GREEN),
            html::history(&view, language),
            html::maintenance(&view, language, "1").expect("a page"),
        ];
        for page in pages {
            assert!(page.contains(language.of("In progress", "进行中")), "{page}");
            assert!(page.contains("2024-10-04 00:01") && page.contains("North"), "{page}");
            assert!(!page.contains("<script") && !page.contains("onload='"), "{page}");
        }
    }
    assert!(html::maintenance(&view, English, "2").is_none());
    let told = |path: &str| json::document(&view, path, Duration::ZERO).expect("a document");
    let active = told("scheduled-maintenances/active.json");
    let active = &active["scheduled_maintenances"][0];
    assert_eq!(active["status"], "in_progress");
    assert_eq!(active["scheduled_until"], "2024-10-04T01:01:00Z");
    assert_eq!(active["components"][0]["name"], "North");
    assert_eq!(&told("summary.json")["scheduled_maintenances"][0], active);
    assert_eq!(&told("scheduled-maintenances.json")["scheduled_maintenances"][0], active);
    let upcoming = told("scheduled-maintenances/upcoming.json");
    assert_eq!(upcoming["scheduled_maintenances"], Value::Array(vec![]));
    assert!(feed::atom(&view, "").contains(":m1</id>"));
}

#[test]
fn pages_stay_below_100_kb_however_much_is_told() {
    let long = "\"真".repeat(TEXT / 2);
    let report = Postmortem { at: WALL * 2, text: "\"真".repeat(10_000) };
    let of = |id: u32| {
        let updates = (0..200).map(|_| update(WALL, Stage::Resolved, Cause::Person, &long));
        let report = Some(report.clone());
        Incident { report, updates: updates.collect(), ..incident(id, "") }
    };
    let incidents = (1..=200).map(of).collect();
    let works = (1..=100).map(|id| work(id, &long)).collect();
    let view = shown(incidents, works);
    for language in Language::ALL {
        let pages = [
            html::page(&view, language, GREEN),
            html::history(&view, language),
            html::incident(&view, language, "7").expect("a page"),
            html::maintenance(&view, language, "7").expect("a page"),
        ];
        for page in pages {
            assert!(page.len() <= 100 * 1000, "{}", page.len());
            assert!(page.ends_with("</html>\n"));
        }
    }
}

#[test]
fn what_is_told_outlives_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let config =
        Config { models: vec!["chat".into()], sites: vec!["north".into()], ..Config::default() };
    let mut one = incident(3, EVIL);
    one.report = Some(Postmortem { at: WALL, text: "why".into() });
    let becauses = [
        Because::Late,
        Because::NoSuccess { lasts: Duration::from_secs(61) },
        Because::Down { gateways: 2, of: 3 },
        Because::Shut,
        Because::Answers,
        Because::Green,
        Because::Milder,
        Because::Quiet,
    ];
    let component = Component::Model(ModelId(0));
    one.moves.extend(becauses.map(|because| Move { at: 1, component, to: State::Major, because }));
    let kept = Kept { incidents: vec![one], maintenances: vec![work(2, EVIL)], ..Kept::default() };
    let store = Store::of(Some(directory.path()));
    store.write(&kept, &config);
    assert_eq!(store.read(&config), kept);
}

#[test]
fn who_is_told_of_something_twice_knows_it_by_its_id() {
    let view = shown(vec![incident(1, EVIL)], vec![work(1, EVIL)]);
    let told = |fact: StatusFact| alert::message(&fact, &view).expect("a message");
    let resolved = StatusFact::Incident { id: 1, stage: Stage::Resolved, cause: Cause::Person };
    let message = told(resolved.clone());
    assert_eq!((&message["kind"], &message["event"]), (&"incident".into(), &"resolved".into()));
    assert_eq!(message["incident"]["status"], "resolved");
    assert_eq!(message["page"]["status_indicator"], "none");
    assert_eq!((&message["id"], &message["at"]), (&told(resolved)["id"], &WALL.into()));
    let relapsed =
        StatusFact::Incident { id: 1, stage: Stage::Investigating, cause: Cause::Relapse };
    let ids = [
        message,
        told(relapsed),
        told(StatusFact::Maintenance { id: 1, step: Step::InProgress }),
        told(StatusFact::Surge { component: Component::Api, reports: 12, began: true }),
        told(StatusFact::Lost { lasts: Duration::from_secs(90) }),
        told(StatusFact::Found),
    ];
    let ids: std::collections::BTreeSet<String> =
        ids.iter().map(|each| each["id"].to_string()).collect();
    assert_eq!(ids.len(), 6, "{ids:?}");
    let gone = StatusFact::Incident { id: 9, stage: Stage::Resolved, cause: Cause::Person };
    assert_eq!(alert::message(&gone, &view), None);
}

#[test]
fn a_report_with_the_beginning_of_a_key_is_answered_and_nothing_of_it_is_kept() {
    let config = Config { gateways: vec!["g".into(), "h".into()], ..Config::default() };
    let desk = Desk::of(config, names("x", &[], &[]), Store::of(None));
    let key = "sk-mainstay-0123456789abcdef0123456789abcdef";
    let failing = |failed, all| mainstay_core::message::Failing {
        key: crate::setup::mark_of(key).expect("long enough"),
        failed,
        all,
    };
    for (gateway, failing) in [("g", failing(9, 30)), ("h", failing(3, 10))] {
        let failing = vec![failing];
        desk.hear(gateway, Summary { run: 1, failing, ..Summary::default() });
    }
    let ask = |key: &str, network: u8| {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let form = [pair("kind", "errors"), pair("key", key)];
        let told = desk.told([192, 0, network, 1].into(), &http::HeaderMap::new(), &form);
        reports::page(&desk.view(), English, Some(told))
    };
    let seen = "we saw 12 of your 40 requests fail";
    let none = "we saw no request of a key that begins so fail";
    for (network, (given, answer)) in (1..).zip([
        (&key[..18], seen),
        // Who pastes all of it is answered by its beginning.
        (key, seen),
        ("sk-mainstay-ffffff", none),
        ("sk-mainstay", none),
        ("<script>", none),
    ]) {
        let page = ask(given, network);
        assert!(page.contains(answer), "{given}: {page}");
        assert!(!page.contains("0123456789") && !page.contains("<script"), "{page}");
    }
    assert!(!ask("", 9).contains("we saw"));
    // As few answers as reports from one network.
    let answers = (0..9).filter(|_| ask(key, 10).contains(seen)).count();
    assert_eq!(answers, 5);
    assert_eq!(crate::setup::mark_of("sk-short-key-of-somebody"), None);
}

#[test]
fn a_letter_says_what_happened_and_where_to_read_on() {
    let mut view = shown(vec![incident(1, "A cable.")], vec![work(2, "New racks")]);
    Arc::make_mut(&mut view.names).url = Some("https://s.example/".into());
    let letter = |fact: StatusFact| alert::letter(&fact, &view).expect("a letter");
    let resolved = StatusFact::Incident { id: 1, stage: Stage::Resolved, cause: Cause::Person };
    let (subject, text) = letter(resolved);
    assert_eq!(subject, "[x] resolved: Partial outage: API");
    assert!(text.starts_with("A cable.\n") && text.contains("https://s.example/incidents/1"));
    let (subject, text) = letter(StatusFact::Maintenance { id: 2, step: Step::InProgress });
    assert_eq!(subject, "[x] maintenance in progress: New racks");
    assert!(text.starts_with("2024-10-04 00:01 to 2024-10-04 01:01 UTC. The work has begun."));
    let surge = StatusFact::Surge { component: Component::Api, reports: 12, began: true };
    assert_eq!(letter(surge).0, "[x] users report problems with API");
}

#[test]
fn whom_a_loss_would_leave_refused_is_told_where_the_operator_wants_that() {
    let config =
        Config { gateways: vec!["g".into()], sites: vec!["north".into()], ..Config::default() };
    let short = mainstay_core::message::Short {
        site: SiteId(0),
        tier: mainstay_core::names::TierId(1),
        refused: 401,
    };
    for is_open in [true, false] {
        let names = Names { is_open, ..names("x", &[], &[Some("<North>")]) };
        let desk = Desk::of(config.clone(), names, Store::of(None));
        let short = vec![short];
        desk.hear("g", Summary { run: 1, short, ..Summary::default() });
        let page = html::page(&desk.view(), English, GREEN);
        let told = "Without &lt;North&gt; about 41 % of free requests would be refused.";
        assert_eq!(page.contains(told), is_open, "{page}");
    }
}
