//! Money in whole millionths of the operator's currency, and what tokens cost. No fractions, so
//! that sums are the same in whatever order they are added.

use core::fmt;

/// Millionths of a unit of the operator's currency, whichever that is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(pub i64);

impl Money {
    /// Nothing.
    pub const ZERO: Money = Money(0);
    /// Millionths in a unit.
    const UNIT: i64 = 1_000_000;

    /// What `text` says, e.g. `0.14` or `12`: digits with at most six behind the point. `None` if
    /// it says no such amount, or one of more than nine billion.
    pub fn parse(text: &str) -> Option<Money> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let plain = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if !plain(whole) || !plain(part) || whole.len() > 10 || part.len() > 6 {
            return None;
        }
        let part = part.bytes().chain(core::iter::repeat(b'0')).take(6);
        let part = part.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        let whole = whole.parse::<i64>().ok()?.checked_mul(Money::UNIT)?;
        whole.checked_add(part).map(Money)
    }

    /// The sum, at most what a number holds.
    #[must_use]
    pub fn plus(self, other: Money) -> Money {
        Money(self.0.saturating_add(other.0))
    }

    /// What is left of it without `other`, at least nothing.
    #[must_use]
    pub fn less(self, other: Money) -> Money {
        Money(self.0.saturating_sub(other.0).max(0))
    }

    /// So many hundredths of it.
    #[must_use]
    pub fn percent(self, percent: u8) -> Money {
        let part = i128::from(self.0) * i128::from(percent) / 100;
        Money(i64::try_from(part).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let all = self.0.unsigned_abs();
        let unit = Money::UNIT.unsigned_abs();
        write!(f, "{sign}{}.{:06}", all / unit, all % unit)
    }
}

/// Tokens as providers count and bill them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Of the prompt.
    pub prompt: u64,
    /// Of those, out of a cache.
    pub cached: u64,
    /// Of the answer, reasoning included.
    pub output: u64,
}

/// The price of a million tokens, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of a prompt, as far as nobody had it cached.
    pub input: Money,
    /// Of a prompt, as far as it came out of a cache.
    pub cached: Money,
    /// Of an answer.
    pub output: Money,
}

impl Rates {
    /// What `tokens` cost, rounded once, to the nearest millionth.
    pub fn of(&self, tokens: Tokens) -> Money {
        let cached = tokens.cached.min(tokens.prompt);
        let each = |count: u64, rate: Money| i128::from(count) * i128::from(rate.0);
        let sum = each(tokens.prompt - cached, self.input)
            + each(cached, self.cached)
            + each(tokens.output, self.output);
        let million = 1_000_000;
        Money(i64::try_from((sum + million / 2) / million).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn amounts_are_exact_and_what_is_no_amount_is_none() {
        assert_eq!(Money::parse("0.14"), Some(Money(140_000)));
        assert_eq!(Money::parse("12"), Some(Money(12_000_000)));
        assert_eq!(Money::parse("12.000001").map(|m| m.to_string()).as_deref(), Some("12.000001"));
        for text in ["", ".5", "1.", "-1", "1e3", "1.0000001", "99999999999", "1,5", " 1"] {
            assert_eq!(Money::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_price_is_rounded_once_and_cached_tokens_are_part_of_the_prompt() {
        let rates = Rates { input: Money(140_000), cached: Money(14_000), output: Money(280_000) };
        let tokens = |prompt, cached, output| Tokens { prompt, cached, output };
        assert_eq!(rates.of(tokens(1_000_000, 0, 0)), Money(140_000));
        assert_eq!(rates.of(tokens(1_000_000, 500_000, 0)), Money(77_000));
        // 7 × 0.14 + 3 × 0.28 = 1.82 millionths.
        assert_eq!(rates.of(tokens(7, 0, 3)), Money(2));
        assert_eq!(rates.of(tokens(3, 9, 0)), rates.of(tokens(3, 3, 0)));
        assert!(rates.of(tokens(u64::MAX, 0, u64::MAX)) > Money(1 << 60));
    }
}
