//! A file's tokenizer, in the form of `tokenizer.json`, and its chat template.
//!
//! Only byte-level BPE (called `gpt2` in the format) is written so; it is what Llama 3, Qwen and
//! DeepSeek have. How a text is cut before that, the file tells by a name, and names that are not
//! known here are refused: a wrong cut would give other tokens, silently.

use super::read::{Content, Value};
use crate::error::LoadError;
use serde_json::{Map, Value as Json, json};

const WAY_OUT: &str =
    "put the model's tokenizer.json beside the GGUF file, or use a llama.cpp worker";

/// Kinds of token, as the format numbers them.
const UNKNOWN: i128 = 2;
const CONTROL: i128 = 3;
const USER_DEFINED: i128 = 4;

const CONTRACTIONS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+";
const REST: &str = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The regular expressions, one after another, that cut a text; as in the models' own files.
fn cuts(name: &str) -> Option<Vec<String>> {
    let numbers = |numbers: &str| vec![format!("{CONTRACTIONS}|{numbers}|{REST}")];
    Some(match name {
        "llama-bpe" | "llama3" | "llama-v3" => numbers(r"\p{N}{1,3}"),
        "qwen2" | "deepseek-r1-qwen" => numbers(r"\p{N}"),
        "deepseek-v3" => vec![
            r"\p{N}{1,3}".into(),
            "[一-龥\u{3040}-ゟ゠-ヿ]+".into(),
            [
                r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"##,
                r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*",
                r"\s*[\r\n]+|\s+(?!\S)|\s+",
            ]
            .join("|"),
        ],
        "gpt-2" | "default" => Vec::new(),
        _ => return None,
    })
}

/// `tokenizer.json` for the file's tokenizer.
pub fn tokenizer(content: &Content<'_>) -> Result<Vec<u8>, LoadError> {
    let refused = |reason: String| LoadError::Tokenizer(format!("{reason}: {WAY_OUT}"));
    let model = content
        .text("tokenizer.ggml.model")
        .ok_or_else(|| refused("the GGUF file has no tokenizer".into()))?;
    if model != "gpt2" {
        return Err(refused(format!("the GGUF file's tokenizer is of kind \"{model}\"")));
    }
    let cut = content.text("tokenizer.ggml.pre").unwrap_or("default");
    let cuts = cuts(cut).ok_or_else(|| {
        refused(format!("the GGUF file cuts texts by the rules \"{cut}\", which are not known"))
    })?;
    let missing = |what: &str| refused(format!("the GGUF file's tokenizer has no {what}"));
    let tokens = content.list("tokenizer.ggml.tokens").ok_or_else(|| missing("tokens"))?;
    let merges = content.list("tokenizer.ggml.merges").ok_or_else(|| missing("merges"))?;
    let kinds: Vec<i128> = content
        .list("tokenizer.ggml.token_type")
        .into_iter()
        .flat_map(|kinds| kinds.values())
        .map(|kind| if let Value::Whole(kind) = kind { kind } else { 0 })
        .collect();
    let (mut vocabulary, mut added) = (Map::new(), Vec::new());
    for (id, token) in tokens.values().enumerate() {
        let Value::Text(token) = token else { return Err(missing("texts as tokens")) };
        let kind = kinds.get(id).copied().unwrap_or(0);
        if [UNKNOWN, CONTROL, USER_DEFINED].contains(&kind) {
            added.push(json!({
                "id": id, "content": token, "special": kind != USER_DEFINED, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false,
            }));
        }
        if vocabulary.insert(token.to_owned(), id.into()).is_some() {
            return Err(refused(format!("the GGUF file has the token {token:?} twice")));
        }
    }
    let merges: Vec<&str> = merges
        .values()
        .filter_map(|merge| if let Value::Text(merge) = merge { Some(merge) } else { None })
        .collect();
    let byte_level = |use_regex: bool| {
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
               "use_regex": use_regex})
    };
    let whole = byte_level(cuts.is_empty());
    let splits = cuts.iter().map(|cut| {
        json!({"type": "Split", "pattern": {"Regex": cut}, "behavior": "Isolated", "invert": false})
    });
    let steps: Vec<Json> = splits.chain([whole]).collect();
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": added,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "post_processor": null,
        "decoder": byte_level(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false,
            "vocab": vocabulary, "merges": merges,
        },
    });
    Ok(json.to_string().into_bytes())
}

/// `tokenizer_config.json`: the template, and the texts of start, end and padding.
pub fn tokenizer_config(content: &Content<'_>) -> Json {
    let mut config = Map::new();
    if let Some(template) = content.text("tokenizer.chat_template") {
        config.insert("chat_template".into(), template.into());
    }
    let tokens = content.list("tokenizer.ggml.tokens");
    for (ours, theirs) in [
        ("bos_token", "bos_token_id"),
        ("eos_token", "eos_token_id"),
        ("pad_token", "padding_token_id"),
        ("unk_token", "unknown_token_id"),
    ] {
        let id = content.whole(&format!("tokenizer.ggml.{theirs}"));
        let id = id.and_then(|id| usize::try_from(id).ok());
        let token = id.and_then(|id| tokens.filter(|tokens| id < tokens.count)?.values().nth(id));
        if let Some(Value::Text(token)) = token {
            config.insert(ours.into(), token.into());
        }
    }
    Json::Object(config)
}
