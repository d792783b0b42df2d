//! The least time to wait that a reply names (RFC 9110, 10.2.3, and `retry-after-ms`).
//!
//! A date is read against the reply's own `Date`, never against our clock: their difference is
//! right even where both are wrong. Core decides how much of the wait is believed; here only what
//! cannot be meant is dropped.

use http::HeaderMap;
use std::time::Duration;

/// Nothing in a gateway's life is planned a day ahead; a longer wait is a mistake or an insult.
const DAY: Duration = Duration::from_secs(86_400);

/// The wait that `headers` name. `None` if there is none, or if it is zero, negative, longer than a
/// day, not a number or a date, or given twice with different values.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let millis = only(headers, "retry-after-ms").and_then(|text| decimal(text, 0.001));
    millis.or_else(|| {
        let text = only(headers, "retry-after")?;
        decimal(text, 1.0).or_else(|| until(text, headers))
    })
}

/// The header's value, if all the values it has are the same.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter().map(|v| v.to_str().map(str::trim));
    let first = values.next()?.ok()?;
    values.all(|v| v.is_ok_and(|v| v == first)).then_some(first)
}

/// A plain decimal number of units; some providers send fractions of a second.
fn decimal(text: &str, unit: f64) -> Option<Duration> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number: f64 = plain.then(|| text.parse().ok())??;
    believable(Duration::try_from_secs_f64(number * unit).ok()?)
}

fn until(text: &str, headers: &HeaderMap) -> Option<Duration> {
    let then = httpdate::parse_http_date(text).ok()?;
    let now = httpdate::parse_http_date(only(headers, "date")?).ok()?;
    believable(then.duration_since(now).ok()?)
}

fn believable(wait: Duration) -> Option<Duration> {
    (!wait.is_zero() && wait <= DAY).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn read(lines: &[(&str, &str)]) -> Option<f64> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        retry_after(&headers).map(|wait| wait.as_secs_f64())
    }

    #[test]
    fn seconds_and_milliseconds_are_read() {
        assert_eq!(read(&[("retry-after", "2")]), Some(2.0));
        assert_eq!(read(&[("retry-after", " 86400 ")]), Some(86_400.0));
        assert_eq!(read(&[("retry-after", "0.5")]), Some(0.5));
        assert_eq!(read(&[("retry-after-ms", "250"), ("retry-after", "1")]), Some(0.25));
        assert_eq!(read(&[("retry-after-ms", "-1"), ("retry-after", "1")]), Some(1.0));
        assert_eq!(read(&[("retry-after", "7"), ("retry-after", "7")]), Some(7.0));
    }

    #[test]
    fn a_date_is_read_against_the_replys_own_date() {
        let at = ("retry-after", "Wed, 25 Nov 2026 10:00:02 GMT");
        let date = ("date", "Wed, 25 Nov 2026 10:00:00 GMT");
        assert_eq!(read(&[at, date]), Some(2.0));
        assert_eq!(read(&[at]), None);
        assert_eq!(read(&[at, ("date", "yesterday")]), None);
        assert_eq!(read(&[("retry-after", date.1), ("date", at.1)]), None);
        assert_eq!(read(&[("retry-after", date.1), date]), None);
    }

    #[test]
    fn what_cannot_be_meant_is_as_if_absent() {
        for odd in [
            "0",
            "-5",
            "soon",
            "1e99",
            "",
            " ",
            "+3",
            "1, 5",
            "NaN",
            "inf",
            "0x10",
            "1.2.3",
            ".",
            "86401",
            "99999999999999999999999999",
            "٣",
            "\u{ff}",
        ] {
            assert_eq!(read(&[("retry-after", odd)]), None, "{odd:?}");
            assert_eq!(
                read(&[("retry-after-ms", odd)]).filter(|_| odd != "86401"),
                None,
                "{odd:?}"
            );
        }
        assert_eq!(read(&[("retry-after", "1"), ("retry-after", "5")]), None);
        assert_eq!(read(&[]), None);
    }
}
