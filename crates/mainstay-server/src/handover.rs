//! The headers of an attempt on its way to a site of ours, and of the site's first word back.
//!
//! The request itself is ordinary OpenAI HTTP; what the site must know beside it stands in one
//! header, a dictionary of RFC 9651 with integers, booleans and tokens only. Ages, never times;
//! names, never positions: the two sides may run different policies. A key that is not known is
//! passed over, so that a newer side may say more.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use mainstay_core::cost::CostUnits;
use mainstay_core::message::{Ack, Open, Reason, Refuse};
use mainstay_core::names::{AttemptId, GatewayId, RequestId, TargetId, TierId, Work};
use std::time::Duration;

/// With the attempt goes what it is.
pub const OPEN: HeaderName = HeaderName::from_static("x-mainstay-open");
/// With a reply of status 200 comes that it was taken in.
pub const ACK: HeaderName = HeaderName::from_static("x-mainstay-ack");
/// With any other comes why not.
pub const REFUSE: HeaderName = HeaderName::from_static("x-mainstay-refuse");
/// Where gateways ask whether the site lives, below `/v1`.
pub const HEALTH: &str = "/health";
/// What the `code` of an error begins with that takes an acknowledged attempt back.
const HANDED_BACK: &str = "handed_back/";
/// Longer values of these headers are not read.
const VALUE_MAX: usize = 1024;

/// An attempt as a gateway hands it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// Its tier's name.
    pub tier: String,
    /// Everything else. Target and tier are for the reader to fill in, who knows the positions.
    pub open: Open,
}

/// The header that goes with `open`.
pub fn offer(open: &Open, tier: &str) -> Option<HeaderValue> {
    let attempt = open.work.attempt;
    let mut words = vec![
        format!("request=\"{:016x}\"", attempt.request.0),
        format!("number={}", attempt.number),
        format!("tier=\"{tier}\""),
        format!("cost={}", open.cost.0),
        format!("left={}", open.left.as_millis()),
        format!("tenant={}", open.tenant),
        format!("session=\"{:016x}\"", open.session),
        format!("labels=\"{:x}\"", open.labels),
        format!("prompt={}", open.prompt),
        format!("output={}", open.output),
    ];
    let flags =
        [(open.credited, "credited"), (open.moving, "moving"), (open.elsewhere, "elsewhere")];
    words.extend(flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, word)| word.to_owned()));
    HeaderValue::from_str(&words.join(", ")).ok()
}

impl Offered {
    /// What came with an attempt of `from`.
    ///
    /// # Errors
    /// What is missing or wrong, for the gateway's operator.
    pub fn read(headers: &HeaderMap, from: GatewayId) -> Result<Offered, String> {
        let words = Words::of(headers, &OPEN).ok_or("the header x-mainstay-open is missing")?;
        let number = |key: &str| {
            let found = words.get(key).and_then(|word| word.parse::<u64>().ok());
            found.ok_or_else(|| format!("x-mainstay-open: no number in {key:?}"))
        };
        let small = |key: &str| number(key).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        let hex = |key: &str| {
            let found = words.get(key).and_then(|word| u64::from_str_radix(word, 16).ok());
            found.ok_or_else(|| format!("x-mainstay-open: no hexadecimal number in {key:?}"))
        };
        let attempt = AttemptId {
            request: RequestId(hex("request")?),
            number: u8::try_from(number("number")?).map_err(|_| "x-mainstay-open: number")?,
        };
        let tier = words.get("tier").ok_or("x-mainstay-open: no tier")?.to_owned();
        let open = Open {
            work: Work { from, attempt },
            target: TargetId(u16::MAX),
            tier: TierId(u8::MAX),
            cost: CostUnits(number("cost")?),
            credited: words.has("credited"),
            moving: words.has("moving"),
            left: Duration::from_millis(number("left")?),
            tenant: small("tenant")?,
            session: hex("session")?,
            labels: hex("labels")?,
            prompt: small("prompt")?,
            output: small("output")?,
            elsewhere: words.has("elsewhere"),
        };
        Ok(Offered { tier, open })
    }
}

/// The header that says that an attempt was taken in.
pub fn acknowledge(ack: &Ack) -> Option<HeaderValue> {
    let queued = if ack.queued { "queued, " } else { "" };
    HeaderValue::from_str(&format!("{queued}ttft={}", ack.ttft.as_millis())).ok()
}

/// The site's word that it took `attempt` in.
pub fn acknowledged(headers: &HeaderMap, attempt: AttemptId) -> Option<Ack> {
    let words = Words::of(headers, &ACK)?;
    let ttft = words.get("ttft").and_then(|word| word.parse().ok()).map(Duration::from_millis);
    Some(Ack { attempt, queued: words.has("queued"), ttft: ttft.unwrap_or_default() })
}

/// The header that says that an attempt was not taken in.
pub fn refuse(refuse: &Refuse) -> Option<HeaderValue> {
    let cut = if refuse.cut { ", cut" } else { "" };
    let wait = refuse.retry_after.as_millis();
    HeaderValue::from_str(&format!("reason={}, after={wait}{cut}", word(refuse.reason))).ok()
}

/// The site's word that it did not take `attempt` in.
pub fn refused(headers: &HeaderMap, attempt: AttemptId) -> Option<Refuse> {
    let words = Words::of(headers, &REFUSE)?;
    let reason = words.get("reason").and_then(reason)?;
    let wait = words.get("after").and_then(|word| word.parse().ok()).unwrap_or(0);
    Some(Refuse {
        attempt,
        reason,
        retry_after: Duration::from_millis(wait),
        cut: words.has("cut"),
    })
}

/// The `code` of an error that takes an acknowledged attempt back before its first token.
pub fn handing_back(refuse: &Refuse) -> String {
    format!("{HANDED_BACK}{}/{}", word(refuse.reason), refuse.retry_after.as_millis())
}

/// What that code says.
pub fn handed_back(code: &str, attempt: AttemptId) -> Option<Refuse> {
    let (word, wait) = code.strip_prefix(HANDED_BACK)?.split_once('/')?;
    let retry_after = Duration::from_millis(wait.parse().ok()?);
    Some(Refuse { attempt, reason: reason(word)?, retry_after, cut: false })
}

fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::Overloaded => "overloaded",
        Reason::NoWorker => "no_worker",
        Reason::TooLate => "too_late",
        Reason::Draining => "draining",
        Reason::NotMine => "not_mine",
    }
}

fn reason(said: &str) -> Option<Reason> {
    let all =
        [Reason::Overloaded, Reason::NoWorker, Reason::TooLate, Reason::Draining, Reason::NotMine];
    all.into_iter().find(|reason| word(*reason) == said)
}

/// One dictionary.
struct Words<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Words<'a> {
    fn of(headers: &'a HeaderMap, name: &HeaderName) -> Option<Words<'a>> {
        let text = headers.get(name)?.to_str().ok().filter(|text| text.len() <= VALUE_MAX)?;
        let pairs =
            text.split(',').map(|pair| pair.trim().split_once('=').unwrap_or((pair.trim(), "")));
        Some(Words(pairs.collect()))
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        let found = self.0.iter().find(|(name, _)| *name == key);
        found.map(|(_, value)| value.trim_matches('"'))
    }

    fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|(name, value)| *name == flag && value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTEMPT: AttemptId = AttemptId { request: RequestId(0xabc), number: 2 };

    fn open() -> Open {
        Open {
            work: Work { from: GatewayId(1), attempt: ATTEMPT },
            target: TargetId(4),
            tier: TierId(1),
            cost: CostUnits(1500),
            credited: true,
            moving: false,
            left: Duration::from_millis(59_500),
            tenant: 7,
            session: u64::MAX,
            labels: 3,
            prompt: 100,
            output: 200,
            elsewhere: true,
        }
    }

    fn with(name: HeaderName, value: HeaderValue) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value);
        headers
    }

    #[test]
    fn an_attempt_is_offered_and_read() {
        let headers = with(OPEN, offer(&open(), "pro").unwrap());
        let read = Offered::read(&headers, GatewayId(1)).unwrap();
        let (target, tier) = (TargetId(4), TierId(1));
        assert_eq!((read.tier.as_str(), Open { target, tier, ..read.open }), ("pro", open()));
    }

    #[test]
    fn what_is_missing_is_named() {
        let headers = with(OPEN, HeaderValue::from_static("number=1, tier=\"pro\", news=5"));
        let wrong = |headers| Offered::read(headers, GatewayId(1)).unwrap_err();
        assert!(wrong(&headers).contains("request"));
        assert!(wrong(&HeaderMap::new()).contains("missing"));
    }

    #[test]
    fn the_sites_words_come_back_as_they_went() {
        let ack = Ack { attempt: ATTEMPT, queued: true, ttft: Duration::from_millis(300) };
        let headers = with(ACK, acknowledge(&ack).unwrap());
        assert_eq!(acknowledged(&headers, ATTEMPT), Some(ack));
        let reasons = [
            Reason::Overloaded,
            Reason::NoWorker,
            Reason::TooLate,
            Reason::Draining,
            Reason::NotMine,
        ];
        for reason in reasons {
            let retry_after = Duration::from_millis(1500);
            let no = Refuse { attempt: ATTEMPT, reason, retry_after, cut: false };
            let headers = with(REFUSE, refuse(&no).unwrap());
            assert_eq!(refused(&headers, ATTEMPT), Some(no));
            assert_eq!(handed_back(&handing_back(&no), ATTEMPT), Some(no));
        }
        assert_eq!(handed_back("rate_limit_exceeded", ATTEMPT), None);
    }
}
