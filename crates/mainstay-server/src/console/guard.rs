//! Who may use the console: tokens, cookies, and what browsers are told to keep others out.

use crate::http::{Peer, ResponseBody, is_foreign, is_rebound};
use http::Response;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HOST, HeaderMap,
    HeaderName, HeaderValue, REFERRER_POLICY, SET_COOKIE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::uri::Authority;
use mainstay_core::console::{Console, Mark};
use mainstay_core::time::Time;
use sha2::{Digest, Sha256};
use std::net::IpAddr;

/// What the console calls itself where it gives orders, makes keys, and logs.
pub(super) const CONSOLE: &str = "console";
/// Letters of a person's name.
const NAME: usize = 40;

/// Who is let in.
pub(super) struct Door {
    /// SHA-256 of the token, if there is one.
    pub(super) token: Option<[u8; 32]>,
}

/// A request of a session.
pub(super) struct Visit {
    /// Which.
    pub(super) mark: Mark,
    /// Whose.
    pub(super) who: String,
    /// From where, for the log.
    pub(super) from: String,
    /// What its forms send back: nobody knows it who has not read its pages.
    pub(super) token: String,
}

impl Door {
    /// Why nothing is answered to whoever sends this, if it is so.
    pub(super) fn refusal(&self, parts: &Parts, is_post: bool) -> Option<&'static str> {
        let headers = &parts.headers;
        if self.token.is_none() && !is_local(parts) {
            return Some(
                "Without an admin token the console is for this machine alone. Set \
                 listen.admin_token_env or listen.admin_token_file, or come through ssh -L. See \
                 docs/guide/console.md.",
            );
        }
        if self.token.is_none() && (!has_local_name(headers) || (is_post && is_rebound(headers))) {
            return Some("Without an admin token the console is at localhost or an address alone.");
        }
        (is_post && is_foreign(headers)).then_some("Forms are not taken from other sites' pages.")
    }

    /// The session that sends this, if it is one. It is in use from now on.
    pub(super) fn visit<A>(
        &self,
        now: Time,
        parts: &Parts,
        state: &mut Console<A>,
    ) -> Option<Visit> {
        let name = session(&parts.headers)?;
        let who = state.used(now, &hash(&name))?.to_owned();
        Some(Visit::of(&name, who, parts))
    }

    /// Whether this is the token.
    pub(super) fn is_token(&self, text: &str) -> bool {
        self.token.is_some_and(|token| hash(text) == token)
    }

    /// Whether a program shows it.
    pub(super) fn has_token(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let shown = shown.and_then(|text| text.split_once(' '));
        shown.is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case("bearer") && self.is_token(token.trim())
        })
    }
}

impl Visit {
    /// One in the session of this name.
    pub(super) fn of(name: &str, who: String, parts: &Parts) -> Visit {
        let (mark, token) = (hash(name), hex(&hash(&format!("form {name}"))));
        Visit { mark, who, from: from(parts), token }
    }
}

/// Where a request comes from.
pub(super) fn peer(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<Peer>().map(|Peer(peer)| peer.ip().to_canonical())
}

/// The same for the log.
pub(super) fn from(parts: &Parts) -> String {
    peer(parts).map_or_else(|| "unknown".into(), |peer| peer.to_string())
}

/// Whether it comes from this machine, and nobody passed it on.
fn is_local(parts: &Parts) -> bool {
    let passed = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
    let is_passed = passed.iter().any(|name| parts.headers.contains_key(*name));
    peer(parts).is_some_and(|peer| peer.is_loopback()) && !is_passed
}

/// Whether it asks for a name that nobody else can point at this machine.
fn has_local_name(headers: &HeaderMap) -> bool {
    authority(headers).is_some_and(|host| {
        let name = host.host().trim_start_matches('[').trim_end_matches(']');
        name == "localhost" || name.parse::<IpAddr>().is_ok()
    })
}

fn authority(headers: &HeaderMap) -> Option<Authority> {
    headers.get(HOST)?.to_str().ok()?.parse().ok()
}

/// What counts as one place that tries tokens: an address, of IPv6 the half that a site has.
pub(super) fn network(peer: IpAddr) -> u128 {
    match peer {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6) >> 64 << 64,
    }
}

/// Who logs in, as orders and the log have it.
pub(super) fn author(name: &str) -> String {
    let name: String = name.chars().filter(|letter| !letter.is_control()).take(NAME).collect();
    match name.trim() {
        "" => CONSOLE.into(),
        name => format!("{CONSOLE}:{name}"),
    }
}

/// The mark of the session that a browser names.
pub(super) fn mark(headers: &HeaderMap) -> Option<Mark> {
    session(headers).map(|name| hash(&name))
}

fn session(headers: &HeaderMap) -> Option<String> {
    let name = cookie_name(headers);
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find(|(each, _)| each.trim() == name).map(|(_, value)| value.trim().to_owned())
}

/// Browsers send cookies of one host to all its ports, and on one machine there may be several
/// consoles: each has its own.
fn cookie_name(headers: &HeaderMap) -> String {
    let port = authority(headers).and_then(|host| host.port_u16());
    port.map_or("mainstay-console".into(), |port| format!("mainstay-console-{port}"))
}

/// Has the browser that sent `headers` keep the name of a session.
pub(super) fn set_cookie(headers: &HeaderMap, name: &str, response: &mut Response<ResponseBody>) {
    let proxied = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok());
    let secure = if proxied == Some("https") { "; Secure" } else { "" };
    let cookie = cookie_name(headers);
    let cookie = format!("{cookie}={name}; Path=/; HttpOnly; SameSite=Strict{secure}");
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
}

/// A new name, and what stands for it here.
pub(super) fn draw() -> Option<(String, Mark)> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).ok()?;
    let name = hex(&random);
    let mark = hash(&name);
    Some((name, mark))
}

/// A number that nobody else draws.
pub(super) fn number() -> u64 {
    let mut random = [0; 8];
    // Where the system gives none, two drills of one number are one drill.
    let _ = getrandom::fill(&mut random);
    u64::from_be_bytes(random)
}

/// Whether two secrets are the same. How long that takes says nothing of either.
pub(super) fn same(one: &str, other: &str) -> bool {
    hash(one) == hash(other)
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Says that a token is wanted, to programs.
pub(super) fn ask_for_token(response: &mut Response<ResponseBody>) {
    let bearer = HeaderValue::from_static("Bearer realm=\"mainstay admin\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
}

/// What a browser is told of a page: it runs and looks like what has this nonce alone, talks to
/// nobody else, is in nobody's frame, and is kept nowhere.
pub(super) fn headers(nonce: &str, response: &mut Response<ResponseBody>) {
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; \
         connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::try_from(policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
