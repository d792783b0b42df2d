//! What a site of ours computes with: the embedded engine, or inference servers of their own.

use super::Resolver;
use super::node::STREAMS;
use crate::config_file::problem::hint;
use crate::config_file::worker::{Kubernetes as Pods, Worker};
use crate::config_file::{Site, SiteModel};
use mainstay_core::site::calibration::GUESS;
use mainstay_server::setup::{Embedded, EngineModel, Kubernetes, Outside, Place, Secret, Workers};
use mainstay_server::site::engine::Engine;
use std::path::{Path, PathBuf};

/// Where a pod finds what it needs to ask its cluster.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

impl Resolver<'_> {
    /// What a site of ours computes with; its own node needs to know.
    pub(super) fn workers(&mut self, path: &str, file: &Site) -> Option<Workers> {
        if file.worker.is_empty() {
            return self.embedded_worker(path, file).map(Workers::Embedded);
        }
        if file.engine.is_some() {
            let what = "a site computes with its workers or with the embedded engine, not with \
                        both; take `engine` or [[site.worker]] away";
            self.wrong(&format!("{path}.engine"), what);
        }
        for (key, there) in [
            ("tokens_per_second", file.tokens_per_second.is_some()),
            ("hold_to_rate", file.hold_to_rate.is_some()),
        ] {
            if there {
                let what = "is the embedded engine's; take it away, and say tokens_per_second of \
                            each [[site.worker]]";
                self.wrong(&format!("{path}.{key}"), what);
            }
        }
        let mut groups = Vec::new();
        for (at, worker) in file.worker.iter().enumerate() {
            let path = format!("{path}.worker.{at}");
            groups.extend(self.outside(&path, worker, &file.models));
        }
        Some(Workers::Outside(groups))
    }

    /// Workers of a site that nobody can give them to.
    pub(super) fn no_workers(&mut self, path: &str, file: &Site) {
        if !file.worker.is_empty() {
            let what = "workers are of a site of ours; add node = \"https://host:port\", or make \
                        each a site of its own with `provider` and `base_url`";
            self.wrong(&format!("{path}.worker"), what);
        }
    }

    fn embedded_worker(&mut self, path: &str, file: &Site) -> Option<Embedded> {
        let name = file.engine.as_ref()?.model.clone().unwrap_or_else(|| "builtin".into());
        let (model, _) = self.engine_model(path, &name, file);
        // Its pace is what it is told.
        let is_rehearsed = matches!(model, EngineModel::Rehearsal(_));
        if file.tokens_per_second == Some(0) {
            let what = "0 would keep the site from ever answering; leave it out if unknown";
            self.wrong(&format!("{path}.tokens_per_second"), what);
        }
        if file.hold_to_rate == Some(true) && file.tokens_per_second.is_none() {
            let what = "it needs a rate to hold to; add `tokens_per_second`";
            self.wrong(&format!("{path}.hold_to_rate"), what);
        }
        if matches!(model, EngineModel::Apart(..)) && file.tokens_per_second.is_none() {
            let what = "an engine in a process of its own is not measured at the start; add what \
                        `mainstay model bench` says";
            self.wrong(&format!("{path}.tokens_per_second"), what);
        }
        Some(Embedded {
            model,
            streams: file.capacity.unwrap_or(STREAMS),
            tokens_per_second: file.tokens_per_second.or(is_rehearsed.then_some(GUESS)),
            hold_to_rate: file.hold_to_rate.unwrap_or(false),
        })
    }

    fn outside(&mut self, path: &str, file: &Worker, models: &[SiteModel]) -> Option<Outside> {
        let engine = self.engine_of_worker(path, file);
        let place = self.place(path, file);
        let serves = self.serves(path, file, models);
        for (key, value) in
            [("sequences", file.sequences), ("tokens_per_second", file.tokens_per_second)]
        {
            if value == Some(0) {
                let what = "0 would keep it from ever answering; leave it out if unknown";
                self.wrong(&format!("{path}.{key}"), what);
            }
        }
        let profile = self.profile(path, file);
        let key = self.worker_key(path, file);
        let serves = serves?;
        Some(Outside {
            engine: engine?,
            place: place?,
            model: file.model.clone().unwrap_or_else(|| serves.clone()),
            serves,
            sequences: file.sequences,
            tokens_per_second: file.tokens_per_second,
            profile,
            key,
        })
    }

    fn engine_of_worker(&mut self, path: &str, file: &Worker) -> Option<Engine> {
        let known = Engine::WORDS.join("`, `");
        let Some(word) = &file.engine else {
            let what = format!("does not say which server it is; add engine = one of `{known}`");
            self.wrong(path, what);
            return None;
        };
        let engine = Engine::named(word);
        if engine.is_none() {
            let hint = hint(word, Engine::WORDS);
            let what =
                format!("no engine `{word}`; {hint} (`openai` is any OpenAI-compatible server)");
            self.wrong(&format!("{path}.engine"), what);
        }
        engine
    }

    fn serves(&mut self, path: &str, file: &Worker, models: &[SiteModel]) -> Option<String> {
        let names: Vec<&str> = models.iter().filter_map(|model| model.name.as_deref()).collect();
        match (&file.serves, &names[..]) {
            (Some(name), names) if names.contains(&name.as_str()) => Some(name.clone()),
            (Some(name), names) => {
                let hint = hint(name, names.iter().copied());
                let what = format!("the site has no model `{name}`; {hint}");
                self.wrong(&format!("{path}.serves"), what);
                None
            }
            (None, [only]) => Some((*only).to_owned()),
            // That the site has none is told of the site.
            (None, []) => None,
            (None, names) => {
                let what = format!(
                    "does not say which of the site's models it serves; add serves = one of `{}`",
                    names.join("`, `")
                );
                self.wrong(path, what);
                None
            }
        }
    }

    fn place(&mut self, path: &str, file: &Worker) -> Option<Place> {
        if file.dns.is_none() && file.resolver.is_some() {
            let what = "is asked for the name in `dns`, and there is none; take one of both away";
            self.wrong(&format!("{path}.resolver"), what);
        }
        match (&file.address, &file.dns, &file.kubernetes) {
            (Some(address), None, None) => self.worker_address(path, address).map(Place::Address),
            (None, Some(name), None) => self.worker_name(path, name, file),
            (None, None, Some(pods)) => self.pods(path, pods).map(Place::Kubernetes),
            (None, None, None) => {
                let what = "is nowhere; add address = \"http://host:port\", dns = \"name:port\" or \
                            kubernetes = { selector = \"…\", port = … }";
                self.wrong(path, what);
                None
            }
            _ => {
                let what = "is in two places; leave one of `address`, `dns` and `kubernetes`";
                self.wrong(path, what);
                None
            }
        }
    }

    fn worker_address(&mut self, path: &str, address: &str) -> Option<String> {
        let key = format!("{path}.address");
        let plain = address.trim_end_matches('/');
        if plain.ends_with("/v1") {
            let what = format!("`{address}` has the API's path in it; leave out /v1");
            self.wrong(&key, what);
            return None;
        }
        if let Some(what) = super::sites::base_url_problem(address) {
            self.wrong(&key, format!("`{address}` {what}"));
            return None;
        }
        Some(plain.to_owned())
    }

    fn worker_name(&mut self, path: &str, name: &str, file: &Worker) -> Option<Place> {
        let parts = name.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        let parts = parts.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        let Some((host, port)) = parts.filter(|(host, _)| !host.contains(['/', ' '])) else {
            let what = format!("`{name}` is no name and port; write it like workers.internal:8000");
            self.wrong(&format!("{path}.dns"), what);
            return None;
        };
        let site = Site { resolver: file.resolver.clone(), ..Site::default() };
        let resolver = self.resolver(path, &site);
        Some(Place::Dns { host: host.to_owned(), port, resolver })
    }

    fn pods(&mut self, path: &str, file: &Pods) -> Option<Kubernetes> {
        let path = format!("{path}.kubernetes");
        let selector = file.selector.clone().filter(|selector| !selector.is_empty());
        if selector.is_none() {
            self.wrong(&path, "selects no pods; add selector = \"app=vllm\"");
        }
        if file.port.is_none_or(|port| port == 0) {
            self.wrong(&path, "has no port; add port = 8000");
        }
        let inside = |name: &str| {
            let file = Path::new(ACCOUNT).join(name);
            file.exists().then_some(file)
        };
        let read = |file: PathBuf| Some(std::fs::read_to_string(file).ok()?.trim().to_owned());
        let namespace = file.namespace.clone().or_else(|| read(inside("namespace")?));
        if namespace.is_none() {
            let what = "this process runs in no pod whose namespace could be meant; add namespace";
            self.wrong(&path, what);
        }
        let cluster = || {
            let host = self.environment.get("KUBERNETES_SERVICE_HOST")?;
            let port = self.environment.get("KUBERNETES_SERVICE_PORT").unwrap_or("443");
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            Some(format!("https://{host}:{port}"))
        };
        let is_named = file.api.is_some();
        let api = file.api.clone().or_else(cluster);
        if api.is_none() {
            let what = "this process runs in no cluster that it could ask; add api, e.g. \
                        \"http://127.0.0.1:8001\" with `kubectl proxy`";
            self.wrong(&path, what);
        }
        Some(Kubernetes {
            selector: selector?,
            namespace: namespace?,
            port: file.port?,
            api: api?.trim_end_matches('/').to_owned(),
            // The cluster's token is shown to the cluster alone.
            token_file: inside("token").filter(|_| !is_named),
            ca_file: inside("ca.crt").filter(|_| !is_named),
        })
    }

    fn worker_key(&mut self, path: &str, file: &Worker) -> Option<Secret> {
        if file.key_env.is_none() && file.key_file.is_none() {
            return None;
        }
        let (key_env, key_file) = (file.key_env.clone(), file.key_file.clone());
        let site = Site { key_env, key_file, ..Site::default() };
        let dialect = mainstay_server::dialect::Dialect::builtin("openai")?;
        self.secret(path, &site, &dialect).0
    }
}
