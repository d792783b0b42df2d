//! Dates that people and programs read, in UTC. The machine knows only how long ago things were.

use std::time::{Duration, SystemTime};

/// Months as `httpdate` writes them.
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A moment, e.g. `2026-11-06` and `08:49:37`.
pub(super) struct Date {
    pub(super) day: String,
    pub(super) time: String,
    text: String,
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Date {
    /// So long ago.
    pub(super) fn ago(age: Duration) -> Date {
        let now = SystemTime::now();
        Date::of(now.checked_sub(age).unwrap_or(now))
    }

    /// So many seconds after 1970 began.
    pub(super) fn at(seconds: u64) -> Date {
        let then = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        Date::of(then.unwrap_or(SystemTime::UNIX_EPOCH))
    }

    fn of(at: SystemTime) -> Date {
        // `Sun, 06 Nov 1994 08:49:37 GMT`, of fixed width.
        let text = httpdate::fmt_http_date(at);
        let words: Vec<&str> = text.split(' ').collect();
        let [_, day, month, year, time, _] = words.as_slice() else {
            return Date { day: text.clone(), time: text.clone(), text };
        };
        let month = MONTHS.iter().position(|name| name == month).map_or(0, |at| at + 1);
        let (day, time) = (format!("{year}-{month:02}-{day}"), (*time).to_owned());
        Date { day, time, text }
    }

    /// As mail and feeds write it (RFC 9110, 5.6.7).
    pub(super) fn http(&self) -> &str {
        &self.text
    }

    /// As programs read it.
    pub(super) fn iso(&self) -> String {
        format!("{}T{}Z", self.day, self.time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_utc() {
        let date = Date::of(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777));
        assert_eq!(date.iso(), "1994-11-06T08:49:37Z");
        assert_eq!(Date::of(SystemTime::UNIX_EPOCH).iso(), "1970-01-01T00:00:00Z");
    }
}
