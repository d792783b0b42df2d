//! What the public gets: pages, documents and badges, whatever things are called.

mod told;

use super::door::Door;
use super::words::{Chinese, English, Language};
use super::*;
use crate::http::ResponseBody;
use http::header::{ACCEPT_LANGUAGE, ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use mainstay_core::message::{Count, SUMMARY_MAX};
use mainstay_core::names::{ModelId, SiteId};
use mainstay_core::status::crowd::Reported;
use mainstay_core::status::{Data, Overall};
use serde_json::Value;
use std::time::Duration;

const WALL: u64 = 20_000 * 86_400;
const GREEN: Duration = Duration::from_secs(600);

fn names(title: &str, models: &[&str], sites: &[Option<&str>]) -> Names {
    Names {
        title: title.into(),
        url: None,
        models: models.iter().map(|name| (*name).to_owned()).collect(),
        sites: sites.iter().map(|name| name.map(str::to_owned)).collect(),
        tiers: ["pro", "free"].map(String::from).to_vec(),
        is_open: false,
    }
}

fn row(component: Component, state: State) -> Row {
    let lasts = Duration::from_secs(7);
    let first_token = Some(Duration::from_millis(350));
    Row { component, state, lasts, good: Some(998), first_token, reported: Reported::default() }
}

fn view(names: Names, states: &[State], overall: Overall) -> View {
    let models = names.models.len();
    let of = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
    let which = |at: usize| match at {
        0 => Component::Api,
        at if at <= models => Component::Model(ModelId(of(at - 1))),
        at => Component::Site(SiteId(of(at - 1 - models))),
    };
    let rows = states.iter().enumerate().map(|(at, state)| row(which(at), *state)).collect();
    let page = Page {
        data: Data::Fresh(Duration::from_secs(1)),
        heard: (1, 2),
        overall,
        is_known: states.first() != Some(&State::NoData),
        changed: Duration::from_secs(7),
        rows,
    };
    let (incidents, maintenances, short, days, drawn, here) = Default::default();
    let names = Arc::new(names);
    View { page, names, incidents, maintenances, short, days, drawn, wall: WALL, here }
}

/// A door whose only gateway counted this.
fn door(names: Names) -> Door {
    let config = Config {
        gateways: vec!["g".into()],
        models: names.models.clone(),
        sites: vec!["inside".into(); names.sites.len()],
        ..Config::default()
    };
    let desk = Desk::of(config, names, Store::of(None));
    let count = Count { good: 60, ..Count::default() };
    let models = vec![(ModelId(0), count)];
    desk.hear("g", Summary { run: 1, models, api: count, ..Summary::default() });
    Door::new(desk)
}

fn get(door: &Door, path: &str, headers: &[(http::HeaderName, &str)]) -> Response<ResponseBody> {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    door.answer(&request.body(()).expect("a request"))
}

fn text(response: Response<ResponseBody>) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let body = runtime.block_on(response.into_body().collect()).expect("a body");
    String::from_utf8(body.to_bytes().to_vec()).expect("UTF-8")
}

fn document(door: &Door, path: &str) -> Value {
    let response = get(door, path, &[]);
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    serde_json::from_str(&text(response)).expect("JSON")
}

const EVIL: &str = "</title><script>alert(1)</script>\" onload='x' \u{202e}&amp;";

#[test]
fn whatever_things_are_called_no_markup_of_it_is_read() {
    let states = [State::Operational, State::Major, State::Partial];
    let shown = view(names(EVIL, &[EVIL], &[Some(EVIL)]), &states, Overall::Minor);
    for language in Language::ALL {
        let page = html::page(&shown, language, GREEN);
        assert!(!page.contains("<script") && !page.contains("onload='"), "{page}");
        assert!(page.contains("&lt;script&gt;") && page.contains("&amp;amp;"), "{page}");
        assert!(!page.contains('\u{202e}') && page.matches("</title>").count() == 1, "{page}");
    }
    let mut linked = view(names("x", &[], &[]), &[State::Operational], Overall::Well);
    Arc::make_mut(&mut linked.names).url = Some("https://x/\"><script>".into());
    assert!(!html::page(&linked, English, GREEN).contains("<script"));
    for component in [None, Some(EVIL)] {
        let badge = badge::badge(&shown, component).expect("a badge");
        assert!(!badge.contains("<script") && !badge.contains("onload='"), "{badge}");
    }
}

#[test]
fn a_page_of_everything_that_there_can_be_stays_below_100_kb() {
    let name = "a-model-whose-name-is-as-long-as-names-of-models-become-in-practice";
    let (models, sites) = ([name; SUMMARY_MAX], [Some(name); SUMMARY_MAX]);
    let states = [State::Degraded; 1 + 2 * SUMMARY_MAX];
    let shown = view(names("x", &models, &sites), &states, Overall::Minor);
    for language in Language::ALL {
        let page = html::page(&shown, language, GREEN);
        assert!(page.len() <= 100 * 1000, "{}", page.len());
        for foreign in ["<script", "src=", "@import", "url(http", "href=\"http"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }
}

#[test]
fn each_state_is_told_by_its_word_and_its_shape_in_both_languages() {
    let states = [
        (State::NoData, "No data", "暂无数据"),
        (State::Maintenance, "Under maintenance", "维护中"),
        (State::Operational, "Operational", "运行正常"),
        (State::Degraded, "Degraded performance", "性能下降"),
        (State::Partial, "Partial outage", "部分中断"),
        (State::Major, "Major outage", "严重中断"),
    ];
    for (at, (state, english, chinese)) in states.into_iter().enumerate() {
        let shown = view(names("x", &[], &[]), &[state], Overall::Well);
        for (language, word) in [(English, english), (Chinese, chinese)] {
            let page = html::page(&shown, language, GREEN);
            let told = format!("<use href=\"#s{at}\"/></svg>{word}</span>");
            assert!(page.contains(&told), "{told}: {page}");
            assert!(page.contains(&format!("<html lang=\"{}\">", language.tag())));
        }
    }
}

#[test]
fn the_headline_claims_no_more_than_is_known() {
    let all = |state, overall| view(names("x", &[], &[]), &[state], overall);
    let mut shown = all(State::Operational, Overall::Well);
    assert_eq!(English.headline(&shown), "All systems operational");
    shown.page.data = Data::Stale(Duration::from_secs(25));
    assert_eq!(English.headline(&shown), "No new data for 25 s");
    shown.page.data = Data::Lost(Duration::from_secs(90));
    let told = English.headline(&shown);
    assert!(
        told.starts_with("No data since ") && told.ends_with(" UTC – assume trouble"),
        "{told}"
    );
    assert!(Chinese.headline(&shown).ends_with("起无数据，可能正在发生故障"));
    assert!(html::page(&shown, English, GREEN).contains("assume trouble"));
    shown.page.data = Data::None(Duration::ZERO);
    assert_eq!(English.headline(&shown), "No data yet");
    let quiet = all(State::NoData, Overall::Well);
    assert_eq!(English.headline(&quiet), "Too few requests to tell");
    let site = all(State::Operational, Overall::Minor);
    assert_eq!(English.headline(&site), "Requests are answered; some parts are impaired");
    assert_eq!(English.headline(&all(State::Major, Overall::Critical)), "Major outage");
}

#[test]
fn the_language_is_the_one_that_the_browser_prefers() {
    for (header, language) in [
        ("", English),
        ("zh-CN,zh;q=0.9,en;q=0.8", Chinese),
        ("en-US,en;q=0.9,zh;q=0.8", English),
        ("de, zh;q=0.7, en;q=0.3", Chinese),
        ("de, fr", English),
        ("zh;q=0", English),
        ("ZH-hant", Chinese),
        ("*;q=0.1, zh;q=nonsense", English),
    ] {
        assert_eq!(Language::accepted(header), language, "{header}");
    }
    let door = door(names("x", &["chat"], &[]));
    let asked = get(&door, "/", &[(ACCEPT_LANGUAGE, "zh")]);
    assert_eq!(
        (&asked.headers()["vary"], &asked.headers()["content-language"]),
        (&"accept-language".parse().expect("a value"), &"zh-Hans".parse().expect("a value"),)
    );
    assert!(text(asked).contains("<html lang=\"zh-Hans\">"));
    assert!(text(get(&door, "/en/", &[(ACCEPT_LANGUAGE, "zh")])).contains("<html lang=\"en\">"));
    for path in ["", "history", "report"] {
        let asked = get(&door, &format!("/{path}"), &[]);
        assert_eq!(asked.headers()["vary"], "accept-language", "/{path}");
        let page = text(get(&door, &format!("/zh/{path}"), &[]));
        for language in Language::ALL {
            let (tag, at) = (language.tag(), language.path());
            let link = format!("hreflang=\"{tag}\" href=\"{at}{path}\">");
            assert!(page.contains(&link), "{link}: {page}");
        }
    }
}

#[test]
fn programs_get_what_statuspage_would_give_them() {
    let door = door(names("x", &["chat", "other"], &[Some("North"), None]));
    let summary = document(&door, "/api/v2/summary.json");
    let keys = |value: &Value| -> Vec<String> {
        let mut keys: Vec<_> = value.as_object().expect("an object").keys().cloned().collect();
        keys.sort_unstable();
        keys
    };
    let all = ["components", "incidents", "page", "scheduled_maintenances", "status"];
    assert_eq!(keys(&summary), all);
    assert_eq!(keys(&summary["page"]), ["id", "name", "time_zone", "updated_at", "url"]);
    assert_eq!(keys(&summary["status"]), ["description", "indicator"]);
    let fields = [
        "created_at",
        "description",
        "group",
        "group_id",
        "id",
        "name",
        "only_show_if_degraded",
        "page_id",
        "position",
        "showcase",
        "start_date",
        "status",
        "updated_at",
    ];
    let components = summary["components"].as_array().expect("a list");
    let of: Vec<_> = components.iter().map(|each| each["name"].as_str().expect("a name")).collect();
    assert_eq!(of, ["API", "Models", "chat", "other", "Sites", "North"]);
    for (at, component) in (1..).zip(components) {
        let mut expected = fields.to_vec();
        if component["group"] == true {
            expected.insert(0, "components");
        }
        assert_eq!(keys(component), expected);
        assert_eq!(component["position"], at);
        assert_eq!(component["page_id"], summary["page"]["id"]);
    }
    assert_eq!(components[1]["components"][0], components[2]["id"]);
    assert_eq!(components[2]["group_id"], components[1]["id"]);
    assert_eq!(document(&door, "/api/v2/components.json")["components"], summary["components"]);
    assert_eq!(document(&door, "/api/v2/status.json")["status"], summary["status"]);
    for (path, key) in [
        ("incidents", "incidents"),
        ("incidents/unresolved", "incidents"),
        ("scheduled-maintenances", "scheduled_maintenances"),
        ("scheduled-maintenances/upcoming", "scheduled_maintenances"),
        ("scheduled-maintenances/active", "scheduled_maintenances"),
    ] {
        assert_eq!(document(&door, &format!("/api/v2/{path}.json"))[key], Value::Array(vec![]));
    }
}

#[test]
fn where_nobody_knows_no_program_reads_that_all_is_well() {
    let mut shown = view(names("x", &["chat"], &[]), &[State::NoData; 2], Overall::Major);
    shown.page.data = Data::Lost(Duration::from_secs(100));
    let told = json::document(&shown, "summary.json", Duration::ZERO).expect("a document");
    assert_eq!(told["status"]["indicator"], "major");
    for component in told["components"].as_array().expect("a list") {
        assert_eq!(component["status"], "degraded_performance");
    }
    assert!(badge::badge(&shown, Some("chat")).expect("a badge").contains("assume trouble"));
}

#[test]
fn answers_may_be_cached_and_asked_again_and_nothing_is_changed_by_asking() {
    let door = door(names("x", &["chat"], &[]));
    for path in ["/api/v2/components.json", "/badge.svg", "/badge.svg?component=ch%61t"] {
        let first = get(&door, path, &[]);
        let headers = first.headers();
        assert_eq!(headers[CACHE_CONTROL], "max-age=10, stale-if-error=600", "{path}");
        assert_eq!(headers["access-control-allow-origin"], "*", "{path}");
        let tag = headers[ETAG].to_str().expect("text").to_owned();
        for known in [tag.clone(), format!("\"other\", W/{tag}"), "*".into()] {
            let again = get(&door, path, &[(IF_NONE_MATCH, &known)]);
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path} {known}");
            assert_eq!(text(again), "");
        }
        assert_eq!(get(&door, path, &[(IF_NONE_MATCH, "\"x\"")]).status(), StatusCode::OK);
    }
    assert_eq!(text(get(&door, "/healthz", &[])), "ok\n");
    for path in ["/admin", "/api/v2/", "/api/v2/../summary.json", "/badge.svg?component=none"] {
        assert_eq!(get(&door, path, &[]).status(), StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(get(&door, "/badge.svg?component=%zz%", &[]).status(), StatusCode::NOT_FOUND);
    let post = Request::builder().method(Method::POST).uri("/").body(()).expect("a request");
    let refused = door.answer(&post);
    assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(refused.headers()[ALLOW], "GET, HEAD");
    let page = get(&door, "/", &[]);
    assert_eq!(page.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
    let policy = page.headers()["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
}
