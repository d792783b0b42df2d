//! The two languages the engine's own texts come in, and durations in them.

use std::time::Duration;

/// A language.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// For every script but the Chinese.
    #[default]
    English,
    /// Where the question has Chinese characters in it.
    Chinese,
}

impl Language {
    /// The language of a question, by its script.
    pub fn of(question: &str) -> Language {
        let is_chinese = |c: char| ('\u{4e00}'..='\u{9fff}').contains(&c);
        if question.chars().any(is_chinese) { Language::Chinese } else { Language::English }
    }

    /// The one of two texts that is in this language.
    pub fn pick<'a>(self, english: &'a str, chinese: &'a str) -> &'a str {
        match self {
            Language::English => english,
            Language::Chinese => chinese,
        }
    }
}

/// `time` as people say it, rounded up: who comes back then must not be early.
pub fn duration(time: Duration, language: Language) -> String {
    let seconds = time.as_millis().div_ceil(1000).max(1);
    if seconds < 120 {
        format!("{seconds} {}", language.pick("s", "秒"))
    } else {
        format!("{} {}", seconds.div_ceil(60), language.pick("min", "分钟"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_up() {
        let english = |millis| duration(Duration::from_millis(millis), Language::English);
        assert_eq!([english(0), english(1001), english(121_000)], ["1 s", "2 s", "3 min"]);
        assert_eq!(duration(Duration::from_secs(40), Language::of("在吗")), "40 秒");
    }
}
