//! Maintenance windows in words, for people and programs.

use super::dates::Date;
use super::html::escape;
use super::tell::moment;
use super::words::{English, Language};
use super::{Names, View};
use mainstay_core::status::maintenance::{Maintenance, Note, Reason, Step};
use serde_json::{Value, json};

/// Windows in a document or a feed.
const MOST: usize = 50;
/// What is said of one beside others, at most.
const BESIDE: usize = 3;
/// Components that are named where a window is told.
const NAMED_MAX: usize = 8;

/// Steps by the words of Statuspage.
pub(super) const STEPS: [(Step, &str); 4] = [
    (Step::Scheduled, "scheduled"),
    (Step::InProgress, "in_progress"),
    (Step::Verifying, "verifying"),
    (Step::Completed, "completed"),
];

/// How far windows are that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    All,
    Upcoming,
    Active,
    /// Those that are not over.
    Open,
}

impl Which {
    fn is(self, step: Step) -> bool {
        match self {
            Which::All => true,
            Which::Upcoming => step == Step::Scheduled,
            Which::Active => [Step::InProgress, Step::Verifying].contains(&step),
            Which::Open => step != Step::Completed,
        }
    }
}

impl Language {
    fn step(self, of: &Maintenance) -> &'static str {
        match of.step() {
            _ if of.is_cancelled() => self.of("Cancelled", "已取消"),
            Step::Scheduled => self.of("Scheduled", "已计划"),
            Step::InProgress => self.of("In progress", "进行中"),
            Step::Verifying => self.of("Verifying", "验证中"),
            Step::Completed => self.of("Completed", "已完成"),
        }
    }

    /// What was said: a person's words, or the sentence for what came by itself.
    pub(super) fn noted(self, note: &Note) -> String {
        let own = match (note.reason, note.step) {
            (Reason::Cancelled, _) => self.of("It does not take place.", "本次维护已取消。"),
            (_, Step::Scheduled) => "",
            (_, Step::InProgress) if note.reason == Reason::Person => "",
            (_, Step::InProgress) => self.of("The work has begun.", "维护已开始。"),
            (_, Step::Verifying) => {
                self.of("The work is over; we look whether all is well.", "维护已结束，正在验证。")
            }
            (_, Step::Completed) => self.of("It is completed.", "维护已完成。"),
        };
        match (own.is_empty(), note.text.is_empty()) {
            (true, true) => self.of("It is announced.", "已公告。").into(),
            (true, false) => note.text.clone(),
            (false, true) => own.into(),
            (false, false) => format!("{own} {}", note.text),
        }
    }

    fn span(self, of: &Maintenance) -> String {
        let (from, until) = (moment(of.from), moment(of.until));
        self.of(format!("{from} to {until} UTC"), format!("{from} 至 {until}（UTC）"))
    }

    fn components(self, of: &Maintenance, names: &Names) -> String {
        let named = of.components.iter().filter_map(|each| names.name(*each));
        let named: Vec<&str> = named.collect();
        let (some, more) = named.split_at(named.len().min(NAMED_MAX));
        let some = some.join(self.of(", ", "、"));
        match more.len() {
            0 => some,
            more => self.of(format!("{some} and {more} more"), format!("{some} 等另外 {more} 项")),
        }
    }
}

/// Windows for the first page: those that are not over.
pub(super) fn section(view: &View, language: Language, room: usize) -> String {
    let open = || newest(view, Which::Open);
    if open().next().is_none() {
        return String::new();
    }
    let heading = language.of("Maintenance", "计划维护");
    // What comes first is read first.
    let mut open: Vec<&Maintenance> = open().collect();
    open.sort_by_key(|each| each.from);
    format!("<section><h2>{heading}</h2>{}</section>\n", list(open, (view, language), room))
}

/// All windows, the newest first.
pub(super) fn all(view: &View, language: Language, room: usize) -> String {
    list(newest(view, Which::All).collect(), (view, language), room)
}

fn list(all: Vec<&Maintenance>, (view, language): (&View, Language), room: usize) -> String {
    let mut text = String::new();
    for each in all {
        // What there is no room for is told by its title and times at least.
        let piece = [BESIDE, 0]
            .map(|most| article(each, (view, language), (3, most), room))
            .into_iter()
            .find(|piece| text.len() + piece.len() <= room);
        text.push_str(&piece.unwrap_or_default());
    }
    text
}

/// A window on a page of its own, if there is one of this number; its title too.
pub(super) fn page(
    (view, language): (&View, Language),
    id: &str,
    room: usize,
) -> Option<(String, String)> {
    let one = view.maintenances.iter().find(|each| each.id.to_string() == id)?;
    Some((one.title.clone(), article(one, (view, language), (1, one.notes.len()), room)))
}

fn article(
    of: &Maintenance,
    (view, language): (&View, Language),
    (level, most): (u8, usize),
    room: usize,
) -> String {
    let (id, path) = (of.id, language.path());
    let mut text = format!(
        "<article class=\"work\"><h{level}><a href=\"{path}maintenance/{id}\">{title}</a>\
         </h{level}><p><strong>{step}</strong> · {span}</p><p class=\"soft\">{parts}</p><ol>",
        title = escape(&of.title),
        step = language.step(of),
        span = language.span(of),
        parts = escape(&language.components(of, &view.names)),
    );
    for note in of.notes.iter().rev().take(most) {
        let item = format!(
            "<li><time datetime=\"{}\">{} UTC</time><p>{}</p></li>",
            Date::at(note.at).iso(),
            moment(note.at),
            escape(&language.noted(note))
        );
        if text.len() + item.len() > room {
            break;
        }
        text.push_str(&item);
    }
    text.push_str("</ol></article>\n");
    text
}

/// The newest windows of these, the newest first.
pub(super) fn newest(view: &View, which: Which) -> impl Iterator<Item = &Maintenance> {
    view.maintenances.iter().rev().filter(move |each| which.is(each.step())).take(MOST)
}

/// What was said, the newest first, as text.
pub(super) fn body(of: &Maintenance, names: &Names) -> String {
    let said = of
        .notes
        .iter()
        .rev()
        .map(|note| format!("{} UTC – {}", moment(note.at), English.noted(note)));
    let (step, span) = (English.step(of), English.span(of));
    let parts = English.components(of, names);
    let head = format!("{step}: {span}. {parts}");
    [head].into_iter().chain(said).map(|line| escape(&line)).collect::<Vec<_>>().join("\n")
}

/// Windows in the shape of Statuspage's API version 2.
pub(super) fn json(view: &View, which: Which, page_id: &str) -> Vec<Value> {
    newest(view, which).map(|each| one(each, view, page_id)).collect()
}

pub(super) fn one(of: &Maintenance, view: &View, page_id: &str) -> Value {
    let id = format!("{page_id}-m{}", of.id);
    let iso = |at: u64| Date::at(at).iso();
    let word = |step: Step| super::kept::word(&STEPS, &step);
    let update = |(at, note): (usize, &Note)| {
        json!({
            "id": format!("{id}-{at}"),
            "incident_id": id,
            "status": word(note.step),
            "body": English.noted(note),
            "created_at": iso(note.at),
            "updated_at": iso(note.at),
            "display_at": iso(note.at),
            "affected_components": null,
        })
    };
    let began = of.notes.iter().find(|note| note.step == Step::InProgress);
    let over = of.notes.iter().find(|note| note.step == Step::Completed);
    let base = view.names.url.as_deref().unwrap_or_default().trim_end_matches('/');
    let components = of.components.iter().filter_map(|each| {
        let id = super::json::id(&view.names, *each);
        Some(json!({ "id": id, "name": view.names.name(*each)?, "page_id": page_id }))
    });
    json!({
        "id": id,
        "name": of.title,
        "status": word(of.step()),
        "created_at": iso(of.announced()),
        "updated_at": iso(of.told()),
        "started_at": iso(began.map_or(of.from, |note| note.at)),
        "monitoring_at": null,
        "resolved_at": over.map(|note| iso(note.at)),
        "impact": "maintenance",
        "shortlink": format!("{base}/maintenance/{}", of.id),
        "page_id": page_id,
        "scheduled_for": iso(of.from),
        "scheduled_until": iso(of.until),
        "cancelled": of.is_cancelled(),
        "incident_updates": of.notes.iter().enumerate().rev().map(update).collect::<Vec<_>>(),
        "components": components.collect::<Vec<_>>(),
    })
}
