//! Knows an origin's addresses, and goes on knowing them when DNS fails (F41).
//!
//! Look-ups run in the background only; a request waits for one only while no address has ever
//! been known. The last good answer serves for a day. Literal addresses are never looked up.

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

/// How long a failed look-up stands before a request makes the background ask again.
const FAILURE_STANDS: Duration = Duration::from_secs(5);
/// How long an origin nobody calls keeps its addresses fresh.
const IN_USE: Duration = Duration::from_secs(60);
/// How long the last good answer serves.
const GOOD_FOR: Duration = Duration::from_secs(24 * 3600);
/// A UDP packet gets lost now and then: asked twice, each time with patience for a slow server.
const ASK_TIMES: u32 = 2;
const ASK_WAIT: Duration = Duration::from_millis(800);

pub(super) struct Names {
    host: String,
    port: u16,
    source: Source,
    known: watch::Sender<Known>,
    used: Mutex<Option<Instant>>,
    wanted: Notify,
}

enum Source {
    Literal,
    System,
    Server(SocketAddr),
}

#[derive(Default)]
struct Known {
    addresses: Vec<IpAddr>,
    good_at: Option<Instant>,
    failed: Option<(Instant, String)>,
}

impl Known {
    fn is_good(&self) -> bool {
        !self.addresses.is_empty() && self.good_at.is_some_and(|at| at.elapsed() < GOOD_FOR)
    }

    fn failed_just_now(&self) -> bool {
        self.failed.as_ref().is_some_and(|(at, _)| at.elapsed() < FAILURE_STANDS)
    }
}

impl Names {
    pub(super) fn new(host: &str, port: u16, server: Option<SocketAddr>) -> Names {
        let mut known = Known::default();
        let source = match (host.parse::<IpAddr>(), server) {
            (Ok(address), _) => {
                known.addresses = vec![address];
                Source::Literal
            }
            (Err(_), Some(server)) => Source::Server(server),
            (Err(_), None) => Source::System,
        };
        let (known, _) = watch::channel(known);
        let host = host.to_owned();
        Names { host, port, source, known, used: Mutex::new(None), wanted: Notify::new() }
    }

    /// Notes that somebody calls; wakes the background if what is known is old.
    pub(super) fn touch(&self) {
        let mut used = self.used.lock().expect("no panic under this lock");
        let before = used.replace(Instant::now());
        if before.is_none_or(|at| at.elapsed() >= FAILURE_STANDS) {
            self.wanted.notify_one();
        }
    }

    /// Sleeps until the next look-up is due.
    pub(super) async fn pause(&self, every: Duration) {
        let _ = timeout(every, self.wanted.notified()).await;
    }

    /// Where to connect, the best first. Waits only while no address was ever known.
    pub(super) async fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        if let Source::Literal = self.source {
            return Ok(self.socket_addresses(&self.known.borrow().addresses));
        }
        let mut known = self.known.subscribe();
        let known = known
            .wait_for(|k| k.is_good() || k.failed_just_now())
            .await
            .map_err(|_| "the look-up ended".to_owned())?;
        match (&known.failed, known.is_good()) {
            (_, true) => Ok(self.socket_addresses(&known.addresses)),
            (Some((_, why)), false) => Err(why.clone()),
            (None, false) => Err("no address".to_owned()),
        }
    }

    fn socket_addresses(&self, addresses: &[IpAddr]) -> Vec<SocketAddr> {
        addresses.iter().map(|a| SocketAddr::new(*a, self.port)).collect()
    }

    /// `address` answered: it is tried first from now on.
    pub(super) fn prefer(&self, address: IpAddr) {
        self.known.send_if_modified(|known| {
            if let Some(at) = known.addresses.iter().position(|a| *a == address) {
                known.addresses[..=at].rotate_right(1);
            }
            false
        });
    }

    /// Looks the name up, if anybody uses it.
    pub(super) async fn refresh(&self) {
        let used = *self.used.lock().expect("no panic under this lock");
        if used.is_none_or(|at| at.elapsed() > IN_USE) {
            return;
        }
        let answer = match self.source {
            Source::Literal => return,
            Source::System => self.ask_system().await,
            Source::Server(server) => self.ask(server).await,
        };
        self.known.send_modify(|known| match answer {
            Ok(addresses) => known.learn(addresses),
            Err(why) => known.failed = Some((Instant::now(), why)),
        });
    }

    async fn ask_system(&self) -> Result<Vec<IpAddr>, String> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port))
            .await
            .map_err(|e| format!("no address for {}: {e}", self.host))?;
        non_empty(&self.host, found.map(|a| a.ip()).collect())
    }

    async fn ask(&self, server: SocketAddr) -> Result<Vec<IpAddr>, String> {
        let (four, six) =
            tokio::join!(ask(server, &self.host, TYPE::A), ask(server, &self.host, TYPE::AAAA));
        match (four, six) {
            (Err(why), Err(_)) => Err(format!("no address for {}: {why}", self.host)),
            (four, six) => {
                let mut all = four.unwrap_or_default();
                all.extend(six.unwrap_or_default());
                non_empty(&self.host, all)
            }
        }
    }
}

impl Known {
    /// Takes a new answer. The address that last worked stays first if it is still named.
    fn learn(&mut self, mut addresses: Vec<IpAddr>) {
        addresses.dedup();
        if let Some(first) = self.addresses.first()
            && let Some(at) = addresses.iter().position(|a| a == first)
        {
            addresses[..=at].rotate_right(1);
        }
        self.addresses = addresses;
        self.good_at = Some(Instant::now());
        self.failed = None;
    }
}

fn non_empty(host: &str, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, String> {
    match addresses.is_empty() {
        true => Err(format!("no address for {host}: empty answer")),
        false => Ok(addresses),
    }
}

/// The addresses of `host` now, by `server` or the system.
pub async fn lookup(
    host: &str,
    port: u16,
    server: Option<SocketAddr>,
) -> Result<Vec<IpAddr>, String> {
    let names = Names::new(host, port, server);
    match names.source {
        Source::Literal => Ok(names.known.borrow().addresses.clone()),
        Source::System => names.ask_system().await,
        Source::Server(server) => names.ask(server).await,
    }
}

/// One question to `server`, again if nothing comes.
async fn ask(server: SocketAddr, host: &str, kind: TYPE) -> Result<Vec<IpAddr>, String> {
    let mut last = "no reply".to_owned();
    for _ in 0..ASK_TIMES {
        match timeout(ASK_WAIT, ask_once(server, host, kind)).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = "no reply".to_owned(),
        }
    }
    Err(last)
}

/// One exchange over UDP. A truncated answer still holds addresses, so TCP is left out.
async fn ask_once(
    server: SocketAddr,
    host: &str,
    kind: TYPE,
) -> io::Result<Result<Vec<IpAddr>, String>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let id = random_id();
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&question(id, host, kind).map_err(io::Error::other)?).await?;
    let mut buffer = [0u8; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(answer) = answer(&buffer[..length], id, kind) {
            return Ok(answer);
        }
    }
}

fn question(id: u16, host: &str, kind: TYPE) -> Result<Vec<u8>, simple_dns::SimpleDnsError> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(host.trim_end_matches('.'))?;
    packet.questions.push(Question::new(name, kind.into(), CLASS::IN.into(), false));
    packet.build_bytes_vec()
}

/// The addresses in `message`; `None` if it is no answer to our question.
fn answer(message: &[u8], id: u16, kind: TYPE) -> Option<Result<Vec<IpAddr>, String>> {
    let packet = Packet::parse(message).ok()?;
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) {
        return None;
    }
    if packet.rcode() != RCODE::NoError {
        return Some(Err(format!("{:?}", packet.rcode())));
    }
    let addresses = packet.answers.iter().filter_map(|record| match (&record.rdata, kind) {
        (RData::A(a), TYPE::A) => Some(IpAddr::V4(Ipv4Addr::from(a.address))),
        (RData::AAAA(a), TYPE::AAAA) => Some(IpAddr::V6(Ipv6Addr::from(a.address))),
        _ => None,
    });
    Some(Ok(addresses.collect()))
}

/// Unpredictable, so that nobody off the path can answer in the server's place; the source port
/// adds to it.
fn random_id() -> u16 {
    let mut bytes = [0u8; 2];
    let _ = rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes);
    u16::from_ne_bytes(bytes)
}
