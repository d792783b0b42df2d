//! The ledger of a real gateway: what it bills, what it survives, what it tells.

use crate::bed::client::{Ask, Mode, Reply};
use crate::bed::gateway::Gateway;
use crate::bed::postgres::Postgres;
use crate::bed::{Bed, Layout, Place};
use mainstay::faults::{self, Options};
use mainstay_server::ledger::usage::{By, Place as Kept, Sum, usage};
use mainstay_server::setup::Secret;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A row of a process that wrote it appears within this time.
const SOON: Duration = Duration::from_secs(5);

/// Two keys, of one who pays and one who has an allowance and then must stop.
fn money(file: &Path) -> Layout {
    let hash = |key: &str| -> String {
        Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    Layout::new(Place::Equal, "f03", "ok")
        .top(&format!("ledger = {file:?}"))
        .site_line("primary", "price = [{ input = 1, output = 2 }]")
        .site_line("fallback", "price = [{ input = 100, output = 200 }]")
        .more(&format!(
            "[[plan]]\nname = \"pay\"\n\
             price = [{{ model = \"chat\", input = 1000, output = 3000 }}]\n\
             [[plan]]\nname = \"some\"\nallowance = 0.001\nprice = [{{ output = 10 }}]\n\
             [[key]]\nname = \"acme\"\nplan = \"pay\"\nhash = \"{}\"\n\
             [[key]]\nname = \"guest\"\nplan = \"some\"\nhash = \"{}\"\n\
             [[budget]]\nkey = \"guest\"\nmonth = 0\nhard = true\n",
            hash("sk-acme"),
            hash("sk-guest")
        ))
}

fn all(file: &Path, by: By) -> BTreeMap<String, Sum> {
    usage(&Kept::File(file.to_path_buf()), by, (0, i64::MAX)).unwrap_or_default()
}

/// The sums, once there are so many requests.
async fn sums(file: &Path, by: By, requests: i64) -> BTreeMap<String, Sum> {
    let began = Instant::now();
    loop {
        let sums = all(file, by);
        if sums.values().map(|sum| sum.requests).sum::<i64>() >= requests {
            return sums;
        }
        assert!(began.elapsed() < SOON, "{sums:?}");
        // waits for: rows that another process writes.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn as_key(ask: Ask, key: &str) -> Ask {
    ask.header("authorization", &format!("Bearer {key}"))
}

fn tokens(reply: &Reply) -> (i64, i64) {
    let usage: Value = match reply.events.is_empty() {
        true => reply.json()["usage"].clone(),
        false => {
            let mut told = reply.events.iter().filter_map(|event| {
                serde_json::from_str::<Value>(&event.data).ok()?.get("usage").cloned()
            });
            told.rfind(Value::is_object).expect("usage")
        }
    };
    let count = |key: &str| usage[key].as_i64().expect("a count");
    (count("prompt_tokens"), count("completion_tokens"))
}

#[tokio::test]
async fn a_request_is_billed_once_at_its_plan_and_its_failed_attempts_are_cost() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("ledger.db");
    let bed = Bed::start(&money(&file)).await;
    let mut given = (0, 0);
    for mode in [Mode::Plain, Mode::Stream] {
        // Its first attempt fails; the equal answers.
        let reply = bed.send(&as_key(Ask::chat("chat", "hello").mode(mode), "sk-acme")).await;
        assert_eq!(reply.status, 200);
        let (prompt, output) = tokens(&reply);
        given = (given.0 + prompt, given.1 + output);
    }
    let by_key = sums(&file, By::Key, 2).await;
    let acme = by_key["acme"];
    assert_eq!((acme.requests, acme.answered, acme.failed), (2, 2, 0));
    assert_eq!((acme.prompt, acme.output), given);
    assert_eq!(acme.price, given.0 * 1000 + given.1 * 3000);
    assert!(acme.attempts_failed >= 1, "{acme:?}");
    let by_site = all(&file, By::Site);
    // A reply that is an error costs nothing.
    assert_eq!(by_site["primary"].cost_failed, 0);
    let cost: i64 = by_site.values().map(|sum| sum.cost).sum();
    assert!(cost > 0 && cost == acme.cost, "{by_site:?}");
}

#[tokio::test]
async fn an_allowance_ends_and_a_hard_budget_says_what_openai_says() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("ledger.db");
    let bed = Bed::start(&money(&file)).await;
    let ask = as_key(Ask::chat("healthy", "hello"), "sk-guest");
    let mut answered = 0;
    let refused = loop {
        let reply = bed.send(&ask).await;
        match reply.status {
            200 => answered += 1,
            _ => break reply,
        }
        assert!(answered < 50, "{:?}", all(&file, By::Key));
    };
    assert_eq!(refused.status, 429, "{}", String::from_utf8_lossy(&refused.body));
    let error = &refused.json()["error"];
    assert_eq!(
        (&error["code"], &error["type"]),
        (&json!("insufficient_quota"), &json!("insufficient_quota"))
    );
    assert!(refused.header("retry-after").is_some());
    let guest = sums(&file, By::Key, answered).await["guest"];
    assert_eq!((guest.requests, guest.free), (answered, 1000));
    // Another key is not concerned.
    let other = bed.send(&as_key(Ask::chat("healthy", "hello"), "sk-acme")).await;
    assert_eq!(other.status, 200);
}

/// Asks until the gateway goes; returns whole answers by request id.
async fn ask_on(api: String) -> BTreeMap<String, (i64, i64)> {
    let mut whole = BTreeMap::new();
    loop {
        let ask = Ask::chat("healthy", "hello").patient_for(Duration::from_secs(5));
        let api = api.clone();
        let Ok(reply) = tokio::spawn(async move { ask.send(&api).await }).await else { break };
        if reply.status != 200 || !reply.terminated {
            break;
        }
        let id = reply.header("x-mainstay-request-id").unwrap_or_default().to_string();
        let is_new = whole.insert(id, tokens(&reply)).is_none();
        assert!(is_new);
    }
    whole
}

#[tokio::test]
async fn whoever_has_a_whole_answer_has_one_billed_row_though_the_gateway_is_killed() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("ledger.db");
    let layout = Layout::new(Place::Alone, "ok", "ok").top(&format!("ledger = {file:?}"));
    let bed = Bed::start(&layout).await;
    let config = bed.gateway.config();
    let api = format!("{}/v1", bed.gateway.api);
    let clients: Vec<_> = (0..16).map(|_| tokio::spawn(ask_on(api.clone()))).collect();
    let began = Instant::now();
    while bed.gateway.metric("mainstay_ledger_requests_total", &[]).await < 64.0 {
        assert!(began.elapsed() < SOON);
    }
    let Bed { faults, gateway } = bed;
    // Without a chance to write anything.
    drop(gateway);
    let mut whole = BTreeMap::new();
    for client in clients {
        whole.extend(client.await.expect("a client"));
    }
    let again = Gateway::start(&config).await;
    let began = Instant::now();
    while again.metric("mainstay_ledger_failing", &[]).await > 0.0
        || !again.said().contains("ended without closing its ledger")
    {
        assert!(began.elapsed() < SOON, "{}", again.said());
        // waits for: the journal of the process before, which the next one takes in.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let sum = all(&file, By::Nothing)["all"];
    let given = whole.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let (more, most) = (sum.answered - whole.len() as i64, 16);
    // A client may have been cut off from an answer that was whole when the gateway died.
    assert!((0..=most).contains(&more), "{} whole, {sum:?}", whole.len());
    let per = (given.0 / whole.len() as i64, given.1 / whole.len() as i64);
    assert_eq!((sum.prompt, sum.output), (given.0 + more * per.0, given.1 + more * per.1));
    drop((faults, again));
}

#[tokio::test]
async fn postgres_and_gateway_are_killed_under_load_and_no_request_fails_or_is_lost_or_doubled() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut postgres = Postgres::start();
    let place = Kept::Postgres(Secret::new(postgres.url()));
    let layout = Layout::new(Place::Alone, "ok", "ok")
        .top(&format!("ledger = \"{}?sslmode=require\"", postgres.url()));
    let faults = faults::serve(Options::default()).await.expect("start the fault server");
    let config = directory.path().join("mainstay.toml");
    std::fs::write(&config, layout.file(&faults)).expect("written");
    let certificate = postgres.certificate();
    let trusting = [("SSL_CERT_FILE", certificate.as_path())];
    let gateway = Gateway::start_at(&config, &trusting).await;
    let api = format!("{}/v1", gateway.api);
    let clients: Vec<_> = (0..8).map(|_| tokio::spawn(ask_on(api.clone()))).collect();
    until(&gateway, "mainstay_ledger_requests_total", |count| count >= 32.0).await;
    postgres.kill();
    let before = gateway.metric("mainstay_ledger_requests_total", &[]).await;
    until(&gateway, "mainstay_ledger_requests_total", |count| count >= before + 32.0).await;
    until(&gateway, "mainstay_ledger_unsynced_rows", |count| count >= 16.0).await;
    assert!(clients.iter().all(|client| !client.is_finished()), "a request failed");
    drop(gateway);
    let mut whole = BTreeMap::new();
    for client in clients {
        whole.extend(client.await.expect("a client"));
    }
    let gateway = Gateway::start_at(&config, &trusting).await;
    until(&gateway, "mainstay_ledger_unsynced_rows", |count| count >= 16.0).await;
    postgres.go_on();
    let began = Instant::now();
    let own = directory.path().join("mainstay-ledger.db");
    let sum = loop {
        let (here, there) = (all(&own, By::Model), usage_there(&place).await);
        let count =
            |sums: &BTreeMap<String, Sum>| sums.get("healthy").map_or(0, |sum| sum.answered);
        if count(&here) >= whole.len() as i64 && here == there {
            break there["healthy"];
        }
        assert!(began.elapsed() < 2 * SOON, "{here:?} {there:?} {}", gateway.said());
        // waits for: rows that another process takes to a third.
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let given = whole.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let more = sum.answered - whole.len() as i64;
    // A client may have been cut off from an answer that was whole when the gateway died.
    assert!((0..=8).contains(&more), "{} whole, {sum:?}", whole.len());
    let per = (given.0 / whole.len() as i64, given.1 / whole.len() as i64);
    assert_eq!((sum.prompt, sum.output), (given.0 + more * per.0, given.1 + more * per.1));
    let said = gateway.said();
    assert!(said.contains("rows wait on disk") && !said.contains("secret"), "{said}");
}

#[tokio::test]
async fn names_that_are_sql_are_names_in_both_databases() {
    const SQL: &str = "x'); DROP TABLE request; --";
    let directory = tempfile::tempdir().expect("a directory");
    let postgres = Postgres::start();
    let place = Kept::Postgres(Secret::new(postgres.url()));
    let faults = faults::serve(Options::default()).await.expect("start the fault server");
    let hash: String = Sha256::digest("sk-odd").iter().map(|byte| format!("{byte:02x}")).collect();
    let layout = Layout::new(Place::Alone, "ok", "ok")
        .top(&format!("ledger = \"{}?sslmode=require\"", postgres.url()))
        .more(&format!(
            "[[model]]\nname = \"{SQL}\"\nserved_by = [\"primary/ok\"]\n\
             [[key]]\nname = \"{SQL}\"\ntenant = \"' OR '1'='1\"\nhash = \"{hash}\"\n"
        ));
    let config = directory.path().join("mainstay.toml");
    std::fs::write(&config, layout.file(&faults)).expect("written");
    let certificate = postgres.certificate();
    let gateway = Gateway::start_at(&config, &[("SSL_CERT_FILE", certificate.as_path())]).await;
    let api = format!("{}/v1", gateway.api);
    for session in ["1", "2'; DELETE FROM attempt; --"] {
        let ask = as_key(Ask::chat(SQL, "hello"), "sk-odd").header("x-session-id", session);
        assert_eq!(ask.send(&api).await.status, 200);
    }
    let own = directory.path().join("mainstay-ledger.db");
    let began = Instant::now();
    loop {
        let there = usage_there(&place).await;
        if there.get(SQL).is_some_and(|sum| sum.answered == 2) {
            assert_eq!(there, all(&own, By::Model));
            break;
        }
        assert!(began.elapsed() < 2 * SOON, "{there:?} {}", gateway.said());
        // waits for: rows that another process takes to a third.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(all(&own, By::Key)[SQL].requests, 2);
    assert_eq!(all(&own, By::Tenant)["' OR '1'='1"].requests, 2);
}

/// Returns when a metric is as it should be.
async fn until(gateway: &Gateway, metric: &str, is_so: impl Fn(f64) -> bool) {
    let began = Instant::now();
    loop {
        let value = gateway.metric(metric, &[]).await;
        if is_so(value) {
            return;
        }
        assert!(began.elapsed() < 2 * SOON, "{metric} is {value}; {}", gateway.said());
        // waits for: another process, which tells nobody.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn usage_there(place: &Kept) -> BTreeMap<String, Sum> {
    let place = place.clone();
    let asked = move || usage(&place, By::Model, (0, i64::MAX)).unwrap_or_default();
    tokio::task::spawn_blocking(asked).await.expect("no panic")
}

#[tokio::test]
async fn usage_is_told_as_a_table_and_what_is_wrong_in_one_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("ledger.db");
    let bed = Bed::start(&money(&file)).await;
    bed.send(&as_key(Ask::chat("healthy", "hello"), "sk-acme")).await;
    sums(&file, By::Key, 1).await;
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
        let output = command.arg("usage").args(arguments).env_clear().output().expect("run it");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let place = file.to_str().expect("UTF-8");
    let (code, told, _) = run(&["--ledger", place, "--by", "key", "--csv"]);
    assert_eq!(code, Some(0));
    assert!(told.lines().any(|line| line.starts_with("acme,1,1,0,")), "{told}");
    let (code, told, _) = run(&["--ledger", place, "--by", "hour", "--json"]);
    assert_eq!(code, Some(0));
    let json: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(json["rows"][0]["requests"], 1, "{told}");
    for wrong in [
        &["--ledger", place, "--from", "yesterday"][..],
        &["--ledger", "/nowhere/ledger.db"],
        &["reconcile", "/nowhere.csv", "--ledger", place],
        &["--by", "week"],
    ] {
        let (code, told, error) = run(wrong);
        assert_eq!((code, told.as_str(), error.lines().count()), (Some(2), "", 1), "{error}");
    }
}
