//! What a key is for: whose it is, what it may ask, from where, until when, and how much.

use mainstay_core::config::Contract;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// The terms of one key. What is not said is not bound.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// Whose it is. Unset: the key stands for itself.
    pub tenant: Option<String>,
    /// The models that it may ask for. None: all.
    pub models: Vec<String>,
    /// Where its requests may come from. None: anywhere.
    pub networks: Vec<Network>,
    /// Until when it is let in, in seconds since 1970.
    pub expires: Option<u64>,
    /// Requests a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute, of prompts and answers together.
    pub tokens_per_minute: Option<u64>,
    /// Cost units a minute.
    pub cost_units_per_minute: Option<u64>,
    /// Requests at once.
    pub concurrency: Option<u32>,
    /// Money a day, in the currency of the prices.
    pub budget_per_day: Option<f64>,
    /// Money a month.
    pub budget_per_month: Option<f64>,
}

impl Terms {
    /// What may be used of what is limited by the minute and at once.
    pub fn contract(&self) -> Contract {
        Contract {
            requests: self.requests_per_minute,
            tokens: self.tokens_per_minute,
            cost: self.cost_units_per_minute,
            concurrency: self.concurrency,
        }
    }

    /// What is wrong with them: which of them, and how to mend it.
    pub fn wrong(&self) -> Option<(&'static str, String)> {
        let more = "must be more than 0; take it away to set no limit";
        let numbers = [
            ("requests_per_minute", self.requests_per_minute.map(u64::from)),
            ("tokens_per_minute", self.tokens_per_minute),
            ("cost_units_per_minute", self.cost_units_per_minute),
            ("concurrency", self.concurrency.map(u64::from)),
        ];
        let zero = numbers.into_iter().find(|(_, number)| *number == Some(0));
        let budgets =
            [("budget_per_day", self.budget_per_day), ("budget_per_month", self.budget_per_month)];
        let bad =
            |budget: Option<f64>| budget.is_some_and(|money| !money.is_finite() || money < 0.0);
        let budget = budgets.into_iter().find(|(_, budget)| bad(*budget));
        let nameless = self.tenant.as_deref() == Some("");
        zero.map(|(key, _)| (key, String::from(more)))
            .or(budget.map(|(key, _)| (key, String::from("is no sum of money; write 0 or more"))))
            .or(nameless.then(|| ("tenant", String::from("has no name; take it away, or name it"))))
    }
}

/// Addresses with the same beginning, e.g. `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether `address` begins so. One of IPv4 in the form of IPv6 is one of IPv4.
    pub fn holds(&self, address: IpAddr) -> bool {
        let (mine, theirs) = (wide(self.address), wide(address.to_canonical()));
        if self.address.is_ipv4() != address.to_canonical().is_ipv4() {
            return false;
        }
        let bits = u32::from(self.bits) + if self.address.is_ipv4() { 96 } else { 0 };
        let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
        mine & mask == theirs & mask
    }
}

fn wide(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(Ipv6Addr::from(v6.octets())),
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let wrong = || format!("`{text}` is no network; write e.g. 10.0.0.0/8 or 2001:db8::/32");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.trim().parse().map_err(|_| wrong()))?;
        if bits > most { Err(wrong()) } else { Ok(Network { address, bits }) }
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Network, String> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> String {
        network.to_string()
    }
}

impl Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// Characters of a key that lists show: enough to tell keys apart, far too few to guess by.
const SHOWN: usize = 18;
/// Of a shorter key what lists show would be too much of it.
const WHOLE: usize = 30;

/// What lists show of a key.
pub fn shown(key: &str) -> String {
    key.chars().take(SHOWN).collect()
}

/// The number by which a key is counted, made of what lists show of it; none if it is so short that
/// this would tell too much of it.
pub fn mark_of(key: &str) -> Option<u64> {
    (key.len() >= WHOLE).then(|| mark(&shown(key)))
}

/// The number of the keys that lists show so.
pub fn mark(shown: &str) -> u64 {
    let hash: [u8; 32] =
        Sha256::new_with_prefix("mainstay key\0").chain_update(shown).finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = hash;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// The wall clock, in seconds since 1970: what dates of keys are held against.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The moment that a date names, in seconds since 1970: `2027-01-31`, which begins at midnight UTC,
/// or `2027-01-31T12:00:00Z`.
///
/// # Errors
/// How to write one.
pub fn date(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no date; write e.g. 2027-01-31 or 2027-01-31T12:00:00Z");
    let (day, time) = text.trim().split_once(['T', ' ']).unwrap_or((text.trim(), "00:00:00Z"));
    let numbers = |text: &str, by: char| -> Option<[u64; 3]> {
        let parts: Option<Vec<u64>> = text.split(by).map(|part| part.parse().ok()).collect();
        parts?.try_into().ok()
    };
    let [year, month, day] = numbers(day, '-').ok_or_else(wrong)?;
    let time = time.strip_suffix('Z').ok_or_else(wrong)?;
    let [hour, minute, second] = numbers(time, ':').ok_or_else(wrong)?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let longest = match month {
        2 => 28 + u64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return Err(wrong()),
    };
    let is_day = (1970..10_000).contains(&year) && (1..=longest).contains(&day);
    if !is_day || hour > 23 || minute > 59 || second > 60 {
        return Err(wrong());
    }
    // Days since 1970-01-01, with years that begin in March (H. Hinnant, days_from_civil).
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Ok((days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// A moment as `date` reads it.
pub fn format_date(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + later;
    let [hour, minute, second] = [seconds / 3600 % 24, seconds / 60 % 60, seconds % 60];
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_utc_both_ways() {
        assert_eq!(date("1994-11-06T08:49:37Z"), Ok(784_111_777));
        assert_eq!(date("1970-01-01"), Ok(0));
        assert_eq!(date("2024-02-29"), Ok(1_709_164_800));
        for day in (0..400_000_000_000).step_by(86_400 * 37 + 11) {
            if day < 253_402_300_800 {
                assert_eq!(date(&format_date(day)), Ok(day));
            }
        }
        for wrong in ["2023-02-29", "2024-13-01", "tomorrow", "2024-01-01T00:00:00", "1-2-3-4"] {
            assert!(date(wrong).unwrap_err().contains("is no date"), "{wrong}");
        }
    }

    #[test]
    fn a_network_holds_what_begins_like_it() {
        let holds = |network: &str, address: &str| {
            network.parse::<Network>().unwrap().holds(address.parse().unwrap())
        };
        assert!(holds("10.0.0.0/8", "10.255.1.2") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("10.1.2.3", "10.1.2.3") && !holds("10.1.2.3", "10.1.2.4"));
        assert!(holds("10.0.0.0/8", "::ffff:10.0.0.1"), "a client of IPv4 at a door of IPv6");
        assert!(holds("0.0.0.0/0", "1.2.3.4") && !holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("2001:db8::/32", "2001:db8:1::1") && !holds("2001:db8::/32", "2001:db9::"));
        assert!(holds("::/0", "2001:db9::") && !holds("::/0", "10.0.0.1"));
        for wrong in ["10.0.0.0/33", "10.0.0", "x", "::/129", ""] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn terms_that_let_nothing_through_are_wrong() {
        let none = Terms { concurrency: Some(0), ..Terms::default() };
        assert_eq!(none.wrong().map(|(key, _)| key), Some("concurrency"));
        let owed = Terms { budget_per_day: Some(-1.0), ..Terms::default() };
        assert_eq!(owed.wrong().map(|(key, _)| key), Some("budget_per_day"));
        assert_eq!(Terms::default().wrong(), None);
    }
}
