//! The dialects there are, and what each says its models can do.
//!
//! The only file of the binary that looks into a dialect.

use crate::config_file::SiteModel;
use mainstay_core::config::Needs;
use mainstay_server::dialect::Dialect;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Built-in dialects and those of a directory, by name.
#[derive(Debug)]
pub struct Catalog(BTreeMap<String, Arc<Dialect>>);

/// What one model at a site can do.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// Its name there.
    pub name: String,
    /// Context window in tokens.
    pub window: Option<u32>,
    /// Most tokens it will answer.
    pub output_max: Option<u32>,
    /// What it offers beyond text.
    pub offers: Needs,
    /// Whether it goes on from a partial answer.
    pub continues: bool,
}

impl Catalog {
    /// The built-in dialects.
    pub fn builtin() -> Catalog {
        let found = |name: &&str| Some((name.to_string(), Dialect::builtin(name)?));
        Catalog(Dialect::NAMES.iter().filter_map(found).collect())
    }

    /// Adds the dialects of `directory`, one `NAME.toml` each, and returns what could not be read.
    pub fn add_directory(&mut self, directory: &Path) -> Vec<String> {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => return vec![format!("cannot read {}: {error}", directory.display())],
        };
        let mut wrong = Vec::new();
        let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "toml")) {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(file).map_err(|error| error.to_string());
            match text
                .and_then(|text| Dialect::parse(&name, &text).map_err(|error| error.to_string()))
            {
                Ok(dialect) => drop(self.0.insert(name, Arc::new(dialect))),
                Err(error) => wrong.push(format!("{}: {error}", file.display())),
            }
        }
        wrong
    }

    /// The dialect called `name`.
    pub fn get(&self, name: &str) -> Option<&Arc<Dialect>> {
        self.0.get(name)
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// What `dialect` says of all the models it lists.
pub fn listed(dialect: &Dialect) -> Vec<Offer> {
    dialect.models.iter().map(|model| offer(dialect, &model.name)).collect()
}

/// What `dialect` says of `model`. One that it does not list is presumed to take what the API
/// has for text: a server without it refuses, which costs one attempt and is told to the client,
/// while presuming the opposite would refuse what works. Media is not presumed, since a server
/// that drops images answers as if it had seen them.
pub fn offer(dialect: &Dialect, model: &str) -> Offer {
    let presumed =
        Needs { tools: true, media: false, json: true, embeddings: true, completions: true };
    let (window, output_max, offers) = match dialect.models.iter().find(|m| m.name == model) {
        Some(listed) => {
            let Needs { embeddings, completions, .. } = Needs::default();
            let (tools, media, json) = (listed.tools, listed.media, listed.json);
            let offers = Needs { tools, media, json, embeddings, completions };
            (listed.window, listed.output_max, offers)
        }
        None => (None, None, presumed),
    };
    let continues = dialect.can_continue(model);
    Offer { name: model.to_string(), window, output_max, offers, continues }
}

/// `offer` with what the operator wrote about the model in its place.
pub fn amended(mut offer: Offer, by: &SiteModel) -> Offer {
    let amend = |mine: &mut bool, theirs: Option<bool>| *mine = theirs.unwrap_or(*mine);
    offer.window = by.window.or(offer.window);
    offer.output_max = by.output_max.or(offer.output_max);
    amend(&mut offer.offers.tools, by.tools);
    amend(&mut offer.offers.media, by.media);
    amend(&mut offer.offers.json, by.json);
    amend(&mut offer.offers.embeddings, by.embeddings);
    amend(&mut offer.offers.completions, by.completions);
    amend(&mut offer.continues, by.continues);
    offer
}

/// The looks of names that `dialect` serves without listing them, and whether those continue a
/// partial answer.
pub fn families(dialect: &Dialect) -> Vec<(String, bool)> {
    let continues = |pattern: &String| (pattern.clone(), dialect.can_continue(pattern));
    dialect.families.iter().map(continues).collect()
}
