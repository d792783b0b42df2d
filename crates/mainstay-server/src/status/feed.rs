//! Incidents and announced work as RSS 2.0 and Atom (RFC 4287).

use super::dates::Date;
use super::html::escape;
use super::tell::{moment, touched};
use super::words::English;
use super::{View, json, works};
use mainstay_core::status::incident::Incident;
use mainstay_core::status::maintenance::Maintenance;
use std::fmt::Write;

/// Entries of a feed: readers ask often, and old ones are on the page.
const MOST: usize = 30;

/// One entry; its texts are safe where markup is read.
struct Entry {
    /// Its number, as this kind of entry is told from others.
    id: String,
    /// Where it is below the page.
    path: String,
    title: String,
    /// In seconds since 1970.
    began: u64,
    told: u64,
    body: String,
}

/// The feed for readers of RSS. They take a description for HTML, so what is safe there is escaped
/// once more.
pub(super) fn rss(view: &View, base: &str) -> String {
    let title = escape(&view.names.title);
    let base = escape(base);
    let page = json::page_id(&view.names);
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<rss version=\"2.0\" \
         xmlns:atom=\"http://www.w3.org/2005/Atom\"><channel>\
         <title>{title} status</title><link>{base}/</link>\
         <atom:link rel=\"self\" type=\"application/rss+xml\" href=\"{base}/history.rss\"/>\
         <description>Incidents of {about}</description>\n",
        about = escape(&title),
    );
    for Entry { id, path, title, told, body, .. } in newest(view) {
        let told = Date::at(told);
        let body = escape(&body.replace('\n', "<br>"));
        let _ = writeln!(
            text,
            "<item><title>{title}</title><link>{base}/{path}</link>\
             <guid isPermaLink=\"false\">{page}-{id}</guid><pubDate>{}</pubDate>\
             <description>{body}</description></item>",
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
    let all = newest(view);
    let updated = all.iter().map(|each| each.told).max().unwrap_or(view.wall);
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <feed xmlns=\"http://www.w3.org/2005/Atom\"><id>urn:mainstay:{page}</id>\
         <title>{title} status</title><updated>{}</updated>\
         <author><name>{title}</name></author><link href=\"{base}/\"/>\
         <link rel=\"self\" href=\"{base}/history.atom\"/>\n",
        Date::at(updated).iso()
    );
    for Entry { id, path, title, began, told, body } in all {
        let (began, told) = (Date::at(began).iso(), Date::at(told).iso());
        let _ = writeln!(
            text,
            "<entry><id>urn:mainstay:{page}:{id}</id><title>{title}</title>\
             <published>{began}</published><updated>{told}</updated>\
             <link href=\"{base}/{path}\"/><content type=\"text\">{body}</content></entry>"
        );
    }
    text.push_str("</feed>\n");
    text
}

/// What was told last, the newest first.
fn newest(view: &View) -> Vec<Entry> {
    let incidents = view.incidents.iter().map(|each| of_incident(each, view));
    let works = view.maintenances.iter().map(|each| of_work(each, view));
    let mut all: Vec<Entry> = incidents.chain(works).collect();
    all.sort_by_key(|each| std::cmp::Reverse(each.told));
    all.truncate(MOST);
    all
}

fn of_work(work: &Maintenance, view: &View) -> Entry {
    Entry {
        id: format!("m{}", work.id),
        path: format!("maintenance/{}", work.id),
        title: escape(&format!("Maintenance: {}", work.title)),
        began: work.announced(),
        told: work.told(),
        body: works::body(work, &view.names),
    }
}

fn of_incident(incident: &Incident, view: &View) -> Entry {
    Entry {
        id: incident.id.to_string(),
        path: format!("incidents/{}", incident.id),
        title: escape(&English.title(incident, &view.names)),
        began: incident.began(),
        told: touched(incident),
        body: body(incident, view),
    }
}

/// What was said, the newest first, as text.
fn body(incident: &Incident, view: &View) -> String {
    let said = incident.updates.iter().rev().map(|update| {
        let stage = English.stage(update.stage);
        let said = English.said(update, incident, &view.names);
        escape(&format!("{} UTC – {stage}: {said}", moment(update.at)))
    });
    let report = incident.published().map(|report| {
        let lines = report.text.lines().map(escape).collect::<Vec<_>>().join("\n");
        format!("{} UTC – {}:\n{lines}\n", moment(report.at), English.postmortem())
    });
    report.into_iter().chain(said).collect::<Vec<_>>().join("\n")
}
