//! Processes that are gateway and site at once: one alone, and two of which one is killed.

use crate::bed::client::{Ask, Reply, get};
use crate::bed::gateway::Gateway;
use crate::bed::nodes::{SOON, file, free_port, make};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

async fn ask(gateway: &Gateway, number: usize, tokens: u32) -> Reply {
    let ask = Ask::chat("chat", &format!("Question {number}: which providers are down?"));
    let ask = ask.with("max_tokens", json!(tokens)).stream().patient_for(SOON);
    ask.send(&format!("{}/v1", gateway.api)).await
}

#[track_caller]
fn whole(reply: &Reply) {
    let told = String::from_utf8_lossy(&reply.body);
    assert!(reply.status == 200 && reply.is_done() && reply.finish().is_some(), "{told}");
}

/// The state of each site, as this gateway sees it.
async fn states(gateway: &Gateway) -> Vec<(String, String, bool)> {
    let view = get(&format!("{}/view", gateway.admin)).await.json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |target: &Value| {
        let has_credit = target["capacity"].as_f64().is_some_and(|all| all > 0.0);
        (text(&target["site"]), text(&target["state"]), has_credit)
    };
    view["targets"].as_array().expect("targets").iter().map(of).collect()
}

/// Returns when `gateway` has heard of the capacity of every site.
async fn granted(gateway: &Gateway) {
    let began = Instant::now();
    loop {
        let states = states(gateway).await;
        if states.iter().all(|(_, state, has_credit)| state == "up" && *has_credit) {
            return;
        }
        assert!(began.elapsed() < SOON, "{states:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn one_process_is_gateway_and_site_and_treats_itself_like_any_other() {
    let root = tempfile::tempdir().expect("a directory");
    make(root.path(), "a", None);
    let gateway = Gateway::start(&file(root.path(), "a", &[("a", free_port())])).await;
    granted(&gateway).await;
    for number in 0..3 {
        whole(&ask(&gateway, number, 8).await);
    }
    let ok = gateway.metric("mainstay_upstream_attempts_total", &["result=\"ok\""]).await;
    assert_eq!(ok, 3.0, "each was taken in by the site at the first attempt");
    let refused = gateway.metric("mainstay_link_refused_total", &[]).await;
    let lost = ["no_peer", "not_theirs", "no_name"];
    for reason in lost.map(|reason| format!("reason=\"{reason}\"")) {
        assert_eq!(gateway.metric("mainstay_link_lost_total", &[&reason]).await, 0.0, "{reason}");
    }
    assert_eq!(refused, 0.0);
    assert!(gateway.metric("mainstay_link_request_connections_total", &[]).await > 0.0);
}

#[tokio::test]
async fn of_two_that_are_gateway_and_site_one_killed_costs_the_other_s_clients_nothing() {
    let root = tempfile::tempdir().expect("a directory");
    make(root.path(), "a", None);
    make(root.path(), "b", Some("a"));
    let fleet = [("a", free_port()), ("b", free_port())];
    let a = Gateway::start(&file(root.path(), "a", &fleet)).await;
    let b = Gateway::start(&file(root.path(), "b", &fleet)).await;
    granted(&a).await;
    granted(&b).await;
    let b = Arc::new(b);
    // Three clients ask one thing after the other, for as long as they are told to.
    let (answered, told) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let clients = (0..3).map(|client| {
        let (b, answered, told) = (b.clone(), answered.clone(), told.clone());
        tokio::spawn(async move {
            let mut number = client * 1000;
            while !told.load(Ordering::Relaxed) {
                whole(&ask(&b, number, 48).await);
                answered.fetch_add(1, Ordering::Relaxed);
                number += 1;
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    let ok = |site: &str| {
        let (b, site) = (b.clone(), format!("site=\"{site}\""));
        async move {
            let labels = [site.as_str(), "result=\"ok\""];
            b.metric("mainstay_upstream_attempts_total", &labels).await
        }
    };
    let began = Instant::now();
    while ok("at-a").await < 2.0 || ok("at-b").await < 2.0 {
        assert!(began.elapsed() < SOON, "both sites are used");
        tokio::task::yield_now().await;
    }
    drop(a);
    let before = answered.load(Ordering::Relaxed);
    while answered.load(Ordering::Relaxed) < before + 12 {
        assert!(began.elapsed() < SOON, "b goes on alone");
        tokio::task::yield_now().await;
    }
    told.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("nothing is lost");
    }
}
