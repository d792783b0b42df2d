//! The public status page: what it calls things, and which nodes show it.

use super::Resolver;
use super::sites::Made;
use mainstay_core::status::{GREEN, PROMISE};
use mainstay_server::letters::{Cover, Hook, Post, is_address};
use mainstay_server::link::{NodeName, Peer};
use mainstay_server::setup::{Node, Roles, Secret, StatusPage};
use std::net::SocketAddr;

/// What a service is called whose operator did not say.
const TITLE: &str = "Mainstay";
/// Longer titles and names fit on no phone.
const LONGEST: usize = 80;
/// Nodes that show the page: gateways tell each of them, every second.
const NODES_MAX: usize = 16;
/// Servers that are told: each is asked again and again while it does not answer.
const WEBHOOKS_MAX: usize = 16;
/// Operators who are written to: a list of more is the mail server's to have.
const READERS_MAX: usize = 16;

impl Resolver<'_> {
    /// This node, if it is one of several, and what the public is shown.
    pub(super) fn node_and_page(
        &mut self,
        sites: &[Made],
        link: Option<SocketAddr>,
    ) -> (Option<Node>, StatusPage) {
        let pages = self.pages();
        let node = self.node(sites, link, &pages);
        let status = self.status(sites, pages);
        let own = node.as_ref().map(|node| node.identity.name().clone());
        // One that shows only its own gateway's view, because others show the page, tells nobody.
        let nodes = &status.nodes;
        let tells = nodes.is_empty() || own.is_some_and(|own| nodes.contains(&own));
        let (webhooks, mail) = (self.webhooks(tells), self.mail(tells));
        (node, StatusPage { webhooks, mail, ..status })
    }

    /// What the public is shown, at these nodes.
    fn status(&mut self, sites: &[Made], pages: Vec<Peer>) -> StatusPage {
        let file = self.file.status.clone();
        for (key, wait) in [("status.green", file.green), ("status.first_token", file.first_token)]
        {
            if wait.is_some_and(|wait| wait.0.is_zero()) {
                let what = "must be longer than 0; take the line away for the default";
                self.wrong(key, what);
            }
        }
        let url = file.url.as_deref();
        if url.is_some_and(|url| !url.starts_with("https://") && !url.starts_with("http://")) {
            let what = "is no address of a page; write it like https://status.example.com";
            self.wrong("status.url", what);
        }
        let title = file.title.clone().unwrap_or_else(|| TITLE.into());
        self.public("status.title", &title);
        let public: Vec<Option<String>> =
            (0..sites.len()).map(|at| self.public_name(at, sites)).collect();
        StatusPage {
            nodes: pages.into_iter().map(|peer| peer.name).collect(),
            title,
            url: file.url,
            green: file.green.map_or(GREEN, |wait| wait.0),
            first_token: file.first_token.map_or(PROMISE, |wait| wait.0),
            sites: public,
            publish_capacity: file.publish_capacity.unwrap_or(false),
            webhooks: Vec::new(),
            mail: None,
        }
    }

    /// Whom this node tells what the page says, if it tells anybody.
    fn webhooks(&mut self, tells: bool) -> Vec<Hook> {
        let files = self.file.status.webhook.clone();
        if files.len() > WEBHOOKS_MAX {
            let what = format!("{} are too many; at most {WEBHOOKS_MAX}", files.len());
            self.wrong("status.webhook", what);
        }
        let mut hooks = Vec::new();
        for (at, file) in files.into_iter().enumerate().filter(|_| tells) {
            let keys = ["url", "secret_env"].map(|key| format!("status.webhook.{at}.{key}"));
            if file.url.is_none() {
                self.wrong(&format!("status.webhook.{at}"), "tells nobody; add url");
            }
            hooks.extend(self.hook(&keys, file.url, file.secret_env));
        }
        hooks
    }

    /// Whom this node writes to.
    fn mail(&mut self, tells: bool) -> Option<Post> {
        let file = self.file.status.mail.clone().filter(|_| tells)?;
        let server = file.server.unwrap_or_default();
        let place =
            server.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let Some((host, port)) = place.filter(|(host, _)| !host.is_empty()) else {
            let what = "is no server; write it like smtp.example.com:587";
            self.wrong("status.mail.server", what);
            return None;
        };
        let cover = match file.tls.as_deref().unwrap_or("starttls") {
            "starttls" => Cover::StartTls,
            "tls" => Cover::Tls,
            "none" => Cover::None,
            other => {
                let what = format!("`{other}` is none of starttls, tls and none");
                self.wrong("status.mail.tls", what);
                return None;
            }
        };
        let from = file.from.unwrap_or_default();
        for (key, address) in [("status.mail.from", &from)]
            .into_iter()
            .chain(file.to.iter().map(|to| ("status.mail.to", to)))
        {
            if !is_address(address) {
                let what = format!("`{address}` is no address; write it like ops@example.com");
                self.wrong(key, what);
            }
        }
        if file.to.is_empty() || file.to.len() > READERS_MAX {
            let what = format!("has {} readers; give 1 to {READERS_MAX}", file.to.len());
            self.wrong("status.mail.to", what);
        }
        let login = match (file.user, file.password_env) {
            (None, None) => None,
            (Some(user), Some(env)) => {
                let password = self.environment.get(&env).map(Secret::new);
                if password.is_none() {
                    let what = format!("{env} is not in the environment; set it, or name another");
                    self.wrong("status.mail.password_env", what);
                }
                Some((user, password?))
            }
            _ => {
                let what = "needs both user and password_env, or neither";
                self.wrong("status.mail", what);
                None
            }
        };
        Some(Post { host: host.into(), port, cover, login, from, to: file.to })
    }

    /// What the public calls a site, if it is to know of it.
    fn public_name(&mut self, at: usize, sites: &[Made]) -> Option<String> {
        let file = self.file.site.get(at)?.public_name.clone();
        if let Some(name) = &file {
            self.public(&format!("site.{at}.public_name"), name);
        }
        let name = file.unwrap_or_else(|| sites[at].core.name.clone());
        Some(name).filter(|name| !name.is_empty())
    }

    fn public(&mut self, key: &str, text: &str) {
        if text.chars().count() > LONGEST {
            self.wrong(key, format!("is longer than {LONGEST} characters; shorten it"));
        }
    }

    /// The nodes that show the page, each with where it is reached.
    fn pages(&mut self) -> Vec<Peer> {
        let files = self.file.status.node.clone().into_iter();
        let pages = self.listed("status.node", files.map(|file| (file.name, file.link)));
        if pages.len() > NODES_MAX {
            let what = format!("{} are too many; at most {NODES_MAX}", pages.len());
            self.wrong("status.node", what);
        }
        pages
    }

    /// Whom the node `name` talks to because of the page: a gateway to all that show it. And
    /// whether it can show it itself.
    pub(super) fn pages_of(
        &mut self,
        name: &NodeName,
        (roles, gateways): (Roles, &[Peer]),
        pages: &[Peer],
        peers: &mut Vec<Peer>,
    ) {
        for page in pages.iter().filter(|page| roles.gateway && page.name != *name) {
            match peers.iter_mut().find(|peer| peer.name == page.name) {
                Some(peer) => peer.address = peer.address.take().or(page.address.clone()),
                None => peers.push(page.clone()),
            }
        }
        let is_asked = self.file.node.roles.is_some() && roles.status;
        if !is_asked || roles.gateway {
            return;
        }
        if gateways.is_empty() {
            let what = "the page shows what gateways tell; add the [[gateway]] of their files";
            self.wrong("node.roles", what);
        }
        if !pages.iter().any(|page| page.name == *name) {
            let what = format!(
                "gateways tell only the nodes of [[status.node]] how they go; add one with \
                 name = \"{name}\", here and in the gateways' files"
            );
            self.wrong("node.roles", what);
        }
        if self.sites_from_environment && self.file.policy.source.is_none() {
            let what = "the page shows the fleet's models and sites; add the [[site]] and \
                        [[model]] of the gateways' files (a node that is no gateway needs none \
                        of their keys)";
            self.wrong("node.roles", what);
        }
    }
}
