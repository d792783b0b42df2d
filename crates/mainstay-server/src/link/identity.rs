//! Who this node is, and who its peers are: certificates of one private authority, in both
//! directions. No other authority is trusted here, and no peer without a certificate.
//!
//! A connection's use is agreed on in the handshake (ALPN), so one port serves both uses.

use super::name::NodeName;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// What a connection that carries messages agrees on in its handshake.
pub const CONTROL: &[u8] = b"mainstay-link/1";
/// What a connection that carries requests agrees on: either.
pub const REQUESTS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// A certificate that ends within this time is worth a warning at start.
pub const ENDS_SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// A node's name, certificate and key, and the authority that it and its peers have theirs from.
#[derive(Clone)]
pub struct Identity {
    name: NodeName,
    server: Arc<ServerConfig>,
    control: Arc<ClientConfig>,
    chain: Vec<CertificateDer<'static>>,
    authority: Vec<CertificateDer<'static>>,
}

impl Identity {
    /// Reads an identity from PEM files. The error says how to mend it.
    pub fn load(name: &NodeName, authority: &Path, files: (&Path, &Path)) -> Result<Self, String> {
        let (certificate, key) = files;
        let secret = PrivateKeyDer::from_pem_file(key)
            .map_err(|e| format!("key {} cannot be read: {e}", key.display()))?;
        Identity::new(name, certificates(authority)?, (certificates(certificate)?, secret))
    }

    /// An identity of certificates in memory.
    pub fn new(
        name: &NodeName,
        authority: Vec<CertificateDer<'static>>,
        own: (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    ) -> Result<Identity, String> {
        let (chain, secret) = own;
        let mut roots = RootCertStore::empty();
        for each in &authority {
            let added = roots.add(each.clone());
            added.map_err(|e| format!("the authority's certificate cannot be used: {e}"))?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|e| format!("the authority's certificate cannot be used: {e}"))?;
        let tls13: &[_] = &[&rustls::version::TLS13];
        let unfit = |e: rustls::Error| format!("certificate and key do not fit: {e}");
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(tls13)
            .map_err(unfit)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), secret.clone_key())
            .map_err(unfit)?;
        server.alpn_protocols = vec![CONTROL.to_vec()];
        server.alpn_protocols.extend(REQUESTS.map(<[u8]>::to_vec));
        // Who was taken out of the policy must show its certificate again.
        server.send_tls13_tickets = 0;
        let mut control = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(tls13)
            .map_err(unfit)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain.clone(), secret)
            .map_err(unfit)?;
        control.alpn_protocols = vec![CONTROL.to_vec()];
        control.resumption = rustls::client::Resumption::disabled();
        let (server, control) = (Arc::new(server), Arc::new(control));
        let identity = Identity { name: name.clone(), server, control, chain, authority };
        identity.check(Duration::ZERO)?;
        Ok(identity)
    }

    /// This node's name.
    pub fn name(&self) -> &NodeName {
        &self.name
    }

    /// What is wrong with the own certificate, or will be after `ahead`: a node must not find out
    /// from its peers.
    pub fn check(&self, ahead: Duration) -> Result<(), String> {
        let end = self.chain.first().ok_or("the certificate's file holds none")?;
        let parsed = EndEntityCert::try_from(end)
            .map_err(|e| format!("the certificate is not one of a node: {e}"))?;
        let named = named(end);
        if named.as_ref() != Some(&self.name) {
            let is = named.map_or_else(|| String::from("no node"), |name| format!("`{name}`"));
            return Err(format!(
                "the certificate is made out to {is}, not to `{}`; make one with \
                 `mainstay node init --name {} --ca DIR`",
                self.name, self.name
            ));
        }
        let anchors: Result<Vec<_>, _> =
            self.authority.iter().map(anchor_from_trusted_cert).collect();
        let anchors = anchors.map_err(|e| format!("the authority's certificate: {e}"))?;
        let at = UnixTime::since_unix_epoch(
            Duration::from_secs(UnixTime::now().as_secs()).saturating_add(ahead),
        );
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
            let between = self.chain.get(1..).unwrap_or_default();
            parsed
                .verify_for_usage(algorithms.all, &anchors, between, at, usage, None, None)
                .map_err(|error| words(&error))?;
        }
        Ok(())
    }

    /// How connections are accepted, for both uses.
    pub(super) fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// How a connection for messages is opened.
    pub(super) fn control(&self) -> Arc<ClientConfig> {
        self.control.clone()
    }

    /// How a connection for requests is opened, offering `protocols`.
    pub fn requests(&self, protocols: &[&[u8]]) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.control);
        config.alpn_protocols = protocols.iter().map(|each| each.to_vec()).collect();
        Arc::new(config)
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The node that a verified certificate is made out to; `None` if it is made out to none, or to
/// several, which would make a peer whatever suits it.
pub(super) fn named(certificate: &CertificateDer<'_>) -> Option<NodeName> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    let mut names = parsed.valid_dns_names().filter_map(NodeName::of_certificate);
    let name = names.next()?;
    names.next().is_none().then_some(name)
}

/// A private key in memory, as its owner made it.
pub fn secret(pkcs8: Vec<u8>) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(|found| found.collect::<Result<Vec<_>, _>>())
        .map_err(|e| format!("certificate {} cannot be read: {e}", path.display()))?;
    match found.is_empty() {
        true => Err(format!("{} holds no certificate; it must be PEM", path.display())),
        false => Ok(found),
    }
}

fn words(error: &webpki::Error) -> String {
    use webpki::Error as E;
    let again = "make a new one with `mainstay node init --name NAME --ca DIR --force`";
    match error {
        E::CertExpired { .. } => format!("the node's certificate has expired; {again}"),
        E::CertNotValidYet { .. } => {
            String::from("the node's certificate is not valid yet; check this machine's clock")
        }
        E::UnknownIssuer | E::InvalidSignatureForPublicKey => {
            format!("the node's certificate is not of this authority; {again}")
        }
        other => format!("the node's certificate is refused: {other}; {again}"),
    }
}
