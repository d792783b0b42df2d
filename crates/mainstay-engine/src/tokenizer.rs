//! Text to tokens and back.
//!
//! Prompts are tokenised with the special tokens in them parsed and none added: the chat template
//! has written them all. Answers come back token by token through a [`Detokenizer`], which never
//! hands out half a character.

use crate::error::LoadError;
use std::collections::HashSet;
use std::panic::catch_unwind;
use std::sync::OnceLock;
use tokenizers::Tokenizer;

/// Which tokens of an answer are kept from its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Hide {
    /// Start, end and padding tokens, and special tokens that the chat template writes (role
    /// markers). Other special tokens are content and shown.
    #[default]
    Control,
    /// Every token the tokenizer calls special.
    Special,
    /// None but the token that ends the answer.
    Nothing,
}

/// What decides which tokens are control tokens.
pub struct ControlTokens<'a> {
    pub hide: Hide,
    /// Start, end, padding: their ids, and their texts.
    pub ids: &'a [u32],
    pub texts: &'a [String],
    /// The chat template's source.
    pub template: &'a str,
}

/// A model's tokenizer.
pub struct Vocabulary {
    tokenizer: Tokenizer,
    hidden: HashSet<u32>,
    /// See `words`; made when it is first asked for.
    words: OnceLock<Result<Vec<Vec<u8>>, String>>,
}

/// The state of one answer's way from tokens to text.
///
/// Decoders look at neighbours (spaces, bytes of one character), so the new text is the difference
/// of two decodings of a short window: with and without the new token.
#[derive(Clone, Debug, Default)]
pub struct Detokenizer {
    window: Vec<u32>,
    /// How many tokens of the window have had their text handed out.
    told: usize,
}

/// A character takes at most 4 byte tokens. A longer run of undecodable tokens is no character to
/// come but nonsense, and is handed out as it is rather than held forever.
const HELD_MAX: usize = 8;

impl Vocabulary {
    /// Reads `tokenizer.json`. A tokenizer larger than the model's `vocabulary` is refused.
    pub fn read(
        json: &[u8],
        vocabulary: usize,
        control: &ControlTokens<'_>,
    ) -> Result<Vocabulary, LoadError> {
        // The library has assertions that a mangled file can reach; a load must not end the
        // process.
        let tokenizer = catch_unwind(|| -> Result<Tokenizer, String> {
            let mut tokenizer = Tokenizer::from_bytes(json).map_err(|error| error.to_string())?;
            tokenizer.with_truncation(None).map_err(|error| error.to_string())?;
            tokenizer.with_padding(None);
            Ok(tokenizer)
        });
        let tokenizer = tokenizer.unwrap_or_else(|_| Err("it breaks the reader".into()));
        let tokenizer = tokenizer.map_err(|error| {
            LoadError::Tokenizer(format!(
                "tokenizer.json is not valid ({error}): take the file that came with the model"
            ))
        })?;
        let highest = tokenizer.get_vocab(true).into_values().max();
        if highest.is_none_or(|highest| highest as usize >= vocabulary) {
            return Err(LoadError::Tokenizer(format!(
                "tokenizer.json has token ids up to {}, the model only {vocabulary} tokens: \
                 they belong to different models",
                highest.map_or("none".into(), |highest| highest.to_string())
            )));
        }
        let hidden = hidden(&tokenizer, control);
        Ok(Vocabulary { tokenizer, hidden, words: OnceLock::new() })
    }

    /// The tokens of a text. Special tokens written in it are recognised, none are added.
    pub fn tokenize(&self, text: &str) -> Vec<u32> {
        match self.tokenizer.encode_fast(text, false) {
            Ok(encoding) => encoding.get_ids().to_vec(),
            // No published tokenizer fails on a text; an empty prompt is refused with a reason.
            Err(_) => Vec::new(),
        }
    }

    /// How many tokens it knows.
    pub fn count(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// The id of a token by its exact text.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The bytes of each token, by its id; those of special tokens begin with 0xFF, which occurs in
    /// no text. Not every tokenizer has such a table.
    pub fn words(&self) -> Result<&[Vec<u8>], String> {
        let words = self.words.get_or_init(|| {
            let json = self.tokenizer.to_string(false).map_err(|error| error.to_string())?;
            let read = catch_unwind(|| {
                let json = serde_json::from_str(&json).map_err(|error| error.to_string())?;
                llguidance::token_bytes_from_tokenizer_json(&json)
                    .map_err(|error| error.to_string())
            });
            read.unwrap_or_else(|_| Err("it breaks the reader".to_owned()))
                .map_err(|why| format!("the model's tokens cannot be told by their bytes: {why}"))
        });
        words.as_deref().map_err(Clone::clone)
    }

    /// The bytes of one token as they stand in a text.
    pub fn bytes(&self, token: u32) -> Vec<u8> {
        let words = self.words().unwrap_or_default();
        let word = words.get(token as usize).map(Vec::as_slice).unwrap_or_default();
        match word {
            [0xff, special @ ..] => special.to_vec(),
            [] => self.decode(&[token]).into_bytes(),
            plain => plain.to_vec(),
        }
    }

    fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids, false).unwrap_or_default()
    }
}

impl Detokenizer {
    /// Takes the next token and returns the text that is now certain, often empty.
    pub fn push(&mut self, vocabulary: &Vocabulary, token: u32) -> String {
        if vocabulary.hidden.contains(&token) {
            return String::new();
        }
        self.window.push(token);
        let text = self.new_text(vocabulary);
        let is_whole = !text.ends_with(char::REPLACEMENT_CHARACTER);
        if text.is_empty() || (!is_whole && self.window.len() - self.told < HELD_MAX) {
            return String::new();
        }
        self.window.drain(..self.told);
        self.told = self.window.len();
        text
    }

    /// What is left at the end of the answer. Half a character becomes U+FFFD.
    pub fn finish(&mut self, vocabulary: &Vocabulary) -> String {
        let text = self.new_text(vocabulary);
        self.told = self.window.len();
        text
    }

    fn new_text(&self, vocabulary: &Vocabulary) -> String {
        let told = vocabulary.decode(&self.window[..self.told]);
        let all = vocabulary.decode(&self.window);
        all.get(told.len()..).unwrap_or_default().to_owned()
    }
}

fn hidden(tokenizer: &Tokenizer, control: &ControlTokens<'_>) -> HashSet<u32> {
    let mut hidden = HashSet::new();
    for (id, token) in tokenizer.get_added_tokens_decoder() {
        let is_control = control.ids.contains(&id)
            || control.texts.contains(&token.content)
            || (token.special && control.template.contains(&token.content));
        let hide = match control.hide {
            Hide::Control => is_control,
            Hide::Special => token.special || is_control,
            Hide::Nothing => false,
        };
        if hide {
            hidden.insert(id);
        }
    }
    hidden
}
