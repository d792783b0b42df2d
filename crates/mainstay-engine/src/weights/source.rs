//! Where the bytes of a weights file live: mapped, owned, or compiled into the binary.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;

/// The bytes of one weights file.
pub enum Source {
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
    Static(&'static [u8]),
}

impl Source {
    /// Maps a file read-only.
    pub fn map(path: &Path) -> io::Result<Source> {
        let file = File::open(path)?;
        // SAFETY: the map is private to us and read-only. Its bytes are only ever read as numbers,
        // of which every bit pattern is valid, so another process writing to the file can change
        // results but not memory safety. Truncating the file under us ends the process (SIGBUS):
        // a model directory is to be replaced by renaming, never written in place.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Source::Mapped(map))
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            Source::Mapped(map) => map,
            Source::Owned(bytes) => bytes,
            Source::Static(bytes) => bytes,
        }
    }
}
