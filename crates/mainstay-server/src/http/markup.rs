//! Text in pages.

/// `text` where markup is read, in an attribute too. What would turn the direction of what comes
/// after it, or is no character of text at all, is left out.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            character if character.is_control() => {}
            character => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_markup_is_text() {
        assert_eq!(
            escape("<a href='x' b=\"y\">&\u{202e}\n"),
            "&lt;a href=&#39;x&#39; b=&quot;y&quot;&gt;&amp;"
        );
    }
}
