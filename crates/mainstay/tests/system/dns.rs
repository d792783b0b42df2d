//! Names answered by the real program, asked by the resolvers' own tools: `dig` of BIND and `kdig`
//! of Knot.

use crate::bed::client::get;
use crate::bed::gateway::Gateway;
use std::net::SocketAddr;
use std::process::Command;

const CONFIG: &str = r#"
[listen]
api = "127.0.0.1:0"
admin = "127.0.0.1:0"
dns = ["127.0.0.1:0"]
[dns]
names = ["api.example.com"]
tenants = ["acme"]
ns = ["ns1.example.com", "ns2.api.example.com"]
contact = "hostmaster@example.com"
kept_file = "kept.json"
[[dns.target]]
gateway = "gw-1"
addresses = ["203.0.113.1", "2001:db8::1"]
region = "east"
[[dns.target]]
gateway = "gw-2"
addresses = ["203.0.113.2", "2001:db8::2"]
region = "east"
[[dns.target]]
gateway = "gw-3"
addresses = ["203.0.113.3"]
region = "west"
[[dns.target]]
gateway = "gw-4"
addresses = ["203.0.113.4"]
region = "west"
[[dns.region]]
name = "east"
networks = ["198.51.100.0/24"]
[[dns.region]]
name = "west"
networks = ["192.0.2.0/24"]
[[dns.host]]
name = "ns2.api.example.com"
addresses = ["203.0.113.99"]
"#;

/// What `listening … dns=ADDRESS` says.
fn address(gateway: &Gateway) -> SocketAddr {
    let said = gateway.said();
    let address = said.split_whitespace().find_map(|word| word.strip_prefix("dns="));
    address.expect("it answers names").parse().expect("an address")
}

/// Asks with `tool` and returns what it prints.
fn ask(tool: &str, server: SocketAddr, words: &str) -> String {
    let out = Command::new(tool)
        .args([format!("@{}", server.ip()), String::from("-p"), server.port().to_string()])
        .args(words.split_whitespace())
        .output()
        .unwrap_or_else(|error| {
            panic!("{tool}: {error}; install the Debian packages bind9-dnsutils, knot-dnsutils")
        });
    // Errors are among what is said.
    String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()
}

#[track_caller]
fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is not in:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_reads_sane_answers() {
    let gateway = Gateway::start(CONFIG).await;
    let server = address(&gateway);
    let dig = |words: &str| ask("dig", server, words);
    let plain = dig("api.example.com A");
    says(&plain, &["status: NOERROR", "flags: qr aa rd;", "ANSWER: 2", "\t20\tIN\tA\t203.0.113."]);
    says(&plain, &["udp: 1232", "recursion requested but not available"]);
    says(
        &dig("+tcp aPI.eXample.com AAAA"),
        &["ANSWER: 2", "aPI.eXample.com.", "AAAA\t2001:db8::", "(TCP)"],
    );
    let east = dig("+subnet=198.51.100.77/32 api.example.com A");
    says(&east, &["CLIENT-SUBNET: 198.51.100.77/32/24", "203.0.113.1", "203.0.113.2"]);
    let west = dig("+subnet=192.0.2.0/24 api.example.com A");
    says(&west, &["CLIENT-SUBNET: 192.0.2.0/24/24", "203.0.113.3", "203.0.113.4"]);
    says(&dig("+subnet=0 api.example.com A"), &["CLIENT-SUBNET: 0.0.0.0/0/0", "ANSWER: 2"]);
    let soa = "ns1.example.com. hostmaster.example.com. 1 3600 600 1209600 20";
    says(&dig("api.example.com SOA"), &[soa]);
    says(&dig("api.example.com NS"), &["NS\tns1.example.com.", "NS\tns2.api.example.com."]);
    says(&dig("ns2.api.example.com A"), &["203.0.113.99"]);
    says(&dig("acme.api.example.com A"), &["ANSWER: 2"]);
    says(&dig("api.example.com TXT"), &["NOERROR", "ANSWER: 0, AUTHORITY: 1", soa]);
    says(&dig("nope.api.example.com A"), &["NXDOMAIN", "ANSWER: 0, AUTHORITY: 1", soa]);
    says(&dig("+notcp api.example.com ANY"), &["HINFO\t\"RFC8482\" \"\""]);
    says(&dig("www.example.net A"), &["status: REFUSED"]);
    says(&dig("CH version.bind TXT"), &["status: REFUSED"]);
    says(&dig("api.example.com AXFR"), &["Transfer failed"]);
    says(&dig("+noall +comments +tcp api.example.com IXFR=1"), &["REFUSED"]);
    says(&dig("+opcode=notify api.example.com SOA"), &["status: NOTIMP"]);
    says(&dig("+edns=1 +noednsneg api.example.com A"), &["status: BADVERS"]);
    let metrics = get(&format!("{}/metrics", gateway.admin)).await.body;
    let metrics = String::from_utf8(metrics).expect("text");
    says(&metrics, &["mainstay_dns_queries_total{outcome=\"answered\"}"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn kdig_reads_them_too_with_whatever_options() {
    let gateway = Gateway::start(CONFIG).await;
    let server = address(&gateway);
    let kdig = |words: &str| ask("kdig", server, words);
    says(&kdig("api.example.com A"), &["NOERROR", "ANSWER: 2", "203.0.113."]);
    let rich = kdig("+cookie +nsid +padding=128 +dnssec +subnet=192.0.2.9/32 api.example.com A");
    says(&rich, &["NOERROR", "ANSWER: 2", "192.0.2.9/32/24"]);
    says(&kdig("+tcp +keepopen api.example.com AAAA"), &["2001:db8::1", "2001:db8::2"]);
    says(&kdig("-t AXFR api.example.com"), &["REFUSED"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_listen_dns_nobody_answers_names() {
    let gateway = Gateway::start(&CONFIG.replace("dns = [\"127.0.0.1:0\"]\n", "")).await;
    assert!(!gateway.said().contains("dns=127"), "{}", gateway.said());
    assert!(gateway.said().contains("set listen.dns"), "{}", gateway.said());
}
