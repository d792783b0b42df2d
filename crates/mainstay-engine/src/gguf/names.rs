//! Tensors by the names they were published under. Experts and heads that the file has in one
//! tensor are told apart here, without a copy.

use super::read::{Content, Entry};
use crate::error::LoadError;
use crate::kernels::Element;
use crate::weights::{Format, Source, Tensor, Weights};
use std::sync::Arc;

/// Names of a whole model, and of one layer.
const WHOLE: [(&str, &str); 3] =
    [("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];
const LAYER: [(&str, &str); 24] = [
    ("attn_norm", "input_layernorm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_q_a", "self_attn.q_a_proj"),
    ("attn_q_a_norm", "self_attn.q_a_layernorm"),
    ("attn_q_b", "self_attn.q_b_proj"),
    ("attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"),
    ("attn_kv_a_norm", "self_attn.kv_a_layernorm"),
    ("attn_kv_b", "self_attn.kv_b_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    ("ffn_gate_inp", "mlp.gate"),
    ("ffn_gate_shexp", "mlp.shared_experts.gate_proj"),
    ("ffn_up_shexp", "mlp.shared_experts.up_proj"),
    ("ffn_down_shexp", "mlp.shared_experts.down_proj"),
    ("attn_k_b", "self_attn.k_b_proj.{}"),
    ("attn_v_b", "self_attn.v_b_proj.{}"),
    ("ffn_gate_exps", "mlp.experts.{}.gate_proj"),
];
const MORE_OF_LAYER: [(&str, &str); 2] =
    [("ffn_up_exps", "mlp.experts.{}.up_proj"), ("ffn_down_exps", "mlp.experts.{}.down_proj")];

/// More experts or heads than any published model has in one tensor.
const MAX_PARTS: usize = 1 << 13;

/// Adds every tensor that the engine knows by name. Others are left alone: what a model needs and
/// does not have is told when it is looked for.
pub fn add_tensors(
    content: &Content<'_>,
    source: &Arc<Source>,
    weights: &mut Weights,
) -> Result<(), LoadError> {
    for entry in &content.tensors {
        let Some(name) = published(entry.name) else { continue };
        let tensor = tensor(entry, source)?;
        weights.count(entry.shape.iter().product());
        match (name.split_once("{}"), entry.shape.as_slice()) {
            (None, _) => weights.insert(&name, tensor, "the GGUF file")?,
            (Some((before, after)), [parts @ 1..=MAX_PARTS, rows, columns]) => {
                let bytes = tensor.range.len() / parts;
                for part in 0..*parts {
                    let start = tensor.range.start + part * bytes;
                    let range = start..start + bytes;
                    let tensor = Tensor { range, shape: vec![*rows, *columns], ..tensor.clone() };
                    weights.insert(&format!("{before}{part}{after}"), tensor, "the GGUF file")?;
                }
            }
            (Some(_), shape) => {
                return Err(LoadError::Weights(format!(
                    "tensor {} has shape {shape:?}, three sizes were expected: \
                     convert the model again with a newer converter",
                    entry.name
                )));
            }
        }
    }
    Ok(())
}

/// `{}` stands for the number of an expert or head.
fn published(name: &str) -> Option<String> {
    let (stem, end) = name.rsplit_once('.')?;
    let Some(rest) = stem.strip_prefix("blk.") else {
        let (_, published) = WHOLE.iter().find(|(ours, _)| *ours == stem)?;
        return Some(format!("{published}.{end}"));
    };
    let (layer, stem) = rest.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    if (stem, end) == ("exp_probs_b", "bias") {
        return Some(format!("model.layers.{layer}.mlp.gate.e_score_correction_bias"));
    }
    let mut known = LAYER.iter().chain(&MORE_OF_LAYER);
    let (_, published) = known.find(|(ours, _)| *ours == stem)?;
    Some(format!("model.layers.{layer}.{published}.{end}"))
}

fn tensor(entry: &Entry<'_>, source: &Arc<Source>) -> Result<Tensor, LoadError> {
    let format = match entry.kind {
        0 => Ok(Format::Rows(Element::F32)),
        1 => Ok(Format::Rows(Element::F16)),
        30 => Ok(Format::Rows(Element::Bf16)),
        8 => Ok(Format::Q8_0),
        12 => Ok(Format::Q4K),
        14 => Ok(Format::Q6K),
        other => Err(other_format(other)),
    };
    let shape = entry.shape.clone();
    // A format that is not read is told of when the tensor is looked for.
    let Ok(known) = format else {
        return Ok(Tensor { source: source.clone(), range: 0..0, shape, format });
    };
    let bytes = known.bytes(&shape).ok_or_else(|| {
        LoadError::Weights(format!(
            "tensor {} of shape {shape:?} cannot be stored as {known:?}: download the file again",
            entry.name
        ))
    })?;
    let range = entry.range(bytes, source.bytes()).ok_or_else(|| {
        LoadError::Weights(format!(
            "tensor {} needs {bytes} bytes from {} on, the file has {}: it is cut short, \
             download it again",
            entry.name,
            entry.start,
            source.bytes().len()
        ))
    })?;
    Ok(Tensor { source: source.clone(), range, shape, format })
}

/// What the format project calls kinds that this engine does not read.
fn other_format(kind: u32) -> String {
    let known = [
        (2, "Q4_0"),
        (3, "Q4_1"),
        (6, "Q5_0"),
        (7, "Q5_1"),
        (10, "Q2_K"),
        (11, "Q3_K"),
        (13, "Q5_K"),
        (15, "Q8_K"),
    ];
    match known.iter().find(|(number, _)| *number == kind) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("GGUF type {kind}"),
    }
}
