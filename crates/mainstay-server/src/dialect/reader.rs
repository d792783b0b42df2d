//! Turns the bytes of an upstream's stream into the few events the relay knows.
//!
//! A body that turns out to be no stream at all, one JSON object or a page of HTML, is noticed by
//! its first character: an error object that comes with status 200 must not look like silence.

use super::event::{Endpoint, Event};
use super::sse::{Frame, Frames};
use super::{Dialect, Wire, chat, messages, plain, responses};
use bytes::{Buf, Bytes, BytesMut};
use mainstay_core::names::{ErrorClass, Failure};
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::sync::Arc;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Reads one stream. Push a piece, take events until there are none, push the next.
#[derive(Debug)]
pub struct Reader {
    dialect: Arc<Dialect>,
    endpoint: Endpoint,
    body: Body,
    wire: WireStream,
    /// Blank lines before the first character, not yet told.
    blank: usize,
    ready: VecDeque<Event>,
    ended: bool,
}

/// What kind of body it is.
#[derive(Debug)]
enum Body {
    /// Only space so far, or the beginning of a byte order mark.
    Unknown(BytesMut),
    Stream(Frames),
    /// One JSON object.
    Plain(BytesMut),
}

#[derive(Debug)]
enum WireStream {
    Chat(chat::Stream),
    Messages(messages::Stream),
    Responses(responses::Stream),
}

impl Reader {
    /// A reader for the answer to a request that asked for `choices` choices.
    pub fn new(dialect: Arc<Dialect>, endpoint: Endpoint, choices: u32) -> Reader {
        let wire = match dialect.wire {
            Wire::Chat => WireStream::Chat(chat::Stream::new(choices)),
            Wire::Messages => WireStream::Messages(messages::Stream::new(endpoint)),
            Wire::Responses => WireStream::Responses(responses::Stream::new(endpoint)),
        };
        let body = Body::Unknown(BytesMut::new());
        Reader { dialect, endpoint, body, wire, blank: 0, ready: VecDeque::new(), ended: false }
    }

    /// Takes a piece of the body, decompressed and without HTTP's own framing.
    pub fn push(&mut self, bytes: &Bytes) {
        if self.ended {
            return;
        }
        match &mut self.body {
            Body::Stream(frames) => frames.push(bytes),
            Body::Plain(whole) if whole.len() + bytes.len() > plain::BODY_MAX => {
                self.fail(poisoned("the body is too big"));
            }
            Body::Plain(whole) => whole.extend_from_slice(bytes),
            Body::Unknown(_) => self.push_first(bytes),
        }
    }

    /// The body has ended as HTTP says it should: what is still to say, if anything. An event
    /// without its end is dropped. To be called until it is `None`, and not after a cut.
    pub fn finish(&mut self) -> Option<Event> {
        if let Some(event) = self.next() {
            return Some(event);
        }
        if !self.ended
            && let Body::Plain(whole) = &self.body
        {
            let answer = plain::answer(&self.dialect, self.endpoint, whole);
            self.ready.push_back(match answer {
                Ok(answer) => Event::Chunk(answer.into_chunk()),
                Err(failure) => Event::Failed(failure),
            });
        }
        self.body = Body::Stream(Frames::default());
        self.next()
    }

    fn push_first(&mut self, bytes: &Bytes) {
        let Body::Unknown(held) = &mut self.body else { return };
        let mut first = bytes.clone();
        if !held.is_empty() {
            held.extend_from_slice(bytes);
            first = held.split().freeze();
        }
        if BOM.starts_with(&first) {
            held.extend_from_slice(&first);
            return;
        }
        if first.starts_with(BOM) {
            first.advance(BOM.len());
        }
        let space = first.len() - first.trim_ascii_start().len();
        // Blank lines say that someone is there; providers send them while a request queues.
        self.blank += first[..space].iter().filter(|byte| **byte == b'\n').count();
        first.advance(space);
        match first.first() {
            None => {}
            // A field of an event can begin with none of these.
            Some(b'{' | b'[') => self.body = Body::Plain(BytesMut::from(&first[..])),
            Some(b'<') => self.fail(poisoned("the body is a page, not a stream")),
            Some(_) => {
                let mut frames = Frames::default();
                frames.push(&first);
                self.body = Body::Stream(frames);
            }
        }
    }

    /// Reads one event. What is named an error is one on every wire, and what says nothing is a
    /// sign of life.
    fn read(&mut self, name: &[u8], data: &Bytes) {
        let (dialect, ready) = (&*self.dialect, &mut self.ready);
        let before = ready.len();
        let read = match &mut self.wire {
            _ if name == b"error" => Err(chat::named_error(dialect, data)),
            WireStream::Chat(stream) => stream.read(dialect, name, data, ready),
            WireStream::Messages(stream) => stream.read(dialect, data, ready),
            WireStream::Responses(stream) => stream.read(dialect, data, ready),
        };
        match read {
            Err(failure) => ready.push_back(Event::Failed(failure)),
            Ok(()) if ready.len() == before => ready.push_back(Event::Life),
            Ok(()) => {}
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.ready.push_back(Event::Failed(failure));
    }

    /// Nothing follows, and what was held is let go.
    fn end(&mut self) {
        self.ended = true;
        self.ready.clear();
        self.body = Body::Stream(Frames::default());
    }
}

impl Iterator for Reader {
    type Item = Event;

    /// The next event, or `None` until more bytes come.
    fn next(&mut self) -> Option<Event> {
        if self.blank > 0 {
            self.blank -= 1;
            return Some(Event::Life);
        }
        loop {
            if let Some(event) = self.ready.pop_front() {
                if matches!(event, Event::Failed(_) | Event::Done) {
                    self.end();
                }
                return Some(event);
            }
            if self.ended {
                return None;
            }
            let Body::Stream(frames) = &mut self.body else { return None };
            match frames.next_frame()? {
                Frame::Beat => return Some(Event::Life),
                Frame::TooBig => self.fail(poisoned("an event is too big")),
                Frame::Event { name, data } => self.read(&name, &data),
            }
        }
    }
}

/// A failure of the stream's own shape.
pub(super) fn poisoned(what: &str) -> Failure {
    Failure::ours(ErrorClass::PoisonedStream, what)
}

/// Whether it can be an object: serde takes a list for one.
pub(super) fn is_object(data: &[u8]) -> bool {
    data.trim_ascii_start().first() == Some(&b'{')
}

/// Numbers that some upstreams give their events. A gap is a lost event.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    seen: Option<(u64, u64)>,
}

/// What an event's number says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Next,
    Repeated,
}

impl Sequence {
    /// Takes an event's number; anything but a whole number counts as none.
    pub(super) fn step(&mut self, number: Option<&RawValue>) -> Result<Step, Failure> {
        let Some(number) = number.and_then(|raw| raw.get().parse::<u64>().ok()) else {
            return Ok(Step::Next);
        };
        match self.seen {
            Some((first, last)) if (first..=last).contains(&number) => Ok(Step::Repeated),
            Some((_, last)) if number != last.wrapping_add(1) => {
                Err(poisoned("the numbers of two events are out of order"))
            }
            Some((first, _)) => {
                self.seen = Some((first, number));
                Ok(Step::Next)
            }
            None => {
                self.seen = Some((number, number));
                Ok(Step::Next)
            }
        }
    }
}
