//! The source: what was published, with its contents, on the disk of one node. It answers those
//! who poll and pushes nothing, so that nobody depends on it to serve.

use super::kept::{Hash, Kept, hash};
use crate::link::Generation;
use crate::replace::replace;
use bytes::Bytes;
use mainstay_core::policy::Snapshot;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// In the node's directory: a directory with the list and a file for each content.
const FOLDER: &str = "published";
const LIST: &str = "list.json";

/// Generations that one can go back to: those of some months.
const KEPT: usize = 64;

/// What was published, the oldest first.
#[derive(Debug)]
pub struct Source {
    directory: PathBuf,
    list: Vec<Kept>,
    newest: Option<Generation>,
}

#[derive(Serialize, Deserialize)]
struct List {
    published: Vec<Kept>,
}

/// What an author publishes.
#[derive(Clone, Debug, Default)]
pub struct Publication {
    /// Who.
    pub author: String,
    /// Why.
    pub reason: String,
    /// What.
    pub content: Bytes,
    /// Without waiting for the confirm token.
    pub confirmed: bool,
}

impl Source {
    /// What was published into `directory` before.
    ///
    /// # Errors
    /// If it cannot be read: numbers of generations must go on where they stopped.
    pub fn open(directory: &Path) -> Result<Source, String> {
        let directory = directory.join(FOLDER);
        let told = |what: String| format!("{}: {what}", directory.display());
        fs::create_dir_all(&directory).map_err(|error| told(error.to_string()))?;
        let list = match fs::read(directory.join(LIST)) {
            Ok(text) => serde_json::from_slice::<List>(&text)
                .map(|list| list.published)
                .map_err(|e| told(format!("{LIST} is spoilt: {e}; bring it back from a copy")))?,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(told(error.to_string())),
        };
        let mut source = Source { directory, list, newest: None };
        if let Some(last) = source.list.last().cloned() {
            let content = source.content(&last)?;
            source.newest = Some(Generation { snapshot: last.into(), content });
        }
        Ok(source)
    }

    /// The newest generation, for whoever polls.
    pub fn newest(&self) -> Option<&Generation> {
        self.newest.as_ref()
    }

    /// All that are kept, the oldest first.
    pub fn list(&self) -> &[Kept] {
        &self.list
    }

    /// Publishes a generation: on disk before anybody is told.
    ///
    /// # Errors
    /// Why it is not.
    pub fn publish(&mut self, publication: Publication) -> Result<Snapshot, String> {
        let Publication { author, reason, content, confirmed } = publication;
        if reason.trim().is_empty() {
            return Err("say why; --reason \"…\"".into());
        }
        let last = self.newest.as_ref().map(|newest| newest.snapshot.clone()).unwrap_or_default();
        if self.newest.is_some() && last.content == hash(&content) {
            return Err(format!(
                "it is the content of generation {} already; --confirm confirms that one",
                last.generation
            ));
        }
        let snapshot = Snapshot {
            generation: last.generation + 1,
            content: hash(&content),
            previous: last.hash(),
            author,
            reason,
            bytes: u64::try_from(content.len()).unwrap_or(u64::MAX),
            confirmed,
        };
        self.take(Generation { snapshot: snapshot.clone(), content })?;
        Ok(snapshot)
    }

    /// The author of the newest generation, whose content this is, means it.
    ///
    /// # Errors
    /// If another content is the newest.
    pub fn confirm(&mut self, content: &[u8]) -> Result<Snapshot, String> {
        let Some(newest) = &self.newest else {
            return Err("nothing is published yet; publish it without --confirm first".into());
        };
        if newest.snapshot.content != hash(content) {
            return Err(format!(
                "generation {} is another content; publish this one without --confirm first, and \
                 see what `mainstay policy show` says it changes",
                newest.snapshot.generation
            ));
        }
        let mut confirmed = newest.clone();
        confirmed.snapshot.confirmed = true;
        self.list.pop();
        self.take(confirmed.clone())?;
        Ok(confirmed.snapshot)
    }

    /// The content to go back to: that of `wanted`, or the newest that is not in force now.
    ///
    /// # Errors
    /// If there is none.
    pub fn earlier(&self, wanted: Option<u64>) -> Result<(u64, Bytes), String> {
        let Some(newest) = self.list.last() else { return Err("nothing is published yet".into()) };
        let found = match wanted {
            Some(number) => self.list.iter().find(|kept| kept.generation == number),
            None => self.list.iter().rev().find(|kept| kept.content != newest.content),
        };
        let Some(found) = found else {
            let oldest = self.list.first().map_or(0, |kept| kept.generation);
            return Err(match wanted {
                Some(number) => format!(
                    "generation {number} is not kept; from {oldest} to {} are",
                    newest.generation
                ),
                None => "there is no earlier content to go back to".into(),
            });
        };
        if found.content == newest.content {
            return Err(format!("its content is that of generation {} now", newest.generation));
        }
        Ok((found.generation, self.content(found)?))
    }

    fn take(&mut self, generation: Generation) -> Result<(), String> {
        let told = |error: std::io::Error| format!("cannot be kept: {error}");
        let kept = Kept::from(&generation.snapshot);
        let path = self.path(kept.content);
        replace(&path, &generation.content).map_err(told)?;
        let mut list = self.list.clone();
        list.push(kept);
        list.drain(..list.len().saturating_sub(KEPT));
        let text = serde_json::to_vec(&List { published: list.clone() }).unwrap_or_default();
        replace(&self.directory.join(LIST), &text).map_err(told)?;
        for gone in self.list.iter().filter(|old| list.iter().all(|k| k.content != old.content)) {
            let _ = fs::remove_file(self.path(gone.content));
        }
        self.list = list;
        self.newest = Some(generation);
        Ok(())
    }

    fn content(&self, kept: &Kept) -> Result<Bytes, String> {
        let path = self.path(kept.content);
        let content =
            fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        match hash(&content) == kept.content.0 {
            true => Ok(content.into()),
            false => Err(format!("{} is spoilt; publish its content again", path.display())),
        }
    }

    fn path(&self, content: Hash) -> PathBuf {
        self.directory.join(format!("{content}.toml"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(content: &'static str) -> Publication {
        Publication {
            author: "ann".into(),
            reason: "a test".into(),
            content: Bytes::from_static(content.as_bytes()),
            confirmed: false,
        }
    }

    #[test]
    fn generations_are_numbered_chained_and_outlive_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let mut source = Source::open(directory.path()).unwrap();
        assert!(source.newest().is_none());
        let first = source.publish(of("a")).unwrap();
        let mut source = Source::open(directory.path()).unwrap();
        let second = source.publish(of("b")).unwrap();
        assert_eq!((first.generation, second.generation), (1, 2));
        assert_eq!(second.previous, first.hash());
        let again = Source::open(directory.path()).unwrap();
        assert_eq!(again.newest(), source.newest());
        assert_eq!(again.newest().unwrap().content, "b");
        assert!(source.publish(of("b")).unwrap_err().contains("--confirm"));
        let silent = Publication { reason: " ".into(), ..of("c") };
        assert!(source.publish(silent).unwrap_err().contains("--reason"));
    }

    #[test]
    fn the_newest_is_confirmed_by_its_content_and_keeps_its_number() {
        let directory = tempfile::tempdir().unwrap();
        let mut source = Source::open(directory.path()).unwrap();
        assert!(source.confirm(b"a").is_err());
        let first = source.publish(of("a")).unwrap();
        assert!(source.confirm(b"b").unwrap_err().contains("another content"));
        let confirmed = source.confirm(b"a").unwrap();
        assert_eq!(confirmed, Snapshot { confirmed: true, ..first });
        assert_eq!(source.list().len(), 1);
    }

    #[test]
    fn one_goes_back_to_an_earlier_content_by_number_or_to_the_last_other_one() {
        let directory = tempfile::tempdir().unwrap();
        let mut source = Source::open(directory.path()).unwrap();
        assert!(source.earlier(None).is_err());
        for content in ["a", "b", "c"] {
            source.publish(of(content)).unwrap();
        }
        assert_eq!(source.earlier(None).unwrap(), (2, Bytes::from_static(b"b")));
        assert_eq!(source.earlier(Some(1)).unwrap(), (1, Bytes::from_static(b"a")));
        assert!(source.earlier(Some(0)).unwrap_err().contains("from 1 to 3 are"));
        assert!(source.earlier(Some(3)).unwrap_err().contains("now"));
    }

    #[test]
    fn a_spoilt_list_is_told_and_not_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        Source::open(directory.path()).unwrap().publish(of("a")).unwrap();
        fs::write(directory.path().join(FOLDER).join(LIST), "{").unwrap();
        assert!(Source::open(directory.path()).unwrap_err().contains("spoilt"));
    }
}
