//! Takes a request's body in, as much and for as long as is allowed.

use crate::setup::Bounds;
use bytes::{Bytes, BytesMut};
use http::Request;
use http_body::Body;
use http_body_util::BodyExt;
use std::io;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Bytes a second below which a client is not slow but stuck: a long prompt over a poor line may
/// take its time, as long as it keeps coming.
const RATE_LEAST: u64 = 16 * 1024;
/// What is set aside before the first byte, whatever the client announces.
const RESERVE_MAX: u64 = 64 * 1024;

/// How long the rest of a refused body is taken in, and how long a pause ends that.
const DISCARD_TIME: Duration = Duration::from_secs(5);
const DISCARD_PAUSE: Duration = Duration::from_millis(100);

/// Why a body was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Larger than `Bounds::body`: 413.
    TooLarge,
    /// It did not come in time: 408.
    TooSlow,
    /// The client left.
    Gone,
    /// Its framing is broken: 400.
    Malformed,
}

/// The whole body of `request`.
pub async fn read_body<B>(request: Request<B>, bounds: &Bounds) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    let mut body = request.into_body();
    let announced = body.size_hint().lower();
    if announced > bounds.body as u64 {
        discard(body).await;
        return Err(BodyError::TooLarge);
    }
    let start = Instant::now();
    let mut whole = BytesMut::with_capacity(announced.min(RESERVE_MAX) as usize);
    loop {
        let earned = Duration::from_secs(whole.len() as u64 / RATE_LEAST);
        let until = (start + bounds.body_time + earned).min(Instant::now() + bounds.body_time);
        let frame = timeout_at(until, body.frame()).await.map_err(|_| BodyError::TooSlow)?;
        let bytes = match frame {
            None => return Ok(whole.freeze()),
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(error)) => return Err(of(&error)),
        };
        if whole.len() + bytes.len() > bounds.body {
            discard(body).await;
            return Err(BodyError::TooLarge);
        }
        if whole.is_empty() && bytes.len() as u64 == announced {
            return Ok(bytes);
        }
        whole.extend_from_slice(&bytes);
    }
}

/// hyper reports broken framing as invalid input, and an early end as an unexpected one.
/// Takes in what the client is still sending, for a while. A client that meets a closed connection
/// while it sends does not read the refusal that came before.
async fn discard<B>(mut body: B)
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    let until = Instant::now() + DISCARD_TIME;
    loop {
        let next = until.min(Instant::now() + DISCARD_PAUSE);
        let Ok(Some(Ok(_))) = timeout_at(next, body.frame()).await else { return };
    }
}

fn of(error: &hyper::Error) -> BodyError {
    let cause = std::error::Error::source(error).and_then(|c| c.downcast_ref::<io::Error>());
    match cause.map(io::Error::kind) {
        Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => BodyError::Malformed,
        _ if error.is_parse() || error.is_user() => BodyError::Malformed,
        _ => BodyError::Gone,
    }
}
