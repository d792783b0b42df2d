//! A name server that answers, fails or keeps silent (F41). Every name has the address
//! 127.0.0.1; what happens to it is set per scope, and the scope is the first label of the name:
//! after `POST /control/set?scope=x&key=dns&value=servfail`, `x.fault.test` fails.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::UdpSocket;

use super::scope::{Attempt, Board};

/// Answers are good for a second, so that a client that trusts the time to live asks again soon.
const TTL_SECONDS: u32 = 1;

const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
const TYPE_A: u16 = 1;

/// Answers queries until it is dropped.
pub async fn serve(socket: UdpSocket, board: Arc<Board>) -> io::Result<()> {
    let mut packet = [0; 1500];
    loop {
        let (length, peer) = socket.recv_from(&mut packet).await?;
        let Some((name, kind, end)) = question(&packet[..length]) else { continue };
        let scope = name.split('.').next().unwrap_or_default().to_owned();
        let mode = board.setting(&scope, "dns").unwrap_or_else(|| "good".to_owned());
        let attempt = Attempt {
            path: format!("dns {mode}"),
            model: name,
            ended: Some(if mode == "good" { "served" } else { "fault" }),
            ..Attempt::default()
        };
        board.note(&scope, attempt, Instant::now());
        if let Some(reply) = reply(&packet[..end], &mode, kind) {
            let _ = socket.send_to(&reply, peer).await;
        }
    }
}

/// Name, type and end of the first question (RFC 1035 §4.1).
fn question(packet: &[u8]) -> Option<(String, u16, usize)> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*packet.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        // Longer lengths are pointers, which questions have no use for.
        let label = packet.get(at..at + length).filter(|_| length < 64)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?);
    packet.get(at + 2..at + 4)?;
    Some((labels.join("."), kind, at + 4))
}

/// The reply to `query`, which ends behind its question.
fn reply(query: &[u8], mode: &str, kind: u16) -> Option<Vec<u8>> {
    let (code, answers) = match mode {
        "silent" => return None,
        "servfail" => (SERVFAIL, 0),
        "nxdomain" => (NXDOMAIN, 0),
        "empty" => (0, 0),
        _ => (0, u8::from(kind == TYPE_A)),
    };
    let mut reply = query.to_vec();
    reply[2] = 0x84 | (query[2] & 1); // a reply, authoritative; recursion as desired
    reply[3] = 0x80 | code;
    reply[4..12].copy_from_slice(&[0, 1, 0, answers, 0, 0, 0, 0]);
    if answers == 1 {
        reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
        reply.extend_from_slice(&TTL_SECONDS.to_be_bytes());
        reply.extend_from_slice(&[0, 4, 127, 0, 0, 1]);
    }
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query() -> Vec<u8> {
        let mut packet = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        packet.extend_from_slice(b"\x01x\x05fault\x04test\x00\x00\x01\x00\x01");
        packet
    }

    #[test]
    fn a_good_name_has_an_address() {
        let query = query();
        let (name, kind, end) = question(&query).expect("a question");
        assert_eq!((name.as_str(), kind, end), ("x.fault.test", 1, query.len()));
        let good = reply(&query, "good", kind).expect("a reply");
        assert!(good.ends_with(&[0, 4, 127, 0, 0, 1]));
        assert_eq!(reply(&query, "servfail", kind).expect("a reply")[3] & 15, SERVFAIL);
        assert_eq!(reply(&query, "silent", kind), None);
    }

    #[test]
    fn no_packet_makes_it_panic() {
        let query = query();
        for end in 0..query.len() {
            assert_eq!(question(&query[..end]), None);
        }
    }
}
