//! DNS: what is known outlives the server that told it.

use super::*;
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Packet, PacketFlag, RCODE, ResourceRecord, TYPE};
use std::net::{IpAddr, Ipv4Addr};

/// What the tiny server answers.
const GOOD: usize = 0;
const SERVFAIL: usize = 1;
const NXDOMAIN: usize = 2;
const EMPTY: usize = 3;
const SILENT: usize = 4;

/// A DNS server that answers every A question with 127.0.0.1, or as `mode` says.
async fn dns_server(mode: Arc<AtomicUsize>, asked: Arc<AtomicUsize>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0u8; 512];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            asked.fetch_add(1, Ordering::SeqCst);
            let mode = mode.load(Ordering::SeqCst);
            if mode != SILENT {
                let _ = socket.send_to(&answer(&buffer[..length], mode), from).await;
            }
        }
    });
    address
}

fn answer(question: &[u8], mode: usize) -> Vec<u8> {
    let query = Packet::parse(question).unwrap();
    let mut reply = Packet::new_reply(query.id());
    reply.set_flags(PacketFlag::RESPONSE);
    *reply.rcode_mut() = match mode {
        SERVFAIL => RCODE::ServerFailure,
        NXDOMAIN => RCODE::NameError,
        _ => RCODE::NoError,
    };
    let asked = &query.questions[0];
    if mode == GOOD && asked.qtype == TYPE::A.into() {
        let data = RData::A(A { address: Ipv4Addr::LOCALHOST.into() });
        reply.answers.push(ResourceRecord::new(asked.qname.clone(), CLASS::IN, 1, data));
    }
    reply.questions.push(asked.clone());
    reply.build_bytes_vec().unwrap()
}

#[tokio::test]
async fn the_last_good_address_serves_while_dns_fails_in_any_way() {
    let (mode, asked) = (Arc::new(AtomicUsize::new(GOOD)), Arc::new(AtomicUsize::new(0)));
    let server = dns_server(mode.clone(), asked.clone()).await;
    let names = Names::new("api.test", 443, Some(server));
    names.touch();
    names.refresh().await;
    let good = vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 443)];
    assert_eq!(names.addresses().await.unwrap(), good);
    for bad in [SERVFAIL, NXDOMAIN, EMPTY, SILENT] {
        mode.store(bad, Ordering::SeqCst);
        let before = asked.load(Ordering::SeqCst);
        names.refresh().await;
        assert!(asked.load(Ordering::SeqCst) > before, "it was asked again");
        let start = Instant::now();
        assert_eq!(names.addresses().await.unwrap(), good, "mode {bad}");
        assert!(start.elapsed() < Duration::from_millis(50), "nobody waits for a look-up");
    }
}

#[tokio::test]
async fn a_name_unknown_from_the_start_is_a_dead_site() {
    let (mode, asked) = (Arc::new(AtomicUsize::new(NXDOMAIN)), Arc::new(AtomicUsize::new(0)));
    let resolver = Some(dns_server(mode, asked.clone()).await);
    let options = OriginOptions { resolver, ..OriginOptions::default() };
    let origin = Origin::new("http://api.test:1", options).unwrap();
    for _ in 0..3 {
        let error = outcome(&origin).await.unwrap_err();
        assert_eq!((error.failure.class, error.sent), (DEAD, Sent::Nothing));
    }
    assert!(asked.load(Ordering::SeqCst) <= 4, "requests do not ask, the background does");
}

#[tokio::test]
async fn a_silent_resolver_costs_no_more_than_the_connect_limit() {
    let mode = Arc::new(AtomicUsize::new(SILENT));
    let resolver = Some(dns_server(mode, Arc::default()).await);
    let connect_limit = Duration::from_millis(300);
    let options = OriginOptions { resolver, connect_limit, ..OriginOptions::default() };
    let origin = Origin::new("http://api.test:1", options).unwrap();
    let start = Instant::now();
    let error = outcome(&origin).await.unwrap_err();
    assert_eq!((error.failure.class, error.sent), (DEAD, Sent::Nothing));
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_name_is_looked_up_and_reached() {
    let url = server(|mut stream, _| async move {
        read_request(&mut stream).await;
        stream.write_all(OK).await.unwrap();
    })
    .await;
    let resolver = Some(dns_server(Arc::default(), Arc::default()).await);
    let options = OriginOptions { resolver, ..OriginOptions::default() };
    let origin = Origin::new(&url.replace("127.0.0.1", "api.test"), options).unwrap();
    assert_eq!(outcome(&origin).await.unwrap(), b"ok");
}
