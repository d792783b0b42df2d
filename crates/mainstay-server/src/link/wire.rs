//! Messages as bytes: Protocol Buffers, declared here field by field.
//!
//! A field's number is never used for anything else; fields that are not known are ignored. Times
//! are ages in microseconds. What is read is checked against its bounds before anyone sees it.
//! The sender is not in it: who that is, its certificate says.

mod keys;
mod names;
mod spent;
mod summary;

pub(super) use names::{decode_names, encode_names};

use super::frame::{Kind, Nonsense};
use super::message::{Generation, Message};
use bytes::Bytes;
use mainstay_core::cost::CostRate;
use mainstay_core::fact::Verdict;
use mainstay_core::message as core;
use mainstay_core::message::{OrderId, PerTier, TIERS_MAX, Verb};
use mainstay_core::names::{GatewayId, SiteId, TargetId};
use mainstay_core::policy::Snapshot;
use prost::Message as Proto;
use std::time::Duration;

/// Longest reason of an order, in bytes, so that an order stays below 256 bytes.
const REASON_MAX: usize = 160;
/// Longest author and reason of a generation.
const WORDS_MAX: usize = 1024;
/// Orders in a set; core keeps as many.
const ORDERS_MAX: usize = mainstay_core::orders::ORDERS_MAX;
/// In hundredths and in thousandths, the whole.
const PERCENT: u32 = 100;
const THOUSAND: u32 = 1000;

/// The first word: which versions a node speaks.
#[derive(Clone, PartialEq, Proto)]
pub struct Hello {
    #[prost(uint32, tag = "1")]
    pub least: u32,
    #[prost(uint32, tag = "2")]
    pub most: u32,
}

#[derive(Clone, PartialEq, Proto)]
struct Report {
    #[prost(uint32, tag = "1")]
    target: u32,
    #[prost(uint64, tag = "2")]
    nonce: u64,
    #[prost(uint64, repeated, tag = "3")]
    demand: Vec<u64>,
    #[prost(uint64, repeated, tag = "4")]
    total: Vec<u64>,
    #[prost(uint32, tag = "5")]
    in_flight: u32,
    #[prost(uint64, tag = "6")]
    elapsed: u64,
}

#[derive(Clone, PartialEq, Proto)]
struct Grant {
    #[prost(uint32, tag = "1")]
    target: u32,
    #[prost(uint32, tag = "2")]
    epoch: u32,
    #[prost(uint64, tag = "3")]
    nonce: u64,
    #[prost(uint64, repeated, tag = "4")]
    rate: Vec<u64>,
    #[prost(uint64, tag = "5")]
    standby: u64,
    #[prost(uint64, tag = "6")]
    capacity: u64,
    /// Ramp, offer, miss, slow: in one field they take a byte each.
    #[prost(uint32, repeated, tag = "7")]
    small: Vec<u32>,
    #[prost(uint64, tag = "9")]
    ttft: u64,
    #[prost(uint64, tag = "11")]
    elapsed: u64,
}

#[derive(Clone, PartialEq, Proto)]
struct Seen {
    #[prost(uint32, tag = "1")]
    target: u32,
    #[prost(uint32, tag = "2")]
    verdict: u32,
    #[prost(uint64, tag = "3")]
    age: u64,
}

#[derive(Clone, PartialEq, Proto)]
struct Probed {
    #[prost(uint32, tag = "1")]
    target: u32,
    #[prost(bool, tag = "2")]
    good: bool,
    #[prost(uint64, tag = "3")]
    age: u64,
}

#[derive(Clone, PartialEq, Proto)]
struct Digest {
    #[prost(uint64, tag = "1")]
    nonce: u64,
    #[prost(message, repeated, tag = "2")]
    verdicts: Vec<Seen>,
    #[prost(uint64, tag = "3")]
    spare: u64,
    #[prost(bool, tag = "4")]
    in_doubt: bool,
    #[prost(bool, tag = "5")]
    path: bool,
    #[prost(message, repeated, tag = "6")]
    probed: Vec<Probed>,
    #[prost(uint64, tag = "7")]
    generation: u64,
    #[prost(uint64, tag = "8")]
    clean: u64,
    #[prost(fixed64, repeated, tag = "9")]
    quarantined: Vec<u64>,
    #[prost(uint32, tag = "10")]
    failing: u32,
    #[prost(fixed64, tag = "11")]
    orders: u64,
    #[prost(uint32, tag = "12")]
    hour: u32,
    #[prost(bytes = "bytes", tag = "13")]
    heard: Bytes,
    #[prost(uint64, tag = "14")]
    elapsed: u64,
}

#[derive(Clone, PartialEq, Proto)]
struct Order {
    #[prost(fixed64, tag = "1")]
    author: u64,
    #[prost(uint32, tag = "2")]
    seq: u32,
    #[prost(uint32, tag = "3")]
    authority: u32,
    /// 1 freeze, 2 cap, 3 drain, 4 kill, 5 end.
    #[prost(uint32, tag = "4")]
    verb: u32,
    #[prost(uint32, tag = "5")]
    percent: u32,
    #[prost(fixed64, tag = "6")]
    ended_author: u64,
    #[prost(uint32, tag = "7")]
    ended_seq: u32,
    #[prost(uint32, optional, tag = "8")]
    site: Option<u32>,
    #[prost(string, tag = "9")]
    reason: String,
    #[prost(uint64, tag = "10")]
    left: u64,
}

#[derive(Clone, PartialEq, Proto)]
struct Orders {
    #[prost(message, repeated, tag = "1")]
    orders: Vec<Order>,
}

#[derive(Clone, PartialEq, Proto)]
struct Fetch {
    #[prost(fixed64, tag = "1")]
    orders: u64,
}

#[derive(Clone, PartialEq, Proto)]
struct QuotaReport {
    #[prost(fixed64, tag = "1")]
    key: u64,
    #[prost(uint64, tag = "2")]
    nonce: u64,
    #[prost(uint64, tag = "3")]
    demand: u64,
}

#[derive(Clone, PartialEq, Proto)]
struct QuotaGrant {
    #[prost(fixed64, tag = "1")]
    key: u64,
    #[prost(uint32, tag = "2")]
    epoch: u32,
    #[prost(uint64, tag = "3")]
    nonce: u64,
    #[prost(uint64, tag = "4")]
    rate: u64,
}

#[derive(Clone, PartialEq, Proto)]
struct Policy {
    #[prost(uint64, tag = "1")]
    generation: u64,
    #[prost(fixed64, tag = "2")]
    hash: u64,
    #[prost(fixed64, tag = "3")]
    previous: u64,
    #[prost(string, tag = "4")]
    author: String,
    #[prost(string, tag = "5")]
    reason: String,
    #[prost(bool, tag = "6")]
    confirmed: bool,
    #[prost(bytes = "bytes", tag = "7")]
    content: Bytes,
}

/// A message with nothing in it yet.
#[derive(Clone, PartialEq, Proto)]
struct Empty {}

/// The body of `message`, which carries `tiers` tiers. A digest that would be longer than its
/// bound loses its last entries; the second value says whether it did.
pub(super) fn encode(message: &Message, tiers: usize) -> (Vec<u8>, bool) {
    let body = match message {
        Message::Report(report) => write_report(report, tiers).encode_to_vec(),
        Message::Grant(grant) => write_grant(grant, tiers).encode_to_vec(),
        Message::Digest(digest) => return write_digest(digest),
        Message::Order(order) => write_order(order).encode_to_vec(),
        Message::Orders(orders) => {
            let orders = orders.iter().take(ORDERS_MAX).map(write_order).collect();
            Orders { orders }.encode_to_vec()
        }
        Message::Fetch(orders) => Fetch { orders: *orders }.encode_to_vec(),
        Message::QuotaReport(core::QuotaReport { key, nonce, demand }) => {
            QuotaReport { key: *key, nonce: *nonce, demand: demand.0 }.encode_to_vec()
        }
        Message::QuotaGrant(core::QuotaGrant { key, epoch, nonce, rate }) => {
            QuotaGrant { key: *key, epoch: *epoch, nonce: *nonce, rate: rate.0 }.encode_to_vec()
        }
        Message::Poll => Vec::new(),
        Message::Snapshot(generation) => write_policy(generation).encode_to_vec(),
        Message::Summary(told) => summary::write(told).encode_to_vec(),
        Message::KeyMarks(marks) => keys::write_marks(marks).encode_to_vec(),
        Message::Keys(keys) => keys::write(keys).encode_to_vec(),
        Message::Spent(sums) => spent::write(sums).encode_to_vec(),
    };
    (body, false)
}

/// What `body` says. Positions in it are still the peer's.
pub(super) fn decode(kind: Kind, body: Vec<u8>) -> Result<Message, Nonsense> {
    let body = Bytes::from(body);
    Ok(match kind {
        Kind::Report => Message::Report(read_report(&read(body)?)?),
        Kind::Grant => Message::Grant(read_grant(&read(body)?)?),
        Kind::Digest => Message::Digest(read_digest(&read(body)?)?),
        Kind::Order => Message::Order(read_order(read(body)?)?),
        Kind::Orders => {
            let Orders { orders } = read(body)?;
            within(orders.len(), ORDERS_MAX)?;
            Message::Orders(orders.into_iter().map(read_order).collect::<Result<_, _>>()?)
        }
        Kind::Fetch => Message::Fetch(read::<Fetch>(body)?.orders),
        Kind::QuotaReport => {
            let QuotaReport { key, nonce, demand } = read(body)?;
            Message::QuotaReport(core::QuotaReport { key, nonce, demand: CostRate(demand) })
        }
        Kind::QuotaGrant => {
            let QuotaGrant { key, epoch, nonce, rate } = read(body)?;
            Message::QuotaGrant(core::QuotaGrant { key, epoch, nonce, rate: CostRate(rate) })
        }
        Kind::Poll => read::<Empty>(body).map(|_| Message::Poll)?,
        Kind::Snapshot => Message::Snapshot(read_policy(read(body)?)?),
        Kind::Summary => Message::Summary(Box::new(summary::read(&read(body)?)?)),
        Kind::KeyMarks => Message::KeyMarks(keys::read_marks(read(body)?)?),
        Kind::Keys => Message::Keys(keys::read(read(body)?)?),
        Kind::Spent => Message::Spent(spent::read(read(body)?)?),
        Kind::Hello | Kind::Names | Kind::Beat => return Err(Nonsense::Unexpected),
    })
}

/// The first word as bytes.
pub(super) fn encode_hello(hello: &Hello) -> Vec<u8> {
    hello.encode_to_vec()
}

/// The first word.
pub(super) fn decode_hello(body: Vec<u8>) -> Result<Hello, Nonsense> {
    read(Bytes::from(body))
}

fn read<M: Proto + Default>(body: Bytes) -> Result<M, Nonsense> {
    M::decode(body).map_err(|_| Nonsense::Malformed)
}

fn within(length: usize, most: usize) -> Result<(), Nonsense> {
    if length > most { Err(Nonsense::Malformed) } else { Ok(()) }
}

fn micros(age: Duration) -> u64 {
    u64::try_from(age.as_micros()).unwrap_or(u64::MAX)
}

fn target_id(position: u32) -> Result<TargetId, Nonsense> {
    u16::try_from(position).map(TargetId).map_err(|_| Nonsense::Malformed)
}

fn site_id(position: u32) -> Result<SiteId, Nonsense> {
    u16::try_from(position).map(SiteId).map_err(|_| Nonsense::Malformed)
}

/// A share that is at most `whole`.
fn share<T: TryFrom<u32>>(value: u32, whole: u32) -> Result<T, Nonsense> {
    let value = if value > whole { None } else { T::try_from(value).ok() };
    value.ok_or(Nonsense::Malformed)
}

fn write_rates(rates: &PerTier<CostRate>, tiers: usize) -> Vec<u64> {
    rates.iter().take(tiers).map(|rate| rate.0).collect()
}

fn read_rates(rates: &[u64]) -> Result<PerTier<CostRate>, Nonsense> {
    within(rates.len(), TIERS_MAX)?;
    let mut read = PerTier::default();
    read.iter_mut().zip(rates).for_each(|(to, from)| *to = CostRate(*from));
    Ok(read)
}

fn write_report(report: &core::Report, tiers: usize) -> Report {
    Report {
        target: u32::from(report.target.0),
        nonce: report.nonce,
        demand: write_rates(&report.demand, tiers),
        total: write_rates(&report.total, tiers),
        in_flight: report.in_flight,
        elapsed: micros(report.elapsed),
    }
}

fn read_report(report: &Report) -> Result<core::Report, Nonsense> {
    Ok(core::Report {
        target: target_id(report.target)?,
        nonce: report.nonce,
        demand: read_rates(&report.demand)?,
        total: read_rates(&report.total)?,
        in_flight: report.in_flight,
        elapsed: Duration::from_micros(report.elapsed),
    })
}

fn write_grant(grant: &core::Grant, tiers: usize) -> Grant {
    let offer = match grant.offer {
        core::Offer::Open => 0,
        core::Offer::Draining => 1,
        core::Offer::Closed => 2,
    };
    Grant {
        target: u32::from(grant.target.0),
        epoch: grant.epoch,
        nonce: grant.nonce,
        rate: write_rates(&grant.rate, tiers),
        standby: grant.standby.0,
        capacity: grant.capacity.0,
        small: vec![grant.ramp.into(), offer, grant.miss.into(), grant.slow.into()],
        ttft: micros(grant.ttft),
        elapsed: micros(grant.elapsed),
    }
}

fn read_grant(grant: &Grant) -> Result<core::Grant, Nonsense> {
    let [ramp, offer, miss, slow] = grant.small[..] else { return Err(Nonsense::Malformed) };
    let offer = match offer {
        0 => core::Offer::Open,
        1 => core::Offer::Draining,
        2 => core::Offer::Closed,
        _ => return Err(Nonsense::Malformed),
    };
    Ok(core::Grant {
        target: target_id(grant.target)?,
        epoch: grant.epoch,
        nonce: grant.nonce,
        rate: read_rates(&grant.rate)?,
        standby: CostRate(grant.standby),
        capacity: CostRate(grant.capacity),
        ramp: share(ramp, PERCENT)?,
        offer,
        ttft: Duration::from_micros(grant.ttft),
        miss: share(miss, PERCENT)?,
        elapsed: Duration::from_micros(grant.elapsed),
        slow: share(slow, core::SLOW_MAX.into())?,
    })
}

fn write_digest(digest: &core::Digest) -> (Vec<u8>, bool) {
    let seen = |(target, verdict, age): &(TargetId, Verdict, Duration)| Seen {
        target: u32::from(target.0),
        verdict: match verdict {
            Verdict::Up => 0,
            Verdict::Suspect => 1,
            Verdict::Down => 2,
            Verdict::Probation => 3,
        },
        age: micros(*age),
    };
    let probed = |(target, good, age): &(TargetId, bool, Duration)| Probed {
        target: u32::from(target.0),
        good: *good,
        age: micros(*age),
    };
    let mut written = Digest {
        nonce: digest.nonce,
        verdicts: digest.verdicts.iter().map(seen).collect(),
        spare: digest.spare.0,
        in_doubt: digest.in_doubt,
        path: digest.path,
        probed: digest.probed.iter().map(probed).collect(),
        generation: digest.generation,
        clean: micros(digest.clean),
        quarantined: digest.quarantined.clone(),
        failing: u32::from(digest.failing),
        orders: digest.orders,
        hour: digest.hour,
        heard: Bytes::copy_from_slice(&digest.heard),
        elapsed: micros(digest.elapsed),
    };
    let mut is_cut = false;
    // Halving ends after as many rounds as there are bits in the length; what is most needed,
    // whom one has heard of and the generation, is short and stays.
    while written.encoded_len() > Kind::Digest.body_max() {
        is_cut = true;
        if written.probed.is_empty() && written.verdicts.is_empty() {
            written.quarantined.clear();
            written.heard.truncate(Kind::Digest.body_max() / 2);
        }
        written.probed.truncate(written.probed.len() / 2);
        written.verdicts.truncate(written.verdicts.len() / 2);
    }
    (written.encode_to_vec(), is_cut)
}

fn read_digest(digest: &Digest) -> Result<core::Digest, Nonsense> {
    let seen = |seen: &Seen| {
        let verdict = match seen.verdict {
            0 => Verdict::Up,
            1 => Verdict::Suspect,
            2 => Verdict::Down,
            3 => Verdict::Probation,
            _ => return Err(Nonsense::Malformed),
        };
        Ok((target_id(seen.target)?, verdict, Duration::from_micros(seen.age)))
    };
    let probed = |probed: &Probed| {
        Ok((target_id(probed.target)?, probed.good, Duration::from_micros(probed.age)))
    };
    Ok(core::Digest {
        from: GatewayId::default(),
        nonce: digest.nonce,
        verdicts: digest.verdicts.iter().map(seen).collect::<Result<_, Nonsense>>()?,
        spare: CostRate(digest.spare),
        in_doubt: digest.in_doubt,
        path: digest.path,
        probed: digest.probed.iter().map(probed).collect::<Result<_, Nonsense>>()?,
        generation: digest.generation,
        clean: Duration::from_micros(digest.clean),
        quarantined: digest.quarantined.clone(),
        failing: share(digest.failing, THOUSAND)?,
        orders: digest.orders,
        hour: digest.hour,
        heard: digest.heard.to_vec(),
        elapsed: Duration::from_micros(digest.elapsed),
    })
}

fn write_order(order: &core::Order) -> Order {
    let (verb, percent, ended) = match order.verb {
        Verb::Freeze => (1, 0, OrderId::default()),
        Verb::Cap(percent) => (2, percent, OrderId::default()),
        Verb::Drain => (3, 0, OrderId::default()),
        Verb::Kill => (4, 0, OrderId::default()),
        Verb::End(ended) => (5, 0, ended),
    };
    Order {
        author: order.id.author,
        seq: order.id.seq,
        authority: u32::from(order.authority),
        verb,
        percent: u32::from(percent),
        ended_author: ended.author,
        ended_seq: ended.seq,
        site: order.site.map(|site| u32::from(site.0)),
        reason: shortened(&order.reason, REASON_MAX),
        left: micros(order.left),
    }
}

fn read_order(order: Order) -> Result<core::Order, Nonsense> {
    within(order.reason.len(), REASON_MAX)?;
    let verb = match order.verb {
        1 => Verb::Freeze,
        2 => Verb::Cap(share(order.percent, PERCENT)?),
        3 => Verb::Drain,
        4 => Verb::Kill,
        5 => Verb::End(OrderId { author: order.ended_author, seq: order.ended_seq }),
        _ => return Err(Nonsense::Malformed),
    };
    Ok(core::Order {
        id: OrderId { author: order.author, seq: order.seq },
        authority: u8::try_from(order.authority).map_err(|_| Nonsense::Malformed)?,
        verb,
        site: order.site.map(site_id).transpose()?,
        reason: order.reason,
        left: Duration::from_micros(order.left),
    })
}

fn write_policy(generation: &Generation) -> Policy {
    let Generation { snapshot, content } = generation;
    Policy {
        generation: snapshot.generation,
        hash: snapshot.content,
        previous: snapshot.previous,
        author: shortened(&snapshot.author, WORDS_MAX),
        reason: shortened(&snapshot.reason, WORDS_MAX),
        confirmed: snapshot.confirmed,
        content: content.clone(),
    }
}

fn read_policy(policy: Policy) -> Result<Generation, Nonsense> {
    within(policy.author.len(), WORDS_MAX)?;
    within(policy.reason.len(), WORDS_MAX)?;
    let snapshot = Snapshot {
        generation: policy.generation,
        content: policy.hash,
        previous: policy.previous,
        author: policy.author,
        reason: policy.reason,
        // Counted, not claimed.
        bytes: u64::try_from(policy.content.len()).unwrap_or(u64::MAX),
        confirmed: policy.confirmed,
    };
    Ok(Generation { snapshot, content: policy.content })
}

/// At most the first `most` bytes of `text`, whole characters.
fn shortened(text: &str, most: usize) -> String {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}
