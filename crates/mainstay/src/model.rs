//! What a model is, what it takes, and how fast it is on this machine.

pub mod apart;
mod bench;
mod show;

use crate::command_line::Model;
use crate::stdout::say;
use mainstay_engine::LoadError;
use mainstay_engine::builtin;
use mainstay_engine::describe::Description;
use std::path::Path;
use std::process::ExitCode;

/// The name of the model that is compiled in.
const BUILTIN: &str = "builtin";

/// Tells what is asked.
pub fn model(command: &Model) -> ExitCode {
    let told = match command {
        Model::Show(options) => show::show(options),
        Model::Bench(options) => bench::bench(options),
    };
    match told {
        Ok(text) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("mainstay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn describe(path: &Path) -> Result<Description, LoadError> {
    match is_builtin(path) {
        true => Description::of_files(&builtin::files()),
        false => Description::read(path),
    }
}

/// A directory of that name goes before the model that is compiled in.
fn is_builtin(path: &Path) -> bool {
    path == Path::new(BUILTIN) && !path.exists()
}

/// A number with its thousands apart.
fn spaced(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes as people say them.
fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let fits = |(_, power): &&(&str, u32)| bytes >= f64::from(1u32 << power);
    match units.iter().find(fits) {
        Some((unit, power)) => format!("{:.1} {unit}", bytes / f64::from(1u32 << power)),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        assert_eq!(spaced(671_026_419_200), "671,026,419,200");
        assert_eq!([spaced(0), spaced(999), spaced(1_000)], ["0", "999", "1,000"]);
        assert_eq!(size(1_288_490_189), "1.2 GiB");
        assert_eq!([size(12), size(2048)], ["12 bytes", "2.0 KiB"]);
    }
}
