//! A reply's body, chunk by chunk: decoded, bounded, and never short without saying so.
//!
//! Nothing is read ahead: what the caller does not ask for stays in the socket or the window.

use super::fault::{self, SendError, Sent};
use super::pool::Lease;
use bytes::{Buf, Bytes};
use flate2::write::{DeflateDecoder, GzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::io::{self, Write};
use std::time::Duration;
use tokio::time::timeout;

/// The most a compressed body may open to (C12).
const OPENED_MAX: usize = 64 * 1024 * 1024;
/// Compressed bytes opened at a time: at deflate's best ratio, 1,032, this is 256 KiB.
const SLICE: usize = 256;
/// What may still come after the caller has seen the end it waited for, for the connection to be
/// worth keeping.
const TAIL_MAX: usize = 64 * 1024;
const TAIL_LIMIT: Duration = Duration::from_millis(500);

/// A reply's body. Dropping it before its end closes the connection or resets the stream at once.
pub struct ReplyBody {
    open: Option<(Incoming, Lease)>,
    coding: Coding,
}

impl ReplyBody {
    pub(super) fn new(incoming: Incoming, headers: &HeaderMap, lease: Lease) -> ReplyBody {
        let coding = Coding::of(headers);
        if incoming.is_end_stream() {
            lease.give_back();
            return ReplyBody { open: None, coding: Coding::None };
        }
        ReplyBody { open: Some((incoming, lease)), coding }
    }

    /// The next bytes. `None` is a clean end; a body that is cut ends in an error. After an error
    /// nothing more comes.
    pub async fn next(&mut self) -> Option<Result<Bytes, SendError>> {
        loop {
            match self.coding.opened() {
                Ok(Some(bytes)) => return Some(Ok(bytes)),
                Ok(None) => {}
                Err(words) => return Some(Err(self.fail(SendError::poisoned(words)))),
            }
            let (incoming, _) = self.open.as_mut()?;
            match incoming.frame().await {
                Some(Ok(frame)) => {
                    let Ok(bytes) = frame.into_data() else { continue };
                    match &mut self.coding {
                        Coding::None if bytes.is_empty() => {}
                        Coding::None => return Some(Ok(bytes)),
                        Coding::Some(opener) => opener.input = bytes,
                        Coding::Unknown(name) => {
                            let words = format!("the reply's encoding {name:?} was not asked for");
                            return Some(Err(self.fail(SendError::poisoned(words))));
                        }
                    }
                }
                Some(Err(error)) => {
                    let error = fault::of_exchange(&error, Sent::Maybe);
                    return Some(Err(self.fail(error)));
                }
                None => {
                    let (_, lease) = self.open.take()?;
                    lease.give_back();
                    if let Err(words) = self.coding.end() {
                        return Some(Err(SendError::poisoned(words)));
                    }
                }
            }
        }
    }

    /// The caller has all it wants: the end is read in the background if it comes at once, so that
    /// the connection can be kept; otherwise the connection closes within a second.
    pub fn finish(mut self) {
        let Some((_, lease)) = &self.open else { return };
        let tasks = lease.origin.tasks.clone();
        tasks.spawn(timeout(TAIL_LIMIT, async move {
            let mut seen = 0;
            while let Some(Ok(bytes)) = self.next().await {
                seen += bytes.len();
                if seen > TAIL_MAX {
                    return;
                }
            }
        }));
    }

    fn fail(&mut self, error: SendError) -> SendError {
        self.open = None;
        self.coding = Coding::None;
        error
    }
}

impl std::fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplyBody").field("ended", &self.open.is_none()).finish()
    }
}

/// How the body is encoded. We ask for none; some servers compress all the same.
enum Coding {
    None,
    Some(Box<Opener>),
    Unknown(String),
}

impl Coding {
    fn of(headers: &HeaderMap) -> Coding {
        let Some(name) = headers.get(CONTENT_ENCODING) else { return Coding::None };
        let name = name.to_str().unwrap_or("?").trim().to_ascii_lowercase();
        let engine = match name.as_str() {
            "" | "identity" => return Coding::None,
            "gzip" | "x-gzip" => Engine::Gzip(GzDecoder::new(Vec::new())),
            "deflate" => Engine::Unseen,
            _ => return Coding::Unknown(name),
        };
        Coding::Some(Box::new(Opener { engine, input: Bytes::new(), total: 0 }))
    }

    fn opened(&mut self) -> Result<Option<Bytes>, String> {
        match self {
            Coding::Some(opener) => opener.opened(),
            Coding::None | Coding::Unknown(_) => Ok(None),
        }
    }

    fn end(&mut self) -> Result<(), String> {
        match std::mem::replace(self, Coding::None) {
            Coding::Some(mut opener) => opener.engine.end().map_err(|e| broken(&e)),
            Coding::None | Coding::Unknown(_) => Ok(()),
        }
    }
}

struct Opener {
    engine: Engine,
    input: Bytes,
    total: usize,
}

impl Opener {
    /// Opens a slice after the other until something comes out or the input is used up.
    fn opened(&mut self) -> Result<Option<Bytes>, String> {
        while self.input.has_remaining() {
            let slice = self.input.split_to(self.input.len().min(SLICE));
            let bytes = self.engine.open(&slice).map_err(|e| broken(&e))?;
            self.total += bytes.len();
            if self.total > OPENED_MAX {
                return Err("the compressed reply opens to more than 64 MiB".to_owned());
            }
            if !bytes.is_empty() {
                return Ok(Some(bytes.into()));
            }
        }
        Ok(None)
    }
}

/// "deflate" means zlib by the standard and raw deflate by some servers: the first byte tells.
enum Engine {
    Unseen,
    Gzip(GzDecoder<Vec<u8>>),
    Zlib(ZlibDecoder<Vec<u8>>),
    Raw(DeflateDecoder<Vec<u8>>),
}

impl Engine {
    fn open(&mut self, slice: &[u8]) -> io::Result<Vec<u8>> {
        if let Engine::Unseen = self {
            *self = match slice.first() {
                Some(first) if first & 0x0f == 8 => Engine::Zlib(ZlibDecoder::new(Vec::new())),
                _ => Engine::Raw(DeflateDecoder::new(Vec::new())),
            };
        }
        match self {
            Engine::Unseen => Ok(Vec::new()),
            Engine::Gzip(decoder) => {
                push(decoder, slice).map(|()| std::mem::take(decoder.get_mut()))
            }
            Engine::Zlib(decoder) => {
                push(decoder, slice).map(|()| std::mem::take(decoder.get_mut()))
            }
            Engine::Raw(decoder) => {
                push(decoder, slice).map(|()| std::mem::take(decoder.get_mut()))
            }
        }
    }

    /// Fails if the compressed data has not come to its own end.
    fn end(&mut self) -> io::Result<()> {
        match self {
            Engine::Unseen => Ok(()),
            Engine::Gzip(decoder) => decoder.try_finish(),
            Engine::Zlib(decoder) => decoder.try_finish(),
            Engine::Raw(decoder) => decoder.try_finish(),
        }
    }
}

fn push(decoder: &mut impl Write, slice: &[u8]) -> io::Result<()> {
    decoder.write_all(slice)?;
    decoder.flush()
}

fn broken(error: &io::Error) -> String {
    format!("the compressed reply cannot be opened: {error}")
}
