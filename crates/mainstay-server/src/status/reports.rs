//! "It does not work for me": the form, and what keeps forgers from being a crowd.
//!
//! Nobody needs an account, a script or a cookie. Who reports is a number made of the network that
//! the report came from, the browser's name and a salt that is drawn anew each day and never
//! written down; addresses are kept nowhere. No text is taken, so none can be published.

use super::html::{escape, frame};
use super::words::Language;
use super::{Desk, View};
use crate::http::is_foreign;
use crate::setup::{mark, shown};
use http::header::{HeaderMap, HeaderName, USER_AGENT};
use mainstay_core::fact::Component;
use mainstay_core::names::{ModelId, SiteId};
use mainstay_core::status::Event;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

/// A form has few short fields.
pub(super) const BODY_MAX: usize = 4 * 1024;
/// Reports that count from one network (/24, /48) in ten minutes.
const NETWORK_MAX: u8 = 5;
const WINDOW: Duration = Duration::from_secs(600);
/// Characters of a key that are asked for: what lists show of it.
const KEY_MAX: usize = 18;
/// Networks remembered at once; more than these in ten minutes and nobody else is counted.
const NETWORKS_MAX: usize = 20_000;

/// What is wrong, as users see it. The first of each is what the form sends.
pub(super) const KINDS: [&str; 5] = ["errors", "slow", "cut", "wrong", "login"];

/// Who reported lately, and how many reports there were of each kind.
#[derive(Debug, Default)]
pub(super) struct Gate {
    salt: [u8; 32],
    day: u64,
    networks: HashMap<u64, u8>,
    window: u64,
    pub(super) counts: [u64; KINDS.len()],
    pub(super) refused: u64,
}

/// What came of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Yes,
    /// Too many from there.
    TooMany,
    /// It came from a page of another site.
    Foreign,
    /// It names nothing that is there.
    Wrong,
}

/// What is answered to one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) taken: Taken,
    /// Of the requests of the key that was named, how many failed lately, and all of them.
    pub(super) key: Option<(u64, u64)>,
}

impl Gate {
    /// A number for who reports; none if enough came from that network.
    fn pass(&mut self, wall: u64, from: IpAddr, browser: &str) -> Option<u64> {
        let day = wall / 86_400;
        if self.day != day || self.salt == [0; 32] {
            // Without randomness nobody is told from anybody: then one report counts for all.
            let random = rustls::crypto::ring::default_provider().secure_random;
            let drawn = random.fill(&mut self.salt);
            self.day = if drawn.is_ok() { day } else { 0 };
        }
        let window = wall / WINDOW.as_secs();
        if self.window != window {
            (self.window, self.networks) = (window, HashMap::new());
        }
        let network = self.number(&[&network(from)]);
        let is_room = self.networks.len() < NETWORKS_MAX;
        let count = match self.networks.get_mut(&network) {
            Some(count) => count,
            None if is_room => self.networks.entry(network).or_default(),
            None => return None,
        };
        if *count >= NETWORK_MAX {
            return None;
        }
        *count += 1;
        Some(self.number(&[&network_bytes(network), browser.as_bytes()]))
    }

    fn number(&self, parts: &[&[u8]]) -> u64 {
        let mut hash = Sha256::new_with_prefix(self.salt);
        parts.iter().for_each(|part| hash.update(part));
        let hash: [u8; 32] = hash.finalize().into();
        u64::from_le_bytes(hash[..8].try_into().unwrap_or_default())
    }
}

fn network_bytes(network: u64) -> [u8; 8] {
    network.to_le_bytes()
}

/// The network of an address: what one household or office has.
fn network(from: IpAddr) -> Vec<u8> {
    match from.to_canonical() {
        IpAddr::V4(address) => address.octets()[..3].to_vec(),
        IpAddr::V6(address) => address.octets()[..6].to_vec(),
    }
}

/// Whom a request comes from. A proxy on this machine says it; what others say is not believed.
pub(super) fn sender(peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let forwarded = HeaderName::from_static("x-forwarded-for");
    let last = headers.get_all(forwarded).iter().next_back();
    let last = last.and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
    last.filter(|_| peer.is_loopback()).unwrap_or(peer)
}

impl Language {
    /// How requests of a key turned out.
    fn key(self, (failed, all): (u64, u64)) -> String {
        match failed {
            0 => self.of(
                "In the last ten minutes we saw no request of a key that begins so fail.".into(),
                "最近十分钟内，未发现以此开头的密钥有失败的请求。".into(),
            ),
            _ => self.of(
                format!("In the last ten minutes we saw {failed} of your {all} requests fail."),
                format!("最近十分钟内，您的 {all} 个请求中有 {failed} 个失败。"),
            ),
        }
    }
}

impl Desk {
    /// Takes a report in, if it counts, and answers for the key that it names. Of a key only its
    /// beginning is looked at, and one that nobody knows reads like one without failures.
    pub(super) fn told(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        form: &[(String, String)],
    ) -> Told {
        let taken = self.report(peer, headers, form);
        let key = form.iter().find(|(name, _)| name == "key").map(|(_, value)| value.trim());
        let key = key.filter(|key| taken == Taken::Yes && !key.is_empty()).map(|key| {
            let now = self.clock.now();
            self.lock().machine.failing(now, mark(&shown(key)))
        });
        Told { taken, key }
    }

    /// Takes a report in, if it counts.
    fn report(&self, peer: IpAddr, headers: &HeaderMap, form: &[(String, String)]) -> Taken {
        let field =
            |name: &str| form.iter().find(|(each, _)| each == name).map(|(_, v)| v.as_str());
        if is_foreign(headers) {
            return Taken::Foreign;
        }
        let Some(kind) = field("kind").and_then(|kind| KINDS.iter().position(|k| *k == kind))
        else {
            return Taken::Wrong;
        };
        let now = self.clock.now();
        let mut shared = self.lock();
        let of = |name: &str, group: &[Option<String>]| match field(name).unwrap_or_default() {
            "" => Ok(None),
            wanted => {
                group.iter().position(|each| each.as_deref() == Some(wanted)).map(Some).ok_or(())
            }
        };
        let models: Vec<Option<String>> = shared.names.models.iter().cloned().map(Some).collect();
        let (Ok(model), Ok(site)) = (of("model", &models), of("site", &shared.names.sites)) else {
            return Taken::Wrong;
        };
        let wall = shared.machine.wall(now);
        let browser = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        let from = sender(peer, headers);
        let Some(reporter) = shared.gate.pass(wall, from, browser.unwrap_or_default()) else {
            shared.gate.refused += 1;
            return Taken::TooMany;
        };
        shared.gate.counts[kind] += 1;
        drop(shared);
        let id = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
        let (model, site) = (model.map(|at| ModelId(id(at))), site.map(|at| SiteId(id(at))));
        self.tell(Event::Report { model, site, reporter });
        Taken::Yes
    }
}

/// The page with the form; with what came of it, if it was sent.
pub(super) fn page(view: &View, language: Language, taken: Option<Told>) -> String {
    let heading = language.of("Report a problem", "反馈问题");
    frame(view, language, heading, |text| {
        let _ = write!(text, "<h1>{heading}</h1>");
        if let Some(Told { taken, key }) = taken {
            let said = match taken {
                Taken::Yes => language.of(
                    "Thank you. Reports are counted and shown on the status page.",
                    "谢谢反馈。反馈数量会显示在状态页上。",
                ),
                Taken::TooMany => language.of(
                    "Enough reports came from your network; come back in ten minutes.",
                    "来自您所在网络的反馈已足够，请十分钟后再试。",
                ),
                Taken::Foreign => language.of(
                    "This report came from another site's page; please use the form below.",
                    "该反馈来自其他网站，请使用下面的表单。",
                ),
                Taken::Wrong => language.of(
                    "Please choose what is wrong from the lists below.",
                    "请从下面的列表中选择。",
                ),
            };
            let _ = write!(text, "<p class=\"said\" role=\"status\">{said}</p>");
            if let Some(seen) = key {
                let seen = language.key(seen);
                let _ = write!(text, "<p class=\"said\" role=\"status\">{seen}</p>");
            }
        }
        form(view, language, text);
    })
}

fn form(view: &View, language: Language, text: &mut String) {
    let _ = write!(text, "<form method=\"post\" action=\"/report?lang={}\">", language.tag());
    let is_model = |component| matches!(component, Component::Model(_));
    let is_site = |component| matches!(component, Component::Site(_));
    let any = language.of("any, or I do not know", "不确定");
    type Is<'a> = &'a dyn Fn(Component) -> bool;
    let lists: [(&str, &str, Is); 2] = [
        ("model", language.of("Which model?", "哪个模型？"), &is_model),
        ("site", language.of("Where (if you know)?", "哪个站点（如果知道）？"), &is_site),
    ];
    for (field, label, is_in) in lists {
        let names: Vec<&str> =
            view.rows().filter(|(_, row)| is_in(row.component)).map(|(name, _)| name).collect();
        if names.is_empty() {
            continue;
        }
        let _ = write!(
            text,
            "<p><label>{label}<br><select name=\"{field}\"><option value=\"\">{any}</option>"
        );
        for name in names {
            let name = escape(name);
            let _ = write!(text, "<option value=\"{name}\">{name}</option>");
        }
        text.push_str("</select></label></p>");
    }
    let legend = language.of("What happens?", "出现了什么问题？");
    let _ = write!(text, "<fieldset><legend>{legend}</legend>");
    for kind in KINDS {
        let words = match kind {
            "errors" => language.of("Requests fail", "请求失败"),
            "slow" => language.of("It is slow", "响应很慢"),
            "cut" => language.of("Answers break off", "回答中断"),
            "wrong" => language.of("Answers are wrong or garbled", "回答错误或乱码"),
            _ => language.of("I cannot log in, or my key is refused", "无法登录或密钥被拒绝"),
        };
        let _ = write!(
            text,
            "<label><input type=\"radio\" name=\"kind\" value=\"{kind}\" required> {words}\
             </label><br>"
        );
    }
    text.push_str("</fieldset>");
    key_field(language, text);
    let (send, note) = (
        language.of("Send", "提交"),
        language.of(
            "No account, no cookie; your address is not kept. One report per person counts in \
             half an hour.",
            "无需账号，不使用 Cookie，不保存您的地址。同一人半小时内只计一次。",
        ),
    );
    let _ = write!(text, "<p><button>{send}</button></p><p class=\"soft\">{note}</p></form>");
}

fn key_field(language: Language, text: &mut String) {
    let (label, hint) = (
        language
            .of("The first 18 characters of your key, if you like", "密钥的前 18 个字符（可选）"),
        language.of(
            "We answer how many of its requests failed in the last ten minutes. Never give the \
             whole key; more than this is cut off, and nothing of it is kept.",
            "我们会告诉您该密钥最近十分钟内有多少请求失败。请勿填写完整密钥，多余部分会被截去，\
             且不会保存任何内容。",
        ),
    );
    let _ = write!(
        text,
        "<p><label>{label}<br><input name=\"key\" maxlength=\"{KEY_MAX}\" \
         autocomplete=\"off\" autocapitalize=\"none\" spellcheck=\"false\" \
         aria-describedby=\"hint\"></label><br><span class=\"soft\" id=\"hint\">{hint}</span></p>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_no_crowd_and_memory_is_bounded() {
        let mut gate = Gate::default();
        let wall = 20_000 * 86_400;
        let from = |text: &str| text.parse::<IpAddr>().expect("an address");
        let passed = (0..20).filter(|each| {
            gate.pass(wall, from(&format!("192.0.2.{each}")), &format!("browser {each}")).is_some()
        });
        assert_eq!(passed.count(), 5);
        assert_eq!(gate.pass(wall, from("::ffff:192.0.2.9"), "x"), None, "the same network");
        let one = gate.pass(wall, from("198.51.100.1"), "a");
        assert_eq!(one, gate.pass(wall, from("198.51.100.2"), "a"), "the same household");
        assert_ne!(one, gate.pass(wall, from("198.51.100.2"), "b"));
        for each in 0..100_000u32 {
            gate.pass(wall, IpAddr::from(each.to_be_bytes()), "forged");
        }
        assert!(gate.networks.len() <= NETWORKS_MAX);
        assert!(gate.pass(wall + 600, from("192.0.2.1"), "x").is_some(), "later again");
        let later = gate.pass(wall + 86_400, from("198.51.100.1"), "a");
        assert_ne!(one, later, "nobody is known from day to day");
    }

    #[test]
    fn only_a_proxy_on_this_machine_says_who_sends() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "203.0.113.9, 198.51.100.7".parse().expect("a value"));
        let proxy: IpAddr = "127.0.0.1".parse().expect("an address");
        let other: IpAddr = "192.0.2.1".parse().expect("an address");
        assert_eq!(sender(proxy, &headers), "198.51.100.7".parse::<IpAddr>().expect("one"));
        assert_eq!(sender(other, &headers), other);
        assert_eq!(sender(proxy, &HeaderMap::new()), proxy);
    }
}
