//! Proves the operator's door over a real socket.

use super::*;
use crate::http::{Arrivals, Counters, Front, serve};
use crate::telemetry::{Names, format_request};
use hyper::service::service_fn;
use mainstay_core::fact::Fact;
use mainstay_core::names::{ModelId, RequestId, TierId};
use mainstay_core::time::Time;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

fn bounds() -> Bounds {
    let second = Duration::from_secs(1);
    Bounds { body: 1000, head: 8192, head_time: second, body_time: second, connections: 10 }
}

async fn start(ready: Arc<Mutex<Ready>>) -> SocketAddr {
    let telemetry = Arc::new(Telemetry::new(Names::default()));
    let arrived = Fact::Arrived { request: RequestId(7), model: ModelId(0), tier: TierId(0) };
    telemetry.fact(Time::ZERO, &arrived);
    let admin = Admin::builder(telemetry, bounds(), move || ready.lock().unwrap().clone())
        .show("/-/sites", "sites & <states>", || json!({"sites": []}))
        .change("/-/drain", "drain a site", |body| match body.is_empty() {
            true => Err("name a site".to_owned()),
            false => Ok(json!({"drained": true})),
        })
        .metrics(|| "# TYPE extra gauge\nextra 1\n".to_owned())
        .build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let counters = Counters::new(bounds().connections);
    let drain = Duration::from_secs(1);
    let arrivals = Arrivals::Listener(listener);
    let front = Front { arrivals, tls: None, bounds: watch::channel(bounds()).1, drain, counters };
    let service = service_fn(move |request| {
        let admin = admin.clone();
        async move { Ok::<_, Infallible>(admin.answer(request).await) }
    });
    tokio::spawn(serve(front, service, CancellationToken::new()));
    address
}

async fn ask(address: SocketAddr, line: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head = format!(
        "{line} HTTP/1.1\r\nhost: x\r\naccept: application/json\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn health_metrics_and_explanations_are_served() {
    let ready = Arc::new(Mutex::new(Ready::Yes));
    let address = start(ready.clone()).await;
    for path in ["/livez", "/health", "/readyz", "/"] {
        let answer = ask(address, &format!("GET {path}"), "").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    *ready.lock().unwrap() = Ready::No("no site is up".to_owned());
    let answer = ask(address, "GET /readyz", "").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("no site is up"), "{answer}");
    *ready.lock().unwrap() = Ready::Draining;
    assert!(ask(address, "GET /readyz", "").await.starts_with("HTTP/1.1 503"));
    assert!(ask(address, "GET /livez", "").await.starts_with("HTTP/1.1 200"));

    let metrics = ask(address, "GET /metrics", "").await;
    assert!(metrics.contains("mainstay_inflight_requests 1"), "{metrics}");
    assert!(metrics.ends_with("extra 1\n# EOF\n"), "{metrics}");

    let path = format!("GET /explain/{}", format_request(RequestId(7)));
    assert!(ask(address, &path, "").await.contains("\"arrived\""));
    assert!(ask(address, "GET /explain/req-1", "").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn changes_are_made_by_post_only() {
    let address = start(Arc::new(Mutex::new(Ready::Yes))).await;
    assert!(ask(address, "GET /-/drain", "").await.starts_with("HTTP/1.1 405"));
    assert!(ask(address, "POST /-/drain", "deepseek").await.contains("drained"));
    assert!(ask(address, "POST /-/drain", "").await.contains("name a site"));
    assert!(ask(address, "POST /-/sites", "").await.starts_with("HTTP/1.1 405"));
    assert!(ask(address, "GET /-/sites", "").await.contains("\"sites\""));
    assert!(ask(address, "GET /nothing", "").await.starts_with("HTTP/1.1 404"));
    assert!(ask(address, "GET /", "").await.contains("sites &amp; &lt;states&gt;"));
}
