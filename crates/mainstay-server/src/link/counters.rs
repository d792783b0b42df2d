//! What happened on the link, for metrics.

use super::frame::{Kind, Nonsense};
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a connection between two nodes ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The peer closed it.
    Closed,
    /// The network did.
    Broken,
    /// Nothing whole came for too long.
    Silent,
    /// What we wrote was not taken for too long.
    Stuck,
    /// The same peer opened a newer one.
    Replaced,
    /// The policy does not name the peer any more.
    Removed,
    /// This process ends.
    Shutdown,
    /// The peer spoke nonsense.
    Nonsense(Nonsense),
}

impl End {
    /// Its word in metrics and logs.
    pub fn word(self) -> &'static str {
        match self {
            End::Closed => "closed",
            End::Broken => "broken",
            End::Silent => "silent",
            End::Stuck => "stuck",
            End::Replaced => "replaced",
            End::Removed => "removed",
            End::Shutdown => "shutdown",
            End::Nonsense(nonsense) => nonsense.word(),
        }
    }

    fn all() -> impl Iterator<Item = End> {
        let own = [
            End::Closed,
            End::Broken,
            End::Silent,
            End::Stuck,
            End::Replaced,
            End::Removed,
            End::Shutdown,
        ];
        own.into_iter().chain(Nonsense::ALL.map(End::Nonsense))
    }
}

/// Why a message did not arrive, or not at its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Of a kind that only later versions know.
    UnknownKind,
    /// About something, or partly about something, that has no name here.
    NoName,
    /// About a site that is not its sender's to speak for, or not ours to answer for.
    NotTheirs,
    /// A newer one about the same came before it was sent or read.
    Replaced,
    /// A policy that was not asked for on its connection.
    Unasked,
    /// There was no connection to its receiver.
    NoPeer,
    /// More waited than may.
    Crowded,
    /// The end of a digest that was longer than it may be.
    Shortened,
}

impl Lost {
    const ALL: [Lost; 8] = [
        Lost::UnknownKind,
        Lost::NoName,
        Lost::NotTheirs,
        Lost::Replaced,
        Lost::Unasked,
        Lost::NoPeer,
        Lost::Crowded,
        Lost::Shortened,
    ];

    fn word(self) -> &'static str {
        match self {
            Lost::UnknownKind => "unknown_kind",
            Lost::NoName => "no_name",
            Lost::NotTheirs => "not_theirs",
            Lost::Replaced => "replaced",
            Lost::Unasked => "unasked",
            Lost::NoPeer => "no_peer",
            Lost::Crowded => "crowded",
            Lost::Shortened => "shortened",
        }
    }
}

/// Why a connection was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too many were in their handshake.
    Crowded,
    /// TLS failed: no certificate, a foreign one, an expired one, or no TLS at all.
    Handshake,
    /// The handshake or the first word took too long.
    Late,
    /// It agreed on no use.
    NoUse,
    /// A certificate of our authority that is made out to no node.
    NoNode,
    /// A node that the policy does not name.
    Stranger,
    /// A node with our own name.
    Myself,
    /// It spoke nonsense a moment ago.
    Barred,
    /// Nobody takes requests, or too many connections with requests wait.
    NoRoom,
}

impl Refused {
    const ALL: [Refused; 9] = [
        Refused::Crowded,
        Refused::Handshake,
        Refused::Late,
        Refused::NoUse,
        Refused::NoNode,
        Refused::Stranger,
        Refused::Myself,
        Refused::Barred,
        Refused::NoRoom,
    ];

    /// Its word in metrics and logs.
    pub fn word(self) -> &'static str {
        match self {
            Refused::Crowded => "crowded",
            Refused::Handshake => "handshake",
            Refused::Late => "late",
            Refused::NoUse => "no_use",
            Refused::NoNode => "no_node",
            Refused::Stranger => "stranger",
            Refused::Myself => "myself",
            Refused::Barred => "barred",
            Refused::NoRoom => "no_room",
        }
    }
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Counters {
    sent: [AtomicU64; Kind::ALL.len()],
    received: [AtomicU64; Kind::ALL.len()],
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    lost: [AtomicU64; Lost::ALL.len()],
    refused: [AtomicU64; Refused::ALL.len()],
    ends: [AtomicU64; 14],
    joined: AtomicU64,
    requests: AtomicU64,
}

impl Counters {
    pub(super) fn sent(&self, kind: Kind) {
        add(&self.sent, Kind::ALL.iter().position(|each| *each == kind), 1);
    }

    pub(super) fn received(&self, kind: Kind) {
        add(&self.received, Kind::ALL.iter().position(|each| *each == kind), 1);
    }

    pub(super) fn wrote(&self, bytes: usize) {
        self.sent_bytes.fetch_add(count(bytes), Ordering::Relaxed);
    }

    pub(super) fn read(&self, bytes: usize) {
        self.received_bytes.fetch_add(count(bytes), Ordering::Relaxed);
    }

    pub(super) fn lost(&self, why: Lost, number: u64) {
        add(&self.lost, Lost::ALL.iter().position(|each| *each == why), number);
    }

    pub(super) fn refused(&self, why: Refused) {
        add(&self.refused, Refused::ALL.iter().position(|each| *each == why), 1);
    }

    pub(super) fn joined(&self) {
        self.joined.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ended(&self, why: End) {
        add(&self.ends, End::all().position(|each| each == why), 1);
    }

    pub(super) fn request_connection(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// How many connections ended so.
    pub fn ends(&self, why: End) -> u64 {
        look(&self.ends, End::all().position(|each| each == why))
    }

    /// How many messages were lost so.
    pub fn losses(&self, why: Lost) -> u64 {
        look(&self.lost, Lost::ALL.iter().position(|each| *each == why))
    }

    /// How many connections were refused so.
    pub fn refusals(&self, why: Refused) -> u64 {
        look(&self.refused, Refused::ALL.iter().position(|each| *each == why))
    }

    /// How many messages of `kind` arrived.
    pub fn arrived(&self, kind: Kind) -> u64 {
        look(&self.received, Kind::ALL.iter().position(|each| *each == kind))
    }

    /// The lines of the exposition format.
    pub(super) fn exposition(&self) -> String {
        let mut text = String::new();
        let kinds = Kind::ALL.map(Kind::word);
        let mut both = labelled("direction=\"sent\",kind", &kinds, &self.sent);
        both.extend(labelled("direction=\"received\",kind", &kinds, &self.received));
        family(&mut text, "messages", "Messages between nodes.", &both);
        let bytes = [
            (String::from("direction=\"sent\""), self.sent_bytes.load(Ordering::Relaxed)),
            (String::from("direction=\"received\""), self.received_bytes.load(Ordering::Relaxed)),
        ];
        family(&mut text, "bytes", "Bytes of messages between nodes, before TLS.", &bytes);
        let lost = labelled("reason", &Lost::ALL.map(Lost::word), &self.lost);
        family(&mut text, "lost", "Messages, or entries of them, that reached no reader.", &lost);
        let refused = labelled("reason", &Refused::ALL.map(Refused::word), &self.refused);
        family(&mut text, "refused", "Connections that were not taken.", &refused);
        let words: Vec<&str> = End::all().map(End::word).collect();
        let ends = labelled("reason", &words, &self.ends);
        family(&mut text, "ended", "Connections between nodes that ended.", &ends);
        let joined = [(String::new(), self.joined.load(Ordering::Relaxed))];
        family(&mut text, "joined", "Connections between nodes that began.", &joined);
        let requests = [(String::new(), self.requests.load(Ordering::Relaxed))];
        family(&mut text, "request_connections", "Connections with requests.", &requests);
        text
    }
}

fn add(counters: &[AtomicU64], at: Option<usize>, number: u64) {
    if let Some(counter) = at.and_then(|at| counters.get(at)) {
        counter.fetch_add(number, Ordering::Relaxed);
    }
}

fn look(counters: &[AtomicU64], at: Option<usize>) -> u64 {
    at.and_then(|at| counters.get(at)).map_or(0, |counter| counter.load(Ordering::Relaxed))
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn labelled(label: &str, words: &[&str], counters: &[AtomicU64]) -> Vec<(String, u64)> {
    let line = |(word, counter): (&&str, &AtomicU64)| {
        (format!("{label}=\"{word}\""), counter.load(Ordering::Relaxed))
    };
    words.iter().zip(counters).map(line).collect()
}

fn family(text: &mut String, name: &str, help: &str, lines: &[(String, u64)]) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP mainstay_link_{name} {help}");
    let _ = writeln!(text, "# TYPE mainstay_link_{name} counter");
    for (labels, value) in lines {
        let _ = match labels.is_empty() {
            true => writeln!(text, "mainstay_link_{name}_total {value}"),
            false => writeln!(text, "mainstay_link_{name}_total{{{labels}}} {value}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_a_counter_of_its_own() {
        let counters = Counters::default();
        assert_eq!(End::all().count(), counters.ends.len());
        End::all().for_each(|end| counters.ended(end));
        assert!(End::all().all(|end| counters.ends(end) == 1));
        let text = counters.exposition();
        assert!(text.contains("mainstay_link_ended_total{reason=\"too_fast\"} 1\n"), "{text}");
        assert!(text.contains("mainstay_link_joined_total 0\n"), "{text}");
    }
}
