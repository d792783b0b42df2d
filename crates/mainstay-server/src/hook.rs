//! Tells somebody's server that something happened: a signed POST, sent again until it is taken.
//!
//! A message has an id; who gets one twice knows it by that. It is signed with HMAC-SHA256 over the
//! time and the body, `x-mainstay-signature: t=SECONDS,v1=HEX`, so that nobody can forge one or
//! send an old one again.

use crate::setup::Secret;
use crate::upstream::{Origin, OriginOptions, Outbound};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::Method;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde_json::Value;
use sha2::Sha256;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Waits before a message is sent again; behind the last it is given up.
const AGAIN: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
];
/// A server that takes longer than this to answer is asked again.
const LIMIT: Duration = Duration::from_secs(10);
/// Messages that wait to be taken.
const WAITING: usize = 256;

/// Where something is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The URL.
    pub url: String,
    /// What messages are signed with.
    pub secret: Secret,
}

/// A message on its way.
struct Letter {
    hook: Hook,
    at: u64,
    body: String,
}

/// Sends messages, on a thread of its own.
pub struct Hooks {
    sender: mpsc::Sender<Letter>,
}

impl Hooks {
    /// Begins to send. It ends with this value; what has not been taken by then is not sent again.
    pub fn begin() -> Hooks {
        let (sender, letters) = mpsc::channel(WAITING);
        let started = std::thread::Builder::new().name("hooks".into()).spawn(|| run(letters));
        if let Err(error) = started {
            tracing::error!("no thread for webhooks: {error}");
        }
        Hooks { sender }
    }

    /// Tells `message` at `hook`, dated `at`, in seconds since 1970.
    pub fn tell(&self, hook: &Hook, at: u64, message: &Value) {
        let letter = Letter { hook: hook.clone(), at, body: message.to_string() };
        if self.sender.try_send(letter).is_err() {
            tracing::warn!("too many webhooks wait, or none can be sent: one is not sent");
        }
    }
}

fn run(mut letters: mpsc::Receiver<Letter>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return tracing::error!("no runtime for webhooks");
    };
    runtime.block_on(async {
        let mut under_way = JoinSet::new();
        while let Some(letter) = letters.recv().await {
            while under_way.try_join_next().is_some() {}
            if under_way.len() >= WAITING {
                under_way.join_next().await;
            }
            under_way.spawn(deliver(letter));
        }
    });
}

/// Sends a message until it is taken, or nobody will.
async fn deliver(letter: Letter) {
    let mut told = String::new();
    for again in AGAIN.iter().map(Some).chain([None]) {
        let sent = tokio::time::timeout(LIMIT, send(&letter)).await;
        match sent.unwrap_or_else(|_| Err(String::from("no answer in time"))) {
            Ok(()) => return,
            Err(why) => told = why,
        }
        if let Some(again) = again {
            tokio::time::sleep(*again).await;
        }
    }
    // The URL may hold a token of its own.
    tracing::warn!("a webhook is given up: {told}");
}

async fn send(letter: &Letter) -> Result<(), String> {
    let (base, path) = split(&letter.hook.url);
    let origin = Origin::new(base, OriginOptions::default())?;
    let signature = sign(&letter.hook.secret, letter.at, &letter.body);
    let signature = HeaderValue::from_str(&signature).map_err(|error| error.to_string())?;
    let headers = vec![
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (HeaderName::from_static("x-mainstay-signature"), signature),
    ];
    let body = Bytes::from(letter.body.clone());
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
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    #[test]
    fn a_signature_is_that_of_hmac_sha256() {
        // echo -n '1.{}' | openssl dgst -sha256 -hmac key
        let signed = sign(&Secret::new("key"), 1, "{}");
        assert_eq!(signed.len(), "t=1,v1=".len() + 64);
        assert!(signed.starts_with("t=1,v1="));
        assert_ne!(signed, sign(&Secret::new("key"), 2, "{}"));
        assert_ne!(signed, sign(&Secret::new("other"), 1, "{}"));
    }

    #[test]
    fn a_message_is_sent_again_until_it_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let server = std::thread::spawn(move || {
            let mut bodies = Vec::new();
            for status in ["503 No", "204 Good"] {
                let (stream, _) = listener.accept().expect("a client");
                let mut reader = BufReader::new(stream);
                let (mut length, mut signed, mut first) = (0, false, String::new());
                reader.read_line(&mut first).expect("a line");
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).expect("a line");
                    let line = line.trim_end().to_ascii_lowercase();
                    if let Some(value) = line.strip_prefix("content-length: ") {
                        length = value.parse().expect("a number");
                    }
                    signed |= line.starts_with("x-mainstay-signature: t=7,v1=");
                    if line.is_empty() {
                        break;
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).expect("a body");
                let reply = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                reader.get_mut().write_all(reply.as_bytes()).expect("a client");
                assert!(signed);
                bodies.push((first, String::from_utf8(body).expect("UTF-8")));
            }
            bodies
        });
        let hooks = Hooks::begin();
        let url = format!("http://127.0.0.1:{port}/budget?to=us");
        let hook = Hook { url, secret: Secret::new("key") };
        hooks.tell(&hook, 7, &serde_json::json!({"level": "spent"}));
        let bodies = server.join().expect("no panic");
        let expected =
            ("POST /budget?to=us HTTP/1.1\r\n".to_string(), r#"{"level":"spent"}"#.to_string());
        assert_eq!(bodies, [expected.clone(), expected]);
    }
}
