//! Where we listen, what a client may send, how long things may take, what is logged.

use super::Resolver;
use crate::config_file::node::Role;
use crate::config_file::value::Wait;
use crate::config_file::{LogFormat, Profile};
use mainstay_core::config::Limits;
use mainstay_core::lease::Terms;
use mainstay_server::gateway::keyring::KEYRING;
use mainstay_server::setup::{Bounds, Listen, Log, LogFormat as Format};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::time::Duration;

/// The API's address: reachable from this machine alone, because it may have no key.
/// The fast profile divides our own times by this.
const FAST: u32 = 5;
const API: &str = "127.0.0.1:8080";
/// The admin listener's address.
const ADMIN: &str = "127.0.0.1:8081";
/// The status page's address: whoever publishes it puts a proxy or a real address before it.
const STATUS: &str = "127.0.0.1:8082";
/// Shorter than this a token can be guessed, and it is all that keeps others out.
const TOKEN_LEAST: usize = 20;
/// Room for several images in one prompt, and what the strictest provider takes.
const BODY: usize = 32 << 20;
/// Four times what common servers take, since cookies and tracing headers pile up at proxies.
const HEAD: usize = 64 << 10;
/// A head is one packet or two; whoever needs longer holds a connection for nothing.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// 32 MiB in a minute is 4.5 Mbit/s, a slow uplink.
const BODY_TIME: Duration = Duration::from_secs(60);
/// Connections are cheap; this keeps a leak from taking all file descriptors.
const CONNECTIONS: usize = 10_000;
/// What Kubernetes waits by default between SIGTERM and SIGKILL.
const DRAIN: Duration = Duration::from_secs(30);

impl Resolver<'_> {
    /// How long slices of callers' limits last.
    pub(super) fn quota_terms(&self) -> Terms {
        let Terms { lease, drift, mutants } = Terms::QUOTA;
        match self.file.limits.profile.unwrap_or(Profile::Full) {
            Profile::Full => Terms::QUOTA,
            Profile::Fast => Terms { lease: lease / FAST, drift: drift / FAST, mutants },
        }
    }

    pub(super) fn listen(&mut self) -> Listen {
        let listen = self.file.listen.clone();
        let api = self.address("listen.api", listen.api.as_deref().unwrap_or(API));
        let admin = self.address("listen.admin", listen.admin.as_deref().unwrap_or(ADMIN));
        if api == admin && api.port() != 0 {
            self.wrong("listen.admin", format!("{admin} is the API's address; give it its own"));
        }
        let admin_token = self.admin_token();
        let has_ring = self.data_dir().is_some_and(|kept| kept.join(KEYRING).exists());
        let open = !api.ip().is_loopback() && self.file.key.is_empty() && !has_ring;
        if open && self.file.allow_anonymous != Some(true) {
            self.wrong(
                "listen.api",
                format!(
                    "{api} can be reached from other machines and no key is configured; add a \
                     [[key]] (`mainstay keys create`), listen on 127.0.0.1, or set \
                     allow_anonymous = true"
                ),
            );
        }
        let tls = match (&listen.tls_cert, &listen.tls_key) {
            (Some(cert), Some(key)) => {
                let cert = self.pem("listen.tls_cert", cert, "CERTIFICATE-----");
                let key = self.pem("listen.tls_key", key, "PRIVATE KEY-----");
                Some((cert, key))
            }
            (None, None) => None,
            (Some(_), None) => {
                self.wrong("listen.tls_cert", "needs a private key too; add tls_key");
                None
            }
            (None, Some(_)) => {
                self.wrong("listen.tls_key", "needs a certificate too; add tls_cert");
                None
            }
        };
        let dns = listen.dns.iter().flat_map(|dns| dns.all());
        let dns = dns.map(|text| self.address("listen.dns", text)).collect();
        let link = listen.link.as_deref().map(|text| self.address("listen.link", text));
        let (status, is_status_asked) = self.listen_status(&[
            ("listen.api", Some(api)),
            ("listen.admin", Some(admin)),
            ("listen.link", link),
        ]);
        for (key, other) in [("listen.api", api), ("listen.admin", admin)] {
            if link.is_some_and(|link| link == other && link.port() != 0) {
                let what = format!("{other} is {key} already; give the link its own port");
                self.wrong("listen.link", what);
            }
        }
        Listen { api, admin, admin_token, tls, dns, link, status, is_status_asked }
    }

    /// The hash of the admin token, which is kept nowhere else.
    fn admin_token(&mut self) -> Option<[u8; 32]> {
        let listen = &self.file.listen;
        let (variable, file) = (listen.admin_token_env.clone(), listen.admin_token_file.clone());
        let (key, text) = match (variable, file) {
            (None, None) => return None,
            (Some(_), Some(_)) => {
                let what = "there are admin_token_env and admin_token_file; keep one";
                self.wrong("listen.admin_token_file", what);
                return None;
            }
            (Some(variable), None) => {
                let key = "listen.admin_token_env";
                let Some(text) = self.environment.get(&variable) else {
                    self.wrong(key, format!("{variable} is not set in the environment; set it"));
                    return None;
                };
                (key, text.to_string())
            }
            (None, Some(file)) => {
                let (key, path) = ("listen.admin_token_file", self.path(&file));
                match std::fs::read_to_string(&path) {
                    Ok(text) => (key, text.trim().to_string()),
                    Err(error) => {
                        let shown = path.display();
                        self.wrong(key, format!("cannot read {shown}: {error}; mend the path"));
                        return None;
                    }
                }
            }
        };
        if text.len() < TOKEN_LEAST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let what = format!(
                "the admin token has {} characters; take {TOKEN_LEAST} or more, without blanks, \
                 e.g. of `openssl rand -hex 32`",
                text.chars().count()
            );
            self.wrong(key, what);
        }
        Some(Sha256::digest(&text).into())
    }

    /// Where the status page is, if this process has the role, and whether somebody asked for it.
    fn listen_status(
        &mut self,
        others: &[(&str, Option<SocketAddr>)],
    ) -> (Option<SocketAddr>, bool) {
        let roles = self.file.node.roles.clone();
        let has = |role: Role| roles.as_ref().is_none_or(|roles| roles.contains(&role));
        let asked = self.file.listen.status.clone();
        if !has(Role::Status) {
            if asked.is_some() {
                let what = "needs the role `status`; add it to node.roles, or take this line away";
                self.wrong("listen.status", what);
            }
            return (None, false);
        }
        let status = self.address("listen.status", asked.as_deref().unwrap_or(STATUS));
        for (key, other) in others {
            if *other == Some(status) && status.port() != 0 {
                let what = format!("{status} is {key} already; give the page its own port");
                self.wrong("listen.status", what);
            }
        }
        (Some(status), asked.is_some() || roles.is_some())
    }

    fn address(&mut self, key: &str, text: &str) -> SocketAddr {
        let numeric = text.replace("localhost:", "127.0.0.1:");
        numeric.parse().unwrap_or_else(|_| {
            let what = format!("`{text}` is no address; write IP:PORT, e.g. 127.0.0.1:8080");
            self.wrong(key, what);
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }

    /// The path of a PEM file that holds a block whose first line ends in `block`.
    pub(super) fn pem(&mut self, key: &str, text: &str, block: &str) -> std::path::PathBuf {
        let wrong_before = self.problems.len();
        let path = self.readable(key, text);
        let holds = std::fs::read_to_string(&path).is_ok_and(|text| {
            text.lines().any(|line| line.starts_with("-----BEGIN ") && line.ends_with(block))
        });
        if self.problems.len() == wrong_before && !holds {
            let block = block.trim_end_matches('-').to_lowercase();
            let what = format!("{} holds no PEM {block}; name the right file", path.display());
            self.wrong(key, what);
        }
        path
    }

    pub(super) fn limits(&mut self) -> (Limits, Bounds, Duration) {
        let file = self.file.limits.clone();
        let given = Limits::default();
        let given = match file.profile.unwrap_or(Profile::Full) {
            Profile::Full => given,
            Profile::Fast => given.divided(FAST),
        };
        let one = |mine: &Option<Wait>, or: Duration| mine.map_or(or, |wait| wait.0);
        let limits = Limits {
            connect: one(&file.connect, given.connect),
            first_token_unmeasured: one(&file.first_token_unmeasured, given.first_token_unmeasured),
            first_token: self.range("first_token", file.first_token, given.first_token),
            stall_unmeasured: one(&file.stall_unmeasured, given.stall_unmeasured),
            stall: self.range("stall", file.stall, given.stall),
            drip: one(&file.drip, given.drip),
            request: one(&file.request, given.request),
            back_off: file.back_off.map_or(given.back_off, |waits| waits.map(|wait| wait.0)),
            probe_auth: one(&file.probe_auth, given.probe_auth),
            probe_billing: one(&file.probe_billing, given.probe_billing),
            retry_after_max: one(&file.retry_after_max, given.retry_after_max),
            wait_max: one(&file.wait_max, given.wait_max),
            retry_pause: self.range("retry_pause", file.retry_pause, given.retry_pause),
            ..given
        };
        let bounds = Bounds {
            body: file.body.map_or(BODY, |size| size.0),
            head: file.head.map_or(HEAD, |size| size.0),
            head_time: one(&file.head_time, HEAD_TIME),
            body_time: one(&file.body_time, BODY_TIME),
            connections: file.connections.map_or(CONNECTIONS, |number| number as usize),
        };
        self.no_zero(&limits, &bounds);
        (limits, bounds, one(&file.drain, DRAIN))
    }

    fn range(
        &mut self,
        key: &str,
        file: Option<[Wait; 2]>,
        given: (Duration, Duration),
    ) -> (Duration, Duration) {
        let Some([least, most]) = file else { return given };
        if least.0 > most.0 {
            self.wrong(&format!("limits.{key}"), "the least is above the most; swap them");
        }
        (least.0, most.0)
    }

    /// A limit of zero ends every request before it begins.
    fn no_zero(&mut self, limits: &Limits, bounds: &Bounds) {
        let waits = [
            ("connect", limits.connect),
            ("first_token_unmeasured", limits.first_token_unmeasured),
            ("first_token", limits.first_token.0),
            ("stall_unmeasured", limits.stall_unmeasured),
            ("stall", limits.stall.0),
            ("drip", limits.drip),
            ("request", limits.request),
            ("head_time", bounds.head_time),
            ("body_time", bounds.body_time),
        ];
        for (key, wait) in waits {
            if wait.is_zero() {
                let what = "must be longer than 0; take the line away for the default";
                self.wrong(&format!("limits.{key}"), what);
            }
        }
        let sizes =
            [("body", bounds.body), ("head", bounds.head), ("connections", bounds.connections)];
        for (key, size) in sizes {
            if size == 0 {
                let what = "must be more than 0; take the line away for the default";
                self.wrong(&format!("limits.{key}"), what);
            }
        }
    }

    pub(super) fn log(&mut self) -> Log {
        let format = match self.file.log.format.unwrap_or(LogFormat::Auto) {
            LogFormat::Auto => Format::Auto,
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        };
        let level = self.file.log.level.clone().unwrap_or_else(|| String::from("info"));
        let known = ["error", "warn", "info", "debug", "trace", "off"];
        for part in level.split(',') {
            let word = part.rsplit('=').next().unwrap_or_default().trim();
            if !known.contains(&word) {
                let hint = crate::config_file::problem::hint(word, known);
                self.wrong("log.level", format!("no level `{word}`; {hint}"));
            }
        }
        Log { format, level }
    }
}
