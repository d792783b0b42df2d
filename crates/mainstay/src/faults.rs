//! The fault server: an OpenAI-compatible upstream that breaks on request, in 56 ways and more.
//! The model name in a request chooses the behavior; `ok` answers properly. It is a test tool of
//! Mainstay's own and a subcommand, because other clients deserve the same treatment.
//!
//! Sockets are written by hand: a framework cannot reset before headers, split a line end or
//! leave a body unterminated. A request becomes a `play`, a list of steps; `perform` plays it.

pub mod answer;
pub mod ask;
pub mod catalog;
pub mod control;
mod dns;
mod http2;
mod perform;
pub mod play;
pub mod reply;
pub mod scope;
mod server;
mod tls;
mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use answer::answer_text;
pub use catalog::list;
pub use scope::Attempt;
pub use server::Flap;

use server::Shared;
use tls::{Authority, Flaw};

/// Which timings are in force: as given, or shortened for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Waits of tens of seconds.
    Full,
    /// Waits of seconds.
    #[default]
    Fast,
}

impl Profile {
    /// The value of this profile.
    pub fn pick(self, full: f64, fast: f64) -> f64 {
        match self {
            Profile::Full => full,
            Profile::Fast => fast,
        }
    }
}

/// How to serve.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The main listener; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Timings.
    pub profile: Profile,
    /// Print the addresses as one line of JSON.
    pub json: bool,
}

impl Default for Options {
    fn default() -> Options {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Options { listen, profile: Profile::Fast, json: false }
    }
}

/// Where a running server listens.
#[derive(Clone, Debug, Serialize)]
pub struct Addresses {
    /// HTTP/1.1, and HTTP/2 with prior knowledge.
    pub url: String,
    /// The certificate expired an hour ago.
    pub tls_expired: String,
    /// The certificate is for another host.
    pub tls_wrong_name: String,
    /// Nothing comes after the ClientHello.
    pub tls_silent: String,
    /// A good certificate, HTTP/1.1.
    pub tls_good: String,
    /// A good certificate, HTTP/2 by ALPN.
    pub tls_h2: String,
    /// The authority that signed them all.
    pub ca_pem_file: PathBuf,
    /// HTTP/2 with prior knowledge.
    pub h2: String,
    /// A name server (UDP).
    pub dns: String,
    /// Connections are refused.
    pub refused: String,
    /// Refuses connections when told to (`/control/flap`).
    pub flap: String,
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub addresses: Addresses,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    // Bound but not listening, which is what refuses connections.
    _held: Vec<socket2::Socket>,
}

impl Running {
    /// Base URL of `scope`, with `/v1`.
    pub fn base_url(&self, scope: &str) -> String {
        format!("{}/s/{scope}/v1", self.addresses.url)
    }

    /// Forgets all about `scope` and restarts its clock.
    pub fn reset(&self, scope: &str) {
        self.shared.board.reset(scope);
    }

    /// Sets `key` in `scope`; the keys are `control::SETTINGS`.
    pub fn set(&self, scope: &str, key: &str, value: &str) {
        self.shared.board.set(scope, key, value);
    }

    /// The log of `scope`.
    pub fn log(&self, scope: &str) -> Vec<Attempt> {
        self.shared.board.log(scope)
    }

    /// The body of attempt `n` in `scope`.
    pub fn body(&self, scope: &str, n: u64) -> Option<Vec<u8>> {
        self.shared.board.body(scope, n)
    }

    /// Connections open now.
    pub fn open_connections(&self) -> usize {
        self.shared.board.open()
    }

    /// Lets the flapping port refuse and answer in turn.
    pub fn flap(&self, phases: Flap) {
        self.shared.flap.send_replace(phases);
    }

    /// Ends all connections and listeners.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Starts a server and returns at once.
pub async fn serve(options: Options) -> io::Result<Running> {
    let main = TcpListener::bind(options.listen).await?;
    let address = main.local_addr()?;
    let near = SocketAddr::new(address.ip(), 0);
    let http2 = TcpListener::bind(near).await?;
    let name_server = UdpSocket::bind(near).await?;
    let refused = held(near)?;
    let flapping = held(near)?;
    let (flap, phases) = watch::channel(Flap::default());
    let shared =
        Arc::new(Shared { board: Arc::default(), profile: options.profile, address, flap });
    let authority = Authority::new()?;
    let port = |socket: &socket2::Socket| -> io::Result<SocketAddr> {
        socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported.into())
    };
    let flap_address = port(&flapping)?;
    let mut tasks = JoinSet::new();
    let mut addresses = Addresses {
        url: format!("http://{address}"),
        tls_expired: String::new(),
        tls_wrong_name: String::new(),
        tls_silent: String::new(),
        tls_good: String::new(),
        tls_h2: String::new(),
        ca_pem_file: authority.pem_file.clone(),
        h2: format!("http://{}", http2.local_addr()?),
        dns: name_server.local_addr()?.to_string(),
        refused: format!("http://{}", port(&refused)?),
        flap: format!("http://{flap_address}"),
    };
    start_tls(&mut addresses, near, authority, (&shared, &mut tasks)).await?;
    tasks.spawn(server::accept(main, Arc::clone(&shared)));
    tasks.spawn(server::accept(http2, Arc::clone(&shared)));
    let board = Arc::clone(&shared.board);
    tasks.spawn(async move {
        let _ = dns::serve(name_server, board).await;
    });
    tasks.spawn(flapping_port(flap_address, phases, Arc::clone(&shared)));
    Ok(Running { addresses, shared, tasks, _held: vec![refused, flapping] })
}

/// Serves until the process is interrupted, after printing where.
pub async fn run(options: Options) -> io::Result<()> {
    let running = serve(options).await?;
    if options.json {
        println!("{}", serde_json::to_string(&running.addresses).map_err(io::Error::other)?);
    } else {
        println!("{}", welcome(&running.addresses));
    }
    interrupted().await?;
    running.stop().await;
    Ok(())
}

/// Waits for SIGINT or SIGTERM.
#[cfg(unix)]
async fn interrupted() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn interrupted() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}

fn welcome(at: &Addresses) -> String {
    format!(
        "Fault server. Point a client at it, and choose what breaks by the model's name:\n\n\
         \x20 base URL   {url}/v1   (or {url}/s/NAME/v1, a scope with a log and state of its own)\n\
         \x20 any key    it is not looked at\n\n\
         \x20 curl -N {url}/v1/chat/completions -d '{{\"model\":\"f08\",\"stream\":true,\
         \"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}]}}'\n\
         \x20 curl {url}/control/log            what it saw, and when the client hung up\n\
         \x20 curl -X POST {url}/control/reset  start again\n\n\
         Others:  HTTP/2 {h2}   refused {refused}   flap {flap}   DNS {dns}\n\
         TLS:     good {good}   HTTP/2 {good2}   authority {ca}\n\
         \x20        expired {expired}   wrong name {wrong}   silent {silent}\n\n{list}",
        url = at.url,
        h2 = at.h2,
        refused = at.refused,
        flap = at.flap,
        dns = at.dns,
        good = at.tls_good,
        good2 = at.tls_h2,
        ca = at.ca_pem_file.display(),
        expired = at.tls_expired,
        wrong = at.tls_wrong_name,
        silent = at.tls_silent,
        list = list(),
    )
}

async fn start_tls(
    addresses: &mut Addresses,
    near: SocketAddr,
    authority: Authority,
    (shared, tasks): (&Arc<Shared>, &mut JoinSet<()>),
) -> io::Result<()> {
    let listeners = [
        (&mut addresses.tls_expired, "expired", Flaw::Expired, "http/1.1"),
        (&mut addresses.tls_wrong_name, "wrong name", Flaw::WrongName, "http/1.1"),
        (&mut addresses.tls_good, "good", Flaw::None, "http/1.1"),
        (&mut addresses.tls_h2, "good, HTTP/2", Flaw::None, "h2"),
    ];
    for (url, name, flaw, protocol) in listeners {
        let listener = TcpListener::bind(near).await?;
        *url = format!("https://localhost:{}", listener.local_addr()?.port());
        let acceptor = authority.acceptor(flaw, &[protocol])?;
        tasks.spawn(tls::accept(listener, acceptor, name, Arc::clone(shared)));
    }
    let silent = TcpListener::bind(near).await?;
    addresses.tls_silent = format!("https://localhost:{}", silent.local_addr()?.port());
    let shared = Arc::clone(shared);
    tasks.spawn(async move {
        // The authority's file lives as long as the server.
        let _authority = authority;
        tls::accept_silently(silent, shared).await;
    });
    Ok(())
}

/// A port that is ours and refuses connections: bound, not listening.
fn held(near: SocketAddr) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(near),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    // Without it nothing else could listen here later.
    socket.set_reuse_address(true)?;
    socket.bind(&near.into())?;
    Ok(socket)
}

/// Listens at `address` in the up phases; in the down phases nothing does.
async fn flapping_port(
    address: SocketAddr,
    mut phases: watch::Receiver<Flap>,
    shared: Arc<Shared>,
) {
    loop {
        let Flap { down_ms, up_ms } = *phases.borrow_and_update();
        if down_ms > 0 {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(down_ms)) => {}
                changed = phases.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            }
        }
        let Ok(listener) = listening(address) else { return };
        let up = match (down_ms, up_ms) {
            (0, _) => play::bench::FOR_EVER,
            (_, up_ms) => Duration::from_millis(up_ms),
        };
        tokio::select! {
            () = server::accept(listener, Arc::clone(&shared)) => {}
            () = tokio::time::sleep(up) => {}
            changed = phases.changed() => if changed.is_err() { return },
        }
    }
}

fn listening(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = held(address)?;
    socket.set_nonblocking(true)?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}
