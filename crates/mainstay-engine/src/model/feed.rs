//! The feed-forward half of a layer: one gated network, or many experts of which each token uses a
//! few. Tokens are grouped by expert, so that an expert's weights are read once for all of them.

use crate::error::LoadError;
use crate::gate::{Choice, Gate};
use crate::kernels::{self, Input, Task, blend};
use crate::pool::Pool;
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

    pub fn forward(&self, x: &Input<'_>, pool: &Pool) -> Vec<f32> {
        match self {
            Feed::Dense(network) => {
                let all: Vec<usize> = (0..x.vectors()).collect();
                forward_all(&[(network, &all)], x, pool).remove(0)
            }
            Feed::Experts(experts) => experts.forward(x, pool),
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
}

/// What several networks give for some of the vectors each, in two rounds for all together, so
/// that small experts keep all threads busy.
fn forward_all(parts: &[(&Network, &Vec<usize>)], x: &Input<'_>, pool: &Pool) -> Vec<Vec<f32>> {
    let room = |rows: usize, vectors: &[usize]| vec![0.0; rows * vectors.len()];
    let mut inner: Vec<[Vec<f32>; 2]> = parts
        .iter()
        .map(|(network, vectors)| [&network.gate, &network.up].map(|m| room(m.height(), vectors)))
        .collect();
    let mut tasks = Vec::new();
    for ((network, vectors), outs) in parts.iter().zip(&mut inner) {
        for (matrix, out) in [&network.gate, &network.up].into_iter().zip(outs) {
            tasks.push(Task { vectors: Some(vectors), ..matrix.task(x, out) });
        }
    }
    kernels::multiply(tasks, pool);
    for [gate, up] in &mut inner {
        blend::silu_times(gate, up);
    }
    let inputs: Vec<Input<'_>> = parts
        .iter()
        .zip(&inner)
        .map(|((network, _), [gate, _])| Input::new(gate, network.down.columns()))
        .collect();
    let mut outs: Vec<Vec<f32>> =
        parts.iter().map(|(network, vectors)| room(network.down.height(), vectors)).collect();
    let places = parts.iter().zip(&inputs).zip(&mut outs);
    let tasks = places.map(|(((network, _), input), out)| network.down.task(input, out)).collect();
    kernels::multiply(tasks, pool);
    outs
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
        let weight = weights.exact(&format!("{prefix}.gate.weight"), shape.experts, hidden)?;
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

    /// Each token's sum runs over its experts in rising index, then the shared one, whoever else
    /// is in the step.
    fn forward(&self, x: &Input<'_>, pool: &Pool) -> Vec<f32> {
        let choices = self.gate.choose(x, pool);
        let (tokens, weights) = self.by_expert(&choices);
        let all: Vec<usize> = (0..x.vectors()).collect();
        let used = self.experts.iter().zip(&tokens).filter(|(_, tokens)| !tokens.is_empty());
        let shared = self.shared.iter().map(|shared| (shared, &all));
        let parts: Vec<(&Network, &Vec<usize>)> = used.chain(shared).collect();
        let outputs = forward_all(&parts, x, pool);
        let ones = vec![1.0; x.vectors()];
        let weights = weights.iter().filter(|weights| !weights.is_empty()).chain([&ones]);
        let mut out = vec![0.0; x.x.len()];
        for (((_, tokens), weights), output) in parts.iter().zip(weights).zip(&outputs) {
            let outputs = output.chunks_exact(x.columns.max(1));
            for ((token, weight), output) in tokens.iter().zip(weights).zip(outputs) {
                let out = &mut out[token * x.columns..][..x.columns];
                out.iter_mut().zip(output).for_each(|(out, output)| *out += weight * output);
            }
        }
        out
    }

    /// For each expert the tokens that chose it, and the weights they gave it.
    fn by_expert(&self, choices: &[Vec<Choice>]) -> (Vec<Vec<usize>>, Vec<Vec<f32>>) {
        let mut tokens = vec![Vec::new(); self.experts.len()];
        let mut weights = vec![Vec::new(); self.experts.len()];
        for (token, choices) in choices.iter().enumerate() {
            for choice in choices {
                tokens[choice.expert].push(token);
                weights[choice.expert].push(choice.weight);
            }
        }
        (tokens, weights)
    }
}
