//! The names that are answered with gateways: whether they are names, whether somebody could find
//! them, whether there is anything to answer with.

use super::Resolver;
use crate::config_file::problem::hint;
use mainstay_server::gateway::dns::locate::{Network, Table};
use mainstay_server::gateway::dns::name::Name;
use mainstay_server::gateway::dns::{Settings, Target};
use mainstay_server::setup::Node;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// In a node's directory: the last set that names were answered with.
const KEPT: &str = "dns-answers";
/// How long an answer may be kept: a client whose gateway died comes back within this.
const TTL: Duration = Duration::from_secs(20);
/// Longest that anything may be kept: beyond a day a move is no move any more.
const TTL_MAX: Duration = Duration::from_secs(86_400);
/// Addresses of one family that a gateway may have: an answer names two gateways, and must stay
/// small enough to be no lever for attacks on others.
const ADDRESSES_MAX: usize = 2;
/// Names, tenants and servers that there may be, so that a mistake in a template shows.
const NAMES_MAX: usize = 1000;
/// Servers of a zone: the root has so many.
const SERVERS_MAX: usize = 13;

impl Resolver<'_> {
    /// Names are answered with the gateways of the fleet: targets stand in their order, and the set
    /// is kept in the node's directory unless a file is named.
    pub(super) fn dns_of_nodes(
        &mut self,
        dns: Option<Settings>,
        node: Option<&Node>,
    ) -> Option<Settings> {
        let mut dns = dns?;
        let Some(node) = node.filter(|_| !self.file.gateway.is_empty()) else { return Some(dns) };
        if dns.kept.is_none() {
            dns.kept = node.data_dir.as_ref().map(|directory| directory.join(KEPT));
        }
        let names: Vec<String> = node.gateways.iter().map(ToString::to_string).collect();
        match dns.for_gateways(&names) {
            Ok(dns) => Some(dns),
            Err(at) => {
                let what = format!(
                    "is not among the gateways ({}); add a [[gateway]] of this name, or mend it",
                    names.join(", ")
                );
                self.wrong(&format!("dns.target.{at}.gateway"), what);
                None
            }
        }
    }

    /// The settings, if anybody listens for questions on `listen`.
    pub(super) fn dns(&mut self, listen: &[SocketAddr]) -> Option<Settings> {
        let file = self.file.dns.clone();
        let is_there = !file.names.is_empty() || !file.target.is_empty() || !file.ns.is_empty();
        if listen.is_empty() {
            if is_there {
                let what = "nobody listens for questions; set listen.dns, e.g. 203.0.113.5:53";
                self.warn("dns", what);
            }
            return None;
        }
        if file.names.is_empty() {
            let what = "there is no name to answer; add [dns] names = [\"api.example.com\"], or \
                        take listen.dns away";
            self.wrong("listen.dns", what);
            return None;
        }
        let wrong_before = self.problems.len();
        let names = self.dns_names(&file.names);
        let tenants = self.tenants(&file.tenants, &names);
        let hosts = self.hosts(&names);
        let servers = self.servers(&file.ns, &names, &hosts);
        let contact = self.contact(file.contact.as_deref(), &names);
        let ttl = self.ttl(file.ttl.map_or(TTL, |ttl| ttl.0));
        let table = self.regions();
        let targets = self.dns_targets();
        let kept = file.kept_file.as_deref().map(|path| self.path(path));
        if self.problems.len() > wrong_before {
            return None;
        }
        let regions = file.region.len() as u16;
        let contact = contact?;
        Some(Settings {
            names,
            tenants,
            servers,
            contact,
            ttl,
            targets,
            hosts,
            table,
            regions,
            kept,
        })
    }

    /// `texts` as names, each told of that is none or stands there twice.
    fn names(&mut self, key: &str, texts: &[String]) -> Vec<Name> {
        let mut names: Vec<Name> = Vec::new();
        if texts.len() > NAMES_MAX {
            self.wrong(key, format!("{} are too many; at most {NAMES_MAX}", texts.len()));
        }
        for (at, text) in texts.iter().enumerate().take(NAMES_MAX) {
            let key = format!("{key}.{at}");
            match Name::parse(text) {
                Err(why) => self.wrong(&key, format!("`{text}` is no name: {why}; mend it")),
                Ok(name) if names.contains(&name) => {
                    self.wrong(&key, format!("`{text}` stands there twice; take one away"));
                }
                Ok(name) => names.push(name),
            }
        }
        names
    }

    fn dns_names(&mut self, texts: &[String]) -> Vec<Name> {
        let names = self.names("dns.names", texts);
        for name in &names {
            let above = names.iter().find(|other| *other != name && name.is_under(other));
            if let Some(above) = above {
                let what = format!(
                    "{name} lies below {above}, and each name is a zone of its own; take one \
                     away, or name tenants in dns.tenants"
                );
                self.wrong("dns.names", what);
            }
        }
        names
    }

    fn tenants(&mut self, tenants: &[String], names: &[Name]) -> Vec<String> {
        if tenants.len() > NAMES_MAX {
            let what = format!("{} are too many; at most {NAMES_MAX}", tenants.len());
            self.wrong("dns.tenants", what);
        }
        let mut seen = BTreeSet::new();
        for (at, tenant) in tenants.iter().enumerate().take(NAMES_MAX) {
            let key = format!("dns.tenants.{at}");
            if let Some(why) = names.iter().find_map(|name| name.below(tenant).err()) {
                self.wrong(&key, format!("`{tenant}` is no label of a name: {why}; mend it"));
            } else if !seen.insert(tenant.to_ascii_lowercase()) {
                self.wrong(&key, format!("`{tenant}` stands there twice; take one away"));
            }
        }
        tenants.to_vec()
    }

    fn hosts(&mut self, names: &[Name]) -> Vec<(Name, Vec<IpAddr>)> {
        let mut hosts: Vec<(Name, Vec<IpAddr>)> = Vec::new();
        for (at, host) in self.file.dns.host.clone().into_iter().enumerate() {
            let key = format!("dns.host.{at}");
            let text = host.name.unwrap_or_default();
            let addresses = self.addresses(&key, &host.addresses);
            let name = match Name::parse(&text) {
                Ok(name) => name,
                Err(why) => {
                    let what = format!("`{text}` is no name: {why}; mend it");
                    self.wrong(&format!("{key}.name"), what);
                    continue;
                }
            };
            let zone = names.iter().any(|zone| name.is_under(zone) && name != *zone);
            if !zone {
                let what = format!("{name} lies below none of dns.names; nobody would ask us");
                self.wrong(&format!("{key}.name"), what);
            } else if hosts.iter().any(|(other, _)| *other == name) {
                self.wrong(&format!("{key}.name"), format!("{name} is there twice; take one away"));
            } else {
                hosts.push((name, addresses));
            }
        }
        hosts
    }

    fn servers(
        &mut self,
        texts: &[String],
        names: &[Name],
        hosts: &[(Name, Vec<IpAddr>)],
    ) -> Vec<Name> {
        let servers = self.names("dns.ns", texts);
        match servers.len() {
            0 if texts.is_empty() => {
                let what = "no server is named; add ns = [\"ns1.example.com\", …] as the parent \
                            zone has it";
                self.wrong("dns.names", what);
            }
            1 => self.warn("dns.ns", "with one server the names are lost with it; name two"),
            count if count > SERVERS_MAX => {
                self.wrong("dns.ns", format!("{count} are too many; at most {SERVERS_MAX}"));
            }
            _ => {}
        }
        for server in &servers {
            let zone = names.iter().find(|zone| server.is_under(zone));
            let is_known = hosts.iter().any(|(name, _)| name == server);
            if let Some(zone) = zone.filter(|_| !is_known) {
                let what = format!(
                    "{server} lies below {zone}, so only we can tell its address; add a \
                     [[dns.host]] of that name, or use a name elsewhere"
                );
                self.wrong("dns.ns", what);
            }
        }
        servers
    }

    fn contact(&mut self, text: Option<&str>, names: &[Name]) -> Option<Name> {
        let Some(text) = text else {
            return names.first().and_then(|name| name.below("hostmaster").ok());
        };
        match Name::parse_mailbox(text) {
            Ok(name) => Some(name),
            Err(why) => {
                self.wrong("dns.contact", format!("`{text}` is no mailbox: {why}; mend it"));
                None
            }
        }
    }

    fn ttl(&mut self, ttl: Duration) -> u32 {
        let is_whole = ttl.subsec_nanos() == 0 && !ttl.is_zero();
        if !is_whole || ttl > TTL_MAX {
            self.wrong("dns.ttl", "must be whole seconds from \"1s\" to \"24h\"; 20s is usual");
        }
        ttl.as_secs() as u32
    }

    /// The table of all regions' networks.
    fn regions(&mut self) -> Table {
        let mut networks: Vec<Network> = Vec::new();
        let regions = self.file.dns.region.clone();
        for (at, region) in regions.iter().enumerate() {
            let key = format!("dns.region.{at}");
            let name = region.name.clone().unwrap_or_default();
            if name.is_empty() {
                self.wrong(&key, "it has no name; add name = \"…\"");
            } else if regions[..at].iter().any(|other| other.name == region.name) {
                self.wrong(&key, format!("`{name}` is there twice; put its networks together"));
            }
            let mut lines: Vec<(String, String)> = Vec::new();
            let own = region.networks.iter().enumerate();
            lines.extend(own.map(|(n, text)| (format!("{key}.networks.{n}"), text.clone())));
            lines.extend(self.networks_file(&key, region.networks_file.as_deref()));
            if lines.is_empty() && region.networks_file.is_none() {
                self.wrong(&key, "it has no networks; add networks = [\"203.0.113.0/24\", …]");
            }
            for (key, text) in lines {
                let (place, text) = text.split_once('\0').unwrap_or(("", &text));
                match Network::parse(text.trim(), at as u16) {
                    Ok(network) => networks.push(network),
                    Err(why) => self.wrong(&key, format!("{place}{why}")),
                }
            }
        }
        self.one_region_each(&networks);
        Table::new(&networks)
    }

    /// The lines of a file of networks, each behind its place.
    fn networks_file(&mut self, key: &str, text: Option<&str>) -> Vec<(String, String)> {
        let Some(text) = text else { return Vec::new() };
        let key = format!("{key}.networks_file");
        let path = self.readable(&key, text);
        let whole = std::fs::read_to_string(&path).unwrap_or_default();
        let lines = whole.lines().enumerate().map(|(at, line)| {
            let network = line.split('#').next().unwrap_or_default().trim();
            (at + 1, network.to_owned())
        });
        let lines = lines.filter(|(_, network)| !network.is_empty());
        let placed = |(at, network)| format!("{}:{at}: \0{network}", path.display());
        lines.map(|line| (key.clone(), placed(line))).collect()
    }

    /// The same network cannot lie in two regions.
    fn one_region_each(&mut self, networks: &[Network]) {
        let mut sorted: Vec<&Network> = networks.iter().collect();
        sorted.sort_by_key(|one| (one.address, one.bits, one.region));
        for pair in sorted.windows(2) {
            let [one, other] = pair else { continue };
            let is_same = one.address == other.address && one.bits == other.bits;
            if is_same && one.region != other.region {
                let what = format!(
                    "{}/{} lies in another region too; take it out of one",
                    one.address, one.bits
                );
                self.wrong(&format!("dns.region.{}", other.region), what);
            }
        }
    }

    fn dns_targets(&mut self) -> Vec<Target> {
        let file = self.file.dns.target.clone();
        if file.is_empty() {
            let what = "there is no gateway to answer with; add [[dns.target]] with gateway and \
                        addresses";
            self.wrong("dns.names", what);
        }
        if let [_] = &file[..] {
            let what = "with one gateway no answer has a second address; add the others";
            self.warn("dns.target", what);
        }
        let mut targets: Vec<Target> = Vec::new();
        for (at, target) in file.into_iter().enumerate() {
            let key = format!("dns.target.{at}");
            let gateway = target.gateway.unwrap_or_default();
            if gateway.is_empty() {
                self.wrong(&key, "it has no name; add gateway = \"…\"");
            } else if targets.iter().any(|other| other.gateway == gateway) {
                self.wrong(&key, format!("`{gateway}` is there twice; put its addresses together"));
            }
            let addresses = self.addresses(&key, &target.addresses);
            for address in &addresses {
                let other = targets.iter().find(|other| other.addresses.contains(address));
                if let Some(other) = other {
                    let what = format!("{address} is `{}`'s too; one gateway each", other.gateway);
                    self.wrong(&format!("{key}.addresses"), what);
                }
            }
            let region = target.region.and_then(|region| self.region_of(&key, &region));
            targets.push(Target { gateway, addresses, region });
        }
        targets
    }

    fn region_of(&mut self, key: &str, region: &str) -> Option<u16> {
        let names: Vec<String> =
            self.file.dns.region.iter().map(|one| one.name.clone().unwrap_or_default()).collect();
        let found = names.iter().position(|name| name == region);
        if found.is_none() {
            let hint = hint(region, names.iter().map(String::as_str));
            self.wrong(&format!("{key}.region"), format!("no [[dns.region]] `{region}`; {hint}"));
        }
        found.map(|at| at as u16)
    }

    /// Addresses that clients can be sent to.
    fn addresses(&mut self, key: &str, texts: &[String]) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = Vec::new();
        let key_all = format!("{key}.addresses");
        if texts.is_empty() {
            self.wrong(key, "it has no addresses; add addresses = [\"203.0.113.5\"]");
        }
        for (at, text) in texts.iter().enumerate() {
            let key = format!("{key_all}.{at}");
            match text.parse::<IpAddr>() {
                Err(_) => {
                    let what = format!("`{text}` is no address; write it like 203.0.113.5");
                    self.wrong(&key, what);
                }
                Ok(address) if address.is_unspecified() || address.is_multicast() => {
                    self.wrong(&key, format!("no client reaches anybody at {address}; mend it"));
                }
                Ok(address) if addresses.contains(&address) => {
                    self.wrong(&key, format!("{address} stands there twice; take one away"));
                }
                Ok(address) => addresses.push(address),
            }
        }
        let of_v4 = addresses.iter().filter(|address| address.is_ipv4()).count();
        if of_v4.max(addresses.len() - of_v4) > ADDRESSES_MAX {
            let what = format!("at most {ADDRESSES_MAX} of IPv4 and {ADDRESSES_MAX} of IPv6");
            self.wrong(&key_all, format!("{what}, so that answers stay small; take some away"));
        }
        addresses
    }
}
