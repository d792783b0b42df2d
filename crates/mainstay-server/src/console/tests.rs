//! Proves who is let in, what a form does and when, and that a page stays whole whatever is in it.

use super::*;
use crate::http::Peer;
use http::HeaderMap;
use http_body_util::BodyExt;
use mainstay_core::console::IDLE;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::time::Duration;

const HERE: &str = "127.0.0.1:5000";
const FAR: &str = "192.0.2.7:5000";
const TOKEN: &str = "a-token-of-enough-letters";

/// Documents with hostile names, as many of each as is said, and what was changed.
#[derive(Default)]
struct Papers {
    many: usize,
    changed: Mutex<Vec<(String, Value)>>,
}

const EVIL: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>";

impl Documents for Papers {
    fn show(&self, path: &str) -> Option<Value> {
        let all = |each: Value| vec![each; self.many.max(1)];
        Some(match path {
            "/view" => {
                let site = |n: usize| format!("{n}{EVIL}");
                let target = |n: usize| {
                    json!({ "site": site(n), "model": EVIL, "state": EVIL, "in_flight": 3,
                            "held": 1.5, "wanted": 2, "capacity": 10, "ramp": 100 })
                };
                let flow = |n: usize| json!({ "tier": EVIL, "site": site(n), "per_second": 1.5 });
                json!({
                    "targets": (0..self.many.max(1)).map(target).collect::<Vec<_>>(),
                    "flow": (0..self.many.max(1)).map(flow).collect::<Vec<_>>(),
                    "tiers": [EVIL, "pro"],
                    "facts": all(json!({ "age_s": 1.0, "fact": EVIL, "text": EVIL })),
                })
            }
            "/-/orders" => json!({ "orders": all(json!({
                "id": EVIL, "verb": EVIL, "site": EVIL, "reason": EVIL, "left_ms": 60_000 })) }),
            "/-/incidents" => json!({ "incidents": all(json!({
                "id": 1, "title": EVIL, "stage": EVIL, "components": [EVIL], "began": EVIL })) }),
            "/-/drill" => json!({
                "id": 1, "phase": "during", "ended": null, "how": EVIL, "site": EVIL }),
            "/-/keys" => json!({ "keys": all(json!({
                "id": EVIL, "name": EVIL, "tier": EVIL, "state": EVIL, "author": EVIL })) }),
            _ => return None,
        })
    }

    fn change(&self, path: &str, body: Bytes) -> Option<Result<Value, String>> {
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        let is_key = path.starts_with("/-/keys");
        let is_refused = body["reason"] == "no";
        self.changed.lock().unwrap().push((path.to_owned(), body));
        Some(match (is_refused, is_key) {
            (true, _) => Err(EVIL.into()),
            (_, true) => Ok(json!({ "id": "key-1", "key": "sk-secret" })),
            (_, false) => Ok(json!({ "id": "order-1" })),
        })
    }

    fn ready(&self) -> String {
        format!("not ready: {EVIL}")
    }
}

/// A console, what it shows, and a browser with its cookie.
struct Bench {
    console: Console,
    papers: Arc<Papers>,
    cookie: Option<String>,
    from: &'static str,
    host: &'static str,
}

/// Status, headers and body of an answer.
type Told = (u16, HeaderMap, String);

impl Bench {
    fn new(token: Option<&str>, from: &'static str) -> Bench {
        let token = token.map(|token| Sha256::digest(token).into());
        let place = (Bounds::default(), CancellationToken::new());
        let console = Console::new((token, Clock::new()), None, place);
        let papers = Arc::default();
        Bench { console, papers, cookie: None, from, host: "127.0.0.1:8081" }
    }

    async fn send(
        &self,
        line: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response<ResponseBody> {
        let (method, path) = line.split_once(' ').expect("a line");
        let mut request = Request::builder().method(method).uri(path).header("host", self.host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", format!("other=1; {cookie}"));
        }
        let (mut parts, ()) = request.body(()).expect("a request").into_parts();
        parts.extensions.insert(Peer(self.from.parse::<SocketAddr>().expect("an address")));
        let body = Bytes::copy_from_slice(body.as_bytes());
        self.console.inner.clone().respond(&parts, &body, self.papers.clone()).await
    }

    async fn ask(&mut self, line: &str, headers: &[(&str, &str)], body: &str) -> Told {
        let response = self.send(line, headers, body).await;
        let (head, body) = response.into_parts();
        if let Some(cookie) = head.headers.get("set-cookie") {
            let cookie = cookie.to_str().expect("text").to_owned();
            assert!(cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        (head.status.as_u16(), head.headers, String::from_utf8(body.to_vec()).expect("UTF-8"))
    }

    async fn get(&mut self, path: &str) -> Told {
        self.ask(&format!("GET {path}"), &[], "").await
    }

    async fn post(&mut self, path: &str, body: &str) -> Told {
        self.ask(&format!("POST {path}"), &[("origin", &format!("http://{}", self.host))], body)
            .await
    }

    fn changes(&self) -> usize {
        self.papers.changed.lock().unwrap().len()
    }
}

/// The value of a hidden field.
fn hidden(page: &str, name: &str) -> String {
    let start = format!("name=\"{name}\" value=\"");
    let at = page.find(&start).unwrap_or_else(|| panic!("no {name}: {page}")) + start.len();
    page[at..].split('"').next().unwrap_or_default().to_owned()
}

const DRAIN: &str = "what=drain&site=a&minutes=30&reason=disk";

#[tokio::test]
async fn without_a_token_the_console_is_for_this_machine_alone() {
    let mut here = Bench::new(None, HERE);
    let (status, headers, page) = here.get("/").await;
    assert!(status == 200 && here.cookie.is_some() && page.contains("You are"), "{page}");
    assert!(!page.contains("Log out"), "there is nothing to log in with");
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let nonce = policy.split("script-src 'nonce-").nth(1).unwrap().split('\'').next().unwrap();
    assert!(nonce.len() == 64 && page.contains(&format!("<script nonce=\"{nonce}\">")));
    assert_eq!(headers["cache-control"], "no-store");
    let (_, headers, _) = here.get("/").await;
    assert!(!headers.contains_key("set-cookie"), "it has a session");
    assert!(!headers["content-security-policy"].to_str().unwrap().contains(nonce), "drawn anew");

    for (from, host, more) in [
        (FAR, "127.0.0.1:8081", None),
        (HERE, "127.0.0.1:8081", Some(("x-forwarded-for", "192.0.2.7"))),
        (HERE, "evil.example:8081", None),
    ] {
        let mut other = Bench { host, ..Bench::new(None, from) };
        let headers: Vec<_> = more.into_iter().collect();
        for line in ["GET /", "GET /-/console/events", "POST /-/console/ask"] {
            let (status, _, page) = other.ask(line, &headers, DRAIN).await;
            assert!(status == 403 && other.cookie.is_none(), "{from} {host} {line}: {page}");
        }
    }
    // A page of others opens no session, and is not taken for one that was.
    let mut led = Bench::new(None, HERE);
    let (status, _, page) = led.ask("GET /", &[("sec-fetch-site", "cross-site")], "").await;
    assert!(status == 200 && led.cookie.is_none() && page.contains("another site"), "{page}");
}

#[tokio::test]
async fn with_a_token_nobody_is_let_in_without_it() {
    let mut far = Bench::new(Some(TOKEN), FAR);
    let (status, headers, page) = far.get("/").await;
    assert!(status == 401 && headers.contains_key("www-authenticate"), "{page}");
    assert!(page.contains("Admin token") && !page.contains("id=\"live\""), "{page}");
    let mut here = Bench::new(Some(TOKEN), HERE);
    assert_eq!(here.get("/").await.0, 401, "from this machine neither");
    assert_eq!(far.post("/-/console/login", "secret=wrong&name=bob").await.0, 403);
    let login = format!("secret={TOKEN}&name=%3Cb%3Ealice%0a");
    let foreign = [("origin", "https://evil.example")];
    assert_eq!(far.ask("POST /-/console/login", &foreign, &login).await.0, 403);
    assert!(far.cookie.is_none());
    let (status, headers, _) = far.post("/-/console/login", &login).await;
    assert!(status == 303 && headers["location"] == "/", "{headers:?}");
    let (status, _, page) = far.get("/").await;
    assert!(status == 200 && page.contains("console:&lt;b&gt;alice</strong>"), "{page}");

    let form = hidden(&page, "token");
    assert_eq!(far.post("/-/console/logout", "token=x").await.0, 403);
    assert_eq!(far.post("/-/console/logout", &format!("token={form}")).await.0, 303);
    assert_eq!(far.get("/").await.0, 401, "the cookie is worth nothing any more");

    // Behind a proxy that speaks TLS the cookie goes over TLS alone.
    let proxied = [("x-forwarded-proto", "https"), ("x-forwarded-for", "192.0.2.7")];
    let response = here.send("POST /-/console/login", &proxied, &format!("secret={TOKEN}")).await;
    assert!(response.headers()["set-cookie"].to_str().unwrap().ends_with("; Secure"));

    // Who guesses has to wait, even if the next guess is right.
    let mut guesser = Bench { from: "198.51.100.9:1", ..far };
    for _ in 0..console::WRONG_MAX {
        assert_eq!(guesser.post("/-/console/login", "secret=x").await.0, 403);
    }
    assert_eq!(guesser.post("/-/console/login", &login).await.0, 429);
}

#[tokio::test]
async fn the_rest_of_the_listener_wants_the_token_too() {
    let request = |method: &str, headers: &[(&str, String)]| {
        let mut request = Request::builder().method(method).uri("/-/order").header("host", "a:1");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        request.body(()).unwrap()
    };
    let open = Bench::new(None, FAR);
    assert!(open.console.bars(&request("POST", &[])).is_none(), "as it always was");
    let mut shut = Bench { host: "a:1", ..Bench::new(Some(TOKEN), FAR) };
    shut.post("/-/console/login", &format!("secret={TOKEN}")).await;
    let bearer = |token: &str| ("authorization", format!("Bearer {token}"));
    let cookie = ("cookie", shut.cookie.clone().unwrap());
    for (method, headers, is_open) in [
        ("GET", vec![], false),
        ("GET", vec![bearer("x")], false),
        ("POST", vec![bearer(TOKEN)], true),
        ("GET", vec![cookie.clone()], true),
        ("POST", vec![cookie], false),
    ] {
        let refusal = shut.console.bars(&request(method, &headers));
        assert_eq!(refusal.is_none(), is_open, "{method} {headers:?}");
    }
}

#[tokio::test]
async fn a_change_is_shown_confirmed_and_made_once() {
    let mut bench = Bench::new(None, HERE);
    let (_, _, page) = bench.get("/").await;
    let form = hidden(&page, "token");
    let (status, _, page) = bench.post(forms::ASK, &format!("token={form}&{DRAIN}")).await;
    assert!(status == 200 && page.contains("drain a for 30 min"), "{page}");
    assert_eq!(bench.changes(), 0, "nothing before it is confirmed");
    let meant = format!("token={form}&number={}&much=yes", hidden(&page, "number"));
    let (status, _, page) = bench.post(forms::DO, &meant).await;
    assert!(status == 200 && page.contains("order-1"), "{page}");
    let (path, body) = bench.papers.changed.lock().unwrap()[0].clone();
    assert_eq!(
        (path.as_str(), &body["verb"], &body["life_s"]),
        ("/-/order", &json!("drain"), &json!(1800))
    );
    assert_eq!((&body["author"], &body["confirm"]), (&json!("console"), &json!(true)));
    assert_eq!(bench.post(forms::DO, &meant).await.0, 409, "replayed");
    assert_eq!(bench.changes(), 1);

    // A secret is on this one page and on no other.
    let create = format!("token={form}&what=create&name=a&tier=pro");
    let (_, _, page) = bench.post(forms::ASK, &create).await;
    let (_, headers, page) =
        bench.post(forms::DO, &format!("token={form}&number={}", hidden(&page, "number"))).await;
    assert!(page.contains("sk-secret") && headers["cache-control"] == "no-store", "{page}");
    assert!(!bench.get("/").await.2.contains("sk-secret"));

    // What is refused says why, as text.
    let no = format!("token={form}&what=kill&site=a&minutes=1&reason=no");
    let (_, _, page) = bench.post(forms::ASK, &no).await;
    let (status, _, page) =
        bench.post(forms::DO, &format!("token={form}&number={}", hidden(&page, "number"))).await;
    assert!(status == 400 && page.contains("&lt;script&gt;alert"), "{page}");
    assert_eq!(bench.post(forms::ASK, &format!("token={form}&what=kill")).await.0, 400);
    assert_eq!(bench.get(forms::DO).await.0, 405, "by forms alone");
}

#[tokio::test]
async fn forms_of_others_are_not_taken() {
    let mut bench = Bench::new(None, HERE);
    let (_, _, page) = bench.get("/").await;
    let form = hidden(&page, "token");
    let (_, _, page) = Bench::new(None, HERE).get("/").await;
    let other = hidden(&page, "token");
    let mine = format!("token={form}&{DRAIN}");
    for (headers, body) in [
        (vec![("origin", "http://127.0.0.1:8081")], DRAIN.to_owned()),
        (vec![("origin", "http://127.0.0.1:8081")], format!("token={other}&{DRAIN}")),
        (vec![("origin", "https://evil.example")], mine.clone()),
        (vec![("origin", "null")], mine.clone()),
        (vec![("sec-fetch-site", "same-site")], mine.clone()),
    ] {
        let (status, _, page) = bench.ask("POST /-/console/ask", &headers, &body).await;
        assert!(status == 403 && !page.contains("name=\"number\""), "{headers:?} {body}: {page}");
    }
    // What one session was shown, another one does not confirm.
    let (_, _, page) = bench.post(forms::ASK, &mine).await;
    let number = hidden(&page, "number");
    let mut thief = Bench::new(None, HERE);
    thief.console = bench.console.clone();
    let (_, _, page) = thief.get("/").await;
    let body = format!("token={}&number={number}", hidden(&page, "token"));
    assert_eq!(thief.post(forms::DO, &body).await.0, 409);
    assert_eq!(bench.changes() + thief.changes(), 0);
}

#[tokio::test]
async fn a_session_that_is_over_does_nothing() {
    let mut bench = Bench::new(Some(TOKEN), FAR);
    bench.post("/-/console/login", &format!("secret={TOKEN}")).await;
    let (_, _, page) = bench.get("/").await;
    let form = hidden(&page, "token");
    let cookie = bench.cookie.clone().unwrap();
    let name = cookie.split('=').nth(1).unwrap();
    let mark = Sha256::digest(name).into();
    let long_ago = bench.console.inner.clock.now() - IDLE - Duration::from_secs(1);
    bench.console.inner.state().enter(long_ago, mark, "console".into());
    assert_eq!(bench.post(forms::ASK, &format!("token={form}&{DRAIN}")).await.0, 403);
    assert_eq!(bench.get("/-/console/events").await.0, 403);
    assert_eq!(bench.get("/").await.0, 401);
    assert_eq!(bench.changes(), 0);
}

#[tokio::test]
async fn whatever_things_are_called_and_however_many_there_are_the_page_is_whole() {
    let mut bench = Bench::new(None, HERE);
    bench.papers = Arc::new(Papers { many: 1000, ..Papers::default() });
    let (status, _, page) = bench.get("/?key=%22%3E%3Cscript%3Ealert(2)%3C/script%3E&by=%3C").await;
    assert_eq!(status, 200);
    assert_eq!(page.matches("<script").count(), 1, "the page's own");
    assert!(!page.contains("<img") && page.contains("&lt;script&gt;alert(1)"), "{page}");
    assert!(page.contains("value=\"&quot;&gt;&lt;script&gt;alert(2)"), "{page}");
    let (_, _, page) = bench.get("/").await;
    assert!(page.contains("and 950 more"), "{page}");
    assert!(page.len() < 400_000, "{} bytes", page.len());
}

#[tokio::test]
async fn screens_are_kept_up_to_date_within_bounds_and_told_when_it_is_over() {
    let mut bench = Bench::new(None, HERE);
    bench.get("/").await;
    let events = || bench.send("GET /-/console/events", &[], "");
    let mut open = Vec::new();
    for _ in 0..STREAMS_MAX {
        let response = events().await;
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        open.push(response);
    }
    assert_eq!(events().await.status(), 503);
    let mut first = open.pop().expect("one").into_body();
    let frame = first.frame().await.expect("a frame").expect("whole").into_data().expect("data");
    let text = String::from_utf8(frame.to_vec()).expect("UTF-8");
    let told = text.strip_prefix("data: ").and_then(|text| text.strip_suffix("\n\n"));
    let told: String = serde_json::from_str(told.expect("one event")).expect("JSON");
    assert!(told.contains("<h2>Sites</h2>") && !told.contains("<script"), "{told}");
    bench.console.inner.shutdown.cancel();
    assert!(first.frame().await.is_none(), "it ends whole");
}
