//! Proves on real sockets that each way of failing is told apart from the others.

use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use mainstay_core::names::{ErrorClass, Scope};
use std::future::Future;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

mod http2;
mod names;
mod secure;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A server that runs `script` with each connection and its number.
async fn server<F, R>(script: F) -> String
where
    F: Fn(TcpStream, usize) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/base", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(script(stream, number));
        }
    });
    url
}

/// A server that reads one request and answers `reply`, then closes.
async fn says(reply: impl Into<Vec<u8>>) -> Origin {
    let reply: Vec<u8> = reply.into();
    let url = server(move |mut stream, _| {
        let reply = reply.clone();
        async move {
            read_request(&mut stream).await;
            let _ = stream.write_all(&reply).await;
        }
    })
    .await;
    origin(&url)
}

/// Reads a request's head and its `{}` body.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(b"{}") {
        let mut chunk = [0u8; 4096];
        match stream.read(&mut chunk).await {
            Ok(n) if n > 0 => seen.extend_from_slice(&chunk[..n]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&seen).into_owned()
}

fn origin(url: &str) -> Origin {
    Origin::new(url, OriginOptions::default()).unwrap()
}

fn request() -> Outbound<'static> {
    Outbound {
        path: "/chat",
        method: Method::POST,
        headers: vec![(HeaderName::from_static("x-test"), HeaderValue::from_static("1"))],
        body: Bytes::from_static(b"{}"),
    }
}

async fn whole(mut reply: Reply) -> Result<Vec<u8>, SendError> {
    let mut all = Vec::new();
    while let Some(bytes) = reply.body.next().await {
        all.extend_from_slice(&bytes?);
    }
    Ok(all)
}

async fn outcome(origin: &Origin) -> Result<Vec<u8>, SendError> {
    whole(origin.send(request()).await?).await
}

fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

const DEAD: ErrorClass = ErrorClass::Dead(Scope::Site);

#[tokio::test]
async fn a_request_arrives_as_written_and_its_connection_is_kept() {
    let (heads, mut seen) = mpsc::channel(4);
    let url = server(move |mut stream, number| {
        let heads = heads.clone();
        async move {
            loop {
                let head = read_request(&mut stream).await;
                if head.is_empty() || heads.send((number, head)).await.is_err() {
                    return;
                }
                stream.write_all(OK).await.unwrap();
            }
        }
    })
    .await;
    let origin = origin(&url);
    assert_eq!(outcome(&origin).await.unwrap(), b"ok");
    let reply = origin.send(request()).await.unwrap();
    assert!(reply.reused);
    assert_eq!(whole(reply).await.unwrap(), b"ok");
    let (number, head) = seen.recv().await.unwrap();
    assert_eq!(number, 0);
    assert!(head.starts_with("POST /base/chat HTTP/1.1\r\n"), "{head}");
    let head = head.to_ascii_lowercase();
    for line in ["x-test: 1", "accept-encoding: identity", "content-length: 2", "host: 127.0.0.1:"]
    {
        assert!(head.contains(line), "{line} missing in {head}");
    }
    assert_eq!(seen.recv().await.unwrap().0, 0);
    assert_eq!(origin.connections(), 1);
    origin.shutdown().await;
}

#[tokio::test]
async fn a_refused_connection_is_a_dead_site_and_nothing_was_sent() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let error = outcome(&origin(&url)).await.unwrap_err();
    assert_eq!((error.failure.class, error.sent, error.stale), (DEAD, Sent::Nothing, false));
}

#[tokio::test]
async fn a_reset_before_headers_is_transient_and_may_have_been_processed() {
    let url = server(|mut stream, _| async move {
        read_request(&mut stream).await;
        reset(stream);
    })
    .await;
    let error = outcome(&origin(&url)).await.unwrap_err();
    assert_eq!(error.failure.class, ErrorClass::Transient);
    assert_eq!((error.sent, error.stale), (Sent::Maybe, false));
}

#[tokio::test]
async fn an_unterminated_body_is_an_error_and_never_an_end() {
    let cuts: [&[u8]; 3] = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12345\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\n12345",
    ];
    for cut in cuts {
        let mut reply = says(cut).await.send(request()).await.unwrap();
        assert_eq!(reply.body.next().await.unwrap().unwrap(), "12345");
        let error = reply.body.next().await.unwrap().unwrap_err();
        assert_eq!(error.failure.class, ErrorClass::Transient);
        assert!(reply.body.next().await.is_none(), "after an error nothing comes");
    }
}

#[tokio::test]
async fn a_body_without_length_ends_with_its_connection() {
    let origin = says(*b"HTTP/1.1 200 OK\r\n\r\nall of it").await;
    assert_eq!(outcome(&origin).await.unwrap(), b"all of it");
}

#[tokio::test]
async fn what_is_not_http_or_broken_framing_is_poisoned() {
    for reply in [
        "<html>hello</html>\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let error = outcome(&says(reply).await).await.unwrap_err();
        assert_eq!(error.failure.class, ErrorClass::PoisonedStream, "{reply}: {error:?}");
    }
}

#[tokio::test]
async fn a_reused_connection_that_dies_unanswered_is_stale() {
    let url = server(|mut stream, number| async move {
        read_request(&mut stream).await;
        stream.write_all(OK).await.unwrap();
        if number == 0 {
            read_request(&mut stream).await;
            reset(stream);
        } else {
            // waits for: the client, which must not come back here
            sleep(Duration::from_secs(5)).await;
        }
    })
    .await;
    let origin = origin(&url);
    outcome(&origin).await.unwrap();
    let error = outcome(&origin).await.unwrap_err();
    assert_eq!(error.failure.class, ErrorClass::Transient);
    assert_eq!((error.sent, error.stale), (Sent::Maybe, true));
    assert_eq!(outcome(&origin).await.unwrap(), b"ok", "the next one connects anew");
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_never_used_again() {
    let (closed, mut was_closed) = mpsc::channel(1);
    let url = server(move |mut stream, number| {
        let closed = closed.clone();
        async move {
            read_request(&mut stream).await;
            stream.write_all(OK).await.unwrap();
            if number == 0 {
                drop(stream);
                let _ = closed.send(()).await;
            } else {
                // waits for: the client, which must not come back here
                sleep(Duration::from_secs(5)).await;
            }
        }
    })
    .await;
    let origin = origin(&url);
    outcome(&origin).await.unwrap();
    was_closed.recv().await.unwrap();
    let gone = async {
        while origin.connections() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(1), gone).await.expect("the pool watches what lies in it");
    let reply = origin.send(request()).await.unwrap();
    assert!(!reply.reused);
}

#[tokio::test]
async fn a_huge_head_is_poisoned_at_its_limit() {
    let (taken, mut bytes_taken) = mpsc::channel(1);
    let url = server(move |mut stream, _| {
        let taken = taken.clone();
        async move {
            read_request(&mut stream).await;
            let mut count = 0;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await;
            while count < 20_000_000 && stream.write_all(&[b'a'; 10_000]).await.is_ok() {
                count += 10_000;
            }
            let _ = taken.send(count).await;
        }
    })
    .await;
    let error = outcome(&origin(&url)).await.unwrap_err();
    assert_eq!(error.failure.class, ErrorClass::PoisonedStream);
    assert!(bytes_taken.recv().await.unwrap() < 20_000_000, "closed before the end");
}

#[tokio::test]
async fn an_encoding_nobody_asked_for_is_opened() {
    let text = b"data: hello\n\n".repeat(1000);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&text).unwrap();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), Compression::best());
    zlib.write_all(&text).unwrap();
    let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), Compression::best());
    raw.write_all(&text).unwrap();
    let all = [("gzip", gzip.finish()), ("deflate", zlib.finish()), ("deflate", raw.finish())];
    for (name, packed) in all {
        let packed = packed.unwrap();
        let origin = says(encoded(name, &packed)).await;
        assert_eq!(outcome(&origin).await.unwrap(), text, "{name}");
        let cut = says(encoded(name, &packed[..packed.len() - 6])).await;
        let error = outcome(&cut).await.unwrap_err();
        assert_eq!(error.failure.class, ErrorClass::PoisonedStream, "{name} cut");
    }
    let error = outcome(&says(encoded("br", b"x")).await).await.unwrap_err();
    assert_eq!(error.failure.class, ErrorClass::PoisonedStream);
}

fn encoded(name: &str, packed: &[u8]) -> Vec<u8> {
    let length = packed.len();
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-encoding: {name}\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), packed].concat()
}

#[tokio::test]
async fn a_gzip_bomb_is_poisoned_at_64_mib() {
    let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
    let zeros = vec![0u8; 1 << 20];
    for _ in 0..80 {
        bomb.write_all(&zeros).unwrap();
    }
    let packed = bomb.finish().unwrap();
    let mut reply = says(encoded("gzip", &packed)).await.send(request()).await.unwrap();
    let (mut total, mut largest) = (0, 0);
    let error = loop {
        match reply.body.next().await.expect("no clean end") {
            Ok(bytes) => (total, largest) = (total + bytes.len(), largest.max(bytes.len())),
            Err(error) => break error,
        }
    };
    assert_eq!(error.failure.class, ErrorClass::PoisonedStream);
    assert!(total <= 64 << 20 && largest <= 2 << 20, "{total} {largest}");
}

#[tokio::test]
async fn a_reply_given_up_closes_its_connection_at_once() {
    let (closed, mut was_closed) = mpsc::channel(1);
    let url = server(move |mut stream, _| {
        let closed = closed.clone();
        async move {
            read_request(&mut stream).await;
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n";
            stream.write_all(head).await.unwrap();
            let mut rest = [0u8; 16];
            let _ = closed.send(stream.read(&mut rest).await).await;
        }
    })
    .await;
    let mut reply = origin(&url).send(request()).await.unwrap();
    assert_eq!(reply.body.next().await.unwrap().unwrap(), "hi");
    let start = Instant::now();
    drop(reply);
    let seen = timeout(Duration::from_secs(1), was_closed.recv()).await.unwrap().unwrap();
    assert!(!matches!(seen, Ok(n) if n > 0), "{seen:?}");
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_request_given_up_before_headers_closes_its_connection_at_once() {
    let (closed, was_closed) = oneshot::channel();
    let closed = Arc::new(std::sync::Mutex::new(Some(closed)));
    let url = server(move |mut stream, _| {
        let closed = closed.lock().unwrap().take().unwrap();
        async move {
            read_request(&mut stream).await;
            let mut rest = [0u8; 16];
            let _ = closed.send(stream.read(&mut rest).await.unwrap_or(0));
        }
    })
    .await;
    let origin = origin(&url);
    assert!(timeout(Duration::from_millis(100), origin.send(request())).await.is_err());
    assert_eq!(timeout(Duration::from_secs(1), was_closed).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_slow_caller_holds_the_upstream_back() {
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let url = server(move |mut stream, _| {
        let count = count.clone();
        async move {
            // A small send buffer, so that what is counted has nearly been taken.
            let _ = socket2::SockRef::from(&stream).set_send_buffer_size(64 * 1024);
            read_request(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while stream.write_all(&[b'a'; 10_000]).await.is_ok() {
                count.fetch_add(10_000, Ordering::Relaxed);
            }
        }
    })
    .await;
    let mut reply = origin(&url).send(request()).await.unwrap();
    reply.body.next().await.unwrap().unwrap();
    let mut before = usize::MAX;
    while before != written.load(Ordering::Relaxed) {
        before = written.load(Ordering::Relaxed);
        // waits for: the writer, which must have stopped
        sleep(Duration::from_millis(200)).await;
    }
    assert!(before < 16_000_000, "the writer stood still after {before} bytes");
}

#[tokio::test]
async fn a_finished_reply_gives_its_connection_back_when_the_end_comes_at_once() {
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\ndone\r\n0\r\n\r\n";
    let url = server(move |mut stream, _| async move {
        while !read_request(&mut stream).await.is_empty() {
            stream.write_all(chunked).await.unwrap();
        }
    })
    .await;
    let origin = origin(&url);
    let mut reply = origin.send(request()).await.unwrap();
    reply.body.next().await.unwrap().unwrap();
    reply.body.finish();
    let kept = async {
        while origin.connections() == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(1), kept).await.unwrap();
    assert!(origin.send(request()).await.unwrap().reused);
}

#[tokio::test]
async fn a_redirect_is_returned_and_named_without_its_query() {
    let head =
        b"HTTP/1.1 307 X\r\nlocation: https://evil.example/a?key=1\r\ncontent-length: 0\r\n\r\n";
    let reply = says(*head).await.send(request()).await.unwrap();
    assert_eq!(reply.status, StatusCode::TEMPORARY_REDIRECT);
    let words = reply.redirect().unwrap();
    assert!(words.contains("https://evil.example") && !words.contains("key"), "{words}");
}

#[tokio::test]
async fn a_base_url_that_cannot_work_says_how_to_mend_it() {
    for url in ["", "api.example.com", "ftp://x", "https://user:pw@x", "https://x/?a=b"] {
        let error = Origin::new(url, OriginOptions::default()).unwrap_err();
        assert!(error.contains("https://api.example.com/v1"), "{url}: {error}");
    }
}
