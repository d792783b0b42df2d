//! Asks a running server how one request was answered.

use crate::command_line::{Explain, WRONG};
use crate::stdout::say;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

/// The admin listener is near and answers from memory; whoever waits longer waits for nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// Far more than the story of one request.
const ANSWER_MAX: u64 = 4 << 20;

/// Prints the story of a request.
pub fn explain(options: &Explain) -> ExitCode {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if options.request.is_empty() || !options.request.chars().all(plain) {
        eprintln!(
            "mainstay: `{}` is no request id; it is in the header x-mainstay-request-id",
            options.request
        );
        return ExitCode::from(WRONG);
    }
    let format = if options.json { "application/json" } else { "text/plain" };
    let path = format!("/explain/{}", options.request);
    match get(&options.admin, &path, format) {
        Ok((200, body)) => {
            say(&format!("{}\n", body.trim_end()));
            ExitCode::SUCCESS
        }
        Ok((404, _)) => {
            eprintln!(
                "mainstay: {} is not known there; the server keeps the latest requests only",
                options.request
            );
            ExitCode::FAILURE
        }
        Ok((status, body)) => {
            eprintln!("mainstay: {} answered {status}: {}", options.admin, body.trim_end());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!(
                "mainstay: cannot ask {}: {error}; is it running, and is this its admin address \
                 (--admin)?",
                options.admin
            );
            ExitCode::FAILURE
        }
    }
}

/// Status and body of a `GET`. HTTP/1.0, so that the body comes as it is and the connection ends
/// with it.
fn get(base: &str, path: &str, accept: &str) -> std::io::Result<(u16, String)> {
    let invalid = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidInput, what);
    let host = base.strip_prefix("http://").ok_or_else(|| invalid("not an http:// address"))?;
    let host = host.trim_end_matches('/');
    let address = host.to_socket_addrs()?.next().ok_or_else(|| invalid("no such host"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // At once: `write!` on a socket sends each piece by itself.
    let request = format!("GET {path} HTTP/1.0\r\nhost: {host}\r\naccept: {accept}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut reply = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut reply)?;
    let reply = String::from_utf8_lossy(&reply);
    let (head, body) = reply.split_once("\r\n\r\n").ok_or_else(|| invalid("not HTTP"))?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    Ok((status.ok_or_else(|| invalid("not HTTP"))?, body.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_reply_is_taken_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut head, mut piece) = (Vec::new(), [0; 512]);
            while !head.ends_with(b"\r\n\r\n") {
                let read = stream.read(&mut piece).unwrap();
                assert_ne!(read, 0, "the request ends before its head does");
                head.extend_from_slice(&piece[..read]);
            }
            let reply = "HTTP/1.0 404 Not Found\r\ncontent-length: 2\r\n\r\nno";
            stream.write_all(reply.as_bytes()).unwrap();
            String::from_utf8_lossy(&head).into_owned()
        });
        let reply = get(&format!("http://{address}/"), "/explain/x", "text/plain").unwrap();
        assert_eq!(reply, (404, "no".to_string()));
        assert!(server.join().unwrap().starts_with("GET /explain/x HTTP/1.0\r\n"));
        assert!(get("https://x", "/", "*/*").is_err());
    }
}
