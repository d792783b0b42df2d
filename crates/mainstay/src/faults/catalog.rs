//! All behaviors by model name: the table that `mainstay faults list` prints, and the one place
//! that turns a name and the state of its scope into what is done.
//!
//! A name is `NAME[+native|+noprefill|+unseeded|+other][@N]`: `f08+native@1` cuts the first
//! attempt of each conversation and can continue a partial answer.

use super::Profile;
use super::play::{
    Behavior, Play, Stage, When, bench, bytes, normal, refusals, streams, transport,
};
use super::reply::Voice;

/// All behaviors, in the order they are listed.
pub fn behaviors() -> impl Iterator<Item = &'static Behavior> {
    normal::BEHAVIORS
        .iter()
        .chain(bytes::BEHAVIORS.iter().filter(|b| b.name.contains('-')))
        .chain(in_order())
}

fn in_order() -> impl Iterator<Item = &'static Behavior> {
    let groups = [
        bench::BEHAVIORS,
        refusals::BEHAVIORS,
        streams::BEHAVIORS,
        bytes::BEHAVIORS,
        transport::BEHAVIORS,
    ];
    let mut all: Vec<&Behavior> =
        groups.into_iter().flatten().filter(|b| !b.name.contains('-')).collect();
    all.sort_by_key(|behavior| behavior.name);
    all.into_iter()
}

/// The table, as text.
pub fn list() -> String {
    behaviors().map(|b| format!("{:<16}{}\n", b.name, b.does)).collect()
}

/// A model name taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Without suffixes.
    pub base: String,
    /// The number in it, e.g. 40 in `cut-40`.
    pub number: u64,
    /// What it does with a trailing assistant message.
    pub voice: Voice,
    /// The fault shows at this many attempts of a conversation only.
    pub times: Option<u64>,
}

impl Name {
    /// Takes `model` apart; anything is a name, known or not.
    pub fn read(model: &str) -> Name {
        let (rest, times) = match model.split_once('@') {
            Some((rest, times)) => (rest, times.parse().ok()),
            None => (model, None),
        };
        let mut parts = rest.split('+');
        let base = parts.next().unwrap_or_default().to_owned();
        let mut voice = voice_of(&base);
        for part in parts {
            voice = voice_of(&format!("ok-{part}"));
        }
        let digits: String = base
            .split('-')
            .nth(1)
            .unwrap_or_default()
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        Name { number: digits.parse().unwrap_or(0), base, voice, times }
    }

    /// The behavior of this name.
    pub fn behavior(&self) -> Option<&'static Behavior> {
        let exact = behaviors().find(|behavior| behavior.name == self.base);
        exact.or_else(|| {
            let (family, rest) = self.base.split_once('-')?;
            if !rest.starts_with(|c: char| c.is_ascii_digit()) {
                return None;
            }
            behaviors().find(|b| b.name.split_once('-').is_some_and(|(name, _)| name == family))
        })
    }
}

fn voice_of(base: &str) -> Voice {
    match base {
        "ok-native" => Voice::Continues,
        "ok-noprefill" | "f53" => Voice::Refuses,
        "ok-unseeded" => Voice::Unseeded,
        "ok-other" => Voice::Other,
        _ => Voice::Regenerates,
    }
}

/// What is done to a request for `name` on `stage`.
pub fn compose(name: &Name, stage: &Stage) -> Play {
    if let Some(play) = refusals::down(stage).or_else(|| refusals::refused_by_limits(stage)) {
        return play;
    }
    let Some(behavior) = name.behavior() else { return refusals::model_gone(stage) };
    if name.voice == Voice::Refuses && stage.ask.prefix.is_some() {
        return refusals::invalid_prefill();
    }
    let shows = match (name.times, behavior.when) {
        (Some(times), _) => stage.conversation_attempt <= times,
        (None, When::Always) => true,
        (None, When::First) => stage.attempt == 1,
        (None, When::FirstOfConversation) => stage.conversation_attempt == 1,
    };
    if shows { (behavior.play)(stage) } else { normal::normal(stage) }
}

/// Tokens in the whole answer of `name`.
pub fn length_of(name: &Name, profile: Profile) -> usize {
    normal::length_of(&name.base, profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        let mut names: Vec<&str> = behaviors().map(|behavior| behavior.name).collect();
        for name in &names {
            assert!(Name::read(name).behavior().is_some_and(|b| b.name == *name), "{name}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), behaviors().count());
        assert!(Name::read("gpt-4").behavior().is_none());
    }

    #[test]
    fn every_fault_has_a_name() {
        // F40 to F42 are listeners and names of their own.
        for number in (1..=56).filter(|n| !(40..=42).contains(n) && *n != 48) {
            let prefix = format!("f{number:02}");
            assert!(behaviors().any(|b| b.name.starts_with(&prefix)), "{prefix}");
        }
    }

    #[test]
    fn suffixes_are_read() {
        let name = Name::read("f08+native@2");
        assert_eq!(
            (name.base.as_str(), name.voice, name.times),
            ("f08", Voice::Continues, Some(2))
        );
        assert_eq!(Name::read("cutbytes-777").number, 777);
        assert_eq!(Name::read("long-600-5ms").number, 600);
    }
}
