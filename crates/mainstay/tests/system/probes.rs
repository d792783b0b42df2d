//! A target that is down and that nobody asks for comes back by probes alone: a site of ours, and a
//! provider.

use crate::bed::client::{Ask, get};
use crate::bed::gateway::Gateway;
use crate::bed::nodes::{SOON, file, free_port, make};
use mainstay::faults::{self, Options};
use serde_json::json;
use std::net::SocketAddr;
use std::time::Instant;

/// The state of the target at `site`, and what was told of it lately.
async fn seen(gateway: &Gateway, site: &str) -> (String, String) {
    let view = get(&format!("{}/view", gateway.admin)).await.json();
    let targets = view["targets"].as_array().expect("targets");
    let target = targets.iter().find(|target| target["site"] == site).expect("a target");
    let told: Vec<&str> = view["facts"]
        .as_array()
        .expect("facts")
        .iter()
        .filter_map(|fact| fact["text"].as_str())
        .filter(|text| text.contains(site))
        .collect();
    (target["state"].as_str().unwrap_or_default().to_owned(), told.join("\n"))
}

/// Asks for `model` until the target at `site` is down.
async fn down(gateway: &Gateway, model: &str, site: &str) {
    let began = Instant::now();
    while seen(gateway, site).await.0 != "down" {
        let ask = Ask::chat(model, "hi").with("max_tokens", json!(4));
        // Whether it is answered, elsewhere or not at all, is of no interest here.
        ask.send(&format!("{}/v1", gateway.api)).await;
        assert!(began.elapsed() < SOON, "{:?}", seen(gateway, site).await);
    }
}

/// Returns when the target at `site` is in one of these states.
async fn becomes(gateway: &Gateway, site: &str, states: &[&str]) -> String {
    let began = Instant::now();
    loop {
        let (state, told) = seen(gateway, site).await;
        if states.contains(&state.as_str()) {
            return told;
        }
        assert!(began.elapsed() < 2 * SOON, "{state}\n{told}");
        // waits for: another process, which tells nobody.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// Attempts of requests at `site`, and its good token probes.
async fn counted(gateway: &Gateway, site: &str) -> (f64, f64) {
    let site = format!("site=\"{site}\"");
    let attempts = gateway.metric("mainstay_upstream_attempts_total", &[&site]).await;
    let good = [site.as_str(), "probe=\"token\"", "result=\"good\""];
    (attempts, gateway.metric("mainstay_probes_total", &good).await)
}

#[tokio::test]
async fn a_site_of_ours_that_was_down_comes_back_while_nobody_asks() {
    let root = tempfile::tempdir().expect("a directory");
    make(root.path(), "a", None);
    make(root.path(), "b", Some("a"));
    let fleet = [("a", free_port()), ("b", free_port())];
    let a = Gateway::start(&file(root.path(), "a", &fleet)).await;
    let of_b = file(root.path(), "b", &fleet);
    let b = Gateway::start(&of_b).await;
    becomes(&a, "at-b", &["up"]).await;
    drop(b);
    down(&a, "chat", "at-b").await;
    let (asked, before) = counted(&a, "at-b").await;
    let _b = Gateway::start(&of_b).await;
    let told = becomes(&a, "at-b", &["probation", "up"]).await;
    assert!(told.contains("a token came after its hold"), "{told}");
    becomes(&a, "at-b", &["up"]).await;
    let (asked_now, good) = counted(&a, "at-b").await;
    assert_eq!(asked_now, asked, "no request was sent there");
    assert!(good - before >= 10.0, "{good} tokens proved it");
    let tokens = ["site=\"at-b\"", "direction=\"output\""];
    assert!(a.metric("mainstay_probe_tokens_total", &tokens).await >= good);
}

#[tokio::test]
async fn a_provider_that_was_down_is_let_back_by_one_token() {
    let root = tempfile::tempdir().expect("a directory");
    make(root.path(), "a", None);
    let port = free_port();
    let provider = format!(
        "[[site]]\nname = \"p\"\nprovider = \"openai\"\nkey = \"sk-p\"\n\
         base_url = \"http://127.0.0.1:{port}/s/p/v1\"\nmodels = [{{ name = \"ok\" }}]\n\
         [[model]]\nname = \"theirs\"\nserved_by = [\"p/ok\"]\n"
    );
    let text = file(root.path(), "a", &[("a", free_port())]) + &provider;
    let a = Gateway::start(&text).await;
    down(&a, "theirs", "p").await;
    let (asked, _) = counted(&a, "p").await;
    let listen = SocketAddr::from(([127, 0, 0, 1], port));
    let faults = faults::serve(Options { listen, ..Options::default() }).await;
    let _faults = faults.expect("the fault server starts where nobody was");
    let told = becomes(&a, "p", &["probation"]).await;
    assert!(told.contains("a token came after its hold"), "{told}");
    let (asked_now, good) = counted(&a, "p").await;
    assert_eq!(asked_now, asked, "no request was sent there");
    assert!(good >= 1.0);
}
