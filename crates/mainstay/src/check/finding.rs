//! What the audit finds: what happens, how bad it is, and the line to change.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// One loss takes a model down, for a reason that is certain.
    Error,
    /// It costs something in an outage, or it takes a model down if what is assumed is true.
    Warning,
    /// Worth knowing; nothing to be ashamed of.
    Note,
}

impl Severity {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// One line of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// `mainstay.toml:12`, or `environment`.
    pub line: String,
    /// The key there, e.g. `site.fate`, or the variable.
    pub key: String,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its kind, e.g. `MS101`; the guide has each with an example.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// In a few words.
    pub title: String,
    /// What happens, in whole sentences.
    pub happens: String,
    /// How to mend it.
    pub mend: String,
    /// Where.
    pub place: Place,
    /// The models it concerns; none: all, or no single one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// What is lost, where the finding is about a loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<String>,
    /// Whether it rests on something that is assumed; `happens` says what.
    pub assumed: bool,
}

/// Every kind with what it is about, in the order of the guide.
pub const KINDS: &[(&str, &str)] = &[
    ("MS001", "the configuration works, but probably not as meant"),
    ("MS100", "no provider is configured"),
    ("MS101", "a model has one site"),
    ("MS102", "sites that share a fate take a model down together"),
    ("MS103", "only the built-in model is left"),
    ("MS104", "only an embedded engine is left"),
    ("MS105", "another model stands in"),
    ("MS106", "keys of one account are one site"),
    ("MS107", "one gateway"),
    ("MS108", "one name server for several sites"),
    ("MS109", "nobody said how the sites are paid"),
    ("MS201", "a tier is not served after a loss"),
    ("MS202", "a capacity is not known"),
    ("MS203", "the load at peak is not known"),
    ("MS204", "the peak is more than all sites carry"),
    ("MS301", "a window is too small"),
    ("MS302", "a feature is missing"),
    ("MS303", "vectors of another model"),
    ("MS401", "a site that no model uses"),
    ("MS402", "a substitute that dies with what it stands in for"),
    ("MS403", "a tier that no key has"),
    ("MS404", "a limit that is never reached"),
    ("MS405", "a rule about substitutes without substitutes"),
    ("MS406", "a fate that one site alone has"),
    ("MS407", "a setting without effect"),
    ("MS501", "requests live longer than clients wait"),
    ("MS502", "no time for a second site"),
    ("MS601", "a key stands in the file"),
    ("MS602", "a key file that others may read"),
    ("MS603", "the admin listener can be reached from outside"),
    ("MS604", "anybody may call"),
    ("MS701", "a site cannot be reached"),
    ("MS702", "a site refuses our key"),
    ("MS703", "a site answers slowly"),
    ("MS704", "a site does not offer the model"),
    ("MS705", "sites answer from one network"),
    ("MS706", "sites are behind one CDN or host name"),
    ("MS707", "a window is smaller than configured"),
    ("MS708", "not probed"),
];

impl Finding {
    /// A finding of kind `id` at `place`; the rest is added by name.
    pub fn new(id: &'static str, severity: Severity, place: Place) -> Finding {
        assert!(KINDS.iter().any(|(known, _)| *known == id), "{id} is in the list of kinds");
        let (title, happens, mend) = (String::new(), String::new(), String::new());
        let (models, loss, assumed) = (Vec::new(), None, false);
        Finding { id, severity, title, happens, mend, place, models, loss, assumed }
    }

    /// Says what was found, what happens, and how to mend it.
    pub fn saying(
        mut self,
        title: impl Into<String>,
        happens: impl Into<String>,
        mend: impl Into<String>,
    ) -> Finding {
        self.title = title.into();
        self.happens = happens.into();
        self.mend = mend.into();
        self
    }

    /// Says which models it concerns.
    pub fn of(mut self, models: Vec<String>) -> Finding {
        self.models = models;
        self
    }

    /// Says what is lost, and whether somebody only assumes that it is lost as one.
    pub fn at_loss(mut self, name: impl Into<String>, assumed: bool) -> Finding {
        self.loss = Some(name.into());
        self.assumed = assumed;
        self
    }
}

/// `a`, `a and b`, `a, b and c`, `a, b, c and 4 more`.
pub fn listed<S: AsRef<str>>(names: &[S]) -> String {
    /// More names than this are counted.
    const SHOWN: usize = 3;
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => (*one).to_string(),
        many if many.len() > SHOWN + 1 => {
            format!("{} and {} more", many[..SHOWN].join(", "), many.len() - SHOWN)
        }
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_counted() {
        assert_eq!(listed(&["a"]), "a");
        assert_eq!(listed(&["a", "b", "c"]), "a, b and c");
        assert_eq!(listed(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
    }

    #[test]
    fn kinds_are_in_order_and_none_is_there_twice() {
        assert!(KINDS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
