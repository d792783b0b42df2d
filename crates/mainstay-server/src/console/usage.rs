//! What the ledger says, on the page: asked on a thread of its own, one question at a time, and
//! told again for a while. A ledger that is slow or gone holds up no page for long, and no request
//! ever.

use super::html::{Cell, Html};
use super::proposal::{Fields, field};
use crate::ledger::Keeping;
use crate::ledger::usage::{By, Place, Sum, usage};
use crate::setup::format_date;
use mainstay_core::console::{ROWS_MAX, USAGE_KEPT, USAGE_WAIT};
use mainstay_core::money::Money;
use mainstay_core::time::Time;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What can be summed up, as a form has it.
const BYS: [(&str, &str, By); 6] = [
    ("tenant", "Tenant", By::Tenant),
    ("key", "Key", By::Key),
    ("model", "Model", By::Model),
    ("tier", "Tier", By::Tier),
    ("site", "Site", By::Site),
    ("day", "Day (UTC)", By::Day),
];
/// Over how many days.
const DAYS: [(&str, &str, i64); 3] =
    [("1", "Today (UTC)", 1), ("7", "Seven days", 7), ("30", "Thirty days", 30)];
/// Microseconds.
const DAY: i64 = 86_400_000_000;

/// A question: positions in `BYS` and `DAYS`.
pub(super) type Asked = (usize, usize);

/// What the ledger said.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    rows: Vec<(String, Sum)>,
    /// Groups that are left out.
    more: usize,
    /// What went wrong, or what is not whole.
    wrong: Option<String>,
}

/// The ledger, and what it said last.
pub(super) struct Usage {
    keeping: Option<Keeping>,
    known: Mutex<Vec<(Asked, Time, Answer)>>,
    busy: AtomicBool,
}

/// Holds the ledger to one question at a time, also where one dies.
struct Busy(Arc<Usage>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

impl Usage {
    pub(super) fn new(keeping: Option<Keeping>) -> Usage {
        Usage { keeping, known: Mutex::default(), busy: AtomicBool::new(false) }
    }

    /// What it says, or said not long ago; nothing if it takes too long to say anything.
    pub(super) async fn answer(self: &Arc<Usage>, now: Time, asked: Asked) -> Option<Answer> {
        let keeping = self.keeping.clone()?;
        let is_fresh = |(at, _): &(Time, Answer)| now < *at + USAGE_KEPT;
        if let Some((_, answer)) = self.last(asked).filter(is_fresh) {
            return Some(answer);
        }
        if !self.busy.swap(true, Ordering::AcqRel) {
            let busy = Busy(self.clone());
            let asking = tokio::task::spawn_blocking(move || {
                let answer = ask(&keeping, asked);
                let mut known = busy.0.known();
                known.retain(|(each, _, _)| *each != asked);
                known.push((asked, now, answer));
                drop(known);
            });
            // It goes on behind the page, and the next one has it.
            let _ = tokio::time::timeout(USAGE_WAIT, asking).await;
        }
        self.last(asked).map(|(_, answer)| answer)
    }

    fn last(&self, asked: Asked) -> Option<(Time, Answer)> {
        let known = self.known();
        let found = known.iter().find(|(each, _, _)| *each == asked);
        found.map(|(_, at, answer)| (*at, answer.clone()))
    }

    fn known(&self) -> MutexGuard<'_, Vec<(Asked, Time, Answer)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ask(keeping: &Keeping, (by, days): Asked) -> Answer {
    let by = BYS[by].2;
    let now = i64::try_from(crate::ledger::now()).unwrap_or(i64::MAX - DAY);
    let range = (now - now % DAY - (DAYS[days].2 - 1) * DAY, now + DAY);
    let file = || usage(&Place::File(keeping.file.clone()), by, range);
    let (found, wrong) = match &keeping.postgres {
        None => (file(), None),
        Some(url) => match usage(&Place::Postgres(url.clone()), by, range) {
            Ok(found) => (Ok(found), None),
            Err(why) => {
                let part = format!("{why}; this node's own file answers, with its own requests");
                (file(), Some(part))
            }
        },
    };
    match found {
        Ok(found) => {
            let mut rows: Vec<(String, Sum)> = found.into_iter().collect();
            match by {
                By::Day => rows.reverse(),
                _ => rows.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.requests.max(sum.attempts))),
            }
            let more = rows.len().saturating_sub(ROWS_MAX);
            rows.truncate(ROWS_MAX);
            Answer { rows, more, wrong }
        }
        Err(why) => Answer { rows: Vec::new(), more: 0, wrong: Some(why) },
    }
}

/// What a page's query asks for.
pub(super) fn asked(query: &Fields) -> Asked {
    let by = BYS.iter().position(|(word, _, _)| *word == field(query, "by"));
    let days = DAYS.iter().position(|(word, _, _)| *word == field(query, "days"));
    (by.unwrap_or(0), days.unwrap_or(0))
}

/// The question as a form, and the answer as a table.
pub(super) fn show((by, days): Asked, answer: Option<&Answer>, html: &mut Html) {
    html.raw(
        "<h2 id=\"usage\">Usage</h2>\n<form class=\"card\" method=\"get\" action=\"/#usage\">",
    );
    html.raw("<label for=\"u-by\">Summed up by</label><select id=\"u-by\" name=\"by\">");
    for (at, (word, title, _)) in BYS.iter().enumerate() {
        option((word, title), at == by, html);
    }
    html.raw("</select><label for=\"u-days\">Over</label><select id=\"u-days\" name=\"days\">");
    for (at, (word, title, _)) in DAYS.iter().enumerate() {
        option((word, title), at == days, html);
    }
    html.raw("</select><button>Show</button></form>\n");
    let Some(answer) = answer else {
        html.raw("<p class=\"soft\">No ledger is kept here, or it has not answered yet. ");
        html.raw("Refresh in a moment; <code>mainstay usage</code> waits for it.</p>\n");
        return;
    };
    if let Some(wrong) = &answer.wrong {
        html.raw("<p class=\"card\" role=\"alert\">").text(wrong).raw("</p>\n");
    }
    let heads = [
        BYS[by].1,
        "Requests",
        "Answered",
        "Failed",
        "Prompt tokens",
        "Output tokens",
        "Price",
        "Attempts",
        "Cost",
    ];
    let row = |(name, sum): &(String, Sum)| {
        let number = |number: i64| Cell::Number(number.to_string());
        let name = match BYS[by].2 {
            By::Day => name.parse::<u64>().map_or(name.clone(), |day| format_date(day * 86_400)),
            _ if name.is_empty() => "–".into(),
            _ => name.clone(),
        };
        vec![
            Cell::Text(name),
            number(sum.requests),
            number(sum.answered),
            number(sum.failed),
            number(sum.prompt),
            number(sum.output),
            Cell::Number(Money(sum.price).to_string()),
            number(sum.attempts),
            Cell::Number(Money(sum.cost).to_string()),
        ]
    };
    let none = ("Requests are billed once, attempts cost each time", "Nothing is in the ledger.");
    html.table(none, &heads, answer.rows.iter().map(row));
    if answer.more > 0 {
        html.raw("<p class=\"soft\">and ").text(&answer.more.to_string());
        html.raw(" more; <code>mainstay usage</code> has all</p>\n");
    }
}

fn option((word, title): (&'static str, &'static str), is_chosen: bool, html: &mut Html) {
    html.raw("<option value=\"").raw(word).raw(if is_chosen { "\" selected>" } else { "\">" });
    html.raw(title).raw("</option>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::ledger::row::{Counted, Entry, Who};
    use crate::telemetry::{Names, Telemetry};
    use std::path::Path;

    const BY_KEY: Asked = (1, 0);

    fn keeping(directory: &Path) -> Keeping {
        Keeping {
            file: directory.join("ledger.db"),
            postgres: None,
            node: "here".into(),
            days: None,
        }
    }

    fn entry(id: u64, key: String) -> Entry {
        Entry {
            id,
            at: crate::ledger::now(),
            who: Who { key, tenant: "acme".into(), tier: "pro".into(), rank: 0 },
            model: "chat".into(),
            site: "a".into(),
            target: "m".into(),
            outcome: "done".into(),
            tokens: Counted { prompt: 10, cached: 0, output: 5 },
            price: 1_500_000,
            free: 0,
            attempts: Vec::new(),
        }
    }

    fn shown(asked: Asked, answer: Option<&Answer>) -> String {
        let mut html = Html::default();
        show(asked, answer, &mut html);
        html.into_string()
    }

    #[tokio::test]
    async fn the_ledgers_sums_are_shown_bounded_and_escaped() {
        let directory = tempfile::tempdir().expect("a directory");
        let telemetry = Arc::new(Telemetry::new(Names::default()));
        let ledger = Ledger::begin(keeping(directory.path()), telemetry);
        (0..70).for_each(|n| ledger.settle(entry(n, format!("<b>{n}"))));
        ledger.settle(entry(70, "<b>3".into()));
        ledger.end();
        let usage = Arc::new(Usage::new(Some(keeping(directory.path()))));
        let answer = usage.answer(Time::ZERO, BY_KEY).await;
        let text = shown(BY_KEY, answer.as_ref());
        assert!(text.contains("&lt;b&gt;3</th><td class=\"number\">2</td>"), "{text}");
        assert!(text.contains("3.000000") && text.contains("and 20 more"), "{text}");
        assert!(!text.contains("<b>") && text.contains("value=\"key\" selected"), "{text}");
        let day = usage.answer(Time::ZERO, (5, 2)).await;
        assert!(shown((5, 2), day.as_ref()).contains("<td class=\"number\">71</td>"));

        // What was said not long ago is said again; then it is asked anew.
        std::fs::remove_file(directory.path().join("ledger.db")).expect("there");
        let again = usage.answer(Time::ZERO + USAGE_KEPT / 2, BY_KEY).await.expect("known");
        assert_eq!((again.rows.len(), again.wrong), (ROWS_MAX, None));
        let gone = usage.answer(Time::ZERO + USAGE_KEPT, BY_KEY).await.expect("an answer");
        assert!(shown(BY_KEY, Some(&gone)).contains("role=\"alert\""), "{gone:?}");
    }

    #[tokio::test]
    async fn without_a_ledger_or_while_it_is_busy_the_page_is_shown_without_it() {
        let none = Arc::new(Usage::new(None));
        assert!(none.answer(Time::ZERO, BY_KEY).await.is_none());
        let busy = Arc::new(Usage::new(Some(keeping(Path::new("/nowhere")))));
        busy.busy.store(true, Ordering::Release);
        assert!(busy.answer(Time::ZERO, BY_KEY).await.is_none());
        assert!(shown(BY_KEY, None).contains("No ledger is kept here"));
        let query = crate::http::form(b"by=day&days=30");
        assert_eq!((asked(&query), asked(&[])), ((5, 2), (0, 0)));
    }
}
