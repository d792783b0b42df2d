//! A JSON object read no deeper than its own keys: values stay the bytes they were.

use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// One key of an object and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The key, decoded.
    pub key: String,
    /// From the key's opening quote to the end of the value.
    pub whole: Range<usize>,
    /// The value.
    pub value: Range<usize>,
}

/// The keys of the object in `text`, in its order; an error for anything else, and for a key that
/// occurs twice: which of the two counts would be the next parser's guess.
pub fn fields(text: &str) -> Result<Vec<Field>, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let pairs = reader.deserialize_map(Pairs)?;
    reader.end()?;
    let mut fields: Vec<Field> = Vec::with_capacity(pairs.len());
    let mut end = 0;
    for (key, raw) in pairs {
        if fields.iter().any(|field| field.key == key) {
            return Err(serde_json::Error::custom("a key occurs twice"));
        }
        let start = raw.get().as_ptr() as usize - text.as_ptr() as usize;
        let value = start..start + raw.get().len();
        // Between two values stand only space, a comma and the key.
        let quote = text[end..].find('"').map_or(value.start, |at| end + at);
        end = value.end;
        fields.push(Field { key: key.into_owned(), whole: quote..end, value });
    }
    Ok(fields)
}

/// Rewrites an object: `None` drops a key, `Some` replaces its value or adds it. Everything else
/// keeps its bytes and its place.
pub fn edit(text: &str, fields: &[Field], edits: &[(&str, Option<String>)]) -> Vec<u8> {
    let grown: usize = edits.iter().map(|(k, v)| k.len() + v.as_ref().map_or(0, String::len)).sum();
    let mut out = Vec::with_capacity(text.len() + grown + 8 * edits.len() + 2);
    out.push(b'{');
    for field in fields {
        let edited = edits.iter().find(|(key, _)| *key == field.key);
        match edited {
            Some((_, None)) => {}
            Some((_, Some(value))) => {
                comma(&mut out);
                out.extend_from_slice(&text.as_bytes()[field.whole.start..field.value.start]);
                out.extend_from_slice(value.as_bytes());
            }
            None => {
                comma(&mut out);
                out.extend_from_slice(&text.as_bytes()[field.whole.clone()]);
            }
        }
    }
    for (key, value) in edits {
        if let Some(value) = value
            && !fields.iter().any(|field| field.key == *key)
        {
            comma(&mut out);
            out.extend_from_slice(quoted(key).as_bytes());
            out.push(b':');
            out.extend_from_slice(value.as_bytes());
        }
    }
    out.push(b'}');
    out
}

/// `text` as a JSON string.
pub fn quoted(text: &str) -> String {
    // A string always serialises.
    serde_json::to_string(text).unwrap_or_default()
}

fn comma(out: &mut Vec<u8>) {
    if out.len() > 1 {
        out.push(b',');
    }
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::with_capacity(16);
        while let Some(key) = map.next_key::<Key<'de>>()? {
            pairs.push((key.0, map.next_value()?));
        }
        Ok(pairs)
    }
}

#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_keep_every_other_byte() {
        let text = "{ \"a\" : [1,  2],\n\"b\\u0062\":\"x\",\"c\":null }";
        let fields = fields(text).unwrap();
        let keys: Vec<&str> = fields.iter().map(|field| field.key.as_str()).collect();
        assert_eq!(keys, ["a", "bb", "c"]);
        let edits = [("c", None), ("bb", Some("7".to_owned())), ("d", Some("{}".to_owned()))];
        let edited = String::from_utf8(edit(text, &fields, &edits)).unwrap();
        assert_eq!(edited, "{\"a\" : [1,  2],\"b\\u0062\":7,\"d\":{}}");
    }

    #[test]
    fn only_an_object_with_distinct_keys_is_read() {
        for bad in ["[]", "7", "", "{", "{\"a\":1,\"\\u0061\":2}", "{} {}", "{\"a\":}"] {
            assert!(fields(bad).is_err(), "{bad}");
        }
        assert!(fields(" {} ").unwrap().is_empty());
    }
}
