//! What may be kept of a provider's words, and the numbers that stand in them.
//!
//! A message may end up in a client's terminal or an operator's page, so it is short, on one line,
//! without control characters, and never markup.

/// Longest message that is kept: enough for any sentence meant to be read.
pub(super) const MESSAGE_MAX: usize = 1024;

/// Longest code, type or parameter name that is kept.
pub(super) const WORD_MAX: usize = 128;

/// `text` in at most `max` bytes, on one line, without what could steer a terminal or a reader.
pub(super) fn clean(text: &str, max: usize) -> String {
    let mut kept = String::new();
    for c in text.trim().chars() {
        let c = match c {
            '\n' | '\r' | '\t' => ' ',
            c if c.is_control() || turns_text(c) => continue,
            c => c,
        };
        if kept.len() + c.len_utf8() > max {
            break;
        }
        kept.push(c);
    }
    kept
}

/// Line and paragraph separators, and the marks that reverse the order of what follows them.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether `text` is HTML or XML, or a sentence with a page inside. An angle bracket alone is not:
/// DashScope begins messages with `<503>`.
pub(super) fn is_markup(text: &str) -> bool {
    const TAGS: [&str; 10] = [
        "<!doctype",
        "<?xml",
        "<html",
        "<head",
        "<body",
        "<title",
        "<script",
        "<style",
        "<div",
        "<center",
    ];
    let text = text.to_ascii_lowercase();
    TAGS.iter().any(|tag| text.contains(tag))
}

/// The whole number that follows the first of `fragments` that is followed by one which `fits`,
/// and the text after it. Thousands may be set apart by commas.
pub(super) fn number_after<'a>(
    text: &'a str,
    fragments: &[&str],
    fits: impl Fn(u64, &str) -> Option<u64>,
) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    fragments.iter().find_map(|fragment| {
        lower.match_indices(&fragment.to_ascii_lowercase()).find_map(|(at, part)| {
            let (number, rest): (u64, &'a str) = leading_number(text.get(at + part.len()..)?)?;
            fits(number, rest)
        })
    })
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let text = text.trim_start_matches([' ', ':', '=', '(', '[', '`', '"', '\'']);
    let bytes = text.as_bytes();
    let mut end = 0;
    let mut digits = String::new();
    while let Some(byte) = bytes.get(end) {
        let comma = *byte == b',' && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
        if byte.is_ascii_digit() {
            digits.push(char::from(*byte));
        } else if !comma || digits.is_empty() {
            break;
        }
        end += 1;
    }
    Some((digits.parse().ok()?, &text[end..]))
}

/// A context window that can be meant, in tokens.
pub(super) fn window(number: u64, _rest: &str) -> Option<u64> {
    (256..=100_000_000).contains(&number).then_some(number)
}

/// A largest body that can be meant, in bytes; units are read as the smaller of their two meanings.
pub(super) fn size(number: u64, rest: &str) -> Option<u64> {
    let unit = rest.trim_start().to_ascii_lowercase();
    let bytes = match unit.as_bytes() {
        [b'k', ..] => number.checked_mul(1_000)?,
        [b'm', ..] => number.checked_mul(1_000_000)?,
        [b'g', ..] => number.checked_mul(1_000_000_000)?,
        _ => number,
    };
    (1_024..=4_000_000_000).contains(&bytes).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_short_line_without_control_characters() {
        assert_eq!(clean(" a\r\nb\u{1b}[31m\u{0}c\u{202e}d ", 99), "a  b[31mcd");
        assert_eq!(clean("海海海", 7), "海海");
        assert_eq!(clean(&"x".repeat(9000), MESSAGE_MAX).len(), MESSAGE_MAX);
    }

    #[test]
    fn markup_is_told_from_a_sentence() {
        for page in ["<html>", "<!DOCTYPE html>", "<?xml version='1.0'?>", "oh <HTML lang=en>"] {
            assert!(is_markup(page), "{page}");
        }
        for sentence in ["<503> busy", "a < b", "use <tool> here", ""] {
            assert!(!is_markup(sentence), "{sentence}");
        }
    }

    #[test]
    fn numbers_are_read_where_they_are_credible() {
        let read = |text| number_after(text, &["length is", "tokens >"], window);
        assert_eq!(read("Maximum context length is 8192 tokens."), Some(8192));
        assert_eq!(read("the length is short, its length is: 131,072 tokens"), Some(131_072));
        assert_eq!(read("210000 tokens > 200000 maximum"), Some(200_000));
        assert_eq!(read("length is 7"), None);
        assert_eq!(read("length is 99999999999999999999999"), None);
        assert_eq!(read("no number: length is"), None);
        let limit = |text| number_after(text, &["limit is"], size);
        assert_eq!(limit("limit is 32 MB"), Some(32_000_000));
        assert_eq!(limit("limit is 10485760 bytes"), Some(10_485_760));
        assert_eq!(limit("limit is 9"), None);
    }
}
