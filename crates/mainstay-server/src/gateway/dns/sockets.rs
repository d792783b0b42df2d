//! Binds the sockets that names are answered on: one for datagrams for each processor, so that the
//! kernel spreads askers over them, and one for connections.

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{Error, ErrorKind, Result};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

/// Room for datagrams that wait, so that a burst of some thousand is answered and not lost. The
/// kernel lowers it to its own bound.
const WAITING: usize = 4 << 20;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 256;
/// How often a thread that hears nothing looks whether it is to end.
const LOOK: Duration = Duration::from_millis(250);
/// Nothing is so important that the other questions wait for it.
const SEND_MAX: Duration = Duration::from_millis(100);
/// Tries to find a port that is free for both datagrams and connections, when any will do.
const TRIES: usize = 16;

/// Bound sockets.
#[derive(Debug, Default)]
pub struct Sockets {
    pub(super) udp: Vec<UdpSocket>,
    pub(super) tcp: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
}

impl Sockets {
    /// Binds `address` as well, for so many threads.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn bind(&mut self, address: SocketAddr, threads: usize) -> Result<()> {
        let mut tries = if address.port() == 0 { TRIES } else { 1 };
        loop {
            tries -= 1;
            match bind_both(address, threads.max(1)) {
                Ok((tcp, udp)) => {
                    self.addresses.push(tcp.local_addr()?);
                    self.tcp.push(tcp);
                    self.udp.extend(udp);
                    return Ok(());
                }
                Err(error) if tries > 0 && error.kind() == ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The addresses bound, in order.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

fn bind_both(address: SocketAddr, threads: usize) -> Result<(TcpListener, Vec<UdpSocket>)> {
    let tcp = new(address, Type::STREAM, Protocol::TCP)?;
    // So that a restart need not wait for the last connections to fade.
    tcp.set_reuse_address(true)?;
    tcp.bind(&address.into())?;
    tcp.listen(BACKLOG)?;
    tcp.set_nonblocking(true)?;
    let bound = tcp.local_addr()?;
    let address = bound.as_socket().ok_or_else(|| Error::from(ErrorKind::AddrNotAvailable))?;
    // Sockets that share a port would share it with another process of ours too. One that does not
    // share finds out whether somebody is there.
    new(address, Type::DGRAM, Protocol::UDP)?.bind(&bound)?;
    let udp = (0..threads).map(|_| datagrams(address, &bound)).collect::<Result<_>>()?;
    Ok((tcp.into(), udp))
}

fn datagrams(address: SocketAddr, bound: &SockAddr) -> Result<UdpSocket> {
    let socket = new(address, Type::DGRAM, Protocol::UDP)?;
    socket.set_reuse_port(true)?;
    socket.set_recv_buffer_size(WAITING)?;
    socket.set_read_timeout(Some(LOOK))?;
    socket.set_write_timeout(Some(SEND_MAX))?;
    socket.bind(bound)?;
    Ok(socket.into())
}

fn new(address: SocketAddr, kind: Type, protocol: Protocol) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // IPv4 has an address of its own, so that both can be given.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}
