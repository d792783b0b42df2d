//! Takes single values out of `config.json`, each checked for kind and range.

use crate::error::LoadError;
use serde_json::Value;
use std::ops::RangeInclusive;

pub struct Reader<'a> {
    config: &'a Value,
}

impl<'a> Reader<'a> {
    pub fn new(config: &'a Value) -> Reader<'a> {
        Reader { config }
    }

    pub fn architecture(&self) -> Result<&'a str, LoadError> {
        self.config.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str).ok_or(
            LoadError::Config(
                "no \"architectures\" entry: take the config.json that came with the model".into(),
            ),
        )
    }

    /// Whether the entry is there and not null.
    pub fn has(&self, name: &str) -> bool {
        self.config.get(name).is_some_and(|value| !value.is_null())
    }

    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.config.get(name).and_then(Value::as_str)
    }

    pub fn count(&self, name: &str, range: RangeInclusive<usize>) -> Result<usize, LoadError> {
        let value = self.config.get(name).filter(|value| !value.is_null());
        let count = value.and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
        count.filter(|count| range.contains(count)).ok_or_else(|| {
            let found = value.map_or("nothing".into(), Value::to_string);
            LoadError::Config(format!(
                "\"{name}\" must be a whole number from {} to {}, found {found}: \
                 take the config.json that came with the model",
                range.start(),
                range.end()
            ))
        })
    }

    pub fn count_or(
        &self,
        name: &str,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> Result<usize, LoadError> {
        if self.has(name) { self.count(name, range) } else { Ok(default) }
    }

    pub fn number(&self, name: &str, default: f32) -> Result<f32, LoadError> {
        match self.config.get(name) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value
                .as_f64()
                .map(|number| number as f32)
                .filter(|number| number.is_finite())
                .ok_or_else(|| LoadError::Config(format!("\"{name}\" must be a number"))),
        }
    }

    pub fn flag(&self, name: &str, default: bool) -> Result<bool, LoadError> {
        Ok(self.optional_flag(name)?.unwrap_or(default))
    }

    pub fn optional_flag(&self, name: &str) -> Result<Option<bool>, LoadError> {
        match self.config.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(LoadError::Config(format!("\"{name}\" must be true or false"))),
        }
    }

    /// Whether the list `name` holds the number; no list holds none.
    pub fn lists(&self, name: &str, number: usize) -> bool {
        let list = self.config.get(name).and_then(Value::as_array);
        list.is_some_and(|list| list.iter().any(|item| item.as_u64() == Some(number as u64)))
    }
}
