//! A badge for other pages: a name and a state, as a picture.

use super::html::escape;
use super::words::English;
use super::{View, json};
use mainstay_core::fact::{Component, State};
use mainstay_core::status::{Data, Overall};

/// About so many pixels for a character, and beside each text.
const CHARACTER: usize = 7;
const MARGIN: usize = 12;
/// Longer names are cut.
const LONGEST: usize = 40;

/// The badge of the component of this id or name; of all if none is named. None if there is none.
pub(super) fn badge(view: &View, component: Option<&str>) -> Option<String> {
    let (name, text, colour) = match component {
        None => {
            let colour = match (view.page.overall, view.page.is_known) {
                (Overall::Well, true) => colour(State::Operational),
                (Overall::Well, false) => colour(State::NoData),
                (Overall::Minor, _) => colour(State::Degraded),
                (Overall::Major, _) => colour(State::Partial),
                (Overall::Critical, _) => colour(State::Major),
            };
            (view.names.title.as_str(), English.headline(view), colour)
        }
        Some(wanted) => {
            let is_it = |name: &str, component: Component| {
                name == wanted || json::id(&view.names, component) == wanted
            };
            let (name, row) = view.rows().find(|(name, row)| is_it(name, row.component))?;
            let is_lost = matches!(view.page.data, Data::Lost(_));
            let lost = is_lost.then(|| String::from("No data – assume trouble"));
            let state = if is_lost { State::Degraded } else { row.state };
            (name, lost.unwrap_or_else(|| English.state(row.state).into()), colour(state))
        }
    };
    let name: String = name.chars().take(LONGEST).collect();
    Some(draw(&name, &text, colour))
}

/// White is read on each of them (WCAG AA).
fn colour(state: State) -> &'static str {
    match state {
        State::NoData => "#57606a",
        State::Maintenance => "#0b5cad",
        State::Operational => "#1a7f37",
        State::Degraded => "#8a5a00",
        State::Partial => "#b54708",
        State::Major => "#c0262d",
    }
}

fn draw(name: &str, text: &str, colour: &str) -> String {
    let width = |text: &str| text.chars().count() * CHARACTER + MARGIN;
    let (left, right) = (width(name), width(text));
    let (all, name, text) = (left + right, escape(name), escape(text));
    let (middle, other) = (left / 2, left + right / 2);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{all}\" height=\"20\" role=\"img\" \
         aria-label=\"{name}: {text}\"><title>{name}: {text}</title>\
         <clipPath id=\"r\"><rect width=\"{all}\" height=\"20\" rx=\"3\"/></clipPath>\
         <g clip-path=\"url(#r)\"><rect width=\"{left}\" height=\"20\" fill=\"#333\"/>\
         <rect x=\"{left}\" width=\"{right}\" height=\"20\" fill=\"{colour}\"/></g>\
         <g fill=\"#fff\" text-anchor=\"middle\" font-family=\"Verdana,DejaVu Sans,sans-serif\" \
         font-size=\"11\"><text x=\"{middle}\" y=\"14\">{name}</text>\
         <text x=\"{other}\" y=\"14\">{text}</text></g></svg>\n"
    )
}
