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
/// A line longer than this may become as long as an event can be.
const LINE_USUAL: usize = 64 * 1024;

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
            let kept = self.input.len().min((EVENT_MAX + 1).saturating_sub(self.partial.len()));
            if self.partial.len() + kept > LINE_USUAL {
                // At once instead of by doubling, which would hold several copies for a while.
                self.partial.reserve(EVENT_MAX + 1 - self.partial.len());
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(pieces: &[&[u8]]) -> Vec<Frame> {
        let mut decoder = Frames::default();
        let mut frames = Vec::new();
        for piece in pieces {
            decoder.push(&Bytes::copy_from_slice(piece));
            frames.extend(std::iter::from_fn(|| decoder.next_frame()));
        }
        frames
    }

    fn event(name: &str, data: &str) -> Frame {
        let copied = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        Frame::Event { name: copied(name), data: copied(data) }
    }

    #[test]
    fn lines_end_with_lf_crlf_or_cr() {
        let expected = vec![event("", "a"), event("e", "b")];
        for end in ["\n", "\r\n", "\r"] {
            let stream = ["data: a", "", "event: e", "data:b", "", ""].join(end);
            assert_eq!(frames(&[stream.as_bytes()]), expected);
            let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
            assert_eq!(frames(&bytes), expected);
        }
    }

    #[test]
    fn data_lines_are_joined_by_lf() {
        assert_eq!(frames(&[b"data: a\ndata\ndata:  b\n\n"]), vec![event("", "a\n\n b")]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_field() {
        let stream = "\u{feff}data: a\n\n".as_bytes();
        for cut in 0..=stream.len() {
            assert_eq!(frames(&[&stream[..cut], &stream[cut..]]), vec![event("", "a")]);
        }
    }

    #[test]
    fn comments_and_events_without_data_are_beats() {
        let stream = b": keep-alive\n\nevent: ping\n\ndata:\n\nid: 7\nretry: 1\n\n";
        assert_eq!(frames(&[stream]), vec![Frame::Beat; 5]);
    }

    #[test]
    fn an_event_without_its_end_never_comes_out() {
        assert_eq!(frames(&[b"data: a\n"]), vec![]);
        assert_eq!(frames(&[b"data: a\n\r"]), vec![event("", "a")]);
    }

    #[test]
    fn whole_data_in_one_piece_is_not_copied() {
        let piece = Bytes::from_static(b"data: abc\n\n");
        let mut decoder = Frames::default();
        decoder.push(&piece);
        let Some(Frame::Event { data, .. }) = decoder.next_frame() else { panic!("no event") };
        assert_eq!(data.as_ptr(), piece[6..].as_ptr());
    }

    #[test]
    fn an_event_over_the_bound_ends_everything_and_holds_no_memory() {
        let mut decoder = Frames::default();
        let piece = Bytes::from(vec![b'x'; 64 << 10]);
        decoder.push(&Bytes::from_static(b"data: "));
        let mut seen = Vec::new();
        for _ in 0..160 {
            decoder.push(&piece);
            seen.extend(std::iter::from_fn(|| decoder.next_frame()));
            assert!(decoder.partial.len() <= EVENT_MAX + 1);
        }
        assert_eq!(seen, vec![Frame::TooBig]);
        let lines = "data: 0123456789\n".repeat(1 << 17);
        assert_eq!(frames(&[lines.as_bytes()]), vec![Frame::TooBig]);
    }
}
