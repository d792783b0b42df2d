//! E-mail, by SMTP: to an operator's own server, which knows how to reach everybody else's.

use crate::setup::Secret;
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

/// A subject is a line of a list.
const SUBJECT_MAX: usize = 150;

/// How a connection to the server is kept from others' eyes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cover {
    /// It begins in the open and is covered before anything is said.
    #[default]
    StartTls,
    /// It is covered from the first byte.
    Tls,
    /// It never is: for a server on this machine.
    None,
}

/// Who is written to, and by what server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// The server's name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is covered.
    pub cover: Cover,
    /// The user and the password, if the server wants them.
    pub login: Option<(String, Secret)>,
    /// Who writes.
    pub from: String,
    /// Who reads.
    pub to: Vec<String>,
}

/// A letter on its way, to one reader: who cannot be reached keeps no other from reading.
pub(super) struct Message {
    pub(super) post: Post,
    pub(super) to: String,
    pub(super) id: String,
    pub(super) subject: String,
    pub(super) text: String,
}

/// Whether this is an address that letters can go to.
pub fn is_address(text: &str) -> bool {
    text.parse::<Mailbox>().is_ok()
}

/// Sends it once.
pub(super) async fn send(message: &Message) -> Result<(), String> {
    let Message { post, .. } = message;
    let host = post.host.as_str();
    let builder = match post.cover {
        Cover::StartTls => AsyncSmtpTransport::<Tokio1Executor>::starttls_relay(host),
        Cover::Tls => AsyncSmtpTransport::<Tokio1Executor>::relay(host),
        Cover::None => Ok(AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)),
    };
    let mut builder = builder.map_err(|error| error.to_string())?.port(post.port);
    if let Some((user, password)) = &post.login {
        let password = password.reveal().to_owned();
        builder = builder.credentials(Credentials::new(user.clone(), password));
    }
    let letter = letter(message)?;
    builder.build().send(letter).await.map(drop).map_err(|error| error.to_string())
}

fn letter(message: &Message) -> Result<lettre::Message, String> {
    let mailbox = |text: &str| text.parse::<Mailbox>().map_err(|error| format!("{text}: {error}"));
    let from = mailbox(&message.post.from)?;
    let id = format!("<{}@{}>", message.id, from.email.domain());
    let subject: String = message.subject.chars().filter(|each| !each.is_control()).collect();
    let subject: String = subject.chars().take(SUBJECT_MAX).collect();
    let letter = lettre::Message::builder()
        .from(from)
        .to(mailbox(&message.to)?)
        .subject(subject)
        .message_id(Some(id))
        .header(ContentType::TEXT_PLAIN)
        .body(message.text.clone());
    letter.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::letters::Letters;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};

    /// What a client of the smallest server says; the answer to its letter is `taken`.
    fn serve(stream: TcpStream, taken: &str) -> Vec<String> {
        let mut reader = BufReader::new(stream);
        let mut said = Vec::new();
        let mut reply = "220 here";
        loop {
            reader.get_mut().write_all(format!("{reply}\r\n").as_bytes()).expect("a client");
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return said;
            }
            let line = line.trim_end().to_owned();
            reply = match line.split(' ').next().unwrap_or_default() {
                "DATA" => "354 go on",
                "QUIT" => "221 bye",
                _ => "250 ok",
            };
            let is_data = line == "DATA";
            said.push(line);
            if is_data {
                reader.get_mut().write_all(b"354 go on\r\n").expect("a client");
                while said.last().is_none_or(|last| last != ".") {
                    let mut line = String::new();
                    assert_ne!(reader.read_line(&mut line).expect("a line"), 0);
                    said.push(line.trim_end().to_owned());
                }
                reply = taken;
            }
        }
    }

    #[test]
    fn a_letter_is_sent_again_until_it_is_taken_and_each_reader_has_their_own() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let server = std::thread::spawn(move || {
            let taken = ["451 later", "250 ok"].map(|taken| {
                let (stream, _) = listener.accept().expect("a client");
                serve(stream, taken)
            });
            taken.map(|said| said.join("\n"))
        });
        let post = Post {
            host: "127.0.0.1".into(),
            port,
            cover: Cover::None,
            login: None,
            from: "Status <status@example.com>".into(),
            to: vec!["ops@example.com".into()],
        };
        let letters = Letters::begin();
        letters.mail(&post, "x-1", ("It is down\r\nBcc: all@example.com", ".\n状态 <b>\n"));
        let told = server.join().expect("no panic");
        for said in told {
            assert!(said.contains("RCPT TO:<ops@example.com>"), "{said}");
            assert!(said.contains("\nMessage-ID: <x-1@example.com>"), "{said}");
            // A line end in a title makes no header of its own.
            assert!(said.contains("\nSubject: It is downBcc: all@example.com\n"), "{said}");
        }
        assert!(is_address("Ops <ops@example.com>") && !is_address("nobody"));
    }
}
