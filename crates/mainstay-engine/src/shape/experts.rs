//! The mixture-of-experts part of `config.json`: how many experts, and how the gate chooses.

use super::{MAX_LAYERS, MAX_WIDTH, Reader};
use crate::error::LoadError;

#[derive(Clone, Debug)]
pub struct ExpertsShape {
    pub experts: usize,
    /// Inner width of one expert.
    pub hidden: usize,
    /// Inner width of the shared expert that every token passes; 0 is none.
    pub shared_hidden: usize,
    pub gate: GateShape,
    /// For each layer, whether it has experts (else it is dense).
    pub sparse: Vec<bool>,
}

/// How the gate turns scores into chosen experts and weights.
#[derive(Clone, Debug)]
pub struct GateShape {
    pub scoring: Scoring,
    /// A learned bias takes part in the choice, never in the weight (V3).
    pub bias: bool,
    /// Experts a token uses.
    pub top: usize,
    pub groups: usize,
    /// Groups a token may choose from.
    pub groups_kept: usize,
    pub group_score: GroupScore,
    /// Divide the weights by their sum.
    pub normalise: bool,
    pub scale: f32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scoring {
    Sigmoid,
    Softmax,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupScore {
    Best,
    SumOfTwoBest,
}

const MAX_EXPERTS: usize = 1 << 13;

pub fn qwen3(config: &Reader<'_>, layers: usize) -> Result<ExpertsShape, LoadError> {
    let experts = match config.has("num_experts") {
        true => config.count("num_experts", 1..=MAX_EXPERTS)?,
        false => config.count("num_local_experts", 1..=MAX_EXPERTS)?,
    };
    let step = config.count_or("decoder_sparse_step", 1, 1..=MAX_LAYERS)?;
    let is_sparse = |layer| !config.lists("mlp_only_layers", layer) && (layer + 1) % step == 0;
    Ok(ExpertsShape {
        experts,
        hidden: config.count("moe_intermediate_size", 1..=MAX_WIDTH)?,
        shared_hidden: 0,
        gate: GateShape {
            scoring: Scoring::Softmax,
            bias: false,
            top: config.count("num_experts_per_tok", 1..=experts)?,
            groups: 1,
            groups_kept: 1,
            group_score: GroupScore::Best,
            normalise: config.flag("norm_topk_prob", false)?,
            scale: 1.0,
        },
        sparse: (0..layers).map(is_sparse).collect(),
    })
}

pub fn deepseek_v2(config: &Reader<'_>, layers: usize) -> Result<Option<ExpertsShape>, LoadError> {
    if config.flag("norm_topk_prob", false)? {
        return Err(LoadError::Config(
            "\"norm_topk_prob\": true in a DeepSeek-V2 model is not supported: no published model \
             sets it, and implementations disagree on its meaning"
                .into(),
        ));
    }
    let grouped = match config.text("topk_method") {
        None | Some("greedy") => false,
        Some("group_limited_greedy") => true,
        Some(other) => {
            return Err(LoadError::Config(format!("topk_method \"{other}\" is not supported")));
        }
    };
    let gate = GateShape {
        scoring: Scoring::Softmax,
        bias: false,
        top: 0,
        groups: 1,
        groups_kept: 1,
        group_score: GroupScore::Best,
        normalise: false,
        scale: config.number("routed_scaling_factor", 1.0)?,
    };
    deepseek(config, layers, gate, grouped)
}

pub fn deepseek_v3(config: &Reader<'_>, layers: usize) -> Result<Option<ExpertsShape>, LoadError> {
    let known = matches!(config.text("scoring_func"), None | Some("sigmoid"))
        && matches!(config.text("topk_method"), None | Some("noaux_tc"));
    if !known {
        return Err(LoadError::Config(
            "a DeepSeek-V3 gate is \"sigmoid\" with \"noaux_tc\"; others are not supported".into(),
        ));
    }
    let gate = GateShape {
        scoring: Scoring::Sigmoid,
        bias: true,
        top: 0,
        groups: 1,
        groups_kept: 1,
        group_score: GroupScore::SumOfTwoBest,
        normalise: config.flag("norm_topk_prob", true)?,
        scale: config.number("routed_scaling_factor", 2.5)?,
    };
    deepseek(config, layers, gate, true)
}

/// What V2 and V3 share: counts, groups, shared experts, dense layers first.
fn deepseek(
    config: &Reader<'_>,
    layers: usize,
    gate: GateShape,
    grouped: bool,
) -> Result<Option<ExpertsShape>, LoadError> {
    if !config.has("n_routed_experts") {
        return Ok(None);
    }
    let experts = config.count("n_routed_experts", 1..=MAX_EXPERTS)?;
    let top = config.count("num_experts_per_tok", 1..=experts)?;
    let (groups, groups_kept) = match grouped {
        true => {
            let groups = config.count_or("n_group", 1, 1..=experts)?;
            (groups, config.count_or("topk_group", 1, 1..=groups)?)
        }
        false => (1, 1),
    };
    let group = experts / groups;
    let two = gate.group_score == GroupScore::Best || group >= 2;
    if experts % groups != 0 || top > groups_kept * group || !two {
        return Err(LoadError::Config(format!(
            "{experts} experts in {groups} groups, {top} chosen from {groups_kept} groups, \
             do not fit together: take the config.json that came with the model"
        )));
    }
    let hidden = config.count("moe_intermediate_size", 1..=MAX_WIDTH)?;
    let shared = config.count_or("n_shared_experts", 0, 0..=MAX_EXPERTS)?;
    let dense = config.count_or("first_k_dense_replace", 0, 0..=MAX_LAYERS)?;
    let step = config.count_or("moe_layer_freq", 1, 1..=MAX_LAYERS)?;
    Ok(Some(ExpertsShape {
        experts,
        hidden,
        shared_hidden: hidden * shared,
        gate: GateShape { top, groups, groups_kept, ..gate },
        sparse: (0..layers).map(|layer| layer >= dense && layer % step == 0).collect(),
    }))
}
