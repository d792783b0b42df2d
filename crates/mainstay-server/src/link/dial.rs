//! Opens the connection to a peer, again and again until it holds.
//!
//! Of two nodes the one whose name comes first dials at once; the other only when it has waited in
//! vain, as where a firewall lets connections through in one direction only. Whichever comes last
//! holds, and who is connected does not dial, so that two that dial at once settle quickly.

use super::counters::Refused;
use super::desk::Errand;
use super::identity::CONTROL;
use super::name::NodeName;
use super::talk::{Caller, Talked, talk};
use super::{Settings, Shared};
use mainstay_core::rng::Rng;
use rustls::pki_types::ServerName;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Dials the peer until the policy does not name it any more.
pub(super) async fn dial(errand: Errand, shared: Arc<Shared>) {
    let Errand { name, live, gone } = errand;
    let rng = Rng::new(RandomState::new().hash_one(name.as_str()));
    let mut line = Line { name, live, shared, rng, said: None, wait: None };
    // A connection ends by itself when the peer is removed, so that it is counted as what it was.
    while let Some(Some(opened)) = gone.run_until_cancelled(line.open()).await {
        line.hold(opened).await;
    }
}

type Opened = (TlsStream<TcpStream>, SocketAddr);

struct Line {
    name: NodeName,
    live: watch::Receiver<Option<u64>>,
    shared: Arc<Shared>,
    rng: Rng,
    /// What was said of the last failure: the same is said once.
    said: Option<String>,
    /// Before the next attempt.
    wait: Option<Duration>,
}

impl Line {
    /// The next connection, when one is needed; `None` when none will be.
    async fn open(&mut self) -> Option<Opened> {
        loop {
            if let Some(wait) = self.wait {
                sleep(self.rng.between(wait / 2, wait)).await;
            }
            self.live.wait_for(Option::is_none).await.ok()?;
            if !self.is_ours_to_dial().await {
                continue;
            }
            let Some(address) = self.shared.desk().address(&self.name) else { continue };
            self.back_off();
            let connecting = timeout(self.shared.settings.handshake, self.connect(&address));
            match connecting.await {
                Ok(Ok(opened)) => return Some(opened),
                Ok(Err(words)) => self.failed(words),
                Err(_) => self.failed(String::from("no connection in time")),
            }
        }
    }

    /// Whether it is for us to dial, after having waited for the peer where it is first to.
    async fn is_ours_to_dial(&mut self) -> bool {
        let is_first = self.shared.identity.name() < &self.name;
        let has_address = self.shared.desk().address(&self.name).is_some();
        if is_first && has_address {
            return true;
        }
        let Settings { second_after, back_off, .. } = self.shared.settings;
        let patience = second_after.max(back_off.0);
        let came = timeout(patience, self.live.wait_for(Option::is_some)).await;
        came.is_err()
    }

    fn back_off(&mut self) {
        let (first, most) = self.shared.settings.back_off;
        self.wait = Some(self.wait.map_or(first, |wait| (wait * 2).min(most)));
    }

    /// Exchanges messages until the connection ends.
    async fn hold(&mut self, (stream, remote): Opened) {
        let began = Instant::now();
        let caller = Caller { name: self.name.clone(), address: remote, dialed: true };
        let shared = self.shared.clone();
        match talk(stream, caller, &shared).await {
            Talked::Ended(_) => self.said = None,
            Talked::Refused(Refused::Late) => self.failed(String::from("it said no hello in time")),
            Talked::Refused(why) => self.failed(format!("refused here: {}", why.word())),
            Talked::Unheard(end) => self.failed(format!(
                "it ended before its hello ({}); do both have one authority, and does its policy \
                 name this node?",
                end.word()
            )),
        }
        if began.elapsed() > shared.settings.silence {
            // It held for a while: what failed now is not what failed before.
            self.wait = None;
        }
    }

    async fn connect(&self, address: &str) -> Result<Opened, String> {
        let found = lookup_host(address).await.map_err(|e| format!("no address: {e}"))?;
        let mut last = String::from("no address");
        for remote in found {
            let tcp = match TcpStream::connect(remote).await {
                Ok(tcp) => tcp,
                Err(error) => {
                    last = error.to_string();
                    continue;
                }
            };
            super::accept::prepare(&tcp);
            let name = ServerName::try_from(self.name.in_certificate())
                .map_err(|error| error.to_string())?;
            let connector = TlsConnector::from(self.shared.identity.control());
            let stream = connector.connect(name, tcp).await.map_err(|e| format!("TLS: {e}"))?;
            if stream.get_ref().1.alpn_protocol() != Some(CONTROL) {
                return Err(String::from("it is no link of a Mainstay node"));
            }
            return Ok((stream, remote));
        }
        Err(last)
    }

    fn failed(&mut self, words: String) {
        if self.said.as_ref() != Some(&words) {
            tracing::warn!(peer = %self.name, reason = words, "cannot join a node");
        }
        self.said = Some(words);
    }
}
