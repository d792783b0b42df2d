//! The feed-forward half of a layer: one gated network, or many experts of which each token uses a
//! few. Tokens are grouped by expert, so that an expert's weights are read once for all of them.

use crate::error::LoadError;
use crate::gate::Gate;
use crate::kernels::vector;
use crate::shape::{ExpertsShape, Shape};
use crate::weights::{Matrix, Weights};

pub enum Feed {
    Dense(Network),
    Experts(Experts),
}

/// `down(silu(gate(x)) * up(x))`.
pub struct Network {
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

pub struct Experts {
    gate: Gate,
    experts: Vec<Network>,
    shared: Option<Network>,
}

impl Feed {
    pub fn load(weights: &Weights, shape: &Shape, layer: usize) -> Result<Feed, LoadError> {
        let prefix = format!("model.layers.{layer}.mlp");
        let experts = shape.experts.as_ref().filter(|experts| experts.sparse[layer]);
        match experts {
            None => {
                let sizes = [shape.hidden, shape.dense_hidden];
                Ok(Feed::Dense(Network::load(weights, &prefix, sizes)?))
            }
            Some(experts) => {
                Ok(Feed::Experts(Experts::load(weights, &prefix, shape.hidden, experts)?))
            }
        }
    }

    pub fn forward(&self, x: &[f32], threads: usize) -> Vec<f32> {
        match self {
            Feed::Dense(network) => network.forward(x, threads),
            Feed::Experts(experts) => experts.forward(x, threads),
        }
    }
}

impl Network {
    fn load(
        weights: &Weights,
        prefix: &str,
        [hidden, inner]: [usize; 2],
    ) -> Result<Network, LoadError> {
        let matrix = |name: &str, rows, columns| {
            weights.matrix(&format!("{prefix}.{name}.weight"), rows, columns)
        };
        Ok(Network {
            gate: matrix("gate_proj", inner, hidden)?,
            up: matrix("up_proj", inner, hidden)?,
            down: matrix("down_proj", hidden, inner)?,
        })
    }

    fn forward(&self, x: &[f32], threads: usize) -> Vec<f32> {
        let mut inner = self.gate.multiply(x, threads);
        vector::silu_times(&mut inner, &self.up.multiply(x, threads));
        self.down.multiply(&inner, threads)
    }
}

impl Experts {
    fn load(
        weights: &Weights,
        prefix: &str,
        hidden: usize,
        shape: &ExpertsShape,
    ) -> Result<Experts, LoadError> {
        let bias = match shape.gate.bias {
            true => {
                weights.vector(&format!("{prefix}.gate.e_score_correction_bias"), shape.experts)?
            }
            false => vec![0.0; shape.experts],
        };
        let weight = weights.matrix(&format!("{prefix}.gate.weight"), shape.experts, hidden)?;
        let mut experts = Vec::new();
        for index in 0..shape.experts {
            let prefix = format!("{prefix}.experts.{index}");
            experts.push(Network::load(weights, &prefix, [hidden, shape.hidden])?);
        }
        let shared = match shape.shared_hidden {
            0 => None,
            inner => {
                Some(Network::load(weights, &format!("{prefix}.shared_experts"), [hidden, inner])?)
            }
        };
        Ok(Experts { gate: Gate { shape: shape.gate.clone(), weight, bias }, experts, shared })
    }

    /// Each token's sum runs over its experts in rising index, whoever else is in the step.
    fn forward(&self, x: &[f32], threads: usize) -> Vec<f32> {
        let choices = self.gate.choose(x, threads);
        let hidden = x.len() / choices.len().max(1);
        let mut tokens: Vec<Vec<(usize, f32)>> = vec![Vec::new(); self.experts.len()];
        for (token, choices) in choices.iter().enumerate() {
            for choice in choices {
                tokens[choice.expert].push((token, choice.weight));
            }
        }
        let mut out = vec![0.0; x.len()];
        for (expert, tokens) in self.experts.iter().zip(tokens) {
            let input: Vec<f32> = tokens
                .iter()
                .flat_map(|(token, _)| &x[token * hidden..][..hidden])
                .copied()
                .collect();
            let output = expert.forward(&input, threads);
            for ((token, weight), output) in tokens.iter().zip(output.chunks_exact(hidden.max(1))) {
                let out = &mut out[token * hidden..][..hidden];
                out.iter_mut().zip(output).for_each(|(out, output)| *out += weight * output);
            }
        }
        if let Some(shared) = &self.shared {
            vector::add(&mut out, &shared.forward(x, threads));
        }
        out
    }
}
