//! Attempts of a gateway at a site, over a real connection; the engine is played.

use super::controller::Controller;
use super::worker::{Crew, Worker};
use super::{Model, Node, Prefixes};
use crate::attempt::{Account, Attempt, Item, Question, Site};
use crate::dialect::event::Endpoint;
use crate::dialect::request::Call;
use crate::embedded::{Desk, Finish, Message, Said};
use crate::http::{Arrivals, Counters, Front, serve};
use crate::setup::Bounds;
use crate::telemetry::{Names, Telemetry};
use crate::upstream::{Origin, OriginOptions};
use bytes::Bytes;
use hyper::service::service_fn;
use mainstay_core::config::{Pool, SiteConfig, Tier};
use mainstay_core::cost::{CostRate, CostUnits, Price};
use mainstay_core::fact::How;
use mainstay_core::gateway::Start;
use mainstay_core::gateway::latency::Patience;
use mainstay_core::lease::Terms;
use mainstay_core::message::{Open, Reason};
use mainstay_core::names::{
    AttemptId, ErrorClass, Failure, GatewayId, RequestId, SiteId, TargetId, TierId, Work,
};
use std::convert::Infallible;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What is said of each order goes back this way.
pub(crate) type Orders = mpsc::UnboundedReceiver<mpsc::Sender<Said>>;

const TARGET: TargetId = TargetId(0);

fn config() -> SiteConfig {
    let pool = Pool {
        target: TARGET,
        labels: 0,
        median: CostUnits::whole(1),
        promise: Duration::from_secs(2),
    };
    SiteConfig {
        site: SiteId(0),
        pools: vec![pool],
        tiers: vec![Tier { name: "pro".into(), floor: 0.5 }],
        in_time: vec![Duration::from_secs(5)],
        patience: vec![Duration::from_secs(5)],
        gateways: 2,
        credit: Terms::CREDIT,
        overcommit: 5,
        slack: 25,
        standby: 10,
        service: Default::default(),
    }
}

/// A site whose workers' orders come out of the returned ends, and a gateway's way to it.
pub(crate) async fn site(workers: usize) -> (Arc<Node>, Orders, Site) {
    let telemetry = Arc::new(Telemetry::new(Names::default()));
    let controller = Controller::new(config(), None, telemetry, Box::new(|_, _| {}));
    let (sender, orders) = mpsc::unbounded_channel();
    let open = |_| {
        let (desk, taken) = Desk::open();
        let sender = sender.clone();
        // It ends with the site.
        std::thread::spawn(move || {
            while let Ok(Message::Order(job)) = taken.recv() {
                let _ = sender.send(job.reply);
            }
        });
        desk
    };
    let desks: Vec<Desk> = (0..workers).map(open).collect();
    let bounds = bounds();
    let node = Arc::new(Node {
        controller: Arc::new(controller),
        models: vec![Model { name: "m".into(), target: TARGET }],
        crew: Crew::default(),
        tiers: vec!["pro".into()],
        price: Price::default(),
        prefixes: Prefixes::default(),
        bounds: RwLock::new(bounds.clone()),
        tasks: TaskTracker::new(),
    });
    for desk in desks {
        let clock = (node.controller.clock(), node.price);
        let mut worker = Worker::new(clock, (Site::Engine(desk), 0, "m".into()));
        worker.capacity = Some(CostRate::whole(100));
        worker.streams = Some(8);
        node.crew.add(&node.controller, worker);
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let front = Front {
        arrivals: Arrivals::Listener(listener),
        tls: None,
        bounds: tokio::sync::watch::channel(bounds).1,
        drain: Duration::ZERO,
        counters: Counters::new(16),
    };
    let door = node.clone();
    let service = service_fn(move |request| {
        let node = door.clone();
        async move { Ok::<_, Infallible>(node.serve(GatewayId(1), request).await) }
    });
    tokio::spawn(serve(front, service, CancellationToken::new()));
    let base = format!("http://{address}/v1");
    let account = Account {
        dialect: crate::dialect::of_nodes(),
        origin: Origin::new(&base, OriginOptions::default()).unwrap(),
        base,
        key: None,
        stream: true,
        roster: Default::default(),
    };
    (node, orders, Site::Node(Arc::new(account)))
}

fn bounds() -> Bounds {
    Bounds {
        body: 1 << 20,
        head: 1 << 16,
        head_time: Duration::from_secs(5),
        body_time: Duration::from_secs(5),
        connections: 16,
    }
}

pub(crate) fn start(model: &str, tier: u8) -> Start {
    let attempt = AttemptId { request: RequestId(7), number: 1 };
    Start {
        attempt,
        target: TARGET,
        site: SiteId(0),
        model: model.into(),
        how: How::First,
        patience: Patience::NONE,
        only_choice: None,
        open: Some(Open {
            work: Work { from: GatewayId(1), attempt },
            target: TARGET,
            tier: TierId(tier),
            cost: CostUnits::whole(1),
            credited: false,
            moving: false,
            left: Duration::from_secs(60),
            tenant: 1,
            session: 1,
            labels: 0,
            prompt: 10,
            output: 10,
            elsewhere: false,
        }),
        broken: None,
    }
}

pub(crate) fn attempt(site: &Site, start: &Start, tier: &str) -> Attempt {
    let body = Bytes::from_static(
        br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
    );
    let call = Arc::new(Call::parse(Endpoint::Chat, body).unwrap());
    let (relayed, tenant) = (None, 1);
    let question = Question { call: &call, start, relayed, stream: true, tier, tenant };
    Attempt::open(site, &question)
}

async fn text(attempt: &mut Attempt) -> String {
    loop {
        match attempt.next().await {
            Item::Beat => {}
            Item::Chunk(chunk) => return chunk.deltas.iter().map(|d| d.content.as_str()).collect(),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn an_attempt_is_acknowledged_answered_and_counted() {
    let (node, mut orders, site) = site(1).await;
    let mut attempt = attempt(&site, &start("m", 0), "pro");
    assert!(matches!(attempt.next().await, Item::Ack(ack) if !ack.queued));
    let reply = orders.recv().await.unwrap();
    reply.send(Said::By("m".into())).await.unwrap();
    // Nothing but signs of life until the worker speaks.
    assert!(matches!(attempt.next().await, Item::Beat));
    reply.send(Said::Text(0, "hello".into())).await.unwrap();
    assert_eq!(text(&mut attempt).await, "hello");
    reply.send(Said::End(0, Finish::Stop, Some(Default::default()))).await.unwrap();
    // The finish reason, the count of tokens, and the end, though the worker is still there.
    assert_eq!(text(&mut attempt).await, "");
    assert_eq!(text(&mut attempt).await, "");
    assert!(matches!(attempt.next().await, Item::End));
    let standing =
        node.controller.read(|site| site.standing(node.controller.clock().now(), TARGET));
    assert_eq!(standing.unwrap().running, 0);
}

#[tokio::test]
async fn what_is_not_ours_is_said_to_be_so() {
    let (_node, _orders, site) = site(1).await;
    for (model, tier) in [("other", "pro"), ("m", "free")] {
        match attempt(&site, &start(model, 0), tier).next().await {
            Item::Refused(refuse) => assert_eq!(refuse.reason, Reason::NotMine),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn without_a_worker_an_attempt_is_refused_at_once() {
    let (_node, _orders, site) = site(0).await;
    assert!(matches!(attempt(&site, &start("m", 0), "pro").next().await, Item::Refused(_)));
}

#[tokio::test]
async fn a_worker_lost_before_the_first_token_is_followed_by_another() {
    let (_node, mut orders, site) = site(2).await;
    let mut attempt = attempt(&site, &start("m", 0), "pro");
    assert!(matches!(attempt.next().await, Item::Ack(_)));
    let reply = orders.recv().await.unwrap();
    let failure = Failure::ours(ErrorClass::Transient, "broke");
    reply.send(Said::Failed(failure)).await.unwrap();
    let reply = orders.recv().await.unwrap();
    reply.send(Said::Text(0, "from the other".into())).await.unwrap();
    assert_eq!(text(&mut attempt).await, "from the other");
}

#[tokio::test]
async fn a_worker_lost_after_the_first_token_is_followed_by_another_that_goes_on() {
    let (node, mut orders, site) = site(2).await;
    let mut attempt = attempt(&site, &start("m", 0), "pro");
    assert!(matches!(attempt.next().await, Item::Ack(_)));
    let reply = orders.recv().await.unwrap();
    reply.send(Said::Text(0, "begun".into())).await.unwrap();
    assert_eq!(text(&mut attempt).await, "begun");
    let failure = Failure::ours(ErrorClass::Transient, "broke");
    reply.send(Said::Failed(failure)).await.unwrap();
    let reply = orders.recv().await.unwrap();
    // Held until it is long enough to be no repetition, or over.
    reply.send(Said::Text(0, " and gone on with until it is over".into())).await.unwrap();
    assert_eq!(text(&mut attempt).await, " and gone on with until it is over");
    reply.send(Said::End(0, Finish::Stop, Some(Default::default()))).await.unwrap();
    assert_eq!(text(&mut attempt).await, "");
    assert_eq!(text(&mut attempt).await, "");
    assert!(matches!(attempt.next().await, Item::End));
    let now = node.controller.clock().now();
    assert_eq!(node.controller.read(|site| site.standing(now, TARGET)).unwrap().running, 0);
}

#[tokio::test]
async fn an_answer_that_no_worker_goes_on_with_exactly_is_left_to_the_gateway() {
    let (_node, mut orders, site) = site(2).await;
    let start = start("m", 0);
    let body = br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}],
        "response_format":{"type":"json_object"}}"#;
    let call = Arc::new(Call::parse(Endpoint::Chat, Bytes::from_static(body)).unwrap());
    let (relayed, tier, tenant) = (None, "pro", 1);
    let question = Question { call: &call, start: &start, relayed, stream: true, tier, tenant };
    let mut attempt = Attempt::open(&site, &question);
    assert!(matches!(attempt.next().await, Item::Ack(_)));
    let reply = orders.recv().await.unwrap();
    reply.send(Said::Text(0, "{".into())).await.unwrap();
    assert_eq!(text(&mut attempt).await, "{");
    let failure = Failure::ours(ErrorClass::Transient, "broke");
    reply.send(Said::Failed(failure)).await.unwrap();
    match attempt.next().await {
        Item::Broken(fault) => assert_eq!(fault.failure.class, ErrorClass::Transient),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_says_which_part_of_an_engine_does_it_goes_no_further() {
    let body = Bytes::from_static(
        br#"{"model":"m","bootstrap_room":7,"messages":[{"role":"user","content":"id_slot"}],
        "id_slot":1,"seed":3,"kv_transfer_params":{"do_remote_prefill":true}}"#,
    );
    let call = Call::parse(Endpoint::Chat, body).unwrap().without(&super::OURS);
    let kept: Vec<&str> = call.fields.iter().map(|field| field.key.as_str()).collect();
    assert_eq!(kept, ["model", "messages", "seed"]);
    assert_eq!((call.value("seed"), call.value("id_slot")), (Some("3"), None));
    assert!(call.value("messages").unwrap().contains("id_slot"), "that is the client's own text");
}

#[tokio::test]
async fn a_gateway_that_leaves_frees_the_worker() {
    let (node, mut orders, site) = site(1).await;
    let mut attempt = attempt(&site, &start("m", 0), "pro");
    assert!(matches!(attempt.next().await, Item::Ack(_)));
    let reply = orders.recv().await.unwrap();
    drop(attempt);
    reply.closed().await;
    let now = node.controller.clock().now();
    // The engine is let go of before the machine is told, in the same step.
    node.tasks.close();
    node.tasks.wait().await;
    let standing = node.controller.read(|site| site.standing(now, TARGET));
    assert_eq!(standing.unwrap().running, 0);
}

#[test]
fn every_class_of_error_comes_through_as_it_went() {
    let ours = crate::dialect::of_nodes();
    for rule in &ours.class {
        let body =
            format!(r#"{{"error":{{"type":"{}","code":"x","message":"m"}}}}"#, rule.is.word());
        let headers = http::HeaderMap::new();
        for status in [400, 421, 503] {
            let reply = crate::dialect::Reply { status, headers: &headers, body: body.as_bytes() };
            assert_eq!(ours.classify(&reply).class, rule.is, "{body}");
        }
    }
    assert_eq!(ours.class.len(), 14);
}
