//! `mainstay status export`: the public page as plain files, for a host that runs nothing.
//!
//! Everything is fetched before anything is written, and each file takes the place of the one
//! before at once, so that readers meet whole pages whatever fails. Links lead from file to file,
//! wherever the directory is put; what a file host cannot do, such as taking a report, leads to the
//! running page.

mod live;

use crate::command_line::{Export, Serve, WRONG};
use crate::environment::Environment;
use crate::start::configuration;
use crate::stdout::say;
use mainstay_server::replace::replace;
use mainstay_server::setup::{format_date, unix_now};
use mainstay_server::status::Still;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::process::ExitCode;

/// Far more pages than can be kept incidents and windows, in two languages.
const FILES_MAX: usize = 1000;
/// Where pages are found that no page links to.
const BEGIN: [&str; 15] = [
    "/",
    "/en/",
    "/zh/",
    "/en/history",
    "/zh/history",
    "/history.rss",
    "/history.atom",
    "/badge.svg",
    "/api/v2/summary.json",
    "/api/v2/status.json",
    "/api/v2/components.json",
    "/api/v2/incidents.json",
    "/api/v2/incidents/unresolved.json",
    "/api/v2/scheduled-maintenances.json",
    "/api/v2/scheduled-maintenances/upcoming.json",
];
const ACTIVE: &str = "/api/v2/scheduled-maintenances/active.json";
const COMPONENTS: &str = "/api/v2/components.json";

/// What answers for a path: the text, or none if there is no such page.
type Ask<'a> = dyn Fn(&str) -> Result<Option<String>, String> + 'a;

/// Writes the files.
pub fn export(options: &Export) -> ExitCode {
    let taken = match &options.from {
        Some(url) => {
            let base = url.trim_end_matches('/');
            live::Page::of(base).and_then(|page| taken(&|path| page.ask(path), Some(base)))
        }
        None => match still(options) {
            Ok((still, url)) => taken(&|path| Ok(still.answer(path)), url.as_deref()),
            Err(code) => return code,
        },
    };
    match taken.and_then(|files| write(&options.directory, &files)) {
        Ok((files, bytes)) => {
            match options.json {
                true => say(&format!("{}\n", json!({ "files": files, "bytes": bytes }))),
                false => say(&format!("{files} files, {bytes} bytes\n")),
            }
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("mainstay: {why}");
            ExitCode::FAILURE
        }
    }
}

/// What a node has kept, and where the public finds its page.
fn still(options: &Export) -> Result<(Still, Option<String>), ExitCode> {
    let serve = Serve { config: options.config.clone(), ..Serve::default() };
    let resolved = configuration(&serve, &Environment::of_process()).map_err(|problems| {
        problems.iter().for_each(|problem| eprintln!("mainstay: {problem}"));
        ExitCode::from(WRONG)
    })?;
    let setup = resolved.setup;
    if setup.data_dir.is_none() {
        eprintln!("mainstay: nothing is kept without node.data_dir; give --from a running page");
        return Err(ExitCode::FAILURE);
    }
    Ok((Still::of(&setup), setup.status.url.map(|url| url.trim_end_matches('/').to_owned())))
}

/// All files by their names. `live` is where the running page is, if anywhere.
fn taken(ask: &Ask<'_>, live: Option<&str>) -> Result<BTreeMap<String, String>, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut wanted: VecDeque<String> = BEGIN.iter().chain([&ACTIVE]).map(|p| (*p).into()).collect();
    while let Some(path) = wanted.pop_front() {
        if found.contains_key(&path) || found.len() >= FILES_MAX {
            continue;
        }
        let Some(text) = ask(&path)? else {
            // A page may go while we look; those to begin with do not.
            match BEGIN.contains(&path.as_str()) {
                true => return Err(format!("{path}: there is no such page; is it a status page?")),
                false => continue,
            }
        };
        if path == COMPONENTS {
            wanted.extend(badges(&text));
        }
        if is_page(&path) {
            wanted.extend(links(&text).filter(|link| is_page(link)).map(str::to_owned));
        }
        found.insert(path, text);
    }
    let now = format_date(unix_now());
    let file = |(path, text): (String, String)| {
        let text = if is_page(&path) { page(&path, &text, (live, &now)) } else { text };
        Some((file_of(&path)?, text))
    };
    Ok(found.into_iter().filter_map(file).collect())
}

/// A badge for each component.
fn badges(components: &str) -> Vec<String> {
    let told: serde_json::Value = serde_json::from_str(components).unwrap_or_default();
    let all = told["components"].as_array().into_iter().flatten();
    let single = all.filter(|each| each["group"] == false);
    let ids = single.filter_map(|each| each["id"].as_str());
    ids.map(|id| format!("/badge.svg?component={id}")).collect()
}

/// The paths that a page links to.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next())
}

/// Whether a path is that of a page for people that a file host can show.
fn is_page(path: &str) -> bool {
    // A file host knows no languages: what is in none is there as whoever took it was answered.
    let places = ["/en/", "/zh/", "/"];
    let Some(rest) = places.iter().find_map(|place| path.strip_prefix(place)) else {
        return false;
    };
    let told = ["incidents/", "maintenance/"].iter().find_map(|of| rest.strip_prefix(of));
    let is_number = |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    rest.is_empty() || rest == "history" || told.is_some_and(is_number)
}

/// The file in which a path is kept; none if it is no path of ours.
fn file_of(path: &str) -> Option<String> {
    let own = path.strip_prefix('/')?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/.-_".contains(&byte);
    if let Some(id) = own.strip_prefix("badge.svg?component=") {
        return id.bytes().all(|b| b.is_ascii_alphanumeric()).then(|| format!("badge/{id}.svg"));
    }
    if !own.bytes().all(is_plain) || own.split('/').any(|part| part == "..") {
        return None;
    }
    Some(match own.rsplit('/').next() {
        Some("") | None => format!("{own}index.html"),
        // Only a running page takes reports.
        Some("report") => return None,
        Some(last) if last.contains('.') => own.to_owned(),
        Some(_) => format!("{own}.html"),
    })
}

/// A page whose links lead to files, and which says that it is a snapshot.
fn page(path: &str, text: &str, (live, now): (Option<&str>, &str)) -> String {
    let up = "../".repeat(path.matches('/').count() - 1);
    let lead = |link: &str| match file_of(link) {
        Some(file) => format!("{up}{file}"),
        None => format!("{}{link}", live.unwrap_or_default()),
    };
    // Quotation marks in whatever was told are escaped, so this is never but an attribute.
    let mut parts = text.split("href=\"/");
    let mut led = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (link, rest) = part.split_once('"').unwrap_or((part, ""));
        led.push_str(&format!("href=\"{}\"{rest}", lead(&format!("/{link}"))));
    }
    if live.is_none() {
        // Nobody takes a report here.
        if let Some((before, rest)) = led.clone().split_once("<p class=\"ask\">") {
            let after = rest.split_once("</p>").map_or("", |(_, after)| after);
            led = format!("{before}{after}");
        }
    }
    let note = match led.contains("<html lang=\"zh") {
        true => format!("本页为 {now} 的快照，不会自动更新。"),
        false => format!("This is a snapshot of {now}; it does not change by itself."),
    };
    led.replacen("<main>", &format!("<main><p class=\"said\">{note}</p>"), 1)
}

fn write(directory: &Path, files: &BTreeMap<String, String>) -> Result<(usize, usize), String> {
    let mut bytes = 0;
    // The first page last, so that what it links to is there.
    let is_first = |name: &&String| name.ends_with("index.html");
    let names = files.keys().filter(|name| !is_first(name)).chain(files.keys().filter(is_first));
    for name in names {
        let path = directory.join(name);
        let parent = path.parent().unwrap_or(directory);
        let made = std::fs::create_dir_all(parent);
        let written = made.and_then(|()| replace(&path, files[name].as_bytes()));
        written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        bytes += files[name].len();
    }
    Ok((files.len(), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_files_and_nothing_leads_out_of_the_directory() {
        for (path, file) in [
            ("/", Some("index.html")),
            ("/en/", Some("en/index.html")),
            ("/zh/incidents/3", Some("zh/incidents/3.html")),
            ("/history.atom", Some("history.atom")),
            ("/api/v2/incidents/unresolved.json", Some("api/v2/incidents/unresolved.json")),
            ("/badge.svg?component=0a1b", Some("badge/0a1b.svg")),
            ("/badge.svg?component=../x", None),
            ("/en/../../etc/passwd", None),
            ("/en/report", None),
            ("/report?lang=en", None),
            ("https://x/", None),
        ] {
            assert_eq!(file_of(path).as_deref(), file, "{path}");
        }
        assert!(!is_page("/en/incidents/../x") && !is_page("/en/incidents/") && is_page("/"));
    }

    #[test]
    fn links_lead_to_files_and_reports_to_the_running_page() {
        let text = "<html lang=\"en\"><main><a href=\"/en/incidents/3\">x</a>\
                    <p class=\"ask\"><a href=\"/en/report\">r</a></p>\
                    <a href=\"https://y/\">y</a>";
        let live = page("/en/history", text, (Some("https://s"), "then"));
        for part in ["href=\"../en/incidents/3.html\"", "\"https://s/en/report\"", "of then;"] {
            assert!(live.contains(part), "{live}");
        }
        assert!(live.contains("<a href=\"https://y/\">"), "{live}");
        let alone = page("/", text, (None, "then"));
        assert!(alone.contains("href=\"en/incidents/3.html\"") && !alone.contains("report"));
    }
}
