//! HTTP/2: which resets prove that nothing was processed, and that streams share a connection.

use super::*;
use h2::Reason;
use h2::server::{Connection, SendResponse, handshake};
use http::Response;

type Peer = Connection<TcpStream, Bytes>;

/// An HTTP/2 server that runs `script` with each connection and its number.
async fn http2_server<F, R>(script: F) -> Origin
where
    F: Fn(Peer, usize) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let script = Arc::new(script);
    let url = server(move |stream, number| {
        let script = script.clone();
        async move { script(handshake(stream).await.unwrap(), number).await }
    })
    .await;
    let options = OriginOptions { http2: Http2::PriorKnowledge, ..OriginOptions::default() };
    Origin::new(&url, options).unwrap()
}

async fn accept(peer: &mut Peer) -> SendResponse<Bytes> {
    let (request, respond) = peer.accept().await.unwrap().unwrap();
    assert_eq!(request.uri().path(), "/base/chat");
    respond
}

fn answer(respond: &mut SendResponse<Bytes>) {
    let mut body = respond.send_response(Response::new(()), false).unwrap();
    body.send_data(Bytes::from_static(b"ok"), true).unwrap();
}

/// Goes on serving what is open until the client goes.
async fn linger(mut peer: Peer) {
    while peer.accept().await.is_some() {}
}

#[tokio::test]
async fn streams_share_one_connection() {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    let origin = http2_server(move |mut peer, number| {
        count.fetch_max(number + 1, Ordering::SeqCst);
        async move {
            while let Some(Ok((_, mut respond))) = peer.accept().await {
                answer(&mut respond);
            }
        }
    })
    .await;
    let all: Vec<_> = (0..20)
        .map(|_| {
            let origin = origin.clone();
            tokio::spawn(async move { outcome(&origin).await })
        })
        .collect();
    for one in all {
        assert_eq!(one.await.unwrap().unwrap(), b"ok");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_refused_stream_was_not_processed() {
    let origin = http2_server(|mut peer, _| async move {
        accept(&mut peer).await.send_reset(Reason::REFUSED_STREAM);
        linger(peer).await;
    })
    .await;
    let error = outcome(&origin).await.unwrap_err();
    assert_eq!((error.failure.class, error.sent), (ErrorClass::Transient, Sent::NotProcessed));
}

#[tokio::test]
async fn internal_error_is_transient_and_calm_is_a_burst_throttle() {
    for (reason, class) in [
        (Reason::INTERNAL_ERROR, ErrorClass::Transient),
        (Reason::ENHANCE_YOUR_CALM, ErrorClass::ThrottleBurst),
    ] {
        let origin = http2_server(move |mut peer, _| async move {
            accept(&mut peer).await.send_reset(reason);
            linger(peer).await;
        })
        .await;
        let error = outcome(&origin).await.unwrap_err();
        assert_eq!((error.failure.class, error.sent), (class, Sent::Maybe));
    }
}

#[tokio::test]
async fn a_reset_after_data_is_an_error_of_the_body() {
    let origin = http2_server(|mut peer, _| async move {
        let mut respond = accept(&mut peer).await;
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        body.send_data(Bytes::from_static(b"part"), false).unwrap();
        let reset = async {
            // waits for: the data, which must leave before the reset overtakes it
            sleep(Duration::from_millis(50)).await;
            body.send_reset(Reason::INTERNAL_ERROR);
            std::future::pending::<()>().await;
        };
        tokio::select! { () = reset => {}, _ = peer.accept() => {} }
    })
    .await;
    let mut reply = origin.send(request()).await.unwrap();
    assert_eq!(reply.body.next().await.unwrap().unwrap(), "part");
    let error = reply.body.next().await.unwrap().unwrap_err();
    assert_eq!((error.failure.class, error.sent), (ErrorClass::Transient, Sent::Maybe));
}

/// Frames written by hand, for what a library server does not do on command.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn go_away(last: u32) -> Vec<u8> {
    frame(7, 0, 0, &[last.to_be_bytes(), 0u32.to_be_bytes()].concat())
}

const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const DATA: u8 = 0;
/// `:status: 200` in the static table.
const STATUS_200: &[u8] = &[0x88];

/// An origin whose first connection sends `frames` once the request's body has come, and whose
/// later ones answer.
async fn by_hand(frames: Vec<u8>, close: bool) -> Origin {
    let url = server(move |mut stream, number| {
        let frames = frames.clone();
        async move {
            stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
            read_request(&mut stream).await;
            match number {
                0 => stream.write_all(&frames).await.unwrap(),
                _ => stream.write_all(&answer_frames()).await.unwrap(),
            }
            if !close || number > 0 {
                let mut sink = [0u8; 1024];
                while matches!(stream.read(&mut sink).await, Ok(n) if n > 0) {}
            }
        }
    })
    .await;
    let options = OriginOptions { http2: Http2::PriorKnowledge, ..OriginOptions::default() };
    Origin::new(&url, options).unwrap()
}

fn answer_frames() -> Vec<u8> {
    [frame(HEADERS, 4, 1, STATUS_200), frame(DATA, 1, 1, b"ok")].concat()
}

#[tokio::test]
async fn a_goaway_that_does_not_cover_the_stream_proves_it_unprocessed() {
    let origin = by_hand(go_away(0), false).await;
    let error = outcome(&origin).await.unwrap_err();
    assert_eq!((error.failure.class, error.sent), (ErrorClass::Transient, Sent::NotProcessed));
    let reply = origin.send(request()).await.unwrap();
    assert!(!reply.reused, "the connection was replaced");
    assert_eq!(whole(reply).await.unwrap(), b"ok");
}

#[tokio::test]
async fn a_goaway_that_covers_the_stream_lets_it_finish() {
    let origin = by_hand([go_away(1), answer_frames()].concat(), false).await;
    assert_eq!(outcome(&origin).await.unwrap(), b"ok");
    let reply = origin.send(request()).await.unwrap();
    assert!(!reply.reused, "new requests go to a new connection");
}

#[tokio::test]
async fn a_goaway_that_covers_the_stream_and_then_a_close_proves_nothing() {
    let origin = by_hand(go_away(1), true).await;
    let error = outcome(&origin).await.unwrap_err();
    assert_eq!((error.failure.class, error.sent), (ErrorClass::Transient, Sent::Maybe));
}

#[tokio::test]
async fn invalid_http2_is_poisoned() {
    let origin = by_hand(frame(DATA, 0, 1, b"data before headers"), false).await;
    let error = outcome(&origin).await.unwrap_err();
    assert_eq!(error.failure.class, ErrorClass::PoisonedStream);
}

#[tokio::test]
async fn a_stream_given_up_is_reset_within_a_second() {
    let (reset, mut was_reset) = mpsc::channel(1);
    let origin = http2_server(move |mut peer, _| {
        let reset = reset.clone();
        async move {
            let mut respond = accept(&mut peer).await;
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            body.send_data(Bytes::from_static(b"part"), false).unwrap();
            let watch = async {
                let reason = std::future::poll_fn(|cx| body.poll_reset(cx)).await;
                let _ = reset.send(reason.ok()).await;
            };
            tokio::select! { () = watch => {}, _ = peer.accept() => {} }
        }
    })
    .await;
    let mut reply = origin.send(request()).await.unwrap();
    reply.body.next().await.unwrap().unwrap();
    drop(reply);
    let reason = timeout(Duration::from_secs(1), was_reset.recv()).await.unwrap().unwrap();
    assert_eq!(reason, Some(Reason::CANCEL));
    assert_eq!(origin.connections(), 1, "the connection stays");
}

#[tokio::test]
async fn a_huge_head_on_http2_is_poisoned_at_its_limit() {
    // A literal field, not indexed, whose value alone is longer than a whole head may be, in as
    // many frames as it takes.
    let name_and_length = [&[0x00, 1, b'x', 0x7f][..], &[0xa1, 0x8c, 0x06]].concat();
    let block = [STATUS_200, &name_and_length, &vec![b'a'; 100_000]].concat();
    let mut frames = Vec::new();
    for (index, part) in block.chunks(16_000).enumerate() {
        let kind = if index == 0 { HEADERS } else { CONTINUATION };
        let is_last = (index + 1) * 16_000 >= block.len();
        frames.extend(frame(kind, if is_last { 4 } else { 0 }, 1, part));
    }
    let error = outcome(&by_hand(frames, false).await).await.unwrap_err();
    assert_eq!(error.failure.class, ErrorClass::PoisonedStream, "{error:?}");
}
