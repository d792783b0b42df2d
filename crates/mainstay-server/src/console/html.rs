//! Pages, written so that nothing that came from outside is ever taken for markup: what is markup
//! stands in this program, and all else goes through `text`.

use super::style::{SCRIPT, STYLE};
use crate::http::escape;
use mainstay_core::console::ROWS_MAX;

/// Longer texts are cut: a page stays small whatever things are called.
const LONGEST: usize = 200;

/// A page, or a part of one, as far as it is written.
#[derive(Clone, Debug, Default)]
pub(super) struct Html(String);

/// What a cell of a table shows.
pub(super) enum Cell {
    /// Any text.
    Text(String),
    /// A number, to the right.
    Number(String),
    /// How something is, with the mark and the colour of that.
    State(String),
}

impl Html {
    /// Markup that stands in this program.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Html {
        self.0.push_str(markup);
        self
    }

    /// Text, wherever it comes from.
    pub(super) fn text(&mut self, text: &str) -> &mut Html {
        let mut cut = text.char_indices().skip(LONGEST);
        match cut.next() {
            None => self.0.push_str(&escape(text)),
            Some((at, _)) => {
                self.0.push_str(&escape(&text[..at]));
                self.0.push('…');
            }
        }
        self
    }

    /// A number.
    pub(super) fn number(&mut self, number: impl Into<f64>) -> &mut Html {
        self.0.push_str(&amount(number.into()));
        self
    }

    /// Another part.
    pub(super) fn add(&mut self, part: &Html) -> &mut Html {
        self.0.push_str(&part.0);
        self
    }

    /// A text in an attribute or a field, not cut: what was typed comes back whole.
    pub(super) fn whole(&mut self, text: &str) -> &mut Html {
        self.0.push_str(&escape(text));
        self
    }

    /// All of it.
    pub(super) fn into_string(self) -> String {
        self.0
    }

    /// A table that says how many rows it leaves out; without rows, `none` in its place.
    pub(super) fn table(
        &mut self,
        (caption, none): (&'static str, &'static str),
        heads: &[&'static str],
        rows: impl ExactSizeIterator<Item = Vec<Cell>>,
    ) -> &mut Html {
        let more = rows.len().saturating_sub(ROWS_MAX);
        let rows: Vec<Vec<Cell>> = rows.take(ROWS_MAX).collect();
        let Some(first) = rows.first() else {
            return self.raw("<p class=\"soft\">").raw(none).raw("</p>\n");
        };
        // A region that scrolls must be reached without a mouse.
        self.raw("<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"");
        self.raw(caption).raw("\"><table><caption>").raw(caption).raw("</caption><thead><tr>");
        for (head, cell) in heads.iter().zip(first) {
            let is_number = matches!(cell, Cell::Number(_));
            self.raw(if is_number {
                "<th scope=\"col\" class=\"number\">"
            } else {
                "<th scope=\"col\">"
            });
            self.raw(head).raw("</th>");
        }
        self.raw("</tr></thead><tbody>\n");
        for row in rows {
            self.raw("<tr>");
            for (at, cell) in row.into_iter().enumerate() {
                self.cell(at == 0, &cell);
            }
            self.raw("</tr>\n");
        }
        self.raw("</tbody></table></div>\n");
        if more > 0 {
            self.raw("<p class=\"soft\">and ").text(&more.to_string()).raw(" more</p>\n");
        }
        self
    }

    fn cell(&mut self, is_head: bool, cell: &Cell) {
        let (open, close) = match (is_head, cell) {
            (true, _) => ("<th scope=\"row\">", "</th>"),
            (false, Cell::Number(_)) => ("<td class=\"number\">", "</td>"),
            (false, Cell::Text(_) | Cell::State(_)) => ("<td>", "</td>"),
        };
        self.raw(open);
        match cell {
            Cell::Text(text) | Cell::Number(text) => self.text(text),
            Cell::State(state) => self.state(state),
        };
        self.raw(close);
    }

    /// How something is: a mark, a colour, and always the word.
    pub(super) fn state(&mut self, state: &str) -> &mut Html {
        let (class, mark) = match state.split([' ', ',']).next().unwrap_or_default() {
            "up" | "valid" | "resolved" | "ready" => ("good", "●"),
            "suspect" | "probation" | "monitoring" | "identified" | "cap" => ("warn", "▲"),
            "down" | "parked" | "investigating" | "kill" | "not" => ("bad", "■"),
            _ => ("none", "○"),
        };
        self.raw("<span class=\"").raw(class).raw("\"><span aria-hidden=\"true\">").raw(mark);
        self.raw("</span> ").text(state).raw("</span>")
    }

    /// A hidden field.
    pub(super) fn hidden(&mut self, name: &'static str, value: &str) -> &mut Html {
        self.raw("<input type=\"hidden\" name=\"").raw(name).raw("\" value=\"");
        self.whole(value).raw("\">")
    }
}

/// A number for people: three digits that count.
pub(super) fn amount(number: f64) -> String {
    let size = number.abs();
    if !number.is_finite() {
        "–".into()
    } else if size >= 100.0 || number == 0.0 || number.fract() == 0.0 {
        format!("{number:.0}")
    } else if size >= 1.0 {
        format!("{number:.1}")
    } else {
        format!("{number:.2}")
    }
}

/// A time for people.
pub(super) fn time(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 120.0 => format!("{:.0} s", seconds.max(0.0)),
        seconds if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.1} h", seconds / 3600.0),
    }
}

/// A whole page around `body`. What it may run and look like is bound to `nonce`, which is drawn
/// for this page alone.
pub(super) fn frame(title: &'static str, nonce: &str, body: &Html) -> String {
    let mut page = Html::default();
    page.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.raw("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n");
    page.raw("<meta name=\"robots\" content=\"noindex\">\n<title>").raw(title);
    page.raw(" · Mainstay console</title>\n<style nonce=\"").text(nonce).raw("\">").raw(STYLE);
    page.raw("</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#main\">To the content</a>\n");
    page.raw("<header><p class=\"top\"><a href=\"/\">Mainstay console</a></p></header>\n");
    page.raw("<main id=\"main\">\n").add(body).raw("</main>\n<script nonce=\"").text(nonce);
    page.raw("\">").raw(SCRIPT).raw("</script>\n</body>\n</html>\n");
    page.into_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize) -> Vec<Vec<Cell>> {
        (0..count).map(|n| vec![Cell::Text(format!("<b>{n}")), Cell::State("up".into())]).collect()
    }

    #[test]
    fn a_table_is_escaped_bounded_and_says_what_it_leaves_out() {
        let mut html = Html::default();
        html.table(("T", "none"), &["A", "B"], rows(100_000).into_iter());
        let text = html.into_string();
        assert_eq!(text.matches("<tr>").count(), ROWS_MAX + 1);
        assert!(
            text.contains("and 99950 more") && text.contains("&lt;b&gt;0") && text.len() < 9000
        );
        assert!(text.contains("<th scope=\"row\">") && text.contains("<caption>T"));
        let mut empty = Html::default();
        empty.table(("T", "none"), &["A"], rows(0).into_iter());
        assert_eq!(empty.into_string(), "<p class=\"soft\">none</p>\n");
    }

    #[test]
    fn text_is_never_markup_and_never_long() {
        let mut html = Html::default();
        html.text("<script>alert(1)</script>\"'").text(&"中".repeat(1000));
        html.hidden("a", "\"><script>");
        let text = html.into_string();
        assert!(!text.contains("<script") && text.contains("&lt;script&gt;"), "{text}");
        assert_eq!(text.matches('中').count(), LONGEST);
    }

    #[test]
    fn numbers_and_times_are_short() {
        let told = [0.0, 0.044, 3.0, 3.16, 12345.6, f64::NAN].map(amount);
        assert_eq!(told, ["0", "0.04", "3", "3.2", "12346", "–"]);
        assert_eq!([3.2, 600.0, 9000.0].map(time), ["3 s", "10 min", "2.5 h"]);
    }
}
