//! The page for people: one file without scripts, for every screen and for who hears it read.

use super::View;
use super::style::{SHAPES, STYLE};
use super::words::Language;
use mainstay_core::fact::{Component, State};
use mainstay_core::status::{Data, Overall, Row};
use std::fmt::Write;

/// Longer names are cut: a page stays small whatever things are called.
const LONGEST: usize = 64;

/// The page in `language`; `green` is how long a component must be well before it is shown so.
pub(super) fn page(view: &View, language: Language, green: std::time::Duration) -> String {
    let title = escape(&view.names.title);
    let headline = escape(&language.headline(view));
    let heading = language.of(format!("{title} status"), format!("{title} 服务状态"));
    let mut text = format!(
        "<!doctype html>\n<html lang=\"{tag}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>{headline} · {heading}</title>\n",
        tag = language.tag()
    );
    let base = view.names.url.as_deref().unwrap_or_default().trim_end_matches('/');
    let base = escape(base);
    for each in Language::ALL {
        let (tag, path) = (each.tag(), each.path());
        let _ = writeln!(text, "<link rel=\"alternate\" hreflang=\"{tag}\" href=\"{base}{path}\">");
    }
    let _ = writeln!(text, "<link rel=\"alternate\" hreflang=\"x-default\" href=\"{base}/\">");
    let _ = write!(
        text,
        "<style>{STYLE}</style>\n</head>\n<body>\n{SHAPES}\n<div class=\"page\">\n\
         <header><h1>{heading}</h1>\n<nav aria-label=\"{}\">",
        language.of("Language", "语言")
    );
    for each in Language::ALL {
        let (path, tag, name) = (each.path(), each.tag(), each.name());
        let current = if each == language { " aria-current=\"true\"" } else { "" };
        let _ = write!(
            text,
            "<a href=\"{path}\" lang=\"{tag}\" hreflang=\"{tag}\"{current}>{name}</a>"
        );
    }
    let _ = write!(
        text,
        "</nav></header>\n<main>\n<div class=\"all {class}\" role=\"status\">{shape}\
         <div><p class=\"line\">{headline}</p><p class=\"soft\">{freshness}</p></div></div>\n",
        class = class(overall(view)),
        shape = shape(overall(view)),
        freshness = escape(&language.freshness(view)),
    );
    groups(view, language, &mut text);
    let _ = write!(
        text,
        "</main>\n<footer><p>{}</p><p>{} <a href=\"/api/v2/summary.json\">JSON</a> · \
         <a href=\"/badge.svg\">{}</a></p></footer>\n</div>\n</body>\n</html>\n",
        escape(&language.method(&language.lasting(green))),
        language.of("All times are UTC. For programs:", "所有时间均为 UTC。程序接口："),
        language.of("badge", "徽章"),
    );
    text
}

fn groups(view: &View, language: Language, text: &mut String) {
    let mut last = None;
    for (name, row) in view.rows() {
        let kind = std::mem::discriminant(&row.component);
        if last != Some(kind) {
            let end = if last.is_some() { "</ul></section>\n" } else { "" };
            let heading = language.group(row.component);
            let _ = writeln!(text, "{end}<section><h2>{heading}</h2><ul>");
        }
        last = Some(kind);
        item(view, language, (name, row), text);
    }
    if last.is_some() {
        text.push_str("</ul></section>\n");
    }
}

fn item(view: &View, language: Language, (name, row): (&str, &Row), text: &mut String) {
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

/// `text` where markup is read, in an attribute too. What would turn the direction of what comes
/// after it, or is no character of text at all, is left out.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            character if character.is_control() => {}
            character => safe.push(character),
        }
    }
    safe
}
