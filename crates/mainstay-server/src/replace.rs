//! Files that hold the last whole thing that was written, whatever dies in between.

use std::fs::{File, rename};
use std::io::Write;
use std::path::Path;

/// Puts `bytes` in the place of what the file at `path` holds, and returns when that is so after a
/// loss of power too.
///
/// # Errors
/// If it cannot be written; then the file is as it was.
pub fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    rename(&fresh, path)?;
    // The directory holds the name: without this the old file may be there again.
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}
