//! TLS: trusted, or refused with words that say what to mend.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A TLS server with a certificate for `name`, valid until `year`; HTTP/2 only if `alpn` says so.
async fn tls_server(authority: &Authority, name: &str, year: i32) -> u16 {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(year, 2, 3);
    let certificate = params.signed_by(&key, authority).unwrap();
    let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], secret)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut seen = [0u8; 4096];
                let _ = stream.read(&mut seen).await;
                let _ = stream.write_all(OK).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    port
}

/// An origin at `localhost` that trusts `authority` too.
fn trusting(authority: &Authority, port: u16) -> Origin {
    use std::sync::atomic::AtomicU32;
    static FILES: AtomicU32 = AtomicU32::new(0);
    let number = FILES.fetch_add(1, Ordering::Relaxed);
    let name = format!("mainstay-ca-{}-{number}.pem", std::process::id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, authority.pem()).unwrap();
    let options = OriginOptions { ca_file: Some(file.clone()), ..OriginOptions::default() };
    let origin = Origin::new(&format!("https://localhost:{port}"), options).unwrap();
    std::fs::remove_file(file).unwrap();
    origin
}

#[tokio::test]
async fn a_certificate_of_a_named_authority_is_trusted() {
    let authority = authority();
    let port = tls_server(&authority, "localhost", 2099).await;
    assert_eq!(outcome(&trusting(&authority, port)).await.unwrap(), b"ok");
}

#[tokio::test]
async fn an_expired_certificate_is_a_dead_site_and_the_alarm_names_the_date() {
    let authority = authority();
    let port = tls_server(&authority, "localhost", 2021).await;
    let error = outcome(&trusting(&authority, port)).await.unwrap_err();
    assert_eq!((error.failure.class, error.sent), (DEAD, Sent::Nothing));
    let alarm = error.alarm.unwrap();
    assert!(alarm.contains("03 Feb 2021"), "{alarm}");
}

#[tokio::test]
async fn a_wrong_name_is_a_dead_site_and_the_alarm_names_the_right_one() {
    let authority = authority();
    let port = tls_server(&authority, "other.example", 2099).await;
    let error = outcome(&trusting(&authority, port)).await.unwrap_err();
    assert_eq!((error.failure.class, error.sent), (DEAD, Sent::Nothing));
    assert!(error.alarm.unwrap().contains("other.example"));
}

#[tokio::test]
async fn an_unknown_authority_is_never_trusted() {
    let port = tls_server(&authority(), "localhost", 2099).await;
    let error = outcome(&trusting(&authority(), port)).await.unwrap_err();
    assert_eq!(error.failure.class, DEAD);
    assert!(error.alarm.unwrap().contains("ca_file"));
}

#[tokio::test]
async fn silence_after_the_client_hello_ends_at_the_connect_limit() {
    let url = server(|mut stream, _| async move {
        let mut sink = [0u8; 4096];
        while matches!(stream.read(&mut sink).await, Ok(n) if n > 0) {}
    })
    .await;
    let connect_limit = Duration::from_millis(300);
    let options = OriginOptions { connect_limit, ..OriginOptions::default() };
    let origin = Origin::new(&url.replace("http:", "https:"), options).unwrap();
    let start = Instant::now();
    let error = outcome(&origin).await.unwrap_err();
    assert_eq!((error.failure.class, error.sent), (DEAD, Sent::Nothing));
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_named_as_such() {
    let url = server(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let origin = origin(&url.replace("http:", "https:"));
    let error = outcome(&origin).await.unwrap_err();
    assert_eq!(error.failure.class, DEAD);
    assert!(error.alarm.unwrap().contains("does not speak TLS"));
}
