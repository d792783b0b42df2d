//! Pods of Kubernetes by label: asked for again and again, since what a watch would tell earlier is
//! seen at the workers themselves.

use super::url;
use crate::setup::Kubernetes;
use crate::upstream::{Http2, Origin, OriginOptions, Outbound};
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use http::{Method, StatusCode};
use serde::Deserialize;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::timeout;

/// How long a list may take, in connect limits: it is one answer of a server that is near.
const LIST_LIMITS: u32 = 5;

/// The pods of one selector.
pub(super) struct Pods {
    origin: Origin,
    path: String,
    port: u16,
    token_file: Option<PathBuf>,
    limit: Duration,
    namespace: String,
}

#[derive(Deserialize)]
struct List {
    items: Vec<Pod>,
}

#[derive(Deserialize)]
struct Pod {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    deletion_timestamp: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    #[serde(rename = "podIP")]
    pod_ip: Option<IpAddr>,
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    r#type: String,
    status: String,
}

impl Pods {
    /// The pods of `place`.
    ///
    /// # Errors
    /// Its API server cannot be reached as it is written.
    pub(super) fn new(place: &Kubernetes, connect_limit: Duration) -> Result<Pods, String> {
        let options = OriginOptions {
            ca_file: place.ca_file.clone(),
            connect_limit,
            http2: Http2::Never,
            ..OriginOptions::default()
        };
        let (namespace, selector) = (&place.namespace, escaped(&place.selector));
        Ok(Pods {
            origin: Origin::new(&place.api, options)?,
            path: format!("/api/v1/namespaces/{namespace}/pods?labelSelector={selector}"),
            port: place.port,
            token_file: place.token_file.clone(),
            limit: connect_limit * LIST_LIMITS,
            namespace: place.namespace.clone(),
        })
    }

    /// The URLs of those that are ready.
    pub(super) async fn list(&self) -> Result<Vec<String>, String> {
        let body = timeout(self.limit, self.ask()).await;
        let body = body.map_err(|_| String::from("the API server does not answer in time"))??;
        let list: List = serde_json::from_slice(&body)
            .map_err(|error| format!("the API server's list of pods cannot be read: {error}"))?;
        let ready = list.items.iter().filter_map(Pod::ready);
        Ok(ready.map(|ip| url(SocketAddr::new(ip, self.port))).collect())
    }

    async fn ask(&self) -> Result<Bytes, String> {
        let mut headers = vec![(ACCEPT, HeaderValue::from_static("application/json"))];
        if let Some(file) = &self.token_file {
            // Tokens are exchanged every hour or so: read each time.
            let token = std::fs::read_to_string(file)
                .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
            let value = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
            let mut value = value.map_err(|_| format!("{} holds no token", file.display()))?;
            value.set_sensitive(true);
            headers.push((AUTHORIZATION, value));
        }
        let (method, path) = (Method::GET, self.path.as_str());
        let request = Outbound { path, method, headers, body: Bytes::new() };
        let reply = self.origin.send(request).await.map_err(|error| error.failure.message)?;
        match reply.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(format!(
                    "the API server answers {}: let this process's service account list pods in \
                     the namespace {}",
                    reply.status.as_u16(),
                    self.namespace
                ));
            }
            other => return Err(format!("the API server answers {}", other.as_u16())),
        }
        let (mut body, mut read) = (reply.body, BytesMut::new());
        while let Some(more) = body.next().await {
            read.extend_from_slice(&more.map_err(|error| error.failure.message)?);
        }
        Ok(read.freeze())
    }
}

impl Pod {
    /// Its address, if it takes requests: it is ready and is not being ended.
    fn ready(&self) -> Option<IpAddr> {
        let is_ready =
            |condition: &Condition| condition.r#type == "Ready" && condition.status == "True";
        let takes = self.metadata.deletion_timestamp.is_none()
            && self.status.conditions.iter().any(is_ready);
        self.status.pod_ip.filter(|_| takes)
    }
}

/// A selector as a part of a URL: what is no letter or digit is written as its number.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let one = |byte: u8| match plain(byte) {
        true => String::from(char::from(byte)),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}
