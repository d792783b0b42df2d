//! Answers names with gateways, authoritatively: RFC 1034 and 1035 for the few names an operator
//! gives, and nothing else. It resolves nothing for anyone, transfers no zone, notifies nobody.
//!
//! Core decides which gateways a name is answered with; `zone` writes those answers down once, as
//! bytes, whenever that changes, and each query only finds and copies them. Every name is a zone
//! of its own, so that one delegation is all that its parent needs.
//!
//! Why the wire is read by hand and no DNS library serves: docs/decisions/0017.

pub mod answer;
mod block;
mod flood;
mod kept;
pub mod locate;
pub mod name;
pub mod outside;
pub mod publish;
pub mod query;
pub mod sockets;
mod tcp;
mod udp;
pub mod zone;

use crate::gateway::dns::locate::Table;
use crate::gateway::dns::name::Name;
use crate::gateway::dns::publish::Publisher;
use crate::gateway::dns::sockets::Sockets;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// What the operator wants answered.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The names; each is the top of a zone of its own.
    pub names: Vec<Name>,
    /// Labels below each name that get a few of the gateways each.
    pub tenants: Vec<String>,
    /// Who serves these zones: the NS records.
    pub servers: Vec<Name>,
    /// The person to write to, as a name: the first label is what stands before the `@`.
    pub contact: Name,
    /// How long an answer may be kept, in seconds.
    pub ttl: u32,
    /// The gateways, by `GatewayId`.
    pub targets: Vec<Target>,
    /// Names below the others with fixed addresses, such as servers named inside their own zone.
    pub hosts: Vec<(Name, Vec<IpAddr>)>,
    /// Which networks lie in which region.
    pub table: Table,
    /// Regions there are.
    pub regions: u16,
    /// Where the last set is kept for the next start.
    pub kept: Option<PathBuf>,
}

impl Settings {
    /// The same with one target for each of `gateways` in their order, so that positions are what
    /// core means by them. One without a target has no address, and is never named.
    ///
    /// # Errors
    /// The position of a target that is none of them.
    pub fn for_gateways(mut self, gateways: &[String]) -> Result<Settings, usize> {
        let is_listed = |target: &Target| gateways.contains(&target.gateway);
        if let Some(at) = self.targets.iter().position(|target| !is_listed(target)) {
            return Err(at);
        }
        let of = |gateway: &String| {
            let there = self.targets.iter().find(|target| target.gateway == *gateway);
            let none = || Target { gateway: gateway.clone(), addresses: Vec::new(), region: None };
            there.cloned().unwrap_or_else(none)
        };
        self.targets = gateways.iter().map(of).collect();
        Ok(self)
    }
}

/// A gateway as clients reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The gateway's name.
    pub gateway: String,
    /// Its public addresses.
    pub addresses: Vec<IpAddr>,
    /// Its region.
    pub region: Option<u16>,
}

/// What was answered, counted.
#[derive(Debug, Default)]
pub struct Counts {
    /// Answered with records or with their absence.
    pub answered: AtomicU64,
    /// Refused: not our names, not for us to do, or no well-formed question.
    pub refused: AtomicU64,
    /// Left without any reply.
    pub silent: AtomicU64,
    /// Duplicates that a flood made us leave unanswered.
    pub shed: AtomicU64,
}

impl Counts {
    /// Lines for Prometheus.
    pub fn lines(&self) -> String {
        let mut lines = String::from(
            "# HELP mainstay_dns_queries Questions to the names, by what became of them.\n\
             # TYPE mainstay_dns_queries counter\n",
        );
        let all = [
            ("answered", &self.answered),
            ("refused", &self.refused),
            ("silent", &self.silent),
            ("shed", &self.shed),
        ];
        for (outcome, count) in all {
            let count = count.load(Ordering::Relaxed);
            lines += &format!("mainstay_dns_queries_total{{outcome=\"{outcome}\"}} {count}\n");
        }
        lines
    }
}

/// Everything that answers names, while it runs.
pub struct Dns {
    publisher: Arc<Publisher>,
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    tcp: Vec<tokio::task::JoinHandle<()>>,
}

impl Dns {
    /// Answers on `sockets` from now on. Belongs on a runtime, where its TCP connections live; its
    /// datagrams have threads of their own.
    ///
    /// # Errors
    /// What could not be started.
    pub fn start(publisher: Arc<Publisher>, sockets: Sockets) -> Result<Dns, String> {
        let counts = Arc::new(Counts::default());
        let stop = Arc::new(AtomicBool::new(false));
        let mut dns = Dns { publisher, counts, stop, threads: Vec::new(), tcp: Vec::new() };
        let cannot = |error: std::io::Error| format!("cannot answer names: {error}");
        for (number, socket) in sockets.udp.into_iter().enumerate() {
            let desk = udp::Desk {
                zones: dns.publisher.zones(),
                counts: dns.counts.clone(),
                stop: dns.stop.clone(),
            };
            let thread = std::thread::Builder::new().name(format!("dns-{number}"));
            dns.threads.push(thread.spawn(move || udp::serve(&socket, &desk)).map_err(cannot)?);
        }
        for listener in sockets.tcp {
            let listener = tokio::net::TcpListener::from_std(listener).map_err(cannot)?;
            let (zones, counts) = (dns.publisher.zones(), dns.counts.clone());
            dns.tcp.push(tokio::spawn(tcp::serve(listener, zones, counts)));
        }
        Ok(dns)
    }

    /// Where new sets go.
    pub fn publisher(&self) -> Arc<Publisher> {
        self.publisher.clone()
    }

    /// What was answered.
    pub fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }

    /// Answers nothing any more, and keeps the last set.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tcp {
            task.abort();
        }
        for thread in self.threads {
            // A panic in it was told when it happened.
            let _ = thread.join();
        }
        self.publisher.stop();
    }
}

#[cfg(test)]
mod tests;
