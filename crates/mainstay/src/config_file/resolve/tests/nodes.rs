//! Nodes in the configuration, and what can be wrong with them.

use super::*;
use crate::command_line::InitNode;
use mainstay_core::names::GatewayId;

/// A directory with the files of the nodes `a` and `b`, of one authority.
pub(super) fn fleet() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a directory");
    make(root.path(), "a", None, 3650);
    make(root.path(), "b", Some("a"), 3650);
    root
}

fn make(root: &Path, name: &str, ca: Option<&str>, days: u32) {
    let options = InitNode {
        name: name.into(),
        dir: Some(root.join(name)),
        ca: ca.map(|ca| root.join(ca)),
        address: None,
        days,
        force: true,
        json: true,
    };
    let done = crate::node::make(&options);
    assert_eq!(done.map(|_| ()), Ok(()));
}

pub(super) const A: &str = "[node]\nname = \"a\"\nca_file = \"a/ca.pem\"\n\
                            cert_file = \"a/node.pem\"\nkey_file = \"a/node.key\"\n";
const GATEWAYS: &str = "[[gateway]]\nname = \"b\"\nlink = \"https://10.0.0.2:8443\"\n\
                        [[gateway]]\nname = \"a\"\n";
const SITE: &str = "[[site]]\nname = \"hangzhou\"\nnode = \"https://10.0.0.3:8443/\"\n\
                    models = [{ name = \"m\" }]\n";

pub(super) fn at(base: &Path, text: &str) -> Result<Resolved, String> {
    with(text, &Environment::default(), &[], base)
}

#[track_caller]
pub(super) fn wrong(base: &Path, text: &str, expected: &[&str]) {
    let lines = at(base, text).expect_err("it is wrong");
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected, "\n{text}");
}

#[test]
fn a_gateway_knows_its_place_its_peers_and_the_nodes_of_sites() {
    let root = fleet();
    let setup = at(root.path(), &format!("{A}{GATEWAYS}{SITE}")).expect("right").setup;
    assert_eq!((setup.core.fleet.me, setup.core.fleet.gateways), (GatewayId(1), 2));
    let node = setup.node.as_ref().expect("a node");
    let peers: Vec<_> =
        node.peers.iter().map(|peer| (peer.name.as_str(), peer.address.as_deref())).collect();
    let expected = [("b", Some("10.0.0.2:8443")), ("hangzhou", Some("10.0.0.3:8443"))];
    assert_eq!(peers, expected);
    assert!(node.roles.gateway && node.roles.policy && !node.roles.site);
    let book = node.book(&setup);
    assert_eq!((book.gateways.as_slice(), book.home), (&["b".into(), "a".into()][..], None));
    assert_eq!(book.nodes[&0].as_str(), "hangzhou");
    assert!(setup.core.sites[0].is_node());
}

#[test]
fn a_node_of_a_site_talks_to_gateways_alone() {
    let root = fleet();
    let text = format!(
        "{A}site = \"fra\"\nroles = [\"site\"]\n{SITE}[[site]]\nname = \"fra\"\nnode = \
         \"https://10.0.0.4:8443\"\nnode_name = \"a\"\nmodels = [{{ name = \"m\" }}]\n\
         engine = {{ model = \"builtin\" }}\n[[gateway]]\nname = \"b\"\n\
         link = \"https://10.0.0.2:8443\"\n"
    );
    let setup = at(root.path(), &text).expect("right").setup;
    let node = setup.node.expect("a node");
    assert_eq!((node.site, node.peers.len()), (Some(1), 1));
    assert!(node.roles.site && !node.roles.gateway);
    assert_eq!(setup.core.fleet.gateways, 1);
}

#[test]
fn a_node_has_all_roles_and_controls_the_site_that_names_it() {
    let root = fleet();
    let own = "[[site]]\nname = \"fra\"\nnode = \"https://10.0.0.4:8443\"\nnode_name = \"a\"\n\
               models = [{ name = \"m\" }]\nengine = { model = \"builtin\" }\n";
    let setup = at(root.path(), &format!("{A}{SITE}{own}")).expect("right").setup;
    let node = setup.node.as_ref().expect("a node");
    assert!(node.roles.gateway && node.roles.site && node.roles.worker && node.roles.status);
    assert_eq!((node.site, node.gateways.len(), node.peers.len()), (Some(1), 1, 1));
    assert_eq!(node.book(&setup).home, Some(mainstay_core::names::SiteId(1)));
    let told = "m.toml:12: site.node: is controlled by this node, and nothing says what it \
                computes with; add [[site.worker]], or engine = { model = \"builtin\" }";
    let text = own.replace("engine = { model = \"builtin\" }\n", "");
    wrong(root.path(), &format!("{A}{SITE}{text}"), &[told]);
    let told = "m.toml:13: site.node: names node `a`, which has not the role `site`; add it to \
                node.roles, or set node_name to another's";
    wrong(root.path(), &format!("{A}roles = [\"gateway\"]\n{SITE}{own}"), &[told]);
    let told = "m.toml:18: site.node: names node `a`, which controls `fra`; a node controls one \
                site, so set node_name to another's, or site in [node] to this one";
    let second = own.replace("fra", "ber");
    wrong(root.path(), &format!("{A}{SITE}{own}{second}"), &[told]);
}

#[test]
fn keys_of_nodes_mean_nothing_without_a_name() {
    let text = "[node]\nroles = [\"site\"]\n[listen]\nlink = \"127.0.0.1:1\"\n\
                [[gateway]]\nname = \"a\"\n";
    let add = "means nothing without a name of this node; add name to [node]; `mainstay node init \
               --name NAME` prints the lines";
    let lines = ["2: node.roles", "4: listen.link", "5: gateway"];
    let expected = lines.map(|line| format!("m.toml:{line}: {add}"));
    wrong(Path::new("/nowhere"), text, &expected.each_ref().map(String::as_str));
    let lines = at(Path::new("/nowhere"), SITE).expect_err("no name");
    assert!(lines.starts_with("m.toml:3: site.node: is reached with this node's"), "{lines}");
}

#[test]
fn missing_foreign_and_unfit_certificates_are_told() {
    let root = fleet();
    let missing = "m.toml:2: node.name: has no key_file; `mainstay node init --name a` makes the \
                   files and prints the lines";
    wrong(root.path(), &A.replace("key_file = \"a/node.key\"\n", ""), &[missing]);
    let lines = at(root.path(), &A.replace("a/node.pem", "b/node.pem")).expect_err("b's");
    assert!(lines.starts_with("m.toml:4: node.cert_file: certificate and key do not"), "{lines}");
    let other = A.replace("a/node", "b/node");
    let lines = at(root.path(), &other).expect_err("b's");
    assert!(lines.contains("is made out to `b`, not to `a`"), "{lines}");
    let lines = at(root.path(), &A.replace("a/ca.pem", "no.pem")).expect_err("none");
    assert!(lines.contains("m.toml:3: node.ca_file: cannot read"), "{lines}");
    let foreign = fleet();
    let path = foreign.path().join("a/ca.pem").display().to_string();
    let lines = at(root.path(), &A.replace("a/ca.pem", &path)).expect_err("foreign");
    assert!(lines.contains("is not of this authority"), "{lines}");
}

#[test]
fn a_certificate_that_ends_within_a_month_is_a_warning() {
    let root = fleet();
    assert_eq!(at(root.path(), A).expect("right").warnings, []);
    make(root.path(), "a", None, 20);
    let warnings = at(root.path(), A).expect("right").warnings;
    let told = "m.toml:4: node.cert_file: within 30 days, the node's certificate has expired";
    assert!(warnings[0].to_string().starts_with(told), "{warnings:?}");
}

#[test]
fn names_places_and_roles_that_do_not_fit_are_told() {
    let root = fleet();
    let base = root.path();
    let only_b = "[[gateway]]\nname = \"b\"\n";
    let told = "m.toml:2: node.name: `a` is not among the gateways (known are b); add a \
                [[gateway]] with this name, or leave `gateway` out of node.roles";
    wrong(base, &format!("{A}{only_b}"), &[told]);
    let told = "m.toml:6: node.roles: has the role `site` and no site; add site = \"…\" to [node], \
                or leave the role out";
    wrong(base, &format!("{A}roles = [\"site\", \"gateway\"]\n"), &[told]);
    let told = "m.toml:6: node.site: no site `x`; known are hangzhou";
    wrong(base, &format!("{A}site = \"x\"\n{SITE}"), &[told]);
    let told = "m.toml:6: node.site: site `hangzhou` is controlled by node `hangzhou`; name this \
                node so, or set node_name = \"a\" at the site";
    wrong(base, &format!("{A}site = \"hangzhou\"\n{SITE}"), &[told]);
    let told = "m.toml:2: node.name: others reach this node by its `link`; add listen.link = \
                \"IP:PORT\"";
    let linked = GATEWAYS.replace("name = \"a\"", "name = \"a\"\nlink = \"https://10.0.0.1:1\"");
    wrong(base, &format!("{A}{linked}"), &[told]);
    let lines = at(base, &A.replace("name = \"a\"", "name = \"A.b\"")).expect_err("no name");
    assert!(lines.contains("`A.b` is no name of a node"), "{lines}");
    let twice = format!("{A}{GATEWAYS}[[gateway]]\nname = \"b\"\n");
    let lines = at(base, &twice).expect_err("twice");
    assert!(lines.contains("gateway.name: `b` is there twice"), "{lines}");
}

#[test]
fn an_address_of_a_node_is_https_with_host_and_port() {
    let root = fleet();
    let cases = [
        ("http://10.0.0.2:1", "is not encrypted, and nodes only speak TLS; write it like"),
        ("10.0.0.2:1", "is no address of a node; write it like"),
        ("https://10.0.0.2", "has no host and port alone; write it like"),
        ("https://10.0.0.2:1/v1", "has no host and port alone; write it like"),
        ("https://a@b:1", "has no host and port alone; write it like"),
    ];
    for (address, told) in cases {
        let text = format!("{A}{}", GATEWAYS.replace("https://10.0.0.2:8443", address));
        let lines = at(root.path(), &text).expect_err(address);
        let expected = format!("m.toml:8: gateway.link: `{address}` {told}");
        assert!(lines.starts_with(&expected), "{lines}");
    }
}

#[test]
fn a_site_of_ours_has_models_and_nothing_of_a_provider() {
    let root = fleet();
    let text = format!("{A}{SITE}key = \"k\"\n").replace("models = [{ name = \"m\" }]\n", "");
    let told = [
        "m.toml:6: site: has no models; add models = [{ name = \"…\" }]",
        "m.toml:9: site.key: a site of ours has none; take this line or `node` away",
    ];
    wrong(root.path(), &text, &told);
    let named = "[[site]]\nname = \"e\"\nengine = {}\nnode_name = \"x\"\n";
    let lines = at(root.path(), named).expect_err("no node");
    assert!(lines.starts_with("m.toml:4: site.node_name: names the node of a site"), "{lines}");
    let odd = format!("{A}{}", SITE.replace("hangzhou", "Hang_zhou"));
    let lines = at(root.path(), &odd).expect_err("odd");
    assert!(lines.contains("add node_name"), "{lines}");
    let two = format!("{A}{GATEWAYS}{SITE}node_name = \"b\"\n");
    let lines = at(root.path(), &two).expect_err("two addresses");
    assert!(lines.contains("`b` is at 10.0.0.3:8443 here and at 10.0.0.2:8443"), "{lines}");
}

#[test]
fn names_are_answered_with_the_gateways_in_their_order() {
    let root = fleet();
    let names = "[dns]\nnames = [\"api.example.com\"]\nns = [\"ns1.example.com\"]\n\
                 contact = \"hostmaster@example.com\"\n";
    let target = |name: &str, address: &str| {
        format!("[[dns.target]]\ngateway = \"{name}\"\naddresses = [\"{address}\"]\n")
    };
    let (a, b) = (target("a", "203.0.113.1"), target("b", "203.0.113.2"));
    let listen = "[listen]\ndns = \"127.0.0.1:5353\"\n";
    let text = format!("{listen}{A}data_dir = \"kept\"\n{GATEWAYS}{SITE}{names}{a}{b}");
    let dns = at(root.path(), &text).expect("right").setup.dns.expect("names");
    let order: Vec<&str> = dns.targets.iter().map(|target| target.gateway.as_str()).collect();
    assert_eq!(order, ["b", "a"]);
    assert_eq!(dns.kept, Some(root.path().join("kept/dns-answers")));
    let stranger = target("c", "203.0.113.3");
    let text = format!("{listen}{A}{GATEWAYS}{SITE}{names}{b}{stranger}");
    let wrong = at(root.path(), &text).expect_err("c is no gateway");
    assert!(wrong.contains("dns.target.gateway: is not among the gateways (b, a)"), "{wrong}");
}
