//! Trusts certificates, or says in words why not (F42). There is no switch that trusts without.
//!
//! Trusted are the host's authorities, because its owner added or removed some for a reason, and
//! those of `ca_file`. Where the host has none, Mozilla's list inside the binary stands in: an
//! image without files works, and an unreadable store does not stop a start.

use super::Http2;
use super::fault::SendError;
use crate::link::Identity;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

/// How connections to an origin are secured; also reads `ca_file`.
pub(super) fn config(ca_file: Option<&Path>, http2: Http2) -> Result<Arc<ClientConfig>, String> {
    let mut roots = roots().clone();
    if let Some(path) = ca_file {
        add_file(&mut roots, path)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols(http2).iter().map(|each| each.to_vec()).collect();
    Ok(Arc::new(config))
}

/// How connections to servers that are no HTTP are secured.
pub(crate) fn plain_config() -> Result<Arc<ClientConfig>, String> {
    let mut config = (*config(None, Http2::Never)?).clone();
    config.alpn_protocols.clear();
    Ok(Arc::new(config))
}

/// How connections to a node of ours are secured: its own certificate, and no other authority.
pub(super) fn node_config(identity: &Identity, http2: Http2) -> Arc<ClientConfig> {
    identity.requests(protocols(http2))
}

fn protocols(http2: Http2) -> &'static [&'static [u8]] {
    match http2 {
        Http2::Auto => &[b"h2", b"http/1.1"],
        Http2::PriorKnowledge => &[b"h2"],
        Http2::Never => &[b"http/1.1"],
    }
}

/// The authorities trusted everywhere, read once: it takes tens of milliseconds.
fn roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        roots
    })
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let shown = path.display();
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(|e| format!("ca_file {shown} cannot be read ({e}); name a readable PEM file"))?;
    let mut added = 0;
    for certificate in certificates {
        let certificate = certificate
            .map_err(|e| format!("ca_file {shown} is not PEM ({e}); export it as PEM"))?;
        roots.add(certificate).map_err(|e| {
            format!("ca_file {shown} holds a certificate that is no authority ({e}); name the CA's")
        })?;
        added += 1;
    }
    match added {
        0 => Err(format!("ca_file {shown} holds no certificate; name a PEM file with the CA's")),
        _ => Ok(()),
    }
}

/// What a failed handshake with `host` means.
pub(super) fn fault(error: &io::Error, host: &str) -> SendError {
    let Some(cause) = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) else {
        return SendError::dead(format!("connection lost during TLS: {}", error.kind()));
    };
    let words = match cause {
        rustls::Error::InvalidCertificate(certificate) => certificate_words(certificate, host),
        rustls::Error::InvalidMessage(_) => format!("{host} does not speak TLS on this port"),
        other => format!("TLS with {host} failed: {other}"),
    };
    SendError::dead("TLS failed").with_alarm(words)
}

fn certificate_words(error: &CertificateError, host: &str) -> String {
    use CertificateError as E;
    match error {
        E::Expired => format!("the certificate of {host} has expired"),
        E::ExpiredContext { time, not_after } => format!(
            "the certificate of {host} expired on {}, {} ago by this machine's clock",
            date(*not_after),
            hours(*not_after, *time)
        ),
        E::NotValidYet => format!("the certificate of {host} is not valid yet; check the clock"),
        E::NotValidYetContext { time, not_before } => format!(
            "the certificate of {host} is valid from {}, in {} by this machine's clock",
            date(*not_before),
            hours(*time, *not_before)
        ),
        E::NotValidForName => format!("the certificate of {host} is made out to another name"),
        E::NotValidForNameContext { presented, .. } => format!(
            "the certificate of {host} is made out to another name: {}",
            presented.join(", ")
        ),
        // A private authority made anew under its old name shows as a bad signature.
        E::UnknownIssuer | E::BadSignature => {
            format!("the certificate of {host} is from an unknown authority; name it by ca_file")
        }
        other => format!("the certificate of {host} is refused: {other}"),
    }
}

fn date(time: UnixTime) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}

/// The time from `earlier` to `later`, roughly, so that an alarm does not change with each minute.
fn hours(earlier: UnixTime, later: UnixTime) -> String {
    match later.as_secs().saturating_sub(earlier.as_secs()) / 3600 {
        0 => "less than an hour".to_owned(),
        hours @ 1..48 => format!("{hours} h"),
        hours => format!("{} days", hours / 24),
    }
}
