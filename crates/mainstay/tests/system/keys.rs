//! Callers' keys and limits through the real program: made at one gateway and known at the others,
//! revoked everywhere, kept on disk; limits told as OpenAI tells them, and shared out.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::bed::client::{Ask, Reply, get_json};
use crate::bed::gateway::Gateway;
use crate::bed::nodes::{free_port, make};
use crate::bed::profile;
use mainstay::faults::{self, Options, Running};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Nobody waits longer than this for what must come.
const SOON: Duration = Duration::from_secs(30);
/// A change reaches every gateway that can be reached within this time.
const REACHED: Duration = Duration::from_secs(2);
/// 60 tokens in 3 s.
const SLOW: &str = "long-60-50ms";

async fn upstreams() -> Running {
    faults::serve(Options { profile: profile(), ..Options::default() }).await.expect("upstreams")
}

/// A site of the fault server, and two models there.
fn site(faults: &Running) -> String {
    format!(
        "[[site]]\nname = \"s\"\nprovider = \"openai\"\nkey = \"sk-upstream\"\n\
         base_url = \"{}/s/s/v1\"\nmodels = [{{ name = \"ok\" }}, {{ name = \"{SLOW}\" }}]\n\
         [[model]]\nname = \"chat\"\nserved_by = [\"s/ok\"]\n\
         [[model]]\nname = \"slow\"\nserved_by = [\"s/{SLOW}\"]\n",
        faults.addresses.url
    )
}

const LISTEN: &str = "[listen]\napi = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n";

/// A key of the file, with more lines.
fn file_key(secret: &str, more: &str) -> String {
    let hash: String = Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[[key]]\nname = \"of-{secret}\"\nhash = \"{hash}\"\n{more}\n")
}

async fn send(gateway: &Gateway, model: &str, key: &str) -> Reply {
    let ask = Ask::chat(model, "hello").patient_for(SOON);
    ask.header("authorization", &format!("Bearer {key}")).send(&format!("{}/v1", gateway.api)).await
}

/// Runs `mainstay keys …` at this gateway: exit code, stdout, stderr.
async fn keys(gateway: &Gateway, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    command.env_clear().arg("keys").args(arguments).args(["--admin", &gateway.admin]);
    let ran = tokio::task::spawn_blocking(move || command.output().expect("it runs"));
    let output = ran.await.expect("it ran");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The same, which must succeed; what it says on stdout.
async fn done(gateway: &Gateway, arguments: &[&str]) -> String {
    let (code, out, err) = keys(gateway, arguments).await;
    assert_eq!(code, Some(0), "{arguments:?}: {err}");
    out.trim().to_owned()
}

/// Asks until the status is this one; how long that took.
async fn until(gateway: &Gateway, key: &str, status: u16) -> Duration {
    let began = Instant::now();
    loop {
        let reply = send(gateway, "chat", key).await;
        if reply.status == status {
            return began.elapsed();
        }
        assert!(began.elapsed() < SOON, "{} {}", reply.status, reply.error());
        tokio::task::yield_now().await;
    }
}

/// Files of gateways that know each other: `NAME.toml` in `root`.
fn write_fleet(root: &Path, names: &[&str], more: &str) {
    let ports: Vec<u16> = names.iter().map(|_| free_port()).collect();
    for (name, port) in names.iter().zip(&ports) {
        make(root, name, (*name != names[0]).then_some(names[0]));
        let path = |file: &str| root.join(name).join(file).display().to_string();
        let mut text = format!(
            "{LISTEN}link = \"127.0.0.1:{port}\"\n[node]\nname = \"{name}\"\n\
             roles = [\"gateway\"]\nca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}\n\
             data_dir = {:?}\n",
            path("ca.pem"),
            path("node.pem"),
            path("node.key"),
            path("kept"),
        );
        for (other, port) in names.iter().zip(&ports) {
            let link = format!("link = \"https://127.0.0.1:{port}\"\n");
            text += &format!("[[gateway]]\nname = \"{other}\"\n{link}");
        }
        std::fs::write(root.join(format!("{name}.toml")), text + more).expect("written");
    }
}

async fn start(root: &Path, name: &str) -> Gateway {
    Gateway::start_at(&root.join(format!("{name}.toml")), &[]).await
}

/// Returns when all peers of this gateway are up.
async fn joined(gateway: &Gateway) {
    let began = Instant::now();
    loop {
        let told = get_json(&format!("{}/-/nodes", gateway.admin)).await.json();
        let nodes = told["nodes"].as_array().expect("nodes").clone();
        if nodes.iter().all(|node| node["is_up"] == true) {
            return;
        }
        assert!(began.elapsed() < SOON, "{told}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_at_one_gateway_is_known_at_the_other_and_a_revoked_one_at_none() {
    let faults = upstreams().await;
    let root = tempfile::tempdir().expect("a directory");
    let root = root.path();
    write_fleet(root, &["a", "b"], &site(&faults));
    let (a, b) = (start(root, "a").await, start(root, "b").await);
    joined(&a).await;
    joined(&b).await;
    assert_eq!(send(&b, "chat", "whatever").await.status, 200, "no key: anyone may call");
    let first = done(&a, &["create", "--name", "acme", "--tier", "enterprise"]).await;
    assert!(first.starts_with("sk-mainstay-"), "{first}");
    assert_eq!(send(&a, "chat", &first).await.status, 200, "in force when it is answered");
    let took = until(&b, &first, 200).await.max(until(&b, "whatever", 401).await);
    assert!(took < REACHED, "{took:?}");
    // Another secret, from the other gateway, and both for a while.
    let second = done(&b, &["rotate", "acme", "--grace", "1h"]).await;
    let took = until(&a, &second, 200).await;
    assert!(took < REACHED, "{took:?}");
    assert_eq!(send(&a, "chat", &first).await.status, 200, "within the grace");
    // Cut off from everything, and after a restart: known keys go on, from disk.
    drop(a);
    assert_eq!(send(&b, "chat", &second).await.status, 200);
    drop(b);
    let b = start(root, "b").await;
    assert_eq!(send(&b, "chat", &second).await.status, 200);
    let listed = done(&b, &["list"]).await;
    assert!(listed.contains("acme") && !listed.contains(&second), "{listed}");
    // Revoked where the other could not hear it, which hears it when it is back.
    let told = done(&b, &["revoke", "acme"]).await;
    assert!(told.starts_with("revoked key-"), "{told}");
    let a = start(root, "a").await;
    joined(&a).await;
    let took = until(&a, &second, 401).await.max(until(&a, &first, 401).await);
    assert!(took < REACHED, "{took:?}");
    let said = send(&a, "chat", &second).await.error();
    assert!(said["message"].as_str().expect("words").contains("has been revoked"), "{said}");
    assert_eq!(said["code"], "invalid_api_key");
    // While both are up, within 2 s at the other.
    let third = done(&a, &["create", "--name", "acme"]).await;
    until(&b, &third, 200).await;
    done(&a, &["revoke", &third[..18]]).await;
    let took = until(&b, &third, 401).await;
    assert!(took < REACHED, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_is_spent_at_one_gateway_is_spent_at_the_other() {
    let faults = upstreams().await;
    let root = tempfile::tempdir().expect("a directory");
    let root = root.path();
    let secret = "sk-acme";
    let money = format!(
        "{}{}[[plan]]\nname = \"pay\"\nprice = [{{ output = 1000 }}]\n\
         [[budget]]\nkey = \"of-{secret}\"\nmonth = 0.1\nhard = true\n",
        site(&faults),
        file_key(secret, "plan = \"pay\""),
    );
    write_fleet(root, &["a", "b"], &money);
    let (a, b) = (start(root, "a").await, start(root, "b").await);
    joined(&a).await;
    joined(&b).await;
    assert_eq!(send(&b, "chat", secret).await.status, 200);
    until(&a, secret, 429).await;
    let took = until(&b, secret, 429).await;
    assert!(took < REACHED, "{took:?}");
    assert_eq!(send(&b, "chat", secret).await.error()["code"], "insufficient_quota");
    // It knows what went through itself, and hears the rest again.
    drop(b);
    let b = start(root, "b").await;
    joined(&b).await;
    until(&b, secret, 429).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_wish_is_said_and_ends_with_2() {
    let faults = upstreams().await;
    let kept = tempfile::tempdir().expect("a directory");
    let node = format!("[node]\ndata_dir = {:?}\n", kept.path().display().to_string());
    let gateway = Gateway::start(&format!("{LISTEN}{node}{}", site(&faults))).await;
    for (wish, told) in [
        (&["create", "--name", "x", "--tier", "gold"][..], "no tier `gold`; there are enterprise"),
        (&["create", "--name", ""], "--name"),
        (&["create", "--name", "x", "--network", "10/8"], "--network: `10/8` is no network"),
        (&["create", "--name", "x", "--expires", "soon"], "--expires: `soon` is no date"),
        (&["create", "--name", "x", "--concurrency", "0"], "--concurrency must be more than 0"),
        (&["revoke", "nobody"], "no key `nobody`; mainstay keys list"),
        (&["rotate", "nobody", "--grace", "soon"], "--grace soon: write a time"),
    ] {
        let (code, _, err) = keys(&gateway, wish).await;
        assert_eq!((code, err.lines().count()), (Some(2), 1), "{wish:?}: {err}");
        assert!(err.contains(told), "{wish:?}: {err}");
    }
    assert_eq!(done(&gateway, &["list"]).await, "no keys: anyone who reaches the API may call");
    let nowhere = Gateway::start(&format!("{LISTEN}{}", site(&faults))).await;
    let (code, _, err) = keys(&nowhere, &["create", "--name", "x"]).await;
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("add data_dir to [node]"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_told_so_as_openai_tells_it() {
    let faults = upstreams().await;
    let more = [
        file_key("right", "models = [\"chat\"]"),
        file_key("elsewhere", "networks = [\"192.0.2.0/24\"]"),
        file_key("late", "expires = \"2020-01-01\""),
    ];
    let gateway = Gateway::start(&format!("{LISTEN}{}{}", site(&faults), more.concat())).await;
    for (key, model, status, code, words) in [
        ("right", "slow", 403, "model_not_found", "does not have access to model `slow`"),
        ("elsewhere", "chat", 403, "ip_not_authorized", "may not be used from 127.0.0.1"),
        ("late", "chat", 401, "invalid_api_key", "has expired"),
        ("wrong", "chat", 401, "invalid_api_key", "Incorrect API key"),
    ] {
        let reply = send(&gateway, model, key).await;
        let said = reply.error();
        assert_eq!((reply.status, said["code"].as_str()), (status, Some(code)), "{key}: {said}");
        assert!(said["message"].as_str().expect("words").contains(words), "{key}: {said}");
    }
    assert_eq!(send(&gateway, "chat", "right").await.status, 200);
}

fn number(reply: &Reply, header: &str) -> u64 {
    let text = reply.header(header).unwrap_or_else(|| panic!("no {header}: {:?}", reply.headers));
    text.parse().unwrap_or_else(|_| panic!("{header}: {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_gateway_keeps_limits_exactly_and_tells_them_as_openai_does() {
    let faults = upstreams().await;
    let more = [
        "[[tier]]\nname = \"free\"\nrequests_per_minute = 60\n".into(),
        file_key("free", "tier = \"free\""),
    ];
    let gateway = Gateway::start(&format!("{LISTEN}{}{}", site(&faults), more.concat())).await;
    let began = Instant::now();
    let first = send(&gateway, "chat", "free").await;
    assert_eq!(first.status, 200, "{}", first.error());
    assert_eq!(number(&first, "x-ratelimit-limit-requests"), 60);
    assert_eq!(number(&first, "x-ratelimit-remaining-requests"), 5);
    assert!(first.header("x-ratelimit-limit-tokens").is_none(), "it has no such limit");
    let mut admitted = 1;
    let refused = loop {
        let reply = send(&gateway, "chat", "free").await;
        match reply.status {
            200 => admitted += 1,
            _ => break reply,
        }
    };
    // Five seconds of it at once, the one under way, and what came in meanwhile.
    assert!(admitted <= 6 + began.elapsed().as_secs(), "{admitted} in {:?}", began.elapsed());
    let said = refused.error();
    assert_eq!((refused.status, said["code"].as_str()), (429, Some("rate_limit_exceeded")));
    assert_eq!(said["type"], "rate_limit_error");
    assert_eq!(number(&refused, "retry-after"), 1);
    let wait = Duration::from_millis(number(&refused, "retry-after-ms"));
    assert!(wait <= Duration::from_secs(1), "{wait:?}");
    assert_eq!(number(&refused, "x-ratelimit-remaining-requests"), 0);
    let reset = refused.header("x-ratelimit-reset-requests");
    assert!(matches!(reset, Some("5s" | "6s")), "{reset:?}");
    // waits for: as long as the refusal says
    tokio::time::sleep(wait).await;
    assert_eq!(send(&gateway, "chat", "free").await.status, 200);
    // It is the callers' own doing, and no outage.
    let refusals = gateway.metric("mainstay_requests_total", &["outcome=\"quota\""]).await;
    assert!(refusals >= 1.0, "{refusals}");
    let failed = gateway.metric("mainstay_requests_total", &["outcome=\"upstream_error\""]).await;
    assert_eq!(failed, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_bound_and_what_tokens_were_not_used_is_given_back() {
    let faults = upstreams().await;
    let more = [file_key("few", "concurrency = 1"), file_key("short", "tokens_per_minute = 600")];
    let gateway = Gateway::start(&format!("{LISTEN}{}{}", site(&faults), more.concat())).await;
    // One at once; the next when that has ended.
    let base = format!("{}/v1", gateway.api);
    let ask = Ask::chat("slow", "hello").stream().header("authorization", "Bearer few");
    // It may find one of those below running.
    let running = tokio::spawn(async move {
        loop {
            let reply = ask.clone().patient_for(SOON).send(&base).await;
            if reply.status == 200 {
                return reply;
            }
        }
    });
    let began = Instant::now();
    let refused = loop {
        let reply = send(&gateway, "chat", "few").await;
        if reply.status == 429 {
            break reply;
        }
        assert!(began.elapsed() < SOON);
    };
    let said = refused.error();
    assert!(said["message"].as_str().expect("words").contains("requests at once"), "{said}");
    assert!(running.await.expect("it ran").is_done());
    assert_eq!(send(&gateway, "chat", "few").await.status, 200);
    // Fifty tokens at once: a thousand are predicted, and what was not used is given back.
    let reply = send(&gateway, "chat", "short").await;
    assert_eq!(number(&reply, "x-ratelimit-limit-tokens"), 600);
    let used = reply.json()["usage"]["total_tokens"].as_u64().expect("a number");
    let left = number(&reply, "x-ratelimit-remaining-tokens");
    assert!(left + used >= 50 && left < 50, "{left} left, {used} used");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_gateways_share_one_limit() {
    const PER_SECOND: f64 = 10.0;
    let faults = upstreams().await;
    let root = tempfile::tempdir().expect("a directory");
    let root = root.path();
    // A lease of two seconds instead of ten.
    let more = format!(
        "{}[limits]\nprofile = \"fast\"\n{}",
        site(&faults),
        file_key("shared", "requests_per_minute = 600")
    );
    write_fleet(root, &["a", "b", "c"], &more);
    let mut gateways = Vec::new();
    for name in ["a", "b", "c"] {
        gateways.push(start(root, name).await);
    }
    for gateway in &gateways {
        joined(gateway).await;
    }
    // Until what gateways before these may have granted has lapsed, and slices are found.
    let (warm, lasts) = (Duration::from_millis(3500), Duration::from_secs(4));
    let began = Instant::now();
    let client = |at: usize| {
        let gateway = &gateways[at];
        async move {
            let (mut offered, mut admitted) = (0, 0);
            while began.elapsed() < warm + lasts {
                let is_counted = began.elapsed() >= warm;
                let reply = send(gateway, "chat", "shared").await;
                assert!(matches!(reply.status, 200 | 429), "{}", reply.error());
                offered += u32::from(is_counted);
                admitted += u32::from(is_counted && reply.status == 200);
                // waits for: the next request of this client, 25 a second
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
            (offered, admitted)
        }
    };
    let (a, b, c) = tokio::join!(client(0), client(1), client(2));
    let told = [a, b, c];
    let offered: u32 = told.iter().map(|(offered, _)| offered).sum();
    let admitted: u32 = told.iter().map(|(_, admitted)| admitted).sum();
    // Within a slice at each gateway: a lease of it in all.
    let (wanted, lease) = (PER_SECOND * lasts.as_secs_f64(), PER_SECOND * 2.0);
    let shown: Vec<Value> = told.iter().map(|(o, a)| Value::from(vec![*o, *a])).collect();
    assert!(f64::from(admitted) <= wanted + lease, "{admitted} of {wanted}: {shown:?}");
    let is_much = f64::from(offered) > 2.0 * wanted;
    assert!(!is_much || f64::from(admitted) >= wanted - lease, "{admitted}: {shown:?}");
}
