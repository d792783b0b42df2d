//! Where traces come from: a folder, or the small ones inside the program.

use ruzstd::decoding::StreamingDecoder;
use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;

/// The folder of all traces.
const FOLDER: &str = "MAINSTAY_TRACES";
/// A file larger than this is not a trace of ours; the largest there is has 1.6 MB.
const PACKED_MAX: u64 = 64 << 20;
/// And unpacked; a few bytes of zstd can stand for any number of them.
const TEXT_MAX: u64 = 256 << 20;

/// Traces that are always there.
const INSIDE: [(&str, &[u8]); 5] = [
    (
        "mooncake/conversation_trace.jsonl.zst",
        include_bytes!("../../traces/mooncake/conversation_trace.jsonl.zst"),
    ),
    (
        "mooncake/synthetic_trace.jsonl.zst",
        include_bytes!("../../traces/mooncake/synthetic_trace.jsonl.zst"),
    ),
    (
        "azure/AzureLLMInferenceTrace2023_code.csv.zst",
        include_bytes!("../../traces/azure/AzureLLMInferenceTrace2023_code.csv.zst"),
    ),
    (
        "servegen/deepseek-r1_rates.csv.zst",
        include_bytes!("../../traces/servegen/deepseek-r1_rates.csv.zst"),
    ),
    (
        "servegen/deepseek-r1_lengths.jsonl.zst",
        include_bytes!("../../traces/servegen/deepseek-r1_lengths.jsonl.zst"),
    ),
];

/// What is wrong with a trace, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, or the name that leads to none.
    pub file: String,
    /// Line of the text; 0 is the file as a whole.
    pub line: usize,
    /// What.
    pub what: String,
}

impl Problem {
    pub(super) fn new(file: &str, line: usize, what: impl Into<String>) -> Problem {
        Problem { file: file.to_string(), line, what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

impl std::error::Error for Problem {}

/// Where files are looked for before the program's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The folder, if there is one.
    pub folder: Option<PathBuf>,
}

impl Source {
    /// The folder that `MAINSTAY_TRACES` names.
    pub fn from_environment() -> Source {
        Source { folder: std::env::var_os(FOLDER).map(PathBuf::from) }
    }
}

/// The text of a file: packed, if its name ends in `.zst`, or plain.
///
/// # Errors
/// If it is not there, is too large, or is neither.
pub fn text(source: &Source, file: &str) -> Result<String, Problem> {
    let wrong = |what: String| Problem::new(file, 0, what);
    let path = source.folder.as_ref().map_or_else(|| PathBuf::from(file), |at| at.join(file));
    match std::fs::File::open(&path) {
        Ok(opened) if file.ends_with(".zst") => unpack(opened.take(PACKED_MAX)).map_err(wrong),
        Ok(opened) => plain(opened).map_err(wrong),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let inside = INSIDE.iter().find(|(name, _)| *name == file);
            let Some((_, packed)) = inside else {
                return Err(wrong(format!("not found; {FOLDER} names the folder of traces")));
            };
            unpack(*packed).map_err(wrong)
        }
        Err(error) => Err(wrong(format!("open: {error}"))),
    }
}

fn plain(opened: impl Read) -> Result<String, String> {
    String::from_utf8(bounded(opened, "read")?).map_err(|error| format!("not UTF-8: {error}"))
}

fn bounded(from: impl Read, verb: &str) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let limit = TEXT_MAX + 1;
    from.take(limit).read_to_end(&mut text).map_err(|error| format!("{verb}: {error}"))?;
    if text.len() as u64 >= limit {
        return Err(format!("holds more than {TEXT_MAX} bytes"));
    }
    Ok(text)
}

fn unpack(packed: impl Read) -> Result<String, String> {
    let mut decoder =
        StreamingDecoder::new(packed).map_err(|error| format!("not zstd: {error}"))?;
    let text = bounded(&mut decoder, "unpack")?;
    // The decoder reads the frame's checksum and leaves comparing it to us.
    let told = decoder.decoder.get_checksum_from_data();
    if told.is_some() && told != decoder.decoder.get_calculated_checksum() {
        return Err("does not match its checksum".into());
    }
    String::from_utf8(text).map_err(|error| format!("not UTF-8: {error}"))
}
