//! What this program says to whoever reads its standard output. A reader that has seen enough and
//! closed its end, as `head` does, is no error.

use std::io::{self, ErrorKind, Write};

/// Writes `text` as it is.
pub fn say(text: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
        && error.kind() != ErrorKind::BrokenPipe
    {
        eprintln!("mainstay: cannot write to standard output: {error}");
    }
}
