//! The TLS listeners of F42, and two good ones: certificates are made at start and signed by a
//! certificate authority of the server's own, whose certificate is written to a temporary file.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::scope::{Attempt, millis};
use super::server::{Shared, connection};
use super::wire::Socket;

/// Scope whose log tells of handshakes that failed.
pub const TLS_SCOPE: &str = "tls";

/// What a certificate is wrong about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// It expired an hour ago.
    Expired,
    /// It is for another host.
    WrongName,
}

/// Authorities made by this process, so that each has a file of its own.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// A certificate authority for one run.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Where its certificate is.
    pub pem_file: PathBuf,
}

impl Authority {
    /// Makes an authority and writes its certificate to a temporary file.
    pub fn new() -> io::Result<Authority> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Mainstay fault server");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(io::Error::other)?;
        let unique = format!("{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let pem_file = std::env::temp_dir().join(format!("mainstay-faults-ca-{unique}.pem"));
        std::fs::write(&pem_file, issuer.pem())?;
        Ok(Authority { issuer, pem_file })
    }

    /// An acceptor whose certificate has `flaw`, offering `protocols` by ALPN.
    pub fn acceptor(&self, flaw: Flaw, protocols: &[&str]) -> io::Result<TlsAcceptor> {
        let name = if flaw == Flaw::WrongName { "elsewhere.example" } else { "localhost" };
        let mut names = vec![name.to_owned()];
        if flaw != Flaw::WrongName {
            names.push("127.0.0.1".to_owned());
        }
        let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
        let now = time::OffsetDateTime::now_utc();
        params.not_before = now - time::Duration::days(90);
        params.not_after = match flaw {
            Flaw::Expired => now - time::Duration::hours(1),
            Flaw::None | Flaw::WrongName => now + time::Duration::days(1),
        };
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(io::Error::other)?;
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let secret = PrivateKeyDer::try_from(key.serialize_der()).map_err(io::Error::other)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(chain, secret)
            .map_err(io::Error::other)?;
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.pem_file);
    }
}

/// Accepts TLS connections until it is dropped. Failed handshakes are logged in scope `tls`.
pub async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    name: &'static str,
    shared: Arc<Shared>,
) {
    let mut connections = JoinSet::new();
    loop {
        if let Ok((tcp, _)) = listener.accept().await {
            let _ = tcp.set_nodelay(true);
            let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
            connections.spawn(async move {
                let started = Instant::now();
                match acceptor.accept(tcp).await {
                    Ok(tls) => {
                        let socket: Box<dyn Socket> = Box::new(tls);
                        connection(socket, shared).await;
                    }
                    Err(_) => note(&shared, name, started),
                }
            });
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Accepts connections and never says a word (F42b).
pub async fn accept_silently(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        if let Ok((tcp, _)) = listener.accept().await {
            let shared = Arc::clone(&shared);
            connections.spawn(async move {
                let started = Instant::now();
                let mut sink = [0; 4096];
                loop {
                    let _ = tcp.readable().await;
                    match tcp.try_read(&mut sink) {
                        Ok(0) => break,
                        Err(error) if error.kind() != io::ErrorKind::WouldBlock => break,
                        Ok(_) | Err(_) => {}
                    }
                }
                note(&shared, "silent", started);
            });
        }
        while connections.try_join_next().is_some() {}
    }
}

fn note(shared: &Shared, listener: &str, started: Instant) {
    let lasted: Duration = started.elapsed();
    let attempt = Attempt {
        path: format!("tls {listener}"),
        ended: Some("peer_closed"),
        ended_after_ms: Some(millis(lasted)),
        peer_closed_after_ms: Some(millis(lasted)),
        ..Attempt::default()
    };
    shared.board.note(TLS_SCOPE, attempt, started);
}
