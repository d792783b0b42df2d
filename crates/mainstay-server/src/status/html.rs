//! The page for people: one file without scripts, for every screen and for who hears it read.

use super::style::{SHAPES, STYLE};
use super::words::Language;
use super::{View, bars, tell, works};
pub(super) use crate::http::escape;
use mainstay_core::fact::{Component, State};
use mainstay_core::message::Short;
use mainstay_core::status::history::Day;
use mainstay_core::status::incident::Incident;
use mainstay_core::status::{Data, Overall, Row};
use std::fmt::Write;

/// Longer names are cut: a page stays small whatever things are called.
const LONGEST: usize = 64;
/// What a page may take beside its frame: it is to stay below 100 kB.
const ROOM: usize = 80_000;
/// Incidents on the first page.
const LATELY_MAX: usize = 10;

/// The page in `language`; `green` is how long a component must be well before it is shown so.
pub(super) fn page(view: &View, language: Language, green: std::time::Duration) -> String {
    let headline = language.headline(view);
    frame(view, language, &headline, |text| {
        let _ = writeln!(
            text,
            "<div class=\"all {class}\" role=\"status\">{shape}<div>\
             <h1 class=\"line\">{headline}</h1><p class=\"soft\">{freshness}</p></div></div>",
            class = class(overall(view)),
            shape = shape(overall(view)),
            headline = escape(&headline),
            freshness = escape(&language.freshness(view)),
        );
        let ask = language.of("Does it not work for you?", "遇到问题？");
        let report = language.of("Report a problem", "反馈问题");
        let path = language.path();
        let _ = writeln!(text, "<p class=\"ask\">{ask} <a href=\"{path}report\">{report}</a></p>");
        let states = states(view, language, green);
        let works = works::section(view, language, ROOM.saturating_sub(states.len()) / 2);
        let states = works + &states;
        let mut lately = tell::lately(view).peekable();
        if lately.peek().is_some() {
            let heading = language.of("Incidents", "事件");
            let room = ROOM.saturating_sub(states.len());
            let lately = tell::list(lately.take(LATELY_MAX), (view, language), room);
            let _ = writeln!(text, "<section><h2>{heading}</h2>{lately}</section>");
        }
        text.push_str(&states);
    })
}

/// How everything is, now and in the last days.
fn states(view: &View, language: Language, green: std::time::Duration) -> String {
    let mut text = String::new();
    if view.days.iter().flatten().flatten().next().is_some() {
        text.push_str(&bars::mask());
    }
    groups(view, language, &mut text);
    let site = |each: &Short| view.names.name(Component::Site(each.site));
    let short: Vec<String> = view
        .short
        .iter()
        .filter_map(|each| {
            let tier = view.names.tiers.get(usize::from(each.tier.0))?;
            Some(escape(&language.short(site(each)?, tier, each.refused)))
        })
        .collect();
    if !short.is_empty() {
        let heading = language.of("If a site failed now", "若某个站点此刻故障");
        let _ = writeln!(
            text,
            "<section class=\"told\"><h2>{heading}</h2><ul><li>{}</li></ul></section>",
            short.join("</li><li>")
        );
    }
    if let Some(lines) = bars::day(&view.drawn, language) {
        let heading = language.of("Last 24 hours", "最近 24 小时");
        let _ = writeln!(text, "<section><h2>{heading}</h2>{lines}</section>");
    }
    let method = escape(&language.method(&language.lasting(green)));
    let _ = write!(text, "<p class=\"soft\">{method}</p>");
    text
}

/// All incidents that are kept.
pub(super) fn history(view: &View, language: Language) -> String {
    let heading = language.of("Incidents", "事件");
    frame(view, language, heading, |text| {
        let _ = write!(text, "<h1>{heading}</h1>");
        let works = works::all(view, language, ROOM / 3);
        if view.incidents.is_empty() {
            let none = language.of("No incidents are known.", "暂无事件记录。");
            let _ = write!(text, "<p>{none}</p>");
        }
        let room = ROOM - works.len();
        text.push_str(&tell::list(view.incidents.iter().rev(), (view, language), room));
        if !works.is_empty() {
            let heading = language.of("Maintenance", "计划维护");
            let _ = write!(text, "<h1>{heading}</h1>{works}");
        }
    })
}

/// One incident, if there is one of this number.
pub(super) fn incident(view: &View, language: Language, id: &str) -> Option<String> {
    let wanted = |each: &&Incident| each.id.to_string() == id;
    let one = view.incidents.iter().find(wanted)?;
    let heading = language.title(one, &view.names);
    let told = tell::whole(one, (view, language), ROOM);
    Some(frame(view, language, &heading, |text| text.push_str(&told)))
}

/// One maintenance window, if there is one of this number.
pub(super) fn maintenance(view: &View, language: Language, id: &str) -> Option<String> {
    let (title, told) = works::page((view, language), id, ROOM)?;
    Some(frame(view, language, &title, |text| text.push_str(&told)))
}

/// A whole page around `body`, which is titled so.
pub(super) fn frame(
    view: &View,
    language: Language,
    titled: &str,
    body: impl FnOnce(&mut String),
) -> String {
    let title = escape(&view.names.title);
    let heading = language.of(format!("{title} status"), format!("{title} 服务状态"));
    let mut text = format!(
        "<!doctype html>\n<html lang=\"{tag}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>{titled} · {heading}</title>\n",
        tag = language.tag(),
        titled = escape(titled),
    );
    let base = view.names.url.as_deref().unwrap_or_default().trim_end_matches('/');
    let (base, here) = (escape(base), escape(&view.here));
    for each in Language::ALL {
        let (tag, path) = (each.tag(), each.path());
        let _ = writeln!(
            text,
            "<link rel=\"alternate\" hreflang=\"{tag}\" href=\"{base}{path}{here}\">"
        );
    }
    let _ = write!(
        text,
        "<link rel=\"alternate\" hreflang=\"x-default\" href=\"{base}/{here}\">\n\
         <link rel=\"alternate\" type=\"application/atom+xml\" href=\"/history.atom\">\n\
         <style>{STYLE}</style>\n</head>\n<body>\n{SHAPES}\n<div class=\"page\">\n\
         <header><p class=\"top\"><a href=\"{}\">{heading}</a></p>\n<nav aria-label=\"{}\">",
        language.path(),
        language.of("Language", "语言")
    );
    for each in Language::ALL {
        let (path, tag, name) = (each.path(), each.tag(), each.name());
        let current = if each == language { " aria-current=\"true\"" } else { "" };
        let _ = write!(
            text,
            "<a href=\"{path}{here}\" lang=\"{tag}\" hreflang=\"{tag}\"{current}>{name}\
             </a>"
        );
    }
    text.push_str("</nav></header>\n<main>\n");
    body(&mut text);
    let path = language.path();
    let _ = write!(
        text,
        "</main>\n<footer><p><a href=\"{path}history\">{}</a> · <a href=\"/history.rss\">RSS</a> · \
         <a href=\"/history.atom\">Atom</a> · <a href=\"/api/v2/summary.json\">JSON</a> · \
         <a href=\"/badge.svg\">{}</a></p><p>{}</p></footer>\n</div>\n</body>\n</html>\n",
        language.of("All incidents", "全部事件"),
        language.of("badge", "徽章"),
        language.of("All times are UTC.", "所有时间均为 UTC。"),
    );
    text
}

fn groups(view: &View, language: Language, text: &mut String) {
    let mut last = None;
    for (at, (name, row)) in view.numbered() {
        let kind = std::mem::discriminant(&row.component);
        if last != Some(kind) {
            let end = if last.is_some() { "</ul></section>\n" } else { "" };
            let heading = language.group(row.component);
            let _ = writeln!(text, "{end}<section><h2>{heading}</h2><ul>");
        }
        last = Some(kind);
        let days = view.days.get(at).map(Vec::as_slice).unwrap_or_default();
        item((view, days), language, (name, row), text);
    }
    if last.is_some() {
        text.push_str("</ul></section>\n");
    }
}

fn item(
    (view, days): (&View, &[Option<Day>]),
    language: Language,
    (name, row): (&str, &Row),
    text: &mut String,
) {
    let name = match row.component {
        Component::Api => language.of("API", "API 接口"),
        Component::Model(_) | Component::Site(_) => name,
    };
    let mut short: String = name.chars().take(LONGEST).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    let mut more = Vec::new();
    if row.state.is_impaired() {
        more.push(language.since(row.lasts));
    }
    // What a site did not answer, another one did: only of the whole is it the public's share.
    if !matches!(row.component, Component::Site(_)) {
        more.extend(row.good.map(|good| language.answered(good)));
        more.extend(row.first_token.map(|within| language.first_token(within)));
    }
    let reports = row.reported;
    if reports.is_surge {
        more.push(language.of(
            format!("users report problems ({})", reports.lately),
            format!("有用户反馈异常（{} 条）", reports.lately),
        ));
    }
    if row.state == State::NoData && matches!(view.page.data, Data::Fresh(_)) {
        more.push(language.of("too few requests to tell", "请求过少，无法判断").into());
    }
    let _ = write!(
        text,
        "<li><span class=\"name\">{}</span><span class=\"state {}\">{}{}</span>",
        escape(&short),
        class(row.state),
        shape(row.state),
        language.state(row.state)
    );
    if !more.is_empty() {
        let more = escape(&more.join(" · "));
        let _ = write!(text, "<span class=\"more\">{more}</span>");
    }
    text.push_str(&bars::uptime(days, language).unwrap_or_default());
    text.push_str("</li>\n");
}

/// The state whose colour and shape the whole has.
fn overall(view: &View) -> State {
    match (view.page.data, view.page.overall) {
        (Data::None(_), _) => State::NoData,
        (Data::Fresh(_), Overall::Well) if !view.page.is_known => State::NoData,
        (_, Overall::Well) => State::Operational,
        (_, Overall::Minor) => State::Degraded,
        (_, Overall::Major) => State::Partial,
        (_, Overall::Critical) => State::Major,
    }
}

fn class(state: State) -> &'static str {
    match state {
        State::NoData => "s0",
        State::Maintenance => "s1",
        State::Operational => "s2",
        State::Degraded => "s3",
        State::Partial => "s4",
        State::Major => "s5",
    }
}

fn shape(state: State) -> String {
    let class = class(state);
    format!("<svg class=\"{class}\" aria-hidden=\"true\"><use href=\"#{class}\"/></svg>")
}
