//! Starts from the last configuration that worked, when the file is broken.
//!
//! A node with `node.data_dir` keeps the text of each file that it took. Where that directory is,
//! only the file says; so it is looked for in the broken text, line by line, and the environment
//! (`MAINSTAY__NODE__DATA_DIR`) tells it where there is no text left.

use super::{read, read_as};
use crate::command_line::Serve;
use crate::config_file::problem::Problem;
use crate::config_file::resolve::Resolved;
use crate::environment::Environment;
use mainstay_server::KEPT;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The key, as overrides name it.
const DATA_DIR: &str = "node.data_dir";

/// The last configuration that worked, if one was kept and still does. It says so on stderr.
pub(super) fn last_good(
    options: &Serve,
    environment: &Environment,
    problems: &[Problem],
) -> Option<Resolved> {
    let file = options.config.as_deref().filter(|_| !options.check)?;
    let directory = directory(file, environment)?;
    let path = file.parent().unwrap_or(Path::new("")).join(directory).join(KEPT);
    let text = std::fs::read_to_string(&path).ok()?;
    let shown = path.display().to_string();
    let mut resolved = match read_as((options, environment), (&shown, &text), None) {
        Ok(resolved) => resolved,
        Err(problems) => {
            for problem in problems {
                eprintln!("mainstay: nor does the last one that worked: {problem}");
            }
            return None;
        }
    };
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let written = &mut resolved.setup.written;
    written.name = file.display().to_string();
    written.trouble = Some(lines.join("\n"));
    eprintln!(
        "mainstay: starts from the last configuration that worked, {shown}{}; mend {} and send \
         SIGHUP",
        age(&path),
        file.display(),
    );
    Some(resolved)
}

fn directory(file: &Path, environment: &Environment) -> Option<PathBuf> {
    let mut overrides = environment.overrides().into_iter();
    if let Some(given) = overrides.find(|each| each.path == DATA_DIR) {
        return Some(PathBuf::from(given.value));
    }
    in_text(&read(file).ok()?).map(PathBuf::from)
}

/// What a text says of it that need be no TOML.
fn in_text(text: &str) -> Option<String> {
    let mut section = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix('[') {
            section = rest.split(']').next().unwrap_or_default().trim().to_string();
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let key = key.trim();
        if key == DATA_DIR || (section == "node" && key == "data_dir") {
            let line: toml::Table = toml::from_str(&format!("value = {value}")).ok()?;
            return line["value"].as_str().map(str::to_string);
        }
    }
    None
}

/// How old the kept one is, in words.
fn age(path: &Path) -> String {
    let kept = path.metadata().and_then(|about| about.modified());
    let age = kept.ok().and_then(|at| at.elapsed().ok());
    age.map_or_else(String::new, |age| format!(", kept {} ago", words(age)))
}

fn words(age: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    match age.as_secs() {
        seconds if seconds < 2 * MINUTE => format!("{seconds} s"),
        seconds if seconds < 2 * HOUR => format!("{} minutes", seconds / MINUTE),
        seconds if seconds < 48 * HOUR => format!("{} hours", seconds / HOUR),
        seconds => format!("{} days", seconds / (24 * HOUR)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_found_in_a_text_that_is_no_toml_any_more() {
        let text =
            "[listen\ndata_dir = \"no\"\n[node]\nname = \"a\ndata_dir = \"/var/x\"  # ours\n";
        assert_eq!(in_text(text).as_deref(), Some("/var/x"));
        assert_eq!(in_text("node.data_dir = 'y'\n").as_deref(), Some("y"));
        assert_eq!(in_text("[node]\ndata_dir = \n"), None);
        assert_eq!(in_text(""), None);
    }
}
