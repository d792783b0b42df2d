//! Names over real sockets: datagrams, connections, and sixty reloads under load.

use mainstay_core::names::GatewayId;
use mainstay_server::gateway::dns::outside::example;
use mainstay_server::gateway::dns::publish::Publisher;
use mainstay_server::gateway::dns::sockets::Sockets;
use mainstay_server::gateway::dns::{Dns, Settings};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, Question, TYPE};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Reloads of the settings while questions come.
const RELOADS: u64 = 60;
/// A reply that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(5);

fn start(address: &str) -> (Dns, SocketAddr) {
    let mut sockets = Sockets::default();
    sockets.bind(address.parse().expect("an address"), 2).expect("bind");
    let address = sockets.addresses()[0];
    let (publisher, _) = Publisher::new(example());
    (Dns::start(Arc::new(publisher), sockets).expect("start"), address)
}

fn question(id: u16, name: &'static str) -> Vec<u8> {
    let mut packet = Packet::new_query(id);
    let name = Name::new(name).expect("a name");
    let (kind, class) = (QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN));
    packet.questions.push(Question::new(name, kind, class, false));
    packet.build_bytes_vec().expect("bytes")
}

/// Addresses in `reply`.
fn addresses(reply: &[u8]) -> usize {
    let packet = Packet::parse(reply).expect("a reply");
    packet.answers.iter().filter(|record| matches!(record.rdata, RData::A(_))).count()
}

fn client(server: SocketAddr) -> UdpSocket {
    let here: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((here, 0)).expect("a socket");
    socket.connect(server).expect("connect");
    socket.set_read_timeout(Some(PATIENCE)).expect("a limit");
    socket
}

fn exchange(socket: &UdpSocket, packet: &[u8]) -> Vec<u8> {
    let mut reply = [0; 2048];
    // A port that the kernel chose may be shared for a moment with a server of another test, since
    // both let it be shared; what that one takes along when it ends is asked again, as clients do.
    for _ in 0..3 {
        socket.send(packet).expect("send");
        if let Ok(length) = socket.recv(&mut reply) {
            return reply[..length].to_vec();
        }
    }
    panic!("no reply")
}

#[tokio::test]
async fn datagrams_are_answered_at_one_address_and_at_all_of_them() {
    for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
        let (dns, mut server) = start(address);
        if server.ip().is_unspecified() {
            // Not the address that the machine would choose by itself: the reply must come from
            // where it was asked.
            let other: IpAddr =
                if server.is_ipv4() { [127, 0, 0, 2].into() } else { "::1".parse().expect("one") };
            server.set_ip(other);
        }
        let socket = client(server);
        for id in 0..200 {
            let reply = exchange(&socket, &question(id, "api.example.com"));
            assert_eq!((reply[..2].to_vec(), addresses(&reply)), (id.to_be_bytes().to_vec(), 2));
        }
        dns.stop();
    }
}

#[tokio::test]
async fn a_port_that_somebody_has_is_not_shared() {
    let (dns, server) = start("127.0.0.1:0");
    let mut second = Sockets::default();
    let error = second.bind(server, 1).expect_err("in use");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    dns.stop();
    let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let server = datagrams.local_addr().expect("an address");
    let error = second.bind(server, 1).expect_err("in use by datagrams alone");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

/// One exchange over TCP, the question in pieces of `size`.
async fn by_stream(stream: &mut TcpStream, packet: &[u8], size: usize) -> Vec<u8> {
    let mut framed = (packet.len() as u16).to_be_bytes().to_vec();
    framed.extend(packet);
    for piece in framed.chunks(size) {
        stream.write_all(piece).await.expect("write");
    }
    let length = stream.read_u16().await.expect("a length");
    let mut reply = vec![0; usize::from(length)];
    stream.read_exact(&mut reply).await.expect("a reply");
    reply
}

#[tokio::test]
async fn a_connection_answers_question_after_question_and_ends_at_nonsense() {
    let (dns, server) = start("127.0.0.1:0");
    let mut stream = TcpStream::connect(server).await.expect("connect");
    stream.set_nodelay(true).expect("a flag");
    for (id, size) in [(1, 1), (2, 7), (3, 100)] {
        let reply = by_stream(&mut stream, &question(id, "chat.example.org"), size).await;
        assert_eq!(addresses(&reply), 2);
    }
    // A length that no question has.
    stream.write_all(&[255, 255, 0]).await.expect("write");
    assert!(stream.read_u8().await.is_err(), "closed");
    // What gets silence by datagram ends a connection.
    let mut stream = TcpStream::connect(server).await.expect("connect");
    stream.write_all(&[0, 2, 1, 2]).await.expect("write");
    assert!(stream.read_u8().await.is_err(), "closed");
    dns.stop();
}

#[tokio::test]
async fn one_address_cannot_hold_every_connection() {
    let (dns, server) = start("127.0.0.1:0");
    let mut held = Vec::new();
    for _ in 0..16 {
        let mut stream = TcpStream::connect(server).await.expect("connect");
        // Answered, so that it is known to be in.
        by_stream(&mut stream, &question(1, "api.example.com"), 100).await;
        held.push(stream);
    }
    let mut more = TcpStream::connect(server).await.expect("connect");
    assert!(more.read_u8().await.is_err(), "the seventeenth is closed");
    drop(held);
    dns.stop();
}

/// The settings of reload `number`: gateways come, go and move, names and regions stay or not.
fn reload(number: u64) -> Settings {
    let mut settings = example();
    for _ in 0..number % 4 {
        settings.targets.rotate_left(1);
    }
    settings.targets.truncate(1 + (number % 4) as usize);
    if number.is_multiple_of(3) {
        settings.table = Default::default();
    }
    if number.is_multiple_of(5) {
        settings.tenants.clear();
    }
    settings
}

#[tokio::test]
async fn sixty_reloads_under_load_and_never_an_empty_answer() {
    let (dns, server) = start("127.0.0.1:0");
    let publisher = dns.publisher();
    let done = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicU64::new(0));
    let load: Vec<_> = (0..4)
        .map(|number| {
            let (done, asked) = (done.clone(), asked.clone());
            std::thread::spawn(move || {
                let socket = client(server);
                let mut empty = 0;
                for id in 0.. {
                    let name = ["api.example.com", "chat.example.org"][(id % 2) as usize];
                    let reply = exchange(&socket, &question(id as u16 ^ number, name));
                    empty += u64::from(addresses(&reply) == 0);
                    asked.fetch_add(1, Ordering::Relaxed);
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                }
                empty
            })
        })
        .collect();
    for number in 0..RELOADS {
        // Each reload meets questions: some are answered before it and some after.
        let before = asked.load(Ordering::Relaxed);
        while asked.load(Ordering::Relaxed) < before + 20 {
            std::thread::yield_now();
        }
        publisher.adopt(reload(number));
        let weight = |at: u16| (GatewayId(at), (number * u64::from(at) % 7) as u32);
        let set: Vec<_> = (0..4).map(weight).collect();
        // Now and then the decision before is carried late, or says nothing.
        publisher.publish(number, if number.is_multiple_of(4) { &[] } else { &set });
        publisher.publish(number / 2, &set[..1]);
    }
    done.store(true, Ordering::Relaxed);
    let empty: u64 = load.into_iter().map(|one| one.join().expect("a client")).sum();
    let total = asked.load(Ordering::Relaxed);
    assert_eq!(empty, 0, "of {total} answers");
    assert!(total >= RELOADS * 20);
    let answered = dns.counts().answered.load(Ordering::Relaxed);
    assert!(answered <= total && dns.counts().shed.load(Ordering::Relaxed) == 0);
    dns.stop();
}

#[tokio::test]
async fn the_last_set_outlives_the_process() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = Settings { kept: Some(directory.path().join("kept.json")), ..example() };
    let set = vec![(GatewayId(1), 40), (GatewayId(3), 100)];
    let (publisher, _) = Publisher::new(settings.clone());
    publisher.publish(1, &set);
    publisher.stop();
    let (publisher, wrong) = Publisher::new(settings.clone());
    assert_eq!((publisher.set(), wrong), (set, None));
    publisher.stop();
    std::fs::write(directory.path().join("kept.json"), [255; 10]).expect("write");
    let (publisher, wrong) = Publisher::new(settings);
    assert_eq!(publisher.set().len(), 4, "all alike");
    assert!(wrong.is_some_and(|wrong| wrong.contains("are not used")));
}
