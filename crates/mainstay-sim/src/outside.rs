//! What comes from outside, as bytes: what fuzzers call. It may be refused, and nothing else.

use mainstay_core::config::{PolicyConfig, Service};
use mainstay_core::cost::CostRate;
use mainstay_core::message::{Order, OrderId, Verb};
use mainstay_core::names::{GatewayId, SiteId};
use mainstay_core::orders::{LIFE_MAX, ORDERS_MAX};
use mainstay_core::policy::disk::Disk;
use mainstay_core::policy::{Action, Event, Policy, Saved, Snapshot};
use mainstay_core::time::{Duration, Time};

/// Sites of the policy that orders are given to: one order may name a site beyond them.
const SITES: u8 = 4;
/// Events of one run: a fuzzer should not wait.
const EVENTS: usize = 256;
/// The longest time that an order in force may have: an `End` outlives what it ends by a part.
const LIFE_LONGEST: Duration = Duration::from_secs(LIFE_MAX.as_secs() * 2);

/// Bytes, eaten one after the other; zeros when they are at their end.
struct Eaten<'a>(&'a [u8]);

impl Eaten<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number of any size: small ones and the largest are all common.
    fn number(&mut self) -> u64 {
        let shift = self.byte() % 65;
        let bytes = [0; 8].map(|_: u8| self.byte());
        u64::from_le_bytes(bytes).checked_shr(u32::from(shift)).unwrap_or(u64::MAX)
    }

    fn id(&mut self) -> OrderId {
        // Few of them, so that they meet.
        OrderId { author: u64::from(self.byte() % 4), seq: u32::from(self.byte() % 64) }
    }

    fn order(&mut self) -> Order {
        let id = self.id();
        let verb = match self.byte() % 5 {
            0 => Verb::Freeze,
            1 => Verb::Cap(self.byte()),
            2 => Verb::Drain,
            3 => Verb::Kill,
            _ => Verb::End(self.id()),
        };
        let site = match self.byte() {
            0 => None,
            named => Some(SiteId(u16::from(named % (SITES + 1)))),
        };
        let reason = if self.byte() == 0 { String::new() } else { String::from("because") };
        let left = Duration::from_micros(self.number());
        Order { id, authority: self.byte(), verb, site, reason, left }
    }
}

/// Gives whatever orders to a policy machine, by hand, by peers and from its disk.
pub fn orders(bytes: &[u8]) {
    let mut eaten = Eaten(bytes);
    let sites = vec![CostRate::whole(100); SITES.into()];
    let service = Service { sites, ..Service::default() };
    let config = PolicyConfig { service, ..PolicyConfig::default() };
    let mut disk = Disk::new(Snapshot { generation: 1, content: 1, ..Snapshot::default() });
    disk.orders = (0..eaten.byte() % 8).map(|_| eaten.order()).collect();
    let saved = Saved { disk, ago: Duration::from_micros(eaten.number()) };
    let (mut now, mut actions) = (Time::from_micros(1_000_000), Vec::new());
    let mut policy = Policy::boot(config, saved, now, 1, &mut actions);
    for _ in 0..EVENTS {
        if eaten.0.is_empty() {
            break;
        }
        let event = match eaten.byte() % 5 {
            0 => Event::Command { order: eaten.order(), confirmed: eaten.byte() % 2 == 0 },
            1 => Event::Order(eaten.order()),
            2 => Event::Orders((0..eaten.byte() % 80).map(|_| eaten.order()).collect()),
            3 => {
                now = now + Duration::from_micros(eaten.number() >> 20);
                Event::Tick
            }
            _ => {
                let from = GatewayId(u16::from(eaten.byte() % 8));
                let orders = eaten.number();
                let digest = mainstay_core::message::Digest { from, orders, ..Default::default() };
                Event::Digest(digest)
            }
        };
        actions.clear();
        policy.handle(now, event, &mut actions);
        for action in &actions {
            let Action::InForce(orders) = action else { continue };
            assert!(orders.len() <= ORDERS_MAX, "{} orders in force", orders.len());
            for order in orders {
                let is_frozen = order.verb == Verb::Freeze;
                assert!(order.site.is_some() || is_frozen, "{order:?} is everywhere");
                assert!(order.left <= LIFE_LONGEST, "{order:?} lives too long");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload;
    use mainstay_core::rng::Rng;

    #[test]
    fn no_orders_make_the_policy_machine_panic_or_follow_what_names_nobody() {
        for seed in 0..2000 {
            let mut rng = Rng::new(seed);
            let length = rng.below(3000);
            let bytes: Vec<u8> = (0..length).map(|_| rng.bits() as u8).collect();
            orders(&bytes);
        }
        orders(&[0xff; 4096]);
        orders(&[0; 4096]);
    }

    #[test]
    fn no_bytes_make_the_reader_of_traces_panic() {
        let line =
            "{\"timestamp\":0,\"input_length\":600,\"output_length\":3,\"hash_ids\":[0,1]}\n";
        let azure = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.97,5,1\n";
        let lengths = "num_prefill_tokens,num_decode_tokens\n5,1\n";
        let pieces =
            ["-", "9e9", "99999999999999999999", "\n", ",", "nan", "\u{0}", "é", "[", "2024-99"];
        for whole in [line.repeat(3), azure.to_string(), lengths.to_string()] {
            workload::any(whole.as_bytes());
            for seed in 0..1000 {
                let (mut rng, mut bytes) = (Rng::new(seed), whole.clone().into_bytes());
                for _ in 0..=rng.below(4) {
                    let at = rng.below(bytes.len() as u64 + 1) as usize;
                    match rng.below(3) {
                        0 => bytes.truncate(at),
                        1 => {
                            let piece = pieces[rng.below(pieces.len() as u64) as usize];
                            drop(bytes.splice(at..at, piece.bytes()));
                        }
                        _ => bytes.iter_mut().skip(at).take(1).for_each(|b| *b = rng.bits() as u8),
                    }
                }
                workload::any(&bytes);
            }
        }
    }
}
