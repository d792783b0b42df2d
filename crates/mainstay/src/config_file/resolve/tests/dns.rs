//! What can be wrong with names that are answered with gateways.

use super::{refused, resolved, with};
use crate::environment::Environment;
use std::net::IpAddr;
use std::path::Path;

const LISTEN: &str = "[listen]\ndns = [\"127.0.0.1:5353\", \"[::1]:5353\"]\n";
const GOOD: &str = r#"[dns]
names = ["api.example.com"]
ns = ["ns1.example.com", "ns2.example.com"]
[[dns.target]]
gateway = "gw-1"
addresses = ["203.0.113.1"]
region = "east"
[[dns.target]]
gateway = "gw-2"
addresses = ["203.0.113.2", "2001:db8::2"]
[[dns.region]]
name = "east"
networks = ["198.51.100.0/24"]
"#;

/// What is changed in what is right, into what, and what is said then.
const WRONG: [(&str, &str, &str); 13] = [
    (
        "[\"api.example.com\"]",
        "[\"api..com\"]",
        "m.toml:4: dns.names: `api..com` is no name: a label is empty; mend it",
    ),
    (
        "[\"api.example.com\"]",
        "[\"example.org\", \"api.example.org\"]",
        "m.toml:4: dns.names: api.example.org lies below example.org, and each name is a zone \
         of its own; take one away, or name tenants in dns.tenants",
    ),
    (
        "ns1.example.com",
        "ns1.api.example.com",
        "m.toml:5: dns.ns: ns1.api.example.com lies below api.example.com, so only we can tell \
         its address; add a [[dns.host]] of that name, or use a name elsewhere",
    ),
    (
        "ns = ",
        "ttl = \"1500ms\"\nns = ",
        "m.toml:5: dns.ttl: must be whole seconds from \"1s\" to \"24h\"; 20s is usual",
    ),
    (
        "ns = ",
        "contact = \"nobody\"\nns = ",
        "m.toml:5: dns.contact: `nobody` is no mailbox: write it like \
         hostmaster@example.com; mend it",
    ),
    (
        "ns = ",
        "tenants = [\"a.b\"]\nns = ",
        "m.toml:5: dns.tenants: `a.b` is no label of a name: it has letters that no host has; \
         write other scripts as xn--…; mend it",
    ),
    (
        "203.0.113.1\"",
        "203.0.113.300\"",
        "m.toml:8: dns.target.addresses: `203.0.113.300` is no address; write it like \
         203.0.113.5",
    ),
    (
        "\"203.0.113.1\"",
        "\"203.0.113.1\", \"203.0.113.7\", \"203.0.113.8\"",
        "m.toml:8: dns.target.addresses: at most 2 of IPv4 and 2 of IPv6, so that answers stay \
         small; take some away",
    ),
    (
        "203.0.113.2",
        "203.0.113.1",
        "m.toml:12: dns.target.addresses: 203.0.113.1 is `gw-1`'s too; one gateway each",
    ),
    ("gw-2", "gw-1", "m.toml:10: dns.target: `gw-1` is there twice; put its addresses together"),
    (
        "region = \"east\"",
        "region = \"eats\"",
        "m.toml:9: dns.target.region: no [[dns.region]] `eats`; did you mean `east`?",
    ),
    (
        "198.51.100.0/24",
        "198.51.100.1/24",
        "m.toml:15: dns.region.networks: `198.51.100.1/24` has bits beyond its length; write \
         198.51.100.0/24",
    ),
    (
        "gateway = \"gw-1\"",
        "gatway = \"gw-1\"",
        "m.toml:7: dns.target.gatway: unknown key; did you mean `gateway`?",
    ),
];

/// The whole file with `from` replaced by `to` in what is right.
fn changed(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    format!("{LISTEN}{}", GOOD.replacen(from, to, 1))
}

#[test]
fn names_gateways_and_regions_come_out_as_they_are_written() {
    let setup = resolved(&format!("{LISTEN}{GOOD}"), []).expect("it is right").setup;
    assert_eq!(setup.listen.dns.len(), 2);
    let dns = setup.dns.expect("somebody listens");
    assert_eq!((dns.ttl, dns.contact.to_string()), (20, "hostmaster.api.example.com".into()));
    assert_eq!(dns.targets[1].addresses.len(), 2);
    assert_eq!((dns.targets[0].region, dns.targets[1].region), (Some(0), None));
    let client: IpAddr = [198, 51, 100, 7].into();
    assert_eq!(dns.table.find(client).region, Some(0));
    let one =
        format!("{LISTEN}{GOOD}").replace("[\"127.0.0.1:5353\", \"[::1]:5353\"]", "\"[::1]:53\"");
    assert_eq!(resolved(&one, []).expect("one address").setup.listen.dns.len(), 1);
}

#[test]
fn names_that_nobody_asks_for_are_told_as_a_warning() {
    let resolved = resolved(GOOD, []).expect("it is right");
    assert!(resolved.setup.dns.is_none());
    let said = "m.toml:1: dns: nobody listens for questions; set listen.dns, e.g. 203.0.113.5:53";
    assert_eq!(resolved.warnings[0].to_string(), said);
}

#[test]
fn what_is_wrong_with_names_is_told_with_line_and_remedy() {
    refused(
        "[listen]\ndns = \"127.0.0.1:5353\"\n",
        &["m.toml:2: listen.dns: there is no name to answer; add [dns] names = \
           [\"api.example.com\"], or take listen.dns away"],
    );
    for (from, to, said) in WRONG {
        let lines = resolved(&changed(from, to), []).expect_err(to);
        assert!(lines.lines().any(|line| line == said), "{to}: expected\n{said}\ngot\n{lines}");
    }
}

#[test]
fn a_file_of_networks_is_read_and_its_mistakes_have_their_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("east.txt");
    let text = changed("networks = [\"198.51.100.0/24\"]", "networks_file = \"east.txt\"");
    let look = |networks: &str| {
        std::fs::write(&file, networks).expect("write");
        with(&text, &Environment::from([]), &[], directory.path())
    };
    let resolved = look("# ours\n198.51.100.0/24  # the east\n\n2001:db8::/32\n").expect("right");
    let table = resolved.setup.dns.expect("somebody listens").table;
    assert_eq!(table.find("2001:db8::7".parse().expect("an address")).region, Some(0));
    let said = look("198.51.100.0/24\nx\n").expect_err("wrong");
    let wrong = "east.txt:2: `x` is no network; write it like 203.0.113.0/24";
    assert!(said.contains(wrong), "{said}");
    let missing = with(&text, &Environment::from([]), &[], Path::new("/nowhere"));
    assert!(missing.expect_err("no file").contains("cannot read /nowhere/east.txt"));
}
