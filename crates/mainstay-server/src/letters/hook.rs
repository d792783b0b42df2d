//! A webhook: a signed POST to somebody's server.
//!
//! A message has an id, in its body and in `x-mainstay-id`; who gets one twice knows it by that. It
//! is signed with HMAC-SHA256 over the time of sending and the body,
//! `x-mainstay-signature: t=SECONDS,v1=HEX`, so that nobody can forge one, and nobody can send an
//! old one again to whoever looks at the time and the id.

use crate::setup::{Secret, unix_now};
use crate::upstream::{Origin, OriginOptions, Outbound};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::Method;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use sha2::Sha256;

/// Where something is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The URL.
    pub url: String,
    /// What messages are signed with.
    pub secret: Secret,
}

/// A message on its way.
pub(super) struct Message {
    pub(super) hook: Hook,
    pub(super) id: String,
    pub(super) body: String,
}

/// Sends it once.
pub(super) async fn send(message: &Message) -> Result<(), String> {
    let (base, path) = split(&message.hook.url);
    let origin = Origin::new(base, OriginOptions::default())?;
    let value = |text: &str| HeaderValue::from_str(text).map_err(|error| error.to_string());
    let signature = sign(&message.hook.secret, unix_now(), &message.body);
    let headers = vec![
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (HeaderName::from_static("x-mainstay-id"), value(&message.id)?),
        (HeaderName::from_static("x-mainstay-signature"), value(&signature)?),
    ];
    let body = Bytes::from(message.body.clone());
    let reply = origin.send(Outbound { path, method: Method::POST, headers, body }).await;
    let status = reply.map(|reply| reply.status);
    origin.shutdown().await;
    match status {
        Ok(status) if status.is_success() => Ok(()),
        Ok(status) => Err(format!("it answered {}", status.as_u16())),
        Err(error) => Err(error.failure.message),
    }
}

/// Origin and path of a URL.
fn split(url: &str) -> (&str, &str) {
    let host = url.find("://").map_or(0, |at| at + 3);
    match url[host..].find('/') {
        Some(at) => url.split_at(host + at),
        None => (url, "/"),
    }
}

/// The signature of a message.
fn sign(secret: &Secret, at: u64, body: &str) -> String {
    // Keys of any length are taken.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes()) else {
        return String::new();
    };
    mac.update(format!("{at}.{body}").as_bytes());
    let hex: String =
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={at},v1={hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_hmac_sha256() {
        // echo -n '1.{}' | openssl dgst -sha256 -hmac key
        let signed = sign(&Secret::new("key"), 1, "{}");
        assert_eq!(signed.len(), "t=1,v1=".len() + 64);
        assert!(signed.starts_with("t=1,v1="));
        assert_ne!(signed, sign(&Secret::new("key"), 2, "{}"));
        assert_ne!(signed, sign(&Secret::new("other"), 1, "{}"));
    }
}
