//! This node among others: who they are, where they are reached, and whether its certificate is
//! one that they will take.

use super::Resolver;
use super::sites::Made;
use crate::config_file::Site;
use crate::config_file::node::Role;
use crate::config_file::problem::hint;
use mainstay_server::link::identity::ENDS_SOON;
use mainstay_server::link::{Identity, NodeName, Peer};
use mainstay_server::setup::{Node, NodeSite, Roles, Upstream};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Answers at once that an embedded engine is taken to write where nobody said.
pub(super) const STREAMS: u32 = 16;
/// Nodes a policy may list; their positions are 16 bits wide, and a digest names each.
const GATEWAYS_MAX: usize = 4096;

impl Resolver<'_> {
    /// This node, if it is one of several.
    pub(super) fn node(
        &mut self,
        sites: &[Made],
        listen: Option<SocketAddr>,
        pages: &[Peer],
    ) -> Option<Node> {
        let file = self.file.node.clone();
        let gateways = self.gateways();
        let Some(name) = &file.name else {
            self.nothing_of_nodes(sites);
            return None;
        };
        let name = match NodeName::new(name) {
            Ok(name) => name,
            Err(what) => {
                self.wrong("node.name", what);
                return None;
            }
        };
        let identity = self.identity(&name);
        let mut roles = self.roles(&name, &gateways);
        let site = self.own_site(&name, roles, sites);
        self.others_sites(&name, site, sites);
        // By default a node has all the roles that it can have.
        roles.site &= site.is_some();
        let mut peers = self.peers((&name, roles), &gateways, sites);
        self.pages_of(&name, (roles, &gateways), pages, &mut peers);
        let policy = self.policy(&name, &mut peers);
        let mut named = gateways.iter().chain(pages);
        let is_named = named.any(|peer| peer.name == name && peer.address.is_some());
        if is_named && listen.is_none() {
            let what = "others reach this node by its `link`; add listen.link = \"IP:PORT\"";
            self.wrong("node.name", what);
        }
        let data_dir = self.data_dir();
        let alone = vec![name];
        let gateways: Vec<NodeName> = gateways.into_iter().map(|peer| peer.name).collect();
        let gateways = if gateways.is_empty() && roles.gateway { alone } else { gateways };
        Some(Node { identity: identity?, roles, site, gateways, peers, data_dir, policy })
    }

    /// What only a node can have.
    fn nothing_of_nodes(&mut self, sites: &[Made]) {
        let add = "add name to [node]; `mainstay node init --name NAME` prints the lines";
        let file = self.file.node.clone();
        for (key, there) in [
            ("node.ca_file", file.ca_file.is_some()),
            ("node.cert_file", file.cert_file.is_some()),
            ("node.key_file", file.key_file.is_some()),
            ("node.roles", file.roles.is_some()),
            ("node.site", file.site.is_some()),
            ("listen.link", self.file.listen.link.is_some()),
            ("policy.source", self.file.policy.source.is_some()),
            ("gateway", !self.file.gateway.is_empty()),
            ("status.node", !self.file.status.node.is_empty()),
        ] {
            if there {
                self.wrong(key, format!("means nothing without a name of this node; {add}"));
            }
        }
        let is_node = |made: &Made| matches!(made.upstream, Upstream::Node(_));
        if let Some(at) = sites.iter().position(is_node) {
            let what = format!("is reached with this node's certificate; {add}");
            self.wrong(&format!("site.{at}.node"), what);
        }
    }

    /// The gateways, each with where it is reached.
    fn gateways(&mut self) -> Vec<Peer> {
        let files = self.file.gateway.clone().into_iter();
        let gateways = self.listed("gateway", files.map(|file| (file.name, file.link)));
        if gateways.len() > GATEWAYS_MAX {
            let what = format!("{} are too many; at most {GATEWAYS_MAX}", gateways.len());
            self.wrong("gateway", what);
        }
        gateways
    }

    /// The nodes that a list names, each with where it is reached.
    pub(super) fn listed(
        &mut self,
        list: &str,
        files: impl Iterator<Item = (Option<String>, Option<String>)>,
    ) -> Vec<Peer> {
        let mut nodes: Vec<Peer> = Vec::new();
        for (at, (name, link)) in files.enumerate() {
            let path = format!("{list}.{at}");
            let address = link.and_then(|text| self.node_url(&format!("{path}.link"), &text));
            let Some(name) = name else {
                self.wrong(&path, "has no name; add name = \"…\"");
                continue;
            };
            match NodeName::new(&name) {
                Ok(name) if nodes.iter().any(|other| other.name == name) => {
                    let what = format!("`{name}` is there twice; give each node its own name");
                    self.wrong(&format!("{path}.name"), what);
                }
                Ok(name) => nodes.push(Peer { name, address }),
                Err(what) => self.wrong(&format!("{path}.name"), what),
            }
        }
        nodes
    }

    /// `host:port` of `https://host:port`.
    pub(super) fn node_url(&mut self, key: &str, text: &str) -> Option<String> {
        let write = "write it like https://10.0.0.2:8443";
        let Some(rest) = text.strip_prefix("https://") else {
            let what = match text.starts_with("http://") {
                true => format!("`{text}` is not encrypted, and nodes only speak TLS; {write}"),
                false => format!("`{text}` is no address of a node; {write}"),
            };
            self.wrong(key, what);
            return None;
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        let parts = rest.rsplit_once(':');
        let parts = parts.filter(|(host, _)| !host.is_empty() && rest.chars().all(plain));
        match parts.map(|(_, port)| port.parse::<u16>()) {
            Some(Ok(port)) if port > 0 => Some(rest.to_string()),
            _ => {
                self.wrong(key, format!("`{text}` has no host and port alone; {write}"));
                None
            }
        }
    }

    fn identity(&mut self, name: &NodeName) -> Option<Identity> {
        let file = self.file.node.clone();
        let files = [
            ("ca_file", file.ca_file, "CERTIFICATE-----"),
            ("cert_file", file.cert_file, "CERTIFICATE-----"),
            ("key_file", file.key_file, "PRIVATE KEY-----"),
        ];
        let before = self.problems.len();
        let mut paths: Vec<PathBuf> = Vec::new();
        for (key, text, block) in files {
            match text {
                Some(text) => paths.push(self.pem(&format!("node.{key}"), &text, block)),
                None => {
                    let what = format!(
                        "has no {key}; `mainstay node init --name {name}` makes the files and \
                         prints the lines"
                    );
                    self.wrong("node.name", what);
                }
            }
        }
        let [authority, certificate, key] = paths.as_slice() else { return None };
        if self.problems.len() > before {
            return None;
        }
        match Identity::load(name, authority, (certificate, key)) {
            Ok(identity) => {
                if let Err(what) = identity.check(ENDS_SOON) {
                    self.warn("node.cert_file", format!("within 30 days, {what}"));
                }
                Some(identity)
            }
            Err(what) => {
                self.wrong("node.cert_file", what);
                None
            }
        }
    }

    fn roles(&mut self, name: &NodeName, gateways: &[Peer]) -> Roles {
        let file = self.file.node.clone();
        let has = |role: Role| file.roles.as_ref().is_none_or(|roles| roles.contains(&role));
        let roles = Roles {
            gateway: has(Role::Gateway),
            site: has(Role::Site),
            worker: has(Role::Worker),
            policy: has(Role::Policy),
            status: has(Role::Status),
        };
        if file.roles.as_ref().is_some_and(Vec::is_empty) {
            self.wrong("node.roles", "leaves nothing to do; name some, or take the line away");
        }
        let known = gateways.iter().map(|peer| peer.name.as_str());
        if roles.gateway && !gateways.is_empty() && !known.clone().any(|each| each == name.as_str())
        {
            let what = format!(
                "`{name}` is not among the gateways ({}); add a [[gateway]] with this name, or \
                 leave `gateway` out of node.roles",
                hint(name.as_str(), known)
            );
            self.wrong("node.name", what);
        }
        if !roles.site && file.site.is_some() {
            let what = "needs the role `site`; add it to node.roles, or take this line away";
            self.wrong("node.site", what);
        }
        roles
    }

    /// Position of the site that this node controls: the one it names, else the one that names it.
    fn own_site(&mut self, name: &NodeName, roles: Roles, sites: &[Made]) -> Option<usize> {
        if !roles.site {
            return None;
        }
        let Some(wanted) = self.file.node.site.clone() else {
            let found = sites.iter().position(|site| is_of(site, name));
            if found.is_none() && self.file.node.roles.is_some() {
                let what = "has the role `site` and no site; add site = \"…\" to [node], or leave \
                            the role out";
                self.wrong("node.roles", what);
            }
            return self.computes(found?, sites);
        };
        let Some(at) = sites.iter().position(|site| site.core.name == wanted) else {
            let hint = hint(&wanted, sites.iter().map(|site| site.core.name.as_str()));
            self.wrong("node.site", format!("no site `{wanted}`; {hint}"));
            return None;
        };
        match &sites.get(at)?.upstream {
            Upstream::Node(site) if site.name == *name => self.computes(at, sites),
            Upstream::Node(site) => {
                let what = format!(
                    "site `{wanted}` is controlled by node `{}`; name this node so, or set \
                     node_name = \"{name}\" at the site",
                    site.name
                );
                self.wrong("node.site", what);
                None
            }
            Upstream::Provider(_) | Upstream::Engine(_) => {
                let what = format!(
                    "site `{wanted}` is no site of ours; add node = \"https://host:port\" to it"
                );
                self.wrong("node.site", what);
                None
            }
        }
    }

    /// The same position, after a problem if nothing computes at that site.
    fn computes(&mut self, at: usize, sites: &[Made]) -> Option<usize> {
        if let Some(Upstream::Node(NodeSite { workers: None, .. })) =
            sites.get(at).map(|site| &site.upstream)
        {
            let what = "is controlled by this node, and nothing says what it computes with; add \
                        [[site.worker]], or engine = { model = \"builtin\" }";
            self.wrong(&format!("site.{at}.node"), what);
        }
        Some(at)
    }

    /// A site that names this node and is not the one it controls would never answer.
    fn others_sites(&mut self, name: &NodeName, own: Option<usize>, sites: &[Made]) {
        let is_left = |(at, site): &(usize, &Made)| own != Some(*at) && is_of(site, name);
        let left: Vec<usize> = sites.iter().enumerate().filter(is_left).map(|(at, _)| at).collect();
        if own.is_none() && self.file.node.site.is_some() {
            // What is wrong there was told.
            return;
        }
        for at in left {
            let what = match own.and_then(|own| sites.get(own)) {
                Some(own) => format!(
                    "names node `{name}`, which controls `{}`; a node controls one site, so set \
                     node_name to another's, or site in [node] to this one",
                    own.core.name
                ),
                None => format!(
                    "names node `{name}`, which has not the role `site`; add it to node.roles, or \
                     set node_name to another's"
                ),
            };
            self.wrong(&format!("site.{at}.node"), what);
        }
    }

    /// Whom this node talks to: gateways, and where it is one itself, the nodes of sites.
    fn peers(
        &mut self,
        (name, roles): (&NodeName, Roles),
        gateways: &[Peer],
        sites: &[Made],
    ) -> Vec<Peer> {
        let mut peers: Vec<Peer> = gateways.to_vec();
        // Every node asks the one that publishes.
        let is_source = self.file.policy.source.as_deref() == Some(name.as_str());
        for (at, made) in sites.iter().enumerate() {
            let Upstream::Node(NodeSite { name: theirs, address, .. }) = &made.upstream else {
                continue;
            };
            match peers.iter_mut().find(|peer| peer.name == *theirs) {
                None if roles.gateway || is_source => {
                    peers.push(Peer { name: theirs.clone(), address: Some(address.clone()) });
                }
                None => {}
                Some(peer) => match &peer.address {
                    None => peer.address = Some(address.clone()),
                    Some(other) if other == address => {}
                    Some(other) => {
                        let what = format!(
                            "`{theirs}` is at {address} here and at {other} elsewhere; a node \
                             has one address"
                        );
                        self.wrong(&format!("site.{at}.node"), what);
                    }
                },
            }
        }
        peers.retain(|peer| peer.name != *name);
        peers
    }

    /// A directory that exists, or can be made later.
    /// Where this process keeps what must outlive it, one of several nodes or not.
    pub(super) fn data_dir(&mut self) -> Option<PathBuf> {
        let text = self.file.node.data_dir.clone()?;
        Some(self.directory("node.data_dir", &text))
    }

    fn directory(&mut self, key: &str, text: &str) -> PathBuf {
        let path = self.path(text);
        if path.exists() && !path.is_dir() {
            self.wrong(key, format!("{} is no directory; name another", path.display()));
        }
        path
    }

    /// The node of ours that controls a site.
    pub(super) fn node_site(&mut self, path: &str, name: &str, file: &Site) -> Option<NodeSite> {
        self.no_provider(path, file, "a site of ours has none; take this line or `node` away");
        let address = file.node.as_ref();
        let address = address.and_then(|text| self.node_url(&format!("{path}.node"), text));
        let wanted = file.node_name.as_deref().unwrap_or(name);
        let workers = self.workers(path, file);
        match NodeName::new(wanted) {
            Ok(name) => Some(NodeSite { name, address: address?, workers }),
            Err(what) if file.node_name.is_some() => {
                self.wrong(&format!("{path}.node_name"), what);
                None
            }
            Err(_) => {
                let what = "the site's name is none a node can have; add node_name = \"…\"";
                self.wrong(&format!("{path}.node"), what);
                None
            }
        }
    }
}

/// Whether the node `name` controls this site.
fn is_of(site: &Made, name: &NodeName) -> bool {
    matches!(&site.upstream, Upstream::Node(node) if node.name == *name)
}
