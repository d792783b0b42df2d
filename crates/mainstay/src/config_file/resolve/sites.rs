//! The sites: which dialect, where, with which key, and what their models can do.

use super::node::STREAMS;
use super::{Origin, Resolver};
use crate::catalog::{self, Offer};
use crate::config_file::node::Role;
use crate::config_file::problem::hint;
use crate::config_file::{Http2 as FileHttp2, Site, Weights};
use mainstay_core::config::{self, SiteKind};
use mainstay_core::site::calibration::GUESS;
use mainstay_engine::LoadError;
use mainstay_engine::describe::Description;
use mainstay_server::dialect::Dialect;
use mainstay_server::setup::{
    Device, EngineModel, Http2, NodeSite, Precision, Provider, Secret, Upstream, model_name,
};
use mainstay_server::worker::{STATUS, rehearsal};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A site, made from its part of the file.
pub(super) struct Made {
    pub core: config::Site,
    pub upstream: Upstream,
    pub origin: Origin,
    /// The models it is known to have, in order.
    pub offers: Vec<Offer>,
    /// The one that answers for `chat`.
    pub chat: Option<String>,
}

impl Made {
    /// Its dialect, unless it is the embedded engine.
    pub fn dialect(&self) -> Option<&Arc<Dialect>> {
        match &self.upstream {
            Upstream::Provider(provider) => Some(&provider.dialect),
            Upstream::Engine(_) | Upstream::Node(_) => None,
        }
    }
}

impl Resolver<'_> {
    pub(super) fn sites(&mut self) -> Vec<Made> {
        let files = self.file.site.clone();
        let mut made: Vec<Made> = Vec::new();
        for (at, file) in files.iter().enumerate() {
            let path = format!("site.{at}");
            let name = self.site_name(&path, file);
            if made.iter().any(|site| site.core.name == name) {
                let what = format!("`{name}` is there twice; give each site its own name");
                self.wrong(&format!("{path}.name"), what);
            }
            if file.capacity == Some(0) {
                let what = "0 would keep the site from ever answering; leave it out if unknown";
                self.wrong(&format!("{path}.capacity"), what);
            }
            made.push(match (&file.node, &file.engine) {
                (Some(_), _) => self.ours(&path, name, file),
                (None, Some(engine)) => {
                    let model = engine.model.clone().unwrap_or_else(|| String::from("builtin"));
                    self.engine(&path, name, file, &model)
                }
                (None, None) => self.provider(&path, name, file),
            });
            if file.node.is_none() && file.node_name.is_some() {
                let what = "names the node of a site of ours; add node = \"https://host:port\"";
                self.wrong(&format!("{path}.node_name"), what);
            }
            if file.node.is_none() {
                self.no_workers(&path, file);
            }
        }
        made
    }

    fn site_name(&mut self, path: &str, file: &Site) -> String {
        let name = file.name.clone().or_else(|| file.provider.clone()).unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() {
            self.wrong(path, "has no name; add name = \"…\"");
        } else if !name.chars().all(plain) {
            let what = format!("`{name}` is no name; use letters, digits, `-`, `_` and `.`");
            self.wrong(&format!("{path}.name"), what);
        }
        name
    }

    fn engine(&mut self, path: &str, name: String, file: &Site, model: &str) -> Made {
        let what = "an embedded engine has none; take this line or `engine` away";
        self.no_provider(path, file, what);
        let (engine, offer) = self.engine_model(path, model, file);
        let offer = match file.models.iter().find(|each| each.name.as_ref() == Some(&offer.name)) {
            Some(amendment) => catalog::amended(offer, amendment),
            None => offer,
        };
        let why = match &engine {
            EngineModel::Builtin => String::from("embedded engine, needs no network"),
            EngineModel::Rehearsal(_) => String::from("writes numbers, for rehearsals"),
            EngineModel::Status => String::from("tells the sites' state, needs no model"),
            EngineModel::Files(path, ..) => format!("embedded engine, {}", path.display()),
            EngineModel::Apart(path, ..) => {
                format!("embedded engine in a process of its own, {}", path.display())
            }
        };
        Made {
            core: config::Site {
                name,
                capacity: file.capacity,
                kind: SiteKind::Embedded,
                auth_strikes: 1,
            },
            upstream: Upstream::Engine(engine),
            origin: Origin { why, fate: file.fate.clone() },
            chat: Some(offer.name.clone()),
            offers: vec![offer],
        }
    }

    /// Keys that only a provider has.
    pub(super) fn no_provider(&mut self, path: &str, file: &Site, what: &str) {
        let foreign = [
            ("provider", file.provider.is_some()),
            ("base_url", file.base_url.is_some()),
            ("key", file.key.is_some()),
            ("key_env", file.key_env.is_some()),
            ("key_file", file.key_file.is_some()),
            ("ca_file", file.ca_file.is_some()),
            ("resolver", file.resolver.is_some()),
            ("http2", file.http2.is_some()),
        ];
        for (key, _) in foreign.iter().filter(|(_, there)| *there) {
            self.wrong(&format!("{path}.{key}"), what);
        }
    }

    /// What an embedded engine runs, and what it offers.
    pub(super) fn engine_model(
        &mut self,
        path: &str,
        model: &str,
        file: &Site,
    ) -> (EngineModel, Offer) {
        let is_apart = file.engine.as_ref().and_then(|engine| engine.process).unwrap_or(false);
        let is_own = !["builtin", STATUS, rehearsal::NAME].contains(&model);
        if is_apart && !is_own {
            let what = "only a model of your own runs in a process of its own; take this away, or \
                        name a directory or a GGUF file as `model`";
            self.wrong(&format!("{path}.engine.process"), what);
        }
        if model == "builtin" {
            return (EngineModel::Builtin, embedded(model, None, false));
        }
        if model == STATUS {
            return (EngineModel::Status, embedded(model, None, false));
        }
        if model == rehearsal::NAME {
            return (EngineModel::Rehearsal(pace(file)), embedded(model, None, true));
        }
        let files = self.path(model);
        let offer = self.own_model(&format!("{path}.engine.model"), &files);
        let precision = match file.engine.as_ref().and_then(|engine| engine.weights) {
            None | Some(Weights::Stored) => Precision::Stored,
            Some(Weights::Q8) => Precision::Q8,
            Some(Weights::Q4) => Precision::Q4,
        };
        let device = file.engine.as_ref().and_then(|engine| engine.device.as_deref());
        let device = self.device(&format!("{path}.engine.device"), device.unwrap_or("cpu"));
        let engine = match is_apart {
            true => EngineModel::Apart(files, precision, device),
            false => EngineModel::Files(files, precision, device),
        };
        (engine, offer)
    }

    /// `cpu`, `cuda` for the first card, or `cuda:1` for the second.
    fn device(&mut self, key: &str, name: &str) -> Device {
        let number = name.strip_prefix("cuda").map(|rest| rest.strip_prefix(':').unwrap_or(rest));
        let number = number.map(|number| if number.is_empty() { "0" } else { number });
        match (name, number.and_then(|number| number.parse().ok())) {
            ("cpu", _) => return Device::Cpu,
            (_, Some(number)) if Device::HAS_CUDA => return Device::Cuda(number),
            (_, Some(_)) => {
                let what = "this build has no kernels for cards; build with `--features cuda`, \
                            or set \"cpu\"";
                self.wrong(key, what);
            }
            (_, None) => self.wrong(key, "must be \"cpu\", \"cuda\" or \"cuda:1\""),
        }
        Device::Cpu
    }

    /// What a model of the user's own offers.
    fn own_model(&mut self, key: &str, files: &Path) -> Offer {
        let mut offer = embedded(&model_name(files), None, true);
        offer.offers.json = true;
        if files.extension().is_none_or(|end| end != "gguf") {
            self.check_weights(key, files);
            offer.window = window_of(files);
            offer.offers.tools = takes_tools(files);
            return offer;
        }
        match Description::outline(files) {
            Ok(description) => {
                offer.window = u32::try_from(description.context).ok();
                offer.offers.tools = description.tools;
            }
            Err(LoadError::Read { source, .. }) => {
                let shown = files.display();
                self.wrong(key, format!("cannot read {shown}: {source}; mend the path"));
            }
            Err(error) => self.wrong(key, error.to_string()),
        }
        offer
    }

    /// A site that one of our nodes controls. What it has, only the file knows.
    fn ours(&mut self, path: &str, name: String, file: &Site) -> Made {
        let node = self.node_site(path, &name, file);
        // Something must stand here until the problem is reported; it is never used.
        let node = node.unwrap_or_else(NodeSite::nowhere);
        if file.models.is_empty() {
            self.wrong(path, "has no models; add models = [{ name = \"…\" }]");
        }
        let dialect = Dialect::builtin("openai").expect("openai is built in");
        let offers = self.offers(path, file, &dialect);
        Made {
            core: config::Site {
                name,
                capacity: file.capacity,
                kind: SiteKind::Node,
                auth_strikes: 1,
            },
            origin: Origin {
                why: format!("node {}, https://{}", node.name, node.address),
                fate: file.fate.clone(),
            },
            upstream: Upstream::Node(node),
            chat: None,
            offers,
        }
    }

    fn check_weights(&mut self, key: &str, directory: &Path) {
        let shown = directory.display();
        let names: Vec<String> = match std::fs::read_dir(directory) {
            Ok(entries) => {
                entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
            }
            Err(error) => {
                let what = format!("cannot read directory {shown}: {error}; mend the path");
                return self.wrong(key, what);
            }
        };
        let has = |end: &str| names.iter().any(|name| name == end);
        let mut lacks: Vec<&str> =
            ["config.json", "tokenizer.json"].into_iter().filter(|name| !has(name)).collect();
        if !names.iter().any(|name| name.ends_with(".safetensors")) {
            lacks.push("*.safetensors");
        }
        if !lacks.is_empty() {
            let what = format!("{shown} lacks {}; copy the whole model there", lacks.join(", "));
            self.wrong(key, what);
        }
    }

    fn provider(&mut self, path: &str, name: String, file: &Site) -> Made {
        let wanted = file.provider.clone().unwrap_or_default();
        let dialect = self.dialect(path, &wanted);
        let base_url = self.base_url(path, file, &dialect);
        let known = self.catalog.get(&wanted).is_some();
        let (key, from) = match known {
            true => self.secret(path, file, &dialect),
            // What is missing depends on the dialect: that one problem first.
            false => (None, None),
        };
        if key.is_some() && base_url.starts_with("http://") && !is_on_loopback(&base_url) {
            let what =
                format!("the key goes to {base_url} unencrypted; use https if it leaves you");
            self.warn(&format!("{path}.base_url"), what);
        }
        let ca_file = file.ca_file.as_ref();
        let ca_file =
            ca_file.map(|text| self.pem(&format!("{path}.ca_file"), text, "CERTIFICATE-----"));
        let upstream = Upstream::Provider(Provider {
            dialect: dialect.clone(),
            base_url: base_url.clone(),
            key,
            ca_file,
            resolver: self.resolver(path, file),
            http2: match file.http2.unwrap_or(FileHttp2::Auto) {
                FileHttp2::Auto => Http2::Auto,
                FileHttp2::Always => Http2::Always,
                FileHttp2::Never => Http2::Never,
            },
            stream: file.stream.unwrap_or(true),
        });
        let why = match (&file.base_url, from) {
            (Some(_), Some(from)) => format!("{from}, {base_url}"),
            (Some(_), None) => base_url,
            (None, Some(from)) => from,
            (None, None) => String::from("no key"),
        };
        Made {
            core: config::Site {
                name,
                capacity: file.capacity,
                kind: SiteKind::Provider,
                auth_strikes: dialect.auth_strikes,
            },
            upstream,
            origin: Origin { why, fate: file.fate.clone() },
            chat: dialect.chat.clone(),
            offers: self.offers(path, file, &dialect),
        }
    }

    fn base_url(&mut self, path: &str, file: &Site, dialect: &Dialect) -> String {
        let Some(text) = file.base_url.as_ref().or(dialect.base_url.as_ref()) else {
            let what = format!(
                "{} has no address of its own; add base_url = \"http://host:port/v1\"",
                dialect.name
            );
            self.wrong(path, what);
            return String::new();
        };
        if let Some(what) = base_url_problem(text) {
            self.wrong(&format!("{path}.base_url"), format!("`{text}` {what}"));
        }
        text.trim_end_matches('/').to_string()
    }

    fn dialect(&mut self, path: &str, wanted: &str) -> Arc<Dialect> {
        if let Some(dialect) = self.catalog.get(wanted) {
            return dialect.clone();
        }
        if wanted.is_empty() {
            self.wrong(path, "has neither provider nor engine; add provider = \"openai\"");
        } else {
            let hint = hint(wanted, self.catalog.names());
            let what = format!(
                "no provider `{wanted}`; {hint} (`openai` is any OpenAI-compatible server)"
            );
            self.wrong(&format!("{path}.provider"), what);
        }
        // Something must stand here until the problem is reported; it is never used.
        Dialect::builtin("openai").expect("openai is built in")
    }

    /// What the dialect lists, each amended by the file, then what only the file knows.
    fn offers(&mut self, path: &str, file: &Site, dialect: &Dialect) -> Vec<Offer> {
        let mut offers = catalog::listed(dialect);
        for (at, model) in file.models.iter().enumerate() {
            let Some(name) = model.name.clone().filter(|name| !name.is_empty()) else {
                self.wrong(&format!("{path}.models.{at}"), "has no name; add name = \"…\"");
                continue;
            };
            if model.window == Some(0) || model.output_max == Some(0) {
                let what = "0 tokens leave no room; leave it out if unknown";
                self.wrong(&format!("{path}.models.{at}"), what);
            }
            match offers.iter_mut().find(|offer| offer.name == name) {
                Some(offer) => *offer = catalog::amended(offer.clone(), model),
                None => offers.push(catalog::amended(catalog::offer(dialect, &name), model)),
            }
        }
        offers
    }

    pub(super) fn resolver(&mut self, path: &str, file: &Site) -> Option<SocketAddr> {
        let text = file.resolver.as_ref()?;
        let address = text.parse::<SocketAddr>().ok();
        let address = address.or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, 53)));
        if address.is_none() {
            let what = format!("`{text}` is no address; write the DNS server's IP or IP:PORT");
            self.wrong(&format!("{path}.resolver"), what);
        }
        address
    }

    /// The key, and where it comes from.
    pub(super) fn secret(
        &mut self,
        path: &str,
        file: &Site,
        dialect: &Dialect,
    ) -> (Option<Secret>, Option<String>) {
        let given = [&file.key, &file.key_env, &file.key_file];
        if given.iter().filter(|each| each.is_some()).count() > 1 {
            let what = "has more than one of key, key_env and key_file; keep one";
            self.wrong(path, what);
            return (None, None);
        }
        let (at, text, from) = if let Some(key) = &file.key {
            (format!("{path}.key"), key.trim().to_string(), String::from("key in the file"))
        } else if let Some(variable) = &file.key_env {
            let at = format!("{path}.key_env");
            let Some(key) = self.environment.get(variable) else {
                if !self.calls_providers() {
                    return (None, None);
                }
                let what = format!("{variable} is not set in the environment; set it");
                self.wrong(&at, what);
                return (None, None);
            };
            (at, key.to_string(), variable.clone())
        } else if let Some(text) = &file.key_file {
            let at = format!("{path}.key_file");
            let file = self.path(text);
            match std::fs::read_to_string(&file) {
                Ok(key) => (at, key.trim().to_string(), file.display().to_string()),
                Err(_) if !self.calls_providers() => return (None, None),
                Err(error) => {
                    let shown = file.display();
                    self.wrong(&at, format!("cannot read {shown}: {error}; mend the path"));
                    return (None, None);
                }
            }
        } else {
            return self.implied_secret(path, file, dialect);
        };
        if text.is_empty() {
            self.wrong(&at, "holds no key; put it there, or take the line away if none is needed");
        } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.wrong(&at, "the key has a blank or a control character in it; copy it again");
        }
        (Some(Secret::new(text)), Some(from))
    }

    /// Whether this process sends requests to providers: only gateways do, and who does not needs
    /// none of their keys.
    fn calls_providers(&self) -> bool {
        let roles = self.file.node.roles.as_ref();
        roles.is_none_or(|roles| roles.contains(&Role::Gateway))
    }

    /// The key of the dialect's own variable. Never for a base URL from the file: a provider's key
    /// is not to be shown to another host because nobody said otherwise.
    fn implied_secret(
        &mut self,
        path: &str,
        file: &Site,
        dialect: &Dialect,
    ) -> (Option<Secret>, Option<String>) {
        let Some(variable) = dialect.key_env.as_ref().filter(|_| file.base_url.is_none()) else {
            return (None, None);
        };
        match self.environment.get(variable) {
            Some(key) => (Some(Secret::new(key)), Some(variable.clone())),
            None if !self.calls_providers() => (None, None),
            None => {
                let what = format!(
                    "has no key and {variable} is not set in the environment; set it, or add \
                     key_file = \"…\""
                );
                self.wrong(path, what);
                (None, None)
            }
        }
    }
}

/// From one token of a rehearsed answer to the next: each of all answers gets the same part.
fn pace(file: &Site) -> Duration {
    let streams = file.capacity.unwrap_or(STREAMS).max(1);
    let together = file.tokens_per_second.unwrap_or(GUESS).max(1);
    Duration::from_secs_f64(f64::from(streams) / f64::from(together))
}

/// What the embedded engine offers: text, for chats and as raw completions. Only a model of the
/// user's own can be held to JSON, or write the rest of an answer that another site began; the
/// built-in one knows a few sentences, and who needs more is refused rather than answered in prose.
fn embedded(name: &str, window: Option<u32>, continues: bool) -> Offer {
    let offers = config::Needs { completions: true, ..config::Needs::default() };
    Offer { name: name.to_string(), window, output_max: None, offers, continues }
}

/// Whether the model's own chat template shows it tools.
fn takes_tools(directory: &Path) -> bool {
    let read = |name| std::fs::read_to_string(directory.join(name)).unwrap_or_default();
    ["chat_template.jinja", "tokenizer_config.json"].map(read).iter().any(|text| {
        // In the template's code, and not as a word of its prose.
        ["in tools", "if tools", "tools |", "tools is"].iter().any(|code| text.contains(code))
    })
}

/// The context window that the model's own `config.json` names.
fn window_of(directory: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(directory.join("config.json")).ok()?;
    let config: serde_json::Value = serde_json::from_str(&text).ok()?;
    u32::try_from(config.get("max_position_embeddings")?.as_u64()?).ok()
}

/// What is wrong with a base URL, and how to mend it.
pub(super) fn base_url_problem(text: &str) -> Option<&'static str> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let Some(rest) = rest else {
        return Some("does not begin with http:// or https://; write it like https://host/v1");
    };
    let host = rest.split('/').next().unwrap_or_default();
    let bad = |c: char| c.is_whitespace() || c.is_control() || "?#\\\"<>".contains(c);
    if text.contains(bad) {
        return Some("has a blank, `?`, `#` or quote in it; write it like https://host/v1");
    }
    if host.contains('@') {
        return Some("has a name or password in it; put the key into key_env or key_file");
    }
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (host, "0"),
    };
    if name.is_empty() {
        return Some("names no host; write it like https://host/v1");
    }
    if port.parse::<u16>().is_err() {
        return Some("has a port that is no number up to 65535; mend it");
    }
    if rest.trim_end_matches('/').ends_with("/chat/completions") {
        return Some("ends in an endpoint; leave out /chat/completions");
    }
    None
}

fn is_on_loopback(base_url: &str) -> bool {
    let host = base_url.trim_start_matches("http://").split('/').next().unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.trim_matches(['[', ']']);
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
