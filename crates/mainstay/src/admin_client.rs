//! Asks a running server at its admin listener.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// The admin listener is near and answers from memory; whoever waits longer waits for nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where commands have the admin token from, if the listener wants one.
pub const TOKEN: &str = "MAINSTAY_ADMIN_TOKEN";

/// Far more than anything it tells.
const ANSWER_MAX: u64 = 16 << 20;

/// Status and body of a `GET`.
///
/// # Errors
/// If nobody answers, or not in HTTP, or not without the admin token.
pub fn get(base: &str, path: &str, accept: &str) -> std::io::Result<(u16, String)> {
    ask(base, &format!("GET {path}"), &format!("accept: {accept}\r\n"), "")
}

/// Status and body of a `POST` of JSON.
///
/// # Errors
/// If nobody answers, or not in HTTP, or not without the admin token.
pub fn post(base: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    let headers = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    ask(base, &format!("POST {path}"), &headers, body)
}

/// HTTP/1.0, so that the body comes as it is and the connection ends with it.
fn ask(base: &str, line: &str, headers: &str, body: &str) -> std::io::Result<(u16, String)> {
    let invalid = |what: &str| Error::new(ErrorKind::InvalidInput, what);
    let host = base.strip_prefix("http://").ok_or_else(|| invalid("not an http:// address"))?;
    let host = host.trim_end_matches('/');
    let address = host.to_socket_addrs()?.next().ok_or_else(|| invalid("no such host"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // At once: `write!` on a socket sends each piece by itself.
    let token = std::env::var(TOKEN).ok().filter(|token| !token.trim().is_empty());
    let token =
        token.map_or(String::new(), |token| format!("authorization: Bearer {}\r\n", token.trim()));
    let request = format!("{line} HTTP/1.0\r\nhost: {host}\r\n{token}{headers}\r\n{body}");
    stream.write_all(request.as_bytes())?;
    let mut reply = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut reply)?;
    if reply.is_empty() {
        return Err(invalid("it closed the connection without an answer"));
    }
    let reply = String::from_utf8_lossy(&reply);
    let (head, body) = reply.split_once("\r\n\r\n").ok_or_else(|| invalid("not HTTP"))?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    match status.ok_or_else(|| invalid("not HTTP"))? {
        // Whatever was asked for: each command would say something else of it.
        401 => {
            let what = format!("it wants the admin token; put it into {TOKEN}");
            Err(Error::new(ErrorKind::PermissionDenied, what))
        }
        status => Ok((status, body.to_string())),
    }
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

    #[test]
    fn who_hangs_up_is_told_apart_from_who_speaks_something_else() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            for reply in ["", "SSH-2.0-x\r\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0; 512];
                assert_ne!(stream.read(&mut head).unwrap(), 0);
                stream.write_all(reply.as_bytes()).unwrap();
            }
        });
        let told = |_| get(&base, "/", "*/*").unwrap_err().to_string();
        assert_eq!([0, 1].map(told), ["it closed the connection without an answer", "not HTTP"]);
        server.join().unwrap();
    }
}
