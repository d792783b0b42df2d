//! Proves the door's bounds and endings on real sockets.

use super::*;
use crate::setup::Bounds;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

fn bounds() -> Bounds {
    Bounds {
        body: 1000,
        head: 16 * 1024,
        head_time: Duration::from_millis(200),
        body_time: Duration::from_millis(200),
        connections: 100,
    }
}

struct Server {
    address: SocketAddr,
    counters: Arc<Counters>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

async fn start<F, R>(bounds: Bounds, drain: Duration, service: F) -> Server
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let counters = Counters::new(bounds.connections);
    let shutdown = CancellationToken::new();
    let arrivals = Arrivals::Listener(listener);
    let bounds = watch::channel(bounds).1;
    let front = Front { arrivals, tls: None, bounds, drain, counters: counters.clone() };
    let service = service_fn(move |request| {
        let future = service(request);
        async move { Ok::<_, Infallible>(future.await) }
    });
    let task = tokio::spawn(serve(front, service, shutdown.clone()));
    Server { address, counters, shutdown, task }
}

async fn usual(service: fn(Request<Incoming>) -> BoxFuture) -> Server {
    start(bounds(), Duration::from_secs(5), service).await
}

type BoxFuture = std::pin::Pin<Box<dyn Future<Output = Response<ResponseBody>> + Send>>;

fn hello(_: Request<Incoming>) -> BoxFuture {
    Box::pin(async { Response::new("hello".into()) })
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `text` and reads until the server closes.
    async fn ask(&self, text: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        rest(&mut stream).await
    }
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let reading = async {
        let mut chunk = [0u8; 4096];
        while let Ok(n) = stream.read(&mut chunk).await
            && n > 0
        {
            all.extend_from_slice(&chunk[..n]);
        }
    };
    timeout(Duration::from_secs(5), reading).await.expect("the server closes");
    String::from_utf8(all).unwrap()
}

/// Reads until `end` was seen.
async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut all = String::new();
    while !all.contains(end) {
        let mut chunk = [0u8; 4096];
        let n = timeout(Duration::from_secs(5), stream.read(&mut chunk)).await.unwrap().unwrap();
        assert!(n > 0, "closed after {all}");
        all.push_str(&String::from_utf8_lossy(&chunk[..n]));
    }
    all
}

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
const GET_LAST: &str = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn connections_are_kept_alive_beyond_the_limit_on_heads() {
    let server = usual(hello).await;
    let mut stream = server.connect().await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    until(&mut stream, "hello").await;
    // waits for: the limit on heads, twice
    sleep(bounds().head_time * 2).await;
    stream.write_all(GET_LAST.as_bytes()).await.unwrap();
    assert!(rest(&mut stream).await.ends_with("hello"));
}

#[tokio::test]
async fn a_head_that_does_not_come_or_not_end_closes_the_connection() {
    let server = usual(hello).await;
    for start in ["", "GET / HTTP/1.1\r\nho", "PRI * HT"] {
        let begun = Instant::now();
        assert_eq!(server.ask(start).await, "", "{start}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{start}");
    }
    let mut stream = server.connect().await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    until(&mut stream, "hello").await;
    stream.write_all(b"GET / HT").await.unwrap();
    assert_eq!(rest(&mut stream).await, "", "a second head has the same limit");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_a_431() {
    let server = usual(hello).await;
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(40_000));
    assert!(server.ask(&long).await.starts_with("HTTP/1.1 431 "));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(200));
    assert!(server.ask(&many).await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn connections_beyond_the_cap_read_a_503() {
    let one = Bounds { connections: 1, ..bounds() };
    let server = start(one, Duration::from_secs(1), hello).await;
    let mut first = server.connect().await;
    first.write_all(GET.as_bytes()).await.unwrap();
    until(&mut first, "hello").await;
    let answer = server.ask(GET).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["error"]["code"], "overloaded");
    assert_eq!(server.counters.turned_away.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_panic_is_one_500_and_stops_nothing_else() {
    let server = usual(|request| {
        Box::pin(async move {
            assert!(request.uri().path() != "/bad", "on purpose");
            Response::new("fine".into())
        })
    })
    .await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /bad HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let answer = until(&mut stream, "}}").await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert_eq!(server.counters.panics.load(Ordering::Relaxed), 1);
    stream.write_all(GET_LAST.as_bytes()).await.unwrap();
    assert!(rest(&mut stream).await.ends_with("fine"));
}

fn streamed(request: Request<Incoming>) -> BoxFuture {
    let whole = request.uri().path() == "/whole";
    Box::pin(async move {
        let (sender, body) = channel();
        tokio::spawn(async move {
            for word in ["one ", "two ", "error event"] {
                sender.send(Bytes::from_static(word.as_bytes())).await.unwrap();
            }
            match whole {
                true => sender.end(),
                false => sender.cut(),
            }
        });
        Response::new(body)
    })
}

#[tokio::test]
async fn a_stream_that_is_cut_shows_its_last_words_and_stays_unterminated() {
    let server = usual(streamed).await;
    for _ in 0..50 {
        let cut = server.ask(GET).await;
        assert!(cut.contains("error event"), "{cut}");
        assert!(!cut.contains("0\r\n\r\n"), "{cut}");
    }
    let whole = server.ask(&GET_LAST.replace("GET / ", "GET /whole ")).await;
    assert!(whole.ends_with("0\r\n\r\n"), "{whole}");
}

#[tokio::test]
async fn on_http2_a_cut_is_a_reset_after_the_last_words() {
    let server = usual(streamed).await;
    let tcp = server.connect().await;
    let (mut client, connection) = h2::client::handshake(tcp).await.unwrap();
    let driver = tokio::spawn(connection);
    for path in ["/whole", "/cut", "/cut", "/cut"] {
        let request = Request::get(format!("http://x{path}")).body(()).unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        let mut body = response.await.unwrap().into_body();
        let (mut text, mut reset) = (String::new(), None);
        while let Some(chunk) = body.data().await {
            match chunk {
                Ok(bytes) => {
                    let _ = body.flow_control().release_capacity(bytes.len());
                    text.push_str(std::str::from_utf8(&bytes).unwrap());
                }
                Err(error) => {
                    reset = error.reason();
                    break;
                }
            }
        }
        assert_eq!(text, "one two error event");
        assert_eq!(reset.is_some(), path == "/cut", "{reset:?}");
    }
    driver.abort();
}

/// A service that waits for ever, and says when it is dropped or its stream's client has left.
fn waiting(left: mpsc::Sender<&'static str>) -> impl Fn(Request<Incoming>) -> BoxFuture + Clone {
    struct Dropped(mpsc::Sender<&'static str>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.try_send("dropped");
        }
    }
    move |request| {
        let left = left.clone();
        Box::pin(async move {
            if request.uri().path() == "/stream" {
                let (sender, body) = channel();
                tokio::spawn(async move {
                    sender.send(Bytes::from_static(b"begun")).await.unwrap();
                    sender.closed().await;
                    let _ = left.send("closed").await;
                });
                return Response::new(body);
            }
            let _dropped = Dropped(left);
            std::future::pending().await
        })
    }
}

#[tokio::test]
async fn a_client_that_leaves_or_half_closes_is_noticed_within_a_second() {
    let (left, mut seen) = mpsc::channel(4);
    let server = start(bounds(), Duration::from_secs(1), waiting(left)).await;
    for (path, word) in [("/wait", "dropped"), ("/stream", "closed")] {
        for half in [false, true] {
            let mut stream = server.connect().await;
            stream
                .write_all(GET.replace("GET /", &format!("GET {path}")).as_bytes())
                .await
                .unwrap();
            match path {
                "/stream" => drop(until(&mut stream, "begun").await),
                // waits for: the request to be under way
                _ => sleep(Duration::from_millis(50)).await,
            }
            let kept = match half {
                true => {
                    stream.shutdown().await.unwrap();
                    Some(stream)
                }
                false => {
                    drop(stream);
                    None
                }
            };
            let noticed = timeout(Duration::from_secs(1), seen.recv()).await;
            assert_eq!(noticed.unwrap().unwrap(), word, "half-closed: {half}");
            drop(kept);
        }
    }
}

#[tokio::test]
async fn a_slow_reader_holds_the_sender_back_within_its_bound() {
    let (counted, mut count) = mpsc::channel(1);
    let server = start(bounds(), Duration::from_secs(1), move |_| {
        let counted = counted.clone();
        async move {
            let (sender, body) = channel();
            tokio::spawn(async move {
                let chunk = Bytes::from(vec![b'a'; 4096]);
                let mut sent = 0;
                let patience = Duration::from_millis(500);
                while let Ok(Ok(())) = timeout(patience, sender.send(chunk.clone())).await {
                    sent += chunk.len();
                }
                let _ = counted.send((sent, sender.is_drained())).await;
            });
            Response::new(body)
        }
    })
    .await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    stream.write_all(GET.as_bytes()).await.unwrap();
    let (sent, drained) = timeout(Duration::from_secs(5), count.recv()).await.unwrap().unwrap();
    assert!(!drained);
    assert!(sent < 512 * 1024, "{sent} bytes were taken over for a client that reads nothing");
}

#[tokio::test]
async fn a_body_is_bounded_in_size_and_time() {
    let server = usual(|request| {
        Box::pin(async move {
            let text = match read_body(request, &bounds()).await {
                Ok(bytes) => format!("{} bytes", bytes.len()),
                Err(error) => format!("{error:?}"),
            };
            let mut response = Response::new(text.into());
            *response.status_mut() = StatusCode::OK;
            response
        })
    })
    .await;
    let post = |rest: &str| format!("POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{rest}");
    let long = "a".repeat(900);
    let cases = [
        (format!("content-length: 900\r\n\r\n{long}"), "900 bytes"),
        ("content-length: 1001\r\n\r\n".to_owned(), "TooLarge"),
        (format!("transfer-encoding: chunked\r\n\r\n384\r\n{long}\r\n0\r\n\r\n"), "900 bytes"),
        (
            format!("transfer-encoding: chunked\r\n\r\n384\r\n{long}\r\n384\r\n{long}\r\n"),
            "TooLarge",
        ),
        ("content-length: 900\r\n\r\nabc".to_owned(), "TooSlow"),
        ("transfer-encoding: chunked\r\n\r\nzz\r\n".to_owned(), "Malformed"),
    ];
    for (rest, expected) in cases {
        let answer = server.ask(&post(&rest)).await;
        assert!(answer.ends_with(expected), "{expected}: {answer}");
    }
}

#[tokio::test]
async fn shutdown_finishes_what_runs_and_takes_nothing_new() {
    let server = start(bounds(), Duration::from_secs(5), |_| async {
        // waits for: the shutdown, which begins meanwhile
        sleep(Duration::from_millis(300)).await;
        Response::new("finished".into())
    })
    .await;
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    busy.write_all(GET.as_bytes()).await.unwrap();
    // waits for: the request to be under way
    sleep(Duration::from_millis(100)).await;
    server.shutdown.cancel();
    assert!(rest(&mut busy).await.ends_with("finished"));
    assert_eq!(rest(&mut idle).await, "");
    timeout(Duration::from_secs(1), server.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
    assert_eq!(server.counters.open.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn shutdown_cuts_what_runs_past_its_deadline() {
    let (left, mut seen) = mpsc::channel(4);
    let server = start(bounds(), Duration::from_millis(200), waiting(left)).await;
    let mut stream = server.connect().await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    // waits for: the request to be under way
    sleep(Duration::from_millis(50)).await;
    server.shutdown.cancel();
    timeout(Duration::from_secs(1), server.task).await.unwrap().unwrap();
    assert_eq!(seen.recv().await.unwrap(), "dropped");
}
