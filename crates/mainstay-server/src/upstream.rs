//! Carries one HTTP request to an upstream and its reply back, and knows exactly how it failed.
//!
//! What happens next depends on details that general clients hide: whether a byte of the request
//! had left, whether a pooled connection was stale, which streams a GOAWAY covers, whether a body
//! ended or was cut. So pool and connections are ours; framing is hyper's. Nothing is retried here
//! except a request of which no byte was written, and no redirect is followed: a key would leak.

mod body;
mod connect;
mod fault;
mod pool;
mod resolve;
pub(crate) mod tls;

pub use body::ReplyBody;
pub use fault::{SendError, Sent, cut_off, refused};
pub use resolve::lookup;

use crate::link::{Identity, Link, NodeName};
use crate::tasks::Tasks;
use bytes::Bytes;
use connect::{Door, Opened, Turn};
use http::header::{ACCEPT_ENCODING, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Full;
use pool::{Lease, Pool};
use resolve::Names;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Longest header block and most headers that a reply may have (C12, F38).
const HEAD_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 256;
/// How often names are asked again and idle connections looked through (F41).
const KEEP_EVERY: Duration = Duration::from_secs(5);
/// A pooled connection can turn out dead before a byte is written; after so many the pool is not
/// asked again.
const UNSENT_MAX: u32 = 3;

/// How an origin is reached.
#[derive(Clone)]
pub struct OriginOptions {
    /// More certificate authorities to trust (a PEM file).
    pub ca_file: Option<PathBuf>,
    /// The longest that DNS, TCP and TLS may take together.
    pub connect_limit: Duration,
    /// A DNS server to ask instead of the system's.
    pub resolver: Option<SocketAddr>,
    /// Whether HTTP/2 is spoken.
    pub http2: Http2,
    /// It is a node of ours: this node shows its certificate, and trusts the fleet's authority
    /// alone.
    pub node: Option<NodeOrigin>,
}

/// A node of ours as an origin.
#[derive(Clone)]
pub struct NodeOrigin {
    /// Who this node is.
    pub identity: Identity,
    /// Whom its certificate must be made out to, whatever its address is.
    pub name: NodeName,
    /// It is this node itself: it is reached within the process, without certificates.
    pub within: Option<Link>,
}

impl Default for OriginOptions {
    fn default() -> OriginOptions {
        OriginOptions {
            ca_file: None,
            connect_limit: Duration::from_secs(2),
            resolver: None,
            http2: Http2::Auto,
            node: None,
        }
    }
}

/// Whether HTTP/2 is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Http2 {
    /// Where TLS agrees on it (ALPN); plain connections speak HTTP/1.1.
    #[default]
    Auto,
    /// Always, without asking.
    PriorKnowledge,
    /// Never.
    Never,
}

/// One provider site: its address, its connections, its name look-ups. Cheap to clone.
#[derive(Clone)]
pub struct Origin {
    inner: Arc<Inner>,
}

/// A request to send.
#[derive(Clone, Debug)]
pub struct Outbound<'a> {
    /// Appended to the path of the origin's base URL; begins with `/`, may carry a query.
    pub path: &'a str,
    /// The method.
    pub method: Method,
    /// Headers; `host`, `content-length` and `accept-encoding` are set here.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The whole body.
    pub body: Bytes,
}

/// A reply whose head has come.
#[derive(Debug)]
pub struct Reply {
    /// Its status. Redirects are not followed.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, decoded. Dropping it early closes the connection or resets the stream at once.
    pub body: ReplyBody,
    /// Whether the connection had carried a request before.
    pub reused: bool,
}

impl Reply {
    /// Where a redirect points, in words for the operator: scheme and host only, since a query may
    /// hold secrets. `None` if this is no redirect.
    pub fn redirect(&self) -> Option<String> {
        if !self.status.is_redirection() || self.status == StatusCode::NOT_MODIFIED {
            return None;
        }
        let target = self.headers.get(LOCATION).and_then(|v| v.to_str().ok());
        let Some(uri) = target.and_then(|t| t.parse::<Uri>().ok()) else {
            return Some(format!("answers {} without a usable target", self.status.as_u16()));
        };
        let host = uri.host().unwrap_or("the same host").to_owned();
        let scheme = uri.scheme_str().map(|s| format!("{s}://")).unwrap_or_default();
        Some(format!("redirects ({}) to {scheme}{host}; mend base_url", self.status.as_u16()))
    }
}

impl Origin {
    /// An origin at `base_url` (`http://` or `https://`, host, optional port and path). It
    /// connects to nothing yet. The error says how to mend it.
    pub fn new(base_url: &str, options: OriginOptions) -> Result<Origin, String> {
        let address = Address::parse(base_url)?;
        let tls = match (address.secure, &options.node) {
            (true, None) => Some(tls::config(options.ca_file.as_deref(), options.http2)?),
            (true, Some(node)) => Some(tls::node_config(&node.identity, options.http2)),
            (false, None) => None,
            (false, Some(_)) => {
                return Err(format!("{base_url} is a node's address; write it with https://"));
            }
        };
        let certificate = options.node.as_ref().map(|node| node.name.in_certificate());
        let tasks = Tasks::default();
        let names = Arc::new(Names::new(&address.host, address.port, options.resolver));
        let pool = Arc::new(Pool::default());
        let door = Door {
            certificate: certificate.unwrap_or_else(|| address.host.clone()),
            within: options.node.and_then(|node| node.within),
            tls,
            http2: options.http2,
            limit: options.connect_limit,
            names: names.clone(),
            pool: pool.clone(),
            tasks: tasks.clone(),
            turn: Turn::new(options.http2 == Http2::PriorKnowledge),
        };
        let keeper = OnceLock::new();
        Ok(Origin { inner: Arc::new(Inner { address, door, names, pool, tasks, keeper }) })
    }

    /// Sends `request` and waits for the head of the reply, without a time limit of its own beyond
    /// the connect limit: the caller knows how long a first token may take. Dropping the future
    /// closes the connection or resets the stream.
    pub async fn send(&self, request: Outbound<'_>) -> Result<Reply, SendError> {
        let inner = &self.inner;
        inner.address.uri(request.path, true).map_err(SendError::malformed)?;
        inner.keep();
        for _ in 0..UNSENT_MAX {
            let Some(opened) = inner.pool.take() else { break };
            match inner.exchange(opened, &request, true).await {
                Err(error) if error.sent == Sent::Nothing => {}
                outcome => return outcome,
            }
        }
        let (opened, reused) = inner.door.open().await?;
        inner.exchange(opened, &request, reused).await
    }

    /// Runs `work` in the background until it ends or the origin shuts down.
    pub fn beside(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.inner.tasks.spawn(work);
    }

    /// Connections that are open and idle or shared.
    pub fn connections(&self) -> usize {
        self.inner.pool.len()
    }

    /// Cuts every connection and waits until all tasks of this origin are done.
    pub async fn shutdown(&self) {
        self.inner.tasks.cancel();
        self.inner.tasks.wait().await;
    }
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Origin").field("authority", &self.inner.address.authority).finish()
    }
}

struct Inner {
    address: Address,
    door: Door,
    names: Arc<Names>,
    pool: Arc<Pool>,
    tasks: Tasks,
    keeper: OnceLock<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

impl Inner {
    /// Notes that the origin is in use; starts its keeper the first time.
    fn keep(&self) {
        self.names.touch();
        self.keeper.get_or_init(|| {
            let (names, pool) = (self.names.clone(), self.pool.clone());
            self.tasks.spawn(async move {
                loop {
                    names.refresh().await;
                    pool.sweep();
                    names.pause(KEEP_EVERY).await;
                }
            });
        });
    }

    /// Carries `request` over a connection.
    async fn exchange(
        self: &Arc<Self>,
        opened: Opened,
        request: &Outbound<'_>,
        reused: bool,
    ) -> Result<Reply, SendError> {
        let message = self
            .message(request, matches!(opened, Opened::Many(_)))
            .map_err(SendError::malformed)?;
        let (response, lease) = match opened {
            Opened::One(one) => pool::send_alone(one, message, reused).await?,
            Opened::Many(many) => pool::send_beside(many, message, reused, &self.pool).await?,
        };
        let (head, incoming) = response.into_parts();
        let body =
            ReplyBody::new(incoming, &head.headers, Lease { carrier: lease, origin: self.clone() });
        Ok(Reply { status: head.status, headers: head.headers, body, reused })
    }

    fn message(&self, request: &Outbound<'_>, http2: bool) -> Result<Request<Full<Bytes>>, String> {
        let uri = self.address.uri(request.path, http2)?;
        let mut message = Request::new(Full::new(request.body.clone()));
        *message.method_mut() = request.method.clone();
        *message.uri_mut() = uri;
        let headers = message.headers_mut();
        headers.extend(request.headers.iter().cloned());
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.remove(HOST);
        if !http2 {
            headers.insert(HOST, self.address.authority_header.clone());
        }
        Ok(message)
    }
}

/// A base URL, taken apart.
struct Address {
    secure: bool,
    host: String,
    port: u16,
    authority: String,
    authority_header: HeaderValue,
    base: String,
}

impl Address {
    fn parse(base_url: &str) -> Result<Address, String> {
        let wrong = |what: &str| {
            format!("base_url {base_url:?} {what}; write it like https://api.example.com/v1")
        };
        let uri: Uri = base_url.parse().map_err(|e| wrong(&format!("is not a URL ({e})")))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("must begin with https:// or http://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("must not hold a user or password: keys go into key_env"));
        }
        if uri.query().is_some() {
            return Err(wrong("must not have a query"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let authority = authority.as_str().to_owned();
        let authority_header =
            HeaderValue::from_str(&authority).map_err(|_| wrong("has an odd host"))?;
        let base = uri.path().trim_end_matches('/').to_owned();
        Ok(Address { secure, host, port, authority, authority_header, base })
    }

    fn uri(&self, path: &str, absolute: bool) -> Result<Uri, String> {
        let path = format!("{}{path}", self.base);
        if !absolute {
            return path.parse().map_err(|e| format!("path {path:?}: {e}"));
        }
        Uri::builder()
            .scheme(if self.secure { "https" } else { "http" })
            .authority(self.authority.as_str())
            .path_and_query(path.as_str())
            .build()
            .map_err(|e| format!("path {path:?}: {e}"))
    }
}

#[cfg(test)]
mod tests;
