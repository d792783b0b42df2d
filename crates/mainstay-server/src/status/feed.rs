//! Incidents as RSS 2.0 and Atom (RFC 4287).

use super::dates::Date;
use super::html::escape;
use super::words::English;
use super::{View, json};
use mainstay_core::status::incident::Incident;
use std::fmt::Write;

/// Incidents in a feed: readers ask often, and old ones are on the page.
const MOST: usize = 30;

/// The feed for readers of RSS. They take a description for HTML, so what is safe there is escaped
/// once more.
pub(super) fn rss(view: &View, base: &str) -> String {
    let title = escape(&view.names.title);
    let base = escape(base);
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<rss version=\"2.0\" \
         xmlns:atom=\"http://www.w3.org/2005/Atom\"><channel>\
         <title>{title} status</title><link>{base}/</link>\
         <atom:link rel=\"self\" type=\"application/rss+xml\" href=\"{base}/history.rss\"/>\
         <description>Incidents of {about}</description>\n",
        about = escape(&title),
    );
    for each in newest(view) {
        let (name, body) = (escape(&English.title(each, &view.names)), body(each, view));
        let (id, told) = (each.id, Date::at(each.told()));
        let body = escape(&body.replace('\n', "<br>"));
        let _ = writeln!(
            text,
            "<item><title>{name}</title><link>{base}/incidents/{id}</link>\
             <guid isPermaLink=\"false\">{}-{id}</guid><pubDate>{}</pubDate>\
             <description>{body}</description></item>",
            json::page_id(&view.names),
            told.http(),
        );
    }
    text.push_str("</channel></rss>\n");
    text
}

/// The feed for readers of Atom.
pub(super) fn atom(view: &View, base: &str) -> String {
    let title = escape(&view.names.title);
    let base = escape(base);
    let page = json::page_id(&view.names);
    let updated = newest(view).map(Incident::told).max().unwrap_or(view.wall);
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <feed xmlns=\"http://www.w3.org/2005/Atom\"><id>urn:mainstay:{page}</id>\
         <title>{title} status</title><updated>{}</updated>\
         <author><name>{title}</name></author><link href=\"{base}/\"/>\
         <link rel=\"self\" href=\"{base}/history.atom\"/>\n",
        Date::at(updated).iso()
    );
    for each in newest(view) {
        let (name, body) = (escape(&English.title(each, &view.names)), body(each, view));
        let (began, told) = (Date::at(each.began()).iso(), Date::at(each.told()).iso());
        let id = each.id;
        let _ = writeln!(
            text,
            "<entry><id>urn:mainstay:{page}:{id}</id><title>{name}</title>\
             <published>{began}</published><updated>{told}</updated>\
             <link href=\"{base}/incidents/{id}\"/><content type=\"text\">{body}</content></entry>"
        );
    }
    text.push_str("</feed>\n");
    text
}

fn newest(view: &View) -> impl Iterator<Item = &Incident> {
    view.incidents.iter().rev().take(MOST)
}

/// What was said, the newest first, as text.
fn body(incident: &Incident, view: &View) -> String {
    let said = incident.updates.iter().rev().map(|update| {
        let stage = English.stage(update.stage);
        let said = English.said(update, incident, &view.names);
        escape(&format!("{} UTC – {stage}: {said}", super::tell::moment(update.at)))
    });
    said.collect::<Vec<_>>().join("\n")
}
