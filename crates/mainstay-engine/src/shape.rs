//! Reads `config.json` into a [`Shape`]: what kind of decoder it is, and all its sizes.
//!
//! Every size is bounded before anything is built from it, so that a mangled file cannot ask for
//! absurd memory, and whatever this engine would compute wrongly (sliding windows, other
//! activations, other rope scalings) is refused by name instead.

mod experts;
mod reader;

use crate::error::LoadError;
use crate::rope::RopeShape;
pub use experts::{ExpertsShape, GateShape, GroupScore, Scoring};
use reader::Reader;

/// A decoder-only transformer of the Llama, Qwen or DeepSeek family.
#[derive(Clone, Debug)]
pub struct Shape {
    /// As in `config.json`, for example `DeepseekV3ForCausalLM`.
    pub architecture: String,
    pub vocabulary: usize,
    pub hidden: usize,
    pub layers: usize,
    /// Layers behind them that only draft.
    pub draft_layers: usize,
    /// Tokens a sequence may hold.
    pub context: usize,
    pub norm_epsilon: f32,
    /// Whether the output matrix is the embedding; unsaid means: if no `lm_head.weight` is there.
    pub tied: Option<bool>,
    pub attention: AttentionShape,
    pub rope: RopeShape,
    /// Inner width of the dense layers.
    pub dense_hidden: usize,
    pub experts: Option<ExpertsShape>,
    /// Tokens that end an answer.
    pub end_tokens: Vec<u32>,
    /// Start and padding tokens.
    pub silent_tokens: Vec<u32>,
}

#[derive(Clone, Debug)]
pub enum AttentionShape {
    /// Grouped queries: several query heads share a key and value head (Llama, Qwen).
    Grouped {
        heads: usize,
        kv_heads: usize,
        head: usize,
        /// Biases on q, k, v / on the output too.
        bias: Bias,
        /// Qwen3: a norm on each query and key head.
        head_norm: bool,
    },
    /// Latent attention (DeepSeek): one compressed row per token serves all heads.
    Latent {
        heads: usize,
        q_lora: Option<usize>,
        kv_lora: usize,
        rope: usize,
        nope: usize,
        value: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    None,
    Inputs,
    All,
}

impl AttentionShape {
    /// Rows that are cached of a token in a layer, and numbers in each.
    pub fn rows(&self) -> [usize; 2] {
        match *self {
            AttentionShape::Grouped { kv_heads, head, .. } => [kv_heads, 2 * head],
            AttentionShape::Latent { kv_lora, rope, .. } => [1, kv_lora + rope],
        }
    }
}

fn parse(config: &[u8]) -> Result<serde_json::Value, LoadError> {
    serde_json::from_slice(config)
        .map_err(|error| LoadError::Config(format!("no valid JSON ({error}): restore the file")))
}

/// The families, told apart by the `architectures` entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Llama,
    Qwen2,
    Qwen3,
    Qwen3Moe,
    DeepseekV2,
    DeepseekV3,
}

impl Shape {
    /// Reads `config.json` of a model that is to be run.
    pub fn read(config: &[u8]) -> Result<Shape, LoadError> {
        let value = parse(config)?;
        refuse_quantised(&Reader::new(&value))?;
        Shape::of(&value)
    }

    /// Reads `config.json` of a model that is only to be described, however its weights are stored.
    pub fn describe(config: &[u8]) -> Result<Shape, LoadError> {
        Shape::of(&parse(config)?)
    }

    fn of(value: &serde_json::Value) -> Result<Shape, LoadError> {
        let config = Reader::new(value);
        let architecture = config.architecture()?;
        let family = family(architecture)?;
        refuse_unknown(&config)?;
        let attention = match family {
            Family::DeepseekV2 | Family::DeepseekV3 => latent(&config)?,
            _ => grouped(&config, family)?,
        };
        let (rope_size, interleaved) = match attention {
            AttentionShape::Grouped { head, .. } => (head, config.flag("rope_interleave", false)?),
            AttentionShape::Latent { rope, .. } => (rope, config.flag("rope_interleave", true)?),
        };
        let layers = config.count("num_hidden_layers", 1..=MAX_LAYERS)?;
        Ok(Shape {
            architecture: architecture.to_owned(),
            vocabulary: config.count("vocab_size", 1..=MAX_VOCABULARY)?,
            hidden: config.count("hidden_size", 1..=MAX_WIDTH)?,
            layers,
            draft_layers: config.count_or("num_nextn_predict_layers", 0, 0..=MAX_LAYERS)?,
            context: config.count("max_position_embeddings", 1..=MAX_CONTEXT)?,
            norm_epsilon: config.number("rms_norm_eps", 1e-6)?,
            tied: config.optional_flag("tie_word_embeddings")?,
            attention,
            rope: RopeShape::read(value, rope_size, interleaved)?,
            dense_hidden: config.count("intermediate_size", 1..=MAX_WIDTH)?,
            experts: match family {
                Family::Qwen3Moe => Some(experts::qwen3(&config, layers)?),
                Family::DeepseekV2 => experts::deepseek_v2(&config, layers)?,
                Family::DeepseekV3 => experts::deepseek_v3(&config, layers)?,
                Family::Llama | Family::Qwen2 | Family::Qwen3 => None,
            },
            end_tokens: token_ids(value, "eos_token_id"),
            silent_tokens: [token_ids(value, "bos_token_id"), token_ids(value, "pad_token_id")]
                .concat(),
        })
    }
}

// Bounds a good deal above any published model, and low enough that no product of two overflows.
const MAX_LAYERS: usize = 1 << 10;
const MAX_VOCABULARY: usize = 1 << 22;
const MAX_WIDTH: usize = 1 << 18;
const MAX_HEADS: usize = 1 << 10;
const MAX_HEAD: usize = 1 << 12;
const MAX_CONTEXT: usize = 1 << 24;

fn family(architecture: &str) -> Result<Family, LoadError> {
    Ok(match architecture {
        "LlamaForCausalLM" => Family::Llama,
        "Qwen2ForCausalLM" => Family::Qwen2,
        "Qwen3ForCausalLM" => Family::Qwen3,
        "Qwen3MoeForCausalLM" => Family::Qwen3Moe,
        "DeepseekV2ForCausalLM" => Family::DeepseekV2,
        "DeepseekV3ForCausalLM" => Family::DeepseekV3,
        other => {
            return Err(LoadError::Config(format!(
                "architecture {other} is not supported: use a Llama, Qwen2, Qwen3, Qwen3-MoE, \
                 DeepSeek-V2 or DeepSeek-V3 model, or a vLLM or llama.cpp worker for this one"
            )));
        }
    })
}

/// Refuses what would silently compute something else.
fn refuse_unknown(config: &Reader<'_>) -> Result<(), LoadError> {
    if !matches!(config.text("hidden_act"), None | Some("silu")) {
        return Err(LoadError::Config("only the activation \"silu\" is supported".into()));
    }
    if config.flag("use_sliding_window", false)? {
        return Err(LoadError::Config("sliding-window attention is not supported".into()));
    }
    if config.flag("mlp_bias", false)? {
        return Err(LoadError::Config("\"mlp_bias\": true is not supported".into()));
    }
    Ok(())
}

fn refuse_quantised(config: &Reader<'_>) -> Result<(), LoadError> {
    if config.has("quantization_config") {
        return Err(LoadError::Config(
            "quantised weights (\"quantization_config\") are not supported: \
             take the bf16 version of the model"
                .into(),
        ));
    }
    Ok(())
}

fn grouped(config: &Reader<'_>, family: Family) -> Result<AttentionShape, LoadError> {
    let heads = config.count("num_attention_heads", 1..=MAX_HEADS)?;
    let kv_heads = config.count_or("num_key_value_heads", heads, 1..=MAX_HEADS)?;
    let head = match config.has("head_dim") {
        true => config.count("head_dim", 2..=MAX_HEAD)?,
        false => config.count("hidden_size", 1..=MAX_WIDTH)? / heads,
    };
    if heads % kv_heads != 0 || head < 2 || head % 2 != 0 {
        return Err(LoadError::Config(format!(
            "{heads} heads over {kv_heads} key-value heads of size {head} do not fit together: \
             restore the file"
        )));
    }
    let bias = match (family, config.flag("attention_bias", false)?) {
        (Family::Qwen2, _) => Bias::Inputs,
        (_, true) => Bias::All,
        (_, false) => Bias::None,
    };
    let head_norm = matches!(family, Family::Qwen3 | Family::Qwen3Moe);
    Ok(AttentionShape::Grouped { heads, kv_heads, head, bias, head_norm })
}

fn latent(config: &Reader<'_>) -> Result<AttentionShape, LoadError> {
    if config.flag("attention_bias", false)? {
        return Err(LoadError::Config("latent attention with biases is not supported".into()));
    }
    let q_lora = match config.has("q_lora_rank") {
        true => Some(config.count("q_lora_rank", 1..=MAX_WIDTH)?),
        false => None,
    };
    let rope = config.count("qk_rope_head_dim", 2..=MAX_HEAD)?;
    if rope % 2 != 0 {
        return Err(LoadError::Config(format!("qk_rope_head_dim {rope} is odd: restore the file")));
    }
    Ok(AttentionShape::Latent {
        heads: config.count("num_attention_heads", 1..=MAX_HEADS)?,
        q_lora,
        kv_lora: config.count("kv_lora_rank", 1..=MAX_WIDTH)?,
        rope,
        nope: config.count("qk_nope_head_dim", 1..=MAX_HEAD)?,
        value: config.count("v_head_dim", 1..=MAX_HEAD)?,
    })
}

/// An entry like `eos_token_id` is a number or a list; what is neither counts as none.
pub fn token_ids(config: &serde_json::Value, name: &str) -> Vec<u32> {
    let id = |value: &serde_json::Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match config.get(name) {
        Some(serde_json::Value::Array(ids)) => ids.iter().filter_map(id).collect(),
        Some(one) => id(one).into_iter().collect(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unsupported_architecture_is_refused_by_name_with_a_way_out() {
        let config = br#"{"architectures":["MambaForCausalLM"]}"#;
        let error = Shape::read(config).unwrap_err().to_string();
        assert!(error.contains("MambaForCausalLM") && error.contains("vLLM"), "{error}");
    }

    #[test]
    fn absurd_sizes_are_refused() {
        let config = br#"{"architectures":["LlamaForCausalLM"],"num_attention_heads":4,
            "hidden_size":64,"num_hidden_layers":99999999,"vocab_size":10,
            "intermediate_size":4,"max_position_embeddings":10}"#;
        let error = Shape::read(config).unwrap_err().to_string();
        assert!(error.contains("num_hidden_layers"), "{error}");
    }
}
