//! `mainstay model show`: told from a model's small files; its weights are not read.

use super::{describe, size, spaced};
use crate::command_line::ShowModel;
use mainstay_engine::describe::{Attention, Description};
use mainstay_engine::{KvPrecision, LoadError, Settings};
use serde_json::{Value, json};
use std::fmt::Write;

/// The cache's precision unless somebody chooses another; both of two bytes take as much.
const KV: KvPrecision = KvPrecision::Half;

/// What is asked about, and what it takes.
struct Shown {
    model: Description,
    batch: usize,
    context: usize,
    per_token: u64,
    cache: u64,
}

/// The text, or the JSON document.
pub fn show(options: &ShowModel) -> Result<String, LoadError> {
    let model = describe(&options.model)?;
    let batch = options.batch as usize;
    let context = options.context.map_or(model.context, |context| context as usize);
    let page = Settings::default().page_tokens;
    let cache = model.kv_bytes(KV, batch, context, page);
    let shown = Shown { batch, context, per_token: model.kv_bytes_per_token(KV), cache, model };
    Ok(match options.json {
        true => format!("{:#}\n", document(&shown)),
        false => text(&shown),
    })
}

fn text(shown: &Shown) -> String {
    let Shown { model, batch, context, per_token, cache } = shown;
    let mut lines = vec![
        ("architecture", model.architecture.clone()),
        ("parameters", {
            let active = (model.active < model.parameters)
                .then(|| format!(", of which a token uses {}", spaced(model.active)));
            spaced(model.parameters) + &active.unwrap_or_default()
        }),
        (
            "size",
            format!(
                "{} layers, {} wide, vocabulary {}",
                model.layers,
                spaced(model.hidden as u64),
                spaced(model.vocabulary as u64)
            ),
        ),
        ("window", format!("{} tokens", spaced(model.context as u64))),
        (
            "attention",
            match model.attention {
                Attention::Grouped { heads, kv_heads, head } => {
                    format!("{heads} heads of {head} over {kv_heads} for keys and values")
                }
                Attention::Latent { heads, latent, rope } => {
                    format!("{heads} heads over one latent of {latent}, and {rope} for positions")
                }
            },
        ),
    ];
    if let Some(experts) = &model.experts {
        let per = format!("{} in each of {} layers", experts.count, experts.layers);
        lines.push(("experts", format!("{per}, of which a token uses {}", experts.used)));
    }
    lines.push(("cache", format!("{} bytes per token", spaced(*per_token))));
    let sequences = match batch {
        1 => "1 sequence".to_owned(),
        several => format!("{several} sequences"),
    };
    let weights = model.weight_bytes();
    lines.push((
        "memory",
        format!(
            "{} = weights {} + cache {} for {sequences} of {} tokens",
            size(weights + cache),
            size(weights),
            size(*cache),
            spaced(*context as u64)
        ),
    ));
    lines.extend(files(model));
    let mut out = format!("{}\n", model.name);
    for (name, value) in lines {
        let _ = writeln!(out, "  {name:<14} {value}");
    }
    out
}

/// What there is of the model's files.
fn files(model: &Description) -> [(&'static str, String); 3] {
    let stored = match &model.quantised {
        Some(method) => format!("; published as {method}, which the engine does not read"),
        None => String::new(),
    };
    let weights = match model.weights {
        Some(bytes) => format!("{}{stored}", size(bytes)),
        None => format!("none here, counted at 2 bytes a parameter{stored}"),
    };
    let tokenizer = match &model.tokenizer {
        Some(tokens) => format!("{}, {} tokens", tokens.kind, spaced(tokens.count as u64)),
        None => "none here; the engine needs tokenizer.json".to_owned(),
    };
    let template = match model.template {
        Some(bytes) => {
            let tools = if model.tools { "" } else { "no " };
            format!("{} bytes, with {tools}tools", spaced(bytes as u64))
        }
        None => "none here; without one the model takes no conversations".to_owned(),
    };
    [("weights", weights), ("tokenizer", tokenizer), ("chat template", template)]
}

fn document(shown: &Shown) -> Value {
    let Shown { model, batch, context, per_token, cache } = shown;
    let attention = match model.attention {
        Attention::Grouped { heads, kv_heads, head } => {
            json!({ "kind": "grouped", "heads": heads, "kv_heads": kv_heads, "head": head })
        }
        Attention::Latent { heads, latent, rope } => {
            json!({ "kind": "latent", "heads": heads, "latent": latent, "rope": rope })
        }
    };
    let experts = model.experts.as_ref().map(
        |experts| json!({ "count": experts.count, "used": experts.used, "layers": experts.layers }),
    );
    let tokenizer = model
        .tokenizer
        .as_ref()
        .map(|tokens| json!({ "kind": tokens.kind, "tokens": tokens.count }));
    json!({
        "name": model.name,
        "architecture": model.architecture,
        "parameters": { "total": model.parameters, "active": model.active },
        "layers": model.layers,
        "hidden": model.hidden,
        "vocabulary": model.vocabulary,
        "context": model.context,
        "attention": attention,
        "experts": experts,
        "kv_bytes_per_token": per_token,
        "memory": {
            "batch": batch,
            "context": context,
            "weights_bytes": model.weight_bytes(),
            "cache_bytes": cache,
            "total_bytes": model.weight_bytes() + cache,
        },
        "weights_files_bytes": model.weights,
        "quantised": model.quantised,
        "tokenizer": tokenizer,
        "chat_template_bytes": model.template,
        "tools": model.tools,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    fn ask(file: &str, json: bool) -> String {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mainstay-engine/tests");
        let model: PathBuf = match file {
            "builtin" => file.into(),
            file => fixtures.join("fixtures").join(file),
        };
        show(&ShowModel { model, batch: 4, context: Some(8192), json }).unwrap()
    }

    #[test]
    fn a_public_configuration_is_told_without_weights() {
        let text = ask("public/deepseek-v3.json", false);
        for part in [
            "DeepseekV3ForCausalLM",
            "a token uses 37,",
            "70,272 bytes per token",
            "cache 2.1 GiB for 4 sequences of 8,192 tokens",
            "published as fp8",
            "256 in each of 58 layers, of which a token uses 8",
            "the engine needs tokenizer.json",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn the_document_says_the_same() {
        let document: Value = serde_json::from_str(&ask("public/qwen2.5-72b.json", true)).unwrap();
        assert_eq!(document["kv_bytes_per_token"], 327_680);
        assert_eq!(document["memory"]["cache_bytes"], 4 * 8192 * 327_680_u64);
        assert_eq!(document["experts"], Value::Null);
        assert_eq!(document["attention"]["kv_heads"], 8);
    }

    #[test]
    fn the_built_in_model_is_whole() {
        let document: Value = serde_json::from_str(&ask("builtin", true)).unwrap();
        assert!(document["tokenizer"]["tokens"].as_u64() > Some(1_000), "{document}");
        assert!(document["chat_template_bytes"].as_u64() > Some(0), "{document}");
        assert!(document["weights_files_bytes"].as_u64() < Some(16 << 20), "{document}");
    }
}
