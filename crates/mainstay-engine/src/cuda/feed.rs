//! The feed-forward half of a layer on the card: one gated network, or experts.
//!
//! A shared expert is so many more of the same size that every token goes to with weight one.

use super::arguments::{ADD, Choose, Combine, Gate, Product, Route, STORE, STORE_F32};
use super::card::{Buffer, Grid};
use super::load::{self, Loader, Matrix};
use super::model::{Input, Pass};
use super::product::{self, Form};
use crate::error::LoadError;
use crate::shape::{ExpertsShape, GateShape, GroupScore, Scoring, Shape};
use crate::weights::Weights;

/// As in the kernels.
const EXPERTS_MAX: usize = 1024;
/// Warps of a block that chooses for few tokens, at most.
const GATE_WARPS_MAX: usize = 32;
/// A lane for each group.
const GROUPS_MAX: usize = 32;

pub enum Feed {
    Dense(Network),
    Experts(Experts),
}

/// Gate and counterpart in turns, and the way back; of all experts, one after another.
pub struct Network {
    gate_up: Matrix,
    down: Matrix,
    hidden: usize,
    inner: usize,
}

pub struct Experts {
    gate: Matrix,
    bias: Option<Buffer>,
    shape: GateShape,
    experts: usize,
    shared: usize,
    network: Network,
}

impl Feed {
    pub fn load(loader: &Loader<'_>, shape: &Shape, layer: usize) -> Result<Feed, LoadError> {
        let prefix = format!("model.layers.{layer}.mlp");
        match shape.experts.as_ref().filter(|experts| experts.sparse[layer]) {
            Some(experts) => {
                Ok(Feed::Experts(Experts::load(loader, &prefix, (shape.hidden, experts))?))
            }
            None => {
                let (hidden, inner) = (shape.hidden, shape.dense_hidden);
                let one = |weights: &Weights| {
                    Ok(vec![stored(loader, weights, (&prefix, hidden, inner))?])
                };
                Ok(Feed::Dense(Network::load(loader, [1, hidden, inner], one)?))
            }
        }
    }

    pub fn forward(&self, x: &Input, pass: &Pass<'_>) {
        match self {
            Feed::Dense(network) => network.forward(x, pass),
            Feed::Experts(experts) => experts.forward(x, pass),
        }
    }
}

/// One network's `[gate and up in turns, down]`.
type Pair = [Vec<u8>; 2];

fn stored(
    loader: &Loader<'_>,
    weights: &Weights,
    (prefix, hidden, inner): (&str, usize, usize),
) -> Result<Pair, LoadError> {
    let get =
        |name: &str, shape| loader.stored(weights, &format!("{prefix}.{name}_proj.weight"), shape);
    let (gate, up) = (get("gate", [inner, hidden])?, get("up", [inner, hidden])?);
    let row = hidden * loader.element().bytes();
    Ok([load::in_turns(&gate, &up, row), get("down", [hidden, inner])?])
}

impl Network {
    fn load(
        loader: &Loader<'_>,
        [count, hidden, inner]: [usize; 3],
        all: impl Fn(&Weights) -> Result<Vec<Pair>, LoadError>,
    ) -> Result<Network, LoadError> {
        load::check_inner(inner)?;
        let joined = |which: usize| {
            let all = &all;
            move |weights: &Weights| {
                Ok(all(weights)?
                    .into_iter()
                    .flat_map(|mut pair| pair[which].split_off(0))
                    .collect())
            }
        };
        Ok(Network {
            gate_up: loader.matrix(count * 2 * inner, hidden, joined(0))?,
            down: loader.matrix(count * hidden, inner, joined(1))?,
            hidden,
            inner,
        })
    }

    fn forward(&self, x: &Input, pass: &Pass<'_>) {
        let scratch = pass.scratch;
        let gate_up = pass.of(&self.gate_up, x, (scratch.inner.pointer, STORE));
        let slots = (pass.tokens, None);
        product::start_gated(pass.card, pass.form, &gate_up, slots, scratch.wide.pointer);
        let inner = Input::plain(scratch.inner.pointer, self.inner);
        pass.product(&self.down, &inner, (scratch.x.pointer, ADD));
    }
}

impl Experts {
    fn load(
        loader: &Loader<'_>,
        prefix: &str,
        (hidden, shape): (usize, &ExpertsShape),
    ) -> Result<Experts, LoadError> {
        let inner = shape.hidden;
        if shape.experts + shape.shared_hidden / inner > EXPERTS_MAX
            || shape.gate.groups > GROUPS_MAX
            || shape.shared_hidden % inner != 0
        {
            return Err(LoadError::Card(format!(
                "{} experts in {} groups with a shared one of {} are more than its kernels take: \
                 compute on the processor",
                shape.experts, shape.gate.groups, shape.shared_hidden
            )));
        }
        let shared = shape.shared_hidden / inner;
        let all = |weights: &Weights| {
            let mut pairs = Vec::new();
            for index in 0..shape.experts {
                let prefix = format!("{prefix}.experts.{index}");
                pairs.push(stored(loader, weights, (&prefix, hidden, inner))?);
            }
            if shared > 0 {
                let prefix = format!("{prefix}.shared_experts");
                let whole = stored(loader, weights, (&prefix, hidden, shape.shared_hidden))?;
                pairs.extend(parted(&whole, (shared, inner * loader.element().bytes())));
            }
            Ok(pairs)
        };
        Ok(Experts {
            gate: loader.stacked(&[(&format!("{prefix}.gate.weight"), shape.experts)], hidden)?,
            bias: match shape.gate.bias {
                true => {
                    let name = format!("{prefix}.gate.e_score_correction_bias");
                    Some(loader.vector(&name, shape.experts)?)
                }
                false => None,
            },
            shape: shape.gate.clone(),
            experts: shape.experts,
            shared,
            network: Network::load(loader, [shape.experts + shared, hidden, inner], all)?,
        })
    }

    /// Most tiles that so many tokens can come to.
    fn tiles(&self, tokens: usize, tile: usize) -> usize {
        let routed = tokens * self.shape.top;
        routed.min(self.experts) + routed / tile + self.shared * tokens.div_ceil(tile)
    }

    fn forward(&self, x: &Input, pass: &Pass<'_>) {
        let scratch = pass.scratch;
        pass.product(&self.gate, x, (scratch.scores.pointer, STORE_F32));
        self.choose(pass);
        let choices = self.shape.top + self.shared;
        let tiles = self.tiles(pass.tokens, pass.form.tile());
        let (network, slots) = (&self.network, pass.tokens * choices);
        let route = Product {
            tiles: scratch.tiles.pointer,
            tile_count: scratch.tile_count.pointer,
            ends: scratch.ends.pointer,
            ..Product::default()
        };
        let of = |matrix: &Matrix, x: &Input, y, [n, token_of]: [u64; 2]| Product {
            w_batch: n * matrix.columns as u64,
            n: n as i32,
            y_row: n as i32,
            tiles: route.tiles,
            tile_count: route.tile_count,
            ends: route.ends,
            token_of,
            ..pass.of(matrix, x, (y, STORE))
        };
        let wide = [2 * network.inner as u64, scratch.token_of.pointer];
        let gate_up = of(&network.gate_up, x, scratch.inner.pointer, wide);
        let room = scratch.wide.pointer;
        product::start_gated(pass.card, pass.form, &gate_up, (slots, Some(tiles)), room);
        let inner = Input::plain(scratch.inner.pointer, network.inner);
        let down = of(&network.down, &inner, scratch.outer.pointer, [network.hidden as u64, 0]);
        product::start_experts(pass.card, pass.form, &down, tiles);
        let combine = Combine {
            y: scratch.outer.pointer,
            slot: scratch.slot.pointer,
            share: scratch.share.pointer,
            choices: choices as i32,
            hidden: network.hidden as i32,
            x: scratch.x.pointer,
        };
        let grid = Grid::new([pass.tokens, network.hidden.div_ceil(256), 1], 256);
        pass.card.launch("combine", grid, &combine);
    }

    /// Each token's experts, and each expert's tokens.
    fn choose(&self, pass: &Pass<'_>) {
        let (scratch, shape) = (pass.scratch, &self.shape);
        let gate = Gate {
            scores: scratch.scores.pointer,
            bias: self.bias.as_ref().map_or(0, |bias| bias.pointer),
            experts: self.experts as i32,
            tokens: pass.tokens as i32,
            top: shape.top as i32,
            groups: shape.groups as i32,
            kept: shape.groups_kept as i32,
            group_two: i32::from(shape.group_score == GroupScore::SumOfTwoBest),
            sigmoid: i32::from(shape.scoring == Scoring::Sigmoid),
            normalise: i32::from(shape.normalise),
            scale: shape.scale,
            shared: self.shared as i32,
            choice: scratch.choice.pointer,
            share: scratch.share.pointer,
        };
        let route = Route {
            choice: scratch.choice.pointer,
            experts: (self.experts + self.shared) as i32,
            tokens: pass.tokens as i32,
            choices: (shape.top + self.shared) as i32,
            tile: pass.form.tile() as i32,
            shared: self.shared as i32,
            slot: scratch.slot.pointer,
            token_of: scratch.token_of.pointer,
            ends: scratch.ends.pointer,
            tiles: scratch.tiles.pointer,
            tile_count: scratch.tile_count.pointer,
        };
        // Two numbers for each expert, for each warp.
        let shared = |warps: usize| (warps * 2 * self.experts * 4) as u32;
        if pass.form == Form::Few {
            let warps = pass.tokens.clamp(4, GATE_WARPS_MAX.min(8192 / self.experts.max(1)));
            let grid = Grid { blocks: [1; 3], threads: 32 * warps as u32, shared: shared(warps) };
            return pass.card.launch("choose", grid, &Choose { gate, route });
        }
        let blocks = [pass.tokens.div_ceil(4), 1, 1];
        pass.card.launch("gate", Grid { blocks, threads: 128, shared: shared(4) }, &gate);
        pass.card.launch("route", Grid::new([1; 3], 1024), &route);
    }
}

/// A wide network as `count` narrow ones: rows of the first matrix, columns of the second.
fn parted([gate_up, down]: &Pair, (count, row): (usize, usize)) -> Vec<Pair> {
    let part = gate_up.len() / count;
    let narrow = |index: usize| {
        let rows = gate_up[index * part..(index + 1) * part].to_vec();
        [rows, load::columns(down, row * count, index * row, (index + 1) * row)]
    };
    (0..count).map(narrow).collect()
}
