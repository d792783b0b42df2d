//! The public status page in the configuration, and what can be wrong with it.

use super::nodes::{A, at, fleet, wrong};
use super::*;
use mainstay_core::status;
use std::time::Duration;

const PAGE: &str = "[[status.node]]\nname = \"a\"\nlink = \"https://10.0.0.1:8443\"\n";
const GATEWAY: &str = "[[gateway]]\nname = \"b\"\nlink = \"https://10.0.0.2:8443\"\n";
const SITE: &str = "[[site]]\nname = \"north\"\nprovider = \"deepseek\"\nkey_env = \"UNSET\"\n";
const LINK: &str = "[listen]\nlink = \"0.0.0.0:8443\"\n";

#[test]
fn a_process_alone_shows_what_it_sees_itself() {
    let setup = resolved("", []).expect("right").setup;
    assert_eq!(setup.listen.status.map(|at| at.to_string()).as_deref(), Some("127.0.0.1:8082"));
    assert!(!setup.listen.is_status_asked);
    let config = setup.status_config();
    assert_eq!(config.gateways, ["here"]);
    assert_eq!((config.green, config.first_token), (status::GREEN, status::PROMISE));
    assert_eq!(config.models.len(), setup.core.models.len());
}

#[test]
fn a_node_of_the_page_alone_needs_no_key_and_hears_all_gateways() {
    let root = fleet();
    let own = format!("{LINK}{A}roles = [\"status\"]\n");
    let more = "[status]\ntitle = \"Us\"\ngreen = \"30s\"\n";
    let hidden = "[[site]]\nname = \"own\"\npublic_name = \"\"\nengine = { model = \"builtin\" }\n";
    let text = format!("{own}{GATEWAY}{PAGE}{more}{SITE}public_name = \"DeepSeek\"\n{hidden}");
    let setup = at(root.path(), &text).expect("right").setup;
    assert!(setup.listen.is_status_asked);
    let config = setup.status_config();
    assert_eq!(
        (config.gateways, config.sites),
        (vec!["b".into()], vec!["north".to_string(), "own".to_string()])
    );
    assert_eq!(config.green, Duration::from_secs(30));
    assert_eq!(setup.status.sites, [Some("DeepSeek".to_string()), None]);
    let node = setup.node.expect("a node");
    let peers: Vec<_> = node.peers.iter().map(|peer| peer.name.as_str()).collect();
    assert_eq!(peers, ["b"], "it talks to gateways alone");
}

#[test]
fn a_gateway_tells_the_nodes_of_the_page_and_shows_its_own_view_where_it_is_none() {
    let root = fleet();
    let gateways = format!("{GATEWAY}[[gateway]]\nname = \"a\"\n");
    let site = "[[site]]\nname = \"own\"\nengine = { model = \"builtin\" }\n";
    let page = PAGE.replace("\"a\"", "\"board\"");
    let setup = at(root.path(), &format!("{A}{gateways}{page}{site}")).expect("right").setup;
    assert_eq!(setup.status.nodes.len(), 1);
    assert_eq!(setup.status_config().gateways, ["a"]);
    let node = setup.node.as_ref().expect("a node");
    let peers: Vec<_> =
        node.peers.iter().map(|peer| (peer.name.as_str(), peer.address.as_deref())).collect();
    assert_eq!(peers, [("b", Some("10.0.0.2:8443")), ("board", Some("10.0.0.1:8443"))]);
    let setup = at(root.path(), &format!("{LINK}{A}{gateways}{PAGE}{site}")).expect("right").setup;
    assert_eq!(setup.status_config().gateways, ["b", "a"]);
}

#[test]
fn what_is_missing_for_the_page_is_told_with_the_remedy() {
    let root = fleet();
    let text = format!("{A}roles = [\"status\"]\n{GATEWAY}");
    wrong(
        root.path(),
        &text,
        &[
            "m.toml:6: node.roles: gateways tell only the nodes of [[status.node]] how they go; \
             add one with name = \"a\", here and in the gateways' files",
            "m.toml:6: node.roles: the page shows the fleet's models and sites; add the [[site]] \
             and [[model]] of the gateways' files (a node that is no gateway needs none of their \
             keys)",
        ],
    );
    let text = format!("{LINK}{A}roles = [\"status\"]\n{PAGE}{SITE}");
    let told = "m.toml:8: node.roles: the page shows what gateways tell; add the [[gateway]] of \
                their files";
    wrong(root.path(), &text, &[told]);
    let text = format!("{A}roles = [\"status\"]\n{GATEWAY}{PAGE}{SITE}");
    let told = "m.toml:2: node.name: others reach this node by its `link`; add listen.link = \
                \"IP:PORT\"";
    wrong(root.path(), &text, &[told]);
    let text = format!("[listen]\nstatus = \"127.0.0.1:1\"\n{A}roles = [\"gateway\"]\n");
    let told = "m.toml:2: listen.status: needs the role `status`; add it to node.roles, or take \
                this line away";
    wrong(root.path(), &text, &[told]);
    refused(
        "[listen]\nstatus = \"127.0.0.1:8081\"\n[status]\nurl = \"status.example.com\"\n\
         green = \"0s\"\n",
        &[
            "m.toml:2: listen.status: 127.0.0.1:8081 is listen.admin already; give the page its \
             own port",
            "m.toml:4: status.url: is no address of a page; write it like \
             https://status.example.com",
            "m.toml:5: status.green: must be longer than 0; take the line away for the default",
        ],
    );
    let long = "x".repeat(81);
    refused(
        &format!("[status]\ntitle = \"{long}\"\n"),
        &["m.toml:2: status.title: is longer than 80 characters; shorten it"],
    );
    refused(
        "[[status.node]]\nname = \"a\"\n",
        &["m.toml:1: status.node: means nothing without a name of this node; add name to [node]; \
           `mainstay node init --name NAME` prints the lines"],
    );
}

#[test]
fn only_who_shows_the_page_tells_others_and_needs_the_secret() {
    let root = fleet();
    let hook = "[[status.webhook]]\nurl = \"https://h.example/x\"\nsecret_env = \"HOOK\"\n";
    let setup = resolved(hook, [("HOOK", "s")]).expect("right").setup;
    assert_eq!(setup.status.webhooks.len(), 1);
    assert_eq!(setup.status.webhooks[0].secret.reveal(), "s");
    let gateways = format!("{GATEWAY}[[gateway]]\nname = \"a\"\n");
    let site = "[[site]]\nname = \"own\"\nengine = { model = \"builtin\" }\n";
    let page = PAGE.replace("\"a\"", "\"board\"");
    let text = format!("{A}{gateways}{page}{site}{hook}");
    assert!(at(root.path(), &text).expect("right").setup.status.webhooks.is_empty());
    for (line, what) in [
        ("url = \"ftp://x\"", "is no URL"),
        ("url = \"https://x\"", "add secret_env"),
        ("url = \"https://x\"\nsecret_env = \"UNSET\"", "not in the environment"),
        ("secret_env = \"UNSET\"", "add url"),
    ] {
        let found = resolved(&format!("[[status.webhook]]\n{line}\n"), []);
        let told = found.map(|_| ()).expect_err("wrong");
        assert!(told.contains(what), "{line}: {told}");
    }
}

#[test]
fn letters_go_to_addresses_by_a_server() {
    let mail = "[status.mail]\nserver = \"smtp.x:587\"\nfrom = \"Us <s@x.org>\"\n";
    let login = "user = \"u\"\npassword_env = \"PASSWORD\"\n";
    let text = format!("{mail}to = [\"ops@x.org\"]\n{login}");
    let setup = resolved(&text, [("PASSWORD", "p")]).expect("right").setup;
    let post = setup.status.mail.expect("letters");
    assert_eq!((post.host.as_str(), post.port, post.to.len()), ("smtp.x", 587, 1));
    assert_eq!(post.login.expect("a login").1.reveal(), "p");
    for (line, what) in [
        ("to = []", "has 0 readers"),
        ("to = [\"nobody\"]", "`nobody` is no address"),
        ("to = [\"o@x.org\"]\ntls = \"yes\"", "none of starttls"),
        ("to = [\"o@x.org\"]\nuser = \"u\"", "or neither"),
        ("to = [\"o@x.org\"]\nuser = \"u\"\npassword_env = \"UNSET\"", "not in the environment"),
    ] {
        let told = resolved(&format!("{mail}{line}\n"), []).map(|_| ()).expect_err("wrong");
        assert!(told.contains(what), "{line}: {told}");
    }
    let told = resolved("[status.mail]\nserver = \"x\"\n", []).map(|_| ()).expect_err("wrong");
    assert!(told.contains("is no server"), "{told}");
}
