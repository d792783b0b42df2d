//! The page's words in each language, and which one a browser asks for.

use super::View;
use super::dates::Date;
use http::header::{ACCEPT_LANGUAGE, HeaderMap};
use mainstay_core::fact::{Component, State};
use mainstay_core::status::{Data, Overall};
use std::time::Duration;

/// A language of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    English,
    Chinese,
}

pub(super) use Language::{Chinese, English};

impl Language {
    /// All of them.
    pub(super) const ALL: [Language; 2] = [English, Chinese];

    /// The one that `Accept-Language` prefers (RFC 9110, 12.5.4); English where it says nothing.
    pub(super) fn accepted(header: &str) -> Language {
        let mut best = (English, 0.0f32);
        for part in header.split(',') {
            let mut words = part.split(';').map(str::trim);
            let tag = words.next().unwrap_or_default().to_ascii_lowercase();
            let weight = words.find_map(|word| word.strip_prefix("q="));
            let weight = weight.map_or(1.0, |text| text.parse().unwrap_or(0.0));
            let of = match tag.split('-').next().unwrap_or_default() {
                "zh" => Some(Chinese),
                "en" | "*" => Some(English),
                _ => None,
            };
            // Of two alike the earlier one.
            if let Some(language) = of.filter(|_| weight > best.1) {
                best = (language, weight);
            }
        }
        best.0
    }

    /// The one that a link named, or that the browser prefers.
    pub(super) fn asked(query: Option<&str>, headers: &HeaderMap) -> Language {
        let named =
            query.unwrap_or_default().split('&').find_map(|each| each.strip_prefix("lang="));
        let of = |tag: &str| Language::ALL.into_iter().find(|each| each.tag() == tag);
        let accepted = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        named.and_then(of).unwrap_or_else(|| Language::accepted(accepted.unwrap_or_default()))
    }

    /// Its tag in `lang` and `hreflang`.
    pub(super) fn tag(self) -> &'static str {
        self.of("en", "zh-Hans")
    }

    /// Where the page is in it.
    pub(super) fn path(self) -> &'static str {
        self.of("/en/", "/zh/")
    }

    /// What it calls itself.
    pub(super) fn name(self) -> &'static str {
        self.of("English", "中文")
    }

    /// One of two.
    pub(super) fn of<T>(self, english: T, chinese: T) -> T {
        match self {
            English => english,
            Chinese => chinese,
        }
    }

    /// A component's state.
    pub(super) fn state(self, state: State) -> &'static str {
        match state {
            State::NoData => self.of("No data", "暂无数据"),
            State::Maintenance => self.of("Under maintenance", "维护中"),
            State::Operational => self.of("Operational", "运行正常"),
            State::Degraded => self.of("Degraded performance", "性能下降"),
            State::Partial => self.of("Partial outage", "部分中断"),
            State::Major => self.of("Major outage", "严重中断"),
        }
    }

    /// The heading above components of a kind.
    pub(super) fn group(self, component: Component) -> &'static str {
        match component {
            Component::Api => self.of("Service", "服务"),
            Component::Model(_) => self.of("Models", "模型"),
            Component::Site(_) => self.of("Sites", "站点"),
        }
    }

    /// How it is as a whole, in a line.
    pub(super) fn headline(self, view: &View) -> String {
        let page = &view.page;
        match (page.data, page.overall) {
            (Data::None(_), _) => self.of("No data yet", "尚无数据").into(),
            (Data::Lost(lasts), _) => {
                let since = when(lasts);
                self.of(
                    format!("No data since {since} UTC – assume trouble"),
                    format!("自 {since}（UTC）起无数据，可能正在发生故障"),
                )
            }
            (Data::Stale(lasts), _) => {
                let seconds = lasts.as_secs();
                self.of(
                    format!("No new data for {seconds} s"),
                    format!("已有 {seconds} 秒没有新数据"),
                )
            }
            (Data::Fresh(_), Overall::Well) if !page.is_known => {
                self.of("Too few requests to tell", "请求过少，无法判断").into()
            }
            (Data::Fresh(_), Overall::Well) => {
                self.of("All systems operational", "所有系统运行正常").into()
            }
            (Data::Fresh(_), Overall::Minor) if view.is_answering() => self
                .of(
                    "Requests are answered; some parts are impaired",
                    "请求正常处理，部分系统受影响",
                )
                .into(),
            (Data::Fresh(_), Overall::Minor) => {
                self.of("Some systems are impaired", "部分系统受影响").into()
            }
            (Data::Fresh(_), Overall::Major) => self.of("Partial outage", "部分服务中断").into(),
            (Data::Fresh(_), Overall::Critical) => self.of("Major outage", "服务严重中断").into(),
        }
    }

    /// How old what is shown is, and who it comes from.
    pub(super) fn freshness(self, view: &View) -> String {
        let (heard, of) = view.page.heard;
        match view.page.data {
            Data::None(lasts) => {
                let since = when(lasts);
                self.of(
                    format!("Waiting for the first gateway since {since} UTC."),
                    format!("自 {since}（UTC）起等待网关上报。"),
                )
            }
            Data::Fresh(age) | Data::Stale(age) | Data::Lost(age) => {
                let (at, seconds) = (when(age), age.as_secs());
                self.of(
                    format!(
                        "Data of {at} UTC, {seconds} s old. {heard} of {of} gateways are heard."
                    ),
                    format!(
                        "数据时间 {at}（UTC），距今 {seconds} 秒。共 {of} 个网关，{heard} 个在线上报。"
                    ),
                )
            }
        }
    }

    /// What the states come from.
    pub(super) fn method(self, green: &str) -> String {
        self.of(
            format!(
                "States come from real requests of the last minute, and of sites also from what \
                 gateways find there. With too few requests there is no data. What failed is shown \
                 as operational again after {green} without failures."
            ),
            format!(
                "状态来自最近一分钟的真实请求，站点状态还参考网关的探测结果；请求过少时显示“暂无数据”。\
                 发生故障的组件在连续正常 {green}后，才会重新显示为“运行正常”。"
            ),
        )
    }

    /// A time that somebody set.
    pub(super) fn lasting(self, time: Duration) -> String {
        match time.as_secs() {
            seconds if seconds >= 60 && seconds % 60 == 0 => {
                let minutes = seconds / 60;
                self.of(format!("{minutes} min"), format!("{minutes} 分钟"))
            }
            seconds => self.of(format!("{seconds} s"), format!("{seconds} 秒")),
        }
    }

    /// Since when a component is as it is.
    pub(super) fn since(self, lasts: Duration) -> String {
        let at = when(lasts);
        self.of(format!("since {at} UTC"), format!("自 {at}（UTC）起"))
    }

    /// A share of a thousand requests.
    pub(super) fn answered(self, good: u16) -> String {
        let (whole, tenth) = (good / 10, good % 10);
        self.of(
            format!("{whole}.{tenth} % answered in the last minute"),
            format!("近一分钟成功率 {whole}.{tenth}%"),
        )
    }

    /// Whom the loss of a site would leave refused: of a thousand requests of a tier so many.
    pub(super) fn short(self, site: &str, tier: &str, refused: u16) -> String {
        let percent = refused.div_ceil(10);
        self.of(
            format!("Without {site} about {percent} % of {tier} requests would be refused."),
            format!("若 {site} 故障，约 {percent}% 的 {tier} 请求将被拒绝。"),
        )
    }

    /// Within which time nearly all first tokens came.
    pub(super) fn first_token(self, within: Duration) -> String {
        let seconds = within.as_secs_f64();
        self.of(
            format!("first token within {seconds} s (95 %)"),
            format!("首个 token ≤ {seconds} 秒（95%）"),
        )
    }
}

/// A moment for people: its time, and its day if that is another.
fn when(age: Duration) -> String {
    let (then, now) = (Date::ago(age), Date::ago(Duration::ZERO));
    match then.day == now.day {
        true => then.time,
        false => format!("{} {}", then.day, then.time),
    }
}
