//! Cuts a byte stream into server-sent events, as the WHATWG standard has it.
//!
//! Lines end with LF, CRLF or CR, and the network may cut anywhere: inside a character, inside a
//! CRLF, inside the byte order mark. An event whose data stands on one line inside one piece of
//! the body is a slice of that piece, not a copy. An event that has no closing blank line never
//! comes out. `id:` and `retry:` mean nothing to us and are skipped.

use bytes::{Buf, Bytes, BytesMut};

/// The most one event may hold: a provider's largest lawful event is a few hundred kilobytes (a
/// whole answer in one piece), so more is a fault and must not cost memory.
pub const EVENT_MAX: usize = 1 << 20;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// What a stream holds between two tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// An event with data.
    Event {
        /// Its name; empty if it has none.
        name: Bytes,
        /// Its data lines, joined by LF.
        data: Bytes,
    },
    /// A comment, or an event without data.
    Beat,
    /// An event is larger than `EVENT_MAX`. Nothing follows.
    TooBig,
}

/// The decoder's state.
#[derive(Debug, Default)]
pub struct Frames {
    /// What came and is not yet cut into lines.
    input: Bytes,
    /// The beginning of a line whose end has not come.
    partial: BytesMut,
    /// The last line ended with CR: a LF that comes now belongs to it.
    after_cr: bool,
    /// The first line is behind us, and with it a byte order mark.
    begun: bool,
    /// An event was too big.
    broken: bool,
    name: Bytes,
    data: Data,
}

/// The data lines of the event under way.
#[derive(Debug, Default)]
enum Data {
    #[default]
    None,
    One(Bytes),
    Many(BytesMut),
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Data::None => 0,
            Data::One(line) => line.len(),
            Data::Many(lines) => lines.len(),
        }
    }

    fn add(self, line: Bytes) -> Data {
        match self {
            Data::None => Data::One(line),
            Data::One(first) => {
                let mut lines = BytesMut::from(&first[..]);
                lines.extend_from_slice(b"\n");
                lines.extend_from_slice(&line);
                Data::Many(lines)
            }
            Data::Many(mut lines) => {
                lines.extend_from_slice(b"\n");
                lines.extend_from_slice(&line);
                Data::Many(lines)
            }
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        match std::mem::take(self) {
            Data::None => None,
            Data::One(line) => Some(line),
            Data::Many(lines) => Some(lines.freeze()),
        }
    }
}

impl Frames {
    /// Takes a piece of the body. Everything before it should have been read with `next`, or it
    /// is copied.
    pub fn push(&mut self, bytes: &Bytes) {
        if self.input.is_empty() {
            self.input = bytes.clone();
        } else {
            let mut joined = BytesMut::from(&self.input[..]);
            joined.extend_from_slice(bytes);
            self.input = joined.freeze();
        }
    }

    /// The next frame, or `None` until more bytes come.
    pub fn next_frame(&mut self) -> Option<Frame> {
        if self.broken {
            return None;
        }
        while let Some(line) = self.line() {
            if self.name.len() + self.data.len() + line.len() > EVENT_MAX {
                return Some(self.too_big());
            }
            if let Some(frame) = self.take_line(line) {
                return Some(frame);
            }
        }
        let held = self.name.len() + self.data.len() + self.partial.len();
        (held > EVENT_MAX).then(|| self.too_big())
    }

    /// Bytes that came and are in no complete line yet.
    pub fn unread(&self) -> usize {
        self.input.len() + self.partial.len()
    }

    fn too_big(&mut self) -> Frame {
        *self = Frames { broken: true, ..Frames::default() };
        Frame::TooBig
    }

    /// The next complete line without its end.
    fn line(&mut self) -> Option<Bytes> {
        if self.after_cr && !self.input.is_empty() {
            self.after_cr = false;
            if self.input[0] == b'\n' {
                self.input.advance(1);
            }
        }
        let Some(end) = memchr::memchr2(b'\n', b'\r', &self.input) else {
            // One byte over the bound is enough to see that it is broken.
            let kept = self.input.len().min(EVENT_MAX + 1);
            self.partial.extend_from_slice(&self.input[..kept]);
            self.input = Bytes::new();
            return None;
        };
        let mut line = self.input.split_to(end);
        self.after_cr = self.input[0] == b'\r';
        self.input.advance(1);
        if !self.partial.is_empty() {
            self.partial.extend_from_slice(&line);
            line = self.partial.split().freeze();
        }
        if !self.begun {
            self.begun = true;
            if line.starts_with(BOM) {
                line.advance(BOM.len());
            }
        }
        Some(line)
    }

    fn take_line(&mut self, line: Bytes) -> Option<Frame> {
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            return Some(match self.data.take() {
                Some(data) if !data.is_empty() => Frame::Event { name, data },
                Some(_) | None => Frame::Beat,
            });
        }
        let colon = memchr::memchr(b':', &line).unwrap_or(line.len());
        let mut value = line.slice((colon + 1).min(line.len())..);
        if value.first() == Some(&b' ') {
            value.advance(1);
        }
        match &line[..colon] {
            b"" => return Some(Frame::Beat),
            b"data" => self.data = std::mem::take(&mut self.data).add(value),
            b"event" => self.name = value,
            _ => {}
        }
        None
    }
}
