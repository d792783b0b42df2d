//! Answers over TCP (RFC 7766), for those whose answer was too large for a datagram or whose
//! network lets none through. Few connections, none of them for long: whoever needs a name asks by
//! datagram, and whoever holds connections open must not keep others out.

use crate::gateway::dns::Counts;
use crate::gateway::dns::answer::{Asker, Became, answer};
use crate::gateway::dns::publish::View;
use std::collections::HashMap;
use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{Id, JoinSet};
use tokio::time::timeout;

/// Connections at once,
const CONNECTIONS: usize = 256;
/// and of one address.
const OF_ONE_ADDRESS: usize = 16;
/// How long a question may take to come, an answer to be taken, and a connection to be silent.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions of one connection, which then makes room for others.
const QUESTIONS: usize = 1000;
/// Largest question that is looked at.
const QUESTION_MAX: usize = 4096;
/// Pause after a failed accept, which is nearly always want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers whoever connects, until it is dropped.
pub(super) async fn serve(listener: TcpListener, zones: View, counts: Arc<Counts>) {
    let mut talks = JoinSet::new();
    let mut open: HashMap<Id, IpAddr> = HashMap::new();
    for turn in 0usize.. {
        tokio::select! {
            Some(ended) = talks.join_next_with_id() => {
                let id = match ended {
                    Ok((id, ())) => id,
                    Err(error) => error.id(),
                };
                open.remove(&id);
            }
            accepted = listener.accept() => {
                let Ok((stream, peer)) = accepted else {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                let of_it = open.values().filter(|address| **address == peer.ip()).count();
                if open.len() >= CONNECTIONS || of_it >= OF_ONE_ADDRESS {
                    continue;
                }
                let talk = talks.spawn({
                    let (zones, counts) = (zones.clone(), counts.clone());
                    async move {
                        let mut talk = Talk { stream, peer, zones, counts };
                        for turn in turn..turn.saturating_add(QUESTIONS) {
                            if talk.exchange(turn).await.is_none() {
                                return;
                            }
                        }
                    }
                });
                open.insert(talk.id(), peer.ip());
            }
        }
    }
}

/// A connection.
struct Talk {
    stream: TcpStream,
    peer: SocketAddr,
    zones: View,
    counts: Arc<Counts>,
}

impl Talk {
    /// One question and its answer; `None` if that was all, for whatever reason: there is nobody
    /// to tell.
    async fn exchange(&mut self, turn: usize) -> Option<()> {
        let question = timeout(PATIENCE, read(&mut self.stream)).await.ok()?.ok()?;
        let asker = Asker { address: self.peer.ip(), is_stream: true, turn };
        let mut out = Vec::new();
        let count = match answer(self.zones.now(), &question, asker, &mut out) {
            Became::Silent => &self.counts.silent,
            Became::Answered => &self.counts.answered,
            Became::Refused => &self.counts.refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
        if out.is_empty() {
            return None;
        }
        let length = (out.len() as u16).to_be_bytes();
        // Both at once: some resolvers take a length alone for the whole.
        out.splice(0..0, length);
        timeout(PATIENCE, self.stream.write_all(&out)).await.ok()?.ok()
    }
}

/// One message: its length, then itself.
async fn read(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > QUESTION_MAX {
        return Err(Error::from(ErrorKind::InvalidData));
    }
    let mut question = vec![0; length];
    stream.read_exact(&mut question).await?;
    Ok(question)
}
