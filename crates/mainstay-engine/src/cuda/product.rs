//! Which kernel computes a product, and on how many blocks.

use super::arguments::{GATED, GateUp, Product, STORE};
use super::card::{Card, Grid, Pointer};

/// Tokens that go through `few` at once, and with them through a pass of single tokens.
pub const FEW: usize = 64;
/// Shared memory of `few`: a slab of eight vectors, and squares or parts of sums.
const FEW_BYTES: usize = FEW_TILE * (2048 + 8) * 2 + 8 * FEW_TILE * 17 * 4 + 4096;
/// Shared memory of `some` for each token, three steps of 256 columns, and for parts of sums.
const SOME_BYTES: [usize; 2] = [3 * (256 + 8) * 2, 8 * 8 * 33 * 4];
/// Multiprocessors of a large card.
const BLOCKS: usize = 132;
/// Tokens, and rows, of a block of `many`; its columns at a time, and its stages.
pub const TILE: usize = 128;
const STAGE_BYTES: usize = 2 * TILE * 64 * 2;
const STAGES: usize = 3;
/// Kernels of Hopper: rows of a block, and shared memory.
const WIDE: [(&str, usize, usize); 2] = [
    ("many_256", 256, 4 * (TILE + 256) * 64 * 2 + 1024),
    ("many_128", 128, 3 * (TILE + 128) * 64 * 2 + 1024),
];
/// Tokens of an expert that a block of `few` takes.
pub const FEW_TILE: usize = 8;

/// Which of the three forms a pass uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Any sizes and widths, one token and row at a time.
    Plain,
    /// Single tokens.
    Few,
    /// Many tokens.
    Many,
}

impl Form {
    /// Tokens of one expert in a tile.
    pub fn tile(self) -> usize {
        match self {
            Form::Plain => 1,
            Form::Few => FEW_TILE,
            Form::Many => TILE,
        }
    }
}

/// Starts a product for all tokens, `batch` of them side by side.
pub fn start(card: &Card, form: Form, product: &Product, batch: usize) {
    let tokens = product.tokens as usize;
    launch(card, form, product, [tokens.div_ceil(tile_of(form, tokens)), batch]);
}

/// Starts a product of experts, on at most so many tiles.
pub fn start_experts(card: &Card, form: Form, product: &Product, tiles: usize) {
    launch(card, form, product, [tiles, 1]);
}

fn tile_of(form: Form, tokens: usize) -> usize {
    match form {
        Form::Plain => 1,
        Form::Few => tokens.clamp(1, FEW).next_power_of_two().max(8),
        Form::Many => TILE,
    }
}

fn launch(card: &Card, form: Form, product: &Product, [tiles, batch]: [usize; 2]) {
    let rows = product.n as usize;
    let experts = product.tiles != 0;
    match form {
        Form::Plain => {
            let grid = Grid::new([rows.div_ceil(8), tiles, batch], 256);
            card.launch("plain", grid, product);
        }
        Form::Few => {
            let tokens = if experts { FEW_TILE } else { tile_of(form, product.tokens as usize) };
            let some = tokens * SOME_BYTES[0] + SOME_BYTES[1];
            let (kernel, stretch, shared) = match tokens {
                8 => ("few", 16, FEW_BYTES),
                16 => ("some_2", 32, some),
                32 => ("some_4", 32, some),
                _ => ("some_8", 32, some),
            };
            // Two blocks on each multiprocessor, all at once: each takes several stretches.
            let stretches = rows.div_ceil(stretch);
            let turns = (stretches * tiles * batch).div_ceil(2 * BLOCKS);
            let blocks = [stretches.div_ceil(turns), tiles, batch];
            let product = Product { turns: turns as i32, ..*product };
            let grid = Grid { blocks, threads: 256, shared: shared as u32 };
            card.launch(kernel, grid, &product);
        }
        Form::Many if card.is_hopper => {
            // Where few blocks have long sums, smaller ones share a multiprocessor better.
            let is_large = rows.div_ceil(WIDE[0].1) * tiles >= 4 * BLOCKS && product.k >= 2048;
            let (kernel, wide, shared) = if is_large { WIDE[0] } else { WIDE[1] };
            let blocks = [rows.div_ceil(wide), tiles, batch];
            card.launch(kernel, Grid { blocks, threads: 256, shared: shared as u32 }, product);
        }
        Form::Many => {
            let shared = (STAGES * STAGE_BYTES) as u32;
            let grid = Grid { blocks: [rows.div_ceil(TILE), tiles, batch], threads: 256, shared };
            card.launch("many", grid, product);
        }
    }
}

/// Starts the product of a gate and its counterpart, `slots` results in all. `wide` is room for
/// both, where they are not joined at once.
pub fn start_gated(
    card: &Card,
    form: Form,
    product: &Product,
    (slots, tiles): (usize, Option<usize>),
    wide: Pointer,
) {
    let inner = product.n / 2;
    let mut product = Product { mode: GATED, y_row: inner, ..*product };
    let gated = product;
    if form == Form::Plain {
        product = Product { mode: STORE, y: wide, y_row: 2 * inner, ..product };
    }
    match tiles {
        Some(tiles) => start_experts(card, form, &product, tiles),
        None => start(card, form, &product, 1),
    }
    if form == Form::Plain {
        let argument = GateUp { x: wide, y: gated.y, x_row: 2 * inner, n: inner };
        card.launch("gate_up", Grid::new([slots, 1, 1], 128), &argument);
    }
}
