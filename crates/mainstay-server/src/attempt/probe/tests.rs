//! Probes over real connections, at sites that answer, refuse, hang and are not there.

use super::*;
use crate::attempt::Account;
use crate::embedded::{Counted, Finish, Said};
use crate::site;
use crate::telemetry::{Names, Telemetry};
use crate::upstream::{Origin, OriginOptions};
use mainstay_core::config::{Config, Continuation, Fleet, Limits, Needs, SiteKind, Target, Tier};
use mainstay_core::names::SiteId;
use mainstay_core::site::Event as Told;
use tokio::net::TcpListener;

const TARGET: TargetId = TargetId(0);

/// A gateway that knows one site of ours with the model `m`.
fn config() -> Config {
    let target = Target {
        site: SiteId(0),
        model: "m".into(),
        window: None,
        output_max: None,
        offers: Needs::all(),
        continuation: Continuation::Native,
        labels: 0,
        home: 0,
        tiers: 0xff,
    };
    let (name, kind) = ("s".into(), SiteKind::Node);
    Config {
        sites: vec![mainstay_core::config::Site { name, capacity: None, kind, auth_strikes: 1 }],
        targets: vec![target],
        models: vec![],
        families: vec![],
        tiers: vec![Tier { name: "pro".into(), floor: 0.5 }],
        limits: Limits::default(),
        fleet: Fleet::default(),
    }
}

fn prober(site: Site) -> Arc<Prober> {
    let config = config();
    let telemetry = Arc::new(Telemetry::new(Names::of(&config)));
    let drive = Arc::new(Drive::new(config, telemetry));
    drive.settle(Arc::new(Places { doors: vec![vec![site]], ..Places::default() }));
    Arc::new(Prober { drive })
}

/// A site of ours at `address`, by HTTP without certificates.
fn at(address: std::net::SocketAddr) -> Site {
    let base = format!("http://{address}/v1");
    Site::Node(Arc::new(Account {
        dialect: crate::dialect::of_nodes(),
        origin: Origin::new(&base, OriginOptions::default()).unwrap(),
        base,
        key: None,
        stream: true,
        roster: Default::default(),
    }))
}

fn ended(prober: &Prober, probe: &str, result: &str) -> bool {
    let line = format!(
        "mainstay_probes_total{{site=\"s\",model=\"m\",probe=\"{probe}\",result=\"{result}\"}} 1"
    );
    prober.drive.telemetry().exposition().contains(&line)
}

#[tokio::test]
async fn a_site_that_lives_answers_both_probes_and_no_client_pays() {
    let (_node, mut orders, site) = site::tests::site(1).await;
    let prober = prober(site);
    prober.clone().send((TARGET, Probe::Shallow)).await;
    assert!(ended(&prober, "shallow", "good"));
    let sending = tokio::spawn(prober.clone().send((TARGET, Probe::Token)));
    let reply = orders.recv().await.unwrap();
    reply.send(Said::By("m".into())).await.unwrap();
    reply.send(Said::Text(0, "yes".into())).await.unwrap();
    let counted = Counted { prompt: 9, cached: 0, completion: 1 };
    reply.send(Said::End(0, Finish::Length, Some(counted))).await.unwrap();
    drop(reply);
    sending.await.unwrap();
    assert!(ended(&prober, "token", "good"));
    let told = prober.drive.telemetry().exposition();
    let tokens = "mainstay_probe_tokens_total{site=\"s\",model=\"m\",direction=";
    assert!(told.contains(&format!("{tokens}\"input\"}} 9\n")), "{told}");
    assert!(told.contains(&format!("{tokens}\"output\"}} 1\n")), "{told}");
    for counted in ["mainstay_tokens_total{", "mainstay_requests_total{", "attempts_total{"] {
        assert!(!told.contains(counted), "{told}");
    }
}

#[tokio::test]
async fn a_full_or_draining_site_is_said_nothing_of() {
    let (node, _orders, site) = site::tests::site(1).await;
    node.controller.tell(Told::Leave);
    let prober = prober(site);
    prober.clone().send((TARGET, Probe::Token)).await;
    assert!(ended(&prober, "token", "nothing"));
    prober.clone().send((TARGET, Probe::Shallow)).await;
    assert!(ended(&prober, "shallow", "good"), "it lives");
}

#[tokio::test]
async fn a_site_without_a_worker_lives_and_gives_no_token() {
    let (_node, _orders, site) = site::tests::site(0).await;
    let prober = prober(site);
    prober.clone().send((TARGET, Probe::Shallow)).await;
    prober.clone().send((TARGET, Probe::Token)).await;
    assert!(ended(&prober, "shallow", "good") && ended(&prober, "token", "bad"));
}

#[tokio::test]
async fn a_worker_that_breaks_fails_the_token_probe() {
    let (_node, mut orders, site) = site::tests::site(1).await;
    let prober = prober(site);
    // However often the site tries.
    let breaking = tokio::spawn(async move { while orders.recv().await.is_some() {} });
    prober.clone().send((TARGET, Probe::Token)).await;
    breaking.abort();
    assert!(ended(&prober, "token", "bad"));
}

#[tokio::test]
async fn where_nobody_listens_and_where_nobody_answers_probes_fail() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // It takes connections and never says a word.
    let silent = prober(at(address));
    let shallow = silent.clone().send((TARGET, Probe::Shallow));
    let token = silent.clone().send((TARGET, Probe::Token));
    tokio::join!(shallow, token);
    assert!(ended(&silent, "shallow", "bad") && ended(&silent, "token", "bad"));
    drop(listener);
    let gone = prober(at(address));
    gone.clone().send((TARGET, Probe::Shallow)).await;
    gone.clone().send((TARGET, Probe::Token)).await;
    assert!(ended(&gone, "shallow", "bad") && ended(&gone, "token", "bad"));
}

#[tokio::test]
async fn what_was_begun_at_sites_before_is_not_told() {
    let (_node, mut orders, site) = site::tests::site(1).await;
    let prober = prober(site);
    let sending = tokio::spawn(prober.clone().send((TARGET, Probe::Token)));
    let reply = orders.recv().await.unwrap();
    prober.drive.settle(Arc::default());
    drop(reply);
    sending.await.unwrap();
    assert!(!prober.drive.telemetry().exposition().contains("mainstay_probes_total{"));
}

#[tokio::test]
async fn one_probe_of_a_kind_runs_at_a_time() {
    let (_node, mut orders, site) = site::tests::site(1).await;
    let prober = prober(site);
    let (sender, inbox) = mpsc::channel(8);
    let stop = CancellationToken::new();
    let running = tokio::spawn(prober.clone().run(inbox, stop.clone()));
    for _ in 0..8 {
        sender.send((TARGET, Probe::Token)).await.unwrap();
    }
    sender.send((TARGET, Probe::Shallow)).await.unwrap();
    let reply = orders.recv().await.unwrap();
    while !ended(&prober, "shallow", "good") {
        tokio::task::yield_now().await;
    }
    assert!(orders.try_recv().is_err(), "the other seven wait for nothing");
    stop.cancel();
    running.await.unwrap();
    // What ran is given up with it.
    reply.closed().await;
}
