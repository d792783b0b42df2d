//! The calendar of UTC: days, months and hours of the week, without a clock.

use super::Period;

/// Seconds since 1970, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

/// Seconds in a day.
const DAY: u64 = 86_400;

impl Moment {
    /// Days since 1970.
    pub fn day(self) -> u32 {
        u32::try_from(self.0 / DAY).unwrap_or(u32::MAX)
    }

    /// Months since January of the year nought.
    pub fn month(self) -> u32 {
        let (year, month, _) = self.date();
        year * 12 + (month - 1)
    }

    /// Which day or month it is in.
    pub fn number(self, period: Period) -> u32 {
        match period {
            Period::Day => self.day(),
            Period::Month => self.month(),
        }
    }

    /// Year, month from 1, day from 1.
    pub fn date(self) -> (u32, u32, u32) {
        // Howard Hinnant, "chrono-compatible low-level date algorithms", civil_from_days.
        let days = u64::from(self.day()) + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let shifted = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = era * 400 + year + u64::from(month <= 2);
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        (small(year), small(month), small(day))
    }

    /// The first second of that day; `None` if there is no such day from 1970 to 9999.
    pub fn of_date(year: u32, month: u32, day: u32) -> Option<Moment> {
        if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || day == 0 {
            return None;
        }
        // The same, days_from_civil.
        let (year, month, day) = (u64::from(year), u64::from(month), u64::from(day));
        let year = if month <= 2 { year - 1 } else { year };
        let shifted = if month > 2 { month - 3 } else { month + 9 };
        let of_year = (153 * shifted + 2) / 5 + day - 1;
        let of_era = year % 400 * 365 + year % 400 / 4 - year % 400 / 100 + of_year;
        let moment = Moment((year / 400 * 146_097 + of_era - 719_468) * DAY);
        let (_, same_month, same_day) = moment.date();
        (u64::from(same_month) == month && u64::from(same_day) == day).then_some(moment)
    }

    /// Hours since the last midnight from Sunday to Monday.
    pub fn hour_of_week(self) -> u8 {
        // The first day of 1970 was a Thursday.
        let hours = (self.0 / 3600 + 3 * 24) % (7 * 24);
        u8::try_from(hours).unwrap_or(0)
    }

    /// Seconds until the day or month is over.
    pub fn left(self, period: Period) -> u64 {
        let day = DAY - self.0 % DAY;
        let next = match (period, self.date()) {
            (Period::Day, _) => return day,
            (Period::Month, (year, 12, _)) => Moment::of_date(year + 1, 1, 1),
            (Period::Month, (year, month, _)) => Moment::of_date(year, month + 1, 1),
        };
        next.map_or(day, |next| next.0 - self.0)
    }
}

/// Hours of the week, UTC, one bit each from Monday on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours([u64; 3]);

impl Hours {
    /// All of them.
    pub const ALL: Hours = Hours([u64::MAX; 3]);

    /// What `text` says, e.g. `mon-fri 08:00-18:00`, `sat,sun`, or several such with `;` between.
    /// Hours are whole, and the last may be below the first: `22:00-06:00` goes over midnight and
    /// belongs to the day on which it begins.
    pub fn parse(text: &str) -> Option<Hours> {
        let mut hours = Hours([0; 3]);
        for part in text.split(';') {
            let mut words = part.split_whitespace();
            let days = days(words.next()?)?;
            let (first, last) = match words.next() {
                Some(span) => span_of(span)?,
                None => (0, 24),
            };
            if words.next().is_some() {
                return None;
            }
            let length = if last > first { last - first } else { last + 24 - first };
            for day in (0..7).filter(|day| days & (1 << day) != 0) {
                (0..length).for_each(|hour| hours.set((day * 24 + first + hour) % (7 * 24)));
            }
        }
        Some(hours)
    }

    /// Whether it is one of them.
    pub fn has(&self, at: Moment) -> bool {
        let hour = usize::from(at.hour_of_week());
        self.0[hour / 64] & (1 << (hour % 64)) != 0
    }

    fn set(&mut self, hour: usize) {
        self.0[hour / 64] |= 1 << (hour % 64);
    }
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Days of the week, one bit each.
fn days(text: &str) -> Option<u8> {
    let one = |name: &str| DAYS.iter().position(|day| *day == name);
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (one(first)?, one(last)?),
            None => (one(part)?, one(part)?),
        };
        let length = (last + 7 - first) % 7;
        (0..=length).for_each(|more| days |= 1 << ((first + more) % 7));
    }
    Some(days)
}

/// `08:00-18:00` as two hours.
fn span_of(text: &str) -> Option<(usize, usize)> {
    let hour = |text: &str| {
        let hour: usize = text.strip_suffix(":00").filter(|hour| hour.len() == 2)?.parse().ok()?;
        (hour <= 24).then_some(hour)
    };
    let (first, last) = text.split_once('-')?;
    let (first, last) = (hour(first)?, hour(last)?);
    (first < 24 && first != last).then_some((first, last))
}
