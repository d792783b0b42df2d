//! Where a host name leads, and by which other names: what is behind one CDN or one load balancer
//! shows in its aliases.

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, TYPE};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// A name server answers in milliseconds, or after a recursion in some hundreds.
const PATIENCE: Duration = Duration::from_secs(2);
/// An answer with more names and addresses than this is not compared further.
const RECORDS_MAX: usize = 32;

/// Where a name leads.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Addresses, each once.
    pub addresses: Vec<IpAddr>,
    /// Names that it is an alias of, in order.
    pub aliases: Vec<String>,
}

/// Looks a host up, with `server` or the system's name server; without any, aliases stay unknown.
pub async fn look_up(host: &str, server: Option<SocketAddr>) -> Found {
    if let Ok(address) = host.parse() {
        return Found { addresses: vec![address], aliases: Vec::new() };
    }
    let mut found = match server.or_else(system) {
        Some(server) => timeout(PATIENCE, ask(server, host)).await.ok().flatten(),
        None => None,
    }
    .unwrap_or_default();
    // Hosts files and search lists are the system's own business.
    if found.addresses.is_empty() && server.is_none() {
        let all = timeout(PATIENCE, tokio::net::lookup_host((host, 443))).await;
        if let Ok(Ok(all)) = all {
            found.addresses = all.map(|each| each.ip()).take(RECORDS_MAX).collect();
        }
    }
    found.addresses.sort();
    found.addresses.dedup();
    found
}

/// The first name server of this machine.
fn system() -> Option<SocketAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").ok()?;
    let words = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let address = words.filter_map(|rest| rest.trim().parse::<IpAddr>().ok()).next()?;
    Some(SocketAddr::new(address, 53))
}

async fn ask(server: SocketAddr, host: &str) -> Option<Found> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await.ok()?;
    socket.connect(server).await.ok()?;
    let mut id = [0; 2];
    getrandom::fill(&mut id).ok()?;
    let id = u16::from_ne_bytes(id);
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(host).ok()?;
    packet.questions.push(Question::new(name, TYPE::A.into(), CLASS::IN.into(), false));
    socket.send(&packet.build_bytes_vec().ok()?).await.ok()?;
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await.ok()?;
        if let Some(found) = answer(&buffer[..length], id) {
            return Some(found);
        }
    }
}

/// What an answer holds; nothing if it is to another question.
fn answer(message: &[u8], id: u16) -> Option<Found> {
    let packet = Packet::parse(message).ok()?;
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) {
        return None;
    }
    let mut found = Found::default();
    for record in packet.answers.iter().take(RECORDS_MAX) {
        match &record.rdata {
            RData::A(a) => found.addresses.push(IpAddr::V4(Ipv4Addr::from(a.address))),
            RData::CNAME(alias) => found.aliases.push(alias.0.to_string().to_lowercase()),
            _ => {}
        }
    }
    Some(found)
}
