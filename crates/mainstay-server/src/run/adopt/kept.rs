//! Keeps the text of the last configuration that worked, for a start at which the file is broken.

use crate::setup::Setup;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What it is called in the node's directory.
pub const KEPT: &str = "last-good.toml";

/// Keeps the own file's text, if the node keeps anything. What cannot be kept is said, and in force
/// all the same.
pub(super) fn keep(setup: &Setup) {
    let directory = setup.node.as_ref().and_then(|node| node.data_dir.as_deref());
    let Some(directory) = directory.filter(|_| !setup.written.name.is_empty()) else { return };
    let text = setup.written.text.reveal();
    if fs::read_to_string(directory.join(KEPT)).is_ok_and(|kept| kept == text) {
        return;
    }
    if let Err(error) = write(directory, text) {
        let path = directory.join(KEPT);
        tracing::warn!("this configuration is not kept: cannot write {}: {error}", path.display());
    }
}

/// It may hold keys, so nobody else may read it.
fn write(directory: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let fresh = directory.join(format!("{KEPT}.new"));
    // A rest of an earlier attempt may have other rights.
    let _ = fs::remove_file(&fresh);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, directory.join(KEPT))
}
