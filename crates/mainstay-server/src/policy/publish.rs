//! An author publishes at the source, or goes back to what was published before.

use super::source::Publication;
use super::{Desk, kept};
use bytes::Bytes;
use mainstay_core::config::PolicyConfig;
use serde::Deserialize;
use serde_json::{Value, json};

/// What an author asks for, as JSON.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wish {
    /// Who.
    pub author: String,
    /// Why.
    pub reason: String,
    /// What is to be in force; none for going back.
    pub content: Option<String>,
    /// Go back to what was published before,
    pub back: bool,
    /// as this generation; unset: the newest other content.
    pub generation: Option<u64>,
    /// What the newest generation changes is meant.
    pub confirm: bool,
    /// It is meant, whatever it changes.
    pub force: bool,
}

/// Says what is wrong with a content.
pub type Check = Box<dyn Fn(&[u8]) -> Result<(), String> + Send + Sync>;

impl Desk {
    /// Publishes, confirms or goes back.
    ///
    /// # Errors
    /// Why not, and how to mend it.
    pub fn publish(&self, wish: Wish, check: &Check) -> Result<Value, String> {
        let Some(source) = &self.source else {
            return Err(match &self.around.source_name {
                Some(name) => {
                    format!("generations are published at node `{name}`; ask it (--admin)")
                }
                None => "no node publishes; add source = \"NAME\" to [policy]".into(),
            });
        };
        let mut source = source.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Wish { author, reason, content, back, generation, confirm, force } = wish;
        let author = if author.is_empty() { String::from("operator") } else { author };
        let (content, reason, confirmed) = match (content, back) {
            (None, true) => {
                let (number, content) = source.earlier(generation)?;
                // Content that is known, wanted back by a person: nobody is asked twice.
                (content, format!("back to generation {number}: {}", reason.trim()), true)
            }
            (Some(content), false) => (Bytes::from(content), reason, force),
            (None, false) | (Some(_), true) => {
                return Err("give either a content or a generation to go back to".into());
            }
        };
        let bytes = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let most = PolicyConfig::default().bytes_max;
        if bytes > most {
            return Err(format!("{bytes} bytes are too many; at most {most}"));
        }
        check(&content)?;
        let snapshot = match confirm {
            true => source.confirm(&content)?,
            false => source.publish(Publication { author, reason, content, confirmed })?,
        };
        tracing::info!(
            fact = "policy_published",
            generation = snapshot.generation,
            author = snapshot.author,
            "{}",
            snapshot.reason
        );
        Ok(json!({ "generation": kept::Kept::from(&snapshot) }))
    }
}
