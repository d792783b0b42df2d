//! One look over a JSON value's bytes: how many tokens its text is, what media it holds, and
//! whether it is nested deeper than anyone needs.
//!
//! The value has been parsed before, so only its shape is followed: strings are jumped over, keys
//! told from values, and nothing is decoded or kept.

use super::super::object::quoted;

/// The deepest nesting taken. JSON schemas of tools reach about twenty; parsers further on stop
/// at 128, and a request that passes here must not fail there.
const DEPTH_MAX: u32 = 100;

/// Tokens a picture, a recording or a file is taken for: providers count a picture as 85 to 1,600
/// tokens, and its encoded bytes say nothing.
const MEDIA_TOKENS: u64 = 1000;

/// Parts of a token, in fortieths, that one character is: English has four characters to a
/// token, Chinese has about 1.6; other scripts lie between, and symbols cost most.
const PER_ASCII: u64 = 10;
const PER_LETTER: u64 = 20;
const PER_CJK: u64 = 25;
const PER_SYMBOL: u64 = 80;
const PER_TOKEN: u64 = 40;

/// What messages hold besides text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Media {
    /// Pictures.
    pub image: bool,
    /// Recordings.
    pub audio: bool,
    /// Films.
    pub video: bool,
    /// Files.
    pub file: bool,
}

impl Media {
    /// Whether there is any.
    pub fn any(self) -> bool {
        self.image || self.audio || self.video || self.file
    }
}

/// What a look over a value found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// About how many tokens its strings and numbers are.
    pub(super) tokens: u64,
    /// What parts with a `type` hold.
    pub(super) media: Media,
    /// Elements of the value, if it is a list.
    pub(super) items: u32,
    /// The elements are numbers.
    pub(super) numbers: bool,
}

/// The value is nested too deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooDeep;

/// Looks over one JSON value.
pub(super) fn scan(value: &str) -> Result<Scan, TooDeep> {
    let mut walk = Walk { bytes: value.as_bytes(), ..Walk::default() };
    walk.run()?;
    let tokens = (walk.parts + walk.numbers * PER_TOKEN).div_ceil(PER_TOKEN);
    let list = walk.bytes.first() == Some(&b'[');
    let filled = walk.bytes.get(1..).is_some_and(|rest| rest.trim_ascii_start() != b"]");
    Ok(Scan {
        tokens: tokens + walk.media_parts * MEDIA_TOKENS,
        media: walk.media,
        items: if list && filled { walk.commas + 1 } else { 0 },
        numbers: walk.first_numbers,
    })
}

/// About how many tokens a text is.
pub fn text_tokens(text: &str) -> u32 {
    // Text has no depth.
    let found = scan(&quoted(text)).map_or(0, |scan| scan.tokens);
    u32::try_from(found).unwrap_or(u32::MAX)
}

#[derive(Default)]
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: u32,
    key: &'a [u8],
    parts: u64,
    numbers: u64,
    commas: u32,
    media: Media,
    media_parts: u64,
    /// A number stands directly in the outermost list.
    first_numbers: bool,
}

impl<'a> Walk<'a> {
    fn run(&mut self) -> Result<(), TooDeep> {
        while let Some(&byte) = self.bytes.get(self.at) {
            self.at += 1;
            match byte {
                b'"' => self.string(),
                b'{' | b'[' => {
                    self.depth += 1;
                    if self.depth > DEPTH_MAX {
                        return Err(TooDeep);
                    }
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                b',' if self.depth == 1 => self.commas += 1,
                b'-' | b'0'..=b'9' => self.number(),
                _ => {}
            }
        }
        Ok(())
    }

    fn number(&mut self) {
        let part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
        self.at += self.bytes[self.at..].iter().take_while(|byte| part(byte)).count();
        self.numbers += 1;
        self.first_numbers |= self.depth == 1 && self.bytes.first() == Some(&b'[');
    }

    fn string(&mut self) {
        let start = self.at;
        let end = self.string_end();
        let string = &self.bytes[start..end];
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if rest.trim_ascii_start().first() == Some(&b':') {
            self.key = string;
            return;
        }
        match self.key {
            b"type" if self.depth > 3 => self.part(string),
            b"url" | b"image_url" | b"data" | b"file_data" | b"video_url" => {}
            _ => self.parts += parts(string),
        }
    }

    /// Where the string's text ends; `at` moves behind its closing quote.
    fn string_end(&mut self) -> usize {
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(next) = memchr::memchr2(b'"', b'\\', rest) else {
                self.at = self.bytes.len();
                return self.at;
            };
            if rest[next] == b'"' {
                self.at += next + 1;
                return self.at - 1;
            }
            self.at += next + 2;
        }
    }

    fn part(&mut self, kind: &[u8]) {
        let media = &mut self.media;
        let flag = match kind {
            b"image_url" | b"input_image" | b"image" => &mut media.image,
            b"input_audio" | b"audio" | b"audio_url" => &mut media.audio,
            b"video_url" | b"video" | b"input_video" => &mut media.video,
            b"file" | b"input_file" | b"document" => &mut media.file,
            _ => return,
        };
        *flag = true;
        self.media_parts += 1;
    }
}

/// A JSON string's text in fortieths of a token.
fn parts(string: &[u8]) -> u64 {
    if string.is_ascii() && memchr::memchr(b'\\', string).is_none() {
        return string.len() as u64 * PER_ASCII;
    }
    let mut sum = 0;
    let mut at = 0;
    while let Some(&byte) = string.get(at) {
        let (length, cost) = match byte {
            b'\\' => escape(&string[at..]),
            0..=0x7f => (1, PER_ASCII),
            0x80..=0xdf => (2, PER_LETTER),
            0xe0 | 0xe1 => (3, PER_LETTER),
            0xe2 => (3, PER_SYMBOL / 2),
            0xe3..=0xef => (3, PER_CJK),
            0xf0..=0xff => (4, PER_SYMBOL),
        };
        sum += cost;
        at += length;
    }
    sum
}

/// An escape's length and cost. Clients in Python write all Chinese as `\uXXXX`.
fn escape(rest: &[u8]) -> (usize, u64) {
    match (rest.get(1), rest.get(2)) {
        (Some(b'u'), Some(b'3'..=b'9' | b'a'..=b'c' | b'A'..=b'C' | b'f' | b'F')) => (6, PER_CJK),
        // Half of a pair that is one symbol.
        (Some(b'u'), Some(b'd' | b'D')) => (6, PER_SYMBOL / 2),
        (Some(b'u'), _) => (6, PER_LETTER),
        _ => (2, PER_ASCII),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_counted_by_script_and_not_by_encoding() {
        assert_eq!(scan("\"abcdefgh\"").unwrap().tokens, 2);
        assert_eq!(scan("\"海海海海海海海海\"").unwrap().tokens, 5);
        assert_eq!(scan(&format!("\"{}\"", "\\u6d77".repeat(8))).unwrap().tokens, 5);
        assert_eq!(scan("[1,22,-3]").unwrap().tokens, 3);
    }

    #[test]
    fn media_are_seen_and_their_bytes_not_counted_as_text() {
        let data = "A".repeat(100_000);
        let value = format!(
            r#"[{{"role":"user","content":[{{"type":"text","text":"abcd"}},
            {{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}]}}]"#
        );
        let found = scan(&value).unwrap();
        assert_eq!(found.media, Media { image: true, ..Media::default() });
        assert_eq!(found.items, 1);
        assert!(found.tokens < 1100);
    }

    #[test]
    fn a_word_in_a_text_is_no_picture() {
        let value = r#"[{"role":"user","content":"\"type\":\"image_url\""},
            {"role":"user","content":[{"type":"text","text":"image_url"}]}]"#;
        assert_eq!(scan(value).unwrap().media, Media::default());
    }

    #[test]
    fn hostile_nesting_is_refused_without_recursion() {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(scan(&deep), Err(TooDeep));
    }

    #[test]
    fn an_empty_list_has_no_items() {
        assert_eq!(scan("[ ]").unwrap().items, 0);
        assert_eq!(scan("[[1,2],[3]]").unwrap().items, 2);
        assert!(!scan("[[1,2],[3]]").unwrap().numbers);
    }
}
