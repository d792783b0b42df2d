//! Takes connections of other nodes: who it is says the certificate, what for says the handshake.

use super::counters::Refused;
use super::identity::{CONTROL, REQUESTS, named};
use super::name::NodeName;
use super::talk::{Caller, talk};
use super::{RequestConnection, Shared};
use socket2::{SockRef, TcpKeepalive};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Handshakes at once: each costs a signature, and whoever comes without a certificate costs one
/// too.
const HANDSHAKES: usize = 64;
/// Pause after a failed accept, which is nearly always want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Data the peer does not acknowledge for so long means that it is gone.
const UNANSWERED_MAX: Duration = Duration::from_secs(5);
/// A connection with nothing to say is proved alive: first probe, then the next ones.
const PROBE_AFTER: Duration = Duration::from_secs(15);
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// Unsent bytes the kernel may hold: what is newest must not wait behind what is old.
#[cfg(target_os = "linux")]
const UNSENT_MAX: u32 = 32 * 1024;

/// Accepts until the link ends.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let acceptor = TlsAcceptor::from(shared.identity.server());
    loop {
        let Ok((tcp, address)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            shared.counters.refused(Refused::Crowded);
            continue;
        };
        prepare(&tcp);
        let guest = Guest { address, shared: shared.clone() };
        let acceptor = acceptor.clone();
        shared.tasks.spawn(async move { guest.receive(acceptor, tcp, permit).await });
    }
}

/// Sets what every connection between nodes has. A kernel that refuses one of these only notices
/// less quickly.
pub(super) fn prepare(tcp: &TcpStream) {
    let _ = tcp.set_nodelay(true);
    let socket = SockRef::from(tcp);
    let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY);
    let _ = socket.set_tcp_keepalive(&probes);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(UNANSWERED_MAX));
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(UNSENT_MAX);
}

struct Guest {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Guest {
    async fn receive(self, acceptor: TlsAcceptor, tcp: TcpStream, permit: OwnedSemaphorePermit) {
        let limit = self.shared.settings.handshake;
        let stream = match timeout(limit, acceptor.accept(tcp)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(address = %self.address, %error, "a handshake failed");
                return self.shared.counters.refused(Refused::Handshake);
            }
            Err(_) => return self.shared.counters.refused(Refused::Late),
        };
        drop(permit);
        if let Err(why) = self.seat(stream).await {
            tracing::debug!(address = %self.address, reason = why.word(), "a node was refused");
            self.shared.counters.refused(why);
        }
    }

    async fn seat(&self, stream: TlsStream<TcpStream>) -> Result<(), Refused> {
        let session = stream.get_ref().1;
        let certificate = session.peer_certificates().and_then(|chain| chain.first());
        let name = certificate.and_then(named).ok_or(Refused::NoNode)?;
        let protocol = session.alpn_protocol().map(<[u8]>::to_vec).unwrap_or_default();
        self.check(&name)?;
        if protocol == CONTROL {
            let caller = Caller { name, address: self.address, dialed: false };
            // What came of it is counted there.
            talk(stream, caller, &self.shared).await;
            return Ok(());
        }
        if !REQUESTS.contains(&protocol.as_slice()) {
            return Err(Refused::NoUse);
        }
        let http2 = protocol == REQUESTS[0];
        let (peer, address) = (name, self.address);
        let connection = RequestConnection { stream: Box::new(stream), peer, address, http2 };
        self.shared.requests.try_send(connection).map_err(|_| Refused::NoRoom)?;
        self.shared.counters.request_connection();
        Ok(())
    }

    fn check(&self, name: &NodeName) -> Result<(), Refused> {
        if name == self.shared.identity.name() {
            return Err(Refused::Myself);
        }
        self.shared.desk().admits(name)
    }
}
