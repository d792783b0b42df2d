//! Keys of those who may call: made here, shown once, kept as a hash.

use crate::command_line::CreateKey;
use crate::stdout::say;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::process::ExitCode;

/// Makes a key. The `[[key]]` lines go to stdout, so that they can be appended to a file; the key
/// itself goes to stderr, so that it does not end up there.
pub fn create(options: &CreateKey) -> ExitCode {
    let (key, _) = match make() {
        Ok(made) => made,
        Err(why) => {
            eprintln!("mainstay: {why}");
            return ExitCode::FAILURE;
        }
    };
    eprintln!("key, shown this once; give it to the caller as api_key:");
    eprintln!("  {key}");
    eprintln!("for the configuration file:");
    say(&lines(options, &key));
    ExitCode::SUCCESS
}

/// A new key, and what a configuration file keeps of it.
///
/// # Errors
/// If the system gives no randomness.
pub fn make() -> Result<(String, String), String> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)
        .map_err(|error| format!("the system gives no randomness: {error}"))?;
    let key = format!("sk-mainstay-{}", hex(&random));
    let hash = hex(&Sha256::digest(key.as_bytes()));
    Ok((key, hash))
}

/// The lines of the configuration file for `key`.
fn lines(options: &CreateKey, key: &str) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_string()).to_string();
    format!(
        "\n[[key]]\nname = {}\ntier = {}\nhash = \"{}\"\n",
        quoted(&options.name),
        quoted(&options.tier),
        hex(&Sha256::digest(key.as_bytes()))
    )
}

/// In hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_keeps_the_hash_and_never_the_key() {
        let options = CreateKey { name: "a \"b\"".into(), tier: "free".into() };
        let text = lines(&options, "abc");
        let file: crate::config_file::File = toml::from_str(&text).expect(&text);
        assert_eq!(file.key[0].name.as_deref(), Some("a \"b\""));
        // FIPS 180-2, appendix B.1: SHA-256 of "abc".
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(file.key[0].hash.as_deref(), Some(known));
        assert!(!text.contains("abc"));
    }
}
