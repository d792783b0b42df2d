//! Messages as bytes: both ways, within their bounds, and whatever bytes come.

use super::bench::{book, node};
use super::joined::{grant, report};
use crate::ledger::Payer;
use crate::link::frame::{BODY_MAX, HEAD, Head, Incoming, Kind, Nonsense, Outgoing, Whole};
use crate::link::message::{KEY_BODY_MAX, KEYS_MAX, PAYER_MAX, SPENT_MAX};
use crate::link::wire::{Hello, decode, decode_names, encode, encode_hello, encode_names};
use crate::link::{Generation, Message, outside};
use bytes::{Bytes, BytesMut};
use mainstay_core::cost::CostRate;
use mainstay_core::fact::Verdict;
use mainstay_core::gateway::keyring::Entry;
use mainstay_core::message::{
    Count, Digest, FAILING_MAX, Failing, Grant, Offer, Order, OrderId, PerTier, QuotaGrant,
    QuotaReport, Report, SLOW_MAX, SUMMARY_MAX, Short, Standing, Summary, TIERS_MAX, Verb,
};
use mainstay_core::money::Money;
use mainstay_core::names::{GatewayId, ModelId, SiteId, TargetId, TierId};
use mainstay_core::plan::Spending;
use mainstay_core::policy::Snapshot;
use mainstay_core::rng::Rng;
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;

fn rates() -> impl Strategy<Value = PerTier<CostRate>> {
    any::<PerTier<u64>>().prop_map(|rates| rates.map(CostRate))
}

fn age() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_micros)
}

fn target() -> impl Strategy<Value = TargetId> {
    any::<u16>().prop_map(TargetId)
}

fn reports() -> impl Strategy<Value = Message> {
    (target(), any::<u64>(), rates(), rates(), any::<u32>(), age()).prop_map(
        |(target, nonce, demand, total, in_flight, elapsed)| {
            Message::Report(Report { target, nonce, demand, total, in_flight, elapsed })
        },
    )
}

fn grants() -> impl Strategy<Value = Message> {
    let offers = prop_oneof![Just(Offer::Open), Just(Offer::Draining), Just(Offer::Closed)];
    let numbers = (any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>());
    (target(), numbers, rates(), (0..=100u8, 0..=100u8), offers, (age(), age(), 0..=SLOW_MAX))
        .prop_map(
            |(
                target,
                (epoch, nonce, standby, capacity),
                rate,
                (ramp, miss),
                offer,
                (ttft, elapsed, slow),
            )| {
                let (standby, capacity) = (CostRate(standby), CostRate(capacity));
                Message::Grant(Grant {
                    target,
                    epoch,
                    nonce,
                    rate,
                    standby,
                    capacity,
                    ramp,
                    offer,
                    ttft,
                    miss,
                    elapsed,
                    slow,
                })
            },
        )
}

fn digests() -> impl Strategy<Value = Message> {
    let verdict = prop_oneof![
        Just(Verdict::Up),
        Just(Verdict::Suspect),
        Just(Verdict::Down),
        Just(Verdict::Probation)
    ];
    let lists = (
        vec((target(), verdict, age()), 0..50),
        vec((target(), any::<bool>(), age()), 0..50),
        vec(any::<u64>(), 0..16),
        vec(any::<u8>(), 0..60),
    );
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>());
    (lists, numbers, any::<(bool, bool)>(), 0..=1000u16, (age(), age())).prop_map(
        |(lists, numbers, (in_doubt, path), failing, (clean, elapsed))| {
            let (verdicts, probed, quarantined, heard) = lists;
            let (nonce, spare, generation, orders, hour) = numbers;
            Message::Digest(Digest {
                from: GatewayId(0),
                nonce,
                verdicts,
                spare: CostRate(spare),
                in_doubt,
                path,
                probed,
                generation,
                clean,
                quarantined,
                failing,
                orders,
                hour,
                heard,
                elapsed,
            })
        },
    )
}

fn order() -> impl Strategy<Value = Order> {
    let id = || (any::<u64>(), any::<u32>()).prop_map(|(author, seq)| OrderId { author, seq });
    let verb = prop_oneof![
        Just(Verb::Freeze),
        (0..=100u8).prop_map(Verb::Cap),
        Just(Verb::Drain),
        Just(Verb::Kill),
        id().prop_map(Verb::End)
    ];
    let site = any::<Option<u16>>().prop_map(|site| site.map(SiteId));
    (id(), any::<u8>(), verb, site, "[a-zß-ö ]{0,80}", age()).prop_map(
        |(id, authority, verb, site, reason, left)| Order {
            id,
            authority,
            verb,
            site,
            reason,
            left,
        },
    )
}

fn quotas() -> impl Strategy<Value = Message> {
    (any::<u64>(), any::<u64>(), any::<u64>(), any::<Option<u32>>()).prop_map(
        |(key, nonce, rate, epoch)| {
            let rate = CostRate(rate);
            match epoch {
                Some(epoch) => Message::QuotaGrant(QuotaGrant { key, epoch, nonce, rate }),
                None => Message::QuotaReport(QuotaReport { key, nonce, demand: rate }),
            }
        },
    )
}

fn keys() -> impl Strategy<Value = Message> {
    let entry = (any::<u64>(), any::<u64>(), any::<bool>(), vec(any::<u8>(), 0..400))
        .prop_map(|(id, version, is_revoked, body)| Entry { id, version, is_revoked, body });
    prop_oneof![
        vec(any::<u64>(), 0..=256).prop_map(Message::KeyMarks),
        vec(entry, 0..8).prop_map(Message::Keys),
    ]
}

#[test]
fn as_many_and_as_long_keys_as_there_may_be_fit_and_more_are_refused() {
    let entry = |body| Entry { id: u64::MAX, version: u64::MAX, is_revoked: true, body };
    let most = std::vec![entry(std::vec![b'x'; KEY_BODY_MAX]); KEYS_MAX];
    let (body, _) = encode(&Message::Keys(most.clone()), 2);
    assert!(body.len() <= Kind::Keys.body_max(), "{}", body.len());
    assert_eq!(decode(Kind::Keys, body), Ok(Message::Keys(most)));
    let (body, _) = encode(&Message::Keys(std::vec![entry(std::vec![0; KEY_BODY_MAX + 1])]), 2);
    assert_eq!(decode(Kind::Keys, body), Err(Nonsense::Malformed));
    let many: Vec<u8> = (0..=KEYS_MAX).flat_map(|_| [0x0a, 0]).collect();
    assert_eq!(decode(Kind::Keys, many), Err(Nonsense::Malformed));
    let marks = Message::KeyMarks(std::vec![u64::MAX; 256]);
    assert!(encode(&marks, 2).0.len() <= Kind::KeyMarks.body_max());
    let (body, _) = encode(&Message::KeyMarks(std::vec![0; 257]), 2);
    assert_eq!(decode(Kind::KeyMarks, body), Err(Nonsense::Malformed));
}

fn sums() -> impl Strategy<Value = Message> {
    let money = || (0..=i64::MAX).prop_map(Money);
    let spending = ((any::<u32>(), money()), (any::<u32>(), money()), money())
        .prop_map(|(day, month, free)| Spending { day, month, free });
    let payer = ("[a-zß-ö ]{0,80}", any::<bool>()).prop_map(|(name, is_key)| match is_key {
        true => Payer::Key(name.into()),
        false => Payer::Tenant(name.into()),
    });
    vec((payer, spending), 0..=SPENT_MAX).prop_map(Message::Spent)
}

#[test]
fn as_many_and_as_long_sums_as_there_may_be_fit_and_nonsense_is_none() {
    let most = |length| {
        let sum = Spending {
            day: (u32::MAX, Money(i64::MAX)),
            month: (u32::MAX, Money(i64::MAX)),
            free: Money(i64::MAX),
        };
        Message::Spent(std::vec![(Payer::Tenant("x".repeat(length).into()), sum); SPENT_MAX])
    };
    let (body, _) = encode(&most(PAYER_MAX), 2);
    assert!(body.len() <= Kind::Spent.body_max(), "{}", body.len());
    assert_eq!(decode(Kind::Spent, body), Ok(most(PAYER_MAX)));
    assert_eq!(decode(Kind::Spent, encode(&most(PAYER_MAX + 1), 2).0), Err(Nonsense::Malformed));
    let sum = |fields: &[u8]| [&[0x0a, fields.len() as u8][..], fields].concat();
    let too_many: Vec<u8> = sum(&[0x0a, 0]).repeat(SPENT_MAX + 1);
    let nobody_and_both = [sum(&[0x18, 1]), sum(&[0x0a, 0, 0x12, 0])];
    // More than an amount can be: 2^63.
    let negative = sum(&[0x0a, 0, 0x38, 128, 128, 128, 128, 128, 128, 128, 128, 128, 1]);
    for wrong in nobody_and_both.into_iter().chain([negative, too_many]) {
        assert_eq!(decode(Kind::Spent, wrong), Err(Nonsense::Malformed));
    }
}

fn policies() -> impl Strategy<Value = Message> {
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<bool>());
    (numbers, ".{0,40}", ".{0,40}", vec(any::<u8>(), 0..5000)).prop_map(
        |((generation, content, previous, confirmed), author, reason, bytes)| {
            let length = bytes.len() as u64;
            let snapshot = Snapshot {
                generation,
                content,
                previous,
                author,
                reason,
                bytes: length,
                confirmed,
            };
            Message::Snapshot(Generation { snapshot, content: Bytes::from(bytes) })
        },
    )
}

fn counts() -> impl Strategy<Value = Count> {
    any::<(u64, u64, [u64; 16])>().prop_map(|(good, failed, first_tokens)| Count {
        good,
        failed,
        first_tokens,
    })
}

fn summaries() -> impl Strategy<Value = Message> {
    let standings = prop_oneof![
        Just(Standing::Unknown),
        Just(Standing::Up),
        Just(Standing::Down),
        Just(Standing::Shut)
    ];
    let models = vec((any::<u16>().prop_map(ModelId), counts()), 0..4);
    let sites = vec((any::<u16>().prop_map(SiteId), standings, counts()), 0..4);
    let failing = (any::<u64>(), any::<u32>(), any::<u32>());
    let failing = failing.prop_map(|(key, failed, all)| Failing { key, failed, all });
    let short = (any::<u16>(), any::<u8>(), any::<u16>()).prop_map(|(site, tier, refused)| Short {
        site: SiteId(site),
        tier: TierId(tier),
        refused,
    });
    let failing = (any::<[u64; 12]>(), vec(failing, 0..4), vec(short, 0..4));
    (any::<u64>(), age(), counts(), models, sites, failing).prop_map(
        |(run, elapsed, api, models, sites, (gaps, failing, short))| {
            Message::Summary(Box::new(Summary {
                run,
                elapsed,
                api,
                models,
                sites,
                gaps,
                failing,
                short,
            }))
        },
    )
}

#[test]
fn the_longest_summary_fits_and_one_of_more_is_refused() {
    let most = Count { good: u64::MAX, failed: u64::MAX, first_tokens: [u64::MAX; 16] };
    let usual = Count { good: 1 << 32, failed: 1 << 32, first_tokens: [1 << 32; 16] };
    let of = |count: Count, sites: usize| Summary {
        api: count,
        models: (0..200).map(|at| (ModelId(at), count)).collect(),
        sites: (0..sites).map(|at| (SiteId(at as u16), Standing::Shut, count)).collect(),
        gaps: [u64::MAX; 12],
        short: vec![Short { site: SiteId(127), tier: TierId(255), refused: 1000 }; 500],
        failing: vec![Failing { key: u64::MAX, failed: u32::MAX, all: u32::MAX }; 500],
        ..Summary::default()
    };
    for count in [usual, most] {
        let (body, _) = encode(&Message::Summary(Box::new(of(count, 200))), 2);
        assert!(body.len() <= Kind::Summary.body_max(), "{}", body.len());
        let Ok(Message::Summary(read)) = decode(Kind::Summary, body) else { panic!("a summary") };
        assert_eq!((read.models.len(), read.sites.len()), (SUMMARY_MAX, SUMMARY_MAX));
        assert_eq!(read.failing.len(), FAILING_MAX);
    }
    // A count of the 17th class, and a standing that there is not.
    let count = |more: &[u8]| [&[0x2a, more.len() as u8][..], more].concat();
    let classes = [&[0x22, 17][..], &[1; 17]].concat();
    assert_eq!(decode(Kind::Summary, count(&classes)), Err(Nonsense::Malformed));
    assert_eq!(decode(Kind::Summary, count(&[0x28, 4])), Err(Nonsense::Malformed));
    let one: Vec<u8> = (0..129).flat_map(|_| [0x22, 0]).collect();
    assert_eq!(decode(Kind::Summary, one), Err(Nonsense::Malformed));
}

fn messages() -> impl Strategy<Value = Message> {
    prop_oneof![
        reports(),
        keys(),
        sums(),
        grants(),
        summaries(),
        digests(),
        order().prop_map(Message::Order),
        vec(order(), 0..64).prop_map(Message::Orders),
        any::<u64>().prop_map(Message::Fetch),
        quotas(),
        Just(Message::Poll),
        policies(),
    ]
}

proptest! {
    #[test]
    fn every_message_comes_back_as_it_went(message in messages()) {
        let (body, is_cut) = encode(&message, TIERS_MAX);
        prop_assert!(!is_cut && body.len() <= message.kind().body_max());
        let mut wire = BytesMut::new();
        Outgoing::default().message(&mut wire, message.kind(), 1, &body);
        let mut incoming = Incoming::default();
        let mut rest = &wire[..];
        let mut whole = None;
        while let Some((head, after)) = rest.split_first_chunk::<HEAD>() {
            let length = incoming.head(head).unwrap();
            whole = incoming.body(&after[..length]).unwrap();
            rest = &after[length..];
        }
        let Some(Whole::Message(kind, body)) = whole else { panic!("a message") };
        prop_assert_eq!(decode(kind, body).unwrap(), message);
    }

    #[test]
    fn any_bytes_end_a_connection_and_nothing_else(bytes in vec(any::<u8>(), 0..400)) {
        outside::frames(&bytes);
    }

    #[test]
    fn any_body_is_refused_or_read(body in vec(any::<u8>(), 0..300)) {
        for kind in Kind::ALL {
            let _ = decode(kind, body.clone());
        }
        let _ = decode_names(body);
    }
}

/// A connection that follows the protocol, as bytes.
fn conversation() -> Vec<u8> {
    let (mut wire, mut outgoing) = (BytesMut::new(), Outgoing::default());
    let hello = encode_hello(&Hello { least: 0, most: 1 });
    outgoing.message(&mut wire, Kind::Hello, 1, &hello);
    let mut book = book(&["reader", "peer"], "peer");
    book.sites = vec!["there".into(), "here".into()];
    outgoing.message(&mut wire, Kind::Names, 1, &encode_names(&book));
    let order = Order {
        id: OrderId { author: 1, seq: 2 },
        authority: 3,
        verb: Verb::Kill,
        site: Some(SiteId(1)),
        reason: "why".into(),
        left: Duration::from_secs(9),
    };
    let digest = Digest {
        verdicts: vec![(TargetId(1), Verdict::Down, Duration::from_secs(1))],
        heard: vec![1, 2],
        quarantined: vec![7],
        ..Digest::default()
    };
    let generation = Generation { content: Bytes::from(vec![1; 40_000]), ..Generation::default() };
    for message in [
        report(1, 3),
        grant(0),
        Message::Digest(digest),
        Message::Order(order.clone()),
        Message::Orders(vec![order; 3]),
        Message::Fetch(4),
        Message::QuotaReport(QuotaReport { key: 1, nonce: 2, demand: CostRate(3) }),
        Message::Poll,
        Message::Snapshot(generation),
    ] {
        let body = encode(&message, 2).0;
        outgoing.message(&mut wire, message.kind(), 1, &body);
    }
    wire.to_vec()
}

#[test]
fn a_conversation_with_bytes_changed_at_random_never_panics() {
    let good = conversation();
    outside::frames(&good);
    for seed in 0..3000 {
        let mut rng = Rng::new(seed);
        let mut bytes = good.clone();
        for _ in 0..=rng.below(4) {
            // Most of it is the policy's content, where a change means nothing.
            let at = rng.below(700.min(bytes.len() as u64)) as usize;
            match rng.below(3) {
                0 => bytes[at] = rng.bits() as u8,
                1 => bytes[at] ^= 1 << rng.below(8),
                _ => bytes.truncate(at.max(64)),
            }
        }
        outside::frames(&bytes);
    }
}

#[test]
fn the_bytes_of_a_frame_are_those_of_the_published_format() {
    let mut wire = BytesMut::new();
    let mut outgoing = Outgoing::default();
    outgoing.message(&mut wire, Kind::Beat, 1, &[]);
    let body = encode(&Message::Fetch(1), 2).0;
    outgoing.message(&mut wire, Kind::Fetch, 1, &body);
    let expected: [&[u8]; 3] = [
        &[0, 0, 0, 0, 0, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 9, 0, 1, 0, 21, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0x09, 1, 0, 0, 0, 0, 0, 0, 0],
    ];
    assert_eq!(wire.to_vec(), expected.concat());
}

#[test]
fn reports_and_grants_keep_the_size_that_the_protocol_gives_them() {
    // 64 B and 16 B for each tier, with rates up to 2^49 thousandths of a CU/s and any nonce.
    let rates: PerTier<CostRate> = [CostRate(1 << 48); TIERS_MAX];
    let elapsed = Duration::from_secs(100 * 365 * 86_400);
    let report = Message::Report(Report {
        target: TargetId(u16::MAX),
        nonce: u64::MAX,
        demand: rates,
        total: rates,
        in_flight: u32::MAX,
        elapsed,
    });
    let Message::Grant(small) = grant(0) else { panic!("a grant") };
    let grant = Message::Grant(Grant {
        target: TargetId(u16::MAX),
        nonce: u64::MAX,
        rate: rates,
        standby: rates[0],
        capacity: rates[0],
        ttft: Duration::from_secs(600),
        elapsed,
        slow: SLOW_MAX,
        ..small
    });
    for message in [report, grant] {
        for tiers in [1, 4, TIERS_MAX] {
            let size = HEAD + encode(&message, tiers).0.len();
            assert!(size <= 64 + 16 * tiers, "{size} bytes with {tiers} tiers: {message:?}");
        }
    }
}

#[test]
fn a_digest_that_would_be_too_long_loses_its_end_and_not_its_beginning() {
    let age = Duration::from_secs(3600);
    let verdicts = (0..5000).map(|at| (TargetId(at), Verdict::Down, age)).collect();
    let digest = Digest { verdicts, generation: 9, heard: vec![3; 60], ..Digest::default() };
    let (body, is_cut) = encode(&Message::Digest(digest), 2);
    assert!(is_cut && body.len() <= BODY_MAX);
    let Ok(Message::Digest(read)) = decode(Kind::Digest, body) else { panic!("a digest") };
    assert_eq!((read.generation, read.heard.len()), (9, 60));
    assert!(read.verdicts.len() > 500);
    assert_eq!(read.verdicts[0], (TargetId(0), Verdict::Down, age));
}

#[test]
fn fields_of_later_versions_are_ignored() {
    let mut body = encode(&report(1, 7), 2).0;
    // Field 100, a string of three bytes.
    body.extend([0xa2, 0x06, 3, b'n', b'e', b'w']);
    assert_eq!(decode(Kind::Report, body), Ok(report(1, 7)));
}

#[test]
fn values_out_of_their_bounds_are_refused() {
    let Message::Grant(good) = grant(0) else { panic!("a grant") };
    let [ramp, miss, slow] = [
        Grant { ramp: 101, ..good },
        Grant { miss: 101, ..good },
        Grant { slow: SLOW_MAX + 1, ..good },
    ];
    for grant in [ramp, miss, slow] {
        let body = encode(&Message::Grant(grant), 2).0;
        assert_eq!(decode(Kind::Grant, body), Err(Nonsense::Malformed));
    }
    let rates = vec![0x1a, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1];
    assert_eq!(decode(Kind::Report, rates), Err(Nonsense::Malformed), "nine tiers");
    let far = vec![0x08, 0x80, 0x80, 0x04];
    assert_eq!(decode(Kind::Report, far), Err(Nonsense::Malformed), "target 65536");
}

#[test]
fn a_reason_that_is_too_long_is_shortened_between_characters() {
    let order = Order {
        id: OrderId::default(),
        authority: 0,
        verb: Verb::Freeze,
        site: None,
        reason: "é".repeat(200),
        left: Duration::ZERO,
    };
    let body = encode(&Message::Order(order), 2).0;
    assert!(HEAD + body.len() <= 256);
    let Ok(Message::Order(read)) = decode(Kind::Order, body) else { panic!("an order") };
    assert_eq!(read.reason, "é".repeat(80));
}

#[test]
fn names_come_back_as_they_went_and_a_target_without_a_site_is_refused() {
    let book = book(&["a", "b"], "a");
    let read = decode_names(encode_names(&book)).unwrap();
    assert_eq!((&read.sites, &read.targets), (&book.sites, &book.targets));
    assert_eq!((&read.gateways, &read.tiers), (&book.gateways, &book.tiers));
    assert_eq!((&read.nodes, read.home), (&book.nodes, None));
    let mut wrong = book;
    wrong.targets[0].0 = SiteId(9);
    assert_eq!(decode_names(encode_names(&wrong)), Err(Nonsense::Malformed));
    assert_eq!(read.gateway(&node("b")), Some(GatewayId(1)));
}

#[test]
fn heads_are_read_as_they_were_written() {
    let head = Head { length: 513, version: 7, number: 25, more: true, count: u64::MAX };
    let mut wire = BytesMut::new();
    head.write(&mut wire);
    assert_eq!(Head::read(wire.first_chunk().unwrap()), head);
}
