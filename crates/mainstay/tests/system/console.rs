//! The operators' console through the real program: who is let in, what forms do, what is seen of
//! it elsewhere.

use crate::bed::gateway::Gateway;
use crate::bed::nodes;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TOKEN: &str = "a-token-of-enough-letters";
const EVIL: &str = "%3Cscript%3Ealert(1)%3C/script%3E";

/// A browser that has what it was given.
struct Browser {
    address: String,
    cookie: String,
}

impl Browser {
    /// The connection after a request was sent.
    async fn send(&self, line: &str, headers: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).await.expect("it listens");
        let text = format!(
            "{line} HTTP/1.1\r\nhost: {}\r\naccept: text/html\r\ncookie: {}\r\n\
             connection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
            self.address,
            self.cookie,
            body.len()
        );
        stream.write_all(text.as_bytes()).await.expect("sent");
        stream
    }

    /// Status, head and body.
    async fn ask(&self, line: &str, headers: &str, body: &str) -> (String, String, String) {
        let mut reply = String::new();
        self.send(line, headers, body).await.read_to_string(&mut reply).await.expect("a reply");
        let (head, body) = reply.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).expect("a status");
        (status.into(), head.into(), body.into())
    }

    async fn page(&self) -> String {
        let (status, _, page) = self.ask("GET /", "", "").await;
        assert_eq!(status, "200", "{page}");
        page
    }

    async fn post(&self, path: &str, body: &str) -> (String, String) {
        let headers = format!("origin: http://{}\r\n", self.address);
        let (status, _, page) = self.ask(&format!("POST {path}"), &headers, body).await;
        (status, page)
    }

    /// Fills in a form of the page, and confirms what is shown.
    async fn change(&self, form: &str, more: &str) -> (String, String) {
        let token = hidden(&self.page().await, "token");
        let asked = self.post("/-/console/ask", &format!("token={token}&{form}")).await;
        assert_eq!(asked.0, "200", "{}", asked.1);
        let number = hidden(&asked.1, "number");
        self.post("/-/console/do", &format!("token={token}&number={number}{more}")).await
    }

    /// A document, as a program asks for it.
    async fn document(&self, path: &str) -> Value {
        let bearer = format!("authorization: Bearer {TOKEN}\r\n");
        let (status, _, body) = self.ask(&format!("GET {path}"), &bearer, "").await;
        assert_eq!(status, "200", "{body}");
        serde_json::from_str(&body).expect("JSON")
    }
}

fn hidden(page: &str, name: &str) -> String {
    let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\"")).expect(page);
    rest.split('"').next().expect("a value").to_owned()
}

/// A node that is gateway and site, whose admin listener wants a token.
async fn start(root: &Path) -> (Gateway, Browser) {
    nodes::make(root, "n", None);
    let text = nodes::file(root, "n", &[("n", nodes::free_port())]);
    let token = "[listen]\nadmin_token_env = \"TOKEN\"\n";
    let kept = format!("[node]\ndata_dir = {:?}\n", root.join("kept").display().to_string());
    let text = text.replacen("[listen]\n", token, 1).replacen("[node]\n", &kept, 1);
    let file = root.join("mainstay.toml");
    std::fs::write(&file, text).expect("written");
    let gateway = Gateway::start_at(&file, &[("TOKEN", Path::new(TOKEN))]).await;
    let address = gateway.admin.trim_start_matches("http://").to_owned();
    (gateway, Browser { address, cookie: String::new() })
}

async fn status_of_call(gateway: &Gateway, key: &str) -> String {
    let address = gateway.api.trim_start_matches("http://").to_owned();
    let client = Browser { address, cookie: String::new() };
    let body = "{\"model\":\"chat\",\"max_tokens\":1,\
                \"messages\":[{\"role\":\"user\",\"content\":\"?\"}]}";
    let headers = format!("authorization: Bearer {key}\r\n");
    client.ask("POST /v1/chat/completions", &headers, body).await.0
}

fn orders(gateway: &Gateway, token: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    command.env_clear().args(["orders", "--admin", &gateway.admin]);
    command.envs(token.map(|token| ("MAINSTAY_ADMIN_TOKEN", token)));
    command.output().expect("it runs")
}

/// Nobody is let in without the token; whoever has it is.
async fn log_in(browser: &mut Browser) {
    assert_eq!(browser.ask("GET /", "", "").await.0, "401");
    for line in ["GET /view", "GET /-/keys", "POST /-/order", "GET /-/"] {
        assert_eq!(browser.ask(line, "", "").await.0, "401", "{line}");
    }
    assert_eq!(browser.ask("GET /metrics", "", "").await.0, "200");
    assert_eq!(browser.ask("GET /readyz", "", "").await.0, "200");
    assert_eq!(browser.post("/-/console/login", "secret=wrong").await.0, "403");
    let login = format!("secret={TOKEN}&name=alice");
    let (status, head, _) = browser.ask("POST /-/console/login", "", &login).await;
    assert_eq!(status, "303", "{head}");
    let (_, cookie) = head.split_once("set-cookie: ").expect("a cookie");
    browser.cookie = cookie.split(';').next().expect("a pair").to_owned();
}

/// A screen is kept up to date until its session ends.
async fn log_out_beside_a_screen(browser: &Browser) {
    let mut events = browser.send("GET /-/console/events", "", "").await;
    let mut seen = vec![0; 1 << 16];
    let mut told = String::new();
    while !told.contains("disk") {
        let read = events.read(&mut seen).await.expect("events");
        assert_ne!(read, 0, "it ended: {told}");
        told.push_str(&String::from_utf8_lossy(&seen[..read]));
    }
    let token = hidden(&browser.page().await, "token");
    let (status, _) = browser.post("/-/console/logout", &format!("token={token}")).await;
    assert_eq!(status, "303");
    events.read_to_string(&mut told).await.expect("the end");
    assert!(told.contains("event: over"), "{told}");
    assert_eq!(browser.ask("GET /", "", "").await.0, "401");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_log_in_make_keys_and_give_orders_that_end_and_nobody_else_does() {
    let root = tempfile::tempdir().expect("a directory");
    let (gateway, mut browser) = start(root.path()).await;

    log_in(&mut browser).await;
    let page = browser.page().await;
    assert!(page.contains("console:alice") && page.contains("at-n"), "{page}");

    // Forms of others, and forms without what this session's pages have in them.
    let drain = "what=drain&site=at-n&minutes=10&reason=disk";
    let mine = format!("token={}&{drain}", hidden(&page, "token"));
    assert_eq!(browser.post("/-/console/ask", drain).await.0, "403");
    let evil = "origin: https://evil.example\r\n";
    assert_eq!(browser.ask("POST /-/console/ask", evil, &mine).await.0, "403");
    let order = "{\"verb\":\"freeze\",\"reason\":\"x\",\"life_s\":60}";
    assert_eq!(browser.post("/-/order", order).await.0, "401", "a cookie changes nothing there");

    // A key is shown once, works, and its name is a name.
    let create = format!("what=create&name={EVIL}&tier=pro");
    let (status, page) = browser.change(&create, "").await;
    assert_eq!(status, "200", "{page}");
    let (_, secret) = page.split_once("class=\"secret\">").expect(&page);
    let secret = secret.split('<').next().expect("a secret");
    assert_eq!(status_of_call(&gateway, secret).await, "200");
    assert_eq!(status_of_call(&gateway, "sk-other").await, "401");
    let page = browser.page().await;
    assert!(!page.contains(secret) && page.contains("&lt;script&gt;alert(1)"), "{page}");
    assert_eq!(page.matches("<script").count(), 1, "the page's own: {page}");
    assert_eq!(browser.document("/-/keys").await["keys"][0]["author"], "console:alice");

    // An order takes out the only site, so it has to be meant; and it ends.
    let (status, page) = browser.change(drain, "").await;
    assert!(status == "400" && page.contains("100 %"), "{page}");
    let (status, page) = browser.change(drain, "&much=yes").await;
    assert_eq!(status, "200", "{page}");
    let orders_now = browser.document("/-/orders").await;
    let order = &orders_now["orders"][0];
    assert_eq!((&order["verb"], &order["site"]), (&"drain".into(), &"at-n".into()), "{order}");
    let left = order["left_ms"].as_u64().expect("an end");
    assert!(left > 500_000 && left <= 600_000, "{order}");
    assert!(orders(&gateway, Some(TOKEN)).status.success());
    let refused = String::from_utf8(orders(&gateway, None).stderr).expect("UTF-8");
    assert!(refused.contains("put it into MAINSTAY_ADMIN_TOKEN"), "{refused}");

    log_out_beside_a_screen(&browser).await;
    let said = gateway.said();
    assert!(said.contains("console_done") && said.contains("drain at-n for 10 min"), "{said}");
    assert!(!said.contains(secret) && !said.contains(TOKEN), "no secret is logged");
}
