//! Finds scenarios: files, directories, and the catalogue that is built in, so that
//! `mainstay simulate S01` works wherever the program is.

use mainstay_core::gateway::catalog::nearest;
use mainstay_sim::scenario::catalogue::CATALOGUE;
use mainstay_sim::scenario::read;
use mainstay_sim::scenario::tree::FILE_MAX;
use std::fmt::Write;
use std::path::Path;

/// Name in messages, text, and whether its sweep is asked for.
type Found = (String, String, bool);

/// Stands for the sweeps of all scenarios of the catalogue that the baseline is played in as well.
const SWEEPS: &str = "sweeps";

/// What the name stands for.
///
/// # Errors
/// Why it stands for nothing, and what is near.
pub fn find(name: &str) -> Result<Vec<Found>, String> {
    if name == SWEEPS && !Path::new(name).exists() {
        let is_one = |text: &str| text.contains("\n[sweep]") && text.contains("\nbaseline");
        let all = CATALOGUE.iter().filter(|(_, text)| is_one(text));
        return Ok(all.map(|(id, text)| (format!("{id}.toml"), (*text).into(), true)).collect());
    }
    let (plain, is_sweep) = match name.strip_suffix("/sweep") {
        Some(plain) if !Path::new(name).exists() => (plain, true),
        Some(_) | None => (name, false),
    };
    let path = Path::new(plain);
    if path.is_dir() {
        return directory(path, is_sweep);
    }
    if path.is_file() {
        return Ok(vec![(plain.to_string(), text(path)?, is_sweep)]);
    }
    let beside = Path::new("scenarios").join(format!("{plain}.toml"));
    let is_name = !plain.contains(['/', '\\', '.']);
    if is_name && beside.is_file() {
        return Ok(vec![(beside.display().to_string(), text(&beside)?, is_sweep)]);
    }
    if let Some((id, text)) = CATALOGUE.iter().find(|(id, _)| id.eq_ignore_ascii_case(plain)) {
        return Ok(vec![(format!("{id}.toml"), (*text).to_string(), is_sweep)]);
    }
    let near = nearest(plain, CATALOGUE.iter().map(|(id, _)| *id));
    let hint = match near {
        Some(near) if is_name => format!("did you mean {near}?"),
        Some(_) | None => String::from("`mainstay simulate` lists them"),
    };
    Err(format!("no scenario, file or directory {plain}; {hint}"))
}

/// Every scenario file of a directory, by name.
fn directory(path: &Path, is_sweep: bool) -> Result<Vec<Found>, String> {
    let shown = path.display();
    let entries = std::fs::read_dir(path).map_err(|error| format!("{shown}: {error}"))?;
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "toml") && file.is_file());
    files.sort();
    if files.is_empty() {
        return Err(format!("{shown}: has no scenario files; they end in .toml"));
    }
    files.iter().map(|file| Ok((file.display().to_string(), text(file)?, is_sweep))).collect()
}

/// A file's text, if it is as small as a scenario is.
fn text(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let size = std::fs::metadata(path).map_err(|error| format!("{shown}: {error}"))?.len();
    if size > FILE_MAX as u64 {
        return Err(format!("{shown}: {size} bytes; a scenario has at most {FILE_MAX}"));
    }
    std::fs::read_to_string(path).map_err(|error| format!("{shown}: cannot be read: {error}"))
}

/// The built-in scenarios, one a line.
pub fn list() -> String {
    let mut text = String::new();
    for (id, source) in CATALOGUE {
        let Ok(scenario) = read::scenario(id, source) else { continue };
        let sweep = if scenario.sweep.is_empty() { "" } else { "  (and its sweep)" };
        let _ = writeln!(text, "{id}  {}{sweep}", scenario.title);
    }
    text
}
