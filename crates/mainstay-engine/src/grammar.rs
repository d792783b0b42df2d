//! Holds an answer to a form: JSON, JSON of a schema, or text of a regular expression.
//!
//! A library keeps the state and says after each token which may be next (`llguidance`); here it is
//! given this model's tokens and kept within bounds, because schemas come from outside. The state
//! follows from the answer's tokens, so a journal need not carry it.
//!
//! Left out: context-free grammars in a language of their own.

use crate::tokenizer::Vocabulary;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What an answer is held to.
#[derive(Clone, Debug, PartialEq)]
pub struct Grammar {
    pub form: Form,
    /// The beginning of the answer that the prompt ends with, if another run wrote one.
    pub begun: String,
}

/// Forms of answers.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub enum Form {
    /// Any JSON object.
    JsonObject,
    /// JSON that a JSON schema describes. Keywords that cannot be kept are refused.
    JsonSchema(Value),
    /// Text that a regular expression matches as a whole.
    Regex(String),
}

/// Blanks between the parts of JSON at most: enough to indent it, too few to go on for ever, which
/// small models do.
const BLANKS: &str = r"[ \n]{0,16}";

/// A schema of more bytes than this is more than any answer of a model on this machine can fill.
const SCHEMA_MAX: usize = 256 << 10;

/// Compiles grammars for one model.
pub struct Grammars {
    factory: ParserFactory,
    /// Stands for every token that ends an answer: the first number behind the vocabulary.
    end: u32,
}

/// An answer's way through its grammar.
pub struct Held {
    matcher: Matcher,
    end: u32,
}

/// What may be next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Tokens whose logits are left.
    Some,
    /// Nothing: the answer is whole.
    End,
    /// Nothing, and it is not whole: the grammar is too hard.
    Stuck,
}

impl Grammars {
    /// Reads the model's tokens, which takes a moment for a large vocabulary.
    pub fn new(vocabulary: &Vocabulary, size: usize) -> Result<Grammars, String> {
        let mut words = vocabulary.words()?.to_vec();
        words.resize(size, Vec::new());
        words.push([&[TokTrie::SPECIAL_TOKEN_MARKER], "<the end>".as_bytes()].concat());
        let end = size as u32;
        let trie = TokTrie::from(&TokRxInfo::new(end + 1, end), &words);
        let tokens: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let factory = ParserFactory::new_simple(&tokens).map_err(|error| error.to_string())?;
        let mut factory = factory;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(Grammars { factory, end })
    }

    /// An answer at its beginning, or why the grammar cannot be kept.
    pub fn hold(&self, grammar: &Grammar, vocabulary: &Vocabulary) -> Result<Held, String> {
        let form = match &grammar.form {
            Form::JsonObject => json_schema(&json!({ "type": "object" }))?,
            Form::JsonSchema(schema) => json_schema(schema)?,
            Form::Regex(regex) => TopLevelGrammar::from_regex(regex),
        };
        // The library answers with errors; a bug in it must still cost this request alone.
        let matcher =
            catch_unwind(AssertUnwindSafe(|| Matcher::new(self.factory.create_parser(form))));
        let matcher = matcher.map_err(|_| "the schema breaks its compiler".to_owned())?;
        if let Some(error) = matcher.get_error() {
            return Err(error.lines().next().unwrap_or_default().to_owned());
        }
        let mut held = Held { matcher, end: self.end };
        match vocabulary.tokenize(&grammar.begun).iter().all(|token| held.push(*token)) {
            true => Ok(held),
            false => Err("what the answer begins with does not fit the schema".to_owned()),
        }
    }
}

fn json_schema(schema: &Value) -> Result<TopLevelGrammar, String> {
    if schema.to_string().len() > SCHEMA_MAX {
        return Err(format!("the schema has more than {SCHEMA_MAX} bytes"));
    }
    let mut schema = match schema {
        Value::Object(_) => schema.clone(),
        Value::Bool(true) => json!({}),
        _ => return Err("the schema must be an object".to_owned()),
    };
    let options = JsonCompileOptions {
        whitespace_pattern: Some(BLANKS.to_owned()),
        ..JsonCompileOptions::default()
    };
    options.apply_to(&mut schema);
    Ok(TopLevelGrammar::from_json_schema(schema))
}

impl Held {
    /// Takes the logits of all tokens away that must not be next; those in `end_tokens` stay where
    /// the answer may end.
    pub fn restrict(&mut self, logits: &mut [f32], end_tokens: &[u32]) -> Next {
        let Ok(mask) = self.matcher.compute_mask_or_eos() else { return Next::Stuck };
        let may_end = mask.is_allowed(self.end);
        let mut any = false;
        for (token, logit) in (0u32..).zip(logits.iter_mut()) {
            let is_end = end_tokens.contains(&token);
            match mask.is_allowed(token) && !is_end {
                true => any = true,
                false if is_end && may_end => {}
                false => *logit = f32::NEG_INFINITY,
            }
        }
        match (any, may_end) {
            (true, _) => Next::Some,
            (false, true) => Next::End,
            (false, false) => Next::Stuck,
        }
    }

    /// Goes on behind `token`; false if it must not be there.
    pub fn push(&mut self, token: u32) -> bool {
        self.matcher.consume_token(token).is_ok()
    }
}
