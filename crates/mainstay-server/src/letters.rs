//! Tells people and servers elsewhere that something happened: each message is sent again until it
//! is taken, or nobody will take it.
//!
//! Nothing waits for that. So many messages wait at once and no more, and who is told of one twice
//! can know it by its id.

mod hook;
mod mail;

pub use hook::Hook;
pub use mail::{Cover, Post, is_address};

use serde_json::Value;
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

/// A message on its way.
enum Letter {
    Hook(hook::Message),
    Mail(mail::Message),
}

/// Sends messages, on a thread of its own.
pub struct Letters {
    sender: mpsc::Sender<Letter>,
}

impl Letters {
    /// Begins to send. It ends with this value; what has not been taken by then is not sent again.
    pub fn begin() -> Letters {
        let (sender, letters) = mpsc::channel(WAITING);
        let started = std::thread::Builder::new().name("letters".into()).spawn(|| run(letters));
        if let Err(error) = started {
            tracing::error!("no thread for messages: {error}");
        }
        Letters { sender }
    }

    /// Tells `message`, which has an `id`, at `hook`.
    pub fn tell(&self, hook: &Hook, message: &Value) {
        let id = message["id"].as_str().unwrap_or_default().to_owned();
        let (hook, body) = (hook.clone(), message.to_string());
        self.send(Letter::Hook(hook::Message { hook, id, body }));
    }

    /// Writes to everybody whom `post` names. The id is the same however often it is sent.
    pub fn mail(&self, post: &Post, id: &str, (subject, text): (&str, &str)) {
        for to in &post.to {
            let [id, subject, text] = [id, subject, text].map(str::to_owned);
            let (post, to) = (post.clone(), to.clone());
            self.send(Letter::Mail(mail::Message { post, to, id, subject, text }));
        }
    }

    fn send(&self, letter: Letter) {
        if self.sender.try_send(letter).is_err() {
            tracing::warn!("too many messages wait, or none can be sent: one is not sent");
        }
    }
}

fn run(mut letters: mpsc::Receiver<Letter>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return tracing::error!("no runtime for messages");
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
        let sent = tokio::time::timeout(LIMIT, letter.send()).await;
        match sent.unwrap_or_else(|_| Err(String::from("no answer in time"))) {
            Ok(()) => return,
            Err(why) => told = why,
        }
        if let Some(again) = again {
            tokio::time::sleep(*again).await;
        }
    }
    // Where it was to go may hold a token of its own.
    tracing::warn!("a {} is given up: {told}", letter.kind());
}

impl Letter {
    async fn send(&self) -> Result<(), String> {
        match self {
            Letter::Hook(message) => hook::send(message).await,
            Letter::Mail(message) => mail::send(message).await,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Letter::Hook(_) => "webhook",
            Letter::Mail(_) => "letter",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::Secret;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    #[test]
    fn a_message_is_sent_again_until_it_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let server = std::thread::spawn(move || {
            let mut bodies = Vec::new();
            for status in ["503 No", "204 Good"] {
                let (stream, _) = listener.accept().expect("a client");
                let mut reader = BufReader::new(stream);
                let (mut length, mut signed, mut first) = (0, 0, String::new());
                reader.read_line(&mut first).expect("a line");
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).expect("a line");
                    let line = line.trim_end().to_ascii_lowercase();
                    if let Some(value) = line.strip_prefix("content-length: ") {
                        length = value.parse().expect("a number");
                    }
                    signed += u8::from(line.starts_with("x-mainstay-signature: t="));
                    signed += u8::from(line == "x-mainstay-id: 7");
                    if line.is_empty() {
                        break;
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).expect("a body");
                let reply = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                reader.get_mut().write_all(reply.as_bytes()).expect("a client");
                assert_eq!(signed, 2);
                bodies.push((first, String::from_utf8(body).expect("UTF-8")));
            }
            bodies
        });
        let letters = Letters::begin();
        let url = format!("http://127.0.0.1:{port}/budget?to=us");
        let hook = Hook { url, secret: Secret::new("key") };
        letters.tell(&hook, &serde_json::json!({"id": "7"}));
        let bodies = server.join().expect("no panic");
        let expected = ("POST /budget?to=us HTTP/1.1\r\n".to_string(), r#"{"id":"7"}"#.to_string());
        assert_eq!(bodies, [expected.clone(), expected]);
    }
}
