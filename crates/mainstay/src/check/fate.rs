//! What can be lost at once: each site, and each fate that sites share, said or assumed.
//!
//! A fate is assumed from what the file shows: one key, one provider, one host, one domain, one
//! network, one region in host names, one lab behind a reseller. Where a site says a fate of that
//! kind itself, e.g. `account:b`, nothing of that kind is assumed of it.

use super::finding::{Place, listed};
use super::scene::Scene;
use mainstay_server::dialect::LimitScope;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// Something that can be lost at once.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The site, or the fate, e.g. `pay:card-1`.
    pub name: String,
    /// Whether it is one site.
    pub is_site: bool,
    /// Positions of the targets that go.
    pub targets: BTreeSet<u16>,
    /// Sites that lose a target.
    pub sites: BTreeSet<usize>,
    /// Whether nobody said so and the file does not prove it.
    pub assumed: bool,
    /// Why they go together.
    pub why: String,
    /// How to say otherwise, where it is assumed.
    pub unless: String,
    /// Where it is said, or the last site that shares it.
    pub place: Place,
}

/// Kinds of fates, as they are written before the colon, and the kind that each spelling means.
const SPELLINGS: [(&str, &str); 9] = [
    ("payment", "pay"),
    ("paid", "pay"),
    ("billing", "pay"),
    ("card", "pay"),
    ("invoice", "pay"),
    ("acct", "account"),
    ("vendor", "lab"),
    ("network", "net"),
    ("asn", "net"),
];

/// What two-letter domains sell below: `example.com.cn` is one owner's, `com.cn` is not.
const SOLD_BELOW: [&str; 7] = ["com", "co", "net", "org", "gov", "edu", "ac"];

/// Words in a model's name, and the lab that makes it.
const LABS: [(&str, &str); 9] = [
    ("deepseek", "deepseek"),
    ("qwen", "alibaba"),
    ("qwq", "alibaba"),
    ("kimi", "moonshot"),
    ("moonshot", "moonshot"),
    ("ernie", "baidu"),
    ("claude", "anthropic"),
    ("gpt-", "openai"),
    ("gemini", "google"),
];

/// Everything that can be lost at once: sites in their order, then fates by name.
pub fn losses(scene: &Scene<'_>) -> Vec<Loss> {
    let mut all: Vec<Loss> = scene.remote().into_iter().map(|at| site(scene, at)).collect();
    let mut shared: Vec<Loss> = Vec::new();
    for loss in fates(scene) {
        match shared.iter_mut().find(|other| other.targets == loss.targets) {
            // The same loss by two names: what is certain of one is certain of both.
            Some(other) if other.assumed && !loss.assumed => *other = loss,
            Some(_) => {}
            None => shared.push(loss),
        }
    }
    all.extend(shared);
    all
}

/// Every fate that two sites or more share, by name; several may mean the same loss.
pub fn fates(scene: &Scene<'_>) -> Vec<Loss> {
    let mut fates = Fates { scene, by_name: BTreeMap::new() };
    for at in 0..scene.core().sites.len() {
        fates.said(at);
    }
    for at in scene.remote() {
        fates.assumed(at);
    }
    fates.by_name.into_values().filter(|loss| loss.sites.len() > 1).collect()
}

/// Fates that one site alone says, and where.
pub fn alone(scene: &Scene<'_>) -> Vec<(usize, usize, String)> {
    let mut by_name: BTreeMap<String, Vec<(usize, usize)>> = BTreeMap::new();
    for (at, origin) in scene.resolved.origins.iter().enumerate() {
        for (which, fate) in origin.fate.iter().enumerate() {
            by_name.entry(spelt(fate)).or_default().push((at, which));
        }
    }
    let one = by_name.into_iter().filter(|(_, places)| places.len() == 1);
    one.map(|(name, places)| (places[0].0, places[0].1, name)).collect()
}

/// The kind of a fate as it is written: what stands before the colon.
pub fn kind(fate: &str) -> String {
    let name = spelt(fate);
    name.split_once(':').map_or(String::new(), |(kind, _)| kind.to_string())
}

/// A fate as it is compared: kinds have one spelling.
fn spelt(fate: &str) -> String {
    let fate = fate.trim().to_lowercase();
    let Some((kind, rest)) = fate.split_once(':') else { return fate };
    let kind = SPELLINGS.iter().find(|(from, _)| *from == kind).map_or(kind, |(_, to)| to);
    format!("{kind}:{}", rest.trim())
}

fn site(scene: &Scene<'_>, at: usize) -> Loss {
    let targets = scene.core().targets.iter().enumerate();
    let here = targets.filter(|(_, target)| usize::from(target.site.0) == at);
    Loss {
        name: scene.site(at).to_string(),
        is_site: true,
        targets: here.filter_map(|(id, _)| u16::try_from(id).ok()).collect(),
        sites: BTreeSet::from([at]),
        assumed: false,
        why: String::new(),
        unless: String::new(),
        place: scene.site_place(at, ""),
    }
}

/// Fates as they are found.
struct Fates<'s, 'a> {
    scene: &'s Scene<'a>,
    by_name: BTreeMap<String, Loss>,
}

/// Why a fate is believed, and how to say otherwise.
struct Reason {
    assumed: bool,
    why: String,
    unless: String,
}

impl Fates<'_, '_> {
    fn said(&mut self, at: usize) {
        let fates = self.scene.resolved.origins[at].fate.clone();
        for (which, fate) in fates.iter().enumerate() {
            let place = self.scene.site_place(at, &format!("fate.{which}"));
            let why = format!("they say `{fate}`");
            let reason = Reason { assumed: false, why, unless: String::new() };
            self.add(spelt(fate), (at, place), reason, |_| true);
        }
    }

    fn assumed(&mut self, at: usize) {
        let Some(url) = self.scene.url(at) else { return };
        let host = host(&url);
        self.assumed_of_host(at, &host);
        let Some(provider) = self.scene.provider(at).cloned() else { return };
        let dialect = &provider.dialect;
        let rented = dialect.limits.scope != LimitScope::Worker;
        if let Some(key) = &provider.key {
            // One key is one account wherever it is used; whatever a site says of itself.
            let name = format!("key:{}", self.first_with(key.reveal()));
            let why = String::from("they use the same key");
            let reason = Reason { assumed: false, why, unless: String::new() };
            self.add(name, (at, self.scene.site_place(at, "")), reason, |_| true);
        }
        if rented && provider.key.is_some() && !is_private(&host) {
            let why = format!("they are accounts of {}", dialect.name);
            self.assume(at, "account", &format!("{}@{host}", dialect.name), why);
        }
        self.assume_lab(at, &dialect.name, dialect.base_url.as_deref() == Some(&provider.base_url));
    }

    fn assumed_of_host(&mut self, at: usize, host: &str) {
        match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => {
                let [a, b, c, _] = ip.octets();
                self.assume(at, "host", host, format!("they are at {host}"));
                if !Ipv4Addr::is_loopback(&ip) {
                    let net = format!("{a}.{b}.{c}.0/24");
                    self.assume(at, "net", &net, format!("they are in {net}"));
                }
            }
            Ok(IpAddr::V6(_)) => self.assume(at, "host", host, format!("they are at {host}")),
            Err(_) => self.assume_by_name(at, host),
        }
    }

    fn assume_by_name(&mut self, at: usize, name: &str) {
        self.assume(at, "host", name, format!("they are at {name}"));
        if let Some(domain) = domain(name) {
            self.assume(at, "domain", &domain, format!("their names end in {domain}"));
        }
        if let Some(region) = region(name) {
            self.assume(at, "region", &region, format!("their names hold {region}"));
        }
    }

    /// The lab whose service stands behind a target. A reseller may pass requests on to the lab.
    fn assume_lab(&mut self, at: usize, dialect: &str, at_home: bool) {
        let own = match dialect {
            "dashscope" => Some("alibaba"),
            "qianfan" => Some("baidu"),
            "deepseek" | "moonshot" | "openai" | "anthropic" if at_home => Some(dialect),
            _ => None,
        };
        // Servers of one's own, and providers that are known to run the weights themselves.
        let runs_itself = ["vllm", "sglang", "llamacpp", "ollama", "groq", "together"];
        if let Some(lab) = own {
            let why = format!("{lab} runs one of them and is behind the other");
            return self.assume(at, "lab", lab, why);
        }
        let is_own = self.scene.provider(at).is_some_and(|each| is_private(&host(&each.base_url)));
        if runs_itself.contains(&dialect) || is_own {
            return;
        }
        for (word, lab) in LABS {
            let why = format!("a reseller may pass requests on to {lab}");
            let name = format!("lab:{lab}");
            let reason = Reason { assumed: true, why, unless: otherwise("lab") };
            if !self.says(at, "lab") {
                let place = self.scene.site_place(at, "");
                let made = |model: &str| model.to_lowercase().contains(word);
                self.add(name, (at, place), reason, made);
            }
        }
    }

    fn assume(&mut self, at: usize, kind: &str, name: &str, why: String) {
        if self.says(at, kind) {
            return;
        }
        // Two names of one host are one machine, whatever anybody hopes.
        let assumed = kind != "host";
        let unless = if assumed { otherwise(kind) } else { String::new() };
        let reason = Reason { assumed, why, unless };
        let place = self.scene.site_place(at, "");
        self.add(format!("{kind}:{name}"), (at, place), reason, |_| true);
    }

    fn says(&self, at: usize, wanted: &str) -> bool {
        self.scene.resolved.origins[at].fate.iter().any(|fate| kind(fate) == wanted)
    }

    /// Adds the targets of a site whose model is `meant`.
    fn add(
        &mut self,
        name: String,
        (at, place): (usize, Place),
        reason: Reason,
        meant: impl Fn(&str) -> bool,
    ) {
        let targets = self.scene.core().targets.iter().enumerate();
        let here = targets.filter(|(_, each)| usize::from(each.site.0) == at && meant(&each.model));
        let here: BTreeSet<u16> = here.filter_map(|(id, _)| u16::try_from(id).ok()).collect();
        if here.is_empty() {
            return;
        }
        let Reason { assumed, why, unless } = reason;
        let fresh = Loss {
            name: name.clone(),
            is_site: false,
            targets: BTreeSet::new(),
            sites: BTreeSet::new(),
            assumed: false,
            why,
            unless,
            place: place.clone(),
        };
        let loss = self.by_name.entry(name).or_insert(fresh);
        loss.targets.extend(here);
        loss.sites.insert(at);
        loss.assumed |= assumed;
        loss.place = place;
    }

    /// The first site that has this key: a name for it that shows nothing of it.
    fn first_with(&self, key: &str) -> String {
        let has = |at: &usize| {
            let provider = self.scene.provider(*at);
            provider.and_then(|each| each.key.as_ref()).is_some_and(|each| each.reveal() == key)
        };
        self.scene.remote().into_iter().find(has).map_or("?", |at| self.scene.site(at)).to_string()
    }
}

/// How to say that it is not so.
fn otherwise(kind: &str) -> String {
    format!("if that is not so, say it: fate = [\"{kind}:…\"] with another word at each")
}

impl Loss {
    /// What it is called in a sentence: `deepseek`, or `pay:card-1 (a and b)`.
    pub fn called(&self, scene: &Scene<'_>) -> String {
        if self.is_site {
            return self.name.clone();
        }
        let sites: Vec<&str> = self.sites.iter().map(|at| scene.site(*at)).collect();
        format!("{} ({})", plain(&self.name), listed(&sites))
    }
}

/// The name of a loss for people: a host needs no word before it, and a key shows nothing.
pub fn plain(name: &str) -> String {
    match name.split_once(':') {
        Some(("host", host)) => host.to_string(),
        Some(("key", site)) => format!("the key of {site}"),
        Some(_) | None => name.to_string(),
    }
}

/// The host of a base URL, in small letters, without port and brackets.
pub fn host(base_url: &str) -> String {
    let rest = base_url.split_once("://").map_or(base_url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let name = match authority.strip_prefix('[') {
        Some(six) => six.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    name.trim_end_matches('.').to_lowercase()
}

/// The part of a host name that one owner registered.
pub fn domain(host: &str) -> Option<String> {
    let labels: Vec<&str> = host.split('.').collect();
    let [.., second, top] = labels.as_slice() else { return None };
    let sold_below = top.len() == 2 && SOLD_BELOW.contains(second);
    let count = if sold_below { 3 } else { 2 };
    labels.len().checked_sub(count).map(|from| labels[from..].join("."))
}

/// A region as clouds write it in host names: `eu-central-1`, `cn-hangzhou`.
fn region(host: &str) -> Option<String> {
    let is_region = |label: &&str| {
        let parts: Vec<&str> = label.split('-').collect();
        let letters = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
        match parts.as_slice() {
            [land, area, number] => {
                land.len() == 2 && letters(land) && letters(area) && number.parse::<u8>().is_ok()
            }
            ["cn", city] => city.len() > 3 && letters(city),
            _ => false,
        }
    };
    host.split('.').find(is_region).map(str::to_string)
}

/// Whether a base URL stays on a private network.
pub fn is_private_url(base_url: &str) -> bool {
    is_private(&host(base_url))
}

/// Whether a host is not on the public network: a private address, or a name without a dot.
fn is_private(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local(),
        Err(_) => !host.contains('.') || host.ends_with(".internal") || host.ends_with(".local"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_domains_and_regions_are_read_from_a_base_url() {
        assert_eq!(host("https://API.deepseek.com/v1"), "api.deepseek.com");
        assert_eq!(host("http://[::1]:8000/v1"), "::1");
        assert_eq!(host("http://10.0.0.5:8000"), "10.0.0.5");
        assert_eq!(domain("api.deepseek.com").as_deref(), Some("deepseek.com"));
        assert_eq!(domain("a.b.example.com.cn").as_deref(), Some("example.com.cn"));
        assert_eq!(domain("localhost"), None);
        assert_eq!(region("llm.eu-central-1.example.com").as_deref(), Some("eu-central-1"));
        assert_eq!(region("api.deepseek.com"), None);
    }

    #[test]
    fn kinds_of_fates_have_one_spelling() {
        assert_eq!(spelt("Card:Visa-1"), "pay:visa-1");
        assert_eq!(kind("billing: x"), "pay");
        assert_eq!(kind("hangzhou"), "");
    }

    #[test]
    fn what_is_behind_our_own_wall_is_no_reseller() {
        assert!(is_private("10.1.2.3") && is_private("vllm") && is_private("a.internal"));
        assert!(!is_private("api.example.com") && !is_private("8.8.8.8"));
    }
}
