//! Dates of a command line, as ISO 8601 writes them, in UTC.

use crate::command_line::Span;
use mainstay_core::plan::Moment;

/// Microseconds in a second, and seconds in a day.
const MICROS: u64 = 1_000_000;
const DAY: u64 = 86_400;

/// The span in microseconds since 1970, its end not included.
///
/// # Errors
/// What is wrong with it, in a line.
pub(super) fn span(span: &Span, now: u64) -> Result<(i64, i64), String> {
    let at = Moment(now / MICROS);
    let (year, month, _) = at.date();
    let first = Moment::of_date(year, month, 1).unwrap_or_default().0;
    let from = span.from.as_deref().map_or(Ok(first), |text| read("--from", text, 0))?;
    let to = span.to.as_deref().map_or(Ok(at.0 + 1), |text| read("--to", text, DAY))?;
    if from >= to {
        let (from, to) = (moment(micros(from)), moment(micros(to)));
        return Err(format!("--from {from} is not before --to {to}; swap them"));
    }
    Ok((micros(from), micros(to)))
}

/// The second that `text` says; of a day alone its first, and `whole` later.
fn read(option: &str, text: &str, whole: u64) -> Result<u64, String> {
    let wrong = || {
        format!(
            "{option} `{text}` is no date; write it like 2026-11-30 or 2026-11-30T08:00, in UTC"
        )
    };
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, Some(time.trim_end_matches('Z'))),
        None => (text, None),
    };
    let start = start_of(date).ok_or_else(wrong)?;
    let Some(time) = time else { return Ok(start + whole) };
    let (hour, minute) = time.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str, most: u64| {
        let is_plain = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse::<u64>().ok().filter(|_| is_plain);
        number.filter(|number| *number < most)
    };
    let (hour, minute) = number(hour, 24).zip(number(minute, 60)).ok_or_else(wrong)?;
    Ok(start + hour * 3600 + minute * 60)
}

/// The first second of the day `text`, e.g. `2026-11-30`.
pub(super) fn start_of(text: &str) -> Option<u64> {
    let mut parts = text.split('-');
    let mut number = |digits: usize| {
        let part = parts.next().filter(|part| part.len() == digits)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten()
    };
    let (year, month, day) = (number(4)?, number(2)?, number(2)?);
    if parts.next().is_some() {
        return None;
    }
    Moment::of_date(year, month, day).map(|moment| moment.0)
}

/// The day as a date, from days since 1970.
pub(super) fn day(days: u64) -> String {
    let (year, month, day) = Moment(days * DAY).date();
    format!("{year:04}-{month:02}-{day:02}")
}

/// A moment as ISO 8601 writes it, from microseconds since 1970.
pub(super) fn moment(micros: i64) -> String {
    let seconds = u64::try_from(micros).unwrap_or(0) / MICROS;
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{}T{hour:02}:{minute:02}:{second:02}Z", day(seconds / DAY))
}

fn micros(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(MICROS)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(from: &str, to: &str) -> Result<(String, String), String> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_string());
        let asked = Span { from: some(from), to: some(to) };
        span(&asked, 1_709_208_000 * MICROS).map(|(from, to)| (moment(from), moment(to)))
    }

    #[test]
    fn a_span_is_whole_days_unless_hours_are_said() {
        let is = |from: &str, to: &str| Ok((from.to_string(), to.to_string()));
        assert_eq!(of("", ""), is("2024-02-01T00:00:00Z", "2024-02-29T12:00:01Z"));
        assert_eq!(
            of("2024-01-30", "2024-01-31"),
            is("2024-01-30T00:00:00Z", "2024-02-01T00:00:00Z")
        );
        let hours = is("2024-01-30T08:00:00Z", "2024-01-30T09:30:00Z");
        assert_eq!(of("2024-01-30T08:00", "2024-01-30T09:30Z"), hours);
    }

    #[test]
    fn what_is_no_date_is_told_in_a_line() {
        for text in
            ["yesterday", "2024-02-30", "24-02-01", "2024-2-1", "2024-02-01T25:00", "2024-02-01T8"]
        {
            let told = of(text, "").expect_err(text);
            assert!(
                told.starts_with(&format!("--from `{text}` is no date; write it like")),
                "{told}"
            );
        }
        assert!(of("2024-02-02", "2024-02-01").expect_err("swapped").ends_with("swap them"));
    }
}
