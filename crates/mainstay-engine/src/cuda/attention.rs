//! Attention on the card: latent (absorbed for single tokens, expanded for prompts) and grouped.

use super::arguments::{
    ADD, Attend, Decode, Gather, Heads, Latents, Product, Prompt, STORE, STORE_F32,
};
use super::card::{Buffer, Grid, Pointer};
use super::load::{self, Loader, Matrix};
use super::model::{Input, Pass};
use super::product::{self, Form};
use crate::error::LoadError;
use crate::shape::{AttentionShape, Bias, Shape};

/// The reference norms the latents with this, whatever `rms_norm_eps` says.
const LATENT_EPSILON: f32 = 1e-6;
/// Numbers of a latent row that the kernel `decode` is made for: a latent and its rope.
const LATENT_ROW: (usize, usize) = (512, 64);
/// Head sizes that `prompt_latent` is made for.
const LATENT_HEAD: [usize; 3] = [128, 64, 128];
/// Query heads that share a block of `decode` at most, and positions that it has at once, twice.
const DECODE_HEADS: usize = 16;
const DECODE_TILE: usize = 32;
/// Tokens of a block of `prompt`.
const PROMPT_TOKENS: usize = 64;
/// And of one for Hopper.
const PROMPT_WIDE: usize = 128;

pub enum Attention {
    Latent(Latent),
    Grouped(Grouped),
}

pub struct Latent {
    /// To the query's low rank, where it has one, the latent, and the key part that is turned.
    down: Matrix,
    query: Query,
    norm: Buffer,
    /// For each head from a query without position to the latent.
    absorb: Matrix,
    /// For each head from the latent to key and value.
    up: Matrix,
    output: Matrix,
    heads: usize,
    nope: usize,
    rope: usize,
    value: usize,
    latent: usize,
    scale: f32,
}

enum Query {
    Direct(Matrix),
    Low { norm: Buffer, up: Matrix },
}

pub struct Grouped {
    qkv: Matrix,
    bias: Option<Buffer>,
    norms: Option<(Buffer, Buffer)>,
    output: Matrix,
    output_bias: Option<Buffer>,
    heads: usize,
    kv_heads: usize,
    head: usize,
    epsilon: f32,
}

/// How many parts `decode` makes of so many positions at most: as `part_size` there.
pub fn parts(positions: usize) -> usize {
    let part = |(size, longest): (usize, usize)| positions.min(longest).div_ceil(size);
    [(64, 2048), (256, 8192), (1024, usize::MAX)].map(part).into_iter().max().unwrap_or(1)
}

impl Attention {
    pub fn load(loader: &Loader<'_>, shape: &Shape, prefix: &str) -> Result<Attention, LoadError> {
        Ok(match shape.attention {
            AttentionShape::Latent { .. } => {
                Attention::Latent(Latent::load(loader, shape, prefix)?)
            }
            AttentionShape::Grouped { .. } => {
                Attention::Grouped(Grouped::load(loader, shape, prefix)?)
            }
        })
    }

    pub fn forward(&self, x: &Input, pass: &Pass<'_>) {
        match self {
            Attention::Latent(latent) => latent.forward(x, pass),
            Attention::Grouped(grouped) => grouped.forward(x, pass),
        }
    }
}

impl Latent {
    fn load(loader: &Loader<'_>, shape: &Shape, prefix: &str) -> Result<Latent, LoadError> {
        let AttentionShape::Latent { heads, q_lora, kv_lora, rope, nope, value } = shape.attention
        else {
            unreachable!("called for latent attention only")
        };
        let name = |part: &str| format!("{prefix}.{part}.weight");
        let (hidden, query_width) = (shape.hidden, heads * (nope + rope));
        let kv = (&*name("kv_a_proj_with_mqa"), kv_lora + rope);
        let (down, query) = match q_lora {
            None => {
                let query = loader.stacked(&[(&name("q_proj"), query_width)], hidden)?;
                (loader.stacked(&[kv], hidden)?, Query::Direct(query))
            }
            Some(rank) => {
                let down = loader.stacked(&[(&name("q_a_proj"), rank), kv], hidden)?;
                let norm = loader.vector(&name("q_a_layernorm"), rank)?;
                let up = loader.stacked(&[(&name("q_b_proj"), query_width)], rank)?;
                (down, Query::Low { norm, up })
            }
        };
        let up = loader.stacked(&[(&name("kv_b_proj"), heads * (nope + value))], kv_lora)?;
        let width = loader.element().bytes();
        let head = (nope + value) * kv_lora * width;
        let all: Vec<u8> = loader.card.read(up.buffer(), heads * head);
        let keys = all.chunks_exact(head).map(|head| &head[..nope * kv_lora * width]);
        let turned = keys.flat_map(|keys| load::transposed(keys, kv_lora, width)).collect();
        let absorb = loader.made(heads * kv_lora, nope, turned)?;
        Ok(Latent {
            down,
            query,
            norm: loader.vector(&name("kv_a_layernorm"), kv_lora)?,
            absorb,
            up,
            output: loader.stacked(&[(&name("o_proj"), hidden)], heads * value)?,
            heads,
            nope,
            rope,
            value,
            latent: kv_lora,
            scale: shape.rope.softmax_scale() / ((nope + rope) as f32).sqrt(),
        })
    }

    fn forward(&self, x: &Input, pass: &Pass<'_>) {
        let scratch = pass.scratch;
        pass.product(&self.down, x, (scratch.first.pointer, STORE_F32));
        let query_width = self.heads * (self.nope + self.rope);
        let kv_at = match &self.query {
            Query::Direct(query) => {
                pass.product(query, x, (scratch.q.pointer, STORE));
                0
            }
            Query::Low { norm, up } => {
                let (low, row) = (scratch.first.pointer, self.down.rows);
                let x = pass.normed(low, row, (norm, up.columns, LATENT_EPSILON));
                pass.product(up, &x, (scratch.q.pointer, STORE));
                up.columns
            }
        };
        let is_made_for =
            [self.nope, self.rope, self.value] == LATENT_HEAD && pass.form == Form::Many;
        let latents = Latents {
            slots: pass.slots,
            cache: pass.cache,
            turn: pass.turn,
            kv: scratch.first.pointer + 4 * kv_at as u64,
            kv_row: self.down.rows as i32,
            latent: self.latent as i32,
            rope: self.rope as i32,
            norm: self.norm.pointer,
            epsilon: LATENT_EPSILON,
            q: scratch.q.pointer,
            q_row: query_width as i32,
            heads: self.heads as i32,
            nope: self.nope as i32,
            to: if is_made_for { 0 } else { scratch.absorbed.pointer },
        };
        let grid = Grid::new([pass.tokens, self.heads + 1, 1], 128);
        pass.card.launch("latents", grid, &latents);
        match is_made_for {
            true => self.expanded(pass),
            false => self.absorbed(pass),
        }
        let x = Input::plain(scratch.values.pointer, self.heads * self.value);
        pass.product(&self.output, &x, (scratch.x.pointer, ADD));
    }

    /// Queries go into the latent's space; keys and values are never made.
    fn absorbed(&self, pass: &Pass<'_>) {
        let scratch = pass.scratch;
        let row = self.latent + self.rope;
        let width = pass.card.width() as u64;
        let absorb = Product {
            w: self.absorb.pointer(),
            w_batch: (self.latent * self.nope) as u64,
            n: self.latent as i32,
            k: self.nope as i32,
            x: scratch.q.pointer,
            x_batch: (self.nope + self.rope) as u64,
            x_row: (self.heads * (self.nope + self.rope)) as i32,
            y: scratch.absorbed.pointer,
            y_batch: row as u64,
            y_row: (self.heads * row) as i32,
            ..pass.whole(&self.absorb)
        };
        product::start(pass.card, pass.form, &absorb, self.heads);
        self.attend(pass);
        let value = Product {
            w: self.up.pointer() + (self.nope * self.latent) as u64 * width,
            w_batch: ((self.nope + self.value) * self.latent) as u64,
            n: self.value as i32,
            k: self.latent as i32,
            x: scratch.mixed.pointer,
            x_batch: self.latent as u64,
            x_row: (self.heads * self.latent) as i32,
            y: scratch.values.pointer,
            y_batch: self.value as u64,
            y_row: (self.heads * self.value) as i32,
            ..pass.whole(&self.up)
        };
        product::start(pass.card, pass.form, &value, self.heads);
    }

    /// Each query with all rows before it.
    pub fn attend(&self, pass: &Pass<'_>) {
        let scratch = pass.scratch;
        if (self.latent, self.rope) != LATENT_ROW || pass.form != Form::Few {
            let attend = Attend {
                slots: pass.slots,
                cache: pass.cache,
                q: scratch.absorbed.pointer,
                heads: self.heads as i32,
                per_kv: self.heads as i32,
                key: (self.latent + self.rope) as i32,
                value: self.latent as i32,
                key_at: 0,
                value_at: 0,
                kv_apart: 0,
                scale: self.scale,
                y: scratch.mixed.pointer,
            };
            let grid = Grid::new([pass.tokens, self.heads, 1], 256);
            return pass.card.launch("attend", grid, &attend);
        }
        let decode = Decode {
            per_kv: self.heads as i32,
            value: self.latent as i32,
            ..decode(pass, scratch.absorbed.pointer, (self.heads, self.scale))
        };
        let groups = self.heads.div_ceil(DECODE_HEADS);
        let sizes = [self.latent + self.rope, self.latent, 0];
        launch_decode(
            pass,
            "decode_latent",
            (&Decode { y: scratch.mixed.pointer, ..decode }, groups),
            sizes,
        );
    }

    /// Keys and values of the whole context are made: fewer products for many tokens.
    fn expanded(&self, pass: &Pass<'_>) {
        let scratch = pass.scratch;
        let (rows, positions) = pass.gather();
        let row = self.latent + self.rope;
        let wide = self.heads * (self.nope + self.value);
        let pointer = pass.expanded_room(positions * wide);
        let expand = Product {
            x: rows,
            x_row: row as i32,
            y: pointer,
            y_row: wide as i32,
            tokens: positions as i32,
            ..pass.whole(&self.up)
        };
        product::start(pass.card, Form::Many, &expand, 1);
        let width = pass.card.width() as u64;
        let key = self.nope + self.rope;
        let prompt = Prompt {
            q: scratch.q.pointer,
            q_row: (self.heads * key) as i32,
            key: key as i32,
            k: pointer,
            k_row: wide as i32,
            k_apart: (self.nope + self.value) as i32,
            k_last: rows + self.latent as u64 * width,
            k_last_row: row as i32,
            v: pointer + self.nope as u64 * width,
            v_row: wide as i32,
            v_apart: (self.nope + self.value) as i32,
            per_kv: 1,
            first: (positions - pass.tokens) as i32,
            tokens: pass.tokens as i32,
            scale: self.scale,
            y: scratch.values.pointer,
            y_row: (self.heads * self.value) as i32,
        };
        launch_prompt(pass, "prompt_latent", (&prompt, self.heads), [key, self.value]);
    }
}

/// What both kinds of attention say to `decode`.
fn decode(pass: &Pass<'_>, q: Pointer, (heads, scale): (usize, f32)) -> Decode {
    Decode {
        slots: pass.slots,
        cache: pass.cache,
        q,
        heads: heads as i32,
        per_kv: 0,
        value: 0,
        value_at: 0,
        scale,
        mix: pass.scratch.parts.pointer,
        most_sum: pass.scratch.most_sum.pointer,
        parts: pass.parts as i32,
        y: pass.scratch.values.pointer,
    }
}

/// Starts `decode` and puts its parts together. Sizes: of keys, of values, of values apart.
fn launch_decode(
    pass: &Pass<'_>,
    kernel: &'static str,
    (decode, groups): (&Decode, usize),
    [key, value, apart]: [usize; 3],
) {
    let apart = if apart > 0 { apart + 8 } else { 0 };
    let rows = (DECODE_HEADS + 2 * DECODE_TILE) * (key + 8) + 2 * DECODE_TILE * apart;
    let shares = DECODE_HEADS * ((DECODE_TILE + 1) * 4 + (DECODE_TILE + 8) * 2 + 4);
    let blocks = [pass.parts, pass.tokens, groups];
    let shared = (rows * 2 + shares) as u32;
    pass.card.launch(kernel, Grid { blocks, threads: 128, shared }, decode);
    let blocks = [pass.tokens, decode.heads as usize, 1];
    pass.card.launch("together", Grid::new(blocks, (value / 4).max(32) as u32), decode);
}

/// Shared memory of `prompt`: queries, and two tiles of keys and values.
fn launch_prompt(
    pass: &Pass<'_>,
    kernel: &'static str,
    (prompt, heads): (&Prompt, usize),
    [key, value]: [usize; 2],
) {
    let wide = match kernel {
        "prompt_latent" => "prompt_latent_wide",
        "prompt_128" => "prompt_128_wide",
        _ => "",
    };
    if pass.card.is_hopper && !wide.is_empty() {
        let shared = 2 * PROMPT_WIDE * (3 * key + 2 * value) + 1024;
        let blocks = [pass.tokens.div_ceil(PROMPT_WIDE), heads, 1];
        let grid = Grid { blocks, threads: 256, shared: shared as u32 };
        return pass.card.launch(wide, grid, prompt);
    }
    let shared = PROMPT_TOKENS * 2 * (3 * (key + 8) + 2 * (value + 8));
    let blocks = [pass.tokens.div_ceil(PROMPT_TOKENS), heads, 1];
    pass.card.launch(kernel, Grid { blocks, threads: 128, shared: shared as u32 }, prompt);
}

impl Grouped {
    fn load(loader: &Loader<'_>, shape: &Shape, prefix: &str) -> Result<Grouped, LoadError> {
        let AttentionShape::Grouped { heads, kv_heads, head, bias, head_norm } = shape.attention
        else {
            unreachable!("called for grouped attention only")
        };
        let name = |part: &str| format!("{prefix}.{part}");
        let (q, kv) = (heads * head, kv_heads * head);
        let parts = [("q_proj", q), ("k_proj", kv), ("v_proj", kv)];
        let names = parts.map(|(part, rows)| (name(&format!("{part}.weight")), rows));
        let names = [0, 1, 2].map(|index| (names[index].0.as_str(), names[index].1));
        let bias_of = |part: &str, rows| match loader.weights {
            Some(weights) => weights.vector(&name(&format!("{part}.bias")), rows),
            None => Ok(vec![0.0; rows]),
        };
        let biases = match bias {
            Bias::None => None,
            Bias::Inputs | Bias::All => {
                let mut all = Vec::new();
                for (part, rows) in parts {
                    all.extend(bias_of(part, rows)?);
                }
                Some(loader.numbers(&all)?)
            }
        };
        let norm = |part: &str| loader.vector(&name(part), head);
        Ok(Grouped {
            qkv: loader.stacked(&names, shape.hidden)?,
            bias: biases,
            norms: match head_norm {
                true => Some((norm("q_norm.weight")?, norm("k_norm.weight")?)),
                false => None,
            },
            output: loader.stacked(&[(&name("o_proj.weight"), shape.hidden)], q)?,
            output_bias: match bias {
                Bias::All => Some(loader.numbers(&bias_of("o_proj", shape.hidden)?)?),
                _ => None,
            },
            heads,
            kv_heads,
            head,
            epsilon: shape.norm_epsilon,
        })
    }

    fn forward(&self, x: &Input, pass: &Pass<'_>) {
        let scratch = pass.scratch;
        let qkv = Product {
            bias: self.bias.as_ref().map_or(0, |bias| bias.pointer),
            ..pass.of(&self.qkv, x, (scratch.first.pointer, STORE_F32))
        };
        product::start(pass.card, pass.form, &qkv, 1);
        let norm = |of: fn(&(Buffer, Buffer)) -> &Buffer| -> Pointer {
            self.norms.as_ref().map_or(0, |norms| of(norms).pointer)
        };
        let heads = Heads {
            slots: pass.slots,
            cache: pass.cache,
            turn: pass.turn,
            qkv: scratch.first.pointer,
            heads: self.heads as i32,
            kv_heads: self.kv_heads as i32,
            head: self.head as i32,
            q_norm: norm(|norms| &norms.0),
            k_norm: norm(|norms| &norms.1),
            epsilon: self.epsilon,
            q: scratch.q.pointer,
        };
        let blocks = [pass.tokens, self.heads + 2 * self.kv_heads, 1];
        let shared = (self.head * 4) as u32;
        pass.card.launch("heads", Grid { blocks, threads: 64, shared }, &heads);
        self.attend(pass);
        let x = Input::plain(scratch.values.pointer, self.heads * self.head);
        let output = Product {
            bias: self.output_bias.as_ref().map_or(0, |bias| bias.pointer),
            ..pass.of(&self.output, &x, (scratch.x.pointer, ADD))
        };
        product::start(pass.card, pass.form, &output, 1);
    }

    fn attend(&self, pass: &Pass<'_>) {
        let scratch = pass.scratch;
        let (head, kv) = (self.head, self.kv_heads * self.head);
        let scale = 1.0 / (head as f32).sqrt();
        let per_kv = (self.heads / self.kv_heads) as i32;
        let (q, y) = (scratch.q.pointer, scratch.values.pointer);
        let (prompt_kernel, single) = match head {
            128 => ("prompt_128", "decode_128"),
            64 => ("prompt_64", "decode_64"),
            _ => ("", ""),
        };
        if pass.form == Form::Few && !single.is_empty() && per_kv as usize <= DECODE_HEADS {
            let decode = Decode {
                per_kv,
                value: head as i32,
                value_at: kv as i32,
                ..decode(pass, q, (self.heads, scale))
            };
            return launch_decode(pass, single, (&decode, self.kv_heads), [head; 3]);
        }
        if pass.form != Form::Many || prompt_kernel.is_empty() {
            let attend = Attend {
                slots: pass.slots,
                cache: pass.cache,
                q,
                heads: self.heads as i32,
                per_kv,
                key: head as i32,
                value: head as i32,
                key_at: 0,
                value_at: kv as i32,
                kv_apart: head as i32,
                scale,
                y,
            };
            let grid = Grid::new([pass.tokens, self.heads, 1], 256);
            return pass.card.launch("attend", grid, &attend);
        }
        let (rows, positions) = pass.gather();
        let wide = (self.heads * head) as i32;
        let prompt = Prompt {
            q,
            q_row: wide,
            key: head as i32,
            k: rows,
            k_row: 2 * kv as i32,
            k_apart: head as i32,
            k_last: 0,
            k_last_row: 0,
            v: rows + (kv * pass.card.width()) as u64,
            v_row: 2 * kv as i32,
            v_apart: head as i32,
            per_kv,
            first: (positions - pass.tokens) as i32,
            tokens: pass.tokens as i32,
            scale,
            y,
            y_row: wide,
        };
        launch_prompt(pass, prompt_kernel, (&prompt, self.heads), [head, head]);
    }
}

impl Pass<'_> {
    /// The rows of this pass's sequence in this layer, one after another, and how many.
    fn gather(&self) -> (Pointer, usize) {
        let (table, positions) = self.prompt;
        let y = self.gathered_room(positions * self.cache.row as usize);
        let gather = Gather { cache: self.cache, table: table as i32, count: positions as i32, y };
        self.card.launch("gather", Grid::new([positions, 1, 1], 128), &gather);
        (y, positions)
    }
}
