//! In which region an address lies, by a table of networks that the operator gives. The longest
//! network that holds an address counts.
//!
//! The networks are laid flat: ranges that do not overlap, in order, found by halving. From the
//! range follows how far an answer holds, which is told to resolvers (RFC 7871, 7.2.1).

use std::net::{IpAddr, Ipv6Addr};

/// A network and the region it lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its first address.
    pub address: IpAddr,
    /// Bits that all of its addresses share.
    pub bits: u8,
    /// Its region.
    pub region: u16,
}

impl Network {
    /// Reads `10.0.0.0/8` or `2001:db8::/32`; one address alone is a network of itself.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, region: u16) -> Result<Network, String> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let wrong = || format!("`{text}` is no network; write it like 203.0.113.0/24");
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = width(&address);
        let bits = match bits {
            None => most,
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(wrong)?,
        };
        let network = Network { address, bits, region };
        let (first, _) = network.range();
        if first != spread(address) {
            let first = gather(first, address.is_ipv4());
            return Err(format!("`{text}` has bits beyond its length; write {first}/{bits}"));
        }
        Ok(network)
    }

    /// Its first and last address as numbers.
    fn range(&self) -> (u128, u128) {
        let rest = u128::MAX.checked_shr(u32::from(self.bits)).unwrap_or(0);
        let rest = match self.address {
            // Addresses of IPv4 fill the upper end, so that one width of shift does for both.
            IpAddr::V4(_) => rest & !(u128::MAX >> 32),
            IpAddr::V6(_) => rest,
        };
        let first = spread(self.address) & !rest;
        (first, first | rest)
    }
}

/// An address as a number, its first bit the highest.
fn spread(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn gather(bits: u128, is_v4: bool) -> IpAddr {
    match is_v4 {
        true => IpAddr::V4(((bits >> 96) as u32).into()),
        false => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

fn width(address: &IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Where an address lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its region, if any network holds it.
    pub region: Option<u16>,
    /// The same is true of all addresses that share so many bits with it.
    pub scope: u8,
}

/// The table.
#[derive(Clone, Debug, Default)]
pub struct Table {
    v4: Flat,
    v6: Flat,
}

/// Where each range begins, and its region; it ends before the next begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Flat(Vec<(u128, Option<u16>)>);

impl Table {
    /// The table of `networks`. Of two alike the first counts.
    pub fn new(networks: &[Network]) -> Table {
        let of = |is_v4: bool| {
            let mut ours: Vec<&Network> =
                networks.iter().filter(|one| one.address.is_ipv4() == is_v4).collect();
            // Stable, so that the first of two alike stays before the second.
            ours.sort_by_key(|one| (one.range().0, one.bits));
            ours.dedup_by_key(|one| (one.range().0, one.bits));
            let last = if is_v4 { !(u128::MAX >> 32) } else { u128::MAX };
            Flat::new(&ours, last)
        };
        Table { v4: of(true), v6: of(false) }
    }

    /// Whether no network is in it.
    pub fn is_empty(&self) -> bool {
        self.v4.0.is_empty() && self.v6.0.is_empty()
    }

    /// Where `address` lies.
    pub fn find(&self, address: IpAddr) -> Place {
        match address {
            IpAddr::V4(_) => self.v4.find(spread(address), 32),
            IpAddr::V6(_) => self.v6.find(spread(address), 128),
        }
    }
}

impl Flat {
    /// Lays `networks` flat, which come in the order of their first address, the wider first.
    fn new(networks: &[&Network], last: u128) -> Flat {
        let mut flat = Flat::default();
        // The networks that hold the present place, the narrowest last: where each ends.
        let mut open: Vec<(u128, u16)> = Vec::new();
        for network in networks {
            let (first, end) = network.range();
            flat.close(&mut open, first, last);
            flat.begin(first, Some(network.region));
            open.push((end, network.region));
        }
        flat.close(&mut open, u128::MAX, last);
        if !flat.0.is_empty() && flat.0[0].0 != 0 {
            flat.0.insert(0, (0, None));
        }
        flat
    }

    /// Ends the networks that end before `place`.
    fn close(&mut self, open: &mut Vec<(u128, u16)>, place: u128, last: u128) {
        while let Some((end, _)) = open.last().copied().filter(|(end, _)| *end < place) {
            open.pop();
            if end < last {
                // IPv4 leaves the lower bits alone, so the next address is far above.
                let step = if last == u128::MAX { 1 } else { 1 << 96 };
                self.begin(end + step, open.last().map(|(_, region)| *region));
            }
        }
    }

    fn begin(&mut self, at: u128, region: Option<u16>) {
        if let Some(here) = self.0.last_mut().filter(|(start, _)| *start == at) {
            here.1 = region;
        } else {
            self.0.push((at, region));
        }
        // Neighbours of one region are one range, so that answers hold as far as they can.
        if let [.., (_, before), (_, here)] = self.0[..]
            && before == here
        {
            self.0.pop();
        }
    }

    fn find(&self, address: u128, width: u8) -> Place {
        let next = self.0.partition_point(|(start, _)| *start <= address);
        let Some((start, region)) = next.checked_sub(1).map(|at| self.0[at]) else {
            return Place::default();
        };
        // The bits it must share so that neither the range before nor the one behind is touched.
        let apart = |other: u128| (other ^ address).leading_zeros() as u8 + 1;
        let before = if start == 0 { 0 } else { apart(start - 1) };
        let behind = self.0.get(next).map_or(0, |(start, _)| apart(*start));
        Place { region, scope: before.max(behind).min(width) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(networks: &[(&str, u16)]) -> Table {
        let read = |(text, region): &(&str, u16)| Network::parse(text, *region).expect(text);
        Table::new(&networks.iter().map(read).collect::<Vec<_>>())
    }

    fn find(table: &Table, address: &str) -> (Option<u16>, u8) {
        let place = table.find(address.parse().expect("an address"));
        (place.region, place.scope)
    }

    #[test]
    fn the_longest_network_counts_and_the_scope_says_how_far_it_holds() {
        let table = table(&[
            ("10.0.0.0/8", 0),
            ("10.1.0.0/16", 1),
            ("10.1.2.3", 0),
            ("2001:db8::/32", 2),
            ("0.0.0.0/1", 3),
        ]);
        assert_eq!(find(&table, "10.200.0.1"), (Some(0), 9));
        assert_eq!(find(&table, "10.0.0.1"), (Some(0), 16), "10.1 lies next to it");
        assert_eq!(find(&table, "10.1.2.4"), (Some(1), 30));
        assert_eq!(find(&table, "10.1.2.3"), (Some(0), 32));
        assert_eq!(find(&table, "100.0.0.1"), (Some(3), 2));
        assert_eq!(find(&table, "200.0.0.1"), (None, 1));
        assert_eq!(find(&table, "2001:db8:1::1"), (Some(2), 32));
        assert_eq!(find(&table, "::1"), (None, 3));
        assert_eq!(find(&Table::default(), "10.0.0.1"), (None, 0));
    }

    #[test]
    fn neighbours_of_one_region_hold_together() {
        let table = table(&[("10.0.0.0/9", 0), ("10.128.0.0/9", 0)]);
        assert_eq!(find(&table, "10.200.0.1"), (Some(0), 8));
    }

    #[test]
    fn the_whole_space_is_one_network_too() {
        let table = table(&[("0.0.0.0/0", 4), ("::/0", 5)]);
        assert_eq!(find(&table, "255.255.255.255"), (Some(4), 0));
        assert_eq!(find(&table, "ffff::1"), (Some(5), 0));
    }

    #[test]
    fn what_is_no_network_is_told_apart() {
        for text in ["10.0.0.0/33", "10.0.0/8", "x", "10.0.0.0/", "::/129", "10.0.0.0/-1"] {
            assert!(Network::parse(text, 0).is_err(), "{text}");
        }
        let said = Network::parse("10.0.0.1/8", 0).expect_err("bits beyond");
        assert_eq!(said, "`10.0.0.1/8` has bits beyond its length; write 10.0.0.0/8");
    }

    proptest! {
        #[test]
        fn it_finds_what_a_look_at_every_network_finds(
            networks in prop::collection::vec((any::<u32>(), 0..=32u8, 0..4u16), 0..40),
            asked in prop::collection::vec(any::<u32>(), 50),
        ) {
            let networks: Vec<Network> = networks.into_iter().map(|(address, bits, region)| {
                // Close together, so that they hold one another.
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                let address = IpAddr::V4((address & 0x0fff_00ff & mask).into());
                Network { address, bits, region }
            }).collect();
            let table = Table::new(&networks);
            let slow = |address: u32| {
                let mut best: Option<&Network> = None;
                for one in &networks {
                    let (first, last) = one.range();
                    let at = u128::from(address) << 96;
                    let is_longer = best.is_none_or(|best| one.bits > best.bits);
                    if first <= at && at <= last && is_longer {
                        best = Some(one);
                    }
                }
                best.map(|one| one.region)
            };
            let edges = networks.iter().flat_map(|one| {
                let (first, last) = one.range();
                [first, last].map(|at| (at >> 96) as u32)
            });
            let near = edges.flat_map(|at| [at.wrapping_sub(1), at, at.wrapping_add(1)]);
            for address in asked.iter().map(|at| at & 0x0fff_00ff).chain(near) {
                let place = table.find(IpAddr::V4(address.into()));
                prop_assert_eq!(place.region, slow(address), "{:x}", address);
                // The answer holds for all that share its scope: the ends and the middle.
                let rest = u32::MAX.checked_shr(u32::from(place.scope)).unwrap_or(0);
                for other in [address & !rest, address | rest, address ^ (rest / 3)] {
                    prop_assert_eq!(slow(other), place.region);
                }
            }
        }
    }
}
