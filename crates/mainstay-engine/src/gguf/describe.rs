//! A file's description of its model, in the words of `config.json`.

use super::read::{Content, Value};
use crate::error::LoadError;
use serde_json::{Map, Value as Json, json};

/// Architectures by the names of the format; DeepSeek's are told apart by their gate.
fn architecture(content: &Content<'_>, name: &str) -> Result<&'static str, LoadError> {
    let softmax = content.whole("deepseek2.expert_gating_func").unwrap_or(1) == 1;
    Ok(match name {
        "llama" => "LlamaForCausalLM",
        "qwen2" => "Qwen2ForCausalLM",
        "qwen3" => "Qwen3ForCausalLM",
        "qwen3moe" => "Qwen3MoeForCausalLM",
        "deepseek2" if softmax => "DeepseekV2ForCausalLM",
        "deepseek2" => "DeepseekV3ForCausalLM",
        other => {
            return Err(LoadError::Config(format!(
                "the GGUF file holds a model of architecture \"{other}\", which is not supported: \
                 use llama, qwen2, qwen3, qwen3moe or deepseek2, or a llama.cpp worker"
            )));
        }
    })
}

/// Keys that are numbers there and here: ours, theirs behind the architecture's name.
const NUMBERS: [(&str, &str); 19] = [
    ("hidden_size", "embedding_length"),
    ("max_position_embeddings", "context_length"),
    ("intermediate_size", "feed_forward_length"),
    ("num_attention_heads", "attention.head_count"),
    ("num_key_value_heads", "attention.head_count_kv"),
    ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
    ("rope_theta", "rope.freq_base"),
    ("moe_intermediate_size", "expert_feed_forward_length"),
    ("num_experts_per_tok", "expert_used_count"),
    ("n_shared_experts", "expert_shared_count"),
    ("n_group", "expert_group_count"),
    ("topk_group", "expert_group_used_count"),
    ("routed_scaling_factor", "expert_weights_scale"),
    ("norm_topk_prob", "expert_weights_norm"),
    ("first_k_dense_replace", "leading_dense_block_count"),
    ("q_lora_rank", "attention.q_lora_rank"),
    ("kv_lora_rank", "attention.kv_lora_rank"),
    ("num_experts", "expert_count"),
    ("n_routed_experts", "expert_count"),
];

/// The description; its sizes are checked by whoever reads it.
pub fn config(content: &Content<'_>) -> Result<Json, LoadError> {
    if content.whole("split.count").is_some_and(|count| count > 1) {
        return Err(LoadError::Config(
            "the GGUF file is one part of several: join them with llama-gguf-split --merge".into(),
        ));
    }
    let name = content.text("general.architecture").ok_or(LoadError::Config(
        "the GGUF file does not name its architecture: download it again".into(),
    ))?;
    let described = Described { content, name };
    let mut config = Map::new();
    config.insert("architectures".into(), json!([architecture(content, name)?]));
    for (ours, theirs) in NUMBERS {
        if let Some(value) = described.value(theirs) {
            config.insert(ours.into(), value);
        }
    }
    let layers = described.whole("block_count").unwrap_or(0);
    let draft = described.whole("nextn_predict_layers").unwrap_or(0).clamp(0, layers.max(0));
    config.insert("num_hidden_layers".into(), number(layers - draft));
    let rows = content.tensor("token_embd.weight").and_then(|entry| entry.shape.first());
    config.insert("vocab_size".into(), json!(rows));
    config.insert("tie_word_embeddings".into(), content.tensor("output.weight").is_none().into());
    described.attention(&mut config)?;
    if !config.contains_key("intermediate_size") {
        // Qwen3-MoE without a dense layer need not say how wide one would be.
        let inner = config.get("moe_intermediate_size").cloned().unwrap_or(Json::Null);
        config.insert("intermediate_size".into(), inner);
    }
    if let Some(rules) = described.rope() {
        config.insert("rope_scaling".into(), rules);
    }
    config.insert("eos_token_id".into(), end_tokens(content));
    for (ours, theirs) in [("bos_token_id", "bos_token_id"), ("pad_token_id", "padding_token_id")] {
        if let Some(id) = content.whole(&format!("tokenizer.ggml.{theirs}")) {
            config.insert(ours.into(), number(id));
        }
    }
    Ok(Json::Object(config))
}

struct Described<'a> {
    content: &'a Content<'a>,
    name: &'a str,
}

fn number(whole: i128) -> Json {
    i64::try_from(whole).map_or(Json::Null, Json::from)
}

fn end_tokens(content: &Content<'_>) -> Json {
    let keys = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"];
    keys.iter().filter_map(|key| content.whole(key)).map(number).collect()
}

impl Described<'_> {
    fn raw(&self, key: &str) -> Option<&Value<'_>> {
        self.content.values.get(format!("{}.{key}", self.name).as_str())
    }

    fn value(&self, key: &str) -> Option<Json> {
        match *self.raw(key)? {
            Value::Whole(whole) => Some(number(whole)),
            Value::Real(real) => Some(json!(real)),
            Value::Flag(flag) => Some(json!(flag)),
            // A list for each layer is another kind of model; it is refused as no number.
            Value::Text(_) | Value::List(_) => Some(json!("a list")),
        }
    }

    fn whole(&self, key: &str) -> Option<i128> {
        match self.raw(key) {
            Some(Value::Whole(whole)) => Some(*whole),
            _ => None,
        }
    }

    fn attention(&self, config: &mut Map<String, Json>) -> Result<(), LoadError> {
        if self.name == "deepseek2" {
            return self.latent(config);
        }
        if let Some(head) = self.value("attention.key_length") {
            config.insert("head_dim".into(), head);
        }
        let has = |name: &str| self.content.tensor(name).is_some();
        match (has("blk.0.attn_q.bias"), has("blk.0.attn_output.bias")) {
            (_, true) => drop(config.insert("attention_bias".into(), true.into())),
            (true, false) if self.name != "qwen2" => {
                return Err(LoadError::Config(format!(
                    "a {} model with biases on its queries alone is not supported: \
                     use a llama.cpp worker",
                    self.name
                )));
            }
            (_, false) => {}
        }
        if self.name == "qwen3moe" {
            config.insert("norm_topk_prob".into(), true.into());
        }
        // The converter orders the rows of this architecture so that neighbours are rotated.
        config.insert("rope_interleave".into(), (self.name == "llama").into());
        Ok(())
    }

    fn latent(&self, config: &mut Map<String, Json>) -> Result<(), LoadError> {
        let rope = self.whole("rope.dimension_count").unwrap_or(0);
        let size = |own: &str, older: &str| self.whole(own).or(self.whole(older)).unwrap_or(0);
        let key = size("attention.key_length_mla", "attention.key_length");
        config.insert("qk_rope_head_dim".into(), number(rope));
        config.insert("qk_nope_head_dim".into(), number(key.saturating_sub(rope)));
        let value = size("attention.value_length_mla", "attention.value_length");
        config.insert("v_head_dim".into(), number(value));
        if self.whole("attention.q_lora_rank") == Some(0) {
            config.remove("q_lora_rank");
        }
        match self.whole("expert_gating_func").unwrap_or(1) {
            1 if config.get("norm_topk_prob") == Some(&Json::Bool(true)) => Err(LoadError::Config(
                "a softmax gate whose weights are normed is not supported: \
                     use a llama.cpp worker"
                    .into(),
            )),
            1 => {
                let groups = self.whole("expert_group_count").unwrap_or(1);
                let method = if groups > 1 { "group_limited_greedy" } else { "greedy" };
                config.insert("topk_method".into(), method.into());
                Ok(())
            }
            2 => {
                // Where the converter was silent the reader here would assume V3's own values.
                config.entry("norm_topk_prob").or_insert(false.into());
                config.entry("routed_scaling_factor").or_insert(1.0.into());
                Ok(())
            }
            other => Err(LoadError::Config(format!(
                "gate number {other} is not known: use a llama.cpp worker for this model"
            ))),
        }
    }

    /// The rules of scaled positions, if they are.
    fn rope(&self) -> Option<Json> {
        let kind = match self.raw("rope.scaling.type") {
            Some(Value::Text(kind)) => *kind,
            _ => "none",
        };
        if let Some(factors) = self.content.vector("rope_freqs.weight") {
            return Some(json!({ "rope_type": "factors", "factors": factors }));
        }
        if kind == "none" {
            return None;
        }
        let mut rules = Map::new();
        rules.insert("rope_type".into(), kind.into());
        let numbers = [
            ("factor", "rope.scaling.factor"),
            ("original_max_position_embeddings", "rope.scaling.original_context_length"),
            ("beta_fast", "rope.scaling.yarn_beta_fast"),
            ("beta_slow", "rope.scaling.yarn_beta_slow"),
        ];
        for (ours, theirs) in numbers {
            if let Some(value) = self.value(theirs) {
                rules.insert(ours.into(), value);
            }
        }
        if let Some(Value::Real(multiplier)) = self.raw("rope.scaling.yarn_log_multiplier") {
            // The file has 0.1 * mscale_all_dim, and takes mscale for the same.
            let magnitude = multiplier / 0.1;
            rules.insert("mscale".into(), magnitude.into());
            rules.insert("mscale_all_dim".into(), magnitude.into());
        }
        Some(Json::Object(rules))
    }
}
