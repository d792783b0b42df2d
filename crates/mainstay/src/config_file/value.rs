//! Values with units: times as `"30s"`, sizes as `"32MiB"`. A bare number is refused, because the
//! next reader would have to guess its unit.

use mainstay_core::money::Money;
use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};
use std::time::Duration;

/// Units of time and their microseconds, the longest spelling first where one ends another.
const TIMES: [(&str, u64); 5] =
    [("ms", 1_000), ("us", 1), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000)];

/// Units of size and their bytes.
const SIZES: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];

/// A time, written `"500ms"`, `"30s"`, `"2m"` or `"1h"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait(pub Duration);

/// A size, written `"64KiB"` or `"32MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub usize);

/// An amount of money, written `0.14`, `"0.14"` or `12`, with at most six digits behind the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount(pub Money);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Amount, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Whole(u64),
            Part(f64),
            Other(serde::de::IgnoredAny),
        }
        let text = match Written::deserialize(from)? {
            Written::Text(text) => text,
            Written::Whole(number) => number.to_string(),
            // The shortest text that means the same number is what stands there.
            Written::Part(number) => number.to_string(),
            Written::Other(_) => String::from("…"),
        };
        Money::parse(&text).map(Amount).ok_or_else(|| {
            D::Error::custom(format!(
                "\"{text}\" is no amount of money; write it like 0.14 or 12, with at most six \
                 digits behind the point"
            ))
        })
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0.to_string())
    }
}

/// The time that `text` says, in the same units.
pub fn time(text: &str) -> Option<Duration> {
    number(text.trim(), &TIMES).map(Duration::from_micros)
}

/// One text, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(untagged, expecting = "expected a text in quotes, or a list of them")]
pub enum OneOrMore {
    /// `"a"`
    One(String),
    /// `["a", "b"]`
    More(Vec<String>),
}

impl OneOrMore {
    /// All of them.
    pub fn all(&self) -> &[String] {
        match self {
            OneOrMore::One(one) => std::slice::from_ref(one),
            OneOrMore::More(more) => more,
        }
    }
}

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Wait, D::Error> {
        let text = written(from)?;
        number(&text, &TIMES).map(|micros| Wait(Duration::from_micros(micros))).ok_or_else(|| {
            D::Error::custom(format!(
                "\"{text}\" is not a time; write it like \"500ms\", \"30s\" or \"2m\""
            ))
        })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Size, D::Error> {
        let text = written(from)?;
        let size = number(&text, &SIZES).and_then(|bytes| usize::try_from(bytes).ok());
        size.map(Size).ok_or_else(|| {
            D::Error::custom(format!(
                "\"{text}\" is not a size; write it like \"64KiB\" or \"32MiB\""
            ))
        })
    }
}

impl Serialize for Wait {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{}us", self.0.as_micros()))
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{}B", self.0))
    }
}

/// What stands there; a bare number too, so that its refusal can say that the unit is missing.
fn written<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        Number(i64),
        Other(serde::de::IgnoredAny),
    }
    match Written::deserialize(from)? {
        Written::Text(text) => Ok(text),
        Written::Number(number) => Ok(number.to_string()),
        Written::Other(_) => Ok(String::from("…")),
    }
}

/// `text` in the smallest of `units`, if it is a whole number with one of them.
fn number(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    units.iter().find_map(|(unit, factor)| {
        let digits = text.strip_suffix(unit)?.trim_end();
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if plain { digits.parse::<u64>().ok()?.checked_mul(*factor) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_units() {
        let cases = [("500ms", 500_000), ("30s", 30_000_000), ("2m", 120_000_000), ("7us", 7)];
        for (text, micros) in cases {
            assert_eq!(number(text, &TIMES), Some(micros), "{text}");
        }
        for text in ["", "s", "30", "-1s", "1.5s", "30 seconds", "1d", "99999999999999999999s"] {
            assert_eq!(number(text, &TIMES), None, "{text}");
        }
        assert_eq!(number("32MiB", &SIZES), Some(32 << 20));
        assert_eq!(number("32MB", &SIZES), None);
    }
}
